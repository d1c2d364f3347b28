//! Event resources as a provider sends them, in days from today and UTC.

use std::sync::OnceLock;

use chrono::{NaiveDate, TimeDelta, Utc};
use serde_json::{Value, json};

/// The day that all days are counted from: the same in all tests of this process.
pub fn today() -> NaiveDate {
    static TODAY: OnceLock<NaiveDate> = OnceLock::new();
    *TODAY.get_or_init(|| Utc::now().date_naive())
}

/// `HH:MM` UTC on the day so many days from today, as RFC 3339.
pub fn at(day: i64, clock: &str) -> String {
    format!("{}T{clock}:00Z", date(day))
}

pub fn date(day: i64) -> String {
    (today() + TimeDelta::days(day)).to_string()
}

/// One item of a provider's list.
#[derive(Debug, Clone, PartialEq)]
pub struct Item(Value);

pub fn meeting(id: &str, day: i64, from: &str, to: &str) -> Item {
    spanning(id, &at(day, from), &at(day, to))
}

/// From one RFC 3339 time to another.
pub fn spanning(id: &str, from: &str, to: &str) -> Item {
    Item(json!({"id": id, "status": "confirmed", "start": {"dateTime": from}, "end": {"dateTime": to}}))
}

/// Whole days, the last not included.
pub fn days_off(id: &str, first: i64, past: i64) -> Item {
    Item(json!({"id": id, "status": "confirmed", "start": {"date": date(first)}, "end": {"date": date(past)}}))
}

/// What is sent when something was deleted.
pub fn cancelled(id: &str) -> Item {
    Item(json!({"id": id, "status": "cancelled"}))
}

impl Item {
    /// With these fields, too.
    #[must_use]
    pub fn saying(mut self, fields: Value) -> Self {
        for (name, value) in fields.as_object().expect("fields are an object") {
            self.0[name] = value.clone();
        }
        self
    }

    #[must_use]
    pub fn repeating(self, rule: &str) -> Self {
        self.saying(json!({"recurrence": [format!("RRULE:{rule}")]}))
    }

    #[must_use]
    pub fn daily(self, times: u32) -> Self {
        self.repeating(&format!("FREQ=DAILY;COUNT={times}"))
    }

    /// It stands for one occurrence of a series.
    #[must_use]
    pub fn instead_of(self, series: &str, day: i64, clock: &str) -> Self {
        self.saying(json!({"recurringEventId": series, "originalStartTime": {"dateTime": at(day, clock)}}))
    }

    /// When the provider last changed it.
    #[must_use]
    pub fn updated(self, minute: u32) -> Self {
        self.saying(json!({"updated": format!("2026-01-01T00:{minute:02}:00Z")}))
    }

    pub fn json(&self) -> Value {
        self.0.clone()
    }
}
