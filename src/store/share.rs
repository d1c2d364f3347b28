//! Shares: who besides the owner may ask about a calendar. How they are read when somebody asks: [`super::availability`].
//!
//! A share is an offer until somebody who speaks for its guest accepts it. Otherwise whoever may share could answer for
//! a name in somebody else's place, or make one that is in use mean two calendars.
//!
//! Offers (`calsync.share`) are written by owners, the answers to them (`calsync.share_answer`) by guests. Were they one row,
//! a guest could keep what its owner takes back, by a refusal that it does not commit. An answer is to one offer: whoever
//! offers again asks again.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::owner::{may_see, speaks_for};
use crate::error::{Error, literal};

/// Offers the calendar to `with`; `accepted`: and that counts at once. Whether it counts now. The calendar is not locked: it
/// may be the worker's just now.
pub fn add(subscription: i64, with: &str, accepted: bool) -> Result<bool, Error> {
    Spi::connect_mut(|client| {
        let share = [subscription.into(), with.into()];
        // What was refused is offered anew.
        client.update(
            "DELETE FROM calsync.share AS h USING calsync.share_answer AS a \
             WHERE h.subscription_id = $1 AND h.role = $2::name \
                 AND a.subscription_id = h.subscription_id AND a.offer = h.offer AND NOT a.accepted",
            None,
            &share,
        )?;
        client.update(
            "INSERT INTO calsync.share (subscription_id, role) VALUES ($1, $2::name) ON CONFLICT DO NOTHING",
            None,
            &share,
        )?;
        if accepted {
            client.update(
                "INSERT INTO calsync.share_answer AS a (subscription_id, offer, accepted) \
                 SELECT h.subscription_id, h.offer, true FROM calsync.share AS h \
                 WHERE h.subscription_id = $1 AND h.role = $2::name \
                 ON CONFLICT (subscription_id, offer) DO UPDATE SET accepted = true, answered_at = now() \
                     WHERE NOT a.accepted",
                None,
                &share,
            )?;
        }
        let table = client.select(
            "SELECT EXISTS (SELECT FROM calsync.share AS h JOIN calsync.share_answer AS a USING (subscription_id, offer) \
                            WHERE h.subscription_id = $1 AND h.role = $2::name AND a.accepted)",
            None,
            &share,
        )?;
        Ok(table.first().get_one()?.unwrap_or(false))
    })
}

/// Accepts what is shared with `role`, or with a role that it speaks for, of this name and owner. False where all of it was
/// accepted before.
pub fn accept(role: pg_sys::Oid, calendar: &str, owner: Option<&str>) -> Result<bool, Error> {
    let mut meant = named(calendar)?;
    meant.retain(|share| owner.is_none_or(|owner| share.owner == owner) && speaks_for(role, &share.with));
    let owners = owners(&meant);
    match owners.len() {
        0 => return Err(nothing_offered(calendar, owner)),
        1 => {}
        _ => return Err(several(calendar, &owners, &format!("calsync_accept_share('{}'", literal(calendar)))),
    }
    answer(&meant, true)
}

/// Told to a stranger, too, whether there is such a calendar or not.
fn nothing_offered(calendar: &str, owner: Option<&str>) -> Error {
    Error::Argument {
        code: PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        message: match owner {
            None => format!("nobody shares a calendar \"{calendar}\" with this role"),
            Some(owner) => format!("role \"{owner}\" shares no calendar \"{calendar}\" with this role"),
        },
        detail: "To accept what is shared with a role one must be a member of it, with its rights inherited.".into(),
        hint: "See calsync.shares for what is offered; the owner offers with calsync_share().".into(),
    }
}

/// `call`: the call so far, to which the owner is to be added.
fn several(calendar: &str, owners: &[String], call: &str) -> Error {
    Error::Argument {
        code: PgSqlErrorCode::ERRCODE_AMBIGUOUS_ALIAS,
        message: format!("several roles share a calendar \"{calendar}\" with this role"),
        detail: format!("They are: {}.", owners.join(", ")),
        hint: format!(
            "Name the one that is meant: SELECT {call}, '{}').",
            literal(owners.first().map_or("", String::as_str))
        ),
    }
}

