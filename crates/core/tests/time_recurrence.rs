//! Series: what the rules of RFC 5545 leave open, what providers send against them, and how much work they may make.

mod time_support;

use std::collections::BTreeSet;
use std::time::Duration;

use calsync_core::interval::Interval;
use calsync_core::recurrence::{Length, MOST_OCCURRENCES, Problem, Series, Start};
use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc, Weekday};
use cpu_time::ThreadTime;
use time_support::dice::Dice;
use time_support::{Recurring, at, between, date, days, floating, lines, local, meeting, rules, tz, utc, years};

// Clocks that change.

#[test]
fn a_series_keeps_its_local_time_when_the_clocks_change() {
    let standup = meeting("2026-03-28 09:00", 15, "Europe/Vienna").recurs("RRULE:FREQ=DAILY;COUNT=2");

    let found = standup.intervals(years(2026, 1));

    assert_eq!(found[0].start(), utc("2026-03-28 08:00"));
    assert_eq!(found[1].start(), utc("2026-03-29 07:00"));
}

#[test]
fn an_occurrence_in_the_gap_moves_forward_and_the_next_one_is_back() {
    let night = meeting("2026-03-28 02:30", 30, "Europe/Vienna").recurs("RRULE:FREQ=DAILY;COUNT=3");

    assert_eq!(night.starts(years(2026, 1)), ["2026-03-28 02:30", "2026-03-29 03:30", "2026-03-30 02:30"]);
}

#[test]
fn an_occurrence_at_a_time_that_occurs_twice_is_at_the_first() {
    let night = meeting("2026-10-24 02:30", 30, "Europe/Vienna").recurs("RRULE:FREQ=DAILY;COUNT=2");

    assert_eq!(night.intervals(years(2026, 1))[1].start(), utc("2026-10-25 00:30"));
}

#[test]
fn a_first_occurrence_that_was_told_as_the_second_of_the_two_stays_there() {
    let second = utc("2026-10-25 01:30");
    let start = Start::Timed { at: second, zone: tz("Europe/Vienna") };
    let series = Series::read(start, Length::exact(TimeDelta::hours(1)), &["RRULE:FREQ=DAILY;COUNT=2"]).unwrap();

    let found = series.occurrences(years(2026, 1)).unwrap();

    assert_eq!(found[0].interval.start(), second);
    assert_eq!(found[1].interval.start(), utc("2026-10-26 01:30"));
}

#[test]
fn a_first_occurrence_at_the_second_of_the_two_is_excluded_by_its_local_time() {
    let start = Start::Timed { at: utc("2026-10-25 01:30"), zone: tz("Europe/Vienna") };
    let lines = ["RRULE:FREQ=DAILY;COUNT=2", "EXDATE;TZID=Europe/Vienna:20261025T023000"];
    let series = Series::read(start, Length::exact(TimeDelta::hours(1)), &lines).unwrap();

    assert_eq!(series.occurrences(years(2026, 1)).unwrap().len(), 1);
}

#[test]
fn an_hourly_rule_has_no_hour_twice_and_skips_none_it_has() {
    let hourly = |start| meeting(start, 60, "Europe/Vienna").recurs("RRULE:FREQ=HOURLY;COUNT=24");

    assert_eq!(hourly("2026-03-29 00:00").intervals(years(2026, 1)).len(), 23);
    assert_eq!(hourly("2026-10-25 00:00").intervals(years(2026, 1)).len(), 24);
}

#[test]
fn a_duration_in_days_is_nominal_and_an_end_is_exact() {
    let start = Start::Timed { at: at("2026-03-28 12:00", "Europe/Vienna"), zone: tz("Europe/Vienna") };
    let hours = |length| {
        let series = Series::read(start, length, &["RRULE:FREQ=DAILY;COUNT=1"]).unwrap();
        let found = series.occurrences(years(2026, 1)).unwrap()[0].interval;
        (found.end() - found.start()).num_hours()
    };

    assert_eq!(hours(Length::days(1)), 23);
    assert_eq!(hours(Length::exact(TimeDelta::hours(24))), 24);
}

// DTSTART, COUNT and UNTIL.

