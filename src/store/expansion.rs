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
use pgrx::datum::{Date, DatumWithOid, TimestampWithTimeZone};
use pgrx::prelude::*;

use super::busy::{self, Hull};
use super::plan::{Plan, Row, in_batches};
use super::subscription::Subscription;
use super::time;
use crate::error::Error;
use crate::settings;

/// Events handled by one statement: what bounds memory.
pub(super) const CHUNK: usize = 500;

/// The window is expanded this much further than the horizon asks for, so that it need not slide every minute.
pub const MARGIN: TimeDelta = TimeDelta::days(7);

/// Events whose occurrences may have changed.
#[derive(Debug)]
pub enum Touched {
    /// All events of a calendar that has no occurrences yet.
    AllOfANewCalendar,
    /// All events, and these, which may be gone.
    AllAnd(BTreeSet<String>),
    Only(BTreeSet<String>),
}

impl Touched {
    pub fn add(&mut self, event_id: String) {
        match self {
            Self::AllOfANewCalendar => {}
            Self::AllAnd(events) | Self::Only(events) => {
                events.insert(event_id);
            }
        }
    }
}

/// Expands what was touched, slides the window to where the settings want it, and renews busy time.
pub fn renew(subscription: &mut Subscription, touched: Touched) -> Result<(), Error> {
    let mut hull = Hull::default();
    let window = match subscription.covered.and_then(|(from, to)| Interval::new(from, to)) {
        Some(covered) => covered,
        None => wanted_window(subscription)?,
    };
    match touched {
        Touched::AllOfANewCalendar => {
            each_event(subscription.id, ALL, &[subscription.id.into()], |events| {
                let fresh = expand(subscription, events, window)?;
                INSERT.run(&fresh.arguments(subscription))?;
                hull.widen(fresh.reach);
                flag(subscription, &fresh)
            })?;
        }
        Touched::AllAnd(events) => {
            replace_touched(subscription, events, window, &mut hull)?;
            each_event(subscription.id, ALL, &[subscription.id.into()], |events| {
                let ids = events.iter().map(|event| event.event_id.clone()).collect();
                replace(subscription, ids, &expand(subscription, events, window)?, &mut hull)
            })?;
        }
        Touched::Only(events) => replace_touched(subscription, events, window, &mut hull)?,
    }
    set_covered(subscription, window)?;
    slide_into(subscription, &mut hull)?;
    busy::renew(subscription.id, hull)
}

