//! `calsync_rotate_key`, `calsync_keys`.
//!
//! The hard cases, each with a test in `tests/integration/tests/all/rotated_keys.rs`:
//! - one database that adds a key and all others that take it over come to the same key, whatever is added meanwhile
//! - what is sealed with a key that was brought before may be there already
//! - a transaction that could not see what must be sealed anew is refused
//! - a forgotten transaction that has sealed a secret holds up neither the worker nor anybody else, and is told
//! - what becomes free while a rotation looks is taken up

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::required;
use crate::error::{Error, Report};
use crate::panics::speechless;
use crate::seal;
use crate::seal::key_file::{self, KeyFile, KeyId};
use crate::store::owner::{self, as_owner, as_writing_owner, caller};
use crate::store::sealing::{self, Name, Sealer};
use crate::worker::latch;

/// How often a rotation looks whether something has become free.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

#[pg_extern(sql = false)]
fn calsync_rotate_key(add_key: Option<bool>) -> i64 {
    let rotate = || -> Result<i64, Error> {
        refuse_others("rotate the key")?;
        let add_key = required(add_key, "add_key")?;
        refuse_old_snapshots()?;
        let rotated = as_writing_owner(c"calsync_rotate_key()", || rotate(add_key))?;
        if rotated.added {
            warn_if_followed()?;
        }
        rotated.tell();
        Ok(rotated.sealed_anew)
    };
    speechless(rotate).report()
}

/// The keys are those of all roles' credentials.
fn refuse_others(what: &str) -> Result<(), Error> {
    if owner::may_do_everything(caller())? {
        return Ok(());
    }
    Err(Error::argument(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("permission denied to {what}"),
        "It seals the credentials of all roles: ask a superuser, or a member of the role that owns the tables.",
    ))
}

/// A transaction with one snapshot for all of its statements does not see what was committed since: that would stay sealed
/// with an older key, and nobody would be told.
fn refuse_old_snapshots() -> Result<(), Error> {
    // SAFETY: reads a variable of the backend.
    if unsafe { pg_sys::XactIsoLevel } < pg_sys::XACT_REPEATABLE_READ as i32 {
        return Ok(());
    }
    Err(Error::Argument {
        code: PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
        message: "calsync_rotate_key() takes a transaction of isolation level READ COMMITTED".to_owned(),
        detail: "Others do not see the credentials that were committed since they began.".to_owned(),
        hint: "BEGIN ISOLATION LEVEL READ COMMITTED, or SET default_transaction_isolation TO 'read committed' first."
            .to_owned(),
    })
}

/// What a rotation came to.
#[derive(Default)]
struct Rotated {
    added: bool,
    sealed_anew: i64,
    /// Cannot be opened, with the reason.
    unopened: Vec<(Name, String)>,
    /// Somebody else has their rows locked.
    locked: Vec<Name>,
    /// Have sealed a secret that is not to be seen yet.
    open: Vec<Sealer>,
}

/// Seals everything with the newest key. Where a key shall be added that is one that nothing here was sealed with: a new
/// one, unless the newest is that already, since it was brought, or another database has added it.
fn rotate(add_key: bool) -> Result<Rotated, Error> {
    let mut rotated = Rotated::default();
    if add_key {
        rotated.added = key_file::make_if_missing()?;
        let newest = KeyFile::read_or_make()?.newest().id();
        if sealing::is_in_use(&newest)? {
            rotated.added |= key_file::add_key_after(&newest)?;
        }
        if !rotated.added {
            tell_that_none_was_added(&key_file::shown_id(&newest));
        }
    }
    // Whoever seals from here on has read the file after the key was added.
    let before = sealing::sealers()?;
    rotated.open = before.clone();
    let begun = Instant::now();
    loop {
        // Who was no sealer any more before this looks has committed, and this sees what he sealed.
        rotated.seal_with_the_newest()?;
        let all_is_done = rotated.locked.is_empty() && rotated.open.is_empty();
        if all_is_done || begun.elapsed() >= sealing::PATIENCE {
            break;
        }
        latch::wait_for(None, Some(LOOK_AGAIN));
        rotated.open = sealing::sealers()?.into_iter().filter(|sealer| before.contains(sealer)).collect();
    }
    Ok(rotated)
}

