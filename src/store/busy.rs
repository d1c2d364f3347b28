//! Busy time: occurrences cut into disjoint pieces, renewed where occurrences changed.

use calsync_core::busy::BusyStatus;
use calsync_core::interval::{Interval, segments};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::spi::SpiTupleTable;

use super::time::{Micros, timestamp_of};
use crate::error::Error;

/// Occurrences fetched at once: what bounds memory beside the intervals themselves.
const BATCH: std::ffi::c_long = 10_000;

/// The smallest window that holds every changed occurrence.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hull(Option<(Micros, Micros)>);

impl Hull {
    /// Widens it by one row (min, max), null where nothing changed.
    pub fn extend(&mut self, table: SpiTupleTable) -> Result<(), Error> {
        let (from, to) = table.first().get_two::<TimestampWithTimeZone, TimestampWithTimeZone>()?;
        if let (Some(from), Some(to)) = (from.map(i64::from), to.map(i64::from)) {
            self.0 = Some(self.0.map_or((from, to), |(low, high)| (low.min(from), high.max(to))));
        }
        Ok(())
    }
}

/// Makes `calsync.busy` agree with `calsync.occurrence` within the hull.
///
/// The hull is first widened to gaps: pieces that touch it may merge with new ones, and an occurrence that reaches into
/// the hull begins no earlier than the unbroken run of pieces that it is part of. So an ordered range of occurrences
/// by start is enough, however long some of them are.
pub fn renew(subscription: i64, hull: Hull) -> Result<(), Error> {
    let Some((from, to)) = hull.0 else { return Ok(()) };
    let from = edge(subscription, from, RUN_START)?;
    let to = edge(subscription, to, RUN_END)?;
    write(subscription, from, to, &pieces(subscription, from, to)?)
}

/// Where the unbroken run of pieces that touches $2 begins.
const RUN_START: &str = "
    WITH RECURSIVE run (at) AS (
        SELECT $2
        UNION ALL
        SELECT piece.starts_at
        FROM run, LATERAL (SELECT b.starts_at FROM calsync.busy AS b
                           WHERE b.subscription_id = $1 AND b.ends_at >= run.at ORDER BY b.ends_at LIMIT 1) AS piece
        WHERE piece.starts_at < run.at)
    SELECT min(at) FROM run";

/// Where it ends.
const RUN_END: &str = "
    WITH RECURSIVE run (at) AS (
        SELECT $2
        UNION ALL
        SELECT piece.ends_at
        FROM run, LATERAL (SELECT b.starts_at, b.ends_at FROM calsync.busy AS b
                           WHERE b.subscription_id = $1 AND b.ends_at > run.at ORDER BY b.ends_at LIMIT 1) AS piece
        WHERE piece.starts_at <= run.at)
    SELECT max(at) FROM run";

fn edge(subscription: i64, at: Micros, sql: &str) -> Result<Micros, Error> {
    Spi::connect(|client| {
        let table = client.select(sql, None, &[subscription.into(), timestamp_of(at)?.into()])?;
        Ok(table.first().get_one::<TimestampWithTimeZone>()?.map_or(at, i64::from))
    })
}

/// The pieces that the occurrences starting in the window make, column by column.
#[derive(Default)]
pub(super) struct Pieces {
    pub starts: Vec<TimestampWithTimeZone>,
    pub ends: Vec<TimestampWithTimeZone>,
    pub statuses: Vec<i16>,
}

/// The whole of a calendar's time: the pieces that its occurrences make, and the hull of those and of what is stored.
pub(super) fn fresh(subscription: i64) -> Result<(Pieces, Micros, Micros), Error> {
    let hull = Spi::connect(|client| -> Result<Hull, Error> {
        let mut hull = Hull::default();
        for table in ["occurrence", "busy"] {
            let sql = format!("SELECT min(starts_at), max(ends_at) FROM calsync.{table} WHERE subscription_id = $1");
            hull.extend(client.select(&sql, None, &[subscription.into()])?)?;
        }
        Ok(hull)
    })?;
    let (from, to) = hull.0.unwrap_or_default();
    Ok((pieces(subscription, from, to)?, from, to))
}

/// Makes all of `calsync.busy` anew, whatever it holds: what [`renew`] relies on is not relied upon.
pub fn rebuild(subscription: i64) -> Result<(), Error> {
    let (fresh, from, to) = fresh(subscription)?;
    write(subscription, from, to, &fresh)
}

fn pieces(subscription: i64, from: Micros, to: Micros) -> Result<Pieces, Error> {
    let mut occurrences: Vec<(Interval<Micros>, BusyStatus)> = Vec::new();
    Spi::connect(|client| -> Result<(), Error> {
        let mut cursor = client.try_open_cursor(
            "SELECT starts_at, ends_at, busy_status::text FROM calsync.occurrence \
             WHERE subscription_id = $1 AND starts_at >= $2 AND starts_at < $3",
            &[subscription.into(), timestamp_of(from)?.into(), timestamp_of(to)?.into()],
        )?;
        loop {
            let table = cursor.fetch(BATCH)?;
            if table.is_empty() {
                return Ok(());
            }
            for row in table {
                let bounds = row.get::<TimestampWithTimeZone>(1)?.zip(row.get::<TimestampWithTimeZone>(2)?);
                let interval = bounds.and_then(|(start, end)| Interval::new(start.into(), end.into()));
                let status = row.get::<String>(3)?.and_then(|label| BusyStatus::from_label(&label));
                occurrences.extend(interval.zip(status));
            }
        }
    })?;
    let mut pieces = Pieces::default();
    for segment in segments(occurrences) {
        pieces.starts.push(timestamp_of(segment.interval.start())?);
        pieces.ends.push(timestamp_of(segment.interval.end())?);
        pieces.statuses.push(segment.statuses.bits());
    }
    Ok(pieces)
}

const FRESH: &str =
    "unnest($4::timestamptz[], $5::timestamptz[], $6::smallint[]) AS fresh (starts_at, ends_at, statuses)";

/// Replaces the pieces of a window that begins and ends in a gap, writing only what differs.
fn write(subscription: i64, from: Micros, to: Micros, fresh: &Pieces) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        let delete = format!(
            "DELETE FROM calsync.busy AS b WHERE b.subscription_id = $1 AND b.ends_at > $2 AND b.ends_at <= $3 \
                 AND (b.starts_at, b.ends_at, b.statuses) NOT IN ( \
                     SELECT fresh.starts_at, fresh.ends_at, fresh.statuses FROM {FRESH})"
        );
        // $2 and $3 are not needed to insert; naming them keeps one list of arguments.
        let insert = format!(
            "INSERT INTO calsync.busy (subscription_id, starts_at, ends_at, statuses) \
             SELECT $1, fresh.starts_at, fresh.ends_at, fresh.statuses FROM {FRESH} \
             WHERE fresh.ends_at > $2::timestamptz AND fresh.ends_at <= $3::timestamptz ON CONFLICT DO NOTHING"
        );
        for sql in [delete, insert] {
            client.update(
                &sql,
                None,
                &[
                    subscription.into(),
                    timestamp_of(from)?.into(),
                    timestamp_of(to)?.into(),
                    fresh.starts.clone().into(),
                    fresh.ends.clone().into(),
                    fresh.statuses.clone().into(),
                ],
            )?;
        }
        Ok(())
    })
}
