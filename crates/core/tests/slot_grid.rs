//! Where slots may begin, against the definition: whenever the wall clock shows a whole number of steps.

mod time_support;

use calsync_core::slots::Grid;
use calsync_core::zone::{self, stretch_at};
use chrono::{DateTime, TimeDelta, Timelike, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use time_support::{at, between, minutes, tz, utc};

/// Looks at the clock minute by minute.
fn minutes_shown(from: DateTime<Utc>, to: DateTime<Utc>, step: u32, zone: Tz) -> Vec<DateTime<Utc>> {
    let all = std::iter::successors(Some(from), |instant| Some(*instant + minutes(1))).take_while(|at| *at < to);
    let boundary = |instant: &DateTime<Utc>| {
        let clock = zone::local(*instant, zone);
        (clock.hour() * 60 + clock.minute()).is_multiple_of(step)
    };
    all.filter(boundary).collect()
}

fn grid(from: DateTime<Utc>, to: DateTime<Utc>, step: u32, zone: Tz) -> Vec<DateTime<Utc>> {
    let mut grid = Grid::new(minutes(step.into()), zone).expect("a step");
    grid.within(between(from, to)).collect()
}

#[test]
fn boundaries_are_what_the_wall_clock_shows() {
    let weeks = [
        // Half an hour from Greenwich; three quarters; half an hour of summer time; ordinary changes; a change at midnight.
        ("Asia/Kolkata", "2026-03-27"),
        ("Asia/Kathmandu", "2026-03-27"),
        ("Australia/Lord_Howe", "2026-04-03"),
        ("Australia/Lord_Howe", "2026-10-02"),
        ("Europe/Vienna", "2026-03-27"),
        ("Europe/Vienna", "2026-10-23"),
        ("America/New_York", "2026-03-06"),
        ("America/New_York", "2026-10-30"),
        ("Africa/Cairo", "2026-04-22"),
        ("America/Sao_Paulo", "2018-11-02"),
        ("America/Havana", "2026-10-30"),
        ("Pacific/Apia", "2011-12-28"),
        ("UTC", "2026-03-27"),
    ];
    for (zone, first) in weeks {
        let from = utc(&format!("{first} 00:07"));
        for step in [1, 5, 7, 15, 20, 30, 45, 50, 60, 90, 240, 1000, 1440] {
            let to = from + TimeDelta::days(4);
            assert_eq!(grid(from, to, step, tz(zone)), minutes_shown(from, to, step, tz(zone)), "{zone} {step}");
        }
    }
}

#[test]
fn a_step_that_does_not_divide_the_day_begins_anew_at_midnight() {
    let zone = "Europe/Vienna";

    let boundaries = grid(at("2026-11-23 22:00", zone), at("2026-11-24 01:00", zone), 50, tz(zone));

    let expected = ["2026-11-23 22:30", "2026-11-23 23:20", "2026-11-24 00:00", "2026-11-24 00:50"];
    assert_eq!(boundaries, expected.map(|local| at(local, zone)));
}

#[test]
fn a_step_is_longer_than_nothing_and_at_most_a_day() {
    for step in [0, -15, 1441] {
        assert!(Grid::new(minutes(step), Tz::UTC).is_err(), "{step}");
    }
    assert!(Grid::new(minutes(1440), Tz::UTC).is_ok());
}

#[test]
fn no_zone_changes_its_clocks_twice_within_a_day() {
    for zone in TZ_VARIANTS {
        let mut from = utc("2022-01-01 00:00");
        while from < utc("2030-01-01 00:00") {
            let stretch = stretch_at(from, zone).expect("time goes on");
            let middle = from + (stretch.interval.end() - from) / 2;
            for inside in [from, middle, stretch.interval.end() - TimeDelta::seconds(1)] {
                let shown = zone::local(inside, zone) - inside.naive_utc();
                assert_eq!(shown, stretch.offset, "{zone} at {inside}");
            }
            from = stretch.interval.end();
        }
    }
}
