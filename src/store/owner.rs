//! Doing things with the rights of the tables' owner, on behalf of whoever called.
//!
//! The tables are closed to everybody; the API functions check whose calendar is meant and then read and write as the
//! owner, `calsync_worker`, who owns nothing else and is no superuser. SECURITY DEFINER would hide from us who called, so
//! the switch is made here, as Postgres' own foreign-key triggers make it. The caller's `search_path` must not be in force
//! meanwhile: it could put an operator of the caller's before ours.
//!
//! Nor shall whoever owns the tables reach those who call: what he might hang on them (a trigger, a constraint) runs with
//! the owner's rights, and is a security-restricted operation, as when Postgres builds an index: it cannot leave a deferred
//! trigger behind that would run as the caller once the switch is undone, and what it sets is undone with the switch.

use std::ffi::{CStr, c_int};

use pgrx::pg_sys;

use crate::error::Error;
use crate::seal::trouble::Place;

/// Runs `work` as the owner of the tables, with `search_path` pinned. An ERROR inside undoes both with the
/// (sub)transaction, as Postgres does for every such switch.
pub fn as_owner<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    with_settings(&[SEARCH_PATH, NO_JIT], work)
}

const SEARCH_PATH: (&CStr, &CStr) = (c"search_path", c"pg_catalog, pg_temp");

/// Compiling a statement takes a hundred times longer than any of ours runs.
const NO_JIT: (&CStr, &CStr) = (c"jit", c"off");

/// What writes reaches its rows through the index made for it. Left to itself the planner would guess: plans are made
/// while a calendar's rows are being written for the first time, when there are no statistics, and are kept; a sort or a
/// bitmap that is cheap for the ten rows it expects is not for 100,000.
const BY_INDEX: [(&CStr, &CStr); 3] =
    [(c"enable_seqscan", c"off"), (c"enable_bitmapscan", c"off"), (c"enable_sort", c"off")];

/// [`as_owner`], for work that writes.
pub fn as_writer<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let [seqscan, bitmapscan, sort] = BY_INDEX;
    with_settings(&[SEARCH_PATH, NO_JIT, seqscan, bitmapscan, sort], work)
}

const SWITCHED: u32 = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;

/// What a caller may have asked to be told would be sent to him while rows are locked, and wait for him to read it.
const SILENT: [(&CStr, &CStr); 4] = [
    (c"client_min_messages", c"error"),
    (c"debug_print_parse", c"off"),
    (c"debug_print_rewritten", c"off"),
    (c"debug_print_plan", c"off"),
];

/// For work in somebody's session on behalf of all others: until the transaction ends nothing is sent to him. Postgres tells
/// of the end itself, while the rows are locked; hence this lasts longer than [`as_writer`].
pub fn be_silent() {
    for (name, value) in SILENT {
        set(name, value, pg_sys::GucAction::GUC_ACTION_LOCAL);
    }
}

pub(super) fn set(name: &CStr, value: &CStr, action: pg_sys::GucAction::Type) {
    // SAFETY: a plain call on the main thread, with a setting that anybody may make.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            action,
            true,
            0,
            false,
        );
    }
}

fn with_settings<T>(settings: &[(&CStr, &CStr)], work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    lock_first()?;
    let owner = table_owner()?;
    let mut caller = pg_sys::InvalidOid;
    let mut context: c_int = 0;
    // SAFETY: plain calls on the main thread, undone below in reverse order; a raised ERROR leaves them to the abort of
    // the (sub)transaction, which restores user id and settings.
    let nest_level = unsafe {
        pg_sys::GetUserIdAndSecContext(&mut caller, &mut context);
        pg_sys::SetUserIdAndSecContext(owner, context | SWITCHED as c_int);
        let nest_level = pg_sys::NewGUCNestLevel();
        for (name, value) in settings {
            set(name, value, pg_sys::GucAction::GUC_ACTION_SAVE);
        }
        nest_level
    };
    let result = work();
    // SAFETY: as above; `nest_level` and `caller` are what was in force on entry.
    unsafe {
        // Not what was set meanwhile, either: whoever hangs something on the tables could leave a path of his.
        pg_sys::AtEOXact_GUC(false, nest_level);
        pg_sys::SetUserIdAndSecContext(caller, context);
    }
    result
}

/// [`as_writer`], for an SQL function.
pub fn as_writing_owner<T>(function: &CStr, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    refuse_if_read_only(function);
    as_writer(work)
}

/// On a standby and in a read-only transaction, raises what any command that writes raises there.
pub fn refuse_if_read_only(function: &CStr) {
    // SAFETY: raises, or does nothing.
    unsafe { pg_sys::PreventCommandIfReadOnly(function.as_ptr()) };
}

/// The table or index of ours that has this name, from the caches.
pub(super) fn relation_named(name: &CStr) -> Result<pg_sys::Oid, Error> {
    // SAFETY: syscache look-ups, which give InvalidOid for what does not exist.
    let table = unsafe {
        match pg_sys::get_namespace_oid(c"calsync".as_ptr(), true) {
            pg_sys::InvalidOid => pg_sys::InvalidOid,
            schema => pg_sys::get_relname_relid(name.as_ptr(), schema),
        }
    };
    if table == pg_sys::InvalidOid { Err(not_installed()) } else { Ok(table) }
}

fn not_installed() -> Error {
    Error::argument(
        pgrx::PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        "extension pg_calsync is not installed in this database",
        "CREATE EXTENSION pg_calsync;",
    )
}

