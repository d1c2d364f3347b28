//! What the server itself puts into an event: ids, etags, times in the calendar's zone, defaults.
//!
//! <https://developers.google.com/workspace/calendar/api/v3/reference/events#resource>

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chrono::TimeDelta;
use chrono_tz::Tz;
use serde_json::{Value, json};

use crate::calendar::{Calendar, Resource, is_master, text};
use crate::clock::{Version, instant};
use crate::error::ApiError;
use crate::expand::Series;
use crate::times::{Time, rfc3339_millis};

/// Who acts: the one user of this fake, whose address is the calendar's id (or the primary one's).
pub fn person(calendar: &Calendar) -> Value {
    json!({ "email": calendar.id, "self": true })
}

/// Which ids an event may bring along.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// "Characters allowed in the ID are those used in base32hex encoding", 5 to 1024 of them.
    Base32Hex,
    /// Also ids that Google made itself, which hold `_`, `R`, `T` and `Z`.
    Restored,
    /// Whatever reads well in a test.
    Any,
}

pub fn check_id(id: &str, ids: Ids) -> Result<(), ApiError> {
    let base32hex = |b: u8| matches!(b, b'a'..=b'v' | b'0'..=b'9');
    let good = match ids {
        Ids::Base32Hex => (5..=1024).contains(&id.len()) && id.bytes().all(base32hex),
        Ids::Restored => {
            (5..=1024).contains(&id.len()) && id.bytes().all(|b| base32hex(b) || matches!(b, b'_' | b'R' | b'T' | b'Z'))
        }
        Ids::Any => !id.is_empty(),
    };
    if good { Ok(()) } else { Err(ApiError::invalid("Invalid resource id value.")) }
}

/// Stamps a new version on a resource: twice the microseconds make the etag, as in real answers.
pub fn stamp(resource: &mut Resource, version: Version) {
    resource.insert("etag".into(), json!(format!("\"{}\"", version * 2)));
    resource.insert("updated".into(), json!(rfc3339_millis(instant(version))));
}

/// Fills in all that a client may leave out.
pub fn complete(resource: &mut Resource, calendar: &Calendar, id: &str, version: Version) {
    let mut default = |field: &str, value: Value| {
        if resource.get(field).is_none_or(Value::is_null) {
            resource.insert(field.into(), value);
        }
    };
    default("status", json!("confirmed"));
    default("created", json!(instant(version).format("%Y-%m-%dT%H:%M:%S.000Z").to_string()));
    default("creator", person(calendar));
    default("organizer", person(calendar));
    default("iCalUID", json!(format!("{id}@google.com")));
    default("sequence", json!(0));
    default("reminders", json!({ "useDefault": true }));
    default("eventType", json!("default"));
    resource.insert("kind".into(), json!("calendar#event"));
    resource.insert("id".into(), json!(id));
    resource.insert("htmlLink".into(), json!(html_link(id, &calendar.id)));
    stamp(resource, version);
}

fn html_link(id: &str, calendar: &str) -> String {
    let eid = STANDARD_NO_PAD.encode(format!("{id} {}", calendar.replace("gmail.com", "m")));
    format!("https://www.google.com/calendar/event?eid={eid}")
}

/// Checks the times and writes them as the API shows them.
pub fn settle_times(resource: &mut Resource, zone: Tz) -> Result<(), ApiError> {
    let read = |resource: &Resource, which: &str| match resource.get(which) {
        Some(value) if !value.is_null() => Time::parse(value, zone, which),
        _ => Err(ApiError::required(format!("Missing {which} time."))),
    };
    let start = read(resource, "start")?;
    let end = read(resource, "end")?;
    if start.is_day() != end.is_day() {
        return Err(ApiError::invalid("Start and end times must either both be date or both be dateTime."));
    }
    let length = start.until(&end, zone);
    if length < TimeDelta::zero() || start.is_day() && length.is_zero() {
        return Err(ApiError::time_range_empty());
    }
    if is_master(resource) {
        let named = resource.get("start").is_some_and(|s| s.get("timeZone").is_some_and(Value::is_string));
        if !start.is_day() && !named {
            return Err(ApiError::required("Missing time zone definition for start time."));
        }
        Series::read(resource, zone)?;
    } else {
        resource.remove("recurrence");
    }
    resource.insert("start".into(), start.render(zone));
    resource.insert("end".into(), end.render(zone));
    Ok(())
}

/// The id a series had before "this and following" gave it a suffix: `<id>_R20250327T123000` is of family `<id>`.
pub fn family(master: &str) -> &str {
    match master.rsplit_once("_R") {
        Some((base, tail)) if tail.len() >= 8 && tail.bytes().all(|b| b.is_ascii_digit() || b == b'T') => base,
        _ => master,
    }
}

pub fn instance_id(master: &str, original: &Time) -> String {
    format!("{}_{}", family(master), original.stamp())
}

/// An untouched occurrence, as `events.instances` shows it.
pub fn instance(master: &Resource, original: &Time, length: TimeDelta, zone: Tz) -> Resource {
    let mut instance = master.clone();
    let master_id = text(master, "id");
    instance.remove("recurrence");
    instance.insert("id".into(), json!(instance_id(master_id, original)));
    instance.insert("recurringEventId".into(), json!(master_id));
    instance.insert("originalStartTime".into(), original.render(zone));
    instance.insert("start".into(), original.render(zone));
    instance.insert("end".into(), original.plus(length).render(zone));
    instance
}

/// Fields that only the server writes; a client's values for them are ignored.
pub const READ_ONLY: &[&str] = &[
    "kind",
    "etag",
    "id",
    "htmlLink",
    "created",
    "updated",
    "creator",
    "organizer",
    "iCalUID",
    "recurringEventId",
    "originalStartTime",
    "eventType",
];

/// JSON merge patch (RFC 7396): null removes, objects merge, all else replaces.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Resource::new());
    }
    let Value::Object(target) = target else { return };
    for (field, value) in patch {
        if value.is_null() {
            target.remove(field);
        } else {
            merge(target.entry(field.clone()).or_insert(Value::Null), value);
        }
    }
}
