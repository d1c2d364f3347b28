//! `calsync_check`, `calsync_repair`, `calsync_cleanup`: is what is stored right, and what of it can go?

use std::ffi::CStr;

use pgrx::prelude::*;

use super::availability::names;
use crate::error::{Error, Report};
use crate::store::owner::{as_owner, as_writing_owner, caller, may_do_everything};
use crate::store::plan::under_one_snapshot;
use crate::store::retention::{self, Removed};
use crate::store::whose::Whose;
use crate::store::{availability, integrity, repair};

type Problem = (Option<String>, String, Option<String>, String);
type Mended = (Option<String>, String, String);

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn calsync_check(
    calendars: Option<Array<'_, &str>>,
) -> TableIterator<
    'static,
    (name!(calendar, Option<String>), name!(problem, String), name!(event_id, Option<String>), name!(detail, String)),
> {
    let check = || -> Result<Vec<Problem>, Error> {
        let role = caller();
        let look = || {
            let mut problems = Vec::new();
            for orphans in orphans(role, calendars.is_none())? {
                problems.push((None, integrity::Problem::OrphanRows.label().to_owned(), None, orphans.to_string()));
            }
            for (id, calendar) in meant(role, calendars)? {
                for finding in integrity::check(id)? {
                    let problem = finding.problem.label().to_owned();
                    problems.push((Some(calendar.clone()), problem, finding.event_id, finding.detail));
                }
            }
            Ok(problems)
        };
        as_owner(|| under_one_snapshot(look))
    };
    TableIterator::new(check().report())
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn calsync_repair(
    calendars: Option<Array<'_, &str>>,
) -> TableIterator<'static, (name!(calendar, Option<String>), name!(problem, String), name!(action, String))> {
    let mend = || -> Result<Vec<Mended>, Error> {
        let role = caller();
        as_writing_owner(FUNCTION_REPAIR, || {
            let mut mended = Vec::new();
            for orphans in orphans(role, calendars.is_none())? {
                repair::remove(&orphans)?;
                let action = format!("removed {orphans}");
                mended.push((None, integrity::Problem::OrphanRows.label().to_owned(), action));
            }
            for (id, calendar) in meant(role, calendars)? {
                for done in repair::repair(id)? {
                    mended.push((Some(calendar.clone()), done.problem.label().to_owned(), done.action.to_owned()));
                }
            }
            Ok(mended)
        })
    };
    let mended = mend().report();
    if !mended.is_empty() {
        crate::worker::wake::worker_at_commit();
    }
    TableIterator::new(mended)
}

const FUNCTION_REPAIR: &CStr = c"calsync_repair()";

/// Rows of no subscription are nobody's: they are the business of who may do everything here.
fn orphans(role: pg_sys::Oid, of_all: bool) -> Result<Vec<integrity::Orphans>, Error> {
    if of_all && may_do_everything(role)? { integrity::orphans() } else { Ok(Vec::new()) }
}

/// These calendars, or all that the role owns; in the order in which everybody locks them.
fn meant(role: pg_sys::Oid, calendars: Option<Array<'_, &str>>) -> Result<Vec<(i64, String)>, Error> {
    let mut meant: Vec<(i64, String)> = match calendars {
        None => {
            let all = availability::all(role)?.into_iter();
            all.filter(|one| one.owned).map(|one| (one.id, one.calendar)).collect()
        }
        Some(calendars) => availability::find(role, &names(&calendars)?)?
            .into_iter()
            .map(|(calendar, one)| match one {
                Some(one) if one.owned => Ok((one.id, calendar)),
                Some(one) => Err(Error::not_the_owner(&calendar, &one.owner)),
                None => Err(Error::UnknownCalendar { calendar }),
            })
            .collect::<Result<_, _>>()?,
    };
    meant.sort_unstable();
    Ok(meant)
}

#[pg_extern(sql = false)]
fn calsync_cleanup() -> TableIterator<'static, (name!(what, String), name!(removed, i64))> {
    let clean = || -> Result<Removed, Error> {
        // What goes is locked until the caller's transaction ends, which may be never: nothing of anybody else's.
        let whose = Whose::of(caller())?;
        as_writing_owner(c"calsync_cleanup()", || {
            let mut removed = Removed::default();
            for id in retention::all(&whose)? {
                pgrx::check_for_interrupts!();
                removed.add(retention::clean(id)?);
            }
            loop {
                let batch = retention::forget_history(&whose)?;
                removed.add(batch);
                if !retention::is_whole_batch(batch) {
                    return Ok(removed);
                }
            }
        })
    };
    let Removed { events, tombstones, staged_rounds, sync_runs, changes, channels } = clean().report();
    let counts = [
        ("past events", events),
        ("deleted occurrences", tombstones),
        ("rounds given up", staged_rounds),
        ("sync runs", sync_runs),
        ("changes", changes),
        ("push channels", channels),
    ];
    TableIterator::new(counts.map(|(what, removed)| (what.to_owned(), removed)))
}
