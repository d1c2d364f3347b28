//! Slots and group slots by example. Days are those of November 2026, a Monday being the 23rd.

mod time_support;

use std::sync::atomic::{AtomicUsize, Ordering};

use calsync_core::interval::{Interval, coalesce};
use calsync_core::invalid::Refusal;
use calsync_core::slots::{Grid, Groups, Meeting, slots};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use time_support::{at, between, minutes, tz};

/// A search in a zone, whose times are local.
struct Search {
    zone: &'static str,
    open: Vec<Interval>,
    busy: Vec<Interval>,
    meeting: Meeting,
    step: TimeDelta,
}

impl Search {
    /// Half-hour meetings on the half hours.
    fn within(zone: &'static str, from: &str, to: &str) -> Self {
        let meeting = meeting(30, 0, 0);
        Self { zone, open: vec![span(zone, from, to)], busy: Vec::new(), meeting, step: minutes(30) }
    }

    fn busy(mut self, from: &str, to: &str) -> Self {
        self.busy.push(span(self.zone, from, to));
        self
    }

    fn meeting(mut self, duration: i64, before: i64, after: i64) -> Self {
        self.meeting = meeting(duration, before, after);
        self
    }

    fn every(mut self, step: i64) -> Self {
        self.step = minutes(step);
        self
    }

    fn grid(&self) -> Grid {
        Grid::new(self.step, tz(self.zone)).expect("a step")
    }

    /// When they begin, as the clock shows it.
    fn starts(&self) -> Vec<String> {
        let busy = coalesce(self.busy.iter().copied());
        slots(self.meeting, self.grid(), &self.open, &busy, || ()).map(|slot| clock(slot.start(), self.zone)).collect()
    }
}

fn meeting(duration: i64, before: i64, after: i64) -> Meeting {
    Meeting::new(minutes(duration), minutes(before), minutes(after)).expect("a meeting")
}

/// `2026-11-23 09:00`, or `23 09:00` for short.
fn span(zone: &str, from: &str, to: &str) -> Interval {
    let long = |text: &str| if text.len() > 8 { text.to_owned() } else { format!("2026-11-{text}") };
    between(at(&long(from), zone), at(&long(to), zone))
}

fn clock(instant: DateTime<Utc>, zone: &str) -> String {
    instant.with_timezone(&tz(zone)).format("%H:%M %z").to_string()
}

#[test]
fn slots_begin_on_the_zones_own_half_hours() {
    let morning = Search::within("Asia/Kolkata", "23 08:50", "23 10:10");
    assert_eq!(morning.starts(), ["09:00 +0530", "09:30 +0530"]);

    // From Greenwich's full hours these are a quarter off.
    let morning = Search::within("Asia/Kathmandu", "23 08:50", "23 10:10").every(60);
    assert_eq!(morning.starts(), ["09:00 +0545"]);
}

#[test]
fn a_gap_that_is_exactly_as_long_as_the_meeting_is_a_slot() {
    let morning =
        Search::within("UTC", "23 09:00", "23 12:00").busy("23 09:00", "23 10:00").busy("23 10:30", "23 12:00");

    assert_eq!(morning.starts(), ["10:00 +0000"]);
    assert_eq!(morning.meeting(31, 0, 0).starts(), [""; 0]);
}

#[test]
fn with_buffers_a_touching_meeting_is_too_near() {
    let morning = || Search::within("UTC", "23 09:00", "23 12:00").busy("23 10:00", "23 10:30");

    assert_eq!(morning().starts(), ["09:00 +0000", "09:30 +0000", "10:30 +0000", "11:00 +0000", "11:30 +0000"]);
    assert_eq!(morning().meeting(30, 1, 0).starts(), ["09:00 +0000", "09:30 +0000", "11:00 +0000", "11:30 +0000"]);
    assert_eq!(morning().meeting(30, 0, 1).starts(), ["09:00 +0000", "10:30 +0000", "11:00 +0000", "11:30 +0000"]);
    assert_eq!(morning().meeting(30, 30, 30).starts(), ["09:00 +0000", "11:00 +0000", "11:30 +0000"]);
}

