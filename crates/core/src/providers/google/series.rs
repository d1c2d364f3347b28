//! To which series does an occurrence belong? By its fields, or where these are missing by the form of its id:
//! `<master>_YYYYMMDDTHHMMSSZ`, all-day `<master>_YYYYMMDD`.
//!
//! Not to be confused with `<id>_R20250327T123000`, the master that a "this and following" edit makes.

use chrono::{NaiveDate, NaiveDateTime};

use super::fields::{FieldProblem, Fields};
use super::when::read_original_start;
use crate::event::{OccurrenceOf, OriginalStart};

/// The master's id and which of its occurrences this id names, where it has the form of an occurrence's id.
pub fn split_occurrence_id(id: &str) -> Option<(&str, OriginalStart)> {
    let (master, stamp) = id.rsplit_once('_')?;
    let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let original = match stamp.split_once('T') {
        None if stamp.len() == 8 && digits_only(stamp) => {
            OriginalStart::On(NaiveDate::parse_from_str(stamp, "%Y%m%d").ok()?)
        }
        Some((date, time)) if stamp.len() == 16 && digits_only(date) && digits_only(time.strip_suffix('Z')?) => {
            OriginalStart::At(NaiveDateTime::parse_from_str(stamp, "%Y%m%dT%H%M%SZ").ok()?.and_utc())
        }
        _ => return None,
    };
    (!master.is_empty()).then_some((master, original))
}

/// Has this id the form of an occurrence's id?
pub fn is_occurrence_id(id: &str) -> bool {
    split_occurrence_id(id).is_some()
}

/// The occurrence that a cancelled item deletes; None where it deletes a whole event.
///
/// Sparse tombstones may lack `recurringEventId`, `originalStartTime` or both: then the id tells.
pub(super) fn deleted_occurrence(item: Fields<'_>, id: &str) -> Result<Option<OccurrenceOf>, FieldProblem> {
    if item.get("recurringEventId").is_none() && !is_occurrence_id(id) {
        return Ok(None);
    }
    read_occurrence(item, id).map(Some)
}

/// The occurrence that an item with times replaces; None where it is an event of its own.
pub(super) fn replaced_occurrence(item: Fields<'_>, id: &str) -> Result<Option<OccurrenceOf>, FieldProblem> {
    if item.get("recurringEventId").is_none() && item.get("originalStartTime").is_none() {
        return Ok(None);
    }
    read_occurrence(item, id).map(Some)
}

fn read_occurrence(item: Fields<'_>, id: &str) -> Result<OccurrenceOf, FieldProblem> {
    let by_id = split_occurrence_id(id);
    let master = item.id("recurringEventId")?.or(by_id.as_ref().map(|(master, _)| *master));
    let original = read_original_start(item)?.or(by_id.map(|(_, original)| original));
    match (master, original) {
        (Some(master), _) if master == id => Err(FieldProblem::new("recurringEventId", "it names the item itself")),
        (Some(master), Some(original)) => Ok(OccurrenceOf { master: master.to_owned(), original }),
        (None, _) => Err(FieldProblem::new("recurringEventId", "it is missing, and the id does not name the series")),
        (_, None) => Err(FieldProblem::new("originalStartTime", "it is missing, and the id does not name the time")),
    }
}
