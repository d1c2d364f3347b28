//! Occurrences: expanded from the stored events, within the covered window, by the core.
//!
//! The covered window is written here and nowhere else, in the transaction that makes it true.

use std::collections::{BTreeSet, HashMap};

use calsync_core::busy::BusyStatus;
use calsync_core::event::{OccurrenceOf, OriginalStart};
use calsync_core::expansion::occurrences;
use calsync_core::interval::Interval;
use calsync_core::retention::series_is_over;
use calsync_core::row::{self, RowKind, Times};
use chrono::{DateTime, DurationRound, NaiveDate, TimeDelta, Utc};
use pgrx::datum::{Date, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use super::busy::{self, Hull};
use super::subscription::Subscription;
use super::time;
use crate::error::Error;
use crate::settings;

/// Events handled by one statement: what bounds memory.
pub(super) const CHUNK: usize = 500;

/// The window is expanded this much further than the horizon asks for, so that it need not slide every minute.
pub const MARGIN: TimeDelta = TimeDelta::days(7);

/// Events whose occurrences may have changed.
#[derive(Debug, Default)]
pub struct Touched {
    pub events: BTreeSet<String>,
    pub everything: bool,
}

/// Expands what was touched, slides the window to where the settings want it, and renews busy time.
pub fn renew(subscription: &mut Subscription, touched: Touched) -> Result<(), Error> {
    let mut hull = Hull::default();
    let (window, everything) = match subscription.covered.and_then(|(from, to)| Interval::new(from, to)) {
        Some(covered) => (covered, touched.everything),
        None => (wanted_window(subscription)?, true),
    };
    // What was touched may be gone, and then is not among all events: its occurrences must go, too.
    let mut ids = touched.events;
    if everything {
        ids.extend(all_events(subscription.id)?);
    }
    if !ids.is_empty() {
        let ids: Vec<String> = ids.into_iter().collect();
        for chunk in ids.chunks(CHUNK) {
            let events = load(subscription.id, "e.event_id = ANY ($2)", chunk.to_vec().into())?;
            replace(subscription, chunk, &expand(subscription, &events, window)?, &mut hull)?;
        }
    }
    set_covered(subscription, window)?;
    slide_into(subscription, &mut hull)?;
    busy::renew(subscription.id, hull)
}

/// Slides the window to where the settings want it; no provider is asked. The subscription's row must be locked.
pub fn slide(subscription: &mut Subscription) -> Result<(), Error> {
    let mut hull = Hull::default();
    slide_into(subscription, &mut hull)?;
    busy::renew(subscription.id, hull)
}

fn wanted_window(subscription: &Subscription) -> Result<Interval, Error> {
    let now = time::now();
    let settings::Window { horizon, retention } = settings::window();
    let ahead = TimeDelta::from_std(horizon).unwrap_or(TimeDelta::days(365)) + MARGIN;
    let back = TimeDelta::from_std(retention).unwrap_or(TimeDelta::days(30));
    // Whole hours, outwards: easier to read.
    let hour = TimeDelta::hours(1);
    let from = (now - back).duration_trunc(hour).unwrap_or(now - back);
    // What ended before this may have been pruned: to cover it would be to lie.
    let from = subscription.complete_from.map_or(from, |complete_from| from.max(complete_from));
    let to = (now + ahead).duration_trunc(hour).map_or(now + ahead, |to| to + hour);
    Interval::new(from, to).ok_or_else(|| Error::Internal("the window is empty".to_owned()))
}

/// Whether the window must be slid: it no longer reaches as far ahead, or back, as the settings say and as it can.
fn must_slide(subscription: &Subscription, covered: Interval) -> bool {
    let settings::Window { horizon, retention } = settings::window();
    let now = time::now();
    let earliest = subscription.complete_from.map_or(now - retention, |complete| complete.max(now - retention));
    covered.end() < now + horizon || covered.start() > earliest
}

fn slide_into(subscription: &mut Subscription, hull: &mut Hull) -> Result<(), Error> {
    let Some(covered) = subscription.covered.and_then(|(from, to)| Interval::new(from, to)) else { return Ok(()) };
    if !must_slide(subscription, covered) {
        return Ok(());
    }
    let wanted = wanted_window(subscription)?;
    let to = covered.end().max(wanted.end());
    for strip in
        [Interval::new(wanted.start(), covered.start()), Interval::new(covered.end(), to)].into_iter().flatten()
    {
        extend(subscription, strip, hull)?;
    }
    trim(subscription.id, wanted.start(), hull)?;
    if let Some(window) = Interval::new(wanted.start(), to) {
        expand_flagged(subscription, window, hull)?;
        set_covered(subscription, window)?;
    }
    Ok(())
}

fn set_covered(subscription: &mut Subscription, window: Interval) -> Result<(), Error> {
    if subscription.covered == Some((window.start(), window.end())) {
        return Ok(());
    }
    subscription.covered = Some((window.start(), window.end()));
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.subscription SET covered = tstzrange($2, $3) WHERE subscription_id = $1",
            None,
            &[subscription.id.into(), time::timestamp(window.start())?.into(), time::timestamp(window.end())?.into()],
        )?;
        Ok(())
    })
}

