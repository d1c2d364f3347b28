//! Claims: which calendars are due, and who may sync them now.
//!
//! A claim gives the calendar's `lease` number to its holder, and moves `next_sync_at` to the end of the lease, so that
//! a round that dies is repeated; `due_at` keeps when it was due, for a claim that is given back. What the number is worth:
//! see [`super::rounds`].
//!
//! Losing a claim in a crash costs nothing (whoever claimed has died, too), so claims do not wait for the disk.

use std::collections::HashMap;
use std::time::Duration;

use calsync_core::turns::{Places, Turns};
use chrono::{DateTime, Utc};
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::channel::{WATCHES, live};
use super::credential;
use super::durability;
use super::home;
use super::staging;
use super::subscription::Subscription;
use super::time;
use super::whose::{self, Whose};
use crate::error::Error;

/// A calendar of which the caller is to sync now.
#[derive(Debug, Clone)]
pub struct Claim {
    pub subscription: Subscription,
    /// Its credential was refused, is in doubt, or could not be opened: this round finds out whether that has changed.
    pub probes: bool,
    /// Its credential was rate limited the last time.
    pub slowed: bool,
    /// Of its credential; None: it has none, or there is no such credential any more.
    pub generation: Option<i64>,
    /// Somebody waited for it.
    pub awaited: bool,
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

/// How many may be begun.
type Room = fn(&Places) -> usize;

/// How claims are made.
pub struct Claiming<'a> {
    /// Whose calendars may be claimed.
    pub whose: &'a Whose,
    pub lease: Duration,
    pub places: Places,
    pub turns: &'a mut Turns,
    /// How many rounds each owner has under way.
    pub under_way: HashMap<String, usize>,
    /// Owners of whom nothing more is begun.
    pub passed_over: Vec<String>,
    /// At most so many are claimed.
    pub at_most: usize,
}

