//! Credentials: what a provider wants to see. In this version only such as hold no secret.

use chrono::{DateTime, Utc};
use pgrx::prelude::*;

use super::time;
use crate::error::Error;

/// Makes a credential without a secret; saying it again is harmless.
pub fn add(owner: &str, name: &str, provider: &str) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "INSERT INTO calsync.credential (owner, name, provider) VALUES ($1::name, $2, $3) \
             ON CONFLICT (owner, name) DO UPDATE SET provider = excluded.provider, \
                 retry_at = NULL, refused_at = NULL, last_error = NULL",
            None,
            &[owner.into(), name.into(), provider.into()],
        )?;
        Ok::<(), Error>(())
    })?;
    bring_back(owner, name)
}

/// Calendars that waited for the credential are due at once. Those that somebody has locked are left to the hour's try.
fn bring_back(owner: &str, name: &str) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.subscription SET next_sync_at = now() WHERE subscription_id IN ( \
                 SELECT subscription_id FROM calsync.subscription \
                 WHERE owner = $1::name AND credential = $2 AND state = 'needs_credential' FOR UPDATE SKIP LOCKED)",
            None,
            &[owner.into(), name.into()],
        )?;
        Ok(())
    })
}

/// The provider asks for fewer requests: none of its calendars is asked for before `until`.
pub fn slowed(owner: &str, name: &str, until: DateTime<Utc>, reason: &str) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.credential SET retry_at = greatest(retry_at, $3), last_error = $4 \
             WHERE owner = $1::name AND name = $2",
            None,
            &[owner.into(), name.into(), time::timestamp(until)?.into(), reason.into()],
        )?;
        Ok(())
    })
}

/// The provider does not accept it: every calendar of it says so, and none is asked for before `until`, when one is
/// tried. Calendars that somebody has locked, or whose round is under way, are told by their own next try.
pub fn refused(owner: &str, name: &str, until: DateTime<Utc>, reason: &str) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.credential SET refused_at = coalesce(refused_at, now()), retry_at = $3, last_error = $4 \
             WHERE owner = $1::name AND name = $2",
            None,
            &[owner.into(), name.into(), time::timestamp(until)?.into(), reason.into()],
        )?;
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
            "UPDATE calsync.credential SET refused_at = NULL, retry_at = NULL, last_error = NULL \
             WHERE owner = $1::name AND name = $2",
            None,
            &[owner.into(), name.into()],
        )?;
        Ok::<(), Error>(())
    })?;
    bring_back(owner, name)
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

pub fn exists(owner: &str, name: &str) -> Result<bool, Error> {
    Spi::connect(|client| {
        let table = client.select(
            "SELECT FROM calsync.credential WHERE owner = $1::name AND name = $2",
            None,
            &[owner.into(), name.into()],
        )?;
        Ok(!table.is_empty())
    })
}

/// The calendars of `owner` that name this credential.
pub fn used_by(owner: &str, name: &str) -> Result<Vec<String>, Error> {
    Spi::connect(|client| {
        let table = client.select(
            "SELECT calendar FROM calsync.subscription WHERE owner = $1::name AND credential = $2 ORDER BY calendar",
            None,
            &[owner.into(), name.into()],
        )?;
        table.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect()
    })
}
