//! Slots for which enough of every group are free: one sweep over the edges of everybody's time, not a look at
//! everybody for each slot.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};
use std::rc::Rc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::grid::just_after;
use super::{Grid, Meeting};
use crate::interval::Interval;
use crate::invalid::{Invalid, Refusal};

const SHAPE: &str = "Pass an array such as '[{\"any\": 2, \"calendars\": [\"a\", \"b\", \"c\"]}, \
                     {\"all\": true, \"calendars\": [\"room\"]}]'.";

/// More names in all groups together are refused, whether or not they are the same.
const MOST_NAMES: usize = 100_000;

/// Groups of calendars, and how many of each must be free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// Each once, in the order of first mention.
    calendars: Vec<String>,
    groups: Vec<Group>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    needed: usize,
    /// Places in `calendars`, each once.
    members: Vec<usize>,
}

impl Groups {
    /// `[{"any": 2, "calendars": [...]}, {"all": true, "calendars": [...]}]`. A calendar that comes twice in a group counts
    /// once; one in several groups counts in each.
    pub fn parse(groups: &Value) -> Result<Self, Refusal> {
        let elements = groups.as_array().ok_or_else(|| Invalid::new("groups must be an array", SHAPE))?;
        if elements.is_empty() {
            return Err(Invalid::new("groups must not be empty", SHAPE).into());
        }
        let names: usize = elements.iter().filter_map(|group| group.get("calendars")?.as_array()).map(Vec::len).sum();
        if names > MOST_NAMES {
            let message = format!("groups name {names} calendars, more than {MOST_NAMES}");
            return Err(Refusal::too_much(message, "Ask with fewer or smaller groups."));
        }
        let mut calendars = Calendars::default();
        let groups = elements.iter().enumerate().map(|(at, element)| {
            let path = format!("groups[{at}]");
            let object = element.as_object().ok_or_else(|| Invalid::new(format!("{path} must be an object"), SHAPE))?;
            parse_group(&path, object, &mut calendars)
        });
        let groups = groups.collect::<Result<_, Invalid>>()?;
        Ok(Self { calendars: calendars.names, groups })
    }

    /// Everybody, each once, in the order of first mention.
    pub fn calendars(&self) -> &[String] {
        &self.calendars
    }

    /// The slots in order, and which calendars are free then: places in [`Groups::calendars`], in that order. `open` and
    /// each calendar's `busy` are as [`crate::interval::coalesce`] leaves them. `pause` is called now and then during long
    /// stretches without a slot; it may unwind.
    pub fn slots(
        &self,
        meeting: Meeting,
        grid: Grid,
        open: &[Interval],
        busy: &[Vec<Interval>],
        pause: fn(),
    ) -> GroupSlots {
        let blocked = busy.iter().map(|busy| {
            pause();
            meeting.starts_against(busy)
        });
        let edges = Edges::of(blocked.collect());
        let mut open = meeting.starts_inside(open).into_iter();
        let current = open.next();
        GroupSlots {
            meeting,
            grid,
            sweep: Sweep { edges, passed: 0, open, current, standing: Standing::new(self), pause },
            found: None,
        }
    }
}

/// Distinct names in the order of first mention.
#[derive(Default)]
struct Calendars {
    names: Vec<String>,
    places: HashMap<String, usize>,
}

impl Calendars {
    fn place(&mut self, name: &str) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        self.names.push(name.to_owned());
        self.places.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }
}

fn parse_group(path: &str, object: &Map<String, Value>, calendars: &mut Calendars) -> Result<Group, Invalid> {
    if let Some(key) = object.keys().find(|key| !["any", "all", "calendars"].contains(&key.as_str())) {
        return Err(Invalid::new(format!("{path} has an unknown key \"{key}\""), SHAPE));
    }
    let names = object.get("calendars").and_then(Value::as_array);
    let names = names.ok_or_else(|| Invalid::new(format!("{path}.calendars must be an array of names"), SHAPE))?;
    let mut members = Vec::with_capacity(names.len());
    let mut seen = std::collections::HashSet::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let name = name
            .as_str()
            .ok_or_else(|| Invalid::new(format!("{path}.calendars[{at}] must be a calendar's name"), SHAPE))?;
        let place = calendars.place(name);
        if seen.insert(place) {
            members.push(place);
        }
    }
    if members.is_empty() {
        let hint = "Name its calendars, or leave the group out: of nobody, everybody is always free.";
        return Err(Invalid::new(format!("{path}.calendars must not be empty"), hint));
    }
    Ok(Group { needed: needed(path, object, members.len())?, members })
}

fn needed(path: &str, object: &Map<String, Value>, members: usize) -> Result<usize, Invalid> {
    match (object.get("any"), object.get("all")) {
        (None, Some(Value::Bool(true))) => Ok(members),
        (None, Some(_)) => Err(Invalid::new(
            format!("{path}.all must be true"),
            "To need only some of them, say how many: \"any\": 1.",
        )),
        (Some(any), None) => {
            // To JSON 2 and 2.0 are the same number.
            let whole = any.as_u64().or_else(|| any.as_f64().filter(|any| any.fract() == 0.0).map(|any| any as u64));
            let needed = whole.and_then(|any| usize::try_from(any).ok());
            needed.filter(|needed| (1..=members).contains(needed)).ok_or_else(|| {
                let message = format!("{path}.any must be a whole number from 1 to {members}, is {any}");
                Invalid::new(message, "It says how many of the group's calendars must be free; each counts once.")
            })
        }
        _ => Err(Invalid::new(format!("{path} must have either \"any\" or \"all\""), SHAPE)),
    }
}

