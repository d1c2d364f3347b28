//! Access tokens: fetched when needed, kept in this process's memory only, shared by all calendars of a credential.
//!
//! The hard cases, each with a test in `tests/integration`:
//! - many calendars that need the same token cause one refresh; they wait for it without a transaction, and of their
//!   credential no further calendar is begun meanwhile
//! - a token that the provider refuses before its time is renewed once, and the calendar asked for again
//! - while the token URL is out of order, each calendar fails for itself, and the URL is not stormed
//! - a refresh token that the provider replaces is stored, also when its row is locked just then
//! - a user who is granted none is that calendar's trouble, unless no other user is granted one either
//! - a secret that cannot be opened for trouble with our own key file is no refusal by the provider
//! - a credential that is replaced while a refresh with the old secret is under way is tried with the new one
//!
//! What `generation` a token is of decides whom it serves: a credential that was replaced begins anew, and a calendar that
//! is each person's own is asked for as the person whose round it is, or not at all.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use calsync_core::credential::{OauthClient, Secret, ServiceAccount, Subject};
use calsync_core::providers::Request;
use calsync_core::providers::google::token::{self, Asker, Grant};
use calsync_core::sync::{Failure, FailureKind};
use chrono::Utc;

use super::Flight;
use super::budgets::Credential;
use super::transactions::Transactions;
use crate::error::Error;
use crate::rs256::SigningKey;
use crate::seal;
use crate::settings::Settings;
use crate::store::credential::{self, Stored};
use crate::store::sealing;

/// How long the token URL is left alone after it failed: doubling from the first to the last.
const SHORTEST_OUTAGE: Duration = Duration::from_secs(1);
const LONGEST_OUTAGE: Duration = Duration::from_secs(64);
/// A credential that nobody used for so long may be forgotten; it is read again when needed.
const FORGET_AFTER: Duration = Duration::from_secs(2 * 3600);
/// Whoever has locked a credential's row for longer is not waited for; it is tried again all the same.
const STORED_WITHIN: Duration = Duration::from_secs(60);
/// How often it is written down that users are granted tokens: often as measured by [`calsync_core::doubt::LATELY`].
const NOTED_EVERY: Duration = Duration::from_secs(300);
/// With fewer credentials than this there is nothing to tidy.
const FEW: usize = 1000;

/// For which calendar of which credential something is to be asked.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub owner: String,
    pub name: String,
    /// None: there is no such credential any more.
    pub generation: Option<i64>,
    /// The calendar's.
    pub remote_id: String,
    /// No other generation will do, not even a later one: it may be another person's, and the calendar another one.
    pub exactly: bool,
    /// A token from before this does not count: whether it is renewed is what is to be found out.
    pub not_before: Option<Instant>,
}

/// What to show the provider.
#[derive(Clone)]
pub struct Pass {
    /// The value of the header Authorization.
    pub header: String,
    /// None: it is the secret itself, of which there is no other.
    pub token: Option<TokenNumber>,
}

/// Which token; another one has another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenNumber(u64);

/// May it be asked?
pub enum Authorization {
    /// With this; None: as nobody.
    Ready(Option<Pass>),
    /// A token is on its way.
    Wait(Grantee),
    /// Send this first, and wait.
    Fetch(Box<Refresh>, Request),
    Failed(Failure),
    /// The credential was replaced since, and no other generation will do.
    Replaced,
}

/// To whom a token is granted: a credential, and the user as whom a service account asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grantee {
    owner: String,
    name: String,
    generation: i64,
    user: Option<String>,
}

/// A request for a token that is under way.
pub struct Refresh {
    pub grantee: Grantee,
    asker: Asker,
    /// The secret that was shown, as it is stored.
    sealed: Option<Vec<u8>>,
}

/// A credential as this process knows it.
struct Known {
    generation: i64,
    access: Access,
    outage: Option<Outage>,
    used_at: Instant,
    /// When it was last written down that a user was granted a token.
    noted_at: Option<Instant>,
}

