//! `calsync_share`, `calsync_accept_share`, `calsync_unshare`, and whose calendars views and row security show.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::required;
use crate::error::{Error, Report};
use crate::store::owner::{as_writing_owner, caller, carries_rights, may_use, role_name, role_named, speaks_for};
use crate::store::{availability, share, subscription};

#[pg_extern(sql = false)]
fn calsync_share(calendar: Option<String>, role: Option<String>) -> bool {
    let share = || -> Result<bool, Error> {
        let calendar = required(calendar, "calendar")?;
        let with = role_name(existing(&required(role, "role")?)?);
        let role = caller();
        let accepted = speaks_for(role, &with);
        if carries_rights(&with) && !accepted {
            return Err(shared_with_everybody(&with));
        }
        as_writing_owner(c"calsync_share()", || share::add(subscription::one_owned(role, &calendar)?, &with, accepted))
    };
    share().report()
}

/// None of those who have a right of the extension could accept a calendar for all who have it.
fn shared_with_everybody(with: &str) -> Error {
    Error::Argument {
        code: PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        message: format!("this role may not share a calendar with \"{with}\""),
        detail: "Its members have nothing but a right in common: none could accept it for the others.".into(),
        hint: format!(
            "Share it with the roles that are meant; or have a superuser do it, or who was granted {with} WITH ADMIN OPTION."
        ),
    }
}

fn existing(role: &str) -> Result<pg_sys::Oid, Error> {
    role_named(role).ok_or_else(|| {
        Error::argument(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("role \"{role}\" does not exist"),
            "Pass a name as pg_roles shows it.",
        )
    })
}

#[pg_extern(sql = false)]
fn calsync_accept_share(calendar: Option<String>, owner: Option<String>) -> bool {
    let accept = || -> Result<bool, Error> {
        let calendar = required(calendar, "calendar")?;
        let role = caller();
        as_writing_owner(c"calsync_accept_share()", || share::accept(role, &calendar, owner.as_deref()))
    };
    accept().report()
}

#[pg_extern(sql = false)]
fn calsync_unshare(calendar: Option<String>, role: Option<String>, owner: Option<String>) -> bool {
    let unshare = || -> Result<bool, Error> {
        let calendar = required(calendar, "calendar")?;
        let with = required(role, "role")?;
        let role = caller();
        as_writing_owner(c"calsync_unshare()", || share::remove(role, &calendar, &with, owner.as_deref()))
    };
    unshare().report()
}

#[pg_extern(sql = false)]
fn calsync_owns(owner: &CStr) -> bool {
    may_use(caller(), owner)
}

#[pg_extern(sql = false)]
fn calsync_shared() -> Vec<i64> {
    availability::shared(caller()).report()
}
