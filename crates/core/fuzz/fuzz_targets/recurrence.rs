//! Whatever stands in the lines of a series, and in the definition of its zone: it is expanded or refused with words, in
//! bounded time, ordered, each start once, and nothing outside the window.
//!
//! The input: a line with the zone's name, a semicolon and DTSTART (as in RFC 5545 §3.8.2.4: a date, a local time, or a UTC
//! time); a line with the seconds an occurrence lasts; then the lines of the series. A line `FROM:original/start/seconds`
//! is an edit of that occurrence and all that follow. From the first `BEGIN:` on it is VTIMEZONEs.
#![no_main]

use std::time::Duration;

use calsync_core::event::{OriginalStart, Span};
use calsync_core::interval::Interval;
use calsync_core::recurrence::{Definitions, FromThenOn, Length, Series, Start};
use calsync_core::zone::Zone;
use chrono::{NaiveDate, NaiveDateTime, TimeDelta};
use chrono_tz::Tz;
use cpu_time::ThreadTime;
use libfuzzer_sys::fuzz_target;

/// Of the processor; ten times what a series may take, because the instrumented code is slow.
const LONGEST: Duration = Duration::from_millis(50);

fuzz_target!(|input: &str| {
    let definitions = Definitions::read(input);
    let mut lines = input.lines().take_while(|line| !line.starts_with("BEGIN:"));
    let Some(start) = lines.next().and_then(|line| start(line, &definitions)) else { return };
    let seconds = lines.next().and_then(seconds).unwrap_or(TimeDelta::hours(1));
    let length = match start {
        Start::AllDay { .. } => Length::days(1),
        _ => Length::exact(seconds),
    };
    let (edits, lines): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("FROM:"));
    let edits: Vec<FromThenOn> = edits.into_iter().filter_map(edit).collect();

    let before = ThreadTime::now();
    let found = Series::read_with(start, length, &lines, &Definitions::read(input), &edits)
        .and_then(|series| series.occurrences(year()));
    let took = before.elapsed();
    // A text of many kilobytes may take its time to be read.
    assert!(took < LONGEST + Duration::from_micros(input.len() as u64 * 10), "took {took:?}");
    match found {
        Ok(found) => {
            assert!(found.iter().all(|found| found.interval.overlaps(year())));
            assert!(found.windows(2).all(|pair| pair[0].interval.start() < pair[1].interval.start()));
        }
        Err(problem) => assert!(problem.to_string().starts_with("recurrence line ")),
    }
});

fn year() -> Interval {
    let day = |year| NaiveDate::from_ymd_opt(year, 1, 1).unwrap_or_default().and_time(Default::default()).and_utc();
    Interval::new(day(2026), day(2027)).expect("a window")
}

fn start(line: &str, definitions: &Definitions) -> Option<Start<Zone>> {
    let (name, text) = line.split_once(';').unwrap_or(("UTC", line));
    let zone = match definitions.zone(name) {
        Some(Ok(zone)) => zone,
        Some(Err(problem)) => {
            assert!(problem.to_string().starts_with("definition of the time zone, line "));
            Zone::Known(Tz::Europe__Vienna)
        }
        None => Zone::Known(Tz::Europe__Vienna),
    };
    if let Ok(on) = NaiveDate::parse_from_str(text, "%Y%m%d") {
        return Some(Start::AllDay { on, zone });
    }
    match text.strip_suffix('Z') {
        Some(text) => Some(Start::Timed { at: time(text)?.and_utc(), zone }),
        None => Some(Start::Local { at: time(text)?, zone }),
    }
}

fn edit(line: &str) -> Option<FromThenOn> {
    let mut parts = line.strip_prefix("FROM:")?.split('/');
    let (original, start) = (parts.next()?, parts.next()?);
    let original = match NaiveDate::parse_from_str(original, "%Y%m%d") {
        Ok(date) => OriginalStart::On(date),
        Err(_) => OriginalStart::At(time(original)?.and_utc()),
    };
    let span = match NaiveDate::parse_from_str(start, "%Y%m%d") {
        Ok(start) => Span::AllDay { start, end: start },
        Err(_) => {
            let starts_at = time(start)?.and_utc();
            let ends_at = starts_at.checked_add_signed(seconds(parts.next()?)?)?;
            Span::Timed { starts_at, ends_at, zone: None }
        }
    };
    Some(FromThenOn { original, span })
}

fn seconds(text: &str) -> Option<TimeDelta> {
    text.parse().ok().and_then(TimeDelta::try_seconds)
}

fn time(text: &str) -> Option<NaiveDateTime> {
    NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%S").ok()
}
