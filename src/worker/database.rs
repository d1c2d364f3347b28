//! The worker of one database: claims what is due, asks, applies, slides windows, sleeps until the next is due.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use chrono::Utc;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::board::{self, Report};
use super::{behave_as_a_backend, latch, reload_if_asked, role, wake};
use crate::engine::arrivals::{Arrival, Arrivals};
use crate::engine::transactions::{Transactions, WorkerTransactions};
use crate::engine::{Counts, Engine, upkeep};
use crate::panics::speechless;
use crate::settings::{self, Settings, Webhook};
use crate::store::whose::Whose;
use crate::store::{claims, time};

/// The longest sleep: windows slide and history ends by the clock.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// The pause after a unit of work failed that is nobody's in particular, and until it is looked whether what is in the way
/// of all of them was mended: nobody tells the worker of a GRANT.
const PAUSE: Duration = Duration::from_secs(5);
/// The pause after looking for work in vain.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked whether calendars have come from another database, for the first minutes: a worker starts as soon
/// as the extension is there, and a restore goes on from that.
const EARLY_LOOK: Duration = Duration::from_secs(5);
const EARLY: Duration = Duration::from_secs(300);
/// Calendars slid or cleaned in one go, so that those that are due need not wait for all of them.
const AT_ONCE: usize = 20;

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn calsync_worker_main(argument: pg_sys::Datum) {
    behave_as_a_backend();
    // SAFETY: the launcher passes the database's oid; a datum holds it whole.
    let database = pg_sys::Oid::from(argument.value() as u32);
    // SAFETY: MyBgworkerEntry is set in every background worker; the launcher wrote the database's name, 0-terminated.
    let name = unsafe { CStr::from_ptr((*pg_sys::MyBgworkerEntry).bgw_extra.as_ptr()) };
    role::connect(name);
    board::worker_started(database);
    // SAFETY: runs while shared memory is still there, whichever way the process ends.
    unsafe { pg_sys::before_shmem_exit(Some(ended), argument) };
    reload_if_asked();
    let now = Instant::now();
    let worker = Worker {
        transactions: WorkerTransactions,
        last_upkeep: None,
        arrivals: Arrivals::default(),
        next_look: now,
        begun: now,
        started_at: time::micros(Utc::now()),
    };
    match speechless(|| worker.run()) {
        Departure::NoExtension => board::worker_ended(database, true),
        Departure::NotWanted => board::worker_ended(database, false),
    }
    // SAFETY: ends the process the regular way; the launcher decides whether another follows.
    unsafe { pg_sys::proc_exit(0) };
}

#[pg_guard]
unsafe extern "C-unwind" fn ended(_code: i32, database: pg_sys::Datum) {
    board::worker_ended(pg_sys::Oid::from(database.value() as u32), false);
}

/// Why the worker leaves.
enum Departure {
    NoExtension,
    /// `calsync.databases` no longer names this one, or somebody wants it for himself.
    NotWanted,
}

/// What the library finds in the database.
#[derive(PartialEq, Eq)]
enum Installed {
    Missing,
    OtherVersion(String),
    /// The tables are there, and the role that the worker is connected as may not write them.
    Closed,
    /// The role that the worker is to be has changed, and may do what it shall not.
    TooMighty(role::Refusal),
    Ours,
}

struct Worker {
    transactions: WorkerTransactions,
    last_upkeep: Option<Instant>,
    arrivals: Arrivals,
    /// When to look at them next.
    next_look: Instant,
    begun: Instant,
    /// In microseconds since 2000.
    started_at: i64,
}

