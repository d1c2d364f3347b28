//! A complete round becomes the state of the cache, in the caller's transaction.
//!
//! The subscription's row is locked by the caller. Order matters, and is the same for every source:
//! 1. what goes: deleted events (a series with its exceptions) or, in a full sync, whatever was not seen
//! 2. what is: inserted or changed
//! 3. what follows: occurrences of everything touched, then busy time where occurrences changed
//!
//! Deleting first lets an exception that moved to another series in the same delta survive its old master.

use std::collections::{BTreeSet, HashMap};

use calsync_core::row::RowChange;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use super::change::{self, Feed};
use super::columns::{self, event_columns, event_id, excluded_columns, given_rows, stored_columns};
use super::expansion::{self, Touched};
use super::plan::{Plan, Row, in_batches};
use super::retention;
use super::staging;
use super::subscription::Subscription;
use crate::error::Error;

macro_rules! insert {
    () => {
        concat!(
            "INSERT INTO calsync.event AS e (subscription_id, ",
            event_columns!(),
            ") SELECT $1, ",
            event_columns!(),
            " FROM "
        )
    };
}

/// After INSERT INTO calsync.event AS e: updates, and returns, only what differs from before.
macro_rules! on_conflict_update_what_differs {
    () => {
        concat!(
            " ON CONFLICT (subscription_id, event_id) DO UPDATE SET (",
            event_columns!(),
            ") = ROW (",
            excluded_columns!(),
            ") WHERE ROW (",
            stored_columns!(),
            ") IS DISTINCT FROM ROW (",
            excluded_columns!(),
            ") RETURNING e.event_id, e.recurring_event_id, e.xmax = 0"
        )
    };
}

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
    let touched = match subscription.covered {
        None if IS_EMPTY.first(&[subscription.id.into()], |row| Ok(row.get(1)))?.flatten() == Some(true) => {
            Touched::AllOfANewCalendar
        }
        None => Touched::AllAnd(BTreeSet::new()),
        Some(_) if zone_changed => Touched::AllAnd(BTreeSet::new()),
        Some(_) => Touched::Only(BTreeSet::new()),
    };
    let mut merge = Merge { id: subscription.id, counts: Counts::default(), touched, feed: &feed };
    match &round.source {
        Source::Page(changes) => merge.page(changes, round.full_sync)?,
        Source::Staged(number) => merge.staged(*number, round.full_sync)?,
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

/// Whether nothing is stored of a calendar's events.
static IS_EMPTY: Plan = Plan::writing(
    "SELECT NOT EXISTS (SELECT FROM calsync.event WHERE subscription_id = $1) \
         AND NOT EXISTS (SELECT FROM calsync.occurrence WHERE subscription_id = $1) \
         AND NOT EXISTS (SELECT FROM calsync.busy WHERE subscription_id = $1)",
);

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
        let (puts, deletes): (Vec<&RowChange>, Vec<&RowChange>) =
            changes.iter().partition(|change| matches!(change, RowChange::Put(_)));
        if full_sync {
            let seen: Vec<&str> = puts.iter().map(|change| event_id(change)).collect();
            self.remove(&SWEEP, &[self.id.into(), seen.into()])?;
        } else {
            for chunk in deletes.chunks(CHUNK) {
                self.delete(chunk.iter().map(|change| event_id(change).to_owned()).collect())?;
            }
        }
        puts.chunks(CHUNK).try_for_each(|chunk| self.put(chunk))
    }

    fn put(&mut self, changes: &[&RowChange]) -> Result<(), Error> {
        let mut arguments = vec![self.id.into()];
        arguments.extend(columns::arguments(changes)?);
        if matches!(self.touched, Touched::AllOfANewCalendar) && !self.feed.is_on() {
            INSERT.run(&arguments)?;
            self.counts.inserted = add(self.counts.inserted, changes.len());
            return Ok(());
        }
        self.leave_former_masters(changes)?;
        let written = match self.feed.is_on() {
            false => PUT.each(&arguments, put)?,
            true => {
                let mut written = Vec::new();
                in_batches(&told(GIVEN, self.feed), &arguments, CHUNK, |rows| {
                    for row in rows {
                        written.push(put(row)?);
                    }
                    Ok(())
                })?;
                written
            }
        };
        self.counts.unchanged = add(self.counts.unchanged, changes.len() - written.len());
        self.written(written);
        Ok(())
    }

    /// The master that an exception belonged to: its slot is no longer vacated where the exception moves to another
    /// series.
    fn leave_former_masters(&mut self, changes: &[&RowChange]) -> Result<(), Error> {
        let ids: Vec<&str> = changes.iter().map(|change| event_id(change)).collect();
        let former = FORMER_MASTERS.each(&[self.id.into(), ids.into()], |row| {
            Ok((row.get::<String>(1).unwrap_or_default(), row.get::<String>(2).unwrap_or_default()))
        })?;
        if former.is_empty() {
            return Ok(());
        }
        let masters: HashMap<&str, Option<&str>> = changes
            .iter()
            .filter_map(|change| match change {
                RowChange::Put(row) => Some((row.event_id.as_str(), row.recurring_event_id.as_deref())),
                RowChange::Delete { .. } => None,
            })
            .collect();
        for (event_id, master) in former {
            if masters.get(event_id.as_str()) != Some(&Some(master.as_str())) {
                self.touched.add(master);
            }
        }
        Ok(())
    }

    fn staged(&mut self, round: i64, full_sync: bool) -> Result<(), Error> {
        let arguments = || [self.id.into(), round.into()];
        let (count_of_puts, former) = (
            COUNT_STAGED.first(&arguments(), |row| Ok(row.get::<i64>(1).unwrap_or_default()))?.unwrap_or_default(),
            FORMER_MASTERS_OF_STAGED.each(&arguments(), |row| Ok(row.get::<String>(1)))?,
        );
        let arguments = [self.id.into(), round.into()];
        former.into_iter().flatten().for_each(|master| self.touched.add(master));
        if full_sync {
            let sweep = if self.feed.is_on() { removing(SWEEP_STAGED, self.feed) } else { SWEEP_STAGED.to_owned() };
            in_batches(&sweep, &arguments, CHUNK, |rows| self.batch(rows, deleted).map(drop))?;
        } else {
            in_batches(STAGED_DELETES, &arguments, CHUNK, |rows| {
                self.delete(rows.iter().filter_map(|row| row.get(1)).collect())
            })?;
        }
        let mut written = 0;
        let staged = if self.feed.is_on() { told(STAGED, self.feed) } else { PUT_STAGED.to_owned() };
        in_batches(&staged, &arguments, CHUNK, |rows| {
            written += self.batch(rows, put)?;
            Ok(())
        })?;
        self.counts.unchanged = add(self.counts.unchanged, count_of_puts as usize - written);
        staging::discard(self.id, round)
    }

    /// A deleted series takes its exceptions with it; a deleted exception leaves a tombstone, or its slot would be
    /// busy again.
    fn delete(&mut self, ids: Vec<String>) -> Result<(), Error> {
        for plan in [&DELETE_EXCEPTIONS, &DELETE_EVENTS, &DELETE_WITH_SERIES] {
            self.remove(plan, &[self.id.into(), ids.clone().into()])?;
        }
        Ok(())
    }

    fn remove(&mut self, plan: &Plan, arguments: &[DatumWithOid]) -> Result<(), Error> {
        if self.feed.is_on() {
            let sql = removing(plan.sql(), self.feed);
            return in_batches(&sql, arguments, CHUNK, |rows| self.batch(rows, deleted).map(drop));
        }
        self.written(plan.each(arguments, deleted)?);
        Ok(())
    }

    fn batch(&mut self, rows: &[Row], read: fn(&Row) -> Result<Written, Error>) -> Result<usize, Error> {
        let written = rows.iter().map(read).collect::<Result<Vec<Written>, Error>>()?;
        self.written(written);
        Ok(rows.len())
    }

    fn written(&mut self, rows: Vec<Written>) {
        for Written { event_id, master, how } in rows {
            let count = match how {
                How::Inserted => &mut self.counts.inserted,
                How::Updated => &mut self.counts.updated,
                How::Deleted => &mut self.counts.deleted,
            };
            *count = add(*count, 1);
            self.touched.add(event_id);
            if let Some(master) = master {
                self.touched.add(master);
            }
        }
    }
}

