//! The launcher: finds the databases that have the extension and keeps a worker in each.
//!
//! It is connected to no database and so cannot look for the extension itself: it starts a worker in every database
//! once, which leaves for good where there is none; after that it relies on the announcement that CREATE EXTENSION
//! makes, and on new databases being new.
//!
//! There may be a thousand databases and eight slots for background workers, which parallel queries need, too. So no more
//! than two workers look at once, and when one has looked the next begins. Where a worker is known to belong it is
//! started before any look.

use std::collections::{HashMap, HashSet};
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
/// Workers that may look for the extension at once.
const LOOKS_AT_ONCE: usize = 2;
/// A look takes a fraction of a second. One that lasts this long is held up by somebody, who shall neither hold up the others
/// nor take their slots: it is ended, and begun anew later.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// How soon a slot is asked for again where there was none. A worker of ours that ends is known of sooner.
const SLOT_PAUSE: Duration = Duration::from_secs(5);
/// How long slots may be taken, by parallel queries perhaps, before it is said that nobody can look.
const SLOT_PATIENCE: Duration = Duration::from_secs(10);

/// What the launcher knows of one database; where it has never looked, nothing.
enum Place {
    Running {
        handle: *mut pg_sys::BackgroundWorkerHandle,
        since: Instant,
        pause: Duration,
        /// The extension is known to be there.
        belongs: bool,
    },
    /// A worker ended, or could not be started.
    Waiting { until: Instant, pause: Duration, belongs: bool },
    /// No extension, until one is announced.
    Absent,
}

impl Place {
    /// A worker is to be started at once.
    fn at_once(belongs: bool) -> Self {
        Place::Waiting { until: Instant::now(), pause: SHORTEST_PAUSE, belongs }
    }
}

