//! An event as a row of `calsync.event`: flat, as the tables and the staging area hold it.

use chrono::{DateTime, NaiveDate, Utc};

use crate::busy::BusyStatus;
use crate::event::{Change, Details, Event, Kind, OccurrenceOf, OriginalStart, Span};
use crate::providers::google::series::split_occurrence_id;

/// One row, without its `subscription_id`.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    pub event_id: String,
    pub kind: RowKind,
    pub busy_status: BusyStatus,
    pub starts_at: Option<DateTime<Utc>>,
    pub ends_at: Option<DateTime<Utc>>,
    pub start_date: Option<NaiveDate>,
    pub end_date: Option<NaiveDate>,
    pub time_zone: Option<String>,
    pub recurrence: Option<Vec<String>>,
    pub recurring_event_id: Option<String>,
    pub original_start: Option<DateTime<Utc>>,
    pub original_start_date: Option<NaiveDate>,
    pub problem: Option<String>,
    pub details: Details,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    Single,
    Master,
    Exception,
    Tombstone,
    Unreadable,
}

impl RowKind {
    pub const ALL: [Self; 5] = [Self::Single, Self::Master, Self::Exception, Self::Tombstone, Self::Unreadable];

    pub fn label(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Master => "master",
            Self::Exception => "exception",
            Self::Tombstone => "tombstone",
            Self::Unreadable => "unreadable",
        }
    }

    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }
}

/// The columns that say when a row takes place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Times {
    pub starts_at: Option<DateTime<Utc>>,
    pub ends_at: Option<DateTime<Utc>>,
    pub start_date: Option<NaiveDate>,
    pub end_date: Option<NaiveDate>,
    pub time_zone: Option<String>,
}

impl Times {
    /// None where the row has no times, or half of them.
    pub fn span(self) -> Option<Span> {
        match self {
            Times { starts_at: Some(starts_at), ends_at: Some(ends_at), time_zone, .. } => {
                Some(Span::Timed { starts_at, ends_at, zone: time_zone })
            }
            Times { start_date: Some(start), end_date: Some(end), .. } => Some(Span::AllDay { start, end }),
            _ => None,
        }
    }
}

impl From<Option<Span>> for Times {
    fn from(span: Option<Span>) -> Self {
        match span {
            None => Times::default(),
            Some(Span::Timed { starts_at, ends_at, zone }) => {
                Times { starts_at: Some(starts_at), ends_at: Some(ends_at), time_zone: zone, ..Times::default() }
            }
            Some(Span::AllDay { start, end }) => {
                Times { start_date: Some(start), end_date: Some(end), ..Times::default() }
            }
        }
    }
}

/// The instant or the date, as the two columns hold it.
pub fn original_start(at: Option<DateTime<Utc>>, on: Option<NaiveDate>) -> Option<OriginalStart> {
    at.map(OriginalStart::At).or(on.map(OriginalStart::On))
}

/// What a row needs to be expanded. `None`: the row contradicts itself, as no row of ours does.
pub fn kind(kind: RowKind, times: Times, recurrence: Option<Vec<String>>, of: Option<OccurrenceOf>) -> Option<Kind> {
    let span = times.span();
    Some(match kind {
        RowKind::Single => Kind::Single(span?),
        RowKind::Master => Kind::Master { span: span?, recurrence: recurrence? },
        RowKind::Exception => Kind::Exception { of: of?, span: span? },
        RowKind::Tombstone => Kind::Tombstone(of?),
        RowKind::Unreadable => Kind::Unreadable { span },
    })
}

impl From<Event> for EventRow {
    fn from(event: Event) -> Self {
        let (kind, span, recurrence, of) = match event.kind {
            Kind::Single(span) => (RowKind::Single, Some(span), None, None),
            Kind::Master { span, recurrence } => (RowKind::Master, Some(span), Some(recurrence), None),
            Kind::Exception { of, span } => (RowKind::Exception, Some(span), None, Some(of)),
            Kind::Tombstone(of) => (RowKind::Tombstone, None, None, Some(of)),
            Kind::Unreadable { span } => (RowKind::Unreadable, span, None, None),
        };
        let times = Times::from(span);
        let (mut recurring_event_id, original) = of.map(|of| (of.master, of.original)).unzip();
        if kind == RowKind::Unreadable {
            // It goes when its series goes. Which slot it stands for is not trusted, so it vacates none.
            recurring_event_id = split_occurrence_id(&event.event_id).map(|(master, _)| master.to_owned());
        }
        let (original_start, original_start_date) = match original {
            Some(OriginalStart::At(at)) => (Some(at), None),
            Some(OriginalStart::On(on)) => (None, Some(on)),
            None => (None, None),
        };
        EventRow {
            event_id: event.event_id,
            kind,
            busy_status: event.busy_status,
            starts_at: times.starts_at,
            ends_at: times.ends_at,
            start_date: times.start_date,
            end_date: times.end_date,
            time_zone: times.time_zone,
            recurrence,
            recurring_event_id,
            original_start,
            original_start_date,
            problem: event.problem,
            details: event.details,
        }
    }
}

/// A [`Change`] as it is staged and merged.
#[derive(Debug, Clone, PartialEq)]
pub enum RowChange {
    Put(Box<EventRow>),
    Delete { event_id: String },
}

impl From<Change> for RowChange {
    fn from(change: Change) -> Self {
        match change {
            Change::Put(event) => RowChange::Put(Box::new(EventRow::from(*event))),
            Change::Delete { event_id } => RowChange::Delete { event_id },
        }
    }
}
