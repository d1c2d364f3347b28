//! The control port: JSON over HTTP, one path for every method of [`Control`]. The crate's page lists the paths.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::calendar::{CalendarPatch, NewCalendar};
use crate::error::{ApiError, FakeError};
use crate::fake::{Control, Seed};
use crate::faults::Fault;
use crate::http::{Request, Response};
use crate::push::Channel;
use crate::resources::merge;

impl From<FakeError> for ApiError {
    fn from(error: FakeError) -> Self {
        match error {
            FakeError::SeedEvent { ref source, .. } => Self::new(source.code, &source.reason, error.to_string()),
            FakeError::UnknownCalendar(_) => Self::new(404, "notFound", error.to_string()),
            FakeError::Listen { .. } => Self::new(500, "cannotListen", error.to_string()),
            _ => Self::new(400, "invalid", error.to_string()),
        }
    }
}

pub fn handle(control: &Control, request: &Request) -> Response {
    let path: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    let answer = match path.split_first() {
        None => Ok(help(control)),
        Some((&"calendars", rest)) => calendars(control, rest, request),
        Some((&"auth", rest)) => auth(control, rest, request),
        Some((&"faults", rest)) => faults(control, rest, request),
        Some(_) => rest_of_it(control, &path, request),
    };
    match answer {
        Ok(value) => Response::json(200, &value),
        Err(error) => error.into(),
    }
}

fn help(control: &Control) -> Value {
    json!({ "api": control.api_url(), "token": control.token_url(), "help": "see the page of the crate fake-google" })
}

/// The answer to a call without a result.
fn done() -> Value {
    json!({ "ok": true })
}

fn read<T: DeserializeOwned>(request: &Request) -> Result<T, ApiError> {
    serde_json::from_value(request.json()?).map_err(|error| ApiError::invalid(error.to_string()))
}

fn text<'a>(body: &'a Value, field: &str) -> Result<&'a str, ApiError> {
    body.get(field).and_then(Value::as_str).ok_or_else(|| ApiError::required(format!("\"{field}\" is needed")))
}

fn flag(body: &Value, field: &str) -> Result<Option<bool>, ApiError> {
    match body.get(field) {
        None => Ok(None),
        Some(Value::Bool(on)) => Ok(Some(*on)),
        Some(_) => Err(ApiError::invalid(format!("\"{field}\" is true or false"))),
    }
}

/// The present settings with the body's fields over them.
fn patched<T: serde::Serialize + DeserializeOwned>(present: &T, request: &Request) -> Result<T, ApiError> {
    let mut value = json!(present);
    let body = request.json()?;
    let Value::Object(fields) = body else { return Err(ApiError::bad_request()) };
    for (field, new) in fields {
        // An explicit null must stay one, so this is no merge of the whole.
        let slot = value.as_object_mut().map(|o| o.entry(field).or_insert(Value::Null));
        if let Some(slot) = slot {
            if new.is_null() { *slot = Value::Null } else { merge(slot, &new) }
        }
    }
    serde_json::from_value(value).map_err(|error| ApiError::invalid(error.to_string()))
}

fn calendars(control: &Control, path: &[&str], request: &Request) -> Result<Value, ApiError> {
    match (request.method.as_str(), path) {
        ("GET", []) => Ok(json!(control.calendars())),
        ("POST", []) => {
            control.add_calendar(&read::<NewCalendar>(request)?)?;
            Ok(done())
        }
        ("PATCH", [id]) => {
            control.patch_calendar(id, &read::<CalendarPatch>(request)?)?;
            Ok(done())
        }
        ("DELETE", [id]) => match control.delete_calendar(id) {
            true => Ok(done()),
            false => Err(ApiError::not_found()),
        },
        ("POST", [id, "expire-sync-tokens"]) => control.expire_sync_tokens(Some(id)).map(|()| done()),
        ("POST", [id, "notify"]) => control.notify(id).map(|()| done()),
        ("GET", [id, "quirks"]) => Ok(json!(control.quirks(Some(id))?)),
        ("PATCH", [id, "quirks"]) => {
            let quirks = patched(&control.quirks(Some(id))?, request)?;
            control.set_quirks(Some(id), quirks)?;
            Ok(json!(control.quirks(Some(id))?))
        }
        ("GET", [id, "busy"]) => {
            let bound = |name: &str| crate::times::parse_bound(request.param(name).unwrap_or_default());
            Ok(json!(control.busy(id, bound("from")?, bound("to")?)?))
        }
        (_, [id, "events", rest @ ..]) => events(control, id, rest, request),
        _ => Err(ApiError::not_found()),
    }
}

fn events(control: &Control, id: &str, path: &[&str], request: &Request) -> Result<Value, ApiError> {
    match (request.method.as_str(), path) {
        ("GET", []) => Ok(json!(control.events(id)?)),
        ("POST", []) => match request.json()? {
            Value::Array(many) => Ok(json!(control.insert_events(id, &many)?)),
            one => control.insert_event(id, &one),
        },
        ("POST", ["import"]) => control.import_event(id, &request.json()?),
        ("POST", ["raw"]) => control.put_raw_event(id, &request.json()?),
        ("GET", [event]) => control.event(id, event),
        ("PATCH", [event]) => control.patch_event(id, event, &request.json()?),
        ("PUT", [event]) => control.update_event(id, event, &request.json()?),
        ("DELETE", [event]) => control.delete_event(id, event).map(|()| done()),
        ("POST", [event, "split"]) => {
            let body = request.json()?;
            let nothing = json!({});
            control.split_series(id, event, text(&body, "at")?, body.get("patch").unwrap_or(&nothing))
        }
        _ => Err(ApiError::not_found()),
    }
}

