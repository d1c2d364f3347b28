//! `calsync_busy`, `calsync_busy_union`, `calsync_is_free`, `calsync_coverage`.
//!
//! Promise 1 lives here: before a calendar's time is read, it must be known to the role, covered for the window, and
//! fresh. What happens otherwise is `calsync.on_uncovered`: an error that names the calendars, or the part that is not
//! known counts as busy, or, at the caller's own risk, as free. The other functions of availability ask through
//! [`Question`], too.

use calsync_core::busy::{BusyStatus, StatusSet};
use calsync_core::interval::{Interval, coalesce, subtract, union};
use pgrx::AnyElement;
use pgrx::datum::{Array, Range, RangeBound, TimestampWithTimeZone};
use pgrx::prelude::*;

use super::rows::{Ends, Rows};
use super::slots::pause;
use super::{multirange, required};
use crate::error::{Error, NotCovered, Remedy, Report, Stale};
use crate::settings::{self, OnUncovered};
use crate::store::availability::{self, Answerer, MOST_INTERVALS, MicroWindow, TakenTime};
use crate::store::owner::caller;
use crate::store::time::{Micros, timestamp_of};

pub(super) type TimeRange = Range<TimestampWithTimeZone>;

/// Returns `(calendar text, busy tstzrange)`.
#[pg_extern(sql = false)]
fn calsync_busy(
    during: Option<TimeRange>,
    calendars: Option<Array<'_, &str>>,
    statuses: Option<Array<'_, pg_sys::Oid>>,
    on_uncovered: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) {
    let busy = || -> Result<(), Error> {
        let on_uncovered = overriding(on_uncovered)?;
        let statuses = statuses.map_or(Ok(StatusSet::BLOCKING), status_set)?;
        let question = Question { statuses, on_uncovered, ..Question::of(during, calendars)? };
        let busy = question.busy_times()?;
        let mut rows = Rows::begin(fcinfo, question.ends);
        for (calendar, intervals) in busy {
            rows.put_named_ranges(&calendar, &intervals);
        }
        Ok(())
    };
    busy().report();
}

#[pg_extern(sql = false)]
fn calsync_busy_union(
    during: Option<TimeRange>,
    calendars: Option<Array<'_, &str>>,
    statuses: Option<Array<'_, pg_sys::Oid>>,
) -> AnyElement {
    let busy = || {
        let statuses = statuses.map_or(Ok(StatusSet::BLOCKING), status_set)?;
        let question = Question { statuses, ..Question::of(during, calendars)? };
        multirange::write(&question.busy_time_of_all()?, question.ends)
    };
    busy().report()
}

#[pg_extern(sql = false)]
fn calsync_is_free(during: Option<TimeRange>, calendars: Option<Array<'_, &str>>, on_uncovered: Option<&str>) -> bool {
    let is_free = || -> Result<bool, Error> {
        let on_uncovered = overriding(on_uncovered)?;
        let question = Question { on_uncovered, ..Question::of(during, calendars)? };
        // In an empty window nobody is busy; but who is unknown is not known to be free in it, either.
        let known = |answer: &Answer| answer.objection.is_none() || on_uncovered == OnUncovered::Ignore;
        Ok(question.answers_or_error()?.iter().all(|answer| answer.busy.is_empty() && known(answer)))
    };
    is_free().report()
}

/// What a call says in place of `calsync.on_uncovered`; null: nothing. Only what never says "free" out of ignorance can
/// be said by a call, lest a user's input says it.
fn overriding(on_uncovered: Option<&str>) -> Result<OnUncovered, Error> {
    match on_uncovered {
        None => Ok(settings::on_uncovered()),
        Some("error") => Ok(OnUncovered::Error),
        Some("busy") => Ok(OnUncovered::Busy),
        Some(other) => Err(Error::argument(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("on_uncovered must be 'error' or 'busy', is '{other}'"),
            "'ignore' may say \"free\" out of ignorance; who wants that sets calsync.on_uncovered.",
        )),
    }
}

