//! What does one of Google's answers ask us to do next? The whole table of errors, and the hard cases of `sync`.

mod google_support;

use std::time::Duration;

use calsync_core::busy::BusyStatus;
use calsync_core::destination::Refused;
use calsync_core::event::{Change, Kind};
use calsync_core::options::Options;
use calsync_core::providers::Answer;
use calsync_core::providers::google::read_answer;
use calsync_core::schedule::{Slows, State, after_failure};
use calsync_core::sync::{Failure, FailureKind, Step, TokenLoss};
use google_support::{at, item};
use serde_json::{Value, json};

const DELTA: bool = true;
const FULL: bool = false;

fn ok(body: impl ToString) -> Answer {
    http(200, body)
}

fn http(status: u16, body: impl ToString) -> Answer {
    Answer::Http { status, retry_after: None, body: body.to_string().into_bytes() }
}

fn error(status: u16, reason: &str, message: &str) -> Answer {
    let details = json!([{"domain": "global", "reason": reason, "message": message}]);
    http(status, json!({"error": {"errors": details, "code": status, "message": message}}))
}

fn step(answer: &Answer, had_token: bool) -> Step {
    read_answer(answer, had_token, &Options::default())
}

fn failure(answer: &Answer, had_token: bool) -> Failure {
    match step(answer, had_token) {
        Step::Fail(failure) => failure,
        step => panic!("it did not fail: {step:?}"),
    }
}

fn list(fields: Value) -> Value {
    let mut list = json!({"kind": "calendar#events", "timeZone": "Europe/Vienna", "items": []});
    for (name, value) in fields.as_object().expect("fields are an object") {
        list[name] = value.clone();
    }
    list
}

// The hard cases of `sync`

#[test]
fn a_final_page_without_a_successor_token_forces_a_full_sync() {
    let answer = ok(list(json!({"items": [item("review", json!({}))]})));

    assert_eq!(step(&answer, DELTA), Step::FullSync { because: TokenLoss::NoSuccessor });
    let failure = failure(&answer, FULL);
    assert_eq!(
        (failure.kind, failure.reason.as_str()),
        (FailureKind::Passing, "the last page of a full sync carried no sync token")
    );
}

#[test]
fn an_empty_page_with_a_page_token_goes_on() {
    let answer = ok(list(json!({"nextPageToken": "page 2"})));

    for had_token in [DELTA, FULL] {
        match step(&answer, had_token) {
            Step::NextPage { page, next } => {
                assert_eq!((page.changes.len(), next.as_str()), (0, "page 2"));
            }
            step => panic!("{step:?}"),
        }
    }
}

#[test]
fn an_invalid_token_and_an_expired_token_both_force_a_full_sync() {
    let invalid = error(400, "invalid", "Invalid sync token value.");
    let expired = error(410, "fullSyncRequired", "Sync token is no longer valid, a full sync is required.");

    assert_eq!(step(&invalid, DELTA), Step::FullSync { because: TokenLoss::Invalid });
    assert_eq!(step(&expired, DELTA), Step::FullSync { because: TokenLoss::Expired });
}

#[test]
fn a_full_sync_that_is_told_to_sync_in_full_backs_off() {
    for answer in [
        error(400, "invalid", "Invalid sync token value."),
        error(400, "syncTokenWithRequestRestrictions", "Sync token cannot be used with request restrictions."),
        error(410, "fullSyncRequired", "Sync token is no longer valid, a full sync is required."),
        error(410, "updatedMinTooLongAgo", "The requested minimum modification time lies too far in the past."),
    ] {
        assert_eq!(failure(&answer, FULL).kind, FailureKind::Passing, "{answer:?}");
    }
}

#[test]
fn a_rate_limit_slows_the_credential_not_the_calendar() {
    let limited = failure(&error(403, "rateLimitExceeded", "Rate Limit Exceeded"), DELTA);

    let retry = after_failure(at("2026-11-20T12:00:00Z"), 0, None, &limited, 0.5);

    assert_eq!((retry.state, retry.slows), (State::Backoff, Slows::Credential));
}

#[test]
fn a_body_that_is_cut_off_is_a_passing_failure_and_never_a_deletion() {
    let whole = list(json!({"items": [item("review", json!({}))], "nextSyncToken": "t"})).to_string();
    let bytes = whole.as_bytes();
    for length in 0..bytes.len() {
        let cut = Answer::Http { status: 200, retry_after: None, body: bytes[..length].to_vec() };

        assert_eq!(failure(&cut, DELTA).kind, FailureKind::Passing, "cut at {length}");
    }
    let lost = Answer::None { reason: "the connection was cut".to_owned() };
    assert_eq!(failure(&lost, DELTA), Failure::new(FailureKind::Passing, "the connection was cut"));
}

