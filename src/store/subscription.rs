//! Subscriptions: found by name for a role, made, forgotten, made due.

use std::time::Duration;

use calsync_core::options::Options;
use chrono::{DateTime, Utc};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::spi::{SpiHeapTupleData, SpiTupleTable};
use pgrx::{JsonB, pg_sys};
use serde_json::Value;

use super::plan::under_latest_snapshot;
use super::{availability, credential, home, share, time};
use crate::error::Error;

/// A subscription as the code that changes it needs it.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub id: i64,
    pub calendar: String,
    pub provider: Provider,
    pub remote_id: String,
    pub credential: Option<String>,
    pub owner: String,
    /// It came from another database, and is not taken over yet ([`home`]).
    pub is_foreign: bool,
    pub time_zone: String,
    pub options: Value,
    pub sync_token: Option<String>,
    pub token_params: Option<String>,
    /// None: nothing is covered.
    pub covered: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// Before this the stored events are not complete; None: they are.
    pub complete_from: Option<DateTime<Utc>>,
    pub full_synced_at: Option<DateTime<Utc>>,
    pub failures: u32,
    pub failing_since: Option<DateTime<Utc>>,
    pub failing_as: Option<String>,
    pub lease: i64,
    /// The calendar's own, see [`calsync_core::schedule::Polling`]; None: not polled yet.
    pub poll_interval: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    Google,
    /// Fed by the application only.
    None,
}

impl Provider {
    pub fn from_label(label: &str) -> Option<Self> {
        match label {
            "google" => Some(Self::Google),
            "none" => Some(Self::None),
            _ => None,
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Google => "google",
            Self::None => "none",
        }
    }
}

impl Subscription {
    /// The columns [`Subscription::read`] reads.
    pub const COLUMNS: &str = "s.subscription_id, s.calendar, s.provider, s.remote_id, s.credential, \
         s.owner::text AS owner, s.home, s.time_zone, s.options, s.sync_token, s.token_params, \
         lower(s.covered) AS covered_from, upper(s.covered) AS covered_to, s.complete_from, s.full_synced_at, \
         s.failures, s.failing_since, s.failing_as, s.lease, extract(epoch FROM s.poll_interval)::double precision AS poll_seconds";

    pub fn read(row: &SpiHeapTupleData) -> Result<Self, Error> {
        let text = |column: &str| -> Result<String, Error> { Ok(row.get_by_name(column)?.unwrap_or_default()) };
        let time_at = |column: &str| -> Result<Option<DateTime<Utc>>, Error> {
            Ok(row.get_by_name::<TimestampWithTimeZone, _>(column)?.and_then(time::instant))
        };
        let provider = text("provider")?;
        Ok(Subscription {
            id: row.get_by_name("subscription_id")?.unwrap_or_default(),
            calendar: text("calendar")?,
            provider: Provider::from_label(&provider)
                .ok_or_else(|| Error::Internal(format!("provider \"{provider}\" is none of this version")))?,
            remote_id: text("remote_id")?,
            credential: row.get_by_name("credential")?,
            owner: text("owner")?,
            is_foreign: home::is_foreign(row.get_by_name::<String, _>("home")?.as_deref(), &home::ours()?),
            time_zone: text("time_zone")?,
            options: row.get_by_name::<JsonB, _>("options")?.map_or(Value::Null, |options| options.0),
            sync_token: row.get_by_name("sync_token")?,
            token_params: row.get_by_name("token_params")?,
            covered: time_at("covered_from")?.zip(time_at("covered_to")?),
            complete_from: time_at("complete_from")?,
            full_synced_at: time_at("full_synced_at")?,
            failures: row.get_by_name::<i32, _>("failures")?.unwrap_or_default().max(0) as u32,
            failing_since: time_at("failing_since")?,
            failing_as: row.get_by_name("failing_as")?,
            lease: row.get_by_name("lease")?.unwrap_or_default(),
            poll_interval: row
                .get_by_name::<f64, _>("poll_seconds")?
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        })
    }

    pub fn options(&self) -> Result<Options, Error> {
        Ok(Options::read(&self.options)?)
    }

    /// The zone in which all-day events are read. Names are checked when they are stored; should the database of zones
    /// have lost one since, that is an error, not a guess.
    pub fn zone(&self) -> Result<chrono_tz::Tz, Error> {
        calsync_core::zone::find(&self.time_zone)
            .ok_or_else(|| Error::Internal(format!("time zone \"{}\" is unknown", self.time_zone)))
    }
}

/// One row of a result, as [`Subscription`]s.
pub fn read_all(table: SpiTupleTable) -> Result<Vec<Subscription>, Error> {
    table.map(|row| Subscription::read(&row)).collect()
}

/// The calendar of this name that `role` owns, its row locked against everybody who would change it. One that is only
/// shared with the role is refused (42501); to whom it is not even that, it is unknown.
pub fn find_for_update(role: pg_sys::Oid, calendar: &str) -> Result<Subscription, Error> {
    // Two steps, so that a role never waits for the lock of somebody else's calendar.
    let id = one_owned(role, calendar)?;
    lock(id)?.ok_or_else(|| Error::UnknownCalendar { calendar: calendar.to_owned() })
}

