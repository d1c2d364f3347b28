//! Names of time zones, and where a local time lies on the time line.
//!
//! The hard cases, each with a test of the same name in `tests/time_zone.rs`:
//! - `a_time_in_the_gap_moves_forward_by_the_gap` and `a_time_that_occurs_twice_means_the_first` (RFC 5545 §3.3.5)
//! - `a_day_that_begins_in_a_gap_begins_after_it`: America/Sao_Paulo before 2019, Africa/Cairo
//! - `a_day_that_the_zone_skipped_is_empty`: Pacific/Apia, 2011-12-30
//! - `outlooks_names_are_understood` and `a_name_with_a_vendors_prefix_is_understood`
//! - `an_offset_is_no_name_to_postgres` and `beyond_2099_no_local_time_is_known`

use std::collections::HashMap;
use std::sync::LazyLock;

use chrono::offset::{LocalResult, Offset};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};

use crate::interval::Interval;
use crate::invalid::{Invalid, Refusal};

mod offsets;
mod stretches;
mod windows;

pub use offsets::{Offsets, Zone};
pub use stretches::{Stretch, stretch_at};

/// Lower-case names, as people and programs misspell the case: IANA's own, and those of Windows.
static BY_LOWER_CASE: LazyLock<HashMap<String, Tz>> = LazyLock::new(|| {
    let iana = TZ_VARIANTS.iter().map(|zone| (zone.name().to_lowercase(), *zone));
    let windows = windows::ZONES.iter().filter_map(|(name, iana)| Some((name.to_lowercase(), iana.parse().ok()?)));
    windows.chain(iana).collect()
});

/// The zone that goes by this name: an IANA name or alias, one of Windows' names, a form of UTC, or one of these behind
/// a vendor's prefix (`/freeassociation.sourceforge.net/Tzfile/Europe/Vienna`). Case does not matter.
pub fn find(name: &str) -> Option<Tz> {
    let plain = |name: &str| in_database(name).or_else(|| offset_from_utc(&name.to_lowercase()));
    search(name, plain)
}

/// The zone that somebody names who writes for Postgres: as [`find`], but no offset from UTC. Postgres reads `UTC+2` as
/// POSIX does, two hours west of Greenwich; calendars mean two hours east.
pub fn named(name: &str) -> Result<Tz, Invalid> {
    const NAME: &str = "Pass a name of the IANA time zone database, such as 'Europe/Vienna'";
    search(name, in_database).ok_or_else(|| match find(name) {
        None => Invalid::new(format!("time zone \"{name}\" is unknown"), format!("{NAME}.")),
        Some(meant) => Invalid::new(
            format!("\"{name}\" is an offset from UTC, not a time zone"),
            format!("{NAME}. In calendars the offset means '{meant}', in Postgres the opposite."),
        ),
    })
}

/// After this the compiled database knows of no change of the clocks, while the rules of summer time go on:
/// 2100-01-01T00:00:00Z, in seconds.
const KNOWN_UNTIL: i64 = 4_102_444_800;

/// Refuses a window of which local time is not known to the end.
pub fn knows(window: Interval) -> Result<(), Refusal> {
    if window.end().timestamp_micros() <= KNOWN_UNTIL * 1_000_000 {
        return Ok(());
    }
    let hint = "Ask for a window that ends by '2100-01-01 00:00+00'.";
    Err(Refusal::too_much("what clocks will show is not known beyond the year 2099", hint))
}

fn search(name: &str, plain: impl Fn(&str) -> Option<Tz>) -> Option<Tz> {
    let name = name.trim().trim_matches('"').trim();
    plain(name).or_else(|| behind_prefix(name, plain))
}

fn in_database(name: &str) -> Option<Tz> {
    let found = || {
        let lower = name.to_lowercase();
        if lower == "z" { Some(Tz::UTC) } else { BY_LOWER_CASE.get(&lower).copied() }
    };
    name.parse().ok().or_else(found)
}

/// Whole hours such as `UTC+2`, `GMT-05:00`, `+0200`. Other offsets belong to no zone of the database.
fn offset_from_utc(lower: &str) -> Option<Tz> {
    let offset = lower.strip_prefix("utc").or_else(|| lower.strip_prefix("gmt")).unwrap_or(lower);
    let (east, digits) = match offset.split_at_checked(1)? {
        ("+", digits) => (true, digits),
        ("-" | "\u{2212}", digits) => (false, digits),
        _ => return None,
    };
    let digits = digits.replace(':', "");
    let hours = match digits.len() {
        1 | 2 => digits.as_str(),
        4 => digits.strip_suffix("00")?,
        _ => return None,
    };
    match hours.parse::<u8>().ok()? {
        0 => Some(Tz::UTC),
        // POSIX signs: Etc/GMT-2 lies two hours east of Greenwich.
        hours => format!("Etc/GMT{}{hours}", if east { '-' } else { '+' }).parse().ok(),
    }
}

/// A "globally unique" TZID starts with a slash and names its vendor first (RFC 5545 §3.8.3.1); Outlook's web version
/// writes `tzone://Microsoft/Utc`. The zone's own name is what the last one, two or three parts make.
fn behind_prefix(name: &str, plain: impl Fn(&str) -> Option<Tz>) -> Option<Tz> {
    if !name.starts_with('/') && !name.starts_with("tzone://") {
        return None;
    }
    let starts: Vec<usize> = name.match_indices('/').map(|(at, _)| at + 1).collect();
    starts.iter().rev().take(3).rev().find_map(|start| plain(&name[*start..]))
}

/// When is it `local` in `zone`? In a gap: as if the clocks had not yet changed, which shifts it forward by the gap's
/// length. Where the time occurs twice: the first (RFC 5545 §3.3.5, FORM #3).
pub fn instant(local: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    match zone.offset_from_local_datetime(&local) {
        LocalResult::Single(offset) => utc(local, offset.fix()),
        LocalResult::Ambiguous(one, other) => utc(local, one.fix()).min(utc(local, other.fix())),
        LocalResult::None => match GapInfo::new(&local, &zone).and_then(|gap| gap.begin) {
            Some((_, before)) => utc(local, before.fix()),
            None => local.and_utc(),
        },
    }
}

fn utc(local: NaiveDateTime, offset: chrono::FixedOffset) -> DateTime<Utc> {
    local.checked_sub_offset(offset).unwrap_or(local).and_utc()
}

/// What the clock on the wall shows. At the very ends of time, where that cannot be written, UTC.
pub fn local(instant: DateTime<Utc>, zone: Tz) -> NaiveDateTime {
    let utc = instant.naive_utc();
    utc.checked_add_offset(zone.offset_from_utc_datetime(&utc).fix()).unwrap_or(utc)
}

/// The first instant of this local day. Where midnight falls into a gap, the day begins when the gap ends; a day that
/// the zone skipped begins, and ends, where the next one begins.
pub fn midnight(date: NaiveDate, zone: Tz) -> DateTime<Utc> {
    reached(date.and_time(NaiveTime::MIN), zone)
}

/// The first instant at which the clocks have reached `local`: when the gap ends, where it falls into one; where it
/// occurs twice, the first.
pub fn reached(local: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    match GapInfo::new(&local, &zone).and_then(|gap| gap.end) {
        Some(end) => end.with_timezone(&Utc),
        None => instant(local, zone),
    }
}
