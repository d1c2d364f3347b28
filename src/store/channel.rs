//! Channels: which are to be opened or stopped, what became of them, and who is polled again because one was lost.
//!
//! A channel belongs to a provider's calendar watched with a credential, not to a subscription: all subscriptions of the
//! same share it, and it is there until it was stopped or has expired. Its row is committed before the provider is asked
//! for it: its first message can come before the answer, and a process that dies in between must not forget it.
//!
//! A new channel is asked for where no other of the calendar is open and young; so a renewal is nothing but an opening,
//! and two channels overlap until the new one has shown that it works.
//!
//! Rows of channels are never waited for, and nobody who changes a subscription locks one.

use std::fmt::Write as _;

use calsync_core::providers::google::channel::{self, OpenedBy, RefusedFor};
use calsync_core::schedule;
use calsync_core::sync::{Failure, FailureKind};
use chrono::{DateTime, Utc};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;
use sha2::{Digest, Sha256};

use super::claims::Permit;
use super::credential;
use super::home::is_at_home;
use super::rounds::Outcome;
use super::time;
use super::whose::{Whose, is_theirs};
use crate::error::Error;

/// Channel `ch` is one of the calendar of subscription `s`. As the indexes have it: of thousands of people the calendar may
/// be called `primary`, and only the credential tells them apart. (No credential's name is empty.)
pub const WATCHES: &str = "ch.remote_id = s.remote_id AND ch.owner = s.owner AND ch.provider = s.provider \
     AND coalesce(ch.credential, '') = coalesce(s.credential, '')";

/// Channel `ch` was asked for with its credential as it is now. One that was replaced may be another person's, and what
/// tells of that person's calendar tells nothing of this one's.
const IS_PRESENT: &str = "ch.generation = coalesce((SELECT held.generation FROM calsync.credential AS held \
     WHERE held.owner = ch.owner AND held.name = ch.credential), 0)";

/// Notifications of channel `ch` have arrived, it has not ended, and its credential is still the same.
pub fn live() -> String {
    format!("ch.state = 'open' AND ch.confirmed_at IS NOT NULL AND ch.expires_at > now() AND {IS_PRESENT}")
}

/// Subscription `s` wants its calendar to be watched.
pub(super) const WANTS: &str = "s.provider = 'google' AND s.state NOT IN ('paused', 'gone')";

/// Nothing keeps the credential `c` of whatever asks from being used.
const MAY_ASK: &str = "(c.retry_at IS NULL OR c.retry_at <= clock_timestamp()) AND c.refused_at IS NULL";

/// Which database of which server this is. A channel that another one asked for came with a copy (a dump, a template): it
/// tells the original, which stops it when its time has come.
pub fn home() -> String {
    // SAFETY: reads what the server knows of itself, and a variable of the backend.
    unsafe { format!("{}/{}", pg_sys::GetSystemIdentifier(), pg_sys::MyDatabaseId.to_u32()) }
}

/// What a channel is for, as whoever asks for it needs it.
#[derive(Debug, Clone)]
pub struct Channel {
    pub id: String,
    pub owner: String,
    pub credential: Option<String>,
    pub remote_id: String,
    /// Of its credential, now; None: it has none, or there is no such credential any more.
    pub generation: Option<i64>,
    pub address: String,
    /// How often in a row it could not be opened, or stopped.
    pub failures: u32,
}

impl Channel {
    /// Owner and name of the credential; None: asked for as nobody.
    pub fn credential(&self) -> Option<(String, String)> {
        self.credential.clone().map(|name| (self.owner.clone(), name))
    }
}

/// What every notification of a channel repeats: 256 random bits. Only its hash is stored.
pub struct Token(String);

