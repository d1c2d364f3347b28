//! Google's `freeBusy.query`: what is asked, and the answer in Google's shape.
//!
//! <https://developers.google.com/workspace/calendar/api/v3/reference/freebusy/query>

use chrono::offset::Offset;
use chrono::{DateTime, SecondsFormat, TimeZone, Utc};
use chrono_tz::Tz;
use serde_json::{Map, Value, json};

use crate::interval::Interval;
use crate::invalid::Invalid;
use crate::zone;

const SHAPE: &str = "Pass a body of Google's freeBusy.query: '{\"timeMin\": \"2026-11-23T00:00:00Z\", \"timeMax\": \
                     \"2026-11-30T00:00:00Z\", \"items\": [{\"id\": \"alice@example.com\"}]}'.";

/// The body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub window: Interval,
    /// Of the answer.
    zone: Tz,
    /// Each once, in the order asked.
    pub calendars: Vec<String>,
    /// `calendarExpansionMax`: the client wants no more than so many.
    most: Option<u64>,
}

/// Why a calendar's busy time is not, or not wholly, told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// There is no such calendar, or not for this role. Google's own.
    NotFound,
    /// The client set a limit, and asked for more. Google's own.
    TooManyCalendarsRequested,
    /// The cache does not hold this calendar for this window, or not yet.
    NotCovered,
    /// The cache's copy is too old.
    Stale,
}

impl Problem {
    fn json(self) -> Value {
        let (domain, reason) = match self {
            Self::NotFound => ("global", "notFound"),
            Self::TooManyCalendarsRequested => ("global", "tooManyCalendarsRequested"),
            Self::NotCovered => ("calsync", "notCovered"),
            Self::Stale => ("calsync", "stale"),
        };
        json!({"domain": domain, "reason": reason})
    }
}

impl Request {
    pub fn parse(body: &Value) -> Result<Self, Invalid> {
        let object = body.as_object().ok_or_else(|| Invalid::new("request must be an object", SHAPE))?;
        let (min, max) = (time(object, "timeMin")?, time(object, "timeMax")?);
        let window = Interval::new(min, max)
            .ok_or_else(|| Invalid::new("request.timeMax must be after request.timeMin", SHAPE))?;
        let zone = match present(object, "timeZone") {
            None => Tz::UTC,
            Some(name) => name.as_str().and_then(zone::find).ok_or_else(|| {
                let hint = "Pass a name of the IANA time zone database, such as \"Europe/Vienna\".";
                Invalid::new(format!("request.timeZone {name} is no time zone"), hint)
            })?,
        };
        let limit = |name: &str| match present(object, name) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| {
                Invalid::new(format!("request.{name} must be a whole number"), "Leave it out for no limit.")
            }),
        };
        // There are no groups of calendars here, so nothing is expanded.
        limit("groupExpansionMax")?;
        let most = limit("calendarExpansionMax")?;
        Ok(Self { window, zone, calendars: ids(object)?, most })
    }

    /// Whether the client asks for more than it wants: then no calendar is answered.
    pub fn asks_too_much(&self) -> bool {
        self.most.is_some_and(|most| self.calendars.len() as u64 > most)
    }

    /// The response. Each calendar's busy time is disjoint, ordered, and within the window.
    pub fn answer(&self, calendars: impl IntoIterator<Item = (String, Vec<Interval>, Option<Problem>)>) -> Value {
        let mut answers = Map::new();
        for (id, busy, problem) in calendars {
            let busy: Vec<Value> = busy.into_iter().map(|busy| self.shown(busy)).collect();
            let answer = match problem {
                None => json!({"busy": busy}),
                Some(problem) => json!({"errors": [problem.json()], "busy": busy}),
            };
            answers.insert(id, answer);
        }
        let millis = |instant: DateTime<Utc>| instant.to_rfc3339_opts(SecondsFormat::Millis, true);
        json!({
            "kind": "calendar#freeBusy",
            "timeMin": millis(self.window.start()),
            "timeMax": millis(self.window.end()),
            "calendars": answers,
        })
    }

    fn shown(&self, busy: Interval) -> Value {
        let local = |instant: DateTime<Utc>| {
            let offset = self.zone.offset_from_utc_datetime(&instant.naive_utc()).fix();
            instant.with_timezone(&offset).to_rfc3339_opts(SecondsFormat::AutoSi, true)
        };
        json!({"start": local(busy.start()), "end": local(busy.end())})
    }
}

/// A null counts as left out, as in Google's own JSON.
fn present<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

fn time(object: &Map<String, Value>, name: &str) -> Result<DateTime<Utc>, Invalid> {
    let text = present(object, name).and_then(Value::as_str);
    let read = text.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    read.map(|time| time.to_utc()).ok_or_else(|| {
        let hint = "Write it with its offset from UTC, as \"2026-11-23T09:00:00+01:00\" or \"2026-11-23T08:00:00Z\".";
        Invalid::new(format!("request.{name} must be an RFC 3339 time"), hint)
    })
}

fn ids(object: &Map<String, Value>) -> Result<Vec<String>, Invalid> {
    let items = present(object, "items").and_then(Value::as_array);
    let items = items.ok_or_else(|| Invalid::new("request.items must be an array", SHAPE))?;
    let mut seen = std::collections::HashSet::with_capacity(items.len());
    let mut ids = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let id = item.get("id").and_then(Value::as_str);
        let id = id.ok_or_else(|| Invalid::new(format!("request.items[{at}].id must be a calendar's name"), SHAPE))?;
        if seen.insert(id) {
            ids.push(id.to_owned());
        }
    }
    Ok(ids)
}
