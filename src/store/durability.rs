//! Transactions that may be lost in a crash, since what they say is found out again: their commit waits for no disk.

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::pg_sys;

use super::owner::set;

/// Of the unit of work that is under way in this process.
static NEED_NOT_LAST: AtomicBool = AtomicBool::new(false);

/// Said inside a unit of work, whose own settings are undone with the switch of user around it (see [`super::owner`]).
pub fn need_not_last() {
    NEED_NOT_LAST.store(true, Ordering::Relaxed);
}

/// Before a unit of work: nothing of the kind has been said.
pub fn begin() {
    NEED_NOT_LAST.store(false, Ordering::Relaxed);
}

/// After it, and before the commit.
pub fn end() {
    if NEED_NOT_LAST.swap(false, Ordering::Relaxed) {
        // The transaction's end undoes it.
        set(c"synchronous_commit", c"off", pg_sys::GucAction::GUC_ACTION_LOCAL);
    }
}
