//! What is past is not kept for ever: events, tombstones, staged pages, history, the change feed, channels.
//!
//! Only events go that lie wholly before the covered window, so that nothing derived changes with them. What has gone
//! cannot be covered again before the provider was asked for everything: `complete_from` says from when on the stored
//! events are complete, the window never slides back over it, and a raised `calsync.retention` lists the calendar in
//! full.
//!
//! The hard cases, each with a test in `tests/integration`:
//! - an exception that was moved into the past keeps its slot free, which may lie ahead
//! - a series goes after its last exception, and after its last occurrence
//! - a tombstone that came before its master is kept for a day

use calsync_core::retention::SLACK;
use chrono::{DateTime, TimeDelta, Utc};
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use super::expansion;
use super::stored::CHUNK;
use super::subscription::{self, Subscription, TryLock};
use super::whose::{Whose, is_of_theirs, is_theirs};
use super::{change, home, time};
use crate::error::Error;
use crate::settings;

/// How long history is kept.
const HISTORY: TimeDelta = TimeDelta::days(7);
/// How long a tombstone is kept that has no master, a round of which no page comes any more, and a channel that has
/// ended.
const WAITING: TimeDelta = TimeDelta::days(1);
/// How often a calendar is cleaned.
const INTERVAL: TimeDelta = TimeDelta::days(1);
/// Rows removed by one statement of what is removed for all calendars.
const BATCH: i64 = 10_000;

/// How many rows went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    pub events: i64,
    pub tombstones: i64,
    pub staged_rounds: i64,
    pub sync_runs: i64,
    pub changes: i64,
    pub channels: i64,
}

impl Removed {
    pub fn add(&mut self, other: Removed) {
        self.events += other.events;
        self.tombstones += other.tombstones;
        self.staged_rounds += other.staged_rounds;
        self.sync_runs += other.sync_runs;
        self.changes += other.changes;
        self.channels += other.channels;
    }
}

/// Takes calendars of these owners that were not cleaned for a day, those that waited longest first. They count as cleaned
/// from now on: one that cannot be cleaned is tried again tomorrow, and does not stand before the others until then.
pub fn take_to_clean(whose: &Whose, limit: usize) -> Result<Vec<i64>, Error> {
    Spi::connect_mut(|client| {
        let sql = format!(
            "UPDATE calsync.subscription SET cleaned_at = now() WHERE subscription_id IN ( \
                 SELECT s.subscription_id FROM calsync.subscription AS s \
                 WHERE coalesce(cleaned_at, created_at) < $1 AND {} AND {} \
                 ORDER BY coalesce(cleaned_at, created_at) LIMIT $2 FOR UPDATE SKIP LOCKED) \
             RETURNING subscription_id",
            is_theirs("owner", 3),
            home::is_at_home("s")?
        );
        let until = time::timestamp(time::now() - INTERVAL)?;
        let table = client.update(&sql, None, &[until.into(), (limit as i64).into(), whose.parameter()])?;
        table.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect()
    })
}

/// Every calendar of these owners that lives here, in the order in which everybody locks them.
pub fn all(whose: &Whose) -> Result<Vec<i64>, Error> {
    Spi::connect(|client| {
        let sql = format!(
            "SELECT s.subscription_id FROM calsync.subscription AS s WHERE {} AND {} ORDER BY s.subscription_id",
            is_theirs("owner", 1),
            home::is_at_home("s")?
        );
        let table = client.select(&sql, None, &[whose.parameter()])?;
        table.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect()
    })
}

/// Of a statement that locks what it finds.
fn lockable_ids(sql: &str, arguments: &[DatumWithOid]) -> Result<Vec<i64>, Error> {
    Spi::connect_mut(|client| {
        let table = client.update(sql, None, arguments)?;
        table.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect()
    })
}

/// Cleans one calendar.
pub fn clean(id: i64) -> Result<Removed, Error> {
    // A calendar that somebody has locked waits for the next time.
    let TryLock::Locked(subscription) = subscription::try_lock(id)? else { return Ok(Removed::default()) };
    let mut removed = forget_tombstones(id)?;
    removed.staged_rounds = forget_rounds(id)?;
    if let Some(until) = prunable_until(&subscription) {
        removed.add(prune(&subscription, until)?);
    }
    set(id, "cleaned_at = $2", time::now())?;
    Ok(removed)
}

/// What ended before this lies neither in the covered window nor in the window that the settings want.
fn prunable_until(subscription: &Subscription) -> Option<DateTime<Utc>> {
    let (covered_from, _) = subscription.covered?;
    Some(covered_from.min(time::now() - settings::window().retention))
}

