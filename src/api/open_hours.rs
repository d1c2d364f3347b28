//! `calsync_open_hours`: weekly hours in local time, with overrides, as a multirange.

use calsync_core::interval::Interval;
use calsync_core::open_hours::OpenHours;
use pgrx::AnyElement;
use pgrx::prelude::*;

use super::availability::{TimeRange, window};
use super::rows::Ends;
use super::slots::pause;
use super::{in_local_time, json_argument, multirange, required, zone_argument};
use crate::error::{Error, Report};
use crate::store::availability::MicroWindow;
use crate::store::time::micros;

#[pg_extern(sql = false)]
fn calsync_open_hours(
    during: Option<TimeRange>,
    time_zone: Option<&str>,
    weekly: Option<AnyElement>,
    overrides: Option<AnyElement>,
) -> AnyElement {
    let open_hours = || -> Result<AnyElement, Error> {
        let window = window(required(during, "during")?)?.map(in_local_time).transpose()?;
        let zone = zone_argument(time_zone)?;
        let hours = OpenHours::parse(&json_argument(weekly, "weekly")?, &json_argument(overrides, "overrides")?)?;
        let open = window.map_or(Ok(Vec::new()), |window| hours.within(window, zone, pause))?;
        let micros = |open: Interval| Interval::new(micros(open.start()), micros(open.end()));
        let open: Vec<MicroWindow> = open.into_iter().filter_map(micros).collect();
        multirange::write(&open, Ends::none())
    };
    open_hours().report()
}
