//! Rounds of syncing: claim what is due, ask, apply, until nothing is due.
//!
//! The same engine runs in the background worker and in the foreground (`CALL calsync_run()`); they differ in how a
//! unit of work becomes a transaction ([`transactions`]) and in when they stop. Requests fly on threads of their own
//! ([`http`]); no transaction, lock or snapshot is open meanwhile.
//!
//! The hard cases, each with a test in `tests/integration`:
//! - a provider that accepts and never answers holds up nobody but its own calendar
//! - an ERROR while applying one calendar is that calendar's failure, and the others go on
//! - a process that dies in a round leaves the calendar as it was, to be claimed again

pub mod http;
mod round;
pub mod transactions;
pub mod upkeep;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use chrono::TimeDelta;

use crate::settings::Settings;
use crate::store;
use http::{Exchange, HttpThreads};
use round::Round;
use transactions::{Transactions, UnitFailed};

/// A claim outlives its request by this, so that a slow answer still finds its lease.
const LEASE_SLACK: Duration = Duration::from_secs(60);
/// What a budget of requests is counted over.
const MINUTE: Duration = Duration::from_secs(60);

/// Whose budget a request uses: owner and name; None: all calendars without a credential.
pub type Credential = Option<(String, String)>;

/// Rounds under way, and what is needed to run them.
pub struct Engine {
    http: HttpThreads,
    rounds: HashMap<u64, Round>,
    next_ticket: u64,
    /// When requests were sent, a credential (None: without one), for its budget a minute.
    sent: HashMap<Credential, VecDeque<Instant>>,
    /// Rounds whose next request must wait for the budget.
    held_back: Vec<Round>,
}

impl Engine {
    pub fn new(settings: &Settings) -> std::io::Result<Self> {
        Ok(Engine {
            http: HttpThreads::new(settings)?,
            rounds: HashMap::new(),
            next_ticket: 0,
            sent: HashMap::new(),
            held_back: Vec::new(),
        })
    }

    /// The threads' settings follow the configuration.
    pub fn reconfigure(&mut self, settings: &Settings) {
        self.http.reconfigure(settings);
    }

    /// Becomes readable when an answer has come.
    pub fn doorbell(&self) -> std::os::fd::RawFd {
        self.http.doorbell()
    }

    pub fn is_idle(&self) -> bool {
        self.rounds.is_empty() && self.held_back.is_empty()
    }

    fn under_way(&self) -> usize {
        self.rounds.len() + self.held_back.len()
    }

    /// Whether another round could begin now.
    pub fn has_room(&self, settings: &Settings) -> bool {
        self.under_way() < settings.max_concurrency
    }

    /// Claims as many due calendars as there is room for (at most `at_most`) and sends their first requests. Returns
    /// how many.
    pub fn claim(
        &mut self,
        transactions: &mut impl Transactions,
        settings: &Settings,
        at_most: usize,
    ) -> Result<usize, UnitFailed> {
        let room = settings.max_concurrency.saturating_sub(self.under_way()).min(at_most);
        if room == 0 || !settings.enabled {
            return Ok(0);
        }
        let spent = self.spent_credentials(settings);
        let lease = lease(settings);
        let claimed = transactions.run(&mut || store::rounds::claim(room, lease, &spent))?;
        let count = claimed.len();
        for subscription in claimed {
            let round = Round::begin(subscription, settings);
            self.send(round, settings);
        }
        Ok(count)
    }

    /// Applies the answers that have come. Each is a transaction of its own; what fails is that calendar's failure.
    pub fn handle_answers(&mut self, transactions: &mut impl Transactions, settings: &Settings) {
        for Exchange { ticket, answer } in self.http.take_answers() {
            let Some(round) = self.rounds.remove(&ticket) else { continue };
            if let Some(round) = round.on_answer(answer, transactions, settings) {
                self.send(round, settings);
            }
        }
        for round in std::mem::take(&mut self.held_back) {
            self.send(round, settings);
        }
    }

    /// Sends the round's next request, or holds it back while its credential's budget is spent.
    fn send(&mut self, round: Round, settings: &Settings) {
        let credential = round.credential();
        if self.is_spent(&credential, settings) {
            self.held_back.push(round);
            return;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.sent.entry(credential).or_default().push_back(Instant::now());
        self.http.send(ticket, round.request(settings));
        self.rounds.insert(ticket, round);
    }

    fn is_spent(&mut self, credential: &Credential, settings: &Settings) -> bool {
        let now = Instant::now();
        let Some(times) = self.sent.get_mut(credential) else { return false };
        while times.front().is_some_and(|sent| now.duration_since(*sent) >= MINUTE) {
            times.pop_front();
        }
        times.len() >= settings.requests_per_minute
    }

    /// Credentials that may not be used again within this minute.
    fn spent_credentials(&mut self, settings: &Settings) -> Vec<Credential> {
        let all: Vec<Credential> = self.sent.keys().cloned().collect();
        let spent = all.into_iter().filter(|credential| self.is_spent(credential, settings)).collect();
        self.sent.retain(|_, times| !times.is_empty());
        spent
    }

    /// Whether a round waits for its credential's budget.
    pub fn holds_back(&self) -> bool {
        !self.held_back.is_empty()
    }
}

fn lease(settings: &Settings) -> TimeDelta {
    TimeDelta::from_std(settings.request_timeout + LEASE_SLACK).unwrap_or(TimeDelta::minutes(2))
}
