//! The delta envelope, and which version of an event counts.

mod google_support;

use calsync_core::delta::{End, GivenPageToken, InvalidDelta, read_envelope};
use calsync_core::event::Change;
use calsync_core::merge::latest_of_each;
use calsync_core::options::Options;
use google_support::{item, read};
use serde_json::{Value, json};

/// A delta for Alice with these keys changed (null stays null).
fn delta(keys: Value) -> Value {
    let mut delta = json!({"calendar": "alice", "items": [], "nextSyncToken": "t2"});
    for (key, value) in keys.as_object().expect("keys are an object") {
        delta[key] = value.clone();
    }
    delta
}

fn without(key: &str) -> Value {
    let mut delta = delta(json!({}));
    delta.as_object_mut().expect("an object").remove(key);
    delta
}

fn refused(json: &Value) -> InvalidDelta {
    let changes = read_envelope(json.to_string().as_bytes()).and_then(|envelope| envelope.changes(&Options::default()));
    changes.expect_err(&format!("{json} was understood"))
}

#[test]
fn a_providers_response_with_a_calendar_is_a_full_sync_in_one_page() {
    let json =
        delta(json!({"kind": "calendar#events", "timeZone": "America/Chicago", "items": [item("a", json!({}))]}));

    let text = json.to_string();
    let envelope = read_envelope(text.as_bytes()).expect("an envelope");

    assert_eq!(envelope.calendar, "alice");
    assert_eq!(envelope.expected_sync_token, None);
    assert_eq!(envelope.page_token, GivenPageToken::Absent);
    assert_eq!(envelope.time_zone.as_deref(), Some("America/Chicago"));
    assert_eq!(envelope.end, End::Complete("t2".to_owned()));
    assert_eq!(envelope.changes(&Options::default()).map(|changes| changes.len()), Ok(1));
}

#[test]
fn a_page_of_a_delta_says_what_it_continues_and_what_follows() {
    let json = json!({
        "calendar": "alice", "expectedSyncToken": "t1", "pageToken": "p2", "items": [],
        "nextPageToken": "p3", "nextSyncToken": null,
    });

    let text = json.to_string();
    let envelope = read_envelope(text.as_bytes()).expect("an envelope");

    assert_eq!(envelope.expected_sync_token.as_deref(), Some("t1"));
    assert_eq!(envelope.page_token, GivenPageToken::Continues("p2".to_owned()));
    assert_eq!(envelope.end, End::NextPage("p3".to_owned()));
}

#[test]
fn a_page_token_that_is_null_begins_a_round() {
    let json = delta(json!({"pageToken": null, "expectedSyncToken": null, "timeZone": null}));

    let text = json.to_string();
    let envelope = read_envelope(text.as_bytes()).expect("an envelope");

    assert_eq!((envelope.page_token, envelope.expected_sync_token), (GivenPageToken::First, None));
}

#[test]
fn an_envelope_that_is_not_in_order_is_refused_by_its_key_with_the_fix() {
    let cases = [
        (json!(null), "delta", "not a JSON object", "\"calendar\" added"),
        (json!([]), "delta", "not a JSON object", "\"calendar\" added"),
        (json!("{}"), "delta", "not a JSON object", "\"calendar\" added"),
        (without("calendar"), "calendar", "it is missing", "\"calendar\""),
        (delta(json!({"calendar": null})), "calendar", "it is missing", "\"calendar\""),
        (delta(json!({"calendar": ""})), "calendar", "it is empty", "\"calendar\""),
        (delta(json!({"calendar": 7})), "calendar", "it is not a string", "\"calendar\""),
        (delta(json!({"calendar": "a\u{0}"})), "calendar", "NUL", "\"calendar\""),
        (without("items"), "items", "it is missing", "\"items\": []"),
        (delta(json!({"items": null})), "items", "it is not an array", "\"items\": []"),
        (delta(json!({"items": {"id": "a"}})), "items", "it is not an array", "\"items\": []"),
        (without("nextSyncToken"), "nextSyncToken", "it is missing, and so is nextPageToken", "without orderBy"),
        (delta(json!({"nextPageToken": "p"})), "nextPageToken", "there is a nextSyncToken too", "one of them"),
        (delta(json!({"nextSyncToken": ""})), "nextSyncToken", "it is empty", "exactly as the provider gave it"),
        (delta(json!({"nextSyncToken": 7})), "nextSyncToken", "it is not a string", "exactly as the provider gave it"),
        (delta(json!({"nextPageToken": ""})), "nextPageToken", "it is empty", "exactly as the provider gave it"),
        (delta(json!({"expectedSyncToken": ""})), "expectedSyncToken", "it is empty", "leave the key out"),
        (delta(json!({"expectedSyncToken": []})), "expectedSyncToken", "it is not a string", "leave the key out"),
        (delta(json!({"pageToken": ""})), "pageToken", "it is empty", "leave the key out"),
        (delta(json!({"timeZone": "Mars/Olympus"})), "timeZone", "unknown zone \"Mars/Olympus\"", "Europe/Vienna"),
        (delta(json!({"timeZone": ""})), "timeZone", "unknown zone \"\"", "Europe/Vienna"),
        (delta(json!({"timeZone": 1})), "timeZone", "it is not a string", "Europe/Vienna"),
    ];
    for (json, field, reason, hint) in cases {
        let refusal = refused(&json);

        assert_eq!((refusal.field.as_str(), refusal.index), (field, None), "{json}");
        assert!(refusal.detail().contains(reason), "{json}: {}", refusal.detail());
        assert!(refusal.hint().contains(hint), "{json}: {}", refusal.hint());
    }
}

