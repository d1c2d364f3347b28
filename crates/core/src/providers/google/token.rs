//! Access tokens: how to ask Google for one, and what the answer says.
//!
//! An OAuth client shows its refresh token (RFC 6749 §6), a service account a JWT that it signs itself (RFC 7523). What
//! Google refuses for good waits for a person, and the text says what that person must do. Nothing of the answer is
//! shown but its `error` and, on one line and short, its `error_description`.
//!
//! The hard cases, each with a test of the same name in `tests/google_token.rs`:
//! - `a_token_is_renewed_five_minutes_early_and_a_short_lived_one_at_four_fifths`
//! - `a_token_is_used_for_a_minute_at_least`
//! - `a_consent_that_was_withdrawn_waits_for_a_person`
//! - `a_user_whom_the_domain_does_not_know_is_that_calendars_trouble`
//! - `what_google_refuses_a_user_is_his_the_credentials_or_to_be_found_out`
//! - `what_can_be_no_user_is_not_asked_for`
//! - `what_somebody_in_between_says_proves_nothing`
//! - `a_grant_that_is_too_long_is_no_grant`

use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::text::one_line;
use crate::credential::{LONGEST_TOKEN, OauthClient, ServiceAccount, Subject};
use crate::providers::{Answer, Method, Request};
use crate::sync::{Failure, FailureKind};

/// All that is ever asked for: reading.
pub const SCOPE: &str = "https://www.googleapis.com/auth/calendar.readonly";

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How long an assertion may be used, in seconds: the most that Google takes.
const ASSERTION_LIFETIME: i64 = 3600;
/// Where the answer does not say how long the token lives, it is Google's hour.
const USUAL_LIFETIME: Duration = Duration::from_secs(3600);
/// Longer than any provider's tokens live. What claims to live longer is renewed all the same.
const LONGEST_LIFETIME: Duration = Duration::from_secs(86_400);
/// A token is renewed so long before it ends.
const EARLY: Duration = Duration::from_secs(300);
/// However short a token is said to live, it is used for so long: it would be fetched for each request otherwise, which no
/// budget counts. Should it end before, the provider's 401 has it renewed.
const SHORTEST_USE: Duration = Duration::from_secs(60);
/// The most that is shown of `error_description`, in characters.
const LONGEST_DESCRIPTION: usize = 160;

/// Who asks for a token, as far as it decides what a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    OauthClient,
    ServiceAccount,
    /// A service account on behalf of the user whom a calendar is named for.
    UserOfCalendar,
}

/// What was granted.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    pub access_token: String,
    /// How long to use it before another is asked for.
    pub use_for: Duration,
    /// The refresh token that takes the place of the one that was shown (RFC 6749 §6): to be kept, or the next refresh
    /// fails.
    pub refresh_token: Option<String>,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant").field("use_for", &self.use_for).finish_non_exhaustive()
    }
}

/// The header of requests that show this access token (RFC 6750 §2.1).
pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The header of requests that show a name and a password (RFC 7617 §2).
pub fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")))
}

/// Asks for an access token by a user's consent.
pub fn refresh_request(token_url: &str, client: &OauthClient) -> Request {
    form(
        token_url,
        &[
            ("grant_type", "refresh_token"),
            ("client_id", &client.client_id),
            ("client_secret", &client.client_secret),
            ("refresh_token", &client.refresh_token),
        ],
    )
}

/// As whom a service account asks for the calendar with this remote id; None: as itself.
///
/// What can be no user is refused here: Google's answer would be about a user, and the trouble is none of anybody's
/// domain.
pub fn user_of<'a>(subject: &'a Subject, remote_id: &'a str) -> Result<Option<&'a str>, Failure> {
    let user = subject.user_of(remote_id);
    match (subject, user) {
        (Subject::EachCalendar, Some(user)) if !can_be_a_user(user) => Err(Failure::new(
            FailureKind::Forbidden,
            format!(
                "no access token is asked for as \"{}\", which can be no user. The credential's \"sub\" is \"*\": pass the \
                 address of the calendar's user to calsync_subscribe() as remote_id. A shared or resource calendar, which is \
                 no user's own, takes another credential, with a user who sees it as \"sub\".",
                one_line(user, 64)
            ),
        )),
        _ => Ok(user),
    }
}

/// Whether it could be the address of a user: not `primary`, not an application's own name (`acme:bob`), and no calendar that
/// has an id of its own.
fn can_be_a_user(address: &str) -> bool {
    const CALENDARS: [&str; 4] = [
        "group.calendar.google.com",
        "resource.calendar.google.com",
        "group.v.calendar.google.com",
        "import.calendar.google.com",
    ];
    let Some((name, domain)) = address.rsplit_once('@') else { return false };
    let is_foreign = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '@');
    let is_calendar = CALENDARS.iter().any(|calendars| domain.eq_ignore_ascii_case(calendars));
    ![name, domain].iter().any(|part| part.is_empty() || part.contains(is_foreign)) && !is_calendar
}

