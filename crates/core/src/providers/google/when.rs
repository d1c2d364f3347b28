//! When does an event take place? `start`, `end` and `originalStartTime` of an event resource.
//!
//! Each is `{"date"}` for whole days or `{"dateTime", "timeZone"}` for an instant (RFC 3339). A `dateTime` without an
//! offset is read in its `timeZone`. Instants are kept to the microsecond, as Postgres keeps them, so that an event
//! read again is found unchanged.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::fields::{FieldProblem, Fields};
use super::text::{quoted, storable};
use crate::event::{OriginalStart, Span};
use crate::zone;

/// One end of an event.
enum Moment {
    At { at: DateTime<Utc>, zone: Option<String> },
    On(NaiveDate),
}

/// What to make of a zone that nobody knows, where the `dateTime` has an offset and can be read without it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UnknownZone {
    /// A problem: a series could not be expanded in it.
    Refused,
    /// Left out.
    Ignored,
}

/// The times of an event.
///
/// `end` is exclusive. An all-day event that ends on the day it starts is taken to last that one day, as one without
/// an end does (RFC 5545 §3.6.1). A missing `end` is zero length where `endTimeUnspecified` says that there is none
/// (one day where it is all-day), otherwise a problem.
pub(super) fn read_span(item: Fields<'_>) -> Result<Span, FieldProblem> {
    let (start, end) = read_ends(item, UnknownZone::Refused)?;
    match (start, end) {
        (Moment::At { at: starts_at, zone }, Moment::At { at: ends_at, .. }) if starts_at <= ends_at => {
            Ok(Span::Timed { starts_at, ends_at, zone })
        }
        (Moment::On(start), Moment::On(end)) if start <= end => {
            Ok(Span::AllDay { start, end: one_day_at_least(start, end)? })
        }
        (Moment::At { .. }, Moment::At { .. }) => Err(FieldProblem::new("end.dateTime", "it is before the start")),
        (Moment::On(_), Moment::On(_)) => Err(FieldProblem::new("end.date", "it is before the start")),
        (Moment::At { .. }, Moment::On(_)) => {
            Err(FieldProblem::new("end.date", "the start is a dateTime, the end a date"))
        }
        (Moment::On(_), Moment::At { .. }) => {
            Err(FieldProblem::new("end.dateTime", "the start is a date, the end a dateTime"))
        }
    }
}

/// The time to block for an event with a problem, where its times at least are readable: with start and end swapped,
/// it is the time between them; a zone that nobody knows does not matter. A cancelled event has no time.
pub(super) fn span_despite_problem(item: Fields<'_>) -> Option<Span> {
    if matches!(item.text("status"), Ok(Some("cancelled"))) {
        return None;
    }
    match read_ends(item, UnknownZone::Ignored).ok()? {
        (Moment::At { at: one, zone }, Moment::At { at: other, .. }) => {
            Some(Span::Timed { starts_at: one.min(other), ends_at: one.max(other), zone })
        }
        (Moment::On(one), Moment::On(other)) => {
            let (start, end) = (one.min(other), one.max(other));
            Some(Span::AllDay { start, end: one_day_at_least(start, end).ok()? })
        }
        _ => None,
    }
}

/// `originalStartTime`: which occurrence an exception stands for. Its zone does not matter where it has an offset.
pub(super) fn read_original_start(item: Fields<'_>) -> Result<Option<OriginalStart>, FieldProblem> {
    Ok(read_moment(item, "originalStartTime", UnknownZone::Ignored, None)?.map(|moment| match moment {
        Moment::At { at, .. } => OriginalStart::At(at),
        Moment::On(date) => OriginalStart::On(date),
    }))
}

/// An RFC 3339 instant that needs no zone, such as `updated`.
pub(super) fn read_instant(item: Fields<'_>, name: &str) -> Result<Option<DateTime<Utc>>, FieldProblem> {
    let Some(text) = item.text(name)? else { return Ok(None) };
    let at = WrittenTime::read(text).and_then(|written| written.with_offset());
    at.map(Some).ok_or_else(|| FieldProblem::new(name, format!("{} is not an RFC 3339 time", quoted(text))))
}

