//! `calsync_freebusy`: Google's `freeBusy.query`, answered from the cache.
//!
//! A calendar that cannot answer is an error of that calendar's, in Google's way, not of the whole query. Lest a client
//! that looks at `busy` alone takes that for "free", time that is not known is told as busy; only a calendar that does
//! not exist is answered as Google answers it, without any.

use calsync_core::freebusy::{Problem, Request};
use calsync_core::interval::Interval;
use pgrx::prelude::*;
use pgrx::{AnyElement, JsonB};
use serde_json::Value;

use super::availability::{Answer, Question, not_too_many};
use super::json_argument;
use crate::error::{Error, Report};
use crate::settings::OnUncovered;
use crate::store::availability::MicroWindow;
use crate::store::time::{instant_of, micros};

#[pg_extern(sql = false)]
fn calsync_freebusy(request: Option<AnyElement>) -> JsonB {
    let answer = || -> Result<Value, Error> {
        let request = Request::parse(&json_argument(request, "request")?)?;
        not_too_many(request.calendars.len())?;
        if request.asks_too_much() {
            let none = |calendar: &String| (calendar.clone(), Vec::new(), Some(Problem::TooManyCalendarsRequested));
            return Ok(request.answer(request.calendars.iter().map(none)));
        }
        if request.calendars.is_empty() {
            return Ok(request.answer([]));
        }
        let window = Interval::new(micros(request.window.start()), micros(request.window.end()));
        let question = Question::about(window, request.calendars.clone())?;
        let answers = question.answers()?;
        Ok(request.answer(answers.into_iter().map(|answer| told(answer, question.on_uncovered))))
    };
    JsonB(answer().report())
}

fn told(answer: Answer, on_uncovered: OnUncovered) -> (String, Vec<Interval>, Option<Problem>) {
    let problem = match &answer.objection {
        None => None,
        Some(Error::UnknownCalendar { .. }) => Some(Problem::NotFound),
        Some(_) if on_uncovered != OnUncovered::Error => None,
        Some(Error::Stale { .. }) => Some(Problem::Stale),
        Some(_) => Some(Problem::NotCovered),
    };
    let busy = match problem {
        Some(Problem::NotFound) if on_uncovered == OnUncovered::Error => Vec::new(),
        _ => answer.busy.into_iter().filter_map(instants).collect(),
    };
    (answer.calendar, busy, problem)
}

/// The window was written in RFC 3339, so what lies in it can be.
fn instants(busy: MicroWindow) -> Option<Interval> {
    Interval::new(instant_of(busy.start())?, instant_of(busy.end())?)
}
