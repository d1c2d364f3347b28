//! The intervals that one event occupies in a window.
//!
//! The hard cases, each with a test of the same name in `tests/time_expansion.rs`:
//! - `an_all_day_event_runs_from_local_midnight_to_local_midnight`, 23 or 25 hours across a change of the clocks
//! - `a_vacated_occurrence_is_free_again`, whichever way the exception names it
//! - `a_rule_that_cannot_be_read_blocks_its_first_occurrence_and_says_why`
//! - `a_zone_nobody_knows_is_read_as_the_calendars_and_flagged`
//! - `where_only_busy_time_is_kept_a_complaint_quotes_nothing`

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use crate::event::{Kind, OriginalStart, Span};
use crate::interval::Interval;
use crate::options::Store;
use crate::recurrence::{Definitions, FromThenOn, Length, Occurrence, Problem, Series, Start, UnknownListZone};
use crate::zone::{self, Zone};

/// When an event takes place in the window, and what was wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expansion {
    /// By start, each start once; whole, not clipped to the window.
    pub intervals: Vec<Interval>,
    /// The intervals are then what could be read: at least the first occurrence.
    pub problem: Option<Complaint>,
}

/// What was wrong with a series, in words for the operator, which quote the event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Complaint {
    #[error(transparent)]
    Recurrence(#[from] Problem),
    #[error(transparent)]
    ListZone(#[from] UnknownListZone),
    /// The zone that the series was made in, and in which it is expanded instead.
    #[error("unknown time zone \"{name}\"{because}; the series is expanded in the calendar's zone, {instead}")]
    UnknownZone { name: String, because: String, instead: Tz },
}

impl Complaint {
    /// What may be kept of it under this option: with `busy_only` which field it was and the kind of wrong, but not what
    /// is in the field.
    pub fn kept(&self, store: Store) -> String {
        match (store, self) {
            (Store::Details | Store::Full, _) => self.to_string(),
            (Store::BusyOnly, Self::Recurrence(problem)) => problem.without_content(),
            (Store::BusyOnly, Self::ListZone(unknown)) => unknown.without_content(),
            (Store::BusyOnly, Self::UnknownZone { instead, .. }) => {
                format!("start: unknown time zone; the series is expanded in the calendar's zone, {instead}")
            }
        }
    }
}

/// What decides when an event takes place, besides itself.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The occurrences of a series for which exceptions or tombstones stand.
    pub vacated: &'a [OriginalStart],
    /// Overrides of one occurrence of a series and all that follow. They are no exceptions besides.
    pub from_then_on: &'a [FromThenOn],
    /// The zones that the calendar defines itself.
    pub definitions: &'a Definitions,
    /// Where all-day and floating times are read.
    pub calendar_zone: Tz,
}

/// When does the event overlap the window? For calendars that define no zones and have no "this and all following".
pub fn occurrences(kind: &Kind, vacated: &[OriginalStart], window: Interval, calendar_zone: Tz) -> Expansion {
    let definitions = Definitions::default();
    expand(kind, &Surroundings { vacated, from_then_on: &[], definitions: &definitions, calendar_zone }, window)
}