impl Worker {
    fn run(mut self) -> Departure {
        if let Some(departure) = self.look() {
            return departure;
        }
        let mut settings = Settings::snapshot();
        complain_about_webhook(&settings.webhook);
        let mut engine = loop {
            match Engine::new(Whose::EVERYBODYS, &settings) {
                Ok(engine) => break engine,
                Err(error) => {
                    pgrx::warning!("pg_calsync: the HTTP threads could not be prepared: {error}");
                    latch::wait_for(None, Some(HEARTBEAT));
                }
            }
        };
        self.report(&engine, &settings);
        let mut released = false;
        // What was said last, once.
        let mut complained = None;
        loop {
            if reload_if_asked() {
                let before = std::mem::replace(&mut settings, Settings::snapshot());
                if settings.webhook != before.webhook {
                    complain_about_webhook(&settings.webhook);
                }
                engine.reconfigure(&settings);
                // Windows may have to reach further now.
                self.last_upkeep = None;
                self.next_look = Instant::now();
                if !self.is_wanted() {
                    return Departure::NotWanted;
                }
                self.report(&engine, &settings);
            }
            // SAFETY: reads a variable of the backend.
            if board::is_held(unsafe { pg_sys::MyDatabaseId }) {
                return Departure::NotWanted;
            }
            match self.installed() {
                Some(Installed::Ours) => complained = None,
                Some(Installed::Missing) => return Departure::NoExtension,
                Some(impediment @ (Installed::OtherVersion(_) | Installed::Closed | Installed::TooMighty(_))) => {
                    if complained.as_ref() != Some(&impediment) {
                        complain(&impediment);
                        complained = Some(impediment);
                    }
                    latch::wait_for(None, Some(PAUSE));
                    continue;
                }
                None => {
                    latch::wait_for(None, Some(PAUSE));
                    continue;
                }
            }
            if !released {
                released = self.transactions.run(&mut claims::release_claims_of_the_dead).is_ok();
            }
            engine.handle_answers(&mut self.transactions, &settings);
            if let Err(failed) = engine.pass_on_news(&mut self.transactions) {
                pgrx::warning!("pg_calsync: news could not be passed on: {}", failed.reason);
            }
            let claimed = engine.claim(&mut self.transactions, &settings, usize::MAX);
            if let Err(failed) = engine.tend_channels(&mut self.transactions, &settings) {
                pgrx::warning!("pg_calsync: push channels could not be tended: {}", failed.reason);
            }
            self.take_over();
            let more_upkeep = self.upkeep();
            let claimed_none = matches!(claimed, Ok(0));
            let sleep = match claimed {
                Err(failed) => {
                    pgrx::warning!("pg_calsync: no calendar could be claimed: {}", failed.reason);
                    PAUSE
                }
                Ok(_) if more_upkeep => Duration::ZERO,
                Ok(_) => self.sleep_until_due(&engine, &settings),
            };
            // What is due and yet could not be claimed is locked, or its budget is spent: no reason to spin.
            let sleep = if claimed_none && !more_upkeep { sleep.max(SHORTEST_PAUSE) } else { sleep };
            self.report(&engine, &settings);
            let waits = engine.shortest_wait().into_iter().chain(engine.until_tending(&settings));
            let waits = waits.chain([self.next_look.saturating_duration_since(Instant::now())]);
            let sleep = waits.chain([sleep]).min().unwrap_or(sleep);
            latch::wait_for(Some(engine.doorbell()), Some(sleep));
        }
    }

    /// Whether there is anything to do here, before anything is made ready for it: most workers are started only to look,
    /// and the launcher waits for what they find.
    fn look(&mut self) -> Option<Departure> {
        // SAFETY: reads a variable of the backend.
        let database = unsafe { pg_sys::MyDatabaseId };
        loop {
            if board::is_held(database) {
                return Some(Departure::NotWanted);
            }
            match self.installed() {
                Some(Installed::Missing) => return Some(Departure::NoExtension),
                Some(_) => break,
                None => latch::wait_for(None, Some(PAUSE)),
            }
        }
        board::found(database);
        wake::nudge(board::launcher());
        None
    }

    /// For `calsync.stat_worker`.
    fn report(&self, engine: &Engine, settings: &Settings) {
        // SAFETY: reads variables of the backend.
        let (database, pid, config_loaded_at) =
            unsafe { (pg_sys::MyDatabaseId, pg_sys::MyProcPid, pg_sys::PgReloadTime) };
        let Counts { requests, answers, failures, last_answer_at } = engine.counts;
        board::report(
            database,
            Report {
                database: database.to_u32(),
                pid,
                started_at: self.started_at,
                config_loaded_at,
                last_answer_at,
                under_way: engine.under_way() as u32,
                width: engine.width(settings) as u32,
                requests,
                answers,
                failures,
            },
        );
    }