#[test]
fn dtstart_takes_place_even_where_the_rule_does_not_match_it() {
    // 2026-05-01 is a Friday.
    let mondays = meeting("2026-05-01 09:00", 60, "UTC").recurs("RRULE:FREQ=WEEKLY;BYDAY=MO;COUNT=2");

    assert_eq!(mondays.starts(years(2026, 1)), ["2026-05-01 09:00", "2026-05-04 09:00", "2026-05-11 09:00"]);
}

#[test]
fn dtstart_does_not_take_place_once_it_is_excluded() {
    let daily = meeting("2026-05-01 09:00", 60, "UTC").recurs("RRULE:FREQ=DAILY;COUNT=2");

    assert_eq!(daily.recurs("EXDATE:20260501T090000Z").starts(years(2026, 1)), ["2026-05-02 09:00"]);
}

#[test]
fn until_as_a_date_includes_the_whole_local_day() {
    let evening = meeting("2026-05-01 20:00", 60, "America/Los_Angeles").recurs("RRULE:FREQ=DAILY;UNTIL=20260502");

    assert_eq!(evening.starts(years(2026, 1)), ["2026-05-01 20:00", "2026-05-02 20:00"]);
}

#[test]
fn until_without_a_zone_is_local_time_of_the_event() {
    let evening = meeting("2026-05-01 20:00", 60, "America/Los_Angeles");

    let until = |time| evening.clone().recurs(&format!("RRULE:FREQ=DAILY;UNTIL={time}")).starts(years(2026, 1)).len();

    assert_eq!(until("20260502T200000"), 2);
    assert_eq!(until("20260502T195959"), 1);
}

#[test]
fn until_in_utc_is_an_instant_and_included() {
    let evening = meeting("2026-05-01 20:00", 60, "America/Los_Angeles");

    let until = |time| evening.clone().recurs(&format!("RRULE:FREQ=DAILY;UNTIL={time}")).starts(years(2026, 1)).len();

    assert_eq!(until("20260503T030000Z"), 2);
    assert_eq!(until("20260503T025959Z"), 1);
}

#[test]
fn until_in_utc_against_an_all_day_series_is_the_local_day_it_falls_on() {
    let until = |zone, time| {
        days("2026-05-01", 1, zone).recurs(&format!("RRULE:FREQ=DAILY;UNTIL={time}")).starts(years(2026, 1)).len()
    };

    // Midnight of May 3 in Vienna, as Exchange writes it.
    assert_eq!(until("Europe/Vienna", "20260502T220000Z"), 3);
    // A date that a program could not write without a time.
    assert_eq!(until("America/Los_Angeles", "20260503T000000Z"), 3);
}

#[test]
fn several_rules_make_one_series_without_duplicates() {
    let series = meeting("2026-05-04 09:00", 60, "UTC")
        .recurs("RRULE:FREQ=WEEKLY;COUNT=2")
        .recurs("RRULE:FREQ=DAILY;INTERVAL=7;COUNT=3");

    assert_eq!(series.starts(years(2026, 1)), ["2026-05-04 09:00", "2026-05-11 09:00", "2026-05-18 09:00"]);
}

// EXDATE, RDATE, EXRULE.

#[test]
fn an_exdate_names_its_occurrence_in_any_zone() {
    let daily = meeting("2026-05-01 09:00", 60, "Europe/Vienna").recurs("RRULE:FREQ=DAILY;COUNT=4");

    let rest = daily
        .recurs("EXDATE;TZID=America/New_York:20260502T030000")
        .recurs("EXDATE:20260503T070000Z")
        .recurs("exdate;tzid=\"W. Europe Standard Time\":20260504T090000");

    assert_eq!(rest.starts(years(2026, 1)), ["2026-05-01 09:00"]);
}

#[test]
fn an_exdate_of_another_time_removes_nothing() {
    let daily = meeting("2026-05-01 09:00", 60, "Europe/Vienna").recurs("RRULE:FREQ=DAILY;COUNT=2");

    assert_eq!(daily.recurs("EXDATE:20260502T090000Z").starts(years(2026, 1)).len(), 2);
}

#[test]
fn an_exdate_as_a_date_removes_that_local_day() {
    let late = meeting("2026-05-01 22:00", 60, "America/Los_Angeles").recurs("RRULE:FREQ=DAILY;COUNT=3");

    let rest = late.recurs("EXDATE;VALUE=DATE:20260502");

    assert_eq!(rest.starts(years(2026, 1)), ["2026-05-01 22:00", "2026-05-03 22:00"]);
}

