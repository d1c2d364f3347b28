//! What must happen without any provider: windows slide, history ends.

use chrono::TimeDelta;
use pgrx::prelude::*;

use super::expansion;
use super::subscription::{TryLock, try_lock};
use super::time;
use crate::error::Error;
use crate::settings;

/// How long history is kept.
const HISTORY: TimeDelta = TimeDelta::days(7);
/// Rows of history removed by one transaction.
const HISTORY_BATCH: i64 = 10_000;

/// Calendars whose window no longer reaches as far as the settings want, those that lack most first. Whoever feeds
/// them, and whether or not they are paused: their time goes on.
pub fn to_slide(limit: usize) -> Result<Vec<i64>, Error> {
    let settings::Window { horizon, retention } = settings::window();
    Spi::connect_mut(|client| {
        let table = client.update(
            "SELECT subscription_id FROM calsync.subscription \
             WHERE NOT isempty(covered) AND (upper(covered) < now() + make_interval(secs => $1) \
                 OR lower(covered) > now() - make_interval(secs => $2)) \
             ORDER BY upper(covered) LIMIT $3 FOR UPDATE SKIP LOCKED",
            None,
            &[horizon.as_secs_f64().into(), retention.as_secs_f64().into(), (limit as i64).into()],
        )?;
        table.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect()
    })
}

/// Slides one calendar's window.
pub fn slide(id: i64) -> Result<(), Error> {
    match try_lock(id)? {
        TryLock::Locked(mut subscription) => expansion::slide(&mut subscription),
        TryLock::HeldElsewhere | TryLock::Gone => Ok(()),
    }
}

/// Removes history past its time. Returns whether there is more to remove.
pub fn forget_history() -> Result<bool, Error> {
    Spi::connect_mut(|client| {
        let table = client.update(
            "DELETE FROM calsync.sync_run WHERE (subscription_id, run_id) IN ( \
                 SELECT subscription_id, run_id FROM calsync.sync_run WHERE finished_at < $1 LIMIT $2) \
             RETURNING run_id",
            None,
            &[time::timestamp(time::now() - HISTORY)?.into(), HISTORY_BATCH.into()],
        )?;
        Ok(table.len() as i64 == HISTORY_BATCH)
    })
}
