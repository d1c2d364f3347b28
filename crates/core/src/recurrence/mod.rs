//! When does a series take place? (RFC 5545 §3.8.5)
//!
//! A [`Series`] is DTSTART, how long each occurrence lasts, and any number of RRULE, EXRULE, RDATE and EXDATE lines.
//! The way of a rule: [`rule`] reads what is written, [`days`] and [`times`] decide which days and times match,
//! [`walk`] goes through its periods in floating local time, and here each local time is placed in its zone.
//!
//! The rules are walked by our own code, because the crate `rrule` cannot seek the window (it walks from DTSTART), gives
//! up silently after 100,000 steps, and reads or refuses 24 of libical's 145 rules otherwise than libical does.
//! `benches/expand.rs` has both side by side; `tests/time_oracle.rs` and `tests/time_libical.rs` have others judge ours.
//!
//! What the RFC leaves open or says twice, and what we do:
//! - DTSTART always takes place, also where the rule does not match it ("The DTSTART property ... defines the first
//!   instance in the recurrence set", §3.8.5.3; Google shows it, too). COUNT counts the rule's matches: for a DTSTART
//!   that does not match the set is "undefined" (§3.3.10), and the reading with one occurrence more never says "free"
//!   out of ignorance. An EXDATE, EXRULE or exception on DTSTART does remove it.
//! - A local time in a DST gap moves forward, one that occurs twice is the first: it is "interpreted in the same manner
//!   as an explicit DATE-TIME value describing that date and time" (§3.3.10, against its own "MUST be ignored" for
//!   nonexistent local times). So an hourly rule has 23 or 24 occurrences on those days, none of them twice.
//! - The day that a rule does not speak of is DTSTART's (§3.3.10, "derived from the Start Time"). A YEARLY rule with
//!   BYMONTHDAY alone speaks of that day of every month, one with BYWEEKNO alone of every day of those weeks (§3.3.10's
//!   table: both "Expand"). libical reads less there; where sources dispute a rule, the reading that blocks more counts.
//! - UNTIL of another type than DTSTART: a DATE includes the whole local day, a local time is the event zone's. Against
//!   an all-day event a UTC time of exactly midnight is that date, any other the local day it falls on.
//! - EXDATE as DATE against a timed event removes that local day's occurrences; RDATE as DATE adds one at DTSTART's time.

use std::collections::HashSet;

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::interval::Interval;
use crate::zone::Zone;

mod days;
mod definition;
mod edit;
mod line;
mod moment;
mod problem;
mod rule;
mod text;
mod times;
mod walk;

pub use definition::{DefinitionProblem, Definitions};
pub use edit::FromThenOn;
pub use moment::Length;
pub use problem::{Excess, Problem, UnknownListZone};

use edit::Edit;
use line::{Dates, End, Entry, Line, ListZone, local_in};
use moment::Moment;
use rule::Rule;
use text::Piece;
use walk::{Budget, Walk};

/// More than this in a window of thirteen months is no calendar entry any more: every half hour, all year round.
pub const MOST_OCCURRENCES: usize = 20_000;

/// The same of all events of a calendar: five thousand a day.
pub const MOST_OCCURRENCES_OF_A_CALENDAR: usize = 2_000_000;

/// [`MOST_OCCURRENCES_OF_A_CALENDAR`], in proportion to the window.
pub fn most_occurrences_of_a_calendar(window: Interval) -> usize {
    MOST_OCCURRENCES_OF_A_CALENDAR * walk::spans(window) as usize
}

/// More than any change of the clocks: zones have moved across the date line.
const ROOM: Days = Days::new(2);

/// Where a series begins, and in which zone it recurs: a [`Tz`], or a [`Zone`] where the calendar may define its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<Z = Tz> {
    /// At local times of `zone`: the event's, or the calendar's where the event's times float. Told as an instant.
    Timed { at: DateTime<Utc>, zone: Z },
    /// The same, told as local time, which may lie in a gap: then only that first occurrence moves.
    Local { at: NaiveDateTime, zone: Z },
    /// On whole days of the calendar's zone.
    AllDay { on: NaiveDate, zone: Z },
}

