//! The SQL functions. Their signatures, volatility and comments are in `sql/functions.sql`.
//!
//! Each function checks its arguments, does its work as the owner of the tables through [`crate::store`], and ends in
//! [`crate::error::Report::report`], the one place where an error becomes an SQLSTATE.

mod availability;
mod change;
mod credential;
mod delta;
mod estimate;
mod event;
mod explain;
mod free;
mod freebusy;
mod integrity;
mod multirange;
mod open_hours;
mod operations;
mod rotation;
mod rows;
mod run;
mod share;
mod slots;
mod subscription;
mod webhook;

use std::ffi::CStr;

use calsync_core::interval::Interval;
use calsync_core::zone;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use pgrx::{AnyElement, PgSqlErrorCode, pg_sys};
use serde_json::Value;

use crate::error::Error;
use crate::store::availability::MicroWindow;
use crate::store::time::{Micros, saturating_instant};

/// A text argument that must be there.
fn required<T>(argument: Option<T>, name: &str) -> Result<T, Error> {
    argument.ok_or_else(|| Error::null_argument(name))
}

/// The longest name of a calendar or a credential, in bytes, and the longest remote id: two of them and a role's name fit
/// into an entry of an index, which holds 2,704. Google's own limit for ids is far below.
const LONGEST_NAME: usize = 1024;

/// An argument that names something.
fn name_argument(argument: Option<String>, name: &str, hint: &str) -> Result<String, Error> {
    let given = required(argument, name)?;
    if given.is_empty() || given.len() > LONGEST_NAME {
        return Err(Error::Argument {
            code: PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            message: format!("{name} must have between 1 and {LONGEST_NAME} bytes, this has {}", given.len()),
            detail: "It is looked up in indexes, whose entries are bounded.".into(),
            hint: hint.into(),
        });
    }
    Ok(given)
}

/// An argument of type jsonb, read by ourselves: pgrx' own conversion panics where the nesting is too deep for it.
fn read_jsonb(argument: &AnyElement) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(jsonb_text(argument))
}

/// The text of an argument of type jsonb.
fn jsonb_text(argument: &AnyElement) -> &[u8] {
    // SAFETY: the SQL declaration gives the argument the type jsonb; jsonb_out returns a palloc'd C string, which lives
    // as long as the call.
    let text: Option<&CStr> = unsafe { pgrx::direct_function_call(pg_sys::jsonb_out, &[Some(argument.datum())]) };
    text.unwrap_or_default().to_bytes()
}

/// More JSON in one argument is refused before it is read: in bytes, as Postgres keeps it.
const LONGEST_JSON: usize = 8 * 1024 * 1024;

/// The same, where what cannot be read is an invalid argument.
fn json_argument(argument: Option<AnyElement>, name: &str) -> Result<Value, Error> {
    let argument = required(argument, name)?;
    // SAFETY: the SQL declaration gives the argument the type jsonb, which is a varlena; only its head is read.
    let length = unsafe { pg_sys::toast_raw_datum_size(argument.datum()) };
    if length > LONGEST_JSON {
        return Err(Error::too_much(
            format!("{name} is longer than {} MB", LONGEST_JSON / 1024 / 1024),
            "Ask about less in one call.",
        ));
    }
    read_jsonb(&argument).map_err(|error| {
        let too_deep = error.to_string().starts_with("recursion limit");
        Error::argument(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{name} cannot be read: {error}"),
            if too_deep { "Pass JSON that is nested less deeply." } else { "Pass JSON with numbers of ordinary size." },
        )
    })
}

/// The length of an interval, a day counted as 24 hours. Months have no length.
fn length(argument: Option<pgrx::datum::Interval>, name: &str) -> Result<TimeDelta, Error> {
    let interval = required(argument, name)?;
    if interval.months() != 0 {
        return Err(Error::argument(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{name} must not have months or years"),
            "They differ in length: say it in days, hours or minutes.",
        ));
    }
    Ok(TimeDelta::days(interval.days().into()) + TimeDelta::microseconds(interval.micros()))
}

/// A zone by its name.
fn zone_argument(argument: Option<&str>) -> Result<Tz, Error> {
    Ok(zone::named(required(argument, "time_zone")?)?)
}

/// A window as instants; it must be finite, and local time must be known in it.
fn in_local_time(window: MicroWindow) -> Result<Interval, Error> {
    if window.start() == Micros::MIN || window.end() == Micros::MAX {
        return Err(Error::argument(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "during must have a beginning and an end",
            "Pass the time that is to be shown, such as tstzrange(now(), now() + '14 days').",
        ));
    }
    // A timestamp may lie beyond what chrono can hold: of that nothing is known.
    let instants = Interval::new(saturating_instant(window.start()), saturating_instant(window.end()));
    let all = || Interval::new(DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
    let instants = instants.or_else(all).ok_or_else(|| Error::Internal("time has no length".to_owned()))?;
    zone::knows(instants)?;
    Ok(instants)
}