#[test]
fn an_empty_token_is_no_token() {
    let last = ok(list(json!({"nextPageToken": "", "nextSyncToken": "t"})));
    let endless = ok(list(json!({"nextPageToken": "", "nextSyncToken": ""})));

    assert!(matches!(step(&last, DELTA), Step::Commit { .. }));
    assert_eq!(step(&endless, DELTA), Step::FullSync { because: TokenLoss::NoSuccessor });
}

// A page

#[test]
fn the_last_page_commits_its_changes_and_moves_the_token() {
    let answer = ok(list(json!({
        "items": [item("review", json!({})), {"id": "lunch", "status": "cancelled"}], "nextSyncToken": "CK_y7u==",
    })));

    let Step::Commit { page, successor } = step(&answer, DELTA) else { panic!("no commit") };

    assert_eq!(successor, "CK_y7u==");
    assert_eq!(page.time_zone.as_deref(), Some("Europe/Vienna"));
    let ids: Vec<&str> = page.changes.iter().map(Change::event_id).collect();
    assert_eq!(ids, ["review", "lunch"]);
}

#[test]
fn an_empty_delta_still_moves_the_token() {
    let answer = ok(list(json!({"nextSyncToken": "next"})));

    assert!(matches!(step(&answer, DELTA), Step::Commit { successor, .. } if successor == "next"));
}

#[test]
fn a_page_with_both_tokens_is_not_the_last() {
    let answer = ok(list(json!({"nextPageToken": "p", "nextSyncToken": "t"})));

    assert!(matches!(step(&answer, DELTA), Step::NextPage { .. }));
}

#[test]
fn an_unreadable_item_does_not_fail_its_page_but_blocks_its_time_and_says_why() {
    let odd = item("odd", json!({"recurrence": "daily"}));
    let nameless = item("x", json!({"id": null}));
    let answer = ok(list(json!({"items": [odd, nameless, 7, item("review", json!({}))], "nextSyncToken": "t"})));

    let Step::Commit { page, .. } = step(&answer, DELTA) else { panic!("no commit") };

    let flagged: Vec<_> = page.changes[..3]
        .iter()
        .map(|change| match change {
            Change::Put(event) => {
                assert_eq!(event.busy_status, BusyStatus::Busy);
                assert!(event.details.raw.is_some());
                let blocks = matches!(&event.kind, Kind::Unreadable { span } if span.is_some());
                (event.problem.as_deref(), blocks)
            }
            Change::Delete { .. } => panic!("{change:?}"),
        })
        .collect();
    assert_eq!(
        flagged,
        [
            (Some("recurrence: it is not an array"), true),
            (Some("id: it is missing"), true),
            (Some("item: it is not an object"), false),
        ]
    );
    assert_eq!(page.changes[3].event_id(), "review");
}

#[test]
fn what_is_no_list_of_events_is_a_passing_failure() {
    let deep = format!("{}{}", "[".repeat(5_000_000), "]".repeat(5_000_000));
    let cases = [
        ("no body", String::new()),
        ("a proxy's page", "<html>Welcome to the hotel</html>".to_owned()),
        ("nested ten million deep", deep.clone()),
        ("items nested deep", format!("{{\"items\":{deep},\"nextSyncToken\":\"t\"}}")),
        ("another resource", json!({"kind": "calendar#calendar", "id": "alice"}).to_string()),
        ("an error in disguise", json!({"error": {"code": 500}}).to_string()),
        ("a list", json!([]).to_string()),
        ("null", "null".to_owned()),
        ("no items", json!({"kind": "calendar#events", "nextSyncToken": "t"}).to_string()),
        ("items of another type", list(json!({"items": {}, "nextSyncToken": "t"})).to_string()),
        ("a sync token that is no text", list(json!({"nextSyncToken": 7})).to_string()),
        ("a page token that is no text", list(json!({"nextPageToken": {}})).to_string()),
        ("a token that cannot be stored", list(json!({"nextSyncToken": "a\u{0}"})).to_string()),
        ("a zone that nobody knows", list(json!({"timeZone": "Mars/Olympus", "nextSyncToken": "t"})).to_string()),
        ("a zone that is no text", list(json!({"timeZone": 1, "nextSyncToken": "t"})).to_string()),
        ("two answers", format!("{}{}", list(json!({"nextSyncToken": "t"})), list(json!({})))),
    ];
    for (case, body) in cases {
        assert_eq!(failure(&ok(body), DELTA).kind, FailureKind::Passing, "{case}");
    }
}

