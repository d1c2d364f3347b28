//! Calendars that came from another database ([`crate::store::home`]) are taken over once nobody has been seen restoring for
//! a while: between two tables of a restore there may be moments in which nothing shows of it.

use std::time::{Duration, Instant};

use super::transactions::{Transactions, UnitFailed};
use crate::store::home;
use crate::store::whose::Whose;

/// So long nobody must have been seen restoring.
const QUIET: Duration = Duration::from_secs(10);
/// How often that is looked at, while there is a restore, or a foreign calendar.
const LOOK: Duration = Duration::from_secs(1);
/// Taken over in one go.
const AT_ONCE: usize = 20;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// All calendars are at home, and nobody restores.
    Home,
    /// Somebody restores.
    Restoring,
    /// There are foreign calendars, which must wait.
    Waiting,
    /// Some were taken over, and there may be more.
    TakingOver,
    /// Some could not be.
    Failed,
}

impl Arrival {
    /// When it is to be looked again; None: nothing hurries.
    pub fn look_again(self) -> Option<Duration> {
        match self {
            Self::Home | Self::Failed => None,
            Self::Restoring | Self::Waiting => Some(LOOK),
            Self::TakingOver => Some(Duration::ZERO),
        }
    }
}

/// Watches over the foreign calendars of these owners.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Since when there have been foreign calendars, and nobody was seen restoring.
    quiet_since: Option<Instant>,
    /// The last that was taken over, or could not be: of some that cannot the others behind them are not kept.
    after: i64,
    some_failed: bool,
}

impl Arrivals {
    /// Looks, and takes over what can be, each in a transaction of its own: a failure is told and the others go on.
    pub fn look(&mut self, transactions: &mut impl Transactions, whose: &Whose) -> Result<Arrival, UnitFailed> {
        let after = self.after;
        let (restoring, foreign) = transactions.run(&mut || {
            let restoring = home::is_being_restored()?;
            Ok((restoring, if restoring { Vec::new() } else { home::foreign(whose, after, AT_ONCE)? }))
        })?;
        if restoring {
            *self = Self::default();
            return Ok(Arrival::Restoring);
        }
        let Some(last) = foreign.last() else {
            let failed = std::mem::take(self).some_failed;
            return Ok(if failed { Arrival::Failed } else { Arrival::Home });
        };
        if self.quiet_since.get_or_insert_with(Instant::now).elapsed() < QUIET {
            return Ok(Arrival::Waiting);
        }
        self.after = *last;
        for id in &foreign {
            if let Err(failure) = transactions.run(&mut || home::take_over(*id)) {
                let reason = failure.reason;
                pgrx::warning!(
                    "pg_calsync: a restored calendar could not be taken over (subscription_id {id}): {reason}"
                );
                self.some_failed = true;
            }
        }
        Ok(Arrival::TakingOver)
    }
}
