//! Rounds of syncing, as the tables see them: claimed, staged, committed, failed.
//!
//! A claim ([`super::claims`]) gives the calendar's `lease` number to its holder. Whatever the holder writes later, it first locks the
//! subscription and checks that the lease is still its own and the token still the one it asked with: a round that was
//! overtaken (by a newer claim, `calsync_resync`, `calsync_pause`, an unsubscription, a delta from the application)
//! leaves no trace. The row is never waited for: while somebody else holds its lock, the answer is kept.
//!
//! Whoever makes the calendar due during a round (`calsync_sync`) moves `next_sync_at` away from the end of the lease,
//! and the end of the round leaves that wish alone.

use std::time::Duration;

use calsync_core::providers::google;
use calsync_core::row::RowChange;
use calsync_core::schedule::{Retry, Slows};
use calsync_core::sync::{Failure, FailureKind, TokenLoss};
use chrono::{DateTime, Utc};
use pgrx::prelude::*;

use super::claims::Claim;
use super::credential;
use super::durability;
use super::merge::{self, Counts, Source};
use super::staging::{self, StagedPage};
use super::subscription::{self, Subscription, TryLock};
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

/// When a calendar is polled next, and the interval that this follows from.
#[derive(Debug, Clone, Copy)]
pub struct NextPoll {
    pub interval: Duration,
    pub at: DateTime<Utc>,
    /// Put off beyond the interval, because a channel tells of changes.
    pub pushed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<T> {
    Done(T),
    /// The round was overtaken.
    Superseded,
    /// Somebody else holds the lock of the calendar's row: nothing was done, try again later.
    Locked,
}

/// Does `work` with the claim's subscription locked, if the round still counts.
fn while_ours<T>(
    claim: &Subscription,
    expected: Option<&str>,
    work: impl FnOnce(Subscription) -> Result<T, Error>,
) -> Result<Outcome<T>, Error> {
    let current = match subscription::try_lock(claim.id)? {
        TryLock::HeldElsewhere => return Ok(Outcome::Locked),
        TryLock::Locked(current) => Some(current),
        TryLock::Gone => None,
    };
    // A full sync asks with no token and replaces whatever there is, so it need not match; a delta must.
    let ours = current.filter(|current| {
        current.lease == claim.lease && (expected.is_none() || current.sync_token.as_deref() == expected)
    });
    match ours {
        Some(current) => work(*current).map(Outcome::Done),
        None => {
            staging::discard(claim.id, claim.lease)?;
            Ok(Outcome::Superseded)
        }
    }
}

/// Keeps a page of which more follow, and prolongs the lease.
pub fn stage(claim: &Subscription, page: &RoundPage, next: &str, lease: Duration) -> Result<Outcome<()>, Error> {
    while_ours(claim, page.expected, |_| {
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
                &[claim.id.into(), lease.as_secs_f64().into()],
            )?;
            Ok(())
        })
    })
}

/// The last page: everything staged plus this becomes the state of the cache, and the token moves, in this transaction.
/// `next_poll` says when to ask next, given whether there was news.
pub fn commit(
    claim: &Claim,
    page: &RoundPage,
    successor: &str,
    progress: Progress,
    next_poll: impl FnOnce(bool) -> NextPoll,
) -> Result<Outcome<Counts>, Error> {
    let Subscription { id, lease, .. } = claim.subscription;
    let failing = claim.credential().filter(|_| claim.probes || claim.slowed);
    if let Some((owner, name)) = &failing
        && credential::try_lock(owner, name)?.is_none()
    {
        return Ok(Outcome::Locked);
    }
    while_ours(&claim.subscription, page.expected, |mut current| {
        let staged = staging::find(id, lease)?;
        let time_zone = page.time_zone.map(str::to_owned).or(staged.as_ref().and_then(|round| round.time_zone.clone()));
        let source = if staged.is_some() {
            staging::add_changes(id, lease, page.changes)?;
            Source::Staged(lease)
        } else {
            Source::Page(page.changes)
        };
        let round = merge::Round { source, full_sync: progress.full_sync, time_zone: time_zone.as_deref() };
        let counts = merge::merge(&mut current, &round)?;
        let parameters = google::token_parameters(&claim.subscription.remote_id, claim.generation.unwrap_or_default());
        move_token(id, successor, &parameters, progress)?;
        let next = next_poll(counts.changed());
        set_poll_interval(id, next)?;
        finish(id, next.at)?;
        if let (Some((owner, name)), Some(generation)) = (failing, claim.generation) {
            credential::accepted((&owner, &name, generation))?;
        }
        if progress.full_sync || counts.changed() {
            record(id, progress, "committed", Some(counts), None)?;
        }
        Ok(counts)
    })
}

