//! One answer to `events.list`: what does it ask us to do next?
//!
//! The table of Google's errors is [`read_error`]. Two rules stand above it: nothing but a whole, well-formed page is
//! ever applied, so that a cut or foreign body can never look like a deletion; and an answer that a full sync is needed
//! does not answer a full sync, or a provider gone mad would keep us listing for ever.

use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use super::event::{read_item, unreadable};
use super::fields::Fields;
use super::list_text::{ListText, NoItems, items_of};
use super::text::{one_line, quoted, storable};
use crate::event::Change;
use crate::options::Options;
use crate::providers::Answer;
use crate::sync::{Failure, FailureKind, Page, Step, TokenLoss};
use crate::zone;

/// The most that is shown of a provider's message, in characters.
const LONGEST_MESSAGE: usize = 300;

/// Four times what is asked for. As rows events take many times the space of their text: a page of millions of empty
/// ones would take all memory.
const MOST_ITEMS: usize = 10_000;
/// In bytes of its text; Google's own bounds (description, guests, attachments, properties) leave none half as large.
const LARGEST_ITEM: usize = 1024 * 1024;

/// Reasons of a 403 that time heals. All others wait for a person.
pub(super) const RATE_LIMITS: [&str; 4] =
    ["rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"];

/// Reasons of a 400 that say our own request is at fault: tried once more without the token, then shown.
const REFUSED_PARAMETERS: [&str; 3] =
    ["syncTokenWithRequestRestrictions", "syncTokenWithNonDefaultOrdering", "timeRangeEmpty"];

/// RFC 9110 §15.4: those that name another place to ask.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// What this answer asks us to do next. `had_token`: the round was begun with a sync token.
///
/// An item that cannot be understood does not fail its page: it becomes [`crate::event::Kind::Unreadable`] with the
/// reason in [`crate::event::Event::problem`], so that its time blocks and the operator sees it.
pub fn read_answer(answer: &Answer, had_token: bool, options: &Options) -> Step {
    match answer {
        Answer::None { reason } => fail(FailureKind::Passing, reason, None),
        Answer::Refused(refused) => fail(FailureKind::RefusedUrl, &refused.told(), None),
        Answer::Http { status: 200, retry_after, body } => read_page(body, had_token, options)
            .unwrap_or_else(|reason| fail(FailureKind::Passing, &reason, *retry_after)),
        Answer::Http { status, retry_after, body } => read_error(*status, *retry_after, body, had_token),
    }
}

fn fail(kind: FailureKind, reason: &str, retry_after: Option<Duration>) -> Step {
    Step::Fail(Failure::new(kind, reason).with_retry_after(retry_after))
}

/// The page in this body, or why there is none.
fn read_page(body: &[u8], had_token: bool, options: &Options) -> Result<Step, String> {
    let not_a_list = || "the answer is JSON, but not a list of events".to_owned();
    // What is skipped is not looked at: whether it is text at all is asked before.
    let text =
        std::str::from_utf8(body).map_err(|_| "the answer is not readable as JSON: it is not UTF-8".to_owned())?;
    let list: ListText = serde_json::from_str(text)
        .map_err(|problem| if problem.is_data() { not_a_list() } else { not_json(&problem) })?;
    let items = items_of(list.items.ok_or_else(not_a_list)?, MOST_ITEMS).map_err(|none| match none {
        NoItems::NotAnArray => not_a_list(),
        NoItems::TooMany => format!("the page holds more than {MOST_ITEMS} events"),
    })?;
    let list = Fields::of_map(&list.keys);
    let next_page = read_token(list, "nextPageToken")?;
    let successor = read_token(list, "nextSyncToken")?;
    let page = Page {
        time_zone: read_time_zone(list)?,
        changes: items.iter().map(|item| read_item_of_round(item, options)).collect::<Result<_, _>>()?,
    };
    match (next_page, successor) {
        (Some(next), _) => Ok(Step::NextPage { page, next }),
        (None, Some(successor)) => Ok(Step::Commit { page, successor }),
        (None, None) if had_token => Ok(Step::FullSync { because: TokenLoss::NoSuccessor }),
        (None, None) => Err("the last page of a full sync carried no sync token".to_owned()),
    }
}

fn read_item_of_round(item: &RawValue, options: &Options) -> Result<Change, String> {
    if item.get().len() > LARGEST_ITEM {
        return Err(format!("an event of the page is larger than {} kB", LARGEST_ITEM / 1024));
    }
    let item: Value = serde_json::from_str(item.get()).map_err(|problem| not_json(&problem))?;
    Ok(read_item(&item, options).unwrap_or_else(|problem| Change::Put(Box::new(unreadable(&item, problem, options)))))
}

/// Not the parser's own words: they may quote the body.
fn not_json(problem: &serde_json::Error) -> String {
    format!("the answer is not readable as JSON (line {}, column {})", problem.line(), problem.column())
}

