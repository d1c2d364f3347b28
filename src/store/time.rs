//! Instants between Rust and Postgres.

use chrono::{DateTime, Utc};
use pgrx::datum::TimestampWithTimeZone;

use crate::error::Error;

/// Microseconds from 1970-01-01 to 2000-01-01, where Postgres counts from.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// The microseconds that a `timestamptz` is inside Postgres.
pub type Micros = i64;

pub fn micros(instant: DateTime<Utc>) -> Micros {
    instant.timestamp_micros() - POSTGRES_EPOCH
}

/// For handing to SQL.
pub fn timestamp(instant: DateTime<Utc>) -> Result<TimestampWithTimeZone, Error> {
    timestamp_of(micros(instant))
}

pub fn timestamp_of(micros: Micros) -> Result<TimestampWithTimeZone, Error> {
    TimestampWithTimeZone::try_from(micros)
        .map_err(|_| Error::Internal(format!("{micros} µs since 2000 is no timestamptz")))
}

/// None where it is infinite, or beyond what chrono holds.
pub fn instant(timestamp: TimestampWithTimeZone) -> Option<DateTime<Utc>> {
    instant_of(timestamp.into())
}

pub fn instant_of(micros: Micros) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros.checked_add(POSTGRES_EPOCH)?)
}

/// The instant, or where it is infinite or beyond what chrono holds the end of time on that side: what is busy for ever
/// must not vanish on the way.
pub fn saturating_instant(micros: Micros) -> DateTime<Utc> {
    instant_of(micros).unwrap_or(if micros < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC })
}

/// The microseconds of an instant, or infinity where it is beyond what Postgres holds.
pub fn saturating_micros(instant: DateTime<Utc>) -> Micros {
    let micros = micros(instant);
    match timestamp_of(micros) {
        Ok(_) => micros,
        Err(_) if micros < 0 => Micros::MIN,
        Err(_) => Micros::MAX,
    }
}

/// The start of the transaction: what `now()` says.
pub fn now() -> DateTime<Utc> {
    // SAFETY: reads a variable of the backend.
    let micros = unsafe { pgrx::pg_sys::GetCurrentTransactionStartTimestamp() };
    instant_of(micros).unwrap_or(DateTime::UNIX_EPOCH)
}
