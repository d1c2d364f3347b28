//! What launcher, workers and sessions tell each other, in shared memory: one line a database.

use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_shmem_init, pg_sys};

use super::is_preloaded;

/// Databases that can be served at once; `max_worker_processes` is far below.
const LINES: usize = 256;

#[derive(Debug, Clone, Copy, Default)]
pub struct Line {
    database: u32,
    /// Of the worker; 0: none runs.
    worker: i32,
    /// A session that wants the database for itself; 0: none does.
    held_by: i32,
    /// The worker was told to leave.
    dismissed: bool,
    /// The extension was created here since the launcher last looked.
    announced: bool,
    /// The worker found no extension and left for good.
    absent: bool,
    report: Report,
}

/// What a worker tells of itself. Times are microseconds since 2000, 0: never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    pub database: u32,
    pub pid: i32,
    pub started_at: i64,
    pub config_loaded_at: i64,
    pub last_answer_at: i64,
    /// Rounds under way, and how many may be just now.
    pub under_way: u32,
    pub width: u32,
    pub requests: u64,
    pub answers: u64,
    pub failures: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct Board {
    launcher: i32,
    lines: [Line; LINES],
}

impl Default for Board {
    fn default() -> Self {
        Board { launcher: 0, lines: [Line::default(); LINES] }
    }
}

// SAFETY: plain numbers without pointers, the same for every process.
unsafe impl PGRXSharedMemory for Board {}

// SAFETY: initialized by `register` while the library is preloaded; `is_preloaded` guards every access.
static BOARD: PgLwLock<Board> = unsafe { PgLwLock::new(c"calsync board") };

pub fn register() {
    pg_shmem_init!(BOARD);
}

impl Board {
    /// The line of a database; a new one where there is none yet; None: the board is full.
    fn line(&mut self, database: pg_sys::Oid) -> Option<&mut Line> {
        let number = database.to_u32();
        let index = self
            .lines
            .iter()
            .position(|line| line.database == number)
            .or_else(|| self.lines.iter().position(|line| line.database == 0))?;
        let line = &mut self.lines[index];
        line.database = number;
        Some(line)
    }
}

fn with_line<T: Default>(database: pg_sys::Oid, change: impl FnOnce(&mut Line) -> T) -> T {
    if !is_preloaded() {
        return T::default();
    }
    BOARD.exclusive().line(database).map(change).unwrap_or_default()
}

pub fn launcher_started() {
    BOARD.exclusive().launcher = std::process::id() as i32;
}

/// 0: none runs.
pub fn launcher() -> i32 {
    if is_preloaded() { BOARD.share().launcher } else { 0 }
}

pub fn worker_started(database: pg_sys::Oid) {
    with_line(database, |line| {
        line.worker = std::process::id() as i32;
        line.absent = false;
    });
}

/// Shown by `calsync.stat_worker`.
pub fn report(database: pg_sys::Oid, report: Report) {
    with_line(database, |line| line.report = report);
}

/// Of the workers that run.
pub fn reports() -> Vec<Report> {
    if !is_preloaded() {
        return Vec::new();
    }
    let board = BOARD.share();
    let running = board.lines.iter().filter(|line| line.worker != 0 && line.report.pid == line.worker);
    running.map(|line| line.report).collect()
}

/// `absent`: the database has no extension, there is no need to come back.
pub fn worker_ended(database: pg_sys::Oid, absent: bool) {
    let me = std::process::id() as i32;
    with_line(database, |line| {
        if line.worker == me {
            line.worker = 0;
        }
        line.absent |= absent;
    });
}

/// 0: none runs.
pub fn worker(database: pg_sys::Oid) -> i32 {
    with_line(database, |line| line.worker)
}

pub fn announce(database: pg_sys::Oid) {
    with_line(database, |line| line.announced = true);
}

/// Whether the extension was created here since this was last asked.
pub fn take_announcement(database: pg_sys::Oid) -> bool {
    with_line(database, |line| std::mem::take(&mut line.announced))
}

/// Whether the worker that ended found no extension.
pub fn is_absent(database: pg_sys::Oid) -> bool {
    with_line(database, |line| line.absent)
}

pub fn hold(database: pg_sys::Oid) {
    with_line(database, |line| {
        line.held_by = std::process::id() as i32;
        line.dismissed = line.worker != 0;
    });
}

/// Whether the worker that ended had been told to.
pub fn take_dismissal(database: pg_sys::Oid) -> bool {
    with_line(database, |line| std::mem::take(&mut line.dismissed))
}

/// Gives back whatever this session holds.
pub fn release_all() {
    if !is_preloaded() {
        return;
    }
    let me = std::process::id() as i32;
    for line in BOARD.exclusive().lines.iter_mut().filter(|line| line.held_by == me) {
        line.held_by = 0;
    }
}

/// Whether a session that still lives wants the database for itself.
pub fn is_held(database: pg_sys::Oid) -> bool {
    let holder = with_line(database, |line| line.held_by);
    // SAFETY: looks the process up in the process array.
    holder != 0 && unsafe { !pg_sys::BackendPidGetProc(holder).is_null() }
}

/// Forgets a database that is no more.
pub fn forget(database: pg_sys::Oid) {
    with_line(database, |line| *line = Line::default());
}

/// The workers that the board knows of and that still run. When the launcher starts, these are those of a launcher
/// that died; nobody would look after them.
pub fn living_workers() -> Vec<i32> {
    if !is_preloaded() {
        return Vec::new();
    }
    let workers: Vec<i32> = BOARD.share().lines.iter().map(|line| line.worker).filter(|worker| *worker != 0).collect();
    // SAFETY: looks processes up in the process array, after the board's lock was given back.
    workers.into_iter().filter(|worker| unsafe { !pg_sys::BackendPidGetProc(*worker).is_null() }).collect()
}