#[test]
fn an_exdate_with_a_time_removes_the_all_day_occurrence_of_that_day() {
    let offsite =
        |line: &str| days("2026-05-01", 1, "Pacific/Auckland").recurs("RRULE:FREQ=DAILY;COUNT=2").recurs(line);

    for line in ["EXDATE:20260502T000000", "EXDATE:20260501T120000Z", "EXDATE:20260502T000000Z", "EXDATE:20260502"] {
        assert_eq!(offsite(line).starts(years(2026, 1)), ["2026-05-01 00:00"], "{line}");
    }
}

#[test]
fn an_rdate_adds_an_occurrence_of_the_same_length() {
    let series = meeting("2026-05-01 09:00", 60, "Europe/Vienna")
        .recurs("RDATE;TZID=Europe/Vienna:20260510T100000,20260511T110000")
        .recurs("RDATE:20260512T070000Z");

    assert_eq!(
        series.starts(years(2026, 1)),
        ["2026-05-01 09:00", "2026-05-10 10:00", "2026-05-11 11:00", "2026-05-12 09:00"]
    );
    assert_eq!(series.hours(years(2026, 1)), [1, 1, 1, 1]);
}

#[test]
fn an_rdate_as_a_period_lasts_as_long_as_it_says() {
    let series = meeting("2026-05-01 09:00", 60, "UTC")
        .recurs("RDATE;VALUE=PERIOD:20260502T090000Z/20260502T110000Z,20260503T090000Z/PT3H,20260504T090000Z/P1D");

    assert_eq!(series.hours(years(2026, 1)), [1, 2, 3, 24]);
}

#[test]
fn of_two_occurrences_that_start_together_the_longer_counts() {
    let series = meeting("2026-05-01 09:00", 60, "UTC").recurs("RDATE;VALUE=PERIOD:20260501T090000Z/PT5H");

    assert_eq!(series.hours(years(2026, 1)), [5]);
}

#[test]
fn an_rdate_as_a_date_is_at_the_time_of_dtstart() {
    let series = meeting("2026-05-01 09:00", 60, "Europe/Vienna").recurs("RDATE;VALUE=DATE:20260510");

    assert_eq!(series.starts(years(2026, 1)), ["2026-05-01 09:00", "2026-05-10 09:00"]);
}

#[test]
fn an_exrule_takes_away_what_it_yields() {
    let series = meeting("2026-05-01 09:00", 60, "UTC")
        .recurs("RRULE:FREQ=DAILY;COUNT=4")
        .recurs("EXRULE:FREQ=DAILY;INTERVAL=2");

    assert_eq!(series.starts(years(2026, 1)), ["2026-05-02 09:00", "2026-05-04 09:00"]);
}

#[test]
fn lines_are_read_in_any_case_with_blanks_and_semicolons_at_their_ends() {
    let series = meeting("2026-05-01 09:00", 60, "UTC")
        .recurs("  rrule:freq=weekly;count=2;byday=fr;  \r\n")
        .recurs("")
        .recurs("RDATE:")
        .recurs("X-GOOGLE-NOTE:anything");

    assert_eq!(series.starts(years(2026, 1)), ["2026-05-01 09:00", "2026-05-08 09:00"]);
}

// What does not agree with python-dateutil, judged by others (see `time_support/rules.rs`).

#[test]
fn weeks_are_those_of_iso_8601() {
    for week in (-53..=53).filter(|week| *week != 0) {
        let rule = format!("RRULE:FREQ=YEARLY;BYWEEKNO={week};BYDAY=MO,TU,WE,TH,FR,SA,SU");
        let found: Vec<_> = floating(local("1999-12-27 09:00"), &[rule], years(2000, 40)).unwrap();

        let is_in = |day: &NaiveDate| {
            let weeks = NaiveDate::from_isoywd_opt(day.iso_week().year(), 53, Weekday::Mon).map_or(52, |_| 53);
            let number = i64::from(day.iso_week().week());
            number == week || number == week + weeks + 1
        };
        let all = date("2000-01-01").iter_days().take_while(|day| day.year() < 2040);
        let expected: Vec<_> = all.filter(is_in).map(|day| day.and_hms_opt(9, 0, 0).unwrap()).collect();
        assert_eq!(found, expected, "week {week}");
    }
}

// Bounded work.

