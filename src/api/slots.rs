//! `calsync_slots`, `calsync_group_slots`: when could a meeting be held?

use std::rc::Rc;

use calsync_core::interval::{Interval, intersect};
use calsync_core::slots::{Grid, Groups, Meeting, slots};
use pgrx::AnyElement;
use pgrx::datum::Interval as PgInterval;
use pgrx::prelude::*;

use super::availability::{Question, TimeRange, not_too_many, window};
use super::rows::{Ends, Rows};
use super::{in_local_time, json_argument, length, multirange, required, zone_argument};
use crate::error::{Error, Report};
use crate::store::availability::MicroWindow;
use crate::store::time::{micros, now, saturating_instant, saturating_micros};

/// One call returns no more.
const MOST_SLOTS: usize = 100_000;
/// Each slot names all that are free for it; in all rows together there are no more names.
const MOST_NAMES: usize = 4_000_000;

/// The arguments that both functions have.
struct Arguments<'a> {
    during: Option<TimeRange>,
    duration: Option<PgInterval>,
    step: Option<PgInterval>,
    time_zone: Option<&'a str>,
    hours: Option<AnyElement>,
    buffer_before: Option<PgInterval>,
    buffer_after: Option<PgInterval>,
    min_notice: Option<PgInterval>,
    max_results: Option<i32>,
}

/// What is wanted, checked.
struct Wanted {
    meeting: Meeting,
    grid: Grid,
    /// Where slots may lie: within during and hours, from the earliest start on.
    open: Vec<Interval>,
    /// The time that must be known of the calendars. None: nothing is open.
    reach: Option<MicroWindow>,
    /// None: as many as there are.
    most: Option<usize>,
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn calsync_slots(
    during: Option<TimeRange>,
    calendars: Option<Array<'_, &str>>,
    duration: Option<PgInterval>,
    step: Option<PgInterval>,
    time_zone: Option<&str>,
    hours: Option<AnyElement>,
    buffer_before: Option<PgInterval>,
    buffer_after: Option<PgInterval>,
    min_notice: Option<PgInterval>,
    max_results: Option<i32>,
    fcinfo: pg_sys::FunctionCallInfo,
) {
    let found = || -> Result<_, Error> {
        let wanted = Arguments {
            during,
            duration,
            step,
            time_zone,
            hours,
            buffer_before,
            buffer_after,
            min_notice,
            max_results,
        }
        .check()?;
        let names = super::availability::names(&required(calendars, "calendars")?)?;
        let busy = Question::about(wanted.reach, names)?.busy_time_of_all()?;
        pause();
        let busy: Vec<Interval> = busy.into_iter().filter_map(instants).collect();
        pause();
        let slots = limited(slots(wanted.meeting, wanted.grid, &wanted.open, &busy, pause), wanted.most);
        slots.map(|slot| slot.and_then(range)).collect::<Result<Vec<MicroWindow>, Error>>()
    };
    let found = found().report();
    Rows::begin(fcinfo, Ends::none()).put_ranges(&found);
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn calsync_group_slots(
    during: Option<TimeRange>,
    groups: Option<AnyElement>,
    duration: Option<PgInterval>,
    step: Option<PgInterval>,
    time_zone: Option<&str>,
    hours: Option<AnyElement>,
    buffer_before: Option<PgInterval>,
    buffer_after: Option<PgInterval>,
    min_notice: Option<PgInterval>,
    max_results: Option<i32>,
    fcinfo: pg_sys::FunctionCallInfo,
) {
    let found = || -> Result<(), Error> {
        let wanted = Arguments {
            during,
            duration,
            step,
            time_zone,
            hours,
            buffer_before,
            buffer_after,
            min_notice,
            max_results,
        }
        .check()?;
        let groups = Groups::parse(&json_argument(groups, "groups")?)?;
        not_too_many(groups.calendars().len(), "Ask with fewer or smaller groups.")?;
        let busy = Question::about(wanted.reach, groups.calendars().to_vec())?.busy_times()?;
        let as_instants = |busy: Vec<MicroWindow>| {
            pause();
            busy.into_iter().filter_map(instants).collect()
        };
        let busy: Vec<Vec<Interval>> = busy.into_iter().map(|(_, busy)| as_instants(busy)).collect();
        let slots = groups.slots(wanted.meeting, wanted.grid, &wanted.open, &busy, pause);
        let mut rows = Rows::begin(fcinfo, Ends::none());
        let mut names = Names { all: groups.calendars(), last: None };
        let mut room = MOST_NAMES;
        for slot in limited(slots, wanted.most) {
            let (slot, free) = slot?;
            room = room.checked_sub(free.len()).ok_or_else(|| {
                Error::too_much(
                    format!("the slots would name more than {MOST_NAMES} calendars, counted at each slot"),
                    "Ask for fewer calendars, for a shorter window or a longer step, or say max_results.",
                )
            })?;
            rows.put_range_with(range(slot)?, names.array(&free));
        }
        Ok(())
    };
    found().report();
}

/// Names of calendars as `text[]`. Who is free changes less often than slots follow each other: an array is made once
/// for all slots that have it.
struct Names<'a> {
    all: &'a [String],
    last: Option<(Rc<[usize]>, pg_sys::Datum)>,
}

impl Names<'_> {
    /// Good until the next call.
    fn array(&mut self, places: &Rc<[usize]>) -> pg_sys::Datum {
        if let Some((last, array)) = self.last.take() {
            if Rc::ptr_eq(&last, places) {
                self.last = Some((last, array));
                return array;
            }
            // SAFETY: made below, by the last call; its rows have copied it.
            unsafe { pg_sys::pfree(array.cast_mut_ptr()) };
        }
        let names: Vec<&str> = places.iter().filter_map(|place| self.all.get(*place)).map(String::as_str).collect();
        let array = names.into_datum().unwrap_or(pg_sys::Datum::from(0));
        self.last = Some((Rc::clone(places), array));
        array
    }
}

