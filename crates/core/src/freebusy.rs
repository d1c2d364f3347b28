//! Google's `freeBusy.query`: what is asked, and the answer in Google's shape.
//!
//! <https://developers.google.com/workspace/calendar/api/v3/reference/freebusy/query>

use chrono::offset::Offset;
use chrono::{DateTime, SecondsFormat, TimeZone, Utc};
use chrono_tz::Tz;
use serde_json::{Map, Value};

use crate::interval::Interval;
use crate::invalid::{Invalid, Refusal};
use crate::zone;

/// More items in one request are refused, whether or not they are the same.
const MOST_ITEMS: usize = 10_000;

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
    /// The name could mean several calendars that the role may see.
    Ambiguous,
}

impl Problem {
    /// Domain and reason of the error.
    fn named(self) -> (&'static str, &'static str) {
        match self {
            Self::NotFound => ("global", "notFound"),
            Self::TooManyCalendarsRequested => ("global", "tooManyCalendarsRequested"),
            Self::NotCovered => ("calsync", "notCovered"),
            Self::Stale => ("calsync", "stale"),
            Self::Ambiguous => ("calsync", "ambiguous"),
        }
    }
}

impl Request {
    pub fn parse(body: &Value) -> Result<Self, Refusal> {
        let object = body.as_object().ok_or_else(|| Invalid::new("request must be an object", SHAPE))?;
        let (min, max) = (time(object, "timeMin")?, time(object, "timeMax")?);
        let window = Interval::new(min, max)
            .ok_or_else(|| Invalid::new("request.timeMax must be after request.timeMin", SHAPE))?;
        let zone = match present(object, "timeZone") {
            None => Tz::UTC,
            Some(Value::String(name)) => zone::named(name)
                .map_err(|invalid| Invalid::new(format!("request.timeZone: {invalid}"), invalid.hint()))?,
            Some(other) => {
                let hint = "Pass a name of the IANA time zone database, such as \"Europe/Vienna\".";
                return Err(Invalid::new(format!("request.timeZone {other} is no time zone"), hint).into());
            }
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

    /// The response, as the text of its JSON. Each calendar's busy time is disjoint, ordered, and within the window.
    /// `pause` is called now and then; it may unwind.
    pub fn answer(
        &self,
        calendars: impl IntoIterator<Item = (String, Vec<Interval>, Option<Problem>)>,
        pause: fn(),
    ) -> Result<String, serde_json::Error> {
        let mut told = Told { json: String::new(), zone: self.zone, pause };
        let millis = |instant: DateTime<Utc>| instant.to_rfc3339_opts(SecondsFormat::Millis, true);
        let (min, max) = (millis(self.window.start()), millis(self.window.end()));
        told.json += &format!(r#"{{"kind":"calendar#freeBusy","timeMin":"{min}","timeMax":"{max}","calendars":{{"#);
        for (at, (id, busy, problem)) in calendars.into_iter().enumerate() {
            told.json += if at == 0 { "" } else { "," };
            told.json += &serde_json::to_string(&id)?;
            told.json += ":";
            told.calendar(&busy, problem);
        }
        told.json += "}}";
        Ok(told.json)
    }
}

/// The response while it is written. As text, since a tree of it would need several times the room.
struct Told {
    json: String,
    zone: Tz,
    pause: fn(),
}

impl Told {
    fn calendar(&mut self, busy: &[Interval], problem: Option<Problem>) {
        self.json += "{";
        if let Some((domain, reason)) = problem.map(Problem::named) {
            self.json += &format!(r#""errors":[{{"domain":"{domain}","reason":"{reason}"}}],"#);
        }
        self.json += r#""busy":["#;
        for (at, busy) in busy.iter().enumerate() {
            (self.pause)();
            self.json += if at == 0 { "{\"start\":\"" } else { ",{\"start\":\"" };
            self.time(busy.start());
            self.json += "\",\"end\":\"";
            self.time(busy.end());
            self.json += "\"}";
        }
        self.json += "]}";
    }

    fn time(&mut self, instant: DateTime<Utc>) {
        let offset = self.zone.offset_from_utc_datetime(&instant.naive_utc()).fix();
        self.json += &instant.with_timezone(&offset).to_rfc3339_opts(SecondsFormat::AutoSi, true);
    }
}

/// A null counts as left out, as in Google's own JSON.
fn present<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

/// To the microsecond, as Postgres keeps time; a leap second is the moment after it.
fn time(object: &Map<String, Value>, name: &str) -> Result<DateTime<Utc>, Invalid> {
    let text = present(object, name).and_then(Value::as_str);
    let read = text.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    read.and_then(|time| DateTime::from_timestamp_micros(time.timestamp_micros())).ok_or_else(|| {
        let hint = "Write it with its offset from UTC, as \"2026-11-23T09:00:00+01:00\" or \"2026-11-23T08:00:00Z\".";
        Invalid::new(format!("request.{name} must be an RFC 3339 time"), hint)
    })
}

fn ids(object: &Map<String, Value>) -> Result<Vec<String>, Refusal> {
    let items = match present(object, "items") {
        None => return Ok(Vec::new()),
        Some(items) => items.as_array().ok_or_else(|| Invalid::new("request.items must be an array", SHAPE))?,
    };
    if items.len() > MOST_ITEMS {
        let message = format!("request.items has {} elements, more than {MOST_ITEMS}", items.len());
        return Err(Refusal::too_much(message, "Ask in several requests."));
    }
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
