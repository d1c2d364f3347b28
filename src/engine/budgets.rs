//! Budgets of requests, shared by all workers and foreground runs of the cluster.
//!
//! The ledger ([`calsync_core::budget`]) lies in shared memory where the library is preloaded; a session that loaded it
//! itself, in a cluster without workers, has a ledger of its own. After a crash of the server it begins anew: what was
//! sent in the last minute is forgotten, so that minute may hold one burst too many.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use calsync_core::budget::{Allowance, Allowances, Ledger, Micros, Spent};
use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_shmem_init};

use crate::settings::Settings;

/// Whose budget a request uses: owner and name; None: all calendars without a credential.
pub type Credential = Option<(String, String)>;

#[derive(Clone, Copy, Default)]
struct SharedLedger(Ledger);

// SAFETY: plain numbers without pointers, the same for every process.
unsafe impl PGRXSharedMemory for SharedLedger {}

// SAFETY: initialized by `register` while the library is preloaded; `is_preloaded` guards every access.
static LEDGER: PgLwLock<SharedLedger> = unsafe { PgLwLock::new(c"calsync ledger") };

thread_local! {
    static OWN_LEDGER: RefCell<Box<Ledger>> = RefCell::default();
}

pub fn register() {
    pg_shmem_init!(LEDGER);
}

/// Requests that may be sent again are awaited in batches, not one by one.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);

/// What this process knows of the budgets: who has to wait, and until when.
#[derive(Default)]
pub struct Budgets {
    waiting: HashMap<Credential, Micros>,
    all_wait: Micros,
}

impl Budgets {
    /// Charges a request to its credential and the project, or says why it must wait.
    pub fn charge(&mut self, credential: &Credential, settings: &Settings) -> Result<(), Spent> {
        let allowed = Allowances {
            credential: Allowance::per_minute(settings.requests_per_minute),
            project: Allowance::per_minute(settings.project_requests_per_minute),
        };
        let (key, now) = (key(credential), now());
        let charged = if crate::worker::is_preloaded() {
            LEDGER.exclusive().0.charge(key, allowed, now)
        } else {
            OWN_LEDGER.with_borrow_mut(|ledger| ledger.charge(key, allowed, now))
        };
        match charged {
            Ok(()) => {}
            Err(Spent::Credential { until }) => {
                self.waiting.insert(credential.clone(), until);
            }
            Err(Spent::Project { until }) => self.all_wait = until,
        }
        charged
    }

    /// The credentials whose budget is known to be spent just now.
    pub fn spent(&mut self) -> impl Iterator<Item = &Credential> {
        let now = now();
        self.waiting.retain(|_, until| *until > now);
        self.waiting.keys()
    }

    /// Until somebody may send again who may not now; None: nobody waits.
    pub fn shortest_wait(&self) -> Option<Duration> {
        let now = now();
        let waits = self.waiting.values().copied().chain([self.all_wait]).filter(|until| *until > now);
        waits.min().map(|until| Duration::from_micros(until - now).max(SHORTEST_WAIT))
    }
}

/// From now until then.
pub fn wait_until(then: Micros) -> Duration {
    Duration::from_micros(then.saturating_sub(now()))
}

/// The same number in every process of the cluster, another one in another database.
fn key(credential: &Credential) -> u64 {
    let mut hasher = DefaultHasher::new();
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::MyDatabaseId }.to_u32().hash(&mut hasher);
    credential.hash(&mut hasher);
    hasher.finish()
}

/// Of a clock that never goes back and that all processes share, unlike [`std::time::Instant`]'s hidden number.
fn now() -> Micros {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the struct; this clock exists on every system that Postgres runs on.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1000
}
