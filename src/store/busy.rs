//! Busy time: occurrences cut into disjoint pieces, renewed where occurrences changed.

use super::plan::{Plan, Row, in_batches};
use super::time::{Micros, timestamp_of};
use crate::error::Error;
use calsync_core::busy::BusyStatus;
use calsync_core::interval::{Interval, segments};
use pgrx::datum::TimestampWithTimeZone;

/// Occurrences fetched, and pieces written, at once: what bounds memory.
const BATCH: usize = 10_000;

/// The smallest window that holds every changed occurrence.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hull(Option<(Micros, Micros)>);

impl Hull {
    /// Widens it by one row (min, max), null where nothing changed.
    pub fn extend(&mut self, row: &Row) -> Result<(), Error> {
        let micros = |column| row.get::<TimestampWithTimeZone>(column).map(Micros::from);
        if let Some((from, to)) = micros(1).zip(micros(2)) {
            self.include(from, to);
        }
        Ok(())
    }

    pub fn include(&mut self, from: Micros, to: Micros) {
        self.0 = Some(self.0.map_or((from, to), |(low, high)| (low.min(from), high.max(to))));
    }

    pub fn widen(&mut self, other: Hull) {
        if let Some((from, to)) = other.0 {
            self.include(from, to);
        }
    }
}

/// Makes `calsync.busy` agree with `calsync.occurrence` within the hull.
///
/// The hull is first widened to gaps: pieces that touch it may merge with new ones, and an occurrence that reaches into
/// the hull begins no earlier than the unbroken run of pieces that it is part of. So an ordered range of occurrences
/// by start is enough, however long some of them are.
pub fn renew(subscription: i64, hull: Hull) -> Result<(), Error> {
    let Some((from, to)) = hull.0 else { return Ok(()) };
    let from = edge(&RUN_START, subscription, from)?;
    let to = edge(&RUN_END, subscription, to)?;
    let mut run = Run { subscription, written_to: from, reaches_to: from, occurrences: Vec::new() };
    let arguments = [subscription.into(), timestamp_of(from)?.into(), timestamp_of(to)?.into()];
    in_batches(OCCURRENCES, &arguments, BATCH, |rows| rows.iter().try_for_each(|row| run.add(row)))?;
    run.write(to)
}

/// Where the unbroken run of pieces that touches $2 begins.
static RUN_START: Plan = Plan::writing(
    "WITH RECURSIVE run (at) AS ( \
         SELECT $2 \
         UNION ALL \
         SELECT piece.starts_at \
         FROM run, LATERAL (SELECT b.starts_at FROM calsync.busy AS b \
                            WHERE b.subscription_id = $1 AND b.ends_at >= run.at ORDER BY b.ends_at LIMIT 1) AS piece \
         WHERE piece.starts_at < run.at) \
     SELECT min(at) FROM run",
);

/// Where it ends.
static RUN_END: Plan = Plan::writing(
    "WITH RECURSIVE run (at) AS ( \
         SELECT $2 \
         UNION ALL \
         SELECT piece.ends_at \
         FROM run, LATERAL (SELECT b.starts_at, b.ends_at FROM calsync.busy AS b \
                            WHERE b.subscription_id = $1 AND b.ends_at > run.at ORDER BY b.ends_at LIMIT 1) AS piece \
         WHERE piece.starts_at <= run.at) \
     SELECT max(at) FROM run",
);

fn edge(run: &Plan, subscription: i64, at: Micros) -> Result<Micros, Error> {
    let found = run.first(&[subscription.into(), timestamp_of(at)?.into()], |row| {
        Ok(row.get::<TimestampWithTimeZone>(1).map(Micros::from))
    })?;
    Ok(found.flatten().unwrap_or(at))
}

/// Makes all of a calendar's pieces anew, whatever there is: what [`renew`] relies on is not relied upon.
pub fn rebuild(subscription: i64) -> Result<(), Error> {
    let (from, to) = whole(subscription)?;
    // Nothing that ends at `from` or before is there, but a piece may be that begins and ends in one moment.
    let mut run = Run { subscription, written_to: from.saturating_sub(1), reaches_to: from, occurrences: Vec::new() };
    let arguments = [subscription.into(), timestamp_of(from)?.into(), timestamp_of(to)?.into()];
    in_batches(OCCURRENCES, &arguments, BATCH, |rows| rows.iter().try_for_each(|row| run.add(row)))?;
    run.write(to)
}

/// The window that holds all of a calendar's occurrences and pieces.
fn whole(subscription: i64) -> Result<(Micros, Micros), Error> {
    let mut hull = Hull::default();
    for table in [&ALL_OCCURRENCES, &ALL_PIECES] {
        table.first(&[subscription.into()], |row| hull.extend(row))?;
    }
    Ok(hull.0.unwrap_or_default())
}

