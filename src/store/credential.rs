//! Credentials: what a provider wants to see. Secrets come and go sealed ([`crate::seal`]).

use calsync_core::doubt::{self, Concerns, Standing};
use calsync_core::sync::Failure;
use chrono::{DateTime, Utc};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::durability;
use super::plan::{Plan, under_committed_snapshot};
use super::sealing::sealed;
use super::time;
use super::whose::{Whose, is_theirs};
use crate::error::Error;

/// A credential as a claim holds it: owner, name, and which generation of it.
pub type Held<'a> = (&'a str, &'a str, i64);

/// Locks the credential's row unless somebody else holds it. The worker waits for nobody: what it has to say is said
/// later, with the answer that it kept. None: somebody else does; Some(failures): how often in a row it was slowed.
pub fn try_lock(owner: &str, name: &str) -> Result<Option<u32>, Error> {
    Spi::connect_mut(|client| {
        let arguments = [owner.into(), name.into()];
        let sql = "SELECT failures FROM calsync.credential WHERE owner = $1::name AND name = $2";
        if client.select(sql, None, &arguments)?.is_empty() {
            // It was dropped: there is nothing to wait for.
            return Ok(Some(0));
        }
        let table = client.update(&format!("{sql} FOR NO KEY UPDATE SKIP LOCKED"), None, &arguments)?;
        if table.is_empty() {
            return Ok(None);
        }
        Ok(Some(table.first().get_one::<i32>()?.unwrap_or_default().max(0) as u32))
    })
}

/// Locks the credential's row, waiting for whoever subscribes with it just now.
pub fn lock(owner: &str, name: &str) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        let sql = "SELECT FROM calsync.credential WHERE owner = $1::name AND name = $2 FOR UPDATE";
        client.update(sql, None, &[owner.into(), name.into()])?;
        Ok(())
    })
}

/// Makes a credential, or replaces it. `sealed`: None where there is no secret.
///
/// Generations begin at the clock, so that one that was dropped and made again is not taken for its predecessor.
pub fn add(owner: &str, name: &str, provider: &str, sealed: Option<&[u8]>) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "INSERT INTO calsync.credential AS credential (owner, name, provider, secret, generation) \
             VALUES ($1::name, $2, $3, $4, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) \
             ON CONFLICT (owner, name) DO UPDATE SET provider = excluded.provider, secret = excluded.secret, \
                 retry_at = NULL, refused_at = NULL, unopened_at = NULL, failures = 0, last_error = NULL, \
                 granted_at = NULL, doubts = 0, generation = greatest(credential.generation + 1, excluded.generation)",
            None,
            &[owner.into(), name.into(), provider.into(), sealed.into()],
        )?;
        Ok::<(), Error>(())
    })?;
    make_due(owner, name, WAITING_OR_ANOTHER)
}

/// The secret as it is stored now, and of which generation it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub generation: i64,
    /// None: the credential needs none.
    pub sealed: Option<Vec<u8>>,
}

/// None: there is no such credential.
pub fn find(owner: &str, name: &str) -> Result<Option<Stored>, Error> {
    Spi::connect(|client| {
        let sql =
            format!("SELECT generation, {} FROM calsync.credential WHERE owner = $1::name AND name = $2", sealed());
        let mut table = client.select(&sql, None, &[owner.into(), name.into()])?;
        table
            .next()
            .map(|row| Ok(Stored { generation: row.get(1)?.unwrap_or_default(), sealed: row.get::<Vec<u8>>(2)? }))
            .transpose()
    })
}

/// Whether another secret has taken the place of the one of this generation. One that was dropped has no successor.
pub fn is_replaced(owner: &str, name: &str, generation: Option<i64>) -> Result<bool, Error> {
    Ok(find(owner, name)?.is_some_and(|stored| Some(stored.generation) != generation))
}

