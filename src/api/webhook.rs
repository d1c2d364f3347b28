//! `calsync_webhook`: what a receiver calls with the headers of a provider's notification.
//!
//! It is asked by strangers: what they send is read without ever raising, and what they learn is one of four numbers.
//! 403 tells that a channel of that id exists; ids are 128 random bits that only the provider was told, and say nothing of
//! the calendar.

use calsync_core::providers::google::channel::renewal;
use calsync_core::providers::google::notification::Notification;
use chrono::{DateTime, TimeDelta, Utc};
use pgrx::AnyElement;
use pgrx::prelude::*;
use subtle::ConstantTimeEq;

use super::read_jsonb;
use crate::error::{Error, Report};
use crate::store::channel::token_hash;
use crate::store::notification::{self, Known};
use crate::store::owner::as_writing_owner;
use crate::worker;

/// Larger ones are not even looked at. In bytes, as stored.
const LARGEST_HEADERS: usize = 256 * 1024;

/// The statuses that a receiver is told to answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Taken = 200,
    /// These are not a notification's headers.
    Unusable = 400,
    /// The channel is known, and this does not come from its provider.
    Forged = 403,
    /// No such channel, or it has ended.
    Unknown = 404,
}

#[pg_extern(sql = false)]
fn calsync_webhook(headers: Option<AnyElement>, _body: Option<&str>) -> i32 {
    let answer = || -> Result<Status, Error> {
        let Some(message) = headers.as_ref().and_then(read) else { return Ok(Status::Unusable) };
        as_writing_owner(c"calsync_webhook()", || take(&message))
    };
    answer().report() as i32
}

fn read(headers: &AnyElement) -> Option<Notification> {
    // SAFETY: the SQL declaration gives the argument the type jsonb: a varlena, whose size is read from its head.
    let size = unsafe { pg_sys::toast_raw_datum_size(headers.datum()) };
    if size > LARGEST_HEADERS {
        return None;
    }
    Notification::read(&read_jsonb(headers).ok()?).ok()
}

fn take(message: &Notification) -> Result<Status, Error> {
    let known = notification::find(&message.channel_id)?;
    // The same work is done where there is no such channel.
    let given = token_hash(message.token.as_deref().unwrap_or_default());
    let nobodys = [0; 32];
    let wanted = known.as_ref().map_or(&nobodys[..], |known| known.token_hash.as_slice());
    let is_genuine = bool::from(given.ct_eq(wanted));
    let Some(known) = known else { return Ok(Status::Unknown) };
    if !is_genuine || known.resource_id.is_some() && known.resource_id != message.resource_id {
        return Ok(Status::Forged);
    }
    let Known { requested_at, expires_at, is_answered, .. } = known;
    // The provider's answer has the better word on when it ends, to the millisecond, if it has one; and what is still told
    // of has not ended, whatever the clocks say.
    let is_sooner = |said: &DateTime<Utc>| *said < expires_at - TimeDelta::minutes(1);
    let said = message.expires_at.filter(|said| (!is_answered || is_sooner(said)) && *said > Utc::now());
    let expires_at = said.unwrap_or(expires_at);
    if notification::take(message, expires_at, renewal(requested_at, expires_at, crate::engine::random()))? {
        worker::wake::worker_at_commit();
    }
    Ok(Status::Taken)
}