fn prune(subscription: &Subscription, until: DateTime<Utc>) -> Result<Removed, Error> {
    let delete = |condition: &str| -> Result<i64, Error> {
        let arguments =
            [subscription.id.into(), time::timestamp(until)?.into(), time::timestamp(until - SLACK)?.into()];
        count(&deletion(condition), &arguments)
    };
    let mut removed = Removed {
        events: delete(&format!("e.kind IN ('single', 'unreadable') AND {IS_PAST}"))?
            + delete(&format!("e.kind = 'exception' AND {IS_PAST} AND {SLOT_IS_PAST}"))?,
        tombstones: delete(&format!("e.kind = 'tombstone' AND $2 > $3 AND {SLOT_IS_PAST}"))?,
        ..Removed::default()
    };
    removed.events += prune_series(subscription, until)?;
    if removed != Removed::default() {
        set(subscription.id, "complete_from = greatest(complete_from, $2)", until)?;
    }
    Ok(removed)
}

fn deletion(condition: &str) -> String {
    format!(
        "WITH gone AS (DELETE FROM calsync.event AS e WHERE e.subscription_id = $1 AND {condition} RETURNING 1) \
         SELECT count(*) FROM gone"
    )
}

/// It ended before $2, or, where that depends on the calendar's zone, before $3.
const IS_PAST: &str = "(greatest(e.starts_at, e.ends_at) <= $2 OR e.end_date < ($3 AT TIME ZONE 'UTC')::date)";

/// The occurrence that an exception or a tombstone stands for would have ended long ago, as long as its master takes.
const SLOT_IS_PAST: &str = "coalesce(e.original_start, e.original_start_date::timestamp AT TIME ZONE 'UTC') <= $3 - coalesce( \
    (SELECT greatest(m.ends_at - m.starts_at, make_interval(days => m.end_date - m.start_date), '0') \
     FROM calsync.event AS m WHERE m.subscription_id = $1 AND m.event_id = e.recurring_event_id), '0')";

/// Series that have ended and of which no exception or tombstone is left.
fn prune_series(subscription: &Subscription, until: DateTime<Utc>) -> Result<i64, Error> {
    let candidates = Spi::connect(|client| -> Result<Vec<String>, Error> {
        let table = client.select(
            "SELECT e.event_id FROM calsync.event AS e WHERE e.subscription_id = $1 AND e.kind = 'master' \
                 AND NOT EXISTS (SELECT FROM calsync.occurrence AS o \
                                 WHERE o.subscription_id = $1 AND o.event_id = e.event_id) \
                 AND NOT EXISTS (SELECT FROM calsync.event AS x \
                                 WHERE x.subscription_id = $1 AND x.recurring_event_id = e.event_id)",
            None,
            &[subscription.id.into()],
        )?;
        table.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect()
    })?;
    let mut removed = 0;
    for chunk in candidates.chunks(CHUNK) {
        pgrx::check_for_interrupts!();
        let over = expansion::over(subscription, chunk, until)?;
        removed += count(&deletion("e.event_id = ANY ($2)"), &[subscription.id.into(), over.into()])?;
    }
    Ok(removed)
}

/// A tombstone may come before its master; one whose master does not come, or has gone, stands for nothing.
fn forget_tombstones(id: i64) -> Result<Removed, Error> {
    const MASTERLESS: &str = "e.kind = 'tombstone' AND NOT EXISTS (SELECT FROM calsync.event AS m \
        WHERE m.subscription_id = e.subscription_id AND m.event_id = e.recurring_event_id)";
    let waited = time::timestamp(time::now() - WAITING)?;
    let tombstones = count(&deletion(&format!("e.orphaned_at < $2 AND {MASTERLESS}")), &[id.into(), waited.into()])?;
    let marked = format!(
        "UPDATE calsync.event AS e SET orphaned_at = CASE WHEN e.orphaned_at IS NULL THEN now() END \
         WHERE e.subscription_id = $1 AND (e.kind = 'tombstone' OR e.orphaned_at IS NOT NULL) \
             AND (e.orphaned_at IS NULL) = ({MASTERLESS})"
    );
    Spi::connect_mut(|client| client.update(&marked, None, &[id.into()]).map(drop))?;
    Ok(Removed { tombstones, ..Removed::default() })
}

