//! What must happen without any provider: claims of the dead are given back, windows slide, what is past goes.

use super::transactions::{Transactions, UnitFailed};
use crate::error::Error;
use crate::store::whose::Whose;
use crate::store::{claims, retention, upkeep};

/// Something that must be done to some calendars.
struct Task {
    complaint: &'static str,
    /// Which need it, at most so many.
    calendars: fn(&Whose, usize) -> Result<Vec<i64>, Error>,
    run: fn(i64) -> Result<(), Error>,
    /// One that failed is first in line again: then the rest waits for the next heartbeat, or we would spin.
    returns_at_once: bool,
}

const TASKS: [Task; 3] = [
    Task {
        complaint: "the window of a calendar could not be slid",
        calendars: upkeep::to_slide,
        run: upkeep::slide,
        returns_at_once: true,
    },
    Task {
        complaint: "a calendar could not be cleaned",
        calendars: retention::take_to_clean,
        run: |id| retention::clean(id).map(drop),
        returns_at_once: false,
    },
    Task {
        complaint: "a calendar could not be made to be listed in full",
        calendars: retention::to_relist,
        run: retention::relist,
        returns_at_once: true,
    },
];

/// Does what is to be done with these owners' calendars, `at_most` of each task, one a transaction: a failure is told and
/// the others go on. Returns whether there is more to do at once. What is past its time goes whoever's it was.
pub fn run(transactions: &mut impl Transactions, whose: &Whose, at_most: usize) -> Result<bool, UnitFailed> {
    transactions.run(&mut claims::release_claims_of_the_dead)?;
    let mut more = false;
    for task in TASKS {
        let ids = transactions.run(&mut || (task.calendars)(whose, at_most))?;
        let mut failures = 0;
        for id in &ids {
            if let Err(failed) = transactions.run(&mut || (task.run)(*id)) {
                pgrx::warning!("pg_calsync: {} (subscription_id {id}): {}", task.complaint, failed.reason);
                failures += 1;
            }
        }
        more |= ids.len() == at_most && (failures == 0 || !task.returns_at_once);
    }
    let history = transactions.run(&mut || retention::forget_history(&Whose::EVERYBODYS))?;
    Ok(more || retention::is_whole_batch(history))
}
