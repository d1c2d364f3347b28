//! The parameters of a list, read and checked.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use crate::calendar::{Resource, text};
use crate::error::ApiError;
use crate::http::Request;
use crate::times::{Time, parse_bound, parse_zone};
use crate::tokens::hash;

const DEFAULT_PAGE: usize = 250;
const LARGEST_PAGE: usize = 2500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    StartTime,
    Updated,
}

#[derive(Debug)]
pub struct Query {
    pub single_events: bool,
    pub max_results: usize,
    pub show_deleted: Option<bool>,
    pub order: Option<Order>,
    pub time_min: Option<DateTime<Utc>>,
    pub time_max: Option<DateTime<Utc>>,
    pub updated_min: Option<DateTime<Utc>>,
    pub response_zone: Option<Tz>,
    pub max_attendees: Option<usize>,
    pub sync_token: Option<String>,
    pub page_token: Option<String>,
    pub original_start: Option<String>,
    words: Option<String>,
    ical_uid: Option<String>,
    event_types: Vec<String>,
    /// `("private"|"shared", name, value)`
    properties: Vec<(&'static str, String, String)>,
}

impl Query {
    pub fn parse(request: &Request, calendar: Tz) -> Result<Self, ApiError> {
        let text = |name: &str| request.param(name).map(str::to_owned);
        let bound =
            |name: &str| request.param(name).map(|t| parse_bound(t).map_err(|e| e.at_parameter(name))).transpose();
        let order = match request.param("orderBy") {
            None => None,
            Some("startTime") => Some(Order::StartTime),
            Some("updated") => Some(Order::Updated),
            Some(_) => return Err(ApiError::invalid_value("orderBy")),
        };
        let response_zone = match request.param("timeZone") {
            None => None,
            Some(name) => Some(parse_zone(name).ok_or_else(|| ApiError::invalid_value("timeZone"))?),
        };
        let query = Self {
            single_events: flag(request, "singleEvents")?.unwrap_or(false),
            max_results: number(request, "maxResults")?.unwrap_or(DEFAULT_PAGE).min(LARGEST_PAGE),
            show_deleted: flag(request, "showDeleted")?,
            order,
            time_min: bound("timeMin")?,
            time_max: bound("timeMax")?,
            updated_min: request.param("updatedMin").map(exact).transpose()?,
            response_zone: response_zone.filter(|zone| *zone != calendar),
            max_attendees: number(request, "maxAttendees")?,
            sync_token: text("syncToken"),
            page_token: text("pageToken"),
            original_start: text("originalStart"),
            words: text("q").filter(|q| !q.trim().is_empty()),
            ical_uid: text("iCalUID"),
            event_types: request.params("eventTypes").map(str::to_owned).collect(),
            properties: properties(request)?,
        };
        if let (Some(min), Some(max)) = (query.time_min, query.time_max)
            && min >= max
        {
            return Err(ApiError::time_range_empty().at_parameter("timeMax"));
        }
        if query.order == Some(Order::StartTime) && !query.single_events && query.sync_token.is_none() {
            return Err(ApiError::new(
                400,
                "badRequest",
                "The requested ordering is not available for the particular query.",
            )
            .at_parameter("orderBy"));
        }
        Ok(query)
    }

    /// "There are several query parameters that cannot be specified together with" a sync token.
    pub fn check_sync_restrictions(&self) -> Result<(), ApiError> {
        if self.sync_token.is_none() {
            return Ok(());
        }
        let refuse = |reason: &str, message: &str| Err(ApiError::new(400, reason, message).in_domain("calendar"));
        if self.order.is_some() {
            return refuse("syncTokenWithNonDefaultOrdering", "Sync token cannot be used with a non-default ordering.");
        }
        let windowed = self.time_min.is_some() || self.time_max.is_some() || self.updated_min.is_some();
        let filtered = self.words.is_some() || self.ical_uid.is_some() || !self.properties.is_empty();
        if windowed || filtered || self.show_deleted == Some(false) {
            return refuse(
                "syncTokenWithRequestRestrictions",
                "Sync token cannot be used with other request restrictions.",
            );
        }
        Ok(())
    }

    /// What must stay the same from the first list to every delta.
    pub fn params_hash(&self) -> u64 {
        let Self { single_events, max_results, response_zone, max_attendees, event_types, .. } = self;
        hash(&format!("{single_events} {max_results} {response_zone:?} {max_attendees:?} {event_types:?}"))
    }

    /// What must stay the same from page to page.
    pub fn identity(&self, request: &Request) -> String {
        const PRESENTATION: &[&str] =
            &["pageToken", "alt", "fields", "key", "oauth_token", "access_token", "prettyPrint", "quotaUser", "userIp"];
        let kept = request.query.iter().filter(|(name, _)| !PRESENTATION.contains(&name.as_str()));
        let mut kept: Vec<String> = kept.map(|(name, value)| format!("{name}={value}")).collect();
        kept.sort();
        kept.join("&")
    }