/// Pages of rounds that nobody goes on with.
fn forget_rounds(id: i64) -> Result<i64, Error> {
    let waited = time::timestamp(time::now() - WAITING)?;
    count(
        "WITH given_up AS ( \
             DELETE FROM calsync.staged_round AS r USING calsync.subscription AS s \
             WHERE r.subscription_id = $1 AND s.subscription_id = $1 AND r.started_at < $2 \
                 AND NOT (r.round = s.lease AND s.leased_until IS NOT NULL AND s.leased_until > now()) \
             RETURNING r.round), \
         pages AS ( \
             DELETE FROM calsync.staged_event AS g USING given_up \
             WHERE g.subscription_id = $1 AND g.round = given_up.round) \
         SELECT count(*) FROM given_up",
        &[id.into(), waited.into()],
    )
}

/// Removes history, changes and channels of these owners past their time, a batch of each. Returns how many; a whole batch
/// means that there is more.
pub fn forget_history(whose: &Whose) -> Result<Removed, Error> {
    let until = time::timestamp(time::now() - HISTORY)?;
    let sync_runs = count(
        &format!(
            "WITH gone AS ( \
                 DELETE FROM calsync.sync_run WHERE (subscription_id, run_id) IN ( \
                     SELECT r.subscription_id, r.run_id FROM calsync.sync_run AS r \
                     WHERE r.finished_at < $1 AND {} LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1) \
             SELECT count(*) FROM gone",
            is_of_theirs("r.subscription_id", 3)
        ),
        &[until.into(), BATCH.into(), whose.parameter()],
    )?;
    let channels = count(
        &format!(
            "WITH gone AS ( \
                 DELETE FROM calsync.channel WHERE channel_id IN ( \
                     SELECT channel_id FROM calsync.channel \
                     WHERE (state = 'ended' AND ended_at < $1 OR state = 'refused' AND due_at < $1) AND {} LIMIT $2 \
                     FOR UPDATE SKIP LOCKED) RETURNING 1) \
             SELECT count(*) FROM gone",
            is_theirs("owner", 3)
        ),
        &[time::timestamp(time::now() - WAITING)?.into(), BATCH.into(), whose.parameter()],
    )?;
    Ok(Removed { sync_runs, changes: change::forget(whose, BATCH)?, channels, ..Removed::default() })
}

/// Whether [`forget_history`] must be called again.
pub fn is_whole_batch(removed: Removed) -> bool {
    removed.sync_runs >= BATCH || removed.changes >= BATCH || removed.channels >= BATCH
}

/// A full sync has just stored everything there is.
pub fn complete(subscription: &mut Subscription) -> Result<(), Error> {
    if subscription.complete_from.take().is_none() {
        return Ok(());
    }
    Spi::connect_mut(|client| {
        let sql = "UPDATE calsync.subscription SET complete_from = NULL WHERE subscription_id = $1";
        client.update(sql, None, &[subscription.id.into()])?;
        Ok(())
    })
}

/// Calendars of these owners whose pruned events are wanted again because `calsync.retention` was raised. What the
/// application feeds is not among them: nobody but the application can list it.
pub fn to_relist(whose: &Whose, limit: usize) -> Result<Vec<i64>, Error> {
    lockable_ids(
        &format!(
            "SELECT s.subscription_id FROM calsync.subscription AS s \
             WHERE complete_from > now() - make_interval(secs => $1) AND sync_token IS NOT NULL \
                 AND provider <> 'none' AND {} AND {} \
             ORDER BY subscription_id LIMIT $2 FOR UPDATE SKIP LOCKED",
            is_theirs("owner", 3),
            home::is_at_home("s")?
        ),
        &[settings::window().retention.as_secs_f64().into(), (limit as i64).into(), whose.parameter()],
    )
}

/// Lists one of them in full, if it is still wanted.
pub fn relist(id: i64) -> Result<(), Error> {
    match subscription::try_lock(id)? {
        TryLock::Locked(subscription) if subscription.complete_from.is_some() => subscription::resync(id),
        _ => Ok(()),
    }
}

fn set(id: i64, assignment: &str, at: DateTime<Utc>) -> Result<(), Error> {
    let sql = format!("UPDATE calsync.subscription SET {assignment} WHERE subscription_id = $1");
    Spi::connect_mut(|client| {
        client.update(&sql, None, &[id.into(), time::timestamp(at)?.into()])?;
        Ok(())
    })
}

fn count(sql: &str, arguments: &[DatumWithOid]) -> Result<i64, Error> {
    Spi::connect_mut(|client| Ok(client.update(sql, None, arguments)?.first().get_one()?.unwrap_or_default()))
}
