//! Who seals secrets, and with which keys they are sealed.
//!
//! A rotation must learn of secrets that were sealed with an older key and are not to be seen yet, and must not hold up
//! anybody: one tenant's forgotten transaction would stop the worker and all others. So whoever seals marks his
//! transaction with a lock that conflicts with nothing, and a rotation looks who has it.

use std::time::Duration;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::error::Error;
use crate::seal::LARGEST_SEALED;

/// Where the key's id is in a sealed secret, for `substr()`; see [`crate::seal`].
const KEY_OF: &str = "substr(secret, 2, 8)";

/// A sealed secret, for the list of a SELECT: of one that is too large no more than shows that. See [`crate::seal`].
pub fn sealed() -> String {
    format!("substr(secret, 1, {})", LARGEST_SEALED + 1)
}

/// The fourth field of our locks' tags, which Postgres' own functions never set to this: nobody takes them but we.
const OUR_LOCKS: u16 = 0x4CA1;
const SEALING: u32 = 1;

/// Says, before a secret is sealed and until the transaction ends, that one may be there which is not to be seen yet.
/// Waits for nobody.
pub fn announce() {
    let tag = pg_sys::LOCKTAG {
        // SAFETY: reads a variable of the backend.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: SEALING,
        locktag_field3: 0,
        locktag_field4: OUR_LOCKS,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    };
    // SAFETY: in a transaction, whose end gives the lock up; nobody takes it in a mode that conflicts.
    unsafe { pg_sys::LockAcquire(&tag, pg_sys::ShareLock as i32, false, false) };
}

/// A transaction that has sealed a secret, or is about to, and is still open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealer {
    transaction: String,
    /// None: it was prepared for a commit in two phases.
    pub process: Option<i32>,
}

/// All but this one.
pub fn sealers() -> Result<Vec<Sealer>, Error> {
    Spi::connect_mut(|client| {
        let table = client.update(
            "SELECT virtualtransaction, pid FROM pg_locks \
             WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                 AND classid = $1::bigint::oid AND objid = 0::oid AND objsubid = $2 AND granted \
                 AND pid IS DISTINCT FROM pg_backend_pid()",
            None,
            &[i64::from(SEALING).into(), (OUR_LOCKS as i16).into()],
        )?;
        table
            .map(|row| Ok(Sealer { transaction: row.get::<String>(1)?.unwrap_or_default(), process: row.get(2)? }))
            .collect()
    })
}

/// How many secrets of this database are sealed with each key.
pub fn keys_in_use() -> Result<Vec<(Vec<u8>, i64)>, Error> {
    Spi::connect(|client| {
        let sql =
            format!("SELECT {KEY_OF}, count(*) FROM calsync.credential WHERE secret IS NOT NULL GROUP BY 1 ORDER BY 1");
        let table = client.select(&sql, None, &[])?;
        table
            .map(|row| Ok((row.get::<Vec<u8>>(1)?.unwrap_or_default(), row.get::<i64>(2)?.unwrap_or_default())))
            .collect()
    })
}

/// Whether a secret of this database is sealed with the key, as far as can be seen now.
pub fn is_in_use(key: &[u8]) -> Result<bool, Error> {
    let sql = format!("SELECT EXISTS (SELECT FROM calsync.credential WHERE secret IS NOT NULL AND {KEY_OF} = $1)");
    // As a statement that writes: see `not_sealed_with`.
    Spi::connect_mut(|client| {
        Ok(client.update(&sql, None, &[key.into()])?.first().get_one::<bool>()?.unwrap_or_default())
    })
}

/// Owner and name of a credential.
pub type Name = (String, String);

/// The secrets that are sealed with another key than this, their rows locked; those that somebody else has locked are
/// left out, and waited for by nobody.
pub fn take_those_not_sealed_with(key: &[u8]) -> Result<Vec<(Name, Vec<u8>)>, Error> {
    Spi::connect_mut(|client| {
        let sql = format!(
            "SELECT owner::text, name, {} FROM calsync.credential WHERE secret IS NOT NULL AND {KEY_OF} <> $1 \
             ORDER BY owner, name FOR NO KEY UPDATE SKIP LOCKED",
            sealed()
        );
        let table = client.update(&sql, None, &[key.into()])?;
        let text = |value: Option<String>| value.unwrap_or_default();
        table
            .map(|row| Ok(((text(row.get(1)?), text(row.get(2)?)), row.get::<Vec<u8>>(3)?.unwrap_or_default())))
            .collect()
    })
}

/// Whose secrets are sealed with another key than this, as far as can be seen.
pub fn not_sealed_with(key: &[u8]) -> Result<Vec<Name>, Error> {
    Spi::connect_mut(|client| {
        let sql = format!(
            "SELECT owner::text, name FROM calsync.credential WHERE secret IS NOT NULL AND {KEY_OF} <> $1 \
             ORDER BY owner, name"
        );
        // As a statement that writes, it sees what has been committed since the statement that called began; in READ
        // COMMITTED, the only isolation level that a rotation takes.
        let table = client.update(&sql, None, &[key.into()])?;
        table.map(|row| Ok((row.get(1)?.unwrap_or_default(), row.get(2)?.unwrap_or_default()))).collect()
    })
}

/// Puts the same secret, sealed otherwise, in its place. The row must be locked.
pub fn replace((owner, name): &Name, sealed: &[u8]) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client
            .update(
                "UPDATE calsync.credential SET secret = $3 WHERE owner = $1::name AND name = $2",
                None,
                &[owner.as_str().into(), name.as_str().into(), sealed.into()],
            )
            .map(drop)
    })?;
    Ok(())
}

/// Until then a rotation waits for what others hold.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Whether another server seems to follow this one, which the key file does not: somebody streams from it, or a slot keeps
/// what somebody will. What every role may see.
pub fn is_followed() -> Result<bool, Error> {
    Spi::connect(|client| {
        let sql = "SELECT EXISTS (SELECT FROM pg_stat_replication) \
                       OR EXISTS (SELECT FROM pg_replication_slots WHERE slot_type = 'physical')";
        Ok(client.select(sql, None, &[])?.first().get_one::<bool>()?.unwrap_or_default())
    })
}
