//! Waking at commit: who waits for a change must not look before it can be seen, nor at what was rolled back.

use std::cell::Cell;
use std::ffi::c_void;

use pgrx::pg_sys;

use super::{board, is_preloaded};

thread_local! {
    static WAKE_WORKER: Cell<bool> = const { Cell::new(false) };
    static ANNOUNCE: Cell<bool> = const { Cell::new(false) };
    static RELEASE: Cell<bool> = const { Cell::new(false) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// This database's worker looks for work when the transaction has committed.
pub fn worker_at_commit() {
    WAKE_WORKER.set(true);
    register();
}

/// The launcher learns that this database has the extension when the transaction has committed.
pub fn launcher_at_commit() {
    ANNOUNCE.set(true);
    register();
}

/// What this session holds is given back, and the launcher looks, when the transaction has ended, whichever way: before
/// that a database that is dropped, renamed or copied still looks as it did.
pub fn release_at_end() {
    RELEASE.set(true);
    register();
}

fn register() {
    if is_preloaded() && !REGISTERED.replace(true) {
        // SAFETY: the callback lives as long as the library, which is never unloaded.
        unsafe { pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut()) };
    }
}

/// Must not raise: the transaction has already ended.
unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    if !matches!(event, XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE) {
        return;
    }
    let (wake_worker, announce) = (WAKE_WORKER.take(), ANNOUNCE.take());
    if RELEASE.take() {
        board::release_all();
        nudge(board::launcher());
    }
    if event != XACT_EVENT_COMMIT {
        return;
    }
    // SAFETY: reads a variable of the backend.
    let database = unsafe { pg_sys::MyDatabaseId };
    if announce {
        board::announce(database);
        nudge(board::launcher());
    }
    if wake_worker {
        nudge(board::worker(database));
    }
}

/// Sets the latch of a process of ours: what the handler of SIGUSR1 does in every backend.
pub fn nudge(process: i32) {
    if process != 0 {
        // SAFETY: a signal that any Postgres process expects; should the process have ended, nothing happens.
        unsafe { libc::kill(process, libc::SIGUSR1) };
    }
}
