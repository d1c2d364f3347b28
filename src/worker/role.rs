//! As whom the worker works: a role that is no superuser, and whose settings nobody but us decides.
//!
//! The owner of a database may set almost anything for it (ALTER DATABASE .. SET), and whoever may alter the role, for
//! that: a path on which somebody's operators come before Postgres', read-only transactions, a timeout of a millisecond.
//! None of it is in force in the worker.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

use crate::settings;
use crate::store::owner;

/// What the worker's statements rely on, or what would harm them.
const SETTINGS: [(&CStr, &CStr); 18] = [
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"role", c"none"),
    (c"row_security", c"on"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_deferrable", c"off"),
    (c"statement_timeout", c"0"),
    (c"lock_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    (c"exit_on_error", c"off"),
    (c"standard_conforming_strings", c"on"),
    (c"transform_null_equals", c"off"),
    (c"array_nulls", c"on"),
    (c"datestyle", c"ISO, YMD"),
    (c"intervalstyle", c"postgres"),
    (c"timezone", c"UTC"),
    (c"default_tablespace", c""),
    (c"temp_tablespaces", c""),
];

/// Puts them in force, whatever the database and the role have set; reading the configuration again leaves them.
pub fn pin_settings() {
    for (name, value) in SETTINGS {
        // SAFETY: settings of Postgres 15 with values that they take; main thread, after the connection was made.
        unsafe {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
                pg_sys::GucAction::GUC_ACTION_SET,
                true,
                0,
                false,
            );
        }
    }
}

/// Why no worker can be started as the role of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    NoRole {
        role: String,
        /// The extension makes it: no database has the extension yet.
        ours: bool,
    },
    MayNotLogIn {
        role: String,
    },
    MayNotConnect {
        role: String,
        database: String,
    },
}

impl Refusal {
    /// In the server's log, where somebody must do something about it.
    pub fn tell(&self) {
        let (code, message, hint) = match self {
            Refusal::NoRole { ours: true, .. } => return,
            Refusal::NoRole { role, ours: false } => (
                PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                format!("no worker: role \"{role}\", which calsync.worker_role names, does not exist"),
                format!(
                    "CREATE ROLE \"{role}\" LOGIN CONNECTION LIMIT 0 IN ROLE calsync_worker; or unset the setting."
                ),
            ),
            Refusal::MayNotLogIn { role } => (
                PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
                format!("no worker: role \"{role}\" is not permitted to log in"),
                format!(
                    "ALTER ROLE \"{role}\" LOGIN CONNECTION LIMIT 0; the limit keeps everybody but the worker out."
                ),
            ),
            Refusal::MayNotConnect { role, database } => (
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("no worker for database \"{database}\": role \"{role}\" may not connect to it"),
                format!(
                    "GRANT CONNECT ON DATABASE \"{database}\" TO \"{role}\"; if it has calendars that are to be synced."
                ),
            ),
        };
        warn(code, message, &hint);
    }
}

fn warn(code: PgSqlErrorCode, message: String, hint: &str) {
    ErrorReport::new(code, format!("pg_calsync: {message}"), "").set_hint(hint.to_owned()).report(PgLogLevel::WARNING);
}

/// Whether Postgres would let the worker into this database; it would say so only by ending the process. In a
/// transaction, which may be one of the launcher's, connected to no database.
pub fn refusal(database: pg_sys::Oid, database_name: &CStr) -> Option<Refusal> {
    let name = settings::worker_role();
    let role = name.to_string_lossy().into_owned();
    // SAFETY: look-ups in shared catalogs; the tuple is released after the flag was read.
    unsafe {
        let oid = pg_sys::get_role_oid(name.as_ptr(), true);
        if oid == pg_sys::InvalidOid {
            return Some(Refusal::NoRole { ours: name.as_c_str() == settings::DEFAULT_WORKER_ROLE, role });
        }
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::AUTHOID as i32, pg_sys::Datum::from(oid));
        if tuple.is_null() {
            return None;
        }
        let may_log_in = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_authid>()).rolcanlogin;
        pg_sys::ReleaseSysCache(tuple);
        if !may_log_in {
            return Some(Refusal::MayNotLogIn { role });
        }
        let connect = pg_sys::pg_database_aclcheck(database, oid, pg_sys::ACL_CONNECT);
        (connect != pg_sys::AclResult::ACLCHECK_OK)
            .then(|| Refusal::MayNotConnect { role, database: database_name.to_string_lossy().into_owned() })
    }
}

/// Connects this process to a database as the role of the settings.
pub fn connect(database: &CStr) {
    let role: CString = settings::worker_role();
    // SAFETY: once in a background worker, which has asked for a connection.
    unsafe { pg_sys::BackgroundWorkerInitializeConnection(database.as_ptr(), role.as_ptr(), 0) };
    pin_settings();
}

/// Whether the role that the worker is connected as may write what belongs to the owner of the tables; said in the log
/// where it may not. In a transaction.
pub fn may_write() -> Result<bool, crate::error::Error> {
    owner::is_member_of_owner(owner::caller())
}

/// Tells who must be granted what.
pub fn complain_about_rights() {
    let role = settings::worker_role().to_string_lossy().into_owned();
    warn(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("calendars are not synced: role \"{role}\", which calsync.worker_role names, may not write them"),
        &format!("GRANT calsync_worker TO \"{role}\";"),
    );
}
