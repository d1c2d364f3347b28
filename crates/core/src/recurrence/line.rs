//! One line of a series, `NAME;PARAMETER=value:values` (RFC 5545 §3.1, §3.8.5).

use chrono::NaiveDateTime;

use super::definition::Definitions;
use super::moment::{Length, Moment};
use super::problem::{Problem, UnknownListZone};
use super::rule::Rule;
use super::text::Piece;
use crate::zone::Zone;

/// What a line says.
#[derive(Debug)]
pub(super) enum Line {
    Rule(Rule),
    /// EXRULE: RFC 5545 dropped it, old calendars still have it. What this rule yields does not take place.
    ExRule(Rule),
    RDate(Dates<Entry>),
    ExDate(Dates<Moment>),
    /// Nothing: a blank line, or a private `X-` property.
    Nothing,
}

/// A list of dates or times, and the zone in which its local times are meant.
#[derive(Debug)]
pub(super) struct Dates<T> {
    pub zone: ListZone,
    pub entries: Vec<T>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ListZone {
    /// No TZID: the event's zone.
    Events,
    Named(Zone),
    /// A TZID that nobody knows: the event's zone as well, with a warning.
    Unknown(UnknownListZone),
}

/// One additional occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub start: Moment,
    /// Where the entry is a PERIOD, when it ends; else it lasts as long as the others.
    pub end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    At(Moment),
    After(Length),
}

impl Line {
    pub fn read(line: Piece, definitions: &Definitions) -> Result<Self, Problem> {
        if line.text.is_empty() {
            return Ok(Self::Nothing);
        }
        let (head, value) = line.split_once(':').ok_or_else(|| line.is_not("a property such as RRULE:FREQ=DAILY"))?;
        let mut parts = head.split(';');
        let name = parts.next().unwrap_or(head);
        match name.text.to_ascii_uppercase().as_str() {
            "RRULE" => Ok(Self::Rule(Rule::read(value)?)),
            "EXRULE" => Ok(Self::ExRule(Rule::read(value)?)),
            "RDATE" => Ok(Self::RDate(dates(parts, value, definitions, entry)?)),
            "EXDATE" => Ok(Self::ExDate(dates(parts, value, definitions, Moment::read)?)),
            other if other.starts_with("X-") => Ok(Self::Nothing),
            _ => Err(name.is_not("RRULE, EXRULE, RDATE or EXDATE")),
        }
    }
}

/// VALUE=DATE and VALUE=PERIOD are not asked about: the form of each entry tells, also where the parameter is wrong.
fn dates<'a, T>(
    parameters: impl Iterator<Item = Piece<'a>>,
    values: Piece<'a>,
    definitions: &Definitions,
    read: impl Fn(Piece<'a>) -> Result<T, Problem>,
) -> Result<Dates<T>, Problem> {
    let mut zone = ListZone::Events;
    for (name, value) in parameters.filter_map(|parameter| parameter.split_once('=')) {
        if name.is("TZID") {
            zone = list_zone(value, definitions);
        }
    }
    let entries = values.split(',').filter(|value| !value.text.is_empty()).map(read).collect::<Result<_, _>>()?;
    Ok(Dates { zone, entries })
}

fn list_zone(name: Piece, definitions: &Definitions) -> ListZone {
    let unknown = |because: String| {
        let (line, column) = (name.line, name.column);
        let name = name.text.trim_matches('"').to_owned();
        ListZone::Unknown(UnknownListZone { line, column, name, because })
    };
    match definitions.zone(name.text) {
        Some(Ok(zone)) => ListZone::Named(zone),
        Some(Err(problem)) => unknown(format!(" ({problem})")),
        None => unknown(String::new()),
    }
}

fn entry(piece: Piece) -> Result<Entry, Problem> {
    let Some((start, end)) = piece.split_once('/') else {
        return Ok(Entry { start: Moment::read(piece)?, end: None });
    };
    let end = match end.text.starts_with(['P', 'p', '+']) {
        true => End::After(Length::read(end)?),
        false => End::At(Moment::read(end)?),
    };
    Ok(Entry { start: Moment::read(start)?, end: Some(end) })
}

impl ListZone {
    pub fn or(self, events: &Zone) -> Zone {
        match self {
            Self::Named(zone) => zone,
            Self::Events | Self::Unknown(_) => events.clone(),
        }
    }
}

/// A moment of a list as local time in the event's zone.
pub(super) fn local_in(moment: Moment, list: &Zone, event: &Zone) -> Option<NaiveDateTime> {
    moment.instant(list).map(|instant| event.local(instant))
}