/// Time of the processor, the least of a few; a build without optimisation may take longer.
fn fastest(work: impl Fn()) -> Duration {
    let once = || {
        let before = ThreadTime::now();
        work();
        before.elapsed()
    };
    (0..5).map(|_| once()).min().expect("five times")
}

fn ends_soon(series: &Recurring) {
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 150 } else { 5 });
    let time = fastest(|| drop(series.expanded(years(2026, 1))));
    assert!(time < limit, "{:?} took {time:?}", series.recurrence);
}

#[test]
fn every_series_ends_soon_or_is_refused_soon() {
    for (start, rule) in [
        ("1970-01-01 09:00", "FREQ=DAILY"),
        ("1970-01-01 09:00", "FREQ=DAILY;COUNT=100000"),
        ("1970-01-01 09:00", "FREQ=DAILY;BYMONTH=1,2,3;COUNT=100000"),
        ("1970-01-01 09:00", "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=-1;COUNT=100000"),
        ("1970-01-01 09:00", "FREQ=HOURLY;COUNT=100000000"),
        ("1970-01-01 09:00", "FREQ=HOURLY;BYMINUTE=1;BYDAY=MO;COUNT=100000000"),
        ("1970-01-01 09:00", "FREQ=SECONDLY"),
        ("1970-01-01 09:00", "FREQ=SECONDLY;COUNT=4294967295"),
        ("1970-01-01 09:00", "FREQ=SECONDLY;INTERVAL=61;BYSECOND=59"),
        ("1970-01-01 09:00", "FREQ=SECONDLY;BYHOUR=9;BYMINUTE=0;BYSECOND=0"),
        ("1970-01-01 09:00", "FREQ=SECONDLY;INTERVAL=1694"),
        ("1970-01-01 09:00", "FREQ=SECONDLY;INTERVAL=3200000000"),
        ("1970-01-01 09:00", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"),
        ("0001-01-01 09:00", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30;COUNT=2"),
        ("1970-01-01 09:00", "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30"),
        ("1970-01-01 09:00", "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30;COUNT=3"),
        ("1970-01-01 09:00", "FREQ=DAILY;BYSETPOS=366"),
        ("9999-01-01 09:00", "FREQ=DAILY"),
        ("2026-01-01 09:00", "FREQ=DAILY;UNTIL=99991231T235959Z"),
        ("2026-01-01 09:00", "FREQ=YEARLY;INTERVAL=3200000000"),
        ("2026-01-01 09:00", "FREQ=WEEKLY;INTERVAL=3200000000;COUNT=4294967295"),
    ] {
        ends_soon(&meeting(start, 60, "Europe/Vienna").recurs(&format!("RRULE:{rule}")));
    }
}

#[test]
fn every_second_of_every_year_is_refused_with_a_reason() {
    let all = |count: i32| (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    let (hours, seconds) = (all(24), all(60));
    let rule = format!("RRULE:FREQ=YEARLY;BYDAY=MO,TU;BYHOUR={hours};BYMINUTE={seconds};BYSECOND={seconds}");
    let dense = meeting("2020-01-01 09:00", 60, "UTC").recurs(&rule);

    ends_soon(&dense);
    assert!(dense.problem(years(2026, 1)).contains("the rule"));
}

#[test]
fn five_thousand_exdates_are_no_burden() {
    let mut series = meeting("2020-01-01 09:00", 60, "Europe/Vienna").recurs("RRULE:FREQ=DAILY");
    for day in date("2020-01-01").iter_days().take(5_000) {
        series = series.recurs(&format!("EXDATE;TZID=Europe/Vienna:{}T090000", day.format("%Y%m%d")));
    }

    ends_soon(&series);
    assert_eq!(series.starts(years(2026, 1)), Vec::<String>::new());
}

#[test]
fn long_lists_are_no_burden() {
    let list = |count: i32| (1..=count).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    let times = |count: i64| {
        let time = |minute| (utc("2020-01-01 00:00") + TimeDelta::minutes(minute)).format("%Y%m%dT%H%M%SZ").to_string();
        (0..count).map(time).collect::<Vec<_>>().join(",")
    };
    let series = meeting("2020-01-01 09:00", 60, "Europe/Vienna");

    ends_soon(&series.clone().recurs(&format!("RRULE:FREQ=DAILY;BYSETPOS={}", list(5_000))));
    ends_soon(
        &series.clone().recurs(&format!("RRULE:FREQ=YEARLY;BYYEARDAY={}", format!("{},", list(366)).repeat(10) + "1")),
    );
    ends_soon(&series.clone().recurs(&format!("RRULE:FREQ=DAILY;{}X-END=1", "X-PART=1;".repeat(5_000))));
    ends_soon(&series.recurs("RRULE:FREQ=DAILY").recurs(&format!("EXDATE:{}", times(5_000))));
}

#[test]
fn more_occurrences_than_a_calendar_holds_are_refused() {
    let start = Start::Timed { at: utc("2026-01-01 00:00"), zone: tz("UTC") };
    let minutely = Series::read(start, Length::exact(TimeDelta::minutes(1)), &["RRULE:FREQ=MINUTELY"]).unwrap();

    let of_days =
        |days| minutely.occurrences(between(utc("2026-01-01 00:00"), utc("2026-01-01 00:00") + TimeDelta::days(days)));

    assert_eq!(of_days(10).unwrap().len(), 14_400);
    assert!(matches!(of_days(30), Err(Problem::TooMuch { line: 1, .. })));
    assert_eq!(MOST_OCCURRENCES, 20_000);
}

#[test]
fn a_rule_with_a_count_that_seeks_finds_what_a_walk_finds() {
    // BYMONTH with all months changes nothing but that the rule is walked from its start.
    let walked = ";BYMONTH=1,2,3,4,5,6,7,8,9,10,11,12";
    for rule in [
        "FREQ=DAILY;COUNT=1000",
        "FREQ=DAILY;INTERVAL=3;BYHOUR=7,10;COUNT=1001",
        "FREQ=WEEKLY;BYDAY=MO,TH,SU;COUNT=400",
        "FREQ=WEEKLY;INTERVAL=2;WKST=WE;BYDAY=TU,WE,SA;COUNT=401",
        "FREQ=HOURLY;INTERVAL=7;COUNT=2000",
        "FREQ=HOURLY;INTERVAL=7;BYMINUTE=15,45;COUNT=2000",
        "FREQ=MINUTELY;INTERVAL=77;COUNT=9000",
    ] {
        let starts = |rule: String| {
            floating(local("2020-01-01 09:15"), &lines(&[&format!("RRULE:{rule}")]), years(2021, 3)).unwrap()
        };
        assert_eq!(starts(rule.to_owned()), starts(format!("{rule}{walked}")), "{rule}");
    }
}

#[test]
fn a_window_that_slides_finds_what_one_long_window_finds() {
    let mut dice = Dice::seeded(20_261_120);
    for _ in 0..2_000 {
        let start = rules::start(&mut dice);
        let lines = rules::lines(&mut dice, start);
        let starts = |window| floating(start, &lines, window).ok();
        let first = start.and_utc() + TimeDelta::days(dice.between(-20, 900));
        let Some(whole) = starts(between(first, first + TimeDelta::days(60))) else { continue };

        let weeks = (0..60).step_by(12).map(|day| first + TimeDelta::days(day));
        // An occurrence that lies in two of the windows is found in both.
        let pieces: BTreeSet<_> =
            weeks.flat_map(|week| starts(between(week, week + TimeDelta::days(12))).unwrap_or_default()).collect();
        assert_eq!(Vec::from_iter(pieces), whole, "{lines:?} from {start}");
    }
}

// What cannot be read.

#[test]
fn what_cannot_be_read_is_told_with_line_and_column() {
    for (line, column, words) in [
        ("RRULE:INTERVAL=2", 7, "the rule has no FREQ"),
        ("RRULE:FREQ=FORTNIGHTLY", 12, "expected YEARLY, MONTHLY"),
        ("RRULE:FREQ=DAILY;COUNT=0", 24, "expected a whole number from 1"),
        ("RRULE:FREQ=DAILY;COUNT=many", 24, "found \"many\""),
        ("RRULE:FREQ=DAILY;INTERVAL=99999999999999999999", 27, "expected a whole number"),
        ("RRULE:FREQ=DAILY;BYDAY=MO,XX", 27, "expected a weekday such as MO, 2TU or -1FR"),
        ("RRULE:FREQ=MONTHLY;BYDAY=54MO", 26, "expected a weekday"),
        ("RRULE:FREQ=DAILY;BYHOUR=8,24", 27, "expected a whole number from 0 to 23"),
        ("RRULE:FREQ=MONTHLY;BYMONTHDAY=0", 31, "expected a number other than 0"),
        ("RRULE:FREQ=DAILY;UNTIL=tomorrow", 24, "expected a time such as"),
        ("RRULE:FREQ=DAILY;UNTIL=20260230", 24, "expected a time such as"),
        ("RRULE:FREQ=DAILY;BYEASTER=1", 18, "expected a part of a recurrence rule"),
        ("RRULE:RSCALE=CHINESE;FREQ=YEARLY", 7, "expected a part of a recurrence rule"),
        ("RRULE:FREQ=DAILY;COUNT=1;COUNT=2", 26, "COUNT occurs twice in one rule"),
        ("RRULE:FREQ=DAILY;;COUNT", 19, "expected NAME=value"),
        ("RRULE FREQ=DAILY", 1, "expected a property such as RRULE:FREQ=DAILY"),
        ("DTSTART:20260501T090000Z", 1, "expected RRULE, EXRULE, RDATE or EXDATE"),
        ("  EXDATE:20260501,2026-05-02", 19, "found \"2026-05-02\""),
        ("RDATE;VALUE=PERIOD:20260501T090000Z/P1X", 37, "expected a duration such as P1D or PT1H30M"),
        ("EXDATE;TZID=é:é", 15, "found \"é\""),
    ] {
        let problem = meeting("2026-05-01 09:00", 60, "UTC").recurs("RDATE:").recurs(line).problem(years(2026, 1));
        let place = format!("recurrence line 2, column {column}: ");
        assert!(
            problem.starts_with(&place) && problem.contains(words),
            "{line}\n  expected {place}… {words}\n  found    {problem}"
        );
    }
}

#[test]
fn an_unknown_zone_of_a_list_is_read_as_the_events_and_flagged() {
    let series = meeting("2026-05-01 09:00", 60, "Europe/Vienna")
        .recurs("RRULE:FREQ=DAILY;COUNT=2")
        .recurs("EXDATE;TZID=Mars/Olympus_Mons:20260502T090000");

    let found = series.expanded(years(2026, 1));

    assert_eq!(found.intervals.len(), 1);
    let why =
        "recurrence line 2, column 13: unknown time zone \"Mars/Olympus_Mons\"; its times are read in the event's zone";
    assert_eq!(series.problem(years(2026, 1)), why);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_that_stands_in_a_line_makes_a_panic(lines in proptest::collection::vec("\\PC{0,60}", 0..4)) {
        drop(floating(local("2026-01-01 09:00"), &lines, years(2026, 1)));
    }

    #[test]
    fn no_time_makes_a_panic(start: i64, length: i64, from: i64, to: i64, rule in "FREQ=(YEARLY|MONTHLY|WEEKLY|DAILY|HOURLY|SECONDLY)(;COUNT=9{1,9})?(;INTERVAL=9{1,9})?(;BYWEEKNO=1)?") {
        let ends = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
        let instant = |seconds: i64| DateTime::from_timestamp(seconds / 1_000_000, 0).unwrap_or(if seconds < 0 { ends.0 } else { ends.1 });
        let window = Interval::new(instant(from), instant(to)).unwrap_or_else(|| between(ends.0, ends.1));
        for zone in [tz("UTC"), tz("Pacific/Kiritimati"), tz("Pacific/Niue")] {
            let start = Start::Timed { at: instant(start), zone };
            let length = Length::exact(TimeDelta::try_milliseconds(length).unwrap_or_default());
            drop(Series::read(start, length, &[format!("RRULE:{rule}")]).unwrap().occurrences(window));
            let days = Start::AllDay { on: instant(from).date_naive(), zone };
            drop(Series::read(days, Length::days(u32::MAX), &[format!("RRULE:{rule}")]).unwrap().occurrences(window));
        }
    }

    #[test]
    fn no_rule_makes_a_panic(parts in proptest::collection::vec("(FREQ|BYDAY|BYHOUR|COUNT|UNTIL|INTERVAL|BYSETPOS|BYWEEKNO|BYMONTHDAY)=(DAILY|HOURLY|YEARLY|-?[0-9]{1,10}(MO)?|20260101T000000Z|é)", 0..5)) {
        let line = format!("RRULE:FREQ=WEEKLY;{}", parts.join(";"));
        drop(floating(local("2026-01-01 09:00"), &[line], years(2026, 1)));
    }
}
