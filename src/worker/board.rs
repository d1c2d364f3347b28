//! What launcher, workers and sessions tell each other, in shared memory: one line a database of which there is
//! something to tell.
//!
//! There is a line for every worker that can run. A database that nobody serves, holds or announces has none, so that it
//! does not matter how many of these there are.

use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgLwLock, PgSharedMemoryInitialization, pg_shmem_init, pg_sys};

use super::is_preloaded;

/// Lines for databases without a worker, which sessions hold or announced the extension in. More than that are not
/// written down: an announcement then becomes one for all databases, and who holds a database may find a worker in it that
/// just looks whether it has the extension, which leaves by itself.
const NOTES: usize = 8;

#[derive(Debug, Clone, Copy, Default)]
struct Line {
    database: u32,
    /// Of the worker; 0: none runs.
    worker: i32,
    /// A session that wants the database for itself; 0: none does.
    held_by: i32,
    /// The extension was created here since the launcher last looked.
    announced: bool,
    /// How the worker ended, or will; the launcher takes it when it has.
    ending: Ending,
    report: Report,
}

impl Line {
    /// Nothing to tell: another database may have it.
    fn is_free(&self) -> bool {
        self.worker == 0 && self.held_by == 0 && !self.announced && self.ending == Ending::default()
    }

    /// It tells of no worker, running or ended.
    fn is_note(&self) -> bool {
        self.worker == 0 && self.ending == Ending::default() && !self.is_free()
    }
}

/// What is to be known of a worker that ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ending {
    /// It had found the extension.
    pub found: bool,
    /// It found no extension, or none any more.
    pub absent: bool,
    /// It was told to leave.
    pub dismissed: bool,
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

/// Where the extension was created.
#[derive(Debug, Default)]
pub struct Announcements {
    pub databases: Vec<pg_sys::Oid>,
    /// And where else it could not be written down.
    pub elsewhere: bool,
}

#[derive(Debug, Clone, Copy)]
struct Board {
    launcher: i32,
    /// An announcement found no line.
    announced_elsewhere: bool,
    /// In shared memory, too, which is at the same address in every process.
    lines: *mut Line,
    length: usize,
}

// SAFETY: plain numbers, and a pointer into shared memory that never changes; the same for every process.
unsafe impl PGRXSharedMemory for Board {}

/// The board and its lines, whose number is known only when the server starts.
struct Memory(PgLwLock<Board>);

// SAFETY: the lock guards the board, and with it the lines.
unsafe impl Sync for Memory {}

// SAFETY: initialized by `register` while the library is preloaded; `is_preloaded` guards every access.
static BOARD: Memory = Memory(unsafe { PgLwLock::new(c"calsync board") });

/// Workers that run, and as many again that have ended since the launcher last looked, which then starts no more than
/// can run.
fn length() -> usize {
    // SAFETY: a setting that is fixed before shared memory is asked for.
    let workers = unsafe { pg_sys::max_worker_processes };
    2 * workers.max(0) as usize + NOTES
}

impl PgSharedMemoryInitialization for Memory {
    type Value = ();

    unsafe fn on_shmem_request(&'static self) {
        // SAFETY: in the hook for it, as the caller promises.
        unsafe {
            pg_sys::RequestAddinShmemSpace(length() * size_of::<Line>());
            self.0.on_shmem_request();
        }
    }

    unsafe fn on_shmem_startup(&'static self, (): ()) {
        let length = length();
        let mut found = false;
        // SAFETY: in the hook for it, in the postmaster, which is alone; the memory is as large as was asked for, and is
        // written whole before anybody reads it.
        unsafe {
            let lines = pg_sys::ShmemInitStruct(c"calsync lines".as_ptr(), length * size_of::<Line>(), &mut found);
            let lines = lines.cast::<Line>();
            assert!(lines.is_aligned(), "shared memory is not aligned");
            for index in 0..length {
                lines.add(index).write(Line::default());
            }
            self.0.on_shmem_startup(Board { launcher: 0, announced_elsewhere: false, lines, length });
        }
    }
}

pub fn register() {
    pg_shmem_init!(BOARD);
}

impl Board {
    fn lines(&self) -> &[Line] {
        // SAFETY: as many lines as were initialized; who has the board has its lock.
        unsafe { std::slice::from_raw_parts(self.lines, self.length) }
    }

    fn lines_mut(&mut self) -> &mut [Line] {
        // SAFETY: as above, with the exclusive lock.
        unsafe { std::slice::from_raw_parts_mut(self.lines, self.length) }
    }

    fn line(&self, database: pg_sys::Oid) -> Option<&Line> {
        self.lines().iter().find(|line| line.database == database.to_u32() && !line.is_free())
    }

    /// The line of a database, if there is something to tell of it.
    fn line_mut(&mut self, database: pg_sys::Oid) -> Option<&mut Line> {
        self.lines_mut().iter_mut().find(|line| line.database == database.to_u32() && !line.is_free())
    }

    /// The line of a database, where there is none a new one, in place of a note if need be: a worker always has one.
    fn line_for_a_worker(&mut self, database: pg_sys::Oid) -> Option<&mut Line> {
        if self.line(database).is_some() {
            return self.line_mut(database);
        }
        let lines = self.lines();
        let index = lines.iter().position(Line::is_free).or_else(|| lines.iter().position(Line::is_note))?;
        self.announced_elsewhere |= lines[index].announced;
        let line = &mut self.lines_mut()[index];
        *line = Line { database: database.to_u32(), ..Line::default() };
        Some(line)
    }