/// A poll that brought nothing but a successor token.
#[derive(Debug)]
pub struct Quiet<'a> {
    pub claim: &'a Subscription,
    pub expected: &'a str,
    pub successor: &'a str,
    pub started_at: DateTime<Utc>,
    pub next: NextPoll,
}

/// Ends rounds without news, many at once: only the token and the times move. Returns the calendars for which that was
/// possible; the others were overtaken or are locked, and [`commit`] finds out which.
///
/// The token is worth no more than its predecessor, since nothing lies between them: losing it in a crash does no harm,
/// so this does not wait for the disk.
pub fn commit_quiet(rounds: &[Quiet]) -> Result<Vec<i64>, Error> {
    durability::need_not_last();
    let ids: Vec<i64> = rounds.iter().map(|round| round.claim.id).collect();
    let leases: Vec<i64> = rounds.iter().map(|round| round.claim.lease).collect();
    let expected: Vec<&str> = rounds.iter().map(|round| round.expected).collect();
    let successors: Vec<&str> = rounds.iter().map(|round| round.successor).collect();
    let started = rounds.iter().map(|round| time::timestamp(round.started_at)).collect::<Result<Vec<_>, Error>>()?;
    let next = rounds.iter().map(|round| time::timestamp(round.next.at)).collect::<Result<Vec<_>, Error>>()?;
    let pushed: Vec<bool> = rounds.iter().map(|round| round.next.pushed).collect();
    let intervals: Vec<f64> = rounds.iter().map(|round| round.next.interval.as_secs_f64()).collect();
    Spi::connect_mut(|client| {
        let table = client.update(
            "WITH quiet AS MATERIALIZED ( \
                 SELECT quiet.* FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[], \
                     $6::timestamptz[], $7::double precision[], $8::boolean[]) \
                     AS quiet (subscription_id, lease, expected, successor, started_at, next_sync_at, seconds, pushed) \
                 JOIN calsync.subscription AS s ON s.subscription_id = quiet.subscription_id \
                     AND s.lease = quiet.lease AND s.sync_token = quiet.expected \
                 FOR UPDATE OF s SKIP LOCKED) \
             UPDATE calsync.subscription AS s SET sync_token = quiet.successor, synced_at = quiet.started_at, \
                 state = 'active', failures = 0, failing_since = NULL, failing_as = NULL, gone_at = NULL, \
                 last_error = NULL, poll_interval = make_interval(secs => quiet.seconds), pushed = quiet.pushed, \
                 leased_until = NULL, leased_by = NULL, leased_at = NULL, \
                 next_sync_at = CASE WHEN s.next_sync_at = s.leased_until THEN quiet.next_sync_at ELSE s.next_sync_at END \
             FROM quiet WHERE s.subscription_id = quiet.subscription_id RETURNING s.subscription_id",
            None,
            &[
                ids.into(),
                leases.into(),
                expected.into(),
                successors.into(),
                started.into(),
                next.into(),
                intervals.into(),
                pushed.into(),
            ],
        )?;
        table.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect()
    })
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
    while_ours(claim, claim.sync_token.as_deref(), |_| {
        staging::discard(claim.id, claim.lease)?;
        Spi::connect_mut(|client| {
            let sql =
                "UPDATE calsync.subscription SET sync_token = NULL, token_params = NULL WHERE subscription_id = $1";
            client.update(sql, None, &[claim.id.into()]).map(drop)
        })?;
        record(claim.id, progress, "token_lost", None, Some(&because.to_string()))
    })
}