struct Database {
    oid: pg_sys::Oid,
    name: CString,
    /// One can connect to it, and it is no template.
    is_open: bool,
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn calsync_launcher_main(_argument: pg_sys::Datum) {
    behave_as_a_backend();
    // SAFETY: no database, no role: access to the shared catalogs only.
    unsafe { pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0) };
    board::launcher_started();
    send_orphans_away();
    let mut launcher = Launcher::default();
    launcher.places.extend(board::take_orphaned().into_iter().map(|database| (database, Place::at_once(true))));
    loop {
        reload_if_asked();
        let wait = launcher.go_round();
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

    /// `saw_all`: what was not met is mended.
    fn forget_the_mended(&mut self, saw_all: bool) {
        if saw_all {
            std::mem::swap(&mut self.said, &mut self.met);
        } else {
            let new: Vec<Refusal> = self.met.drain(..).filter(|refusal| !self.said.contains(refusal)).collect();
            self.said.extend(new);
        }
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

#[derive(Default)]
struct Launcher {
    places: HashMap<pg_sys::Oid, Place>,
    /// Where the extension was created while a worker ran: it may have looked before.
    announced: HashSet<pg_sys::Oid>,
    told: Told,
    /// Databases with the extension whose worker found no slot, which was said.
    without_slot: HashSet<pg_sys::Oid>,
    /// Since when nobody could look into any database.
    blind_since: Option<Instant>,
    blindness_told: bool,
}

impl Launcher {
    /// Does what the databases need. Returns when to look again.
    fn go_round(&mut self) -> Duration {
        // Before the databases are listed: where the extension was created there is a database.
        let announcements = board::take_announcements();
        self.announced.extend(announcements.databases);
        let databases = databases();
        self.forget_the_dropped(&databases);
        self.told.now();
        for database in &databases {
            self.see(database.oid);
        }
        if announcements.elsewhere {
            self.places.retain(|_, place| !matches!(place, Place::Absent));
        }
        let mut wait = HEARTBEAT;
        let mut slots_lack = false;
        for database in &databases {
            if self.belongs(database.oid) && self.is_due(database.oid, &mut wait) {
                slots_lack |= !self.keep(database, &mut wait);
            }
        }
        let saw_all = !slots_lack && self.look_around(&databases, &mut wait);
        self.told.forget_the_mended(saw_all);
        wait
    }

    fn forget_the_dropped(&mut self, databases: &[Database]) {
        let living: HashSet<pg_sys::Oid> = databases.iter().map(|database| database.oid).collect();
        self.announced.retain(|database| living.contains(database));
        self.without_slot.retain(|database| living.contains(database));
        self.places.retain(|database, place| {
            let lives = living.contains(database);
            if !lives {
                board::take_ending(*database);
                if let Place::Running { handle, .. } = place {
                    // SAFETY: the handle came from registering; the place that holds it goes.
                    unsafe { pg_sys::pfree(handle.cast()) };
                }
            }
            lives
        });
    }

    /// Takes in what became of a database's worker, and what was announced.
    fn see(&mut self, database: pg_sys::Oid) {
        if let Some(Place::Running { handle, since, pause, belongs }) = self.places.get_mut(&database) {
            // SAFETY: the handle came from registering; it is freed below, with the place that holds it.
            if unsafe { is_running(*handle) } {
                *belongs = *belongs || board::has_found(database);
                return;
            }
            // SAFETY: as above; the place is replaced at once.
            unsafe { pg_sys::pfree(handle.cast()) };
            let ending = board::take_ending(database);
            let belongs = *belongs || ending.found;
            let pause = if since.elapsed() >= HEALTHY { SHORTEST_PAUSE } else { *pause };
            let place = if ending.absent {
                Place::Absent
            } else if ending.dismissed {
                // It did not fail: somebody wanted the database for himself.
                Place::at_once(belongs)
            } else {
                Place::Waiting { until: Instant::now() + pause, pause: (pause * 2).min(LONGEST_PAUSE), belongs }
            };
            self.places.insert(database, place);
        }
        // Only now that no worker runs: the one that just left may have looked before the extension was there.
        if self.announced.remove(&database) {
            self.places.insert(database, Place::at_once(true));
        }
    }

    /// Whether the extension is known to be there and no worker is.
    fn belongs(&self, database: pg_sys::Oid) -> bool {
        matches!(self.places.get(&database), Some(Place::Waiting { belongs: true, .. }))
    }

    /// Whether a worker is to be started now; else `wait` ends when one is.
    fn is_due(&self, database: pg_sys::Oid, wait: &mut Duration) -> bool {
        match self.places.get(&database) {
            None => true,
            Some(Place::Waiting { until, .. }) => {
                let left = until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    *wait = left.min(*wait);
                }
                left.is_zero()
            }
            Some(Place::Running { .. } | Place::Absent) => false,
        }
    }

    /// Whether nothing but a slot can be in the way of a worker.
    fn is_free(&mut self, database: &Database, wait: &mut Duration) -> bool {
        if !database.is_open || !settings::serves_database(&database.name.to_string_lossy()) {
            self.places.remove(&database.oid);
            return false;
        }
        if board::is_held(database.oid) {
            // The holder nudges us when it is done; should it die, we look again.
            *wait = SHORTEST_PAUSE.min(*wait);
            return false;
        }
        let Some(refusal) = in_transaction(|| role::refusal(database.oid, &database.name)) else { return true };
        self.told.tell(refusal);
        if self.places.contains_key(&database.oid) {
            // Where a worker is expected we look again soon. An announcement comes when CREATE EXTENSION can be seen, and that
            // is a moment before other processes are told to forget that its role did not exist.
            *wait = SHORTEST_PAUSE.min(*wait);
        }
        false
    }

    /// Starts a worker where one belongs. Returns whether there was a slot for it, if it is to have one.
    fn keep(&mut self, database: &Database, wait: &mut Duration) -> bool {
        if !self.is_free(database, wait) || self.start(database, true) {
            self.without_slot.remove(&database.oid);
            return true;
        }
        if self.without_slot.insert(database.oid) {
            let name = database.name.to_string_lossy();
            warn_about_slots(&format!("no worker for database \"{name}\": all background worker slots are taken"));
        }
        *wait = SLOT_PAUSE.min(*wait);
        false
    }

    /// Has the extension looked for where it was not yet, in turns. Returns whether nobody must wait for his.
    fn look_around(&mut self, databases: &[Database], wait: &mut Duration) -> bool {
        let mut looking = 0;
        for place in self.places.values() {
            let Place::Running { handle, since, pause, belongs: false } = place else { continue };
            looking += 1;
            // Longer with each time: it could be the machine that is slow.
            let left = (LONGEST_LOOK + *pause).saturating_sub(since.elapsed());
            if left.is_zero() {
                // SAFETY: the handle came from registering, and lives as long as its place; one that has ended is left alone.
                unsafe { pg_sys::TerminateBackgroundWorker(*handle) };
            }
            *wait = left.max(SHORTEST_PAUSE).min(*wait);
        }
        for database in databases {
            if self.belongs(database.oid) || !self.is_due(database.oid, wait) {
                continue;
            }
            if looking >= LOOKS_AT_ONCE {
                // Whoever ends, or finds the extension, tells us.
                return false;
            }
            if !self.is_free(database, wait) {
                continue;
            }
            if !self.start(database, false) {
                self.tell_that_nobody_looks();
                *wait = SHORTEST_PAUSE.min(*wait);
                return false;
            }
            looking += 1;
            (self.blind_since, self.blindness_told) = (None, false);
        }
        (self.blind_since, self.blindness_told) = (None, false);
        true
    }

    fn start(&mut self, database: &Database, belongs: bool) -> bool {
        let Some(handle) = start_worker(database.oid, &database.name) else { return false };
        let pause = match self.places.get(&database.oid) {
            Some(Place::Waiting { pause, .. }) => *pause,
            _ => SHORTEST_PAUSE,
        };
        self.places.insert(database.oid, Place::Running { handle, since: Instant::now(), pause, belongs });
        true
    }

    /// Those that wait may have the extension or not.
    fn tell_that_nobody_looks(&mut self) {
        let since = *self.blind_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= SLOT_PATIENCE && !self.blindness_told {
            self.blindness_told = true;
            warn_about_slots("databases cannot be looked at for the extension: all background worker slots are taken");
        }
    }
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

fn warn_about_slots(message: &str) {
    let code = PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED;
    ErrorReport::new(code, format!("pg_calsync: {message}"), "")
        .set_hint(
            "Raise max_worker_processes: pg_calsync needs one for its launcher, one for each database that has it, and \
             one for a moment to look which has it, beside those of Postgres itself and of other extensions.",
        )
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

/// All databases.
fn databases() -> Vec<Database> {
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
            found.push(Database {
                oid: database.oid,
                name: CStr::from_ptr(database.datname.data.as_ptr()).to_owned(),
                is_open: database.datallowconn && !database.datistemplate,
            });
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    });
    found
}
