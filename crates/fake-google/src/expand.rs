//! Which occurrences a recurring event has: an oracle, so it shares no code with the extension's own expansion.
//!
//! The `rrule` crate iterates in floating wall clock time; each time is then put on the time line in the event's
//! zone (a gap moves forward, a fold takes the first). `UNTIL`, `EXDATE` and `RDATE` are read here, since the crate
//! wants them in the type of DTSTART, and Google's masters hold `UNTIL=...Z` beside zoned starts.
//!
//! A DTSTART that its RRULE would not produce is an occurrence all the same: it "defines the first instance in the
//! recurrence set" (RFC 5545, 3.8.5.3).

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rrule::{RRule, RRuleSet, Unvalidated};
use serde_json::Value;

use crate::calendar::{Calendar, Resource, text};
use crate::error::ApiError;
use crate::resources;
use crate::times::{self, Stamp, Time, parse_zone, place};

/// An endless series, listed without `timeMax`, ends after so many instances (about 14 years of a weekly one).
pub const ENDLESS: usize = 730;

/// A recurring master, read.
pub struct Series {
    pub start: Time,
    pub length: TimeDelta,
    rules: Vec<String>,
    exrules: Vec<String>,
    rdates: Vec<(NaiveDateTime, Option<TimeDelta>)>,
    exdates: Vec<Excluded>,
}

enum Excluded {
    Local(NaiveDateTime),
    /// An EXDATE of type DATE against timed occurrences takes the whole day.
    Day(NaiveDate),
}

impl Series {
    pub fn read(master: &Resource, calendar: Tz) -> Result<Self, ApiError> {
        let part = |name: &str| master.get(name).ok_or_else(|| ApiError::required(format!("Missing {name} time.")));
        let start = Time::parse(part("start")?, calendar, "start")?;
        let end = Time::parse(part("end")?, calendar, "end")?;
        let mut series = Self {
            start,
            length: start.until(&end, calendar),
            rules: Vec::new(),
            exrules: Vec::new(),
            rdates: Vec::new(),
            exdates: Vec::new(),
        };
        for line in master.get("recurrence").and_then(Value::as_array).into_iter().flatten() {
            series.read_line(line.as_str().unwrap_or_default(), calendar)?;
        }
        Ok(series)
    }

    fn read_line(&mut self, line: &str, calendar: Tz) -> Result<(), ApiError> {
        let invalid = || ApiError::invalid("Invalid recurrence rule.");
        let (head, value) = line.split_once(':').ok_or_else(invalid)?;
        let mut parts = head.split(';');
        let name = parts.next().unwrap_or_default().to_ascii_uppercase();
        let parameters: Vec<(String, &str)> =
            parts.filter_map(|p| p.split_once('=')).map(|(n, v)| (n.to_ascii_uppercase(), v)).collect();
        let zone = parameters
            .iter()
            .find(|(n, _)| n == "TZID")
            .and_then(|(_, v)| parse_zone(v.trim_matches('"')))
            .unwrap_or_else(|| self.zone(calendar));
        match name.as_str() {
            "RRULE" => self.rules.push(self.rule(value, calendar)?),
            "EXRULE" => self.exrules.push(self.rule(value, calendar)?),
            "RDATE" => {
                for item in value.split(',') {
                    let rdate = self.rdate(item, zone, calendar).ok_or_else(invalid)?;
                    self.rdates.push(rdate);
                }
            }
            "EXDATE" => {
                for item in value.split(',') {
                    let excluded = match NaiveDate::parse_from_str(item, "%Y%m%d") {
                        Ok(day) => Excluded::Day(day),
                        Err(_) => Excluded::Local(self.local(item, zone, calendar).ok_or_else(invalid)?),
                    };
                    self.exdates.push(excluded);
                }
            }
            // DTSTART and DTEND "are not allowed in this field" (the API's reference of Events).
            _ => return Err(invalid()),
        }
        Ok(())
    }

    /// The zone the series lives in.
    fn zone(&self, calendar: Tz) -> Tz {
        match self.start {
            Time::Day(_) => calendar,
            Time::At { zone, .. } => zone,
        }
    }

