//! Scripted failures: which requests, how often, and what goes wrong.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::ApiError;
use crate::http::{Request, Response};
use crate::server::Delivery;

/// A script for some of the next requests. The first script that matches a request plays, others wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Fault {
    /// Given by the server.
    pub id: u64,
    pub when: Matching,
    /// Let so many matching requests through first.
    pub skip: u32,
    /// Play so many times; absent means 1, 0 means until removed.
    pub times: u32,
    /// Wait before answering.
    pub latency_ms: u64,
    pub action: Action,
}

impl Default for Fault {
    fn default() -> Self {
        Self { id: 0, when: Matching::default(), skip: 0, times: 1, latency_ms: 0, action: Action::None }
    }
}

/// Which requests; what is absent matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Matching {
    pub calendar: Option<String>,
    pub method: Option<String>,
    /// A part of the path (as sent, without the query), such as `/events` or `/token`.
    pub path: Option<String>,
    /// A part of the query string as sent, such as `syncToken=`.
    pub query: Option<String>,
}

/// What goes wrong. All but `error`, `body`, `echo` and `cutBefore` happen after the request was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Action {
    /// Nothing: for latency alone.
    #[default]
    None,
    /// An error as Google words it, without carrying out the request.
    #[serde(rename_all = "camelCase")]
    Error {
        status: u16,
        reason: String,
        #[serde(default)]
        message: Option<String>,
        /// Seconds or an HTTP date.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// Any answer at all, JSON or not, without carrying out the request.
    #[serde(rename_all = "camelCase")]
    Body {
        #[serde(default = "ok")]
        status: u16,
        #[serde(default = "html")]
        content_type: String,
        body: String,
        #[serde(default)]
        headers: Vec<(String, String)>,
    },
    /// An error that repeats what it was sent after these words, secrets and all: a careless provider's. As JSON, or as
    /// a page for people.
    #[serde(rename_all = "camelCase")]
    Echo {
        status: u16,
        #[serde(default)]
        words: String,
        #[serde(default)]
        as_page: bool,
    },
    /// The connection closes without a word; the request is not carried out.
    CutBefore,
    /// The connection closes after so many bytes of head and body.
    CutAfter { bytes: usize },
    /// Content-Length promises the whole body, so many bytes of it come, the connection closes.
    Truncate { bytes: usize },
    /// So many bytes, then silence for as long as the client waits.
    Hang {
        #[serde(default)]
        bytes: usize,
    },
    /// So many bytes at a time.
    #[serde(rename_all = "camelCase")]
    Drip { bytes: usize, pause_ms: u64 },
}

fn ok() -> u16 {
    200
}

fn html() -> String {
    "text/html; charset=UTF-8".into()
}

impl Fault {
    pub fn new(action: Action) -> Self {
        Self { action, ..Self::default() }
    }

    /// The errors page's words for the usual reasons: `Fault::error(403, "rateLimitExceeded")`.
    pub fn error(status: u16, reason: &str) -> Self {
        Self::new(Action::Error { status, reason: reason.into(), message: None, retry_after: None })
    }

    pub fn latency(wait: Duration) -> Self {
        Self::new(Action::None).after(wait)
    }

    pub fn retry_after(mut self, text: &str) -> Self {
        if let Action::Error { retry_after, .. } = &mut self.action {
            *retry_after = Some(text.into());
        }
        self
    }

    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    pub fn always(self) -> Self {
        self.times(0)
    }

    pub fn skip(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    pub fn after(mut self, wait: Duration) -> Self {
        self.latency_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self
    }

    pub fn on_calendar(mut self, id: &str) -> Self {
        self.when.calendar = Some(id.into());
        self
    }

    pub fn on_method(mut self, method: &str) -> Self {
        self.when.method = Some(method.into());
        self
    }

    pub fn on_path(mut self, part: &str) -> Self {
        self.when.path = Some(part.into());
        self
    }

    pub fn on_query(mut self, part: &str) -> Self {
        self.when.query = Some(part.into());
        self
    }
}

impl Matching {
    fn matches(&self, request: &Request, calendar: Option<&str>) -> bool {
        let query = request.target.split_once('?').map_or("", |(_, q)| q);
        self.calendar.as_deref().is_none_or(|c| Some(c) == calendar)
            && self.method.as_deref().is_none_or(|m| m.eq_ignore_ascii_case(&request.method))
            && self.path.as_deref().is_none_or(|p| request.path().contains(p))
            && self.query.as_deref().is_none_or(|q| query.contains(q))
    }
}

#[derive(Debug, Default)]
pub struct Faults {
    scripts: Vec<Fault>,
    last: u64,
}

impl Faults {
    pub fn add(&mut self, mut fault: Fault) -> u64 {
        self.last += 1;
        fault.id = self.last;
        self.scripts.push(fault);
        self.last
    }