/// A statement that puts what `incoming` selects, with the change feed.
fn told(incoming: &str, feed: &Feed) -> String {
    format!(
        "WITH incoming AS MATERIALIZED ({incoming}), written AS ({}incoming{}) {} TABLE written",
        insert!(),
        on_conflict_update_what_differs!(),
        feed.put()
    )
}

/// A statement that deletes, with the change feed.
fn removing(deletion: &str, feed: &Feed) -> String {
    format!("WITH written AS ({deletion}) {} TABLE written", feed.removed())
}

fn add(count: i32, more: usize) -> i32 {
    count.saturating_add(i32::try_from(more).unwrap_or(i32::MAX))
}

/// A row that is now other than before.
struct Written {
    event_id: String,
    master: Option<String>,
    how: How,
}

enum How {
    Inserted,
    Updated,
    Deleted,
}

/// Of (event_id, its master).
fn deleted(row: &Row) -> Result<Written, Error> {
    Ok(Written { event_id: row.get(1).unwrap_or_default(), master: row.get(2), how: How::Deleted })
}

/// Of (event_id, its master, whether it is new).
fn put(row: &Row) -> Result<Written, Error> {
    let how = if row.get(3).unwrap_or_default() { How::Inserted } else { How::Updated };
    Ok(Written { event_id: row.get(1).unwrap_or_default(), master: row.get(2), how })
}