/// Puts another secret in the place of one that the provider has replaced itself. False: somebody else has locked the
/// row, try again later. Where the credential was replaced or dropped meanwhile, there is nothing to do.
///
/// Where it was refused meanwhile, another process had shown the secret that the provider replaced: with the new one its
/// calendars come back.
pub fn renew((owner, name, generation): Held, sealed: &[u8]) -> Result<bool, Error> {
    if try_lock(owner, name)?.is_none() {
        return Ok(false);
    }
    let was_refused = Spi::connect_mut(|client| -> Result<bool, Error> {
        let credential = "owner = $1::name AND name = $2 AND generation = $3";
        client.update(
            &format!("UPDATE calsync.credential SET secret = $4 WHERE {credential}"),
            None,
            &[owner.into(), name.into(), generation.into(), sealed.into()],
        )?;
        let table = client.update(
            &format!(
                "UPDATE calsync.credential SET refused_at = NULL, retry_at = NULL, last_error = NULL \
                 WHERE {credential} AND refused_at IS NOT NULL RETURNING name"
            ),
            None,
            &[owner.into(), name.into(), generation.into()],
        )?;
        Ok(!table.is_empty())
    })?;
    if was_refused {
        make_due(owner, name, WAITING)?;
    }
    Ok(true)
}

/// Calendars that waited for the credential.
const WAITING: &str = "(state = 'needs_credential' OR failing_as = 'unopened' AND state <> 'paused')";
/// Those, and calendars that may have become another person's (`google::is_relative`).
const WAITING_OR_ANOTHER: &str = "(state = 'needs_credential' OR state <> 'paused' \
     AND (failing_as = 'unopened' OR provider = 'google' AND lower(remote_id) = 'primary'))";

/// Makes calendars of the credential, whose row must be locked, due at once. Those that somebody has locked are noted, and
/// made due once they are free ([`recall`]): their own next try may be an hour away.
fn make_due(owner: &str, name: &str, which: &str) -> Result<(), Error> {
    let meant = format!(
        "SELECT subscription_id FROM calsync.subscription WHERE owner = $1::name AND credential = $2 AND {which}"
    );
    Spi::connect_mut(|client| -> Result<(), Error> {
        let credential = [owner.into(), name.into()];
        let noted = format!(
            "UPDATE calsync.credential SET recalls = ARRAY(SELECT unnest(recalls) UNION {meant}) \
             WHERE owner = $1::name AND name = $2 AND EXISTS ({meant})"
        );
        client.update(&noted, None, &credential)?;
        Ok(())
    })?;
    recall_those_of(owner, name)
}

/// Makes due what is noted to be and is free. The credential's row must be locked.
fn recall_those_of(owner: &str, name: &str) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "WITH noted AS ( \
                 SELECT unnest(c.recalls) AS id FROM calsync.credential AS c WHERE c.owner = $1::name AND c.name = $2), \
             free AS ( \
                 SELECT s.subscription_id AS id FROM calsync.subscription AS s \
                 WHERE s.subscription_id IN (SELECT id FROM noted) FOR UPDATE SKIP LOCKED), \
             made_due AS ( \
                 UPDATE calsync.subscription AS s SET next_sync_at = now() FROM free \
                 WHERE s.subscription_id = free.id AND s.state <> 'paused' AND s.provider <> 'none' \
                     AND s.owner = $1::name AND s.credential = $2) \
             UPDATE calsync.credential SET recalls = ARRAY( \
                 SELECT s.subscription_id FROM calsync.subscription AS s JOIN noted ON noted.id = s.subscription_id \
                 WHERE s.subscription_id NOT IN (SELECT id FROM free)) \
             WHERE owner = $1::name AND name = $2 AND recalls <> '{}'",
            None,
            &[owner.into(), name.into()],
        )?;
        Ok(())
    })
}

/// Makes calendars of these owners due that somebody had locked when their credential came back, as far as they are free now.
pub fn recall(whose: &Whose) -> Result<(), Error> {
    let sql = format!(
        "SELECT owner::text, name FROM calsync.credential WHERE recalls <> '{{}}' AND {} FOR NO KEY UPDATE SKIP LOCKED",
        is_theirs("owner", 1)
    );
    let waiting: Vec<(String, String)> = Spi::connect_mut(|client| -> Result<_, Error> {
        let table = client.update(&sql, None, &[whose.parameter()])?;
        table.map(|row| Ok((row.get(1)?.unwrap_or_default(), row.get(2)?.unwrap_or_default()))).collect()
    })?;
    for (owner, name) in waiting {
        recall_those_of(&owner, &name)?;
    }
    Ok(())
}

