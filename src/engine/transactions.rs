//! A unit of work as a transaction: committed as a whole, or without a trace and with a reason.
//!
//! An ERROR inside must neither end the process nor leave a broken transaction behind. In the worker a unit is a
//! transaction of its own; in a procedure it is a subtransaction (the only way Postgres lets a language catch an
//! ERROR), committed at once.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder, spi};

use crate::error::Error;
use crate::panics;
use crate::store::durability;
use crate::store::owner::{as_writer, be_silent};

/// The unit left no trace.
#[derive(Debug)]
pub struct UnitFailed {
    pub reason: String,
}

pub trait Transactions {
    /// Runs `work` as the owner of the tables and commits. No transaction is open before and after.
    fn run<T>(&mut self, work: &mut dyn FnMut() -> Result<T, Error>) -> Result<T, UnitFailed>;
}

/// For the background worker: each unit is a transaction.
pub struct WorkerTransactions;

impl Transactions for WorkerTransactions {
    fn run<T>(&mut self, work: &mut dyn FnMut() -> Result<T, Error>) -> Result<T, UnitFailed> {
        in_transaction(|| written(&mut *work))
    }
}

/// Runs `work` as the owner of the tables; its commit comes next.
fn written<T>(work: &mut dyn FnMut() -> Result<T, Error>) -> Result<T, Error> {
    durability::begin();
    let value = as_writer(work)?;
    durability::end();
    Ok(value)
}

/// In the worker: looks something up that may be there without the extension's tables.
pub fn catalog_query<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, UnitFailed> {
    in_transaction(work)
}

fn in_transaction<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, UnitFailed> {
    // SAFETY: the worker is connected to a database and no transaction is open. What postgres.c does around a
    // statement: start, snapshot, work, commit; and abort whatever went wrong, which also restores the memory
    // context, user id and settings.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, c"syncing calendars".as_ptr());
    }
    let outcome = caught(|| {
        let value = work()?;
        // SAFETY: the snapshot pushed above is the active one again; a commit that fails is caught like the rest.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        }
        Ok(value)
    });
    // SAFETY: outside a transaction, or in one that is to be aborted.
    unsafe {
        if outcome.is_err() {
            pg_sys::AbortCurrentTransaction();
        }
        pg_sys::pgstat_report_stat(false);
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
    }
    outcome
}

/// For a procedure called outside a transaction block: holds the SPI connection that allows committing.
pub struct ProcedureTransactions {
    /// Somebody cancelled the call: no unit is begun any more.
    cancelled: Option<Box<CaughtError>>,
}

impl ProcedureTransactions {
    /// Connects to SPI so that transactions may end inside.
    pub fn connect() -> Result<Self, Error> {
        // SAFETY: a plain call; matched by SPI_finish in `drop`, or by Postgres where an ERROR passes.
        let status = unsafe { pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32) };
        pgrx::Spi::check_status(status).map_err(|error: spi::SpiError| Error::Spi(error))?;
        Ok(ProcedureTransactions { cancelled: None })
    }
}

impl ProcedureTransactions {
    /// What to raise, where the call was cancelled. Then units can be run again, to tidy up.
    pub fn take_cancel(&mut self) -> Option<Box<CaughtError>> {
        self.cancelled.take()
    }

    /// Waits for something, interruptibly, holding no snapshot; an ERROR meanwhile is a cancel.
    pub fn wait(&mut self, wait: impl FnOnce()) {
        // SAFETY: as in `run` below, without a snapshot.
        unsafe {
            let context = pg_sys::CurrentMemoryContext;
            let owner = pg_sys::CurrentResourceOwner;
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            pg_sys::MemoryContextSwitchTo(context);
            let outcome = PgTryBuilder::new(AssertUnwindSafe(|| {
                wait();
                pg_sys::ReleaseCurrentSubTransaction();
                None
            }))
            .catch_others(|caught| Some(Box::new(caught)))
            .execute();
            if outcome.is_some() {
                pg_sys::RollbackAndReleaseCurrentSubTransaction();
            }
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = owner;
            self.cancelled = outcome.or(self.cancelled.take());
        }
    }
}

impl Drop for ProcedureTransactions {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: connected in `connect`.
            unsafe { pg_sys::SPI_finish() };
        }
    }
}

impl Transactions for ProcedureTransactions {
    fn run<T>(&mut self, work: &mut dyn FnMut() -> Result<T, Error>) -> Result<T, UnitFailed> {
        if self.cancelled.is_some() {
            return Err(UnitFailed { reason: "the call was cancelled".to_owned() });
        }
        be_silent();
        // SAFETY: what plpgsql does around a block that catches exceptions: memory context and resource owner are as
        // before, whichever way it ends. The snapshot is popped by us, or by the subtransaction's abort.
        unsafe {
            let context = pg_sys::CurrentMemoryContext;
            let owner = pg_sys::CurrentResourceOwner;
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            let outcome = caught_or_cancelled(|| {
                let value = written(&mut *work)?;
                pg_sys::PopActiveSnapshot();
                pg_sys::ReleaseCurrentSubTransaction();
                Ok(value)
            });
            if outcome.is_err() {
                pg_sys::RollbackAndReleaseCurrentSubTransaction();
            }
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = owner;
            pg_sys::SPI_commit();
            outcome.map_err(|(failed, cancelled)| {
                self.cancelled = cancelled;
                failed
            })
        }
    }
}

/// Runs `work`, turning an ERROR of Postgres' and a panic into a reason.
fn caught<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, UnitFailed> {
    caught_or_cancelled(work).map_err(|(failed, _)| failed)
}

/// The same; a cancel is no failure of the work, and comes with it.
fn caught_or_cancelled<T>(
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<T, (UnitFailed, Option<Box<CaughtError>>)> {
    PgTryBuilder::new(AssertUnwindSafe(|| work().map_err(|error| (UnitFailed { reason: error.to_string() }, None))))
        .catch_others(|caught| {
            let (CaughtError::PostgresError(report)
            | CaughtError::ErrorReport(report)
            | CaughtError::RustPanic { ereport: report, .. }) = &caught;
            let failed = UnitFailed { reason: panics::of(&caught) };
            let is_cancel = report.sql_error_code() == PgSqlErrorCode::ERRCODE_QUERY_CANCELED;
            Err((failed, is_cancel.then(|| Box::new(caught))))
        })
        .execute()
}
