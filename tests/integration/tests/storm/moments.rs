//! When events take place: anywhere, and more often where it hurts.

use calsync_integration::Dice;
use chrono::{NaiveDate, NaiveTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;
use serde_json::{Value, json};

/// Zones with something about them: half hours, midnight gaps, both ends of the world, seasons turned round, Ramadan.
pub const ZONES: [&str; 12] = [
    "Europe/Vienna",
    "America/New_York",
    "UTC",
    "Asia/Kolkata",
    "Pacific/Auckland",
    "Australia/Lord_Howe",
    "America/Havana",
    "Asia/Beirut",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
];

/// Users leave the days between this one and [`LAST_OF_THE_PAST`] alone: the markers of [`crate::reader`] live there.
const FIRST: i64 = -24;
/// Days up to this one hold what has long been over, and what reaches into the window (40 days back) from before.
const LAST_OF_THE_PAST: i64 = -40;

/// A day, counted from today.
pub struct Calendar {
    pub today: NaiveDate,
    /// How far ahead occurrences are expanded, in days.
    pub horizon: i64,
}

impl Calendar {
    pub fn date(&self, day: i64) -> NaiveDate {
        self.today + TimeDelta::days(day)
    }

    /// Any day that users may touch.
    pub fn any_day(&self, dice: &mut Dice, zone: Tz) -> i64 {
        match dice.roll(20) {
            0 if dice.once_in(2) => LAST_OF_THE_PAST - dice.roll(400) as i64,
            0 => LAST_OF_THE_PAST - dice.roll(4) as i64,
            _ => self.day_to_recur_from(dice, zone),
        }
    }

    /// A day from which a series may go on without reaching the reserved ones.
    pub fn day_to_recur_from(&self, dice: &mut Dice, zone: Tz) -> i64 {
        match dice.roll(20) {
            0..=10 => FIRST + dice.roll(85) as i64,
            11 | 12 => dice.roll(3) as i64 - 1,
            13..=15 => self.clock_change(dice, zone),
            16..=18 => self.horizon + dice.roll(12) as i64 - 2,
            _ => self.horizon + 100 + dice.roll(700) as i64,
        }
    }

    /// A day on which the zone's clocks change, or the day after; any day where they never do.
    fn clock_change(&self, dice: &mut Dice, zone: Tz) -> i64 {
        let offset = |day: i64| {
            let noon = self.date(day).and_time(NaiveTime::MIN) + TimeDelta::hours(12);
            zone.offset_from_utc_datetime(&noon).fix()
        };
        let changes: Vec<i64> = (-20..self.horizon).filter(|day| offset(day - 1) != offset(*day)).collect();
        match changes.is_empty() {
            true => dice.roll(60) as i64,
            false => dice.one_of(&changes) - dice.roll(2) as i64,
        }
    }

    /// `{dateTime, timeZone}` of a local time in a zone.
    pub fn at(&self, day: i64, minute: i64, zone: &str) -> Value {
        let local = self.date(day).and_time(NaiveTime::MIN) + TimeDelta::minutes(minute);
        json!({"dateTime": local.format("%Y-%m-%dT%H:%M:%S").to_string(), "timeZone": zone, "date": null})
    }

    /// `{date}`
    pub fn on(&self, day: i64) -> Value {
        json!({"date": self.date(day).to_string(), "dateTime": null, "timeZone": null})
    }
}

/// Minutes after local midnight; the small hours, where clocks change, more often than people would.
pub fn time_of_day(dice: &mut Dice) -> i64 {
    match dice.roll(10) {
        0 | 1 => dice.roll(14) as i64 * 15,
        2 => 0,
        3 => 23 * 60 + 45,
        _ => 8 * 60 + dice.roll(40) as i64 * 15,
    }
}

/// In minutes: mostly a meeting, sometimes nothing, sometimes days.
pub fn length(dice: &mut Dice) -> i64 {
    match dice.roll(12) {
        0 => 0,
        1 => 24 * 60,
        2 => 24 * 60 + dice.roll(50) as i64 * 60,
        _ => 15 * (1 + dice.roll(12) as i64),
    }
}
