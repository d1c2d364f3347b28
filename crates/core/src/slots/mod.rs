//! Which meetings could be held: slots of one set of calendars, and of groups of which enough must be free.
//!
//! A slot is known by its start, so everything is turned into starts first: open time into the starts at which the
//! meeting ends in time, busy time into the starts at which the meeting, with its buffers, would meet it. What is left
//! is the algebra of [`crate::interval`], and each [`Grid`] boundary in what is left is a slot.
//!
//! The hard cases, each with a test of the same name in `tests/slot_planning.rs`:
//! - `slots_begin_on_the_zones_own_half_hours`: Kolkata is 5:30 from Greenwich
//! - `a_gap_that_is_exactly_as_long_as_the_meeting_is_a_slot` and `with_buffers_a_touching_meeting_is_too_near`
//! - `a_buffer_may_lie_outside_of_the_hours_and_of_the_window`
//! - `an_hour_that_occurs_twice_has_slots_twice`, `an_hour_that_is_skipped_has_none`

mod grid;
mod group;

use std::iter::FusedIterator;

use chrono::{DateTime, TimeDelta, Utc};

use crate::interval::{Interval, coalesce, subtract};
use crate::invalid::Invalid;

pub use grid::Grid;
pub use group::{GroupSlots, Groups};

/// The smallest difference of two instants that Postgres can tell apart.
const TICK: TimeDelta = TimeDelta::microseconds(1);

/// How long it lasts, and how long before and after it nothing else may take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meeting {
    duration: TimeDelta,
    before: TimeDelta,
    after: TimeDelta,
}

impl Meeting {
    pub fn new(duration: TimeDelta, before: TimeDelta, after: TimeDelta) -> Result<Self, Invalid> {
        if duration <= TimeDelta::zero() {
            let hint = "Say how long the meeting lasts, as in '30 min'.";
            return Err(Invalid::new("duration must be longer than nothing", hint));
        }
        for (buffer, name) in [(before, "buffer_before"), (after, "buffer_after")] {
            if buffer < TimeDelta::zero() {
                let message = format!("{name} must not be negative");
                return Err(Invalid::new(message, "Say how much free time to keep, as in '10 min', or '0'."));
            }
        }
        Ok(Self { duration, before, after })
    }

    /// The time that must be known to tell whether a meeting in `window` is possible.
    pub fn reach(&self, window: Interval) -> Interval {
        let start = window.start().checked_sub_signed(self.before).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let end = window.end().checked_add_signed(self.after).unwrap_or(DateTime::<Utc>::MAX_UTC);
        Interval::new(start, end).unwrap_or(window)
    }

    /// The starts at which it lies inside one of these.
    fn starts_inside(&self, open: &[Interval]) -> Vec<Interval> {
        let starts = open.iter().filter_map(|open| {
            let last = open.end().checked_sub_signed(self.duration)?;
            Interval::new(open.start(), last.checked_add_signed(TICK)?)
        });
        starts.collect()
    }

    /// The starts at which it, or a buffer of it, would meet one of these.
    fn starts_against(&self, busy: &[Interval]) -> Vec<Interval> {
        let far = |instant: Option<DateTime<Utc>>, end| instant.unwrap_or(end);
        let ahead = self.duration.checked_add(&self.after).and_then(|ahead| ahead.checked_sub(&TICK));
        coalesce(busy.iter().filter_map(|busy| {
            let first = ahead.and_then(|ahead| busy.start().checked_sub_signed(ahead));
            let past = busy.end().checked_add_signed(self.before);
            Interval::new(far(first, DateTime::<Utc>::MIN_UTC), far(past, DateTime::<Utc>::MAX_UTC))
        }))
    }

    fn at(&self, start: DateTime<Utc>) -> Option<Interval> {
        Interval::new(start, start.checked_add_signed(self.duration)?)
    }
}

/// The slots of one set of calendars, in order. See [`slots`].
#[derive(Debug)]
pub struct Slots {
    meeting: Meeting,
    grid: Grid,
    starts: std::vec::IntoIter<Interval>,
    current: Option<Interval>,
    pause: fn(),
}

/// Every meeting that begins on the grid, lies inside one of `open`, and keeps its buffers from all of `busy`. Both are
/// as [`coalesce`] leaves them. `pause` is called now and then; it may unwind.
pub fn slots(meeting: Meeting, grid: Grid, open: &[Interval], busy: &[Interval], pause: fn()) -> Slots {
    let against = meeting.starts_against(busy);
    pause();
    let starts = subtract(&meeting.starts_inside(open), &against);
    Slots { meeting, grid, starts: starts.into_iter(), current: None, pause }
}

impl Iterator for Slots {
    type Item = Interval;

    fn next(&mut self) -> Option<Interval> {
        loop {
            (self.pause)();
            let starts = match self.current.take() {
                Some(starts) => starts,
                None => self.starts.next()?,
            };
            let Some(start) = self.grid.next(starts.start()).filter(|start| *start < starts.end()) else { continue };
            self.current = grid::just_after(start).and_then(|from| Interval::new(from, starts.end()));
            return self.meeting.at(start);
        }
    }
}

impl FusedIterator for Slots {}