#[test]
fn a_buffer_may_lie_outside_of_the_hours_and_of_the_window() {
    let morning = Search::within("UTC", "23 09:00", "23 10:00").meeting(30, 60, 60);

    assert_eq!(morning.starts(), ["09:00 +0000", "09:30 +0000"]);
    assert_eq!(morning.meeting.reach(morning.open[0]), span("UTC", "23 08:00", "23 11:00"));
    assert_eq!(morning.busy("23 08:00", "23 08:15").starts(), ["09:30 +0000"]);
}

#[test]
fn a_slot_lies_in_one_opening() {
    let mut day = Search::within("UTC", "23 09:00", "23 09:45");
    day.open.push(span("UTC", "23 10:00", "23 10:30"));

    assert_eq!(day.starts(), ["09:00 +0000", "10:00 +0000"]);
}

#[test]
fn an_hour_that_occurs_twice_has_slots_twice() {
    let night = Search::within("Europe/Vienna", "2026-10-25 01:30", "2026-10-25 03:30");

    let expected = ["01:30 +0200", "02:00 +0200", "02:30 +0200", "02:00 +0100", "02:30 +0100", "03:00 +0100"];
    assert_eq!(night.starts(), expected);
}

#[test]
fn an_hour_that_is_skipped_has_none() {
    let night = Search::within("Europe/Vienna", "2026-03-29 01:00", "2026-03-29 04:00");

    assert_eq!(night.starts(), ["01:00 +0100", "01:30 +0100", "03:00 +0200", "03:30 +0200"]);
}

#[test]
fn a_meeting_longer_than_all_time_fits_nowhere() {
    let endless = Meeting::new(TimeDelta::MAX, TimeDelta::MAX, TimeDelta::MAX).expect("a meeting");
    let day = Search { meeting: endless, ..Search::within("UTC", "23 00:00", "24 00:00") };

    assert_eq!(day.starts(), [""; 0]);
    assert_eq!(day.busy("23 01:00", "23 02:00").starts(), [""; 0]);
}

/// Who is free for which slot of the morning of the 23rd, in UTC: `09:30 anna+room`.
fn group_slots(groups: serde_json::Value, busy: &[(&str, &str, &str)]) -> Vec<String> {
    let morning = Search::within("UTC", "23 09:00", "23 11:00");
    let groups = Groups::parse(&groups).expect("groups");
    let taken: Vec<Vec<Interval>> = groups
        .calendars()
        .iter()
        .map(|name| {
            let own = busy.iter().filter(|(calendar, ..)| calendar == name);
            coalesce(own.map(|(_, from, to)| span("UTC", &format!("23 {from}"), &format!("23 {to}"))))
        })
        .collect();
    let found = groups.slots(morning.meeting, morning.grid(), &morning.open, &taken, || ());
    let told = found.map(|(slot, free)| {
        let names: Vec<&str> = free.iter().map(|place| groups.calendars()[*place].as_str()).collect();
        format!("{} {}", slot.start().format("%H:%M"), names.join("+"))
    });
    told.collect()
}

#[test]
fn enough_of_every_group_must_be_free() {
    let groups = json!([{"any": 2, "calendars": ["cleo", "anna", "ben"]}, {"all": true, "calendars": ["room"]}]);
    let busy = [("anna", "09:00", "10:00"), ("ben", "09:30", "10:00"), ("room", "10:30", "10:45")];

    assert_eq!(group_slots(groups, &busy), ["09:00 cleo+ben+room", "10:00 cleo+anna+ben+room"]);
}

#[test]
fn who_is_named_twice_in_a_group_counts_once() {
    let groups = json!([{"all": true, "calendars": ["anna", "anna"]}, {"any": 1, "calendars": ["ben", "anna"]}]);
    let busy = [("ben", "09:00", "11:00"), ("anna", "09:30", "10:30")];

    assert_eq!(group_slots(groups, &busy), ["09:00 anna", "10:30 anna"]);
}