/// A refresh token that has taken the place of the stored one, and could not be stored yet.
struct Unstored {
    generation: i64,
    refresh_token: String,
    since: Instant,
}

enum Access {
    Open,
    /// The header itself.
    Fixed(String),
    Granted {
        subject: Subject,
        tokens: HashMap<Option<String>, Token>,
    },
}

struct Token {
    number: TokenNumber,
    header: String,
    granted_at: Instant,
    use_until: Instant,
}

/// The token URL fails: until then its failure is everybody's answer.
struct Outage {
    failure: Failure,
    until: Instant,
    tries: u32,
}

#[derive(Default)]
pub struct Tokens {
    known: HashMap<(String, String), Known>,
    /// What waits for each token that is on its way.
    waiting: HashMap<Grantee, Vec<Flight>>,
    unstored: HashMap<(String, String), Unstored>,
    last_number: u64,
    complained: bool,
}

impl Tokens {
    /// What to ask with, or what must come first.
    pub fn authorization(
        &mut self,
        wanted: &Wanted,
        transactions: &mut impl Transactions,
        settings: &Settings,
    ) -> Authorization {
        let found = match self.learn(wanted, transactions) {
            Ok(found) => found,
            Err(failure) => return Authorization::Failed(failure),
        };
        let Some(known) = self.known.get_mut(&key(&wanted.owner, &wanted.name)) else {
            return Authorization::Failed(missing(&wanted.name));
        };
        if wanted.exactly && Some(known.generation) != wanted.generation {
            return Authorization::Replaced;
        }
        let now = Instant::now();
        known.used_at = now;
        let (subject, tokens) = match &mut known.access {
            Access::Open => return Authorization::Ready(None),
            Access::Fixed(header) => return Authorization::Ready(Some(Pass { header: header.clone(), token: None })),
            Access::Granted { subject, tokens } => (subject, tokens),
        };
        let user = match token::user_of(subject, &wanted.remote_id) {
            Ok(user) => user.map(str::to_owned),
            Err(failure) => return Authorization::Failed(failure),
        };
        let is_good = |token: &&Token| {
            token.use_until > now && wanted.not_before.is_none_or(|earliest| token.granted_at >= earliest)
        };
        if let Some(token) = tokens.get(&user).filter(is_good) {
            return Authorization::Ready(Some(token.pass()));
        }
        let Wanted { owner, name, .. } = wanted.clone();
        let grantee = Grantee { owner, name, generation: known.generation, user };
        if self.waiting.contains_key(&grantee) {
            return Authorization::Wait(grantee);
        }
        if let Some(outage) = known.outage.as_ref().filter(|outage| outage.until > now) {
            return Authorization::Failed(outage.failure.clone());
        }
        let unstored = self.unstored.get(&key(&wanted.owner, &wanted.name));
        let unstored = unstored.filter(|unstored| unstored.generation == grantee.generation);
        let unstored = unstored.map(|unstored| unstored.refresh_token.clone());
        let begun = match found {
            Some(found) => Ok(found),
            None => read(&wanted.owner, &wanted.name, transactions),
        };
        if let Ok(found) = &begun
            && found.0.generation != grantee.generation
        {
            // It was replaced just now: what this secret is granted is nothing of its predecessor's.
            self.known.insert(key(&wanted.owner, &wanted.name), Known::of(found));
            return self.authorization(wanted, transactions, settings);
        }
        match begun.and_then(|found| refresh(grantee, found, unstored, settings)) {
            Ok((refresh, request)) => Authorization::Fetch(Box::new(refresh), request),
            Err(failure) => Authorization::Failed(failure),
        }
    }

