//! `calsync_changes`: what changed in a calendar since somebody last looked?

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::availability::{TimeRange, names, refuse_foreign, to_range};
use super::required;
use crate::error::{Error, Report};
use crate::store::availability;
use crate::store::change;
use crate::store::owner::{as_owner, caller};

type Line = (
    String,
    i64,
    String,
    String,
    Option<TimeRange>,
    Option<TimeRange>,
    Option<String>,
    Option<String>,
    TimestampWithTimeZone,
);

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn calsync_change_lines(
    since: Option<i64>,
    calendars: Option<Array<'_, &str>>,
) -> TableIterator<
    'static,
    (
        name!(calendar, String),
        name!(change_id, i64),
        name!(event_id, String),
        name!(what, String),
        name!(before, Option<TimeRange>),
        name!(after, Option<TimeRange>),
        name!(busy_status_before, Option<String>),
        name!(busy_status_after, Option<String>),
        name!(changed_at, TimestampWithTimeZone),
    ),
> {
    let changes = || -> Result<Vec<Line>, Error> {
        let since = required(since, "since")?;
        let names = calendars.as_ref().map(names).transpose()?;
        if since > 0 && names.as_ref().is_none_or(|names| names.len() != 1) {
            return Err(Error::argument(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "since belongs to one calendar, so one calendar must be named with it",
                "Keep the last change_id of each calendar, and ask for one calendar a call: calsync_changes(17, '{alice}').",
            ));
        }
        let role = caller();
        as_owner(|| {
            let mut lines = Vec::new();
            for answerer in availability::meant(role, names.as_deref())? {
                refuse_foreign(&answerer, "its changes")?;
                let changes =
                    change::since(answerer.id, since)?.ok_or_else(|| no_longer_kept(&answerer.calendar, since))?;
                for change in changes {
                    lines.push(line(&answerer.calendar, change)?);
                }
            }
            Ok(lines)
        })
    };
    TableIterator::new(changes().report())
}

fn no_longer_kept(calendar: &str, since: i64) -> Error {
    Error::Argument {
        code: PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        message: format!("the changes of calendar \"{calendar}\" after {since} are no longer kept"),
        detail: "They are older than calsync.change_retention, or the calendar was subscribed anew.".into(),
        hint: "Read the calendar afresh, and go on from the last change_id that calsync_changes(0, ...) shows.".into(),
    }
}

fn line(calendar: &str, change: change::Change) -> Result<Line, Error> {
    Ok((
        calendar.to_owned(),
        change.change_id,
        change.event_id,
        change.what,
        change.before.map(to_range).transpose()?,
        change.after.map(to_range).transpose()?,
        change.busy_status_before,
        change.busy_status_after,
        change.changed_at,
    ))
}
