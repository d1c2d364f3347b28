//! Push notifications: real POSTs to a receiver on loopback.

mod story;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use chrono::TimeDelta;
use fake_google::{NewCalendar, PushQuirks};
use serde_json::{Value, json};
use story::{ALICE, alice, daily, events, meeting};

/// What one notification said: its headers, with names in lower case.
type Notice = Vec<(String, String)>;

fn header<'a>(notice: &'a Notice, name: &str) -> &'a str {
    notice.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
}

/// A receiver that answers each notification with the next status of `statuses`, then with 200.
fn receiver(statuses: &'static [u16]) -> (String, Receiver<Notice>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, notices) = channel();
    thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let stream = stream.unwrap();
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            assert_eq!(lines.next().unwrap(), "POST /hook HTTP/1.1");
            let head = lines.take_while(|line| !line.is_empty());
            let split = |line: String| {
                let (name, value) = line.split_once(": ").unwrap();
                (name.to_ascii_lowercase(), value.to_owned())
            };
            let notice = head.map(split).collect();
            let status = statuses.get(n).copied().unwrap_or(200);
            write!(&stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").unwrap();
            let _ = (&stream).read(&mut [0; 8]);
            if sender.send(notice).is_err() {
                return;
            }
        }
    });
    (address, notices)
}

fn next(notices: &Receiver<Notice>) -> Notice {
    notices.recv_timeout(Duration::from_secs(20)).expect("a notification")
}

fn none(notices: &Receiver<Notice>) {
    assert!(notices.recv_timeout(Duration::from_millis(150)).is_err(), "no notification was due");
}

fn channel_at(address: &str, id: &str) -> Value {
    json!({ "id": id, "type": "web_hook", "address": address, "token": "alice=1", "params": { "ttl": "3600" } })
}

#[test]
fn a_channel_says_sync_and_then_that_something_changed() {
    let (google, client) = alice();
    let (address, notices) = receiver(&[]);

    let opened = client.post(&events("watch"), &channel_at(&address, "channel-1")).json;

    assert_eq!((&opened["kind"], &opened["token"]), (&json!("api#channel"), &json!("alice=1")));
    let expiration: i64 = opened["expiration"].as_str().expect("text").parse().unwrap();
    assert!((expiration - google.now().timestamp_millis() - 3_600_000).abs() < 5_000);
    let sync = next(&notices);
    assert_eq!((header(&sync, "x-goog-resource-state"), header(&sync, "x-goog-message-number")), ("sync", "1"));
    assert_eq!(header(&sync, "content-length"), "0");

    google.insert_event(ALICE, &daily("standup")).unwrap();
    let changed = next(&notices);
    assert_eq!(header(&changed, "x-goog-resource-state"), "exists");
    assert_eq!(header(&changed, "x-goog-channel-id"), "channel-1");
    assert_eq!(header(&changed, "x-goog-channel-token"), "alice=1");
    assert_eq!(header(&changed, "x-goog-resource-id"), opened["resourceId"]);
    assert_eq!(header(&changed, "x-goog-resource-uri"), opened["resourceUri"]);
    assert!(header(&changed, "x-goog-channel-expiration").ends_with(" GMT"));
    assert!(header(&changed, "x-goog-message-number").parse::<u64>().unwrap() > 1);
    client.patch(&events("standup"), &json!({ "summary": "by the API" }));
    assert_eq!(header(&next(&notices), "x-goog-resource-state"), "exists");
}

#[test]
fn a_stopped_channel_is_silent() {
    let (google, client) = alice();
    let (address, notices) = receiver(&[]);
    let opened = client.post(&events("watch"), &channel_at(&address, "channel-1")).json;
    next(&notices);
    let stop = json!({ "id": "channel-1", "resourceId": opened["resourceId"] });

    assert_eq!(client.post("/channels/stop", &json!({ "id": "channel-1", "resourceId": "other" })).status, 404);
    assert_eq!(client.post("/channels/stop", &stop).status, 204);
    google.insert_event(ALICE, &daily("standup")).unwrap();

    none(&notices);
    assert_eq!(client.post("/channels/stop", &stop).status, 404);
    assert!(google.channels().is_empty());
}

#[test]
fn a_channel_ends_with_its_time() {
    let (google, client) = alice();
    let (address, notices) = receiver(&[]);
    client.post(&events("watch"), &channel_at(&address, "channel-1"));
    next(&notices);

    google.advance_clock(TimeDelta::seconds(3601));
    google.insert_event(ALICE, &daily("standup")).unwrap();

    none(&notices);
    assert_eq!(client.post(&events("watch"), &channel_at(&address, "channel-1")).status, 200, "the id is free again");
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let (google, client) = alice();
    let (address, _notices) = receiver(&[]);
    google.add_calendar(&NewCalendar::new("holidays@example.com").not_pushable()).unwrap();
    let refused = |path: &str, channel: &Value| client.post(path, channel).reason().to_owned();

    client.post(&events("watch"), &channel_at(&address, "twice"));
    assert_eq!(refused(&events("watch"), &channel_at(&address, "twice")), "channelIdNotUnique");
    let holidays = "/calendars/holidays@example.com/events/watch";
    assert_eq!(refused(holidays, &channel_at(&address, "x")), "pushNotSupportedForRequestedResource");
    let far = channel_at("http://example.com/hook", "far");
    assert_eq!(refused(&events("watch"), &far), "push.webhookUrlNotHttps");
    assert_eq!(refused(&events("watch"), &channel_at(&address, &"x".repeat(65))), "channelIdInvalid");
}

#[test]
fn notifications_get_lost_late_and_doubled_on_demand() {
    let (google, client) = alice();
    let (address, notices) = receiver(&[]);
    client.post(&events("watch"), &channel_at(&address, "channel-1"));
    next(&notices);
    let act = || google.insert_event(ALICE, &meeting("m", "2025-03-24T10:00:00Z", "2025-03-24T11:00:00Z")).unwrap();

    google.set_push_quirks(PushQuirks { drop_next: 1, ..PushQuirks::default() });
    act();
    none(&notices);
    google.set_push_quirks(PushQuirks { delay_ms: 800, ..PushQuirks::default() });
    act();
    none(&notices);
    next(&notices);
    google.set_push_quirks(PushQuirks { duplicate: true, ..PushQuirks::default() });
    act();
    assert_eq!(next(&notices), next(&notices));
    google.set_push_quirks(PushQuirks { drop: true, ..PushQuirks::default() });
    act();
    none(&notices);
    google.set_push_quirks(PushQuirks::default());
    google.notify(ALICE).unwrap();
    next(&notices);
}

#[test]
fn a_receiver_that_fails_is_tried_again() {
    let (google, client) = alice();
    let (address, notices) = receiver(&[503, 200]);

    client.post(&events("watch"), &channel_at(&address, "channel-1"));

    assert_eq!(next(&notices), next(&notices));
    none(&notices);
    let outcomes: Vec<String> = google.deliveries().into_iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, ["503", "200"]);
}

#[test]
fn a_deleted_calendar_says_that_it_does_not_exist() {
    let (google, client) = alice();
    let (address, notices) = receiver(&[]);
    client.post(&events("watch"), &channel_at(&address, "channel-1"));
    next(&notices);

    google.delete_calendar(ALICE);

    assert_eq!(header(&next(&notices), "x-goog-resource-state"), "not_exists");
}
