//! The algebra of busy time: half-open intervals, sets of them, and which statuses hold when.
//!
//! Everything here is generic over the kind of time, so that the properties can be proven on small integers against
//! brute force (`tests/time_interval.rs`).
//!
//! The hard cases, each with a test of the same name:
//! - `touching_intervals_become_one`: 9-10 and 10-11 leave no slot between them
//! - `an_interval_is_never_empty`
//! - `a_status_that_ends_where_another_begins_makes_two_segments`
//! - `overlapping_events_of_one_status_stay_one_segment`

use chrono::{DateTime, Utc};

use crate::busy::{BusyStatus, StatusSet};

/// Half open, `start` included and `end` not, and never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval<T = DateTime<Utc>> {
    start: T,
    end: T,
}

impl<T: Ord + Copy> Interval<T> {
    /// None where it would be empty or run backwards.
    pub fn new(start: T, end: T) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    pub fn start(&self) -> T {
        self.start
    }

    pub fn end(&self) -> T {
        self.end
    }

    /// Do the two share a moment? Touching ones do not.
    pub fn overlaps(&self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The part inside `window`.
    pub fn clip(&self, window: Self) -> Option<Self> {
        Self::new(self.start.max(window.start), self.end.min(window.end))
    }

    pub fn contains(&self, moment: T) -> bool {
        self.start <= moment && moment < self.end
    }
}

/// The same time, as few intervals as possible: sorted, disjoint, touching ones merged.
pub fn coalesce<T: Ord + Copy>(intervals: impl IntoIterator<Item = Interval<T>>) -> Vec<Interval<T>> {
    let mut sorted: Vec<_> = intervals.into_iter().collect();
    sorted.sort_unstable();
    let mut merged: Vec<Interval<T>> = Vec::with_capacity(sorted.len());
    for interval in sorted {
        match merged.last_mut() {
            Some(last) if interval.start <= last.end => last.end = last.end.max(interval.end),
            _ => merged.push(interval),
        }
    }
    merged
}

/// The time that lies in any of these sets, each sorted and disjoint, as [`coalesce`] leaves them; so is the answer.
/// Merged two by two, so that time that many share is soon counted once. `pause` is called before each merger; it may
/// unwind.
pub fn union<T: Ord + Copy>(mut sets: Vec<Vec<Interval<T>>>, pause: fn()) -> Vec<Interval<T>> {
    while sets.len() > 1 {
        let mut fewer = Vec::with_capacity(sets.len().div_ceil(2));
        let mut sets_in_turn = sets.into_iter();
        while let Some(one) = sets_in_turn.next() {
            pause();
            fewer.push(match sets_in_turn.next() {
                Some(other) => union_of_two(one, other),
                None => one,
            });
        }
        sets = fewer;
    }
    sets.pop().unwrap_or_default()
}

fn union_of_two<T: Ord + Copy>(one: Vec<Interval<T>>, other: Vec<Interval<T>>) -> Vec<Interval<T>> {
    if one.is_empty() {
        return other;
    }
    let mut merged: Vec<Interval<T>> = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.into_iter().peekable(), other.into_iter().peekable());
    loop {
        let from_one = match (one.peek(), other.peek()) {
            (Some(left), Some(right)) => left.start <= right.start,
            (left, _) => left.is_some(),
        };
        let Some(next) = (if from_one { one.next() } else { other.next() }) else { return merged };
        match merged.last_mut() {
            Some(last) if next.start <= last.end => last.end = last.end.max(next.end),
            _ => merged.push(next),
        }
    }
}

/// What of `from` lies outside `what`. Both sorted and disjoint, as [`coalesce`] leaves them; so is the answer.
pub fn subtract<T: Ord + Copy>(from: &[Interval<T>], what: &[Interval<T>]) -> Vec<Interval<T>> {
    let mut rest = Vec::with_capacity(from.len());
    let mut passed = 0;
    for interval in from {
        while what.get(passed).is_some_and(|hole| hole.end <= interval.start) {
            passed += 1;
        }
        let mut start = interval.start;
        for hole in what[passed..].iter().take_while(|hole| hole.start < interval.end) {
            rest.extend(Interval::new(start, hole.start));
            start = hole.end;
        }
        rest.extend(Interval::new(start, interval.end));
    }
    rest
}

/// The time that lies in both. Both sorted and disjoint, as [`coalesce`] leaves them; so is the answer.
pub fn intersect<T: Ord + Copy>(a: &[Interval<T>], b: &[Interval<T>]) -> Vec<Interval<T>> {
    let mut common = Vec::new();
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(left), Some(right)) = (a.peek(), b.peek()) {
        common.extend(left.clip(**right));
        if left.end < right.end {
            a.next();
        } else {
            b.next();
        }
    }
    common
}

/// A stretch of time throughout which the same statuses hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Segment<T = DateTime<Utc>> {
    pub interval: Interval<T>,
    pub statuses: StatusSet,
}

/// Partitions time into the longest disjoint segments with a constant, non-empty set of statuses, in order.
pub fn segments<T: Ord + Copy>(events: impl IntoIterator<Item = (Interval<T>, BusyStatus)>) -> Vec<Segment<T>> {
    let mut edges: Vec<(T, BusyStatus, i64)> = Vec::new();
    for (interval, status) in events {
        edges.push((interval.start, status, 1));
        edges.push((interval.end, status, -1));
    }
    edges.sort_unstable();

    let mut segments: Vec<Segment<T>> = Vec::new();
    let mut open = [0_i64; BusyStatus::ALL.len()];
    let mut since: Option<T> = None;
    for (moment, status, step) in edges {
        // Edges of one moment follow each other; the first of them closes the stretch before, the others find it empty.
        if let Some(interval) = since.and_then(|start| Interval::new(start, moment)) {
            append(&mut segments, interval, holding(&open));
        }
        open[status as usize] += step;
        since = Some(moment);
    }
    segments
}

/// The statuses of which at least one event is open.
fn holding(open: &[i64; BusyStatus::ALL.len()]) -> StatusSet {
    BusyStatus::ALL.into_iter().filter(|status| open[*status as usize] > 0).collect()
}

/// Adds the next stretch: nothing where nothing holds, one with the last segment where the same statuses go on.
fn append<T: Ord + Copy>(segments: &mut Vec<Segment<T>>, interval: Interval<T>, statuses: StatusSet) {
    if statuses == StatusSet::EMPTY {
        return;
    }
    match segments.last_mut() {
        Some(last) if last.statuses == statuses && last.interval.end == interval.start => {
            last.interval.end = interval.end;
        }
        _ => segments.push(Segment { interval, statuses }),
    }
}
