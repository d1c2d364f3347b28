//! Insert, import, patch, update, delete, and the conditions they are under.

mod story;

use serde_json::json;
use story::{alice, all_day, daily, events, meeting};

const LUNCH: (&str, &str) = ("2025-03-24T12:00:00-05:00", "2025-03-24T13:00:00-05:00");

#[test]
fn an_inserted_event_gets_an_id_of_26_base32hex_characters() {
    let (_google, client) = alice();

    let event = client.post(&events(""), &meeting("lunch", LUNCH.0, LUNCH.1));

    assert_eq!(event.status, 200);
    let id = event.json["id"].as_str().unwrap();
    assert!(id.len() == 26 && id.bytes().all(|b| matches!(b, b'a'..=b'v' | b'0'..=b'9')), "{id}");
    assert_eq!(event.headers["etag"].to_str().unwrap(), event.json["etag"]);
    assert_eq!(client.get(&events(id)).json, event.json);
}

#[test]
fn ids_of_the_clients_choice_are_checked_and_unique_even_after_deletion() {
    let (_google, client) = alice();
    let with_id = |id: &str| {
        let mut event = meeting("lunch", LUNCH.0, LUNCH.1);
        event["id"] = json!(id);
        client.post(&events(""), &event)
    };

    assert_eq!(with_id("abcd").status, 400, "too short");
    assert_eq!(with_id("Upper").status, 400);
    assert_eq!(with_id("xyz12345").status, 400, "w to z are not base32hex");
    assert_eq!(with_id("abc123").status, 200);
    let again = with_id("abc123");
    assert_eq!((again.status, again.reason()), (409, "duplicate"));
    assert_eq!(client.delete(&events("abc123")).status, 204);
    assert_eq!(with_id("abc123").status, 409);
}

#[test]
fn impossible_times_are_refused() {
    let (_google, client) = alice();
    let refused = |event: &serde_json::Value| {
        let answer = client.post(&events(""), event);
        (answer.status, answer.reason().to_owned())
    };

    assert_eq!(refused(&meeting("back", LUNCH.1, LUNCH.0)), (400, "timeRangeEmpty".into()));
    assert_eq!(refused(&json!({ "summary": "never" })), (400, "required".into()));
    assert_eq!(refused(&all_day("none", "2025-03-24", "2025-03-24")), (400, "timeRangeEmpty".into()));
    let mut zoneless = meeting("weekly", LUNCH.0, LUNCH.1);
    zoneless["recurrence"] = json!(["RRULE:FREQ=WEEKLY"]);
    assert_eq!(refused(&zoneless), (400, "required".into()));
    let mut nonsense = daily("standup");
    nonsense["recurrence"] = json!(["RRULE:FREQ=SOMETIMES"]);
    assert_eq!(refused(&nonsense), (400, "invalid".into()));
    nonsense["recurrence"] = json!(["DTSTART:20250324T120000Z"]);
    assert_eq!(refused(&nonsense), (400, "invalid".into()));
    assert_eq!(client.post(&events(""), &meeting("moment", LUNCH.0, LUNCH.0)).status, 200, "no length is allowed");
}

#[test]
fn a_patch_merges_and_an_update_replaces() {
    let (_google, client) = alice();
    let mut event = meeting("lunch", LUNCH.0, LUNCH.1);
    event["location"] = json!("canteen");
    event["extendedProperties"] = json!({ "private": { "a": "1", "b": "2" } });
    let created = client.post(&events(""), &event).json;
    let path = events(created["id"].as_str().unwrap());

    let patch = json!({ "summary": "dinner", "location": null, "extendedProperties": { "private": { "b": null } } });
    let patched = client.patch(&path, &patch).json;
    assert_eq!(patched["summary"], "dinner");
    assert!(patched.get("location").is_none());
    assert_eq!(patched["extendedProperties"], json!({ "private": { "a": "1" } }));
    assert_eq!((&patched["created"], &patched["sequence"]), (&created["created"], &json!(0)));
    assert!(patched["updated"].as_str() > created["updated"].as_str());
    assert_ne!(patched["etag"], created["etag"]);

    let updated = client.send("PUT", &path, &[], Some(&meeting("tea", LUNCH.0, LUNCH.1))).json;
    assert_eq!((&updated["summary"], &updated["iCalUID"]), (&json!("tea"), &created["iCalUID"]));
    assert!(updated.get("extendedProperties").is_none());

    let moved = client.patch(&path, &json!({ "end": { "dateTime": "2025-03-24T14:00:00-05:00" } })).json;
    assert_eq!(moved["sequence"], 1, "a change of time is a new sequence");
    let mut stale = meeting("tea", LUNCH.0, LUNCH.1);
    stale["sequence"] = json!(0);
    assert_eq!(client.send("PUT", &path, &[], Some(&stale)).status, 400);
}

