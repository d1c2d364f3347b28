//! `events.list`: pages, windows, filters, and the shape of what comes back.

mod story;

use fake_google::{NewCalendar, Quirks};
use serde_json::{Value, json};
use story::{ALICE, Client, alice, all_day, daily, events, keys, meeting};

fn ten_events() -> (fake_google::FakeGoogle, Client) {
    let (google, client) = alice();
    let day = |n| {
        meeting(
            &format!("e{n}"),
            &format!("2025-03-{:02}T10:00:00Z", n + 1),
            &format!("2025-03-{:02}T11:00:00Z", n + 1),
        )
    };
    google.insert_events(ALICE, &(0..10).map(day).collect::<Vec<_>>()).unwrap();
    (google, client)
}

/// Follows the pages to the end: how many items each one had, and the token.
fn pages(client: &Client, query: &[(&str, &str)]) -> (Vec<usize>, String) {
    let (mut sizes, mut answer) = (Vec::new(), client.list(query));
    loop {
        sizes.push(answer.ids().len());
        if answer.json.get("nextSyncToken").is_some() {
            return (sizes, answer.sync_token());
        }
        let token = answer.page_token();
        answer = client.list(&[query, &[("pageToken", &token)]].concat());
    }
}

#[test]
fn a_list_and_its_events_have_googles_fields() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();

    let list = client.full();

    assert_eq!(
        keys(&list.json),
        [
            "accessRole",
            "defaultReminders",
            "description",
            "etag",
            "items",
            "kind",
            "nextSyncToken",
            "summary",
            "timeZone",
            "updated"
        ]
    );
    assert_eq!(list.json["kind"], "calendar#events");
    assert_eq!(list.json["timeZone"], "America/Chicago");
    let event = list.item("standup");
    assert_eq!(
        keys(event),
        [
            "created",
            "creator",
            "end",
            "etag",
            "eventType",
            "htmlLink",
            "iCalUID",
            "id",
            "kind",
            "organizer",
            "recurrence",
            "reminders",
            "sequence",
            "start",
            "status",
            "summary",
            "updated"
        ]
    );
    assert_eq!(event["start"], json!({ "dateTime": "2025-03-24T07:30:00-05:00", "timeZone": "America/Chicago" }));
    assert_eq!(event["iCalUID"], "standup@google.com");
    assert_eq!(event["organizer"], json!({ "email": ALICE, "self": true }));
    assert_eq!(event["reminders"], json!({ "useDefault": true }));
    let micros: i64 = event["etag"].as_str().unwrap().trim_matches('"').parse::<i64>().unwrap() / 2;
    let updated = chrono::DateTime::parse_from_rfc3339(event["updated"].as_str().unwrap()).unwrap();
    assert_eq!(micros / 1000, updated.timestamp_millis(), "the etag is twice the microseconds of the change");
}

#[test]
fn pages_end_in_a_sync_token() {
    let (_google, client) = ten_events();
    assert_eq!(pages(&client, &[("maxResults", "4")]).0, [4, 4, 2]);
    assert_eq!(pages(&client, &[("maxResults", "10")]).0, [10]);
    assert_eq!(client.list(&[("maxResults", "0")]).status, 400);
}

#[test]
fn a_page_may_be_asked_for_again() {
    let (_google, client) = ten_events();
    let token = client.list(&[("maxResults", "4")]).page_token();
    let query = [("maxResults", "4"), ("pageToken", token.as_str())];

    assert_eq!(client.list(&query).ids(), client.list(&query).ids());
    assert_eq!(client.list(&[("maxResults", "4"), ("pageToken", "rubbish")]).status, 400);
    assert_eq!(client.list(&[("maxResults", "5"), ("pageToken", &token)]).status, 400, "another query");
}

