//! Rounds of syncing: claim what is due, ask, apply, until nothing is due. Beside them push channels are tended
//! ([`channels`]).
//!
//! The same engine runs in the background worker and in the foreground (`CALL calsync_run()`); they differ in how a
//! unit of work becomes a transaction ([`transactions`]) and in when they stop. Requests fly on threads of their own
//! ([`http`]); no transaction, lock or snapshot is open meanwhile.
//!
//! The hard cases, each with a test in `tests/integration`:
//! - a provider that accepts and never answers holds up nobody but its own calendar
//! - an ERROR while applying one calendar is that calendar's failure, and the others go on
//! - a process that dies in a round leaves the calendar as it was, to be claimed again
//! - a calendar whose row a forgotten transaction has locked is passed over, the others go on
//! - an answer that repeats a secret of its request loses it before anything reads it
//! - ten thousand calendars that are due after an outage are asked for as fast as the provider answers and the budgets
//!   allow, oldest first, not all at once
//! - one owner's flood, of calendars that are due or asked for by name, keeps no other owner waiting
//!   ([`calsync_core::turns`])

pub mod arrivals;
pub mod budgets;
mod channels;
mod client;
mod flight;
pub mod http;
mod round;
mod tokens;
pub mod transactions;
pub mod upkeep;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use calsync_core::budget::Spent;
use calsync_core::providers::Mask;
use calsync_core::ramp::Ramp;
use calsync_core::turns::{Places, Turns};

use crate::settings::Settings;
use crate::store::claims::{self, Claiming, Permit};
use crate::store::time;
use crate::store::whose::Whose;
use budgets::{Budgets, Credential};
use channels::Tending;
use flight::Flight;
use http::{Exchange, HttpThreads};
use round::{Heard, Next, Reading, Round};
use tokens::Tokens;
use transactions::{Transactions, UnitFailed};

/// A claim outlives its request by this, so that a slow answer still finds its lease.
const LEASE_SLACK: Duration = Duration::from_secs(60);
/// So many rounds of one owner may wait for a budget, a token or a lock for each that may fly.
const WAITING_ROOM: usize = 4;
/// How often an answer is tried again whose calendar somebody has locked.
const LOCKED_RETRY: Duration = Duration::from_secs(1);

/// Rounds under way, and what is needed to run them.
pub struct Engine {
    /// Whose calendars it syncs.
    whose: Whose,
    http: HttpThreads,
    /// By ticket: what is in flight, and what of its request must not be seen in the answer.
    flights: HashMap<u64, (Flight, Mask)>,
    next_ticket: u64,
    budgets: Budgets,
    tokens: Tokens,
    ramp: Ramp,
    turns: Turns,
    last_was_awaited: bool,
    /// Rounds whose next request must wait for the budget, and how long.
    held_back: Vec<(Round, Instant)>,
    /// Rounds whose calendar somebody has locked, the answer that waits for it, and since when.
    locked: Vec<(Round, Heard, Instant)>,
    last_unlocking: Option<Instant>,
    tending: Tending,
    /// Since the engine was made.
    pub counts: Counts,
}

/// What an engine has done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub requests: u64,
    pub answers: u64,
    pub failures: u64,
    /// In microseconds since 2000; 0: never.
    pub last_answer_at: i64,
}

impl Engine {
    pub fn new(whose: Whose, settings: &Settings) -> std::io::Result<Self> {
        Ok(Engine {
            whose,
            http: HttpThreads::new(settings)?,
            flights: HashMap::new(),
            next_ticket: 0,
            budgets: Budgets::default(),
            tokens: Tokens::default(),
            ramp: Ramp::default(),
            turns: Turns::default(),
            last_was_awaited: false,
            held_back: Vec::new(),
            locked: Vec::new(),
            last_unlocking: None,
            tending: Tending::default(),
            counts: Counts::default(),
        })
    }

    /// The threads' settings follow the configuration.
    pub fn reconfigure(&mut self, settings: &Settings) {
        self.http.reconfigure(settings);
        self.look_at_channels_soon();
    }

    /// Becomes readable when an answer has come.
    pub fn doorbell(&self) -> std::os::fd::RawFd {
        self.http.doorbell()
    }

    /// Nothing is in flight, and nothing waits here.
    pub fn is_idle(&self) -> bool {
        let something_waits = self.tokens.is_about_to_store() || self.has_locked_channels();
        self.flights.is_empty() && self.under_way() == 0 && !something_waits && self.tokens.waiting().next().is_none()
    }

    /// Rounds claimed and not ended.
    pub fn under_way(&self) -> usize {
        let flights = self.flights.values().map(|(flight, _)| flight).chain(self.tokens.waiting());
        flights.filter(|flight| flight.is_round()).count() + self.held_back.len() + self.locked.len()
    }

