//! TLS as the worker speaks it: with whom the system trusts, and with nobody else. There is no fallback.

use std::io::{Read, Write};
use std::time::Duration;

use calsync_integration::{ALICE, Stranger, World, authority, eventually};
use fake_google::{Action, Authority, FakeGoogle, Fault, Identity, NewCalendar};
use serde_json::Value;

/// From now on Google is there.
fn move_google(world: &World, url: &str) {
    world.cluster.reconfigure(&format!("calsync.google_api_url = '{url}/calendar/v3'"));
}

/// Until Alice's sync has failed for this reason. Her answers are refused or old, but never another's.
fn fails_with(world: &mut World, reason: &str) {
    world.sql.execute("UPDATE calsync.subscription SET last_error = NULL", &[]).expect("forgotten");
    eventually(&format!("\"{reason}\" in last_error"), || {
        world.sql.execute("SELECT calsync_sync()", &[]).expect("due");
        let told = world.status("last_error");
        assert!(!world.busy().contains(&"+5 08:00 to 09:00".to_owned()), "{told}");
        told.contains(reason)
    });
}

/// Alice's calendar, with something in it that nobody shall see, as this server has it.
fn impostor(identity: &Identity) -> FakeGoogle {
    let google = FakeGoogle::start_tls(identity);
    with_a_lie(&google);
    google
}

fn with_a_lie(google: &FakeGoogle) {
    google.add_calendar(&NewCalendar::new(ALICE)).expect("a calendar");
    let day = chrono::Utc::now().date_naive() + chrono::TimeDelta::days(5);
    let lie = serde_json::json!({
        "start": {"dateTime": format!("{day}T08:00:00Z")}, "end": {"dateTime": format!("{day}T09:00:00Z")},
    });
    google.insert_event(ALICE, &lie).expect("an event");
}

#[test]
fn a_full_sync_and_a_delta_come_over_tls() {
    let mut world = World::new();
    assert!(world.google.api_url().starts_with("https://localhost:"));
    world.meeting(3, "08:00", "09:00");
    world.subscribe(ALICE);
    world.wait_for_sync(ALICE);
    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);

    world.meeting(4, "10:00", "11:00");
    world.sync();

    assert_eq!(world.busy(), ["+3 08:00 to 09:00", "+4 10:00 to 11:00"]);
    assert_eq!((world.lists().len(), world.deltas()), (2, 1));
}

#[test]
fn a_certificate_that_is_not_good_ends_the_sync_and_nothing_is_asked() {
    let mut world = World::synced();
    let bad = [
        (impostor(&Identity::self_signed(&["localhost"])), "TLS failed: invalid peer certificate: "),
        (impostor(&Authority::new().certify(&["localhost"])), "TLS failed: invalid peer certificate: "),
        (
            impostor(&authority().certify_for_the_past(&["localhost"])),
            "TLS failed: invalid peer certificate: certificate expired",
        ),
        (
            impostor(&authority().certify(&["other.example", "*.localhost"])),
            "TLS failed: invalid peer certificate: certificate not valid for name \"localhost\"",
        ),
    ];
    for (google, reason) in &bad {
        move_google(&world, &google.api_url());
        fails_with(&mut world, reason);
        assert!(google.log().is_empty(), "asked although: {reason}");
    }

    let true_one = world.google.api_url();
    move_google(&world, &true_one);
    world.meeting(3, "08:00", "09:00");
    eventually("the true one is asked again", || {
        world.sql.execute("SELECT calsync_sync()", &[]).expect("due");
        world.busy() == ["+3 08:00 to 09:00"]
    });
}

#[test]
fn what_does_not_speak_modern_tls_is_not_spoken_to() {
    let mut world = World::synced();
    world.cluster.reconfigure("calsync.request_timeout = '1s'");
    let in_the_clear = FakeGoogle::start();
    with_a_lie(&in_the_clear);
    let port = in_the_clear.api_url().rsplit(':').next().expect("a port").to_owned();
    move_google(&world, &format!("https://localhost:{port}"));
    fails_with(&mut world, "did not answer in time");
    assert!(in_the_clear.log().is_empty());

    let speaking = |bytes: Vec<u8>| {
        Stranger::meeting(move |stream| {
            let _ = stream.read(&mut [0; 4096])?;
            stream.write_all(&bytes)?;
            stream.read(&mut [0; 16]).map(drop)
        })
    };
    let strangers = [
        (speaking(tls_1_1()), "TLS failed: peer is incompatible: "),
        (speaking(PROTOCOL_VERSION_ALERT.to_vec()), "TLS failed: received fatal alert: "),
        (speaking(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), "TLS failed: received corrupt message"),
        (speaking(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "TLS failed"),
        (speaking(b"\x16\x03\x03\xff\xff".to_vec()), "TLS failed"),
        (speaking(Vec::new()), "did not answer in time"),
    ];
    let dripping = Stranger::meeting(|stream| {
        // The head of a record of 16 kB, and then of its bytes one now and then.
        stream.write_all(&[22, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc])?;
        loop {
            stream.write_all(&[3])?;
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    for (stranger, reason) in strangers.iter().chain([&(dripping, "did not answer in time")]) {
        move_google(&world, &format!("https://localhost:{}", stranger.addr().port()));
        fails_with(&mut world, reason);
    }
}

#[test]
fn a_redirect_out_of_tls_is_not_followed() {
    let mut world = World::synced();
    let in_the_clear = Stranger::answering(|_, _| Ok(()));
    world.google.add_fault(
        Fault::new(Action::Body {
            status: 302,
            content_type: "text/html".to_owned(),
            body: String::new(),
            headers: vec![("Location".to_owned(), format!("http://{}/", in_the_clear.addr()))],
        })
        .always(),
    );

    fails_with(&mut world, "the provider answered 302: a redirect, which is not followed");

    assert_eq!(in_the_clear.connections(), 0);
}

#[test]
fn a_server_that_trusts_nobody_says_so() {
    let nobody = [("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/dev/null")];
    let mut world = World::in_environment(&nobody, "");
    world.subscribe(ALICE);
    world.wait_for_status("state", "backoff");

    let told = world.status("last_error");
    assert!(told.contains("No CA certificates"), "{told}");
    let health: Value = world.sql.query_one("SELECT calsync_health()", &[]).expect("health").get(0);
    assert_eq!(health["ok"], false);
}

/// A ServerHello of TLS 1.1 with TLS_RSA_WITH_AES_128_CBC_SHA (RFC 4346 §7.4.1.3): record, handshake, version, 32 bytes
/// of randomness, no session, the suite, no compression.
fn tls_1_1() -> Vec<u8> {
    [&[22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2][..], &[7; 32], &[0, 0, 0x2f, 0]].concat()
}

/// RFC 8446 §6: fatal, protocol_version.
const PROTOCOL_VERSION_ALERT: &[u8] = &[21, 3, 1, 0, 2, 2, 70];
