//! `calsync_subscribe`, `_unsubscribe`, `_pause`, `_resume`, `_sync`, `_resync`.

use std::ffi::CStr;

use calsync_core::options::Options;
use pgrx::AnyElement;
use pgrx::prelude::*;
use serde_json::Value;

use super::credential::refuse_a_secret_as_name;
use super::{name_argument, read_jsonb, required};
use crate::error::{Error, Report};
use crate::store::change;
use crate::store::credential;
use crate::store::owner::{as_writing_owner, caller, role_name};
use crate::store::subscription::{self, Provider, Wanted, Wished};
use crate::worker;

#[pg_extern(sql = false)]
fn calsync_subscribe(
    calendar: Option<String>,
    provider: Option<String>,
    credential: Option<String>,
    remote_id: Option<String>,
    time_zone: Option<String>,
    options: Option<AnyElement>,
) -> i64 {
    let subscribe = || -> Result<i64, Error> {
        refuse_a_secret_as_name(credential.as_deref(), c"calsync_subscribe(...)")?;
        let calendar = named(calendar, "calendar")?;
        let provider = known_provider(required(provider, "provider")?)?;
        let remote_id = remote_id.unwrap_or_else(|| calendar.clone());
        named(Some(remote_id.clone()), "remote_id")?;
        let time_zone = time_zone.map(known_zone).transpose()?;
        let (options, read) = read_options(options)?;
        let owner = role_name(caller());
        let wanted = Wanted {
            calendar: &calendar,
            provider,
            credential: credential.as_deref(),
            remote_id: &remote_id,
            time_zone: time_zone.as_deref(),
            options,
            max_staleness: read.max_staleness,
        };
        let id = as_writing_owner(c"calsync_subscribe()", || {
            if let Some(name) = wanted.credential {
                check_credential(&owner, name, provider)?;
            }
            subscription::subscribe(&owner, &wanted)
        })?;
        if provider != Provider::None {
            worker::wake::worker_at_commit();
            worker::warn_if_there_is_none();
        }
        Ok(id)
    };
    subscribe().report()
}

fn named(name: Option<String>, argument: &str) -> Result<String, Error> {
    name_argument(
        name,
        argument,
        "Use the provider's calendar id, or a short name of your own together with remote_id.",
    )
}

fn known_provider(label: String) -> Result<Provider, Error> {
    Provider::from_label(&label).ok_or_else(|| {
        Error::argument(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("provider \"{label}\" is unknown"),
            "Use 'google', or 'none' for a calendar that the application feeds with calsync_apply_delta.",
        )
    })
}

fn known_zone(name: String) -> Result<String, Error> {
    calsync_core::zone::find(&name).map(|zone| zone.name().to_owned()).ok_or_else(|| {
        Error::argument(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("time zone \"{name}\" is unknown"),
            "Use an IANA name such as 'Europe/Vienna'.",
        )
    })
}

fn read_options(options: Option<AnyElement>) -> Result<(Value, Options), Error> {
    let options = match options.as_ref().map(read_jsonb) {
        None => Value::Object(serde_json::Map::new()),
        Some(Ok(options)) => options,
        Some(Err(error)) => {
            return Err(Error::argument(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("options cannot be read: {error}"),
                "Pass '{}' for the defaults.",
            ));
        }
    };
    let read = Options::read(&options)?;
    Ok((options, read))
}

fn check_credential(owner: &str, name: &str, provider: Provider) -> Result<(), Error> {
    if provider == Provider::None || credential::exists(owner, name)? {
        return Ok(());
    }
    Err(Error::Credential {
        message: format!("credential \"{name}\" is unknown"),
        detail: format!("Role \"{owner}\" has no credential of that name."),
        hint: format!(
            "SELECT calsync_add_credential('{}', 'google', '{{\"file\": \"/path/on/the/server.json\"}}') first, with the key \
             file of a service account or Google's authorized_user file; docs/google.md has the other forms.",
            name.replace('\'', "''")
        ),
    })
}

#[pg_extern(sql = false)]
fn calsync_unsubscribe(calendar: Option<String>) -> bool {
    let unsubscribe = || -> Result<bool, Error> {
        let calendar = required(calendar, "calendar")?;
        let role = caller();
        as_writing_owner(c"calsync_unsubscribe()", || match subscription::find_for_update(role, &calendar) {
            Ok(found) => {
                change::notify(&found)?;
                subscription::unsubscribe(found.id)?;
                Ok(true)
            }
            Err(Error::UnknownCalendar { .. }) => Ok(false),
            Err(error) => Err(error),
        })
    };
    unsubscribe().report()
}

#[pg_extern(sql = false)]
fn calsync_pause(calendar: Option<String>) {
    change(c"calsync_pause()", calendar, subscription::pause).report();
}

#[pg_extern(sql = false)]
fn calsync_resume(calendar: Option<String>) {
    change(c"calsync_resume()", calendar, subscription::resume).report();
}

#[pg_extern(sql = false)]
fn calsync_resync(calendar: Option<String>) {
    let resync = || match calendar {
        Some(_) => change(c"calsync_resync()", calendar, subscription::resync),
        None => {
            let role = caller();
            as_writing_owner(c"calsync_resync()", || subscription::resync_all(role))?;
            worker::wake::worker_at_commit();
            Ok(())
        }
    };
    resync().report();
}

/// Changes one calendar, then wakes the worker, which may have something to do, or to leave.
fn change(function: &CStr, calendar: Option<String>, change: fn(i64) -> Result<(), Error>) -> Result<(), Error> {
    let calendar = required(calendar, "calendar")?;
    let role = caller();
    as_writing_owner(function, || change(subscription::find_for_update(role, &calendar)?.id))?;
    worker::wake::worker_at_commit();
    Ok(())
}

#[pg_extern(sql = false)]
fn calsync_sync(calendar: Option<String>) -> i32 {
    let role = caller();
    let Wished { due, limited } =
        as_writing_owner(c"calsync_sync()", || subscription::make_due(role, calendar.as_deref())).report();
    if due > 0 {
        worker::wake::worker_at_commit();
        worker::warn_if_there_is_none();
    }
    if let Some((until, why)) = limited {
        let which = match calendar {
            Some(calendar) => format!("calendar \"{calendar}\" is"),
            None => "some calendars are".to_owned(),
        };
        pgrx::notice!("{which} not asked for before {until}: the provider limits the rate of the credential ({why})");
    }
    due
}
