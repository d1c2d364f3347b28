//! A client written for Google's `freeBusy.query` gets the same answer from the cache.

use std::process::Command;

use calsync_integration::{ALICE, World};
use chrono::TimeDelta;
use fake_google::NewCalendar;
use serde_json::{Value, json};

/// Asks with Google's own client, which takes no answer that is not Google's.
const ASK: &str = r#"
import json, sys
from google.auth.credentials import AnonymousCredentials
from googleapiclient.discovery import build
with build("calendar", "v3", credentials=AnonymousCredentials(), client_options={"api_endpoint": sys.argv[1]}) as service:
    print(json.dumps(service.freebusy().query(body=json.loads(sys.argv[2])).execute()))
"#;

fn by_googles_client(world: &World, request: &Value) -> Value {
    let python = std::env::var("PG_CALSYNC_PYTHON").unwrap_or_else(|_| "python3".into());
    let asked = Command::new(&python).args(["-c", ASK, world.google.api_url().as_str(), &request.to_string()]).output();
    let asked = asked.unwrap_or_else(|error| panic!("{python}: {error}"));
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    serde_json::from_slice(&asked.stdout).expect("JSON")
}

fn by_sql(world: &mut World, request: &Value) -> Value {
    world.sql.query_one("SELECT calsync_freebusy($1)", &[request]).expect("an answer").get(0)
}

/// Alice with an event of each sort, and Bob with a meeting, both synced.
fn company() -> World {
    // Python does not know whom the server trusts.
    let mut world = World::in_the_clear("");
    world.google.add_calendar(&NewCalendar::new("bob@example.com").in_zone("Asia/Kolkata")).expect("a calendar");
    world.meeting(3, "08:00", "09:00");
    world.meeting(3, "09:00", "09:30");
    world.daily(2, "22:30", "23:15", 4);
    let said = |world: &World, from: &str, to: &str, more: Value| {
        let mut event = json!({"start": {"dateTime": world.at(4, from)}, "end": {"dateTime": world.at(4, to)}});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.google.insert_event(ALICE, &event).expect("an event");
    };
    said(&world, "08:00", "09:00", json!({"transparency": "transparent"}));
    said(
        &world,
        "10:00",
        "11:00",
        json!({"attendees": [{"email": ALICE, "self": true, "responseStatus": "declined"}]}),
    );
    said(
        &world,
        "12:00",
        "13:00",
        json!({"attendees": [{"email": ALICE, "self": true, "responseStatus": "tentative"}]}),
    );
    said(&world, "14:00", "15:00", json!({"eventType": "outOfOffice"}));
    let day = |days| (world.today + TimeDelta::days(days)).to_string();
    let away = json!({"start": {"date": day(6)}, "end": {"date": day(8)}});
    world.google.insert_event(ALICE, &away).expect("an all-day event");
    world.meeting_of("bob@example.com", 3, "04:00", "05:00");
    for calendar in [ALICE, "bob@example.com"] {
        world.subscribe(calendar);
        world.wait_for_sync(calendar);
    }
    world
}

#[test]
fn googles_client_and_sql_are_told_the_same() {
    let mut world = company();
    let items = json!([{"id": ALICE}, {"id": "nobody@example.com"}, {"id": "bob@example.com"}, {"id": ALICE}]);
    let requests = [
        json!({"timeMin": world.at(0, "00:00"), "timeMax": world.at(14, "00:00"), "items": items}),
        json!({"timeMin": world.at(0, "00:00"), "timeMax": world.at(14, "00:00"), "items": items, "timeZone": "Europe/Vienna",
               "groupExpansionMax": 10, "calendarExpansionMax": 50}),
        json!({"timeMin": world.at(3, "08:15").replace('Z', "+00:00"), "timeMax": world.at(7, "03:00"), "items": items,
               "timeZone": "Asia/Kolkata"}),
        json!({"timeMin": world.at(3, "08:15"), "timeMax": world.at(3, "08:30"), "items": items, "calendarExpansionMax": 1}),
        json!({"timeMin": world.at(9, "00:00"), "timeMax": world.at(10, "00:00"), "items": []}),
    ];
    for request in requests {
        let google = by_googles_client(&world, &request);
        assert_eq!(by_sql(&mut world, &request), google, "{request}");
    }
}

#[test]
fn more_than_fifty_calendars_are_answered() {
    let mut world = company();
    let items: Value = (0..60).map(|n| json!({"id": format!("nobody{n}")})).chain([json!({"id": ALICE})]).collect();
    let request = json!({"timeMin": world.at(3, "00:00"), "timeMax": world.at(4, "00:00"), "items": items});

    let answer = by_sql(&mut world, &request);

    assert_eq!(answer["calendars"].as_object().map(|calendars| calendars.len()), Some(61));
    assert_eq!(answer["calendars"][ALICE]["busy"][0]["start"], world.at(3, "08:00"));
}

#[test]
fn what_is_not_known_is_an_error_of_its_calendar_and_busy() {
    let mut world = company();
    world
        .sql
        .batch_execute("UPDATE calsync.subscription SET gone_at = now() WHERE calendar = 'bob@example.com'")
        .expect("gone");
    let (from, to) = (world.at(3, "00:00"), world.at(4, "00:00"));
    let request =
        json!({"timeMin": from, "timeMax": to, "items": [{"id": ALICE}, {"id": "bob@example.com"}, {"id": "nobody"}]});
    let whole = json!([{"start": from, "end": to}]);

    let answer = by_sql(&mut world, &request)["calendars"].clone();
    assert_eq!(answer[ALICE].get("errors"), None);
    let stale = json!([{"domain": "calsync", "reason": "stale"}]);
    assert_eq!(answer["bob@example.com"], json!({"errors": stale, "busy": whole}));
    let not_found = json!([{"domain": "global", "reason": "notFound"}]);
    assert_eq!(answer["nobody"], json!({"errors": not_found, "busy": []}));

    world.sql.batch_execute("SET calsync.on_uncovered = 'busy'").expect("a setting");
    let answer = by_sql(&mut world, &request)["calendars"].clone();
    assert_eq!(answer["bob@example.com"], json!({"busy": whole}));
    assert_eq!(answer["nobody"], json!({"errors": not_found, "busy": whole}));
}

#[test]
fn a_window_beyond_the_cache_is_busy_where_nothing_is_known() {
    let mut world = company();
    let (far, farther) = (world.at(4000, "00:00"), world.at(4001, "00:00"));
    let request = json!({"timeMin": far, "timeMax": farther, "items": [{"id": ALICE}]});

    let answer = by_sql(&mut world, &request);

    let not_covered = json!([{"domain": "calsync", "reason": "notCovered"}]);
    assert_eq!(answer["calendars"][ALICE], json!({"errors": not_covered, "busy": [{"start": far, "end": farther}]}));
}
