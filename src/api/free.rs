//! `calsync_free`: when are all of these calendars free?

use calsync_core::interval::{coalesce, intersect, subtract};
use pgrx::AnyElement;
use pgrx::prelude::*;

use super::availability::{Question, TimeRange};
use super::rows::Rows;
use super::{length, multirange};
use crate::error::{Error, Report};
use crate::store::availability::MicroWindow;
use crate::store::time::Micros;

#[pg_extern(sql = false)]
fn calsync_free(
    during: Option<TimeRange>,
    calendars: Option<Vec<Option<String>>>,
    hours: Option<AnyElement>,
    min_length: Option<pgrx::datum::Interval>,
    fcinfo: pg_sys::FunctionCallInfo,
) {
    let free = || -> Result<Vec<MicroWindow>, Error> {
        let shortest = shortest(min_length)?;
        let question = Question::of(during, calendars)?;
        let open: Vec<MicroWindow> = question.window.into_iter().collect();
        let open = match &hours {
            Some(hours) => intersect(&open, &multirange::read(hours)?),
            None => open,
        };
        let busy = coalesce(question.busy_times()?.into_iter().flat_map(|(_, busy)| busy));
        let long_enough = |free: &MicroWindow| free.end().saturating_sub(free.start()) >= shortest;
        Ok(subtract(&open, &busy).into_iter().filter(long_enough).collect())
    };
    let free = free().report();
    Rows::begin(fcinfo).put_ranges(&free);
}

/// In microseconds.
fn shortest(min_length: Option<pgrx::datum::Interval>) -> Result<Micros, Error> {
    let length = length(min_length, "min_length")?.num_microseconds().unwrap_or(Micros::MAX);
    if length < 0 {
        return Err(Error::argument(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "min_length must not be negative",
            "Say how long free time must be to be of use, as in '30 min', or '0' for all of it.",
        ));
    }
    Ok(length)
}