#[test]
fn the_servers_own_fields_cannot_be_written() {
    let (_google, client) = alice();
    let created = client.post(&events(""), &meeting("lunch", LUNCH.0, LUNCH.1)).json;
    let path = events(created["id"].as_str().unwrap());

    let own = json!({ "id": "other", "iCalUID": "other", "created": "2001-01-01T00:00:00Z", "etag": "\"1\"" });
    let patched = client.patch(&path, &own).json;

    for field in ["id", "iCalUID", "created"] {
        assert_eq!(patched[field], created[field]);
    }
    assert_ne!(patched["etag"], "\"1\"");
}

#[test]
fn if_match_guards_every_change() {
    let (_google, client) = alice();
    let created = client.post(&events(""), &meeting("lunch", LUNCH.0, LUNCH.1)).json;
    let path = events(created["id"].as_str().unwrap());
    let old = [("If-Match", created["etag"].as_str().unwrap())];
    let patch = json!({ "summary": "dinner" });

    let patched = client.send("PATCH", &path, &old, Some(&patch));
    assert_eq!(patched.status, 200);
    let late = client.send("PATCH", &path, &old, Some(&patch));
    assert_eq!((late.status, late.reason()), (412, "conditionNotMet"));
    assert_eq!(client.send("DELETE", &path, &old, None).status, 412);
    assert_eq!(client.send("PATCH", &path, &[("If-Match", "*")], Some(&patch)).status, 200);
    let known = client.get(&path).json["etag"].as_str().unwrap().to_owned();
    assert_eq!(client.send("GET", &path, &[("If-None-Match", &known)], None).status, 304);
}

#[test]
fn what_is_missing_is_404_and_what_is_deleted_410() {
    let (_google, client) = alice();
    let created = client.post(&events(""), &meeting("lunch", LUNCH.0, LUNCH.1)).json;
    let path = events(created["id"].as_str().unwrap());

    assert_eq!(client.get(&events("nothing")).status, 404);
    assert_eq!(client.delete(&events("nothing")).status, 404);
    assert_eq!(client.delete(&path).status, 204);
    let twice = client.delete(&path);
    assert_eq!((twice.status, twice.reason()), (410, "deleted"));
    assert_eq!(client.get(&path).json["status"], "cancelled", "get always returns deleted events");
    let back = client.patch(&path, &json!({ "status": "confirmed" })).json;
    assert_eq!((&back["status"], &back["summary"]), (&json!("confirmed"), &json!("lunch")));
}

#[test]
fn status_cancelled_by_patch_is_a_deletion() {
    let (_google, client) = alice();
    client.post(&events(""), &daily("standup"));
    let token = client.full().sync_token();

    client.patch(&events("standup"), &json!({ "status": "cancelled" }));

    assert_eq!(client.delta(&token).item("standup")["status"], "cancelled");
}

#[test]
fn an_import_keeps_its_uid_and_updates_the_second_time() {
    let (_google, client) = alice();
    let mut event = meeting("lunch", LUNCH.0, LUNCH.1);
    assert_eq!(client.post(&events("import"), &event).status, 400, "iCalUID is needed");
    event["iCalUID"] = json!("from-elsewhere@example.net");
    event["id"] = json!("abcde_R20250324T120000");

    let first = client.post(&events("import"), &event).json;
    event["summary"] = json!("dinner");
    let second = client.post(&events("import"), &event).json;

    assert_eq!(first["iCalUID"], "from-elsewhere@example.net");
    assert_eq!((&second["id"], &second["summary"]), (&first["id"], &json!("dinner")));
    assert_eq!(client.full().ids().len(), 1);
}

#[test]
fn a_body_that_is_no_json_is_refused() {
    let (google, _client) = alice();
    let url = format!("{}/calendar/v3{}", google.api_url(), events(""));
    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
    let answer = config.new_agent().post(url).send("{").unwrap();
    assert_eq!(answer.status(), 400);
}