#[test]
fn a_body_that_is_not_utf8_is_a_passing_failure() {
    let mut body = list(json!({"nextSyncToken": "t", "summary": "?"})).to_string().into_bytes();
    body.iter_mut().filter(|byte| **byte == b'?').for_each(|byte| *byte = 0xff);
    let answer = Answer::Http { status: 200, retry_after: None, body };

    assert_eq!(failure(&answer, DELTA).kind, FailureKind::Passing);
}

#[test]
fn a_page_of_more_events_than_anybody_asked_for_is_refused_before_it_is_read() {
    let page = |events: usize| ok(format!("{{\"items\":[0{}],\"nextSyncToken\":\"t\"}}", ",0".repeat(events - 1)));

    assert_eq!(failure(&page(10_001), DELTA).reason, "the page holds more than 10000 events");
    assert!(matches!(step(&page(10_000), DELTA), Step::Commit { page, .. } if page.changes.len() == 10_000));
}

#[test]
fn an_event_larger_than_any_is_a_passing_failure_of_its_page() {
    let page = |length: usize| ok(list(json!({"items": ["x".repeat(length)], "nextSyncToken": "t"})));

    assert_eq!(failure(&page(1 << 20), DELTA).reason, "an event of the page is larger than 1024 kB");
    assert!(matches!(step(&page((1 << 20) - 2), DELTA), Step::Commit { .. }));
}

#[test]
fn of_keys_that_nobody_asks_for_nothing_is_read() {
    let page = json!({"items": [], "nextSyncToken": "t", "more": [[1, {"a": null}]], "defaultReminders": []});

    assert!(matches!(step(&ok(list(page)), DELTA), Step::Commit { .. }));
    let told = failure(&ok(list(json!({"nextSyncToken": ["t", "u"]}))), DELTA).reason;
    assert_eq!(told, "the answer's nextSyncToken is not a string");
}

// The table of errors (providers.md)

#[test]
fn every_row_of_the_table_of_errors() {
    use FailureKind::{Credential, Forbidden, NotFound, Passing, RateLimited};
    let table = [
        (400, "badRequest", Passing),
        (401, "authError", Credential),
        (403, "rateLimitExceeded", RateLimited),
        (403, "userRateLimitExceeded", RateLimited),
        (403, "quotaExceeded", RateLimited),
        (403, "dailyLimitExceeded", RateLimited),
        (403, "forbidden", Forbidden),
        (403, "insufficientPermissions", Forbidden),
        (403, "accessNotConfigured", Forbidden),
        (403, "forbiddenForNonOrganizer", Forbidden),
        (403, "inventedTomorrow", Forbidden),
        (404, "notFound", NotFound),
        (408, "timeout", Passing),
        (409, "duplicate", Passing),
        (409, "conflict", Passing),
        (410, "deleted", NotFound),
        (412, "conditionNotMet", Passing),
        (429, "rateLimitExceeded", RateLimited),
        (500, "backendError", Passing),
        (502, "badGateway", Passing),
        (503, "rateLimitExceeded", Passing),
        (504, "gatewayTimeout", Passing),
    ];
    for (status, reason, kind) in table {
        for had_token in [DELTA, FULL] {
            let failure = failure(&error(status, reason, "In the provider's words."), had_token);

            assert_eq!(failure.kind, kind, "{status} {reason}");
            assert_eq!(failure.reason, format!("the provider answered {status} ({reason}): In the provider's words."));
        }
    }
}

#[test]
fn the_rows_that_cost_the_token() {
    let table = [
        (400, "invalid", "Invalid sync token value.", TokenLoss::Invalid),
        (400, "syncTokenWithRequestRestrictions", "Sync token cannot be used with ...", TokenLoss::Refused),
        (400, "syncTokenWithNonDefaultOrdering", "Sync token cannot be used with ...", TokenLoss::Refused),
        (400, "timeRangeEmpty", "The specified time range is empty.", TokenLoss::Refused),
        (410, "fullSyncRequired", "Sync token is no longer valid, a full sync is required.", TokenLoss::Expired),
        (410, "updatedMinTooLongAgo", "The requested minimum ...", TokenLoss::Expired),
        (410, "gone", "", TokenLoss::Expired),
    ];
    for (status, reason, message, because) in table {
        let answer = error(status, reason, message);

        assert_eq!(step(&answer, DELTA), Step::FullSync { because }, "{status} {reason}");
        assert_eq!(failure(&answer, FULL).kind, FailureKind::Passing, "{status} {reason}");
    }
}

