//! One calendar and the events stored in it.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clock::{Version, instant};
use crate::error::FakeError;
use crate::quirks::Quirks;
use crate::times::{Time, parse_zone, rfc3339_millis};

/// An event resource.
pub type Resource = Map<String, Value>;

/// A text field of a resource; "" when it has none.
pub fn text<'a>(resource: &'a Resource, field: &str) -> &'a str {
    resource.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// What one asks for when making a calendar.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewCalendar {
    pub id: String,
    /// The id when absent, as for a primary calendar.
    #[serde(default)]
    pub summary: Option<String>,
    #[serde(default = "utc")]
    pub time_zone: String,
    /// `owner`, `writer`, `reader` or `freeBusyReader`.
    #[serde(default = "owner")]
    pub access_role: String,
    /// False for calendars that cannot be watched (holidays, birthdays).
    #[serde(default = "yes")]
    pub pushable: bool,
    #[serde(default)]
    pub primary: bool,
    /// Event resources, stored as a user would have made them.
    #[serde(default)]
    pub events: Vec<Value>,
}

fn utc() -> String {
    "UTC".into()
}

fn owner() -> String {
    "owner".into()
}

fn yes() -> bool {
    true
}

impl NewCalendar {
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            summary: None,
            time_zone: utc(),
            access_role: owner(),
            pushable: true,
            primary: false,
            events: Vec::new(),
        }
    }

    pub fn in_zone(mut self, zone: impl Into<String>) -> Self {
        self.time_zone = zone.into();
        self
    }

    pub fn summary(mut self, summary: impl Into<String>) -> Self {
        self.summary = Some(summary.into());
        self
    }

    pub fn access_role(mut self, role: impl Into<String>) -> Self {
        self.access_role = role.into();
        self
    }

    pub fn not_pushable(mut self) -> Self {
        self.pushable = false;
        self
    }

    pub fn primary(mut self) -> Self {
        self.primary = true;
        self
    }

    pub fn with_event(mut self, event: Value) -> Self {
        self.events.push(event);
        self
    }
}

/// Changes to a calendar's own properties; what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CalendarPatch {
    #[serde(default)]
    pub summary: Option<String>,
    #[serde(default)]
    pub time_zone: Option<String>,
    #[serde(default)]
    pub access_role: Option<String>,
    #[serde(default)]
    pub pushable: Option<bool>,
}

#[derive(Debug)]
pub struct Calendar {
    pub id: String,
    pub summary: String,
    pub zone: Tz,
    pub access_role: String,
    pub pushable: bool,
    pub primary: bool,
    pub events: BTreeMap<String, Stored>,
    /// When anything in it changed last; a sync token is this number.
    pub version: Version,
    /// When its own properties changed last.
    pub own_version: Version,
    /// Sync tokens up to here are gone.
    pub expired_through: Version,
    pub quirks: Option<Quirks>,
}

/// An event as the server keeps it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Complete, also when cancelled.
    pub resource: Resource,
    pub changed: Version,
    /// What it was before its last change.
    pub previous: Option<Resource>,
    /// An exception whose series was deleted: it appears nowhere until the series comes back.
    pub hidden: bool,
}

impl Stored {
    pub fn is_cancelled(&self) -> bool {
        text(&self.resource, "status") == "cancelled"
    }

    pub fn is_master(&self) -> bool {
        is_master(&self.resource)
    }

    pub fn is_exception(&self) -> bool {
        self.resource.contains_key("recurringEventId")
    }
}

pub fn is_master(resource: &Resource) -> bool {
    resource.get("recurrence").and_then(Value::as_array).is_some_and(|lines| !lines.is_empty())
}

impl Calendar {
    pub fn new(new: &NewCalendar, version: Version) -> Result<Self, FakeError> {
        Ok(Self {
            id: new.id.clone(),
            summary: new.summary.clone().unwrap_or_else(|| new.id.clone()),
            zone: parse_zone(&new.time_zone).ok_or_else(|| FakeError::UnknownZone(new.time_zone.clone()))?,
            access_role: new.access_role.clone(),
            pushable: new.pushable,
            primary: new.primary,
            events: BTreeMap::new(),
            version,
            own_version: version,
            // A calendar of the same id may have been here before: its tokens are worth nothing now.
            expired_through: version - 1,
            quirks: None,
        })
    }

    pub fn writable(&self) -> bool {
        matches!(self.access_role.as_str(), "owner" | "writer" | "writerWithoutPrivateAccess")
    }

    /// Instants stay and are shown with the new zone's offsets; days are now read in the new zone.
    pub fn move_to(&mut self, zone: Tz) {
        for stored in self.events.values_mut() {
            for field in ["start", "end", "originalStartTime"] {
                let time = stored.resource.get(field).map(|value| Time::parse(value, self.zone, field));
                if let Some(Ok(time)) = time {
                    stored.resource.insert(field.into(), time.render(zone));
                }
            }
        }
        self.zone = zone;
    }

    /// Every living or cancelled exception of a series.
    pub fn exceptions_of(&self, master: &str) -> Vec<String> {
        let of_master = |s: &&Stored| text(&s.resource, "recurringEventId") == master;
        self.events.values().filter(of_master).map(|s| text(&s.resource, "id").to_owned()).collect()
    }

    /// The `Calendar` resource.
    pub fn resource(&self) -> Value {
        json!({
            "kind": "calendar#calendar",
            "etag": self.own_etag(),
            "id": self.id,
            "summary": self.summary,
            "timeZone": self.zone.name(),
            "conferenceProperties": { "allowedConferenceSolutionTypes": ["hangoutsMeet"] },
        })
    }

    /// The `CalendarListEntry` resource.
    pub fn list_entry(&self) -> Value {
        let mut entry = json!({
            "kind": "calendar#calendarListEntry",
            "etag": self.own_etag(),
            "id": self.id,
            "summary": self.summary,
            "timeZone": self.zone.name(),
            "colorId": "14",
            "backgroundColor": "#9fe1e7",
            "foregroundColor": "#000000",
            "selected": true,
            "accessRole": self.access_role,
            "defaultReminders": self.default_reminders(),
            "conferenceProperties": { "allowedConferenceSolutionTypes": ["hangoutsMeet"] },
        });
        if self.primary {
            entry["primary"] = json!(true);
        }
        entry
    }

    fn own_etag(&self) -> String {
        format!("\"{}000\"", self.own_version / 1000)
    }

    fn default_reminders(&self) -> Value {
        match self.writable() {
            true => json!([{ "method": "popup", "minutes": 30 }]),
            false => json!([]),
        }
    }

    /// An `Events` collection without its items.
    pub fn events_head(&self) -> Resource {
        let mut head = Map::new();
        head.insert("kind".into(), json!("calendar#events"));
        head.insert("etag".into(), json!(format!("\"p{}o0o\"", base32(self.version))));
        head.insert("summary".into(), json!(self.summary));
        head.insert("description".into(), json!(""));
        head.insert("updated".into(), json!(rfc3339_millis(instant(self.version))));
        head.insert("timeZone".into(), json!(self.zone.name()));
        head.insert("accessRole".into(), json!(self.access_role));
        head.insert("defaultReminders".into(), self.default_reminders());
        head
    }
}

fn base32(version: Version) -> String {
    let digit = |shift: u32| char::from(b"0123456789abcdefghijklmnopqrstuv"[(version >> shift & 31) as usize]);
    (0..11).rev().map(|n| digit(n * 5)).collect()
}
