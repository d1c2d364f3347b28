//! Requests in the shape of Google's `freeBusy.query`, and what is told of them.

use calsync_core::freebusy::{Problem, Request};
use calsync_core::invalid::Refusal;
use serde_json::{Value, json};

fn asking(more: Value) -> Value {
    let mut request = json!({"timeMin": "2026-11-23T08:00:00Z", "timeMax": "2026-11-23T20:00:00Z", "items": []});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn answer(request: &Value) -> Value {
    let request = Request::parse(request).expect("a request");
    let none = request.calendars.iter().map(|calendar| (calendar.clone(), Vec::new(), None));
    serde_json::from_str(&request.answer(none, || ()).expect("text")).expect("JSON")
}

#[test]
fn a_request_without_items_is_about_no_calendars() {
    let mut without = asking(json!({}));
    without.as_object_mut().unwrap().remove("items");

    assert_eq!(answer(&without)["calendars"], json!({}));
    assert_eq!(answer(&asking(json!({"items": null})))["calendars"], json!({}));
}

#[test]
fn items_are_counted_before_they_are_looked_at() {
    let same = vec![json!({"id": "anna"}); 10_001];

    let refused = Request::parse(&asking(json!({"items": same}))).expect_err("too many");

    assert!(matches!(refused, Refusal::TooMuch(_)), "{refused:?}");
    assert_eq!(answer(&asking(json!({"items": same[1..]})))["calendars"], json!({"anna": {"busy": []}}));
}

#[test]
fn a_leap_second_is_told_as_the_moment_after_it() {
    let told = answer(&asking(json!({"timeMin": "2016-12-31T23:59:60Z"})));

    assert_eq!(told["timeMin"], "2017-01-01T00:00:00.000Z");
}

#[test]
fn a_window_that_postgres_could_not_tell_from_nothing_is_refused() {
    let shorter_than_a_microsecond =
        asking(json!({"timeMin": "2026-11-23T08:00:00.0000001Z", "timeMax": "2026-11-23T08:00:00.0000009Z"}));

    let refused = Request::parse(&shorter_than_a_microsecond).expect_err("empty");

    assert_eq!(refused.to_string(), "request.timeMax must be after request.timeMin");
}

#[test]
fn names_are_told_whatever_stands_in_them() {
    let name = "a \"quoted\" \\ name\n\u{1f600}";
    let request = Request::parse(&asking(json!({"items": [{"id": name}], "timeZone": "Asia/Kolkata"}))).expect("taken");
    let whole = vec![(name.to_owned(), vec![request.window], Some(Problem::Ambiguous))];

    let told: Value = serde_json::from_str(&request.answer(whole, || ()).expect("text")).expect("JSON");

    let busy = json!([{"start": "2026-11-23T13:30:00+05:30", "end": "2026-11-24T01:30:00+05:30"}]);
    let errors = json!([{"domain": "calsync", "reason": "ambiguous"}]);
    assert_eq!(told["calendars"], json!({name: {"errors": errors, "busy": busy}}));
}

#[test]
#[should_panic(expected = "cancelled")]
fn a_long_answer_can_be_cancelled() {
    let request = Request::parse(&asking(json!({"items": [{"id": "anna"}]}))).expect("a request");

    let _ = request.answer([("anna".to_owned(), vec![request.window], None)], || panic!("cancelled"));
}
