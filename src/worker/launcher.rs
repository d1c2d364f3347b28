//! The launcher: finds the databases that have the extension and keeps a worker in each.
//!
//! It is connected to no database and so cannot look for the extension itself: it starts a worker in every database
//! once, which leaves for good where there is none; after that it relies on the announcement that CREATE EXTENSION
//! makes, and on new databases being new.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};

use super::role::{self, Refusal};
use super::{behave_as_a_backend, board, latch, reload_if_asked};
use crate::settings;

/// How often the list of databases is read without being asked to.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// A worker that lived this long was healthy: the next restart is quick again.
const HEALTHY: Duration = Duration::from_secs(60);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the launcher knows of one database.
enum Place {
    Running {
        handle: *mut pg_sys::BackgroundWorkerHandle,
        since: Instant,
        pause: Duration,
    },
    /// A worker ended, or could not be started.
    Waiting {
        until: Instant,
        pause: Duration,
    },
    /// No extension, until one is announced.
    Absent,
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn calsync_launcher_main(_argument: pg_sys::Datum) {
    behave_as_a_backend();
    // SAFETY: no database, no role: access to the shared catalogs only.
    unsafe { pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0) };
    board::launcher_started();
    send_orphans_away();
    let mut places: HashMap<pg_sys::Oid, Place> = HashMap::new();
    let mut told = Told::default();
    loop {
        reload_if_asked();
        let databases = databases();
        told.now();
        places.retain(|database, _| {
            let lives = databases.iter().any(|(oid, _)| oid == database);
            if !lives {
                board::forget(*database);
            }
            lives
        });
        let mut wait = HEARTBEAT;
        for (database, name) in &databases {
            if let Some(soon) = look_after(&mut places, *database, name, &mut told) {
                wait = wait.min(soon);
            }
        }
        told.forget_the_mended();
        latch::wait_for(None, Some(wait));
    }
}

/// What is in the way of workers, each thing said once, until it is out of the way.
#[derive(Default)]
struct Told {
    said: Vec<Refusal>,
    /// Met since the databases were last gone through.
    met: Vec<Refusal>,
}

impl Told {
    fn now(&mut self) {
        self.met.clear();
    }

    fn tell(&mut self, refusal: Refusal) {
        if !self.said.contains(&refusal) && !self.met.contains(&refusal) {
            refusal.tell();
        }
        self.met.push(refusal);
    }

    fn forget_the_mended(&mut self) {
        std::mem::swap(&mut self.said, &mut self.met);
    }
}

/// Ends the workers of a launcher that died, so that each database has one worker, and one that is looked after.
fn send_orphans_away() {
    loop {
        let orphans = board::living_workers();
        if orphans.is_empty() {
            return;
        }
        for worker in orphans {
            // SAFETY: a worker of ours, which ends on this signal at its next interruptible point.
            unsafe { libc::kill(worker, libc::SIGTERM) };
        }
        latch::wait_for(None, Some(Duration::from_millis(50)));
    }
}

/// Does what this database needs. Returns when to look again, if that is before the heartbeat.
fn look_after(
    places: &mut HashMap<pg_sys::Oid, Place>,
    database: pg_sys::Oid,
    name: &CStr,
    told: &mut Told,
) -> Option<Duration> {
    if let Some(Place::Running { handle, since, pause }) = places.get(&database) {
        let (handle, since, pause) = (*handle, *since, *pause);
        // SAFETY: the handle came from registering; it is freed below, with the place that holds it.
        if unsafe { is_running(handle) } {
            return None;
        }
        // SAFETY: as above; the place is replaced at once.
        unsafe { pg_sys::pfree(handle.cast()) };
        let pause = if since.elapsed() >= HEALTHY { SHORTEST_PAUSE } else { pause };
        let place = if board::is_absent(database) {
            Place::Absent
        } else if board::take_dismissal(database) {
            // It did not fail: somebody wanted the database for himself.
            Place::Waiting { until: Instant::now(), pause: SHORTEST_PAUSE }
        } else {
            Place::Waiting { until: Instant::now() + pause, pause: (pause * 2).min(LONGEST_PAUSE) }
        };
        places.insert(database, place);
    }
    // Only now that no worker runs: the one that just left may have looked before the extension was there.
    if board::take_announcement(database) {
        places.insert(database, Place::Waiting { until: Instant::now(), pause: SHORTEST_PAUSE });
    }
    let pause = match places.get(&database) {
        Some(Place::Absent) => return None,
        Some(Place::Waiting { until, .. }) if *until > Instant::now() => return Some(*until - Instant::now()),
        Some(Place::Waiting { pause, .. }) => *pause,
        _ => SHORTEST_PAUSE,
    };
    if board::is_held(database) {
        // The holder nudges us when it is done; should it die, we look again.
        return Some(SHORTEST_PAUSE);
    }
    if !settings::serves_database(&name.to_string_lossy()) {
        places.remove(&database);
        return None;
    }
    if let Some(refusal) = in_transaction(|| role::refusal(database, name)) {
        told.tell(refusal);
        // Where a worker is expected we look again soon. An announcement comes when CREATE EXTENSION can be seen, and that
        // is a moment before other processes are told to forget that its role did not exist.
        return places.contains_key(&database).then_some(SHORTEST_PAUSE);
    }
    let place = match start_worker(database, name) {
        Some(handle) => Place::Running { handle, since: Instant::now(), pause },
        None => {
            warn_about_slots(name);
            Place::Waiting { until: Instant::now() + LONGEST_PAUSE, pause }
        }
    };
    places.insert(database, place);
    None
}

