//! Asking for an access token, and what the answer means.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use calsync_core::credential::{LONGEST_TOKEN, OauthClient, ServiceAccount, Subject};
use calsync_core::providers::google::token::{
    Asker, assertion_request, assertion_to_sign, basic, read_grant, refresh_request, user_of,
};
use calsync_core::providers::{Answer, Mask, Method, Request};
use calsync_core::sync::FailureKind;
use chrono::DateTime;
use serde_json::{Value, json};

const URL: &str = "https://oauth2.googleapis.com/token";

fn client() -> OauthClient {
    OauthClient {
        client_id: "id.apps".into(),
        client_secret: "GOCSPX-s&=+/ecret".into(),
        refresh_token: "1//refresh".into(),
    }
}

fn account() -> ServiceAccount {
    ServiceAccount {
        client_email: "robot@project.example".into(),
        private_key: "-----BEGIN PRIVATE KEY-----".into(),
        private_key_id: Some("k1".into()),
        client_id: None,
        subject: Subject::EachCalendar,
    }
}

fn body(request: &Request) -> &str {
    match &request.method {
        Method::Post(body) => body,
        Method::Get => panic!("a token is posted for"),
    }
}

fn answer(status: u16, body: Value) -> Answer {
    Answer::Http { status, retry_after: None, body: body.to_string().into_bytes() }
}

fn granted_for(expires_in: Value) -> Duration {
    let granted = answer(200, json!({ "access_token": "ya29.x", "expires_in": expires_in, "token_type": "Bearer" }));
    read_grant(&granted, Asker::OauthClient).expect("a grant").use_for
}

fn refused(status: u16, body: Value, asker: Asker) -> (FailureKind, String) {
    let failure = read_grant(&answer(status, body), asker).expect_err("a refusal");
    (failure.kind, failure.reason)
}

#[test]
fn a_refresh_is_a_form_with_the_secrets_encoded() {
    let request = refresh_request(URL, &client());

    assert_eq!(request.url, URL);
    assert!(request.headers.contains(&("content-type", "application/x-www-form-urlencoded".to_owned())));
    assert_eq!(
        body(&request),
        "grant_type=refresh_token&client_id=id.apps&client_secret=GOCSPX-s%26%3D%2B%2Fecret&refresh_token=1%2F%2Frefresh"
    );
}

#[test]
fn an_assertion_names_issuer_audience_and_user_and_asks_to_read_only() {
    let now = DateTime::from_timestamp(1_790_000_000, 0).expect("a time");

    let signed = assertion_to_sign(&account(), Some("alice@x.example"), URL, now);

    let read = |part: &str| -> Value {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
    };
    let (header, claims) = signed.split_once('.').expect("two parts");
    assert_eq!(read(header), json!({ "alg": "RS256", "typ": "JWT", "kid": "k1" }));
    assert_eq!(
        read(claims),
        json!({
            "iss": "robot@project.example",
            "scope": "https://www.googleapis.com/auth/calendar.readonly",
            "aud": URL,
            "iat": 1_790_000_000,
            "exp": 1_790_003_600,
            "sub": "alice@x.example",
        })
    );
    let request = assertion_request(URL, &signed, b"signature");
    assert!(body(&request).starts_with("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion="));
}

#[test]
fn a_token_is_renewed_five_minutes_early_and_a_short_lived_one_at_four_fifths() {
    assert_eq!(granted_for(json!(3600)), Duration::from_secs(3300));
    assert_eq!(granted_for(json!("3600")), Duration::from_secs(3300));
    assert_eq!(granted_for(Value::Null), Duration::from_secs(3300), "an hour where nothing is said");
    assert_eq!(granted_for(json!(600)), Duration::from_secs(480));
    assert_eq!(granted_for(json!(100)), Duration::from_secs(80));
    for endless in [json!(1e300), json!(u64::MAX), json!("18446744073709551615")] {
        assert_eq!(granted_for(endless), Duration::from_secs(86_400 - 300), "a day at most");
    }
}

#[test]
fn a_token_is_used_for_a_minute_at_least() {
    for brief in [json!(74), json!(5), json!(0.5), json!(0), json!("0"), json!(-1), json!(-1e300)] {
        assert_eq!(granted_for(brief.clone()), Duration::from_secs(60), "{brief}");
    }
}

#[test]
fn a_refresh_token_that_was_replaced_comes_with_the_grant() {
    let granted = answer(200, json!({ "access_token": "ya29.x", "refresh_token": "1//new" }));

    let grant = read_grant(&granted, Asker::OauthClient).expect("a grant");

    assert_eq!(grant.refresh_token.as_deref(), Some("1//new"));
    assert!(!format!("{grant:?}").contains("1//new"), "{grant:?}");
}

