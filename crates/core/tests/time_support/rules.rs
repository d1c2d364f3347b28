//! Generated recurrence rules: every frequency, with the parts that RFC 5545 §3.3.10 allows it.
//!
//! Left out is what python-dateutil cannot be asked in the same words (see `oracle/expand_rules.py`):
//! - BYWEEKNO with an INTERVAL or BYSETPOS: dateutil's years are calendar years
//! - the 52nd and 53rd week from either end: dateutil miscounts the last weeks of the year before (`lnumweeks` takes 53
//!   for 2010, which has 52), and forgets that week 1 may begin in the old year unless it is called 1;
//!   `time_recurrence.rs` has them judged by chrono's ISO weeks instead
//! - numbered weekdays with BYWEEKNO or outside MONTHLY and YEARLY: RFC 5545 forbids both

use chrono::{NaiveDate, NaiveDateTime, TimeDelta};

use super::dice::Dice;

/// North and south, half hours, midnight changes, a skipped day, a change of half an hour.
pub const ZONES: [&str; 12] = [
    "UTC",
    "Europe/Vienna",
    "America/New_York",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "America/Havana",
    "Asia/Tehran",
];

const WEEKDAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];

/// From 2003 to 2019; often in the hours at which clocks change.
pub fn start(dice: &mut Dice) -> NaiveDateTime {
    let day = NaiveDate::from_ymd_opt(2003, 1, 1).unwrap() + TimeDelta::days(dice.between(0, 6_000));
    let hour = if dice.one_in(3) { dice.between(0, 3) } else { dice.between(0, 23) };
    let minute = dice.any(&[0, 0, 15, 30, 59]);
    day.and_time(Default::default()) + TimeDelta::minutes(hour * 60 + minute)
}

/// One rule mostly; at times two, an EXRULE, and dates to add and to leave out.
pub fn lines(dice: &mut Dice, start: NaiveDateTime) -> Vec<String> {
    let mut lines = vec![format!("RRULE:{}", rule(dice, start))];
    if dice.one_in(12) {
        lines.push(format!("RRULE:{}", rule(dice, start)));
    }
    if dice.one_in(12) {
        lines.push(format!("EXRULE:{}", rule(dice, start)));
    }
    if dice.one_in(8) {
        lines.push(format!("EXDATE:{}", dice.some(4, |dice| time_of(start, dice.between(0, 60)))));
    }
    if dice.one_in(8) {
        lines.push(format!("RDATE:{}", dice.some(4, |dice| time_of(start, dice.between(0, 400)))));
    }
    lines
}

/// DTSTART's time so many days later.
fn time_of(start: NaiveDateTime, days: i64) -> String {
    (start + TimeDelta::days(days)).format("%Y%m%dT%H%M%S").to_string()
}

pub fn rule(dice: &mut Dice, start: NaiveDateTime) -> String {
    let common = ["DAILY", "WEEKLY", "WEEKLY", "MONTHLY", "MONTHLY", "YEARLY", "YEARLY"];
    let frequency = if dice.one_in(8) { dice.any(&["HOURLY", "MINUTELY", "SECONDLY"]) } else { dice.any(&common) };
    let mut parts = vec![format!("FREQ={frequency}")];
    days(dice, frequency, &mut parts);
    times(dice, frequency, &mut parts);
    let weeks = parts.iter().any(|part| part.starts_with("BYWEEKNO"));
    if !weeks {
        interval(dice, frequency, &mut parts);
    }
    if dice.one_in(4) {
        parts.push(format!("WKST={}", dice.any(&WEEKDAYS)));
    }
    if !weeks && dice.one_in(5) && parts.iter().any(|part| part.starts_with("BY")) {
        parts.push(format!("BYSETPOS={}", dice.some(3, |dice| dice.ordinal(6))));
    }
    limit(dice, start, &mut parts);
    parts.join(";")
}

fn interval(dice: &mut Dice, frequency: &str, parts: &mut Vec<String>) {
    let interval = match frequency {
        // Often enough to take place, seldom enough to be walked in no time.
        "MINUTELY" => dice.between(7, 2_000),
        "SECONDLY" => dice.between(400, 100_000),
        _ if dice.one_in(2) => return,
        _ => dice.between(1, 5),
    };
    parts.push(format!("INTERVAL={interval}"));
}

fn limit(dice: &mut Dice, start: NaiveDateTime, parts: &mut Vec<String>) {
    match dice.between(0, 9) {
        0..=2 => parts.push(format!("COUNT={}", dice.between(1, 60))),
        3 => parts.push(format!("UNTIL={}", time_of(start, dice.between(0, 1_500)))),
        4 => parts.push(format!("UNTIL={}Z", time_of(start, dice.between(0, 1_500)))),
        5 => parts.push(format!("UNTIL={}", &time_of(start, dice.between(0, 1_500))[..8])),
        _ => {}
    }
}

fn days(dice: &mut Dice, frequency: &str, parts: &mut Vec<String>) {
    let yearly = frequency == "YEARLY";
    if dice.one_in(3) {
        parts.push(format!("BYMONTH={}", dice.some(3, |dice| dice.between(1, 12).to_string())));
    }
    if yearly && dice.one_in(6) {
        parts.push(format!("BYWEEKNO={}", dice.some(3, week)));
        match dice.between(0, 5) {
            0..=2 => parts.push(format!("BYDAY={}", dice.some(3, |dice| dice.any(&WEEKDAYS).to_owned()))),
            3 => parts.push(format!("BYMONTHDAY={}", dice.some(4, |dice| dice.ordinal(31)))),
            // Every day of those weeks.
            _ => {}
        }
        return;
    }
    // YEARLY without BYMONTH too: that day of every month.
    if frequency != "WEEKLY" && dice.one_in(3) {
        parts.push(format!("BYMONTHDAY={}", dice.some(4, |dice| dice.ordinal(31))));
    }
    if !matches!(frequency, "DAILY" | "WEEKLY" | "MONTHLY") && dice.one_in(8) {
        parts.push(format!("BYYEARDAY={}", dice.some(5, |dice| dice.ordinal(366))));
    }
    if dice.one_in(2) {
        let numbered = matches!(frequency, "MONTHLY" | "YEARLY") && dice.one_in(2);
        let highest = if yearly && !parts.iter().any(|part| part.starts_with("BYMONTH=")) { 53 } else { 5 };
        parts.push(format!("BYDAY={}", dice.some(4, |dice| weekday(dice, numbered, highest))));
    }
}

fn week(dice: &mut Dice) -> String {
    if dice.one_in(4) { format!("-{}", dice.between(1, 51)) } else { dice.between(1, 51).to_string() }
}

fn weekday(dice: &mut Dice, numbered: bool, highest: i64) -> String {
    let day = dice.any(&WEEKDAYS);
    if numbered && !dice.one_in(6) { format!("{}{day}", dice.ordinal(highest)) } else { day.to_owned() }
}

fn times(dice: &mut Dice, frequency: &str, parts: &mut Vec<String>) {
    let within_the_day = matches!(frequency, "HOURLY" | "MINUTELY" | "SECONDLY");
    if dice.one_in(if within_the_day { 3 } else { 8 }) {
        parts.push(format!("BYHOUR={}", dice.some(4, |dice| dice.between(0, 23).to_string())));
    }
    if dice.one_in(10) {
        parts.push(format!("BYMINUTE={}", dice.some(3, |dice| dice.between(0, 59).to_string())));
    }
    if frequency != "SECONDLY" && dice.one_in(16) {
        parts.push(format!("BYSECOND={}", dice.some(3, |dice| dice.between(0, 59).to_string())));
    }
}
