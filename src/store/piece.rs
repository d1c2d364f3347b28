//! Occurrences on their way into statements: piece by piece, so that memory is bounded by their number and not by that of
//! their events, nor by how long an id is.

use calsync_core::expansion::occurrences;
use calsync_core::interval::Interval;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};

use super::busy::Hull;
use super::plan::forgetting;
use super::stored::Stored;
use super::subscription::Subscription;
use super::time;
use crate::error::Error;

/// Occurrences handled by one statement, and the bytes of their ids, one for each: what bounds memory.
const ROWS: usize = 20_000;
const BYTES: usize = 4 * 1024 * 1024;

/// Occurrences of some events, column by column, as SQL takes them.
#[derive(Default)]
pub(super) struct Piece<'a> {
    /// The events that it says something of, also those without occurrences.
    events: Vec<&'a str>,
    event_ids: Vec<&'a str>,
    starts: Vec<TimestampWithTimeZone>,
    ends: Vec<TimestampWithTimeZone>,
    statuses: Vec<&'static str>,
    /// Which occurrences of its one event these are all of, by start; None: these are all that its events have.
    part: Option<[TimestampWithTimeZone; 2]>,
    /// The bytes of all ids.
    bytes: usize,
    /// The window that holds them all.
    reach: Hull,
}

impl<'a> Piece<'a> {
    /// Of events that have no occurrences, so far.
    pub fn of(events: &'a [String]) -> Self {
        Piece { events: events.iter().map(String::as_str).collect(), ..Piece::default() }
    }

    fn add(&mut self, event: &'a Stored, intervals: &[Interval]) -> Result<(), Error> {
        self.events.push(&event.event_id);
        self.bytes += event.event_id.len() * intervals.len();
        for interval in intervals {
            self.event_ids.push(&event.event_id);
            self.starts.push(time::timestamp(interval.start())?);
            self.ends.push(time::timestamp(interval.end())?);
            self.statuses.push(event.busy_status.label());
            self.reach.include(time::micros(interval.start()), time::micros(interval.end()));
        }
        Ok(())
    }

    fn has_room_for(&self, event: &Stored, occurrences: usize) -> bool {
        self.starts.len() + occurrences <= ROWS && self.bytes + event.event_id.len() * occurrences <= BYTES
    }

    /// How many occurrences it has.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    pub fn reach(&self) -> Hull {
        self.reach
    }

    pub fn is_part(&self) -> bool {
        self.part.is_some()
    }

    /// $1 to $8. For [`FRESH_ROWS`], and: its events, and the starts, from and until, of which it says everything.
    pub fn arguments(&self, subscription: i64) -> [DatumWithOid<'a>; 8] {
        let [from, until] = self
            .part
            .unwrap_or([TimestampWithTimeZone::negative_infinity(), TimestampWithTimeZone::positive_infinity()]);
        [
            subscription.into(),
            self.event_ids.clone().into(),
            self.starts.clone().into(),
            self.ends.clone().into(),
            self.statuses.clone().into(),
            self.events.clone().into(),
            from.into(),
            until.into(),
        ]
    }
}

/// Hands the occurrences of these events to `with`, piece by piece; of those that are gone there are none. Returns
/// (event, why its rule could not be expanded).
pub(super) fn expand(
    subscription: &Subscription,
    gone: &[String],
    events: &[Stored],
    window: Interval,
    mut with: impl FnMut(&Piece) -> Result<(), Error>,
) -> Result<Vec<(String, String)>, Error> {
    let zone = subscription.zone()?;
    let store = subscription.options()?.store;
    let mut with = |piece: &Piece| forgetting(|| with(piece));
    let mut problems = Vec::new();
    let mut piece = Piece::of(gone);
    for event in events {
        let expansion = occurrences(&event.kind, &event.vacated, window, zone);
        problems.extend(expansion.problem.map(|problem| (event.event_id.clone(), problem.kept(store))));
        let intervals = expansion.intervals;
        if !Piece::default().has_room_for(event, intervals.len()) {
            in_parts(event, &intervals, &mut with)?;
            continue;
        }
        if !piece.has_room_for(event, intervals.len()) {
            with(&std::mem::take(&mut piece))?;
        }
        piece.add(event, &intervals)?;
    }
    if !piece.events.is_empty() {
        with(&piece)?;
    }
    Ok(problems)
}

/// One event that has more occurrences than a piece holds; each start once, in order.
fn in_parts(
    event: &Stored,
    intervals: &[Interval],
    with: &mut impl FnMut(&Piece) -> Result<(), Error>,
) -> Result<(), Error> {
    let most = (BYTES / event.event_id.len().max(1)).clamp(1, ROWS);
    let mut from = TimestampWithTimeZone::negative_infinity();
    let mut left = intervals;
    while !left.is_empty() {
        let (these, rest) = left.split_at(left.len().min(most));
        let until = match rest.first() {
            Some(next) => time::timestamp(next.start())?,
            None => TimestampWithTimeZone::positive_infinity(),
        };
        let mut piece = Piece { part: Some([from, until]), ..Piece::default() };
        piece.add(event, these)?;
        with(&piece)?;
        (from, left) = (until, rest);
    }
    Ok(())
}

/// The arguments $2 to $5.
macro_rules! fresh {
    () => {
        "unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[]) \
         AS fresh (event_id, starts_at, ends_at, busy_status)"
    };
}

pub(super) use fresh;

/// What is expanded, given as the arguments $2 to $5, as rows to select from.
pub(super) const FRESH_ROWS: &str = concat!("(SELECT * FROM ", fresh!(), ")");
