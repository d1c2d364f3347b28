//! Channels, as the engine tends them: news is passed on, what is missing is opened, what nobody needs is stopped.
//!
//! Requests for channels fly beside the rounds, are charged to the same budgets, and take a quarter of the places at
//! most: a calendar that is polled misses nothing, so they can wait. What is to be done is found out by looking at the
//! tables, every half a minute and when there is reason to look; subscriptions are gone through in order, a few at a time,
//! so that looking at ten thousand of them is one pass and not one for each channel.

use std::time::{Duration, Instant};

use calsync_core::budget::Spent;
use calsync_core::providers::google::channel::{
    self, OpenedBy, Opening, Refusal, RefusedFor, StopRequest, Stopping, WatchRequest,
};
use calsync_core::providers::{Answer, Request};
use calsync_core::sync::{Failure, FailureKind};
use chrono::{DateTime, Utc};

use super::budgets::{Budgets, Credential};
use super::flight::Flight;
use super::round::Heard;
use super::tokens::{Pass, TokenNumber, Wanted};
use super::transactions::{Transactions, UnitFailed};
use super::{Engine, LOCKED_RETRY, lease, random};
use crate::error::Error;
use crate::settings::{Settings, Webhook};
use crate::store::channel::{self as store, Channel, Stop, Token};
use crate::store::claims::Permit;
use crate::store::durability;
use crate::store::notification;
use crate::store::rounds::Outcome;
use crate::store::settling::{self, Wish};
use crate::store::whose::Whose;

/// How long a look at the tables is good for, where nothing gives reason to look again.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// Looks are at least so far apart.
const SHORTEST_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after the tables could not be looked at.
const PAUSE: Duration = Duration::from_secs(5);
/// Answers kept whose channel somebody has locked.
const MOST_LOCKED: usize = 100;
/// Channels whose news are passed on in one transaction.
const AT_ONCE: usize = 500;

/// What is known between looks.
#[derive(Default)]
pub struct Tending {
    last_look: Option<Instant>,
    next_look: Option<Instant>,
    /// A pass is under way, and has come this far in the order of subscriptions.
    cursor: Option<i64>,
    /// Some calendars that there is news of are locked: tried again then.
    news_waits: Option<Instant>,
    /// Answers whose channel somebody has locked, and since when.
    locked: Vec<(ChannelFlight, Heard, Instant)>,
}

/// A request about a channel that is in flight.
pub struct ChannelFlight {
    channel: Channel,
    what: What,
    /// The access token that it was asked with; None: without one.
    shown: Option<TokenNumber>,
    /// It was asked again with another, since the first was not accepted.
    renewed: bool,
}

enum What {
    Watch { token: Token, asked_at: DateTime<Utc> },
    Stop { resource_id: String, opened_by: OpenedBy },
}

/// What the answer to such a request means.
enum Meaning {
    Opened {
        resource_id: String,
        expires_at: DateTime<Utc>,
    },
    NotOpened {
        refused: Option<RefusedFor>,
        failure: Failure,
    },
    Stopped,
    /// It is not for us to stop it.
    Left(Failure),
    NotStopped(Failure),
}

impl ChannelFlight {
    fn new(channel: Channel, what: What) -> Self {
        ChannelFlight { channel, what, shown: None, renewed: false }
    }

    pub fn owner(&self) -> &str {
        &self.channel.owner
    }

    /// For whom an access token is wanted; None: it is asked for as nobody.
    pub fn wanted(&self) -> Option<Wanted> {
        let (owner, name) = self.channel.credential()?;
        let Channel { generation, remote_id, .. } = &self.channel;
        Some(Wanted {
            owner,
            name,
            generation: *generation,
            remote_id: remote_id.clone(),
            exactly: false,
            not_before: None,
        })
    }

    pub fn request(&mut self, pass: Option<&Pass>, settings: &Settings) -> Request {
        self.shown = pass.and_then(|pass| pass.token);
        let authorization = pass.map(|pass| pass.header.as_str());
        let base_url = settings.google_api_url.as_str();
        let Channel { id, remote_id, address, .. } = &self.channel;
        match &self.what {
            What::Watch { token, .. } => WatchRequest {
                base_url,
                calendar: remote_id,
                channel_id: id,
                token: token.text(),
                address,
                authorization,
            }
            .request(),
            What::Stop { resource_id, .. } => {
                StopRequest { base_url, channel_id: id, resource_id, authorization }.request()
            }
        }
    }