static ALL_OCCURRENCES: Plan =
    Plan::writing("SELECT min(starts_at), max(ends_at) FROM calsync.occurrence WHERE subscription_id = $1");
static ALL_PIECES: Plan =
    Plan::writing("SELECT min(starts_at), max(ends_at) FROM calsync.busy WHERE subscription_id = $1");

/// Pieces, column by column.
#[derive(Default)]
pub(super) struct Pieces {
    pub starts: Vec<TimestampWithTimeZone>,
    pub ends: Vec<TimestampWithTimeZone>,
    pub statuses: Vec<i16>,
}

impl Pieces {
    fn of(occurrences: Vec<(Interval<Micros>, BusyStatus)>) -> Result<Self, Error> {
        let mut pieces = Pieces::default();
        for segment in segments(occurrences) {
            pieces.starts.push(timestamp_of(segment.interval.start())?);
            pieces.ends.push(timestamp_of(segment.interval.end())?);
            pieces.statuses.push(segment.statuses.bits());
        }
        Ok(pieces)
    }
}

/// The pieces that all occurrences of a calendar make.
pub(super) fn fresh(subscription: i64) -> Result<Pieces, Error> {
    let (from, to) = whole(subscription)?;
    let mut occurrences = Vec::new();
    let arguments = [subscription.into(), timestamp_of(from)?.into(), timestamp_of(to)?.into()];
    in_batches(OCCURRENCES, &arguments, BATCH, |rows| {
        occurrences.extend(rows.iter().filter_map(occurrence));
        Ok(())
    })?;
    Pieces::of(occurrences)
}

fn occurrence(row: &Row) -> Option<(Interval<Micros>, BusyStatus)> {
    let micros = |column| row.get::<TimestampWithTimeZone>(column).map(Micros::from);
    let interval = micros(1).zip(micros(2)).and_then(|(start, end)| Interval::new(start, end));
    interval.zip(row.get::<&str>(3).and_then(BusyStatus::from_label))
}

const OCCURRENCES: &str = "SELECT starts_at, ends_at, busy_status::text FROM calsync.occurrence \
     WHERE subscription_id = $1 AND starts_at >= $2 AND starts_at < $3 ORDER BY starts_at";

/// Occurrences in order of their start, cut into pieces and written whenever there are many and a gap comes: memory
/// holds no more than the longest unbroken run.
struct Run {
    subscription: i64,
    /// Pieces that end up to here are written.
    written_to: Micros,
    /// The latest end so far: what starts after it begins a new run.
    reaches_to: Micros,
    occurrences: Vec<(Interval<Micros>, BusyStatus)>,
}

impl Run {
    fn add(&mut self, row: &Row) -> Result<(), Error> {
        let Some((interval, status)) = occurrence(row) else { return Ok(()) };
        if self.occurrences.len() >= BATCH && interval.start() > self.reaches_to {
            self.write(self.reaches_to)?;
        }
        self.reaches_to = self.reaches_to.max(interval.end());
        self.occurrences.push((interval, status));
        Ok(())
    }

    /// Replaces the pieces that end after what is written, up to `to`, writing only what differs.
    fn write(&mut self, to: Micros) -> Result<(), Error> {
        let Pieces { starts, ends, statuses } = Pieces::of(std::mem::take(&mut self.occurrences))?;
        let arguments = [
            self.subscription.into(),
            starts.into(),
            ends.into(),
            statuses.into(),
            timestamp_of(self.written_to)?.into(),
            timestamp_of(to)?.into(),
        ];
        REMOVE.run(&arguments)?;
        ADD.run(&arguments[..4])?;
        self.written_to = to;
        Ok(())
    }
}

static REMOVE: Plan = Plan::writing(
    "DELETE FROM calsync.busy AS b WHERE b.subscription_id = $1 AND b.ends_at > $5 AND b.ends_at <= $6 \
         AND (b.starts_at, b.ends_at, b.statuses) NOT IN ( \
             SELECT fresh.starts_at, fresh.ends_at, fresh.statuses \
             FROM unnest($2::timestamptz[], $3::timestamptz[], $4::smallint[]) AS fresh (starts_at, ends_at, statuses))",
);

static ADD: Plan = Plan::writing(
    "INSERT INTO calsync.busy (subscription_id, starts_at, ends_at, statuses) \
     SELECT $1, fresh.starts_at, fresh.ends_at, fresh.statuses \
     FROM unnest($2::timestamptz[], $3::timestamptz[], $4::smallint[]) AS fresh (starts_at, ends_at, statuses) \
     ON CONFLICT DO NOTHING",
);
