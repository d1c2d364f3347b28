//! Dates, times and durations as they stand in a recurrence line (RFC 5545 §3.3.4, §3.3.5, §3.3.6, §3.3.9).

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};

use super::problem::Problem;
use super::text::Piece;
use crate::zone::Zone;

/// A point in time as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// `20260301`
    Date(NaiveDate),
    /// `20260301T090000`: local time of a zone that is told elsewhere.
    Local(NaiveDateTime),
    /// `20260301T090000Z`
    Utc(DateTime<Utc>),
}

impl Moment {
    pub fn read(piece: Piece) -> Result<Self, Problem> {
        read_moment(piece.text)
            .ok_or_else(|| piece.is_not("a time such as 20260301T090000Z, or a date such as 20260301"))
    }

    /// The instant that is meant where local times are `zone`'s; None for a date.
    pub fn instant(self, zone: &Zone) -> Option<DateTime<Utc>> {
        match self {
            Self::Date(_) => None,
            Self::Local(local) => Some(zone.instant(local)),
            Self::Utc(instant) => Some(instant),
        }
    }

    /// The date that is meant where a DATE should stand. A UTC time of exactly midnight is a date that some program
    /// could not write otherwise; any other instant lies on a local day of the calendar's `zone`.
    pub fn date(self, zone: &Zone) -> NaiveDate {
        match self {
            Self::Date(date) => date,
            Self::Local(local) => local.date(),
            Self::Utc(instant) if instant.time() == NaiveTime::MIN => instant.date_naive(),
            Self::Utc(instant) => zone.local(instant).date(),
        }
    }
}

/// Years 0 to 9999, as four digits allow (RFC 5545 §3.3.4 takes them from ISO 8601).
fn read_moment(text: &str) -> Option<Moment> {
    let Some((date, time)) = text.split_once(['T', 't']) else {
        return read_date(text).map(Moment::Date);
    };
    let date = read_date(date)?;
    match time.strip_suffix(['Z', 'z']) {
        Some(time) => Some(Moment::Utc(date.and_time(read_time(time)?).and_utc())),
        None => Some(Moment::Local(date.and_time(read_time(time)?))),
    }
}

fn read_date(text: &str) -> Option<NaiveDate> {
    let digits = digits(text, 8)?;
    NaiveDate::from_ymd_opt(i32::try_from(digits / 10_000).ok()?, digits / 100 % 100, digits % 100)
}

/// A leap second (`235960`) is read as the second before it, which is what clocks without leap seconds show.
fn read_time(text: &str) -> Option<NaiveTime> {
    let digits = digits(text, 6)?;
    let second = if digits % 100 == 60 { 59 } else { digits % 100 };
    NaiveTime::from_hms_opt(digits / 10_000, digits / 100 % 100, second)
}

fn digits(text: &str, length: usize) -> Option<u32> {
    (text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// How long an occurrence lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Length {
    /// Days by the local calendar, each as long as the clocks make it ("nominal", RFC 5545 §3.3.6).
    pub days: u32,
    /// Time that passes, after the days.
    pub exact: TimeDelta,
}

impl Length {
    /// The same span of time each time: what DTEND gives (RFC 5545 §3.8.5.3, "the same exact duration will apply to
    /// all the members of the generated recurrence set").
    pub fn exact(exact: TimeDelta) -> Self {
        Self { days: 0, exact }
    }

    /// Local days: all-day events, and the days and weeks of a DURATION.
    pub fn days(days: u32) -> Self {
        Self { days, exact: TimeDelta::zero() }
    }

    /// Reads `P1W`, `P1DT2H`, `PT15M` (RFC 5545 §3.3.6). Weeks and days are nominal, the rest is exact.
    pub(super) fn read(piece: Piece) -> Result<Self, Problem> {
        read_length(piece.text).ok_or_else(|| piece.is_not("a duration such as P1D or PT1H30M"))
    }
}

/// Longer than any sensible event, short enough that no sum leaves the range of dates.
const LONGEST_DAYS: u32 = 366 * 100;

fn read_length(text: &str) -> Option<Length> {
    let upper = text.to_ascii_uppercase();
    let body = upper.strip_prefix('+').unwrap_or(&upper).strip_prefix('P')?;
    let (date, time) = body.split_once('T').unwrap_or((body, ""));
    let mut length = Length::default();
    for (number, unit) in amounts(date)? {
        let days = match unit {
            'W' => number.checked_mul(7)?,
            'D' => number,
            _ => return None,
        };
        length.days = length.days.checked_add(days).filter(|days| *days <= LONGEST_DAYS)?;
    }
    for (number, unit) in amounts(time)? {
        let seconds = i64::from(number) * i64::from(seconds_of(unit)?);
        length.exact = length.exact.checked_add(&TimeDelta::try_seconds(seconds)?)?;
    }
    (length.exact.num_days() <= i64::from(LONGEST_DAYS) && !body.is_empty()).then_some(length)
}

fn seconds_of(unit: char) -> Option<u32> {
    match unit {
        'H' => Some(3600),
        'M' => Some(60),
        'S' => Some(1),
        _ => None,
    }
}

/// `1H30M` is 1 H and 30 M.
fn amounts(text: &str) -> Option<Vec<(u32, char)>> {
    text.split_inclusive(|char: char| char.is_ascii_alphabetic())
        .map(|amount| {
            let (at, unit) = amount.char_indices().next_back()?;
            Some((amount[..at].parse().ok()?, unit))
        })
        .collect()
}
