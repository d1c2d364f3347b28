//! Opening hours by example, and against a walk through every minute.

mod time_support;

use calsync_core::interval::Interval;
use calsync_core::invalid::Refusal;
use calsync_core::open_hours::OpenHours;
use calsync_core::zone;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use serde_json::{Value, json};
use time_support::dice::Dice;
use time_support::{at, between, minutes, tz, utc};

/// The open time, one interval a line in local time: `Mon 09:00 +0100 to 17:00 +0100`.
fn open(zone: &str, from: &str, to: &str, weekly: &Value, overrides: &Value) -> Vec<String> {
    let window = between(at(&format!("{from} 00:00"), zone), at(&format!("{to} 00:00"), zone));
    let hours = OpenHours::parse(weekly, overrides).expect("hours");
    let shown = |interval: Interval| {
        let (start, end) = (interval.start().with_timezone(&tz(zone)), interval.end().with_timezone(&tz(zone)));
        format!("{} to {}", start.format("%a %H:%M %z"), end.format("%a %H:%M %z"))
    };
    hours.within(window, tz(zone), || ()).expect("an answer").into_iter().map(shown).collect()
}

fn every_day(start: &str, end: &str) -> Value {
    json!([{"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "start": start, "end": end}])
}

#[test]
fn several_intervals_a_day_and_days_without_any() {
    let weekly = json!([
        {"days": ["Monday", "wed"], "start": "09:00", "end": "12:00"},
        {"days": ["mon"], "start": "13:00", "end": "17:30:00"}
    ]);

    let week = open("Asia/Kolkata", "2026-11-23", "2026-11-30", &weekly, &json!([]));

    let expected = [
        "Mon 09:00 +0530 to Mon 12:00 +0530",
        "Mon 13:00 +0530 to Mon 17:30 +0530",
        "Wed 09:00 +0530 to Wed 12:00 +0530",
    ];
    assert_eq!(week, expected);
}

#[test]
fn hours_past_midnight_belong_to_the_day_they_begin_on() {
    let weekly = json!([{"days": ["sun", "fri"], "start": "22:00", "end": "02:00"}]);
    let overrides = json!([{"date": "2026-11-28", "closed": true}]);

    let week = open("UTC", "2026-11-23", "2026-11-30", &weekly, &overrides);

    // Sunday's first two hours belong to the week before; Saturday's closure leaves Friday's night alone.
    let expected = [
        "Mon 00:00 +0000 to Mon 02:00 +0000",
        "Fri 22:00 +0000 to Sat 02:00 +0000",
        "Sun 22:00 +0000 to Mon 00:00 +0000",
    ];
    assert_eq!(week, expected);
}

#[test]
fn whole_days_touch_and_become_one() {
    let days = open("Europe/Vienna", "2026-11-23", "2026-11-26", &every_day("00:00", "24:00"), &json!([]));

    assert_eq!(days, ["Mon 00:00 +0100 to Thu 00:00 +0100"]);
}

#[test]
fn a_day_of_23_hours_is_shorter() {
    let length = |day: &str, next: &str| {
        let window =
            between(at(&format!("{day} 00:00"), "Europe/Vienna"), at(&format!("{next} 00:00"), "Europe/Vienna"));
        let hours = OpenHours::parse(&every_day("00:00", "08:00"), &json!([])).expect("hours");
        let open = hours.within(window, tz("Europe/Vienna"), || ()).expect("an answer");
        open.iter().map(|open| (open.end() - open.start()).num_hours()).sum::<i64>()
    };

    assert_eq!(length("2026-03-29", "2026-03-30"), 7);
    assert_eq!(length("2026-10-25", "2026-10-26"), 9);
}

#[test]
fn hours_that_begin_in_a_gap_begin_after_it() {
    let sunday = |start, end| open("Europe/Vienna", "2026-03-29", "2026-03-30", &every_day(start, end), &json!([]));

    assert_eq!(sunday("02:30", "04:00"), ["Sun 03:00 +0200 to Sun 04:00 +0200"]);
    assert_eq!(sunday("01:00", "02:30"), ["Sun 01:00 +0100 to Sun 03:00 +0200"]);
    assert_eq!(sunday("02:10", "02:50"), [""; 0]);
}

#[test]
fn of_an_hour_that_occurs_twice_the_first_is_meant() {
    let sunday = |start, end| open("Europe/Vienna", "2026-10-25", "2026-10-26", &every_day(start, end), &json!([]));

    assert_eq!(sunday("02:30", "04:00"), ["Sun 02:30 +0200 to Sun 04:00 +0100"]);
    assert_eq!(sunday("01:00", "02:30"), ["Sun 01:00 +0200 to Sun 02:30 +0200"]);
}

#[test]
fn an_override_replaces_the_hours_of_its_date() {
    let overrides = json!([
        {"date": "2026-11-24", "start": "10:00", "end": "12:00"},
        {"date": "2026-11-24", "start": "14:00", "end": "15:00"},
        {"from": "2026-11-25", "to": "2026-11-26", "closed": true}
    ]);

    let week = open("UTC", "2026-11-23", "2026-11-28", &every_day("09:00", "17:00"), &overrides);

    let expected = [
        "Mon 09:00 +0000 to Mon 17:00 +0000",
        "Tue 10:00 +0000 to Tue 12:00 +0000",
        "Tue 14:00 +0000 to Tue 15:00 +0000",
        "Fri 09:00 +0000 to Fri 17:00 +0000",
    ];
    assert_eq!(week, expected);
}

#[test]
fn a_closure_beats_other_overrides_of_its_date() {
    let overrides = json!([
        {"date": "2026-11-23", "start": "10:00", "end": "12:00"},
        {"from": "2026-11-20", "to": "2026-11-30", "closed": true},
    ]);

    assert_eq!(open("UTC", "2026-11-23", "2026-11-24", &every_day("09:00", "17:00"), &overrides), [""; 0]);
}

#[test]
fn what_is_malformed_is_refused_with_its_path() {
    let weekly = |weekly| OpenHours::parse(&weekly, &json!([])).expect_err("malformed").to_string();
    let rule = |start: Value, end: Value| weekly(json!([{"days": ["mon"], "start": start, "end": end}]));
    assert_eq!(weekly(json!({"mon": []})), "weekly must be an array");
    assert_eq!(weekly(json!(["mon"])), "weekly[0] must be an object");
    assert_eq!(weekly(json!([{"day": "mon"}])), "weekly[0] has an unknown key \"day\"");
    assert_eq!(weekly(json!([{"start": "09:00", "end": "10:00"}])), "weekly[0].days must be an array of days");
    assert_eq!(
        weekly(json!([{"days": ["mon", 2], "start": "09:00", "end": "10:00"}])),
        "weekly[0].days[1] must be a day of the week"
    );
    for time in
        [json!("9:00"), json!("09:60"), json!("24:01"), json!("09"), json!("09:00:00:00"), json!(9), json!(null)]
    {
        assert_eq!(rule(time, json!("10:00")), "weekly[0].start must be a time of the day");
    }
    assert_eq!(rule(json!("24:00"), json!("10:00")), "weekly[0].start must be before \"24:00\"");
    assert_eq!(rule(json!("09:00"), json!("09:00")), "weekly[0].end must not be the same as weekly[0].start");

    let overrides = |overrides| OpenHours::parse(&json!([]), &overrides).expect_err("malformed").to_string();
    let no_date = "overrides[0] must have either \"date\", or \"from\" and \"to\"";
    assert_eq!(overrides(json!([{"closed": true}])), no_date);
    assert_eq!(overrides(json!([{"date": "2026-11-23", "to": "2026-11-24", "closed": true}])), no_date);
    for date in ["23.11.2026", "+2026-11-25", " 2026-11-25", "2026-11-2 ", "+026-11-25", "2026-11-251", "12026-11-25"] {
        assert_eq!(overrides(json!([{"date": date, "closed": true}])), "overrides[0].date must be a date", "{date}");
    }
    assert_eq!(
        overrides(json!([{"from": "2026-11-24", "to": "2026-11-23", "closed": true}])),
        "overrides[0].to is before overrides[0].from"
    );
    let nothing = "overrides[0] must have either \"closed\", or \"start\" and \"end\"";
    assert_eq!(overrides(json!([{"date": "2026-11-23"}])), nothing);
    assert_eq!(overrides(json!([{"date": "2026-11-23", "closed": true, "start": "09:00", "end": "10:00"}])), nothing);
    assert_eq!(overrides(json!([{"date": "2026-11-23", "closed": false}])), "overrides[0].closed must be true");
}

#[test]
fn a_thousand_years_are_not_computed() {
    let hours = OpenHours::parse(&every_day("09:00", "17:00"), &json!([])).expect("hours");

    let refused = hours.within(between(utc("2000-01-01 00:00"), utc("3000-01-01 00:00")), tz("UTC"), || ());
    let fifty = hours.within(between(utc("2000-01-01 00:00"), utc("2050-01-01 00:00")), tz("UTC"), || ());

    assert!(matches!(refused, Err(Refusal::TooMuch(_))), "{refused:?}");
    assert_eq!(fifty.map(|open| open.len()), Ok(18_263));
}

#[test]
fn a_window_of_exactly_a_hundred_years_is_answered() {
    let hours = OpenHours::parse(&every_day("09:00", "17:00"), &json!([])).expect("hours");

    let open = hours.within(between(utc("2000-01-01 00:00"), utc("2100-01-01 00:00")), tz("UTC"), || ());

    assert_eq!(open.map(|open| open.len()), Ok(36_525));
}

#[test]
fn hours_beyond_2099_are_refused() {
    let hours = OpenHours::parse(&every_day("09:00", "17:00"), &json!([])).expect("hours");

    let refused = hours.within(between(utc("2099-12-31 00:00"), utc("2100-07-01 00:00")), tz("Europe/Vienna"), || ());

    assert!(matches!(refused, Err(Refusal::TooMuch(_))), "{refused:?}");
}

#[test]
fn many_overrides_of_many_dates_cost_no_more_than_what_they_open() {
    let century = between(utc("2000-01-01 00:00"), utc("2100-01-01 00:00"));
    let always = |says: Value| {
        let mut one = json!({"from": "1900-01-01", "to": "2200-01-01"});
        one.as_object_mut().unwrap().extend(says.as_object().unwrap().clone());
        one
    };
    // Date by date and override by override these would be seven hundred million.
    let closures = vec![always(json!({"closed": true})); 20_000];
    let same = vec![always(json!({"start": "10:00", "end": "11:00"})); 20_000];
    let open = |overrides: Vec<Value>| {
        let hours = OpenHours::parse(&every_day("09:00", "17:00"), &json!(overrides)).expect("hours");
        hours.within(century, tz("UTC"), || ()).map(|open| open.len())
    };

    assert_eq!(open(closures.clone()), Ok(0));
    assert_eq!(open(same.clone()), Ok(36_525));
    assert_eq!(open([closures, same].concat()), Ok(0));
}

#[test]
fn overrides_come_and_go_by_their_dates() {
    let overrides = json!([
        {"from": "2026-11-24", "to": "2026-11-26", "start": "10:00", "end": "11:00"},
        {"from": "2026-11-25", "to": "2026-11-25", "closed": true},
        {"from": "2026-11-26", "to": "2026-11-27", "start": "12:00", "end": "13:00"},
    ]);

    let hours = OpenHours::parse(&every_day("09:00", "17:00"), &overrides).expect("hours");
    let open = hours.within(between(utc("2026-11-23 00:00"), utc("2026-11-29 00:00")), tz("UTC"), || ());

    let told: Vec<_> = open.expect("an answer").iter().map(|open| open.start().format("%d %H").to_string()).collect();
    assert_eq!(told, ["23 09", "24 10", "26 10", "26 12", "27 12", "28 09"]);
}

#[test]
#[should_panic(expected = "cancelled")]
fn a_long_window_can_be_cancelled() {
    let hours = OpenHours::parse(&every_day("09:00", "17:00"), &json!([])).expect("hours");

    let _ = hours.within(between(utc("2000-01-01 00:00"), utc("2050-01-01 00:00")), tz("UTC"), || panic!("cancelled"));
}

/// The first minute at which the clock has come to `minute` of this day, found by looking at the clock all day.
fn reached(day: chrono::NaiveDate, minute: i64, zone: &str) -> DateTime<Utc> {
    let wanted = day.and_hms_opt(0, 0, 0).unwrap() + minutes(minute);
    let from = wanted.and_utc() - TimeDelta::hours(30);
    let mut clock = std::iter::successors(Some(from), |instant| Some(*instant + minutes(1)));
    clock.find(|instant| zone::local(*instant, tz(zone)) >= wanted).expect("every day comes")
}

#[test]
fn open_minutes_are_those_of_a_clock_that_is_watched() {
    let mut dice = Dice::seeded(5);
    let changes = ["2026-03-27", "2026-10-23", "2026-10-30", "2026-04-22", "2026-04-03", "2026-07-01"];
    let zones =
        ["Europe/Vienna", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe", "Asia/Kolkata", "America/Havana"];
    for round in 0..60 {
        let (zone, first) = (dice.any(&zones), dice.any(&changes));
        let window = between(utc(&format!("{first} 03:17")), utc(&format!("{first} 00:00")) + TimeDelta::days(4));
        let mut rules = Vec::new();
        for _ in 0..dice.between(1, 3) {
            let (start, end) = (dice.between(0, 1439), dice.between(1, 1440));
            if start != end {
                rules.push((dice.between(0, 6), start, end));
            }
        }
        let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let time = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
        let weekly: Vec<Value> = rules
            .iter()
            .map(|(day, start, end)| json!({"days": [days[*day as usize]], "start": time(*start), "end": time(*end)}))
            .collect();

        let hours = OpenHours::parse(&json!(weekly), &json!([])).expect("hours");
        let open = hours.within(window, tz(zone), || ()).expect("an answer");

        let mut watched = std::collections::BTreeSet::new();
        for day in (window.start() - TimeDelta::days(3)).date_naive().iter_days().take(10) {
            for (_, start, end) in rules.iter().filter(|rule| rule.0 == i64::from(day.weekday().num_days_from_monday()))
            {
                let end = if end <= start { end + 1440 } else { *end };
                let (mut at, end) = (reached(day, *start, zone), reached(day, end, zone));
                while at < end {
                    watched.extend(window.contains(at).then_some(at));
                    at += minutes(1);
                }
            }
        }
        let mut told = std::collections::BTreeSet::new();
        for interval in &open {
            let minutes_in = std::iter::successors(Some(interval.start()), |instant| Some(*instant + minutes(1)));
            told.extend(minutes_in.take_while(|instant| *instant < interval.end()));
        }
        assert_eq!(told, watched, "round {round}: {zone} {rules:?}");
    }
}