/// When does the event overlap the window?
pub fn expand(kind: &Kind, surroundings: &Surroundings<'_>, window: Interval) -> Expansion {
    match kind {
        Kind::Single(span) | Kind::Exception { span, .. } | Kind::Unreadable { span: Some(span) } => {
            Expansion { intervals: once(span, window, surroundings.calendar_zone), problem: None }
        }
        Kind::Tombstone(_) | Kind::Unreadable { span: None } => Expansion::default(),
        Kind::Master { span, recurrence } => series(span, recurrence, surroundings, window),
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

fn series(span: &Span, recurrence: &[String], surroundings: &Surroundings<'_>, window: Interval) -> Expansion {
    let Surroundings { from_then_on, definitions, calendar_zone, .. } = *surroundings;
    let (start, length, unknown_zone) = beginning(span, surroundings);
    let vacated = Vacated::new(surroundings.vacated, &start, calendar_zone);
    let read = Series::read_with(start, length, recurrence, definitions, from_then_on);
    let warning = read.as_ref().ok().and_then(Series::warning).cloned().map(Complaint::from);
    let gone = |found: &Occurrence| vacated.holds(found.original, found.date);
    match read.and_then(|series| series.occurrences_without(window, gone)) {
        Ok(occurrences) => {
            let mut intervals: Vec<Interval> = occurrences.into_iter().map(|found| found.interval).collect();
            add_edits(&mut intervals, from_then_on, window, calendar_zone);
            Expansion { intervals, problem: unknown_zone.or(warning) }
        }
        Err(problem) => {
            // What recurs too often to be expanded takes all its time, from its first occurrence on: to call what lies
            // between free would be a guess.
            let mut intervals = match &problem {
                Problem::TooMuch { .. } => all_time_from(span, window, calendar_zone),
                Problem::Unreadable { .. } => once(span, window, calendar_zone),
            };
            add_edits(&mut intervals, from_then_on, window, calendar_zone);
            Expansion { intervals, problem: Some(problem.into()) }
        }
    }
}

/// From the first occurrence, or the window's start, to the window's end.
fn all_time_from(span: &Span, window: Interval, calendar_zone: Tz) -> Vec<Interval> {
    let first = match span {
        Span::Timed { starts_at, .. } => *starts_at,
        Span::AllDay { start, .. } => zone::midnight(*start, calendar_zone),
    };
    Interval::new(first.max(window.start()), window.end()).into_iter().collect()
}

/// What an edit itself says takes place, also where the series has no such occurrence.
fn add_edits(intervals: &mut Vec<Interval>, edits: &[FromThenOn], window: Interval, calendar_zone: Tz) {
    let before = intervals.len();
    intervals.extend(edits.iter().flat_map(|edit| once(&edit.span, window, calendar_zone)));
    if intervals.len() > before {
        intervals.sort_by_key(|interval| (interval.start(), std::cmp::Reverse(interval.end())));
        intervals.dedup_by_key(|interval| interval.start());
    }
}

/// DTSTART and length of a series, and the complaint where nobody knows its zone.
///
/// "If the duration of the recurring component is specified with the DTEND property, the same exact duration will apply
/// to all the members of the generated recurrence set" (RFC 5545 §3.8.5.3): a timed span is such a pair of instants.
fn beginning(span: &Span, surroundings: &Surroundings<'_>) -> (Start<Zone>, Length, Option<Complaint>) {
    let calendars = Zone::Known(surroundings.calendar_zone);
    match span {
        Span::AllDay { start, end } => {
            let days = u32::try_from((*end - *start).num_days()).unwrap_or(1).max(1);
            (Start::AllDay { on: *start, zone: calendars }, Length::days(days), None)
        }
        Span::Timed { starts_at, ends_at, zone } => {
            let named = zone.as_deref().map(|name| (name, surroundings.definitions.zone(name)));
            let unknown = |name: &str, because: String| Complaint::UnknownZone {
                name: name.to_owned(),
                because,
                instead: surroundings.calendar_zone,
            };
            let (zone, problem) = match named {
                None => (calendars, None),
                Some((_, Some(Ok(zone)))) => (zone, None),
                Some((name, Some(Err(problem)))) => (calendars, Some(unknown(name, format!(" ({problem})")))),
                Some((name, None)) => (calendars, Some(unknown(name, String::new()))),
            };
            (Start::Timed { at: *starts_at, zone }, Length::exact(*ends_at - *starts_at), problem)
        }
    }
}

/// The occurrences of a series that exceptions and tombstones stand for.
struct Vacated {
    instants: HashSet<DateTime<Utc>>,
    dates: HashSet<NaiveDate>,
}

impl Vacated {
    /// An instant names an occurrence of an all-day series by the day it falls on in the calendar's zone.
    fn new(originals: &[OriginalStart], start: &Start<Zone>, calendar_zone: Tz) -> Self {
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
