//! One conversation with a provider about one calendar, from the claim to the commit.

use calsync_core::merge::latest_of_each;
use calsync_core::providers::{Answer, Request, google};
use calsync_core::row::RowChange;
use calsync_core::schedule;
use calsync_core::sync::{Failure, FailureKind, Page, Step, SyncToken, TokenLoss};
use chrono::{DateTime, Utc};

use super::transactions::Transactions;
use super::{Credential, lease};
use crate::settings::Settings;
use crate::store::rounds::{self, Outcome, Progress, RoundPage};
use crate::store::subscription::Subscription;

/// A claimed calendar and how far its round got.
pub struct Round {
    claim: Subscription,
    /// The token it is asked with; None: a full sync.
    expected: Option<SyncToken>,
    page_token: Option<String>,
    pages: i32,
    started_at: DateTime<Utc>,
}

impl Round {
    pub fn begin(claim: Subscription, settings: &Settings) -> Self {
        let now = Utc::now();
        let mut expected = claim.sync_token.clone();
        let incremental = claim.options().is_ok_and(|options| options.incremental);
        // A token belongs to the parameters it came with (API guide, "Synchronize resources efficiently").
        if !incremental
            || claim.token_params.as_deref() != Some(google::parameters_version())
            || is_full_sync_due(&claim, settings, now)
        {
            expected = None;
        }
        Round { claim, expected, page_token: None, pages: 0, started_at: now }
    }

    /// Whose budget its requests use.
    pub fn credential(&self) -> Credential {
        self.claim.credential.clone().map(|name| (self.claim.owner.clone(), name))
    }

    pub fn request(&self, settings: &Settings) -> Request {
        google::ListRequest {
            base_url: &settings.google_api_url,
            calendar: &self.claim.remote_id,
            sync_token: self.expected.as_deref(),
            page_token: self.page_token.as_deref(),
            bearer: None,
        }
        .request()
    }

    /// Does what the answer asks for. Returns the round where it goes on; whatever goes wrong is its calendar's failure.
    pub fn on_answer(
        mut self,
        answer: Answer,
        transactions: &mut impl Transactions,
        settings: &Settings,
    ) -> Option<Round> {
        self.pages += 1;
        let step = match self.claim.options() {
            Ok(options) => google::read_answer(&answer, self.expected.is_some(), &options),
            Err(error) => Step::Fail(Failure::new(FailureKind::Passing, error.to_string())),
        };
        match step {
            Step::NextPage { page, next } => self.stage(page, next, transactions, settings),
            Step::Commit { page, successor } => self.commit(page, &successor, transactions, settings),
            Step::FullSync { because } => self.start_over(because, transactions),
            Step::Fail(failure) => self.fail(&failure, transactions),
        }
    }

    fn progress(&self) -> Progress {
        Progress { full_sync: self.expected.is_none(), pages: self.pages, started_at: self.started_at }
    }

    fn stage(
        mut self,
        page: Page,
        next: String,
        transactions: &mut impl Transactions,
        settings: &Settings,
    ) -> Option<Round> {
        let page = PageRows::from(page);
        let staged = transactions
            .run(&mut || rounds::stage(&self.claim, &page.of_round(self.expected.as_deref()), &next, lease(settings)));
        match staged {
            Ok(Outcome::Done(())) => {
                self.page_token = Some(next);
                Some(self)
            }
            Ok(Outcome::Superseded) => None,
            Err(failed) => self.fail(&could_not_apply(&failed.reason), transactions),
        }
    }

    fn commit(
        self,
        page: Page,
        successor: &str,
        transactions: &mut impl Transactions,
        settings: &Settings,
    ) -> Option<Round> {
        let page = PageRows::from(page);
        let next_sync_at = schedule::next_poll(Utc::now(), settings.poll_interval, random());
        let committed = transactions.run(&mut || {
            rounds::commit(
                &self.claim,
                &page.of_round(self.expected.as_deref()),
                successor,
                self.progress(),
                next_sync_at,
            )
        });
        match committed {
            Ok(_) => None,
            Err(failed) => self.fail(&could_not_apply(&failed.reason), transactions),
        }
    }

    fn start_over(mut self, because: TokenLoss, transactions: &mut impl Transactions) -> Option<Round> {
        match transactions.run(&mut || rounds::lose_token(&self.claim, because, self.progress())) {
            Ok(Outcome::Done(())) => {
                self.claim.sync_token = None;
                self.expected = None;
                self.page_token = None;
                self.pages = 0;
                self.started_at = Utc::now();
                Some(self)
            }
            Ok(Outcome::Superseded) => None,
            Err(failed) => self.fail(&could_not_apply(&failed.reason), transactions),
        }
    }

    /// Writes the failure down. Where even that fails, the lease runs out and the calendar is claimed again.
    fn fail(self, failure: &Failure, transactions: &mut impl Transactions) -> Option<Round> {
        let now = Utc::now();
        let _ = transactions.run(&mut || {
            rounds::fail(&self.claim, failure, self.progress(), |failures, failing_since| {
                schedule::after_failure(now, failures, failing_since, failure, random())
            })
        });
        None
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

fn could_not_apply(reason: &str) -> Failure {
    Failure::new(FailureKind::Passing, format!("the answer could not be applied: {reason}"))
}

/// In 0..1; for jitter only.
fn random() -> f64 {
    // SAFETY: fills a buffer of the size it is told; false (no entropy) leaves zeroes, which is a fine jitter.
    let mut bytes = [0u8; 8];
    unsafe { pgrx::pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
}
