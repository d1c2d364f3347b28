//! What the server would write down about a statement that carries a secret, made fit to be read.
//!
//! A secret passed as a literal is part of the statement's text, and Postgres shows that text: in the log when the
//! statement fails, and in `pg_stat_activity`. Of statements that name `calsync_add_credential` it shall show nothing
//! of it:
//! - inside the function, [`while_redacted`] hides statement and context of any error, whoever called it and how
//! - where the statement fails before the function is reached (a typing error, text that is no JSON), a hook of the log
//!   does the same, as far as the library is loaded by then
//!
//! What the server is told to log of every statement (`log_statement`, `log_min_duration_statement`) is left alone: it
//! is the administrator's audit trail. docs/google.md says how to pass a secret so that it never is in a statement.

use std::ffi::{CStr, c_char, c_int, c_void};

use pgrx::{PgLogLevel, pg_sys};

use crate::error::Error;

const FUNCTION: &[u8] = b"calsync_add_credential";
/// What `pg_stat_activity` shows instead of the statement.
const SHOWN: &CStr = c"calsync_add_credential(...)";
/// What the log shows instead of a DETAIL.
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

/// Runs the body of `calsync_add_credential`: errors in it show neither the statement nor who called whom with what.
pub fn while_redacted<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
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
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, SHOWN.as_ptr());
        let previous = pg_sys::error_context_stack;
        CALLBACK = pg_sys::ErrorContextCallback { previous, callback: Some(hide), arg: std::ptr::null_mut() };
        pg_sys::error_context_stack = &raw mut CALLBACK;
        let result = work();
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
        let texts = [pg_sys::debug_query_string, error.context.cast_const(), error.internalquery.cast_const()];
        if texts.into_iter().any(|text| names_function(text)) {
            error.hide_stmt = true;
            error.hide_ctx = true;
            error.internalquery = std::ptr::null_mut();
            error.internalpos = 0;
            if !is_ours(error.sqlerrcode) {
                hide_details(error);
            }
            if error.elevel >= PgLogLevel::ERROR as c_int {
                pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, SHOWN.as_ptr());
            }
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
    let text = unsafe { CStr::from_ptr(text) }.to_bytes();
    text.windows(FUNCTION.len()).any(|window| window.eq_ignore_ascii_case(FUNCTION))
}

/// Raised by the function itself, with texts that hold no secret: of class SC, or about an argument (22004, 22023).
fn is_ours(sqlstate: c_int) -> bool {
    let ours = [packed(b"22004"), packed(b"22023")];
    // The class is in the lower twelve bits.
    sqlstate & 0xfff == packed(b"SC000") & 0xfff || ours.contains(&sqlstate)
}

/// MAKE_SQLSTATE of elog.h: six bits a character.
pub fn packed(code: &[u8; 5]) -> c_int {
    code.iter().rev().fold(0, |packed, byte| packed << 6 | c_int::from((byte - b'0') & 0x3f))
}

/// The detail of an error about a literal quotes it, and so does the message of one about its syntax; the detail of a
/// statement that is logged are its parameters.
///
/// # Safety
/// `error` is under Postgres' care, in its error context.
unsafe fn hide_details(error: &mut pg_sys::ErrorData) {
    // SAFETY: strings that Postgres may pfree as it does its own; the message is cut in place, within its length.
    unsafe {
        if !error.detail.is_null() || !error.detail_log.is_null() {
            error.detail_log = pg_sys::MemoryContextStrdup(error.assoc_context, HIDDEN.as_ptr());
        }
        let is_about_a_literal =
            error.sqlerrcode == packed(b"42601") || error.sqlerrcode & 0xfff == packed(b"22000") & 0xfff;
        if is_about_a_literal && !error.message.is_null() {
            let length = CStr::from_ptr(error.message).count_bytes();
            let text = std::slice::from_raw_parts_mut(error.message.cast::<u8>(), length);
            if let Some(quote) = text.iter().position(|byte| *byte == b'"') {
                text[quote] = 0;
            }
        }
    }
}
