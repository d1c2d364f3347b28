//! SQLSTATEs of our own, class SC.

use std::ffi::{c_int, c_void};

use pgrx::pg_sys;

/// MAKE_SQLSTATE of elog.h: six bits a character.
pub fn packed(code: &[u8; 5]) -> c_int {
    code.iter().rev().fold(0, |packed, byte| packed << 6 | c_int::from((byte - b'0') & 0x3f))
}

/// pgrx knows only Postgres' own SQLSTATEs, but an error context callback runs while the error is being built and may
/// set another one, as SQL functions do for the cursor position. It is pushed here and runs once: raising the error
/// resets the callback stack to what it was at the surrounding PG_TRY.
pub fn give_next_error_the_sqlstate(code: &[u8; 5]) {
    unsafe extern "C-unwind" {
        fn errcode(sqlerrcode: c_int) -> c_int;
    }
    unsafe extern "C-unwind" fn set(packed: *mut c_void) {
        // SAFETY: called by errfinish() only, while the error under construction is on top of its stack.
        unsafe { errcode(packed as usize as c_int) };
    }
    static mut CALLBACK: pg_sys::ErrorContextCallback =
        pg_sys::ErrorContextCallback { previous: std::ptr::null_mut(), callback: None, arg: std::ptr::null_mut() };
    // SAFETY: API functions run on the backend's only Postgres thread; the static outlives the raise that follows.
    unsafe {
        CALLBACK = pg_sys::ErrorContextCallback {
            previous: pg_sys::error_context_stack,
            callback: Some(set),
            arg: packed(code) as usize as *mut c_void,
        };
        pg_sys::error_context_stack = &raw mut CALLBACK;
    }
}
