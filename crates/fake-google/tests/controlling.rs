//! The control port, as curl would use it, and the binary.

mod story;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use story::{ALICE, Client, alice, daily};

const CALENDAR: &str = "/calendars/alice@example.com";

#[test]
fn everything_a_user_does_can_be_done_through_the_control_port() {
    let (google, client) = alice();
    let control = Client::at(google.control_url());
    let at = |tail: &str| format!("{CALENDAR}{tail}");

    assert_eq!(control.post("/calendars", &json!({ "id": "bob", "timeZone": "Europe/Vienna" })).status, 200);
    assert_eq!(control.post("/calendars", &json!({ "id": "eve", "timeZone": "Mars/Olympus" })).status, 400);
    assert_eq!(control.get("/calendars").json.as_array().unwrap().len(), 2);
    assert_eq!(control.patch("/calendars/bob", &json!({ "timeZone": "Asia/Tokyo" })).status, 200);
    assert_eq!(client.get("/calendars/bob").json["timeZone"], "Asia/Tokyo");
    assert_eq!(control.delete("/calendars/bob").status, 200);
    assert_eq!(control.delete("/calendars/bob").status, 404);

    assert_eq!(control.post(&at("/events"), &daily("standup")).json["id"], "standup");
    let many = json!([daily("one"), daily("two")]);
    assert_eq!(control.post(&at("/events"), &many).json.as_array().unwrap().len(), 2);
    control.patch(&at("/events/standup_20250326T123000Z"), &json!({ "summary": "changed" }));
    assert_eq!(control.get(&at("/events/standup_20250326T123000Z")).json["summary"], "changed");
    let split = control.post(&at("/events/standup/split"), &json!({ "at": "2025-03-28T12:30:00Z" }));
    assert_eq!(split.json["id"], "standup_R20250328T123000");
    assert_eq!(control.delete(&at("/events/one")).status, 200);
    assert_eq!(control.send("PUT", &at("/events/two"), &[], Some(&daily("two"))).status, 200);
    let raw = control.post(&at("/events/raw"), &json!({ "id": "odd", "start": { "dateTime": "soon" } }));
    assert_eq!(raw.json["start"]["dateTime"], "soon");
    assert_eq!(client.full().item("odd")["start"]["dateTime"], "soon");
    let mut imported = daily("three");
    imported["iCalUID"] = json!("x@example.net");
    assert_eq!(control.post(&at("/events/import"), &imported).status, 200);
    assert_eq!(control.get(&at("/events")).json.as_array().unwrap().len(), 7);
    let busy = control.get(&at("/busy?from=2025-03-24T00:00:00Z&to=2025-03-25T00:00:00Z"));
    assert_eq!(busy.json.as_array().unwrap().len(), 1);
    assert_eq!(control.post(&at("/notify"), &json!({})).status, 200);
}

#[test]
fn faults_quirks_and_tokens_are_set_through_the_control_port() {
    let (google, client) = alice();
    let control = Client::at(google.control_url());
    let token = client.full().sync_token();

    let script = json!({ "when": { "calendar": ALICE }, "times": 2, "latencyMs": 1,
        "action": { "error": { "status": 429, "reason": "rateLimitExceeded", "retryAfter": "2" } } });
    let id = control.post("/faults", &script).json["id"].clone();
    assert_eq!(client.full().status, 429);
    assert_eq!(control.get("/faults").json[0]["times"], 1);
    assert_eq!(control.delete(&format!("/faults/{id}")).status, 200);
    for action in [
        json!("none"),
        json!("cutBefore"),
        json!({ "cutAfter": { "bytes": 3 } }),
        json!({ "truncate": { "bytes": 3 } }),
        json!({ "hang": {} }),
        json!({ "body": { "body": "<html>" } }),
        json!({ "drip": { "bytes": 1, "pauseMs": 1 } }),
    ] {
        assert_eq!(control.post("/faults", &json!({ "action": action })).status, 200, "{action}");
    }
    assert_eq!(control.post("/faults", &json!({ "action": "explode" })).status, 400);
    control.delete("/faults");
    assert_eq!(client.full().status, 200);

    assert_eq!(control.patch("/quirks", &json!({ "pageSizeCap": 3 })).json["pageSizeCap"], 3);
    assert_eq!(control.patch(&format!("{CALENDAR}/quirks"), &json!({ "emptyFirstPages": 1 })).json["pageSizeCap"], 3);
    assert_eq!(control.patch("/quirks", &json!({ "pageSizeCap": null })).json["pageSizeCap"], Value::Null);
    assert_eq!(control.patch("/quirks", &json!({ "emptyEvery": 1 })).status, 400);
    assert_eq!(control.patch("/quirks", &json!({ "noSuchThing": 1 })).status, 400);

    control.post("/expire-sync-tokens", &json!({}));
    assert_eq!(client.delta(&token).status, 410);
    assert_eq!(control.post(&format!("{CALENDAR}/expire-sync-tokens"), &json!({})).status, 200);
    assert_eq!(control.post("/calendars/nobody/expire-sync-tokens", &json!({})).status, 404);
}

