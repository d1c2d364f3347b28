//! The model: one event as a provider gives it, in the words of RFC 5545 and of Google's API.
//!
//! An [`Event`] is what `calsync.event` stores, one row an event; its JSON form has the table's column names.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::busy::BusyStatus;

/// When something takes place. Half open: it ends before `ends`/`end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Span {
    /// Two instants. `zone` is the zone the event was made in (an IANA name as the provider spells it): recurrence is
    /// expanded there. None: the calendar's zone.
    Timed { starts_at: DateTime<Utc>, ends_at: DateTime<Utc>, zone: Option<String> },
    /// Whole local days of the calendar's zone, whichever that is when it is asked (RFC 5545 §3.3.4, DATE).
    AllDay { start: NaiveDate, end: NaiveDate },
}

/// Which occurrence of its series an exception stands for (RFC 5545 RECURRENCE-ID, Google `originalStartTime`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OriginalStart {
    At(DateTime<Utc>),
    On(NaiveDate),
}

/// The occurrence of a series: its master's id, and which one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OccurrenceOf {
    pub master: String,
    pub original: OriginalStart,
}

/// What kind of resource this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Single(Span),
    /// A recurring event. `recurrence`: its RRULE, EXRULE, RDATE and EXDATE lines, as given.
    Master {
        span: Span,
        recurrence: Vec<String>,
    },
    /// One occurrence of a series that was edited.
    Exception {
        of: OccurrenceOf,
        span: Span,
    },
    /// One occurrence of a series that was deleted. Kept while its master lives: it is what vacates the slot.
    Tombstone(OccurrenceOf),
    /// Could not be understood; see [`Event::problem`]. `span` where its times at least are readable: then it blocks
    /// them, for a cache must never answer "free" out of ignorance.
    Unreadable {
        span: Option<Span>,
    },
}

/// An event to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub event_id: String,
    pub kind: Kind,
    pub busy_status: BusyStatus,
    /// Why the event could not be understood, in words for the operator: field and reason. Set on `Unreadable`, and on
    /// a series whose rule cannot be expanded.
    pub problem: Option<String>,
    pub details: Details,
}

/// What is kept of an event besides its times and what decides busy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Details {
    pub ical_uid: Option<String>,
    pub etag: Option<String>,
    pub sequence: Option<i32>,
    /// `confirmed`, `tentative` or `cancelled`.
    pub status: String,
    pub summary: Option<String>,
    pub description: Option<String>,
    pub location: Option<String>,
    pub transparency: Option<String>,
    pub visibility: Option<String>,
    pub event_type: Option<String>,
    pub response_status: Option<String>,
    pub provider_updated_at: Option<DateTime<Utc>>,
    /// The resource as the provider gave it, where the subscription's option `store` is `full`, or it is unreadable and
    /// that is not `busy_only`.
    pub raw: Option<serde_json::Value>,
}

/// One item of a delta, read.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// This is how the event is now.
    Put(Box<Event>),
    /// The event is gone; where it was a series, with all its exceptions.
    Delete { event_id: String },
}

impl Change {
    pub fn event_id(&self) -> &str {
        match self {
            Change::Put(event) => &event.event_id,
            Change::Delete { event_id } => event_id,
        }
    }
}
