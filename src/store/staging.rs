//! Pages of a round that is not complete yet: kept where no reader looks.
//!
//! `round` is the worker's lease, so that a round overtaken by another leaves nothing behind, or
//! [`APPLICATION_ROUND`], of which each calendar has at most one.

use calsync_core::row::RowChange;
use chrono::{DateTime, Utc};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::columns::{self, event_columns, excluded_columns, given_rows};
use super::plan::Plan;
use super::time;
use crate::error::Error;

/// Rows handled by one statement: what bounds memory.
const CHUNK: usize = 1000;

/// The round of an application that feeds pages through `calsync_apply_delta`.
pub const APPLICATION_ROUND: i64 = 0;

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

static FIND: Plan = Plan::writing(
    "SELECT expected_sync_token, next_page_token, time_zone, pages, started_at FROM calsync.staged_round \
     WHERE subscription_id = $1 AND round = $2",
);

/// The round under way, if there is one.
pub fn find(subscription: i64, round: i64) -> Result<Option<StagedRound>, Error> {
    FIND.first(&[subscription.into(), round.into()], |row| {
        Ok(StagedRound {
            expected_sync_token: row.get(1),
            next_page_token: row.get(2).unwrap_or_default(),
            time_zone: row.get(3),
            pages: row.get(4).unwrap_or_default(),
            started_at: row
                .get::<TimestampWithTimeZone>(5)
                .and_then(time::instant)
                .ok_or_else(|| Error::Internal("a staged round has no beginning".to_owned()))?,
        })
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

static ADD: Plan = Plan::writing(concat!(
    "INSERT INTO calsync.staged_event AS s (subscription_id, round, deleted, ",
    event_columns!(),
    ") SELECT $1, $29, deleted, ",
    event_columns!(),
    " FROM ",
    given_rows!(),
    " ON CONFLICT (subscription_id, round, event_id) DO UPDATE SET (deleted, ",
    event_columns!(),
    ") = ROW (excluded.deleted, ",
    excluded_columns!(),
    ") WHERE NOT coalesce(s.provider_updated_at > excluded.provider_updated_at, false)"
));

/// Adds changes of the last page, which opens no further one.
pub fn add_changes(subscription: i64, round: i64, changes: &[RowChange]) -> Result<(), Error> {
    let changes: Vec<&RowChange> = changes.iter().collect();
    for chunk in changes.chunks(CHUNK) {
        let mut arguments = vec![subscription.into()];
        arguments.extend(columns::arguments(chunk)?);
        arguments.push(round.into());
        ADD.run(&arguments)?;
    }
    Ok(())
}

static DISCARD: [Plan; 2] = [
    Plan::writing("DELETE FROM calsync.staged_event WHERE subscription_id = $1 AND round = $2"),
    Plan::writing("DELETE FROM calsync.staged_round WHERE subscription_id = $1 AND round = $2"),
];

/// Forgets a round's pages.
pub fn discard(subscription: i64, round: i64) -> Result<(), Error> {
    DISCARD.iter().try_for_each(|plan| plan.run(&[subscription.into(), round.into()]))
}

static DISCARD_ABANDONED: [Plan; 2] = [
    Plan::writing("DELETE FROM calsync.staged_event WHERE subscription_id = ANY ($1) AND round <> $2"),
    Plan::writing("DELETE FROM calsync.staged_round WHERE subscription_id = ANY ($1) AND round <> $2"),
];

/// Forgets the workers' rounds of calendars that have just been claimed: what came to nothing, its worker having died.
pub fn discard_abandoned(subscriptions: Vec<i64>) -> Result<(), Error> {
    let arguments = [subscriptions.into(), APPLICATION_ROUND.into()];
    DISCARD_ABANDONED.iter().try_for_each(|plan| plan.run(&arguments))
}