/// What is asked, its arguments checked.
pub(super) struct Question {
    /// None: an empty window.
    pub window: Option<MicroWindow>,
    pub calendars: Vec<String>,
    pub statuses: StatusSet,
    pub on_uncovered: OnUncovered,
    /// Of the answers.
    pub ends: Ends,
    /// An answer of more intervals, of all calendars together, is refused.
    pub most_intervals: usize,
}

/// What is known of a calendar's time.
pub(super) struct Answer {
    pub calendar: String,
    /// Merged, clipped, ordered; with what is not known, unless that is to be ignored.
    pub busy: Vec<MicroWindow>,
    /// Why not all of it is known.
    pub objection: Option<Error>,
}

impl Question {
    /// About what blocks, with `calsync.on_uncovered` as it is set.
    pub fn of(during: Option<TimeRange>, calendars: Option<Array<'_, &str>>) -> Result<Self, Error> {
        let during = required(during, "during")?;
        let ends = Ends::of(&during);
        let names = names(&required(calendars, "calendars")?)?;
        Ok(Self { ends, ..Self::about(window(during)?, names)? })
    }

    pub fn about(window: Option<MicroWindow>, calendars: Vec<String>) -> Result<Self, Error> {
        if calendars.is_empty() {
            // Nobody is busy in no calendar; and whoever asks so by mistake would read that as "free".
            return Err(Error::argument(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "calendars must not be empty",
                "Name the calendars; where somebody has none, nothing is known of their time: do not ask, or count it as busy.",
            ));
        }
        Ok(Self {
            window,
            calendars,
            statuses: StatusSet::BLOCKING,
            on_uncovered: settings::on_uncovered(),
            ends: Ends::none(),
            most_intervals: MOST_INTERVALS,
        })
    }

    /// The answer, calendar by calendar in the order asked: merged, clipped, ordered. What is not known is an error,
    /// busy, or ignored.
    pub fn busy_times(&self) -> Result<Vec<(String, Vec<MicroWindow>)>, Error> {
        Ok(self.answers_or_error()?.into_iter().map(|answer| (answer.calendar, answer.busy)).collect())
    }

    /// The same of all calendars together.
    pub fn busy_time_of_all(&self) -> Result<Vec<MicroWindow>, Error> {
        Ok(union(self.answers_or_error()?.into_iter().map(|answer| answer.busy).collect(), pause))
    }

    fn answers_or_error(&self) -> Result<Vec<Answer>, Error> {
        let mut asked = self.ask()?;
        // Which calendar is meant, no setting can tell.
        let refuses = |one: &&mut Asked| self.on_uncovered == OnUncovered::Error || one.is_ambiguous();
        let objections = asked.iter_mut().filter(refuses).filter_map(|one| one.objection.take());
        let objections: Vec<Error> = objections.collect();
        if !objections.is_empty() {
            return Err(Error::refused(objections, asked.len()));
        }
        self.read(asked)
    }

    /// The same, each calendar with what keeps it from answering.
    pub fn answers(&self) -> Result<Vec<Answer>, Error> {
        self.read(self.ask()?)
    }

    fn ask(&self) -> Result<Vec<Asked>, Error> {
        let found = availability::find_all(caller(), &self.calendars)?.into_iter();
        Ok(found.map(|(calendar, meant)| Asked::of(calendar, meant, self.window)).collect())
    }

    fn read(&self, asked: Vec<Asked>) -> Result<Vec<Answer>, Error> {
        let Some(window) = self.window else {
            let nothing = |one: Asked| Answer { calendar: one.calendar, busy: Vec::new(), objection: one.objection };
            return Ok(asked.into_iter().map(nothing).collect());
        };
        let mut taken = TakenTime::in_window(window, self.statuses, self.most_intervals)?;
        let answer = |one: Asked| {
            let ignored = self.on_uncovered == OnUncovered::Ignore && !one.is_ambiguous();
            let unknown = if ignored { Vec::new() } else { one.unknown_time(window) };
            let known = one.answerer.as_ref().map_or(Ok(Vec::new()), |answerer| taken.of(answerer.id))?;
            let busy = if unknown.is_empty() { known } else { coalesce(known.into_iter().chain(unknown)) };
            Ok(Answer { calendar: one.calendar, busy, objection: one.objection })
        };
        asked.into_iter().map(answer).collect()
    }
}

