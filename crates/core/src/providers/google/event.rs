//! One event resource: what kind of event, when, and does it block its time?
//!
//! The hard cases, each with a test in `tests/google_event.rs`:
//! - a cancelled item is a deleted event or one deleted occurrence; an organizer's full copy of it is never busy
//! - a sparse tombstone is understood by the form of its id
//! - what cannot be understood is named by its field, with the time to block where that at least is readable

use chrono::DateTime;
use chrono_tz::Tz;
use serde_json::Value;

use super::fields::{FieldProblem, Fields};
use super::text::{capped, one_line, storable, storable_json};
use super::{series, when};
use crate::busy::BusyStatus;
use crate::event::{Change, Details, Event, Kind, Span};
use crate::options::{BusyFacts, Options, Store};
use crate::recurrence::{self, Length, Series, Start};

/// The most that is kept of a text, in bytes. Google's own limits are lower; nobody else's need be.
const LONGEST_SUMMARY: usize = 8 * 1024;
const LONGEST_LOCATION: usize = 8 * 1024;
const LONGEST_DESCRIPTION: usize = 64 * 1024;
const LONGEST_WORD: usize = 1024;

/// The most that is shown of why a recurrence line cannot be read, in characters.
const LONGEST_REASON: usize = 200;

/// Why an item could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ItemProblem {
    /// None where the id itself is what is wrong.
    pub event_id: Option<String>,
    /// The field's path within the item, such as `start.dateTime` or `recurrence[1]`; `item` where it is no object.
    pub field: String,
    /// Lower-case words that follow on the field: "it is missing".
    pub reason: String,
    /// The time to block, where it is readable all the same.
    pub span: Option<Span>,
}

/// Reads one item of an events list, as given with `singleEvents=false`.
///
/// What is kept follows `options.store`; NUL characters are dropped, since Postgres cannot store them, and texts are
/// cut at lengths beyond anybody's needs.
pub fn read_item(item: &Value, options: &Options) -> Result<Change, ItemProblem> {
    let problem = |event_id: Option<&str>, wrong: FieldProblem, span: Option<Span>| ItemProblem {
        event_id: event_id.map(str::to_owned),
        field: wrong.field,
        reason: wrong.reason,
        span,
    };
    let Some(fields) = Fields::of(item) else {
        return Err(problem(None, FieldProblem::new("item", "it is not an object"), None));
    };
    let refused = |id: Option<&str>, wrong| problem(id, wrong, when::span_despite_problem(fields));
    let id = fields.id("id").and_then(|id| id.ok_or_else(|| FieldProblem::new("id", "it is missing")));
    let id = id.map_err(|wrong| refused(None, wrong))?;
    read_change(fields, id, item, options).map_err(|wrong| refused(Some(id), wrong))
}

/// An item that could not be understood, as an event that blocks its time where that is readable. It carries the reason
/// and the item as given, where the subscription's option `store` does not say `busy_only`: then only which field it was,
/// for a reason may quote what is in the field.
pub fn unreadable(item: &Value, problem: ItemProblem, options: &Options) -> Event {
    let busy_only = options.store == Store::BusyOnly;
    let flag = match busy_only {
        true => format!("{}: it cannot be read; the option store keeps no more of it", problem.field),
        false => problem.to_string(),
    };
    Event {
        event_id: problem.event_id.unwrap_or_else(|| id_of_nameless(item)),
        kind: Kind::Unreadable { span: problem.span },
        busy_status: BusyStatus::Busy,
        problem: Some(flag),
        details: Details {
            status: "confirmed".to_owned(),
            provider_updated_at: Fields::of(item)
                .and_then(|fields| when::read_instant(fields, "updated").ok().flatten()),
            raw: (!busy_only).then(|| storable_json(item)),
            ..Details::default()
        },
    }
}

/// The same item always gets the same id, so that a page applied twice keeps it once (FNV-1a, 128 bits).
fn id_of_nameless(item: &Value) -> String {
    let hash = item.to_string().bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b)
    });
    format!("unreadable:{hash:032x}")
}

fn read_change(fields: Fields<'_>, id: &str, item: &Value, options: &Options) -> Result<Change, FieldProblem> {
    let status = read_status(fields)?;
    if status == "cancelled" {
        let Some(of) = series::deleted_occurrence(fields, id)? else {
            return Ok(Change::Delete { event_id: id.to_owned() });
        };
        let details = read_details(fields, item, status, options)?;
        return Ok(put(id, Kind::Tombstone(of), BusyStatus::Free, details));
    }
    let kind = read_kind(fields, id)?;
    let details = read_details(fields, item, status, options)?;
    let busy_status = options.busy.status(&BusyFacts {
        status,
        transparency: details.transparency.as_deref(),
        event_type: details.event_type.as_deref(),
        self_response: details.response_status.as_deref(),
    });
    Ok(put(id, kind, busy_status, details))
}