impl Arguments<'_> {
    fn check(self) -> Result<Wanted, Error> {
        let meeting = Meeting::new(
            length(self.duration, "duration")?,
            length(self.buffer_before, "buffer_before")?,
            length(self.buffer_after, "buffer_after")?,
        )?;
        let grid = Grid::new(length(self.step, "step")?, zone_argument(self.time_zone)?)?;
        let most = self.max_results.map(most).transpose()?;
        let earliest = earliest(self.min_notice)?;
        let window = window(required(self.during, "during")?)?.map(in_local_time).transpose()?;
        let window = window.and_then(|window| Interval::new(window.start().max(earliest), window.end()));
        let open: Vec<Interval> = match (window, &self.hours) {
            (None, _) => Vec::new(),
            (Some(window), None) => vec![window],
            (Some(window), Some(hours)) => {
                let window = Interval::new(micros(window.start()), micros(window.end()));
                let open = intersect(window.as_slice(), &multirange::read(hours, "hours")?);
                open.into_iter().filter_map(instants).collect()
            }
        };
        let all = open.first().zip(open.last()).and_then(|(first, last)| Interval::new(first.start(), last.end()));
        let reach = all.map(|all| meeting.reach(all));
        let reach =
            reach.and_then(|reach| Interval::new(saturating_micros(reach.start()), saturating_micros(reach.end())));
        Ok(Wanted { meeting, grid, open, reach, most })
    }
}

/// Before this no slot begins: what is past cannot be booked, and what is near only with notice.
fn earliest(min_notice: Option<PgInterval>) -> Result<chrono::DateTime<chrono::Utc>, Error> {
    let notice = length(min_notice, "min_notice")?;
    if notice < chrono::TimeDelta::zero() {
        return Err(Error::argument(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "min_notice must not be negative",
            "Slots never begin before now(); for time that has passed ask calsync_free.",
        ));
    }
    Ok(now().checked_add_signed(notice).unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC))
}

fn most(max_results: i32) -> Result<usize, Error> {
    usize::try_from(max_results).ok().filter(|most| *most > 0).ok_or_else(|| {
        Error::argument(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("max_results must be at least 1, is {max_results}"),
            "Leave it out, or pass null, for all there are.",
        )
    })
}

/// The first of them, as many as wanted; more than we return at most are an error.
fn limited<T>(slots: impl Iterator<Item = T>, most: Option<usize>) -> impl Iterator<Item = Result<T, Error>> {
    slots.take(most.unwrap_or(usize::MAX)).enumerate().map(|(before, slot)| {
        pause();
        if before == MOST_SLOTS {
            return Err(Error::too_much(
                format!("there are more than {MOST_SLOTS} slots"),
                "Ask for a shorter window or a longer step, or say max_results.",
            ));
        }
        Ok(slot)
    })
}

/// Lets a cancelled statement end here.
pub(super) fn pause() {
    pgrx::check_for_interrupts!();
}

fn instants(interval: MicroWindow) -> Option<Interval> {
    Interval::new(saturating_instant(interval.start()), saturating_instant(interval.end()))
}

fn range(slot: Interval) -> Result<MicroWindow, Error> {
    Interval::new(micros(slot.start()), micros(slot.end())).ok_or_else(|| Error::Internal("a slot is empty".to_owned()))
}
