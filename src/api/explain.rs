//! `calsync_explain`: why is this slot blocked, or not?

use calsync_core::interval::Interval;
use pgrx::prelude::*;

use super::availability::{TimeRange, names, objection, to_range, window};
use super::required;
use crate::error::{Error, Report};
use crate::store::availability::{self, Answerer, MicroWindow};
use crate::store::explain::{self, Explained};
use crate::store::owner::{as_owner, caller};
use crate::store::time::{instant_of, micros};

type Line = (String, Option<String>, Option<String>, Option<TimeRange>, Option<String>, Option<bool>, String);

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn calsync_explain_lines(
    during: Option<TimeRange>,
    calendars: Option<Array<'_, &str>>,
) -> TableIterator<
    'static,
    (
        name!(calendar, String),
        name!(event_id, Option<String>),
        name!(summary, Option<String>),
        name!(takes_place, Option<TimeRange>),
        name!(busy_status, Option<String>),
        name!(blocks, Option<bool>),
        name!(reason, String),
    ),
> {
    let explain = || -> Result<Vec<Line>, Error> {
        let asked = window(required(during, "during")?)?;
        let names = names(&required(calendars, "calendars")?)?;
        let Some(asked) = asked else { return Ok(Vec::new()) };
        let bounded = instant_of(asked.start())
            .zip(instant_of(asked.end()))
            .and_then(|(from, to)| Interval::new(from, to))
            .ok_or_else(|| {
                Error::argument(
                    PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                    "during must have a beginning and an end to be explained",
                    "Pass the slot that somebody asks about, such as '[2026-11-23 09:00+01, 2026-11-23 10:00+01)'.",
                )
            })?;
        let role = caller();
        as_owner(|| {
            let mut lines = Vec::new();
            for (calendar, answerer) in availability::find(role, &names)? {
                lines.extend(about_the_calendar(&calendar, answerer.as_ref(), asked));
                for explained in answerer.map_or(Ok(Vec::new()), |answerer| explain::near(answerer.id, bounded))? {
                    lines.push(line(&calendar, explained)?);
                }
            }
            Ok(lines)
        })
    };
    TableIterator::new(explain().report())
}

/// What keeps the whole calendar from answering comes first, as a line without an event.
fn about_the_calendar(calendar: &str, answerer: Option<&Answerer>, window: MicroWindow) -> Option<Line> {
    let error = match answerer {
        None => Error::UnknownCalendar { calendar: calendar.to_owned() },
        Some(answerer) => objection(answerer, window)?,
    };
    Some((calendar.to_owned(), None, None, None, None, None, format!("no answer: {error}")))
}

fn line(calendar: &str, explained: Explained) -> Result<Line, Error> {
    let during = explained.during.and_then(|during| Interval::new(micros(during.start()), micros(during.end())));
    Ok((
        calendar.to_owned(),
        Some(explained.event_id),
        explained.summary,
        during.map(to_range).transpose()?,
        explained.status.map(|status| status.label().to_owned()),
        Some(explained.verdict.blocks),
        explained.verdict.reason,
    ))
}