/// Who is free at a moment of the sweep, and whether that is enough.
#[derive(Debug)]
struct Standing {
    /// By calendar.
    free: Vec<bool>,
    /// By calendar: the groups that it belongs to.
    belongs: Vec<Vec<usize>>,
    /// By group: how many of it are free, and how many must be.
    counts: Vec<(usize, usize)>,
    /// How many groups have not enough.
    short: usize,
}

impl Standing {
    /// Everybody is free.
    fn new(groups: &Groups) -> Self {
        let mut belongs = vec![Vec::new(); groups.calendars.len()];
        for (at, group) in groups.groups.iter().enumerate() {
            for member in &group.members {
                belongs[*member].push(at);
            }
        }
        let counts = groups.groups.iter().map(|group| (group.members.len(), group.needed)).collect();
        Self { free: vec![true; groups.calendars.len()], belongs, counts, short: 0 }
    }

    fn flip(&mut self, calendar: usize) {
        let becomes_free = !self.free[calendar];
        self.free[calendar] = becomes_free;
        for group in &self.belongs[calendar] {
            let (free, needed) = &mut self.counts[*group];
            if becomes_free {
                *free += 1;
                self.short -= usize::from(*free == *needed);
            } else {
                self.short += usize::from(*free == *needed);
                *free -= 1;
            }
        }
    }

    fn who(&self) -> Rc<[usize]> {
        self.free.iter().enumerate().filter_map(|(calendar, free)| free.then_some(calendar)).collect()
    }
}

/// A moment at which a calendar becomes blocked, or free again. In the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    at: DateTime<Utc>,
    calendar: usize,
    /// Until when it is blocked, if it becomes so.
    until: Option<DateTime<Utc>>,
}

impl Edge {
    fn into(blocked: Interval, calendar: usize) -> Self {
        Self { at: blocked.start(), calendar, until: Some(blocked.end()) }
    }
}

/// The edges of all calendars, by time: those of each, whose blocked starts are disjoint and do not touch, merged as they
/// are wanted. To sort them first would take long before the first slot, and could not be cancelled.
#[derive(Debug)]
struct Edges {
    /// The next of each calendar.
    next: BinaryHeap<Reverse<Edge>>,
    /// By calendar: what follows.
    blocked: Vec<std::vec::IntoIter<Interval>>,
}

impl Edges {
    fn of(blocked: Vec<Vec<Interval>>) -> Self {
        let mut blocked: Vec<_> = blocked.into_iter().map(Vec::into_iter).collect();
        let first = blocked.iter_mut().enumerate().filter_map(|(calendar, blocked)| {
            let first = blocked.next()?;
            Some(Reverse(Edge::into(first, calendar)))
        });
        Self { next: first.collect(), blocked }
    }

    /// When the next is.
    fn at(&self) -> Option<DateTime<Utc>> {
        self.next.peek().map(|Reverse(edge)| edge.at)
    }

    /// Passes the next, if it is not later: whose it is.
    fn pass(&mut self, latest: DateTime<Utc>) -> Option<usize> {
        let mut next = self.next.peek_mut()?;
        let Reverse(Edge { at, calendar, until }) = *next;
        if at > latest {
            return None;
        }
        let following = match until {
            Some(until) => Some(Edge { at: until, calendar, until: None }),
            None => self.blocked[calendar].next().map(|blocked| Edge::into(blocked, calendar)),
        };
        match following {
            Some(edge) => *next = Reverse(edge),
            None => drop(PeekMut::pop(next)),
        }
        Some(calendar)
    }
}

/// Walks through the open starts from edge to edge.
#[derive(Debug)]
struct Sweep {
    edges: Edges,
    passed: usize,
    open: std::vec::IntoIter<Interval>,
    /// What of the open starts lies ahead.
    current: Option<Interval>,
    standing: Standing,
    pause: fn(),
}

impl Sweep {
    /// The next starts throughout which the same calendars are free, and enough of every group.
    fn next(&mut self) -> Option<Interval> {
        loop {
            let ahead = self.current?;
            while let Some(calendar) = self.edges.pass(ahead.start()) {
                self.standing.flip(calendar);
                self.passed += 1;
                if self.passed.is_multiple_of(1024) {
                    (self.pause)();
                }
            }
            let until = self.edges.at().map_or(ahead.end(), |at| ahead.end().min(at));
            self.current = Interval::new(until, ahead.end()).or_else(|| self.open.next());
            if self.standing.short == 0 {
                return Interval::new(ahead.start(), until);
            }
        }
    }
}

/// See [`Groups::slots`].
#[derive(Debug)]
pub struct GroupSlots {
    meeting: Meeting,
    grid: Grid,
    sweep: Sweep,
    /// Starts that are still to be looked at, and who is free in them.
    found: Option<(Interval, Rc<[usize]>)>,
}

impl Iterator for GroupSlots {
    type Item = (Interval, Rc<[usize]>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (starts, who) = match self.found.take() {
                Some((starts, who)) => (starts, Some(who)),
                None => (self.sweep.next()?, None),
            };
            let Some(start) = self.grid.next(starts.start()).filter(|start| *start < starts.end()) else { continue };
            let who = who.unwrap_or_else(|| self.sweep.standing.who());
            let rest = just_after(start).and_then(|from| Interval::new(from, starts.end()));
            self.found = rest.map(|rest| (rest, Rc::clone(&who)));
            return Some((self.meeting.at(start)?, who));
        }
    }
}