    /// The token that this answer does not accept, where it is worth asking again with another: once.
    fn rejected_token(&mut self, meaning: &Meaning) -> Option<TokenNumber> {
        let refused = meaning.failure().is_some_and(|failure| failure.kind == FailureKind::Credential);
        let again = refused && !self.renewed;
        self.renewed = refused;
        self.shown.filter(|_| again)
    }

    fn read(&self, heard: &Heard) -> Meaning {
        let answer = match heard {
            Heard::Answer(answer) => answer,
            Heard::Failure(failure) => return self.unasked(failure.clone()),
        };
        match &self.what {
            What::Watch { asked_at, .. } => match channel::read_opening(answer, *asked_at) {
                Opening::Opened { resource_id, expires_at } => Meaning::Opened { resource_id, expires_at },
                Opening::Unknown(failure) => Meaning::NotOpened { refused: None, failure },
                Opening::Refused(Refusal { why, failure }) => Meaning::NotOpened { refused: Some(why), failure },
            },
            What::Stop { opened_by, .. } => match channel::read_stopping(answer, *opened_by) {
                Stopping::Gone => Meaning::Stopped,
                Stopping::NotOurs(failure) => Meaning::Left(failure),
                Stopping::Failed(failure) => Meaning::NotStopped(failure),
            },
        }
    }

    fn unasked(&self, failure: Failure) -> Meaning {
        match &self.what {
            What::Watch { .. } => Meaning::NotOpened { refused: Some(RefusedFor::Request), failure },
            What::Stop { .. } => Meaning::NotStopped(failure),
        }
    }

    /// Writes down what the answer means.
    fn act(&self, meaning: &Meaning) -> Result<Outcome<()>, Error> {
        let (channel, now, random) = (&self.channel, Utc::now(), random());
        match meaning {
            Meaning::Opened { resource_id, expires_at } => {
                store::opened(channel, resource_id, *expires_at, channel::renewal(now, *expires_at, random))
            }
            Meaning::NotOpened { refused, failure } => {
                let retry_at = channel::next_opening(now, channel.failures, *refused, failure, random);
                store::not_opened(channel, *refused, failure, retry_at, random)
            }
            Meaning::Stopped => store::stopped(channel),
            Meaning::Left(failure) => store::left(channel, failure),
            Meaning::NotStopped(failure) => {
                let retry_at = channel::next_stop(now, channel.failures, failure, random);
                store::not_stopped(channel, failure, retry_at, random)
            }
        }
    }
}

impl Meaning {
    fn failure(&self) -> Option<&Failure> {
        match self {
            Meaning::NotOpened { failure, .. } | Meaning::Left(failure) | Meaning::NotStopped(failure) => Some(failure),
            Meaning::Opened { .. } | Meaning::Stopped => None,
        }
    }
}

impl Engine {
    /// The tables are looked at again soon: settings changed, or a calendar may be watched now.
    pub fn look_at_channels_soon(&mut self) {
        let earliest = self.tending.last_look.map(|last| last + SHORTEST_LOOK_INTERVAL);
        self.tending.next_look = earliest.or(Some(Instant::now()));
    }

    pub fn look_at_channels_now(&mut self) {
        self.tending.next_look = None;
    }

    /// Makes the calendars due that notifications told of, since the last call or before that.
    pub fn pass_on_news(&mut self, transactions: &mut impl Transactions) -> Result<(), UnitFailed> {
        if self.tending.news_waits.is_some_and(|until| until > Instant::now()) {
            return Ok(());
        }
        let passed = pass_on_all(&self.whose, transactions);
        self.tending.news_waits = match &passed {
            Ok(false) => None,
            Ok(true) => Some(Instant::now() + LOCKED_RETRY),
            Err(_) => Some(Instant::now() + PAUSE),
        };
        passed.map(drop)
    }

    /// Stops and opens channels as far as there is room, if it is time to.
    pub fn tend_channels(
        &mut self,
        transactions: &mut impl Transactions,
        settings: &Settings,
    ) -> Result<(), UnitFailed> {
        let tended = self.tend(transactions, settings);
        if tended.is_err() {
            self.tending.cursor = None;
            self.tending.next_look = Some(Instant::now() + LOOK_INTERVAL);
        }
        tended
    }

