//! The background: one launcher a cluster, one worker a database that has the extension.
//!
//! The hard scenarios that this module exists for, each with a test in `tests/integration`:
//! - CREATE EXTENSION in a database: its worker starts when that commits, and not when it is rolled back
//! - DROP EXTENSION: the worker notices at commit and leaves; it neither blocks the drop nor logs errors
//! - DROP DATABASE (also ALTER DATABASE .. RENAME, SET TABLESPACE, and CREATE DATABASE .. TEMPLATE): Postgres refuses
//!   while anybody is connected, so the worker is asked to leave first ([`leave`]), and comes back if it was in vain
//! - CREATE DATABASE from a template that has the extension: the copy gets a worker
//! - a worker that is terminated, or dies of an ERROR, is started again, ever more slowly if it keeps dying
//! - a postmaster that restarts after a crash starts the launcher, and that the workers
//! - many databases without the extension: they are looked into two at a time, and leave slots and lines to the others
//! - too few `max_worker_processes`: a WARNING that says which setting to raise
//! - a role that may not log in, or not into this database, or that may do too much: a WARNING that says what to do
//! - a standby: nobody runs until it is promoted; a binary upgrade: nobody runs
//!
//! The launcher is connected to no database, so that it can hold up none.

pub mod board;
mod database;
pub mod latch;
mod launcher;
mod leave;
mod role;
pub mod wake;

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

/// How soon Postgres starts the launcher again should it end.
const LAUNCHER_RESTART: std::time::Duration = std::time::Duration::from_secs(5);

static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Registers what only a preloaded library can have; elsewhere the SQL functions work without a worker.
pub fn register() {
    // SAFETY: reads variables of the process.
    let (preloading, upgrading) =
        unsafe { (pg_sys::process_shared_preload_libraries_in_progress, pg_sys::IsBinaryUpgrade) };
    if !preloading || upgrading {
        return;
    }
    PRELOADED.store(true, Ordering::Relaxed);
    board::register();
    crate::engine::budgets::register();
    leave::register();
    BackgroundWorkerBuilder::new("pg_calsync launcher")
        .set_type("pg_calsync launcher")
        .set_library("pg_calsync")
        .set_function("calsync_launcher_main")
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(LAUNCHER_RESTART))
        .enable_shmem_access(None)
        .enable_spi_access()
        .load();
}

/// Whether there is shared memory of ours.
pub fn is_preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

/// Tells the user who subscribes a calendar that nobody will sync it.
pub fn warn_if_there_is_none() {
    if is_preloaded() {
        return;
    }
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        "no background worker will sync this calendar: pg_calsync is not preloaded".to_owned(),
        "",
    )
    .set_hint(
        "Add shared_preload_libraries = 'pg_calsync' to postgresql.conf and restart, or CALL calsync_run() regularly.",
    )
    .report(PgLogLevel::WARNING);
}

/// Makes this process behave as a backend does on signals: terminate and reload at the next interruptible point.
///
/// pgrx' own handlers only set a flag, which neither a lock wait nor a long statement looks at.
fn behave_as_a_backend() {
    unsafe extern "C-unwind" {
        fn die(signal: std::ffi::c_int);
        fn SignalHandlerForConfigReload(signal: std::ffi::c_int);
    }
    // SAFETY: Postgres' own handlers, installed before signals are unblocked, on the main thread.
    unsafe {
        pg_sys::pqsignal(libc::SIGTERM, Some(die));
        pg_sys::pqsignal(libc::SIGHUP, Some(SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// Reads the configuration file again if a SIGHUP came.
fn reload_if_asked() -> bool {
    // SAFETY: main thread, outside a transaction; what every backend does in its loop.
    unsafe {
        if pg_sys::ConfigReloadPending == 0 {
            return false;
        }
        pg_sys::ConfigReloadPending = 0;
        pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        true
    }
}

/// Why no worker can be here, with what to do about it; None: nothing about its role is in the way.
pub fn refusal() -> Option<(String, String)> {
    let (message, _, hint) = role::refusal_here()?.told();
    Some((message, hint))
}

/// Who would sync this database's calendars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    Worker,
    /// The library is preloaded, and yet there is none.
    NoWorker,
    NotPreloaded,
}

pub fn running() -> Running {
    if !is_preloaded() {
        return Running::NotPreloaded;
    }
    // SAFETY: reads a variable of the backend, and looks a process up in the process array.
    let lives = unsafe {
        let worker = board::worker(pg_sys::MyDatabaseId);
        worker != 0 && !pg_sys::BackendPidGetProc(worker).is_null()
    };
    if lives { Running::Worker } else { Running::NoWorker }
}
