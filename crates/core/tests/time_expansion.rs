//! What one event makes of the window: all-day and floating events, exceptions, and what cannot be read.

mod time_support;

use calsync_core::event::{Kind, OriginalStart, Span};
use calsync_core::expansion::{Expansion, occurrences};
use calsync_core::options::Store;
use time_support::{at, between, date, days, meeting, occurrence_of, tz, utc, years};

#[test]
fn an_all_day_event_runs_from_local_midnight_to_local_midnight() {
    let vienna = days("2026-03-28", 3, "Europe/Vienna").intervals(years(2026, 1));

    assert_eq!(vienna, [between(utc("2026-03-27 23:00"), utc("2026-03-30 22:00"))]);
}

#[test]
fn an_all_day_event_across_a_change_of_the_clocks_is_one_local_day() {
    assert_eq!(days("2026-03-29", 1, "Europe/Vienna").hours(years(2026, 1)), [23]);
    assert_eq!(days("2026-10-25", 1, "Europe/Vienna").hours(years(2026, 1)), [25]);
    assert_eq!(days("2018-11-04", 1, "America/Sao_Paulo").hours(years(2018, 1)), [23]);
    assert_eq!(days("2018-02-17", 1, "America/Sao_Paulo").hours(years(2018, 1)), [25]);
    assert_eq!(days("2026-04-24", 1, "Africa/Cairo").hours(years(2026, 1)), [23]);
}

#[test]
fn a_daily_all_day_series_leaves_no_gap_between_its_days() {
    for zone in ["Europe/Vienna", "America/Sao_Paulo", "Africa/Cairo", "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Apia"]
    {
        for year in [2011, 2018, 2026] {
            let every_day = days(&format!("{year}-01-01"), 1, zone).recurs("RRULE:FREQ=DAILY;COUNT=365");
            let found = every_day.intervals(years(year - 1, 3));
            assert!(found.windows(2).all(|pair| pair[0].end() == pair[1].start()), "{zone} {year}");
        }
    }
}

#[test]
fn the_day_that_samoa_skipped_does_not_take_place() {
    let every_day = days("2011-12-28", 1, "Pacific/Apia").recurs("RRULE:FREQ=DAILY;COUNT=5");

    let starts = every_day.starts(years(2011, 2));

    assert_eq!(starts, ["2011-12-28 00:00", "2011-12-29 00:00", "2011-12-31 00:00", "2012-01-01 00:00"]);
}

#[test]
fn an_all_day_event_moves_with_the_calendars_zone() {
    let holiday = days("2026-05-01", 1, "Europe/Vienna");

    assert_eq!(
        holiday.clone().in_calendar_of("Pacific/Auckland").intervals(years(2026, 1))[0].start(),
        utc("2026-04-30 12:00")
    );
    assert_eq!(
        holiday.in_calendar_of("America/Los_Angeles").intervals(years(2026, 1))[0].start(),
        utc("2026-05-01 07:00")
    );
}

#[test]
fn an_all_day_event_without_an_end_lasts_one_day() {
    assert_eq!(days("2026-05-01", 0, "UTC").hours(years(2026, 1)), [24]);
    assert_eq!(days("2026-05-01", 0, "UTC").recurs("RRULE:FREQ=DAILY;COUNT=2").hours(years(2026, 1)), [24, 24]);
}

#[test]
fn a_floating_series_recurs_in_the_calendars_zone() {
    let span = Span::Timed { starts_at: utc("2026-03-28 08:00"), ends_at: utc("2026-03-28 09:00"), zone: None };
    let floating = Kind::Master { span, recurrence: vec!["RRULE:FREQ=DAILY;COUNT=2".to_owned()] };

    let found = occurrences(&floating, &[], years(2026, 1), tz("Europe/Vienna"));

    assert_eq!(found.intervals[1].start(), at("2026-03-29 09:00", "Europe/Vienna"));
}

#[test]
fn a_zero_length_event_blocks_nothing() {
    assert_eq!(meeting("2026-05-01 09:00", 0, "UTC").intervals(years(2026, 1)), []);
    assert_eq!(meeting("2026-05-01 09:00", 0, "UTC").recurs("RRULE:FREQ=DAILY").intervals(years(2026, 1)), []);
}

#[test]
fn an_event_outside_the_window_is_not_in_it_and_one_that_reaches_in_is_whole() {
    let party = meeting("2025-12-31 22:00", 240, "UTC");

    assert_eq!(party.intervals(years(2026, 1)), [between(utc("2025-12-31 22:00"), utc("2026-01-01 02:00"))]);
    assert_eq!(party.intervals(years(2027, 1)), []);
}

#[test]
fn an_occurrence_that_began_before_the_window_is_in_it() {
    let shift = meeting("2020-01-03 20:00", 36 * 60, "UTC").recurs("RRULE:FREQ=WEEKLY");
    let sunday = between(utc("2026-05-03 06:00"), utc("2026-05-03 07:00"));

    assert_eq!(shift.starts(sunday), ["2026-05-01 20:00"]);
}

#[test]
fn a_vacated_occurrence_is_free_again() {
    let standup = meeting("2026-03-27 09:00", 15, "Europe/Vienna").recurs("RRULE:FREQ=DAILY;COUNT=3");
    let left = ["2026-03-27 09:00", "2026-03-29 09:00"];

    let by_instant = OriginalStart::At(at("2026-03-28 09:00", "Europe/Vienna"));
    assert_eq!(standup.clone().without(by_instant).starts(years(2026, 1)), left);
    let by_date = OriginalStart::On(date("2026-03-28"));
    assert_eq!(standup.without(by_date).starts(years(2026, 1)), left);
}

