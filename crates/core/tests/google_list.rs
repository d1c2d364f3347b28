//! Asking for a page of a calendar's events.

use calsync_core::providers::google::{ListRequest, token_parameters};

fn first_page<'a>() -> ListRequest<'a> {
    ListRequest {
        base_url: "https://www.googleapis.com/calendar/v3",
        calendar: "alice@example.com",
        sync_token: None,
        page_token: None,
        authorization: None,
    }
}

const FIXED: &str = "https://www.googleapis.com/calendar/v3/calendars/alice%40example.com/events\
                     ?singleEvents=false&maxResults=2500";

#[test]
fn a_full_sync_lists_everything_and_names_no_window() {
    let request = first_page().request();

    assert_eq!(request.url, FIXED);
    assert_eq!(request.headers, [("accept", "application/json".to_owned())]);
}

#[test]
fn a_delta_repeats_the_query_with_both_tokens() {
    let request =
        ListRequest { sync_token: Some("CJ_e+wo2/=="), page_token: Some("p&q=1 2"), ..first_page() }.request();

    assert_eq!(request.url, format!("{FIXED}&syncToken=CJ_e%2Bwo2%2F%3D%3D&pageToken=p%26q%3D1%202"));
}

#[test]
fn the_calendars_name_cannot_change_the_path() {
    let request = ListRequest { calendar: "../../token?x=ü#é/%2F", ..first_page() }.request();

    assert!(
        request.url.contains("/calendars/..%2F..%2Ftoken%3Fx%3D%C3%BC%23%C3%A9%2F%252F/events?"),
        "{}",
        request.url
    );
}

#[test]
fn a_slash_after_the_base_does_no_harm() {
    let request = ListRequest { base_url: "https://www.googleapis.com/calendar/v3/", ..first_page() }.request();

    assert_eq!(request.url, FIXED);
}

#[test]
fn the_access_token_goes_into_a_header_and_shows_in_no_log() {
    let request =
        ListRequest { sync_token: Some("secret-1"), authorization: Some("Bearer secret-2"), ..first_page() }.request();

    assert!(request.headers.contains(&("authorization", "Bearer secret-2".to_owned())));
    assert!(!format!("{request:?}").contains("secret"), "{request:?}");
}

#[test]
fn a_token_depends_on_what_was_asked_for() {
    assert!(first_page().request().url.ends_with(&token_parameters("alice@example.com", 7)));
}

#[test]
fn a_token_of_ones_own_calendar_depends_on_who_asks() {
    assert_eq!(token_parameters("alice@example.com", 7), token_parameters("alice@example.com", 8));
    for own in ["primary", "Primary", "PRIMARY"] {
        assert_ne!(token_parameters(own, 7), token_parameters(own, 8), "{own}");
        assert_eq!(token_parameters(own, 7), token_parameters(own, 7), "{own}");
    }
}
