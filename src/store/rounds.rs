//! Rounds of syncing, as the tables see them: claimed, staged, committed, failed.
//!
//! A claim gives the calendar's `lease` number to its holder. Whatever the holder writes later, it first locks the
//! subscription and checks that the lease is still its own and the token still the one it asked with: a round that was
//! overtaken (by a newer claim, `calsync_resync`, `calsync_pause`, an unsubscription, a delta from the application)
//! leaves no trace.
//!
//! A claim also moves `next_sync_at` to the end of the lease, so that a round that dies is repeated; whoever makes the
//! calendar due meanwhile (`calsync_sync`) moves it again, and the end of the round then leaves that wish alone.

use calsync_core::row::RowChange;
use calsync_core::schedule::Retry;
use calsync_core::sync::{Failure, FailureKind, TokenLoss};
use chrono::{DateTime, TimeDelta, Utc};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::merge::{self, Counts, Source};
use super::staging::{self, StagedPage};
use super::subscription::{self, Subscription, read_all};
use super::time;
use crate::error::Error;

/// What a page of a claimed round brought.
pub struct RoundPage<'a> {
    /// The token that the page was asked with; None: a full sync.
    pub expected: Option<&'a str>,
    pub time_zone: Option<&'a str>,
    pub changes: &'a [RowChange],
}

/// How far a claimed round got.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub full_sync: bool,
    /// Pages read, this one included.
    pub pages: i32,
    pub started_at: DateTime<Utc>,
}

/// The round was overtaken, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<T> {
    Done(T),
    Superseded,
}

/// Claims up to `limit` calendars that are due, oldest first, for the length of `lease`; none of `spent` credentials,
/// (owner, name) or None for calendars without one.
pub fn claim(limit: usize, lease: TimeDelta, spent: &[Option<(String, String)>]) -> Result<Vec<Subscription>, Error> {
    let (owners, names): (Vec<String>, Vec<String>) = spent.iter().flatten().cloned().unzip();
    let none_is_spent = spent.contains(&None);
    let claimed = Spi::connect_mut(|client| {
        let sql = format!(
            "WITH due AS MATERIALIZED ( \
                 SELECT s.subscription_id FROM calsync.subscription AS s \
                 LEFT JOIN calsync.credential AS c ON c.owner = s.owner AND c.name = s.credential \
                 WHERE s.next_sync_at <= clock_timestamp() AND s.provider <> 'none' AND s.state <> 'paused' \
                     AND (s.leased_until IS NULL OR s.leased_until <= clock_timestamp()) \
                     AND (c.retry_at IS NULL OR c.retry_at <= clock_timestamp()) \
                     AND NOT ($5 AND s.credential IS NULL) \
                     AND NOT EXISTS (SELECT FROM unnest($3::text[], $4::text[]) AS spent (owner, name) \
                                     WHERE spent.owner = s.owner AND spent.name = s.credential) \
                 ORDER BY s.next_sync_at LIMIT $1 FOR UPDATE OF s SKIP LOCKED) \
             UPDATE calsync.subscription AS s SET lease = s.lease + 1, leased_by = pg_backend_pid(), \
                 leased_at = now(), leased_until = now() + make_interval(secs => $2), \
                 next_sync_at = now() + make_interval(secs => $2) \
             FROM due WHERE s.subscription_id = due.subscription_id RETURNING {}",
            Subscription::COLUMNS
        );
        let seconds = lease.num_milliseconds() as f64 / 1000.0;
        let arguments = [(limit as i64).into(), seconds.into(), owners.into(), names.into(), none_is_spent.into()];
        read_all(client.update(&sql, None, &arguments)?)
    })?;
    for subscription in &claimed {
        staging::discard_abandoned(subscription.id, subscription.lease)?;
    }
    Ok(claimed)
}

/// Gives back the calendars that a process claimed and did not live to sync. Returns how many.
pub fn release_claims_of_the_dead() -> Result<usize, Error> {
    Spi::connect_mut(|client| {
        let table = client.update(
            "UPDATE calsync.subscription AS s SET leased_until = NULL, next_sync_at = now() \
             WHERE s.leased_until > now() AND NOT EXISTS ( \
                 SELECT FROM pg_stat_get_activity(NULL) AS a \
                 WHERE a.pid = s.leased_by AND a.backend_start <= s.leased_at) \
             RETURNING s.subscription_id",
            None,
            &[],
        )?;
        Ok(table.len())
    })
}

/// Gives back what this very process claimed in a call that was cancelled.
pub fn release_own_claims() -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.subscription SET leased_until = NULL, leased_by = NULL, lease = lease + 1, \
                 next_sync_at = now() \
             WHERE leased_by = pg_backend_pid() AND leased_until IS NOT NULL",
            None,
            &[],
        )?;
        Ok(())
    })
}

