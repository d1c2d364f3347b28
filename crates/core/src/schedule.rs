//! When is a calendar asked again?
//!
//! Pure: the time and the randomness (a number in 0..1) come in as arguments, so that every rule is a table in a test.
//!
//! The hard cases, each with a test of the same name in `tests/google_schedule.rs`:
//! - `a_rate_limit_slows_the_credential_not_the_calendar`
//! - `a_refused_credential_is_asked_for_once_and_tried_once_an_hour`
//! - `a_credential_that_cannot_be_opened_is_tried_again_within_a_minute`
//! - `a_quiet_calendar_is_polled_ever_more_rarely_and_one_with_news_more_often`
//! - `a_calendar_is_polled_twice_within_the_age_at_which_it_would_be_stale`
//! - `a_calendar_is_gone_only_after_404_has_lasted_six_hours`
//! - `retry_after_is_a_lower_bound_and_never_more_than_a_day`
//! - `calendars_subscribed_together_do_not_sync_in_full_together`

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::sync::{Failure, FailureKind};

const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// How long a credential is left that could not be opened: looking at a file of our own costs nobody else anything.
const UNOPENED: Duration = Duration::from_secs(40);

/// How many tries belong to the burst, whose waits double from one second to [`BURST_CAP`].
const BURST: u32 = 7;
const BURST_CAP: Duration = Duration::from_secs(64);

/// Whoever wants answers that are younger than this asks for what polling cannot give.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// How long a provider must have answered "not found" before its calendar is called gone.
pub const GONE_AFTER: Duration = Duration::from_secs(6 * 3600);

/// The states of a subscription: the labels of `calsync.subscription.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Never synced yet.
    Pending,
    Active,
    /// By the wish of its owner.
    Paused,
    /// The last try failed, or was told to wait; tried again on its own.
    Backoff,
    /// Somebody must act; tried again once an hour all the same.
    NeedsCredential,
    /// The provider no longer knows it; tried again once a day.
    Gone,
}

impl State {
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Active, Self::Paused, Self::Backoff, Self::NeedsCredential, Self::Gone];

    pub fn label(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Backoff => "backoff",
            Self::NeedsCredential => "needs_credential",
            Self::Gone => "gone",
        }
    }

    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.label() == label)
    }
}

/// What becomes of a calendar after a failed round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    pub state: State,
    /// When to try again.
    pub at: DateTime<Utc>,
    pub slows: Slows,
}

/// Whom a failure concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slows {
    /// This calendar only.
    Calendar,
    /// Every calendar of the credential waits until the retry.
    Credential,
    /// The credential is not accepted: none of its calendars is asked for, but one at the retry, to see whether it is
    /// accepted again.
    CredentialRefused,
    /// This calendar only, or all of the credential: [`crate::doubt`] tells.
    CredentialPerhaps,
    /// The credential could not be opened, which is no fault of its own: one calendar is tried at the retry, as above.
    CredentialUnopened,
}

/// How often a calendar is polled: the bounds are settings, the interval in between is the calendar's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polling {
    pub shortest: Duration,
    /// Shorter than `shortest`: as long as that.
    pub longest: Duration,
}

/// What the settings say where nobody set them. A day of a calendar with some twenty changes then takes some hundred
/// calls.
impl Default for Polling {
    fn default() -> Self {
        Polling { shortest: Duration::from_secs(5 * 60), longest: Duration::from_secs(20 * 60) }
    }
}

impl Polling {
    /// The interval after a poll: half of the last one where there was news, half as much again where there was none.
    /// `last`: None where the calendar has not been polled yet.
    pub fn interval(self, last: Option<Duration>, news: bool) -> Duration {
        let Some(last) = last else { return self.shortest };
        let next = if news { last / 2 } else { last.saturating_mul(3) / 2 };
        next.clamp(self.shortest, self.longest.max(self.shortest))
    }
}

/// How long a calendar is left alone after a poll: for its own `interval`, or for `rarely` where somebody tells of changes;
/// but never so long that two more polls, each spread by a quarter, do not fit into `limit`, the age at which answers
/// about it are refused.
pub fn wait_for_next_poll(interval: Duration, rarely: Option<Duration>, limit: Duration) -> Duration {
    let wished = rarely.map_or(interval, |rarely| rarely.max(interval));
    wished.min(stretched(limit, 0.375).max(SHORTEST_WAIT))
}

