//! How a stored resource looks to the one who asks: tombstones, hidden details, other zones.

use chrono_tz::Tz;
use serde_json::{Value, json};

use crate::calendar::{Calendar, Resource, text};
use crate::query::Query;
use crate::quirks::Quirks;
use crate::times::{Time, split_stamp};

pub struct View {
    zone: Tz,
    response_zone: Option<Tz>,
    max_attendees: Option<usize>,
    only_times: bool,
    tombstones: Tombstones,
    sparse: bool,
}

#[derive(PartialEq, Eq)]
enum Tombstones {
    Short,
    Whole,
}

impl View {
    /// As lists show events.
    pub fn new(calendar: &Calendar, query: &Query, quirks: &Quirks) -> Self {
        let tombstones = if quirks.organizer_tombstones { Tombstones::Whole } else { Tombstones::Short };
        Self { tombstones, sparse: quirks.sparse_tombstones, ..Self::complete(calendar, query) }
    }

    /// As `events.get` does: a cancelled event with all its details.
    pub fn complete(calendar: &Calendar, query: &Query) -> Self {
        Self {
            zone: calendar.zone,
            response_zone: query.response_zone,
            max_attendees: query.max_attendees,
            only_times: calendar.access_role == "freeBusyReader",
            tombstones: Tombstones::Whole,
            sparse: false,
        }
    }

    pub fn show(&self, resource: &Resource) -> Value {
        let cancelled = text(resource, "status") == "cancelled";
        let exception = resource.contains_key("recurringEventId");
        let mut shown = if cancelled && exception && self.tombstones == Tombstones::Short {
            let mut kept = keep(resource, &["kind", "etag", "id", "status", "recurringEventId", "originalStartTime"]);
            if self.sparse && told_by_id(resource) {
                kept.remove("recurringEventId");
                kept.remove("originalStartTime");
            }
            kept
        } else if cancelled && self.tombstones == Tombstones::Short {
            keep(resource, &["kind", "etag", "id", "status"])
        } else if self.only_times {
            self.without_details(resource)
        } else {
            resource.clone()
        };
        if let Some(zone) = self.response_zone {
            for field in ["start", "end", "originalStartTime"] {
                let time = shown.get(field).and_then(|value| Time::parse(value, self.zone, field).ok());
                if let Some(time) = time {
                    shown.insert(field.into(), time.render(zone));
                }
            }
        }
        self.omit_attendees(&mut shown);
        Value::Object(shown)
    }

    /// A `freeBusyReader` learns when, not what.
    fn without_details(&self, resource: &Resource) -> Resource {
        let mut kept = keep(
            resource,
            &[
                "kind",
                "etag",
                "id",
                "status",
                "created",
                "updated",
                "start",
                "end",
                "recurrence",
                "recurringEventId",
                "originalStartTime",
                "transparency",
                "iCalUID",
                "sequence",
                "eventType",
            ],
        );
        kept.insert("visibility".into(), json!("private"));
        kept
    }

    /// "If there are more than the specified number of attendees, only the participant is returned."
    fn omit_attendees(&self, shown: &mut Resource) {
        let Some(max) = self.max_attendees else { return };
        let Some(Value::Array(people)) = shown.get_mut("attendees") else { return };
        if people.len() > max {
            people.retain(|person| person.get("self") == Some(&json!(true)));
            shown.insert("attendeesOmitted".into(), json!(true));
        }
    }
}

/// Whether the form of an exception's id tells its series: not where that was split off from another.
fn told_by_id(exception: &Resource) -> bool {
    split_stamp(text(exception, "id")).is_some_and(|(master, _)| master == text(exception, "recurringEventId"))
}

fn keep(resource: &Resource, fields: &[&str]) -> Resource {
    let held = fields.iter().filter_map(|f| resource.get(*f).map(|v| ((*f).to_owned(), v.clone())));
    held.collect()
}