/// A token that could not be sent back exactly as it came is none.
fn read_token(list: Fields<'_>, name: &str) -> Result<Option<String>, String> {
    match list.text(name) {
        Ok(Some(token)) if token.contains('\0') => Err(format!("the answer's {name} cannot be stored")),
        Ok(token) => Ok(token.filter(|token| !token.is_empty()).map(str::to_owned)),
        Err(_) => Err(format!("the answer's {name} is not a string")),
    }
}

/// In a zone that nobody knows, all-day events could not be placed: better no new state than a wrong one.
fn read_time_zone(list: Fields<'_>) -> Result<Option<String>, String> {
    match list.text("timeZone") {
        Ok(Some(name)) if zone::find(name).is_none() => {
            Err(format!("the calendar's time zone {} is unknown", quoted(name)))
        }
        Ok(name) => Ok(name.map(storable)),
        Err(_) => Err("the answer's timeZone is not a string".to_owned()),
    }
}

/// What an answer other than 200 means. The status decides, and where it is ambiguous the reason.
fn read_error(status: u16, retry_after: Option<Duration>, body: &[u8], had_token: bool) -> Step {
    let told = Told::read(body);
    let failure = |kind: FailureKind| fail(kind, &told.explain(status), retry_after);
    let full_sync = |because: TokenLoss| match had_token {
        true => Step::FullSync { because },
        false => failure(FailureKind::Passing),
    };
    match status {
        400 if told.gives_one_of(&REFUSED_PARAMETERS) => full_sync(TokenLoss::Refused),
        400 if told.is_about_sync_token() => full_sync(TokenLoss::Invalid),
        401 => failure(FailureKind::Credential),
        // Google explains itself in JSON. Anything else comes from something in between, and proves nothing.
        403 | 404 if told.by_somebody_else => failure(FailureKind::Passing),
        403 if told.gives_one_of(&RATE_LIMITS) || told.is_exhausted() => failure(FailureKind::RateLimited),
        403 => failure(FailureKind::Forbidden),
        404 => failure(FailureKind::NotFound),
        410 if told.gives_one_of(&["deleted"]) => failure(FailureKind::NotFound),
        410 => full_sync(TokenLoss::Expired),
        429 => failure(FailureKind::RateLimited),
        // 3xx (redirects are not followed), 408, 409, 412, 5xx, a 200 in disguise, and whatever is invented next.
        _ => failure(FailureKind::Passing),
    }
}

/// What the body of an error tells: `{"error": {"errors": [{domain, reason, message, location}], code, message}}`.
#[derive(Default)]
pub(super) struct Told {
    /// There is a body, and it is not JSON: a proxy's page, say.
    pub(super) by_somebody_else: bool,
    message: Option<String>,
    reasons: Vec<String>,
    /// The parameter or header at fault.
    location: Option<String>,
    /// The newer, coarse word for the code, such as `RESOURCE_EXHAUSTED`.
    status: Option<String>,
}

impl Told {
    pub(super) fn read(body: &[u8]) -> Self {
        let Ok(json) = serde_json::from_slice::<Value>(body) else {
            return Self { by_somebody_else: !body.trim_ascii().is_empty(), ..Self::default() };
        };
        let error = &json["error"];
        let details = error["errors"].as_array().map_or(&[][..], Vec::as_slice);
        let first = |name: &str| details.iter().find_map(|detail| detail[name].as_str());
        Self {
            by_somebody_else: false,
            message: error["message"].as_str().or(first("message")).map(|text| one_line(text, LONGEST_MESSAGE)),
            reasons: details.iter().filter_map(|detail| detail["reason"].as_str()).map(str::to_owned).collect(),
            location: first("location").map(str::to_owned),
            status: error["status"].as_str().map(str::to_owned),
        }
    }

    pub(super) fn gives_one_of(&self, reasons: &[&str]) -> bool {
        self.reasons.iter().any(|given| reasons.contains(&given.as_str()))
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.status.as_deref() == Some("RESOURCE_EXHAUSTED")
    }

    /// Google names the sync token in the message ("Invalid sync token value."), or by `location`.
    fn is_about_sync_token(&self) -> bool {
        let named = self.message.as_ref().is_some_and(|message| message.to_lowercase().contains("sync token"));
        named || self.location.as_deref() == Some("syncToken")
    }

    /// For `last_error`: the code, the reason, and the provider's own message; nothing else of the body.
    pub(super) fn explain(&self, status: u16) -> String {
        let mut text = format!("the provider answered {status}");
        if let Some(reason) = self.reasons.first() {
            text.push_str(&format!(" ({})", one_line(reason, 64)));
        }
        match &self.message {
            Some(message) => text.push_str(&format!(": {message}")),
            None if REDIRECTS.contains(&status) => text.push_str(": a redirect, which is not followed"),
            None if self.by_somebody_else => text.push_str(" with a body that is not JSON"),
            None => {}
        }
        text
    }
}
