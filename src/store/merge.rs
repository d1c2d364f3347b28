//! A complete round becomes the state of the cache, in the caller's transaction.
//!
//! The subscription's row is locked by the caller. Order matters, and is the same for every source:
//! 1. what goes: deleted events (a series with its exceptions) or, in a full sync, whatever was not seen
//! 2. what is: inserted or changed
//! 3. what follows: occurrences of everything touched, then busy time where occurrences changed
//!
//! Deleting first lets an exception that moved to another series in the same delta survive its old master.

use calsync_core::row::{EventRow, RowChange};
use pgrx::prelude::*;
use pgrx::{JsonB, spi::SpiTupleTable};

use super::change::{self, Feed};
use super::expansion::{self, Touched};
use super::retention;
use super::staging;
use super::subscription::Subscription;
use crate::error::Error;

/// Rows handled by one statement: what bounds memory.
const CHUNK: usize = 1000;

/// A round's changes, each event once.
pub enum Source<'a> {
    /// All of them came in one page.
    Page(&'a [RowChange]),
    /// They are staged under this round.
    Staged(i64),
}

/// What the round is, besides its changes.
pub struct Round<'a> {
    pub source: Source<'a>,
    /// A full sync: sweep what it did not see.
    pub full_sync: bool,
    /// The calendar's zone as the provider names it.
    pub time_zone: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub inserted: i32,
    pub updated: i32,
    pub deleted: i32,
    pub unchanged: i32,
}

impl Counts {
    pub fn changed(self) -> bool {
        self.inserted + self.updated + self.deleted > 0
    }
}

/// Merges the rows of a round and everything that is derived from them. The token is moved by the caller, in the same
/// transaction: see [`super::rounds`].
pub fn merge(subscription: &mut Subscription, round: &Round) -> Result<Counts, Error> {
    let former_zone = subscription.time_zone.clone();
    let zone_changed = adopt_zone(subscription, round.time_zone)?;
    let feed = Feed::begin(subscription, &former_zone, round.full_sync)?;
    let mut merge = Merge { id: subscription.id, counts: Counts::default(), touched: Touched::default(), feed: &feed };
    match &round.source {
        Source::Page(changes) => merge.page(changes, round.full_sync)?,
        Source::Staged(number) => merge.staged(*number, round.full_sync)?,
    }
    if zone_changed {
        merge.touched.everything = true;
    }
    let (counts, touched) = (merge.counts, merge.touched);
    if round.full_sync {
        retention::complete(subscription)?;
    }
    expansion::renew(subscription, touched)?;
    feed.end(subscription.id)?;
    if zone_changed || counts.changed() {
        change::notify(subscription)?;
    }
    Ok(counts)
}

/// The provider's zone becomes the calendar's. An unknown one is left aside: the calendar keeps the zone it has.
fn adopt_zone(subscription: &mut Subscription, provider_zone: Option<&str>) -> Result<bool, Error> {
    let Some(zone) = provider_zone.and_then(calsync_core::zone::find) else { return Ok(false) };
    if zone.name() == subscription.time_zone {
        return Ok(false);
    }
    subscription.time_zone = zone.name().to_owned();
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.subscription SET time_zone = $2 WHERE subscription_id = $1",
            None,
            &[subscription.id.into(), zone.name().into()],
        )?;
        Ok(true)
    })
}

struct Merge<'a> {
    id: i64,
    counts: Counts,
    touched: Touched,
    feed: &'a Feed,
}