impl Token {
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// SHA-256 of a channel's token.
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// So many random bytes in hexadecimal.
fn random_hex(bytes: usize) -> Result<String, Error> {
    let mut random = vec![0u8; bytes];
    // SAFETY: fills a buffer of the size it is told.
    if !unsafe { pg_sys::pg_strong_random(random.as_mut_ptr().cast(), random.len()) } {
        return Err(Error::Internal("the system gives no random bytes".to_owned()));
    }
    Ok(random.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Channels to be asked for, whose rows are there.
pub struct Openings {
    pub claims: Vec<(Channel, Token)>,
    /// The last subscription looked at, after which the next look goes on; None: there is no further one.
    pub cursor: Option<i64>,
}

/// Makes rows for up to `limit` channels that are to be opened to `address`, among these owners' subscriptions after `cursor`: of
/// calendars that were synced and have no channel that is young, awaited, or refused not long ago. The answer is awaited
/// for the length of `lease`. To be committed, and on disk, before the provider is asked.
pub fn claim_openings(
    whose: &Whose,
    address: &str,
    cursor: i64,
    limit: usize,
    lease: std::time::Duration,
    mut permit: impl FnMut(&Option<(String, String)>) -> Permit,
) -> Result<Openings, Error> {
    let candidates = to_open(whose, address, cursor, limit)?;
    let mut next = (candidates.len() == limit).then(|| candidates.last().map_or(cursor, |(id, _)| *id));
    let mut claims = Vec::new();
    let mut before = cursor;
    for (subscription, mut channel) in candidates {
        match permit(&channel.credential()) {
            Permit::Go => {
                let token = Token(random_hex(32)?);
                channel.id = random_hex(16)?;
                if insert(&channel, &token, lease)? {
                    claims.push((channel, token));
                }
            }
            Permit::NotThisCredential => {}
            Permit::Nobody => {
                next = Some(before);
                break;
            }
        }
        before = subscription;
    }
    Ok(Openings { claims, cursor: next })
}

/// With the subscriptions that ask for them; ids are not drawn yet.
fn to_open(whose: &Whose, address: &str, cursor: i64, limit: usize) -> Result<Vec<(i64, Channel)>, Error> {
    let sql = format!(
        "SELECT s.subscription_id, '' AS channel_id, s.owner::text AS owner, s.credential, s.remote_id, \
             c.generation, $1 AS address, \
             coalesce((SELECT max(ch.failures) FROM calsync.channel AS ch \
                       WHERE {WATCHES} AND ch.state IN ('lost', 'refused') AND {IS_PRESENT}), 0) AS failures \
         FROM calsync.subscription AS s \
         LEFT JOIN calsync.credential AS c ON c.owner = s.owner AND c.name = s.credential \
         WHERE s.subscription_id > $2 AND {WANTS} AND s.state = 'active' AND s.full_synced_at IS NOT NULL AND {MAY_ASK} \
             AND NOT EXISTS ( \
                 SELECT FROM calsync.channel AS ch WHERE {WATCHES} AND CASE ch.state \
                     WHEN 'opening' THEN true \
                     WHEN 'lost' THEN ch.due_at > now() AND {IS_PRESENT} \
                     WHEN 'open' THEN ch.due_at > now() AND ch.expires_at > now() AND ch.address = $1 AND {IS_PRESENT} \
                     WHEN 'refused' THEN ch.due_at > now() AND CASE ch.refused_for \
                         WHEN 'address' THEN ch.address = $1 \
                         WHEN 'request' THEN {IS_PRESENT} \
                         ELSE true END \
                     ELSE false END) \
             AND NOT EXISTS ( \
                 SELECT FROM calsync.channel AS r WHERE r.refused_for = 'address' AND r.owner = s.owner \
                     AND coalesce(r.credential, '') = coalesce(s.credential, '') AND r.address = $1 AND r.due_at > now()) \
             AND {} AND {} \
         ORDER BY s.subscription_id LIMIT $3",
        is_theirs("s.owner", 4),
        is_at_home("s")?
    );
    Spi::connect(|client| {
        let table =
            client.select(&sql, None, &[address.into(), cursor.into(), (limit as i64).into(), whose.parameter()])?;
        table.map(|row| Ok((row.get_by_name("subscription_id")?.unwrap_or_default(), read(&row)?))).collect()
    })
}

fn read(row: &SpiHeapTupleData) -> Result<Channel, Error> {
    let text = |column: &str| -> Result<String, Error> { Ok(row.get_by_name(column)?.unwrap_or_default()) };
    Ok(Channel {
        id: text("channel_id")?,
        owner: text("owner")?,
        credential: row.get_by_name("credential")?,
        remote_id: text("remote_id")?,
        generation: row.get_by_name("generation")?,
        address: text("address")?,
        failures: row.get_by_name::<i32, _>("failures")?.unwrap_or_default().max(0) as u32,
    })
}

/// False where somebody else is just opening one for the same calendar.
fn insert(channel: &Channel, token: &Token, lease: std::time::Duration) -> Result<bool, Error> {
    let target: [DatumWithOid; 3] =
        [channel.remote_id.as_str().into(), channel.owner.as_str().into(), channel.credential.as_deref().into()];
    let inserted = Spi::connect_mut(|client| -> Result<bool, Error> {
        let arguments = [
            channel.id.as_str().into(),
            channel.owner.as_str().into(),
            channel.credential.as_deref().into(),
            channel.remote_id.as_str().into(),
            channel.generation.unwrap_or_default().into(),
            channel.address.as_str().into(),
            token_hash(token.text()).to_vec().into(),
            channel::LIFETIME.as_secs_f64().into(),
            lease.as_secs_f64().into(),
            i32::try_from(channel.failures).unwrap_or(i32::MAX).into(),
            home().into(),
        ];
        // Should the answer not come: it lives at most as long as was asked for, from when it was asked for.
        let table = client.update(
            "INSERT INTO calsync.channel (channel_id, provider, owner, credential, remote_id, generation, state, address, \
                 token_hash, expires_at, due_at, failures, home) \
             VALUES ($1, 'google', $2::name, $3, $4, $5, 'opening', $6, $7, \
                 now() + make_interval(secs => $8 + $9), now() + make_interval(secs => $9), $10, $11) \
             ON CONFLICT (remote_id, owner, provider, (coalesce(credential, ''))) WHERE state = 'opening' DO NOTHING \
             RETURNING channel_id",
            None,
            &arguments,
        )?;
        Ok(!table.is_empty())
    })?;
    if inserted {
        // What was refused never existed; its failures live on in the new row.
        Spi::connect_mut(|client| {
            client
                .update(
                    "DELETE FROM calsync.channel WHERE channel_id IN ( \
                         SELECT channel_id FROM calsync.channel WHERE remote_id = $1 AND owner = $2::name \
                             AND coalesce(credential, '') = coalesce($3, '') AND state = 'refused' FOR UPDATE SKIP LOCKED)",
                    None,
                    &target,
                )
                .map(drop)
        })?;
    }
    Ok(inserted)
}

/// A channel that is to be stopped.
pub struct Stop {
    pub channel: Channel,
    pub resource_id: String,
    pub opened_by: OpenedBy,
}

/// Claims up to `limit` channels of these owners that are to be stopped, for the length of `lease`.
pub fn claim_stops(
    whose: &Whose,
    limit: usize,
    lease: std::time::Duration,
    mut permit: impl FnMut(&Option<(String, String)>) -> Permit,
) -> Result<Vec<Stop>, Error> {
    // A credential that was dropped cannot stop its channels any more: they end by themselves.
    let sql = format!(
        "SELECT ch.channel_id, ch.owner::text AS owner, ch.credential, ch.remote_id, \
             c.generation, ch.address, ch.failures, ch.resource_id, {IS_PRESENT} AS present \
         FROM calsync.channel AS ch \
         LEFT JOIN calsync.credential AS c ON c.owner = ch.owner AND c.name = ch.credential \
         WHERE ch.state = 'stopping' AND ch.due_at <= clock_timestamp() AND ch.expires_at > now() \
             AND ch.resource_id IS NOT NULL AND (ch.credential IS NULL OR c.name IS NOT NULL) AND {MAY_ASK} \
             AND {} \
         ORDER BY ch.due_at LIMIT $1 FOR UPDATE OF ch SKIP LOCKED",
        is_theirs("ch.owner", 2)
    );
    let due = Spi::connect_mut(|client| -> Result<Vec<Stop>, Error> {
        let table = client.update(&sql, None, &[(limit as i64).into(), whose.parameter()])?;
        table
            .map(|row| {
                let is_present = row.get_by_name("present")?.unwrap_or_default();
                Ok(Stop {
                    channel: read(&row)?,
                    resource_id: row.get_by_name("resource_id")?.unwrap_or_default(),
                    opened_by: if is_present { OpenedBy::TheSame } else { OpenedBy::PerhapsAnother },
                })
            })
            .collect()
    })?;
    let mut claims = Vec::new();
    for stop in due {
        match permit(&stop.channel.credential()) {
            Permit::Go => claims.push(stop),
            Permit::NotThisCredential => {}
            Permit::Nobody => break,
        }
    }
    let ids: Vec<String> = claims.iter().map(|stop| stop.channel.id.clone()).collect();
    if !ids.is_empty() {
        update(
            "UPDATE calsync.channel SET due_at = now() + make_interval(secs => $2) WHERE channel_id = ANY ($1)",
            &[ids.into(), lease.as_secs_f64().into()],
        )?;
    }
    Ok(claims)
}

/// It is open, as the provider says. A message that came before the answer said when it ends, too, and an answer may not.
pub fn opened(
    channel: &Channel,
    resource_id: &str,
    expires_at: DateTime<Utc>,
    renewal: DateTime<Utc>,
) -> Result<Outcome<()>, Error> {
    while_there(&channel.id, || {
        update(
            "UPDATE calsync.channel SET resource_id = $2, opened_at = coalesce(opened_at, now()), failures = 0, \
                 expires_at = least($3, CASE WHEN confirmed_at IS NOT NULL THEN expires_at END, \
                     requested_at + interval '366 days'), last_error = NULL, \
                 state = CASE WHEN state IN ('opening', 'lost') THEN 'open' ELSE state END, \
                 due_at = CASE state WHEN 'stopping' THEN due_at WHEN 'open' THEN least(due_at, $4) ELSE $4 END \
             WHERE channel_id = $1 AND state <> 'ended'",
            &[
                channel.id.as_str().into(),
                resource_id.into(),
                time::timestamp(expires_at)?.into(),
                time::timestamp(renewal)?.into(),
            ],
        )
    })
}

/// It was not opened, or nobody knows; asked for again at `retry_at`. A message that came meanwhile knows better.
pub fn not_opened(
    channel: &Channel,
    refused: Option<RefusedFor>,
    failure: &Failure,
    retry_at: DateTime<Utc>,
    random: f64,
) -> Result<Outcome<()>, Error> {
    if !tell_credential(channel, failure, random)? {
        return Ok(Outcome::Locked);
    }
    while_there(&channel.id, || {
        update(
            "UPDATE calsync.channel SET state = CASE WHEN $2::text IS NULL THEN 'lost' ELSE 'refused' END, \
                 refused_for = $2, failures = failures + 1, last_error = $3, due_at = $4 \
             WHERE channel_id = $1 AND state = 'opening'",
            &[
                channel.id.as_str().into(),
                refused.map(label).into(),
                failure.reason.as_str().into(),
                time::timestamp(retry_at)?.into(),
            ],
        )
    })
}

/// The words of `calsync.channel.refused_for`.
fn label(refused: RefusedFor) -> &'static str {
    match refused {
        RefusedFor::Calendar => "calendar",
        RefusedFor::Address => "address",
        RefusedFor::Request => "request",
    }
}

/// It has ended at the provider.
pub fn stopped(channel: &Channel) -> Result<Outcome<()>, Error> {
    while_there(&channel.id, || {
        update(
            "UPDATE calsync.channel SET state = 'ended', ended_at = now(), due_at = NULL, last_error = NULL \
             WHERE channel_id = $1 AND state <> 'ended'",
            &[channel.id.as_str().into()],
        )
    })
}

/// It could not be stopped; tried again at `retry_at`, while it lives.
pub fn not_stopped(
    channel: &Channel,
    failure: &Failure,
    retry_at: DateTime<Utc>,
    random: f64,
) -> Result<Outcome<()>, Error> {
    if !tell_credential(channel, failure, random)? {
        return Ok(Outcome::Locked);
    }
    while_there(&channel.id, || {
        update(
            "UPDATE calsync.channel SET failures = failures + 1, last_error = $2, due_at = $3 \
             WHERE channel_id = $1 AND state = 'stopping'",
            &[channel.id.as_str().into(), failure.reason.as_str().into(), time::timestamp(retry_at)?.into()],
        )
    })
}

/// Whoever asks may not stop it: it is left to its end, without another try, and what it tells until then is taken.
pub fn left(channel: &Channel, failure: &Failure) -> Result<Outcome<()>, Error> {
    while_there(&channel.id, || {
        update(
            "UPDATE calsync.channel SET last_error = $2, due_at = 'infinity' \
             WHERE channel_id = $1 AND state = 'stopping'",
            &[channel.id.as_str().into(), failure.reason.as_str().into()],
        )
    })
}

/// A rate limit, or a credential that is not accepted, concerns all its calendars, whatever was asked. False where
/// somebody else has the credential's row locked.
fn tell_credential(channel: &Channel, failure: &Failure, random: f64) -> Result<bool, Error> {
    let concerns = matches!(failure.kind, FailureKind::RateLimited | FailureKind::Credential);
    let Some(name) = channel.credential.as_deref().filter(|_| concerns) else { return Ok(true) };
    let Some(slowed) = credential::try_lock(&channel.owner, name)? else { return Ok(false) };
    let held = (channel.owner.as_str(), name, channel.generation.unwrap_or_default());
    let retry = schedule::after_failure(Utc::now(), slowed, None, failure, random);
    match retry.slows {
        schedule::Slows::Calendar | schedule::Slows::CredentialPerhaps | schedule::Slows::CredentialUnopened => {}
        schedule::Slows::Credential => credential::slowed(held, retry.at, &failure.reason)?,
        schedule::Slows::CredentialRefused => credential::refused(held, retry.at, &failure.reason)?,
    }
    Ok(true)
}

/// Does `work` with the channel's row locked, unless somebody else has it.
fn while_there(id: &str, work: impl FnOnce() -> Result<(), Error>) -> Result<Outcome<()>, Error> {
    let select = "SELECT FROM calsync.channel WHERE channel_id = $1";
    let found = |sql: &str| -> Result<bool, Error> {
        Spi::connect_mut(|client| Ok(!client.update(sql, None, &[id.into()])?.is_empty()))
    };
    if found(&format!("{select} FOR UPDATE SKIP LOCKED"))? {
        work()?;
        return Ok(Outcome::Done(()));
    }
    Ok(if found(select)? { Outcome::Locked } else { Outcome::Superseded })
}

pub(super) fn update(sql: &str, arguments: &[DatumWithOid]) -> Result<(), Error> {
    Spi::connect_mut(|client| client.update(sql, None, arguments).map(drop))?;
    Ok(())
}