#[test]
fn a_long_search_without_a_slot_pauses() {
    static PAUSES: AtomicUsize = AtomicUsize::new(0);
    // Free and busy by turns, always busy at midnight, when alone a slot could begin.
    let from = at("2026-11-23 00:00", "UTC");
    let busy = (0..5000).map(|n| between(from + minutes(40 * n), from + minutes(40 * n + 15))).collect();
    let whole = between(from, from + minutes(40 * 5000));
    let groups = Groups::parse(&json!([{"all": true, "calendars": ["anna"]}])).expect("groups");
    let grid = Grid::new(minutes(1440), tz("UTC")).expect("a step");
    let found = groups.slots(meeting(10, 0, 0), grid, &[whole], &[busy], || {
        PAUSES.fetch_add(1, Ordering::Relaxed);
    });

    assert_eq!(found.count(), 0);
    assert!(PAUSES.load(Ordering::Relaxed) > 1);
}

#[test]
#[should_panic(expected = "cancelled")]
fn slots_of_many_pieces_can_be_cancelled() {
    let day = Search::within("UTC", "23 00:00", "24 00:00");

    slots(day.meeting, day.grid(), &day.open, &[], || panic!("cancelled"));
}

#[test]
fn groups_of_too_many_names_are_refused_before_they_are_looked_at() {
    // The same names again and again: what counts is what there is to read.
    let names: Vec<String> = (0..10_000).map(|n| format!("c{n}")).collect();
    let group = |name: &str| json!({"any": 1, "calendars": names, name: 1});

    let refused = Groups::parse(&json!(vec![group("malformed"); 11])).expect_err("too many");
    let malformed = Groups::parse(&json!(vec![group("malformed"); 10])).expect_err("malformed");

    assert!(matches!(refused, Refusal::TooMuch(_)), "{refused:?}");
    assert!(matches!(malformed, Refusal::Invalid(_)), "{malformed:?}");
}

#[test]
fn a_whole_number_may_be_written_with_a_point() {
    let groups = json!([{"any": 1.0, "calendars": ["anna", "ben"]}]);

    assert_eq!(group_slots(groups, &[("anna", "09:00", "11:00"), ("ben", "09:30", "11:00")]), ["09:00 ben"]);
}

#[test]
fn malformed_groups_are_refused_with_their_path() {
    let refused = |groups| Groups::parse(&groups).expect_err("malformed").to_string();

    assert_eq!(refused(json!({})), "groups must be an array");
    assert_eq!(refused(json!([])), "groups must not be empty");
    assert_eq!(refused(json!([{"all": true, "calendars": ["a"]}, 7])), "groups[1] must be an object");
    assert_eq!(refused(json!([{"calendars": ["a"]}])), "groups[0] must have either \"any\" or \"all\"");
    assert_eq!(
        refused(json!([{"any": 1, "all": true, "calendars": ["a"]}])),
        "groups[0] must have either \"any\" or \"all\""
    );
    assert_eq!(refused(json!([{"all": false, "calendars": ["a"]}])), "groups[0].all must be true");
    assert_eq!(refused(json!([{"all": true}])), "groups[0].calendars must be an array of names");
    assert_eq!(refused(json!([{"all": true, "calendars": []}])), "groups[0].calendars must not be empty");
    assert_eq!(
        refused(json!([{"all": true, "calendars": ["a", null]}])),
        "groups[0].calendars[1] must be a calendar's name"
    );
    assert_eq!(refused(json!([{"all": true, "calendar": ["a"]}])), "groups[0] has an unknown key \"calendar\"");
    for any in [json!(0), json!(3), json!(-1), json!(1.5), json!("2"), json!(null)] {
        let groups = json!([{"any": any, "calendars": ["a", "b", "a"]}]);
        assert_eq!(refused(groups), format!("groups[0].any must be a whole number from 1 to 2, is {any}"));
    }
}