impl Merge<'_> {
    fn page(&mut self, changes: &[RowChange], full_sync: bool) -> Result<(), Error> {
        let mut puts: Vec<&EventRow> = Vec::with_capacity(changes.len());
        let mut deletes: Vec<String> = Vec::new();
        for change in changes {
            match change {
                RowChange::Put(row) => puts.push(row),
                RowChange::Delete { event_id } => deletes.push(event_id.clone()),
            }
        }
        if full_sync {
            let seen: Vec<String> = puts.iter().map(|row| row.event_id.clone()).collect();
            self.sweep(
                "e.event_id NOT IN (SELECT seen.event_id FROM unnest($2::text[]) AS seen (event_id))",
                seen.into(),
            )?;
        } else {
            for chunk in deletes.chunks(CHUNK) {
                self.delete(chunk)?;
            }
        }
        for chunk in puts.chunks(CHUNK) {
            self.put(serde_json::to_value(chunk).map_err(|error| Error::Internal(error.to_string()))?, chunk.len())?;
        }
        Ok(())
    }

    fn staged(&mut self, round: i64, full_sync: bool) -> Result<(), Error> {
        if full_sync {
            self.sweep(
                "NOT EXISTS (SELECT FROM calsync.staged_event AS seen WHERE seen.subscription_id = $1 \
                     AND seen.round = $2 AND seen.event_id = e.event_id AND seen.change -> 'deleted' IS NULL)",
                round.into(),
            )?;
        } else {
            let mut after = None;
            while let Some(chunk) = staging::deletes(self.id, round, after.as_deref(), CHUNK)? {
                self.delete(&chunk)?;
                after = chunk.last().cloned();
            }
        }
        let mut after = None;
        while let Some(chunk) = staging::puts(self.id, round, after.as_deref(), CHUNK)? {
            self.put(chunk.rows, chunk.count)?;
            after = Some(chunk.last);
        }
        staging::discard(self.id, round)
    }

    /// A full sync saw everything that there is: whatever else is here is gone.
    fn sweep(&mut self, unseen: &str, argument: pgrx::datum::DatumWithOid) -> Result<(), Error> {
        let sql = format!(
            "WITH written AS ( \
                 DELETE FROM calsync.event AS e WHERE e.subscription_id = $1 AND {unseen} \
                 RETURNING e.event_id, e.recurring_event_id) {} \
             TABLE written",
            self.feed.removed()
        );
        Spi::connect_mut(|client| {
            let table = client.update(&sql, None, &[self.id.into(), argument])?;
            self.count_deleted(table)
        })
    }

    /// A deleted series takes its exceptions with it; a deleted exception leaves a tombstone, or its slot would be
    /// busy again.
    fn delete(&mut self, ids: &[String]) -> Result<(), Error> {
        for deletion in [
            "UPDATE calsync.event SET kind = 'tombstone', status = 'cancelled', busy_status = 'free', \
                 starts_at = NULL, ends_at = NULL, start_date = NULL, end_date = NULL, time_zone = NULL \
             WHERE subscription_id = $1 AND event_id = ANY ($2) AND kind = 'exception'",
            "DELETE FROM calsync.event WHERE subscription_id = $1 AND kind <> 'tombstone' AND event_id = ANY ($2)",
            "DELETE FROM calsync.event WHERE subscription_id = $1 AND recurring_event_id = ANY ($2)",
        ] {
            let sql = format!(
                "WITH written AS ({deletion} RETURNING event_id, recurring_event_id) {} TABLE written",
                self.feed.removed()
            );
            Spi::connect_mut(|client| {
                let table = client.update(&sql, None, &[self.id.into(), ids.to_vec().into()])?;
                self.count_deleted(table)
            })?;
        }
        Ok(())
    }

    fn count_deleted(&mut self, table: SpiTupleTable) -> Result<(), Error> {
        self.counts.deleted = self.counts.deleted.saturating_add(i32::try_from(table.len()).unwrap_or(i32::MAX));
        for row in table {
            self.touched.events.extend(row.get::<String>(1)?);
            self.touched.events.extend(row.get::<String>(2)?);
        }
        Ok(())
    }

    /// `rows`: an array of [`EventRow`]s as JSON, each id once.
    fn put(&mut self, rows: serde_json::Value, count: usize) -> Result<(), Error> {
        let mut written = 0;
        let put = format!("{PUT}{}{WRITTEN}", self.feed.put());
        Spi::connect_mut(|client| -> Result<(), Error> {
            let table = client.update(&put, None, &[self.id.into(), JsonB(rows).into()])?;
            for row in table {
                written += 1;
                if row.get::<bool>(2)?.unwrap_or_default() {
                    self.counts.inserted += 1;
                } else {
                    self.counts.updated += 1;
                }
                for column in [1, 3, 4] {
                    self.touched.events.extend(row.get::<String>(column)?);
                }
            }
            Ok(())
        })?;
        self.counts.unchanged += i32::try_from(count).unwrap_or(i32::MAX) - written;
        Ok(())
    }
}

