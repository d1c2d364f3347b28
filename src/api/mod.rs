//! The SQL functions. Their signatures, volatility and comments are in `sql/functions.sql`.
//!
//! Each function checks its arguments, does its work as the owner of the tables through [`crate::store`], and ends in
//! [`crate::error::Report::report`], the one place where an error becomes an SQLSTATE.

mod availability;
mod change;
mod credential;
mod delta;
mod explain;
mod integrity;
mod operations;
mod run;
mod subscription;

use std::ffi::CStr;

use pgrx::{AnyElement, pg_sys};
use serde_json::Value;

use crate::error::Error;

/// A text argument that must be there.
fn required<T>(argument: Option<T>, name: &str) -> Result<T, Error> {
    argument.ok_or_else(|| Error::null_argument(name))
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