/// What was touched may be gone; then its occurrences go, too.
fn replace_touched(
    subscription: &Subscription,
    events: BTreeSet<String>,
    window: Interval,
    hull: &mut Hull,
) -> Result<(), Error> {
    let ids: Vec<String> = events.into_iter().collect();
    for chunk in ids.chunks(CHUNK) {
        let events = load(subscription.id, chunk.to_vec())?;
        replace(subscription, chunk.to_vec(), &expand(subscription, &events, window)?, hull)?;
    }
    Ok(())
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

/// What expansion needs of `e`, for [`read_stored`].
macro_rules! stored_columns {
    () => {
        "e.event_id, e.kind, e.busy_status::text, e.starts_at, e.ends_at, e.start_date, e.end_date, e.time_zone, \
         e.recurrence, e.recurring_event_id, e.original_start, e.original_start_date"
    };
}

static LOAD: Plan = Plan::writing(concat!(
    "SELECT ",
    stored_columns!(),
    " FROM calsync.event AS e WHERE e.subscription_id = $1 AND e.event_id = ANY ($2)"
));

const ALL: &str = concat!("SELECT ", stored_columns!(), " FROM calsync.event AS e WHERE e.subscription_id = $1");

static VACATED: Plan = Plan::writing(
    "SELECT recurring_event_id, original_start, original_start_date FROM calsync.event \
     WHERE subscription_id = $1 AND recurring_event_id = ANY ($2)",
);

/// The events of these ids, as many as there are.
fn load(subscription: i64, ids: Vec<String>) -> Result<Vec<Stored>, Error> {
    let mut events = LOAD.each(&[subscription.into(), ids.into()], read_stored)?;
    find_vacated(subscription, &mut events)?;
    Ok(events)
}

/// The events of a calendar that `sql` finds, so many at a time.
fn each_event(
    subscription: i64,
    sql: &str,
    arguments: &[DatumWithOid],
    mut with: impl FnMut(&[Stored]) -> Result<(), Error>,
) -> Result<(), Error> {
    in_batches(sql, arguments, CHUNK, |rows| {
        let mut events = rows.iter().map(read_stored).collect::<Result<Vec<Stored>, Error>>()?;
        find_vacated(subscription, &mut events)?;
        with(&events)
    })
}

fn find_vacated(subscription: i64, events: &mut [Stored]) -> Result<(), Error> {
    let masters: Vec<String> = events
        .iter()
        .filter(|event| matches!(event.kind, calsync_core::event::Kind::Master { .. }))
        .map(|event| event.event_id.clone())
        .collect();
    if masters.is_empty() {
        return Ok(());
    }
    let found = VACATED.each(&[subscription.into(), masters.into()], |row| {
        Ok((row.get::<String>(1).unwrap_or_default(), original(row, 2, 3)))
    })?;
    let mut vacated: HashMap<String, Vec<OriginalStart>> = HashMap::new();
    for (master, original) in found {
        vacated.entry(master).or_default().extend(original);
    }
    for event in events {
        event.vacated = vacated.remove(&event.event_id).unwrap_or_default();
    }
    Ok(())
}

fn read_stored(row: &Row) -> Result<Stored, Error> {
    let broken = |what: &str| Error::Internal(format!("a stored event has a broken {what}"));
    let instant = |column| row.get::<TimestampWithTimeZone>(column).and_then(time::instant);
    let times = Times {
        starts_at: instant(4),
        ends_at: instant(5),
        start_date: date(row, 6),
        end_date: date(row, 7),
        time_zone: row.get(8),
    };
    let of =
        row.get::<String>(10).zip(original(row, 11, 12)).map(|(master, original)| OccurrenceOf { master, original });
    let kind = RowKind::from_label(row.get::<&str>(2).unwrap_or_default())
        .and_then(|kind| row::kind(kind, times, row.get(9), of))
        .ok_or_else(|| broken("kind"))?;
    Ok(Stored {
        event_id: row.get(1).unwrap_or_default(),
        busy_status: BusyStatus::from_label(row.get::<&str>(3).unwrap_or_default())
            .ok_or_else(|| broken("busy status"))?,
        kind,
        vacated: Vec::new(),
    })
}

fn original(row: &Row, at: i32, on: i32) -> Option<OriginalStart> {
    let at = row.get::<TimestampWithTimeZone>(at).and_then(time::instant);
    row::original_start(at, date(row, on))
}

fn date(row: &Row, column: i32) -> Option<NaiveDate> {
    let date = row.get::<Date>(column)?;
    NaiveDate::from_ymd_opt(date.year(), u32::from(date.month()), u32::from(date.day()))
}

/// Occurrences of many events, column by column, as SQL takes them.
#[derive(Default)]
pub(super) struct Expanded {
    pub event_ids: Vec<String>,
    pub starts: Vec<TimestampWithTimeZone>,
    pub ends: Vec<TimestampWithTimeZone>,
    pub statuses: Vec<&'static str>,
    /// The window that holds them all.
    reach: Hull,
    /// (event, why its rule could not be expanded)
    problems: Vec<(String, String)>,
}

fn expand(subscription: &Subscription, events: &[Stored], window: Interval) -> Result<Expanded, Error> {
    let zone = subscription.zone()?;
    let store = subscription.options()?.store;
    let mut expanded = Expanded::default();
    for event in events {
        let expansion = occurrences(&event.kind, &event.vacated, window, zone);
        for interval in expansion.intervals {
            expanded.event_ids.push(event.event_id.clone());
            expanded.starts.push(time::timestamp(interval.start())?);
            expanded.ends.push(time::timestamp(interval.end())?);
            expanded.statuses.push(event.busy_status.label());
            expanded.reach.include(time::micros(interval.start()), time::micros(interval.end()));
        }
        expanded.problems.extend(expansion.problem.map(|problem| (event.event_id.clone(), problem.kept(store))));
    }
    Ok(expanded)
}

/// The arguments $2 to $5.
macro_rules! fresh {
    () => {
        "unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[]) \
         AS fresh (event_id, starts_at, ends_at, busy_status)"
    };
}

/// What is expanded, given as the arguments $2 to $5, as rows to select from.
pub(super) const FRESH_ROWS: &str = concat!("(SELECT * FROM ", fresh!(), ")");

impl Expanded {
    fn arguments(&self, subscription: &Subscription) -> Vec<DatumWithOid<'_>> {
        vec![
            subscription.id.into(),
            self.event_ids.clone().into(),
            self.starts.clone().into(),
            self.ends.clone().into(),
            self.statuses.clone().into(),
        ]
    }
}

// NOT IN, because Postgres hashes it whatever it thinks of the arrays' length; NOT EXISTS would be planned as a loop
// over all pairs. Nothing here is null.
static REMOVE: Plan = Plan::writing(concat!(
    "WITH gone AS ( \
         DELETE FROM calsync.occurrence AS o \
         WHERE o.subscription_id = $1 AND o.event_id = ANY ($6) \
             AND (o.event_id, o.starts_at, o.ends_at, o.busy_status) NOT IN ( \
                 SELECT fresh.event_id, fresh.starts_at, fresh.ends_at, fresh.busy_status::calsync.busy_status FROM ",
    fresh!(),
    ") RETURNING o.starts_at, o.ends_at) \
     SELECT min(starts_at), max(ends_at) FROM gone"
));

