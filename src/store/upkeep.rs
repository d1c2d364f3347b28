//! What must happen without any provider: windows slide. (What is past goes: see [`super::retention`].)

use pgrx::prelude::*;

use super::expansion;
use super::home;
use super::subscription::{TryLock, try_lock};
use super::whose::{Whose, is_theirs};
use crate::error::Error;
use crate::settings;

/// Calendars of these owners whose window no longer reaches as far as the settings want, those that lack most first. Whoever feeds
/// them, and whether or not they are paused: their time goes on.
pub fn to_slide(whose: &Whose, limit: usize) -> Result<Vec<i64>, Error> {
    let settings::Window { horizon, retention } = settings::window();
    Spi::connect_mut(|client| {
        let sql = format!(
            "SELECT s.subscription_id FROM calsync.subscription AS s \
             WHERE NOT isempty(covered) AND (upper(covered) < now() + make_interval(secs => $1) \
                 OR lower(covered) > greatest(now() - make_interval(secs => $2), complete_from)) AND {} AND {} \
             ORDER BY upper(covered) LIMIT $3 FOR UPDATE SKIP LOCKED",
            is_theirs("owner", 4),
            home::is_at_home("s")?
        );
        let window = [horizon.as_secs_f64().into(), retention.as_secs_f64().into()];
        let [horizon, retention] = window;
        let table = client.update(&sql, None, &[horizon, retention, (limit as i64).into(), whose.parameter()])?;
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