#[test]
fn auth_log_push_clock_and_outage_are_set_through_the_control_port() {
    let (google, mut client) = alice();
    let control = Client::at(google.control_url());

    assert_eq!(control.patch("/auth", &json!({ "requireAuth": true, "tokenLifetime": 5 })).json["tokenLifetime"], 5);
    assert_eq!(client.full().status, 401);
    control.post("/auth/tokens", &json!({ "token": "mine" }));
    client.bearer = Some("mine".into());
    assert_eq!(client.full().status, 200);
    assert_eq!(control.post("/auth/expire", &json!({})).json["tokens"], 0);
    assert_eq!(control.post("/auth/revoke", &json!({})).json["allRevoked"], true);
    assert_eq!(control.post("/auth/restore", &json!({})).json["allRevoked"], false);
    let refused = control.post("/auth/clients", &json!({ "client": "app", "error": "invalid_client" }));
    assert_eq!(refused.json["refusedClients"], json!({ "app": "invalid_client" }));
    control.patch("/auth", &json!({ "requireAuth": false }));

    assert_eq!(control.get("/log").json.as_array().unwrap().len(), 2);
    assert_eq!(control.get("/log").json[0]["status"], 401);
    control.delete("/log");
    assert_eq!(control.get("/log").json, json!([]));

    assert_eq!(control.patch("/push", &json!({ "delayMs": 5 })).json["delayMs"], 5);
    assert_eq!(control.get("/channels").json, json!([]));
    assert_eq!(control.get("/deliveries").json, json!([]));

    let there = control.post("/clock", &json!({ "now": "2031-01-01T00:00:00Z", "advanceSeconds": 60 }));
    assert!(there.json["now"].as_str().unwrap().starts_with("2031-01-01T00:01:0"), "{}", there.json);

    control.post("/outage", &json!({ "mode": "unavailable" }));
    assert_eq!(client.full().status, 503);
    control.post("/outage", &json!({ "mode": "refuse" }));
    assert!(client.try_send("GET", "/users/me/calendarList", &[], None).is_err());
    control.post("/outage", &json!({ "mode": "none" }));
    assert_eq!(client.full().status, 200);
    assert_eq!(control.post("/outage", &json!({ "mode": "perhaps" })).status, 400);

    control.post("/quota", &json!({ "requestsPerMinute": 0 }));
    assert_eq!(client.full().reason(), "rateLimitExceeded");
    control.post("/quota", &json!({ "requestsPerMinute": null }));
    assert_eq!(control.get("/quota").json, json!({ "requestsPerMinute": null }));

    control.post("/reset", &json!({}));
    assert_eq!(client.full().status, 404);
    assert_eq!(control.post("/load", &seed()).status, 200);
    assert_eq!(client.full().ids().len(), 3);
    assert_eq!(control.get("/nothing/here").status, 404);
}

fn seed() -> Value {
    json!({ "calendars": [{
        "id": ALICE, "summary": "Alice", "timeZone": "America/Chicago",
        "events": [
            daily("weekly_meeting"),
            { "id": "weekly_meeting_20250326T123000Z", "status": "cancelled", "recurringEventId": "weekly_meeting",
              "originalStartTime": { "dateTime": "2025-03-26T07:30:00-05:00", "timeZone": "America/Chicago" } },
            { "summary": "Trip", "start": { "date": "2025-04-01" }, "end": { "date": "2025-04-03" } },
        ],
    }] })
}

/// Kills the binary when the test ends, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_binary_says_when_it_is_ready_and_serves_its_seed() {
    let file = std::env::temp_dir().join(format!("fake-google-seed-{}.json", std::process::id()));
    std::fs::write(&file, seed().to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fake-google"));
    command.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--load"]).arg(&file);
    let mut running = Running(command.stdout(Stdio::piped()).spawn().unwrap());

    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    std::fs::remove_file(&file).unwrap();

    let url = line.split_whitespace().find(|word| word.starts_with("http://")).expect(&line);
    let client = Client::at(url.trim_end_matches(','));
    assert_eq!(client.full().json["summary"], "Alice");
}

#[test]
fn the_binary_refuses_what_it_does_not_understand() {
    let outcome = Command::new(env!("CARGO_BIN_EXE_fake-google")).arg("--port").output().unwrap();
    assert!(!outcome.status.success());
    assert!(String::from_utf8_lossy(&outcome.stderr).contains("usage:"));
}
