//! Which series can never again take place.

use calsync_core::event::{Kind, Span};
use calsync_core::retention::series_is_over;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

const VIENNA: Tz = chrono_tz::Europe::Vienna;

fn at(text: &str) -> DateTime<Utc> {
    format!("{text}:00Z").parse().expect("a moment")
}

fn series(lines: &[&str]) -> Kind {
    Kind::Master {
        span: Span::Timed { starts_at: at("2026-01-05T08:00"), ends_at: at("2026-01-05T09:00"), zone: None },
        recurrence: lines.iter().map(ToString::to_string).collect(),
    }
}

fn over(kind: &Kind, before: &str) -> bool {
    series_is_over(kind, at(before), VIENNA)
}

#[test]
fn a_series_is_over_days_after_its_last_occurrence_and_not_before() {
    for rule in ["RRULE:FREQ=DAILY;COUNT=10", "RRULE:FREQ=DAILY;UNTIL=20260114T080000Z"] {
        assert!(!over(&series(&[rule]), "2026-01-14T09:00"), "{rule} has just ended");
        assert!(!over(&series(&[rule]), "2026-01-16T08:59"), "{rule} ended two days ago but a minute");
        assert!(over(&series(&[rule]), "2026-01-16T09:00"), "{rule}");
    }
}

#[test]
fn a_series_without_an_end_is_never_over() {
    for rule in ["RRULE:FREQ=DAILY", "RRULE:FREQ=YEARLY;INTERVAL=90", "rrule:freq=weekly;byday=mo"] {
        assert!(!over(&series(&[rule]), "2060-01-01T00:00"), "{rule}");
    }
}

#[test]
fn one_more_date_keeps_a_series() {
    let lines = ["RRULE:FREQ=DAILY;COUNT=3", "RDATE:20300101T080000Z"];

    assert!(!over(&series(&lines), "2029-12-31T00:00"));
    assert!(over(&series(&lines), "2030-01-04T00:00"));
}

#[test]
fn what_cannot_be_read_is_kept() {
    assert!(!over(&series(&["RRULE:FREQ=SOMETIMES;COUNT=3"]), "2060-01-01T00:00"));
    assert!(!over(&series(&["RRULE:FREQ=SECONDLY;COUNT=900000000"]), "2026-03-01T00:00"));
}

#[test]
fn an_all_day_series_is_kept_while_any_zone_could_see_it() {
    let day = NaiveDate::from_ymd_opt(2026, 1, 5).expect("a day");
    let span = Span::AllDay { start: day, end: day + TimeDelta::days(1) };
    let kind = Kind::Master { span, recurrence: vec!["RRULE:FREQ=DAILY;COUNT=2".to_owned()] };

    assert!(!over(&kind, "2026-01-08T22:59"));
    assert!(over(&kind, "2026-01-08T23:00"));
}

#[test]
fn what_happens_once_is_no_series() {
    let span = Span::Timed { starts_at: at("2020-01-01T08:00"), ends_at: at("2020-01-01T09:00"), zone: None };

    assert!(!over(&Kind::Single(span), "2026-01-01T00:00"));
}
