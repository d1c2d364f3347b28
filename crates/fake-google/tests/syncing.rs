//! Sync tokens: what a delta holds, and when a token is refused.

mod story;

use fake_google::{NewCalendar, Quirks};
use serde_json::json;
use story::{ALICE, alice, daily, keys, meeting};

const LUNCH: (&str, &str) = ("2025-03-24T12:00:00-05:00", "2025-03-24T13:00:00-05:00");

#[test]
fn a_delta_holds_only_what_changed_since_its_token() {
    let (google, client) = alice();
    google.insert_event(ALICE, &meeting("old", LUNCH.0, LUNCH.1)).unwrap();
    let token = client.full().sync_token();

    let new = google.insert_event(ALICE, &meeting("new", LUNCH.0, LUNCH.1)).unwrap();
    let delta = client.delta(&token);

    assert_eq!(delta.ids(), [new["id"].as_str().unwrap()]);
    assert!(client.delta(&delta.sync_token()).ids().is_empty());
    assert_eq!(client.delta(&token).ids().len(), 1, "a token may be used twice");
}

#[test]
fn a_deleted_single_event_leaves_a_stub_of_four_fields() {
    let (google, client) = alice();
    let event = google.insert_event(ALICE, &meeting("lunch", LUNCH.0, LUNCH.1)).unwrap();
    let token = client.full().sync_token();

    google.delete_event(ALICE, event["id"].as_str().unwrap()).unwrap();
    let delta = client.delta(&token);

    let stub = delta.item(event["id"].as_str().unwrap());
    assert_eq!(keys(stub), ["etag", "id", "kind", "status"]);
    assert_eq!(stub["status"], "cancelled");
    assert!(client.full().ids().is_empty(), "a full list has no tombstone");
    assert_eq!(client.list(&[("showDeleted", "true")]).ids().len(), 1);
}

#[test]
fn the_organizers_copy_may_show_a_deleted_event_whole() {
    let (google, client) = alice();
    let event = google.insert_event(ALICE, &meeting("lunch", LUNCH.0, LUNCH.1)).unwrap();
    let token = client.full().sync_token();
    google.set_quirks(Some(ALICE), Quirks { organizer_tombstones: true, ..Quirks::default() }).unwrap();

    google.delete_event(ALICE, event["id"].as_str().unwrap()).unwrap();

    let delta = client.delta(&token);
    assert_eq!(delta.json["items"][0]["status"], "cancelled");
    assert_eq!(delta.json["items"][0]["summary"], "lunch");
}

#[test]
fn deleting_one_occurrence_brings_the_master_and_a_sparse_exception() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();
    let token = client.full().sync_token();

    google.delete_event(ALICE, "standup_20250326T123000Z").unwrap();
    let delta = client.delta(&token);

    assert_eq!(delta.ids(), ["standup", "standup_20250326T123000Z"]);
    let exception = delta.item("standup_20250326T123000Z");
    assert_eq!(keys(exception), ["etag", "id", "kind", "originalStartTime", "recurringEventId", "status"]);
    assert_eq!(
        exception["originalStartTime"],
        json!({ "dateTime": "2025-03-26T07:30:00-05:00", "timeZone": "America/Chicago" })
    );
    assert_eq!(exception["etag"], delta.item("standup")["etag"]);
    assert_eq!(client.full().ids().len(), 2, "a full list keeps a living series' cancelled exceptions");
}

#[test]
fn a_sparse_tombstone_may_lack_its_master() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();
    let token = client.full().sync_token();
    google.set_quirks(None, Quirks { sparse_tombstones: true, ..Quirks::default() }).unwrap();

    google.delete_event(ALICE, "standup_20250326T123000Z").unwrap();

    let delta = client.delta(&token);
    assert_eq!(keys(delta.item("standup_20250326T123000Z")), ["etag", "id", "kind", "status"]);
}

