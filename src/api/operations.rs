//! `calsync_version`, `calsync_health`, and what the extension script calls.

use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use serde_json::{Value, json};

use crate::error::{Error, Report as _};
use crate::seal::key_file::KeyFile;
use crate::settings::{self, Webhook};
use crate::store::health::{self, Calendars};
use crate::store::owner::{as_owner, caller};
use crate::store::time;
use crate::store::{availability, owner, sealing};
use crate::worker::board::{self, Report};
use crate::worker::{self, Running};

#[pg_extern(sql = false)]
fn calsync_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Called by the last line of the extension script.
#[pg_extern(sql = false)]
fn calsync_announce() {
    worker::wake::launcher_at_commit();
}

type WorkerLine =
    (Oid, i32, TimestampWithTimeZone, TimestampWithTimeZone, Option<TimestampWithTimeZone>, i32, i32, i64, i64, i64);

/// Behind the view `calsync.stat_worker`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn calsync_worker_lines() -> TableIterator<
    'static,
    (
        name!(database, Oid),
        name!(pid, i32),
        name!(started_at, TimestampWithTimeZone),
        name!(config_loaded_at, TimestampWithTimeZone),
        name!(last_answer_at, Option<TimestampWithTimeZone>),
        name!(under_way, i32),
        name!(width, i32),
        name!(requests, i64),
        name!(answers, i64),
        name!(failures, i64),
    ),
> {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let line = |told: Report| -> Result<WorkerLine, Error> {
        let last_answer_at = Some(told.last_answer_at).filter(|at| *at != 0).map(time::timestamp_of).transpose()?;
        Ok((
            Oid::from(told.database),
            told.pid,
            time::timestamp_of(told.started_at)?,
            time::timestamp_of(told.config_loaded_at)?,
            last_answer_at,
            told.under_way as i32,
            told.width as i32,
            count(told.requests),
            count(told.answers),
            count(told.failures),
        ))
    };
    let lines: Result<Vec<WorkerLine>, Error> = board::reports().into_iter().map(line).collect();
    TableIterator::new(lines.report())
}

#[pg_extern(sql = false)]
fn calsync_health() -> JsonB {
    let health = || -> Result<Value, Error> {
        let role = caller();
        let calendars = as_owner(|| {
            let all = availability::all(role)?;
            let owned = all.iter().filter(|one| one.owned).map(|one| one.id).collect();
            health::calendars(all.iter().map(|one| one.id).collect(), owned)
        })?;
        let keys = if owner::is_standby() { missing_keys(owner::may_do_everything(role)?)? } else { None };
        Ok(shown(worker::running(), &calendars, keys))
    };
    JsonB(health().report())
}

/// What would be lost if this standby took over, since the key file does not follow; None: nothing. The keys and credentials
/// are those of all roles: how many, and what is wrong with the file, is told to who may know of all.
fn missing_keys(in_full: bool) -> Result<Option<String>, Error> {
    let used = as_owner(sealing::keys_in_use)?;
    let in_short = || "not all keys are on this standby".to_owned();
    let keys = match KeyFile::read() {
        Ok(keys) => keys,
        Err(Error::KeyFile(trouble)) if !used.is_empty() => {
            return Ok(Some(if in_full { trouble.to_string() } else { in_short() }));
        }
        Err(_) => return Ok(None),
    };
    let is_there = |key: &[u8]| keys.as_ref().is_some_and(|keys| keys.find(key).is_some());
    let missing: Vec<i64> =
        used.iter().filter(|(key, _)| !is_there(key)).map(|(_, credentials)| *credentials).collect();
    let told = || match in_full {
        true => format!(
            "{} keys are not on this standby, which {} credentials need",
            missing.len(),
            missing.iter().sum::<i64>()
        ),
        false => in_short(),
    };
    Ok((!missing.is_empty()).then(told))
}