    /// Reads the credential unless it is known. Returns what was read.
    fn learn(
        &mut self,
        wanted: &Wanted,
        transactions: &mut impl Transactions,
    ) -> Result<Option<(Stored, Secret)>, Failure> {
        let key = key(&wanted.owner, &wanted.name);
        let Some(generation) = wanted.generation else {
            // What was dropped is not used any more, whatever this process remembers of it.
            self.known.remove(&key);
            return Err(missing(&wanted.name));
        };
        let will_do = |known: &Known| match wanted.exactly {
            true => known.generation == generation,
            false => known.generation >= generation,
        };
        if self.known.get(&key).is_some_and(will_do) {
            return Ok(None);
        }
        let found = read(&wanted.owner, &wanted.name, transactions)?;
        if self.known.len() >= FEW && self.known.len().is_power_of_two() {
            self.known.retain(|_, known| known.used_at.elapsed() < FORGET_AFTER);
        }
        if self.known.get(&key).is_none_or(|known| known.generation != found.0.generation) {
            self.known.insert(key, Known::of(&found));
        }
        Ok(Some(found))
    }

    /// This waits for the token that is on its way.
    pub fn wait(&mut self, grantee: Grantee, flight: Flight) {
        self.waiting.entry(grantee).or_default().push(flight);
    }

    /// The answer has come: what waited for it, which the caller takes on.
    pub fn take_waiting(&mut self, grantee: &Grantee) -> Vec<Flight> {
        self.waiting.remove(grantee).unwrap_or_default()
    }

    pub fn waiting(&self) -> impl Iterator<Item = &Flight> {
        self.waiting.values().flatten()
    }

    /// Credentials of which every calendar would wait just now.
    pub fn awaited(&self) -> impl Iterator<Item = Credential> {
        let of_all = self.waiting.keys().filter(|grantee| {
            let known = self.known.get(&key(&grantee.owner, &grantee.name));
            !matches!(known.map(|known| &known.access), Some(Access::Granted { subject: Subject::EachCalendar, .. }))
        });
        of_all.map(|grantee| Some((grantee.owner.clone(), grantee.name.clone())))
    }

    /// Whether no calendar of this credential could be asked for just now: there is no token, and none to be had.
    pub fn has_nothing_to_show(&self, credential: &Credential) -> bool {
        let Some(known) = credential.as_ref().and_then(|credential| self.known.get(credential)) else { return false };
        let now = Instant::now();
        let Access::Granted { tokens, .. } = &known.access else { return false };
        let is_out = known.outage.as_ref().is_some_and(|outage| outage.until > now);
        is_out && tokens.values().all(|token| token.use_until <= now)
    }

    /// Keeps a token for all who will ask for it.
    pub fn keep(&mut self, grantee: &Grantee, grant: Grant) -> Pass {
        self.last_number += 1;
        let now = Instant::now();
        let token = Token {
            number: TokenNumber(self.last_number),
            header: token::bearer(&grant.access_token),
            granted_at: now,
            use_until: now + grant.use_for,
        };
        let pass = token.pass();
        let known = self.known.get_mut(&key(&grantee.owner, &grantee.name));
        if let Some(known) = known.filter(|known| known.generation == grantee.generation) {
            known.outage = None;
            if let Some(refresh_token) = grant.refresh_token {
                let unstored = Unstored { generation: grantee.generation, refresh_token, since: now };
                self.unstored.insert(key(&grantee.owner, &grantee.name), unstored);
            }
            if let Access::Granted { tokens, .. } = &mut known.access {
                tokens.retain(|_, token| token.use_until > now);
                tokens.insert(grantee.user.clone(), token);
            }
        }
        pass
    }

    /// Writes down that a user of the credential was granted a token, where others may be refused theirs: not each time, but
    /// where a doubt waits for it (`ends_doubt`) at once. What could not be written is written with the next one.
    pub fn note(&mut self, granted: &Refresh, ends_doubt: bool, transactions: &mut impl Transactions) {
        let Grantee { owner, name, generation, .. } = &granted.grantee;
        let known = self.known.get_mut(&key(owner, name)).filter(|known| known.generation == *generation);
        let Some(known) = known.filter(|_| granted.asker == Asker::UserOfCalendar) else { return };
        if !ends_doubt && known.noted_at.is_some_and(|noted| noted.elapsed() < NOTED_EVERY) {
            return;
        }
        if let Ok(true) = transactions.run(&mut || credential::granted((owner, name, *generation))) {
            known.noted_at = Some(Instant::now());
        }
    }

