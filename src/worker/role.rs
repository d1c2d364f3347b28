//! As whom the worker works: a role that is no superuser, and whose settings nobody but us decides.
//!
//! The owner of a database may set almost anything for it (ALTER DATABASE .. SET), and whoever may alter the role, for
//! that: a path on which somebody's operators come before Postgres', read-only transactions, a timeout of a millisecond.
//! None of it is in force in the worker.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{FromDatum, PgLogLevel, PgSqlErrorCode};

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

const TOO_MUCH: &str =
    "What the worker runs on behalf of others must have no more rights than it takes to keep their calendars.";

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
    /// It would have rights that the worker shall not have, whoever found a way to use them.
    MayDoTooMuch {
        role: String,
        attribute: &'static str,
    },
    /// The same, by way of another role that it may become.
    IsMemberOf {
        role: String,
        other: String,
        /// What the other is.
        attribute: &'static str,
    },
    MayNotConnect {
        role: String,
        database: String,
    },
}

impl Refusal {
    /// In the server's log, where somebody must do something about it.
    pub fn tell(&self) {
        if matches!(self, Refusal::NoRole { ours: true, .. }) {
            return;
        }
        let code = match self {
            Refusal::NoRole { .. } => PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            Refusal::MayNotLogIn { .. } => PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
            Refusal::MayDoTooMuch { .. } | Refusal::IsMemberOf { .. } => {
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE
            }
            Refusal::MayNotConnect { .. } => PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        };
        let (message, detail, hint) = self.told();
        warn(code, message, detail, &hint);
    }

    /// What is in the way, why, and what to do about it.
    pub fn told(&self) -> (String, &'static str, String) {
        match self {
            Refusal::NoRole { role, .. } => (
                format!("no worker: role \"{role}\", which calsync.worker_role names, does not exist"),
                "The worker connects as a role of its own, which owns or may write the calendars.",
                format!(
                    "CREATE ROLE \"{role}\" LOGIN CONNECTION LIMIT 0 IN ROLE calsync_worker; or unset the setting."
                ),
            ),
            Refusal::MayNotLogIn { role } => (
                format!("no worker: role \"{role}\" is not permitted to log in"),
                "Postgres demands that of a background worker's role.",
                format!(
                    "ALTER ROLE \"{role}\" LOGIN CONNECTION LIMIT 0; the limit keeps everybody but the worker out."
                ),
            ),
            Refusal::MayDoTooMuch { role, attribute } => (
                format!("no worker: role \"{role}\", which calsync.worker_role names, is {attribute}"),
                TOO_MUCH,
                format!(
                    "Unset calsync.worker_role, or ALTER ROLE \"{role}\" NOSUPERUSER NOCREATEROLE NOBYPASSRLS \
                     NOREPLICATION NOCREATEDB;"
                ),
            ),
            Refusal::IsMemberOf { role, other, attribute } => (
                format!(
                    "no worker: role \"{role}\", which calsync.worker_role names, is a member of \"{other}\", {attribute}"
                ),
                TOO_MUCH,
                format!("REVOKE \"{other}\" FROM \"{role}\", or from the role through which it is a member."),
            ),
            Refusal::MayNotConnect { role, database } => (
                format!("no worker for database \"{database}\": role \"{role}\" may not connect to it"),
                "CONNECT is not granted to PUBLIC there, and a copy of a database has privileges of its own.",
                format!(
                    "GRANT CONNECT ON DATABASE \"{database}\" TO \"{role}\"; if it has calendars that are to be synced."
                ),
            ),
        }
    }
}

fn warn(code: PgSqlErrorCode, message: String, detail: &str, hint: &str) {
    ErrorReport::new(code, format!("pg_calsync: {message}"), "")
        .set_detail(detail.to_owned())
        .set_hint(hint.to_owned())
        .report(PgLogLevel::WARNING);
}

/// What `CREATE ROLE` gave a role, as far as it concerns us.
struct Attributes {
    may_log_in: bool,
    /// More than the worker shall have.
    too_much: Option<&'static str>,
}

const CREATES_DATABASES: &str = "allowed to create databases (CREATEDB)";

impl Attributes {
    /// None: there is no such role. In a transaction.
    fn of(role: pg_sys::Oid) -> Option<Self> {
        // SAFETY: a look-up in a shared catalog; the tuple is released after its flags were read.
        unsafe {
            let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::AUTHOID as i32, pg_sys::Datum::from(role));
            if tuple.is_null() {
                return None;
            }
            let found = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_authid>();
            let too_much = [
                (found.rolsuper, "a superuser"),
                (found.rolcreaterole, "allowed to make and become roles (CREATEROLE)"),
                (found.rolbypassrls, "exempt from row security (BYPASSRLS)"),
                (found.rolreplication, "allowed to read all that is written (REPLICATION)"),
                (found.rolcreatedb, CREATES_DATABASES),
            ];
            let attributes = Attributes {
                may_log_in: found.rolcanlogin,
                too_much: too_much.into_iter().find(|(is_so, _)| *is_so).map(|(_, attribute)| attribute),
            };
            pg_sys::ReleaseSysCache(tuple);
            Some(attributes)
        }
    }
}

