//! Credentials: what a provider wants to see. Secrets come and go sealed ([`crate::seal`]).

use chrono::{DateTime, Utc};
use pgrx::prelude::*;

use super::plan::{Plan, under_committed_snapshot};
use super::time;
use crate::error::Error;

/// A credential as a claim holds it: owner, name, and which generation of it.
pub type Held<'a> = (&'a str, &'a str, i64);

/// Locks the credential's row unless somebody else holds it. The worker waits for nobody: what it has to say is said
/// later, with the answer that it kept. None: somebody else does; Some(failures): how often in a row it was slowed.
pub fn try_lock(owner: &str, name: &str) -> Result<Option<u32>, Error> {
    if !try_announce() {
        return Ok(None);
    }
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
    announce()?;
    Spi::connect_mut(|client| {
        let sql = "SELECT FROM calsync.credential WHERE owner = $1::name AND name = $2 FOR UPDATE";
        client.update(sql, None, &[owner.into(), name.into()])?;
        Ok(())
    })
}

/// Whoever seals a secret, or locks a credential to change it, says so before, until his transaction ends:
/// [`lock_out_sealing`] has to know of what is not to be seen yet, and must not wait for the row of somebody who waits for
/// its end.
pub fn announce() -> Result<(), Error> {
    Ok(Spi::run("LOCK TABLE calsync.credential IN ROW EXCLUSIVE MODE")?)
}

/// [`announce`] for the worker, which waits for nobody. False: the keys are just being rotated.
pub fn try_announce() -> bool {
    // SAFETY: catalog look-ups, and a lock that the transaction's end gives up; a table that is not there has no lock.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"calsync".as_ptr(), true);
        let table = pg_sys::get_relname_relid(c"credential".as_ptr(), schema);
        pg_sys::ConditionalLockRelationOid(table, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE)
    }
}

/// Waits for those who have sealed a secret and not committed; no other does until this transaction ends.
pub fn lock_out_sealing() -> Result<(), Error> {
    Ok(Spi::run("LOCK TABLE calsync.credential IN SHARE ROW EXCLUSIVE MODE")?)
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
                 retry_at = NULL, refused_at = NULL, failures = 0, last_error = NULL, \
                 generation = greatest(credential.generation + 1, excluded.generation)",
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
        let sql = "SELECT generation, secret FROM calsync.credential WHERE owner = $1::name AND name = $2";
        let mut table = client.select(sql, None, &[owner.into(), name.into()])?;
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
pub fn renew((owner, name, generation): Held, sealed: &[u8]) -> Result<bool, Error> {
    if try_lock(owner, name)?.is_none() {
        return Ok(false);
    }
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.credential SET secret = $4 WHERE owner = $1::name AND name = $2 AND generation = $3",
            None,
            &[owner.into(), name.into(), generation.into(), sealed.into()],
        )?;
        Ok(true)
    })
}

/// Seals every secret anew: `seal` is given owner, name and sealed bytes, and gives other sealed bytes, or None where
/// it cannot. Returns how many were sealed anew.
pub fn reseal_all(mut seal: impl FnMut(&str, &str, &[u8]) -> Result<Option<Vec<u8>>, Error>) -> Result<i64, Error> {
    let rows = Spi::connect_mut(|client| -> Result<Vec<(String, String, Vec<u8>)>, Error> {
        let table = client.update(
            "SELECT owner::text, name, secret FROM calsync.credential WHERE secret IS NOT NULL \
             ORDER BY owner, name FOR UPDATE",
            None,
            &[],
        )?;
        let text = |value: Option<String>| value.unwrap_or_default();
        table.map(|row| Ok((text(row.get(1)?), text(row.get(2)?), row.get(3)?.unwrap_or_default()))).collect()
    })?;
    let mut count = 0;
    for (owner, name, sealed) in rows {
        let Some(sealed) = seal(&owner, &name, &sealed)? else { continue };
        Spi::connect_mut(|client| {
            client
                .update(
                    "UPDATE calsync.credential SET secret = $3 WHERE owner = $1::name AND name = $2",
                    None,
                    &[owner.into(), name.into(), sealed.into()],
                )
                .map(|_| ())
        })?;
        count += 1;
    }
    Ok(count)
}

/// Calendars that waited for the credential.
const WAITING: &str = "state = 'needs_credential'";
/// Those, and calendars that may have become another person's (`google::is_relative`).
const WAITING_OR_ANOTHER: &str =
    "(state = 'needs_credential' OR state <> 'paused' AND provider = 'google' AND lower(remote_id) = 'primary')";

/// Makes calendars of the credential due at once. Those that somebody has locked are left to their next try.
fn make_due(owner: &str, name: &str, which: &str) -> Result<(), Error> {
    let sql = format!(
        "UPDATE calsync.subscription SET next_sync_at = now() WHERE subscription_id IN ( \
             SELECT subscription_id FROM calsync.subscription \
             WHERE owner = $1::name AND credential = $2 AND {which} FOR UPDATE SKIP LOCKED)"
    );
    Spi::connect_mut(|client| client.update(&sql, None, &[owner.into(), name.into()]).map(|_| ()))?;
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
            "UPDATE calsync.credential SET refused_at = coalesce(refused_at, now()), retry_at = $3, last_error = $4 \
             WHERE owner = $1::name AND name = $2 AND generation = $5 RETURNING name",
            None,
            &[owner.into(), name.into(), time::timestamp(until)?.into(), reason.into(), generation.into()],
        )?;
        if table.is_empty() {
            // It was replaced since the request was sent.
            return Ok(());
        }
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

/// The provider accepts it again, which brings its calendars back.
pub fn accepted(owner: &str, name: &str) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.credential SET refused_at = NULL, retry_at = NULL, failures = 0, last_error = NULL \
             WHERE owner = $1::name AND name = $2",
            None,
            &[owner.into(), name.into()],
        )?;
        Ok::<(), Error>(())
    })?;
    make_due(owner, name, WAITING)
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
    // The same transaction may go on to change it.
    announce()?;
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
