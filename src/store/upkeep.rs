//! What must happen without any provider: windows slide. (What is past goes: see [`super::retention`].)

use pgrx::prelude::*;

use super::expansion;
use super::subscription::{TryLock, try_lock};
use crate::error::Error;
use crate::settings;

/// Calendars whose window no longer reaches as far as the settings want, those that lack most first. Whoever feeds
/// them, and whether or not they are paused: their time goes on.
pub fn to_slide(limit: usize) -> Result<Vec<i64>, Error> {
    let settings::Window { horizon, retention } = settings::window();
    Spi::connect_mut(|client| {
        let table = client.update(
            "SELECT subscription_id FROM calsync.subscription \
             WHERE NOT isempty(covered) AND (upper(covered) < now() + make_interval(secs => $1) \
                 OR lower(covered) > greatest(now() - make_interval(secs => $2), complete_from)) \
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