impl<Z: Into<Zone>> Start<Z> {
    fn placed(self) -> Start<Zone> {
        match self {
            Self::Timed { at, zone } => Start::Timed { at, zone: zone.into() },
            Self::Local { at, zone } => Start::Local { at, zone: zone.into() },
            Self::AllDay { on, zone } => Start::AllDay { on, zone: zone.into() },
        }
    }
}

impl<Z> Start<Z> {
    pub fn zone(&self) -> &Z {
        match self {
            Self::Timed { zone, .. } | Self::Local { zone, .. } | Self::AllDay { zone, .. } => zone,
        }
    }

    fn is_all_day(&self) -> bool {
        matches!(self, Self::AllDay { .. })
    }
}

impl Start<Zone> {
    /// DTSTART as the clock on the wall shows it.
    fn local(&self) -> NaiveDateTime {
        match self {
            Self::Timed { at, zone } => zone.local(*at),
            Self::Local { at, .. } => *at,
            Self::AllDay { on, .. } => on.and_time(NaiveTime::MIN),
        }
    }
}

/// One occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Occurrence {
    pub interval: Interval,
    /// When it would begin had it not been moved with "this and all following"; its RECURRENCE-ID.
    pub original: DateTime<Utc>,
    /// The local date of `original`, in the zone the series recurs in.
    pub date: NaiveDate,
}

/// A recurring event, read.
#[derive(Debug)]
pub struct Series {
    start: Start<Zone>,
    local: NaiveDateTime,
    length: Length,
    rules: Vec<Rule>,
    exrules: Vec<Rule>,
    extra: Vec<Occurrence>,
    excluded_instants: HashSet<DateTime<Utc>>,
    excluded_dates: HashSet<NaiveDate>,
    /// By `from`.
    edits: Vec<Edit>,
    warning: Option<UnknownListZone>,
}

impl Series {
    /// Reads the lines of a series: unfolded, in any order, in any case.
    pub fn read<S: AsRef<str>>(start: Start<impl Into<Zone>>, length: Length, lines: &[S]) -> Result<Self, Problem> {
        Self::read_with(start, length, lines, &Definitions::default(), &[])
    }

    /// The same, where the calendar defines zones of its own, or has edits of an occurrence and all that follow.
    pub fn read_with<S: AsRef<str>>(
        start: Start<impl Into<Zone>>,
        length: Length,
        lines: &[S],
        definitions: &Definitions,
        edits: &[FromThenOn],
    ) -> Result<Self, Problem> {
        let start = start.placed();
        let mut edits: Vec<Edit> = edits.iter().map(|edit| Edit::new(edit, &start)).collect();
        edits.sort_by_key(|edit| edit.from);
        let mut series = Self {
            local: start.local(),
            start,
            length,
            edits,
            rules: Vec::new(),
            exrules: Vec::new(),
            extra: Vec::new(),
            excluded_instants: HashSet::new(),
            excluded_dates: HashSet::new(),
            warning: None,
        };
        for (index, line) in lines.iter().enumerate() {
            match Line::read(Piece::line(line.as_ref(), index + 1), definitions)? {
                Line::Rule(rule) => series.rules.push(rule),
                Line::ExRule(rule) => series.exrules.push(rule),
                Line::RDate(dates) => series.add(dates),
                Line::ExDate(dates) => series.exclude(dates),
                Line::Nothing => {}
            }
        }
        Ok(series)
    }

    /// What was read in a second-best way, for the operator to know: a TZID that is not in the database.
    pub fn warning(&self) -> Option<&UnknownListZone> {
        self.warning.as_ref()
    }

    /// Every occurrence that overlaps the window, also one that began before it, by start; of two that start together
    /// the longer.
    pub fn occurrences(&self, window: Interval) -> Result<Vec<Occurrence>, Problem> {
        self.occurrences_without(window, |_| false)
    }