/// What a service account has to sign (RS256) to ask for an access token, as itself or as `user`: header and claims of
/// a JWT, in the form that is signed. `token_url` is the audience: the assertion is worth nothing elsewhere.
pub fn assertion_to_sign(account: &ServiceAccount, user: Option<&str>, token_url: &str, now: DateTime<Utc>) -> String {
    let mut header = json!({ "alg": "RS256", "typ": "JWT" });
    if let Some(id) = &account.private_key_id {
        header["kid"] = json!(id);
    }
    let issued = now.timestamp();
    let mut claims = json!({
        "iss": account.client_email,
        "scope": SCOPE,
        "aud": token_url,
        "iat": issued,
        "exp": issued + ASSERTION_LIFETIME,
    });
    if let Some(user) = user {
        claims["sub"] = json!(user);
    }
    let encoded = |part: Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}", encoded(header), encoded(claims))
}

/// Asks for an access token with what [`assertion_to_sign`] gave, and its signature.
pub fn assertion_request(token_url: &str, signed: &str, signature: &[u8]) -> Request {
    let assertion = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature));
    form(token_url, &[("grant_type", JWT_BEARER), ("assertion", &assertion)])
}

fn form(url: &str, fields: &[(&str, &str)]) -> Request {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let headers = vec![
        ("accept", "application/json".to_owned()),
        ("content-type", "application/x-www-form-urlencoded".to_owned()),
    ];
    Request { method: Method::Post(body), url: url.to_owned(), headers }
}

/// What the token endpoint's answer says; a failure says what must be done about it.
pub fn read_grant(answer: &Answer, asker: Asker) -> Result<Grant, Failure> {
    match answer {
        Answer::None { reason } => Err(passing(&format!("no access token could be fetched: {reason}"), None)),
        Answer::Refused(refused) => Err(Failure::new(
            FailureKind::RefusedUrl,
            format!("no access token can be fetched (calsync.google_token_url): {}", refused.told()),
        )),
        Answer::Http { status: 200, retry_after, body } => {
            read_success(body).map_err(|why| passing(&format!("no access token could be fetched: {why}"), *retry_after))
        }
        Answer::Http { status, retry_after, body } => Err(read_refusal(*status, *retry_after, body, asker)),
    }
}

fn passing(reason: &str, retry_after: Option<Duration>) -> Failure {
    Failure::new(FailureKind::Passing, reason).with_retry_after(retry_after)
}

fn read_success(body: &[u8]) -> Result<Grant, &'static str> {
    let json: Value = serde_json::from_slice(body).map_err(|_| "the answer is not readable as JSON")?;
    let visible = |token: &&str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let token = json["access_token"].as_str().filter(visible).ok_or("the answer holds none")?;
    let refresh_token = json["refresh_token"].as_str().filter(visible);
    // They are copied and searched for with each request, and a stored secret of that length would be refused.
    if token.len() > LONGEST_TOKEN {
        return Err("the answer's token is longer than any that is taken");
    }
    if refresh_token.is_some_and(|token| token.len() > LONGEST_TOKEN) {
        return Err("the answer's refresh token is longer than any that is taken");
    }
    if json["token_type"].as_str().is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err("the answer's token is no bearer token");
    }
    let lifetime = match &json["expires_in"] {
        Value::Null => USUAL_LIFETIME,
        Value::Number(seconds) => Duration::from_secs(seconds.as_f64().unwrap_or_default().max(0.0) as u64),
        Value::String(seconds) => {
            Duration::from_secs(seconds.parse().map_err(|_| "the answer's expires_in is no number")?)
        }
        _ => return Err("the answer's expires_in is no number"),
    };
    let lifetime = lifetime.min(LONGEST_LIFETIME);
    Ok(Grant {
        access_token: token.to_owned(),
        use_for: lifetime.saturating_sub(EARLY).max(lifetime / 5 * 4).max(SHORTEST_USE),
        refresh_token: refresh_token.map(str::to_owned),
    })
}