#[test]
fn a_consent_that_was_withdrawn_waits_for_a_person() {
    let body = json!({ "error": "invalid_grant", "error_description": "Token has been expired or revoked." });

    let (kind, reason) = refused(400, body, Asker::OauthClient);

    assert_eq!(kind, FailureKind::Credential);
    assert!(reason.contains("invalid_grant: Token has been expired or revoked."), "{reason}");
    assert!(reason.contains("consent again") && reason.contains("calsync_add_credential()"), "{reason}");
}

#[test]
fn each_refusal_names_its_own_remedy() {
    let cases = [
        (401, "invalid_client", "", Asker::OauthClient, "client secret is wrong"),
        (401, "unauthorized_client", "", Asker::OauthClient, "belongs to another client"),
        (401, "invalid_client", "", Asker::ServiceAccount, "service account or its project"),
        (401, "unauthorized_client", "", Asker::ServiceAccount, "delegate the scope"),
        (400, "invalid_grant", "Invalid email or User ID", Asker::ServiceAccount, "no user of the delegated domain"),
        (400, "invalid_grant", "Invalid JWT Signature.", Asker::ServiceAccount, "make a new key"),
        (400, "invalid_grant", "… in a reasonable timeframe. Check …", Asker::ServiceAccount, "clock"),
        (400, "something_new", "", Asker::OauthClient, "docs/google.md"),
    ];
    for (status, error, description, asker, remedy) in cases {
        let (kind, reason) = refused(status, json!({ "error": error, "error_description": description }), asker);
        assert_eq!(kind, FailureKind::Credential, "{error}");
        assert!(reason.contains(remedy), "{error}: {reason}");
    }
}

#[test]
fn a_user_whom_the_domain_does_not_know_is_that_calendars_trouble() {
    let body = json!({ "error": "invalid_grant", "error_description": "Invalid email or User ID" });

    let (kind, reason) = refused(400, body, Asker::UserOfCalendar);

    assert_eq!(kind, FailureKind::Forbidden, "the other calendars of the credential go on");
    assert!(reason.contains("remote_id"), "{reason}");
}