/// The provider asks for fewer requests: none of its calendars is asked for before `until`.
pub fn slowed((owner, name, generation): Held, until: DateTime<Utc>, reason: &str) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.credential SET retry_at = greatest(retry_at, $3), failures = failures + 1, last_error = $4 \
             WHERE owner = $1::name AND name = $2 AND generation = $5",
            None,
            &[owner.into(), name.into(), time::timestamp(until)?.into(), reason.into(), generation.into()],
        )?;
        Ok(())
    })
}

/// The provider does not accept it: every calendar of it says so, and none is asked for before `until`, when one is
/// tried. Calendars that somebody has locked, or whose round is under way, are told by their own next try.
pub fn refused((owner, name, generation): Held, until: DateTime<Utc>, reason: &str) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        let table = client.update(
            "UPDATE calsync.credential SET refused_at = coalesce(refused_at, now()), retry_at = $3, last_error = $4, \
                 doubts = 0 \
             WHERE owner = $1::name AND name = $2 AND generation = $5 RETURNING name",
            None,
            &[owner.into(), name.into(), time::timestamp(until)?.into(), reason.into(), generation.into()],
        )?;
        if table.is_empty() {
            // It was replaced since the request was sent.
            return Ok(());
        }
        all_wait(owner, name, until, reason)
    })
}

/// Every calendar of the credential says why it is not asked for.
fn all_wait(owner: &str, name: &str, until: DateTime<Utc>, reason: &str) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.subscription SET state = 'needs_credential', last_error = $4, next_sync_at = $3 \
             WHERE subscription_id IN ( \
                 SELECT subscription_id FROM calsync.subscription \
                 WHERE owner = $1::name AND credential = $2 AND state NOT IN ('paused', 'needs_credential') \
                     AND provider <> 'none' AND leased_until IS NULL \
                 FOR UPDATE SKIP LOCKED)",
            None,
            &[owner.into(), name.into(), time::timestamp(until)?.into(), reason.into()],
        )?;
        Ok(())
    })
}

/// A user of it is granted no token, and nobody knows whether others are ([`doubt`]). Where it is in doubt none of its
/// calendars is asked for but one at a time: not this one, if there is another. Its row must be locked. `probes`: the
/// calendar `id` was asked for because of the doubt.
pub fn doubted(
    (owner, name, generation): Held,
    id: i64,
    probes: bool,
    failure: &Failure,
    random: f64,
) -> Result<(), Error> {
    let arguments = [owner.into(), name.into(), generation.into()];
    let standing = Spi::connect(|client| -> Result<Option<Standing>, Error> {
        let sql = "SELECT granted_at, doubts FROM calsync.credential \
                   WHERE owner = $1::name AND name = $2 AND generation = $3";
        let mut table = client.select(sql, None, &arguments)?;
        let Some(row) = table.next() else { return Ok(None) };
        let granted_at = row.get::<TimestampWithTimeZone>(1)?.and_then(time::instant);
        Ok(Some(Standing { granted_at, doubts: row.get::<i32>(2)?.unwrap_or_default().max(0) as u32 }))
    })?;
    let Some(standing) = standing else { return Ok(()) };
    let Concerns::Doubt { doubts, until, convincing } =
        doubt::weigh(Utc::now(), standing, probes, failure.retry_after, random)
    else {
        return Ok(());
    };
    let reason = failure.reason.as_str();
    let at = time::timestamp(until)?;
    let doubts = i32::try_from(doubts).unwrap_or(i32::MAX);
    Spi::connect_mut(|client| {
        let sql = "UPDATE calsync.credential SET doubts = $4, retry_at = $5, \
                       refused_at = CASE WHEN $6 THEN coalesce(refused_at, now()) ELSE refused_at END, \
                       last_error = CASE WHEN $6 THEN $7 ELSE last_error END \
                   WHERE owner = $1::name AND name = $2 AND generation = $3";
        let [owner, name, generation] = arguments;
        client.update(
            sql,
            None,
            &[owner, name, generation, doubts.into(), at.into(), convincing.into(), reason.into()],
        )?;
        Ok::<(), Error>(())
    })?;
    if convincing { all_wait(owner, name, until, reason) } else { ask_another(owner, name, id, until) }
}