    pub fn remove(&mut self, id: u64) -> bool {
        let before = self.scripts.len();
        self.scripts.retain(|fault| fault.id != id);
        self.scripts.len() < before
    }

    pub fn clear(&mut self) {
        self.scripts.clear();
    }

    pub fn list(&self) -> &[Fault] {
        &self.scripts
    }

    /// The script that plays for this request; counts it down.
    pub fn take(&mut self, request: &Request, calendar: Option<&str>) -> Option<Fault> {
        for at in 0..self.scripts.len() {
            let fault = &mut self.scripts[at];
            if !fault.when.matches(request, calendar) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            let playing = fault.clone();
            match fault.times {
                0 => {}
                1 => drop(self.scripts.remove(at)),
                _ => fault.times -= 1,
            }
            return Some(playing);
        }
        None
    }
}

impl Action {
    /// The answer, where the request is not to be carried out.
    pub fn instead(&self, request: &Request) -> Option<Response> {
        match self {
            Self::Echo { status, words, as_page } => Some(echo(*status, words, *as_page, request)),
            Self::Error { status, reason, message, retry_after } => {
                let message = message.as_deref().unwrap_or_else(|| usual_message(reason));
                let domain = if reason.ends_with("Exceeded") { "usageLimits" } else { "global" };
                let answer = Response::from(ApiError::new(*status, reason, message).in_domain(domain));
                Some(match retry_after {
                    Some(text) => answer.with("Retry-After", text),
                    None => answer,
                })
            }
            Self::Body { status, content_type, body, headers } => {
                let answer = Response::new(*status, content_type, body.as_bytes());
                Some(headers.iter().fold(answer, |answer, (name, value)| answer.with(name, value)))
            }
            Self::CutBefore => Some(Response::empty(503)),
            _ => None,
        }
    }

    pub fn delivery(&self) -> Delivery {
        match self {
            Self::None | Self::Error { .. } | Self::Body { .. } | Self::Echo { .. } => Delivery::Whole,
            Self::CutBefore => Delivery::CutAfter(0),
            Self::CutAfter { bytes } => Delivery::CutAfter(*bytes),
            Self::Truncate { bytes } => Delivery::Truncated(*bytes),
            Self::Hang { bytes } => Delivery::HangAfter(*bytes),
            Self::Drip { bytes, pause_ms } => Delivery::Drip { bytes: *bytes, pause: Duration::from_millis(*pause_ms) },
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "latency",
            Self::Error { .. } => "error",
            Self::Body { .. } => "body",
            Self::Echo { .. } => "echo",
            Self::CutBefore => "cutBefore",
            Self::CutAfter { .. } => "cutAfter",
            Self::Truncate { .. } => "truncate",
            Self::Hang { .. } => "hang",
            Self::Drip { .. } => "drip",
        }
    }
}

fn echo(status: u16, words: &str, as_page: bool, request: &Request) -> Response {
    let header = request.header("authorization").unwrap_or_default();
    let decoded = header.split_once(' ').and_then(|(_, text)| STANDARD.decode(text).ok()).unwrap_or_default();
    let form: Vec<String> = form_urlencoded::parse(&request.body).map(|(_, value)| value.into_owned()).collect();
    let body = String::from_utf8_lossy(&request.body);
    let said = format!("{words}{header} {} {} {body}", String::from_utf8_lossy(&decoded), form.join(" "));
    if as_page {
        return Response::new(status, &html(), said.as_bytes());
    }
    let error = match request.path().ends_with("/token") {
        true => json!("invalid_grant"),
        false => json!({ "code": status, "message": said, "errors": [{ "reason": said, "message": said }] }),
    };
    Response::json(status, &json!({ "error": error, "error_description": said, "items": [], "timeZone": said }))
}

fn usual_message(reason: &str) -> &'static str {
    match reason {
        "rateLimitExceeded" => "Rate Limit Exceeded",
        "userRateLimitExceeded" => "User Rate Limit Exceeded",
        "quotaExceeded" => "Calendar usage limits exceeded.",
        "dailyLimitExceeded" => "Daily Limit Exceeded",
        "authError" => "Invalid Credentials",
        "forbidden" => "Forbidden",
        "insufficientPermissions" => "Insufficient Permission: Request had insufficient authentication scopes.",
        "accessNotConfigured" => "Access Not Configured.",
        "forbiddenForNonOrganizer" => "Shared properties can only be changed by the organizer of the event.",
        "notFound" => "Not Found",
        "duplicate" => "The requested identifier already exists.",
        "conflict" => "Conflict",
        "fullSyncRequired" => "Sync token is no longer valid, a full sync is required.",
        "conditionNotMet" => "Precondition Failed",
        _ => "Backend Error",
    }
}
