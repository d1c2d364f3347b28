//! Notifications: taken by whoever received them, passed on to the calendars they concern.
//!
//! Who receives a notification only writes it down on the channel's row and wakes the worker; that makes the calendars
//! due. So no receiver waits for a transaction that has a calendar locked, and no wish is lost with one:
//!
//! - the calendar is locked by a long transaction: `has_news` stays, and is looked at again until all have been told
//! - the worker is not there, or is being started: it looks at `has_news` when it is
//! - a message comes while earlier news is passed on: it waits for that short transaction, and sets `has_news` anew
//! - a message comes while a round is under way, which may have listed the calendar before: making it due moves
//!   `next_sync_at` away from the end of the lease, and the end of the round leaves that alone
//! - the calendar is failing: its next try asks for everything since the last success, so it keeps its own time; but a
//!   round under way may have asked before the news, and is followed by another
//! - several calendars share the channel and one is locked: those that were told (`told`) are not told again meanwhile
//! - a message comes twice, or late: numbers grow, so what is not greater than the latest has most likely been told
//!   already. It makes nothing due by itself (see [`take`])

use std::collections::HashSet;

use calsync_core::providers::google::notification::{Notification, ResourceState};
use chrono::{DateTime, Utc};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::channel::{WATCHES, home};
use super::time;
use super::whose::{Whose, is_theirs};
use crate::error::Error;

/// What a notification must match, of a channel that has not ended.
pub struct Known {
    pub token_hash: Vec<u8>,
    pub resource_id: Option<String>,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    /// The provider's answer has come.
    pub is_answered: bool,
}

/// The channel of this id, if notifications of it may come.
pub fn find(channel_id: &str) -> Result<Option<Known>, Error> {
    Spi::connect(|client| {
        let mut table = client.select(
            "SELECT token_hash, resource_id, requested_at, expires_at, opened_at IS NOT NULL FROM calsync.channel \
             WHERE channel_id = $1 AND state IN ('opening', 'lost', 'open', 'stopping') AND (home = $2 OR home IS NULL)",
            None,
            &[channel_id.into(), home().into()],
        )?;
        let Some(row) = table.next() else { return Ok(None) };
        let instant = |column| -> Result<DateTime<Utc>, Error> {
            Ok(row.get::<TimestampWithTimeZone>(column)?.and_then(time::instant).unwrap_or(DateTime::UNIX_EPOCH))
        };
        Ok(Some(Known {
            token_hash: row.get(1)?.unwrap_or_default(),
            resource_id: row.get(2)?,
            requested_at: instant(3)?,
            expires_at: instant(4)?,
            is_answered: row.get(5)?.unwrap_or_default(),
        }))
    })
}

/// How long a message waits that seems to have come before, in seconds: so far apart, at least, are the polls that a
/// replay without end causes.
const REPEATS_WAIT: f64 = 30.0;

/// Writes down a genuine notification, unless it came before. Returns whether there is something to pass on. Where the
/// answer to the request has not come, this is the answer: the channel is open until `expires_at`. Where it ends sooner
/// than was known, its successor is asked for sooner, too.
///
/// The number is not signed: whoever has read one message can send another with the greatest number there is, and every
/// message of the provider's then looks like one that came before. No rule on numbers tells the two apart, be it one on
/// gaps: the provider's next number suffices to hide its next message. So news is never lost for its number. What is not
/// greater than the latest is remembered (`repeated_at`, the first of them) and followed, with whatever else came by then,
/// when the worker looks after half a minute, which it does within another; unless a greater number makes the calendars due
/// before. A flood of replays writes once in that time, and wakes nobody.
pub fn take(message: &Notification, expires_at: DateTime<Utc>, renewal: DateTime<Utc>) -> Result<bool, Error> {
    let is_news = message.state == ResourceState::News;
    let taken = Spi::connect_mut(|client| {
        let table = client.update(
            "UPDATE calsync.channel SET message_number = $2, notified_at = clock_timestamp(), \
                 confirmed_at = coalesce(confirmed_at, now()), resource_id = coalesce(resource_id, $3), \
                 has_news = has_news OR $4, told = CASE WHEN $4 THEN '{}' ELSE told END, \
                 repeated_at = CASE WHEN $4 THEN NULL ELSE repeated_at END, \
                 expires_at = least($5, requested_at + interval '366 days'), \
                 due_at = CASE WHEN state IN ('opening', 'lost') THEN $6 \
                     WHEN state = 'open' AND $5 < expires_at THEN least(due_at, $6) ELSE due_at END, \
                 failures = CASE WHEN state IN ('opening', 'lost') THEN 0 ELSE failures END, \
                 last_error = CASE WHEN state IN ('opening', 'lost') THEN NULL ELSE last_error END, \
                 state = CASE WHEN state IN ('opening', 'lost') THEN 'open' ELSE state END \
             WHERE channel_id = $1 AND message_number < $2 AND state IN ('opening', 'lost', 'open', 'stopping') \
             RETURNING channel_id",
            None,
            &[
                message.channel_id.as_str().into(),
                message.message_number.into(),
                message.resource_id.as_deref().into(),
                is_news.into(),
                time::timestamp(expires_at)?.into(),
                time::timestamp(renewal)?.into(),
            ],
        )?;
        Ok::<bool, Error>(!table.is_empty())
    })?;
    if !taken && is_news {
        remember_repeat(&message.channel_id)?;
    }
    Ok(taken && is_news)
}