#[test]
fn an_item_that_cannot_be_understood_refuses_the_whole_delta() {
    let backwards = item("abc", json!({"end": {"dateTime": "2026-03-02T08:00:00+01:00"}}));
    let json = delta(json!({"items": [item("a", json!({})), item("b", json!({})), item("c", json!({})), backwards]}));

    let refusal = refused(&json);

    assert_eq!((refusal.index, refusal.id.as_deref()), (Some(3), Some("abc")));
    assert_eq!(refusal.detail(), "items[3] (id \"abc\"): end.dateTime: it is before the start");
    assert_eq!(refusal.to_string(), "invalid delta: items[3] (id \"abc\"): end.dateTime: it is before the start");
    assert!(refusal.hint().contains("the end not before the start"));
}

#[test]
fn bad_items_are_named_by_place_id_and_field_with_the_fix() {
    let cases = [
        (json!(7), "items[0]: item: it is not an object", "each is an object"),
        (item("x", json!({"id": null})), "items[0]: id: it is missing", "\"id\""),
        (
            item("x", json!({"start": {"dateTime": "soon"}})),
            "items[0] (id \"x\"): start.dateTime: \"soon\" is not an RFC 3339 time (years 0001 to 9999)",
            "\"dateTime\": \"2026-03-02T09:00:00+01:00\"",
        ),
        (
            item("x", json!({"start": {"dateTime": "2026-03-02T09:00:00", "timeZone": "Nowhere"}})),
            "items[0] (id \"x\"): start.timeZone: unknown zone \"Nowhere\"",
            "IANA time zone name",
        ),
        (
            item("x", json!({"recurrence": ["every day"]})),
            "items[0] (id \"x\"): recurrence[0]: it begins with none of RRULE, EXRULE, RDATE, EXDATE",
            "RFC 5545",
        ),
        (
            item("x", json!({"recurringEventId": "m"})),
            "items[0] (id \"x\"): originalStartTime: it is missing, and the id does not name the time",
            "the start that the occurrence had by its series' rule",
        ),
        (
            item("x", json!({"status": ""})),
            "items[0] (id \"x\"): status: it is none of confirmed, tentative, cancelled",
            "cancelled",
        ),
        (item("x", json!({"summary": 1})), "items[0] (id \"x\"): summary: it is not a string", "unchanged"),
    ];
    for (item, detail, hint) in cases {
        let refusal = refused(&delta(json!({"items": [item]})));

        assert_eq!(refusal.detail(), detail);
        assert!(refusal.hint().contains(hint), "{detail}: {}", refusal.hint());
    }
}

#[test]
fn a_rule_that_cannot_be_read_is_named_by_its_line_and_column() {
    let odd = item("x", json!({"recurrence": ["RRULE:FREQ=DAILY", "RRULE:FREQ=DAILY;COUNT=many"]}));

    let refusal = refused(&delta(json!({"items": [odd]})));

    assert!(refusal.detail().starts_with("items[0] (id \"x\"): recurrence[1]: column "), "{}", refusal.detail());
    assert!(refusal.hint().contains("RFC 5545"));
}

// Which version of an event counts

fn version(id: &str, updated: &str, summary: &str) -> Change {
    read(&item(id, json!({"updated": updated, "summary": summary})))
}

fn deletion(id: &str) -> Change {
    Change::Delete { event_id: id.to_owned() }
}

/// Ids with what tells their versions apart.
fn told(changes: Vec<Change>) -> Vec<String> {
    let tell = |change: &Change| match change {
        Change::Put(event) => format!("{} {}", event.event_id, event.details.summary.as_deref().unwrap_or("?")),
        Change::Delete { event_id } => format!("{event_id} deleted"),
    };
    latest_of_each(changes).iter().map(tell).collect()
}

const EARLY: &str = "2026-03-01T08:00:00.001Z";
const LATE: &str = "2026-03-01T08:00:00.002Z";

#[test]
fn only_the_final_version_counts_when_an_occurrence_changes_repeatedly_in_one_delta() {
    assert_eq!(told(vec![version("a", LATE, "late"), version("a", EARLY, "early")]), ["a late"]);
    assert_eq!(told(vec![version("a", EARLY, "early"), version("a", LATE, "late")]), ["a late"]);
}

#[test]
fn among_equals_and_where_nothing_tells_the_later_position_counts() {
    let undated = read(&item("a", json!({"updated": null, "summary": "undated"})));

    assert_eq!(told(vec![version("a", LATE, "one"), version("a", LATE, "two")]), ["a two"]);
    assert_eq!(told(vec![version("a", LATE, "dated"), undated.clone()]), ["a undated"]);
    assert_eq!(told(vec![undated, version("a", EARLY, "dated")]), ["a dated"]);
    assert_eq!(told(vec![version("a", LATE, "one"), deletion("a")]), ["a deleted"]);
    assert_eq!(told(vec![deletion("a"), version("a", EARLY, "again")]), ["a again"]);
}

#[test]
fn the_others_keep_their_order() {
    let changes = vec![
        version("a", LATE, "one"),
        version("b", EARLY, "b"),
        deletion("c"),
        version("a", LATE, "two"),
        version("d", LATE, "d"),
    ];

    assert_eq!(told(changes), ["b b", "c deleted", "a two", "d d"]);
    assert!(latest_of_each(Vec::new()).is_empty());
}