/// When a calendar that has just been synced is polled next: after `interval`, ±25 %.
pub fn next_poll(now: DateTime<Utc>, interval: Duration, random: f64) -> DateTime<Utc> {
    later(now, jittered(interval, random))
}

/// What becomes of a calendar whose round failed.
///
/// `failures`: how many rounds failed in a row before this one. `failing_since`: since when it has failed *this way*
/// without a success or another failure between; None where this is the first time.
///
/// A rate limit puts the calendar into `Backoff` like a passing failure (it waits, and the status should say so), but
/// is not its fault: `slows` tells it apart.
pub fn after_failure(
    now: DateTime<Utc>,
    failures: u32,
    failing_since: Option<DateTime<Utc>>,
    failure: &Failure,
    random: f64,
) -> Retry {
    let (state, wait) = match failure.kind {
        FailureKind::Passing | FailureKind::RateLimited | FailureKind::RefusedUrl => {
            (State::Backoff, backoff(failures, random))
        }
        FailureKind::Unopened => (State::Backoff, jittered(UNOPENED, random)),
        FailureKind::Credential | FailureKind::Ungranted | FailureKind::Forbidden => {
            (State::NeedsCredential, jittered(HOUR, random))
        }
        FailureKind::NotFound if has_lasted(now, failing_since, GONE_AFTER) => (State::Gone, jittered(DAY, random)),
        FailureKind::NotFound => (State::Backoff, backoff(failures, random)),
    };
    let wait = match failure.retry_after {
        Some(wish) => wait.max(wish.min(DAY) + up_to_a_second(random)),
        None => wait,
    };
    let slows = match failure.kind {
        FailureKind::RateLimited => Slows::Credential,
        FailureKind::Credential => Slows::CredentialRefused,
        FailureKind::Ungranted => Slows::CredentialPerhaps,
        FailureKind::Unopened => Slows::CredentialUnopened,
        FailureKind::Passing | FailureKind::Forbidden | FailureKind::NotFound | FailureKind::RefusedUrl => {
            Slows::Calendar
        }
    };
    Retry { state, at: later(now, wait), slows }
}

/// Is it time to list the whole calendar again, although its sync token still works?
///
/// After `interval`, ±10 %, where the jitter belongs to the calendar and does not change from one look to the next, so
/// that calendars subscribed together drift apart. Never synced in full: due. An interval of zero: never due again.
pub fn full_sync_due(
    full_synced_at: Option<DateTime<Utc>>,
    interval: Duration,
    subscription_id: i64,
    now: DateTime<Utc>,
) -> bool {
    let Some(last) = full_synced_at else { return true };
    !interval.is_zero() && now >= later(last, stretched(interval, 0.9 + 0.2 * share_of(subscription_id)))
}

/// `min(2^n s + random <= 1 s, 64 s)` for the burst (Google's advice), then doubling to an hour, ±25 %.
pub(crate) fn backoff(failures: u32, random: f64) -> Duration {
    if failures < BURST {
        return (Duration::from_secs(1 << failures) + up_to_a_second(random)).min(BURST_CAP);
    }
    let doublings = (failures + 1 - BURST).min(6);
    jittered((BURST_CAP * (1 << doublings)).min(HOUR), random)
}

fn has_lasted(now: DateTime<Utc>, since: Option<DateTime<Utc>>, long: Duration) -> bool {
    since.is_some_and(|since| now.signed_duration_since(since).to_std().is_ok_and(|lasted| lasted >= long))
}

/// ±25 %.
pub(crate) fn jittered(duration: Duration, random: f64) -> Duration {
    stretched(duration, 0.75 + 0.5 * random.clamp(0.0, 1.0))
}

fn up_to_a_second(random: f64) -> Duration {
    stretched(Duration::from_secs(1), random.clamp(0.0, 1.0))
}

/// `duration * factor`, or `duration` where that is no duration (too long, not a number).
fn stretched(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(duration)
}

/// A number in 0..1 that belongs to this subscription (splitmix64, so that neighbours lie far apart).
fn share_of(subscription_id: i64) -> f64 {
    let mut mixed = subscription_id.cast_unsigned().wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// `then` after `wait`, or the end of time.
pub(crate) fn later(then: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(wait).ok().and_then(|wait| then.checked_add_signed(wait)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
