//! What does a provider's answer mean for the cache?
//!
//! A *round* is one conversation with a provider about one calendar: one or more pages, ending in a successor token. A
//! round with a token fetches a delta, which is merged; a round without one is a full sync, which replaces.
//!
//! The hard cases, each with a test of the same name in `tests/google_sync.rs`:
//! - `a_final_page_without_a_successor_token_forces_a_full_sync`: the old token is never replayed
//! - `an_empty_page_with_a_page_token_goes_on`
//! - `an_invalid_token_and_an_expired_token_both_force_a_full_sync`
//! - `a_full_sync_that_is_told_to_sync_in_full_backs_off`: no endless loop on a provider gone mad
//! - `a_rate_limit_slows_the_credential_not_the_calendar`
//! - `a_body_that_is_cut_off_is_a_passing_failure_and_never_a_deletion`

use std::time::Duration;

use crate::event::Change;

/// Opaque: where in the provider's history the cache stands.
pub type SyncToken = String;
/// Opaque: the next page of the round under way.
pub type PageToken = String;

/// What one page says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The calendar's zone as the provider names it.
    pub time_zone: Option<String>,
    pub changes: Vec<Change>,
}

/// What one answer of a provider asks us to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// More pages follow: stage this one and ask again with `next`.
    NextPage { page: Page, next: PageToken },
    /// The round is complete: merge (or sweep) and move the token, in one transaction.
    Commit { page: Page, successor: SyncToken },
    /// The token is worthless: list everything. Old rows stay until that commits.
    FullSync { because: TokenLoss },
    /// Nothing to apply; try again later, or wait for a person.
    Fail(Failure),
}

/// Why a sync token cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenLoss {
    #[error("the provider no longer accepts the sync token")]
    Expired,
    #[error("the provider calls the sync token invalid")]
    Invalid,
    #[error("the final page carried no successor token")]
    NoSuccessor,
    #[error("the provider refused the parameters of an incremental request")]
    Refused,
}

/// Why a round brought nothing, in words for `last_error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    pub kind: FailureKind,
    /// What happened, for the person who reads it; never holds a secret, at most 500 characters.
    pub reason: String,
    /// The provider's wish (Retry-After), counted from the answer.
    pub retry_after: Option<Duration>,
}

/// Longer reasons are cut.
const LONGEST_REASON: usize = 500;

impl Failure {
    /// A failure without a wish for the time of the next try. `reason` is put on one line and cut at 500 characters.
    pub fn new(kind: FailureKind, reason: impl AsRef<str>) -> Self {
        let shown = reason.as_ref().chars().filter(|c| is_showable(*c));
        Self { kind, reason: shown.take(LONGEST_REASON).collect(), retry_after: None }
    }

    /// The same, with what the provider's Retry-After asks for.
    #[must_use]
    pub fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }
}

/// Not what commands a terminal, breaks a line of a log, or (UAX #9) shows a text in another order than it has.
pub(crate) fn is_showable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// A server's or network's trouble: back off and try again.
    Passing,
    /// Too many requests: every calendar of the credential waits.
    RateLimited,
    /// The credential was not accepted (401): somebody must replace it; tried again once an hour.
    Credential,
    /// The user whom the calendar is named for is granted no access token, and the provider does not say whether others
    /// are: [`crate::doubt`] tells whether that concerns the credential.
    Ungranted,
    /// The credential's secret could not be opened, for our own key file is missing, unreadable or not whole: the provider
    /// was not asked, and somebody mends the file; tried again within a minute.
    Unopened,
    /// The credential may not read this calendar (403): somebody must act; tried again once an hour.
    Forbidden,
    /// No such calendar (404): `gone` once it has lasted.
    NotFound,
    /// Nothing was asked, for its URL is refused (SC008): the provider is not in trouble, our settings are.
    RefusedUrl,
}