fn shown(running: Running, calendars: &Calendars, keys: Option<String>) -> Value {
    let enabled = settings::enabled();
    let standby = owner::is_standby();
    let keys = keys.map(|keys| {
        let hint = "Append the lines of the primary's key file to this server's: docs/google.md, \"Failover\".";
        (format!("after a failover credentials could not be opened: {keys}"), hint.to_owned())
    });
    let problems: Vec<Value> = problems(running, enabled, standby, calendars)
        .into_iter()
        .chain(keys)
        .map(|(problem, hint)| json!({"problem": problem, "hint": hint}))
        .collect();
    json!({
        "ok": problems.is_empty(),
        "version": env!("CARGO_PKG_VERSION"),
        "enabled": enabled,
        "standby": standby,
        "worker_running": running == Running::Worker,
        "calendars": calendars.by_state,
        "due": calendars.due,
        "oldest_due": calendars.oldest_due.map(iso),
        "oldest_synced_at": calendars.oldest_synced_at.map(iso),
        "never_synced": calendars.never_synced,
        "stale": calendars.stale,
        "flagged_events": calendars.flagged,
        "pushed": calendars.pushed,
        "problems": problems,
    })
}

fn iso(at: TimestampWithTimeZone) -> String {
    at.to_iso_string()
}

/// What somebody should look at, each with what to do. A standby only answers: no worker is missed there.
fn problems(running: Running, enabled: bool, standby: bool, calendars: &Calendars) -> Vec<(String, String)> {
    let mut problems: Vec<(String, String)> = Vec::new();
    if !standby {
        match (running, worker::refusal()) {
            (Running::Worker | Running::NoWorker, Some(refusal)) => problems.push(refusal),
            (Running::Worker, None) => {}
            (Running::NotPreloaded, _) => problems.push((
                "no worker: the library is not preloaded".to_owned(),
                "Add pg_calsync to shared_preload_libraries and restart, or CALL calsync_run() regularly.".into(),
            )),
            (Running::NoWorker, None) => problems.push((
                "no worker runs in this database".to_owned(),
                "See calsync.databases, max_worker_processes and the server's log.".into(),
            )),
        }
        if !enabled {
            problems.push(("calsync.enabled is off: no provider is asked".to_owned(), "Set it on, and reload.".into()));
        }
    }
    if let Webhook::Unusable(why) = settings::webhook() {
        problems.push((
            format!("calsync.webhook_url cannot be used: {why}"),
            "Set it to an https URL with a public host name, or to nothing, and reload.".into(),
        ));
    }
    if let Some(why) = &calendars.address_refused {
        problems.push((
            format!("the provider does not send notifications to calsync.webhook_url: {why}"),
            "Its host must be public, with a valid certificate, and in a domain that the cloud project may use.".into(),
        ));
    }
    if let Some(why) = calendars.why_unopened.as_ref().filter(|_| calendars.unopened > 0) {
        problems.push((
            format!("{} not asked, for their credential cannot be opened on this server: {why}", calendars.unopened),
            "Mend that; within a minute they are asked again, with calsync_sync() at once.".to_owned(),
        ));
    }
    for (count, what, hint) in [
        (
            calendars.foreign,
            "came from another database (a restore, a copy), and answer nothing until they are taken over (SC002)",
            "The worker does so once nobody has restored for ten seconds; without a worker, CALL calsync_run() or SELECT \
             calsync_repair().",
        ),
        (
            calendars.unconfirmed,
            "watched without any notification arriving: they are polled",
            "Do requests to calsync.webhook_url reach calsync_webhook()? See docs/push.md.",
        ),
        (calendars.stale, "stale or gone: questions about them fail (SC003)", "See last_error in calsync.status."),
        (
            calendars.in_state("needs_credential"),
            "waiting for somebody to act: refused by the provider, or without a credential that is good",
            "calsync.status says in last_error whose turn it is: mostly, the credential must be replaced.",
        ),
        (
            calendars.refused_url,
            "not asked: their URL is refused (SC008)",
            "See last_error in calsync.status; mend calsync.google_api_url or calsync.google_token_url, and reload.",
        ),
        (calendars.in_state("backoff"), "failing, tried again at next_sync_at", "See last_error in calsync.status."),
        (
            calendars.flagged,
            "not understood (events)",
            "SELECT * FROM calsync_events() WHERE problem IS NOT NULL tells why; they block their time.",
        ),
    ] {
        if count > 0 {
            problems.push((format!("{count} {what}"), hint.to_owned()));
        }
    }
    problems
}
