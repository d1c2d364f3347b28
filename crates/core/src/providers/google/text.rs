//! Texts from outside: made storable, cut to size, made safe to show.

use serde_json::Value;

use crate::sync::is_showable;

/// The text without NUL, which Postgres stores in neither `text` nor `jsonb`.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "")
}

/// [`storable`], and no longer than `limit` bytes (cut between characters).
pub(crate) fn capped(text: &str, limit: usize) -> String {
    let mut kept = storable(text);
    kept.truncate(kept.floor_char_boundary(limit));
    kept
}

/// The value with every text in it, keys too, made [`storable`].
pub(crate) fn storable_json(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(storable(text)),
        Value::Array(items) => Value::Array(items.iter().map(storable_json).collect()),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (storable(key), storable_json(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// At most `limit` characters of the text, on one line: for an error message.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    text.chars().filter(|c| is_showable(*c)).take(limit).collect()
}

/// The text in quotes, short enough for an error message.
pub(crate) fn quoted(text: &str) -> String {
    const LIMIT: usize = 60;
    let more = if text.chars().nth(LIMIT).is_some() { "…" } else { "" };
    format!("\"{}{more}\"", one_line(text, LIMIT))
}
