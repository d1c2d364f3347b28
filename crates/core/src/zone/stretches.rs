//! Stretches of time in which the clocks do not change, so that local times in them are plain arithmetic.

use chrono::offset::Offset;
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::interval::Interval;

/// No zone of the database changes its clocks twice within so long a time; proven in `tests/slot_grid.rs`.
const SAMPLE: TimeDelta = TimeDelta::days(1);

/// A stretch of time in which the clocks do not change, and how far east of Greenwich they are meanwhile. They may go
/// on unchanged after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub interval: Interval,
    pub offset: TimeDelta,
}

/// The stretch that begins at `from`: a day long, or shorter where the clocks change. None at the end of time.
pub fn stretch_at(from: DateTime<Utc>, zone: Tz) -> Option<Stretch> {
    let offset = offset_at(from, zone);
    let sample = from.checked_add_signed(SAMPLE)?;
    let end = if offset_at(sample, zone) == offset { sample } else { change_between(from, sample, zone) };
    Some(Stretch { interval: Interval::new(from, end)?, offset })
}

fn offset_at(instant: DateTime<Utc>, zone: Tz) -> TimeDelta {
    TimeDelta::seconds(zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc().into())
}

/// When the clocks change, between an instant before and one at or after the change. Zones change on whole seconds.
fn change_between(before: DateTime<Utc>, after: DateTime<Utc>, zone: Tz) -> DateTime<Utc> {
    let offset = offset_at(before, zone);
    let (mut unchanged, mut changed) = (before.timestamp(), after.timestamp() + 1);
    let at = |second| DateTime::from_timestamp(second, 0).unwrap_or(after);
    while changed - unchanged > 1 {
        let middle = unchanged + (changed - unchanged) / 2;
        if offset_at(at(middle), zone) == offset { unchanged = middle } else { changed = middle }
    }
    at(changed)
}
