//! Event times: `{date}` or `{dateTime, timeZone}`, and where they lie on the time line.

use chrono::{
    DateTime, Days, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Offset, SecondsFormat, TimeDelta, TimeZone, Utc,
};
use chrono_tz::Tz;
use serde_json::{Value, json};

use crate::error::ApiError;

/// A start, end or original start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// All-day; the calendar's zone says when the day begins.
    Day(NaiveDate),
    /// An instant, and the zone its series is expanded in.
    At { utc: DateTime<Utc>, zone: Tz },
}

impl Time {
    /// Reads `{date}` or `{dateTime, timeZone}`. A `dateTime` without an offset is local to `timeZone`.
    pub fn parse(value: &Value, calendar: Tz, which: &str) -> Result<Self, ApiError> {
        let invalid = || ApiError::invalid(format!("Invalid {which} time."));
        let zone = match value.get("timeZone").and_then(Value::as_str) {
            Some(name) => parse_zone(name)
                .ok_or_else(|| ApiError::invalid(format!("Invalid time zone definition for {which} time.")))?,
            None => calendar,
        };
        let text = |name: &str| value.get(name).filter(|v| !v.is_null());
        match (text("date"), text("dateTime")) {
            (Some(Value::String(day)), None) => {
                NaiveDate::parse_from_str(day, "%Y-%m-%d").map(Self::Day).map_err(|_| invalid())
            }
            (None, Some(Value::String(time))) => {
                if let Ok(fixed) = DateTime::parse_from_rfc3339(time) {
                    return Ok(Self::At { utc: fixed.to_utc(), zone });
                }
                let local = NaiveDateTime::parse_from_str(time, "%Y-%m-%dT%H:%M:%S%.f")
                    .or_else(|_| NaiveDateTime::parse_from_str(time, "%Y-%m-%dT%H:%M"))
                    .map_err(|_| invalid())?;
                Ok(Self::At { utc: place(local, zone), zone })
            }
            _ => Err(invalid()),
        }
    }

    /// As the API shows it: the offset is the response's zone, `timeZone` the event's.
    pub fn render(&self, response: Tz) -> Value {
        match self {
            Self::Day(day) => json!({ "date": day.to_string() }),
            Self::At { utc, zone } => json!({ "dateTime": rfc3339(*utc, response), "timeZone": zone.name() }),
        }
    }

    pub fn is_day(&self) -> bool {
        matches!(self, Self::Day(_))
    }

    /// The instant; a day begins at the calendar's midnight.
    pub fn instant(&self, calendar: Tz) -> DateTime<Utc> {
        match self {
            Self::Day(day) => place(day.and_time(NaiveTime::MIN), calendar),
            Self::At { utc, .. } => *utc,
        }
    }

    /// Wall clock time in the event's own zone.
    pub fn local(&self) -> NaiveDateTime {
        match self {
            Self::Day(day) => day.and_time(NaiveTime::MIN),
            Self::At { utc, zone } => utc.with_timezone(zone).naive_local(),
        }
    }

    /// Another time of the same kind and zone.
    pub fn at_local(&self, local: NaiveDateTime) -> Self {
        match self {
            Self::Day(_) => Self::Day(local.date()),
            Self::At { zone, .. } => Self::At { utc: place(local, *zone), zone: *zone },
        }
    }

    /// Days move by whole days, instants by exact time (RFC 5545, 3.8.5.3: DTEND gives every occurrence "the same
    /// exact duration").
    pub fn plus(&self, length: TimeDelta) -> Self {
        match self {
            Self::Day(day) => Self::Day(*day + TimeDelta::days(length.num_days())),
            Self::At { utc, zone } => Self::At { utc: *utc + length, zone: *zone },
        }
    }

    /// From `self` to `end`.
    pub fn until(&self, end: &Self, calendar: Tz) -> TimeDelta {
        match (self, end) {
            (Self::Day(a), Self::Day(b)) => *b - *a,
            (a, b) => b.instant(calendar) - a.instant(calendar),
        }
    }

    /// The tail of an instance's id: `20250326T123000Z`, or `20250326` for a day.
    pub fn stamp(&self) -> String {
        match self {
            Self::Day(day) => day.format("%Y%m%d").to_string(),
            Self::At { utc, .. } => utc.format("%Y%m%dT%H%M%SZ").to_string(),
        }
    }
}