/// A stored event, as much of it as expansion needs.
struct Stored {
    event_id: String,
    busy_status: BusyStatus,
    kind: calsync_core::event::Kind,
    /// Occurrences that exceptions and tombstones stand for.
    vacated: Vec<OriginalStart>,
}

pub(super) fn all_events(subscription: i64) -> Result<Vec<String>, Error> {
    Spi::connect(|client| {
        let table = client.select(
            "SELECT event_id FROM calsync.event WHERE subscription_id = $1 ORDER BY event_id",
            None,
            &[subscription.into()],
        )?;
        table.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect()
    })
}

/// The events of a calendar that meet the condition on `e` with argument $2.
fn load(subscription: i64, condition: &str, argument: pgrx::datum::DatumWithOid) -> Result<Vec<Stored>, Error> {
    Spi::connect(|client| {
        let sql = format!(
            "SELECT e.event_id, e.kind, e.busy_status::text AS busy_status, e.starts_at, e.ends_at, e.start_date, \
                 e.end_date, e.time_zone, e.recurrence, e.recurring_event_id, e.original_start, e.original_start_date \
             FROM calsync.event AS e WHERE e.subscription_id = $1 AND {condition}"
        );
        let mut events = client
            .select(&sql, None, &[subscription.into(), argument])?
            .map(|row| read_stored(&row))
            .collect::<Result<Vec<Stored>, Error>>()?;
        let masters: Vec<String> = events
            .iter()
            .filter(|event| matches!(event.kind, calsync_core::event::Kind::Master { .. }))
            .map(|event| event.event_id.clone())
            .collect();
        let mut vacated: HashMap<String, Vec<OriginalStart>> = HashMap::new();
        let table = client.select(
            "SELECT recurring_event_id, original_start, original_start_date FROM calsync.event \
             WHERE subscription_id = $1 AND recurring_event_id = ANY ($2)",
            None,
            &[subscription.into(), masters.into()],
        )?;
        for row in table {
            let master = row.get::<String>(1)?.unwrap_or_default();
            vacated.entry(master).or_default().extend(original(&row, "original_start", "original_start_date")?);
        }
        for event in &mut events {
            event.vacated = vacated.remove(&event.event_id).unwrap_or_default();
        }
        Ok(events)
    })
}

fn read_stored(row: &SpiHeapTupleData) -> Result<Stored, Error> {
    let broken = |what: &str| Error::Internal(format!("a stored event has a broken {what}"));
    let instant = |column: &str| -> Result<Option<DateTime<Utc>>, Error> {
        Ok(row.get_by_name::<TimestampWithTimeZone, _>(column)?.and_then(time::instant))
    };
    let times = Times {
        starts_at: instant("starts_at")?,
        ends_at: instant("ends_at")?,
        start_date: date(row, "start_date")?,
        end_date: date(row, "end_date")?,
        time_zone: row.get_by_name("time_zone")?,
    };
    let of = row
        .get_by_name::<String, _>("recurring_event_id")?
        .zip(original(row, "original_start", "original_start_date")?)
        .map(|(master, original)| OccurrenceOf { master, original });
    let kind = RowKind::from_label(&row.get_by_name::<String, _>("kind")?.unwrap_or_default())
        .and_then(|kind| row::kind(kind, times, row.get_by_name("recurrence").ok().flatten(), of))
        .ok_or_else(|| broken("kind"))?;
    Ok(Stored {
        event_id: row.get_by_name("event_id")?.unwrap_or_default(),
        busy_status: BusyStatus::from_label(&row.get_by_name::<String, _>("busy_status")?.unwrap_or_default())
            .ok_or_else(|| broken("busy status"))?,
        kind,
        vacated: Vec::new(),
    })
}

