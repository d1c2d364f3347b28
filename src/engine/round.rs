//! One conversation with a provider about one calendar, from the claim to the commit.

use std::time::{Duration, Instant};

use calsync_core::merge::latest_of_each;

use calsync_core::providers::{Answer, Mask, Request, google};
use calsync_core::row::RowChange;
use calsync_core::schedule;
use calsync_core::sync::{Failure, FailureKind, Page, Step, SyncToken, TokenLoss};
use chrono::{DateTime, Utc};

use super::budgets::Credential;
use super::tokens::{Pass, TokenNumber, Wanted};
use super::transactions::{Transactions, UnitFailed};
use super::{lease, random};
use crate::panics;
use crate::settings::{self, Settings};
use crate::store::claims::{self, Claim};
use crate::store::rounds::{self, NextPoll, Outcome, Progress, Quiet, RoundPage};
use crate::store::subscription::Subscription;

/// More are no calendar: with 2,500 events each these would be 25 million.
const MOST_PAGES: i32 = 10_000;

/// A claimed calendar and how far its round got.
pub struct Round {
    claim: Claim,
    /// The token it is asked with; None: a full sync.
    expected: Option<SyncToken>,
    page_token: Option<String>,
    /// Pages read so far.
    pages: i32,
    started_at: DateTime<Utc>,
    begun_at: Instant,
    /// The access token of its last request; None: it was asked without one.
    token: Option<TokenNumber>,
    /// It was asked again with another token, since the first was not accepted.
    renewed: bool,
}

/// What a round has to go on with.
pub enum Heard {
    Answer(Answer),
    /// It could not be asked at all, or the answer is known to be this failure.
    Failure(Failure),
}

/// What an answer means for its round.
pub struct Reading(Step);

impl Reading {
    /// Without what the mask hides: a page's failure may quote the page.
    pub fn masked(self, mask: &Mask) -> Self {
        Reading(match self.0 {
            Step::Fail(failure) => Step::Fail(Failure { reason: mask.text(&failure.reason), ..failure }),
            step => step,
        })
    }

    pub fn failure(&self) -> Option<&Failure> {
        match &self.0 {
            Step::Fail(failure) => Some(failure),
            _ => None,
        }
    }

    pub fn is_failure(&self) -> bool {
        self.failure().is_some()
    }

    /// The provider itself is in trouble, or wants to be left alone.
    pub fn is_providers_trouble(&self) -> bool {
        matches!(&self.0, Step::Fail(failure)
            if matches!(failure.kind, FailureKind::Passing | FailureKind::RateLimited))
    }
}

/// What is to be done with a round.
pub enum Next {
    Request(Round),
    Ended,
    /// Somebody else has locked the calendar: show the same answer again later.
    Locked(Round),
}

impl Round {
    pub fn begin(claim: Claim, settings: &Settings) -> Self {
        let now = Utc::now();
        let Subscription { sync_token, token_params, .. } = &claim.subscription;
        let incremental = claim.subscription.options().is_ok_and(|options| options.incremental);
        // A token belongs to the parameters it came with (API guide, "Synchronize resources efficiently"), and to the
        // person whose calendar it is of.
        let parameters = google::token_parameters(&claim.subscription.remote_id, claim.generation.unwrap_or_default());
        let is_good = incremental
            && token_params.as_deref() == Some(&parameters)
            && !is_full_sync_due(&claim.subscription, settings, now);
        let expected = sync_token.clone().filter(|_| is_good);
        Round {
            claim,
            expected,
            page_token: None,
            pages: 0,
            started_at: now,
            begun_at: Instant::now(),
            token: None,
            renewed: false,
        }
    }

    /// Whose budget its requests use.
    pub fn credential(&self) -> Credential {
        self.claim.credential()
    }

    pub fn owner(&self) -> &str {
        &self.claim.subscription.owner
    }

    /// Somebody waits for it.
    pub fn is_awaited(&self) -> bool {
        self.claim.awaited
    }

    /// It finds out whether its credential is accepted.
    pub fn probes(&self) -> bool {
        self.claim.probes
    }

    /// The calendar has never been synced before.
    pub fn is_the_first(&self) -> bool {
        self.claim.subscription.full_synced_at.is_none()
    }

    /// The round shall not go on: somebody else may claim the calendar.
    pub fn give_back(self, transactions: &mut impl Transactions) {
        let _ = transactions.run(&mut || claims::give_back(&self.claim.subscription));
    }

