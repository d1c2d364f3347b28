//! `calsync_add_credential`, `calsync_drop_credential`.

use pgrx::AnyElement;
use pgrx::prelude::*;
use serde_json::Value;

use super::{read_jsonb, required};
use crate::error::{Error, Report};
use crate::store::credential;
use crate::store::owner::{as_writing_owner, caller, role_name};
use crate::worker;

#[pg_extern(sql = false)]
fn calsync_add_credential(name: Option<String>, provider: Option<String>, secret: Option<AnyElement>) {
    let add = || -> Result<(), Error> {
        let name = required(name, "name")?;
        let provider = required(provider, "provider")?;
        if name.is_empty() || provider != "google" {
            return Err(Error::argument(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "a credential needs a name and a provider that asks for one",
                "SELECT calsync_add_credential('a name', 'google', '{}');",
            ));
        }
        match read_jsonb(&required(secret, "secret")?) {
            Ok(Value::Object(secret)) if secret.is_empty() => {}
            // Never shown, not even to say what is wrong with it.
            _ => return Err(holds_a_secret(&name)),
        }
        let owner = role_name(caller());
        as_writing_owner(c"calsync_add_credential()", || credential::add(&owner, &name, &provider))?;
        // Calendars that waited for it are due now.
        worker::wake::worker_at_commit();
        Ok(())
    };
    add().report();
}

fn holds_a_secret(name: &str) -> Error {
    Error::Credential {
        message: format!("credential \"{name}\" holds a secret, which this version cannot seal"),
        detail: "Secrets are not kept in clear. Only the empty secret, '{}', is taken.".into(),
        hint: "Fetch with your own credential and feed calsync_apply_delta; see README, \"Real Google\".".into(),
    }
}

#[pg_extern(sql = false)]
fn calsync_drop_credential(name: Option<String>) -> bool {
    let drop = || -> Result<bool, Error> {
        let name = required(name, "name")?;
        let owner = role_name(caller());
        as_writing_owner(c"calsync_drop_credential()", || {
            credential::lock(&owner, &name)?;
            let calendars = credential::used_by(&owner, &name)?;
            if let Some(first) = calendars.first() {
                return Err(Error::Argument {
                    code: PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
                    message: format!("credential \"{name}\" is in use"),
                    detail: format!("Calendars that name it: {}.", calendars.join(", ")),
                    hint: format!("SELECT calsync_unsubscribe('{}') and so on first.", first.replace('\'', "''")),
                });
            }
            credential::drop(&owner, &name)
        })
    };
    drop().report()
}