    /// A rule whose UNTIL is wall clock time of the series, written as UTC for the crate; refused if unreadable.
    fn rule(&self, value: &str, calendar: Tz) -> Result<String, ApiError> {
        let invalid = || ApiError::invalid("Invalid recurrence rule.");
        let mut parts: Vec<String> = Vec::new();
        for part in value.split(';').filter(|p| !p.is_empty()) {
            let (name, until) = part.split_once('=').ok_or_else(invalid)?;
            if !name.eq_ignore_ascii_case("UNTIL") {
                parts.push(part.to_ascii_uppercase());
                continue;
            }
            let local = match NaiveDate::parse_from_str(until, "%Y%m%d") {
                // A DATE includes its whole day, whatever the type of DTSTART.
                Ok(day) => day.and_hms_opt(23, 59, 59).ok_or_else(invalid)?,
                Err(_) if self.start.is_day() => {
                    let day = self.local(until, Tz::UTC, Tz::UTC).ok_or_else(invalid)?.date();
                    day.and_hms_opt(23, 59, 59).ok_or_else(invalid)?
                }
                Err(_) => self.local(until, self.zone(calendar), calendar).ok_or_else(invalid)?,
            };
            parts.push(format!("UNTIL={}", local.format("%Y%m%dT%H%M%SZ")));
        }
        let rule = parts.join(";");
        self.floating(&rule).map_err(|_| invalid())?;
        Ok(rule)
    }

    fn floating(&self, rule: &str) -> Result<RRuleSet, rrule::RRuleError> {
        let start = self.start.local().and_utc().with_timezone(&rrule::Tz::UTC);
        let rule = RRule::<Unvalidated>::from_str(rule)?.validate(start)?;
        Ok(RRuleSet::new(start).rrule(rule))
    }

    /// A DATE-TIME as wall clock time of the series: `...Z` is UTC, else it is in `zone`.
    fn local(&self, text: &str, zone: Tz, calendar: Tz) -> Option<NaiveDateTime> {
        let own = self.zone(calendar);
        if let Some(utc) = text.strip_suffix('Z') {
            let utc = NaiveDateTime::parse_from_str(utc, "%Y%m%dT%H%M%S").ok()?.and_utc();
            return Some(if self.start.is_day() { utc.naive_utc() } else { utc.with_timezone(&own).naive_local() });
        }
        let local = NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%S").ok()?;
        Some(if zone == own { local } else { place(local, zone).with_timezone(&own).naive_local() })
    }

    /// RDATE: a DATE, a DATE-TIME or a PERIOD, which brings its own length (RFC 5545, 3.8.5.2).
    fn rdate(&self, item: &str, zone: Tz, calendar: Tz) -> Option<(NaiveDateTime, Option<TimeDelta>)> {
        if let Ok(day) = NaiveDate::parse_from_str(item, "%Y%m%d") {
            let time = if self.start.is_day() { NaiveTime::MIN } else { self.start.local().time() };
            return Some((day.and_time(time), None));
        }
        let Some((from, to)) = item.split_once('/') else { return Some((self.local(item, zone, calendar)?, None)) };
        let start = self.local(from, zone, calendar)?;
        let length = match duration(to) {
            Some(length) => length,
            None => {
                let own = self.zone(calendar);
                place(self.local(to, zone, calendar)?, own) - place(start, own)
            }
        };
        Some((start, Some(length)))
    }