    /// For whom an access token is wanted; None: it is asked for as nobody.
    pub fn wanted(&self) -> Option<Wanted> {
        let (owner, name) = self.claim.credential()?;
        Some(Wanted {
            owner,
            name,
            generation: self.claim.generation,
            remote_id: self.claim.subscription.remote_id.clone(),
            exactly: google::is_relative(&self.claim.subscription.remote_id),
            not_before: self.claim.probes.then_some(self.begun_at),
        })
    }

    /// The next request, with what the provider wants to see.
    pub fn request(&mut self, pass: Option<&Pass>, settings: &Settings) -> Request {
        self.token = pass.and_then(|pass| pass.token);
        google::ListRequest {
            base_url: &settings.google_api_url,
            calendar: &self.claim.subscription.remote_id,
            sync_token: self.expected.as_deref(),
            page_token: self.page_token.as_deref(),
            authorization: pass.map(|pass| pass.header.as_str()),
        }
        .request()
    }

    /// The token that this answer does not accept, where it is worth asking again with another: once.
    pub fn rejected_token(&mut self, answer: &Answer) -> Option<TokenNumber> {
        let refused = matches!(answer, Answer::Http { status: 401, .. });
        let again = refused && !self.renewed;
        self.renewed = refused;
        self.token.filter(|_| again)
    }

    pub fn read(&mut self, heard: &Heard) -> Reading {
        Reading(match (heard, self.claim.subscription.options()) {
            // Whatever a provider sends, it is this calendar's trouble and not the worker's.
            (Heard::Answer(answer), Ok(options)) => {
                panics::caught(|| google::read_answer(answer, self.expected.is_some(), &options)).unwrap_or_else(
                    |told| {
                        Step::Fail(Failure::new(FailureKind::Passing, format!("the answer could not be read: {told}")))
                    },
                )
            }
            (Heard::Answer(_), Err(error)) => Step::Fail(Failure::new(FailureKind::Passing, error.to_string())),
            (Heard::Failure(failure), _) => Step::Fail(failure.clone()),
        })
    }

    /// Does what the answer asks for. Whatever goes wrong is the calendar's failure.
    pub fn act(self, reading: Reading, transactions: &mut impl Transactions, settings: &Settings) -> Next {
        match reading.0 {
            Step::NextPage { page, next } => self.stage(page, next, transactions, settings),
            Step::Commit { page, successor } => self.commit(page, &successor, transactions, settings),
            Step::FullSync { because } => self.start_over(because, transactions),
            Step::Fail(failure) => self.fail(&failure, transactions),
        }
    }

    /// With the page that has just been read.
    fn progress(&self) -> Progress {
        Progress { full_sync: self.expected.is_none(), pages: self.pages + 1, started_at: self.started_at }
    }

    fn next_poll(&self, news: bool, settings: &Settings) -> NextPoll {
        let interval = settings.polling.interval(self.claim.subscription.poll_interval, news);
        let pushed = self.claim.watched && settings.push_poll_interval > interval;
        let own_limit = self.claim.subscription.options().ok().and_then(|options| options.max_staleness);
        let limit = own_limit.unwrap_or_else(|| Duration::from_secs(settings::max_staleness().max(0) as u64));
        let rarely = pushed.then_some(settings.push_poll_interval);
        let wait = schedule::wait_for_next_poll(interval, rarely, limit);
        NextPoll { interval, at: schedule::next_poll(Utc::now(), wait, random()), pushed }
    }

    fn stage(mut self, page: Page, next: String, transactions: &mut impl Transactions, settings: &Settings) -> Next {
        // A provider gone mad would keep us listing for ever.
        if self.page_token.as_ref() == Some(&next) || self.pages >= MOST_PAGES {
            let reason = "the provider's pages do not come to an end";
            return self.fail(&Failure::new(FailureKind::Passing, reason), transactions);
        }
        let page = PageRows::from(page);
        let staged = transactions.run(&mut || {
            let page = page.of_round(self.expected.as_deref());
            rounds::stage(&self.claim.subscription, &page, &next, lease(settings))
        });
        match staged {
            Ok(Outcome::Done(())) => {
                self.page_token = Some(next);
                self.pages += 1;
                Next::Request(self)
            }
            Ok(Outcome::Superseded) => Next::Ended,
            Ok(Outcome::Locked) => Next::Locked(self),
            Err(failed) => self.fail(&could_not_apply(&failed), transactions),
        }
    }

