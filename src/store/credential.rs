//! Credentials: what a provider wants to see. In this version only such as hold no secret.

use pgrx::prelude::*;

use crate::error::Error;

/// Makes a credential without a secret; saying it again is harmless.
pub fn add(owner: &str, name: &str, provider: &str) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "INSERT INTO calsync.credential (owner, name, provider) VALUES ($1::name, $2, $3) \
             ON CONFLICT (owner, name) DO UPDATE SET provider = excluded.provider, retry_at = NULL, last_error = NULL",
            None,
            &[owner.into(), name.into(), provider.into()],
        )?;
        // Whoever waited for it need not wait any longer.
        client.update(
            "UPDATE calsync.subscription SET next_sync_at = now() \
             WHERE owner = $1::name AND credential = $2 AND state = 'needs_credential'",
            None,
            &[owner.into(), name.into()],
        )?;
        Ok(())
    })
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