fn read_ends(item: Fields<'_>, unknown_zone: UnknownZone) -> Result<(Moment, Moment), FieldProblem> {
    let Some(start) = read_moment(item, "start", unknown_zone, None)? else {
        return Err(FieldProblem::new("start", "it is missing"));
    };
    let zone_of_start = match &start {
        Moment::At { zone, .. } => zone.as_deref().and_then(zone::find),
        Moment::On(_) => None,
    };
    let end = match read_moment(item, "end", unknown_zone, zone_of_start)? {
        Some(end) => end,
        None if item.flag("endTimeUnspecified")? => match start {
            Moment::At { at, .. } => Moment::At { at, zone: None },
            Moment::On(date) => Moment::On(date),
        },
        None => return Err(FieldProblem::new("end", "it is missing")),
    };
    Ok((start, end))
}

fn one_day_at_least(start: NaiveDate, end: NaiveDate) -> Result<NaiveDate, FieldProblem> {
    if start < end {
        return Ok(end);
    }
    let next = start.checked_add_days(Days::new(1)).filter(|next| in_range(next.year()));
    next.ok_or_else(|| FieldProblem::new("end.date", "it is after the year 9999"))
}

/// `fallback`: the zone in which a `dateTime` without offset and zone is read.
fn read_moment(
    item: Fields<'_>,
    name: &str,
    unknown_zone: UnknownZone,
    fallback: Option<Tz>,
) -> Result<Option<Moment>, FieldProblem> {
    let Some(fields) = item.object(name)? else { return Ok(None) };
    let moment = match (fields.text("date"), fields.text("dateTime")) {
        (Err(problem), _) | (_, Err(problem)) => Err(problem),
        (Ok(Some(_)), Ok(Some(_))) => return Err(FieldProblem::new(name, "it has both a date and a dateTime")),
        (Ok(None), Ok(None)) => return Err(FieldProblem::new(name, "it has neither a date nor a dateTime")),
        (Ok(Some(date)), Ok(None)) => read_date(date).map(Moment::On),
        (Ok(None), Ok(Some(time))) => read_zoned(fields, time, unknown_zone, fallback),
    };
    moment.map(Some).map_err(|problem| problem.within(name))
}

fn read_date(text: &str) -> Result<NaiveDate, FieldProblem> {
    parse_date(text).ok_or_else(|| {
        FieldProblem::new("date", format!("{} is not a date (YYYY-MM-DD, years 0001 to 9999)", quoted(text)))
    })
}

fn read_zoned(
    fields: Fields<'_>,
    text: &str,
    unknown_zone: UnknownZone,
    fallback: Option<Tz>,
) -> Result<Moment, FieldProblem> {
    let not_a_time =
        || FieldProblem::new("dateTime", format!("{} is not an RFC 3339 time (years 0001 to 9999)", quoted(text)));
    let written = WrittenTime::read(text).ok_or_else(not_a_time)?;
    let named = fields.text("timeZone")?;
    let zone = named.and_then(zone::find);
    if let (Some(name), None) = (named, zone)
        && (unknown_zone == UnknownZone::Refused || written.offset_seconds.is_none())
    {
        return Err(FieldProblem::new("timeZone", format!("unknown zone {}", quoted(name))));
    }
    let at = match (written.offset_seconds, zone.or(fallback)) {
        (Some(_), _) => written.with_offset(),
        (None, Some(zone)) => Some(zone::instant(written.local, zone)).filter(|at| in_range(at.year())),
        (None, None) => return Err(FieldProblem::new("dateTime", "it has neither an offset nor a timeZone")),
    };
    let zone = zone.and(named).map(storable);
    at.map(|at| Moment::At { at, zone }).ok_or_else(not_a_time)
}

fn in_range(year: i32) -> bool {
    (1..=9999).contains(&year)
}

