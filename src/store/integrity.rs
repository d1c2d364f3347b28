//! Does what is stored hold together? One calendar at a time, piece by piece, so that memory does not grow with them.
//!
//! What is derived is derived anew by the functions that the writer uses ([`super::expansion`], [`super::busy`]) and
//! compared. Of what follows from other damage nothing is said: busy time is looked at where the occurrences are right.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use super::busy;
use super::expansion;
use super::piece::FRESH_ROWS;
use super::plan::forgetting;
use super::stored::CHUNK;
use super::subscription::{Subscription, TABLES, read_all};
use crate::error::Error;

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// It came from another database, and is not taken over yet: it answers nothing.
    ForeignHome,
    /// Stored occurrences are not those that the event has in the covered window.
    OccurrencesDiffer,
    /// Busy time is not what the occurrences make.
    BusyDiffers,
    /// Rows that belong to nothing.
    OrphanRows,
    /// Two rows are the same event, or stand for the same occurrence.
    DuplicateEvent,
    /// A row that contradicts itself.
    BrokenEvent,
    /// A token that deltas would be merged from, although the calendar was never listed in full.
    TokenWithoutFullSync,
    /// The covered window says more than is known, or nothing although much is.
    UntrueCover,
    /// A lease far longer than any request takes: nobody else could claim the calendar.
    EndlessLease,
    /// A calendar that the worker would never ask about again.
    NeverDue,
    /// The subscription names a credential that is not there: the calendar cannot be asked for.
    MissingCredential,
    /// The calendar's zone is none that is known: nothing can be expanded.
    UnknownTimeZone,
    /// The owner, kept by name, is no role: only superusers see the calendar.
    UnknownOwner,
    /// Shared with a role that there is none of.
    UnknownGuest,
    /// It is polled rarely, although no channel tells of its changes.
    PushLost,
}

impl Problem {
    pub fn label(self) -> &'static str {
        match self {
            Self::ForeignHome => "foreign_home",
            Self::OccurrencesDiffer => "occurrences_differ",
            Self::BusyDiffers => "busy_differs",
            Self::OrphanRows => "orphan_rows",
            Self::DuplicateEvent => "duplicate_event",
            Self::BrokenEvent => "broken_event",
            Self::TokenWithoutFullSync => "token_without_full_sync",
            Self::UntrueCover => "untrue_cover",
            Self::EndlessLease => "endless_lease",
            Self::NeverDue => "never_due",
            Self::MissingCredential => "missing_credential",
            Self::UnknownTimeZone => "unknown_time_zone",
            Self::UnknownOwner => "unknown_owner",
            Self::UnknownGuest => "unknown_guest",
            Self::PushLost => "push_lost",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Finding {
    pub problem: Problem,
    pub event_id: Option<String>,
    pub detail: String,
}

/// Rows of a table whose subscription does not exist.
#[derive(Debug)]
pub struct Orphans {
    pub table: &'static str,
    pub subscription: i64,
    pub rows: i64,
}

impl std::fmt::Display for Orphans {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Orphans { table, subscription, rows } = self;
        write!(f, "{rows} in calsync.{table} of subscription {subscription}, which is not there")
    }
}

/// How often a calendar that is changed meanwhile is looked at again: the statements of a check see one state only
/// where nobody commits between them.
const TRIES: usize = 5;

/// Everything that is wrong with a calendar; nothing where there is no such subscription.
pub fn check(id: i64) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for _ in 0..TRIES {
        let before = version(id)?;
        let Some(subscription) = read(id)? else { return Ok(Vec::new()) };
        findings = check_state(&subscription)?;
        if version(id)? == before {
            break;
        }
    }
    Ok(findings)
}

/// Whoever changes a calendar writes its row.
fn version(id: i64) -> Result<Option<String>, Error> {
    let sql = "SELECT s.xmin::text FROM calsync.subscription AS s WHERE s.subscription_id = $1";
    Ok(rows(sql, &[id.into()], |row| row.get(1))?.pop().flatten())
}