fn auth(control: &Control, path: &[&str], request: &Request) -> Result<Value, ApiError> {
    let body = request.json()?;
    match (request.method.as_str(), path) {
        ("GET", []) => {}
        ("PATCH", []) => {
            if let Some(on) = flag(&body, "requireAuth")? {
                control.require_auth(on);
            }
            if let Some(seconds) = body.get("tokenLifetime").and_then(Value::as_i64) {
                control.set_token_lifetime(seconds);
            }
            if let Some(on) = flag(&body, "rotateRefreshTokens")? {
                control.rotate_refresh_tokens(on);
            }
        }
        ("POST", ["keys"]) => {
            let key = STANDARD.decode(text(&body, "publicKey")?);
            let key = key.map_err(|_| ApiError::invalid("\"publicKey\" is not base64"))?;
            control.register_key(text(&body, "account")?, key);
        }
        ("POST", ["tokens"]) => {
            let seconds = body.get("expiresIn").and_then(Value::as_i64).unwrap_or(3599);
            control.register_token(text(&body, "token")?, TimeDelta::try_seconds(seconds).unwrap_or(TimeDelta::MAX));
        }
        ("POST", ["users"]) => control.sign_in(text(&body, "grant")?, text(&body, "calendar")?),
        ("POST", ["expire"]) => control.expire_access_tokens(),
        ("POST", ["revoke"]) => control.revoke_grants(body.get("grant").and_then(Value::as_str)),
        ("POST", ["restore"]) => control.restore_grants(),
        ("POST", ["clients"]) => {
            control.refuse_client(text(&body, "client")?, body.get("error").and_then(Value::as_str));
        }
        _ => return Err(ApiError::not_found()),
    }
    Ok(control.auth_status())
}

fn faults(control: &Control, path: &[&str], request: &Request) -> Result<Value, ApiError> {
    match (request.method.as_str(), path) {
        ("GET", []) => Ok(json!(control.faults())),
        ("POST", []) => Ok(json!({ "id": control.add_fault(read::<Fault>(request)?) })),
        ("DELETE", []) => {
            control.clear_faults();
            Ok(done())
        }
        ("DELETE", [id]) => match id.parse().is_ok_and(|id| control.remove_fault(id)) {
            true => Ok(done()),
            false => Err(ApiError::not_found()),
        },
        _ => Err(ApiError::not_found()),
    }
}

fn rest_of_it(control: &Control, path: &[&str], request: &Request) -> Result<Value, ApiError> {
    match (request.method.as_str(), path) {
        ("POST", ["load"]) => control.load(&read::<Seed>(request)?)?,
        ("POST", ["reset"]) => control.reset(),
        ("POST", ["expire-sync-tokens"]) => control.expire_sync_tokens(None)?,
        ("GET", ["log"]) => return Ok(json!(control.log())),
        ("DELETE", ["log"]) => control.clear_log(),
        ("GET", ["quirks"]) => return Ok(json!(control.quirks(None)?)),
        ("PATCH", ["quirks"]) => {
            let quirks = patched(&control.quirks(None)?, request)?;
            control.set_quirks(None, quirks)?;
            return Ok(json!(control.quirks(None)?));
        }
        ("GET", ["quota"]) => return Ok(json!({ "requestsPerMinute": control.quota() })),
        ("POST", ["quota"]) => {
            let limit = request.json()?.get("requestsPerMinute").and_then(Value::as_u64);
            control.set_quota(limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)));
        }
        ("GET", ["channels"]) => {
            return Ok(control.channels().iter().map(Channel::describe).collect());
        }
        ("GET", ["deliveries"]) => return Ok(json!(control.deliveries())),
        ("GET", ["push"]) => return Ok(json!(control.push_quirks())),
        ("PATCH", ["push"]) => {
            control.set_push_quirks(patched(&control.push_quirks(), request)?);
            return Ok(json!(control.push_quirks()));
        }
        ("POST", ["outage"]) => outage(control, &request.json()?)?,
        ("GET", ["clock"]) => return Ok(json!({ "now": control.now() })),
        ("POST", ["clock"]) => {
            set_clock(control, &request.json()?)?;
            return Ok(json!({ "now": control.now() }));
        }
        _ => return Err(ApiError::not_found()),
    }
    Ok(done())
}

fn outage(control: &Control, body: &Value) -> Result<(), ApiError> {
    match text(body, "mode")? {
        "refuse" => control.stop(),
        "unavailable" => control.set_unavailable(true),
        "none" => {
            control.set_unavailable(false);
            control.start_again()?;
        }
        _ => return Err(ApiError::invalid("\"mode\" is none, refuse or unavailable")),
    }
    Ok(())
}

fn set_clock(control: &Control, body: &Value) -> Result<(), ApiError> {
    if let Some(now) = body.get("now").and_then(Value::as_str) {
        let now: DateTime<Utc> = now.parse().map_err(|_| ApiError::invalid("\"now\" is not RFC 3339"))?;
        control.set_clock(now);
    }
    if let Some(seconds) = body.get("advanceSeconds").and_then(Value::as_i64) {
        control.advance_clock(TimeDelta::try_seconds(seconds).ok_or_else(|| ApiError::invalid("too far"))?);
    }
    Ok(())
}