/// A calendar that was asked for, before its time is read.
struct Asked {
    calendar: String,
    /// None: unknown, or ambiguous.
    answerer: Option<Answerer>,
    objection: Option<Error>,
}

impl Asked {
    /// About a name, and all that it could mean.
    fn of(calendar: String, mut meant: Vec<Answerer>, window: Option<MicroWindow>) -> Self {
        if meant.len() > 1 {
            let owners = meant.into_iter().map(|answerer| answerer.owner).collect();
            let objection = Error::AmbiguousCalendar { calendar: calendar.clone(), owners };
            return Asked { calendar, answerer: None, objection: Some(objection) };
        }
        let answerer = meant.pop();
        let objection = match (&answerer, window) {
            (None, _) => Some(Error::UnknownCalendar { calendar: calendar.clone() }),
            (Some(answerer), Some(window)) => objection(answerer, window),
            // An empty window asks nothing, but still of calendars that exist.
            (Some(_), None) => None,
        };
        Asked { calendar, answerer, objection }
    }

    fn is_ambiguous(&self) -> bool {
        matches!(self.objection, Some(Error::AmbiguousCalendar { .. }))
    }

    /// The part of the window that the cache cannot answer for.
    fn unknown_time(&self, window: MicroWindow) -> Vec<MicroWindow> {
        match (&self.objection, self.answerer.as_ref().and_then(|answerer| answerer.covered)) {
            (None, _) => Vec::new(),
            (Some(Error::NotCovered { .. }), Some(covered)) => subtract(&[window], &[covered]),
            (Some(_), _) => vec![window],
        }
    }
}

/// Refuses to tell of a calendar of which not all may have come. `wanted`: what of it.
pub(super) fn refuse_foreign(answerer: &Answerer, wanted: &str) -> Result<(), Error> {
    if !answerer.is_foreign {
        return Ok(());
    }
    Err(not_covered(answerer, wanted.to_owned(), NotCovered::Foreign))
}

fn not_covered(answerer: &Answerer, wanted: String, why: NotCovered) -> Error {
    Error::NotCovered { calendar: answerer.calendar.clone(), wanted, why: Box::new(why) }
}

/// Why this calendar cannot answer for this window, if it cannot.
pub(super) fn objection(answerer: &Answerer, window: MicroWindow) -> Option<Error> {
    let not_covered = |why| Some(not_covered(answerer, shown_window(window), why));
    if answerer.is_foreign {
        return not_covered(NotCovered::Foreign);
    }
    let (Some(covered), Some(synced_at)) = (answerer.covered, answerer.synced_at) else {
        return not_covered(NotCovered::NeverSynced {
            last_error: answerer.last_error.clone(),
            fed_by_application: answerer.fed_by_application,
        });
    };
    if let Some(why) = staleness(answerer, synced_at) {
        return Some(Error::Stale { calendar: answerer.calendar.clone(), why });
    }
    if covered.start() <= window.start() && window.end() <= covered.end() {
        return None;
    }
    let earlier = window.start() < covered.start();
    not_covered(NotCovered::Outside {
        from: shown(covered.start()),
        to: shown(covered.end()),
        earlier,
        needed: days_from_now(if earlier { window.start() } else { window.end() }),
    })
}

