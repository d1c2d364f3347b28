//! pg_calsync: people's calendars inside Postgres.
//!
//! This crate is the doing half: SQL in and out, the tables, the worker, the HTTP threads. What anything *means* is
//! decided in `calsync-core`. The way of the data is one direction:
//!
//! ```text
//! engine (asks the provider) -> calsync-core (what does the answer mean) -> store (one transaction)
//!        -> calsync-core (what is busy) -> store (derived rows) -> api (the question)
//! ```
//!
//! - [`api`]: the SQL functions, one file a topic; the only place where an [`error::Error`] is raised
//! - [`store`]: every SQL statement that touches the tables
//! - [`engine`]: rounds of syncing, shared by the worker and by `CALL calsync_run()`
//! - [`seal`]: secrets at rest, and the keys that open them
//! - [`worker`]: the launcher, one worker a database, and what wakes or stops them

mod api;
mod engine;
mod error;
mod panics;
mod redact;
mod rs256;
mod seal;
mod settings;
mod sqlstate;
mod store;
mod worker;

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name, version);

extension_sql_file!("../sql/schema.sql", name = "schema", bootstrap);
extension_sql_file!("../sql/functions.sql", name = "functions", requires = ["schema"]);
extension_sql_file!("../sql/views.sql", name = "views", requires = ["functions"]);
extension_sql_file!("../sql/operations.sql", name = "operations", requires = ["views"]);
extension_sql_file!("../sql/roles.sql", name = "roles", requires = ["operations"]);
extension_sql_file!("../sql/grants.sql", name = "grants", requires = ["roles"], finalize);

#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    panics::install();
    panics::show_no_backtraces();
    settings::define();
    redact::install();
    worker::register();
}
