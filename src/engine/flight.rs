//! What is in flight, and how it gets there: with what the provider wants to see, which may have to be fetched first.
//!
//! A kind of request is a variant of [`Flight`], in a file of its own; `handle_answers` hands each its answer.

use std::time::Instant;

use calsync_core::providers::google::token;
use calsync_core::providers::{Answer, Mask, Request};
use calsync_core::sync::{Failure, FailureKind};

use super::Engine;
use super::channels::ChannelFlight;
use super::round::{Heard, Round};
use super::tokens::{Authorization, Pass, Refresh, Wanted};
use super::transactions::Transactions;
use crate::settings::Settings;

/// What a request that is in flight was sent for, and so who gets its answer.
pub enum Flight {
    /// A page of a calendar.
    Round(Box<Round>),
    /// An access token, for which others wait.
    Token(Box<Refresh>),
    /// A push channel, to be opened or stopped.
    Channel(Box<ChannelFlight>),
}

impl Flight {
    pub fn is_round(&self) -> bool {
        matches!(self, Flight::Round(_))
    }

    pub fn is_channel(&self) -> bool {
        matches!(self, Flight::Channel(_))
    }

    fn probes(&self) -> bool {
        matches!(self, Flight::Round(round) if round.probes())
    }

    /// Whose calendar, or credential, it is about.
    pub fn owner(&self) -> &str {
        match self {
            Flight::Round(round) => round.owner(),
            Flight::Token(refresh) => refresh.grantee.owner(),
            Flight::Channel(flight) => flight.owner(),
        }
    }

    /// Its answer grants secrets, which must not be taken out of it.
    pub fn is_granted_secrets(&self) -> bool {
        matches!(self, Flight::Token(_))
    }

    /// For whom a token is wanted; None: it needs none.
    fn wanted(&self) -> Option<Wanted> {
        match self {
            Flight::Round(round) => round.wanted(),
            Flight::Channel(flight) => flight.wanted(),
            Flight::Token(_) => None,
        }
    }
}

impl Engine {
    /// Sends the next request of a flight, or has it wait for its access token.
    pub(super) fn send(&mut self, flight: Flight, transactions: &mut impl Transactions, settings: &Settings) {
        let Some(wanted) = flight.wanted() else { return self.take_off(flight, None, settings) };
        match self.tokens.authorization(&wanted, transactions, settings) {
            Authorization::Ready(pass) => self.take_off(flight, pass.as_ref(), settings),
            Authorization::Wait(grantee) => self.tokens.wait(grantee, flight),
            Authorization::Fetch(refresh, request) => {
                self.tokens.wait(refresh.grantee.clone(), flight);
                self.fly(Flight::Token(refresh), request);
            }
            Authorization::Failed(failure) => self.give_up(flight, failure, transactions, settings),
            Authorization::Replaced => match flight {
                // Its calendar may have become another one: it is begun anew.
                Flight::Round(round) => round.give_back(transactions),
                Flight::Channel(_) | Flight::Token(_) => {}
            },
        }
    }

    fn take_off(&mut self, flight: Flight, pass: Option<&Pass>, settings: &Settings) {
        match flight {
            Flight::Round(mut round) => {
                let request = round.request(pass, settings);
                self.fly(Flight::Round(round), request);
            }
            Flight::Channel(mut flight) => {
                let request = flight.request(pass, settings);
                self.fly(Flight::Channel(flight), request);
            }
            // It is sent with the request that was made for it.
            Flight::Token(_) => {}
        }
    }

    /// Its answer comes to [`Self::handle_answers`].
    fn fly(&mut self, flight: Flight, request: Request) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.counts.requests += 1;
        let mask = Mask::of(&request);
        self.http.send(ticket, request);
        self.flights.insert(ticket, (flight, mask));
    }

    /// There is no token for it.
    fn give_up(&mut self, flight: Flight, failure: Failure, transactions: &mut impl Transactions, settings: &Settings) {
        match flight {
            Flight::Round(mut round) => {
                let heard = Heard::Failure(failure);
                let reading = round.read(&heard);
                self.act(*round, heard, reading, Instant::now(), transactions, settings);
            }
            Flight::Channel(flight) => {
                self.act_on_channel(*flight, Heard::Failure(failure), Instant::now(), transactions);
            }
            Flight::Token(_) => {}
        }
    }

    /// Whether the round is to be asked again, with another token.
    pub(super) fn rejects_token(&mut self, round: &mut Round, answer: &Answer) -> bool {
        let Some(number) = round.rejected_token(answer) else { return false };
        if let Some((owner, name)) = round.credential() {
            self.tokens.reject(&owner, &name, number);
        }
        true
    }

    /// What waited for the token goes on, each with its own request; or fails, each for itself.
    pub(super) fn token_came(
        &mut self,
        refresh: &Refresh,
        answer: &Answer,
        transactions: &mut impl Transactions,
        settings: &Settings,
    ) {
        let granted = token::read_grant(answer, refresh.asker());
        let is_trouble = matches!(&granted, Err(failure) if failure.kind == FailureKind::Passing);
        self.note(granted.is_err(), is_trouble, settings);
        let waiting = self.tokens.take_waiting(&refresh.grantee);
        let failure = match granted {
            Ok(grant) => {
                let pass = self.tokens.keep(&refresh.grantee, grant);
                self.tokens.store(transactions);
                self.tokens.note(refresh, waiting.iter().any(Flight::probes), transactions);
                for flight in waiting {
                    match flight {
                        Flight::Round(round) if !settings.enabled => round.give_back(transactions),
                        flight => self.take_off(flight, Some(&pass), settings),
                    }
                }
                return;
            }
            Err(failure) => failure,
        };
        let is_about_the_secret = matches!(failure.kind, FailureKind::Credential | FailureKind::Ungranted);
        if is_about_the_secret && self.tokens.is_outdated(refresh, transactions) {
            for flight in waiting {
                self.send(flight, transactions, settings);
            }
            return;
        }
        self.tokens.failed(&refresh.grantee, &failure);
        for flight in waiting {
            self.give_up(flight, failure.clone(), transactions, settings);
        }
    }
}
