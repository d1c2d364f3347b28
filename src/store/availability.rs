//! The read path: which calendars are meant, may they be asked, what of their time is taken.

use std::collections::{HashMap, HashSet};

use calsync_core::busy::StatusSet;
use calsync_core::interval::Interval;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;

use super::owner::may_see;
use super::plan::Plan;
use super::time::{Micros, timestamp_of};
use crate::error::Error;

/// A window of microseconds; its bounds may be infinite.
pub type MicroWindow = Interval<Micros>;

/// What must be known of a calendar before it may answer.
#[derive(Debug, Clone)]
pub struct Answerer {
    pub id: i64,
    pub calendar: String,
    pub owner: String,
    /// None: nothing is covered.
    pub covered: Option<MicroWindow>,
    pub synced_at: Option<Micros>,
    pub state: String,
    /// The provider no longer knows it, whatever has happened since.
    pub gone: bool,
    pub fed_by_application: bool,
    /// Its own limit, in seconds.
    pub max_staleness: Option<f64>,
    pub last_error: Option<String>,
}

static NAMED: Plan = Plan::reading(
    "SELECT s.subscription_id, s.calendar, s.owner::text, lower(s.covered), upper(s.covered), s.synced_at, \
                 s.state::text, s.gone_at IS NOT NULL, s.provider = 'none', extract(epoch FROM s.max_staleness)::float8, s.last_error \
          FROM calsync.subscription AS s WHERE s.calendar = ANY ($1)",
);
static ALL: Plan = Plan::reading(
    "SELECT s.subscription_id, s.calendar, s.owner::text, lower(s.covered), upper(s.covered), s.synced_at, \
                 s.state::text, s.gone_at IS NOT NULL, s.provider = 'none', extract(epoch FROM s.max_staleness)::float8, s.last_error \
          FROM calsync.subscription AS s ORDER BY s.calendar",
);
// Pieces are disjoint, so those that end inside the window are one range of the index, and at most one more, the
// first that ends after it, can reach into it.
static PIECES: Plan = Plan::reading(
    "SELECT c.position, b.starts_at, b.ends_at, b.statuses \
          FROM unnest($1) WITH ORDINALITY AS c (subscription_id, position) CROSS JOIN LATERAL ( \
              SELECT p.starts_at, p.ends_at, p.statuses FROM calsync.busy AS p \
              WHERE p.subscription_id = c.subscription_id AND p.ends_at > $2 AND p.ends_at < $3 \
              UNION ALL \
              SELECT last.starts_at, last.ends_at, last.statuses FROM ( \
                  SELECT p.starts_at, p.ends_at, p.statuses FROM calsync.busy AS p \
                  WHERE p.subscription_id = c.subscription_id AND p.ends_at >= $3 ORDER BY p.ends_at LIMIT 1) AS last \
              WHERE last.starts_at < $3) AS b",
);

fn read_answerer(row: &super::plan::Row) -> Result<Answerer, Error> {
    let micros = |column| row.get::<TimestampWithTimeZone>(column).map(Micros::from);
    Ok(Answerer {
        id: row.get(1).unwrap_or_default(),
        calendar: row.get(2).unwrap_or_default(),
        owner: row.get(3).unwrap_or_default(),
        covered: micros(4).zip(micros(5)).and_then(|(from, to)| Interval::new(from, to)),
        synced_at: micros(6),
        state: row.get(7).unwrap_or_default(),
        gone: row.get(8).unwrap_or_default(),
        fed_by_application: row.get(9).unwrap_or_default(),
        max_staleness: row.get(10),
        last_error: row.get(11),
    })
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

/// The same, with all that each name could mean.
pub fn find_all(role: pg_sys::Oid, names: &[String]) -> Result<Vec<(String, Vec<Answerer>)>, Error> {
    let mut found: HashMap<String, Vec<Answerer>> = HashMap::with_capacity(names.len());
    for answerer in NAMED.each(&[names.to_vec().into()], read_answerer)? {
        if may_see(role, &answerer.owner) {
            found.entry(answerer.calendar.clone()).or_default().push(answerer);
        }
    }
    let mut seen = HashSet::with_capacity(names.len());
    let distinct = names.iter().filter(|name| seen.insert(name.as_str()));
    Ok(distinct.map(|name| (name.clone(), found.remove(name).unwrap_or_default())).collect())
}

/// Every calendar that `role` may see, by name.
pub fn all(role: pg_sys::Oid) -> Result<Vec<Answerer>, Error> {
    let mut found = ALL.each(&[], read_answerer)?;
    found.retain(|answerer| may_see(role, &answerer.owner));
    Ok(found)
}

/// A piece of taken time: which calendar of those asked (from 0), when.
pub type Taken = (usize, MicroWindow);

/// Time of these subscriptions with one of these statuses, clipped to the window.
pub fn taken(ids: &[i64], window: MicroWindow, statuses: StatusSet) -> Result<Vec<Taken>, Error> {
    let rows = PIECES.each(
        &[ids.to_vec().into(), timestamp_of(window.start())?.into(), timestamp_of(window.end())?.into()],
        |row| {
            let micros = |column| row.get::<TimestampWithTimeZone>(column).map(Micros::from);
            let piece = micros(2).zip(micros(3)).and_then(|(start, end)| Interval::new(start, end));
            let position = row.get::<i64>(1).unwrap_or_default().max(1) as usize - 1;
            let bits = StatusSet::from_bits(row.get::<i16>(4).unwrap_or_default());
            Ok(piece
                .filter(|_| bits.meets(statuses))
                .and_then(|piece| piece.clip(window))
                .map(|piece| (position, piece)))
        },
    )?;
    Ok(rows.into_iter().flatten().collect())
}
