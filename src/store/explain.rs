//! What lies in a window or nearly, event by event, for `calsync_explain`.

use calsync_core::busy::BusyStatus;
use calsync_core::explain::{NEAR, Sight, Verdict, verdict};
use calsync_core::interval::Interval;
use calsync_core::options::{BusyFacts, Options};
use calsync_core::row;
use chrono::{DateTime, NaiveDate, Utc};
use pgrx::JsonB;
use pgrx::datum::{Date, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use super::time;
use crate::error::Error;

/// One event near the window.
pub struct Explained {
    pub event_id: String,
    pub summary: Option<String>,
    pub during: Option<Interval>,
    pub status: Option<BusyStatus>,
    pub verdict: Verdict,
}

/// Occurrences in the window or beside it; then what is not there, though one might look for it: deleted and moved
/// occurrences, events without length, events whose times could not be read.
const NEARBY: &str = "
    SELECT e.event_id, e.summary, e.status, e.transparency, e.event_type, e.response_status, e.problem, e.kind,
           o.starts_at, o.ends_at, o.busy_status::text, NULL::timestamptz AS original_start,
           NULL::date AS original_start_date
    FROM calsync.occurrence AS o
    JOIN calsync.event AS e ON e.subscription_id = o.subscription_id AND e.event_id = o.event_id
    WHERE o.subscription_id = $1 AND o.starts_at <= $3 + $4 AND o.ends_at >= $2 - $4
    UNION ALL
    SELECT e.event_id, coalesce(e.summary, m.summary), e.status, e.transparency, e.event_type, e.response_status,
           e.problem, e.kind, e.starts_at, e.ends_at, NULL, e.original_start, e.original_start_date
    FROM calsync.event AS e
    LEFT JOIN calsync.event AS m ON m.subscription_id = $1 AND m.event_id = e.recurring_event_id
    WHERE e.subscription_id = $1 AND e.kind IN ('exception', 'tombstone')
      AND (e.original_start >= $2 AND e.original_start < $3
           OR (e.original_start_date + interval '36 hours' > $2 AND e.original_start_date - interval '12 hours' < $3))
      AND NOT EXISTS (SELECT FROM calsync.occurrence AS o
                      WHERE o.subscription_id = $1 AND o.event_id = e.event_id
                        AND o.starts_at <= $3 + $4 AND o.ends_at >= $2 - $4)
    UNION ALL
    SELECT e.event_id, e.summary, e.status, e.transparency, e.event_type, e.response_status, e.problem, e.kind,
           e.starts_at, e.ends_at, NULL, NULL, NULL
    FROM calsync.event AS e
    WHERE e.subscription_id = $1
      AND (e.starts_at = e.ends_at AND e.starts_at >= $2 AND e.starts_at < $3 AND e.kind IN ('single', 'exception')
           OR e.kind = 'unreadable' AND e.starts_at IS NULL AND e.start_date IS NULL)";

/// Everything near the window in one calendar, in order of time.
pub fn near(subscription: i64, window: Interval) -> Result<Vec<Explained>, Error> {
    Spi::connect(|client| {
        let mut table = client.select(
            "SELECT options FROM calsync.subscription WHERE subscription_id = $1",
            None,
            &[subscription.into()],
        )?;
        let options = match table.next() {
            Some(row) => row.get::<JsonB>(1)?.map_or(serde_json::Value::Null, |options| options.0),
            None => return Ok(Vec::new()),
        };
        let options = Options::read(&options)?;
        let table = client.select(
            &format!("SELECT * FROM ({NEARBY}) AS nearby ORDER BY coalesce(starts_at, original_start), event_id"),
            None,
            &[
                subscription.into(),
                time::timestamp(window.start())?.into(),
                time::timestamp(window.end())?.into(),
                pgrx::datum::Interval::from_seconds(NEAR.num_seconds() as f64).into(),
            ],
        )?;
        table.map(|row| read(&row, &options, window)).collect()
    })
}

fn read(row: &SpiHeapTupleData, options: &Options, window: Interval) -> Result<Explained, Error> {
    let text = |column: usize| -> Result<Option<String>, Error> { Ok(row.get(column)?) };
    let at = |column: usize| -> Result<Option<DateTime<Utc>>, Error> {
        Ok(row.get::<TimestampWithTimeZone>(column)?.and_then(time::instant))
    };
    let during = at(9)?.zip(at(10)?).and_then(|(start, end)| Interval::new(start, end));
    let status = text(11)?.and_then(|label| BusyStatus::from_label(&label));
    let date = row
        .get::<Date>(13)?
        .and_then(|date| NaiveDate::from_ymd_opt(date.year(), u32::from(date.month()), u32::from(date.day())));
    let sight = match (during, status, row::original_start(at(12)?, date)) {
        (Some(during), Some(status), _) => Sight::Occurrence { during, status },
        (_, _, Some(original)) if text(8)?.as_deref() == Some("tombstone") => Sight::Deleted { original },
        (to, _, Some(original)) => Sight::Moved { original, to },
        _ => match at(9)? {
            Some(at) => Sight::NoLength { at },
            None => Sight::TimesUnknown,
        },
    };
    let (event_status, transparency, event_type, response) = (text(3)?, text(4)?, text(5)?, text(6)?);
    let facts = BusyFacts {
        status: event_status.as_deref().unwrap_or("confirmed"),
        transparency: transparency.as_deref(),
        event_type: event_type.as_deref(),
        self_response: response.as_deref(),
    };
    Ok(Explained {
        event_id: text(1)?.unwrap_or_default(),
        summary: text(2)?,
        verdict: verdict(&sight, &facts, &options.busy, text(7)?.as_deref(), window),
        during,
        status,
    })
}
