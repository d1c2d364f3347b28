//! When is somebody open for meetings: weekly hours in local time, with exceptions for single dates.
//!
//! Hours belong to the date on which they begin, also where they go on past midnight; an override replaces the weekly
//! hours of its date. A time on the wall clock means the first instant at which the clock has reached it.
//!
//! The hard cases, each with a test of the same name in `tests/open_hours.rs`:
//! - `hours_past_midnight_belong_to_the_day_they_begin_on`
//! - `a_day_of_23_hours_is_shorter`, and one of 25 longer
//! - `hours_that_begin_in_a_gap_begin_after_it`
//! - `a_closure_beats_other_overrides_of_its_date`

mod parse;

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use crate::interval::{Interval, coalesce};
use crate::invalid::Invalid;
use crate::zone;

/// The longest window that is answered: a hundred years.
const MOST_DAYS: i64 = 36_525;
/// So many intervals, before touching ones are merged, are computed at most.
const MOST_INTERVALS: usize = 1_000_000;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// More than we are willing to compute.
    #[error("{0}")]
    TooMuch(Invalid),
}

/// From a time on the wall clock to another, in time since 00:00; past midnight where the end is 24 hours or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hours {
    start: TimeDelta,
    end: TimeDelta,
}

impl Hours {
    fn on(self, date: NaiveDate, zone: Tz) -> Option<Interval> {
        let reached = |since_midnight| -> Option<DateTime<Utc>> {
            let local = date.and_hms_opt(0, 0, 0)?.checked_add_signed(since_midnight)?;
            Some(zone::reached(local, zone))
        };
        Interval::new(reached(self.start)?, reached(self.end)?)
    }
}

/// What holds on a date instead of the weekly hours.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Override {
    from: NaiveDate,
    to: NaiveDate,
    /// None: closed.
    hours: Option<Hours>,
}

/// Weekly hours and their overrides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenHours {
    /// By day of the week, from Monday.
    weekly: [Vec<Hours>; 7],
    overrides: Vec<Override>,
}

impl OpenHours {
    /// `weekly`: `[{"days": ["mon", "tue"], "start": "09:00", "end": "17:00"}, ...]`.
    /// `overrides`: `[{"date": "2026-12-24", "start": "09:00", "end": "12:00"}, {"from": "2026-12-25", "to": "2026-12-31",
    /// "closed": true}, ...]`.
    pub fn parse(weekly: &Value, overrides: &Value) -> Result<Self, Invalid> {
        Ok(Self { weekly: parse::weekly(weekly)?, overrides: parse::overrides(overrides)? })
    }

    /// The open time within a window: disjoint, ordered, touching intervals merged. `pause` is called now and then; it may
    /// unwind.
    pub fn within(&self, window: Interval, zone: Tz, pause: fn()) -> Result<Vec<Interval>, Refusal> {
        // What began the day before may go on past midnight.
        let first = zone::local(window.start(), zone).date().pred_opt().unwrap_or(NaiveDate::MIN);
        let last = zone::local(window.end(), zone).date();
        if (last - first).num_days() > MOST_DAYS {
            return Err(Refusal::TooMuch(Invalid::new(
                "during is longer than 100 years",
                "Ask for the time that is to be shown or booked.",
            )));
        }
        let overrides = self.by_date(first, last);
        let mut open = Vec::new();
        for date in first.iter_days().take_while(|date| *date <= last) {
            let hours = match overrides.get(&date) {
                Some(overrides) if overrides.contains(&None) => Vec::new(),
                Some(overrides) => overrides.iter().flatten().copied().collect(),
                None => self.weekly[date.weekday().num_days_from_monday() as usize].clone(),
            };
            open.extend(hours.into_iter().filter_map(|hours| hours.on(date, zone)?.clip(window)));
            if open.len() > MOST_INTERVALS {
                let message = format!("the open hours would be more than {MOST_INTERVALS} intervals");
                return Err(Refusal::TooMuch(Invalid::new(
                    message,
                    "Ask for a shorter time, or say fewer intervals a day.",
                )));
            }
            pause();
        }
        Ok(coalesce(open))
    }

    fn by_date(&self, first: NaiveDate, last: NaiveDate) -> BTreeMap<NaiveDate, Vec<Option<Hours>>> {
        let mut by_date: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for one in &self.overrides {
            let mut date = one.from.max(first);
            while date <= one.to.min(last) {
                by_date.entry(date).or_default().push(one.hours);
                let Some(next) = date.checked_add_days(Days::new(1)) else { break };
                date = next;
            }
        }
        by_date
    }
}