fn read(id: i64) -> Result<Option<Subscription>, Error> {
    Spi::connect(|client| {
        let sql =
            format!("SELECT {} FROM calsync.subscription AS s WHERE s.subscription_id = $1", Subscription::COLUMNS);
        Ok(read_all(client.select(&sql, None, &[id.into()])?)?.pop())
    })
}

fn check_state(subscription: &Subscription) -> Result<Vec<Finding>, Error> {
    let mut findings = by_query(subscription.id)?;
    if subscription.is_foreign {
        let detail = "it came from another database (a restore, a copy), and is not taken over yet".to_owned();
        findings.push(Finding { problem: Problem::ForeignHome, event_id: None, detail });
    }
    if subscription.zone().is_err() {
        let detail = format!("\"{}\" is in no database of time zones", subscription.time_zone);
        findings.push(Finding { problem: Problem::UnknownTimeZone, event_id: None, detail });
        return Ok(findings);
    }
    let found = |findings: &[Finding], problem| findings.iter().any(|finding| finding.problem == problem);
    if found(&findings, Problem::UntrueCover) {
        return Ok(findings);
    }
    let derived = occurrences(subscription)?;
    if derived.is_empty() && !found(&findings, Problem::OrphanRows) {
        findings.extend(busy_time(subscription.id)?);
    }
    findings.extend(derived);
    Ok(findings)
}

/// What one look at the rows tells: each query gives (event or null, detail).
fn by_query(id: i64) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for (problem, sql) in QUERIES {
        let found = rows(sql, &[id.into()], |row| Ok((row.get(1)?, row.get::<String>(2)?.unwrap_or_default())))?;
        findings.extend(found.into_iter().map(|(event_id, detail)| Finding { problem, event_id, detail }));
    }
    Ok(findings)
}