    /// `timeMin` bounds an event's end, `timeMax` its start, both exclusive. What has no readable time is inside.
    pub fn in_window(&self, resource: &Resource, calendar: Tz) -> bool {
        let at = |field: &str| {
            let value = resource.get(field)?;
            Some(Time::parse(value, calendar, field).ok()?.instant(calendar))
        };
        let starts = at("start").or_else(|| at("originalStartTime"));
        let ends = at("end").or(starts);
        self.time_min.is_none_or(|min| ends.is_none_or(|end| end > min))
            && self.time_max.is_none_or(|max| starts.is_none_or(|start| start < max))
    }

    pub fn starts_originally(&self, resource: &Resource, original: &str, calendar: Tz) -> bool {
        let Some(time) = resource.get("originalStartTime") else { return false };
        let Ok(time) = Time::parse(time, calendar, "original start") else { return false };
        match (&time, DateTime::parse_from_rfc3339(original)) {
            (_, Ok(wanted)) => time.instant(calendar) == wanted.to_utc(),
            (Time::Day(day), Err(_)) => day.to_string() == original,
            (Time::At { .. }, Err(_)) => false,
        }
    }

    pub fn wants_type(&self, resource: &Resource) -> bool {
        let kind = match text(resource, "eventType") {
            "" => "default",
            kind => kind,
        };
        self.event_types.is_empty() || self.event_types.iter().any(|t| t == kind)
    }

    pub fn matches(&self, resource: &Resource) -> bool {
        let uid = self.ical_uid.as_ref().is_none_or(|uid| text(resource, "iCalUID") == uid);
        let extended = resource.get("extendedProperties");
        let properties = self.properties.iter().all(|(kind, name, value)| {
            let held = extended.and_then(|e| e.get(*kind)).and_then(|p| p.get(name)).and_then(Value::as_str);
            held == Some(value)
        });
        uid && properties && self.wants_type(resource) && self.words.as_ref().is_none_or(|q| found(resource, q))
    }
}

/// Free text search: every word occurs in one of the documented fields.
fn found(resource: &Resource, words: &str) -> bool {
    let mut haystack = String::new();
    for field in ["summary", "description", "location"] {
        haystack.push_str(text(resource, field));
        haystack.push('\n');
    }
    let attendees = resource.get("attendees").and_then(Value::as_array).into_iter().flatten();
    for person in attendees.chain(resource.get("organizer")) {
        for field in ["displayName", "email"] {
            haystack.push_str(person.get(field).and_then(Value::as_str).unwrap_or_default());
            haystack.push('\n');
        }
    }
    let haystack = haystack.to_lowercase();
    words.to_lowercase().split_whitespace().all(|word| haystack.contains(word))
}

/// Unlike `timeMin`, `updatedMin` heeds milliseconds.
fn exact(text: &str) -> Result<DateTime<Utc>, ApiError> {
    let parsed = DateTime::parse_from_rfc3339(text);
    parsed.map(|time| time.to_utc()).map_err(|_| ApiError::bad_request().at_parameter("updatedMin"))
}

fn flag(request: &Request, name: &str) -> Result<Option<bool>, ApiError> {
    match request.param(name) {
        None => Ok(None),
        Some("true" | "True") => Ok(Some(true)),
        Some("false" | "False") => Ok(Some(false)),
        Some(_) => Err(ApiError::invalid_value(name)),
    }
}

fn number(request: &Request, name: &str) -> Result<Option<usize>, ApiError> {
    match request.param(name).map(str::parse) {
        None => Ok(None),
        Some(Ok(n)) if n >= 1 => Ok(Some(n)),
        Some(_) => Err(ApiError::invalid_value(name)),
    }
}

fn properties(request: &Request) -> Result<Vec<(&'static str, String, String)>, ApiError> {
    let mut all = Vec::new();
    for (kind, parameter) in [("private", "privateExtendedProperty"), ("shared", "sharedExtendedProperty")] {
        for constraint in request.params(parameter) {
            let (name, value) = constraint.split_once('=').ok_or_else(|| ApiError::invalid_value(parameter))?;
            all.push((kind, name.to_owned(), value.to_owned()));
        }
    }
    Ok(all)
}

/// "updatedMinTooLongAgo": deletions are remembered for about four weeks, so older questions cannot be answered.
pub fn check_updated_min(query: &Query, now: DateTime<Utc>) -> Result<(), ApiError> {
    match query.updated_min {
        Some(min) if min < now - TimeDelta::days(28) => Err(ApiError::new(
            410,
            "updatedMinTooLongAgo",
            "The requested minimum modification time lies too far in the past.",
        )
        .in_domain("calendar")
        .at_parameter("updatedMin")),
        _ => Ok(()),
    }
}