/// The subscription with its row locked; None: it is gone.
pub fn lock(id: i64) -> Result<Option<Subscription>, Error> {
    Spi::connect_mut(|client| {
        let sql = format!(
            "SELECT {} FROM calsync.subscription AS s WHERE s.subscription_id = $1 FOR UPDATE",
            Subscription::COLUMNS
        );
        Ok(read_all(client.update(&sql, None, &[id.into()])?)?.pop())
    })
}

/// What came of trying to lock a subscription's row without waiting.
#[derive(Debug)]
pub enum TryLock {
    Locked(Box<Subscription>),
    /// Somebody else holds the lock.
    HeldElsewhere,
    Gone,
}

/// Locks the subscription's row unless somebody else holds it. For the worker, whom a forgotten transaction on one
/// calendar must not keep from the others.
pub fn try_lock(id: i64) -> Result<TryLock, Error> {
    Spi::connect_mut(|client| {
        let sql = format!(
            "SELECT {} FROM calsync.subscription AS s WHERE s.subscription_id = $1 FOR UPDATE SKIP LOCKED",
            Subscription::COLUMNS
        );
        if let Some(locked) = read_all(client.update(&sql, None, &[id.into()])?)?.pop() {
            return Ok(TryLock::Locked(Box::new(locked)));
        }
        let there = "SELECT FROM calsync.subscription WHERE subscription_id = $1";
        Ok(if client.select(there, None, &[id.into()])?.is_empty() { TryLock::Gone } else { TryLock::HeldElsewhere })
    })
}

/// Every subscription of this name, whoever owns it.
fn named(calendar: &str) -> Result<Vec<Subscription>, Error> {
    Spi::connect(|client| {
        let sql = format!("SELECT {} FROM calsync.subscription AS s WHERE s.calendar = $1", Subscription::COLUMNS);
        read_all(client.select(&sql, None, &[calendar.into()])?)
    })
}

/// The subscription_id of the calendar of this name that `role` owns, without locking it. One that is only shared with the
/// role is refused (42501); to whom it is not even that, it is unknown.
pub fn one_owned(role: pg_sys::Oid, calendar: &str) -> Result<i64, Error> {
    let mut found = under_latest_snapshot(|| availability::find(role, &[calendar.to_owned()]))?;
    match found.pop().and_then(|(_, answerer)| answerer) {
        Some(answerer) if answerer.owned => Ok(answerer.id),
        Some(answerer) => Err(Error::not_the_owner(calendar, &answerer.owner)),
        None => Err(Error::UnknownCalendar { calendar: calendar.to_owned() }),
    }
}

/// What `calsync_subscribe` was asked for, checked.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub calendar: &'a str,
    pub provider: Provider,
    pub credential: Option<&'a str>,
    pub remote_id: &'a str,
    /// None: as the provider says, until then UTC.
    pub time_zone: Option<&'a str>,
    pub options: Value,
    pub max_staleness: Option<Duration>,
}

/// Makes the subscription, or finds that `owner` already has just this one.
pub fn subscribe(owner: &str, wanted: &Wanted) -> Result<i64, Error> {
    let inserted = Spi::connect_mut(|client| -> Result<Option<i64>, Error> {
        let table = client.update(
            "INSERT INTO calsync.subscription (calendar, provider, remote_id, credential, owner, time_zone, options, \
                 max_staleness, state, next_sync_at, home) \
             VALUES ($1, $2, $3, $4, $5::name, coalesce($6, 'UTC'), $7, make_interval(secs => $8), 'pending', \
                 CASE $2 WHEN 'none' THEN NULL ELSE now() END, $9) \
             ON CONFLICT ON CONSTRAINT subscription_owner_calendar_key DO NOTHING RETURNING subscription_id",
            None,
            &[
                wanted.calendar.into(),
                wanted.provider.label().into(),
                wanted.remote_id.into(),
                wanted.credential.into(),
                owner.into(),
                wanted.time_zone.into(),
                JsonB(wanted.options.clone()).into(),
                wanted.max_staleness.map(|age| age.as_secs_f64()).into(),
                home::ours()?.into(),
            ],
        )?;
        // Nothing is returned where there was one already.
        if table.is_empty() { Ok(None) } else { Ok(table.first().get_one()?) }
    })?;
    match inserted {
        Some(id) => Ok(id),
        None => existing(owner, wanted),
    }
}