/// Claims calendars that are due, as far as there are places: of each owner the oldest first, and the places as
/// [`Turns`] gives them out. `permit` is asked for each in turn, given (owner, name) of its credential; those of `spent`
/// credentials are passed over.
///
/// Of a credential that was refused, is in doubt, or could not be opened, one calendar is claimed, when its time has come,
/// and no other meanwhile.
pub fn claim(
    claiming: &mut Claiming,
    mut spent: Vec<Option<(String, String)>>,
    mut permit: impl FnMut(&Option<(String, String)>) -> Permit,
) -> Result<Vec<Claim>, Error> {
    durability::need_not_last();
    credential::recall(claiming.whose)?;
    let now = Utc::now();
    let queues = queues(now, claiming, &spent)?;
    let mut claimed = Vec::new();
    let passes: [(bool, Room); 3] = [(true, Places::for_awaited), (false, Places::for_due), (true, Places::left_over)];
    let mut some_wait = false;
    for (awaited, places) in passes {
        let mut owners: Vec<&str> =
            queues.iter().filter(|queue| queue.awaited == awaited).map(|queue| queue.owner.as_str()).collect();
        loop {
            let room = places(&claiming.places).min(claiming.at_most - claimed.len());
            if room == 0 || owners.is_empty() {
                break;
            }
            let allotted = claiming.allot(room, &owners);
            let due = due(now, awaited, &allotted, &spent)?;
            // Whoever had no more than he was given places is through.
            owners.retain(|owner| {
                let found = due.iter().filter(|claim| claim.subscription.owner == *owner).count();
                allotted.iter().all(|(given, places)| given != owner || found >= *places)
            });
            let mut go: Vec<Claim> = Vec::new();
            let mut nobody = false;
            for candidate in due {
                let credential = candidate.credential();
                if spent.contains(&credential) {
                    continue;
                }
                match permit(&credential) {
                    Permit::Go if candidate.probes => {
                        if begin_probe(&credential, claiming.lease)? {
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
            take(&mut go, claiming.lease)?;
            claiming.taken(awaited, &go);
            claimed.append(&mut go);
            if nobody {
                return Ok(claimed);
            }
        }
        some_wait |= !owners.is_empty();
    }
    if !some_wait {
        claiming.turns.forget();
    }
    Ok(claimed)
}

impl Claiming<'_> {
    /// How many places each owner gets, where that is any; whose turn is first comes first.
    fn allot<'o>(&self, places: usize, owners: &[&'o str]) -> Vec<(&'o str, usize)> {
        let under_way = |owner: &str| self.under_way.get(owner).copied().unwrap_or_default();
        let counted: Vec<(&str, usize)> = owners.iter().map(|owner| (*owner, under_way(owner))).collect();
        let given = self.turns.allot(places, &counted);
        let mut allotted: Vec<(&str, usize)> =
            owners.iter().copied().zip(given).filter(|(_, places)| *places > 0).collect();
        allotted.sort_by_key(|(owner, _)| (under_way(owner), self.turns.served_at(owner)));
        allotted
    }

    fn taken(&mut self, awaited: bool, claims: &[Claim]) {
        self.places.take(awaited, claims.len());
        for Claim { subscription, .. } in claims {
            *self.under_way.entry(subscription.owner.clone()).or_default() += 1;
            self.turns.serve(&subscription.owner);
        }
    }
}

/// The calendars of one owner that are due: those that somebody waits for, or the others.
struct Queue {
    owner: String,
    awaited: bool,
}

/// How many queues are looked at for one claim. Where there are more, the next claim looks at those that follow.
const MOST_QUEUES: usize = 256;

/// Those with a calendar in them.
fn queues(
    now: DateTime<Utc>,
    claiming: &mut Claiming,
    spent: &[Option<(String, String)>],
) -> Result<Vec<Queue>, Error> {
    let after = claiming.turns.looked_at.take().unwrap_or_default();
    let mut found = queues_after(&after, now, claiming, spent)?;
    if found.len() < MOST_QUEUES && !after.is_empty() {
        // And on from the beginning.
        let earlier = queues_after("", now, claiming, spent)?;
        let room = MOST_QUEUES - found.len();
        found.extend(earlier.into_iter().filter(|queue| queue.owner <= after).take(room));
    }
    if found.len() == MOST_QUEUES {
        claiming.turns.looked_at = found.last().map(|queue| queue.owner.clone());
    }
    Ok(found)
}

/// In the order of their owners. Walks the index of turns once, from owner to owner. What is due of one is walked as far as
/// the first calendar that may be claimed: past all that wait for a credential which is spent, limited or refused. What that
/// costs, where they are very many, is in docs/reliability.md ("Turns").
fn queues_after(
    after: &str,
    now: DateTime<Utc>,
    claiming: &Claiming,
    spent: &[Option<(String, String)>],
) -> Result<Vec<Queue>, Error> {
    let is_theirs = whose::is_theirs("s.owner", 5);
    let is_claimable = is_claimable()?;
    let first = |condition: &str| {
        format!(
            "SELECT s.owner, s.expedited FROM calsync.subscription AS s \
             LEFT JOIN calsync.credential AS c ON c.owner = s.owner AND c.name = s.credential \
             WHERE {condition} AND {IS_DUE} AND {is_claimable} AND {IS_NOT_SPENT} AND {is_theirs} \
                 AND s.owner <> ALL ($6::text[]::name[]) \
             ORDER BY s.owner, s.expedited LIMIT 1"
        )
    };
    let sql = format!(
        "WITH RECURSIVE queue AS ( \
             ({}) UNION ALL SELECT next.owner, next.expedited FROM queue CROSS JOIN LATERAL ({}) AS next) \
         SELECT queue.owner::text, queue.expedited FROM queue LIMIT {MOST_QUEUES}",
        first("s.owner > $7::text::name"),
        first("(s.owner, s.expedited) > (queue.owner, queue.expedited)")
    );
    let [owners, names, none] = spent_parameters(spent);
    let arguments = [
        time::timestamp(now)?.into(),
        owners,
        names,
        none,
        claiming.whose.parameter(),
        claiming.passed_over.clone().into(),
        after.into(),
    ];
    Spi::connect(|client| {
        let table = client.select(&sql, None, &arguments)?;
        table
            .map(|row| Ok(Queue { owner: row.get(1)?.unwrap_or_default(), awaited: row.get(2)?.unwrap_or_default() }))
            .collect()
    })
}

/// Calendars that are due, of each owner at most so many, their rows locked. Those that somebody else has locked are
/// passed over.
fn due(
    now: DateTime<Utc>,
    awaited: bool,
    allotted: &[(&str, usize)],
    spent: &[Option<(String, String)>],
) -> Result<Vec<Claim>, Error> {
    let is_claimable = is_claimable()?;
    let sql = format!(
        "SELECT found.* FROM unnest($5::text[], $6::bigint[]) WITH ORDINALITY AS turn (owner, places, number) \
         CROSS JOIN LATERAL ( \
             SELECT {}, (c.refused_at IS NOT NULL OR c.unopened_at IS NOT NULL OR c.doubts > 0) AS probes, \
                 c.failures > 0 AS slowed, c.generation, s.expedited, \
                 EXISTS (SELECT FROM calsync.channel AS ch WHERE {WATCHES} AND {}) AS watched \
             FROM calsync.subscription AS s \
             LEFT JOIN calsync.credential AS c ON c.owner = s.owner AND c.name = s.credential \
             WHERE s.owner = turn.owner::name AND s.expedited = $7 \
                 AND {IS_DUE} AND {is_claimable} AND {IS_NOT_SPENT} \
             ORDER BY s.next_sync_at LIMIT turn.places FOR UPDATE OF s SKIP LOCKED) AS found",
        Subscription::COLUMNS,
        live()
    );
    let [spent_owners, spent_names, none] = spent_parameters(spent);
    let owners: Vec<String> = allotted.iter().map(|(owner, _)| (*owner).to_owned()).collect();
    let places: Vec<i64> = allotted.iter().map(|(_, places)| *places as i64).collect();
    let arguments =
        [time::timestamp(now)?.into(), spent_owners, spent_names, none, owners.into(), places.into(), awaited.into()];
    Spi::connect_mut(|client| {
        let table = client.update(&sql, None, &arguments)?;
        table
            .map(|row| {
                Ok(Claim {
                    subscription: Subscription::read(&row)?,
                    probes: row.get_by_name("probes")?.unwrap_or_default(),
                    slowed: row.get_by_name("slowed")?.unwrap_or_default(),
                    generation: row.get_by_name("generation")?,
                    awaited: row.get_by_name("expedited")?.unwrap_or_default(),
                    watched: row.get_by_name("watched")?.unwrap_or_default(),
                })
            })
            .collect()
    })
}

/// Parameters 2 to 4 of [`IS_NOT_SPENT`].
fn spent_parameters(spent: &[Option<(String, String)>]) -> [DatumWithOid<'static>; 3] {
    let (owners, names): (Vec<String>, Vec<String>) = spent.iter().flatten().cloned().unzip();
    [owners.into(), names.into(), spent.contains(&None).into()]
}

/// `s` is due at $1: a parameter, which an index can be searched for.
const IS_DUE: &str = "s.next_sync_at <= $1";

/// Of `s` there may be one more request.
const IS_NOT_SPENT: &str = "NOT ($4 AND s.credential IS NULL) \
     AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[]) AS spent (owner, name) \
                     WHERE spent.owner = s.owner AND spent.name = s.credential)";

/// On `s` and its credential `c`: nobody has claimed the calendar, it lives here, and it may be asked for once it is due.
fn is_claimable() -> Result<String, Error> {
    Ok(format!(
        "s.provider <> 'none' AND s.state <> 'paused' \
         AND (s.leased_until IS NULL OR s.leased_until <= clock_timestamp()) \
         AND (c.retry_at IS NULL OR c.retry_at <= clock_timestamp()) AND {}",
        home::is_at_home("s")?
    ))
}

/// Whether it is for the caller to find out if a refused credential is accepted again; then nobody else shall, for the
/// length of the lease.
fn begin_probe(credential: &Option<(String, String)>, lease: Duration) -> Result<bool, Error> {
    let Some((owner, name)) = credential else { return Ok(true) };
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
                     leased_at = now(), due_at = next_sync_at, expedited = false, leased_until = now() + make_interval(secs => $2), \
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

/// A claim that came to nothing neither hurries its calendar nor puts it behind others: it is due when it was, unless
/// somebody has made it due meanwhile.
const DUE_AGAIN: &str =
    "next_sync_at = CASE WHEN next_sync_at = leased_until THEN coalesce(due_at, now()) ELSE next_sync_at END";

/// Gives back the calendars that a process claimed and did not live to sync. Returns how many.
pub fn release_claims_of_the_dead() -> Result<usize, Error> {
    let (processes, since) = living()?;
    Spi::connect_mut(|client| {
        let sql = format!(
            "UPDATE calsync.subscription SET leased_until = NULL, {DUE_AGAIN} WHERE subscription_id IN ( \
                 SELECT s.subscription_id FROM calsync.subscription AS s \
                 WHERE s.leased_until > now() AND NOT EXISTS ( \
                     SELECT FROM unnest($1::integer[], $2::timestamptz[]) AS living (process, since) \
                     WHERE living.process = s.leased_by AND living.since <= s.leased_at) \
                 FOR UPDATE OF s SKIP LOCKED) \
             RETURNING subscription_id"
        );
        let table = client.update(&sql, None, &[processes.into(), since.into()])?;
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
        let sql = format!(
            "UPDATE calsync.subscription SET leased_until = NULL, leased_by = NULL, lease = lease + 1, {DUE_AGAIN} \
             WHERE leased_by = pg_backend_pid() AND leased_until IS NOT NULL"
        );
        client.update(&sql, None, &[])?;
        Ok(())
    })
}

/// Gives back a claim whose round shall not go on.
pub fn give_back(subscription: &Subscription) -> Result<(), Error> {
    staging::discard(subscription.id, subscription.lease)?;
    Spi::connect_mut(|client| {
        let sql = format!(
            "UPDATE calsync.subscription SET leased_until = NULL, leased_by = NULL, {DUE_AGAIN} \
             WHERE subscription_id IN (SELECT subscription_id FROM calsync.subscription \
                                       WHERE subscription_id = $1 AND lease = $2 FOR UPDATE SKIP LOCKED)"
        );
        client.update(&sql, None, &[subscription.id.into(), subscription.lease.into()])?;
        Ok(())
    })
}

/// When there is a calendar to claim, or to recall; None: not before somebody makes one due. Calendars under way do not
/// count: their round's end is looked at anyway.
pub fn next_due() -> Result<Option<DateTime<Utc>>, Error> {
    let is_claimable = is_claimable()?;
    Spi::connect(|client| {
        let sql = format!(
            "SELECT least( \
                 (SELECT s.next_sync_at FROM calsync.subscription AS s \
                  LEFT JOIN calsync.credential AS c ON c.owner = s.owner AND c.name = s.credential \
                  WHERE {is_claimable} AND s.next_sync_at IS NOT NULL ORDER BY s.next_sync_at LIMIT 1), \
                 (SELECT min(c.retry_at) FROM calsync.credential AS c WHERE c.retry_at > clock_timestamp()), \
                 (SELECT now() FROM calsync.credential AS c WHERE c.recalls <> '{{}}' LIMIT 1))"
        );
        let table = client.select(&sql, None, &[])?;
        if table.is_empty() {
            return Ok(None);
        }
        Ok(table.first().get_one::<TimestampWithTimeZone>()?.and_then(time::instant))
    })
}
