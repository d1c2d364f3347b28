//! Channels: asking Google to tell of changes (`events.watch`), and to be quiet again (`channels.stop`).
//!
//! Nobody can ask Google which channels there are, and none is renewed by itself: whoever opens one must remember it
//! until it is stopped or has expired. Source: guide "Push notifications", reference `events.watch`, `channels.stop`.
//!
//! The hard cases, each with a test of the same name in `tests/google_channel.rs`:
//! - `a_watch_without_an_answer_may_have_opened_a_channel`
//! - `a_calendar_that_cannot_be_watched_is_tried_again_after_days`
//! - `an_address_that_is_not_authorized_holds_back_every_calendar_of_the_credential`
//! - `an_id_that_is_taken_is_replaced_by_another`
//! - `a_channel_that_google_does_not_know_is_gone`
//! - `a_channel_that_somebody_else_may_have_opened_is_not_gone_because_google_says_so`
//! - `a_channel_that_has_ended_already_is_not_asked_for_again_and_again`: the clocks differ by days
//! - `a_channel_is_renewed_after_four_fifths_of_its_life`

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::answer::{RATE_LIMITS, Told};
use super::list::percent_encoded;
use crate::providers::{Answer, Method, Request};
use crate::schedule::{jittered, later};
use crate::sync::{Failure, FailureKind};

/// How long a channel is asked for: Google's own default, and for events its most.
pub const LIFETIME: Duration = Duration::from_secs(7 * 86_400);

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// A channel to be opened.
#[derive(Clone, Copy)]
pub struct WatchRequest<'a> {
    /// As in [`super::ListRequest`].
    pub base_url: &'a str,
    pub calendar: &'a str,
    /// Ours to choose; at most 64 characters.
    pub channel_id: &'a str,
    /// A secret that each notification repeats; at most 256 characters.
    pub token: &'a str,
    /// Where notifications go to.
    pub address: &'a str,
    /// As in [`super::ListRequest`].
    pub authorization: Option<&'a str>,
}

impl WatchRequest<'_> {
    pub fn request(&self) -> Request {
        let path = format!("calendars/{}/events/watch", percent_encoded(self.calendar));
        let body = json!({
            "id": self.channel_id,
            "type": "web_hook",
            "address": self.address,
            "token": self.token,
            "params": {"ttl": LIFETIME.as_secs().to_string()},
        });
        post(self.base_url, &path, &body, self.authorization)
    }
}

/// A channel to be stopped, by the same user and client that opened it.
#[derive(Clone, Copy)]
pub struct StopRequest<'a> {
    pub base_url: &'a str,
    pub channel_id: &'a str,
    pub resource_id: &'a str,
    pub authorization: Option<&'a str>,
}

impl StopRequest<'_> {
    pub fn request(&self) -> Request {
        let body = json!({"id": self.channel_id, "resourceId": self.resource_id});
        post(self.base_url, "channels/stop", &body, self.authorization)
    }
}

fn post(base_url: &str, path: &str, body: &Value, authorization: Option<&str>) -> Request {
    let mut headers = vec![("accept", "application/json".to_owned()), ("content-type", "application/json".to_owned())];
    headers.extend(authorization.map(|value| ("authorization", value.to_owned())));
    let url = format!("{}/{path}", base_url.trim_end_matches('/'));
    Request { method: Method::Post(body.to_string()), url, headers }
}

/// What the answer to a watch request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    Opened {
        resource_id: String,
        expires_at: DateTime<Utc>,
    },
    /// Nobody knows whether there is a channel now: its first message will tell, if there is.
    Unknown(Failure),
    /// There is none.
    Refused(Refusal),
}

/// Why no channel was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub why: RefusedFor,
    pub failure: Failure,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedFor {
    /// This calendar cannot be watched, by anybody: holidays, birthdays, group calendars. It is polled.
    Calendar,
    /// Google does not deliver to this address, for any calendar of the project.
    Address,
    /// What the failure's kind says, as for a list of events.
    Request,
}

/// Reads the answer to a watch request sent at `asked_at`.
pub fn read_opening(answer: &Answer, asked_at: DateTime<Utc>) -> Opening {
    let (status, retry_after, body) = match answer {
        Answer::None { reason } => return Opening::Unknown(Failure::new(FailureKind::Passing, reason)),
        Answer::Refused(refused) => {
            let failure = Failure::new(FailureKind::RefusedUrl, refused.told());
            return Opening::Refused(Refusal { why: RefusedFor::Request, failure });
        }
        Answer::Http { status, retry_after, body } => (*status, *retry_after, body),
    };
    if status == 200 {
        return read_channel(body, asked_at).unwrap_or_else(|reason| {
            Opening::Unknown(Failure::new(FailureKind::Passing, reason).with_retry_after(retry_after))
        });
    }
    let told = Told::read(body);
    let failure = |kind| Failure::new(kind, told.explain(status)).with_retry_after(retry_after);
    let refused = |why, kind| Opening::Refused(Refusal { why, failure: failure(kind) });
    // Some of Google's pages write the reasons with "push." before them, some without.
    let gives = |reason: &str| told.gives_one_of(&[reason, &format!("push.{reason}")]);
    if gives("pushNotSupportedForRequestedResource") {
        return refused(RefusedFor::Calendar, FailureKind::Forbidden);
    }
    if gives("webhookUrlUnauthorized") || gives("webhookUrlNotHttps") {
        return refused(RefusedFor::Address, FailureKind::Forbidden);
    }
    if gives("channelIdNotUnique") {
        // A channel of this id exists, and the id was drawn by chance: it is the one that was just asked for, by a
        // request that somebody on the way sent twice.
        return Opening::Unknown(failure(FailureKind::Passing));
    }
    match (status, error_kind(status, &told)) {
        // A proxy that gives up, or a server that breaks, may have passed the request on before.
        (408 | 500..=599, kind) => Opening::Unknown(failure(kind)),
        (_, kind) => refused(RefusedFor::Request, kind),
    }
}