    /// The same without those that are `gone`, which is asked before one of two that start together is dropped: on the
    /// day before a day that its zone skipped, say.
    pub fn occurrences_without(
        &self,
        window: Interval,
        gone: impl Fn(&Occurrence) -> bool,
    ) -> Result<Vec<Occurrence>, Problem> {
        let mut budget = Budget::for_window(window);
        let mut found: Vec<Occurrence> = self.extra.clone();
        found.extend(self.own());
        for rule in &self.rules {
            let locals = self.yielded(rule, window, &mut budget)?;
            found.extend(locals.filter_map(|(local, start)| self.occurrence(local, start)));
        }
        found.retain(|found| found.interval.overlaps(window) && !self.is_excluded(found) && !gone(found));
        for rule in &self.exrules {
            let gone: HashSet<_> = self.yielded(rule, window, &mut budget)?.map(|(_, start)| start).collect();
            found.retain(|occurrence| !gone.contains(&occurrence.original));
        }
        found.sort_unstable_by_key(|occurrence| {
            (occurrence.interval.start(), std::cmp::Reverse(occurrence.interval.end()))
        });
        found.dedup_by_key(|occurrence| occurrence.interval.start());
        Ok(found)
    }

    /// The first occurrence, which DTSTART and its length make.
    fn own(&self) -> Option<Occurrence> {
        self.occurrence(self.local, self.place(self.local))
    }

    /// The times that a rule yields about the window: local, and as instants.
    fn yielded(
        &self,
        rule: &Rule,
        window: Interval,
        budget: &mut Budget,
    ) -> Result<impl Iterator<Item = (NaiveDateTime, DateTime<Utc>)>, Problem> {
        let (from, to) = self.reach(window);
        let to = rule.until.map_or(to, |until| to.min(self.latest(until)));
        let locals = Walk::new(rule, self.local, self.start.is_all_day())
            .between(from, to, budget)
            .map_err(|excess| Problem::TooMuch { line: rule.line, excess })?;
        let until = rule.until;
        let placed = locals.into_iter().map(|local| (local, self.place(local)));
        Ok(placed.filter(move |(local, start)| until.is_none_or(|until| self.is_by(*local, *start, until))))
    }

    /// The local times at which something that overlaps the window may begin, with room for any change of the clocks.
    fn reach(&self, window: Interval) -> (NaiveDateTime, NaiveDateTime) {
        let zone = self.start.zone();
        let (window_from, window_to) = (zone.local(window.start()), zone.local(window.end()));
        let (mut earliest, mut latest) = (NaiveDateTime::MAX, NaiveDateTime::MIN);
        let unedited = (TimeDelta::zero(), self.length);
        for (shift, length) in self.edits.iter().map(|edit| (edit.shift, edit.length)).chain([unedited]) {
            let from = window_from
                .checked_sub_days(ROOM)
                .and_then(|from| from.checked_sub_days(nights(length)))
                .and_then(|from| from.checked_sub_signed(length.exact))
                .and_then(|from| from.checked_sub_signed(shift));
            let to = window_to.checked_add_days(ROOM).and_then(|to| to.checked_sub_signed(shift));
            earliest = earliest.min(from.unwrap_or(NaiveDateTime::MIN));
            latest = latest.max(to.unwrap_or(NaiveDateTime::MAX));
        }
        (earliest, latest)
    }

    /// A local time after which nothing is by `until` any more.
    fn latest(&self, until: Moment) -> NaiveDateTime {
        let end = match until {
            Moment::Date(date) => date.and_time(NaiveTime::MIN),
            Moment::Local(local) => local,
            Moment::Utc(instant) => self.start.zone().local(instant),
        };
        end.checked_add_days(ROOM).unwrap_or(NaiveDateTime::MAX)
    }

    /// "The UNTIL rule part defines a DATE or DATE-TIME value that bounds the recurrence rule in an inclusive manner."
    fn is_by(&self, local: NaiveDateTime, start: DateTime<Utc>, until: Moment) -> bool {
        match (&self.start, until) {
            (Start::AllDay { zone, .. }, until) => local.date() <= until.date(zone),
            (_, Moment::Date(date)) => local.date() <= date,
            (_, Moment::Local(until)) => local <= until,
            (_, Moment::Utc(until)) => start <= until,
        }
    }

    /// The instant of a local time. DTSTART's own is as given, though its local time may occur twice.
    fn place(&self, local: NaiveDateTime) -> DateTime<Utc> {
        match &self.start {
            Start::Timed { at, .. } if local == self.local => *at,
            Start::Timed { zone, .. } | Start::Local { zone, .. } => zone.instant(local),
            Start::AllDay { zone, .. } => zone.midnight(local.date()),
        }
    }

