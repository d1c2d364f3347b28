//! Push channels: what is asked, what the answers and the notifications mean.

use std::time::Duration;

use calsync_core::providers::google::address::{self, Undeliverable};
use calsync_core::providers::google::channel::{
    LIFETIME, OpenedBy, Opening, RefusedFor, StopRequest, Stopping, WatchRequest, next_opening, read_opening,
    read_stopping, renewal,
};
use calsync_core::providers::google::notification::{Notification, ResourceState};
use calsync_core::providers::{Answer, Mask, Method};
use calsync_core::sync::{Failure, FailureKind};
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};

fn now() -> DateTime<Utc> {
    "2026-11-21T12:00:00Z".parse().expect("a time")
}

fn answer(status: u16, body: &Value) -> Answer {
    Answer::Http { status, retry_after: None, body: body.to_string().into_bytes() }
}

fn error(status: u16, reason: &str) -> Answer {
    let body = json!({"error": {"code": status, "message": "no", "errors": [{"domain": "global", "reason": reason}]}});
    answer(status, &body)
}

fn refused(answer: &Answer) -> (RefusedFor, FailureKind) {
    match read_opening(answer, now()) {
        Opening::Refused(refusal) => (refusal.why, refusal.failure.kind),
        other => panic!("{other:?}"),
    }
}

