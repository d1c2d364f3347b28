//! Which series can never again take place?
//!
//! What is pruned is gone until the provider is asked for everything, so every doubt keeps the series:
//! - a rule without an end, and one that cannot be read or counted within bounds
//! - an occurrence within [`SLACK`] of the moment asked about: all-day events move when the calendar's zone does

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::event::Kind;
use crate::expansion::occurrences;
use crate::interval::Interval;

/// Zones lie up to 26 hours apart.
pub const SLACK: TimeDelta = TimeDelta::days(2);

/// Nobody looks further ahead: twice what `calsync.horizon` can be.
const FAR: TimeDelta = TimeDelta::days(40 * 365);

/// Whether a master has no occurrence that ends after `before`, exceptions left aside. False for what is no master.
pub fn series_is_over(kind: &Kind, before: DateTime<Utc>, calendar_zone: Tz) -> bool {
    let Kind::Master { recurrence, .. } = kind else { return false };
    if recurrence.iter().any(|line| is_endless(line)) {
        return false;
    }
    let Some(ahead) = Interval::new(before - SLACK, before + FAR) else { return false };
    let expansion = occurrences(kind, &[], ahead, calendar_zone);
    expansion.intervals.is_empty() && expansion.problem.is_none()
}

/// A rule that names neither a last moment nor a number. EXRULE lines, too: cheap, and as safe.
fn is_endless(line: &str) -> bool {
    let line = line.to_ascii_uppercase();
    line.contains("FREQ=") && !line.contains("UNTIL=") && !line.contains("COUNT=")
}