    fn tend(&mut self, transactions: &mut impl Transactions, settings: &Settings) -> Result<(), UnitFailed> {
        if !settings.enabled {
            return Ok(());
        }
        let now = Instant::now();
        if self.tending.cursor.is_none() {
            if self.tending.next_look.is_some_and(|next| next > now) {
                return Ok(());
            }
            let wish = wish(settings);
            transactions.run(&mut || settling::settle(&self.whose, wish))?;
            self.tending.cursor = Some(0);
            self.tending.last_look = Some(now);
            self.tending.next_look = Some(now + LOOK_INTERVAL);
        }
        let room = self.room_for_channels(settings);
        if room == 0 {
            return Ok(());
        }
        let stopped = self.stop_channels(room, transactions, settings)?;
        if stopped < room {
            self.open_channels(room - stopped, transactions, settings)?;
        }
        Ok(())
    }

    /// A quarter of the places that rounds have just now, and one at least.
    fn room_for_channels(&self, settings: &Settings) -> usize {
        let waiting = self.tokens.waiting().filter(|flight| flight.is_channel()).count();
        let free = settings.max_concurrency.saturating_sub(self.flights.len());
        (self.width(settings) / 4).max(1).saturating_sub(self.channels_in_flight() + waiting).min(free)
    }

    pub(super) fn channels_in_flight(&self) -> usize {
        self.flights.values().filter(|(flight, _)| flight.is_channel()).count()
    }

    fn stop_channels(
        &mut self,
        room: usize,
        transactions: &mut impl Transactions,
        settings: &Settings,
    ) -> Result<usize, UnitFailed> {
        let awaited: Vec<Credential> = self.tokens.awaited().collect();
        let (budgets, whose) = (&mut self.budgets, &self.whose);
        let claims = transactions.run(&mut || {
            store::claim_stops(whose, room, lease(settings), |credential| {
                permit(budgets, &awaited, credential, settings)
            })
        })?;
        let count = claims.len();
        for Stop { channel, resource_id, opened_by } in claims {
            self.ask(channel, What::Stop { resource_id, opened_by }, transactions, settings);
        }
        Ok(count)
    }

    fn open_channels(
        &mut self,
        room: usize,
        transactions: &mut impl Transactions,
        settings: &Settings,
    ) -> Result<(), UnitFailed> {
        let (Webhook::Address(address), Some(cursor)) = (&settings.webhook, self.tending.cursor) else {
            self.tending.cursor = None;
            return Ok(());
        };
        let awaited: Vec<Credential> = self.tokens.awaited().collect();
        let (budgets, whose) = (&mut self.budgets, &self.whose);
        let mut some_wait = false;
        let claimed = transactions.run(&mut || {
            store::claim_openings(whose, address, cursor, room, lease(settings), |credential| {
                let permit = permit(budgets, &awaited, credential, settings);
                some_wait |= permit != Permit::Go;
                permit
            })
        })?;
        self.tending.cursor = claimed.cursor;
        for (channel, token) in claimed.claims {
            self.ask(channel, What::Watch { token, asked_at: Utc::now() }, transactions, settings);
        }
        if some_wait {
            // Whose budget is spent is passed over, and come back to.
            self.tending.cursor = None;
            self.tending.next_look = Some(Instant::now() + 3 * SHORTEST_LOOK_INTERVAL);
        }
        Ok(())
    }

    fn ask(&mut self, channel: Channel, what: What, transactions: &mut impl Transactions, settings: &Settings) {
        self.send(Flight::Channel(Box::new(ChannelFlight::new(channel, what))), transactions, settings);
    }

    /// Asks again with another access token where the answer says that this one is no good, or acts on it.
    pub(super) fn channel_answered(
        &mut self,
        mut flight: ChannelFlight,
        answer: Answer,
        transactions: &mut impl Transactions,
        settings: &Settings,
    ) {
        let heard = Heard::Answer(answer);
        let meaning = flight.read(&heard);
        if let (Some(number), Some((owner, name))) = (flight.rejected_token(&meaning), flight.channel.credential()) {
            self.tokens.reject(&owner, &name, number);
            return self.send(Flight::Channel(Box::new(flight)), transactions, settings);
        }
        let trouble = |failure: &Failure| matches!(failure.kind, FailureKind::Passing | FailureKind::RateLimited);
        self.note(meaning.failure().is_some(), meaning.failure().is_some_and(trouble), settings);
        self.act_on_channel(flight, heard, Instant::now(), transactions);
    }

