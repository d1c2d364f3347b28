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
//! - `many_overrides_of_many_dates_cost_no_more_than_what_they_open`

mod parse;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use crate::interval::{Interval, coalesce};
use crate::invalid::{Invalid, Refusal};
use crate::zone;

/// The longest window that is answered: a hundred years.
const LONGEST_WINDOW: TimeDelta = TimeDelta::days(36_525);
/// So many intervals, before touching ones are merged, are computed at most.
const MOST_INTERVALS: usize = 1_000_000;

/// From a time on the wall clock to another, in time since 00:00; past midnight where the end is 24 hours or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
        if window.end() - window.start() > LONGEST_WINDOW {
            let hint = "Ask for the time that is to be shown or booked.";
            return Err(Refusal::too_much("during is longer than 100 years", hint));
        }
        zone::knows(window)?;
        // What began the day before may go on past midnight.
        let first = zone::local(window.start(), zone).date().pred_opt().unwrap_or(NaiveDate::MIN);
        let last = zone::local(window.end(), zone).date();
        let mut exceptions = Exceptions::from(&self.overrides);
        let mut open = Vec::new();
        for date in first.iter_days().take_while(|date| *date <= last) {
            pause();
            for hours in exceptions.on(date).unwrap_or(&self.weekly[date.weekday().num_days_from_monday() as usize]) {
                pause();
                open.extend(hours.on(date, zone).and_then(|open| open.clip(window)));
                if open.len() > MOST_INTERVALS {
                    let message = format!("the open hours would be more than {MOST_INTERVALS} intervals");
                    return Err(Refusal::too_much(message, "Ask for a shorter time, or say fewer intervals a day."));
                }
            }
        }
        Ok(coalesce(open))
    }
}

/// The overrides, met date by date in order: however many there are and however long they last, each comes and goes
/// once.
struct Exceptions<'a> {
    /// By their first dates, and how many of them have come.
    coming: Vec<&'a Override>,
    come: usize,
    /// By their last dates, and how many of them have gone.
    going: Vec<&'a Override>,
    gone: usize,
    /// What holds: hours, and how many overrides say them. None: closed.
    holding: BTreeMap<Option<Hours>, usize>,
    /// The hours of the date, until the next change.
    hours: Vec<Hours>,
}

impl<'a> Exceptions<'a> {
    fn from(overrides: &'a [Override]) -> Self {
        let (mut coming, mut going): (Vec<_>, Vec<_>) = (overrides.iter().collect(), overrides.iter().collect());
        coming.sort_by_key(|one| one.from);
        going.sort_by_key(|one| one.to);
        Self { coming, come: 0, going, gone: 0, holding: BTreeMap::new(), hours: Vec::new() }
    }

    /// The hours that overrides give a date, each once; none where one closes it. None: no override is about it. Dates
    /// must be asked for in order.
    fn on(&mut self, date: NaiveDate) -> Option<&[Hours]> {
        let before = (self.come, self.gone);
        while let Some(one) = self.coming.get(self.come).filter(|one| one.from <= date) {
            *self.holding.entry(one.hours).or_default() += 1;
            self.come += 1;
        }
        // What has gone has come: no override ends before it begins.
        while let Some(one) = self.going.get(self.gone).filter(|one| one.to < date) {
            if let Entry::Occupied(mut said) = self.holding.entry(one.hours) {
                *said.get_mut() -= 1;
                if *said.get() == 0 {
                    said.remove();
                }
            }
            self.gone += 1;
        }
        if before != (self.come, self.gone) {
            let closed = self.holding.contains_key(&None);
            self.hours = if closed { Vec::new() } else { self.holding.keys().flatten().copied().collect() };
        }
        (!self.holding.is_empty()).then_some(&self.hours)
    }
}