#[test]
fn another_invalid_value_does_not_cost_the_token() {
    let failure = failure(&error(400, "invalid", "Invalid page token value."), DELTA);

    assert_eq!(failure.kind, FailureKind::Passing);
}

#[test]
fn an_invalid_token_may_be_named_by_its_location() {
    let details = json!([{"reason": "invalid", "location": "syncToken", "message": "Invalid value"}]);
    let answer = http(400, json!({"error": {"errors": details, "code": 400, "message": "Invalid value"}}));

    assert_eq!(step(&answer, DELTA), Step::FullSync { because: TokenLoss::Invalid });
}

#[test]
fn statuses_without_a_body_are_understood_by_their_number() {
    use FailureKind::{Credential, Forbidden, NotFound, Passing, RateLimited};
    for (status, kind) in [
        (0, Passing),
        (101, Passing),
        (201, Passing),
        (204, Passing),
        (206, Passing),
        (301, Passing),
        (302, Passing),
        (304, Passing),
        (401, Credential),
        (403, Forbidden),
        (404, NotFound),
        (408, Passing),
        (413, Passing),
        (429, RateLimited),
        (500, Passing),
        (599, Passing),
        (999, Passing),
    ] {
        assert_eq!(failure(&http(status, ""), DELTA).kind, kind, "{status}");
    }
}

#[test]
fn a_page_of_something_in_between_proves_nothing_about_the_calendar() {
    for status in [403, 404] {
        let failure = failure(&http(status, "<html>Squid: access denied</html>"), DELTA);

        assert_eq!(failure.kind, FailureKind::Passing);
        assert_eq!(failure.reason, format!("the provider answered {status} with a body that is not JSON"));
    }
}

#[test]
fn googles_newer_word_for_a_rate_limit_is_one() {
    let answer =
        http(403, json!({"error": {"code": 403, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED"}}));

    assert_eq!(failure(&answer, DELTA).kind, FailureKind::RateLimited);
}

#[test]
fn the_providers_wish_for_the_next_try_is_handed_on() {
    let wish = Some(Duration::from_secs(120));
    for status in [200, 401, 403, 404, 429, 503] {
        let answer = Answer::Http { status, retry_after: wish, body: Vec::new() };

        assert_eq!(failure(&answer, DELTA).retry_after, wish, "{status}");
    }
}

#[test]
fn a_reason_is_one_short_line_whatever_the_provider_writes() {
    let shout = format!("first\r\nsecond\u{1b}[31m{}", "x".repeat(10_000));

    let reason = failure(&error(500, &"r".repeat(10_000), &shout), DELTA).reason;

    assert!(reason.chars().count() <= 500, "{}", reason.len());
    assert!(!reason.chars().any(char::is_control), "{reason:?}");
    assert!(reason.contains("firstsecond"), "{reason}");
}

#[test]
fn a_reason_shows_what_it_says_in_the_order_in_which_it_says_it() {
    let reason = Failure::new(FailureKind::Passing, "a\u{202e}b\u{2066}c\0d\u{2028}e").reason;

    assert_eq!(reason, "abcde");
}

#[test]
fn a_redirect_is_named_as_what_is_not_followed() {
    assert_eq!(failure(&http(302, ""), DELTA).reason, "the provider answered 302: a redirect, which is not followed");
    assert_eq!(failure(&http(304, ""), DELTA).reason, "the provider answered 304");
}

#[test]
fn a_refused_url_is_told_by_its_sqlstate_and_is_not_the_providers_trouble() {
    let failure = failure(&Answer::Refused(Refused::Scheme), DELTA);

    assert_eq!(failure.kind, FailureKind::RefusedUrl);
    assert_eq!(failure.reason, "refused URL (SC008): it is not https");
}

#[test]
fn a_failures_reason_is_cut_at_500_characters() {
    let reason = Failure::new(FailureKind::Passing, "é".repeat(2_000)).reason;

    assert_eq!(reason.chars().count(), 500);
}