    /// Acts on an answer; where somebody has the row locked it is kept until the next try.
    pub(super) fn act_on_channel(
        &mut self,
        flight: ChannelFlight,
        heard: Heard,
        since: Instant,
        transactions: &mut impl Transactions,
    ) {
        let meaning = flight.read(&heard);
        match transactions.run(&mut || flight.act(&meaning)) {
            // Of what there is no room for the lease runs out; its first message will tell of it.
            Ok(Outcome::Locked) if self.tending.locked.len() < MOST_LOCKED => {
                self.tending.locked.push((flight, heard, since));
            }
            Ok(Outcome::Done(())) => {
                if let Meaning::NotOpened { refused: Some(RefusedFor::Address), failure } = &meaning {
                    tell_of_address(&flight.channel, failure);
                }
            }
            Ok(Outcome::Locked | Outcome::Superseded) => {}
            // Its lease runs out, and then it counts as one of which no answer came.
            Err(failed) => pgrx::warning!("pg_calsync: a channel's answer could not be kept: {}", failed.reason),
        }
    }

    pub(super) fn retry_locked_channels(&mut self, transactions: &mut impl Transactions, settings: &Settings) {
        for (flight, heard, since) in std::mem::take(&mut self.tending.locked) {
            if since.elapsed() < lease(settings) {
                self.act_on_channel(flight, heard, since, transactions);
            }
        }
    }

    pub(super) fn has_locked_channels(&self) -> bool {
        !self.tending.locked.is_empty()
    }

    /// How long until channels are tended again; None: not before something happens.
    pub fn until_tending(&self, settings: &Settings) -> Option<Duration> {
        let now = Instant::now();
        let news = self.tending.news_waits.map(|until| until.saturating_duration_since(now));
        let look = self.tending.next_look.filter(|_| settings.enabled);
        let pass = self.tending.cursor.filter(|_| settings.enabled && self.room_for_channels(settings) > 0);
        news.into_iter()
            .chain(look.map(|next| next.saturating_duration_since(now)))
            .chain(pass.map(|_| Duration::ZERO))
            .min()
    }
}

/// Whether some calendars could not be told.
fn pass_on_all(whose: &Whose, transactions: &mut impl Transactions) -> Result<bool, UnitFailed> {
    let mut place = None;
    let mut some_wait = false;
    loop {
        let passed = transactions.run(&mut || {
            durability::need_not_last();
            notification::pass_on(whose, place.as_ref(), AT_ONCE)
        })?;
        some_wait |= passed.some_wait;
        place = passed.next;
        if place.is_none() {
            return Ok(some_wait);
        }
    }
}

fn wish(settings: &Settings) -> Wish<'_> {
    match &settings.webhook {
        Webhook::None => Wish::NoPush,
        Webhook::Unusable(_) => Wish::Keep,
        Webhook::Address(address) => Wish::To(address),
    }
}

/// Of a credential whose token is `awaited` no channel is begun: it would wait in the place of others.
fn permit(budgets: &mut Budgets, awaited: &[Credential], credential: &Credential, settings: &Settings) -> Permit {
    if awaited.contains(credential) {
        return Permit::NotThisCredential;
    }
    match budgets.charge(credential, settings) {
        Ok(()) => Permit::Go,
        Err(Spent::Credential { .. }) => Permit::NotThisCredential,
        Err(Spent::Project { .. }) => Permit::Nobody,
    }
}

/// It is no calendar's fault, so it is said where whoever set the address looks, too.
fn tell_of_address(channel: &Channel, failure: &Failure) {
    pgrx::pg_sys::panic::ErrorReport::new(
        pgrx::PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
        format!("pg_calsync: the provider does not send notifications to calsync.webhook_url: {}", failure.reason),
        "",
    )
    .set_detail(format!(
        "Calendars of credential \"{}\" of role \"{}\" are polled. It is asked again in an hour.",
        channel.credential.as_deref().unwrap_or_default(),
        channel.owner
    ))
    .set_hint("Its host must be public, with a valid certificate, and in a domain that the cloud project may use.")
    .report(pgrx::PgLogLevel::WARNING);
}