    fn occurrence(&self, local: NaiveDateTime, start: DateTime<Utc>) -> Option<Occurrence> {
        self.lasting(local, start, self.length)
    }

    /// What starts at `start` and lasts so long, unless an edit from then on has it otherwise.
    fn lasting(&self, local: NaiveDateTime, start: DateTime<Utc>, length: Length) -> Option<Occurrence> {
        let edits_before = self.edits.partition_point(|edit| edit.from <= start);
        let interval = match edits_before.checked_sub(1).and_then(|last| self.edits.get(last)) {
            None => self.interval(local, start, length)?,
            Some(edit) => {
                let (local, zone) = (edit.moved(local)?, self.start.zone());
                let is_midnight = self.start.is_all_day() && local.time() == NaiveTime::MIN;
                let start = if is_midnight { zone.midnight(local.date()) } else { zone.instant(local) };
                self.interval(local, start, edit.length)?
            }
        };
        Some(Occurrence { interval, original: start, date: local.date() })
    }

    fn interval(&self, local: NaiveDateTime, start: DateTime<Utc>, length: Length) -> Option<Interval> {
        let end = match &self.start {
            _ if length.days == 0 => start.checked_add_signed(length.exact)?,
            Start::AllDay { zone, .. } => zone.midnight(local.date().checked_add_days(nights(length))?),
            Start::Timed { zone, .. } | Start::Local { zone, .. } => {
                zone.instant(local.checked_add_days(nights(length))?).checked_add_signed(length.exact)?
            }
        };
        Interval::new(start, end)
    }

    fn is_excluded(&self, occurrence: &Occurrence) -> bool {
        self.excluded_instants.contains(&occurrence.original) || self.excluded_dates.contains(&occurrence.date)
    }

    fn exclude(&mut self, dates: Dates<Moment>) {
        let zone = self.zone_of(dates.zone);
        for moment in dates.entries {
            match (&self.start, moment.instant(&zone)) {
                (Start::Timed { .. } | Start::Local { .. }, Some(instant)) => {
                    // DTSTART may be the second of two instants that its local time means; EXDATE names it all the same.
                    let is_own = moment == Moment::Local(self.local) && zone == *self.start.zone();
                    self.excluded_instants.insert(if is_own { self.place(self.local) } else { instant });
                }
                _ => {
                    self.excluded_dates.insert(moment.date(self.start.zone()));
                }
            }
        }
    }

    fn add(&mut self, dates: Dates<Entry>) {
        let zone = self.zone_of(dates.zone);
        let added: Vec<_> = dates.entries.into_iter().filter_map(|entry| self.extra(entry, &zone)).collect();
        self.extra.extend(added);
    }

    fn zone_of(&mut self, zone: ListZone) -> Zone {
        if let ListZone::Unknown(unknown) = &zone {
            self.warning.get_or_insert_with(|| unknown.clone());
        }
        zone.or(self.start.zone())
    }

    /// The occurrence that one entry of an RDATE adds.
    fn extra(&self, entry: Entry, list: &Zone) -> Option<Occurrence> {
        let zone = self.start.zone();
        if self.start.is_all_day() {
            return self.extra_days(entry, zone);
        }
        let local = local_in(entry.start, list, zone).unwrap_or(entry.start.date(zone).and_time(self.local.time()));
        let start = entry.start.instant(list).unwrap_or_else(|| self.place(local));
        match entry.end {
            None => self.occurrence(local, start),
            Some(End::After(length)) => self.lasting(local, start, length),
            Some(End::At(end)) => {
                let end = end.instant(list).unwrap_or_else(|| zone.midnight(end.date(zone)));
                self.lasting(local, start, Length::exact(end - start))
            }
        }
    }

    fn extra_days(&self, entry: Entry, zone: &Zone) -> Option<Occurrence> {
        let on = entry.start.date(zone);
        let length = match entry.end {
            None => self.length,
            Some(End::After(length)) => Length::days(length.days.max(1)),
            Some(End::At(end)) => Length::days(u32::try_from((end.date(zone) - on).num_days()).unwrap_or(1).max(1)),
        };
        self.lasting(on.and_time(NaiveTime::MIN), zone.midnight(on), length)
    }
}

fn nights(length: Length) -> Days {
    Days::new(u64::from(length.days))
}