/// A time as it is written: `YYYY-MM-DDTHH:MM:SS[.fraction][offset]`.
struct WrittenTime {
    local: NaiveDateTime,
    offset_seconds: Option<i32>,
}

impl WrittenTime {
    fn read(text: &str) -> Option<Self> {
        let (date, rest) = text.split_once(['T', 't'])?;
        let date = parse_date(date)?;
        let (clock, rest) = rest.split_at_checked(8)?;
        let (hour, minute, second) = parse_clock(clock)?;
        let (micros, offset) = split_fraction(rest)?;
        // A leap second is the first of the next minute, as in Postgres.
        let leap = TimeDelta::seconds((second / 60).into());
        let time = NaiveTime::from_hms_micro_opt(hour, minute, second.min(59), micros)?;
        let local = date.and_time(time).checked_add_signed(leap)?;
        Some(Self { local, offset_seconds: parse_offset(offset)? })
    }

    /// The instant, where it has an offset and lies in the years 0001 to 9999.
    fn with_offset(&self) -> Option<DateTime<Utc>> {
        let offset = TimeDelta::seconds(self.offset_seconds?.into());
        self.local.checked_sub_signed(offset).map(|utc| utc.and_utc()).filter(|at| in_range(at.year()))
    }
}

/// `YYYY-MM-DD` in the years 0001 to 9999.
fn parse_date(text: &str) -> Option<NaiveDate> {
    let [year, month, day] = digits_between(text, 10, &[(0, 4), (5, 7), (8, 10)], &[4, 7], b'-')?;
    NaiveDate::from_ymd_opt(year.try_into().ok()?, month, day).filter(|date| in_range(date.year()))
}

/// `HH:MM:SS`; the second may be 60.
fn parse_clock(text: &str) -> Option<(u32, u32, u32)> {
    let [hour, minute, second] = digits_between(text, 8, &[(0, 2), (3, 5), (6, 8)], &[2, 5], b':')?;
    (second <= 60).then_some((hour, minute, second))
}

/// Digits beyond the microsecond are dropped. Returns the microseconds and what follows the fraction.
fn split_fraction(text: &str) -> Option<(u32, &str)> {
    let Some(fraction) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
    let (digits, rest) = fraction.split_at(end);
    if digits.is_empty() {
        return None;
    }
    let micros =
        digits.bytes().chain(std::iter::repeat(b'0')).take(6).fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some((micros, rest))
}

/// `Z`, `+HH:MM`, `+HHMM`, `+HH`, or nothing (`Some(None)`); seconds east of UTC.
fn parse_offset(text: &str) -> Option<Option<i32>> {
    if text.is_empty() {
        return Some(None);
    }
    if matches!(text, "Z" | "z") {
        return Some(Some(0));
    }
    let (sign, rest) = text.strip_prefix('+').map(|rest| (1, rest)).or_else(|| Some((-1, text.strip_prefix('-')?)))?;
    let (hours, minutes) = match rest.len() {
        2 => (digits(rest)?, 0),
        4 => (digits(rest.get(..2)?)?, digits(rest.get(2..)?)?),
        5 if rest.as_bytes().get(2) == Some(&b':') => (digits(rest.get(..2)?)?, digits(rest.get(3..)?)?),
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    Some(Some(sign * i32::try_from(hours * 3600 + minutes * 60).ok()?))
}

/// Three numbers at fixed places of a text of `length` bytes, with `separator` at the places between.
fn digits_between<const N: usize>(
    text: &str,
    length: usize,
    numbers: &[(usize, usize); N],
    separators: &[usize],
    separator: u8,
) -> Option<[u32; N]> {
    let well_separated = separators.iter().all(|&at| text.as_bytes().get(at) == Some(&separator));
    if text.len() != length || !well_separated {
        return None;
    }
    let mut read = [0; N];
    for (number, &(from, to)) in read.iter_mut().zip(numbers) {
        *number = digits(text.get(from..to)?)?;
    }
    Some(read)
}

/// A number written in ASCII digits only.
fn digits(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}