const QUERIES: [(Problem, &str); 14] = [
    (
        Problem::UnknownOwner,
        "SELECT NULL::text, 'role \"' || s.owner || '\" does not exist: it was dropped or renamed' \
         FROM calsync.subscription AS s WHERE s.subscription_id = $1 \
             AND NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = s.owner)",
    ),
    (
        Problem::UnknownGuest,
        "SELECT NULL::text, 'shared with role \"' || h.role || '\", which does not exist: it was dropped or renamed' \
         FROM calsync.share AS h WHERE h.subscription_id = $1 \
             AND NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = h.role)",
    ),
    (
        Problem::UntrueCover,
        "SELECT NULL::text, CASE \
             WHEN isempty(s.covered) THEN 'nothing is covered, although it was synced in full' \
             WHEN s.full_synced_at IS NULL THEN 'a window is covered, although it was never synced in full' \
             WHEN lower_inf(s.covered) OR upper_inf(s.covered) THEN 'the covered window has no bounds' \
             ELSE 'covered begins before events were pruned' END \
         FROM calsync.subscription AS s WHERE s.subscription_id = $1 \
             AND (isempty(s.covered) = (s.full_synced_at IS NOT NULL) OR lower_inf(s.covered) OR upper_inf(s.covered) \
                  OR lower(s.covered) < s.complete_from)",
    ),
    (
        Problem::TokenWithoutFullSync,
        "SELECT NULL::text, 'deltas would be merged from a token, although it was never synced in full' \
         FROM calsync.subscription AS s \
         WHERE s.subscription_id = $1 AND s.sync_token IS NOT NULL AND s.full_synced_at IS NULL",
    ),
    (
        // A page is awaited for calsync.request_timeout, ten minutes at most, and each page prolongs the lease.
        Problem::EndlessLease,
        "SELECT NULL::text, 'claimed by process ' || coalesce(s.leased_by::text, '?') || ' for more than an hour' \
         FROM calsync.subscription AS s WHERE s.subscription_id = $1 AND s.leased_until > now() + interval '1 hour'",
    ),
    (
        Problem::NeverDue,
        "SELECT NULL::text, 'next_sync_at is not set' FROM calsync.subscription AS s \
         WHERE s.subscription_id = $1 AND s.provider <> 'none' AND s.state <> 'paused' \
             AND (s.next_sync_at IS NULL OR s.next_sync_at = 'infinity')",
    ),
    (
        Problem::MissingCredential,
        "SELECT NULL::text, 'credential \"' || s.credential || '\" is not there: SELECT calsync_add_credential(...)' \
         FROM calsync.subscription AS s WHERE s.subscription_id = $1 AND s.credential IS NOT NULL \
             AND NOT EXISTS (SELECT FROM calsync.credential AS c WHERE c.owner = s.owner AND c.name = s.credential)",
    ),
    (
        // Whoever tends channels looks every half a minute.
        Problem::PushLost,
        "SELECT NULL::text, 'its next poll is put off for a channel that is not there' \
         FROM calsync.subscription AS s WHERE s.subscription_id = $1 AND s.pushed AND s.leased_until IS NULL \
             AND NOT EXISTS ( \
                 SELECT FROM calsync.channel AS ch WHERE ch.remote_id = s.remote_id AND ch.owner = s.owner \
                     AND ch.provider = s.provider AND coalesce(ch.credential, '') = coalesce(s.credential, '') \
                     AND (ch.confirmed_at IS NOT NULL AND ch.state IN ('open', 'stopping') \
                          OR ch.ended_at > now() - interval '10 minutes'))",
    ),
    (
        Problem::DuplicateEvent,
        "SELECT e.event_id, count(*) || ' rows have this id' FROM calsync.event AS e \
         WHERE e.subscription_id = $1 GROUP BY e.event_id HAVING count(*) > 1",
    ),
    (
        // Series that were split share their iCal UID, and a tombstone beside an exception does no harm: only two
        // exceptions for one occurrence are one too many, and only where ids are Google's, which say which occurrence:
        // what an application says of its own calendar is kept as said.
        Problem::DuplicateEvent,
        "SELECT min(e.event_id), 'the same occurrence of ' || e.recurring_event_id || ' has ' || count(*) || ' exceptions: ' \
             || string_agg(e.event_id, ', ' ORDER BY e.event_id) \
         FROM calsync.event AS e JOIN calsync.subscription AS s USING (subscription_id) \
         WHERE e.subscription_id = $1 AND s.provider = 'google' AND e.kind = 'exception' \
         GROUP BY e.recurring_event_id, e.original_start, e.original_start_date \
         HAVING count(DISTINCT e.event_id) > 1",
    ),
    (Problem::BrokenEvent, BROKEN_EVENTS),
    (
        Problem::OrphanRows,
        "SELECT o.event_id, 'occurrences of an event that is not there: ' || count(*) \
         FROM calsync.occurrence AS o WHERE o.subscription_id = $1 AND NOT EXISTS ( \
             SELECT FROM calsync.event AS e WHERE e.subscription_id = o.subscription_id AND e.event_id = o.event_id) \
         GROUP BY o.event_id",
    ),
    (
        Problem::OrphanRows,
        "SELECT NULL::text, 'staged for a round that is not there: ' || count(*) \
         FROM calsync.staged_event AS g WHERE g.subscription_id = $1 AND NOT EXISTS ( \
             SELECT FROM calsync.staged_round AS r WHERE r.subscription_id = g.subscription_id AND r.round = g.round) \
         GROUP BY g.round",
    ),
    (
        // Cleaning removes it a day after it was found.
        Problem::OrphanRows,
        "SELECT e.event_id, 'a deleted occurrence of ' || e.recurring_event_id || ', which is not there' \
         FROM calsync.event AS e WHERE e.subscription_id = $1 AND e.kind = 'tombstone' \
             AND e.orphaned_at < now() - interval '3 days' AND NOT EXISTS ( \
                 SELECT FROM calsync.event AS m \
                 WHERE m.subscription_id = e.subscription_id AND m.event_id = e.recurring_event_id)",
    ),
];