/// When there is a calendar to claim; None: not before somebody makes one due. Calendars under way do not count: their
/// round's end is looked at anyway.
pub fn next_due() -> Result<Option<DateTime<Utc>>, Error> {
    Spi::connect(|client| {
        let table = client.select(
            "SELECT least( \
                 (SELECT s.next_sync_at FROM calsync.subscription AS s \
                  LEFT JOIN calsync.credential AS c ON c.owner = s.owner AND c.name = s.credential \
                  WHERE s.next_sync_at IS NOT NULL AND s.provider <> 'none' AND s.state <> 'paused' \
                      AND (s.leased_until IS NULL OR s.leased_until <= clock_timestamp()) \
                      AND (c.retry_at IS NULL OR c.retry_at <= clock_timestamp()) \
                  ORDER BY s.next_sync_at LIMIT 1), \
                 (SELECT min(c.retry_at) FROM calsync.credential AS c WHERE c.retry_at > clock_timestamp()))",
            None,
            &[],
        )?;
        if table.is_empty() {
            return Ok(None);
        }
        Ok(table.first().get_one::<TimestampWithTimeZone>()?.and_then(time::instant))
    })
}

/// The claim's subscription, locked, if the round still counts.
fn still_ours(claim: &Subscription, expected: Option<&str>) -> Result<Option<Subscription>, Error> {
    let current = subscription::lock(claim.id)?;
    Ok(current.filter(|current| {
        // A full sync asks with no token and replaces whatever there is, so it need not match; a delta must.
        current.lease == claim.lease && (expected.is_none() || current.sync_token.as_deref() == expected)
    }))
}

/// Keeps a page of which more follow, and prolongs the lease.
pub fn stage(claim: &Subscription, page: &RoundPage, next: &str, lease: TimeDelta) -> Result<Outcome<()>, Error> {
    if still_ours(claim, page.expected)?.is_none() {
        return superseded(claim);
    }
    staging::add_page(
        claim.id,
        claim.lease,
        &StagedPage {
            expected_sync_token: page.expected,
            next_page_token: next,
            time_zone: page.time_zone,
            changes: page.changes,
        },
    )?;
    Spi::connect_mut(|client| {
        // The wish of whoever made the calendar due meanwhile is kept: only our own mark moves.
        client.update(
            "UPDATE calsync.subscription SET leased_until = now() + make_interval(secs => $2), \
                 next_sync_at = CASE WHEN next_sync_at = leased_until \
                     THEN now() + make_interval(secs => $2) ELSE next_sync_at END \
             WHERE subscription_id = $1",
            None,
            &[claim.id.into(), (lease.num_milliseconds() as f64 / 1000.0).into()],
        )?;
        Ok(Outcome::Done(()))
    })
}

/// The last page: everything staged plus this becomes the state of the cache, and the token moves, in this transaction.
pub fn commit(
    claim: &Subscription,
    page: &RoundPage,
    successor: &str,
    progress: Progress,
    next_sync_at: DateTime<Utc>,
) -> Result<Outcome<Counts>, Error> {
    let Some(mut current) = still_ours(claim, page.expected)? else { return superseded(claim) };
    let staged = staging::find(claim.id, claim.lease)?;
    let time_zone = page.time_zone.map(str::to_owned).or(staged.as_ref().and_then(|round| round.time_zone.clone()));
    let source = if staged.is_some() {
        staging::add_changes(claim.id, claim.lease, page.changes)?;
        Source::Staged(claim.lease)
    } else {
        Source::Page(page.changes)
    };
    let round = merge::Round { source, full_sync: progress.full_sync, time_zone: time_zone.as_deref() };
    let counts = merge::merge(&mut current, &round)?;
    move_token(claim.id, successor, provider_parameters(), progress)?;
    finish(claim.id, next_sync_at)?;
    if progress.full_sync || counts.changed() {
        record(claim.id, progress, "committed", Some(counts), None)?;
    }
    Ok(Outcome::Done(counts))
}

fn provider_parameters() -> &'static str {
    calsync_core::providers::google::parameters_version()
}

/// The cache now stands at `successor`, as of the start of the round.
pub fn move_token(id: i64, successor: &str, parameters: &str, progress: Progress) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.subscription SET sync_token = $2, token_params = $3, synced_at = $4, \
                 full_synced_at = CASE WHEN $5 THEN $4 ELSE full_synced_at END, \
                 state = CASE WHEN state = 'paused' THEN state ELSE 'active' END, \
                 failures = 0, failing_since = NULL, failing_as = NULL, gone_at = NULL, last_error = NULL \
             WHERE subscription_id = $1",
            None,
            &[
                id.into(),
                successor.into(),
                parameters.into(),
                time::timestamp(progress.started_at)?.into(),
                progress.full_sync.into(),
            ],
        )?;
        Ok(())
    })
}

