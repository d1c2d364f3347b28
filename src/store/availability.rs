//! The read path: which calendars are meant, may they be asked, what of their time is taken.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::ops::ControlFlow;

use calsync_core::busy::StatusSet;
use calsync_core::interval::Interval;
use pgrx::datum::{Range, RangeBound, TimestampWithTimeZone};
use pgrx::pg_sys;

use super::home;
use super::owner::may_use;
use super::scan::{Column, Pieces, Row, Shares, Subscriptions};
use super::time::Micros;
use crate::error::Error;

/// A window of microseconds; its bounds may be infinite.
pub type MicroWindow = Interval<Micros>;

/// What must be known of a calendar before it may answer.
#[derive(Debug, Clone)]
pub struct Answerer {
    pub id: i64,
    pub calendar: String,
    pub owner: String,
    /// The role is a member of the owner; false: the calendar is only shared with it.
    pub owned: bool,
    /// It came from another database, and is not taken over yet.
    pub is_foreign: bool,
    /// None: nothing is covered, or it is foreign: not all of what belongs to it may have come.
    pub covered: Option<MicroWindow>,
    pub synced_at: Option<Micros>,
    pub state: State,
    /// The provider no longer knows it, whatever has happened since.
    pub gone: bool,
    pub fed_by_application: bool,
    /// Its own limit, in seconds.
    pub max_staleness: Option<f64>,
    pub last_error: Option<String>,
}

/// A `calsync.subscription_state`.
#[derive(Debug, Clone, Copy)]
pub struct State(pg_sys::Oid);

impl State {
    pub fn label(self) -> String {
        pgrx::enum_helper::lookup_enum_by_oid(self.0).0
    }
}

fn absent(what: &str) -> Error {
    Error::Internal(format!("a subscription has no {what}"))
}

fn read_id(row: &Row) -> Result<i64, Error> {
    row.get(Column::SubscriptionId).ok_or_else(|| absent("subscription_id"))
}

fn read_owner<'a>(row: &Row<'a>) -> Result<&'a CStr, Error> {
    row.get(Column::Owner).ok_or_else(|| absent("owner"))
}

/// None: the role may not ask about it.
fn read_answerer(row: &Row, sight: &mut Sight, here: &str) -> Result<Option<Answerer>, Error> {
    let (id, owner) = (read_id(row)?, read_owner(row)?);
    let Some(as_what) = sight.of_calendar(id, owner)? else { return Ok(None) };
    let moment = |column| row.get::<i64>(column);
    let is_foreign = home::is_foreign(row.get(Column::Home), here);
    Ok(Some(Answerer {
        id,
        calendar: row.get(Column::Calendar).ok_or_else(|| absent("calendar"))?,
        owner: owner.to_string_lossy().into_owned(),
        owned: as_what == As::Owner,
        is_foreign,
        covered: row.get(Column::Covered).filter(|_| !is_foreign).and_then(bounds),
        synced_at: moment(Column::SyncedAt),
        state: State(row.get(Column::State).ok_or_else(|| absent("state"))?),
        gone: moment(Column::GoneAt).is_some(),
        fed_by_application: row.get::<&str>(Column::Provider) == Some("none"),
        max_staleness: row.get(Column::MaxStaleness).map(seconds),
        // Whose credential failed, and how, is for the owner to know.
        last_error: row.get::<String>(Column::LastError).filter(|_| as_what == As::Owner),
    }))
}

/// None: empty, or without an end.
fn bounds(covered: Range<TimestampWithTimeZone>) -> Option<MicroWindow> {
    let bound = |bound: Option<&RangeBound<TimestampWithTimeZone>>| Some(Micros::from(*bound?.get()?));
    Interval::new(bound(covered.lower())?, bound(covered.upper())?)
}

/// As `extract(epoch FROM ...)` counts: a year has 365.25 days, a month 30.
fn seconds(interval: pgrx::datum::Interval) -> f64 {
    let (years, months) = (interval.months() / 12, interval.months() % 12);
    let days = f64::from(years) * 365.25 + f64::from(months) * 30.0 + f64::from(interval.days());
    days * 86_400.0 + interval.micros() as f64 / 1e6
}

/// As what a role may ask about a calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    /// As a member of the owner.
    Owner,
    /// It is shared with the role, or with one that it is a member of, and was accepted.
    Guest,
}

/// Which calendars a role may see. Calendars of one owner follow each other, and their owner is asked about once; who
/// else may see a calendar is looked up only where the owner is somebody else's.
struct Sight {
    role: pg_sys::Oid,
    last: Option<(CString, bool)>,
    shares: Option<Shares>,
}

impl Sight {
    fn of(role: pg_sys::Oid) -> Self {
        Sight { role, last: None, shares: None }
    }