/// Takes back what `role` shares with `with`, accepted or not, or refuses, if it speaks for `with`, what others do. Whether
/// anything was. Who takes back waits for no guest.
pub fn remove(role: pg_sys::Oid, calendar: &str, with: &str, owner: Option<&str>) -> Result<bool, Error> {
    let mut meant = named(calendar)?;
    let is_guest = speaks_for(role, with);
    meant.retain(|share| {
        share.with == with
            && owner.is_none_or(|owner| share.owner == owner)
            && (is_guest || may_see(role, &share.owner))
    });
    let owners = owners(&meant);
    if owners.len() > 1 {
        let call = format!("calsync_unshare('{}', '{}'", literal(calendar), literal(with));
        return Err(several(calendar, &owners, &call));
    }
    match meant.first() {
        None => Ok(false),
        Some(share) if may_see(role, &share.owner) => withdraw(share),
        Some(_) => answer(&meant, false),
    }
}

fn withdraw(share: &Share) -> Result<bool, Error> {
    let withdrawn = Spi::connect_mut(|client| -> Result<bool, Error> {
        let table = client.update(
            "DELETE FROM calsync.share WHERE subscription_id = $1 AND offer = $2::uuid RETURNING role",
            None,
            &[share.subscription.into(), share.offer.as_str().into()],
        )?;
        Ok(!table.is_empty())
    })?;
    forget_answers(share.subscription)?;
    Ok(withdrawn)
}

/// Accepts or refuses offers. False where all of them were answered so before.
fn answer(shares: &[Share], accepted: bool) -> Result<bool, Error> {
    let (ids, offers): (Vec<i64>, Vec<String>) =
        shares.iter().map(|share| (share.subscription, share.offer.clone())).unzip();
    Spi::connect_mut(|client| {
        let table = client.update(
            "INSERT INTO calsync.share_answer AS a (subscription_id, offer, accepted) \
             SELECT m.id, m.offer::uuid, $3 FROM unnest($1::bigint[], $2::text[]) AS m (id, offer) \
             ON CONFLICT (subscription_id, offer) DO UPDATE SET accepted = excluded.accepted, answered_at = now() \
                 WHERE a.accepted <> excluded.accepted \
             RETURNING offer",
            None,
            &[ids.into(), offers.into(), accepted.into()],
        )?;
        Ok(!table.is_empty())
    })
}

/// Forgets answers to what is no longer offered, but for those that a guest is just giving: they are worth nothing.
pub fn forget_answers(subscription: i64) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "DELETE FROM calsync.share_answer WHERE (subscription_id, offer) IN ( \
                 SELECT a.subscription_id, a.offer FROM calsync.share_answer AS a \
                 WHERE a.subscription_id = $1 AND NOT EXISTS ( \
                     SELECT FROM calsync.share AS h WHERE h.subscription_id = $1 AND h.offer = a.offer) \
                 FOR UPDATE SKIP LOCKED)",
            None,
            &[subscription.into()],
        )?;
        Ok(())
    })
}

/// A calendar and a role that it is shared with.
struct Share {
    subscription: i64,
    owner: String,
    with: String,
    offer: String,
}

/// Every share of a calendar of this name that was not refused, whoever owns it, as of now.
fn named(calendar: &str) -> Result<Vec<Share>, Error> {
    Spi::connect_mut(|client| {
        let table = client.update(
            "SELECT h.subscription_id, s.owner::text, h.role::text, h.offer::text \
             FROM calsync.subscription AS s JOIN calsync.share AS h USING (subscription_id) \
             LEFT JOIN calsync.share_answer AS a USING (subscription_id, offer) \
             WHERE s.calendar = $1 AND a.accepted IS DISTINCT FROM false ORDER BY s.owner, h.role",
            None,
            &[calendar.into()],
        )?;
        table
            .map(|row| {
                Ok(Share {
                    subscription: row.get(1)?.unwrap_or_default(),
                    owner: row.get(2)?.unwrap_or_default(),
                    with: row.get(3)?.unwrap_or_default(),
                    offer: row.get(4)?.unwrap_or_default(),
                })
            })
            .collect()
    })
}

/// Each once.
fn owners(shares: &[Share]) -> Vec<String> {
    let mut owners: Vec<String> = shares.iter().map(|share| share.owner.clone()).collect();
    owners.dedup();
    owners
}

/// Forgets shares with roles that there are none of: a new role of that name would be another's.
pub fn forget_unknown(subscription: i64) -> Result<(), Error> {
    Spi::connect_mut(|client| -> Result<(), Error> {
        client.update(
            "DELETE FROM calsync.share AS h WHERE h.subscription_id = $1 \
                 AND NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = h.role)",
            None,
            &[subscription.into()],
        )?;
        Ok(())
    })?;
    forget_answers(subscription)
}
