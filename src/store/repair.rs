//! Mending what a check finds, under the lock that every round commits under.
//!
//! What is derived is derived anew. What only the provider knows is asked for anew: the token is dropped, so that the
//! next sync is full; until it commits, what is doubtful goes on blocking its time.

use std::collections::BTreeSet;

use pgrx::prelude::*;

use super::busy;
use super::expansion::{self, Touched};
use super::home;
use super::integrity::{self, Orphans, Problem};
use super::share;
use super::subscription::{self, Subscription};
use crate::error::Error;

/// What was done about a problem.
#[derive(Debug)]
pub struct Repair {
    pub problem: Problem,
    pub action: &'static str,
}

/// Mends one calendar; nothing to tell where nothing is wrong.
pub fn repair(id: i64) -> Result<Vec<Repair>, Error> {
    let Some(subscription) = subscription::lock(id)? else { return Ok(Vec::new()) };
    let mut problems: Vec<Problem> = Vec::new();
    for finding in integrity::check(id)? {
        if !problems.contains(&finding.problem) {
            problems.push(finding.problem);
        }
    }
    if subscription.is_foreign {
        home::refuse_while_restoring(&subscription.calendar)?;
    }
    let has = |wanted: &[Problem]| problems.iter().any(|problem| wanted.contains(problem));
    if has(&[Problem::OrphanRows]) {
        remove_orphans_of(id)?;
    }
    if has(&[Problem::DuplicateEvent]) {
        keep_one_of_each_id(id)?;
    }
    if has(&[Problem::BrokenEvent]) {
        flag_broken_events(id)?;
    }
    if has(&[Problem::UntrueCover]) {
        cover_what_is_known(id)?;
    }
    if has(&DERIVED) && !has(&[Problem::UnknownTimeZone]) {
        derive_anew(id)?;
    }
    if has(&ASKED_ANEW) {
        subscription::resync(id)?;
    }
    if has(&[Problem::UnknownGuest]) {
        share::forget_unknown(id)?;
    }
    if has(&[Problem::EndlessLease, Problem::NeverDue, Problem::PushLost]) {
        change(
            id,
            "leased_until = NULL, leased_by = NULL, leased_at = NULL, lease = lease + 1, pushed = false, \
             next_sync_at = CASE WHEN provider = 'none' OR state = 'paused' THEN NULL ELSE now() END",
        )?;
    }
    if has(&[Problem::ForeignHome]) {
        home::settle(id)?;
    }
    Ok(problems.into_iter().map(|problem| Repair { problem, action: action(problem, &subscription) }).collect())
}

/// Mended by expanding everything anew.
const DERIVED: [Problem; 6] = [
    Problem::ForeignHome,
    Problem::OccurrencesDiffer,
    Problem::BusyDiffers,
    Problem::BrokenEvent,
    Problem::DuplicateEvent,
    Problem::UntrueCover,
];

/// Mended by a full sync, and by nothing else.
const ASKED_ANEW: [Problem; 4] =
    [Problem::DuplicateEvent, Problem::BrokenEvent, Problem::TokenWithoutFullSync, Problem::UntrueCover];

fn action(problem: Problem, subscription: &Subscription) -> &'static str {
    let fed = subscription.provider == subscription::Provider::None;
    match problem {
        Problem::OccurrencesDiffer => "occurrences and busy time derived anew",
        Problem::BusyDiffers => "busy time derived anew",
        Problem::ForeignHome => "taken over: occurrences and busy time derived anew",
        Problem::OrphanRows => "removed",
        Problem::EndlessLease => "lease ended, due now",
        Problem::MissingCredential => "none: add the credential again with calsync_add_credential()",
        Problem::UnknownGuest => "no longer shared with it",
        Problem::UnknownOwner => {
            "none: rename the role back; or, as a superuser, set the owner in calsync.subscription, \
             calsync.credential and calsync.channel; or unsubscribe the calendar"
        }
        Problem::NeverDue | Problem::PushLost => "due now",
        Problem::UnknownTimeZone => "none: unsubscribe the calendar, and subscribe it with a zone that is known",
        Problem::BrokenEvent if fed => "flagged, token dropped: feed the whole calendar",
        Problem::BrokenEvent => "flagged, token dropped: the next sync is full",
        Problem::UntrueCover if fed => "covers what is known, token dropped: feed the whole calendar",
        Problem::UntrueCover => "covers what is known, token dropped: the next sync is full",
        Problem::DuplicateEvent | Problem::TokenWithoutFullSync if fed => "token dropped: feed the whole calendar",
        Problem::DuplicateEvent | Problem::TokenWithoutFullSync => "token dropped: the next sync is full",
    }
}

