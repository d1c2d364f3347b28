//! The change feed: what a round did to which event, written by the statements of the merge that do it.
//!
//! Within a statement `calsync.event` still shows what was there before, so that each statement of the merge takes one
//! more CTE here, after its own `written`, and knows both sides without reading them twice. Off, that CTE is empty text.
//!
//! Calendars are changed under the lock of their subscription's row, hence the change ids of one calendar grow in the
//! order in which its changes commit. Those of different calendars do not: a cursor belongs to one calendar.

use calsync_core::interval::Interval;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::subscription::Subscription;
use super::time::{self, Micros};
use super::whose::{Whose, is_of_theirs};
use crate::error::Error;
use crate::settings;

/// What a statement that puts events returns of them for [`Feed::put`], besides their ids and whether they are new.
/// The look-ups there are fenced by OFFSET: the planner knows nothing of rows that are just being written, and would
/// join them all with all.
pub const WRITTEN: &str = "e.kind, e.busy_status, e.starts_at, e.ends_at, e.start_date, e.end_date, e.time_zone, \
     e.recurrence, e.original_start, e.original_start_date";

/// How changes of a round are written down; for a calendar without a feed, not at all.
#[derive(Debug, Default)]
pub struct Feed {
    put: String,
    removed: String,
    untold: Option<Untold>,
}

/// A full sync brings back what retention had pruned. That is no change.
#[derive(Debug)]
struct Untold {
    complete_from: TimestampWithTimeZone,
    last_before: i64,
}

impl Feed {
    /// Before the round is merged, and after it gave the calendar its zone.
    pub fn begin(subscription: &Subscription, former_zone: &str, full_sync: bool) -> Result<Self, Error> {
        if !subscription.options()?.changes {
            return Ok(Feed::default());
        }
        let zone = known_zone(&subscription.time_zone);
        if former_zone != subscription.time_zone {
            move_with_zone(subscription.id, &known_zone(former_zone), &zone)?;
        }
        let untold = match subscription.complete_from.filter(|_| full_sync) {
            Some(complete_from) => Some(Untold {
                complete_from: time::timestamp(complete_from)?,
                last_before: last_change(subscription.id)?,
            }),
            None => None,
        };
        Ok(Feed { put: put(&zone), removed: removed(&zone), untold })
    }

    pub fn is_on(&self) -> bool {
        !self.put.is_empty()
    }

    /// For a statement whose `written` names events that are put, with the columns of [`WRITTEN`]; $1 is the
    /// subscription.
    pub fn put(&self) -> &str {
        &self.put
    }

    /// For a statement whose `written` names events that are deleted, or of which a tombstone stays.
    pub fn removed(&self) -> &str {
        &self.removed
    }

    /// After everything derived has been renewed.
    pub fn end(&self, subscription: i64) -> Result<(), Error> {
        let Some(untold) = &self.untold else { return Ok(()) };
        Spi::connect_mut(|client| {
            client.update(
                "DELETE FROM calsync.change AS c WHERE c.subscription_id = $1 AND c.change_id > $2 \
                     AND greatest(upper(c.before), upper(c.after)) <= $3 \
                     AND NOT EXISTS (SELECT FROM calsync.occurrence AS o \
                                     WHERE o.subscription_id = c.subscription_id AND o.event_id = c.event_id)",
                None,
                &[subscription.into(), untold.last_before.into(), untold.complete_from.into()],
            )?;
            Ok(())
        })
    }
}

/// Tells those who listen, once a transaction however often it is said.
pub fn notify(subscription: &Subscription) -> Result<(), Error> {
    if !subscription.options()?.notify {
        return Ok(());
    }
    Spi::connect_mut(|client| {
        client.update("SELECT pg_notify('calsync_change', $1)", None, &[subscription.calendar.as_str().into()])?;
        Ok(())
    })
}

/// A name that SQL takes: chrono's database of zones may know one that Postgres' does not. Between single quotes.
fn known_zone(name: &str) -> String {
    let known = std::ffi::CString::new(name).is_ok_and(|name| {
        // SAFETY: looks a name up; null where there is none of it.
        unsafe { !pg_sys::pg_tzset(name.as_ptr()).is_null() }
    });
    format!("'{}'", if known { name.replace('\'', "''") } else { "UTC".to_owned() })
}

/// When the row of this alias takes place, or for the first time; null: it has no times.
fn span(row: &str, zone: &str) -> String {
    format!(
        "CASE WHEN {row}.starts_at IS NOT NULL THEN {} WHEN {row}.start_date IS NOT NULL THEN {} END",
        range(&format!("{row}.starts_at"), &format!("{row}.ends_at")),
        days(&format!("{row}.start_date"), &format!("{row}.end_date"), zone)
    )
}

