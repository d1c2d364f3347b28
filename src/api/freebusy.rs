//! `calsync_freebusy`: Google's `freeBusy.query`, answered from the cache.
//!
//! A calendar that cannot answer is an error of that calendar's, in Google's way, not of the whole query. Lest a client
//! that looks at `busy` alone takes that for "free", time that is not known is told as busy; only a calendar that does
//! not exist is answered as Google answers it, without any.

use std::ffi::CString;

use calsync_core::freebusy::{Problem, Request};
use calsync_core::interval::Interval;
use pgrx::AnyElement;
use pgrx::prelude::*;

use super::availability::{Answer, Question};
use super::json_argument;
use super::slots::pause;
use crate::error::{Error, Report};
use crate::settings::OnUncovered;
use crate::store::availability::MicroWindow;
use crate::store::time::{instant_of, micros};

/// More busy intervals in one answer are refused: far fewer than other questions may have, since as JSON each takes
/// twenty times the room, and Postgres makes a jsonb of its text in one go, which cannot be cancelled.
const MOST_INTERVALS: usize = 100_000;

#[pg_extern(sql = false)]
fn calsync_freebusy(request: Option<AnyElement>) -> AnyElement {
    let answer = || -> Result<AnyElement, Error> {
        let request = Request::parse(&json_argument(request, "request")?)?;
        let told = if request.asks_too_much() {
            let none = |calendar: &String| (calendar.clone(), Vec::new(), Some(Problem::TooManyCalendarsRequested));
            request.answer(request.calendars.iter().map(none), pause)
        } else if request.calendars.is_empty() {
            request.answer([], pause)
        } else {
            let window = Interval::new(micros(request.window.start()), micros(request.window.end()));
            let question = Question::about(window, request.calendars.clone())?;
            let question = Question { most_intervals: MOST_INTERVALS, ..question };
            let answers = question.answers()?;
            request.answer(answers.into_iter().map(|answer| told(answer, question.on_uncovered)), pause)
        };
        jsonb(told.map_err(|error| Error::Internal(error.to_string()))?)
    };
    answer().report()
}

/// For returning from a function that the SQL declaration gives the type jsonb.
fn jsonb(text: String) -> Result<AnyElement, Error> {
    let text = CString::new(text).map_err(|error| Error::Internal(error.to_string()))?;
    // SAFETY: jsonb_in takes a C string, which outlives the call, and returns a jsonb or raises.
    let jsonb = unsafe {
        let argument = Some(pg_sys::Datum::from(text.as_ptr()));
        let made = pgrx::direct_function_call_as_datum(pg_sys::jsonb_in, &[argument]);
        made.and_then(|made| AnyElement::from_polymorphic_datum(made, false, pg_sys::JSONBOID))
    };
    jsonb.ok_or_else(|| Error::Internal("no jsonb was made".to_owned()))
}

fn told(answer: Answer, on_uncovered: OnUncovered) -> (String, Vec<Interval>, Option<Problem>) {
    let problem = match &answer.objection {
        None => None,
        Some(Error::UnknownCalendar { .. }) => Some(Problem::NotFound),
        // As for every question, an error under each setting.
        Some(Error::AmbiguousCalendar { .. }) => Some(Problem::Ambiguous),
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