#[test]
fn of_two_occurrences_that_start_together_the_one_that_is_left_blocks() {
    // The 30th, which Samoa skipped, begins where the 31st begins.
    let trip = days("2011-12-30", 3, "Pacific/Apia").recurs("RRULE:FREQ=DAILY;COUNT=2");

    let left = trip.without(OriginalStart::On(date("2011-12-31")));

    assert_eq!(left.hours(years(2011, 2)), [48]);
}

#[test]
fn a_vacated_date_is_a_date_of_the_events_zone() {
    let late = meeting("2026-05-01 22:00", 60, "America/Los_Angeles").recurs("RRULE:FREQ=DAILY;COUNT=2");

    let rest = late.in_calendar_of("Europe/Vienna").without(OriginalStart::On(date("2026-05-01")));

    assert_eq!(rest.intervals(years(2026, 1))[0].start(), at("2026-05-02 22:00", "America/Los_Angeles"));
}

#[test]
fn an_instant_vacates_the_all_day_occurrence_of_that_local_day() {
    let offsite = days("2026-05-01", 1, "Pacific/Auckland").recurs("RRULE:FREQ=DAILY;COUNT=2");

    let rest = offsite.without(OriginalStart::At(utc("2026-04-30 12:00")));

    assert_eq!(rest.starts(years(2026, 1)), ["2026-05-02 00:00"]);
}

#[test]
fn an_exception_is_where_it_was_moved_to_and_a_tombstone_is_nowhere() {
    let of = occurrence_of(OriginalStart::At(utc("2026-05-01 09:00")));
    let span = Span::Timed { starts_at: utc("2026-05-02 09:00"), ends_at: utc("2026-05-02 10:00"), zone: None };
    let moved = Kind::Exception { of: of.clone(), span };

    let found = occurrences(&moved, &[], years(2026, 1), tz("UTC"));

    assert_eq!(found.intervals, [between(utc("2026-05-02 09:00"), utc("2026-05-02 10:00"))]);
    assert_eq!(occurrences(&Kind::Tombstone(of), &[], years(2026, 1), tz("UTC")), Expansion::default());
}

#[test]
fn an_unreadable_event_blocks_its_time_where_that_is_readable() {
    let span = Span::Timed { starts_at: utc("2026-05-02 09:00"), ends_at: utc("2026-05-02 10:00"), zone: None };
    let (known, unknown) = (Kind::Unreadable { span: Some(span) }, Kind::Unreadable { span: None });

    assert_eq!(occurrences(&known, &[], years(2026, 1), tz("UTC")).intervals.len(), 1);
    assert_eq!(occurrences(&unknown, &[], years(2026, 1), tz("UTC")), Expansion::default());
}

#[test]
fn a_rule_that_cannot_be_read_blocks_its_first_occurrence_and_says_why() {
    let broken =
        meeting("2026-05-01 09:00", 60, "UTC").recurs("RRULE:FREQ=DAILY").recurs("RRULE:FREQ=WEEKLY;INTERVAL=0");

    let found = broken.expanded(years(2026, 1));

    assert_eq!(found.intervals, [between(utc("2026-05-01 09:00"), utc("2026-05-01 10:00"))]);
    let why = "recurrence line 2, column 28: expected a whole number from 1 to 3200000000, found \"0\"";
    assert_eq!(broken.problem(years(2026, 1)), why);
}

#[test]
fn a_zone_nobody_knows_is_read_as_the_calendars_and_flagged() {
    let mut series = meeting("2026-03-28 09:00", 60, "Europe/Vienna").recurs("RRULE:FREQ=DAILY;COUNT=2");
    let Span::Timed { zone, .. } = &mut series.span else { unreachable!() };
    *zone = Some("Mars/Olympus_Mons".to_owned());

    let found = series.expanded(years(2026, 1));

    assert_eq!(found.intervals[1].start(), at("2026-03-29 09:00", "Europe/Vienna"));
    let why = "unknown time zone \"Mars/Olympus_Mons\"; the series is expanded in the calendar's zone, Europe/Vienna";
    assert_eq!(series.problem(years(2026, 1)), why);
}

#[test]
fn where_only_busy_time_is_kept_a_complaint_quotes_nothing() {
    let series = |line: &str| meeting("2026-05-01 09:00", 60, "UTC").recurs("RRULE:FREQ=DAILY;COUNT=2").recurs(line);
    let mut abroad = series("RDATE:");
    let Span::Timed { zone, .. } = &mut abroad.span else { unreachable!() };
    *zone = Some("SECRET".to_owned());
    for (series, kept) in [
        (
            series("EXDATE;TZID=SECRET:20260502T090000"),
            "recurrence line 2, column 13: unknown time zone; its times are read in the event's zone",
        ),
        (series("RRULE:FREQ=SECRET"), "recurrence line 2, column 12: it cannot be read"),
        (abroad, "start: unknown time zone; the series is expanded in the calendar's zone, UTC"),
    ] {
        let complaint = series.expanded(years(2026, 1)).problem.expect("a complaint");

        assert_eq!(complaint.kept(Store::BusyOnly), kept);
        for store in [Store::Details, Store::Full] {
            assert!(complaint.kept(store).contains("\"SECRET\""), "{complaint}");
        }
    }
}