/// Makes these events' occurrences what was expanded, writing only what differs.
fn replace(subscription: &Subscription, ids: Vec<String>, fresh: &Expanded, hull: &mut Hull) -> Result<(), Error> {
    let mut arguments = fresh.arguments(subscription);
    arguments.push(ids.into());
    REMOVE.first(&arguments, |row| hull.extend(row))?;
    add(subscription, fresh, hull)
}

macro_rules! insert {
    () => {
        concat!(
            "INSERT INTO calsync.occurrence (subscription_id, event_id, starts_at, ends_at, busy_status) \
             SELECT $1, fresh.event_id, fresh.starts_at, fresh.ends_at, fresh.busy_status::calsync.busy_status FROM ",
            fresh!(),
            " ON CONFLICT DO NOTHING"
        )
    };
}

/// Where there are none yet, and all that comes is new.
static INSERT: Plan = Plan::writing(insert!());

static ADD: Plan = Plan::writing(concat!(
    "WITH come AS (",
    insert!(),
    " RETURNING starts_at, ends_at) \
     SELECT min(starts_at), max(ends_at) FROM come"
));

static FLAG: Plan = Plan::writing(
    "UPDATE calsync.event SET problem = $3 \
     WHERE subscription_id = $1 AND event_id = $2 AND problem IS DISTINCT FROM $3",
);

/// Adds occurrences that are not there yet, and flags events whose rule cannot be expanded.
fn add(subscription: &Subscription, fresh: &Expanded, hull: &mut Hull) -> Result<(), Error> {
    if !fresh.event_ids.is_empty() {
        ADD.first(&fresh.arguments(subscription), |row| hull.extend(row))?;
    }
    flag(subscription, fresh)
}

fn flag(subscription: &Subscription, fresh: &Expanded) -> Result<(), Error> {
    fresh.problems.iter().try_for_each(|(event_id, problem)| {
        FLAG.run(&[subscription.id.into(), event_id.as_str().into(), problem.as_str().into()])
    })
}

// A day of slack on either side: all-day events are read in the calendar's zone, which may lie 14 hours off.
const NEAR: &str = concat!(
    "SELECT ",
    stored_columns!(),
    " FROM calsync.event AS e \
     WHERE e.subscription_id = $1 AND (e.kind = 'master' OR (e.starts_at < $3 AND e.ends_at > $2) \
         OR (e.start_date <= ($3 AT TIME ZONE 'UTC')::date + 1 AND e.end_date >= ($2 AT TIME ZONE 'UTC')::date - 1))"
);

/// Expands a strip beside the covered window.
fn extend(subscription: &Subscription, strip: Interval, hull: &mut Hull) -> Result<(), Error> {
    let arguments =
        [subscription.id.into(), time::timestamp(strip.start())?.into(), time::timestamp(strip.end())?.into()];
    each_event(subscription.id, NEAR, &arguments, |events| {
        add(subscription, &expand(subscription, events, strip)?, hull)
    })
}

const FLAGGED: &str = concat!(
    "SELECT ",
    stored_columns!(),
    " FROM calsync.event AS e WHERE e.subscription_id = $1 AND e.problem IS NOT NULL AND e.kind = 'master'"
);

/// What recurs too often to be expanded takes all its time in the window, which a strip of the window cannot tell.
fn expand_flagged(subscription: &Subscription, window: Interval, hull: &mut Hull) -> Result<(), Error> {
    each_event(subscription.id, FLAGGED, &[subscription.id.into()], |events| {
        let ids = events.iter().map(|event| event.event_id.clone()).collect();
        replace(subscription, ids, &expand(subscription, events, window)?, hull)
    })
}

/// The occurrences that these events should have in the covered window: the same that the writer would store.
pub(super) fn fresh(subscription: &Subscription, ids: &[String]) -> Result<Expanded, Error> {
    match subscription.covered.and_then(|(from, to)| Interval::new(from, to)) {
        Some(covered) => expand(subscription, &load(subscription.id, ids.to_vec())?, covered),
        None => Ok(Expanded::default()),
    }
}

/// Those of these masters that have no occurrence after `before`, whatever the window.
pub(super) fn over(subscription: &Subscription, ids: &[String], before: DateTime<Utc>) -> Result<Vec<String>, Error> {
    let zone = subscription.zone()?;
    let events = load(subscription.id, ids.to_vec())?;
    let over = events.into_iter().filter(|event| series_is_over(&event.kind, before, zone));
    Ok(over.map(|event| event.event_id).collect())
}

static TRIM: Plan = Plan::writing(
    "WITH gone AS ( \
         DELETE FROM calsync.occurrence WHERE subscription_id = $1 AND starts_at < $2 AND ends_at <= $2 \
         RETURNING starts_at, ends_at) \
     SELECT min(starts_at), max(ends_at) FROM gone",
);

/// Drops occurrences that ended before the window.
fn trim(subscription: i64, from: DateTime<Utc>, hull: &mut Hull) -> Result<(), Error> {
    TRIM.first(&[subscription.into(), time::timestamp(from)?.into()], |row| hull.extend(row)).map(drop)
}