fn body(method: &Method) -> Value {
    let Method::Post(body) = method else { panic!("not a post") };
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn a_watch_asks_for_a_week_and_names_who_may_call() {
    let request = WatchRequest {
        base_url: "https://www.googleapis.com/calendar/v3/",
        calendar: "de.german#holiday@group.v.calendar.google.com",
        channel_id: "c1",
        token: "secret",
        address: "https://app.example.com/hook",
        authorization: Some("Bearer 0123"),
    }
    .request();

    let url = "https://www.googleapis.com/calendar/v3/calendars/de.german%23holiday%40group.v.calendar.google.com/events/watch";
    assert_eq!(request.url, url);
    let wanted = json!({"id": "c1", "type": "web_hook", "address": "https://app.example.com/hook", "token": "secret",
        "params": {"ttl": "604800"}});
    assert_eq!(body(&request.method), wanted);
    assert!(request.headers.contains(&("authorization", "Bearer 0123".to_owned())));
    assert!(!format!("{request:?}").contains("secret"), "a request may end up in a log");
    assert_eq!(Mask::of(&request).text("bad token: secret"), "bad token: ***");
}

#[test]
fn a_stop_names_channel_and_resource() {
    let request =
        StopRequest { base_url: "https://x/v3", channel_id: "c1", resource_id: "r1", authorization: None }.request();

    assert_eq!(request.url, "https://x/v3/channels/stop");
    assert_eq!(body(&request.method), json!({"id": "c1", "resourceId": "r1"}));
}

#[test]
fn an_opened_channel_says_when_it_ends() {
    let until = now() + TimeDelta::days(3);
    for expiration in [json!(until.timestamp_millis().to_string()), json!(until.timestamp_millis())] {
        let body = json!({"kind": "api#channel", "id": "c", "resourceId": "r", "expiration": expiration});

        let opened = read_opening(&answer(200, &body), now());

        assert_eq!(opened, Opening::Opened { resource_id: "r".into(), expires_at: until });
    }
}

#[test]
fn one_that_does_not_say_when_it_ends_lives_as_long_as_was_asked_for() {
    let opened = read_opening(&answer(200, &json!({"id": "c", "resourceId": "r"})), now());

    let until = now() + TimeDelta::from_std(LIFETIME).expect("a week");
    assert_eq!(opened, Opening::Opened { resource_id: "r".into(), expires_at: until });
}

#[test]
fn a_channel_that_has_ended_already_is_not_asked_for_again_and_again() {
    let body = json!({"id": "c", "resourceId": "r", "expiration": now().timestamp_millis().to_string()});
    assert!(matches!(read_opening(&answer(200, &body), now()), Opening::Unknown(_)), "which waits ever longer");
}

#[test]
fn a_watch_without_an_answer_may_have_opened_a_channel() {
    let html = Answer::Http { status: 502, retry_after: None, body: b"<html>".to_vec() };
    let silence = Answer::None { reason: "it timed out".into() };
    for answer in [silence, html, error(500, "backendError"), answer(200, &json!({"kind": "api#channel"}))] {
        assert!(matches!(read_opening(&answer, now()), Opening::Unknown(_)), "{answer:?}");
    }
}

#[test]
fn a_calendar_that_cannot_be_watched_is_tried_again_after_days() {
    let failure = Failure::new(FailureKind::Forbidden, "no");

    let (why, _) = refused(&error(400, "pushNotSupportedForRequestedResource"));

    assert_eq!(why, RefusedFor::Calendar);
    let wait = next_opening(now(), 0, Some(why), &failure, 0.5) - now();
    assert!(wait > TimeDelta::days(3) && wait < TimeDelta::days(14), "{wait}");
}

#[test]
fn an_address_that_is_not_authorized_holds_back_every_calendar_of_the_credential() {
    for (status, reason) in
        [(401, "push.webhookUrlUnauthorized"), (401, "webhookUrlUnauthorized"), (400, "push.webhookUrlNotHttps")]
    {
        // And although it is a 401 the credential is not at fault.
        assert_eq!(refused(&error(status, reason)), (RefusedFor::Address, FailureKind::Forbidden));
    }
}

#[test]
fn an_id_that_is_taken_is_replaced_by_another() {
    // It was drawn by chance, so the channel that has it is this one: it is not forgotten, and another is asked for.
    assert!(matches!(read_opening(&error(400, "channelIdNotUnique"), now()), Opening::Unknown(_)));
}

#[test]
fn other_refusals_mean_what_they_mean_for_lists() {
    for (answer, kind) in [
        (error(401, "authError"), FailureKind::Credential),
        (error(403, "rateLimitExceeded"), FailureKind::RateLimited),
        (error(429, "rateLimitExceeded"), FailureKind::RateLimited),
        (error(403, "forbidden"), FailureKind::Forbidden),
        (error(404, "notFound"), FailureKind::NotFound),
        (error(400, "invalid"), FailureKind::Passing),
    ] {
        assert_eq!(refused(&answer), (RefusedFor::Request, kind), "{answer:?}");
    }
}

#[test]
fn a_channel_that_google_does_not_know_is_gone() {
    let empty = Answer::Http { status: 204, retry_after: None, body: Vec::new() };
    assert_eq!(read_stopping(&empty, OpenedBy::TheSame), Stopping::Gone);
    assert_eq!(read_stopping(&error(404, "notFound"), OpenedBy::TheSame), Stopping::Gone);
    let proxy = Answer::Http { status: 404, retry_after: None, body: b"<html>no route".to_vec() };
    for answer in [proxy, error(401, "authError"), error(500, "backendError"), Answer::None { reason: "cut".into() }] {
        assert!(matches!(read_stopping(&answer, OpenedBy::TheSame), Stopping::Failed(_)), "{answer:?}");
    }
}

#[test]
fn a_channel_that_somebody_else_may_have_opened_is_not_gone_because_google_says_so() {
    let stopping = |answer: &Answer| read_stopping(answer, OpenedBy::PerhapsAnother);
    let empty = Answer::Http { status: 204, retry_after: None, body: Vec::new() };
    assert_eq!(stopping(&empty), Stopping::Gone);
    for (status, reason) in [(400, "invalid"), (401, "authError"), (403, "forbidden"), (404, "notFound"), (410, "gone")]
    {
        let said = stopping(&error(status, reason));
        assert!(matches!(&said, Stopping::NotOurs(failure) if failure.reason.contains(reason)), "{said:?}");
    }
    let proxy = Answer::Http { status: 404, retry_after: None, body: b"<html>no route".to_vec() };
    let limit = error(403, "rateLimitExceeded");
    for answer in [proxy, limit, error(500, "backendError"), Answer::None { reason: "cut".into() }] {
        assert!(matches!(stopping(&answer), Stopping::Failed(_)), "{answer:?}");
    }
}

#[test]
fn a_channel_is_renewed_after_four_fifths_of_its_life() {
    let end = now() + TimeDelta::hours(100);
    let hours = |random| (renewal(now(), end, random) - now()).num_hours();
    assert_eq!((hours(0.0), hours(0.5), hours(1.0)), (75, 80, 85));
    assert_eq!(renewal(end, now(), 0.5), end, "one that is over is renewed at once");
}

#[test]
fn tries_to_open_come_ever_more_rarely_and_once_a_day_at_least() {
    let failure = Failure::new(FailureKind::Passing, "503");
    let wait = |failures| (next_opening(now(), failures, None, &failure, 0.5) - now()).num_minutes();
    assert_eq!([0, 1, 5, 11, 4000].map(wait), [1, 2, 32, 1440, 1440]);
    let wish = failure.with_retry_after(Some(Duration::from_secs(7200)));
    assert_eq!((next_opening(now(), 0, None, &wish, 0.5) - now()).num_minutes(), 120);
}

fn headers(changed: &[(&str, Value)]) -> Value {
    let mut headers = json!({
        "host": "app.example.com",
        "X-Goog-Channel-ID": "c1",
        "X-Goog-Channel-Token": "secret",
        "X-Goog-Channel-Expiration": "Sat, 28 Nov 2026 12:00:00 GMT",
        "X-Goog-Resource-ID": "r1",
        "X-Goog-Resource-URI": "https://www.googleapis.com/calendar/v3/calendars/a/events?alt=json",
        "X-Goog-Resource-State": "exists",
        "X-Goog-Message-Number": "10",
    });
    for (name, value) in changed {
        headers[*name] = value.clone();
    }
    headers
}

#[test]
fn a_notification_is_read_from_its_headers() {
    let read = Notification::read(&headers(&[])).expect("a notification");

    let wanted = Notification {
        channel_id: "c1".into(),
        token: Some("secret".into()),
        resource_id: Some("r1".into()),
        state: ResourceState::News,
        message_number: 10,
        expires_at: Some(now() + TimeDelta::days(7)),
    };
    assert_eq!(read, wanted);
    assert!(!format!("{read:?}").contains("secret"));
}

#[test]
fn names_of_headers_come_in_any_case_and_values_in_several_shapes() {
    let Value::Object(usual) = headers(&[]) else { panic!("an object") };
    let lower = usual.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
    let upper = usual.iter().map(|(name, value)| (name.to_uppercase(), json!([value]))).collect();
    for given in [Value::Object(lower), Value::Object(upper), headers(&[("x-goog-channel-id", json!("c1"))])] {
        assert_eq!(Notification::read(&given), Notification::read(&headers(&[])), "{given}");
    }
    let number = headers(&[("X-Goog-Message-Number", json!(10))]);
    assert_eq!(Notification::read(&number), Notification::read(&headers(&[])));
}

#[test]
fn states_are_sync_or_news() {
    let state = |state: &str| Notification::read(&headers(&[("X-Goog-Resource-State", json!(state))])).map(|n| n.state);
    assert_eq!(state("sync"), Ok(ResourceState::Sync));
    for news in ["exists", "not_exists", "something of tomorrow"] {
        assert_eq!(state(news), Ok(ResourceState::News));
    }
}

#[test]
fn what_is_no_notification_is_said_to_be_none() {
    for given in [
        Value::Null,
        json!([]),
        json!({}),
        json!("x-goog-channel-id"),
        headers(&[("X-Goog-Channel-ID", json!(""))]),
        headers(&[("X-Goog-Channel-ID", json!({"a": 1}))]),
        headers(&[("X-Goog-Channel-ID", json!("a\u{0}b"))]),
        headers(&[("X-Goog-Channel-ID", json!("x".repeat(5000)))]),
        headers(&[("x-goog-channel-id", json!("another"))]),
        headers(&[("X-Goog-Message-Number", json!("0"))]),
        headers(&[("X-Goog-Message-Number", json!("-1"))]),
        headers(&[("X-Goog-Message-Number", json!("9223372036854775808"))]),
        headers(&[("X-Goog-Message-Number", json!(null))]),
        headers(&[("X-Goog-Resource-State", json!(["exists", "sync"]))]),
        headers(&[("X-Goog-Resource-State", json!(""))]),
    ] {
        assert!(Notification::read(&given).is_err(), "{given}");
    }
}

proptest! {
    #[test]
    fn no_header_makes_reading_fail_otherwise(
        name in "(?i)x-goog-(channel-id|channel-token|channel-expiration|resource-id|resource-state|message-number)",
        value in prop_oneof![any::<String>().prop_map(Value::from), any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from), Just(Value::Null), Just(json!([[["deep"]]]))],
    ) {
        let _ = Notification::read(&headers(&[(name.as_str(), value)]));
    }
}