/// The calendar `id`, which was asked for because of a doubt, fails in a way that says nothing of it: another is asked for, in
/// `wait` seconds. Else all would wait until the probe's lease has run out.
pub fn still_in_doubt((owner, name, generation): Held, id: i64, wait: f64) -> Result<(), Error> {
    let doubted = Spi::connect_mut(|client| -> Result<bool, Error> {
        let table = client.update(
            "UPDATE calsync.credential SET retry_at = now() + make_interval(secs => $4) \
             WHERE owner = $1::name AND name = $2 AND generation = $3 AND doubts > 0 AND refused_at IS NULL RETURNING name",
            None,
            &[owner.into(), name.into(), generation.into(), wait.into()],
        )?;
        Ok(!table.is_empty())
    })?;
    if doubted { ask_another(owner, name, id, Utc::now()) } else { Ok(()) }
}

/// Makes another calendar of the credential due, the one that was synced last: it is likeliest to be granted a token.
fn ask_another(owner: &str, name: &str, id: i64, at: DateTime<Utc>) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.subscription SET next_sync_at = least(next_sync_at, $4) WHERE subscription_id IN ( \
                 SELECT subscription_id FROM calsync.subscription \
                 WHERE owner = $1::name AND credential = $2 AND subscription_id <> $3 \
                     AND provider <> 'none' AND state NOT IN ('paused', 'needs_credential') AND leased_until IS NULL \
                 ORDER BY synced_at DESC NULLS LAST, next_sync_at LIMIT 1 FOR UPDATE SKIP LOCKED)",
            None,
            &[owner.into(), name.into(), id.into(), time::timestamp(at)?.into()],
        )?;
        Ok(())
    })
}

/// A user of it was granted a token, which ends a doubt and brings its calendars back. False: somebody else has locked the
/// row, and nothing was written.
pub fn granted((owner, name, generation): Held) -> Result<bool, Error> {
    durability::need_not_last();
    let doubts = Spi::connect_mut(|client| -> Result<Option<i32>, Error> {
        let mut table = client.update(
            "UPDATE calsync.credential AS c SET granted_at = now(), doubts = 0, \
                 refused_at = CASE WHEN found.doubts = 0 THEN c.refused_at END, \
                 retry_at = CASE WHEN found.doubts = 0 OR c.failures > 0 THEN c.retry_at END, \
                 last_error = CASE WHEN found.doubts = 0 THEN c.last_error END \
             FROM (SELECT owner, name, doubts FROM calsync.credential \
                   WHERE owner = $1::name AND name = $2 AND generation = $3 FOR NO KEY UPDATE SKIP LOCKED) AS found \
             WHERE c.owner = found.owner AND c.name = found.name RETURNING found.doubts",
            None,
            &[owner.into(), name.into(), generation.into()],
        )?;
        table.next().map(|row| Ok(row.get(1)?.unwrap_or_default())).transpose()
    })?;
    if doubts.is_some_and(|doubts| doubts > 0) {
        make_due(owner, name, WAITING)?;
    }
    Ok(doubts.is_some())
}

/// Its secret cannot be opened: none of its calendars is asked for before `until`, when one tries again. That is no fault of
/// the credential, and its calendars stay what they are.
pub fn unopened((owner, name, generation): Held, until: DateTime<Utc>, reason: &str) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.credential SET unopened_at = coalesce(unopened_at, now()), retry_at = $3, last_error = $4 \
             WHERE owner = $1::name AND name = $2 AND generation = $5",
            None,
            &[owner.into(), name.into(), time::timestamp(until)?.into(), reason.into(), generation.into()],
        )?;
        Ok(())
    })
}

/// Its secret could be opened again, which brings its calendars back, unless it was refused before.
pub fn opened((owner, name, generation): Held) -> Result<(), Error> {
    let opened = Spi::connect_mut(|client| -> Result<bool, Error> {
        let table = client.update(
            "UPDATE calsync.credential SET unopened_at = NULL, \
                 retry_at = CASE WHEN refused_at IS NOT NULL OR doubts > 0 THEN retry_at END, last_error = NULL \
             WHERE owner = $1::name AND name = $2 AND generation = $3 AND unopened_at IS NOT NULL RETURNING name",
            None,
            &[owner.into(), name.into(), generation.into()],
        )?;
        Ok(!table.is_empty())
    })?;
    if opened { make_due(owner, name, WAITING) } else { Ok(()) }
}