/// The channel in this body, or why there is none.
fn read_channel(body: &[u8], asked_at: DateTime<Utc>) -> Result<Opening, String> {
    let channel: Value = serde_json::from_slice(body).map_err(|_| "the answer is not readable as JSON".to_owned())?;
    let resource_id = channel["resourceId"].as_str().filter(|id| !id.is_empty() && !id.contains('\0'));
    let resource_id = resource_id.ok_or("the answer is JSON, but not a channel")?.to_owned();
    // Milliseconds, as a text; some clients see a number.
    let expiration = &channel["expiration"];
    let millis = expiration.as_i64().or_else(|| expiration.as_str()?.parse().ok());
    let expires_at = millis.and_then(DateTime::from_timestamp_millis).unwrap_or_else(|| later(asked_at, LIFETIME));
    if expires_at < later(asked_at, MINUTE) {
        return Err("the channel has ended already, by the clock of this server".to_owned());
    }
    Ok(Opening::Opened { resource_id, expires_at: expires_at.min(asked_at + TimeDelta::days(366)) })
}

/// What an error means that is not about channels.
fn error_kind(status: u16, told: &Told) -> FailureKind {
    match status {
        401 => FailureKind::Credential,
        403 | 404 if told.by_somebody_else => FailureKind::Passing,
        403 if told.gives_one_of(&RATE_LIMITS) || told.is_exhausted() => FailureKind::RateLimited,
        403 => FailureKind::Forbidden,
        404 | 410 => FailureKind::NotFound,
        429 => FailureKind::RateLimited,
        _ => FailureKind::Passing,
    }
}

/// What the answer to a stop request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopping {
    /// Stopped, or Google knows nothing of it.
    Gone,
    /// Whoever asks may not stop it: it ends by itself.
    NotOurs(Failure),
    Failed(Failure),
}

/// By whom a channel was opened, seen from whoever asks to stop it. Google stops it only for the user, and the client, that
/// opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenedBy {
    TheSame,
    /// The credential was replaced since. To somebody else Google says what it says of a channel that is not there, or
    /// of a user that it does not accept; neither is true.
    PerhapsAnother,
}

pub fn read_stopping(answer: &Answer, opened_by: OpenedBy) -> Stopping {
    match answer {
        Answer::None { reason } => Stopping::Failed(Failure::new(FailureKind::Passing, reason)),
        Answer::Refused(refused) => Stopping::Failed(Failure::new(FailureKind::RefusedUrl, refused.told())),
        Answer::Http { status: 200..=299, .. } => Stopping::Gone,
        Answer::Http { status, retry_after, body } => {
            let told = Told::read(body);
            let kind = error_kind(*status, &told);
            let failure = Failure::new(kind, told.explain(*status)).with_retry_after(*retry_after);
            match (opened_by, *status, kind) {
                (OpenedBy::TheSame, _, FailureKind::NotFound) => Stopping::Gone,
                (OpenedBy::PerhapsAnother, 400, _)
                | (
                    OpenedBy::PerhapsAnother,
                    _,
                    FailureKind::Credential | FailureKind::Forbidden | FailureKind::NotFound,
                ) => Stopping::NotOurs(failure),
                _ => Stopping::Failed(failure),
            }
        }
    }
}

/// When an open channel's successor is asked for: after four fifths of its life, ±5 % of it, so that channels opened
/// together are not renewed together.
pub fn renewal(opened_at: DateTime<Utc>, expires_at: DateTime<Utc>, random: f64) -> DateTime<Utc> {
    let life = expires_at.signed_duration_since(opened_at).to_std().unwrap_or_default();
    later(opened_at, life.mul_f64(0.75 + 0.1 * random.clamp(0.0, 1.0)))
}

/// When a channel that was not opened is asked for again, after so many failures before this one.
pub fn next_opening(
    now: DateTime<Utc>,
    failures: u32,
    refusal: Option<RefusedFor>,
    failure: &Failure,
    random: f64,
) -> DateTime<Utc> {
    let wait = match (refusal, failure.kind) {
        (Some(RefusedFor::Calendar), _) => jittered(7 * DAY, random),
        (Some(RefusedFor::Address), _) => jittered(HOUR, random),
        (_, FailureKind::Forbidden | FailureKind::NotFound) => jittered(DAY, random),
        (_, FailureKind::Credential | FailureKind::Ungranted | FailureKind::RefusedUrl) => jittered(HOUR, random),
        (_, FailureKind::Passing | FailureKind::RateLimited | FailureKind::Unopened) => patience(failures, random),
    };
    later(now, wait.max(failure.retry_after.unwrap_or_default().min(DAY)))
}

/// When stopping is tried again. A channel that cannot be stopped ends by itself.
pub fn next_stop(now: DateTime<Utc>, failures: u32, failure: &Failure, random: f64) -> DateTime<Utc> {
    later(now, patience(failures, random).max(failure.retry_after.unwrap_or_default().min(DAY)))
}

/// A minute, doubling to a day: nothing is lost meanwhile, the calendar is polled.
fn patience(failures: u32, random: f64) -> Duration {
    jittered((MINUTE * (1 << failures.min(11))).min(DAY), random)
}
