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

/// Rounds under way, and what is needed to run them.
pub struct Engine {
    http: HttpThreads,
    rounds: HashMap<u64, Round>,
    next_ticket: u64,
    /// When requests were sent, a credential (None: without one), for its budget a minute.
    sent: HashMap<Option<(String, String)>, VecDeque<Instant>>,
}

impl Engine {
    pub fn new(settings: &Settings) -> std::io::Result<Self> {
        Ok(Engine { http: HttpThreads::new(settings)?, rounds: HashMap::new(), next_ticket: 0, sent: HashMap::new() })
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
        self.rounds.is_empty()
    }

    /// Whether another round could begin now.
    pub fn has_room(&self, settings: &Settings) -> bool {
        self.rounds.len() < settings.max_concurrency
    }

    /// Claims as many due calendars as there is room for (at most `at_most`) and sends their first requests. Returns
    /// how many.
    pub fn claim(
        &mut self,
        transactions: &mut impl Transactions,
        settings: &Settings,
        at_most: usize,
    ) -> Result<usize, UnitFailed> {
        let room = settings.max_concurrency.saturating_sub(self.rounds.len()).min(at_most);
        if room == 0 || !settings.enabled {
            return Ok(0);
        }
        let room = room.min(self.budget_left(settings));
        if room == 0 {
            return Ok(0);
        }
        let lease = lease(settings);
        let claimed = transactions.run(&mut || store::rounds::claim(room, lease))?;
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
    }

    fn send(&mut self, round: Round, settings: &Settings) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.sent.entry(round.credential()).or_default().push_back(Instant::now());
        self.http.send(ticket, round.request(settings));
        self.rounds.insert(ticket, round);
    }

    /// How many requests may still be sent this minute by the credential that has sent most.
    fn budget_left(&mut self, settings: &Settings) -> usize {
        let now = Instant::now();
        self.sent.retain(|_, times| {
            while times.front().is_some_and(|sent| now.duration_since(*sent) >= MINUTE) {
                times.pop_front();
            }
            !times.is_empty()
        });
        let most = self.sent.values().map(VecDeque::len).max().unwrap_or(0);
        settings.requests_per_minute.saturating_sub(most)
    }

    /// When budget that is used up comes back; None: there is some.
    pub fn budget_returns_in(&mut self, settings: &Settings) -> Option<Duration> {
        if self.budget_left(settings) > 0 {
            return None;
        }
        let oldest = self.sent.values().filter_map(|times| times.front()).min()?;
        Some(MINUTE.saturating_sub(oldest.elapsed()))
    }
}

fn lease(settings: &Settings) -> TimeDelta {
    TimeDelta::from_std(settings.request_timeout + LEASE_SLACK).unwrap_or(TimeDelta::minutes(2))
}
