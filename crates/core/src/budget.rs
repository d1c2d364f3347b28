//! How many requests may be sent: so many a minute for each credential, and so many for all of a provider's project.
//!
//! The generic cell rate algorithm (ITU-T I.371): an account remembers one number, until when it is *paid*. A request
//! pays for one interval more, and is refused while the account is paid too far ahead. So what is sent is smooth: a
//! small burst, then one request an interval, instead of everything in the first second of each minute; and no sliding
//! minute, wherever it begins, holds more than was allowed.
//!
//! Pure: the time comes in as microseconds of a clock that never goes back. The ledger has a fixed size and no
//! pointers, so that it can lie in memory that processes share.
//!
//! The hard cases, each with a test of the same name in `tests/budget.rs`:
//! - `no_sliding_minute_holds_more_than_was_allowed`
//! - `a_spent_credential_leaves_the_others_alone`
//! - `the_project_is_not_charged_for_a_request_that_its_credential_refuses`
//! - `a_full_ledger_forgets_the_account_that_owes_least`

/// Microseconds of a clock that never goes back.
pub type Micros = u64;

const MINUTE: Micros = 60_000_000;
/// The part of a minute's requests that may be sent at once.
const BURST: u32 = 10;

/// So many requests a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Between two requests, in the long run.
    interval: Micros,
    /// How far ahead an account may be paid.
    tolerance: Micros,
}

impl Allowance {
    /// At most `requests` (0 counts as 1) in any sliding minute, a tenth of them at once.
    pub fn per_minute(requests: u32) -> Self {
        let requests = requests.max(1);
        let burst = (requests / BURST).max(1);
        // A minute that opens with a burst goes on with one request an interval; together they are `requests`.
        let interval = MINUTE.div_ceil(Micros::from(requests - burst + 1));
        Allowance { interval, tolerance: interval * Micros::from(burst - 1) }
    }

    /// Until when the account is paid after one request more; Err: when it may be sent.
    fn charge(self, paid_until: Micros, now: Micros) -> Result<Micros, Micros> {
        let paid_until = paid_until.max(now);
        if paid_until - now > self.tolerance {
            return Err(paid_until - self.tolerance);
        }
        Ok(paid_until + self.interval)
    }
}

/// Whom a request is charged to; a hash of whatever names it.
pub type Key = u64;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Account {
    key: Key,
    paid_until: Micros,
}

/// Accounts that can share a place; a key has one place.
const WAYS: usize = 8;
const PLACES: usize = 512;

/// The accounts of one project's credentials. An account that is paid up is forgotten, so that few are remembered at
/// once: those asked within the last seconds.
#[derive(Debug, Clone, Copy)]
pub struct Ledger {
    project: Micros,
    credentials: [[Account; WAYS]; PLACES],
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger { project: 0, credentials: [[Account::default(); WAYS]; PLACES] }
    }
}

/// Why a request must wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// Its credential's budget: other credentials may send.
    Credential { until: Micros },
    /// The project's: nobody may.
    Project { until: Micros },
}

impl Spent {
    pub fn until(self) -> Micros {
        match self {
            Spent::Credential { until } | Spent::Project { until } => until,
        }
    }
}

/// What is allowed just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowances {
    pub credential: Allowance,
    pub project: Allowance,
}

impl Ledger {
    /// Charges one request, or charges nothing and says until when it must wait.
    pub fn charge(&mut self, key: Key, allowed: Allowances, now: Micros) -> Result<(), Spent> {
        let account = account(&mut self.credentials[(key % PLACES as u64) as usize], key, now);
        let paid_until = if account.key == key { account.paid_until } else { now };
        let credential = allowed.credential.charge(paid_until, now).map_err(|until| Spent::Credential { until })?;
        self.project = allowed.project.charge(self.project, now).map_err(|until| Spent::Project { until })?;
        *account = Account { key, paid_until: credential };
        Ok(())
    }
}

/// The account of `key`, or the one whose place it may take: paid up, or else the one that owes least.
fn account(place: &mut [Account; WAYS], key: Key, now: Micros) -> &mut Account {
    let owed = |account: &Account| account.paid_until.saturating_sub(now);
    let at = place
        .iter()
        .position(|account| account.key == key)
        .or_else(|| (0..WAYS).min_by_key(|&at| owed(&place[at])))
        .unwrap_or_default();
    &mut place[at]
}