const BROKEN_EVENTS: &str = "SELECT e.event_id, 'a row of kind ' || e.kind || ' lacks what that kind needs' \
         FROM calsync.event AS e CROSS JOIN LATERAL (SELECT \
         e.starts_at IS NOT NULL AND e.ends_at IS NOT NULL OR e.start_date IS NOT NULL AND e.end_date IS NOT NULL, \
         e.recurring_event_id IS NOT NULL AND coalesce(e.original_start, e.original_start_date) IS NOT NULL \
         ) AS has (times, slot) \
         WHERE e.subscription_id = $1 AND NOT CASE e.kind \
         WHEN 'single' THEN has.times \
         WHEN 'master' THEN has.times AND e.recurrence IS NOT NULL \
         WHEN 'exception' THEN has.times AND has.slot \
         WHEN 'tombstone' THEN has.slot ELSE true END";

/// Events whose rows contradict themselves.
pub fn broken_events(id: i64) -> Result<Vec<String>, Error> {
    rows(BROKEN_EVENTS, &[id.into()], |row| Ok(row.get(1)?.unwrap_or_default()))
}

/// Events whose occurrences are not those that a fresh expansion gives.
fn occurrences(subscription: &Subscription) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for chunk in all_events(subscription.id)?.chunks(CHUNK) {
        pgrx::check_for_interrupts!();
        match differing(subscription, chunk) {
            Ok(differing) => findings.extend(differing),
            // A broken row among them, which was found before; the others are looked at one by one.
            Err(Error::Internal(_)) => {
                for event in chunk {
                    match differing(subscription, std::slice::from_ref(event)) {
                        Err(Error::Internal(_)) => {}
                        outcome => findings.extend(outcome?),
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(findings)
}

fn all_events(id: i64) -> Result<Vec<String>, Error> {
    rows("SELECT event_id FROM calsync.event WHERE subscription_id = $1 ORDER BY event_id", &[id.into()], |row| {
        Ok(row.get(1)?.unwrap_or_default())
    })
}

fn differing(subscription: &Subscription, events: &[String]) -> Result<Vec<Finding>, Error> {
    let mut differing: BTreeMap<String, Difference> = BTreeMap::new();
    expansion::each_fresh(subscription, events, |piece| {
        let found = rows(&DIFFERING, &piece.arguments(subscription.id), |row| {
            let event_id = row.get(1)?.unwrap_or_default();
            Ok((event_id, Difference::read(row)?))
        })?;
        for (event_id, more) in found {
            differing.entry(event_id).or_default().add(more);
        }
        Ok(())
    })?;
    let finding = |(event_id, difference): (String, Difference)| Finding {
        problem: Problem::OccurrencesDiffer,
        event_id: Some(event_id),
        detail: difference.told(""),
    };
    Ok(differing.into_iter().map(finding).collect())
}

/// What is stored against a piece of what should be. Of (event_id, missing, too many, the first's start).
static DIFFERING: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH fresh AS MATERIALIZED ( \
             SELECT f.event_id, f.starts_at, f.ends_at, f.busy_status::calsync.busy_status AS busy_status FROM {} AS f), \
         stored AS MATERIALIZED ( \
             SELECT o.event_id, o.starts_at, o.ends_at, o.busy_status FROM calsync.occurrence AS o \
             WHERE o.subscription_id = $1 AND o.event_id = ANY ($6) AND o.starts_at >= $7 AND o.starts_at < $8), \
         differing AS ( \
             SELECT event_id, 1 AS missing, starts_at FROM (TABLE fresh EXCEPT TABLE stored) AS missing \
             UNION ALL \
             SELECT event_id, 0 AS missing, starts_at FROM (TABLE stored EXCEPT TABLE fresh) AS surplus) \
         SELECT event_id, sum(missing), count(*) - sum(missing), min(starts_at)::text \
         FROM differing GROUP BY event_id",
        FRESH_ROWS
    )
});

/// How many rows are missing and too many, and where the first of them is.
#[derive(Default)]
struct Difference {
    missing: i64,
    surplus: i64,
    first: String,
}

impl Difference {
    /// Of the columns 2 to 4.
    fn read(row: &pgrx::spi::SpiHeapTupleData) -> Result<Self, pgrx::spi::SpiError> {
        Ok(Self {
            missing: row.get(2)?.unwrap_or_default(),
            surplus: row.get(3)?.unwrap_or_default(),
            first: row.get(4)?.unwrap_or_default(),
        })
    }

    /// Of what comes after.
    fn add(&mut self, more: Self) {
        self.missing += more.missing;
        self.surplus += more.surplus;
        if self.first.is_empty() {
            self.first = more.first;
        }
    }

    fn told(&self, what: &str) -> String {
        let Difference { missing, surplus, first } = self;
        format!("{missing} {what}missing, {surplus} too many, the first at {first}")
    }
}

fn busy_time(id: i64) -> Result<Option<Finding>, Error> {
    let mut difference = Difference::default();
    busy::each_fresh(id, |pieces, from, to| {
        let found = forgetting(|| rows(DIFFERING_BUSY, &pieces.arguments(id, from, to)?, Difference::read))?;
        found.into_iter().for_each(|more| difference.add(more));
        Ok(())
    })?;
    let differs = difference.missing + difference.surplus > 0;
    let detail = difference.told("pieces ");
    Ok(differs.then_some(Finding { problem: Problem::BusyDiffers, event_id: None, detail }))
}

const DIFFERING_BUSY: &str = "WITH fresh AS MATERIALIZED ( \
         SELECT * FROM unnest($2::timestamptz[], $3::timestamptz[], $4::smallint[]) AS f (starts_at, ends_at, statuses)), \
     stored AS MATERIALIZED ( \
         SELECT b.starts_at, b.ends_at, b.statuses FROM calsync.busy AS b \
         WHERE b.subscription_id = $1 AND b.ends_at > $5 AND b.ends_at <= $6), \
     differing AS ( \
         SELECT 1 AS missing, starts_at FROM (TABLE fresh EXCEPT TABLE stored) AS missing \
         UNION ALL \
         SELECT 0 AS missing, starts_at FROM (TABLE stored EXCEPT TABLE fresh) AS surplus) \
     SELECT NULL::text, sum(missing), count(*) - sum(missing), min(starts_at)::text FROM differing HAVING count(*) > 0";

/// Rows of whatever table that belong to no subscription.
pub fn orphans() -> Result<Vec<Orphans>, Error> {
    let mut found = Vec::new();
    for table in TABLES {
        // One look at the index for each subscription that has rows, not one for each row.
        let sql = format!(
            "WITH RECURSIVE held (id) AS ( \
                 (SELECT t.subscription_id FROM calsync.{table} AS t ORDER BY t.subscription_id LIMIT 1) \
                 UNION ALL \
                 SELECT (SELECT t.subscription_id FROM calsync.{table} AS t WHERE t.subscription_id > held.id \
                         ORDER BY t.subscription_id LIMIT 1) \
                 FROM held WHERE held.id IS NOT NULL) \
             SELECT h.id, (SELECT count(*) FROM calsync.{table} AS t WHERE t.subscription_id = h.id) \
             FROM held AS h WHERE h.id IS NOT NULL \
                 AND NOT EXISTS (SELECT FROM calsync.subscription AS s WHERE s.subscription_id = h.id)"
        );
        found.extend(rows(&sql, &[], |row| {
            Ok(Orphans { table, subscription: row.get(1)?.unwrap_or_default(), rows: row.get(2)?.unwrap_or_default() })
        })?);
    }
    Ok(found)
}

fn rows<T>(
    sql: &str,
    arguments: &[DatumWithOid],
    mut read: impl FnMut(&pgrx::spi::SpiHeapTupleData) -> Result<T, pgrx::spi::SpiError>,
) -> Result<Vec<T>, Error> {
    Spi::connect(|client| Ok(client.select(sql, None, arguments)?.map(|row| read(&row)).collect::<Result<_, _>>()?))
}