/// What a service account that asks as each calendar's user is told: whom it concerns, and what to look at first.
///
/// The texts are those of Google's list (guide "OAuth 2.0 for server to server applications", "JWT error codes") and of reports.
#[test]
fn what_google_refuses_a_user_is_his_the_credentials_or_to_be_found_out() {
    use FailureKind::{Credential, Forbidden, Ungranted};
    let cases = [
        (400, "invalid_grant", "Invalid email or User ID", Forbidden, "remote_id must be"),
        (400, "invalid_grant", "Not a valid email.", Forbidden, "remote_id must be"),
        (400, "invalid_request", "Invalid impersonation \"sub\" field: x", Forbidden, "remote_id must be"),
        (400, "invalid_request", "Invalid impersonation prn email address.", Forbidden, "remote_id must be"),
        (401, "unauthorized_client", "Unauthorized client or scope in request.", Ungranted, "delegate the scope"),
        (
            401,
            "unauthorized_client",
            "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of \
             the scopes requested.",
            Ungranted,
            "to its client id.",
        ),
        (401, "unauthorized_client", "", Ungranted, "is remote_id a user of the delegated domain?"),
        (403, "access_denied", "Requested client not authorized.", Ungranted, "delegate the scope"),
        (400, "admin_policy_enforced", "", Ungranted, "App access control"),
        (403, "org_internal", "", Ungranted, "App access control"),
        (400, "invalid_grant", "The account has been deleted", Ungranted, "deleted or suspended"),
        (400, "invalid_grant", "Account disabled", Ungranted, "deleted or suspended"),
        (400, "invalid_grant", "Bad Request", Ungranted, "deleted or suspended"),
        (400, "invalid_grant", "", Ungranted, "deleted or suspended"),
        (400, "something_new", "", Ungranted, "docs/google.md"),
        (400, "invalid_grant", "Invalid JWT Signature.", Credential, "make a new key"),
        (400, "invalid_grant", "Invalid JWT: No valid verifier found for issuer.", Credential, "make a new key"),
        (400, "invalid_grant", "Invalid JWT: the issuer is not a valid email.", Credential, "make a new key"),
        (400, "invalid_grant", "Invalid grant: account not found", Credential, "make a new key"),
        (400, "invalid_grant", "Robot is disabled.", Credential, "make a new key"),
        (
            400,
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat \
             and exp values in the JWT claim.",
            Credential,
            "clock",
        ),
        (401, "invalid_client", "The OAuth client was not found.", Credential, "service account or its project"),
        (401, "deleted_client", "The OAuth client was deleted.", Credential, "service account or its project"),
        (401, "disabled_client", "The OAuth client was disabled.", Credential, "service account or its project"),
        (400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.", Credential, "docs/google.md"),
        (400, "unsupported_grant_type", "Invalid grant_type", Credential, "docs/google.md"),
    ];
    for (status, error, description, concerns, remedy) in cases {
        let body = json!({ "error": error, "error_description": description });
        let (kind, reason) = refused(status, body, Asker::UserOfCalendar);
        assert_eq!(kind, concerns, "{error}: {description}");
        assert!(reason.contains(remedy), "{error}: {reason}");
        assert!(reason.ends_with(['.', '?']), "cut off: {reason}");
    }
}

#[test]
fn what_can_be_no_user_is_not_asked_for() {
    let each = Subject::EachCalendar;
    for user in ["alice@x.example", "o'neil+cal@sub.x.example", "group.calendar.google.com@x.example"] {
        assert_eq!(user_of(&each, user).as_ref(), Ok(&Some(user)));
    }
    for nobody in [
        "primary",
        "acme:bob",
        "acme:bob@x.example",
        "bob",
        "@x.example",
        "bob@",
        "bob @x.example",
        "bob@x.example carol@x.example",
        "c_1a2b@group.calendar.google.com",
        &format!("c_{}@group.calendar.google.com", "1a2b".repeat(16)),
        "c_1a2b@Resource.Calendar.Google.com",
        "en.austrian#holiday@group.v.calendar.google.com",
        "abc@import.calendar.google.com",
    ] {
        let failure = user_of(&each, nobody).expect_err(nobody);
        assert_eq!(failure.kind, FailureKind::Forbidden, "{nobody}: nobody else's trouble");
        assert!(failure.reason.contains("remote_id") && failure.reason.ends_with("as \"sub\"."), "{}", failure.reason);
        assert_eq!(user_of(&Subject::Itself, nobody), Ok(None), "what is asked for as somebody else may have any id");
    }
}

#[test]
fn what_somebody_in_between_says_proves_nothing() {
    let html = |status| Answer::Http { status, retry_after: None, body: b"<html>secret</html>".to_vec() };
    let answers = [
        html(400),
        html(401),
        html(200),
        html(503),
        answer(429, json!({ "error": "rate_limited" })),
        answer(500, json!({ "error": "invalid_grant" })),
        answer(400, json!({ "error": "temporarily_unavailable" })),
        answer(404, json!({ "error": "invalid_grant" })),
        answer(302, json!({})),
        answer(200, json!({ "access_token": "" })),
        answer(200, json!({ "access_token": "with\r\nheader: injected" })),
        answer(200, json!({ "access_token": "x", "token_type": "mac" })),
        answer(200, json!({ "access_token": "x", "expires_in": {} })),
        answer(200, json!([])),
        Answer::None { reason: "cut".into() },
    ];
    for answer in answers {
        let failure = read_grant(&answer, Asker::OauthClient).expect_err("no grant");
        assert_eq!(failure.kind, FailureKind::Passing, "{answer:?}");
        assert!(!failure.reason.contains("secret") && !failure.reason.contains("injected"), "{}", failure.reason);
    }
}

#[test]
fn a_grant_that_is_too_long_is_no_grant() {
    let long = "x".repeat(LONGEST_TOKEN + 1);
    let answers = [json!({ "access_token": long }), json!({ "access_token": "ya29.t", "refresh_token": long })];
    for body in answers {
        let failure = read_grant(&answer(200, body), Asker::OauthClient).expect_err("no grant");

        assert_eq!(failure.kind, FailureKind::Passing);
        assert!(failure.reason.contains("longer than any") && !failure.reason.contains("xxx"), "{}", failure.reason);
    }
    let longest = &long[1..];
    let body = json!({ "access_token": longest, "refresh_token": longest });
    assert!(read_grant(&answer(200, body), Asker::OauthClient).is_ok());
}

#[test]
fn a_secret_that_the_provider_repeats_is_taken_out_whatever_it_looks_like() {
    let request = refresh_request(URL, &client());
    let mask = Mask::of(&request);
    let echoed = [
        json!({ "error": "invalid_grant", "error_description": "no 1//refresh of GOCSPX-s&=+/ecret" }).to_string(),
        json!({ "error": { "message": body(&request) } }).to_string(),
        r#"{"error": "x", "error_description": "1\/\/refresh \u0047OCSPX-s\u0026=+\/ecret"}"#.to_owned(),
        format!("<html>{}</html>", body(&request)),
        format!("<html>{}</html>", body(&request).replace("%2F", "%2f").replace("%3D", "%3d").replace("%2B", "%2b")),
        json!({ "error": "x", "error_description": "1//ref\r\nresh GOC\u{202e}SPX-s&=+/ecret" }).to_string(),
    ];
    for text in echoed {
        let answer = Answer::Http { status: 400, retry_after: None, body: text.into_bytes() };
        let Answer::Http { body, .. } = mask.answer(answer, true) else { panic!("an answer stays one") };
        let shown: String = match serde_json::from_slice::<Value>(&body) {
            Ok(json) => json.to_string(),
            Err(_) => String::from_utf8(body).expect("text"),
        };
        for secret in ["1//refresh", "2Frefresh", "2frefresh", "GOCSPX", "s%26"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    assert!(!format!("{mask:?}").contains("refresh"));
}

#[test]
fn a_password_is_masked_and_so_is_the_header_that_holds_it() {
    let header = basic("alice", "p:ss-wörd");
    let request = Request { method: Method::Get, url: URL.into(), headers: vec![("authorization", header.clone())] };

    let masked = Mask::of(&request).text(&format!("alice sent {header}, that is p:ss-wörd"));

    assert_eq!(masked, "alice sent Basic ***, that is ***");
}

#[test]
fn a_secret_that_a_provider_escapes_for_html_is_taken_out() {
    let secret = "hunter2&<secret>'very'\"long/ä";
    let headers = vec![("authorization", basic("alice", secret))];
    let mask = Mask::of(&Request { method: Method::Get, url: URL.into(), headers });
    let with = |write: &dyn Fn(char) -> String| secret.chars().map(write).collect::<String>();
    let named = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        _ => c.to_string(),
    };
    let special = |c: char| !c.is_ascii_alphanumeric();
    let written = [
        with(&named),
        with(&named).replace('\'', "&apos;"),
        with(&named).replace('\'', "&#39;"),
        with(&named).replace('\'', "&#x27;").replace('/', "&#x2F;"),
        with(&named).replace('&', "&amp;"),
        with(&|c| if special(c) { format!("&#{};", c as u32) } else { c.into() }),
        with(&|c| if special(c) { format!("&#x{:x};", c as u32) } else { c.into() }),
        with(&|c| if special(c) { format!("&#X{:04X};", c as u32) } else { c.into() }),
        with(&|c| format!("&#{};", c as u32)),
    ];
    for written in written {
        let page = format!("<p>Tom &amp; &;&#;&#x110000;&ä: {written}&gt;{written} and {secret} &amp");

        assert_eq!(mask.text(&page), "<p>Tom &amp; &;&#;&#x110000;&ä: ***&gt;*** and *** &amp", "{written}");
        let list = Answer::Http { status: 200, retry_after: None, body: page.into_bytes() };
        let Answer::Http { body, .. } = mask.answer(list, false) else { panic!("an answer stays one") };
        assert!(!String::from_utf8_lossy(&body).contains("hunter2"), "{written}");
    }
}

#[test]
fn a_page_of_events_is_left_as_it_is_whatever_word_a_password_may_be() {
    for secret in ["ya29.t", "confirmed", "0", "a  b"] {
        let headers = vec![("authorization", format!("Bearer {secret}"))];
        let request = Request { method: Method::Get, url: URL.into(), headers };
        let page = answer(200, json!({ "items": [{ "id": "0", "status": "confirmed", "summary": "a  b" }], "n": 1.0 }));

        assert_eq!(Mask::of(&request).answer(page.clone(), false), page);
    }
}

#[test]
fn a_page_that_repeats_a_token_is_masked() {
    let headers = vec![("authorization", "Bearer ya29/0123456789abcdef".to_owned())];
    let mask = Mask::of(&Request { method: Method::Get, url: URL.into(), headers });
    for echoed in ["ya29/0123456789abcdef", r"ya29\/0123456789abcdef"] {
        let body = format!(r#"{{"timeZone": "Bearer {echoed}"}}"#).into_bytes();
        let Answer::Http { body, .. } = mask.answer(Answer::Http { status: 200, retry_after: None, body }, false)
        else {
            panic!("an answer stays one")
        };

        assert_eq!(String::from_utf8(body).expect("text"), r#"{"timeZone": "Bearer ***"}"#);
    }
}