    /// How many rounds may be under way just now.
    pub fn width(&self, settings: &Settings) -> usize {
        self.ramp.width(settings.max_concurrency)
    }

    /// Whether another round could begin now. What only waits here takes nobody's place, or one credential's budget, or
    /// one forgotten transaction, would hold up all; but for each owner there is an end to it.
    pub fn has_room(&self, settings: &Settings) -> bool {
        self.places(settings).for_due() > 0
    }

    fn places(&self, settings: &Settings) -> Places {
        let count =
            |is_one: &dyn Fn(&Flight) -> bool| self.flights.values().filter(|(flight, _)| is_one(flight)).count();
        let awaited = count(&|flight| matches!(flight, Flight::Round(round) if round.is_awaited()));
        let due = count(&|flight| matches!(flight, Flight::Round(round) if !round.is_awaited()));
        Places {
            most: settings.max_concurrency,
            width: self.width(settings),
            awaited,
            due,
            other: count(&|flight| matches!(flight, Flight::Token(_))),
            // Channels have places of their own, lest one that hangs stands in the way while that is narrow.
            beside: self.channels_in_flight(),
            last_was_awaited: self.last_was_awaited,
        }
    }

    /// How many of an owner's rounds have a place, and of whom so many wait that nothing more is begun.
    fn owners(&self, settings: &Settings) -> (HashMap<String, usize>, Vec<String>) {
        let (mut under_way, mut waiting) = (HashMap::new(), HashMap::new());
        for (flight, _) in self.flights.values().filter(|(flight, _)| !flight.is_channel()) {
            *under_way.entry(flight.owner().to_owned()).or_default() += 1;
        }
        let rounds = self.held_back.iter().map(|(round, _)| round).chain(self.locked.iter().map(|(round, ..)| round));
        for owner in rounds.map(Round::owner).chain(self.tokens.waiting().map(Flight::owner)) {
            *waiting.entry(owner).or_insert(0) += 1;
        }
        let most = WAITING_ROOM * settings.max_concurrency;
        let passed_over = waiting.iter().filter(|(_, count)| **count >= most).map(|(owner, _)| (*owner).to_owned());
        (under_way, passed_over.collect())
    }

    /// Claims as many due calendars as there are places for (at most `at_most`) and sends their first requests. Returns
    /// how many.
    pub fn claim(
        &mut self,
        transactions: &mut impl Transactions,
        settings: &Settings,
        at_most: usize,
    ) -> Result<usize, UnitFailed> {
        let places = self.places(settings);
        if places.for_awaited().max(places.for_due()) == 0 || at_most == 0 || !settings.enabled {
            return Ok(0);
        }
        let (under_way, passed_over) = self.owners(settings);
        let (budgets, tokens, turns, whose) = (&mut self.budgets, &self.tokens, &mut self.turns, &self.whose);
        // Of a credential whose rounds wait for its budget, or its token, no further calendar is begun.
        let held_back = self.held_back.iter().map(|(round, _)| round.credential());
        let waiting: Vec<Credential> = held_back.chain(self.tokens.awaited()).collect();
        let mut claiming = Claiming { whose, lease: lease(settings), places, turns, under_way, passed_over, at_most };
        let claimed = transactions.run(&mut || {
            let spent = budgets.spent().cloned().chain(waiting.iter().cloned()).collect();
            claims::claim(&mut claiming, spent, |credential| {
                // It will fail for lack of a token, and cost no request.
                if tokens.has_nothing_to_show(credential) {
                    return Permit::Go;
                }
                match budgets.charge(credential, settings) {
                    Ok(()) => Permit::Go,
                    Err(Spent::Credential { .. }) => Permit::NotThisCredential,
                    Err(Spent::Project { .. }) => Permit::Nobody,
                }
            })
        })?;
        self.last_was_awaited = claiming.places.last_was_awaited;
        let count = claimed.len();
        for claim in claimed {
            self.send(Flight::Round(Box::new(Round::begin(claim, settings))), transactions, settings);
        }
        Ok(count)
    }