#[test]
fn pages_may_be_smaller_than_asked_and_even_empty() {
    let (google, client) = ten_events();
    let quirks = Quirks { page_size_cap: Some(3), empty_first_pages: 1, empty_every: Some(3), ..Quirks::default() };
    google.set_quirks(Some(ALICE), quirks).unwrap();

    assert_eq!(pages(&client, &[]).0, [0, 3, 0, 3, 3, 0, 1]);
    assert_eq!(pages(&client, &[]).0, [3, 3, 0, 3, 1], "only one list was to begin with an empty page");
    assert!(google.set_quirks(None, Quirks { empty_every: Some(1), ..Quirks::default() }).is_err());
}

#[test]
fn time_min_bounds_the_end_and_time_max_the_start_both_exclusive() {
    let (google, client) = alice();
    google.insert_event(ALICE, &meeting("m", "2025-03-24T10:00:00Z", "2025-03-24T11:00:00Z")).unwrap();
    let found = |min: &str, max: &str| client.list(&[("timeMin", min), ("timeMax", max)]).ids().len();

    assert_eq!(found("2025-03-24T10:59:59Z", "2025-03-24T12:00:00Z"), 1);
    assert_eq!(found("2025-03-24T11:00:00Z", "2025-03-24T12:00:00Z"), 0);
    assert_eq!(found("2025-03-24T09:00:00Z", "2025-03-24T10:00:01Z"), 1);
    assert_eq!(found("2025-03-24T09:00:00Z", "2025-03-24T10:00:00Z"), 0);

    let empty = client.list(&[("timeMin", "2025-03-24T10:00:00Z"), ("timeMax", "2025-03-24T10:00:00Z")]);
    assert_eq!((empty.status, empty.reason()), (400, "timeRangeEmpty"));
    assert_eq!(client.list(&[("timeMin", "2025-03-24T10:00:00")]).status, 400, "the offset is mandatory");
}

#[test]
fn an_all_day_event_lies_in_the_calendars_zone() {
    let (google, client) = alice();
    google.insert_event(ALICE, &all_day("trip", "2025-03-24", "2025-03-25")).unwrap();
    // Midnight in Chicago is 05:00Z.
    assert_eq!(client.list(&[("timeMin", "2025-03-25T04:59:59Z")]).ids().len(), 1);
    assert_eq!(client.list(&[("timeMin", "2025-03-25T05:00:00Z")]).ids().len(), 0);
}

#[test]
fn a_series_is_listed_where_an_occurrence_lies_in_the_window_and_its_exceptions_speak_for_themselves() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();
    let away =
        json!({ "start": { "dateTime": "2025-01-02T09:00:00Z" }, "end": { "dateTime": "2025-01-02T10:00:00Z" } });
    google.patch_event(ALICE, "standup_20250401T123000Z", &away).unwrap();

    let later = client.list(&[("timeMin", "2025-03-31T00:00:00Z")]);
    assert_eq!(later.ids(), ["standup"], "the exception moved before the window is not told of");
    let before = client.list(&[("timeMax", "2025-03-24T00:00:00Z")]);
    assert_eq!(before.ids(), ["standup_20250401T123000Z"]);
}

#[test]
fn lists_filter_by_text_uid_properties_and_type() {
    let (google, client) = alice();
    let mut lunch = meeting("Lunch with Bob", "2025-03-24T10:00:00Z", "2025-03-24T11:00:00Z");
    lunch["id"] = json!("lunch");
    lunch["extendedProperties"] = json!({ "private": { "a": "1" }, "shared": { "b": "2" } });
    google.insert_event(ALICE, &lunch).unwrap();
    google.insert_event(ALICE, &daily("standup")).unwrap();
    let found = |name: &str, value: &str| client.list(&[(name, value)]).ids().join(" ");

    assert_eq!(found("q", "bob lunch"), "lunch");
    assert_eq!(found("iCalUID", "standup@google.com"), "standup");
    assert_eq!(found("privateExtendedProperty", "a=1"), "lunch");
    assert_eq!(found("sharedExtendedProperty", "b=2"), "lunch");
    assert_eq!(found("sharedExtendedProperty", "b=3"), "");
    assert_eq!(found("eventTypes", "outOfOffice"), "");
}

