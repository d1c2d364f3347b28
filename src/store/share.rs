//! Shares: who besides the owner may ask about a calendar. How they are read when somebody asks: [`super::availability`].

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::availability;
use super::owner::{may_see, role_named};
use super::plan::under_latest_snapshot;
use super::subscription::Subscription;
use crate::error::Error;

/// Lets `with` ask about the calendar, whose row must be locked; saying it again is harmless.
pub fn add(subscription: &Subscription, with: &str) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "INSERT INTO calsync.share (subscription_id, role) VALUES ($1, $2::name) \
             ON CONFLICT (subscription_id, role) DO NOTHING",
            None,
            &[subscription.id.into(), with.into()],
        )?;
        Ok(())
    })
}

/// Takes back what `role` may take back: its own calendar of this name is no longer shared with `with`, and if `role` is
/// a member of `with`, neither is anybody else's. Whether anything was.
pub fn remove(role: pg_sys::Oid, calendar: &str, with: &str) -> Result<bool, Error> {
    let mut found = under_latest_snapshot(|| availability::find_all(role, &[calendar.to_owned()]))?;
    let mut meant = found.pop().map(|(_, meant)| meant).unwrap_or_default();
    let owners = meant.iter().filter(|answerer| answerer.owned).map(|answerer| answerer.owner.clone());
    let owners: Vec<String> = owners.collect();
    if owners.len() > 1 {
        return Err(Error::AmbiguousCalendar { calendar: calendar.to_owned(), owners });
    }
    let is_guest = role_named(with).is_some() && may_see(role, with);
    meant.retain(|answerer| answerer.owned || is_guest);
    let ids: Vec<i64> = meant.into_iter().map(|answerer| answerer.id).collect();
    Spi::connect_mut(|client| {
        let table = client.update(
            "DELETE FROM calsync.share WHERE subscription_id = ANY ($1) AND role = $2::name RETURNING role",
            None,
            &[ids.into(), with.into()],
        )?;
        Ok(!table.is_empty())
    })
}

/// Forgets shares with roles that there are none of: a new role of that name would be another's.
pub fn forget_unknown(subscription: i64) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        client.update(
            "DELETE FROM calsync.share AS h WHERE h.subscription_id = $1 \
                 AND NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = h.role)",
            None,
            &[subscription.into()],
        )?;
        Ok(())
    })
}