    /// No token came. What passes is everybody's answer for a while, ever longer.
    pub fn failed(&mut self, grantee: &Grantee, failure: &Failure) {
        let known = self.known.get_mut(&key(&grantee.owner, &grantee.name));
        if let Some(known) = known.filter(|_| failure.kind == FailureKind::Passing) {
            let tries = known.outage.as_ref().map_or(0, |outage| outage.tries + 1);
            let pause = SHORTEST_OUTAGE.saturating_mul(1 << tries.min(6)).min(LONGEST_OUTAGE);
            let wished = failure.retry_after.unwrap_or_default().min(FORGET_AFTER);
            let until = Instant::now() + pause.max(wished);
            known.outage = Some(Outage { failure: failure.clone(), until, tries });
        }
    }

    /// The provider does not accept this token: the next who asks gets another.
    pub fn reject(&mut self, owner: &str, name: &str, number: TokenNumber) {
        if let Some(Known { access: Access::Granted { tokens, .. }, .. }) = self.known.get_mut(&key(owner, name)) {
            tokens.retain(|_, token| token.number != number);
        }
    }

    /// Whether what the provider refused is no longer what is stored: then those who waited should ask again.
    pub fn is_outdated(&mut self, refused: &Refresh, transactions: &mut impl Transactions) -> bool {
        let Grantee { owner, name, .. } = &refused.grantee;
        let Some(found) = read(owner, name, transactions).ok().filter(|found| found.0.sealed != refused.sealed) else {
            return false;
        };
        let known = self.known.entry(key(owner, name)).or_insert_with(|| Known::of(&found));
        if known.generation != found.0.generation {
            *known = Known::of(&found);
        }
        // It was refused, too, or is older than what somebody else has stored.
        self.unstored.remove(&key(owner, name));
        true
    }

    pub fn has_unstored(&self) -> bool {
        !self.unstored.is_empty()
    }

    /// Whether a refresh token should be stored so soon that it is worth waiting for.
    pub fn is_about_to_store(&self) -> bool {
        self.unstored.values().any(|unstored| unstored.since.elapsed() < STORED_WITHIN)
    }

    /// Stores the refresh tokens that providers have replaced, as far as nobody has locked their rows.
    pub fn store(&mut self, transactions: &mut impl Transactions) {
        let complained = &mut self.complained;
        self.unstored.retain(|(owner, name), unstored| {
            let stored = transactions.run(&mut || store(owner, name, unstored));
            if let Err(failed) = &stored
                && !std::mem::replace(complained, true)
            {
                pgrx::warning!(
                    "pg_calsync: a refresh token that the provider has replaced cannot be stored yet: {}",
                    failed.reason
                );
            }
            !matches!(stored, Ok(true))
        });
    }
}

/// False: somebody has locked the row.
fn store(owner: &str, name: &str, unstored: &Unstored) -> Result<bool, Error> {
    let Unstored { generation, refresh_token, .. } = unstored;
    let found = credential::find(owner, name)?.filter(|found| found.generation == *generation);
    let sealed = found.and_then(|found| found.sealed);
    let Some(Secret::OauthClient(client)) = sealed.map(|sealed| seal::open(owner, name, &sealed)).transpose()? else {
        // It was replaced or dropped meanwhile.
        return Ok(true);
    };
    let client = OauthClient { refresh_token: refresh_token.clone(), ..client };
    sealing::announce();
    let sealed = seal::seal(owner, name, &Secret::OauthClient(client))?;
    credential::renew((owner, name, *generation), &sealed)
}

