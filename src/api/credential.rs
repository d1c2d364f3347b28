//! `calsync_add_credential`, `calsync_drop_credential`.
//!
//! No secret is ever quoted, not even to say what is wrong with it; see [`crate::redact`] for the statement's text.

use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use calsync_core::credential::{InvalidSecret, Secret};
use pgrx::AnyElement;
use pgrx::prelude::*;
use serde_json::Value;

use super::rotation::warn_if_followed;
use super::{LONGEST_NAME, name_argument, read_jsonb, required};
use crate::error::{Error, Report};
use crate::redact::{self, while_redacted};
use crate::rs256::SigningKey;
use crate::seal::{self, key_file};
use crate::store::owner::{self, as_writing_owner, caller, role_name};
use crate::store::{credential, sealing};
use crate::worker;

/// A secret is a few kilobytes, in a file as well as here: in bytes, as Postgres keeps it. A larger one is not even read.
const LARGEST_SECRET: usize = 64 * 1024;
const LARGEST_FILE: u64 = LARGEST_SECRET as u64;

#[pg_extern(sql = false)]
fn calsync_add_credential(name: Option<String>, provider: Option<String>, secret: Option<AnyElement>) {
    let add = || {
        let name = name_argument(name, "name", "Choose a short name; the secret itself is the third argument.")?;
        if looks_like_a_secret(&name) {
            return Err(not_a_name());
        }
        let provider = required(provider, "provider")?;
        if provider != "google" {
            // It is not quoted: whoever mixed the arguments up has written the secret here.
            return Err(Error::Argument {
                code: PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                message: "the provider of a credential must be 'google'".into(),
                detail: match provider.as_str() {
                    "none" => "Provider 'none' asks for none: the application feeds its calendars.".into(),
                    _ => "There is no other provider that asks for one.".into(),
                },
                hint: HOW_TO_ADD.into(),
            });
        }
        let secret = required(secret, "secret")?;
        // SAFETY: the SQL declaration gives the argument the type jsonb: a varlena, whose size is read from its head.
        if unsafe { pg_sys::toast_raw_datum_size(secret.datum()) } > LARGEST_SECRET {
            return Err(invalid(
                &name,
                format!("it is larger than {} kB, too large to be a secret", LARGEST_SECRET / 1024),
            ));
        }
        let secret = read_jsonb(&secret)
            .map_err(|_| invalid(&name, "it is nested too deeply"))
            .and_then(|json| read_secret(&name, json))?;
        let owner = role_name(caller());
        let made_key = as_writing_owner(c"calsync_add_credential()", || {
            let mut made_key = false;
            let sealed = match &secret {
                Secret::None => None,
                secret => {
                    sealing::announce();
                    made_key = key_file::make_if_missing()?;
                    Some(seal::seal(&owner, &name, secret)?)
                }
            };
            credential::add(&owner, &name, &provider, sealed.as_deref())?;
            Ok(made_key)
        })?;
        // Calendars that waited for it are due now.
        worker::wake::worker_at_commit();
        if made_key { warn_if_followed() } else { Ok(()) }
    };
    while_redacted(redact::SHOWN, add).report();
}

const HOW_TO_ADD: &str = "SELECT calsync_add_credential('a name', 'google', $1), the secret bound as a parameter; \
                          docs/google.md tells other ways.";

/// Whether somebody may have mixed up the arguments: it begins as JSON does, has lines, or is longer than any name. What a
/// credential is called is shown, stored and logged, so this must not become its name.
fn looks_like_a_secret(name: &str) -> bool {
    name.trim_start().starts_with(['{', '[', '"']) || name.chars().any(char::is_control) || name.len() > LONGEST_NAME
}

fn not_a_name() -> Error {
    Error::Argument {
        code: PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        message: "this cannot be the name of a credential".into(),
        detail: format!(
            "A name is one line of {LONGEST_NAME} bytes at most, and does not begin with a brace, a bracket or a quotation \
             mark. What was given is not shown, as it may be a secret."
        ),
        hint: HOW_TO_ADD.into(),
    }
}