unsafe fn is_running(handle: *mut pg_sys::BackgroundWorkerHandle) -> bool {
    let mut process = 0;
    // SAFETY: the caller's handle is live.
    let status = unsafe { pg_sys::GetBackgroundWorkerPid(handle, &mut process) };
    status != pg_sys::BgwHandleStatus::BGWH_STOPPED
}

/// None: Postgres has no slot for it.
fn start_worker(database: pg_sys::Oid, name: &CStr) -> Option<*mut pg_sys::BackgroundWorkerHandle> {
    // SAFETY: the struct is plain data, zero is valid for each field; texts are cut to their arrays, which end in 0.
    unsafe {
        let mut worker: pg_sys::BackgroundWorker = std::mem::zeroed();
        copy_text(&mut worker.bgw_name, &[c"pg_calsync worker for ".to_bytes(), name.to_bytes()].concat());
        copy_text(&mut worker.bgw_type, b"pg_calsync worker");
        copy_text(&mut worker.bgw_library_name, b"pg_calsync");
        copy_text(&mut worker.bgw_function_name, b"calsync_worker_main");
        copy_text(&mut worker.bgw_extra, name.to_bytes());
        worker.bgw_flags =
            (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as std::ffi::c_int;
        worker.bgw_start_time = pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished;
        // The launcher starts it again, and knows when not to.
        worker.bgw_restart_time = pg_sys::BGW_NEVER_RESTART;
        worker.bgw_main_arg = pg_sys::Datum::from(database);
        worker.bgw_notify_pid = pg_sys::MyProcPid;
        let context = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let mut handle = std::ptr::null_mut();
        let registered = pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle);
        pg_sys::MemoryContextSwitchTo(context);
        registered.then_some(handle)
    }
}

fn copy_text(field: &mut [std::ffi::c_char], text: &[u8]) {
    let room = field.len().saturating_sub(1);
    for (place, byte) in field.iter_mut().take(room).zip(text) {
        *place = *byte as std::ffi::c_char;
    }
}

fn warn_about_slots(name: &CStr) {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        format!(
            "pg_calsync: no worker for database \"{}\": all background worker slots are taken",
            name.to_string_lossy()
        ),
        "",
    )
    .set_hint("Raise max_worker_processes: pg_calsync needs one for its launcher and one for each database that has it, beside \
         those of Postgres itself and of other extensions.")
    .report(PgLogLevel::WARNING);
}

/// What the autovacuum launcher does to read shared catalogs: a transaction of its own.
fn in_transaction<T>(look: impl FnOnce() -> T) -> T {
    // SAFETY: no transaction is open; an ERROR inside ends the launcher, which Postgres starts again.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        let seen = look();
        pg_sys::CommitTransactionCommand();
        seen
    }
}

/// The databases one can connect to, templates aside.
fn databases() -> Vec<(pg_sys::Oid, CString)> {
    let mut found = Vec::new();
    // SAFETY: a scan of a shared catalog in a transaction; the names are copied out before it ends.
    in_transaction(|| unsafe {
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            std::ptr::null_mut(),
            0,
            std::ptr::null_mut(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let database = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            if database.datallowconn && !database.datistemplate {
                found.push((database.oid, CStr::from_ptr(database.datname.data.as_ptr()).to_owned()));
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    });
    found
}
