//! `CALL calsync_run()`: the worker's work in the foreground, for the calendars that the caller owns, or for all where he
//! may do everything here.
//!
//! Who calls holds up, cancels, and opens secrets in his own session: none of that may concern anybody else.

use pgrx::prelude::*;

use crate::engine::arrivals::{Arrival, Arrivals};
use crate::engine::transactions::{ProcedureTransactions, Transactions, UnitFailed};
use crate::engine::{Engine, upkeep};
use crate::error::{Error, Report};
use crate::panics::speechless;
use crate::settings::Settings;
use crate::store::claims;
use crate::store::owner::{as_owner, caller, refuse_if_read_only};
use crate::store::whose::Whose;
use crate::worker::{latch, wake};

/// Calendars slid, or cleaned, by one call, at most.
const AT_ONCE: usize = 1000;

#[pg_extern(sql = false)]
fn calsync_run(max_calendars: Option<i32>, fcinfo: pg_sys::FunctionCallInfo) {
    let run = || -> Result<(), Error> {
        let at_most = match max_calendars {
            None => usize::MAX,
            Some(count) => usize::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| {
                Error::argument(
                    PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                    format!("max_calendars must be positive, not {count}"),
                    "Leave it out to sync all that is due.",
                )
            })?,
        };
        if is_atomic(fcinfo) {
            return Err(Error::argument(
                PgSqlErrorCode::ERRCODE_INVALID_TRANSACTION_TERMINATION,
                "calsync_run() cannot run inside a transaction block",
                "Call it on its own: it commits after each calendar. In psql, leave BEGIN out; from pg_cron, use CALL \
                 as the whole command.",
            ));
        }
        refuse_if_read_only(c"calsync_run()");
        sync_what_is_due(at_most)
    };
    speechless(run).report();
}

/// Whether the caller's transaction may not be ended here.
fn is_atomic(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: Postgres passes a CallContext to what CALL invokes; the tag is checked before the cast.
    unsafe {
        let context = (*fcinfo).context;
        context.is_null()
            || (*context).type_ != pg_sys::NodeTag::T_CallContext
            || (*context.cast::<pg_sys::CallContext>()).atomic
    }
}

fn sync_what_is_due(at_most: usize) -> Result<(), Error> {
    let settings = Settings::snapshot();
    if !settings.enabled {
        pgrx::notice!("calsync.enabled is off: no calendar is synced");
        return Ok(());
    }
    let role = caller();
    let whose = as_owner(|| Whose::of(role))?;
    let mut transactions = ProcedureTransactions::connect()?;
    let synced = sync(&mut transactions, &whose, &settings, at_most);
    let cancelled = transactions.take_cancel();
    if synced.is_err() || cancelled.is_some() {
        // Whoever syncs next shall not wait for leases to run out; should it be the worker, it has fallen asleep.
        let _ = transactions.run(&mut || {
            wake::worker_at_commit();
            claims::release_own_claims()
        });
    }
    if let Some(cancelled) = cancelled {
        cancelled.rethrow();
    }
    synced.map_err(|failed| Error::Internal(failed.reason))
}

/// Calendars that came from another database are waited for, unless they are still coming.
fn take_over(transactions: &mut ProcedureTransactions, whose: &Whose) -> Result<(), UnitFailed> {
    let mut arrivals = Arrivals::default();
    loop {
        match arrivals.look(transactions, whose)? {
            Arrival::Home | Arrival::Restoring | Arrival::Failed => return Ok(()),
            arrival @ (Arrival::Waiting | Arrival::TakingOver) => {
                transactions.wait(|| latch::wait_for(None, arrival.look_again()));
            }
        }
    }
}

/// Until nothing is due, or the call is cancelled.
fn sync(
    transactions: &mut ProcedureTransactions,
    whose: &Whose,
    settings: &Settings,
    at_most: usize,
) -> Result<(), UnitFailed> {
    let mut engine = Engine::new(whose.clone(), settings).map_err(|error| UnitFailed { reason: error.to_string() })?;
    // Claims of sessions that died, and of an earlier call of this one that was cut short.
    transactions.run(&mut || claims::release_claims_of_the_dead().and_then(|_| claims::release_own_claims()))?;
    take_over(transactions, whose)?;
    let mut left = at_most;
    let mut looked_again = false;
    loop {
        engine.pass_on_news(transactions)?;
        let claimed = engine.claim(transactions, settings, left)?;
        left -= claimed;
        // A budget may have become free between the look at it and the next.
        looked_again &= claimed == 0;
        engine.tend_channels(transactions, settings)?;
        // Calendars that are due and only wait for a budget are waited for, unless enough have been synced.
        let wait = engine.shortest_wait().filter(|_| left > 0 || !engine.is_idle());
        if engine.is_idle() && wait.is_none() {
            // What was synced for the first time can be watched now.
            if std::mem::replace(&mut looked_again, true) {
                break;
            }
            engine.look_at_channels_now();
            continue;
        }
        let timeout = wait.unwrap_or(settings.request_timeout);
        transactions.wait(|| latch::wait_for(Some(engine.doorbell()), Some(timeout)));
        engine.handle_answers(transactions, settings);
    }
    upkeep::run(transactions, whose, AT_ONCE).map(drop)
}