fn staleness(answerer: &Answerer, synced_at: Micros) -> Option<Stale> {
    if answerer.gone {
        return Some(Stale::Gone { last_error: answerer.last_error.clone() });
    }
    let limit = match answerer.max_staleness {
        Some(own) => own,
        // What the application feeds is as fresh as the application says.
        None if answerer.fed_by_application => return None,
        None => settings::max_staleness() as f64,
    };
    let age = (statement_start() - synced_at) as f64 / 1e6;
    (age > limit).then(|| Stale::Old {
        synced_at: shown(synced_at),
        limit: shown_duration(limit),
        last_error: answerer.last_error.clone(),
        remedy: match (answerer.fed_by_application, answerer.state.label().as_str(), answerer.max_staleness) {
            (true, ..) => Remedy::Feed,
            (_, "paused", _) => Remedy::Resume,
            (_, _, Some(_)) => Remedy::Sync { own_limit: true },
            _ => Remedy::Sync { own_limit: false },
        },
    })
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn calsync_coverage(
    calendars: Option<Array<'_, &str>>,
) -> TableIterator<
    'static,
    (
        name!(calendar, String),
        name!(covered, Option<TimeRange>),
        name!(synced_at, Option<TimestampWithTimeZone>),
        name!(state, Option<String>),
        name!(usable, bool),
        name!(reason, Option<String>),
    ),
> {
    let coverage = || -> Result<Vec<_>, Error> {
        let role = caller();
        let answerers = match calendars {
            Some(calendars) => availability::find_all(role, &names(&calendars)?)?,
            None => availability::all(role)?.into_iter().map(|one| (one.calendar.clone(), vec![one])).collect(),
        };
        answerers.into_iter().map(|(calendar, meant)| coverage_row(calendar, meant)).collect()
    };
    TableIterator::new(coverage().report())
}

type CoverageRow = (String, Option<TimeRange>, Option<TimestampWithTimeZone>, Option<String>, bool, Option<String>);

/// Usable: a question about this moment would be answered.
fn coverage_row(calendar: String, mut meant: Vec<Answerer>) -> Result<CoverageRow, Error> {
    let unusable = |calendar, reason: &str| Ok((calendar, None, None, None, false, Some(reason.to_owned())));
    let answerer = match (meant.pop(), meant.is_empty()) {
        (Some(answerer), true) => answerer,
        (Some(_), false) => return unusable(calendar, "ambiguous name (42P09)"),
        (None, _) => return unusable(calendar, "unknown calendar (SC001)"),
    };
    let now = statement_start();
    let error = Interval::new(now, now.saturating_add(1)).and_then(|moment| objection(&answerer, moment));
    let reason = error.map(|error| match error {
        Error::NotCovered { why, .. } => match *why {
            NotCovered::NeverSynced { last_error: Some(error), .. } => {
                format!("never synced (SC002); the last try failed: {error}")
            }
            NotCovered::NeverSynced { .. } => "never synced (SC002)".to_owned(),
            NotCovered::Foreign => "came from another database, not taken over yet (SC002)".to_owned(),
            NotCovered::Outside { .. } => "not covered now (SC002)".to_owned(),
        },
        Error::Stale { why: Stale::Gone { .. }, .. } => "gone at the provider (SC003)".to_owned(),
        Error::Stale { why: Stale::Old { limit, .. }, .. } => format!("stale: last synced over {limit} ago (SC003)"),
        other => other.to_string(),
    });
    Ok((
        calendar,
        answerer.covered.map(to_range).transpose()?,
        answerer.synced_at.map(timestamp_of).transpose()?,
        Some(answerer.state.label()),
        reason.is_none(),
        reason,
    ))
}

/// Half open; None: empty.
pub(super) fn window(range: TimeRange) -> Result<Option<MicroWindow>, Error> {
    if range.is_empty() {
        return Ok(None);
    }
    // Microseconds are whole numbers, so an inclusive end is the next one's exclusive end.
    let start = match range.lower() {
        Some(RangeBound::Inclusive(start)) => Micros::from(*start),
        Some(RangeBound::Exclusive(start)) => next_after(Micros::from(*start)),
        Some(RangeBound::Infinite) | None => Micros::MIN,
    };
    let end = match range.upper() {
        Some(RangeBound::Exclusive(end)) => Micros::from(*end),
        Some(RangeBound::Inclusive(end)) => next_after(Micros::from(*end)),
        Some(RangeBound::Infinite) | None => Micros::MAX,
    };
    Ok(Interval::new(start, end))
}

/// The next moment. Infinity has none, and what comes after the last timestamp is infinity.
fn next_after(moment: Micros) -> Micros {
    match moment {
        Micros::MIN | Micros::MAX => moment,
        _ if timestamp_of(moment + 1).is_err() => Micros::MAX,
        _ => moment + 1,
    }
}

pub(super) fn to_range(interval: MicroWindow) -> Result<TimeRange, Error> {
    let lower = match interval.start() {
        Micros::MIN => RangeBound::Infinite,
        start => RangeBound::Inclusive(timestamp_of(start)?),
    };
    let upper = match interval.end() {
        Micros::MAX => RangeBound::Infinite,
        end => RangeBound::Exclusive(timestamp_of(end)?),
    };
    Ok(Range::new(lower, upper))
}

/// More names in one question are refused: what is read of them must fit into memory.
const MOST_CALENDARS: usize = 10_000;
/// There are five statuses.
const MOST_STATUSES: usize = 1_000;

/// The elements of a text[], counted before they are looked at.
pub(super) fn names(calendars: &Array<'_, &str>) -> Result<Vec<String>, Error> {
    let hint = "Ask for fewer in one call, or for each by itself: join the table that has the names with LATERAL.";
    not_too_many(calendars.len(), hint)?;
    let owned = |name: Option<&str>| name.map(str::to_owned).ok_or_else(|| Error::null_element("calendars"));
    calendars.iter().map(owned).collect()
}

pub(super) fn not_too_many(calendars: usize, hint: &str) -> Result<(), Error> {
    if calendars <= MOST_CALENDARS {
        return Ok(());
    }
    Err(Error::too_much(format!("{calendars} calendars are more than {MOST_CALENDARS}"), hint))
}

/// The elements of a `calsync.busy_status[]`.
fn status_set(elements: Array<'_, pg_sys::Oid>) -> Result<StatusSet, Error> {
    if elements.is_empty() {
        // With no status nobody is ever busy; and whoever asks so by mistake would read that as "free".
        return Err(Error::argument(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "statuses must not be empty",
            "Leave them out, or pass null, for what blocks: tentative, busy and out_of_office.",
        ));
    }
    if elements.len() > MOST_STATUSES {
        let message = format!("{} statuses are more than {MOST_STATUSES}", elements.len());
        return Err(Error::too_much(message, "There are five: name each once."));
    }
    let status = |element: Option<pg_sys::Oid>| {
        let element = element.ok_or_else(|| Error::null_element("statuses"))?;
        let (label, _, _) = pgrx::enum_helper::lookup_enum_by_oid(element);
        BusyStatus::from_label(&label).ok_or_else(|| Error::Internal(format!("\"{label}\" is no busy status")))
    };
    elements.iter().map(status).collect()
}

fn statement_start() -> Micros {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::GetCurrentStatementStartTimestamp() }
}