impl Known {
    fn of((stored, secret): &(Stored, Secret)) -> Self {
        let granted = |subject| Access::Granted { subject, tokens: HashMap::new() };
        let access = match secret {
            Secret::None => Access::Open,
            Secret::Bearer { token } => Access::Fixed(token::bearer(token)),
            Secret::Basic { username, password } => Access::Fixed(token::basic(username, password)),
            Secret::OauthClient(_) => granted(Subject::Itself),
            Secret::ServiceAccount(account) => granted(account.subject.clone()),
        };
        Known { generation: stored.generation, access, outage: None, used_at: Instant::now(), noted_at: None }
    }
}

impl Token {
    fn pass(&self) -> Pass {
        Pass { header: self.header.clone(), token: Some(self.number) }
    }
}

fn key(owner: &str, name: &str) -> (String, String) {
    (owner.to_owned(), name.to_owned())
}

/// The credential as it is stored, opened.
fn read(owner: &str, name: &str, transactions: &mut impl Transactions) -> Result<(Stored, Secret), Failure> {
    let read = transactions.run(&mut || credential::find(owner, name));
    let stored = read
        .map_err(|failed| {
            Failure::new(FailureKind::Passing, format!("the credential cannot be read: {}", failed.reason))
        })?
        .ok_or_else(|| missing(name))?;
    let secret = match &stored.sealed {
        None => Secret::None,
        Some(sealed) => seal::open(owner, name, sealed).map_err(|error| {
            // Our own trouble says nothing about the credential.
            let kind = if matches!(error, Error::KeyFile(_)) { FailureKind::Unopened } else { FailureKind::Credential };
            Failure::new(kind, error.told())
        })?,
    };
    Ok((stored, secret))
}

fn missing(name: &str) -> Failure {
    Failure::new(
        FailureKind::Credential,
        format!("there is no credential \"{name}\" any more: add it again with calsync_add_credential()"),
    )
}

/// The request for a token. `unstored`: a refresh token that is newer than the stored one.
fn refresh(
    grantee: Grantee,
    (stored, secret): (Stored, Secret),
    unstored: Option<String>,
    settings: &Settings,
) -> Result<(Refresh, Request), Failure> {
    let url = &settings.google_token_url;
    let (asker, request) = match secret {
        Secret::OauthClient(mut client) => {
            client.refresh_token = unstored.unwrap_or(client.refresh_token);
            (Asker::OauthClient, token::refresh_request(url, &client))
        }
        Secret::ServiceAccount(account) => {
            let asker = match account.subject {
                Subject::EachCalendar => Asker::UserOfCalendar,
                Subject::Itself | Subject::User(_) => Asker::ServiceAccount,
            };
            (asker, assertion(&account, grantee.user.as_deref(), url)?)
        }
        // It was replaced by one of another shape since it was read first: the next claim sees that.
        Secret::None | Secret::Bearer { .. } | Secret::Basic { .. } => {
            return Err(Failure::new(FailureKind::Passing, "the credential has just been replaced"));
        }
    };
    Ok((Refresh { grantee, asker, sealed: stored.sealed }, request))
}

fn assertion(account: &ServiceAccount, user: Option<&str>, url: &str) -> Result<Request, Failure> {
    let failed = |why| Failure::new(FailureKind::Credential, format!("no access token can be asked for: {why}"));
    let key = SigningKey::from_pem(&account.private_key).ok_or_else(|| failed("the private key is not an RSA key"))?;
    let to_sign = token::assertion_to_sign(account, user, url, Utc::now());
    let signature = key.sign(to_sign.as_bytes()).ok_or_else(|| failed("the request cannot be signed"))?;
    Ok(token::assertion_request(url, &to_sign, &signature))
}

impl Grantee {
    pub fn owner(&self) -> &str {
        &self.owner
    }
}

impl Refresh {
    pub fn asker(&self) -> Asker {
        self.asker
    }
}