/// Locks `calsync.subscription`, as any SELECT from it does, before any other table of ours. DROP EXTENSION begins with it, too,
/// and waits there while it has no other: with whoever began elsewhere it would end in a deadlock.
fn lock_first() -> Result<(), Error> {
    let table = relation_named(c"subscription")?;
    // SAFETY: in a transaction, which gives the lock up when it ends; should the table be gone by then, so is its owner.
    unsafe { pg_sys::LockRelationOid(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
    Ok(())
}

/// The role that owns `calsync.subscription`, from the caches.
fn table_owner() -> Result<pg_sys::Oid, Error> {
    let table = relation_named(c"subscription")?;
    // SAFETY: a syscache look-up; the tuple is released before returning, the owner is copied out of it.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as c_int, table.into());
        if tuple.is_null() {
            return Err(not_installed());
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relowner;
        pg_sys::ReleaseSysCache(tuple);
        Ok(owner)
    }
}

/// The role on whose behalf the current function runs.
pub fn caller() -> pg_sys::Oid {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::GetUserId() }
}

/// Whether `role` may use what `owner` owns: it is a member that inherits, or a superuser. What belonged to a role that
/// was dropped is left to superusers, who can unsubscribe it.
pub fn may_use(role: pg_sys::Oid, owner: &CStr) -> bool {
    // SAFETY: catalog look-ups; `missing_ok` makes an unknown name InvalidOid instead of an ERROR.
    unsafe {
        let owner = pg_sys::get_role_oid(owner.as_ptr(), true);
        if owner == pg_sys::InvalidOid { pg_sys::superuser_arg(role) } else { pg_sys::has_privs_of_role(role, owner) }
    }
}

/// [`may_use`], where the name comes from SQL.
pub fn may_see(role: pg_sys::Oid, owner: &str) -> bool {
    std::ffi::CString::new(owner).is_ok_and(|owner| may_use(role, &owner))
}

/// The roles that carry rights of the extension. Their members have nothing else in common.
const RIGHTS: [&str; 4] = ["calsync_reader", "calsync_detail", "calsync_operator", "calsync_worker"];

/// Whether `role` may say what another one accepts: it is a member of that. Since every reader is a member of
/// `calsync_reader`, for such roles it takes somebody who may say who their members are.
pub fn speaks_for(role: pg_sys::Oid, other: &str) -> bool {
    if carries_rights(other) {
        // SAFETY: a catalog look-up.
        return role_named(other).is_some_and(|other| unsafe { pg_sys::is_admin_of_role(role, other) });
    }
    role_named(other).is_some() && may_see(role, other)
}

/// Whether it is one of the roles that the extension makes, or that Postgres brings (`pg_monitor`).
pub fn carries_rights(role: &str) -> bool {
    RIGHTS.contains(&role) || role.starts_with("pg_")
}

/// The role of this name.
pub fn role_named(name: &str) -> Option<pg_sys::Oid> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: a catalog look-up; `missing_ok` makes an unknown name InvalidOid instead of an ERROR.
    Some(unsafe { pg_sys::get_role_oid(name.as_ptr(), true) }).filter(|role| *role != pg_sys::InvalidOid)
}

/// Whether `role` may do what the owner of the tables may.
pub fn may_do_everything(role: pg_sys::Oid) -> Result<bool, Error> {
    let owner = table_owner()?;
    // SAFETY: a catalog look-up.
    Ok(unsafe { pg_sys::has_privs_of_role(role, owner) })
}

/// Whether the caller may have the server read any file that the server's user can read: the role that is current, or the
/// one that logged in, which any code that runs here may make current again. Inside a SECURITY DEFINER function, and
/// wherever else Postgres changes the user for a while, only the current one counts.
pub fn may_read_server_files() -> bool {
    let (mut current, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: reads variables of the backend, and looks the catalog up. Superusers have the privileges of every role.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut current, &mut context);
        let may = |role| pg_sys::has_privs_of_role(role, pg_sys::Oid::from(pg_sys::ROLE_PG_READ_SERVER_FILES));
        may(current) || (context == 0 && may(pg_sys::GetSessionUserId()))
    }
}

/// How the key file may be called to whoever called: by its name to superusers only, as the setting. Inside a SECURITY
/// DEFINER function of a superuser's the caller may be anybody.
pub fn place_for_the_caller() -> Place {
    // SAFETY: catalog look-ups, and variables of the backend.
    let is_superuser =
        unsafe { pg_sys::superuser_arg(pg_sys::GetUserId()) && pg_sys::superuser_arg(pg_sys::GetSessionUserId()) };
    if is_superuser { Place::Named } else { Place::Unnamed }
}

/// Whether `role` is the owner of the tables, or may become it: as a worker must, whatever the role inherits.
pub fn is_member_of_owner(role: pg_sys::Oid) -> Result<bool, Error> {
    let owner = table_owner()?;
    // SAFETY: a catalog look-up.
    Ok(unsafe { pg_sys::is_member_of_role(role, owner) })
}

/// Whether this server follows another.
pub fn is_standby() -> bool {
    // SAFETY: reads a variable in shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// The name of a role as it is written in a statement.
pub fn quoted_role_name(role: pg_sys::Oid) -> String {
    pgrx::spi::quote_identifier(role_name(role))
}

/// The name of a role.
pub fn role_name(role: pg_sys::Oid) -> String {
    // SAFETY: with noerr false an unknown oid raises; the result is a palloc'd C string.
    unsafe { CStr::from_ptr(pg_sys::GetUserNameFromId(role, false)).to_string_lossy().into_owned() }
}
