//! Zones that a calendar defines itself (VTIMEZONE), and "this and all following" (RANGE=THISANDFUTURE).
//!
//! `time_overrides.rs` has recurring-ical-events judge both; here are the cases to be read, and the definitions that
//! programs really write, from the fixtures of node-ical and of the Python library icalendar.

mod time_support;

use std::path::PathBuf;

use calsync_core::event::{OriginalStart, Span};
use calsync_core::expansion::{Expansion, Surroundings, expand};
use calsync_core::interval::Interval;
use calsync_core::recurrence::{Definitions, FromThenOn};
use calsync_core::zone::{Zone, find};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use time_support::{Recurring, at, date, days, local, meeting, minutes, on_the_wall, tz, utc, years};

/// Vienna's rules, as Exchange writes them, under a name that nobody else knows.
const OUR_OFFICE: &str = "BEGIN:VTIMEZONE\r\nTZID:Our Office\r\n\
    BEGIN:STANDARD\r\nDTSTART:16010101T030000\r\nTZOFFSETFROM:+0200\r\nTZOFFSETTO:+0100\r\n\
    RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;B\r\n YMONTH=10\r\nEND:STANDARD\r\n\
    BEGIN:DAYLIGHT\r\nDTSTART:16010101T020000\r\nTZOFFSETFROM:+0100\r\nTZOFFSETTO:+0200\r\n\
    RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=3\r\nEND:DAYLIGHT\r\nEND:VTIMEZONE\r\n";

fn defined(text: &str, name: &str) -> Zone {
    Definitions::read(text).zone(name).expect("a zone").unwrap_or_else(|problem| panic!("{problem}"))
}

fn expanded(event: &Recurring, definitions: &str, edits: &[FromThenOn], window: Interval) -> Expansion {
    let surroundings = Surroundings {
        vacated: &event.vacated,
        from_then_on: edits,
        definitions: &Definitions::read(definitions),
        calendar_zone: event.calendar,
    };
    expand(&event.kind(), &surroundings, window)
}

fn in_zone(mut event: Recurring, name: &str) -> Recurring {
    if let Span::Timed { zone, .. } = &mut event.span {
        *zone = Some(name.to_owned());
    }
    event
}

// Definitions.

#[test]
fn a_series_in_a_private_zone_follows_its_definition() {
    let standup = meeting("2026-03-28 09:00", 15, "Europe/Vienna").recurs("RRULE:FREQ=DAILY;COUNT=2");
    let standup = in_zone(standup, "Our Office").in_calendar_of("Asia/Tokyo");

    let found = expanded(&standup, OUR_OFFICE, &[], years(2026, 1));

    assert_eq!(found.problem, None);
    assert_eq!(found.intervals[1].start(), at("2026-03-29 09:00", "Europe/Vienna"));
}

#[test]
fn a_defined_zone_has_the_gaps_and_folds_of_the_databases() {
    let office = defined(OUR_OFFICE, "Our Office");

    for time in [
        "2026-03-29 01:59",
        "2026-03-29 02:00",
        "2026-03-29 02:59",
        "2026-03-29 03:00",
        "2026-10-25 01:59",
        "2026-10-25 02:00",
        "2026-10-25 02:59",
        "2026-10-25 03:00",
    ] {
        assert_eq!(office.instant(local(time)), at(time, "Europe/Vienna"), "{time}");
    }
}

#[test]
fn a_defined_day_that_begins_in_a_gap_begins_after_it() {
    let midnight = OUR_OFFICE.replace("16010101T020000", "16010101T000000");

    let office = defined(&midnight, "Our Office");

    assert_eq!(office.midnight(date("2026-03-29")), utc("2026-03-28 23:00"));
    assert_eq!(office.local(utc("2026-03-28 23:00")), local("2026-03-29 01:00"));
}

#[test]
fn the_database_knows_better_than_a_definition() {
    let lie = OUR_OFFICE.replace("Our Office", "Europe/London");

    assert_eq!(defined(&lie, "Europe/London"), Zone::Known(Tz::Europe__London));
    assert_eq!(defined(&lie, "GMT Standard Time"), Zone::Known(Tz::Europe__London));
}

