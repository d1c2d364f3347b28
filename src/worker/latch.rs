//! Waiting, interruptibly.

use std::ffi::c_long;
use std::os::fd::RawFd;
use std::time::Duration;

use pgrx::pg_sys;

/// Waits for this process's latch, for `socket` to become readable, or for the time to pass, whichever is first, and
/// then lets Postgres interrupt us: cancel, terminate, a barrier of another backend. Ends with the postmaster.
pub fn wait_for(socket: Option<RawFd>, timeout: Option<Duration>) {
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH;
    if socket.is_some() {
        events |= pg_sys::WL_SOCKET_READABLE;
    }
    let millis = timeout.map(|timeout| {
        events |= pg_sys::WL_TIMEOUT;
        // Rounded up: waking a little early would only mean waiting once more.
        c_long::try_from(timeout.as_millis() + 1).unwrap_or(c_long::MAX).min(86_400_000)
    });
    // SAFETY: MyLatch is set in every process that runs this; the socket is open for as long as its owner waits.
    unsafe {
        pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events as i32,
            socket.unwrap_or(pg_sys::PGINVALID_SOCKET),
            millis.unwrap_or(-1),
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}
