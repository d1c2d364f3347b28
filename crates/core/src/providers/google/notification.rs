//! One notification: what its headers say.
//!
//! Nothing is believed here. Whether it is genuine is known once the token was compared with that of its channel.
//! Source: guide "Push notifications", "Understand the notification message format".

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

/// No header of Google's is longer.
const LONGEST_VALUE: usize = 4096;

/// What a notification says of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Notification {
    pub channel_id: String,
    /// None: it came without one, which no genuine message does.
    pub token: Option<String>,
    pub resource_id: Option<String>,
    pub state: ResourceState,
    /// 1 for the first of a channel; grows, with gaps.
    pub message_number: i64,
    /// When the channel ends.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Without the token: it is a secret.
impl std::fmt::Debug for Notification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notification")
            .field("channel_id", &self.channel_id)
            .field("state", &self.state)
            .field("message_number", &self.message_number)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceState {
    /// The channel is open; there is no news.
    Sync,
    /// Something changed. `exists`, `not_exists`, and whatever Google may call it one day.
    News,
}

/// What headers can be that are no notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these are not the headers of a notification")]
pub struct NotANotification;

impl Notification {
    /// Reads headers given as a JSON object, names in any case. A value may be a text, a number, or a list of one of
    /// them, as some servers hand headers on; a header that is there twice and says two things says nothing.
    pub fn read(headers: &Value) -> Result<Self, NotANotification> {
        let headers = ours(headers.as_object().ok_or(NotANotification)?.iter());
        let text = |name: &str| headers.get(name).cloned().flatten();
        let channel_id =
            text("channel-id").filter(|id| !id.is_empty() && !id.contains('\0')).ok_or(NotANotification)?;
        let state = match text("resource-state").ok_or(NotANotification)?.as_str() {
            "" => return Err(NotANotification),
            "sync" => ResourceState::Sync,
            _ => ResourceState::News,
        };
        let message_number = text("message-number").and_then(|number| number.parse().ok()).filter(|number| *number > 0);
        Ok(Notification {
            channel_id,
            token: text("channel-token"),
            resource_id: text("resource-id").filter(|id| !id.is_empty() && !id.contains('\0')),
            state,
            message_number: message_number.ok_or(NotANotification)?,
            expires_at: text("channel-expiration").and_then(|date| read_date(&date)),
        })
    }
}

/// The headers that begin with `X-Goog-`, by what follows; None: contradictory.
fn ours<'a>(headers: impl Iterator<Item = (&'a String, &'a Value)>) -> HashMap<String, Option<String>> {
    let mut read: HashMap<String, Option<String>> = HashMap::new();
    for (name, value) in headers {
        let name = name.trim().to_ascii_lowercase();
        let Some(name) = name.strip_prefix("x-goog-") else { continue };
        let value = single(value).filter(|value| value.len() <= LONGEST_VALUE);
        read.entry(name.to_owned())
            .and_modify(|known| {
                if *known != value {
                    *known = None;
                }
            })
            .or_insert(value);
    }
    read
}

fn single(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(values) => match values.as_slice() {
            [Value::String(text)] => Some(text.trim().to_owned()),
            _ => None,
        },
        _ => None,
    }
}

/// `Tue, 19 Nov 2013 01:13:52 GMT`
fn read_date(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text).ok().map(|date| date.with_timezone(&Utc))
}
