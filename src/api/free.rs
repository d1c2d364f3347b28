//! `calsync_free`: when are all of these calendars free?

use calsync_core::interval::{Interval, intersect, subtract};
use pgrx::AnyElement;
use pgrx::prelude::*;

use super::availability::{Question, TimeRange, names, window};
use super::rows::{Ends, Rows};
use super::{length, multirange, required};
use crate::error::{Error, Report};
use crate::store::availability::MicroWindow;
use crate::store::time::Micros;

#[pg_extern(sql = false)]
fn calsync_free(
    during: Option<TimeRange>,
    calendars: Option<Array<'_, &str>>,
    hours: Option<AnyElement>,
    min_length: Option<pgrx::datum::Interval>,
    fcinfo: pg_sys::FunctionCallInfo,
) {
    let free = || -> Result<(), Error> {
        let shortest = shortest(min_length)?;
        let during = required(during, "during")?;
        let ends = Ends::of(&during);
        let names = names(&required(calendars, "calendars")?)?;
        let open: Vec<MicroWindow> = window(during)?.into_iter().collect();
        let open = match &hours {
            Some(hours) => intersect(&open, &multirange::read(hours, "hours")?),
            None => open,
        };
        // What is not asked for need not be known.
        let all = open.first().zip(open.last()).and_then(|(first, last)| Interval::new(first.start(), last.end()));
        let busy = Question::about(all, names)?.busy_time_of_all()?;
        let long_enough = |free: &MicroWindow| free.end().saturating_sub(free.start()) >= shortest;
        let free: Vec<MicroWindow> = subtract(&open, &busy).into_iter().filter(long_enough).collect();
        Rows::begin(fcinfo, ends).put_ranges(&free);
        Ok(())
    };
    free().report();
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
