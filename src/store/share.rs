//! Shares: who besides the owner may ask about a calendar. How they are read when somebody asks: [`super::availability`].
//!
//! A share is an offer until somebody who speaks for its guest accepts it. Otherwise whoever may share could answer for
//! a name in somebody else's place, or make one that is in use mean two calendars.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::owner::{may_see, speaks_for};
use crate::error::{Error, literal};

/// Offers the calendar to `with`; `accepted`: and that counts at once. Whether it counts now. The calendar is not locked: a
/// guest that has its answer open would hold up the worker.
pub fn add(subscription: i64, with: &str, accepted: bool) -> Result<bool, Error> {
    Spi::connect_mut(|client| {
        let table = client.update(
            "INSERT INTO calsync.share AS h (subscription_id, role, accepted_at) \
             VALUES ($1, $2::name, CASE WHEN $3 THEN now() END) \
             ON CONFLICT (subscription_id, role) DO UPDATE SET accepted_at = coalesce(h.accepted_at, excluded.accepted_at) \
             RETURNING accepted_at IS NOT NULL",
            None,
            &[subscription.into(), with.into(), accepted.into()],
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
    change(
        &meant,
        "UPDATE calsync.share AS h SET accepted_at = now() FROM unnest($1::bigint[], $2::name[]) AS m (id, role) \
         WHERE h.subscription_id = m.id AND h.role = m.role AND h.accepted_at IS NULL RETURNING h.role",
    )
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

/// Takes back what `role` may take back, accepted or not: what it shares with `with` itself or, if it speaks for `with`, what
/// others do. Whether anything was.
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
    change(
        &meant,
        "DELETE FROM calsync.share AS h USING unnest($1::bigint[], $2::name[]) AS m (id, role) \
         WHERE h.subscription_id = m.id AND h.role = m.role RETURNING h.role",
    )
}

/// A calendar and a role that it is shared with.
struct Share {
    subscription: i64,
    owner: String,
    with: String,
}

/// Every share of a calendar of this name, whoever owns it, as of now.
fn named(calendar: &str) -> Result<Vec<Share>, Error> {
    Spi::connect_mut(|client| {
        let table = client.update(
            "SELECT h.subscription_id, s.owner::text, h.role::text \
             FROM calsync.subscription AS s JOIN calsync.share AS h USING (subscription_id) \
             WHERE s.calendar = $1 ORDER BY s.owner, h.role",
            None,
            &[calendar.into()],
        )?;
        table
            .map(|row| {
                Ok(Share {
                    subscription: row.get(1)?.unwrap_or_default(),
                    owner: row.get(2)?.unwrap_or_default(),
                    with: row.get(3)?.unwrap_or_default(),
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

/// Whether the statement, given subscriptions and roles, returned a row.
fn change(shares: &[Share], sql: &str) -> Result<bool, Error> {
    let (ids, roles): (Vec<i64>, Vec<String>) =
        shares.iter().map(|share| (share.subscription, share.with.clone())).unzip();
    Spi::connect_mut(|client| Ok(!client.update(sql, None, &[ids.into(), roles.into()])?.is_empty()))
}

/// Forgets shares with roles that there are none of: a new role of that name would be another's.
pub fn forget_unknown(subscription: i64) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "DELETE FROM calsync.share AS h WHERE h.subscription_id = $1 \
                 AND NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = h.role)",
            None,
            &[subscription.into()],
        )?;
        Ok(())
    })
}