/// As the session's TimeZone and DateStyle show it.
fn shown(micros: Micros) -> String {
    match timestamp_of(micros) {
        Ok(timestamp) if micros != Micros::MIN && micros != Micros::MAX => timestamp.to_string(),
        _ => (if micros < 0 { "-infinity" } else { "infinity" }).to_owned(),
    }
}

fn shown_window(window: MicroWindow) -> String {
    format!("[{}, {})", shown(window.start()), shown(window.end()))
}

fn shown_duration(seconds: f64) -> String {
    match seconds {
        s if s >= 172_800.0 => format!("{:.0} days", s / 86_400.0),
        s if s >= 7_200.0 => format!("{:.0} hours", s / 3_600.0),
        s if s >= 120.0 => format!("{:.0} minutes", s / 60.0),
        s if (0.5..1.5).contains(&s) => "1 second".to_owned(),
        s => format!("{s:.0} seconds"),
    }
}

/// The setting that would reach this far from now, in whole days; None: none does.
fn days_from_now(micros: Micros) -> Option<String> {
    const DAY: u64 = 86_400_000_000;
    // A day more, since the clock goes on while somebody edits the configuration.
    let days = micros.saturating_sub(statement_start()).unsigned_abs().div_ceil(DAY) + 1;
    (days <= settings::LONGEST_REACH_IN_DAYS).then(|| format!("{days}d"))
}