pub fn parse_zone(name: &str) -> Option<Tz> {
    name.parse().ok()
}

/// Puts a wall clock time on the time line: in a gap it moves forward, in a fold it is the first (RFC 5545, 3.3.5).
pub fn place(local: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    if let Some(found) = zone.from_local_datetime(&local).earliest() {
        return found.to_utc();
    }
    // In the gap the offset before it counts. Gaps are an hour as a rule, a whole day where the date line moved.
    let before = (1..=50)
        .filter_map(|half_hours| local.checked_sub_signed(TimeDelta::minutes(30 * half_hours)))
        .find_map(|earlier| zone.from_local_datetime(&earlier).latest())
        .map_or(0, |found| found.offset().fix().local_minus_utc());
    (local - TimeDelta::seconds(before.into())).and_utc()
}

pub fn rfc3339(utc: DateTime<Utc>, zone: Tz) -> String {
    let offset: FixedOffset = zone.offset_from_utc_datetime(&utc.naive_utc()).fix();
    utc.with_timezone(&offset).to_rfc3339_opts(SecondsFormat::Secs, true)
}

pub fn rfc3339_millis(utc: DateTime<Utc>) -> String {
    utc.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `timeMin` and its like: RFC 3339 with a mandatory offset, milliseconds "may be provided but are ignored".
pub fn parse_bound(text: &str) -> Result<DateTime<Utc>, ApiError> {
    let parsed = DateTime::parse_from_rfc3339(text).map_err(|_| ApiError::bad_request())?;
    DateTime::from_timestamp(parsed.timestamp(), 0).ok_or_else(ApiError::bad_request)
}

/// The time in the tail of an instance's id, if the id has one: everything before it, and the time.
pub fn split_stamp(id: &str) -> Option<(&str, Stamp)> {
    let (base, tail) = id.rsplit_once('_')?;
    if tail.len() == 8 {
        return NaiveDate::parse_from_str(tail, "%Y%m%d").ok().map(|day| (base, Stamp::Day(day)));
    }
    let time = NaiveDateTime::parse_from_str(tail, "%Y%m%dT%H%M%SZ").ok()?;
    Some((base, Stamp::At(time.and_utc())))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    Day(NaiveDate),
    At(DateTime<Utc>),
}

impl Stamp {
    pub fn is(&self, time: &Time) -> bool {
        match (self, time) {
            (Self::Day(a), Time::Day(b)) => a == b,
            (Self::At(a), Time::At { utc, .. }) => a == utc,
            _ => false,
        }
    }

    /// Where to stop looking for it.
    pub fn bound(&self) -> DateTime<Utc> {
        match self {
            Self::Day(day) => day.checked_add_days(Days::new(2)).unwrap_or(*day).and_time(NaiveTime::MIN).and_utc(),
            Self::At(utc) => *utc + TimeDelta::seconds(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(local: &str, zone: Tz) -> String {
        rfc3339(place(local.parse().unwrap(), zone), zone)
    }

    #[test]
    fn gaps_move_forward_by_their_own_length_and_folds_take_the_first() {
        assert_eq!(placed("2025-03-30T02:30:00", Tz::Europe__Vienna), "2025-03-30T03:30:00+02:00");
        assert_eq!(placed("2025-10-26T02:30:00", Tz::Europe__Vienna), "2025-10-26T02:30:00+02:00");
        // Half an hour, and a whole day that Samoa left out.
        assert_eq!(placed("2025-10-05T02:15:00", Tz::Australia__Lord_Howe), "2025-10-05T02:45:00+11:00");
        assert_eq!(placed("2011-12-30T12:00:00", Tz::Pacific__Apia), "2011-12-31T12:00:00+14:00");
        // Midnight that does not exist begins the day an hour later.
        assert_eq!(placed("2018-11-04T00:00:00", Tz::America__Sao_Paulo), "2018-11-04T01:00:00-02:00");
    }

    #[test]
    fn the_tail_of_an_id_tells_the_occurrence() {
        assert!(matches!(split_stamp("abc_20250326"), Some(("abc", Stamp::Day(_)))));
        assert!(matches!(
            split_stamp("a_b_R20250101T000000_20250326T123000Z"),
            Some(("a_b_R20250101T000000", Stamp::At(_)))
        ));
        assert_eq!(split_stamp("abc_R20250326T123000"), None);
        assert_eq!(split_stamp("abc"), None);
    }
}