fn put(id: &str, kind: Kind, busy_status: BusyStatus, details: Details) -> Change {
    Change::Put(Box::new(Event { event_id: id.to_owned(), kind, busy_status, problem: None, details }))
}

fn read_status(fields: Fields<'_>) -> Result<&str, FieldProblem> {
    match fields.text("status")? {
        None => Ok("confirmed"),
        Some(status @ ("confirmed" | "tentative" | "cancelled")) => Ok(status),
        Some(_) => Err(FieldProblem::new("status", "it is none of confirmed, tentative, cancelled")),
    }
}

fn read_kind(fields: Fields<'_>, id: &str) -> Result<Kind, FieldProblem> {
    let span = when::read_span(fields)?;
    if let Some(of) = series::replaced_occurrence(fields, id)? {
        return Ok(Kind::Exception { of, span });
    }
    let recurrence = read_recurrence(fields)?;
    Ok(if recurrence.is_empty() { Kind::Single(span) } else { Kind::Master { span, recurrence } })
}

fn read_recurrence(fields: Fields<'_>) -> Result<Vec<String>, FieldProblem> {
    let lines = fields.list("recurrence")?.iter().enumerate();
    let read = |(index, line): (usize, &Value)| {
        let Some(line) = line.as_str() else { return Err((index, "it is not a string".to_owned())) };
        let line = storable(line);
        check_recurrence_line(&line).map(|()| line).map_err(|reason| (index, reason))
    };
    lines
        .map(read)
        .collect::<Result<_, _>>()
        .map_err(|(index, reason)| FieldProblem::new(format!("recurrence[{index}]"), one_line(&reason, LONGEST_REASON)))
}

/// Can the line be read? Whether it yields too much to expand shows only against a window.
fn check_recurrence_line(line: &str) -> Result<(), String> {
    if !is_recurrence_line(line) {
        return Err("it begins with none of RRULE, EXRULE, RDATE, EXDATE".to_owned());
    }
    // How a line reads does not depend on where its series begins.
    let anywhere = Start::Timed { at: DateTime::UNIX_EPOCH, zone: Tz::UTC };
    match Series::read(anywhere, Length::default(), &[line]) {
        Ok(_) => Ok(()),
        Err(recurrence::Problem::Unreadable { column, why, .. }) => Err(format!("column {column}: {why}")),
        Err(other) => Err(other.to_string()),
    }
}

fn is_recurrence_line(line: &str) -> bool {
    let name = line.split([':', ';']).next().unwrap_or_default();
    name.len() < line.len()
        && ["RRULE", "EXRULE", "RDATE", "EXDATE"].iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn read_details(fields: Fields<'_>, item: &Value, status: &str, options: &Options) -> Result<Details, FieldProblem> {
    let kept = |name: &str, limit: usize| Ok(fields.text(name)?.map(|text| capped(text, limit)));
    let mut details = Details {
        ical_uid: kept("iCalUID", LONGEST_WORD)?,
        etag: kept("etag", LONGEST_WORD)?,
        sequence: fields.whole_number("sequence")?,
        status: status.to_owned(),
        transparency: kept("transparency", LONGEST_WORD)?,
        event_type: kept("eventType", LONGEST_WORD)?,
        response_status: read_self_response(fields)?.map(|response| capped(response, LONGEST_WORD)),
        provider_updated_at: when::read_instant(fields, "updated")?,
        ..Details::default()
    };
    if options.store != Store::BusyOnly {
        details.summary = kept("summary", LONGEST_SUMMARY)?;
        details.description = kept("description", LONGEST_DESCRIPTION)?;
        details.location = kept("location", LONGEST_LOCATION)?;
        details.visibility = kept("visibility", LONGEST_WORD)?;
    }
    if options.store == Store::Full {
        details.raw = Some(storable_json(item));
    }
    Ok(details)
}

/// What the calendar itself has answered: the `responseStatus` of the attendee who is `self`.
fn read_self_response(fields: Fields<'_>) -> Result<Option<&str>, FieldProblem> {
    let mut answer = None;
    for (index, attendee) in fields.list("attendees")?.iter().enumerate() {
        let place = format!("attendees[{index}]");
        let attendee = Fields::of(attendee).ok_or_else(|| FieldProblem::new(place.as_str(), "it is not an object"))?;
        let is_self = attendee.flag("self").map_err(|problem| problem.within(&place))?;
        let response = attendee.text("responseStatus").map_err(|problem| problem.within(&place))?;
        if is_self && answer.is_none() {
            answer = response;
        }
    }
    Ok(answer)
}
