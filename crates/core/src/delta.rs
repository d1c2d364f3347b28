//! The delta envelope of `calsync_apply_delta`: a provider's own response with two or three keys added.
//!
//! ```json
//! {"calendar": "alice@example.com", "expectedSyncToken": "CJ_e…", "pageToken": null,
//!  "timeZone": "America/Chicago", "items": [], "nextSyncToken": "CK_v…"}
//! ```
//!
//! Nothing in it is guessed at: what cannot be understood refuses the whole delta, naming the item's index, id and
//! field.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::event::Change;
use crate::options::Options;
use crate::providers::google::list_text::{ListText, items_of};
use crate::providers::google::text::quoted;
use crate::providers::google::{ItemProblem, read_item};
use crate::sync::{PageToken, SyncToken};
use crate::zone;

/// A delta whose own keys are in order; its items are read by [`Envelope::changes`].
#[derive(Debug, Clone)]
pub struct Envelope<'a> {
    /// The name by which SQL knows the subscription.
    pub calendar: String,
    /// The token the page was fetched with; None: this is (a page of) a full sync.
    pub expected_sync_token: Option<SyncToken>,
    /// Which page of the round this is, where it says so.
    pub page_token: GivenPageToken,
    /// The calendar's zone as the provider names it; one that [`zone::find`] knows.
    pub time_zone: Option<String>,
    items: Vec<&'a RawValue>,
    pub end: End,
}

/// `pageToken`: the token this page was fetched with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivenPageToken {
    /// Not said: it continues what is staged, if anything is.
    Absent,
    /// null: the first page of a round; what is staged belongs to an older one.
    First,
    Continues(PageToken),
}

/// What comes after this page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// More pages: stage this one.
    NextPage(PageToken),
    /// The round is complete with this page, and the calendar then stands at this token.
    Complete(SyncToken),
}

/// Why a delta is refused as a whole (SC005).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid delta: {}", self.detail())]
pub struct InvalidDelta {
    /// The item's place in `items`, from 0; None where it is the envelope that is wrong.
    pub index: Option<usize>,
    /// The item's id, where it has one.
    pub id: Option<String>,
    /// The key of the envelope, or the field's path within the item; `delta` where it is no object.
    pub field: String,
    reason: String,
    hint: &'static str,
}

impl InvalidDelta {
    /// The delta is no JSON that can be read at all: nested too deeply, say.
    fn unreadable(error: &serde_json::Error) -> Self {
        Self::envelope("delta", error.to_string(), "Pass the provider's response, with \"calendar\" added.")
    }

    fn envelope(field: &str, reason: impl Into<String>, hint: &'static str) -> Self {
        Self { index: None, id: None, field: field.to_owned(), reason: reason.into(), hint }
    }

    fn item(index: usize, problem: ItemProblem) -> Self {
        let hint = hint_for_item(&problem.field);
        Self { index: Some(index), id: problem.event_id, field: problem.field, reason: problem.reason, hint }
    }

    /// Where and why, e.g. `items[3] (id "abc"): end.dateTime: it is before the start`.
    pub fn detail(&self) -> String {
        let place = match (self.index, &self.id) {
            (Some(index), Some(id)) => format!("items[{index}] (id {}): ", quoted(id)),
            (Some(index), None) => format!("items[{index}]: "),
            (None, _) => String::new(),
        };
        format!("{place}{}: {}", self.field, self.reason)
    }

    /// The fix.
    pub fn hint(&self) -> &'static str {
        self.hint
    }
}

/// Reads the envelope, as JSON text, without looking into its items. Keys it does not know (the rest of the provider's
/// response) are left alone.
pub fn read_envelope(json: &[u8]) -> Result<Envelope<'_>, InvalidDelta> {
    let ListText { keys, items } = serde_json::from_slice(json).map_err(|error| match error.is_data() {
        true => InvalidDelta::envelope(
            "delta",
            "it is not a JSON object",
            "Pass the provider's response with the key \"calendar\" added, and \"expectedSyncToken\" where it was \
             fetched with one.",
        ),
        false => InvalidDelta::unreadable(&error),
    })?;
    Ok(Envelope {
        calendar: read_calendar(&keys)?,
        expected_sync_token: read_token(&keys, "expectedSyncToken")?,
        page_token: match keys.get("pageToken") {
            Some(Value::Null) => GivenPageToken::First,
            _ => read_token(&keys, "pageToken")?.map_or(GivenPageToken::Absent, GivenPageToken::Continues),
        },
        time_zone: read_time_zone(&keys)?,
        items: read_items(items)?,
        end: read_end(&keys)?,
    })
}

impl Envelope<'_> {
    /// The items, read; in their order, an id that comes twice still twice (see [`crate::merge::latest_of_each`], which
    /// must see all pages of the round).
    pub fn changes(&self, options: &Options) -> Result<Vec<Change>, InvalidDelta> {
        let read = |(index, item): (usize, &&RawValue)| {
            let item: Value = serde_json::from_str(item.get()).map_err(|error| InvalidDelta {
                index: Some(index),
                ..InvalidDelta::envelope("item", error.to_string(), hint_for_item("item"))
            })?;
            read_item(&item, options).map_err(|problem| InvalidDelta::item(index, problem))
        };
        self.items.iter().enumerate().map(read).collect()
    }
}