/// RFC 6749 §5.2: `{"error", "error_description"}`.
fn read_refusal(status: u16, retry_after: Option<Duration>, body: &[u8], asker: Asker) -> Failure {
    let json = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let error = json["error"].as_str().map(|error| one_line(error, 64));
    let description = json["error_description"].as_str().map(|text| one_line(text, LONGEST_DESCRIPTION));
    let told = match (&error, &description) {
        (Some(error), Some(description)) => format!("{status} {error}: {description}"),
        (Some(error), None) => format!("{status} {error}"),
        (None, _) => status.to_string(),
    };
    let passes = matches!(error.as_deref(), Some("temporarily_unavailable" | "server_error" | "internal_failure"));
    // Google explains itself in JSON. Anything else comes from something in between, and proves nothing.
    let Some(error) = error.filter(|_| matches!(status, 400 | 401 | 403) && !passes) else {
        return passing(&format!("no access token could be fetched: the token URL answered {told}"), retry_after);
    };
    let (kind, remedy) = remedy(&error, description.as_deref().unwrap_or_default(), asker);
    Failure::new(kind, format!("the provider grants no access token ({told}). {remedy}")).with_retry_after(retry_after)
}

/// Whom a refusal concerns, and what that person must do.
fn remedy(error: &str, description: &str, asker: Asker) -> (FailureKind, &'static str) {
    let described = description.to_ascii_lowercase();
    let says = |text: &str| described.contains(text);
    // About the assertion, or who signed it: no word of a user.
    let names_the_account = says("jwt") || says("signature") || says("robot") || says("account not found");
    let names_the_user = !names_the_account && (says("email") || says("user id") || says("impersonation"));
    if asker == Asker::UserOfCalendar {
        match error {
            "invalid_grant" | "invalid_request" if names_the_user => return (FailureKind::Forbidden, NO_SUCH_USER),
            "invalid_grant" if names_the_account => {}
            "invalid_client" | "deleted_client" | "disabled_client" | "invalid_scope" | "unsupported_grant_type" => {}
            "unauthorized_client" | "access_denied" => return (FailureKind::Ungranted, NOT_DELEGATED_OR_NO_USER),
            "admin_policy_enforced" | "org_internal" => return (FailureKind::Ungranted, KEPT_OUT),
            "invalid_grant" => return (FailureKind::Ungranted, USER_OR_ACCOUNT_GONE),
            _ => return (FailureKind::Ungranted, UNKNOWN),
        }
    }
    let remedy = match (error, asker) {
        ("invalid_grant", Asker::OauthClient) => {
            "Consent has ended or was withdrawn: let the user consent again, and replace the credential with \
             calsync_add_credential(). Consent ends after 7 days while Google's consent screen is in testing."
        }
        ("invalid_grant" | "invalid_request", Asker::ServiceAccount) if names_the_user => {
            "The \"sub\" of the credential is no user of the delegated domain: replace it with \
             calsync_add_credential()."
        }
        ("invalid_grant", _) if says("timeframe") => "The clock of this server is wrong: set it right.",
        ("invalid_grant", _) => {
            "The service account or its key was deleted or disabled: make a new key and replace the credential with \
             calsync_add_credential()."
        }
        ("unauthorized_client", Asker::OauthClient) => {
            "The refresh token belongs to another client: replace the credential with calsync_add_credential()."
        }
        ("unauthorized_client" | "access_denied", _) => {
            "In Google's admin console (Security, API controls, Domain-wide delegation) delegate the scope \
             https://www.googleapis.com/auth/calendar.readonly to the service account's client id."
        }
        ("invalid_client" | "deleted_client" | "disabled_client", Asker::OauthClient) => {
            "The client id or the client secret is wrong, or the client was deleted: see Google's console, and replace \
             the credential with calsync_add_credential()."
        }
        ("invalid_client" | "deleted_client" | "disabled_client", _) => {
            "The service account or its project was deleted or disabled: see Google's console, and replace the \
             credential with calsync_add_credential()."
        }
        _ => UNKNOWN,
    };
    (FailureKind::Credential, remedy)
}

const UNKNOWN: &str =
    "See docs/google.md for what the error means, and replace the credential with calsync_add_credential().";

// With "sub": "*". What may concern all says first how to tell.

const NO_SUCH_USER: &str = "The calendar's remote_id must be the address of a user of the delegated domain, as \"sub\" is \"*\": \
     correct it, or subscribe the calendar with another credential.";

const NOT_DELEGATED_OR_NO_USER: &str = "If others of this credential sync: is remote_id a user of the delegated domain? If none does: in Google's admin \
     console (Security, API controls, Domain-wide delegation) delegate the scope \
     https://www.googleapis.com/auth/calendar.readonly to its client id.";

const KEPT_OUT: &str = "If others of this credential sync: is this user's organizational unit let in? If none does: trust the service account's \
     client id in Google's admin console (Security, API controls, App access control).";

const USER_OR_ACCOUNT_GONE: &str = "If others of this credential sync: was the user of remote_id deleted or suspended? If none does: was the service \
     account or its key deleted or disabled? Then replace the credential with calsync_add_credential().";