fn original(row: &SpiHeapTupleData, at: &str, on: &str) -> Result<Option<OriginalStart>, Error> {
    let at = row.get_by_name::<TimestampWithTimeZone, _>(at)?.and_then(time::instant);
    Ok(row::original_start(at, date(row, on)?))
}

fn date(row: &SpiHeapTupleData, column: &str) -> Result<Option<NaiveDate>, Error> {
    Ok(row
        .get_by_name::<Date, _>(column)?
        .and_then(|date| NaiveDate::from_ymd_opt(date.year(), u32::from(date.month()), u32::from(date.day()))))
}

/// Occurrences of many events, column by column, as SQL takes them.
#[derive(Default)]
pub(super) struct Expanded {
    pub event_ids: Vec<String>,
    pub starts: Vec<TimestampWithTimeZone>,
    pub ends: Vec<TimestampWithTimeZone>,
    pub statuses: Vec<String>,
    /// (event, why its rule could not be expanded)
    problems: Vec<(String, String)>,
}

fn expand(subscription: &Subscription, events: &[Stored], window: Interval) -> Result<Expanded, Error> {
    let zone = subscription.zone()?;
    let mut expanded = Expanded::default();
    for event in events {
        let expansion = occurrences(&event.kind, &event.vacated, window, zone);
        for interval in expansion.intervals {
            expanded.event_ids.push(event.event_id.clone());
            expanded.starts.push(time::timestamp(interval.start())?);
            expanded.ends.push(time::timestamp(interval.end())?);
            expanded.statuses.push(event.busy_status.label().to_owned());
        }
        expanded.problems.extend(expansion.problem.map(|problem| (event.event_id.clone(), problem)));
    }
    Ok(expanded)
}

pub(super) const FRESH: &str = "unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[]::calsync.busy_status[]) \
     AS fresh (event_id, starts_at, ends_at, busy_status)";

/// Makes these events' occurrences what was expanded, writing only what differs.
///
/// NOT IN, because Postgres hashes it whatever it thinks of the arrays' length; NOT EXISTS would be planned as a loop over
/// all pairs. Nothing here is null.
fn replace(subscription: &Subscription, ids: &[String], fresh: &Expanded, hull: &mut Hull) -> Result<(), Error> {
    Spi::connect_mut(|client| -> Result<(), Error> {
        let sql = format!(
            "WITH gone AS ( \
                 DELETE FROM calsync.occurrence AS o \
                 WHERE o.subscription_id = $1 AND o.event_id = ANY ($6) \
                     AND (o.event_id, o.starts_at, o.ends_at, o.busy_status) NOT IN ( \
                         SELECT fresh.event_id, fresh.starts_at, fresh.ends_at, fresh.busy_status FROM {FRESH}) \
                 RETURNING o.starts_at, o.ends_at) \
             SELECT min(starts_at), max(ends_at) FROM gone"
        );
        let table = client.update(
            &sql,
            None,
            &[
                subscription.id.into(),
                fresh.event_ids.clone().into(),
                fresh.starts.clone().into(),
                fresh.ends.clone().into(),
                fresh.statuses.clone().into(),
                ids.to_vec().into(),
            ],
        )?;
        hull.extend(table)
    })?;
    add(subscription, fresh, hull)
}

