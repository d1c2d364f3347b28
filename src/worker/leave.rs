//! Leaving a database that somebody wants for himself.
//!
//! DROP DATABASE, ALTER DATABASE .. RENAME, .. SET TABLESPACE and CREATE DATABASE .. TEMPLATE fail while anybody is
//! connected, and give others five seconds to go; a worker would never go by itself. So before such a statement runs,
//! its database is marked as held and the worker is told to end; the launcher starts none while the holder lives, and
//! starts one again when it is done, should the database still be there.

use std::ffi::{CStr, c_char};
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{board, latch, wake};

/// How long a statement waits for the worker to go; then it fails as it would without us.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the worker may take to leave by itself before it is terminated, which the server logs.
const COURTESY: Duration = Duration::from_secs(1);

static mut PREVIOUS: pg_sys::ProcessUtility_hook_type = None;

pub fn register() {
    // SAFETY: library load, the only thread; the hook calls the one that was there.
    unsafe {
        PREVIOUS = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(utility);
    }
}

/// What Postgres hands to the hook, as it handed it over.
#[derive(Clone, Copy)]
struct Call {
    statement: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
}

/// Every utility statement of the server comes through here. An ERROR that crosses pgrx' guards comes out without its
/// cursor position and the names of its table and constraint, so there is none on the usual way: a statement that is
/// not ours is handed on by a plain call, and its ERROR jumps over this frame, which holds nothing to be dropped.
#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn utility(
    statement: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    let call = Call { statement, query, read_only_tree, context, parameters, environment, destination, completion };
    // SAFETY: a planned statement has a utility statement here; the rest is handed on as it came.
    unsafe {
        let database = look_at((*statement).utilityStmt);
        if database != pg_sys::InvalidOid {
            send_away(database);
        }
        hand_on(call);
    }
}

/// To the hook that was there, or to Postgres' own way.
unsafe fn hand_on(call: Call) {
    unsafe extern "C-unwind" {
        /// Postgres' own function; pgrx' binding of this name is guarded.
        fn standard_ProcessUtility(
            statement: *mut pg_sys::PlannedStmt,
            query: *const c_char,
            read_only_tree: bool,
            context: pg_sys::ProcessUtilityContext::Type,
            parameters: pg_sys::ParamListInfo,
            environment: *mut pg_sys::QueryEnvironment,
            destination: *mut pg_sys::DestReceiver,
            completion: *mut pg_sys::QueryCompletion,
        );
    }
    let Call { statement, query, read_only_tree, context, parameters, environment, destination, completion } = call;
    // SAFETY: the arguments are Postgres' own; the hook was set while libraries were loaded and does not change.
    unsafe {
        let next = PREVIOUS.unwrap_or(standard_ProcessUtility);
        next(statement, query, read_only_tree, context, parameters, environment, destination, completion);
    }
}

/// The database that the statement needs to be alone in, or InvalidOid. Notes what the worker must look at at commit.
#[pg_guard]
unsafe extern "C-unwind" fn look_at(utility: *mut pg_sys::Node) -> pg_sys::Oid {
    // SAFETY: the node's tag says what it is.
    unsafe {
        if drops_an_extension(utility) {
            // Perhaps ours.
            wake::worker_at_commit();
            return pg_sys::InvalidOid;
        }
        wanted_alone(utility).unwrap_or(pg_sys::InvalidOid)
    }
}

/// Has the worker leave the database and keeps others out of it until the transaction ends.
#[pg_guard]
unsafe extern "C-unwind" fn send_away(database: pg_sys::Oid) {
    board::hold(database);
    wake::release_at_end();
    let asked = Instant::now();
    loop {
        let worker = board::worker(database);
        if worker == 0 || asked.elapsed() > PATIENCE {
            return;
        }
        if asked.elapsed() < COURTESY {
            wake::nudge(worker);
        } else {
            // SAFETY: our own worker, which ends on this signal at its next interruptible point.
            unsafe { libc::kill(worker, libc::SIGTERM) };
        }
        latch::wait_for(None, Some(Duration::from_millis(20)));
    }
}

unsafe fn drops_an_extension(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the tag is checked before the cast.
    unsafe {
        (*node).type_ == pg_sys::NodeTag::T_DropStmt
            && (*node.cast::<pg_sys::DropStmt>()).removeType == pg_sys::ObjectType::OBJECT_EXTENSION
    }
}

/// The database that the statement needs to be alone in, if this role may do that to it: nobody else shall be able to
/// send workers away.
unsafe fn wanted_alone(node: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    use pg_sys::NodeTag;
    // SAFETY: the tag is checked before each cast; the strings are the parser's.
    unsafe {
        let (name, is_template) = match (*node).type_ {
            NodeTag::T_DropdbStmt => ((*node.cast::<pg_sys::DropdbStmt>()).dbname.cast_const(), false),
            NodeTag::T_RenameStmt => {
                let rename = node.cast::<pg_sys::RenameStmt>();
                if (*rename).renameType != pg_sys::ObjectType::OBJECT_DATABASE {
                    return None;
                }
                ((*rename).subname.cast_const(), false)
            }
            NodeTag::T_AlterDatabaseStmt => {
                let alter = node.cast::<pg_sys::AlterDatabaseStmt>();
                option_named((*alter).options, c"tablespace")?;
                ((*alter).dbname.cast_const(), false)
            }
            NodeTag::T_CreatedbStmt => {
                let create = node.cast::<pg_sys::CreatedbStmt>();
                let template = option_named((*create).options, c"template")?;
                (pg_sys::defGetString(template).cast_const(), true)
            }
            _ => return None,
        };
        let database = pg_sys::get_database_oid(name, true);
        if database == pg_sys::InvalidOid {
            return None;
        }
        let role = pg_sys::GetUserId();
        let allowed = pg_sys::pg_database_ownercheck(database, role)
            || (is_template && may_create_databases(role) && is_marked_template(database));
        allowed.then_some(database)
    }
}

unsafe fn may_create_databases(role: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up; the tuple is released after the flag was read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::AUTHOID as i32, pg_sys::Datum::from(role));
        if tuple.is_null() {
            return false;
        }
        let may = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_authid>()).rolcreatedb;
        pg_sys::ReleaseSysCache(tuple);
        may || pg_sys::superuser_arg(role)
    }
}

/// Anyone who may create databases may copy a database marked as template.
unsafe fn is_marked_template(database: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up; the tuple is released after the flag was read.
    unsafe {
        let tuple =
            pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::DATABASEOID as i32, pg_sys::Datum::from(database));
        if tuple.is_null() {
            return false;
        }
        let marked = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>()).datistemplate;
        pg_sys::ReleaseSysCache(tuple);
        marked
    }
}

/// The DefElem of this name in a list of them.
unsafe fn option_named(options: *mut pg_sys::List, name: &CStr) -> Option<*mut pg_sys::DefElem> {
    // SAFETY: the parser makes lists of DefElem for the options of these statements.
    unsafe {
        pgrx::memcx::current_context(|context| {
            pgrx::list::List::<*mut std::ffi::c_void>::downcast_ptr_in_memcx(options, context).and_then(|options| {
                options
                    .iter()
                    .map(|option| option.cast::<pg_sys::DefElem>())
                    .find(|option| CStr::from_ptr((**option).defname) == name)
            })
        })
    }
}