    /// The same, but for notes there are only so many.
    fn line_for_a_note(&mut self, database: pg_sys::Oid) -> Option<&mut Line> {
        let notes = self.lines().iter().filter(|line| line.is_note()).count();
        if self.line(database).is_none() && notes >= NOTES {
            return None;
        }
        self.line_for_a_worker(database)
    }
}

/// What the line of a database tells; the default where there is none.
fn read<T: Default>(database: pg_sys::Oid, look: impl FnOnce(&Line) -> T) -> T {
    if !is_preloaded() {
        return T::default();
    }
    BOARD.0.share().line(database).map(look).unwrap_or_default()
}

/// Changes the line of a database, if there is one.
fn change<T: Default>(database: pg_sys::Oid, change: impl FnOnce(&mut Line) -> T) -> T {
    if !is_preloaded() {
        return T::default();
    }
    BOARD.0.exclusive().line_mut(database).map(change).unwrap_or_default()
}

pub fn launcher_started() {
    BOARD.0.exclusive().launcher = std::process::id() as i32;
}

/// 0: none runs.
pub fn launcher() -> i32 {
    if is_preloaded() { BOARD.0.share().launcher } else { 0 }
}

pub fn worker_started(database: pg_sys::Oid) {
    if let Some(line) = BOARD.0.exclusive().line_for_a_worker(database) {
        line.worker = std::process::id() as i32;
        line.ending = Ending::default();
    }
}

/// The worker found the extension.
pub fn found(database: pg_sys::Oid) {
    change(database, |line| line.ending.found = true);
}

/// Whether the worker found the extension.
pub fn has_found(database: pg_sys::Oid) -> bool {
    read(database, |line| line.ending.found)
}

/// Shown by `calsync.stat_worker`.
pub fn report(database: pg_sys::Oid, report: Report) {
    change(database, |line| line.report = report);
}

/// Of the workers that run.
pub fn reports() -> Vec<Report> {
    if !is_preloaded() {
        return Vec::new();
    }
    let board = BOARD.0.share();
    let running = board.lines().iter().filter(|line| line.worker != 0 && line.report.pid == line.worker);
    running.map(|line| line.report).collect()
}

/// `absent`: the database has no extension, there is no need to come back.
pub fn worker_ended(database: pg_sys::Oid, absent: bool) {
    let me = std::process::id() as i32;
    change(database, |line| {
        if line.worker == me {
            line.worker = 0;
            line.ending.absent = absent;
        }
    });
}

/// 0: none runs.
pub fn worker(database: pg_sys::Oid) -> i32 {
    read(database, |line| line.worker)
}

/// How the worker that is no more ended. Asked once a worker.
pub fn take_ending(database: pg_sys::Oid) -> Ending {
    change(database, |line| std::mem::take(&mut line.ending))
}

pub fn announce(database: pg_sys::Oid) {
    if !is_preloaded() {
        return;
    }
    let mut board = BOARD.0.exclusive();
    match board.line_for_a_note(database) {
        Some(line) => line.announced = true,
        None => board.announced_elsewhere = true,
    }
}

/// Where the extension was created since this was last asked.
pub fn take_announcements() -> Announcements {
    let mut board = BOARD.0.exclusive();
    let elsewhere = std::mem::take(&mut board.announced_elsewhere);
    let mut databases = Vec::new();
    for line in board.lines_mut().iter_mut().filter(|line| line.announced) {
        line.announced = false;
        databases.push(pg_sys::Oid::from(line.database));
    }
    Announcements { databases, elsewhere }
}

pub fn hold(database: pg_sys::Oid) {
    if !is_preloaded() {
        return;
    }
    if let Some(line) = BOARD.0.exclusive().line_for_a_note(database) {
        line.held_by = std::process::id() as i32;
        line.ending.dismissed |= line.worker != 0;
    }
}

/// Gives back whatever this session holds.
pub fn release_all() {
    if !is_preloaded() {
        return;
    }
    let me = std::process::id() as i32;
    for line in BOARD.0.exclusive().lines_mut().iter_mut().filter(|line| line.held_by == me) {
        line.held_by = 0;
    }
}

/// Whether a session that still lives wants the database for itself.
pub fn is_held(database: pg_sys::Oid) -> bool {
    let holder = read(database, |line| line.held_by);
    // SAFETY: looks the process up in the process array.
    holder != 0 && unsafe { !pg_sys::BackendPidGetProc(holder).is_null() }
}

/// The workers that the board knows of and that still run. When the launcher starts, these are those of a launcher
/// that died; nobody would look after them.
pub fn living_workers() -> Vec<i32> {
    if !is_preloaded() {
        return Vec::new();
    }
    let workers: Vec<i32> =
        BOARD.0.share().lines().iter().map(|line| line.worker).filter(|worker| *worker != 0).collect();
    // SAFETY: looks processes up in the process array, after the board's lock was given back.
    workers.into_iter().filter(|worker| unsafe { !pg_sys::BackendPidGetProc(*worker).is_null() }).collect()
}

/// Where workers found the extension that have ended, and nobody took it: those of a launcher that died.
pub fn take_orphaned() -> Vec<pg_sys::Oid> {
    let mut board = BOARD.0.exclusive();
    let ended = board.lines_mut().iter_mut().filter(|line| line.worker == 0);
    let taken = ended.map(|line| (line.database, std::mem::take(&mut line.ending)));
    taken
        .filter(|(_, ending)| ending.found && !ending.absent)
        .map(|(database, _)| pg_sys::Oid::from(database))
        .collect()
}
