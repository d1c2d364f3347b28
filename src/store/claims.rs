//! Claims: which calendars are due, and who may sync them now.
//!
//! A claim gives the calendar's `lease` number to its holder, and moves `next_sync_at` to the end of the lease, so that
//! a round that dies is repeated; see [`super::rounds`] for what the number is worth.
//!
//! Losing a claim in a crash costs nothing (whoever claimed has died, too), so claims do not wait for the disk.

use std::time::Duration;

use chrono::{DateTime, Utc};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::channel::{WATCHES, live};
use super::credential;
use super::staging;
use super::subscription::Subscription;
use super::time;
use crate::error::Error;

/// A calendar of which the caller is to sync now.
#[derive(Debug, Clone)]
pub struct Claim {
    pub subscription: Subscription,
    /// Its credential was refused: this round finds out whether it is accepted again.
    pub probes: bool,
    /// Its credential was rate limited the last time.
    pub slowed: bool,
    /// Of its credential.
    pub generation: i64,
    /// The provider tells of changes through a live channel, and did when the round began: what it tells of is either in
    /// this round's answer, or comes after it.
    pub watched: bool,
}

impl Claim {
    /// Owner and name of the credential; None: the calendar needs none.
    pub fn credential(&self) -> Option<(String, String)> {
        let Subscription { owner, credential, .. } = &self.subscription;
        credential.clone().map(|name| (owner.clone(), name))
    }
}

/// Whether a calendar may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    Go,
    /// No calendar of this credential, just now.
    NotThisCredential,
    /// None at all, just now.
    Nobody,
}

/// Claims up to `limit` calendars that are due, the oldest first, for the length of `lease`; before them those that
/// somebody waits for, up to `reserve` more. `permit` is asked for each in
/// turn, given (owner, name) of its credential; those of `spent` credentials are passed over.
///
/// Of a credential that was refused one calendar is claimed, when its time has come, and no other meanwhile.
pub fn claim(
    limit: usize,
    reserve: usize,
    lease: Duration,
    mut spent: Vec<Option<(String, String)>>,
    mut permit: impl FnMut(&Option<(String, String)>) -> Permit,
) -> Result<Vec<Claim>, Error> {
    do_not_wait_for_the_disk();
    let mut claimed: Vec<Claim> = Vec::new();
    let mut which = Which::Expedited;
    loop {
        let most = if matches!(which, Which::Expedited) { limit + reserve } else { limit };
        let room = most.saturating_sub(claimed.len());
        let due = due(which, room, &spent)?;
        let all_that_is_due = due.len() < room;
        let mut go: Vec<Claim> = Vec::new();
        let mut nobody = false;
        for candidate in due {
            let credential = candidate.credential();
            if spent.contains(&credential) {
                continue;
            }
            match permit(&credential) {
                Permit::Go if candidate.probes => {
                    if begin_probe(&credential, lease)? {
                        go.push(candidate);
                    }
                    spent.push(credential);
                }
                Permit::Go => go.push(candidate),
                Permit::NotThisCredential => spent.push(credential),
                Permit::Nobody => {
                    nobody = true;
                    break;
                }
            }
        }
        take(&mut go, lease)?;
        claimed.append(&mut go);
        match which {
            _ if nobody => return Ok(claimed),
            Which::All if claimed.len() >= limit => return Ok(claimed),
            Which::Expedited if all_that_is_due || claimed.len() == most => which = Which::All,
            Which::All if all_that_is_due => return Ok(claimed),
            Which::Expedited | Which::All => {}
        }
    }
}

/// Of the calendars that are due.
#[derive(Debug, Clone, Copy)]
enum Which {
    Expedited,
    All,
}