/// Inserts or updates, and returns only what differs from before: (event_id, inserted, its master, its former master).
/// The former master, because its slot is no longer vacated where an exception moves to another series.
const PUT: &str = "
    WITH incoming AS MATERIALIZED (
        SELECT * FROM pg_catalog.jsonb_populate_recordset(NULL::calsync.event, $2)
    ), former AS MATERIALIZED (
        SELECT e.event_id, e.recurring_event_id
        FROM calsync.event AS e
        WHERE e.subscription_id = $1 AND e.event_id = ANY (ARRAY(SELECT i.event_id FROM incoming AS i))
    ), written AS (
        INSERT INTO calsync.event AS e (
            subscription_id, event_id, kind, status, busy_status, starts_at, ends_at, start_date, end_date, time_zone,
            recurrence, recurring_event_id, original_start, original_start_date, ical_uid, etag, sequence, summary,
            description, location, transparency, visibility, event_type, response_status, provider_updated_at, problem,
            raw)
        SELECT $1, event_id, kind, status, busy_status, starts_at, ends_at, start_date, end_date, time_zone,
            recurrence, recurring_event_id, original_start, original_start_date, ical_uid, etag, sequence, summary,
            description, location, transparency, visibility, event_type, response_status, provider_updated_at, problem,
            raw
        FROM incoming
        ON CONFLICT (subscription_id, event_id) DO UPDATE SET
            kind = excluded.kind, status = excluded.status, busy_status = excluded.busy_status,
            starts_at = excluded.starts_at, ends_at = excluded.ends_at, start_date = excluded.start_date,
            end_date = excluded.end_date, time_zone = excluded.time_zone, recurrence = excluded.recurrence,
            recurring_event_id = excluded.recurring_event_id, original_start = excluded.original_start,
            original_start_date = excluded.original_start_date, ical_uid = excluded.ical_uid, etag = excluded.etag,
            sequence = excluded.sequence, summary = excluded.summary, description = excluded.description,
            location = excluded.location, transparency = excluded.transparency, visibility = excluded.visibility,
            event_type = excluded.event_type, response_status = excluded.response_status,
            provider_updated_at = excluded.provider_updated_at, problem = excluded.problem, raw = excluded.raw
        WHERE (e.kind, e.status, e.busy_status, e.starts_at, e.ends_at, e.start_date, e.end_date, e.time_zone,
               e.recurrence, e.recurring_event_id, e.original_start, e.original_start_date, e.ical_uid, e.etag,
               e.sequence, e.summary, e.description, e.location, e.transparency, e.visibility, e.event_type,
               e.response_status, e.provider_updated_at, e.problem, e.raw)
              IS DISTINCT FROM
              (excluded.kind, excluded.status, excluded.busy_status, excluded.starts_at, excluded.ends_at,
               excluded.start_date, excluded.end_date, excluded.time_zone, excluded.recurrence,
               excluded.recurring_event_id, excluded.original_start, excluded.original_start_date, excluded.ical_uid,
               excluded.etag, excluded.sequence, excluded.summary, excluded.description, excluded.location,
               excluded.transparency, excluded.visibility, excluded.event_type, excluded.response_status,
               excluded.provider_updated_at, excluded.problem, excluded.raw)
        RETURNING e.event_id, e.xmax = 0 AS inserted, e.recurring_event_id
    )";

const WRITTEN: &str = "
    SELECT w.event_id, w.inserted, w.recurring_event_id, f.recurring_event_id AS former
    FROM written AS w LEFT JOIN former AS f ON f.event_id = w.event_id";