/// Refuses what was given to `function` as the name of a credential and may be a secret: without showing it, nor the
/// statement that it stands in.
pub fn refuse_a_secret_as_name(name: Option<&str>, function: &'static CStr) -> Result<(), Error> {
    match name.is_some_and(looks_like_a_secret) {
        true => while_redacted(function, || Err(not_a_name())),
        false => Ok(()),
    }
}

fn invalid(name: &str, why: impl std::fmt::Display) -> Error {
    let mut why = format!("{why}.");
    if let Some(first) = why.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    Error::credential(format!("the secret of credential \"{name}\" cannot be used"), why, InvalidSecret::HINT)
}

/// A secret as it was given, or from the file that it names.
fn read_secret(name: &str, json: Value) -> Result<Secret, Error> {
    let (json, place) = match json.get("file") {
        Some(file) => (read_file(name, &json, file)?, "In the file: "),
        None => (json, ""),
    };
    let secret = Secret::read(&json).map_err(|why| invalid(name, format!("{place}{why}")))?;
    if let Secret::ServiceAccount(account) = &secret
        && SigningKey::from_pem(&account.private_key).is_none()
    {
        return Err(invalid(
            name,
            format!("{place}its \"private_key\" is not an RSA key of 2048 to 4096 bits, or was cut"),
        ));
    }
    Ok(secret)
}

/// `{"file": "/path"}`, with `sub` beside it or not: the JSON in the file, which the server reads, so that the secret is
/// in no statement.
fn read_file(name: &str, given: &Value, file: &Value) -> Result<Value, Error> {
    let keys = given.as_object().into_iter().flatten();
    if keys.into_iter().any(|(key, _)| key != "file" && key != "sub") {
        return Err(invalid(name, "beside \"file\" only \"sub\" can stand"));
    }
    let Some(path) = file.as_str().map(Path::new).filter(|path| path.is_absolute()) else {
        return Err(invalid(name, "its \"file\" is not the absolute path of a file"));
    };
    if !owner::may_read_server_files() {
        return Err(Error::Argument {
            code: PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            message: "permission denied to read a file of the server".into(),
            detail: "Only roles with privileges of pg_read_server_files may have the server read a file.".into(),
            // Whoever is granted that reads the key file as well, with COPY.
            hint: format!(
                "Pass the secret itself as a bind parameter, or have an administrator do it: as a superuser, SET ROLE {}; \
                 then this statement.",
                owner::quoted_role_name(caller())
            ),
        });
    }
    let mut text = Vec::new();
    // Opening a pipe would wait for whoever writes to it.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let read = opened.and_then(|file| match file.metadata()?.is_file() {
        true => file.take(LARGEST_FILE + 1).read_to_end(&mut text),
        false => Err(std::io::Error::other("it is not a regular file")),
    });
    read.map_err(|error| invalid(name, format!("the file cannot be read by the server: {error}")))?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(invalid(name, "the file is too large to be a secret"));
    }
    let mut json: Value = serde_json::from_slice(&text).map_err(|_| invalid(name, "the file does not hold JSON"))?;
    if let (Some(keys), Some(subject)) = (json.as_object_mut(), given.get("sub")) {
        keys.insert("sub".to_owned(), subject.clone());
    }
    Ok(json)
}

#[pg_extern(sql = false)]
fn calsync_drop_credential(name: Option<String>) -> bool {
    let drop = |name: String| -> Result<bool, Error> {
        let owner = role_name(caller());
        as_writing_owner(c"calsync_drop_credential()", || {
            credential::lock(&owner, &name)?;
            let calendars = credential::used_by(&owner, &name)?;
            if let Some(first) = calendars.first() {
                return Err(Error::Argument {
                    code: PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
                    message: match looks_like_a_secret(&name) {
                        true => "this credential is in use".to_owned(),
                        false => format!("credential \"{name}\" is in use"),
                    },
                    detail: format!("Calendars that name it: {}.", calendars.join(", ")),
                    hint: format!("SELECT calsync_unsubscribe('{}') and so on first.", first.replace('\'', "''")),
                });
            }
            credential::drop(&owner, &name)
        })
    };
    let name = required(name, "name").report();
    // It may have been taken before such names were refused, and whoever finds that drops it.
    let dropped = match looks_like_a_secret(&name) {
        true => while_redacted(c"calsync_drop_credential(...)", || drop(name)),
        false => drop(name),
    };
    dropped.report()
}