#[test]
fn deleting_a_series_brings_one_stub_and_none_for_its_exceptions() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();
    google.patch_event(ALICE, "standup_20250326T123000Z", &json!({ "summary": "moved" })).unwrap();
    let token = client.full().sync_token();

    google.delete_event(ALICE, "standup").unwrap();

    let delta = client.delta(&token);
    assert_eq!(delta.ids(), ["standup"]);
    assert_eq!(keys(&delta.json["items"][0]), ["etag", "id", "kind", "status"]);
    assert!(client.full().ids().is_empty());
}

#[test]
fn editing_the_master_brings_all_its_exceptions_again() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();
    let moved = json!({ "start": { "dateTime": "2025-03-25T09:00:00-05:00" },
                        "end": { "dateTime": "2025-03-25T09:15:00-05:00" } });
    google.patch_event(ALICE, "standup_20250325T123000Z", &moved).unwrap();
    google.delete_event(ALICE, "standup_20250326T123000Z").unwrap();
    let token = client.full().sync_token();

    google.patch_event(ALICE, "standup", &json!({ "summary": "Sit-down" })).unwrap();

    let delta = client.delta(&token);
    assert_eq!(delta.ids(), ["standup", "standup_20250325T123000Z", "standup_20250326T123000Z"]);
    let exception = delta.item("standup_20250325T123000Z");
    assert_eq!(exception["summary"], "Sit-down", "what the exception had not changed follows the master");
    assert_eq!(exception["start"]["dateTime"], "2025-03-25T09:00:00-05:00", "what it had changed stays");
}

#[test]
fn a_delta_forgets_the_window_of_the_first_list() {
    let (google, client) = alice();
    let window = [("timeMin", "2025-03-24T00:00:00Z"), ("timeMax", "2025-04-01T00:00:00Z")];
    let token = client.list(&window).sync_token();

    google.insert_event(ALICE, &meeting("far", "2031-01-01T10:00:00Z", "2031-01-01T11:00:00Z")).unwrap();

    assert_eq!(client.list(&window).ids().len(), 0);
    assert_eq!(client.delta(&token).ids().len(), 1);
}

#[test]
fn what_a_sync_token_forbids_is_refused() {
    let (_google, client) = alice();
    let token = client.full().sync_token();
    let with = |name: &str, value: &str| client.list(&[("syncToken", &token), (name, value)]);

    for (name, value) in [
        ("iCalUID", "x@google.com"),
        ("q", "lunch"),
        ("timeMin", "2025-03-24T00:00:00Z"),
        ("timeMax", "2025-03-24T00:00:00Z"),
        ("updatedMin", "2026-03-24T00:00:00Z"),
        ("privateExtendedProperty", "a=b"),
        ("sharedExtendedProperty", "a=b"),
        ("showDeleted", "false"),
    ] {
        let answer = with(name, value);
        assert_eq!((answer.status, answer.reason()), (400, "syncTokenWithRequestRestrictions"), "{name}");
    }
    let ordered = with("orderBy", "updated");
    assert_eq!((ordered.status, ordered.reason()), (400, "syncTokenWithNonDefaultOrdering"));
    assert_eq!(with("orderBy", "startTime").reason(), "syncTokenWithNonDefaultOrdering");
    assert_eq!(with("showDeleted", "true").status, 200);
}

#[test]
fn parameters_other_than_the_first_lists_are_refused_unless_tolerated() {
    let (google, client) = alice();
    let token = client.full().sync_token();
    let changed = [("syncToken", token.as_str()), ("singleEvents", "true")];

    assert_eq!(client.list(&changed).status, 400);
    google.set_quirks(None, Quirks { tolerate_changed_parameters: true, ..Quirks::default() }).unwrap();
    assert_eq!(client.list(&changed).status, 200);
}

#[test]
fn a_malformed_token_is_400_and_an_expired_one_410() {
    let (google, client) = alice();
    let token = client.full().sync_token();

    let malformed = client.delta("no-token-of-ours");
    assert_eq!((malformed.status, malformed.reason()), (400, "invalid"));
    assert_eq!(malformed.json["error"]["message"], "Invalid sync token value.");

    google.expire_sync_tokens(Some(ALICE)).unwrap();
    let expired = client.delta(&token);
    assert_eq!((expired.status, expired.reason()), (410, "fullSyncRequired"));
    assert_eq!(expired.json["error"]["message"], "Sync token is no longer valid, a full sync is required.");
    let fresh = client.full().sync_token();
    assert_eq!(client.delta(&fresh).status, 200, "the token of a new full list is good");
}

