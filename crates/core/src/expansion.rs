//! The intervals that one event occupies in a window.
//!
//! The hard cases, each with a test of the same name in `tests/time_expansion.rs`:
//! - `an_all_day_event_runs_from_local_midnight_to_local_midnight`, 23 or 25 hours across a change of the clocks
//! - `a_vacated_occurrence_is_free_again`, whichever way the exception names it
//! - `a_rule_that_cannot_be_read_blocks_its_first_occurrence_and_says_why`
//! - `a_zone_nobody_knows_is_read_as_the_calendars_and_flagged`

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use crate::event::{Kind, OriginalStart, Span};
use crate::interval::Interval;
use crate::recurrence::{Length, Series, Start};
use crate::zone;

/// When an event takes place in the window, and what was wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expansion {
    /// By start, each start once; whole, not clipped to the window.
    pub intervals: Vec<Interval>,
    /// In words for the operator. The intervals are then what could be read: at least the first occurrence.
    pub problem: Option<String>,
}

/// When does the event overlap the window? `vacated`: the occurrences of a series for which exceptions or tombstones
/// stand. `calendar_zone`: where all-day and floating times are read.
pub fn occurrences(kind: &Kind, vacated: &[OriginalStart], window: Interval, calendar_zone: Tz) -> Expansion {
    match kind {
        Kind::Single(span) | Kind::Exception { span, .. } | Kind::Unreadable { span: Some(span) } => {
            Expansion { intervals: once(span, window, calendar_zone), problem: None }
        }
        Kind::Tombstone(_) | Kind::Unreadable { span: None } => Expansion::default(),
        Kind::Master { span, recurrence } => series(span, recurrence, vacated, window, calendar_zone),
    }
}

/// A zero-length timed event blocks nothing; an all-day event lasts at least one day.
fn once(span: &Span, window: Interval, calendar_zone: Tz) -> Vec<Interval> {
    let interval = match span {
        Span::Timed { starts_at, ends_at, .. } => Interval::new(*starts_at, *ends_at),
        Span::AllDay { start, end } => {
            let end = (*end).max(start.succ_opt().unwrap_or(*start));
            Interval::new(zone::midnight(*start, calendar_zone), zone::midnight(end, calendar_zone))
        }
    };
    interval.filter(|interval| interval.overlaps(window)).into_iter().collect()
}

fn series(
    span: &Span,
    recurrence: &[String],
    vacated: &[OriginalStart],
    window: Interval,
    calendar_zone: Tz,
) -> Expansion {
    let (start, length, unknown_zone) = beginning(span, calendar_zone);
    let read = Series::read(start, length, recurrence);
    let warning = read.as_ref().ok().and_then(Series::warning).map(ToString::to_string);
    match read.and_then(|series| series.occurrences(window)) {
        Ok(occurrences) => {
            let vacated = Vacated::new(vacated, start, calendar_zone);
            let left = occurrences.into_iter().filter(|found| !vacated.holds(found.interval.start(), found.date));
            Expansion { intervals: left.map(|found| found.interval).collect(), problem: unknown_zone.or(warning) }
        }
        Err(problem) => Expansion { intervals: once(span, window, calendar_zone), problem: Some(problem.to_string()) },
    }
}

/// DTSTART and length of a series, and the complaint where nobody knows its zone.
///
/// "If the duration of the recurring component is specified with the DTEND property, the same exact duration will apply
/// to all the members of the generated recurrence set" (RFC 5545 §3.8.5.3): a timed span is such a pair of instants.
fn beginning(span: &Span, calendar_zone: Tz) -> (Start, Length, Option<String>) {
    match span {
        Span::AllDay { start, end } => {
            let days = u32::try_from((*end - *start).num_days()).unwrap_or(1).max(1);
            (Start::AllDay { on: *start, zone: calendar_zone }, Length::days(days), None)
        }
        Span::Timed { starts_at, ends_at, zone } => {
            let (zone, problem) = match zone.as_deref() {
                None => (calendar_zone, None),
                Some(name) => match zone::find(name) {
                    Some(zone) => (zone, None),
                    None => (calendar_zone, Some(unknown(name, calendar_zone))),
                },
            };
            (Start::Timed { at: *starts_at, zone }, Length::exact(*ends_at - *starts_at), problem)
        }
    }
}

fn unknown(name: &str, calendar_zone: Tz) -> String {
    format!("unknown time zone \"{name}\"; the series is expanded in the calendar's zone, {calendar_zone}")
}

/// The occurrences of a series that exceptions and tombstones stand for.
struct Vacated {
    instants: HashSet<DateTime<Utc>>,
    dates: HashSet<NaiveDate>,
}

impl Vacated {
    /// An instant names an occurrence of an all-day series by the day it falls on in the calendar's zone.
    fn new(originals: &[OriginalStart], start: Start, calendar_zone: Tz) -> Self {
        let mut vacated = Self { instants: HashSet::new(), dates: HashSet::new() };
        for original in originals {
            match (original, start) {
                (OriginalStart::On(date), _) => vacated.dates.insert(*date),
                (OriginalStart::At(at), Start::AllDay { .. }) => {
                    vacated.dates.insert(zone::local(*at, calendar_zone).date())
                }
                (OriginalStart::At(at), Start::Timed { .. } | Start::Local { .. }) => vacated.instants.insert(*at),
            };
        }
        vacated
    }

    fn holds(&self, start: DateTime<Utc>, date: NaiveDate) -> bool {
        self.instants.contains(&start) || self.dates.contains(&date)
    }
}