    /// Applies the answers that have come, and sends what was held back. What fails is that calendar's failure.
    ///
    /// An answer with news is a transaction of its own, and forgotten before the next is read: as rows it takes many times
    /// the space of its text. Those that say "nothing new" share a transaction.
    pub fn handle_answers(&mut self, transactions: &mut impl Transactions, settings: &Settings) {
        let mut quiet: Vec<(Round, Heard, Reading)> = Vec::new();
        let mut again: Vec<Round> = Vec::new();
        for Exchange { ticket, answer } in self.http.take_answers() {
            let Some((flight, mask)) = self.flights.remove(&ticket) else { continue };
            self.counts.answers += 1;
            self.counts.last_answer_at = time::micros(chrono::Utc::now());
            let answer = mask.answer(answer, flight.is_granted_secrets());
            match flight {
                Flight::Round(mut round) => {
                    if self.rejects_token(&mut round, &answer) {
                        again.push(*round);
                        continue;
                    }
                    let heard = Heard::Answer(answer);
                    let reading = round.read(&heard).masked(&mask);
                    let heard = reading.failure().cloned().map_or(heard, Heard::Failure);
                    self.note(reading.is_failure(), reading.is_providers_trouble(), settings);
                    if round.is_quiet(&reading, settings) {
                        quiet.push((*round, heard, reading));
                    } else {
                        self.act(*round, heard, reading, Instant::now(), transactions, settings);
                    }
                }
                Flight::Channel(flight) => self.channel_answered(*flight, answer, transactions, settings),
                Flight::Token(refresh) => self.token_came(&refresh, &answer, transactions, settings),
            }
        }
        round::end_quiet(&mut quiet, transactions, settings);
        for (round, heard, reading) in quiet {
            self.act(round, heard, reading, Instant::now(), transactions, settings);
        }
        for round in again {
            self.request(round, transactions, settings);
        }
        self.retry_locked(transactions, settings);
        let now = Instant::now();
        for (round, due) in std::mem::take(&mut self.held_back) {
            if due <= now || !settings.enabled {
                self.request(round, transactions, settings);
            } else {
                self.held_back.push((round, due));
            }
        }
    }

    /// An answer that failed is counted; one that shows the provider in trouble makes the way narrower.
    fn note(&mut self, is_failure: bool, is_providers_trouble: bool, settings: &Settings) {
        self.counts.failures += u64::from(is_failure);
        if is_providers_trouble {
            self.ramp.failed();
        } else {
            self.ramp.answered(settings.max_concurrency);
        }
    }

    fn act(
        &mut self,
        round: Round,
        heard: Heard,
        reading: Reading,
        since: Instant,
        transactions: &mut impl Transactions,
        settings: &Settings,
    ) {
        if round.is_the_first() {
            // Now that it is synced it may be watched.
            self.look_at_channels_soon();
        }
        match round.act(reading, transactions, settings) {
            Next::Request(round) => self.request(round, transactions, settings),
            Next::Ended => {}
            // Answers are large: what there is no room for is asked again once the lease has run out.
            Next::Locked(round) if self.locked.len() < settings.max_concurrency => {
                self.locked.push((round, heard, since));
            }
            Next::Locked(_) => {}
        }
    }

    /// Those that waited longer than their lease are given up: the calendar is claimed anew once it is free.
    fn retry_locked(&mut self, transactions: &mut impl Transactions, settings: &Settings) {
        let waits = !self.locked.is_empty() || self.tokens.has_unstored() || self.has_locked_channels();
        if !waits || self.last_unlocking.is_some_and(|last| last.elapsed() < LOCKED_RETRY) {
            return;
        }
        self.last_unlocking = Some(Instant::now());
        self.tokens.store(transactions);
        self.retry_locked_channels(transactions, settings);
        for (mut round, heard, since) in std::mem::take(&mut self.locked) {
            if since.elapsed() < lease(settings) {
                let reading = round.read(&heard);
                self.act(round, heard, reading, since, transactions, settings);
            }
        }
    }

    /// Sends a further request of a round, or holds it back while the budget is spent.
    fn request(&mut self, round: Round, transactions: &mut impl Transactions, settings: &Settings) {
        if !settings.enabled {
            return round.give_back(transactions);
        }
        match self.budgets.charge(&round.credential(), settings) {
            Ok(()) => self.send(Flight::Round(Box::new(round)), transactions, settings),
            Err(spent) => self.held_back.push((round, Instant::now() + budgets::wait_until(spent.until()))),
        }
    }

    /// The longest time to sleep while something waits here for its time; None: nothing does.
    pub fn shortest_wait(&self) -> Option<Duration> {
        let held_back = self.held_back.iter().map(|(_, due)| due.saturating_duration_since(Instant::now()));
        let waits = !self.locked.is_empty() || self.tokens.is_about_to_store() || self.has_locked_channels();
        let locked = waits.then_some(LOCKED_RETRY);
        held_back.chain(locked).chain(self.budgets.shortest_wait()).min()
    }
}

fn lease(settings: &Settings) -> Duration {
    settings.request_timeout + LEASE_SLACK
}

/// In 0..1; for jitter only.
pub fn random() -> f64 {
    // SAFETY: fills a buffer of the size it is told; false (no entropy) leaves zeroes, which is a fine jitter.
    let mut bytes = [0u8; 8];
    unsafe { pgrx::pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
}
