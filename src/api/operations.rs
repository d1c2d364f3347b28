//! `calsync_version`, and what the extension script calls.

use pgrx::prelude::*;

use crate::worker;

#[pg_extern(sql = false)]
fn calsync_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Called by the last line of the extension script.
#[pg_extern(sql = false)]
fn calsync_announce() {
    worker::wake::launcher_at_commit();
}