#[test]
fn an_observance_that_ended_is_followed_by_the_next() {
    // The United States moved their changes in 2007.
    let text = "BEGIN:VTIMEZONE\nTZID:Eras\n\
        BEGIN:DAYLIGHT\nDTSTART:19870405T020000\nRRULE:FREQ=YEARLY;BYMONTH=4;BYDAY=1SU;UNTIL=20060402T070000Z\n\
        TZOFFSETFROM:-0500\nTZOFFSETTO:-0400\nEND:DAYLIGHT\n\
        BEGIN:STANDARD\nDTSTART:19671029T020000\nRRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU;UNTIL=20061029T060000Z\n\
        TZOFFSETFROM:-0400\nTZOFFSETTO:-0500\nEND:STANDARD\n\
        BEGIN:DAYLIGHT\nDTSTART:20070311T020000\nRRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=2SU\n\
        TZOFFSETFROM:-0500\nTZOFFSETTO:-0400\nEND:DAYLIGHT\n\
        BEGIN:STANDARD\nDTSTART:20071104T020000\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=1SU\n\
        TZOFFSETFROM:-0400\nTZOFFSETTO:-0500\nEND:STANDARD\nEND:VTIMEZONE\n";

    assert_eq!(hours_that_differ(&defined(text, "Eras"), tz("America/New_York"), 1990, 40), 0);
}

#[test]
fn an_rdate_is_an_onset_too() {
    let text = "BEGIN:VTIMEZONE\nTZID:Ramadan\n\
        BEGIN:STANDARD\nDTSTART:20260215T030000\nRDATE:20270207T030000\nTZOFFSETFROM:+0100\nTZOFFSETTO:+0000\n\
        END:STANDARD\n\
        BEGIN:DAYLIGHT\nDTSTART:20260322T020000\nRDATE:20270314T020000\nTZOFFSETFROM:+0000\nTZOFFSETTO:+0100\n\
        END:DAYLIGHT\nEND:VTIMEZONE\n";

    assert_eq!(hours_that_differ(&defined(text, "Ramadan"), tz("Africa/Casablanca"), 2026, 2), 0);
}

#[test]
fn a_definition_that_cannot_be_used_is_flagged_and_the_calendars_zone_is_used() {
    let standup = in_zone(meeting("2026-03-28 09:00", 15, "Europe/Vienna"), "Our Office");
    let standup = standup.recurs("RRULE:FREQ=DAILY;COUNT=2");
    let problem = |definition: &str| {
        let found = expanded(&standup, definition, &[], years(2026, 1));
        assert_eq!(found.intervals[1].start(), at("2026-03-29 09:00", "Europe/Vienna"));
        found.problem.expect("a problem").to_string()
    };

    assert_eq!(
        problem(&OUR_OFFICE.replace("+0100", "one")),
        "unknown time zone \"Our Office\" (definition of the time zone, line 6, column 12: expected an offset from UTC \
         such as +0100 or -0530, found \"one\"); the series is expanded in the calendar's zone, Europe/Vienna"
    );
    assert!(problem(&OUR_OFFICE.replace("STANDARD", "X").replace("DAYLIGHT", "X")).contains("neither STANDARD nor"));
    assert!(problem(&OUR_OFFICE.replace("TZOFFSETTO", "X-NO")).contains("line 9, column 1: it ends without DTSTART"));
    assert!(problem(&OUR_OFFICE.replace("FREQ=YEARLY", "FREQ=SECONDLY")).contains("line 7: the rule"));
}

#[test]
fn a_list_names_a_defined_zone_too() {
    let standup = meeting("2026-03-28 09:00", 15, "UTC").recurs("RRULE:FREQ=DAILY;COUNT=2");

    let rest = expanded(&standup.recurs("EXDATE;TZID=Our Office:20260329T110000"), OUR_OFFICE, &[], years(2026, 1));

    assert_eq!((rest.intervals.len(), rest.problem), (1, None));
}

