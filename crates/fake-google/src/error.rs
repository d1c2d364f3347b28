//! Errors in the shape Google gives them.
//!
//! <https://developers.google.com/workspace/calendar/api/guides/errors>

use std::net::SocketAddr;

use serde_json::{Value, json};

/// What the API answers instead of a resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct ApiError {
    /// The HTTP status.
    pub code: u16,
    pub domain: &'static str,
    /// The machine's word, such as `fullSyncRequired`.
    pub reason: String,
    pub message: String,
    /// `locationType` and `location`, where the API points at a parameter or header.
    pub location: Option<(&'static str, String)>,
}

impl ApiError {
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, domain: "global", reason: reason.into(), message: message.into(), location: None }
    }

    pub fn in_domain(mut self, domain: &'static str) -> Self {
        self.domain = domain;
        self
    }

    pub fn at_parameter(mut self, name: &str) -> Self {
        self.location = Some(("parameter", name.into()));
        self
    }

    pub fn at_header(mut self, name: &str) -> Self {
        self.location = Some(("header", name.into()));
        self
    }

    pub fn not_found() -> Self {
        Self::new(404, "notFound", "Not Found")
    }

    pub fn bad_request() -> Self {
        Self::new(400, "badRequest", "Bad Request")
    }

    pub fn invalid_value(parameter: &str) -> Self {
        Self::new(400, "invalid", "Invalid Value").at_parameter(parameter)
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid", message)
    }

    pub fn required(message: impl Into<String>) -> Self {
        Self::new(400, "required", message)
    }

    pub fn invalid_sync_token() -> Self {
        Self::new(400, "invalid", "Invalid sync token value.").in_domain("calendar").at_parameter("syncToken")
    }

    pub fn full_sync_required() -> Self {
        Self::new(410, "fullSyncRequired", "Sync token is no longer valid, a full sync is required.")
            .in_domain("calendar")
            .at_parameter("syncToken")
    }

    pub fn time_range_empty() -> Self {
        Self::new(400, "timeRangeEmpty", "The specified time range is empty.").in_domain("calendar")
    }

    pub fn duplicate() -> Self {
        Self::new(409, "duplicate", "The requested identifier already exists.")
    }

    pub fn deleted() -> Self {
        Self::new(410, "deleted", "Resource has been deleted")
    }

    pub fn condition_not_met() -> Self {
        Self::new(412, "conditionNotMet", "Precondition Failed").at_header("If-Match")
    }

    pub fn invalid_credentials() -> Self {
        Self::new(401, "authError", "Invalid Credentials").at_header("Authorization")
    }

    /// `{"error":{"errors":[{domain,reason,message,locationType,location}],"code","message"}}`
    pub fn body(&self) -> Value {
        let mut error = json!({ "domain": self.domain, "reason": self.reason, "message": self.message });
        if let Some((kind, location)) = &self.location {
            error["locationType"] = json!(kind);
            error["location"] = json!(location);
        }
        json!({ "error": { "errors": [error], "code": self.code, "message": self.message } })
    }
}

/// Why the fake itself could not do what its owner asked.
#[derive(Debug, thiserror::Error)]
pub enum FakeError {
    #[error("cannot listen on {addr}: {source}")]
    Listen { addr: SocketAddr, source: std::io::Error },
    #[error("cannot read the seed file {path}: {source}")]
    ReadSeed { path: String, source: std::io::Error },
    #[error("the seed is not what it should be: {0}")]
    SeedShape(#[from] serde_json::Error),
    #[error("calendar \"{calendar}\", event {event}: {source}")]
    SeedEvent { calendar: String, event: String, source: Box<ApiError> },
    #[error("\"{0}\" is no IANA time zone")]
    UnknownZone(String),
    #[error("there is no calendar \"{0}\"")]
    UnknownCalendar(String),
    #[error("emptyEvery must be 2 or more: with {0}, paging would never end")]
    EndlessPaging(u32),
}
