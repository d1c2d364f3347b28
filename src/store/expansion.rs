//! Occurrences: expanded from the stored events, within the covered window, by the core.
//!
//! The covered window is written here and nowhere else, in the transaction that makes it true.

use std::collections::{BTreeSet, HashSet};

use calsync_core::interval::Interval;
use calsync_core::recurrence::most_occurrences_of_a_calendar;
use calsync_core::retention::series_is_over;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use super::busy::{self, Hull};
use super::piece::{Piece, expand, fresh};
use super::plan::{Plan, Row, forgetting};
use super::stored::{CHUNK, Stored, each_event, expansion_columns, load};
use super::subscription::Subscription;
use super::time;
use crate::error::Error;
use crate::settings;

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

/// What a renewal has done so far.
#[derive(Default)]
struct Renewed {
    /// Where occurrences changed.
    hull: Hull,
    /// How many were expanded, changed or not.
    expanded: usize,
    /// How many more are stored now than before, where there were some.
    grown: i64,
}

/// Expands what was touched, slides the window to where the settings want it, and renews busy time.
pub fn renew(subscription: &mut Subscription, touched: Touched) -> Result<(), Error> {
    let mut renewed = Renewed::default();
    let window = match subscription.covered.and_then(|(from, to)| Interval::new(from, to)) {
        Some(covered) => covered,
        None => wanted_window(subscription)?,
    };
    match touched {
        Touched::AllOfANewCalendar => {
            each_event(subscription.id, ALL, &[subscription.id.into()], |events| {
                let problems = expand(subscription, &[], events, window, |piece| {
                    INSERT.run(&piece.arguments(subscription.id)[..5])?;
                    renewed.hull.widen(piece.reach());
                    renewed.count(subscription, piece, window)
                })?;
                flag(subscription, &problems)
            })?;
        }
        Touched::AllAnd(events) => {
            replace_touched(subscription, events, window, &mut renewed)?;
            renewed.expanded = 0;
            each_event(subscription.id, ALL, &[subscription.id.into()], |events| {
                replace(subscription, &[], events, window, &mut renewed)
            })?;
        }
        Touched::Only(events) => replace_touched(subscription, events, window, &mut renewed)?,
    }
    renewed.count_all(subscription, window)?;
    set_covered(subscription, window)?;
    slide_into(subscription, &mut renewed.hull)?;
    busy::renew(subscription.id, renewed.hull)
}

impl Renewed {
    /// Counts before the rest is expanded, which may be without end.
    fn count(&mut self, subscription: &Subscription, piece: &Piece, window: Interval) -> Result<(), Error> {
        self.expanded += piece.len();
        match self.expanded > most_occurrences_of_a_calendar(window) {
            true => Err(too_many(subscription, window)),
            false => Ok(()),
        }
    }

    /// Few more are not worth counting a calendar for; of a new one all were counted.
    fn count_all(&self, subscription: &Subscription, window: Interval) -> Result<(), Error> {
        let most = most_occurrences_of_a_calendar(window);
        let exceeds = |row: &Row| Ok(row.get::<bool>(1).unwrap_or_default());
        let arguments = [subscription.id.into(), i64::try_from(most).unwrap_or(i64::MAX).into()];
        match self.grown >= WORTH_COUNTING && HOLDS_MORE.first(&arguments, exceeds)? == Some(true) {
            true => Err(too_many(subscription, window)),
            false => Ok(()),
        }
    }
}

const WORTH_COUNTING: i64 = 1000;

static HOLDS_MORE: Plan =
    Plan::writing("SELECT EXISTS (SELECT FROM calsync.occurrence AS o WHERE o.subscription_id = $1 OFFSET $2)");

fn too_many(subscription: &Subscription, window: Interval) -> Error {
    let most = most_occurrences_of_a_calendar(window);
    Error::Argument {
        code: PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        message: format!("calendar \"{}\" has more than {most} occurrences", subscription.calendar),
        detail: format!(
            "They are counted in the window that is kept expanded, from {} to {}. The calendar is as it was.",
            window.start().format("%Y-%m-%d"),
            window.end().format("%Y-%m-%d")
        ),
        hint: "Look for series that recur every few minutes: make each one event that lasts, or end it.".to_owned(),
    }
}

