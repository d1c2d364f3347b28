//! Whatever stands in the lines of a series: it is expanded or refused with words, in bounded time, ordered, each start
//! once, and nothing outside the window.
//!
//! The input: a line with DTSTART (as in RFC 5545 §3.8.2.4: a date, a local time, or a UTC time), its TZID before a
//! semicolon; a line with the seconds an occurrence lasts; then the lines of the series.
#![no_main]

use std::time::{Duration, Instant};

use calsync_core::interval::Interval;
use calsync_core::recurrence::{Length, Series, Start};
use calsync_core::zone;
use chrono::{NaiveDate, NaiveDateTime, TimeDelta};
use chrono_tz::Tz;
use libfuzzer_sys::fuzz_target;

/// Fifty times what a series may take, because the instrumented code is slow and the machine does other things.
const LONGEST: Duration = Duration::from_millis(250);

fuzz_target!(|input: &str| {
    let mut lines = input.lines();
    let Some(start) = lines.next().and_then(start) else { return };
    let seconds = lines.next().and_then(|line| line.parse().ok()).unwrap_or(3600);
    let length = match start {
        Start::AllDay { .. } => Length::days(1),
        _ => Length::exact(TimeDelta::try_seconds(seconds).unwrap_or_default()),
    };
    let lines: Vec<&str> = lines.collect();

    let before = Instant::now();
    let found = Series::read(start, length, &lines).and_then(|series| series.occurrences(year()));
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

fn start(line: &str) -> Option<Start> {
    let (name, text) = line.split_once(';').unwrap_or(("UTC", line));
    let zone = zone::find(name).unwrap_or(Tz::Europe__Vienna);
    if let Ok(on) = NaiveDate::parse_from_str(text, "%Y%m%d") {
        return Some(Start::AllDay { on, zone });
    }
    match text.strip_suffix('Z') {
        Some(text) => Some(Start::Timed { at: time(text)?.and_utc(), zone }),
        None => Some(Start::Local { at: time(text)?, zone }),
    }
}

fn time(text: &str) -> Option<NaiveDateTime> {
    NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%S").ok()
}