    fn is_wanted(&self) -> bool {
        // SAFETY: MyBgworkerEntry is set in every background worker; the name ends in 0.
        let name = unsafe { CStr::from_ptr((*pg_sys::MyBgworkerEntry).bgw_extra.as_ptr()) };
        settings::serves_database(&name.to_string_lossy())
    }

    /// None: it could not be found out just now.
    fn installed(&mut self) -> Option<Installed> {
        crate::engine::transactions::catalog_query(|| {
            Spi::connect(|client| {
                let sql = "SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'pg_calsync'";
                let mut table = client.select(sql, None, &[])?;
                let version = match table.next() {
                    Some(row) => row.get::<String>(1)?,
                    None => None,
                };
                Ok(match version {
                    None => Installed::Missing,
                    Some(version) if version != env!("CARGO_PKG_VERSION") => Installed::OtherVersion(version),
                    Some(_) => match role::excess() {
                        Some(refusal) => Installed::TooMighty(refusal),
                        None if role::may_write()? => Installed::Ours,
                        None => Installed::Closed,
                    },
                })
            })
        })
        .ok()
    }

    /// Takes over what came from another database, if it is time to look.
    fn take_over(&mut self) {
        if Instant::now() < self.next_look {
            return;
        }
        let arrival = self.arrivals.look(&mut self.transactions, &Whose::EVERYBODYS).unwrap_or_else(|failed| {
            pgrx::warning!("pg_calsync: it could not be looked for restored calendars: {}", failed.reason);
            Arrival::Failed
        });
        let seldom = if self.begun.elapsed() < EARLY { EARLY_LOOK } else { HEARTBEAT };
        self.next_look = Instant::now()
            + match arrival {
                Arrival::Failed => HEARTBEAT,
                _ => arrival.look_again().unwrap_or(seldom),
            };
    }

    /// Slides windows and removes what is past, at most once a heartbeat. Returns whether there is more to do at once.
    fn upkeep(&mut self) -> bool {
        if self.last_upkeep.is_some_and(|last| last.elapsed() < HEARTBEAT) {
            return false;
        }
        let more = upkeep::run(&mut self.transactions, &Whose::EVERYBODYS, AT_ONCE).unwrap_or_else(|failed| {
            pgrx::warning!("pg_calsync: windows were not slid and nothing was cleaned: {}", failed.reason);
            false
        });
        if !more {
            self.last_upkeep = Some(Instant::now());
        }
        more
    }

    fn sleep_until_due(&mut self, engine: &Engine, settings: &Settings) -> Duration {
        if !settings.enabled {
            return HEARTBEAT;
        }
        if !engine.has_room(settings) {
            return HEARTBEAT;
        }
        match self.transactions.run(&mut claims::next_due) {
            Ok(Some(due)) => (due - Utc::now()).to_std().unwrap_or(Duration::ZERO).min(HEARTBEAT),
            Ok(None) => HEARTBEAT,
            Err(_) => PAUSE,
        }
    }
}

fn complain_about_webhook(webhook: &Webhook) {
    let Webhook::Unusable(why) = webhook else { return };
    pgrx::pg_sys::panic::ErrorReport::new(
        PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
        format!("pg_calsync: calsync.webhook_url cannot be used: {why}"),
        "",
    )
    .set_detail("No push channel is opened, and none that is open is stopped.")
    .set_hint("Providers deliver to an https URL with a public host name and a valid certificate; empty: no push.")
    .report(PgLogLevel::WARNING);
}

/// Says why nothing is synced.
fn complain(impediment: &Installed) {
    let version = match impediment {
        Installed::OtherVersion(version) => version,
        Installed::TooMighty(refusal) => return refusal.tell(),
        _ => return role::complain_about_rights(),
    };
    pgrx::pg_sys::panic::ErrorReport::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "pg_calsync: the database has version {version} of the extension, the library is {}",
            env!("CARGO_PKG_VERSION")
        ),
        "",
    )
    .set_hint("ALTER EXTENSION pg_calsync UPDATE; calendars are not synced until then.")
    .report(PgLogLevel::WARNING);
}
