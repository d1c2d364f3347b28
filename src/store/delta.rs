//! A delta that the application fetched: checked against where the cache stands, then staged or merged.

use calsync_core::delta::{self, Envelope, GivenPageToken};
use calsync_core::merge::latest_of_each;
use calsync_core::row::RowChange;
use chrono::TimeDelta;
use pgrx::pg_sys;

use super::home;
use super::merge::{self, Counts, Source};
use super::rounds::{self, Progress};
use super::staging::{self, APPLICATION_ROUND, StagedPage, StagedRound};
use super::subscription::{self, Subscription};
use super::time;
use crate::error::{Error, TokenConflict};

/// What `calsync_apply_delta` returns.
#[derive(Debug)]
pub struct Applied {
    pub calendar: String,
    pub counts: Counts,
    pub full_sync: bool,
    pub complete: bool,
    /// Where the cache stands now.
    pub sync_token: Option<String>,
}

/// Tokens that an application got belong to the application's request, whose parameters nobody knows: the worker must
/// not go on from them.
const APPLICATION_PARAMETERS: &str = "application";

/// Pages this old belong to a round that somebody gave up: merged into the next one they would bring back what was
/// deleted since.
const ABANDONED_AFTER: TimeDelta = TimeDelta::hours(1);

/// `json`: the delta's text.
pub fn apply(role: pg_sys::Oid, json: &[u8]) -> Result<Applied, Error> {
    let envelope = delta::read_envelope(json)?;
    let mut subscription = at_home(subscription::find_for_update(role, &envelope.calendar)?)?;
    // Everything is read before anything is written: a delta is applied as a whole or not at all.
    let changes: Vec<RowChange> =
        latest_of_each(envelope.changes(&subscription.options()?)?).into_iter().map(RowChange::from).collect();
    let staged = open_round(&subscription, &envelope)?;
    match &envelope.end {
        delta::End::NextPage(next) => stage(&subscription, &envelope, &changes, next),
        delta::End::Complete(successor) => complete(&mut subscription, &envelope, changes, staged, successor),
    }
}

/// A calendar that came from another database is taken over, unless it is still coming.
fn at_home(subscription: Subscription) -> Result<Subscription, Error> {
    if !subscription.is_foreign {
        return Ok(subscription);
    }
    home::refuse_while_restoring(&subscription.calendar)?;
    home::take_over_locked(&subscription)?;
    let again = subscription::lock(subscription.id)?;
    again.ok_or(Error::UnknownCalendar { calendar: subscription.calendar })
}

/// The round that this page belongs to, if earlier pages of it are staged; checks that the page fits.
fn open_round(subscription: &Subscription, envelope: &Envelope) -> Result<Option<StagedRound>, Error> {
    let conflict = |why| Error::TokenConflict { calendar: subscription.calendar.clone(), why };
    if envelope.expected_sync_token.is_some() && envelope.expected_sync_token != subscription.sync_token {
        return Err(conflict(TokenConflict::Expected {
            expected: envelope.expected_sync_token.clone(),
            stands_at: subscription.sync_token.clone(),
        }));
    }
    let mut staged = staging::find(subscription.id, APPLICATION_ROUND)?;
    let begins = match (&envelope.page_token, &staged) {
        (GivenPageToken::First, _) => true,
        (GivenPageToken::Continues(given), round) => {
            let awaited = round.as_ref().map(|round| round.next_page_token.clone());
            if awaited.as_ref() != Some(given) {
                return Err(conflict(TokenConflict::Page { given: given.clone(), awaited }));
            }
            false
        }
        // A page of another round than the staged ones: that round was given up, after a 410 for instance.
        (GivenPageToken::Absent, Some(round)) if round.expected_sync_token != envelope.expected_sync_token => true,
        (GivenPageToken::Absent, Some(round)) if time::now() - round.started_at > ABANDONED_AFTER => {
            let since = round.started_at.format("%Y-%m-%d %H:%M UTC").to_string();
            return Err(conflict(TokenConflict::Abandoned { since }));
        }
        (GivenPageToken::Absent, _) => false,
    };
    if begins {
        staging::discard(subscription.id, APPLICATION_ROUND)?;
        staged = None;
    }
    if let Some(round) = &staged
        && round.expected_sync_token != envelope.expected_sync_token
    {
        return Err(conflict(TokenConflict::Round {
            expected: envelope.expected_sync_token.clone(),
            began_with: round.expected_sync_token.clone(),
        }));
    }
    Ok(staged)
}

fn stage(
    subscription: &Subscription,
    envelope: &Envelope,
    changes: &[RowChange],
    next: &str,
) -> Result<Applied, Error> {
    staging::add_page(
        subscription.id,
        APPLICATION_ROUND,
        &StagedPage {
            expected_sync_token: envelope.expected_sync_token.as_deref(),
            next_page_token: next,
            time_zone: envelope.time_zone.as_deref(),
            changes,
        },
    )?;
    Ok(Applied {
        calendar: subscription.calendar.clone(),
        counts: Counts::default(),
        full_sync: envelope.expected_sync_token.is_none(),
        complete: false,
        sync_token: subscription.sync_token.clone(),
    })
}

fn complete(
    subscription: &mut Subscription,
    envelope: &Envelope,
    changes: Vec<RowChange>,
    staged: Option<StagedRound>,
    successor: &str,
) -> Result<Applied, Error> {
    let full_sync = envelope.expected_sync_token.is_none();
    let earlier_pages = staged.as_ref().map_or(0, |round| round.pages);
    // Pages that were staged show the calendar as it was when the first of them was fetched.
    let started_at = staged.as_ref().map_or_else(time::now, |round| round.started_at);
    let time_zone = envelope.time_zone.clone().or(staged.as_ref().and_then(|round| round.time_zone.clone()));
    let source = if staged.is_some() {
        staging::add_changes(subscription.id, APPLICATION_ROUND, &changes)?;
        Source::Staged(APPLICATION_ROUND)
    } else {
        Source::Page(&changes)
    };
    let counts = merge::merge(subscription, &merge::Round { source, full_sync, time_zone: time_zone.as_deref() })?;
    let progress = Progress { full_sync, pages: earlier_pages.saturating_add(1), started_at };
    rounds::move_token(subscription.id, successor, APPLICATION_PARAMETERS, progress)?;
    rounds::overtake(subscription.id)?;
    if full_sync || counts.changed() {
        rounds::record(subscription.id, progress, "committed", Some(counts), None)?;
    }
    Ok(Applied {
        calendar: subscription.calendar.clone(),
        counts,
        full_sync,
        complete: true,
        sync_token: Some(successor.to_owned()),
    })
}
