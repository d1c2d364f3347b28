//! "This and all following": an override with `RANGE=THISANDFUTURE` (RFC 5545 §3.2.13, §3.8.4.4).
//!
//! "When the given recurrence instance is rescheduled, all subsequent instances are also rescheduled by the same time
//! difference", on the clock of the wall, and "modified to have this same duration". An edit holds until the next one;
//! each is counted from the times that the series would have without any.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use super::Start;
use super::moment::Length;
use crate::event::{OriginalStart, Span};
use crate::zone::Zone;

/// An override of one occurrence and all that follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromThenOn {
    /// RECURRENCE-ID: the first occurrence it is for.
    pub original: OriginalStart,
    /// When that occurrence takes place instead.
    pub span: Span,
}

/// The same, as a series applies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edit {
    /// Original starts from here on.
    pub from: DateTime<Utc>,
    /// By the clock on the wall.
    pub shift: TimeDelta,
    pub length: Length,
}

impl Edit {
    pub fn new(edit: &FromThenOn, start: &Start<Zone>) -> Self {
        let zone = start.zone();
        let (from, local) = match (&edit.original, start) {
            (OriginalStart::On(date), Start::AllDay { .. }) => {
                (zone.midnight(*date), date.and_time(Default::default()))
            }
            (OriginalStart::At(at), Start::AllDay { .. }) => {
                let date = zone.local(*at).date();
                (zone.midnight(date), date.and_time(Default::default()))
            }
            // A date names the occurrence of that day, which takes place at DTSTART's time.
            (OriginalStart::On(date), _) => (zone.midnight(*date), date.and_time(start.local().time())),
            (OriginalStart::At(at), _) => (*at, zone.local(*at)),
        };
        let (moved, length) = match &edit.span {
            Span::Timed { starts_at, ends_at, .. } => (zone.local(*starts_at), Length::exact(*ends_at - *starts_at)),
            Span::AllDay { start, end } => {
                let days = u32::try_from((*end - *start).num_days()).unwrap_or(1).max(1);
                (start.and_time(Default::default()), Length::days(days))
            }
        };
        Self { from, shift: moved - local, length }
    }

    pub fn moved(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        local.checked_add_signed(self.shift)
    }
}
