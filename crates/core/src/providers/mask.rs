//! The one place where secrets are taken out of what a provider says.
//!
//! A provider may repeat in an error what it was sent, and errors are shown, stored and logged. So each answer passes
//! through the mask of its request before anything reads it: all texts of the request that are secret, also where JSON
//! escapes, percent-encoding or HTML's references disguise them. A provider that means to hide what it repeats can: it knows
//! the secret.
//!
//! What is no error is calendar data, which must not change because somebody's password is also a word: there only a
//! text that is too long to stand there by chance is taken out.

mod html;

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::{Answer, Method, Request};
use crate::sync::is_showable;

/// What stands where a secret stood.
const HIDDEN: &str = "***";

/// So long a secret is no word of a calendar, in bytes.
const NO_WORD: usize = 16;

/// The fields of a token request that are secret.
const SECRET_FIELDS: [&str; 3] = ["client_secret", "refresh_token", "assertion"];

/// The secret texts of one request. Its `Debug` form shows none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Mask {
    /// The longest first: one may be part of another.
    secrets: Vec<String>,
    /// Those of them that HTML writes otherwise.
    escaped: Vec<String>,
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mask").finish_non_exhaustive()
    }
}

impl Mask {
    /// Of what is secret in this request: its authorization, the secret fields of a form, a channel's token.
    pub fn of(request: &Request) -> Self {
        let mut secrets = Vec::new();
        for (_, value) in request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            let (scheme, credentials) = value.split_once(' ').unwrap_or(("", value));
            secrets.push(credentials.to_owned());
            let decoded = BASE64_STANDARD.decode(credentials).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"));
            let pair = decoded.and_then(|pair| String::from_utf8(pair).ok());
            secrets
                .extend(pair.as_deref().and_then(|pair| pair.split_once(':')).map(|(_, password)| password.to_owned()));
        }
        if let Method::Post(body) = &request.method {
            // Of a watch request: what its notifications will repeat.
            let json: Option<Value> = serde_json::from_str(body).ok();
            secrets.extend(json.and_then(|body| body["token"].as_str().map(str::to_owned)));
            for (name, value) in form_urlencoded::parse(body.as_bytes()) {
                if SECRET_FIELDS.contains(&name.as_ref()) {
                    // Of a signed assertion the signature is what others could not make.
                    secrets.extend(value.rsplit_once('.').map(|(_, signature)| signature.to_owned()));
                    secrets.push(value.into_owned());
                }
            }
        }
        let upper = secrets.iter().map(|secret| form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>());
        let encoded: Vec<String> = upper
            .flat_map(|encoded| [with_small_digits(&encoded), encoded])
            .filter(|encoded| !secrets.contains(encoded))
            .collect();
        secrets.extend(encoded);
        Self::with(secrets)
    }

    fn with(mut secrets: Vec<String>) -> Self {
        secrets.retain(|secret| !secret.is_empty());
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let escaped = secrets.iter().filter(|secret| html::is_escaped(secret)).cloned().collect();
        Self { secrets, escaped }
    }

    /// The text without the secrets.
    pub fn text(&self, text: &str) -> String {
        let text = self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN));
        let mut shown = String::new();
        let mut taken = 0;
        for range in html::find(&text, &self.escaped) {
            shown = shown + &text[taken..range.start] + HIDDEN;
            taken = range.end;
        }
        if taken == 0 { text } else { shown + &text[taken..] }
    }

    /// The answer without the secrets. A body that says "200 OK" is left as it is where `keeps_success`: what a token
    /// endpoint grants may well be what it was sent.
    pub fn answer(&self, answer: Answer, keeps_success: bool) -> Answer {
        match answer {
            Answer::None { reason } => Answer::None { reason: self.text(&reason) },
            Answer::Refused(_) => answer,
            Answer::Http { status: 200, .. } if keeps_success => answer,
            Answer::Http { status, retry_after, body } => {
                Answer::Http { status, retry_after, body: self.body(status, body) }
            }
        }
    }

    fn body(&self, status: u16, body: Vec<u8>) -> Vec<u8> {
        if status == 200 {
            return self.page(body);
        }
        match serde_json::from_slice::<Value>(&body) {
            Ok(json) => self.json(json).to_string().into_bytes(),
            Err(_) => self.text(&showable(&String::from_utf8_lossy(&body))).into_bytes(),
        }
    }

    /// A page of events is large, and hardly ever holds what was sent. It is not parsed here: as JSON values it would
    /// take many times its space.
    fn page(&self, body: Vec<u8>) -> Vec<u8> {
        let long = self.secrets.iter().filter(|secret| secret.len() >= NO_WORD);
        // Some write each slash with a backslash before it (RFC 8259 §7).
        let long = Self::with(long.flat_map(|secret| [secret.clone(), secret.replace('/', "\\/")]).collect());
        let Ok(text) = std::str::from_utf8(&body) else {
            return self.text(&String::from_utf8_lossy(&body)).into_bytes();
        };
        let is_repeated = long.secrets.iter().any(|secret| text.contains(secret));
        if is_repeated || !html::find(text, &long.escaped).is_empty() { long.text(text).into_bytes() } else { body }
    }

    /// Keys stay: they are looked up, never shown. Texts are read as they will be shown.
    fn json(&self, json: Value) -> Value {
        match json {
            Value::String(text) => Value::String(self.text(&showable(&text))),
            Value::Array(items) => items.into_iter().map(|item| self.json(item)).collect(),
            Value::Object(keys) => keys.into_iter().map(|(key, value)| (key, self.json(value))).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => json,
        }
    }
}

/// What is shown of an error loses them anyway: a secret that they cut must not come together afterwards.
fn showable(text: &str) -> String {
    text.chars().filter(|c| is_showable(*c)).collect()
}

/// `%2f` for `%2F`: RFC 3986 §2.1 has both mean the same.
fn with_small_digits(encoded: &str) -> String {
    let mut rest = 0;
    let small = encoded.chars().map(|c| {
        rest = if c == '%' { 2 } else { i32::max(rest - 1, -1) };
        if c != '%' && rest >= 0 { c.to_ascii_lowercase() } else { c }
    });
    small.collect()
}
