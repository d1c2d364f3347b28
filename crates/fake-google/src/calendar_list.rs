//! `calendarList.list`: the calendars a user sees, with its own sync tokens.
//!
//! <https://developers.google.com/workspace/calendar/api/v3/reference/calendarList/list>

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::http::Request;
use crate::state::State;
use crate::tokens::{SyncToken, hash};

/// Stands for "the list of calendars" where event tokens name their calendar.
const WHOLE_LIST: &str = "calendarList";

pub fn list(state: &State, request: &Request) -> Result<Value, ApiError> {
    let size = match request.param("maxResults").map(str::parse::<usize>) {
        None => 100,
        Some(Ok(n)) if n >= 1 => n.min(250),
        Some(_) => return Err(ApiError::invalid_value("maxResults")),
    };
    let version =
        state.calendars.values().map(|c| c.own_version).chain(state.gone.values().copied()).max().unwrap_or(0);
    let since = match request.param("syncToken") {
        None => None,
        Some(token) => {
            let token = SyncToken::decode(token).filter(|t| t.calendar == hash(WHOLE_LIST) && t.version <= version);
            if request.param("minAccessRole").is_some() {
                return Err(ApiError::new(
                    400,
                    "syncTokenWithRequestRestrictions",
                    "Sync token cannot be used with other request restrictions.",
                )
                .in_domain("calendar"));
            }
            Some(token.ok_or_else(ApiError::invalid_sync_token)?.version)
        }
    };
    let rank = |role: &str| {
        ["freeBusyReader", "reader", "writerWithoutPrivateAccess", "writer", "owner"].iter().position(|r| *r == role)
    };
    let least = request.param("minAccessRole").map(rank);
    let mut items: Vec<Value> = Vec::new();
    for calendar in state.calendars.values() {
        let visible = least.is_none_or(|least| rank(&calendar.access_role) >= least);
        if visible && since.is_none_or(|since| calendar.own_version > since) {
            items.push(calendar.list_entry());
        }
    }
    if let Some(since) = since {
        let gone = state.gone.iter().filter(|(_, version)| **version > since);
        items.extend(gone.map(|(id, version)| {
            json!({ "kind": "calendar#calendarListEntry", "etag": format!("\"{version}\""), "id": id, "deleted": true })
        }));
    }
    let offset = match request.param("pageToken") {
        None => 0,
        Some(token) => {
            token.parse().ok().filter(|n| *n <= items.len()).ok_or_else(|| ApiError::invalid_value("pageToken"))?
        }
    };
    let end = (offset + size).min(items.len());
    let mut answer = json!({
        "kind": "calendar#calendarList",
        "etag": format!("\"p{version}o0o\""),
        "items": items[offset..end],
    });
    if end < items.len() {
        answer["nextPageToken"] = json!(end.to_string());
    } else {
        let token = SyncToken { version, calendar: hash(WHOLE_LIST), params: 0 };
        answer["nextSyncToken"] = json!(token.encode());
    }
    Ok(answer)
}