fn read_calendar(keys: &Map<String, Value>) -> Result<String, InvalidDelta> {
    let invalid = |reason: &str| {
        InvalidDelta::envelope(
            "calendar",
            reason,
            "Add the key \"calendar\" with the name that the calendar was subscribed under.",
        )
    };
    match keys.get("calendar") {
        None | Some(Value::Null) => Err(invalid("it is missing")),
        Some(Value::String(name)) if name.is_empty() => Err(invalid("it is empty")),
        Some(Value::String(name)) if name.contains('\0') => Err(invalid("it holds a NUL character")),
        Some(Value::String(name)) => Ok(name.clone()),
        Some(_) => Err(invalid("it is not a string")),
    }
}

fn read_items(items: Option<&RawValue>) -> Result<Vec<&RawValue>, InvalidDelta> {
    let invalid = |reason: &str| {
        InvalidDelta::envelope(
            "items",
            reason,
            "Pass the response's \"items\" unchanged; a page in which nothing changed has \"items\": [].",
        )
    };
    let items = items.ok_or_else(|| invalid("it is missing"))?;
    items_of(items, usize::MAX).map_err(|_| invalid("it is not an array"))
}

fn read_time_zone(keys: &Map<String, Value>) -> Result<Option<String>, InvalidDelta> {
    let invalid = |reason: String| {
        InvalidDelta::envelope(
            "timeZone",
            reason,
            "Use an IANA time zone name such as \"Europe/Vienna\", or leave it out.",
        )
    };
    match keys.get("timeZone") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if zone::find(name).is_some() => Ok(Some(name.clone())),
        Some(Value::String(name)) => Err(invalid(format!("unknown zone {}", quoted(name)))),
        Some(_) => Err(invalid("it is not a string".to_owned())),
    }
}

fn read_end(keys: &Map<String, Value>) -> Result<End, InvalidDelta> {
    let next_page = read_token(keys, "nextPageToken")?;
    let successor = read_token(keys, "nextSyncToken")?;
    match (next_page, successor) {
        (Some(next), None) => Ok(End::NextPage(next)),
        (None, Some(successor)) => Ok(End::Complete(successor)),
        (Some(_), Some(_)) => Err(InvalidDelta::envelope(
            "nextPageToken",
            "there is a nextSyncToken too, and only one of them can be true",
            "Keep \"nextPageToken\" while more pages follow, \"nextSyncToken\" on the last page; a response has one of \
             them.",
        )),
        (None, None) => Err(InvalidDelta::envelope(
            "nextSyncToken",
            "it is missing, and so is nextPageToken",
            "Add \"nextPageToken\" where more pages follow, else \"nextSyncToken\". A list ordered by startTime has \
             neither: fetch it without orderBy.",
        )),
    }
}

/// An opaque token; null counts as absent, an empty text as a mistake.
fn read_token(keys: &Map<String, Value>, key: &str) -> Result<Option<String>, InvalidDelta> {
    let invalid = |reason: &str| {
        InvalidDelta::envelope(key, reason, "Pass the token exactly as the provider gave it, or leave the key out.")
    };
    match keys.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(token)) if token.is_empty() => Err(invalid("it is empty")),
        Some(Value::String(token)) if token.contains('\0') => Err(invalid("it holds a NUL character")),
        Some(Value::String(token)) => Ok(Some(token.clone())),
        Some(_) => Err(invalid("it is not a string")),
    }
}

/// The fix for an item, by the field that is wrong.
fn hint_for_item(field: &str) -> &'static str {
    match field.split(['.', '[']).next().unwrap_or_default() {
        _ if field.ends_with("timeZone") => "Use an IANA time zone name such as \"Europe/Vienna\".",
        "item" | "id" => "Pass the event resources unchanged; each is an object with the provider's \"id\".",
        "originalStartTime" => {
            "Give \"originalStartTime\": the start that the occurrence had by its series' rule, as {\"dateTime\": ...} or \
             {\"date\": ...}."
        }
        "start" | "end" => {
            "Give start and end as {\"dateTime\": \"2026-03-02T09:00:00+01:00\", \"timeZone\": \"Europe/Vienna\"} or \
             {\"date\": \"2026-03-02\"}, both of the same kind, the end not before the start."
        }
        "recurringEventId" => {
            "Give an occurrence of a series both \"recurringEventId\" (the series' id) and \"originalStartTime\"."
        }
        "recurrence" => "Give \"recurrence\" as an array of RRULE, EXRULE, RDATE and EXDATE lines (RFC 5545).",
        "status" => "Use \"confirmed\", \"tentative\" or \"cancelled\".",
        _ => "Pass the event resource unchanged, as the provider gave it.",
    }
}