/// Predefined roles whose members reach what has nothing to do with calendars: files, programs, other tables.
const MIGHTY: [u32; 5] = [
    pg_sys::ROLE_PG_EXECUTE_SERVER_PROGRAM,
    pg_sys::ROLE_PG_READ_SERVER_FILES,
    pg_sys::ROLE_PG_WRITE_SERVER_FILES,
    pg_sys::ROLE_PG_READ_ALL_DATA,
    pg_sys::ROLE_PG_WRITE_ALL_DATA,
];

/// What is too much about a role of which the worker's is a member.
fn might_of(role: pg_sys::Oid) -> Option<&'static str> {
    if MIGHTY.contains(&role.to_u32()) {
        return Some("a role of Postgres with rights beyond the calendars");
    }
    // No transaction of the worker's could create a database as another role, and who has the admin option of a role that may
    // create some could make the worker's role a member of it, and so stop it for all.
    Attributes::of(role)?.too_much.filter(|attribute| *attribute != CREATES_DATABASES)
}

/// The place of `pg_auth_members.roleid`.
const ROLE_OF_MEMBERSHIP: pg_sys::AttrNumber = 1;

/// The roles that a role was made a member of, not those that these are members of.
fn joined(member: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: a look-up in a shared catalog; the list is released after it was copied.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::AUTHMEMMEMROLE as i32;
        let (member, unused) = (pg_sys::Datum::from(member), pg_sys::Datum::from(0));
        let list = pg_sys::SearchSysCacheList(cache, 1, member, unused, unused);
        let entries = (*list).members.as_slice((*list).n_members.max(0) as usize);
        let role_of = |entry: &*mut pg_sys::CatCTup| {
            let (tuple, mut is_null) = (&raw mut (**entry).tuple, false);
            let role = pg_sys::SysCacheGetAttr(cache, tuple, ROLE_OF_MEMBERSHIP, &mut is_null);
            pg_sys::Oid::from_datum(role, is_null)
        };
        let joined = entries.iter().filter_map(role_of).collect();
        pg_sys::ReleaseCatCacheList(list);
        joined
    }
}

/// What a role may do that the worker's shall not: itself, or as another that it is a member of, whether it inherits from
/// that or must become it first.
///
/// Memberships without might are let be: whoever may grant a role, be it his team's, may grant it to the worker's, which is
/// not asked; nobody shall be able to stop the worker with that.
fn excess_of(role: pg_sys::Oid) -> Option<Refusal> {
    if let Some(attribute) = Attributes::of(role)?.too_much {
        return Some(Refusal::MayDoTooMuch { role: owner::role_name(role), attribute });
    }
    let mut all = vec![role];
    let mut looked_at = 0;
    while let Some(member) = all.get(looked_at).copied() {
        looked_at += 1;
        for other in joined(member) {
            if all.contains(&other) {
                continue;
            }
            if let Some(attribute) = might_of(other) {
                let (role, other) = (owner::role_name(role), owner::role_name(other));
                return Some(Refusal::IsMemberOf { role, other, attribute });
            }
            all.push(other);
        }
    }
    None
}

/// Whether the role that this process is connected as has come to have more rights than it shall. In a transaction.
pub fn excess() -> Option<Refusal> {
    excess_of(owner::caller())
}

/// Whether Postgres would let the worker into this database; it would say so only by ending the process. In a
/// transaction, which may be one of the launcher's, connected to no database.
pub fn refusal(database: pg_sys::Oid, database_name: &CStr) -> Option<Refusal> {
    let name = settings::worker_role();
    let role = name.to_string_lossy().into_owned();
    // SAFETY: look-ups in shared catalogs.
    unsafe {
        let oid = pg_sys::get_role_oid(name.as_ptr(), true);
        if oid == pg_sys::InvalidOid {
            return Some(Refusal::NoRole { ours: name.as_c_str() == settings::DEFAULT_WORKER_ROLE, role });
        }
        let attributes = Attributes::of(oid)?;
        if let Some(refusal) = excess_of(oid) {
            return Some(refusal);
        }
        if !attributes.may_log_in {
            return Some(Refusal::MayNotLogIn { role });
        }
        let connect = pg_sys::pg_database_aclcheck(database, oid, pg_sys::ACL_CONNECT);
        (connect != pg_sys::AclResult::ACLCHECK_OK)
            .then(|| Refusal::MayNotConnect { role, database: database_name.to_string_lossy().into_owned() })
    }
}

/// The same of the database that this process is connected to.
pub fn refusal_here() -> Option<Refusal> {
    // SAFETY: in a transaction; the name is a palloc'd C string, or null where the database is just being dropped.
    unsafe {
        let database = pg_sys::MyDatabaseId;
        let name = pg_sys::get_database_name(database);
        if name.is_null() { None } else { refusal(database, CStr::from_ptr(name)) }
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
        "They belong to calsync_worker.",
        &format!("GRANT calsync_worker TO \"{role}\";"),
    );
}
