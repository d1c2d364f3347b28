//! Events column by column, as SQL takes many rows in one statement.
//!
//! One array a column, `unnest`ed together: no text form is made and read again but where the column's type has none of
//! its own here. A column that is null in all rows is an empty array, which `unnest` pads with nulls.

use calsync_core::row::{EventRow, RowChange};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use pgrx::datum::{Date, DatumWithOid, TimestampWithTimeZone};
use pgrx::prelude::*;

use super::time;
use crate::error::Error;

/// The columns of `calsync.event` but its subscription, in the order that everything here uses.
macro_rules! event_columns {
    () => {
        "event_id, kind, status, busy_status, starts_at, ends_at, start_date, end_date, time_zone, recurrence, \
         recurring_event_id, original_start, original_start_date, ical_uid, etag, sequence, summary, description, \
         location, transparency, visibility, event_type, response_status, provider_updated_at, problem, raw"
    };
}

/// The same, out of the arguments $2 to $28, as rows of `given`, which also has `deleted`.
macro_rules! given_rows {
    () => {
        "(SELECT g.event_id, g.kind, g.status, g.busy_status::calsync.busy_status AS busy_status, g.starts_at, \
              g.ends_at, g.start_date, g.end_date, g.time_zone, \
              CASE WHEN g.recurrence IS NOT NULL \
                   THEN ARRAY(SELECT jsonb_array_elements_text(g.recurrence::jsonb)) END AS recurrence, \
              g.recurring_event_id, g.original_start, g.original_start_date, g.ical_uid, g.etag, g.sequence, \
              g.summary, g.description, g.location, g.transparency, g.visibility, g.event_type, g.response_status, \
              g.provider_updated_at, g.problem, g.raw::jsonb AS raw, g.deleted \
          FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[], \
              $8::date[], $9::date[], $10::text[], $11::text[], $12::text[], $13::timestamptz[], $14::date[], \
              $15::text[], $16::text[], $17::integer[], $18::text[], $19::text[], $20::text[], $21::text[], \
              $22::text[], $23::text[], $24::text[], $25::timestamptz[], $26::text[], $27::text[], $28::boolean[]) \
              AS g (event_id, kind, status, busy_status, starts_at, ends_at, start_date, end_date, time_zone, \
                  recurrence, recurring_event_id, original_start, original_start_date, ical_uid, etag, sequence, \
                  summary, description, location, transparency, visibility, event_type, response_status, \
                  provider_updated_at, problem, raw, deleted)) AS given"
    };
}

/// The columns that an INSERT could not insert, for its DO UPDATE.
macro_rules! excluded_columns {
    () => {
        "excluded.event_id, excluded.kind, excluded.status, excluded.busy_status, excluded.starts_at, \
         excluded.ends_at, excluded.start_date, excluded.end_date, excluded.time_zone, excluded.recurrence, \
         excluded.recurring_event_id, excluded.original_start, excluded.original_start_date, excluded.ical_uid, \
         excluded.etag, excluded.sequence, excluded.summary, excluded.description, excluded.location, \
         excluded.transparency, excluded.visibility, excluded.event_type, excluded.response_status, \
         excluded.provider_updated_at, excluded.problem, excluded.raw"
    };
}

/// The columns of the row that was in the way of an INSERT INTO … AS e.
macro_rules! stored_columns {
    () => {
        "e.event_id, e.kind, e.status, e.busy_status, e.starts_at, \
         e.ends_at, e.start_date, e.end_date, e.time_zone, e.recurrence, \
         e.recurring_event_id, e.original_start, e.original_start_date, e.ical_uid, \
         e.etag, e.sequence, e.summary, e.description, e.location, \
         e.transparency, e.visibility, e.event_type, e.response_status, \
         e.provider_updated_at, e.problem, e.raw"
    };
}

pub(super) use {event_columns, excluded_columns, given_rows, stored_columns};

