//! The providers, one module each: how to ask, and what an answer says.

pub mod google;
pub mod mask;

pub use mask::Mask;

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

/// An HTTP request that somebody else shall send.
///
/// Its `Debug` form shows neither the query (sync tokens), nor the values of headers and the body (credentials), so that
/// a request may end up in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Method {
    Get,
    /// With this body, whose Content-Type is among the headers.
    Post(String),
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.url.split('?').next().unwrap_or_default();
        let headers: Vec<&str> = self.headers.iter().map(|header| header.0).collect();
        let method = match self.method {
            Method::Get => "GET",
            Method::Post(_) => "POST",
        };
        f.debug_struct("Request")
            .field("method", &method)
            .field("url", &address)
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Http {
        status: u16,
        /// Of the header Retry-After, as [`read_retry_after`] understands it.
        retry_after: Option<Duration>,
        body: Vec<u8>,
    },
    /// No answer, or half of one: refused, cut, timed out, too large. `reason` is safe to show.
    None { reason: String },
}

/// How long to wait according to a header Retry-After: seconds, or the distance from `now` to its date (RFC 9110
/// §10.2.3). None where it is neither; a date in the past is no wait at all.
pub fn read_retry_after(header: &str, now: DateTime<Utc>) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(header).ok()?;
    Some(date.signed_duration_since(now).to_std().unwrap_or(Duration::ZERO))
}
