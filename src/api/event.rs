//! `calsync_events`: what are the events of these calendars?
//!
//! A function, and not a SELECT on the table under row security: Postgres lets its own comparisons be tried on rows
//! that row security hides, and EXPLAIN ANALYZE counts what they leave. Whoever may write statements could so ask about
//! titles that he is never shown (docs/security.md, "What others can learn").

use pgrx::prelude::*;

use super::availability::{names, refuse_foreign};
use super::rows::result_of;
use crate::error::{Error, Report};
use crate::store::owner::{as_owner, caller};
use crate::store::plan::under_one_snapshot;
use crate::store::{availability, event};

#[pg_extern(sql = false)]
fn calsync_events(calendars: Option<Array<'_, &str>>, fcinfo: pg_sys::FunctionCallInfo) {
    let events = || -> Result<(), Error> {
        let names = calendars.as_ref().map(names).transpose()?;
        let role = caller();
        let (store, description) = result_of(fcinfo);
        as_owner(|| {
            let meant = availability::meant(role, names.as_deref())?;
            under_one_snapshot(|| {
                meant.iter().try_for_each(|calendar| {
                    refuse_foreign(calendar, "its events")?;
                    event::each(calendar.id, &calendar.calendar, |row| row.put_into(store, description))
                })
            })
        })
    };
    events().report();
}