/// What was touched may be gone; then its occurrences go, too.
fn replace_touched(
    subscription: &Subscription,
    touched: BTreeSet<String>,
    window: Interval,
    renewed: &mut Renewed,
) -> Result<(), Error> {
    let ids: Vec<String> = touched.into_iter().collect();
    ids.chunks(CHUNK).try_for_each(|chunk| {
        forgetting(|| {
            let events = load(subscription.id, chunk.to_vec())?;
            let there: HashSet<&str> = events.iter().map(|event| event.event_id.as_str()).collect();
            let gone: Vec<String> = chunk.iter().filter(|id| !there.contains(id.as_str())).cloned().collect();
            replace(subscription, &gone, &events, window, renewed)
        })
    })
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

const ALL: &str = concat!("SELECT ", expansion_columns!(), " FROM calsync.event AS e WHERE e.subscription_id = $1");

// NOT IN, because Postgres hashes it whatever it thinks of the arrays' length; NOT EXISTS would be planned as a loop
// over all pairs. Nothing here is null.
macro_rules! remove {
    ($part:literal) => {
        concat!(
            "WITH gone AS ( \
                 DELETE FROM calsync.occurrence AS o \
                 WHERE o.subscription_id = $1 AND o.event_id = ANY ($6)",
            $part,
            " AND (o.event_id, o.starts_at, o.ends_at, o.busy_status) NOT IN ( \
                     SELECT fresh.event_id, fresh.starts_at, fresh.ends_at, fresh.busy_status::calsync.busy_status FROM ",
            fresh!(),
            ") RETURNING o.starts_at, o.ends_at) \
             SELECT min(starts_at), max(ends_at), count(*) FROM gone"
        )
    };
}

static REMOVE: Plan = Plan::writing(remove!(""));

static REMOVE_PART: Plan = Plan::writing(remove!(" AND o.starts_at >= $7 AND o.starts_at < $8"));

/// Makes these events' occurrences what they should be, writing only what differs.
fn replace(
    subscription: &Subscription,
    gone: &[String],
    events: &[Stored],
    window: Interval,
    renewed: &mut Renewed,
) -> Result<(), Error> {
    let problems = expand(subscription, gone, events, window, |piece| {
        renewed.count(subscription, piece, window)?;
        let arguments = piece.arguments(subscription.id);
        let counted = |row: &Row| changed(row, &mut renewed.hull);
        let removed = match piece.is_part() {
            false => REMOVE.first(&arguments[..6], counted)?,
            true => REMOVE_PART.first(&arguments, counted)?,
        };
        renewed.grown += add(piece, &arguments, &mut renewed.hull)? - removed.unwrap_or_default();
        Ok(())
    })?;
    flag(subscription, &problems)
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
     SELECT min(starts_at), max(ends_at), count(*) FROM come"
));

static FLAG: Plan = Plan::writing(
    "UPDATE calsync.event SET problem = $3 \
     WHERE subscription_id = $1 AND event_id = $2 AND problem IS DISTINCT FROM $3",
);

/// Adds a piece's occurrences that are not there yet; returns how many.
fn add(piece: &Piece, arguments: &[DatumWithOid], hull: &mut Hull) -> Result<i64, Error> {
    if piece.is_empty() {
        return Ok(0);
    }
    Ok(ADD.first(&arguments[..5], |row| changed(row, hull))?.unwrap_or_default())
}

/// Of (from, to, how many).
fn changed(row: &Row, hull: &mut Hull) -> Result<i64, Error> {
    hull.extend(row)?;
    Ok(row.get(3).unwrap_or_default())
}

/// Flags events whose rule cannot be expanded.
fn flag(subscription: &Subscription, problems: &[(String, String)]) -> Result<(), Error> {
    problems.iter().try_for_each(|(event_id, problem)| {
        FLAG.run(&[subscription.id.into(), event_id.as_str().into(), problem.as_str().into()])
    })
}

// A day of slack on either side: all-day events are read in the calendar's zone, which may lie 14 hours off.
const NEAR: &str = concat!(
    "SELECT ",
    expansion_columns!(),
    " FROM calsync.event AS e \
     WHERE e.subscription_id = $1 AND (e.kind = 'master' AND e.problem IS NULL OR (e.starts_at < $3 AND e.ends_at > $2) \
         OR (e.start_date <= ($3 AT TIME ZONE 'UTC')::date + 1 AND e.end_date >= ($2 AT TIME ZONE 'UTC')::date - 1))"
);

/// Expands a strip beside the covered window.
fn extend(subscription: &Subscription, strip: Interval, hull: &mut Hull) -> Result<(), Error> {
    let arguments =
        [subscription.id.into(), time::timestamp(strip.start())?.into(), time::timestamp(strip.end())?.into()];
    each_event(subscription.id, NEAR, &arguments, |events| {
        let problems = expand(subscription, &[], events, strip, |piece| {
            add(piece, &piece.arguments(subscription.id), hull).map(drop)
        })?;
        flag(subscription, &problems)
    })
}

const FLAGGED: &str = concat!(
    "SELECT ",
    expansion_columns!(),
    " FROM calsync.event AS e WHERE e.subscription_id = $1 AND e.problem IS NOT NULL AND e.kind = 'master'"
);

/// What recurs too often to be expanded takes all its time in the window, which a strip of the window cannot tell.
fn expand_flagged(subscription: &Subscription, window: Interval, hull: &mut Hull) -> Result<(), Error> {
    let mut renewed = Renewed { hull: *hull, ..Renewed::default() };
    each_event(subscription.id, FLAGGED, &[subscription.id.into()], |events| {
        replace(subscription, &[], events, window, &mut renewed)
    })?;
    *hull = renewed.hull;
    Ok(())
}

/// Hands the occurrences that these events should have in the covered window to `with`, piece by piece: the same that
/// the writer would store.
pub(super) fn each_fresh(
    subscription: &Subscription,
    ids: &[String],
    mut with: impl FnMut(&Piece) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(covered) = subscription.covered.and_then(|(from, to)| Interval::new(from, to)) else {
        return with(&Piece::of(ids));
    };
    forgetting(|| {
        let events = load(subscription.id, ids.to_vec())?;
        expand(subscription, &[], &events, covered, with).map(drop)
    })
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