/// Adds occurrences that are not there yet, and flags events whose rule cannot be expanded.
fn add(subscription: &Subscription, fresh: &Expanded, hull: &mut Hull) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        let sql = format!(
            "WITH come AS ( \
                 INSERT INTO calsync.occurrence (subscription_id, event_id, starts_at, ends_at, busy_status) \
                 SELECT $1, fresh.event_id, fresh.starts_at, fresh.ends_at, fresh.busy_status FROM {FRESH} \
                 ON CONFLICT DO NOTHING \
                 RETURNING starts_at, ends_at) \
             SELECT min(starts_at), max(ends_at) FROM come"
        );
        let table = client.update(
            &sql,
            None,
            &[
                subscription.id.into(),
                fresh.event_ids.clone().into(),
                fresh.starts.clone().into(),
                fresh.ends.clone().into(),
                fresh.statuses.clone().into(),
            ],
        )?;
        hull.extend(table)?;
        for (event_id, problem) in &fresh.problems {
            client.update(
                "UPDATE calsync.event SET problem = $3 \
                 WHERE subscription_id = $1 AND event_id = $2 AND problem IS DISTINCT FROM $3",
                None,
                &[subscription.id.into(), event_id.as_str().into(), problem.as_str().into()],
            )?;
        }
        Ok(())
    })
}

/// Expands a strip beside the covered window.
fn extend(subscription: &Subscription, strip: Interval, hull: &mut Hull) -> Result<(), Error> {
    // A day of slack on either side: all-day events are read in the calendar's zone, which may lie 14 hours off.
    let ids = Spi::connect(|client| -> Result<Vec<String>, Error> {
        let table = client.select(
            "SELECT event_id FROM calsync.event \
             WHERE subscription_id = $1 AND (kind = 'master' OR (starts_at < $3 AND ends_at > $2) \
                 OR (start_date <= ($3 AT TIME ZONE 'UTC')::date + 1 AND end_date >= ($2 AT TIME ZONE 'UTC')::date - 1))",
            None,
            &[subscription.id.into(), time::timestamp(strip.start())?.into(), time::timestamp(strip.end())?.into()],
        )?;
        table.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect()
    })?;
    for chunk in ids.chunks(CHUNK) {
        let events = load(subscription.id, "e.event_id = ANY ($2)", chunk.to_vec().into())?;
        add(subscription, &expand(subscription, &events, strip)?, hull)?;
    }
    Ok(())
}

/// What recurs too often to be expanded takes all its time in the window, which a strip of the window cannot tell.
fn expand_flagged(subscription: &Subscription, window: Interval, hull: &mut Hull) -> Result<(), Error> {
    let flagged = "e.kind = $2 AND e.problem IS NOT NULL";
    for event in load(subscription.id, flagged, "master".into())? {
        let expanded = expand(subscription, std::slice::from_ref(&event), window)?;
        replace(subscription, &[event.event_id], &expanded, hull)?;
    }
    Ok(())
}

/// The occurrences that these events should have in the covered window: the same that the writer would store.
pub(super) fn fresh(subscription: &Subscription, ids: &[String]) -> Result<Expanded, Error> {
    match subscription.covered.and_then(|(from, to)| Interval::new(from, to)) {
        Some(covered) => {
            let events = load(subscription.id, "e.event_id = ANY ($2)", ids.to_vec().into())?;
            expand(subscription, &events, covered)
        }
        None => Ok(Expanded::default()),
    }
}

/// Those of these masters that have no occurrence after `before`, whatever the window.
pub(super) fn over(subscription: &Subscription, ids: &[String], before: DateTime<Utc>) -> Result<Vec<String>, Error> {
    let zone = subscription.zone()?;
    let events = load(subscription.id, "e.event_id = ANY ($2)", ids.to_vec().into())?;
    let over = events.into_iter().filter(|event| series_is_over(&event.kind, before, zone));
    Ok(over.map(|event| event.event_id).collect())
}

/// Drops occurrences that ended before the window.
fn trim(subscription: i64, from: DateTime<Utc>, hull: &mut Hull) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        let table = client.update(
            "WITH gone AS ( \
                 DELETE FROM calsync.occurrence WHERE subscription_id = $1 AND starts_at < $2 AND ends_at <= $2 \
                 RETURNING starts_at, ends_at) \
             SELECT min(starts_at), max(ends_at) FROM gone",
            None,
            &[subscription.into(), time::timestamp(from)?.into()],
        )?;
        hull.extend(table)
    })
}