    fn commit(self, page: Page, successor: &str, transactions: &mut impl Transactions, settings: &Settings) -> Next {
        let page = PageRows::from(page);
        let committed = transactions.run(&mut || {
            let page = page.of_round(self.expected.as_deref());
            rounds::commit(&self.claim, &page, successor, self.progress(), |news| self.next_poll(news, settings))
        });
        match committed {
            Ok(Outcome::Done(_) | Outcome::Superseded) => Next::Ended,
            Ok(Outcome::Locked) => Next::Locked(self),
            Err(failed) => self.fail(&could_not_apply(&failed), transactions),
        }
    }

    fn start_over(mut self, because: TokenLoss, transactions: &mut impl Transactions) -> Next {
        match transactions.run(&mut || rounds::lose_token(&self.claim.subscription, because, self.progress())) {
            Ok(Outcome::Done(())) => {
                self.claim.subscription.sync_token = None;
                self.expected = None;
                self.page_token = None;
                self.pages = 0;
                self.started_at = Utc::now();
                Next::Request(self)
            }
            Ok(Outcome::Superseded) => Next::Ended,
            Ok(Outcome::Locked) => Next::Locked(self),
            Err(failed) => self.fail(&could_not_apply(&failed), transactions),
        }
    }

    /// Writes the failure down. Where even that fails, the lease runs out and the calendar is claimed again.
    fn fail(self, failure: &Failure, transactions: &mut impl Transactions) -> Next {
        let now = Utc::now();
        let written = transactions.run(&mut || {
            rounds::fail(&self.claim, failure, self.progress(), random(), |failures, failing_since| {
                schedule::after_failure(now, failures, failing_since, failure, random())
            })
        });
        if matches!(written, Ok(Outcome::Locked)) { Next::Locked(self) } else { Next::Ended }
    }

    /// Whether the round is one of those that [`end_quiet`] ends.
    pub fn is_quiet(&self, reading: &Reading, settings: &Settings) -> bool {
        self.quiet(reading, settings).is_some()
    }

    /// The successor, where the round is one poll that brought nothing else, and nothing hangs on its end but the time.
    fn quiet<'a>(&'a self, reading: &'a Reading, settings: &Settings) -> Option<Quiet<'a>> {
        let Subscription { time_zone, covered, .. } = &self.claim.subscription;
        let Step::Commit { page, successor } = &reading.0 else { return None };
        let same_zone = page.time_zone.as_ref().is_none_or(|zone| zone == time_zone);
        if !page.changes.is_empty() || !same_zone || self.pages > 0 {
            return None;
        }
        if self.claim.probes || self.claim.slowed || covered.is_none() {
            return None;
        }
        Some(Quiet {
            claim: &self.claim.subscription,
            expected: self.expected.as_deref()?,
            successor,
            started_at: self.started_at,
            next: self.next_poll(false, settings),
        })
    }
}

/// Ends rounds that brought nothing, together, and takes them out of the list; what could not be ended stays.
pub fn end_quiet(
    brought_nothing: &mut Vec<(Round, Heard, Reading)>,
    transactions: &mut impl Transactions,
    settings: &Settings,
) {
    let quiet: Vec<Quiet> =
        brought_nothing.iter().filter_map(|(round, _, reading)| round.quiet(reading, settings)).collect();
    if quiet.is_empty() {
        return;
    }
    if let Ok(ended) = transactions.run(&mut || rounds::commit_quiet(&quiet)) {
        brought_nothing.retain(|(round, _, _)| !ended.contains(&round.claim.subscription.id));
    }
}

/// A page's changes as rows, each event once.
struct PageRows {
    time_zone: Option<String>,
    changes: Vec<RowChange>,
}

impl From<Page> for PageRows {
    fn from(page: Page) -> Self {
        PageRows {
            time_zone: page.time_zone,
            changes: latest_of_each(page.changes).into_iter().map(RowChange::from).collect(),
        }
    }
}

impl PageRows {
    fn of_round<'a>(&'a self, expected: Option<&'a str>) -> RoundPage<'a> {
        RoundPage { expected, time_zone: self.time_zone.as_deref(), changes: &self.changes }
    }
}

fn is_full_sync_due(claim: &Subscription, settings: &Settings, now: DateTime<Utc>) -> bool {
    settings
        .full_sync_interval
        .is_some_and(|interval| schedule::full_sync_due(claim.full_synced_at, interval, claim.id, now))
}

fn could_not_apply(failed: &UnitFailed) -> Failure {
    Failure::new(FailureKind::Passing, format!("the answer could not be applied: {}", failed.reason))
}
