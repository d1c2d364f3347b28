//! A zone that a series may recur in: one of the database, or one that only its calendar defines.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;

/// Where local times are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zone {
    /// Of the database.
    Known(Tz),
    /// As a VTIMEZONE defines it; see [`crate::recurrence::Definitions`].
    Defined(Arc<Offsets>),
}

impl From<Tz> for Zone {
    fn from(zone: Tz) -> Self {
        Self::Known(zone)
    }
}

impl Zone {
    /// As [`super::instant`]: forward in a gap, the first of two.
    pub fn instant(&self, local: NaiveDateTime) -> DateTime<Utc> {
        match self {
            Self::Known(zone) => super::instant(local, *zone),
            Self::Defined(offsets) => offsets.instant(local),
        }
    }

    /// As [`super::local`]: what the clock on the wall shows.
    pub fn local(&self, instant: DateTime<Utc>) -> NaiveDateTime {
        match self {
            Self::Known(zone) => super::local(instant, *zone),
            Self::Defined(offsets) => offsets.local(instant),
        }
    }

    /// As [`super::midnight`]: when the day begins, after the gap where there is one.
    pub fn midnight(&self, date: NaiveDate) -> DateTime<Utc> {
        match self {
            Self::Known(zone) => super::midnight(date, *zone),
            Self::Defined(offsets) => offsets.midnight(date),
        }
    }
}

/// Distances from UTC, and when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offsets {
    /// Until the first change, east of Greenwich.
    first: TimeDelta,
    /// By instant; each really changes the clocks.
    changes: Vec<Change>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    at: DateTime<Utc>,
    before: TimeDelta,
    after: TimeDelta,
}

impl Change {
    /// Until the clock on the wall shows this, a local time is that of the clocks before: the first of two, and one in
    /// the gap as if they had not yet changed (RFC 5545 §3.3.5).
    fn passed_at(&self) -> NaiveDateTime {
        shifted(self.at.naive_utc(), self.before.max(self.after))
    }
}

impl Offsets {
    /// `first` until the first of the onsets, from each of these on its offset.
    pub fn new(first: TimeDelta, mut onsets: Vec<(DateTime<Utc>, TimeDelta)>) -> Self {
        onsets.sort_unstable();
        let mut changes: Vec<Change> = Vec::new();
        for (at, after) in onsets {
            let before = changes.last().map_or(first, |change| change.after);
            if before != after {
                changes.push(Change { at, before, after });
            }
        }
        Self { first, changes }
    }

    /// In force before the change with this index.
    fn before(&self, index: usize) -> TimeDelta {
        self.changes
            .get(index)
            .map_or_else(|| self.changes.last().map_or(self.first, |last| last.after), |next| next.before)
    }

    fn instant(&self, local: NaiveDateTime) -> DateTime<Utc> {
        let next = self.changes.partition_point(|change| change.passed_at() <= local);
        shifted(local, -self.before(next)).and_utc()
    }

    fn local(&self, instant: DateTime<Utc>) -> NaiveDateTime {
        let next = self.changes.partition_point(|change| change.at <= instant);
        shifted(instant.naive_utc(), self.before(next))
    }

    fn midnight(&self, date: NaiveDate) -> DateTime<Utc> {
        let local = date.and_time(NaiveTime::MIN);
        let next = self.changes.get(self.changes.partition_point(|change| change.passed_at() <= local));
        let in_gap =
            |change: &&Change| change.before < change.after && shifted(change.at.naive_utc(), change.before) <= local;
        next.filter(in_gap).map_or_else(|| self.instant(local), |change| change.at)
    }
}

/// At the very ends of time, where the sum cannot be written, unshifted.
fn shifted(time: NaiveDateTime, by: TimeDelta) -> NaiveDateTime {
    time.checked_add_signed(by).unwrap_or(time)
}