/// Somebody wants these calendars to be tried: of each of their credentials that is refused, or could not be opened, one
/// may be, now. Returns until when others wait for a rate limit, and why; None: none does.
pub fn try_again(ids: &[i64]) -> Result<Option<(String, String)>, Error> {
    let theirs = "(c.owner, c.name) IN (SELECT s.owner, s.credential FROM calsync.subscription AS s \
                                        WHERE s.subscription_id = ANY ($1))";
    Spi::connect_mut(|client| {
        client.update(
            &format!(
                "UPDATE calsync.credential AS tried SET retry_at = now() \
                 FROM (SELECT c.owner, c.name FROM calsync.credential AS c \
                       WHERE (c.refused_at IS NOT NULL OR c.unopened_at IS NOT NULL OR c.doubts > 0) AND c.retry_at > now() AND {theirs} \
                       ORDER BY c.owner, c.name FOR NO KEY UPDATE) AS found \
                 WHERE tried.owner = found.owner AND tried.name = found.name"
            ),
            None,
            &[ids.to_vec().into()],
        )?;
        let limited = client.update(
            &format!(
                "SELECT c.retry_at::text, coalesce(c.last_error, '') FROM calsync.credential AS c \
                 WHERE c.refused_at IS NULL AND c.unopened_at IS NULL AND c.doubts = 0 AND c.retry_at > now() AND {theirs} \
                 ORDER BY c.retry_at DESC LIMIT 1"
            ),
            None,
            &[ids.to_vec().into()],
        )?;
        if limited.is_empty() {
            return Ok(None);
        }
        let (until, why) = limited.first().get_two::<String, String>()?;
        Ok(until.zip(why))
    })
}

/// The provider accepts it again, which brings its calendars back. Nothing where it was replaced since the request was sent:
/// nobody knows what the provider says of the new one. A doubt has ended, too: whose calendar was answered has been granted a
/// token, be it that [`granted`] found the row locked; else whoever is refused next would begin the same doubt anew.
pub fn accepted((owner, name, generation): Held) -> Result<(), Error> {
    let some_waited = Spi::connect_mut(|client| -> Result<bool, Error> {
        let table = client.update(
            "UPDATE calsync.credential AS c SET refused_at = NULL, unopened_at = NULL, retry_at = NULL, failures = 0, \
                 granted_at = CASE WHEN c.doubts > 0 THEN now() ELSE c.granted_at END, doubts = 0, last_error = NULL \
             FROM (SELECT owner, name, refused_at IS NOT NULL OR unopened_at IS NOT NULL OR doubts > 0 AS stopped \
                   FROM calsync.credential WHERE owner = $1::name AND name = $2 AND generation = $3) AS found \
             WHERE c.owner = found.owner AND c.name = found.name RETURNING found.stopped",
            None,
            &[owner.into(), name.into(), generation.into()],
        )?;
        Ok(if table.is_empty() { false } else { table.first().get_one()?.unwrap_or(false) })
    })?;
    if some_waited { make_due(owner, name, WAITING) } else { Ok(()) }
}

/// Forgets a credential; false where there is none.
pub fn drop(owner: &str, name: &str) -> Result<bool, Error> {
    Spi::connect_mut(|client| {
        let table = client.update(
            "DELETE FROM calsync.credential WHERE owner = $1::name AND name = $2 RETURNING name",
            None,
            &[owner.into(), name.into()],
        )?;
        Ok(!table.is_empty())
    })
}

/// Whether there is one; it stays until the transaction ends.
pub fn exists(owner: &str, name: &str) -> Result<bool, Error> {
    Spi::connect_mut(|client| {
        let table = client.update(
            "SELECT FROM calsync.credential WHERE owner = $1::name AND name = $2 FOR KEY SHARE",
            None,
            &[owner.into(), name.into()],
        )?;
        Ok(!table.is_empty())
    })
}

static USED_BY: Plan = Plan::writing(
    "SELECT calendar FROM calsync.subscription WHERE owner = $1::name AND credential = $2 ORDER BY calendar",
);

/// The calendars of `owner` that name this credential, also those that were subscribed since the transaction began. Its
/// row must be locked, so that there will be no others.
pub fn used_by(owner: &str, name: &str) -> Result<Vec<String>, Error> {
    under_committed_snapshot(|| {
        USED_BY.each(&[owner.into(), name.into()], |row| Ok(row.get::<String>(1).unwrap_or_default()))
    })
}
