//! Stored events, read back for whoever expands them.

use std::collections::HashMap;

use calsync_core::busy::BusyStatus;
use calsync_core::event::{Kind, OccurrenceOf, OriginalStart};
use calsync_core::row::{self, RowKind, Times};
use chrono::NaiveDate;
use pgrx::datum::{Date, DatumWithOid, TimestampWithTimeZone};

use super::plan::{Plan, Row, in_batches};
use super::time;
use crate::error::Error;

/// Events handled at once.
pub(super) const CHUNK: usize = 500;

/// A stored event, as much of it as expansion needs.
pub(super) struct Stored {
    pub event_id: String,
    pub busy_status: BusyStatus,
    pub kind: Kind,
    /// Occurrences that exceptions and tombstones stand for.
    pub vacated: Vec<OriginalStart>,
}

/// What expansion needs of `e`, for [`each_event`].
macro_rules! expansion_columns {
    () => {
        "e.event_id, e.kind, e.busy_status::text, e.starts_at, e.ends_at, e.start_date, e.end_date, e.time_zone, \
         e.recurrence, e.recurring_event_id, e.original_start, e.original_start_date"
    };
}

pub(super) use expansion_columns;

static LOAD: Plan = Plan::writing(concat!(
    "SELECT ",
    expansion_columns!(),
    " FROM calsync.event AS e WHERE e.subscription_id = $1 AND e.event_id = ANY ($2)"
));

static VACATED: Plan = Plan::writing(
    "SELECT recurring_event_id, original_start, original_start_date FROM calsync.event \
     WHERE subscription_id = $1 AND recurring_event_id = ANY ($2)",
);

/// The events of these ids, as many as there are.
pub(super) fn load(subscription: i64, ids: Vec<String>) -> Result<Vec<Stored>, Error> {
    let mut events = LOAD.each(&[subscription.into(), ids.into()], read_stored)?;
    find_vacated(subscription, &mut events)?;
    Ok(events)
}

/// The events of a calendar that `sql` finds, so many at a time.
pub(super) fn each_event(
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
        .filter(|event| matches!(event.kind, Kind::Master { .. }))
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