/// An event without length has one moment.
fn range(from: &str, to: &str) -> String {
    format!("tstzrange({from}, greatest({from}, {to}), CASE WHEN {to} > {from} THEN '[)' ELSE '[]' END)")
}

fn days(from: &str, to: &str, zone: &str) -> String {
    let midnight = |date: String| format!("({date})::timestamp AT TIME ZONE {zone}");
    format!("tstzrange({}, {})", midnight(from.to_owned()), midnight(format!("greatest({to}, {from} + 1)")))
}

/// `b`: the event before; `m`: its master before, whose occurrence an exception or tombstone stands for.
fn put(zone: &str) -> String {
    let slot = format!(
        "CASE WHEN m.starts_at IS NOT NULL AND i.original_start IS NOT NULL THEN {} \
              WHEN m.start_date IS NOT NULL AND i.original_start_date IS NOT NULL THEN {} END",
        range("i.original_start", "(i.original_start + (m.ends_at - m.starts_at))"),
        days("i.original_start_date", "(i.original_start_date + (m.end_date - m.start_date))", zone)
    );
    format!(
        ", fed AS ( \
             INSERT INTO calsync.change (subscription_id, event_id, what, before, after, busy_status_before, \
                 busy_status_after, changed_at) \
             SELECT $1, t.event_id, \
                 CASE WHEN t.gone THEN 'removed' WHEN NOT t.was_there THEN 'added' \
                      WHEN t.before IS DISTINCT FROM t.after OR t.other_rule THEN 'moved' \
                      WHEN t.busy_status_before IS DISTINCT FROM t.busy_status THEN 'status' ELSE 'details' END, \
                 CASE WHEN t.was_there THEN t.before END, t.after, \
                 CASE WHEN t.was_there THEN t.busy_status_before END, CASE WHEN NOT t.gone THEN t.busy_status END, \
                 clock_timestamp() \
             FROM (SELECT i.event_id, i.busy_status, i.kind = 'tombstone' AS gone, \
                       coalesce(b.kind <> 'tombstone', m.event_id IS NOT NULL) AS was_there, \
                       CASE WHEN b.event_id IS NULL THEN {slot} ELSE {before} END AS before, \
                       CASE WHEN i.kind <> 'tombstone' THEN {after} END AS after, \
                       coalesce(b.busy_status, m.busy_status) AS busy_status_before, \
                       b.event_id IS NOT NULL \
                           AND (b.recurrence, CASE WHEN i.kind = 'master' THEN b.time_zone END) \
                           IS DISTINCT FROM (i.recurrence, CASE WHEN i.kind = 'master' THEN i.time_zone END) AS other_rule \
                   FROM written AS i \
                   LEFT JOIN LATERAL (SELECT b.* FROM calsync.event AS b \
                       WHERE b.subscription_id = $1 AND b.event_id = i.event_id OFFSET 0) AS b ON true \
                   LEFT JOIN LATERAL (SELECT m.* FROM calsync.event AS m \
                       WHERE m.subscription_id = $1 AND m.event_id = i.recurring_event_id OFFSET 0) AS m \
                       ON m.kind = 'master' AND i.kind IN ('exception', 'tombstone')) AS t \
             WHERE t.was_there OR NOT t.gone ORDER BY t.event_id)",
        before = span("b", zone),
        after = span("i", zone),
    )
}

fn removed(zone: &str) -> String {
    format!(
        ", fed AS ( \
             INSERT INTO calsync.change (subscription_id, event_id, what, before, busy_status_before, changed_at) \
             SELECT $1, b.event_id, 'removed', {}, b.busy_status, clock_timestamp() \
             FROM written AS w CROSS JOIN LATERAL (SELECT b.* FROM calsync.event AS b \
                 WHERE b.subscription_id = $1 AND b.event_id = w.event_id OFFSET 0) AS b \
             WHERE b.kind <> 'tombstone' ORDER BY b.event_id)",
        span("b", zone)
    )
}

