//! Where a calendar lives: the database, and the tables in it, that its row was made for.
//!
//! A row that came by a restore, from a template or through `pg_upgrade` names another home (`calsync.subscription.home`),
//! and nobody knows whether all that belongs to it has come, too: a parallel restore commits `calsync.subscription` while
//! events and busy time are still being copied. A window slid over events that are not there would say "free", and what a
//! delta deletes would come in after it. So until it is taken over such a calendar is foreign:
//! - it answers nothing (SC002), for "free" could be a row that has not come yet
//! - the worker, `calsync_run()` and `calsync_cleanup()` neither claim, slide nor clean it
//! - nothing is lost meanwhile: where it stood, its token included, it goes on from
//!
//! It is taken over once nobody restores: there is no session of pg_restore that could write the tables, and no COPY into
//! one of them. The worker and `calsync_run()` want to see that for a while ([`crate::engine::arrivals`]);
//! `calsync_repair()` and `calsync_apply_delta()` are somebody's word, and look once. Occurrences and busy time are derived
//! anew on the way, from the events, which with their token are from one snapshot: no provider is asked for more than it
//! would have been.
//!
//! A standby, whatever it was promoted to, and a server that was recovered from a base backup have the home of their
//! original. A row without a home was made by hand: it is at home wherever it is.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::channel;
use super::owner::{may_do_everything, relation_named};
use super::repair;
use super::subscription::{self, Subscription, TryLock};
use super::whose::{Whose, is_theirs};
use crate::error::Error;

/// The home of what is made here.
pub fn ours() -> Result<String, Error> {
    Ok(of(relation_named(c"subscription")?))
}

/// The same, given which table `calsync.subscription` is: in one that DROP EXTENSION and CREATE EXTENSION have made anew, rows of
/// its predecessor are foreign, too.
pub fn of(table: pg_sys::Oid) -> String {
    format!("{}/{}", channel::home(), table.to_u32())
}

/// A row with this home is foreign where `ours` is at home.
pub fn is_foreign(home: Option<&str>, ours: &str) -> bool {
    home.is_some_and(|home| home != ours)
}

/// The condition that subscription `s` is at home. [`ours`] has digits and slashes only.
pub fn is_at_home(s: &str) -> Result<String, Error> {
    Ok(format!("coalesce({s}.home = '{}', true)", ours()?))
}

/// Foreign calendars of these owners, in order, after `after`. Those that somebody has locked wait.
pub fn foreign(whose: &Whose, after: i64, limit: usize) -> Result<Vec<i64>, Error> {
    Spi::connect_mut(|client| {
        let sql = format!(
            "SELECT subscription_id FROM calsync.subscription WHERE home <> $1 AND subscription_id > $2 AND {} \
             ORDER BY subscription_id LIMIT $3 FOR UPDATE SKIP LOCKED",
            is_theirs("owner", 4)
        );
        let arguments = [ours()?.into(), after.into(), (limit as i64).into(), whose.parameter()];
        let table = client.update(&sql, None, &arguments)?;
        table.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect()
    })
}

/// Somebody else is restoring into this database, as far as can be seen. A session's name is its own word: it counts where
/// its user could write the tables, so that nobody else can keep calendars from being taken over.
pub fn is_being_restored() -> Result<bool, Error> {
    // SAFETY: reads this transaction's copy of the table of processes; entries are counted from 1, a null one is passed
    // over, and the name of the application is a C string of that copy.
    let sessions = unsafe {
        let count = pg_sys::pgstat_fetch_stat_numbackends();
        let entries = (1..=count).filter_map(|number| pg_sys::pgstat_fetch_stat_local_beentry(number).as_ref());
        let statuses = entries.map(|entry| &entry.backendStatus).filter(|status| {
            status.st_procpid > 0
                && status.st_procpid != pg_sys::MyProcPid
                && status.st_databaseid == pg_sys::MyDatabaseId
        });
        statuses
            .map(|status| {
                let restores = !status.st_appname.is_null() && CStr::from_ptr(status.st_appname) == c"pg_restore";
                let copies_into = status.st_progress_command == pg_sys::ProgressCommandType::PROGRESS_COMMAND_COPY
                    && status.st_progress_param[pg_sys::PROGRESS_COPY_COMMAND as usize]
                        == i64::from(pg_sys::PROGRESS_COPY_COMMAND_FROM);
                (status.st_userid, restores, copies_into.then_some(status.st_progress_command_target))
            })
            .collect::<Vec<_>>()
    };
    for (user, restores, copied_into) in sessions {
        if copied_into.is_some_and(is_one_of_the_tables) || restores && may_do_everything(user)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_one_of_the_tables(relation: pg_sys::Oid) -> bool {
    // SAFETY: syscache look-ups, which give InvalidOid for what does not exist.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"calsync".as_ptr(), true);
        schema != pg_sys::InvalidOid && pg_sys::get_rel_namespace(relation) == schema
    }
}

/// Refuses to go on with a foreign calendar while somebody restores.
pub fn refuse_while_restoring(calendar: &str) -> Result<(), Error> {
    if !is_being_restored()? {
        return Ok(());
    }
    Err(Error::Argument {
        code: PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        message: format!("calendar \"{calendar}\" came from another database, and is not taken over yet"),
        detail: "Somebody is restoring into this database: not all of it may have come.".into(),
        hint: "Try again once the restore has ended.".into(),
    })
}

/// Makes a calendar's home this database, if nobody has locked it and it is still foreign. Nobody must be restoring.
pub fn take_over(id: i64) -> Result<(), Error> {
    match subscription::try_lock(id)? {
        TryLock::Locked(subscription) => take_over_locked(&subscription),
        TryLock::HeldElsewhere | TryLock::Gone => Ok(()),
    }
}

/// The same, the row being locked.
pub fn take_over_locked(subscription: &Subscription) -> Result<(), Error> {
    if !subscription.is_foreign {
        return Ok(());
    }
    // In a zone that is unknown here nothing can be derived: it goes on answering from what came, as it would have.
    if subscription.zone().is_ok() {
        repair::derive_anew(subscription.id)?;
    }
    settle(subscription.id)
}

/// It lives here from now on.
pub(super) fn settle(id: i64) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        let sql = "UPDATE calsync.subscription SET home = $2 WHERE subscription_id = $1";
        client.update(sql, None, &[id.into(), ours()?.into()])?;
        Ok(())
    })
}