fn remove_orphans_of(id: i64) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        for sql in [
            // Busy time made of them is not touched by [`derive_anew`] unless it differs: hence before the rest.
            "DELETE FROM calsync.occurrence AS o WHERE o.subscription_id = $1 AND NOT EXISTS ( \
                 SELECT FROM calsync.event AS e WHERE e.subscription_id = $1 AND e.event_id = o.event_id)",
            "DELETE FROM calsync.staged_event AS g WHERE g.subscription_id = $1 AND NOT EXISTS ( \
                 SELECT FROM calsync.staged_round AS r WHERE r.subscription_id = $1 AND r.round = g.round)",
            "DELETE FROM calsync.event AS e WHERE e.subscription_id = $1 AND e.kind = 'tombstone' \
                 AND e.orphaned_at < now() - interval '3 days' AND NOT EXISTS ( \
                     SELECT FROM calsync.event AS m \
                     WHERE m.subscription_id = $1 AND m.event_id = e.recurring_event_id)",
        ] {
            client.update(sql, None, &[id.into()])?;
        }
        Ok::<(), Error>(())
    })?;
    busy::rebuild(id)
}

/// The row that the provider changed last; two exceptions for one occurrence have two ids, and both go on blocking.
fn keep_one_of_each_id(id: i64) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "DELETE FROM calsync.event AS e USING ( \
                 SELECT d.ctid, row_number() OVER (PARTITION BY d.event_id \
                                                   ORDER BY d.provider_updated_at DESC NULLS LAST, d.ctid DESC) AS place \
                 FROM calsync.event AS d WHERE d.subscription_id = $1) AS copy \
             WHERE e.subscription_id = $1 AND e.ctid = copy.ctid AND copy.place > 1",
            None,
            &[id.into()],
        )?;
        Ok(())
    })
}

/// They cannot be expanded, but block their time where they have one, until the full sync.
fn flag_broken_events(id: i64) -> Result<(), Error> {
    let broken: Vec<String> = integrity::broken_events(id)?;
    Spi::connect_mut(|client| {
        client.update(
            "UPDATE calsync.event SET kind = 'unreadable', problem = 'the stored row was damaged' \
             WHERE subscription_id = $1 AND event_id = ANY ($2)",
            None,
            &[id.into(), broken.into()],
        )?;
        Ok(())
    })
}

/// Nothing where it was never synced in full; else, [`derive_anew`] covers what can be.
fn cover_what_is_known(id: i64) -> Result<(), Error> {
    change(
        id,
        "covered = CASE WHEN full_synced_at IS NULL OR lower_inf(covered) OR upper_inf(covered) THEN 'empty' \
                        ELSE covered * tstzrange(complete_from, NULL) END",
    )
}

pub(super) fn derive_anew(id: i64) -> Result<(), Error> {
    let Some(mut subscription) = subscription::lock(id)? else { return Ok(()) };
    if subscription.covered.is_none() && subscription.full_synced_at.is_none() {
        Spi::connect_mut(|client| {
            client.update("DELETE FROM calsync.occurrence WHERE subscription_id = $1", None, &[id.into()]).map(drop)
        })?;
    } else {
        expansion::renew(&mut subscription, Touched::AllAnd(BTreeSet::new()))?;
    }
    busy::rebuild(id)
}

fn change(id: i64, assignments: &str) -> Result<(), Error> {
    let sql = format!("UPDATE calsync.subscription SET {assignments} WHERE subscription_id = $1");
    Spi::connect_mut(|client| client.update(&sql, None, &[id.into()]).map(drop))?;
    Ok(())
}

/// Removes rows that belong to no subscription, unless it has come meanwhile.
pub fn remove(orphans: &Orphans) -> Result<(), Error> {
    let sql = format!(
        "DELETE FROM calsync.{} AS t WHERE t.subscription_id = $1 \
             AND NOT EXISTS (SELECT FROM calsync.subscription AS s WHERE s.subscription_id = $1)",
        orphans.table
    );
    Spi::connect_mut(|client| client.update(&sql, None, &[orphans.subscription.into()]).map(drop))?;
    Ok(())
}
