//! What is told of a panic: where it happened, and not what it said.
//!
//! The words of a panic quote what was in hand: `&text[3..]` quotes the text, `unwrap` the error. Where secrets are in
//! memory they must reach neither the log, nor a table, nor whoever called:
//! - on a thread of its own Rust would write them to stderr, which is the server's log; the hook writes the place instead
//! - on the main thread pgrx would make them the message of an ERROR; [`speechless`] makes it one that tells the place
//! - a unit of work that fails tells [`of`] what it caught
//!
//! Words that stand in the source as they are, with nothing put into them, are shown.
//!
//! Tested in `tests/integration/tests/all/panics.rs`, by panics of the real code in a libc that lies to it.

use std::any::Any;
use std::cell::Cell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo, set_hook, take_hook};

use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgLogLevel, PgSqlErrorCode, PgTryBuilder};

thread_local! {
    /// Where this thread last panicked.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Once, when the library is loaded: pgrx has put its own hook in place by then.
pub fn install() {
    let pgrxs = take_hook();
    // SAFETY: a plain call. In each process that Postgres forks the main thread keeps this name.
    let main = unsafe { libc::pthread_self() };
    set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        // SAFETY: a plain call.
        if unsafe { libc::pthread_self() } == main {
            // Every ERROR that passes comes by here; what it says is Postgres' to show.
            if is_text(panic.payload()) {
                PLACE.set(place(panic));
            }
            pgrxs(panic);
        } else {
            let line = format!("pg_calsync: a thread {}\n", told(place(panic), panic.payload()));
            // At once, lest somebody else's line begins in the middle of it. Where it fails nobody can be told.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }));
}

/// pgrx puts a backtrace into DETAIL, with paths of the sources, where the server's environment has RUST_BACKTRACE set; an
/// error is for whoever asked, who is nobody's debugger. The standard library looks once whether it is to capture any,
/// and remembers: it looks while the environment says no, which is then as it was.
pub fn show_no_backtraces() {
    const VARIABLE: &str = "RUST_LIB_BACKTRACE";
    let before = std::env::var_os(VARIABLE);
    // SAFETY: a library is loaded on the only thread of the postmaster, or of a backend: nobody else reads the environment.
    unsafe { std::env::set_var(VARIABLE, "0") };
    drop(std::backtrace::Backtrace::capture());
    // SAFETY: as above.
    unsafe {
        match before {
            Some(value) => std::env::set_var(VARIABLE, value),
            None => std::env::remove_var(VARIABLE),
        }
    }
}

/// Runs what has secrets in hand: a panic in it becomes an ERROR that says where it was.
pub fn speechless<T>(work: impl FnOnce() -> T) -> T {
    PgTryBuilder::new(AssertUnwindSafe(work))
        .catch_rust_panic(|caught| {
            ErrorReport::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, format!("pg_calsync {}", of(&caught)), "")
                .set_hint("This is a bug in pg_calsync: please report it with the server log.")
                .report(PgLogLevel::ERROR);
            unreachable!("an ERROR does not return")
        })
        .execute()
}

/// Runs what touches nothing of Postgres': a panic in it is told as a failure, and work goes on.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| told(PLACE.take(), payload.as_ref()))
}

/// What may be told of what was caught: an ERROR's message, or where a panic was.
pub fn of(caught: &CaughtError) -> String {
    match caught {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report.message().to_owned(),
        CaughtError::RustPanic { payload, .. } => told(PLACE.take(), payload.as_ref()),
    }
}

fn told(place: Option<String>, payload: &(dyn Any + Send)) -> String {
    let place = place.unwrap_or_else(|| "an unknown place".to_owned());
    match payload.downcast_ref::<&'static str>() {
        Some(literal) => format!("panicked at {place}: {literal}"),
        None => format!("panicked at {place}; what it said is not shown, for it may quote a secret"),
    }
}

fn place(panic: &PanicHookInfo<'_>) -> Option<String> {
    panic.location().map(ToString::to_string)
}

fn is_text(payload: &(dyn Any + Send)) -> bool {
    payload.is::<&'static str>() || payload.is::<String>()
}