/// How many hours of these years the two zones tell differently.
fn hours_that_differ(zone: &Zone, judge: Tz, first: i32, count: i32) -> usize {
    let window = years(first, count);
    let hours = (window.end() - window.start()).num_hours();
    let instants = (0..hours).map(|hour| window.start() + TimeDelta::hours(hour));
    let differs = |instant: &DateTime<Utc>| {
        let local = calsync_core::zone::local(*instant, judge);
        zone.local(*instant) != local || zone.instant(local) != calsync_core::zone::instant(local, judge)
    };
    instants.filter(differs).count()
}

/// Definitions that do not say what the database says of their name in the years 2020 to 2025. This is why the database
/// comes first.
const UNLIKE_THE_DATABASE: &[(&str, &str)] = &[
    ("issue_1050_forward_timezone_reference.ics: Europe/Berlin", "cut: standard time only"),
    ("issue_1050_timezone_only_calendar.ics: Europe/London", "cut: standard time only"),
    ("issue_321_assert_dst_offset_is_not_false.ics: Europe/Berlin", "cut to one year, an hour late"),
    ("multiple_timezones.ics: America/New_York", "the rules before 2007"),
    ("period_with_timezone.ics: America/Vancouver", "cut to two years"),
    ("rfc_7265_appendix_example_2_ical.ics: US/Eastern", "the rules before 2007"),
    ("ms_timezones.ics: Jordan Standard Time", "the rules before 2022"),
    ("sabredav-school-holidays.ics: Europe/Berlin", "an hour late in spring"),
    ("test_with_multiple_tzids_in_vtimezone.ics: Africa/Abidjan", "two zones in one definition"),
];

/// What is refused, rightly.
const NO_DEFINITIONS: &[&str] = &[
    "fuzz_testcase_vtimezone_lone_cr.ics: definition of the time zone, line 2, column 1: it has neither STANDARD nor DAYLIGHT",
    "parsing_error_in_UTC_offset.ics: definition of the time zone, line 7, column 14: expected an offset from UTC such \
     as +0100 or -0530, found \"+5744\"",
    "test_with_multiple_tzids_in_vtimezone.ics: America/Los_Angeles not found",
];

#[test]
fn definitions_that_programs_write_are_read() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/ics");
    let mut files: Vec<PathBuf> = ["node-ical", "collective-icalendar"]
        .iter()
        .filter_map(|corpus| std::fs::read_dir(folder.join(corpus)).ok())
        .flat_map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())))
        .collect();
    files.sort();
    let (mut read, mut refused, mut unlike) = (0, Vec::new(), Vec::new());
    for path in &files {
        let text = String::from_utf8_lossy(&std::fs::read(path).expect("a file")).into_owned();
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for name in text.lines().filter_map(|line| line.strip_prefix("TZID:")) {
            // Under another name, so that the definition counts and not the database.
            let private = text.replace(&format!("TZID:{name}"), &format!("TZID:Private {name}"));
            match Definitions::read(&private).zone(&format!("Private {name}")) {
                Some(Ok(zone)) => {
                    read += 1;
                    if find(name).is_some_and(|judge| hours_that_differ(&zone, judge, 2020, 6) > 0) {
                        unlike.push(format!("{file}: {name}"));
                    }
                }
                Some(Err(problem)) => refused.push(format!("{file}: {problem}")),
                None => refused.push(format!("{file}: {name} not found")),
            }
        }
    }
    if files.is_empty() {
        println!("passed over: there are no fixtures beside the workspace, in ../shared/fixtures/ics");
        return;
    }
    assert_eq!(read, 62, "of the fixtures' definitions");
    assert_eq!(refused, NO_DEFINITIONS);
    assert_eq!(unlike, UNLIKE_THE_DATABASE.iter().map(|(which, _)| *which).collect::<Vec<_>>());
}

// This and all following.

fn from_then_on(original: &str, start: &str, length: i64, zone: &str) -> FromThenOn {
    let starts_at = at(start, zone);
    let span = Span::Timed { starts_at, ends_at: starts_at + minutes(length), zone: Some(zone.to_owned()) };
    FromThenOn { original: OriginalStart::At(at(original, zone)), span }
}