/// The round brought nothing. `decide` says what becomes of the calendar, given (failures before this one, since when
/// it has failed in this way).
pub fn fail(
    claim: &Claim,
    failure: &Failure,
    progress: Progress,
    random: f64,
    decide: impl FnOnce(u32, Option<DateTime<Utc>>) -> Retry,
) -> Result<Outcome<()>, Error> {
    let (generation, probes) = (claim.generation, claim.probes);
    let claim = &claim.subscription;
    let hangs_on_the_secret = hangs_on_the_secret(failure.kind);
    let shown = claim.credential.as_ref().filter(|_| probes || hangs_on_the_secret);
    let (slowed, is_replaced) = match shown {
        Some(name) => match credential::try_lock(&claim.owner, name)? {
            Some(failures) => {
                (failures, hangs_on_the_secret && credential::is_replaced(&claim.owner, name, generation)?)
            }
            None => return Ok(Outcome::Locked),
        },
        None => (0, false),
    };
    while_ours(claim, None, |current| {
        staging::discard(claim.id, claim.lease)?;
        if is_replaced {
            // Nobody knows what it says to the new one: that is found out at once, and is no failure.
            return finish(claim.id, Utc::now());
        }
        let way = failing_as(failure.kind);
        let failing_since = current.failing_since.filter(|_| current.failing_as.as_deref() == Some(way));
        // A rate limit is not the calendar's fault: how long to wait follows from the credential's own count.
        let is_rate_limit = failure.kind == FailureKind::RateLimited && claim.credential.is_some();
        let retry = decide(if is_rate_limit { slowed } else { current.failures }, failing_since);
        Spi::connect_mut(|client| -> Result<(), Error> {
            client.update(
                "UPDATE calsync.subscription SET failures = failures + CASE WHEN $6 THEN 0 ELSE 1 END, failing_as = $2, \
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
                    is_rate_limit.into(),
                ],
            )?;
            Ok(())
        })?;
        finish(claim.id, retry.at)?;
        if let (Some(name), Some(generation)) = (&claim.credential, generation) {
            if probes && failure.kind != FailureKind::Unopened {
                // Whatever came of it, it could be opened.
                credential::opened((&claim.owner, name, generation))?;
            }
            match retry.slows {
                Slows::Calendar if probes => {
                    // What passes may be everybody's: the others need not meet it at once.
                    let wait = if failure.kind == FailureKind::Passing { 5.0 } else { 1.0 };
                    credential::still_in_doubt((&claim.owner, name, generation), claim.id, wait)?;
                }
                Slows::Calendar => {}
                Slows::Credential => credential::slowed((&claim.owner, name, generation), retry.at, &failure.reason)?,
                Slows::CredentialRefused => {
                    credential::refused((&claim.owner, name, generation), retry.at, &failure.reason)?;
                }
                Slows::CredentialPerhaps => {
                    credential::doubted((&claim.owner, name, generation), claim.id, probes, failure, random)?;
                }
                Slows::CredentialUnopened => {
                    credential::unopened((&claim.owner, name, generation), retry.at, &failure.reason)?;
                }
            }
        }
        // Every minute the same would bury the rest of the history.
        if failure.kind == FailureKind::Unopened && failing_since.is_some() {
            return Ok(());
        }
        record(claim.id, progress, "failed", None, Some(&failure.reason))
    })
}

/// Whether the provider could answer otherwise if it were shown another secret.
fn hangs_on_the_secret(kind: FailureKind) -> bool {
    match kind {
        FailureKind::RateLimited
        | FailureKind::Credential
        | FailureKind::Ungranted
        | FailureKind::Unopened
        | FailureKind::Forbidden
        | FailureKind::NotFound => true,
        FailureKind::Passing | FailureKind::RefusedUrl => false,
    }
}

fn failing_as(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Passing => "passing",
        FailureKind::RateLimited => "rate_limited",
        FailureKind::Credential => "credential",
        FailureKind::Ungranted => "ungranted",
        FailureKind::Unopened => "unopened",
        FailureKind::Forbidden => "forbidden",
        FailureKind::NotFound => "not_found",
        FailureKind::RefusedUrl => "refused_url",
    }
}

fn set_poll_interval(id: i64, next: NextPoll) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.subscription SET poll_interval = make_interval(secs => $2), pushed = $3 \
             WHERE subscription_id = $1",
            None,
            &[id.into(), next.interval.as_secs_f64().into(), next.pushed.into()],
        )?;
        Ok(())
    })
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
