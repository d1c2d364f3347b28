//! A calendar of which only the busy time is kept: no word of its events reaches any table.

use calsync_integration::items::{Item, at, cancelled, meeting};
use calsync_integration::{ALICE, Fed, World, all_tables, envelope};
use serde_json::{Value, json};

/// What must not be kept, in each field that holds words of people.
fn words() -> Value {
    json!({
        "summary": "MARKER", "description": "MARKER", "location": "MARKER", "visibility": "private",
        "hangoutLink": "https://MARKER", "creator": {"email": "MARKER@example.com"},
        "attendees": [{"email": "MARKER@example.com", "displayName": "MARKER", "self": true, "responseStatus": "accepted"}],
        "attachments": [{"title": "MARKER"}], "extendedProperties": {"private": {"MARKER": "MARKER"}},
    })
}

fn assert_nothing_is_kept(rows: &[String]) {
    let kept: Vec<&String> = rows.iter().filter(|row| row.contains("MARKER")).collect();
    assert!(kept.is_empty(), "{kept:#?}");
}

#[test]
fn of_what_the_application_feeds_nothing_is_kept_but_time() {
    let mut fed = Fed::new();
    fed.subscribe("quiet", json!({"store": "busy_only", "changes": true}));
    let said = |item: Item| item.saying(words());

    fed.list_of("quiet", &[said(meeting("a", 1, "08:00", "09:00")), said(meeting("s", 2, "08:00", "08:30").daily(3))]);
    fed.change_of(
        "quiet",
        &[
            said(meeting("a", 1, "10:00", "11:00")),
            said(meeting("s3", 3, "12:00", "13:00").instead_of("s", 3, "08:00")),
        ],
    );
    // A page that waits for the next, with a deletion that carries the whole event.
    let token = fed.token("quiet");
    let page = [said(meeting("b", 6, "08:00", "09:00")), said(cancelled("a"))];
    fed.apply(&envelope("quiet", &page, json!({"expectedSyncToken": token, "pageToken": null, "nextPageToken": "p2"})));
    assert_eq!(fed.staged("quiet"), 3, "two events and their round");

    assert_nothing_is_kept(&all_tables(&mut fed.sql));
    assert_eq!(
        fed.busy_of("quiet"),
        ["+1 10:00 to 11:00", "+2 08:00 to 08:30", "+3 12:00 to 13:00", "+4 08:00 to 08:30"]
    );
}

/// The recurrence itself is kept as it is written: without it there is no series to expand.
#[test]
fn of_a_series_in_a_zone_nobody_knows_the_complaint_quotes_nothing() {
    let mut fed = Fed::new();
    fed.subscribe("quiet", json!({"store": "busy_only"}));
    let skipped = at(3, "08:00").replace(['-', ':'], "").replace('Z', "");
    let series = json!({"recurrence": ["RRULE:FREQ=DAILY;COUNT=3", format!("EXDATE;TZID=MARKER:{skipped}")]});

    fed.list_of("quiet", &[meeting("s", 2, "08:00", "08:30").saying(series)]);

    let problem: String = fed.sql.query_one("SELECT problem FROM calsync.event", &[]).expect("an event").get(0);
    assert_eq!(problem, "recurrence line 2, column 13: unknown time zone; its times are read in the event's zone");
    assert_eq!(fed.busy_of("quiet"), ["+2 08:00 to 08:30", "+4 08:00 to 08:30"]);
}

#[test]
fn of_what_cannot_be_read_nothing_is_kept_either_and_it_blocks() {
    let mut world = World::new();
    world
        .sql
        .execute("SELECT calsync_subscribe($1, options => '{\"store\": \"busy_only\", \"changes\": true}')", &[&ALICE])
        .expect("subscribed");
    world.wait_for_sync(ALICE);
    let broken = [
        ("rule", json!({"recurrence": ["RRULE:FREQ=MARKER"]})),
        ("line", json!({"recurrence": ["MARKER"]})),
        ("zone", json!({"start": {"dateTime": at(3, "08:00"), "timeZone": "MARKER"}})),
        ("times", json!({"start": {"dateTime": "MARKER"}, "end": {"date": "MARKER"}})),
        ("types", json!({"summary": {"MARKER": "MARKER"}, "sequence": "MARKER"})),
        ("changed", json!({"updated": "MARKER"})),
    ];
    for (id, fields) in &broken {
        let mut event = meeting(&format!("broken{id}"), 3, "08:00", "09:00").saying(words()).json();
        for (name, value) in fields.as_object().expect("fields") {
            event[name] = value.clone();
        }
        world.google.put_raw_event(ALICE, &event).expect("raw");
    }

    world.sync();

    assert_eq!(world.status("flagged"), broken.len().to_string());
    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);
    assert_nothing_is_kept(&all_tables(&mut world.sql));
    assert!(!world.cluster.log().contains("MARKER"), "nor in the server's log");
}