/// Whoever passes on earlier news just now has not committed: calendars are listed after that, and so after this message.
/// The same holds for news that nobody was told of yet.
fn remember_repeat(channel_id: &str) -> Result<(), Error> {
    let sql = "UPDATE calsync.channel SET repeated_at = clock_timestamp() \
         WHERE channel_id = $1 AND repeated_at IS NULL AND NOT (has_news AND told = '{}') \
             AND state IN ('opening', 'lost', 'open', 'stopping')";
    Ok(Spi::connect_mut(|client| client.update(sql, None, &[channel_id.into()]).map(drop))?)
}

/// What seemed to have come before, and has waited, is news.
fn heed_repeats(whose: &Whose, limit: usize) -> Result<(), Error> {
    let sql = format!(
        "UPDATE calsync.channel SET has_news = true, told = '{{}}', repeated_at = NULL WHERE channel_id IN ( \
             SELECT channel_id FROM calsync.channel \
             WHERE repeated_at <= clock_timestamp() - make_interval(secs => $1) AND {} \
             ORDER BY repeated_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        is_theirs("owner", 3)
    );
    let arguments = [REPEATS_WAIT.into(), (limit as i64).into(), whose.parameter()];
    Ok(Spi::connect_mut(|client| client.update(&sql, None, &arguments).map(drop))?)
}

/// Subscription `s` is to be told: it is asked for by its own time, or a round of it is under way.
const CONCERNED: &str = "s.provider <> 'none' AND s.state <> 'paused' \
     AND (s.state IN ('active', 'pending') OR s.leased_until IS NOT NULL)";

/// A channel with news: when the last came, and its id. In this order they are passed on.
pub type Place = (DateTime<Utc>, String);

/// What came of passing on.
pub struct Passed {
    /// Some calendars could not be told, because somebody has them locked.
    pub some_wait: bool,
    /// Where to go on; None: that was all.
    pub next: Option<Place>,
}

/// Of these owners, makes the calendars due of which up to `limit` channels told news, those after `place`.
pub fn pass_on(whose: &Whose, place: Option<&Place>, limit: usize) -> Result<Passed, Error> {
    if place.is_none() {
        heed_repeats(whose, limit)?;
    }
    let news = with_news(whose, place, limit)?;
    if news.is_empty() {
        return Ok(Passed { some_wait: false, next: None });
    }
    let channels: Vec<String> = news.iter().map(|(_, channel)| channel.clone()).collect();
    let untold = format!(
        "SELECT ch.channel_id, s.subscription_id FROM calsync.channel AS ch JOIN calsync.subscription AS s ON {WATCHES} \
         WHERE ch.channel_id = ANY ($1) AND {CONCERNED} AND s.subscription_id <> ALL (ch.told)"
    );
    let pairs = |sql: &str| -> Result<Vec<(String, i64)>, Error> {
        Spi::connect_mut(|client| {
            let table = client.update(sql, None, &[channels.clone().into()])?;
            table.map(|row| Ok((row.get(1)?.unwrap_or_default(), row.get(2)?.unwrap_or_default()))).collect()
        })
    };
    let all = pairs(&untold)?;
    let locked: HashSet<(String, i64)> = pairs(&format!("{untold} FOR UPDATE OF s SKIP LOCKED"))?.into_iter().collect();
    let told: Vec<i64> = locked.iter().map(|(_, subscription)| *subscription).collect();
    let sql = "UPDATE calsync.subscription SET next_sync_at = now(), expedited = true WHERE subscription_id = ANY ($1)";
    Spi::connect_mut(|client| client.update(sql, None, &[told.into()]).map(drop))?;
    let waiting: HashSet<&String> = all.iter().filter(|pair| !locked.contains(*pair)).map(|pair| &pair.0).collect();
    forget_news(channels.iter().filter(|channel| !waiting.contains(channel)).cloned().collect())?;
    for channel in &waiting {
        let told = locked.iter().filter(|(of, _)| of == *channel).map(|(_, subscription)| *subscription).collect();
        remember_told(channel, told)?;
    }
    let next = (news.len() == limit).then(|| news.last().cloned()).flatten();
    Ok(Passed { some_wait: !waiting.is_empty(), next })
}

/// Channels that told news, their rows locked; those that somebody else has locked are being told more just now.
fn with_news(whose: &Whose, place: Option<&Place>, limit: usize) -> Result<Vec<Place>, Error> {
    let (at, id) = place.map_or((DateTime::UNIX_EPOCH, ""), |(at, id)| (*at, id.as_str()));
    Spi::connect_mut(|client| {
        let sql = format!(
            "SELECT notified_at, channel_id FROM calsync.channel \
             WHERE has_news AND (notified_at, channel_id) > ($1, $2) AND {} \
             ORDER BY notified_at, channel_id LIMIT $3 FOR UPDATE SKIP LOCKED",
            is_theirs("owner", 4)
        );
        let arguments = [time::timestamp(at)?.into(), id.into(), (limit as i64).into(), whose.parameter()];
        let table = client.update(&sql, None, &arguments)?;
        table
            .map(|row| {
                let at = row.get::<TimestampWithTimeZone>(1)?.and_then(time::instant).unwrap_or(DateTime::UNIX_EPOCH);
                Ok((at, row.get(2)?.unwrap_or_default()))
            })
            .collect()
    })
}

fn forget_news(channels: Vec<String>) -> Result<(), Error> {
    let sql = "UPDATE calsync.channel SET has_news = false, told = '{}' WHERE channel_id = ANY ($1)";
    Ok(Spi::connect_mut(|client| client.update(sql, None, &[channels.into()]).map(drop))?)
}

fn remember_told(channel: &str, subscriptions: Vec<i64>) -> Result<(), Error> {
    let sql = "UPDATE calsync.channel SET told = told || $2 WHERE channel_id = $1";
    Ok(Spi::connect_mut(|client| client.update(sql, None, &[channel.into(), subscriptions.into()]).map(drop))?)
}