/// What is read in the calendar's zone moves with it: days, and series that name no zone.
fn move_with_zone(subscription: i64, former: &str, zone: &str) -> Result<(), Error> {
    let sql = format!(
        "INSERT INTO calsync.change (subscription_id, event_id, what, before, after, busy_status_before, \
             busy_status_after, changed_at) \
         SELECT $1, e.event_id, 'moved', {}, {}, e.busy_status, e.busy_status, clock_timestamp() \
         FROM calsync.event AS e WHERE e.subscription_id = $1 AND e.kind <> 'tombstone' \
             AND (e.start_date IS NOT NULL OR (e.kind = 'master' AND e.time_zone IS NULL)) ORDER BY e.event_id",
        span("e", former),
        span("e", zone)
    );
    Spi::connect_mut(|client| client.update(&sql, None, &[subscription.into()]).map(drop))?;
    Ok(())
}

fn last_change(subscription: i64) -> Result<i64, Error> {
    Spi::connect(|client| {
        let table = client.select(
            "SELECT coalesce(max(change_id), 0) FROM calsync.change WHERE subscription_id = $1",
            None,
            &[subscription.into()],
        )?;
        Ok(table.first().get_one()?.unwrap_or_default())
    })
}

/// One line of the feed.
pub struct Change {
    pub change_id: i64,
    pub event_id: String,
    pub what: String,
    pub before: Option<Interval<Micros>>,
    pub after: Option<Interval<Micros>>,
    pub busy_status_before: Option<String>,
    pub busy_status_after: Option<String>,
    pub changed_at: TimestampWithTimeZone,
}

/// What changed after `since`, in order; None: changes that followed `since` are no longer kept.
pub fn since(subscription: i64, since: i64) -> Result<Option<Vec<Change>>, Error> {
    Spi::connect(|client| {
        let first = client.select(
            "SELECT change_id FROM calsync.change WHERE subscription_id = $1 ORDER BY change_id LIMIT 1",
            None,
            &[subscription.into()],
        )?;
        // The last change past retention is kept for this: whoever has seen it has missed nothing.
        if since > 0 && !first.is_empty() && first.first().get_one::<i64>()?.is_some_and(|first| first > since) {
            return Ok(None);
        }
        let table = client.select(
            "SELECT change_id, event_id, what, lower(before) AS b0, upper(before) AS b1, lower(after) AS a0, \
                 upper(after) AS a1, busy_status_before::text, busy_status_after::text, changed_at \
             FROM calsync.change WHERE subscription_id = $1 AND change_id > $2 ORDER BY change_id",
            None,
            &[subscription.into(), since.into()],
        )?;
        let mut changes = Vec::with_capacity(table.len());
        for row in table {
            let moment = |column| -> Result<Option<Micros>, Error> {
                Ok(row.get::<TimestampWithTimeZone>(column)?.map(Micros::from))
            };
            // One moment is shown as the shortest interval there is.
            let interval = |from: Option<Micros>, to: Option<Micros>| {
                from.zip(to).and_then(|(from, to)| Interval::new(from, to.max(from + 1)))
            };
            changes.push(Change {
                change_id: row.get(1)?.unwrap_or_default(),
                event_id: row.get(2)?.unwrap_or_default(),
                what: row.get(3)?.unwrap_or_default(),
                before: interval(moment(4)?, moment(5)?),
                after: interval(moment(6)?, moment(7)?),
                busy_status_before: row.get(8)?,
                busy_status_after: row.get(9)?,
                changed_at: row.get(10)?.ok_or_else(|| Error::Internal("a change has no time".to_owned()))?,
            });
        }
        Ok(Some(changes))
    })
}

/// Removes changes past `calsync.change_retention`, but of each calendar the last of them, which tells whether somebody
/// who comes back has missed any. At most `limit`; returns how many.
pub fn forget(whose: &Whose, limit: i64) -> Result<i64, Error> {
    let until = time::timestamp(time::now() - settings::change_retention())?;
    Spi::connect_mut(|client| {
        let table = client.update(
            &format!(
                "WITH past AS ( \
                     SELECT c.subscription_id, c.change_id FROM calsync.change AS c \
                     WHERE c.changed_at < $1 AND EXISTS ( \
                         SELECT FROM calsync.change AS n WHERE n.subscription_id = c.subscription_id \
                             AND n.change_id > c.change_id AND n.changed_at < $1) \
                         AND {} LIMIT $2 FOR UPDATE OF c SKIP LOCKED), \
                 gone AS ( \
                     DELETE FROM calsync.change AS c USING past \
                     WHERE c.subscription_id = past.subscription_id AND c.change_id = past.change_id RETURNING 1) \
                 SELECT count(*) FROM gone",
                is_of_theirs("c.subscription_id", 3)
            ),
            None,
            &[until.into(), limit.into(), whose.parameter()],
        )?;
        Ok(table.first().get_one()?.unwrap_or_default())
    })
}