    /// Starts (and own lengths, from RDATE periods), none at or after `before`, at most `cap` a rule.
    pub fn starts(&self, before: Option<DateTime<Utc>>, cap: usize) -> Vec<(Time, Option<TimeDelta>)> {
        // A day of slack covers every zone's distance from UTC; the caller looks at instants again.
        let last = before.map(|b| b.naive_utc() + TimeDelta::days(1));
        let iterate = |rules: &[String]| -> BTreeSet<NaiveDateTime> {
            let mut found = BTreeSet::new();
            for rule in rules {
                let Ok(set) = self.floating(rule) else { continue };
                let times = set.into_iter().map(|t| t.naive_utc());
                found.extend(times.take_while(|t| last.is_none_or(|last| *t < last)).take(cap));
            }
            found
        };
        let mut all: BTreeMap<NaiveDateTime, Option<TimeDelta>> =
            iterate(&self.rules).into_iter().map(|local| (local, None)).collect();
        all.insert(self.start.local(), None);
        all.extend(self.rdates.iter().filter(|(local, _)| last.is_none_or(|last| *local < last)).copied());
        for gone in iterate(&self.exrules) {
            all.remove(&gone);
        }
        all.retain(|local, _| {
            !self.exdates.iter().any(|excluded| match excluded {
                Excluded::Local(time) => time == local,
                Excluded::Day(day) => *day == local.date(),
            })
        });
        all.into_iter().map(|(local, length)| (self.start.at_local(local), length)).collect()
    }

    /// The occurrence that an instance's id names, if the series has it.
    pub fn find(&self, stamp: Stamp) -> Option<(Time, TimeDelta)> {
        let starts = self.starts(Some(stamp.bound()), usize::MAX);
        let (time, length) = starts.into_iter().rev().find(|(time, _)| stamp.is(time))?;
        Some((time, length.unwrap_or(self.length)))
    }
}

/// A DURATION (RFC 5545, 3.3.6), the forms without a sign.
fn duration(text: &str) -> Option<TimeDelta> {
    let mut total = TimeDelta::zero();
    let mut digits = String::new();
    for c in text.strip_prefix('P')?.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if c == 'T' {
            continue;
        }
        let n: i64 = std::mem::take(&mut digits).parse().ok()?;
        total += match c {
            'W' => TimeDelta::try_weeks(n)?,
            'D' => TimeDelta::try_days(n)?,
            'H' => TimeDelta::try_hours(n)?,
            'M' => TimeDelta::try_minutes(n)?,
            'S' => TimeDelta::try_seconds(n)?,
            _ => return None,
        };
    }
    Some(total)
}

/// The occurrences of a master that nobody touched: those with a stored exception are left out.
pub fn plain_times(calendar: &Calendar, master: &Resource, before: Option<DateTime<Utc>>) -> Vec<(Time, TimeDelta)> {
    let cap = if before.is_some() { usize::MAX } else { ENDLESS };
    let Ok(series) = Series::read(master, calendar.zone) else { return Vec::new() };
    let master_id = text(master, "id");
    let starts = series.starts(before, cap).into_iter();
    starts
        .filter(|(time, _)| before.is_none_or(|before| time.instant(calendar.zone) < before))
        .filter(|(time, _)| {
            // A series that was split off may have come to lie on occurrences of the one it was split from, which go by
            // the same ids: an exception is of one of them.
            let exception = calendar.events.get(&resources::instance_id(master_id, time));
            exception.is_none_or(|exception| text(&exception.resource, "recurringEventId") != master_id)
        })
        .map(|(time, length)| (time, length.unwrap_or(series.length)))
        .collect()
}

/// The master and the occurrence that `<master>_20250326T123000Z` names, when it is a living master's occurrence.
///
/// A series that "this and following" split off (`<id>_R20250327T123000`) names its instances after the original
/// id, so every master of that family is asked.
pub fn find_instance<'a>(calendar: &'a Calendar, id: &str) -> Option<(&'a Resource, Time, TimeDelta)> {
    let (base, stamp) = times::split_stamp(id)?;
    let family = format!("{}_R", resources::family(base));
    let own = calendar.events.get(base).into_iter();
    let split_off = calendar.events.range(family.clone()..).take_while(|(k, _)| k.starts_with(&family));
    own.chain(split_off.map(|(_, stored)| stored))
        .filter(|stored| !stored.hidden && stored.is_master() && !stored.is_cancelled())
        .find_map(|stored| {
            let (time, length) = Series::read(&stored.resource, calendar.zone).ok()?.find(stamp)?;
            Some((&stored.resource, time, length))
        })
}
