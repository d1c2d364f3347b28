//! What the server would write down about a statement that carries a secret, made fit to be read.
//!
//! A secret passed as a literal is part of the statement's text, and Postgres shows that text: in the log when the
//! statement fails, and in `pg_stat_activity`. Of statements that name `calsync_add_credential` it shall show nothing
//! of it:
//! - inside the function, [`while_redacted`] hides statement and context of any error, whoever called it and how; it does the
//!   same in others that refuse what they were given as a credential's name, since it looks like a secret
//! - where the statement fails before the function is reached (a typing error, text that is no JSON), a hook of the log
//!   does the same, and hides the message, which may quote anything in any language; as far as the library is loaded by then
//! - the same hook hides what other processes say of the statement: a deadlock's report, the report of a crash, a plan
//!
//! What the server is told to log of every statement (`log_statement`, `log_min_duration_statement`) is left alone: it
//! is the administrator's audit trail. docs/google.md says how to pass a secret so that it never is in a statement.

use std::ffi::{CStr, c_char, c_int, c_void};

use pgrx::{PgLogLevel, pg_sys};

use crate::error::Error;
use crate::panics::speechless;

const FUNCTION: &[u8] = b"calsync_add_credential";
/// What `pg_stat_activity` shows instead of the statement.
pub const SHOWN: &CStr = c"calsync_add_credential(...)";
/// What the log shows instead of a message or a DETAIL.
const HIDDEN: &CStr = c"Hidden: the statement names calsync_add_credential.";

unsafe extern "C-unwind" {
    fn errhidestmt(hide_stmt: bool) -> c_int;
    fn errhidecontext(hide_ctx: bool) -> c_int;
}

static mut PREVIOUS: pg_sys::emit_log_hook_type = None;

/// Once, when the library is loaded.
pub fn install() {
    // SAFETY: at library load, on the only thread; what was there is called by ours.
    unsafe {
        PREVIOUS = pg_sys::emit_log_hook;
        pg_sys::emit_log_hook = Some(before_it_is_logged);
    }
}

/// Runs what may have been given a secret: errors in it show neither the statement nor who called whom with what.
/// `shown`: what is shown instead of the statement, the function's name and `(...)`.
pub fn while_redacted<T>(shown: &'static CStr, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    unsafe extern "C-unwind" fn hide(_: *mut c_void) {
        // SAFETY: called by errfinish() only, while the error under construction is on top of its stack.
        unsafe {
            errhidestmt(true);
            errhidecontext(true);
        }
    }
    static mut CALLBACK: pg_sys::ErrorContextCallback =
        pg_sys::ErrorContextCallback { previous: std::ptr::null_mut(), callback: None, arg: std::ptr::null_mut() };
    // SAFETY: API functions run on the backend's only Postgres thread, and this one does not call itself; the static
    // outlives the call. Where an ERROR passes, and where one is about to be raised from what is returned here, the
    // callback stays, and raising it resets the stack to what it was at the surrounding PG_TRY.
    unsafe {
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, shown.as_ptr());
        // Parallel workers of a later statement in the same text would show what it points to; a constant outlives them.
        let function = shown.to_bytes().strip_suffix(b"(...)").unwrap_or(shown.to_bytes());
        if !pg_sys::debug_query_string.is_null() && holds(pg_sys::debug_query_string, function) {
            pg_sys::debug_query_string = shown.as_ptr();
        }
        let previous = pg_sys::error_context_stack;
        CALLBACK = pg_sys::ErrorContextCallback { previous, callback: Some(hide), arg: std::ptr::null_mut() };
        pg_sys::error_context_stack = &raw mut CALLBACK;
        let result = speechless(work);
        if result.is_ok() {
            pg_sys::error_context_stack = previous;
        }
        result
    }
}

/// Called with every message that is to be logged; allocates nothing but a line, and raises nothing.
unsafe extern "C-unwind" fn before_it_is_logged(message: *mut pg_sys::ErrorData) {
    // SAFETY: Postgres passes the message it is about to write, and lets hooks change it. Its texts are C strings or
    // null; debug_query_string is the statement under way, or null.
    unsafe {
        let error = &mut *message;
        let is_log = matches!(error.elevel as u32, pg_sys::LOG | pg_sys::LOG_SERVER_ONLY);
        // Raised inside the function: its own errors hide the statement already, and hold no secret.
        let is_ours = error.hide_stmt && !is_log;
        let around = [pg_sys::debug_query_string, error.context.cast_const(), error.internalquery.cast_const()];
        let within = [error.detail.cast_const(), error.detail_log.cast_const()];
        let is_about_it = around.into_iter().any(|text| names_function(text));
        if is_about_it {
            error.hide_stmt = true;
            error.hide_ctx = true;
            error.internalquery = std::ptr::null_mut();
            error.internalpos = 0;
            if error.elevel >= PgLogLevel::ERROR as c_int {
                pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, SHOWN.as_ptr());
            }
        }
        if !is_ours && (is_about_it || within.into_iter().any(|text| names_function(text))) {
            hide_detail(error);
        }
        // Of what is logged of every statement the text stays; a plan has parameters in it, and a debug message steps.
        let may_quote = match error.elevel as u32 {
            pg_sys::LOG | pg_sys::LOG_SERVER_ONLY => is_plan(error.message),
            level if level < pg_sys::LOG => names_function(error.message),
            _ => is_about_it && !is_ours,
        };
        if may_quote {
            hide_message(error);
        }
        if let Some(previous) = PREVIOUS {
            previous(message);
        }
    }
}

/// # Safety
/// `text` is a C string or null.
unsafe fn names_function(text: *const c_char) -> bool {
    if text.is_null() {
        return false;
    }
    // SAFETY: as the caller holds.
    unsafe { holds(text, FUNCTION) }
}

/// # Safety
/// `text` is a C string.
unsafe fn holds(text: *const c_char, part: &[u8]) -> bool {
    // SAFETY: as the caller holds.
    let text = unsafe { CStr::from_ptr(text) }.to_bytes();
    text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

/// A message of auto_explain about a statement that names the function.
///
/// # Safety
/// `message` is a C string or null.
unsafe fn is_plan(message: *const c_char) -> bool {
    // SAFETY: as the caller holds.
    unsafe { names_function(message) && holds(message, b"  plan:\n") }
}

/// The detail of an error about a literal quotes it; that of a statement that is logged are its parameters; that of a
/// deadlock or a crash is somebody else's statement.
///
/// # Safety
/// `error` is under Postgres' care, in its error context.
unsafe fn hide_detail(error: &mut pg_sys::ErrorData) {
    // SAFETY: a string that Postgres may pfree as it does its own.
    unsafe {
        if !error.detail.is_null() || !error.detail_log.is_null() {
            error.detail_log = pg_sys::MemoryContextStrdup(error.assoc_context, HIDDEN.as_ptr());
        }
    }
}

/// Messages quote what was typed, each language in its own marks: nothing of them stays but the SQLSTATE.
///
/// # Safety
/// As [`hide_detail`].
unsafe fn hide_message(error: &mut pg_sys::ErrorData) {
    // SAFETY: as in `hide_detail`.
    unsafe { error.message = pg_sys::MemoryContextStrdup(error.assoc_context, HIDDEN.as_ptr()) };
}