/// Saying the same twice is harmless; saying something else is not what unsubscribing is for, so it is refused.
fn existing(owner: &str, wanted: &Wanted) -> Result<i64, Error> {
    let found = named(wanted.calendar)?
        .into_iter()
        .find(|subscription| subscription.owner == owner)
        .ok_or_else(|| Error::Internal("a subscription vanished while it was made".to_owned()))?;
    let differs = [
        ("provider", found.provider != wanted.provider),
        ("credential", found.credential.as_deref() != wanted.credential),
        ("remote_id", found.remote_id != wanted.remote_id),
        ("options", found.options != wanted.options),
        // A provider's own zone takes the place of the one wished for; without a provider the wish must hold.
        (
            "time_zone",
            wanted.provider == Provider::None && wanted.time_zone.is_some_and(|zone| zone != found.time_zone),
        ),
    ];
    let differing: Vec<&str> = differs.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    if differing.is_empty() {
        return Ok(found.id);
    }
    Err(Error::argument(
        PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
        format!("calendar \"{}\" is already subscribed, with another {}", wanted.calendar, differing.join(" and ")),
        format!("SELECT calsync_unsubscribe('{}') first, or choose another name.", wanted.calendar.replace('\'', "''")),
    ))
}

/// Every table with rows that belong to a subscription.
pub const TABLES: [&str; 9] =
    ["busy", "occurrence", "event", "staged_event", "staged_round", "sync_run", "change", "share", "share_answer"];

/// Forgets a subscription and every row of it. Its row must be locked. A channel belongs to the provider's calendar, and
/// ends there before it ends here.
pub fn unsubscribe(id: i64) -> Result<(), Error> {
    Spi::connect_mut(|client| -> Result<(), Error> {
        for table in TABLES.into_iter().filter(|table| *table != "share_answer").chain(["subscription"]) {
            client.update(&format!("DELETE FROM calsync.{table} WHERE subscription_id = $1"), None, &[id.into()])?;
        }
        Ok(())
    })?;
    // What a guest that is just answering leaves behind calsync_repair() removes.
    share::forget_answers(id)
}

/// Stops syncing; a round under way becomes worthless.
pub fn pause(id: i64) -> Result<(), Error> {
    change(id, "state = 'paused', next_sync_at = NULL, lease = lease + 1, leased_until = NULL")
}

/// Syncs a paused calendar again, at once. Does nothing to a calendar that is not paused.
pub fn resume(id: i64) -> Result<(), Error> {
    change(
        id,
        "state = CASE WHEN s.state <> 'paused' THEN s.state WHEN s.synced_at IS NULL THEN 'pending' ELSE 'active' END, \
         next_sync_at = CASE WHEN s.provider <> 'none' AND s.state = 'paused' THEN now() ELSE s.next_sync_at END",
    )
}

/// Drops the token and what is staged; the rows stay until the full sync commits.
pub fn resync(id: i64) -> Result<(), Error> {
    Spi::connect_mut(|client| -> Result<(), Error> {
        for table in ["staged_event", "staged_round"] {
            client.update(&format!("DELETE FROM calsync.{table} WHERE subscription_id = $1"), None, &[id.into()])?;
        }
        Ok(())
    })?;
    change(
        id,
        "sync_token = NULL, token_params = NULL, lease = lease + 1, leased_until = NULL, \
         next_sync_at = CASE WHEN s.provider = 'none' OR s.state = 'paused' THEN NULL ELSE now() END",
    )
}

/// [`resync`], for all that `role` owns. In order of id, so that two such calls cannot lock each other out.
pub fn resync_all(role: pg_sys::Oid) -> Result<(), Error> {
    let mut ids = under_latest_snapshot(|| availability::owned(role))?;
    ids.sort_unstable();
    for id in ids {
        if lock(id)?.is_some() {
            resync(id)?;
        }
    }
    Ok(())
}

fn change(id: i64, assignments: &str) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        let sql = format!("UPDATE calsync.subscription AS s SET {assignments} WHERE s.subscription_id = $1");
        client.update(&sql, None, &[id.into()])?;
        Ok(())
    })
}

/// What somebody's wish for a sync came to.
#[derive(Debug)]
pub struct Wished {
    /// How many calendars became due.
    pub due: i32,
    /// Some wait all the same, for the provider limits the rate of their credential: until when, and what it said.
    pub limited: Option<(String, String)>,
}

/// Makes a calendar due now, before those that are merely due; or, with None, all that `role` owns. Paused ones and those
/// that the application feeds stay as they are. Of a credential that was refused one calendar is tried.
pub fn make_due(role: pg_sys::Oid, calendar: Option<&str>) -> Result<Wished, Error> {
    let ids: Vec<i64> = match calendar {
        Some(calendar) => vec![one_owned(role, calendar)?],
        None => under_latest_snapshot(|| availability::owned(role))?,
    };
    let due = Spi::connect_mut(|client| -> Result<Vec<i64>, Error> {
        let table = client.update(
            "UPDATE calsync.subscription SET next_sync_at = now(), expedited = expedited OR $2 \
             WHERE subscription_id = ANY ($1) AND state <> 'paused' AND provider <> 'none' RETURNING subscription_id",
            None,
            &[ids.into(), calendar.is_some().into()],
        )?;
        table.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect()
    })?;
    let limited = credential::try_again(&due)?;
    Ok(Wished { due: i32::try_from(due.len()).unwrap_or(i32::MAX), limited })
}