#[test]
fn a_token_of_another_calendar_is_malformed_here() {
    let (google, client) = alice();
    google.add_calendar(&NewCalendar::new("bob@example.com")).unwrap();
    let bobs = client.get("/calendars/bob@example.com/events").sync_token();

    assert_eq!(client.delta(&bobs).reason(), "invalid");
}

#[test]
fn a_calendar_made_anew_does_not_honour_old_tokens() {
    let (google, client) = alice();
    let token = client.full().sync_token();

    google.delete_calendar(ALICE);
    assert_eq!((client.delta(&token).status, client.full().reason()), (404, "notFound"));
    google.add_calendar(&NewCalendar::new(ALICE)).unwrap();

    assert_eq!(client.delta(&token).status, 410);
}

#[test]
fn a_list_ordered_by_start_time_yields_no_sync_token() {
    let (_google, client) = alice();

    let ordered = client.list(&[("singleEvents", "true"), ("orderBy", "startTime")]);
    assert_eq!(ordered.status, 200);
    assert!(ordered.json.get("nextSyncToken").is_none());

    let unexpanded = client.list(&[("orderBy", "startTime")]);
    assert_eq!(unexpanded.status, 400);
}

#[test]
fn changes_while_paging_come_in_the_next_delta() {
    let (google, client) = alice();
    for n in 0..5 {
        google.insert_event(ALICE, &meeting(&format!("e{n}"), LUNCH.0, LUNCH.1)).unwrap();
    }
    let first = client.list(&[("maxResults", "2")]);
    let victim = client.full().ids()[4].to_owned();

    google.delete_event(ALICE, &victim).unwrap();
    let page = first.page_token();
    let second = client.list(&[("maxResults", "2"), ("pageToken", &page)]);
    let page = second.page_token();
    let third = client.list(&[("maxResults", "2"), ("pageToken", &page)]);

    assert!(second.json.get("nextSyncToken").is_none());
    assert_eq!(third.ids(), [victim.as_str()], "the pages agree with the first one");
    let next = client.list(&[("maxResults", "2"), ("syncToken", &third.sync_token())]);
    assert_eq!(next.item(&victim)["status"], "cancelled");
}

#[test]
fn a_delta_may_hold_an_item_twice_and_backwards() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();
    let token = client.full().sync_token();
    google.patch_event(ALICE, "standup", &json!({ "summary": "late" })).unwrap();
    google.delete_event(ALICE, "standup_20250326T123000Z").unwrap();
    google.set_quirks(None, Quirks { duplicates: true, reversed: true, ..Quirks::default() }).unwrap();

    let delta = client.delta(&token);

    let exception = "standup_20250326T123000Z";
    assert_eq!(delta.ids(), [exception, exception, "standup", "standup"]);
    let items = delta.json["items"].as_array().unwrap();
    assert!(items[2]["updated"].as_str() > items[3]["updated"].as_str(), "the older version comes last");
}

#[test]
fn a_last_page_may_lack_its_token() {
    let (google, client) = alice();
    google.set_quirks(None, Quirks { omit_sync_tokens: 1, ..Quirks::default() }).unwrap();

    let bare = client.full().json;
    assert!(bare.get("nextSyncToken").is_none() && bare.get("nextPageToken").is_none());
    assert!(client.full().json.get("nextSyncToken").is_some());
}

#[test]
fn expanded_deltas_bring_every_instance_of_a_touched_series() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();
    let first = client.list(&[("singleEvents", "true"), ("maxResults", "2500")]);
    let token = first.sync_token();

    google.patch_event(ALICE, "standup", &json!({ "summary": "x" })).unwrap();

    let query = [("singleEvents", "true"), ("maxResults", "2500"), ("syncToken", token.as_str())];
    assert_eq!(client.list(&query).ids().len(), 730);
}
