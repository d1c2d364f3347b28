//! Builders in the words of the field: they hide JSON, not meaning.
#![allow(dead_code, reason = "every test binary uses its own part")]

use calsync_core::event::{Change, Event, Kind, OccurrenceOf, OriginalStart, Span};
use calsync_core::options::Options;
use calsync_core::providers::google::{ItemProblem, read_item};
use chrono::{DateTime, NaiveDate, Utc};
use serde_json::{Value, json};

pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|_| panic!("{text} is no time"))
}

pub fn on(text: &str) -> NaiveDate {
    text.parse().unwrap_or_else(|_| panic!("{text} is no date"))
}

/// An event in Vienna from nine to ten, with these fields changed (null takes one away).
pub fn item(id: &str, fields: Value) -> Value {
    let mut item = json!({
        "kind": "calendar#event", "etag": "\"1\"", "id": id, "status": "confirmed", "summary": "Review",
        "updated": "2026-03-01T08:00:00.000Z", "iCalUID": format!("{id}@google.com"), "sequence": 0,
        "start": vienna("2026-03-02T09:00:00+01:00"), "end": vienna("2026-03-02T10:00:00+01:00"),
        "eventType": "default",
    });
    for (name, value) in fields.as_object().expect("fields are an object") {
        item[name] = value.clone();
    }
    item
}

pub fn vienna(date_time: &str) -> Value {
    json!({"dateTime": date_time, "timeZone": "Europe/Vienna"})
}

pub fn read(item: &Value) -> Change {
    read_item(item, &Options::default()).unwrap_or_else(|problem| panic!("{problem}: {item}"))
}

pub fn read_event(item: &Value) -> Event {
    match read(item) {
        Change::Put(event) => *event,
        Change::Delete { event_id } => panic!("{event_id} is deleted"),
    }
}

pub fn problem_of(item: &Value) -> ItemProblem {
    match read_item(item, &Options::default()) {
        Err(problem) => problem,
        Ok(change) => panic!("it was understood: {change:?}"),
    }
}

/// The options of a subscription.
pub fn options(json: Value) -> Options {
    Options::read(&json).unwrap_or_else(|problem| panic!("{problem}"))
}

pub fn single(starts_at: &str, ends_at: &str, zone: Option<&str>) -> Kind {
    Kind::Single(timed(starts_at, ends_at, zone))
}

pub fn timed(starts_at: &str, ends_at: &str, zone: Option<&str>) -> Span {
    Span::Timed { starts_at: at(starts_at), ends_at: at(ends_at), zone: zone.map(str::to_owned) }
}

pub fn days(start: &str, end: &str) -> Span {
    Span::AllDay { start: on(start), end: on(end) }
}

pub fn occurrence(master: &str, starts_at: &str) -> OccurrenceOf {
    OccurrenceOf { master: master.to_owned(), original: OriginalStart::At(at(starts_at)) }
}

pub fn occurrence_on(master: &str, date: &str) -> OccurrenceOf {
    OccurrenceOf { master: master.to_owned(), original: OriginalStart::On(on(date)) }
}
