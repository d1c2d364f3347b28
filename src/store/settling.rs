//! What becomes of channels as time passes and settings change, without anybody's answer: the other half of
//! [`super::channel`].

use pgrx::datum::DatumWithOid;

use super::channel::{WANTS, WATCHES, home, live, update};
use super::home::is_at_home;
use super::whose::{Whose, is_theirs};
use crate::error::Error;

/// What is wanted of channels now.
#[derive(Debug, Clone, Copy)]
pub enum Wish<'a> {
    /// Those to this address.
    To(&'a str),
    /// None: all are to be stopped.
    NoPush,
    /// The address cannot be used. What is open stays as it is, lest a slip of the pen ends everything.
    Keep,
}

/// What follows from time and settings: channels end, answers are given up, what nobody needs is to be stopped, and
/// calendars whose channel was lost are polled as all others. Of these owners.
pub fn settle(whose: &Whose, wish: Wish) -> Result<(), Error> {
    mark(whose, "ch.state NOT IN ('refused', 'ended') AND ch.expires_at <= clock_timestamp()", None, ENDED)?;
    mark(whose, "ch.state NOT IN ('refused', 'ended') AND ch.home <> $2", Some(&home()), ENDED)?;
    mark(
        whose,
        "ch.state = 'opening' AND ch.due_at <= clock_timestamp()",
        None,
        "state = 'lost', failures = failures + 1, due_at = now(), last_error = 'no answer came'",
    )?;
    let (stays, address) = match wish {
        Wish::To(address) => ("ch.address = $2", address),
        Wish::NoPush => ("$2 <> ''", ""),
        Wish::Keep => ("$2 = ''", ""),
    };
    // A later generation of the credential is newer, whatever the clock said.
    mark(
        whose,
        &format!(
            "ch.state = 'open' AND ch.resource_id IS NOT NULL AND NOT ({stays} \
                 AND EXISTS (SELECT FROM calsync.subscription AS s WHERE {WATCHES} AND {WANTS}) \
                 AND NOT EXISTS (SELECT FROM calsync.channel AS newer WHERE newer.remote_id = ch.remote_id \
                     AND newer.owner = ch.owner AND newer.provider = ch.provider \
                     AND coalesce(newer.credential, '') = coalesce(ch.credential, '') AND newer.state = 'open' \
                     AND newer.address = ch.address AND newer.confirmed_at IS NOT NULL AND newer.expires_at > now() \
                     AND (newer.generation, newer.requested_at, newer.channel_id) \
                         > (ch.generation, ch.requested_at, ch.channel_id)))"
        ),
        Some(address),
        "state = 'stopping', due_at = now(), failures = 0",
    )?;
    poll_the_unwatched(whose)
}

const ENDED: &str = "state = 'ended', ended_at = now(), due_at = NULL";

/// Changes channels of these owners of which `condition` holds, in which $2 is `given`; those that somebody has locked wait for
/// the next time.
fn mark(whose: &Whose, condition: &str, given: Option<&str>, assignments: &str) -> Result<(), Error> {
    let sql = format!(
        "UPDATE calsync.channel SET {assignments} WHERE channel_id IN ( \
             SELECT ch.channel_id FROM calsync.channel AS ch WHERE {condition} AND {} FOR UPDATE OF ch SKIP LOCKED)",
        is_theirs("ch.owner", 1)
    );
    let arguments = [whose.parameter()].into_iter().chain(given.map(DatumWithOid::from)).collect::<Vec<_>>();
    update(&sql, &arguments)
}

/// Calendars that were left to a channel that lives no more are due when they would have been without it.
fn poll_the_unwatched(whose: &Whose) -> Result<(), Error> {
    let live = live();
    let sql = format!(
        "UPDATE calsync.subscription SET pushed = false, \
             next_sync_at = CASE WHEN state = 'active' AND next_sync_at IS NOT NULL \
                 THEN least(next_sync_at, greatest(now(), synced_at + poll_interval)) ELSE next_sync_at END \
         WHERE subscription_id IN ( \
             SELECT s.subscription_id FROM calsync.subscription AS s \
             WHERE s.pushed AND s.leased_until IS NULL \
                 AND NOT EXISTS (SELECT FROM calsync.channel AS ch WHERE {WATCHES} AND {live}) AND {} AND {} \
             FOR UPDATE OF s SKIP LOCKED)",
        is_theirs("s.owner", 1),
        is_at_home("s")?
    );
    update(&sql, &[whose.parameter()])
}
