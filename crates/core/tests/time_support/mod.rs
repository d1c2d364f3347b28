//! Builders that let the tests of time read as stories: local times as people write them, series, windows.
#![allow(dead_code, reason = "every test binary uses some of them")]

pub mod dice;
pub mod oracle;
pub mod rules;

use calsync_core::event::{Kind, OccurrenceOf, OriginalStart, Span};
use calsync_core::expansion::{self, Expansion};
use calsync_core::interval::Interval;
use calsync_core::recurrence::{Length, Series, Start};
use calsync_core::zone;
use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

pub fn tz(name: &str) -> Tz {
    name.parse().unwrap_or_else(|_| panic!("zone {name}"))
}

pub fn date(text: &str) -> NaiveDate {
    text.parse().unwrap_or_else(|_| panic!("date {text}"))
}

/// `2026-03-29 09:00`
pub fn local(text: &str) -> NaiveDateTime {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap_or_else(|_| panic!("time {text}"))
}

pub fn at(text: &str, zone: &str) -> DateTime<Utc> {
    zone::instant(local(text), tz(zone))
}

pub fn utc(text: &str) -> DateTime<Utc> {
    local(text).and_utc()
}

pub fn minutes(minutes: i64) -> TimeDelta {
    TimeDelta::minutes(minutes)
}

pub fn between(start: DateTime<Utc>, end: DateTime<Utc>) -> Interval {
    Interval::new(start, end).expect("a window that is not empty")
}

/// A whole year, and some years more, in UTC.
pub fn years(first: i32, count: i32) -> Interval {
    let january = |year| NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_time(Default::default()).and_utc();
    between(january(first), january(first + count))
}

pub fn lines(text: &[&str]) -> Vec<String> {
    text.iter().map(|line| (*line).to_owned()).collect()
}

/// A timed series in a zone.
#[derive(Clone)]
pub struct Recurring {
    pub span: Span,
    pub calendar: Tz,
    pub recurrence: Vec<String>,
    pub vacated: Vec<OriginalStart>,
}

/// An event from `start` for so many minutes, in `zone`.
pub fn meeting(start: &str, length: i64, zone: &str) -> Recurring {
    let starts_at = at(start, zone);
    let span = Span::Timed { starts_at, ends_at: starts_at + minutes(length), zone: Some(zone.to_owned()) };
    Recurring { span, calendar: tz(zone), recurrence: Vec::new(), vacated: Vec::new() }
}

/// An all-day event of a calendar in `zone`.
pub fn days(start: &str, count: i64, zone: &str) -> Recurring {
    let span = Span::AllDay { start: date(start), end: date(start) + TimeDelta::days(count) };
    Recurring { span, calendar: tz(zone), recurrence: Vec::new(), vacated: Vec::new() }
}

impl Recurring {
    pub fn recurs(mut self, line: &str) -> Self {
        self.recurrence.push(line.to_owned());
        self
    }

    pub fn without(mut self, original: OriginalStart) -> Self {
        self.vacated.push(original);
        self
    }

    pub fn in_calendar_of(mut self, zone: &str) -> Self {
        self.calendar = tz(zone);
        self
    }

    pub fn kind(&self) -> Kind {
        if self.recurrence.is_empty() {
            return Kind::Single(self.span.clone());
        }
        Kind::Master { span: self.span.clone(), recurrence: self.recurrence.clone() }
    }

    pub fn expanded(&self, window: Interval) -> Expansion {
        expansion::occurrences(&self.kind(), &self.vacated, window, self.calendar)
    }

    /// The intervals, where nothing was wrong.
    pub fn intervals(&self, window: Interval) -> Vec<Interval> {
        let expansion = self.expanded(window);
        assert_eq!(expansion.problem, None);
        expansion.intervals
    }

    /// When the occurrences begin, on the clock of the calendar's wall.
    pub fn starts(&self, window: Interval) -> Vec<String> {
        self.intervals(window).iter().map(|interval| on_the_wall(interval.start(), self.calendar)).collect()
    }

    /// How many hours each occurrence lasts.
    pub fn hours(&self, window: Interval) -> Vec<i64> {
        self.intervals(window).iter().map(|interval| (interval.end() - interval.start()).num_hours()).collect()
    }

    pub fn problem(&self, window: Interval) -> String {
        self.expanded(window).problem.expect("a problem").to_string()
    }
}

pub fn on_the_wall(instant: DateTime<Utc>, zone: Tz) -> String {
    instant.with_timezone(&zone).format("%Y-%m-%d %H:%M").to_string()
}

pub fn occurrence_of(original: OriginalStart) -> OccurrenceOf {
    OccurrenceOf { master: "master".to_owned(), original }
}

/// The floating local starts of a series in UTC, one hour each: what oracles without zones tell.
pub fn floating(start: NaiveDateTime, lines: &[String], window: Interval) -> Result<Vec<NaiveDateTime>, String> {
    let start = Start::Timed { at: start.and_utc(), zone: Tz::UTC };
    let series = Series::read(start, Length::exact(TimeDelta::hours(1)), lines).map_err(|error| error.to_string())?;
    let found = series.occurrences(window).map_err(|error| error.to_string())?;
    Ok(found.into_iter().map(|found| found.interval.start().naive_utc()).collect())
}