/// Calendars that are due, their rows locked. Those that somebody else has locked are passed over.
fn due(which: Which, limit: usize, spent: &[Option<(String, String)>]) -> Result<Vec<Claim>, Error> {
    let (owners, names): (Vec<String>, Vec<String>) = spent.iter().flatten().cloned().unzip();
    let none_is_spent = spent.contains(&None);
    let expedited = match which {
        Which::Expedited => "s.expedited",
        Which::All => "true",
    };
    Spi::connect_mut(|client| {
        let sql = format!(
            "SELECT {}, c.refused_at IS NOT NULL AS probes, c.failures > 0 AS slowed, c.generation, \
                 EXISTS (SELECT FROM calsync.channel AS ch WHERE {WATCHES} AND {}) AS watched \
             FROM calsync.subscription AS s \
             LEFT JOIN calsync.credential AS c ON c.owner = s.owner AND c.name = s.credential \
             WHERE {IS_CLAIMABLE} AND {expedited} AND s.next_sync_at <= clock_timestamp() \
                 AND NOT ($4 AND s.credential IS NULL) \
                 AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[]) AS spent (owner, name) \
                                 WHERE spent.owner = s.owner AND spent.name = s.credential) \
             ORDER BY s.next_sync_at LIMIT $1 FOR UPDATE OF s SKIP LOCKED",
            Subscription::COLUMNS,
            live()
        );
        let arguments = [(limit as i64).into(), owners.into(), names.into(), none_is_spent.into()];
        let table = client.update(&sql, None, &arguments)?;
        table
            .map(|row| {
                Ok(Claim {
                    subscription: Subscription::read(&row)?,
                    probes: row.get_by_name("probes")?.unwrap_or_default(),
                    slowed: row.get_by_name("slowed")?.unwrap_or_default(),
                    generation: row.get_by_name("generation")?.unwrap_or_default(),
                    watched: row.get_by_name("watched")?.unwrap_or_default(),
                })
            })
            .collect()
    })
}

/// On `s` and its credential `c`: nobody has claimed the calendar, and it may be asked for once it is due.
const IS_CLAIMABLE: &str = "s.provider <> 'none' AND s.state <> 'paused' \
     AND (s.leased_until IS NULL OR s.leased_until <= clock_timestamp()) \
     AND (c.retry_at IS NULL OR c.retry_at <= clock_timestamp())";

/// Whether it is for the caller to find out if a refused credential is accepted again; then nobody else shall, for the
/// length of the lease.
fn begin_probe(credential: &Option<(String, String)>, lease: Duration) -> Result<bool, Error> {
    let Some((owner, name)) = credential else { return Ok(true) };
    if !credential::try_announce() {
        return Ok(false);
    }
    Spi::connect_mut(|client| {
        let table = client.update(
            "UPDATE calsync.credential SET retry_at = now() + make_interval(secs => $3) \
             WHERE (owner, name) IN ( \
                 SELECT owner, name FROM calsync.credential \
                 WHERE owner = $1::name AND name = $2 AND (retry_at IS NULL OR retry_at <= clock_timestamp()) \
                 FOR UPDATE SKIP LOCKED) \
             RETURNING name",
            None,
            &[owner.as_str().into(), name.as_str().into(), lease.as_secs_f64().into()],
        )?;
        Ok(!table.is_empty())
    })
}

/// Marks locked rows as claimed, and forgets what was staged for claims that came to nothing.
fn take(claims: &mut [Claim], lease: Duration) -> Result<(), Error> {
    if claims.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = claims.iter().map(|claim| claim.subscription.id).collect();
    Spi::connect_mut(|client| {
        client
            .update(
                "UPDATE calsync.subscription SET lease = lease + 1, leased_by = pg_backend_pid(), \
                     leased_at = now(), expedited = false, leased_until = now() + make_interval(secs => $2), \
                     next_sync_at = now() + make_interval(secs => $2) \
                 WHERE subscription_id = ANY ($1)",
                None,
                &[ids.clone().into(), lease.as_secs_f64().into()],
            )
            .map(drop)
    })?;
    for claim in claims {
        claim.subscription.lease += 1;
    }
    staging::discard_abandoned(ids)
}

