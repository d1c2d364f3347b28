//! `freeBusy.query`: merged busy intervals, calculated from events and not from any cache.
//!
//! <https://developers.google.com/workspace/calendar/api/v3/reference/freebusy/query>

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde_json::{Map, Value, json};

use crate::calendar::{Calendar, Resource, text};
use crate::error::ApiError;
use crate::expand;
use crate::state::State;
use crate::times::{Time, parse_bound, parse_zone, rfc3339, rfc3339_millis};

pub type Interval = (DateTime<Utc>, DateTime<Utc>);

/// "Maximum value is 50", which is the default too.
const MOST_CALENDARS: u64 = 50;

pub fn query(state: &State, body: &Value) -> Result<Value, ApiError> {
    let bound = |name: &str| match body.get(name).and_then(Value::as_str) {
        Some(text) => parse_bound(text),
        None => Err(ApiError::required(format!("Missing {name} parameter."))),
    };
    let (min, max) = (bound("timeMin")?, bound("timeMax")?);
    if min >= max {
        return Err(ApiError::time_range_empty());
    }
    let zone = match body.get("timeZone").and_then(Value::as_str) {
        Some(name) => parse_zone(name).ok_or_else(|| ApiError::invalid_value("timeZone"))?,
        None => Tz::UTC,
    };
    let ids: Vec<&str> = body
        .get("items")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|item| item.get("id").and_then(Value::as_str))
        .collect();
    let most = body.get("calendarExpansionMax").and_then(Value::as_u64).unwrap_or(MOST_CALENDARS);
    if most > MOST_CALENDARS {
        return Err(ApiError::invalid_value("calendarExpansionMax"));
    }
    let too_many = ids.len() as u64 > most;
    let mut calendars = Map::new();
    for id in ids {
        let error = |reason: &str| json!({ "errors": [{ "domain": "global", "reason": reason }], "busy": [] });
        let answer = match state.calendar(id) {
            _ if too_many => error("tooManyCalendarsRequested"),
            Err(_) => error("notFound"),
            Ok(calendar) => {
                let shown = |(start, end)| json!({ "start": rfc3339(start, zone), "end": rfc3339(end, zone) });
                let busy: Vec<Value> = busy(calendar, min, max).into_iter().map(shown).collect();
                json!({ "busy": busy })
            }
        };
        calendars.insert(id.to_owned(), answer);
    }
    Ok(json!({
        "kind": "calendar#freeBusy",
        "timeMin": rfc3339_millis(min),
        "timeMax": rfc3339_millis(max),
        "calendars": calendars,
    }))
}

/// Disjoint, ordered, clipped to the window; touching ones merged.
pub fn busy(calendar: &Calendar, min: DateTime<Utc>, max: DateTime<Utc>) -> Vec<Interval> {
    let mut all: Vec<Interval> = Vec::new();
    for stored in calendar.events.values().filter(|s| !s.hidden && blocks(&s.resource)) {
        if stored.is_master() {
            let times = expand::plain_times(calendar, &stored.resource, Some(max)).into_iter();
            all.extend(
                times.map(|(start, length)| (start.instant(calendar.zone), start.plus(length).instant(calendar.zone))),
            );
            continue;
        }
        let at = |field: &str| {
            let time = stored.resource.get(field).map(|value| Time::parse(value, calendar.zone, field));
            time.and_then(Result::ok).map(|time| time.instant(calendar.zone))
        };
        all.extend(at("start").zip(at("end")));
    }
    // An event without length blocks nothing.
    let clipped = all.into_iter().map(|(start, end)| (start.max(min), end.min(max)));
    let mut clipped: Vec<Interval> = clipped.filter(|(start, end)| start < end).collect();
    clipped.sort_unstable();
    let mut merged: Vec<Interval> = Vec::new();
    for (start, end) in clipped {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

fn blocks(resource: &Resource) -> bool {
    let declined = |person: &Value| {
        person.get("self") == Some(&json!(true)) && person.get("responseStatus") == Some(&json!("declined"))
    };
    text(resource, "status") != "cancelled"
        && text(resource, "transparency") != "transparent"
        && !matches!(text(resource, "eventType"), "workingLocation" | "birthday")
        && !resource.get("attendees").and_then(Value::as_array).is_some_and(|people| people.iter().any(declined))
}