/// Makes a worker's round under way worthless: the cache has moved on without it.
pub fn overtake(id: i64) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.subscription SET lease = lease + 1 WHERE subscription_id = $1",
            None,
            &[id.into()],
        )?;
        Ok(())
    })
}

/// The token is worthless: the round goes on as a full sync. Old rows stay until that commits.
pub fn lose_token(claim: &Subscription, because: TokenLoss, progress: Progress) -> Result<Outcome<()>, Error> {
    if still_ours(claim, claim.sync_token.as_deref())?.is_none() {
        return superseded(claim);
    }
    staging::discard(claim.id, claim.lease)?;
    Spi::connect_mut(|client| {
        client
            .update(
                "UPDATE calsync.subscription SET sync_token = NULL, token_params = NULL WHERE subscription_id = $1",
                None,
                &[claim.id.into()],
            )
            .map(drop)
    })?;
    record(claim.id, progress, "token_lost", None, Some(&because.to_string()))?;
    Ok(Outcome::Done(()))
}

/// The round brought nothing. `decide` says what becomes of the calendar, given (failures before this one, since when
/// it has failed in this way).
pub fn fail(
    claim: &Subscription,
    failure: &Failure,
    progress: Progress,
    decide: impl FnOnce(u32, Option<DateTime<Utc>>) -> Retry,
) -> Result<Outcome<()>, Error> {
    let Some(current) = still_ours(claim, None)? else { return superseded(claim) };
    staging::discard(claim.id, claim.lease)?;
    let way = failing_as(failure.kind);
    let failing_since = current.failing_since.filter(|_| current.failing_as.as_deref() == Some(way));
    let retry = decide(current.failures, failing_since);
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.subscription SET failures = failures + 1, failing_as = $2, \
                 failing_since = coalesce($3, clock_timestamp()), last_error = $4, \
                 state = $5::text::calsync.subscription_state, \
                 gone_at = CASE WHEN $5 = 'gone' THEN coalesce(gone_at, now()) ELSE gone_at END \
             WHERE subscription_id = $1",
            None,
            &[
                claim.id.into(),
                way.into(),
                failing_since.map(time::timestamp).transpose()?.into(),
                failure.reason.as_str().into(),
                retry.state.label().into(),
            ],
        )?;
        if retry.slows_credential {
            client.update(
                "UPDATE calsync.credential AS c SET retry_at = greatest(c.retry_at, $3), last_error = $4 \
                 WHERE c.owner = $1::name AND c.name = $2",
                None,
                &[
                    claim.owner.as_str().into(),
                    claim.credential.clone().into(),
                    time::timestamp(retry.at)?.into(),
                    failure.reason.as_str().into(),
                ],
            )?;
        }
        Ok::<(), Error>(())
    })?;
    finish(claim.id, retry.at)?;
    record(claim.id, progress, "failed", None, Some(&failure.reason))?;
    Ok(Outcome::Done(()))
}

fn failing_as(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Passing => "passing",
        FailureKind::RateLimited => "rate_limited",
        FailureKind::Credential => "credential",
        FailureKind::Forbidden => "forbidden",
        FailureKind::NotFound => "not_found",
    }
}

/// Gives the claim back and sets the next due time, unless somebody made the calendar due meanwhile.
fn finish(id: i64, next_sync_at: DateTime<Utc>) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.subscription SET leased_until = NULL, leased_by = NULL, leased_at = NULL, \
                 next_sync_at = CASE WHEN next_sync_at = leased_until THEN $2 ELSE next_sync_at END \
             WHERE subscription_id = $1",
            None,
            &[id.into(), time::timestamp(next_sync_at)?.into()],
        )?;
        Ok(())
    })
}

fn superseded<T>(claim: &Subscription) -> Result<Outcome<T>, Error> {
    staging::discard(claim.id, claim.lease)?;
    Ok(Outcome::Superseded)
}

/// A line of history.
pub fn record(
    id: i64,
    progress: Progress,
    outcome: &str,
    counts: Option<Counts>,
    error: Option<&str>,
) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "INSERT INTO calsync.sync_run (subscription_id, full_sync, outcome, started_at, finished_at, pages, \
                 inserted, updated, deleted, unchanged, error) \
             VALUES ($1, $2, $3, $4, clock_timestamp(), $5, $6, $7, $8, $9, $10)",
            None,
            &[
                id.into(),
                progress.full_sync.into(),
                outcome.into(),
                time::timestamp(progress.started_at)?.into(),
                progress.pages.into(),
                counts.map(|counts| counts.inserted).into(),
                counts.map(|counts| counts.updated).into(),
                counts.map(|counts| counts.deleted).into(),
                counts.map(|counts| counts.unchanged).into(),
                error.into(),
            ],
        )?;
        Ok(())
    })
}