/// The arguments $2 to $28, for these changes.
pub fn arguments<'a>(changes: &[&'a RowChange]) -> Result<Vec<DatumWithOid<'a>>, Error> {
    let all = Columns { changes };
    let ids: Vec<&str> = changes.iter().map(|change| event_id(change)).collect();
    let deleted: Vec<bool> = changes.iter().map(|change| matches!(change, RowChange::Delete { .. })).collect();
    Ok(vec![
        ids.into(),
        all.text(|row| Some(row.kind.label())),
        all.text(|row| Some(&row.details.status)),
        all.text(|row| Some(row.busy_status.label())),
        all.time(|row| row.starts_at)?,
        all.time(|row| row.ends_at)?,
        all.date(|row| row.start_date)?,
        all.date(|row| row.end_date)?,
        all.text(|row| row.time_zone.as_deref()),
        all.json(|row| row.recurrence.as_ref())?,
        all.text(|row| row.recurring_event_id.as_deref()),
        all.time(|row| row.original_start)?,
        all.date(|row| row.original_start_date)?,
        all.text(|row| row.details.ical_uid.as_deref()),
        all.text(|row| row.details.etag.as_deref()),
        all.array(|row| Ok(row.details.sequence))?,
        all.text(|row| row.details.summary.as_deref()),
        all.text(|row| row.details.description.as_deref()),
        all.text(|row| row.details.location.as_deref()),
        all.text(|row| row.details.transparency.as_deref()),
        all.text(|row| row.details.visibility.as_deref()),
        all.text(|row| row.details.event_type.as_deref()),
        all.text(|row| row.details.response_status.as_deref()),
        all.time(|row| row.details.provider_updated_at)?,
        all.text(|row| row.problem.as_deref()),
        all.json(|row| row.details.raw.as_ref())?,
        deleted.into(),
    ])
}

pub fn event_id(change: &RowChange) -> &str {
    match change {
        RowChange::Put(row) => &row.event_id,
        RowChange::Delete { event_id } => event_id,
    }
}

struct Columns<'c, 'a> {
    changes: &'c [&'a RowChange],
}

impl<'a> Columns<'_, 'a> {
    /// One value a row, or an empty array where all are null.
    fn array<T>(&self, value: impl Fn(&'a EventRow) -> Result<Option<T>, Error>) -> Result<DatumWithOid<'a>, Error>
    where
        Vec<Option<T>>: IntoDatum,
    {
        let mut all_null = true;
        let mut values = Vec::with_capacity(self.changes.len());
        for change in self.changes {
            let value = match change {
                RowChange::Put(row) => value(row)?,
                RowChange::Delete { .. } => None,
            };
            all_null &= value.is_none();
            values.push(value);
        }
        if all_null {
            values.clear();
        }
        Ok(values.into())
    }

    fn text(&self, value: impl Fn(&'a EventRow) -> Option<&'a str>) -> DatumWithOid<'a> {
        // Cannot fail: the closure does not.
        self.array(|row| Ok(value(row))).unwrap_or_else(|_| Vec::<Option<&str>>::new().into())
    }

    fn time(&self, value: impl Fn(&EventRow) -> Option<DateTime<Utc>>) -> Result<DatumWithOid<'a>, Error> {
        self.array(|row| -> Result<Option<TimestampWithTimeZone>, Error> {
            value(row).map(time::timestamp).transpose()
        })
    }

    fn date(&self, value: impl Fn(&EventRow) -> Option<NaiveDate>) -> Result<DatumWithOid<'a>, Error> {
        self.array(|row| {
            value(row)
                .map(|date| {
                    Date::new(date.year(), date.month() as u8, date.day() as u8)
                        .map_err(|_| Error::Internal(format!("{date} is no date of Postgres'")))
                })
                .transpose()
        })
    }

    /// As JSON text, for what has no array of its own: arrays, and documents.
    fn json<T: serde::Serialize + 'a>(
        &self,
        value: impl Fn(&'a EventRow) -> Option<&'a T>,
    ) -> Result<DatumWithOid<'a>, Error> {
        self.array(|row| {
            value(row)
                .map(|value| serde_json::to_string(value).map_err(|error| Error::Internal(error.to_string())))
                .transpose()
        })
    }
}