const GIVEN: &str = concat!("SELECT * FROM ", given_rows!());

const STAGED: &str = "SELECT * FROM calsync.staged_event WHERE subscription_id = $1 AND round = $2 AND NOT deleted";

/// Where there are none yet, there is nothing to conflict with.
static INSERT: Plan = Plan::writing(concat!(insert!(), given_rows!()));

static PUT: Plan = Plan::writing(concat!(insert!(), given_rows!(), on_conflict_update_what_differs!()));

const PUT_STAGED: &str = concat!(
    insert!(),
    "calsync.staged_event WHERE subscription_id = $1 AND round = $2 AND NOT deleted",
    on_conflict_update_what_differs!()
);

static COUNT_STAGED: Plan = Plan::writing(
    "SELECT count(*) FROM calsync.staged_event WHERE subscription_id = $1 AND round = $2 AND NOT deleted",
);

const STAGED_DELETES: &str =
    "SELECT event_id FROM calsync.staged_event WHERE subscription_id = $1 AND round = $2 AND deleted";

// OFFSET keeps the last condition out of the look-up: with it the planner may read all exceptions of the calendar.
static FORMER_MASTERS: Plan = Plan::writing(
    "SELECT e.event_id, e.recurring_event_id \
     FROM unnest($2::text[]) AS given (event_id) CROSS JOIN LATERAL ( \
         SELECT e.event_id, e.recurring_event_id FROM calsync.event AS e \
         WHERE e.subscription_id = $1 AND e.event_id = given.event_id OFFSET 0) AS e \
     WHERE e.recurring_event_id IS NOT NULL",
);

static FORMER_MASTERS_OF_STAGED: Plan = Plan::writing(
    "SELECT DISTINCT e.recurring_event_id \
     FROM calsync.event AS e CROSS JOIN LATERAL ( \
         SELECT s.recurring_event_id FROM calsync.staged_event AS s \
         WHERE s.subscription_id = $1 AND s.round = $2 AND s.event_id = e.event_id AND NOT s.deleted OFFSET 0) AS s \
     WHERE e.subscription_id = $1 AND e.recurring_event_id IS NOT NULL \
         AND e.recurring_event_id IS DISTINCT FROM s.recurring_event_id",
);

/// A full sync saw everything that there is: whatever else is here is gone.
static SWEEP: Plan = Plan::writing(
    "DELETE FROM calsync.event AS e WHERE e.subscription_id = $1 \
         AND e.event_id NOT IN (SELECT seen.event_id FROM unnest($2::text[]) AS seen (event_id)) \
     RETURNING e.event_id, e.recurring_event_id",
);

/// The same, of what is staged. OFFSET makes it one look-up an event, whatever the planner thinks of a table whose rows
/// have just been written.
const SWEEP_STAGED: &str = "DELETE FROM calsync.event AS e WHERE e.subscription_id = $1 \
         AND NOT EXISTS (SELECT FROM calsync.staged_event AS seen WHERE seen.subscription_id = $1 \
                         AND seen.round = $2 AND seen.event_id = e.event_id AND NOT seen.deleted OFFSET 0) \
     RETURNING e.event_id, e.recurring_event_id";

static DELETE_EXCEPTIONS: Plan = Plan::writing(
    "UPDATE calsync.event SET kind = 'tombstone', status = 'cancelled', busy_status = 'free', \
         starts_at = NULL, ends_at = NULL, start_date = NULL, end_date = NULL, time_zone = NULL \
     WHERE subscription_id = $1 AND event_id = ANY ($2) AND kind = 'exception' \
     RETURNING event_id, recurring_event_id",
);

static DELETE_EVENTS: Plan = Plan::writing(
    "DELETE FROM calsync.event WHERE subscription_id = $1 AND kind <> 'tombstone' AND event_id = ANY ($2) \
     RETURNING event_id, recurring_event_id",
);

static DELETE_WITH_SERIES: Plan = Plan::writing(
    "DELETE FROM calsync.event WHERE subscription_id = $1 AND recurring_event_id = ANY ($2) \
     RETURNING event_id, recurring_event_id",
);
