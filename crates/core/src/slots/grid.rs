//! Where a meeting may begin: the boundaries of a step, as the clock on the wall shows them.
//!
//! A boundary is an instant at which the wall clock shows a whole number of steps since 00:00. So the steps begin anew
//! each day where a day is no whole number of them; a time that the clocks skip is no boundary, one that they show
//! twice is two.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::interval::Interval;
use crate::invalid::Invalid;
use crate::zone::{Stretch, stretch_at};

const DAY: i64 = 86_400_000_000;

/// The boundaries of a step in a zone.
#[derive(Debug, Clone)]
pub struct Grid {
    zone: Tz,
    /// In microseconds; more than none, at most a day.
    step: i64,
    /// Where the last boundary was looked for: the next one is near.
    stretch: Option<Stretch>,
}

impl Grid {
    pub fn new(step: TimeDelta, zone: Tz) -> Result<Self, Invalid> {
        let step = step.num_microseconds().unwrap_or(i64::MAX);
        if step <= 0 {
            return Err(Invalid::new(
                "step must be longer than nothing",
                "Say how far apart slots begin, as in '15 min'.",
            ));
        }
        if step > DAY {
            return Err(Invalid::new(
                "step must not be longer than a day",
                "Steps are counted from local midnight: pass '1 day' or less, and select from the slots.",
            ));
        }
        Ok(Self { zone, step, stretch: None })
    }

    /// The first boundary at or after `from`; None at the end of time.
    pub fn next(&mut self, from: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = from;
        loop {
            let stretch = match self.stretch {
                Some(stretch) if stretch.interval.contains(from) => stretch,
                _ => stretch_at(from, self.zone)?,
            };
            self.stretch = Some(stretch);
            let boundary = self.shown_from(from, stretch.offset)?;
            if boundary < stretch.interval.end() {
                return Some(boundary);
            }
            from = stretch.interval.end();
        }
    }

    /// The boundaries within an interval, in order.
    pub fn within(&mut self, interval: Interval) -> impl Iterator<Item = DateTime<Utc>> {
        let mut from = Some(interval.start());
        std::iter::from_fn(move || {
            let boundary = self.next(from?).filter(|boundary| *boundary < interval.end())?;
            from = just_after(boundary);
            Some(boundary)
        })
    }

    /// The first boundary from here on, were the clocks never to change.
    fn shown_from(&self, from: DateTime<Utc>, offset: TimeDelta) -> Option<DateTime<Utc>> {
        let offset = offset.num_microseconds()?;
        let local = from.timestamp_micros().checked_add(offset)?;
        let midnight = local - local.rem_euclid(DAY);
        let steps = (local - midnight + self.step - 1) / self.step;
        let shown = midnight + (steps * self.step).min(DAY);
        DateTime::from_timestamp_micros(shown.checked_sub(offset)?)
    }
}

/// The next instant that Postgres can tell apart.
pub(super) fn just_after(instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
    instant.checked_add_signed(TimeDelta::microseconds(1))
}
