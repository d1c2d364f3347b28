//! `calsync_rotate_key`, `calsync_keys`.
//!
//! The hard cases, each with a test in `tests/integration/tests/all/rotated_keys.rs`:
//! - when each database of the cluster has been rotated once, all are sealed with the same key
//! - a forgotten transaction that has sealed a secret holds up neither the worker nor anybody else, and is told
//! - what becomes free while a rotation looks is taken up

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::{Error, Report};
use crate::panics::speechless;
use crate::seal;
use crate::seal::key_file::{self, KeyFile};
use crate::store::owner::{self, as_owner, as_writing_owner, caller};
use crate::store::sealing::{self, Name, Sealer};
use crate::worker::latch;

/// How often a rotation looks whether something has become free.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

#[pg_extern(sql = false)]
fn calsync_rotate_key() -> i64 {
    let rotate = || -> Result<i64, Error> {
        refuse_others("rotate the key")?;
        let rotated = as_writing_owner(c"calsync_rotate_key()", rotate)?;
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

/// Seals everything with the newest key. A key is added where all that is here is sealed with the newest already: that of
/// another database's rotation is taken over, so that one round through the databases leads to one key.
fn rotate() -> Result<Rotated, Error> {
    let mut rotated = Rotated { added: key_file::make_if_missing()?, ..Rotated::default() };
    rotated.seal_with_the_newest()?;
    if rotated.sealed_anew == 0 && rotated.locked.is_empty() {
        let newest = KeyFile::read_or_make()?.newest().id();
        if sealing::keys_in_use()?.iter().any(|(key, _)| *key == newest) {
            rotated.added |= key_file::add_key_after(&newest)?;
        }
    }
    // Whoever seals from here on has read the file after the key was added.
    let before = sealing::sealers()?;
    let begun = Instant::now();
    loop {
        rotated.seal_with_the_newest()?;
        rotated.open = sealing::sealers()?.into_iter().filter(|sealer| before.contains(sealer)).collect();
        let all_is_done = rotated.locked.is_empty() && rotated.open.is_empty();
        if all_is_done || begun.elapsed() >= sealing::PATIENCE {
            break;
        }
        latch::wait_for(None, Some(LOOK_AGAIN));
    }
    Ok(rotated)
}

impl Rotated {
    fn seal_with_the_newest(&mut self) -> Result<(), Error> {
        let newest = KeyFile::read_or_make()?.newest().id();
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
        let again = "Have it committed or rolled back (pg_terminate_backend() ends a session), then SELECT \
                     calsync_rotate_key() again: it adds no key while older ones are in use here.";
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