fn shown(event: &Recurring, edits: &[FromThenOn]) -> Vec<String> {
    let found = expanded(event, "", edits, years(2026, 2));
    assert_eq!(found.problem, None);
    let show = |found: &Interval| {
        format!("{} {}", on_the_wall(found.start(), event.calendar), (found.end() - found.start()).num_minutes())
    };
    found.intervals.iter().map(show).collect()
}

#[test]
fn this_and_all_following_move_together_and_last_as_long() {
    let review = meeting("2026-10-12 09:00", 60, "Europe/Vienna").recurs("RRULE:FREQ=WEEKLY;COUNT=4");

    let later = from_then_on("2026-10-19 09:00", "2026-10-20 11:00", 30, "Europe/Vienna");

    // The clocks change on the 25th: the shift is by the clock on the wall.
    assert_eq!(
        shown(&review, &[later]),
        ["2026-10-12 09:00 60", "2026-10-20 11:00 30", "2026-10-27 11:00 30", "2026-11-03 11:00 30"]
    );
}

#[test]
fn an_edit_holds_until_the_next_and_each_counts_from_the_original_times() {
    let review = meeting("2026-05-04 09:00", 60, "UTC").recurs("RRULE:FREQ=WEEKLY;COUNT=4");
    let edits = [
        from_then_on("2026-05-18 09:00", "2026-05-18 15:00", 90, "UTC"),
        from_then_on("2026-05-11 09:00", "2026-05-11 10:00", 30, "UTC"),
    ];

    assert_eq!(
        shown(&review, &edits),
        ["2026-05-04 09:00 60", "2026-05-11 10:00 30", "2026-05-18 15:00 90", "2026-05-25 15:00 90"]
    );
}

#[test]
fn an_occurrence_that_was_deleted_by_itself_stays_deleted() {
    let review = meeting("2026-05-04 09:00", 60, "UTC").recurs("RRULE:FREQ=WEEKLY;COUNT=4");
    let review = review.recurs("EXDATE:20260518T090000Z").without(OriginalStart::At(utc("2026-05-25 09:00")));

    let later = from_then_on("2026-05-11 09:00", "2026-05-12 09:00", 60, "UTC");

    assert_eq!(shown(&review, &[later]), ["2026-05-04 09:00 60", "2026-05-12 09:00 60"]);
}

#[test]
fn an_edit_far_away_is_found_in_the_window_it_moved_to() {
    let review = meeting("2025-10-06 09:00", 0, "UTC").recurs("RRULE:FREQ=WEEKLY;COUNT=2");

    let later = from_then_on("2025-10-13 09:00", "2026-11-30 09:00", 45, "UTC");

    assert_eq!(shown(&review, &[later]), ["2026-11-30 09:00 45"]);
}

#[test]
fn an_edit_of_an_occurrence_that_is_none_takes_place_all_the_same() {
    let review = meeting("2026-05-04 09:00", 60, "UTC").recurs("RRULE:FREQ=WEEKLY;COUNT=2");

    let later = from_then_on("2026-07-07 09:00", "2026-07-08 09:00", 60, "UTC");

    assert_eq!(shown(&review, &[later]), ["2026-05-04 09:00 60", "2026-05-11 09:00 60", "2026-07-08 09:00 60"]);
}

#[test]
fn whole_days_move_as_whole_days() {
    let offsite = days("2026-03-26", 1, "Europe/Vienna").recurs("RRULE:FREQ=DAILY;INTERVAL=2;COUNT=3");
    let span = Span::AllDay { start: date("2026-03-29"), end: date("2026-03-30") };
    let later = FromThenOn { original: OriginalStart::On(date("2026-03-28")), span };

    // The 29th has 23 hours.
    assert_eq!(shown(&offsite, &[later]), ["2026-03-26 00:00 1440", "2026-03-29 00:00 1380", "2026-03-31 00:00 1440"]);
}