/// Gives back the calendars that a process claimed and did not live to sync. Returns how many.
pub fn release_claims_of_the_dead() -> Result<usize, Error> {
    let (processes, since) = living()?;
    Spi::connect_mut(|client| {
        let table = client.update(
            "UPDATE calsync.subscription SET leased_until = NULL, next_sync_at = now() WHERE subscription_id IN ( \
                 SELECT s.subscription_id FROM calsync.subscription AS s \
                 WHERE s.leased_until > now() AND NOT EXISTS ( \
                     SELECT FROM unnest($1::integer[], $2::timestamptz[]) AS living (process, since) \
                     WHERE living.process = s.leased_by AND living.since <= s.leased_at) \
                 FOR UPDATE OF s SKIP LOCKED) \
             RETURNING subscription_id",
            None,
            &[processes.into(), since.into()],
        )?;
        Ok(table.len())
    })
}

/// The processes of the server, and since when each runs. `pg_stat_get_activity()` would hide from the owner of the
/// tables, who is no superuser, when those of other roles began.
fn living() -> Result<(Vec<i32>, Vec<TimestampWithTimeZone>), Error> {
    // SAFETY: reads this transaction's copy of the table of processes; entries are counted from 1, and a null one is
    // passed over.
    let entries = unsafe {
        let count = pg_sys::pgstat_fetch_stat_numbackends();
        (1..=count).filter_map(|number| pg_sys::pgstat_fetch_stat_local_beentry(number).as_ref()).collect::<Vec<_>>()
    };
    let statuses = entries.iter().map(|entry| &entry.backendStatus).filter(|status| status.st_procpid > 0);
    let processes = statuses.clone().map(|status| status.st_procpid).collect();
    let since = statuses.map(|status| time::timestamp_of(status.st_proc_start_timestamp));
    Ok((processes, since.collect::<Result<_, Error>>()?))
}

/// Gives back what this very process claimed in a call that was cancelled.
pub fn release_own_claims() -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.subscription SET leased_until = NULL, leased_by = NULL, lease = lease + 1, \
                 next_sync_at = now() \
             WHERE leased_by = pg_backend_pid() AND leased_until IS NOT NULL",
            None,
            &[],
        )?;
        Ok(())
    })
}

/// Gives back a claim whose round shall not go on.
pub fn give_back(subscription: &Subscription) -> Result<(), Error> {
    staging::discard(subscription.id, subscription.lease)?;
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.subscription SET leased_until = NULL, leased_by = NULL, next_sync_at = now() \
             WHERE subscription_id IN (SELECT subscription_id FROM calsync.subscription \
                                       WHERE subscription_id = $1 AND lease = $2 FOR UPDATE SKIP LOCKED)",
            None,
            &[subscription.id.into(), subscription.lease.into()],
        )?;
        Ok(())
    })
}

/// When there is a calendar to claim; None: not before somebody makes one due. Calendars under way do not count: their
/// round's end is looked at anyway.
pub fn next_due() -> Result<Option<DateTime<Utc>>, Error> {
    Spi::connect(|client| {
        let sql = format!(
            "SELECT least( \
                 (SELECT s.next_sync_at FROM calsync.subscription AS s \
                  LEFT JOIN calsync.credential AS c ON c.owner = s.owner AND c.name = s.credential \
                  WHERE {IS_CLAIMABLE} AND s.next_sync_at IS NOT NULL ORDER BY s.next_sync_at LIMIT 1), \
                 (SELECT min(c.retry_at) FROM calsync.credential AS c WHERE c.retry_at > clock_timestamp()))"
        );
        let table = client.select(&sql, None, &[])?;
        if table.is_empty() {
            return Ok(None);
        }
        Ok(table.first().get_one::<TimestampWithTimeZone>()?.and_then(time::instant))
    })
}

/// The current transaction's commit may be lost in a crash; what it says is found out again.
pub fn do_not_wait_for_the_disk() {
    // SAFETY: a plain call in a transaction, whose end undoes it.
    unsafe {
        pg_sys::set_config_option(
            c"synchronous_commit".as_ptr(),
            c"off".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}
