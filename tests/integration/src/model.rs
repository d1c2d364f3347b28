//! What the availability functions should say, found the slow way: by looking at every minute.
//!
//! Nothing here knows how the extension computes anything. Time is counted in whole minutes since 1970.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;

use crate::Dice;
use crate::items::{Item, cancelled};

pub type Minute = i64;

pub fn minute(instant: DateTime<Utc>) -> Minute {
    instant.timestamp().div_euclid(60)
}

pub fn rfc3339(minute: Minute) -> String {
    instant(minute).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn instant(minute: Minute) -> DateTime<Utc> {
    DateTime::from_timestamp(minute * 60, 0).expect("an ordinary time")
}

/// What the wall clock shows.
pub fn clock(minute: Minute, zone: Tz) -> NaiveDateTime {
    instant(minute).with_timezone(&zone).naive_local()
}

/// When the clocks next change there, if they ever do; otherwise two weeks from today.
pub fn next_change(zone: Tz, today: NaiveDate) -> NaiveDate {
    let noon = |date: NaiveDate| date.and_hms_opt(12, 0, 0).unwrap().and_utc();
    let shown = |date| noon(date).with_timezone(&zone).naive_local() - noon(date).naive_utc();
    let days = today.iter_days().skip(7).take(330);
    let mut changes = days.filter(|date| shown(*date) != shown(*date + Days::new(1)));
    changes.next().unwrap_or(today + Days::new(14))
}

/// What an event makes of its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Free,
    Tentative,
    Busy,
    OutOfOffice,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Free, Kind::Tentative, Kind::Busy, Kind::OutOfOffice];

    pub fn label(self) -> &'static str {
        match self {
            Kind::Free => "free",
            Kind::Tentative => "tentative",
            Kind::Busy => "busy",
            Kind::OutOfOffice => "out_of_office",
        }
    }

    fn fields(self) -> serde_json::Value {
        match self {
            Kind::Free => serde_json::json!({"transparency": "transparent"}),
            Kind::Tentative => serde_json::json!({"status": "tentative"}),
            Kind::Busy => serde_json::json!({}),
            Kind::OutOfOffice => serde_json::json!({"eventType": "outOfOffice"}),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Event {
    start: Minute,
    length: Minute,
    /// Each the same time of the next day, in UTC.
    days: i64,
    kind: Kind,
}

/// A calendar's events, and what a provider would send of them.
#[derive(Debug, Default)]
pub struct Diary {
    events: BTreeMap<String, Event>,
    next: usize,
}

impl Diary {
    /// Adds, moves and deletes some events between two minutes; returns what changed, as a provider tells it.
    pub fn change(&mut self, dice: &mut Dice, from: Minute, to: Minute, additions: usize) -> Vec<Item> {
        let mut items = Vec::new();
        let ids: Vec<String> = self.events.keys().cloned().collect();
        for id in ids {
            if dice.once_in(5) {
                self.events.remove(&id);
                items.push(cancelled(&id));
            } else if dice.once_in(5) {
                items.push(self.put(id, Event::any(dice, from, to)));
            }
        }
        for _ in 0..additions {
            self.next += 1;
            items.push(self.put(format!("e{}", self.next), Event::any(dice, from, to)));
        }
        items
    }

    fn put(&mut self, id: String, event: Event) -> Item {
        let mut item = crate::items::spanning(&id, &rfc3339(event.start), &rfc3339(event.start + event.length));
        if event.days > 1 {
            item = item.repeating(&format!("FREQ=DAILY;COUNT={}", event.days));
        }
        self.events.insert(id, event);
        item.saying(event.kind.fields())
    }

    /// The minutes taken by events of these kinds.
    pub fn taken(&self, kinds: &[Kind]) -> BTreeSet<Minute> {
        let mut taken = BTreeSet::new();
        for event in self.events.values().filter(|event| kinds.contains(&event.kind)) {
            for day in 0..event.days {
                taken.extend((0..event.length).map(|minute| event.start + day * 1440 + minute));
            }
        }
        taken
    }
}

impl Event {
    fn any(dice: &mut Dice, from: Minute, to: Minute) -> Self {
        let coarse = dice.one_of(&[1, 5, 15, 30]);
        Event {
            start: from + dice.roll((to - from) as usize / coarse) as Minute * coarse as Minute,
            length: dice.one_of(&[1, 10, 15, 30, 45, 60, 90, 240, 1440]),
            days: if dice.once_in(6) { 2 + dice.roll(4) as i64 } else { 1 },
            kind: dice.one_of(&[Kind::Busy, Kind::Busy, Kind::Tentative, Kind::OutOfOffice, Kind::Free]),
        }
    }
}

/// Minutes as the longest runs of neighbours: start, and the minute after the last.
pub fn runs(minutes: impl IntoIterator<Item = Minute>) -> Vec<(Minute, Minute)> {
    let mut runs: Vec<(Minute, Minute)> = Vec::new();
    for minute in minutes {
        match runs.last_mut() {
            Some(last) if last.1 == minute => last.1 += 1,
            _ => runs.push((minute, minute + 1)),
        }
    }
    runs
}

/// What is wanted of slots.
#[derive(Debug, Clone)]
pub struct Wish {
    pub window: (Minute, Minute),
    /// None: any time.
    pub hours: Option<BTreeSet<Minute>>,
    pub duration: Minute,
    pub step: Minute,
    pub before: Minute,
    pub after: Minute,
    pub zone: Tz,
    /// No slot begins earlier.
    pub earliest: Minute,
}

impl Wish {
    /// The minutes at which a slot may begin, whoever is busy.
    fn starts(&self) -> impl Iterator<Item = Minute> {
        let fits = |start: &Minute| start + self.duration <= self.window.1;
        let open = |start: &Minute| match &self.hours {
            None => true,
            Some(hours) => (*start..start + self.duration).all(|minute| hours.contains(&minute)),
        };
        let on_grid = |start: &Minute| {
            let shown = clock(*start, self.zone);
            i64::from(shown.hour() * 60 + shown.minute()) % self.step == 0
        };
        let starts = self.window.0..self.window.1;
        starts.filter(move |start| *start >= self.earliest && fits(start) && on_grid(start) && open(start))
    }

    /// Whether this calendar's events leave room for the meeting and its buffers.
    fn leaves_room(&self, start: Minute, taken: &BTreeSet<Minute>) -> bool {
        taken.range(start - self.before..start + self.duration + self.after).next().is_none()
    }

    pub fn slots(&self, everybody: &[&BTreeSet<Minute>]) -> Vec<Minute> {
        self.starts().filter(|start| everybody.iter().all(|taken| self.leaves_room(*start, taken))).collect()
    }

    /// `groups`: how many must be free, and who belongs to it. Returns who is free, in the order of first mention.
    pub fn group_slots(
        &self,
        groups: &[(usize, Vec<String>)],
        taken: &BTreeMap<String, BTreeSet<Minute>>,
    ) -> Vec<(Minute, Vec<String>)> {
        let mut found = Vec::new();
        for start in self.starts() {
            let free = |name: &&String| self.leaves_room(start, &taken[*name]);
            let enough = |(needed, members): &(usize, Vec<String>)| {
                let distinct: BTreeSet<&String> = members.iter().collect();
                distinct.into_iter().filter(free).count() >= *needed
            };
            if groups.iter().all(enough) {
                let mut who: Vec<String> = Vec::new();
                for name in groups.iter().flat_map(|(_, members)| members).filter(free) {
                    if !who.contains(name) {
                        who.push(name.clone());
                    }
                }
                found.push((start, who));
            }
        }
        found
    }
}

/// The first minute at which the clock shows `since_midnight` minutes of this date, or more.
pub fn reached(date: NaiveDate, since_midnight: Minute, zone: Tz) -> Minute {
    let wanted = date.and_hms_opt(0, 0, 0).unwrap() + TimeDelta::minutes(since_midnight);
    let mut at = minute(wanted.and_utc()) - 30 * 60;
    while clock(at, zone) < wanted {
        at += 1;
    }
    at
}