    fn of_calendar(&mut self, id: i64, owner: &CStr) -> Result<Option<As>, Error> {
        if self.is_member_of(owner) {
            return Ok(Some(As::Owner));
        }
        let shares = match &mut self.shares {
            Some(shares) => shares,
            None => self.shares.insert(Shares::by_subscription()?),
        };
        let role = self.role;
        let mut seen = None;
        shares.of(id).each(
            |with| may_use(role, with),
            |_| {
                seen = Some(As::Guest);
                ControlFlow::Break(())
            },
        )?;
        Ok(seen)
    }

    fn is_member_of(&mut self, owner: &CStr) -> bool {
        match &self.last {
            Some((last, verdict)) if last.as_c_str() == owner => *verdict,
            _ => {
                let verdict = may_use(self.role, owner);
                self.last = Some((owner.to_owned(), verdict));
                verdict
            }
        }
    }
}

/// The calendars of these names that `role` may see, in the order of the names; None where there is none. A name that
/// comes twice counts once; one that could mean several is an error.
pub fn find(role: pg_sys::Oid, names: &[String]) -> Result<Vec<(String, Option<Answerer>)>, Error> {
    find_all(role, names)?
        .into_iter()
        .map(|(name, mut meant)| match meant.len() {
            0 | 1 => Ok((name, meant.pop())),
            _ => Err(Error::AmbiguousCalendar {
                calendar: name,
                owners: meant.into_iter().map(|answerer| answerer.owner).collect(),
            }),
        })
        .collect()
}

/// The calendars of these names, or, with None, all that `role` may see; one that it may not see is unknown (SC001).
pub fn meant(role: pg_sys::Oid, names: Option<&[String]>) -> Result<Vec<Answerer>, Error> {
    let Some(names) = names else { return all(role) };
    let found = find(role, names)?.into_iter();
    found.map(|(calendar, answerer)| answerer.ok_or(Error::UnknownCalendar { calendar })).collect()
}

/// As [`find`], with all that each name could mean.
pub fn find_all(role: pg_sys::Oid, names: &[String]) -> Result<Vec<(String, Vec<Answerer>)>, Error> {
    let mut subscriptions = Subscriptions::by_name()?;
    let here = subscriptions.home();
    let mut sight = Sight::of(role);
    let mut seen = HashSet::with_capacity(names.len());
    let mut found = Vec::with_capacity(names.len());
    for name in names.iter().filter(|name| seen.insert(name.as_str())) {
        let mut meant = Vec::new();
        subscriptions.each(name, |row| {
            meant.extend(read_answerer(row, &mut sight, &here)?);
            Ok(())
        })?;
        // By the index they come in the order of their rows in the table.
        meant.sort_by(|one, other| one.owner.cmp(&other.owner));
        found.push((name.clone(), meant));
    }
    Ok(found)
}

/// Every calendar that `role` may see, by name.
pub fn all(role: pg_sys::Oid) -> Result<Vec<Answerer>, Error> {
    let mut sight = Sight::of(role);
    let mut found = Vec::new();
    let mut subscriptions = Subscriptions::all()?;
    let here = subscriptions.home();
    subscriptions.each("", |row| {
        found.extend(read_answerer(row, &mut sight, &here)?);
        Ok(())
    })?;
    Ok(found)
}

/// The subscription_id of each calendar that `role` owns.
pub fn owned(role: pg_sys::Oid) -> Result<Vec<i64>, Error> {
    let mut sight = Sight::of(role);
    let mut found = Vec::new();
    Subscriptions::all()?.each("", |row| {
        if sight.is_member_of(read_owner(row)?) {
            found.push(read_id(row)?);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The subscription_id of each calendar that is shared with `role` and accepted, in order.
pub fn shared(role: pg_sys::Oid) -> Result<Vec<i64>, Error> {
    let mut found = Vec::new();
    Shares::all()?.each(
        |with| may_use(role, with),
        |id| {
            if found.last() != Some(&id) {
                found.push(id);
            }
            ControlFlow::Continue(())
        },
    )?;
    Ok(found)
}

/// One question keeps no more intervals than this in memory: 64 MB of them.
pub const MOST_INTERVALS: usize = 4_000_000;

/// Reads taken time, subscription by subscription, for one question.
pub struct TakenTime {
    pieces: Pieces,
    window: MicroWindow,
    statuses: StatusSet,
    most: usize,
    room: usize,
}

impl TakenTime {
    /// Time with one of these statuses, clipped to the window; of all subscriptions together at most so many intervals.
    pub fn in_window(window: MicroWindow, statuses: StatusSet, most: usize) -> Result<Self, Error> {
        Ok(TakenTime { pieces: Pieces::open()?, window, statuses, most, room: most })
    }

    /// Merged, in order. Raises 54000 where the question as a whole has too many.
    pub fn of(&mut self, subscription: i64) -> Result<Vec<MicroWindow>, Error> {
        let taken = self.pieces.taken(subscription, self.window, self.statuses, self.room)?.ok_or_else(|| {
            Error::too_much(
                format!("the calendars are busy more than {} times in this window", self.most),
                "Ask for fewer calendars at once, or for a shorter window.",
            )
        })?;
        self.room -= taken.len();
        Ok(taken)
    }
}
