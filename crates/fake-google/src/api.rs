//! The public side: which path is which method, who may call it, and which fault plays.

use std::time::Duration;

use serde_json::Value;

use crate::calendar_list;
use crate::error::ApiError;
use crate::fields;
use crate::freebusy;
use crate::http::{Request, Response};
use crate::list;
use crate::server::{Delivery, Reply};
use crate::state::{Shared, State};
use crate::times::rfc3339_millis;

/// Answers one request: fault, log, authorization, method.
pub fn handle(shared: &Shared, request: &Request) -> Reply {
    let mut state = shared.lock();
    let calendar = calendar_of(request);
    let fault = state.faults.take(request, calendar);
    let time = rfc3339_millis(state.clock.now());
    let played = fault.as_ref().map(|fault| fault.action.name().to_owned());
    let number = state.log.arrive(request, calendar, time, played);
    let date = state.clock.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let response = match fault.as_ref().and_then(|fault| fault.action.instead(request)) {
        Some(instead) => instead,
        None => answer(&mut state, shared, request),
    };
    let response = response.with("Date", date);
    let delivery = fault.as_ref().map_or(Delivery::Whole, |fault| fault.action.delivery());
    if !matches!(delivery, Delivery::HangAfter(_) | Delivery::CutAfter(0)) {
        state.log.answer(number, response.status);
    }
    let latency = Duration::from_millis(fault.map_or(0, |fault| fault.latency_ms));
    Reply { response, latency, delivery }
}

/// The calendar that a path is about.
fn calendar_of(request: &Request) -> Option<&str> {
    let at = request.segments.iter().position(|s| s == "calendars" || s == "calendarList")?;
    request.segments.get(at + 1).map(String::as_str)
}

fn answer(state: &mut State, shared: &Shared, request: &Request) -> Response {
    if state.unavailable {
        return ApiError::new(503, "backendError", "The service is currently unavailable.").into();
    }
    let path: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    if let (["token"] | ["oauth2", "v4", "token"], "POST") = (&path[..], request.method.as_str()) {
        let now = state.clock.now();
        return state.oauth.token(&request.body, now, &mut state.dice);
    }
    // Google's Python client appends "calendars/..." to its api_endpoint: both its forms arrive.
    let mut path = path.strip_prefix(&["calendar", "v3"]).unwrap_or(&path).to_vec();
    let user = state.oauth.user(request).map(str::to_owned);
    if let ([_, .., "calendarList", id] | ["calendars", id, ..], Some(user)) = (&mut path[..], &user)
        && *id == "primary"
    {
        *id = user;
    }
    let now = state.clock.now();
    let allowed = state.oauth.check(request, now).and_then(|()| state.quota.spend(request, now));
    let result = allowed.and_then(|()| dispatch(state, shared, &path, user.as_deref(), request));
    match result {
        Ok(Some(value)) => resource_response(request, value),
        Ok(None) => Response::empty(204),
        Err(error) => error.into(),
    }
}

fn resource_response(request: &Request, value: Value) -> Response {
    let etag = value.get("etag").and_then(Value::as_str).map(str::to_owned);
    if let (Some(etag), Some(known)) = (&etag, request.header("if-none-match"))
        && request.method == "GET"
        && (known == "*" || known.split(',').any(|k| k.trim() == etag))
    {
        return Response::empty(304).with("ETag", etag);
    }
    let value = match request.param("fields") {
        Some(mask) => match fields::select(&value, mask) {
            Some(selected) => selected,
            None => {
                return ApiError::new(400, "invalidParameter", format!("Invalid field selection {mask}"))
                    .at_parameter("fields")
                    .into();
            }
        },
        None => value,
    };
    let answer = match request.param("prettyPrint") {
        Some("false") => Response::compact(200, &value),
        _ => Response::json(200, &value),
    };
    match etag {
        Some(etag) => answer.with("ETag", etag),
        None => answer,
    }
}

fn dispatch(
    state: &mut State,
    shared: &Shared,
    path: &[&str],
    user: Option<&str>,
    request: &Request,
) -> Result<Option<Value>, ApiError> {
    let queue = &shared.queue;
    let if_match = request.header("if-match");
    match (request.method.as_str(), path) {
        ("GET", ["users", "me", "calendarList"]) => calendar_list::list(state, request).map(Some),
        ("GET", ["users", "me", "calendarList", id]) => Ok(Some(state.calendar(id)?.list_entry())),
        ("GET", ["calendars", id]) => Ok(Some(state.calendar(id)?.resource())),
        ("GET", ["calendars", id, "events"]) => list::events(state, id, request).map(Some),
        ("POST", ["calendars", id, "events"]) => {
            writable(state, id)?;
            let body = request.json()?;
            state.edit(id, queue, |edit| edit.insert(&body)).map(Some)
        }
        ("POST", ["calendars", id, "events", "import"]) => {
            writable(state, id)?;
            let body = request.json()?;
            state.edit(id, queue, |edit| edit.import(&body)).map(Some)
        }
        ("POST", ["calendars", id, "events", "watch"]) => {
            let calendar = state.calendar(id)?;
            let (id, pushable) = (calendar.id.clone(), calendar.pushable);
            let now = state.clock.now();
            state.channels.watch(&id, pushable, user, &request.json()?, now, queue).map(Some)
        }
        ("GET", ["calendars", id, "events", event]) => list::get(state, id, event, request).map(Some),
        ("PATCH", ["calendars", id, "events", event]) => {
            writable(state, id)?;
            let body = request.json()?;
            state.edit(id, queue, |edit| edit.patch(event, &body, if_match)).map(Some)
        }
        ("PUT", ["calendars", id, "events", event]) => {
            writable(state, id)?;
            let body = request.json()?;
            state.edit(id, queue, |edit| edit.update(event, &body, if_match)).map(Some)
        }
        ("DELETE", ["calendars", id, "events", event]) => {
            writable(state, id)?;
            state.edit(id, queue, |edit| edit.delete(event, if_match))?;
            Ok(None)
        }
        ("GET", ["calendars", id, "events", event, "instances"]) => {
            list::instances(state, id, event, request).map(Some)
        }
        ("POST", ["freeBusy"]) => freebusy::query(state, &request.json()?).map(Some),
        ("POST", ["channels", "stop"]) => {
            let now = state.clock.now();
            state.channels.stop(&request.json()?, user, now)?;
            Ok(None)
        }
        _ => Err(ApiError::not_found()),
    }
}

fn writable(state: &State, id: &str) -> Result<(), ApiError> {
    match state.calendar(id)?.writable() {
        true => Ok(()),
        false => Err(ApiError::new(403, "requiredAccessLevel", "You need to have writer access to this calendar.")
            .in_domain("calendar")),
    }
}
