//! The rows of `calsync.event`, for whoever may see what the events are.

use super::columns::event_columns;
use super::plan::{Row, in_batches};
use crate::error::Error;

/// So many rows are in memory at once.
const BATCH: usize = 500;

/// Hands each event of a calendar to `put`, in the order of their ids: the calendar's name, its subscription, and the
/// columns of `calsync.event`.
pub fn each(subscription: i64, calendar: &str, mut put: impl FnMut(&Row) -> Result<(), Error>) -> Result<(), Error> {
    let sql = concat!(
        "SELECT $2::text, subscription_id, ",
        event_columns!(),
        " FROM calsync.event WHERE subscription_id = $1 ORDER BY event_id"
    );
    in_batches(sql, &[subscription.into(), calendar.into()], BATCH, |rows| {
        pgrx::check_for_interrupts!();
        rows.iter().try_for_each(&mut put)
    })
}