#[test]
fn addresses_that_google_delivers_to() {
    for good in [
        "https://app.example.com/hook",
        "https://app.example.com",
        "https://app.example.com:8443/hook?tenant=7",
        "https://xn--bcher-kva.example/",
        "HTTPS://no.example.com/".to_lowercase().as_str(),
    ] {
        assert_eq!(address::check(good, false), Ok(()), "{good}");
    }
}

#[test]
fn addresses_that_nobody_delivers_to() {
    use Undeliverable::{HoldsCredentials, NoHost, NotAUrl, NotHttps, NumericHost, PrivateHost, TooLong};
    let long = format!("https://a.example.com/{}", "x".repeat(3000));
    for (bad, why) in [
        ("http://app.example.com/hook", NotHttps),
        ("ftp://app.example.com/", NotHttps),
        ("app.example.com/hook", NotHttps),
        ("http://127.0.0.1/hook", NotHttps),
        ("https:///hook", NoHost),
        ("https://:443/", NoHost),
        ("https://me:secret@app.example.com/", HoldsCredentials),
        ("https://localhost/hook", PrivateHost),
        ("https://intranet/hook", PrivateHost),
        ("https://db.internal/hook", PrivateHost),
        ("https://printer.LOCAL./hook", PrivateHost),
        ("https://10.0.0.1/hook", NumericHost),
        ("https://[::1]/hook", NumericHost),
        ("https://8.8.8.8/hook", NumericHost),
        ("https://127.1/hook", NumericHost),
        ("https://0x7f.0x1/hook", NumericHost),
        ("https://app.example.com/#there", NotAUrl),
        ("https://app.example.com/a b", NotAUrl),
        ("https://app.example.com/\r\nX: y", NotAUrl),
        ("https://bücher.example/", NotAUrl),
        (&long, TooLong),
    ] {
        assert_eq!(address::check(bad, false), Err(why), "{bad}");
    }
}

#[test]
fn tests_may_deliver_to_this_very_machine() {
    for local in ["http://127.0.0.1:8080/hook", "http://localhost/hook", "http://[::1]:9/", "https://127.0.0.1/"] {
        assert_eq!(address::check(local, true), Ok(()), "{local}");
    }
    assert_eq!(address::check("http://app.example.com/", true), Err(Undeliverable::NotHttps));
    assert_eq!(address::check("http://localhost.example.com/", true), Err(Undeliverable::NotHttps));
}
