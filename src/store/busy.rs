//! Busy time: occurrences cut into disjoint pieces, renewed where occurrences changed.

use super::plan::{Plan, Row, forgetting, in_batches};
use super::time::{Micros, timestamp_of};
use crate::error::Error;
use calsync_core::busy::BusyStatus;
use calsync_core::interval::{Interval, Segment, segments};
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};

/// Occurrences fetched, and cut into pieces, at once: what bounds memory.
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
    each_stretch(subscription, from, from, to, |pieces, from, to| write(subscription, pieces, from, to))
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
    let before = from.saturating_sub(1);
    each_stretch(subscription, before, from, to, |pieces, from, to| write(subscription, pieces, from, to))
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
    fn of(segments: &[Segment<Micros>]) -> Result<Self, Error> {
        let mut pieces = Pieces::default();
        for segment in segments {
            pieces.starts.push(timestamp_of(segment.interval.start())?);
            pieces.ends.push(timestamp_of(segment.interval.end())?);
            pieces.statuses.push(segment.statuses.bits());
        }
        Ok(pieces)
    }

    /// $1 to $6: all that end after `from` and up to `to`.
    pub fn arguments(self, subscription: i64, from: Micros, to: Micros) -> Result<[DatumWithOid<'static>; 6], Error> {
        Ok([
            subscription.into(),
            self.starts.into(),
            self.ends.into(),
            self.statuses.into(),
            timestamp_of(from)?.into(),
            timestamp_of(to)?.into(),
        ])
    }
}

/// Hands the pieces that all occurrences of a calendar make to `with`, with from when to when they end.
pub(super) fn each_fresh(
    subscription: i64,
    with: impl FnMut(Pieces, Micros, Micros) -> Result<(), Error>,
) -> Result<(), Error> {
    let (from, to) = whole(subscription)?;
    each_stretch(subscription, from.saturating_sub(1), from, to, with)
}

/// Cuts the occurrences that start in this window into pieces, and hands them to `with` stretch by stretch; the first
/// stretch begins after `before`.
fn each_stretch(
    subscription: i64,
    before: Micros,
    from: Micros,
    to: Micros,
    with: impl FnMut(Pieces, Micros, Micros) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut run = Run { done_to: before, occurrences: Vec::new(), with };
    let arguments = [subscription.into(), timestamp_of(from)?.into(), timestamp_of(to)?.into()];
    in_batches(OCCURRENCES, &arguments, BATCH, |rows| {
        rows.iter().filter_map(occurrence).try_for_each(|(interval, status)| run.add(interval, status))
    })?;
    run.end(to)
}

fn occurrence(row: &Row) -> Option<(Interval<Micros>, BusyStatus)> {
    let micros = |column| row.get::<TimestampWithTimeZone>(column).map(Micros::from);
    let interval = micros(1).zip(micros(2)).and_then(|(start, end)| Interval::new(start, end));
    interval.zip(row.get::<&str>(3).and_then(BusyStatus::from_label))
}

const OCCURRENCES: &str = "SELECT starts_at, ends_at, busy_status::text FROM calsync.occurrence \
     WHERE subscription_id = $1 AND starts_at >= $2 AND starts_at < $3 ORDER BY starts_at";

/// Occurrences in order of their start, cut into pieces whenever there are many: memory holds no more than those, also
/// where they overlap without end.
struct Run<W> {
    /// Pieces that end up to here are done.
    done_to: Micros,
    occurrences: Vec<(Interval<Micros>, BusyStatus)>,
    with: W,
}

impl<W: FnMut(Pieces, Micros, Micros) -> Result<(), Error>> Run<W> {
    fn add(&mut self, interval: Interval<Micros>, status: BusyStatus) -> Result<(), Error> {
        if self.occurrences.len() >= BATCH {
            self.cut(interval.start())?;
        }
        self.occurrences.push((interval, status));
        Ok(())
    }

    /// Hands over the pieces that end before `start`: one that ends there may go on. What is left is put back as pieces,
    /// which are few: nothing starts later, so that they end where one of the statuses does.
    fn cut(&mut self, start: Micros) -> Result<(), Error> {
        let segments = segments(std::mem::take(&mut self.occurrences));
        let (done, left) = segments.split_at(segments.partition_point(|segment| segment.interval.end() < start));
        let to = match (left.first(), done.last()) {
            (Some(next), _) => next.interval.start(),
            (None, Some(last)) => last.interval.end(),
            (None, None) => return Ok(()),
        };
        self.occurrences = left
            .iter()
            .flat_map(|segment| {
                let holds = BusyStatus::ALL.into_iter().filter(|status| segment.statuses.contains(*status));
                holds.map(|status| (segment.interval, status))
            })
            .collect();
        self.hand_over(done, to)
    }

    fn end(mut self, to: Micros) -> Result<(), Error> {
        let segments = segments(std::mem::take(&mut self.occurrences));
        self.hand_over(&segments, to)
    }

    fn hand_over(&mut self, segments: &[Segment<Micros>], to: Micros) -> Result<(), Error> {
        (self.with)(Pieces::of(segments)?, self.done_to, to)?;
        self.done_to = to;
        Ok(())
    }
}

/// Makes the pieces that end after `from`, up to `to`, these, writing only what differs.
fn write(subscription: i64, pieces: Pieces, from: Micros, to: Micros) -> Result<(), Error> {
    forgetting(|| {
        let arguments = pieces.arguments(subscription, from, to)?;
        REMOVE.run(&arguments)?;
        ADD.run(&arguments[..4])
    })
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