#[test]
fn updated_min_brings_deletions_but_does_not_reach_back_for_ever() {
    let (google, client) = ten_events();
    google.advance_clock(chrono::TimeDelta::seconds(5));
    let since = google.now().to_rfc3339();
    let victim = client.full().ids()[0].to_owned();
    google.delete_event(ALICE, &victim).unwrap();

    assert_eq!(client.list(&[("updatedMin", &since)]).ids(), [victim.as_str()]);
    let old = client.list(&[("updatedMin", "2001-01-01T00:00:00Z")]);
    assert_eq!((old.status, old.reason()), (410, "updatedMinTooLongAgo"));
}

#[test]
fn a_free_busy_reader_learns_when_but_not_what() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();
    google.patch_calendar(ALICE, &serde_json::from_value(json!({ "accessRole": "freeBusyReader" })).unwrap()).unwrap();

    let list = client.full();
    assert_eq!(list.json["accessRole"], "freeBusyReader");
    assert!(list.item("standup").get("summary").is_none());
    assert!(list.item("standup").get("recurrence").is_some());
    let refused = client.delete(&events("standup"));
    assert_eq!((refused.status, refused.reason()), (403, "requiredAccessLevel"));
}

#[test]
fn the_response_may_be_in_another_zone_partial_and_compact() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();

    let there = client.list(&[("timeZone", "Europe/Vienna")]);
    assert_eq!(there.item("standup")["start"]["dateTime"], "2025-03-24T13:30:00+01:00");
    assert_eq!(there.item("standup")["start"]["timeZone"], "America/Chicago");
    let part = client.list(&[("fields", "items(id,start/dateTime),nextSyncToken"), ("prettyPrint", "false")]);
    assert_eq!(keys(&part.json), ["items", "nextSyncToken"]);
    assert_eq!(part.item("standup"), &json!({ "id": "standup", "start": { "dateTime": "2025-03-24T07:30:00-05:00" } }));
    assert_eq!(client.list(&[("fields", "items(id")]).status, 400);
}

#[test]
fn calendars_are_listed_and_read() {
    let (google, client) = alice();
    google.add_calendar(&NewCalendar::new("team/room@example.com").summary("Room").access_role("reader")).unwrap();

    let list = client.get("/users/me/calendarList");
    assert_eq!(list.ids(), [ALICE, "team/room@example.com"]);
    let one = client.get("/users/me/calendarList/team%2Froom%40example.com").json;
    assert_eq!((&one["kind"], &one["accessRole"]), (&json!("calendar#calendarListEntry"), &json!("reader")));
    let calendar = client.get("/calendars/team%2Froom@example.com").json;
    assert_eq!((&calendar["kind"], &calendar["summary"]), (&json!("calendar#calendar"), &json!("Room")));
    assert_eq!(client.get("/calendars/primary").json["id"], ALICE);
    let nobody = client.get("/calendars/nobody/events");
    assert_eq!(
        nobody.json,
        json!({ "error": { "code": 404, "message": "Not Found",
                "errors": [{ "domain": "global", "reason": "notFound", "message": "Not Found" }] } })
    );

    let token = list.sync_token();
    google.delete_calendar("team/room@example.com");
    let delta = client.get(&format!("/users/me/calendarList?syncToken={token}"));
    assert_eq!(delta.json["items"][0]["deleted"], Value::Bool(true));
}

#[test]
fn a_calendar_that_moves_to_another_zone_takes_its_days_along() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();
    google.insert_event(ALICE, &all_day("trip", "2025-03-24", "2025-03-25")).unwrap();

    google.patch_calendar(ALICE, &serde_json::from_value(json!({ "timeZone": "Europe/Vienna" })).unwrap()).unwrap();

    let list = client.full();
    assert_eq!(list.json["timeZone"], "Europe/Vienna");
    let start = json!({ "dateTime": "2025-03-24T13:30:00+01:00", "timeZone": "America/Chicago" });
    assert_eq!(list.item("standup")["start"], start, "the same instant, and the series stays in its own zone");
    let window = [("timeMin", "2025-03-24T23:00:00Z"), ("q", "trip")];
    assert!(client.list(&window).ids().is_empty(), "the day ends at Vienna's midnight now");
}
