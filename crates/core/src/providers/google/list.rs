//! `events.list`: asking for a page of a calendar's events.

use crate::providers::{Method, Request};

/// What every request of a round asks for, and what the next one must ask for again, or the sync token's behaviour is
/// undefined.
///
/// - `singleEvents=false`: masters and exceptions, not instances. One touched weekly series would otherwise deliver
///   hundreds of them, and a deleted one only part of its tombstones.
/// - `maxResults=2500`, the most Google gives: fewer round trips.
/// - no `timeMin`: an exception moved to before it would be left out of the list although the slot it vacated lies
///   inside, which would then look busy; and the token does not remember the window anyway.
/// - no `orderBy`: with `startTime` there is no sync token at all.
const PARAMETERS: &str = "singleEvents=false&maxResults=2500";

/// Names what a sync token depends on (`calsync.subscription.token_params`); one stored under another name must be
/// dropped. That is what was asked for and, where `calendar` is another one for another person, which `generation` of the
/// credential asked.
pub fn token_parameters(calendar: &str, generation: i64) -> String {
    if is_relative(calendar) { format!("{PARAMETERS} as of generation {generation}") } else { PARAMETERS.to_owned() }
}

/// Whether this id means another calendar for another person: whoever asks for `primary` gets his own.
pub fn is_relative(calendar: &str) -> bool {
    calendar.eq_ignore_ascii_case("primary")
}

/// One page of a calendar's events, to be asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ListRequest<'a> {
    /// Of the API, with its version: `https://www.googleapis.com/calendar/v3`. A slash at the end does no harm.
    pub base_url: &'a str,
    /// The provider's id of the calendar.
    pub calendar: &'a str,
    /// None: a full sync.
    pub sync_token: Option<&'a str>,
    /// None: the first page.
    pub page_token: Option<&'a str>,
    /// The value of the header Authorization, such as `Bearer ya29.…`; None: ask as nobody.
    pub authorization: Option<&'a str>,
}

impl ListRequest<'_> {
    /// The request to send.
    pub fn request(&self) -> Request {
        let base = self.base_url.trim_end_matches('/');
        let mut url = format!("{base}/calendars/{}/events?{PARAMETERS}", percent_encoded(self.calendar));
        for (name, token) in [("syncToken", self.sync_token), ("pageToken", self.page_token)] {
            if let Some(token) = token {
                url.push_str(&format!("&{name}={}", percent_encoded(token)));
            }
        }
        let mut headers = vec![("accept", "application/json".to_owned())];
        headers.extend(self.authorization.map(|value| ("authorization", value.to_owned())));
        Request { method: Method::Get, url, headers }
    }
}

/// Everything but the unreserved characters of RFC 3986 §2.3 as %XX of its UTF-8 bytes.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
