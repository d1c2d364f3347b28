//! The one place where secrets are taken out of what a provider says.
//!
//! A provider may repeat in an error what it was sent, and errors are shown, stored and logged. So each answer passes
//! through the mask of its request before anything reads it: all texts of the request that are secret, and of the usual
//! disguises (JSON escapes, percent-encoding) the same.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::{Answer, Method, Request};

/// What stands where a secret stood.
const HIDDEN: &str = "***";

/// The fields of a token request that are secret.
const SECRET_FIELDS: [&str; 3] = ["client_secret", "refresh_token", "assertion"];

/// The secret texts of one request. Its `Debug` form shows none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Mask(Vec<String>);

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
        let encoded: Vec<String> = secrets
            .iter()
            .map(|secret| form_urlencoded::byte_serialize(secret.as_bytes()).collect())
            .filter(|encoded| !secrets.contains(encoded))
            .collect();
        secrets.extend(encoded);
        secrets.retain(|secret| !secret.is_empty());
        // The longest first: one may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// The text without the secrets.
    pub fn text(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN))
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
        // A page of events is large, and hardly ever holds what was sent: it is searched, not parsed.
        let seems_clean = std::str::from_utf8(&body).is_ok_and(|text| !self.is_in(text));
        if self.0.is_empty() || (status == 200 && seems_clean) {
            return body;
        }
        match serde_json::from_slice::<Value>(&body) {
            Ok(json) => self.json(json).to_string().into_bytes(),
            Err(_) => self.text(&String::from_utf8_lossy(&body)).into_bytes(),
        }
    }

    fn is_in(&self, text: &str) -> bool {
        self.0.iter().any(|secret| text.contains(secret))
    }

    /// Keys stay: they are looked up, never shown.
    fn json(&self, json: Value) -> Value {
        match json {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.json(item)).collect(),
            Value::Object(keys) => keys.into_iter().map(|(key, value)| (key, self.json(value))).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => json,
        }
    }
}