fn tell_that_none_was_added(newest: &str) {
    ErrorReport::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, "no key was added", "")
        .set_detail(format!("Nothing in this database was sealed with the newest key, {newest}."))
        .set_hint(
            "If that is not the key that all shall be sealed with from now on, SELECT calsync_rotate_key() in a database \
             that has credentials sealed with it, then calsync_rotate_key(false) in the others.",
        )
        .report(PgLogLevel::NOTICE);
}

impl Rotated {
    fn seal_with_the_newest(&mut self) -> Result<(), Error> {
        // Without any key all that is here is sealed with another one, which cannot be opened.
        let newest = KeyFile::read()?.map_or_else(KeyId::default, |keys| keys.newest().id());
        let known: HashSet<Name> = self.unopened.iter().map(|(name, _)| name.clone()).collect();
        for (name, sealed) in sealing::take_those_not_sealed_with(&newest)? {
            if known.contains(&name) {
                continue;
            }
            match seal::open(&name.0, &name.1, &sealed) {
                Ok(secret) => {
                    sealing::replace(&name, &seal::seal(&name.0, &name.1, &secret)?)?;
                    self.sealed_anew += 1;
                }
                Err(error) => self.unopened.push((name, error.told())),
            }
        }
        let is_unopened = |name: &Name| self.unopened.iter().any(|(unopened, _)| unopened == name);
        self.locked = sealing::not_sealed_with(&newest)?.into_iter().filter(|name| !is_unopened(name)).collect();
        Ok(())
    }

    fn tell(&self) {
        for ((owner, name), why) in &self.unopened {
            pgrx::warning!("credential \"{name}\" of role \"{owner}\" is left as it is: {why}");
        }
        let again = "Have it committed or rolled back, then SELECT calsync_rotate_key(false), which adds no key. \
                     pg_terminate_backend() ends a session; a prepared transaction, which pg_prepared_xacts names, is \
                     ended by COMMIT PREPARED or ROLLBACK PREPARED.";
        for (owner, name) in &self.locked {
            warn(
                format!("credential \"{name}\" of role \"{owner}\" is left sealed with an older key"),
                "Another transaction has locked it.".to_owned(),
                again.to_owned(),
            );
        }
        if !self.open.is_empty() {
            let processes = self.open.iter().map(|sealer| match sealer.process {
                Some(process) => format!("process {process}"),
                None => "a prepared transaction".to_owned(),
            });
            warn(
                "a credential that is being added may be sealed with an older key".to_owned(),
                format!("It was not committed yet by {}.", processes.collect::<Vec<_>>().join(", ")),
                again.to_owned(),
            );
        }
    }
}

fn warn(message: String, detail: String, hint: String) {
    ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, "")
        .set_detail(detail)
        .set_hint(hint)
        .report(PgLogLevel::WARNING);
}

/// A key has just been made, and neither WAL nor slots bring it to a standby: what is sealed with it would be lost there.
pub fn warn_if_followed() -> Result<(), Error> {
    if !as_owner(sealing::is_followed)? {
        return Ok(());
    }
    let Some(keys) = KeyFile::read()? else { return Ok(()) };
    let (key, place) = (keys.newest().shown_id(), owner::place_for_the_caller());
    warn(
        format!("key {key} is on this server only, and others seem to follow it"),
        "The write-ahead log does not carry the key file: after a failover what is sealed with the key could not be \
         opened."
            .to_owned(),
        format!(
            "Before a failover append the line below \"# {key}\" of {} to that file of each standby, which has to be its \
             server's alone (mode 0600); see docs/google.md, \"Failover\".",
            place.file()
        ),
    );
    Ok(())
}

/// The keys of the file, and those that this database's secrets are sealed with.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn calsync_keys() -> TableIterator<
    'static,
    (name!(key_id, String), name!(line, Option<i32>), name!(seals, bool), name!(credentials, i64)),
> {
    let keys = || -> Result<Vec<_>, Error> {
        refuse_others("see the keys")?;
        let mut used = as_owner(sealing::keys_in_use)?;
        let mut rows = Vec::new();
        if let Some(file) = KeyFile::read()? {
            for key in file.all() {
                let id = key.id();
                let at = used.iter().position(|(used, _)| *used == id);
                let credentials = at.map_or(0, |at| used.remove(at).1);
                rows.push((key.shown_id(), i32::try_from(key.line).ok(), id == file.newest().id(), credentials));
            }
        }
        rows.extend(used.into_iter().map(|(key, credentials)| (key_file::shown_id(&key), None, false, credentials)));
        Ok(rows)
    };
    TableIterator::new(speechless(keys).report())
}
