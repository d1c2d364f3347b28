//! Pages of a round that is not complete yet: kept where no reader looks.
//!
//! `round` is the worker's lease, so that a round overtaken by another leaves nothing behind, or
//! [`APPLICATION_ROUND`], of which each calendar has at most one.

use calsync_core::row::RowChange;
use chrono::{DateTime, Utc};
use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use serde_json::{Value, json};

use super::time;
use crate::error::Error;

/// The round of an application that feeds pages through `calsync_apply_delta`.
pub const APPLICATION_ROUND: i64 = 0;

const TABLES: [&str; 2] = ["staged_event", "staged_round"];

/// A round of which pages are staged.
#[derive(Debug, Clone)]
pub struct StagedRound {
    pub expected_sync_token: Option<String>,
    pub next_page_token: String,
    pub time_zone: Option<String>,
    pub pages: i32,
    /// When its first page was staged.
    pub started_at: DateTime<Utc>,
}

/// One page, to be staged.
pub struct StagedPage<'a> {
    pub expected_sync_token: Option<&'a str>,
    pub next_page_token: &'a str,
    pub time_zone: Option<&'a str>,
    pub changes: &'a [RowChange],
}

/// The round under way, if there is one.
pub fn find(subscription: i64, round: i64) -> Result<Option<StagedRound>, Error> {
    Spi::connect(|client| {
        let mut table = client.select(
            "SELECT expected_sync_token, next_page_token, time_zone, pages, started_at FROM calsync.staged_round \
             WHERE subscription_id = $1 AND round = $2",
            None,
            &[subscription.into(), round.into()],
        )?;
        let Some(row) = table.next() else { return Ok(None) };
        Ok(Some(StagedRound {
            expected_sync_token: row.get(1)?,
            next_page_token: row.get(2)?.unwrap_or_default(),
            time_zone: row.get(3)?,
            pages: row.get(4)?.unwrap_or_default(),
            started_at: row
                .get::<TimestampWithTimeZone>(5)?
                .and_then(time::instant)
                .ok_or_else(|| Error::Internal("a staged round has no beginning".to_owned()))?,
        }))
    })
}

/// Adds a page to its round, opening the round with the first. An event that comes again replaces its older version.
pub fn add_page(subscription: i64, round: i64, page: &StagedPage) -> Result<(), Error> {
    add_changes(subscription, round, page.changes)?;
    Spi::connect_mut(|client| {
        client.update(
            "INSERT INTO calsync.staged_round AS r \
                 (subscription_id, round, expected_sync_token, next_page_token, time_zone, pages, started_at) \
             VALUES ($1, $2, $3, $4, $5, 1, now()) \
             ON CONFLICT (subscription_id, round) DO UPDATE SET next_page_token = excluded.next_page_token, \
                 time_zone = coalesce(excluded.time_zone, r.time_zone), pages = r.pages + 1",
            None,
            &[
                subscription.into(),
                round.into(),
                page.expected_sync_token.into(),
                page.next_page_token.into(),
                page.time_zone.into(),
            ],
        )?;
        Ok(())
    })
}

/// Adds changes of the last page, which opens no further one.
pub fn add_changes(subscription: i64, round: i64, changes: &[RowChange]) -> Result<(), Error> {
    let rows = changes.iter().map(staged).collect::<Result<Vec<Value>, Error>>()?;
    Spi::connect_mut(|client| {
        client.update(
            "INSERT INTO calsync.staged_event AS s (subscription_id, round, event_id, change) \
             SELECT $1, $2, item ->> 'event_id', item FROM jsonb_array_elements($3) AS item \
             ON CONFLICT (subscription_id, round, event_id) DO UPDATE SET change = excluded.change \
             WHERE NOT coalesce((s.change ->> 'provider_updated_at')::timestamptz \
                                > (excluded.change ->> 'provider_updated_at')::timestamptz, false)",
            None,
            &[subscription.into(), round.into(), JsonB(Value::Array(rows)).into()],
        )?;
        Ok(())
    })
}

fn staged(change: &RowChange) -> Result<Value, Error> {
    match change {
        RowChange::Put(row) => serde_json::to_value(row).map_err(|error| Error::Internal(error.to_string())),
        RowChange::Delete { event_id } => Ok(json!({"event_id": event_id, "deleted": true})),
    }
}

/// Forgets a round's pages.
pub fn discard(subscription: i64, round: i64) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        for table in TABLES {
            client.update(
                &format!("DELETE FROM calsync.{table} WHERE subscription_id = $1 AND round = $2"),
                None,
                &[subscription.into(), round.into()],
            )?;
        }
        Ok(())
    })
}

/// Forgets the workers' rounds of calendars that have just been claimed: what came to nothing, its worker having died.
pub fn discard_abandoned(subscriptions: Vec<i64>) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        for table in TABLES {
            client.update(
                &format!(
                    "DELETE FROM calsync.{table} WHERE subscription_id = ANY ($1) AND round <> {APPLICATION_ROUND}"
                ),
                None,
                &[subscriptions.clone().into()],
            )?;
        }
        Ok(())
    })
}

/// The next ids to be deleted, in order of id, after the given one.
pub fn deletes(
    subscription: i64,
    round: i64,
    after: Option<&str>,
    at_most: usize,
) -> Result<Option<Vec<String>>, Error> {
    Spi::connect(|client| {
        let table = client.select(
            "SELECT event_id FROM calsync.staged_event \
             WHERE subscription_id = $1 AND round = $2 AND change -> 'deleted' IS NOT NULL \
                 AND event_id > coalesce($3, '') ORDER BY event_id LIMIT $4",
            None,
            &[subscription.into(), round.into(), after.into(), (at_most as i64).into()],
        )?;
        let ids = table.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect::<Result<Vec<String>, Error>>()?;
        Ok(Some(ids).filter(|ids| !ids.is_empty()))
    })
}

/// Rows to be put, as a JSON array of [`calsync_core::row::EventRow`]s.
pub struct Puts {
    pub rows: Value,
    pub count: usize,
    pub last: String,
}

/// The next rows to be put, in order of id, after the given one.
pub fn puts(subscription: i64, round: i64, after: Option<&str>, at_most: usize) -> Result<Option<Puts>, Error> {
    Spi::connect(|client| {
        let mut table = client.select(
            "SELECT jsonb_agg(page.change), count(*), max(page.event_id) \
             FROM (SELECT event_id, change FROM calsync.staged_event \
                   WHERE subscription_id = $1 AND round = $2 AND change -> 'deleted' IS NULL \
                       AND event_id > coalesce($3, '') ORDER BY event_id LIMIT $4) AS page",
            None,
            &[subscription.into(), round.into(), after.into(), (at_most as i64).into()],
        )?;
        let Some(row) = table.next() else { return Ok(None) };
        let Some(rows) = row.get::<JsonB>(1)? else { return Ok(None) };
        let count = row.get::<i64>(2)?.unwrap_or_default();
        Ok(Some(Puts { rows: rows.0, count: count as usize, last: row.get(3)?.unwrap_or_default() }))
    })
}
