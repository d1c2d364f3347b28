//! Recurrence lines as the web interface and other clients write them.

use calsync_integration::Dice;
use chrono::{Datelike, NaiveDate, TimeDelta};

/// How a series begins, as far as its lines must fit it.
pub struct Begins<'a> {
    pub on: NaiveDate,
    /// None: all-day.
    pub zone: Option<&'a str>,
    /// It may go on for ever.
    pub endless: bool,
}

const WEEKDAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];

/// RRULE, and now and then EXDATE and RDATE.
pub fn lines(dice: &mut Dice, begins: &Begins) -> Vec<String> {
    if !begins.endless {
        return vec![format!("RRULE:FREQ=DAILY;COUNT={}", 2 + dice.roll(4))];
    }
    let weekday = WEEKDAYS[begins.on.weekday().num_days_from_monday() as usize];
    let other = dice.one_of(&WEEKDAYS);
    let rule = match dice.roll(11) {
        0 => "FREQ=DAILY".to_owned(),
        1 => format!("FREQ=DAILY;INTERVAL={}", 2 + dice.roll(3)),
        2 => format!("FREQ=WEEKLY;BYDAY={weekday}"),
        3 => format!("FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY={weekday},{other}"),
        4 => "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR".to_owned(),
        5 => "FREQ=MONTHLY".to_owned(),
        6 => "FREQ=MONTHLY;BYMONTHDAY=-1".to_owned(),
        7 => format!("FREQ=MONTHLY;BYDAY=2{weekday}"),
        8 => format!("FREQ=MONTHLY;BYDAY=-1{other}"),
        9 => "FREQ=YEARLY".to_owned(),
        _ => "FREQ=DAILY;BYDAY=SA,SU".to_owned(),
    };
    let end = match dice.roll(3) {
        0 => String::new(),
        1 => format!(";COUNT={}", 2 + dice.roll(30)),
        _ => until(dice, begins),
    };
    let mut lines = vec![format!("RRULE:{rule}{end}")];
    if dice.once_in(6) {
        lines.push(dates("EXDATE", &[begins.on + TimeDelta::days(7), begins.on + TimeDelta::days(14)]));
    }
    if dice.once_in(8) {
        lines.push(dates("RDATE", &[begins.on + TimeDelta::days(1 + dice.roll(20) as i64)]));
    }
    lines
}

fn until(dice: &mut Dice, begins: &Begins) -> String {
    let last = begins.on + TimeDelta::days(5 + dice.roll(90) as i64);
    match begins.zone {
        Some(_) if dice.once_in(2) => format!(";UNTIL={}T235959Z", last.format("%Y%m%d")),
        _ => format!(";UNTIL={}", last.format("%Y%m%d")),
    }
}

/// Whole days, which for a timed series means all that takes place then (EXDATE), or at its own time (RDATE).
fn dates(name: &str, days: &[NaiveDate]) -> String {
    let days: Vec<String> = days.iter().map(|day| day.format("%Y%m%d").to_string()).collect();
    format!("{name};VALUE=DATE:{}", days.join(","))
}
