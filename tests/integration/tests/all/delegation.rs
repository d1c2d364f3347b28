//! One service account asks for each calendar as its own user (`"sub": "*"`): whose trouble is it that one is refused?

use std::time::Duration;

use calsync_integration::{ServiceAccountKey, World, eventually};
use fake_google::{Fault, NewCalendar};

const MALLORY: &str = "mallory@gmail.example";
/// Those that may be under way when the first is refused (`max_concurrency`), the doubts that convince, and those of the
/// seconds in which somebody looks.
const FEW: usize = 16 + 3 + 5;

/// A service account that asks as each calendar's user; nothing is subscribed.
fn company() -> World {
    let mut world = World::new();
    world.google.require_auth(true);
    let key = ServiceAccountKey::generate("robot@project.example");
    world.google.register_key(&key.email, key.public_key.clone());
    world.add_credential("domain", &key.file(Some("*")));
    world
}

fn employ(world: &mut World, people: usize) {
    let names: Vec<String> = (0..people).map(|n| format!("u{n}@example.com")).collect();
    world.others(&names.iter().map(String::as_str).collect::<Vec<_>>(), Some("domain"));
}

fn subscribe(world: &mut World, calendar: &str, remote_id: &str) {
    let _ = world.google.add_calendar(&NewCalendar::new(remote_id));
    world
        .sql
        .execute("SELECT calsync_subscribe($1, credential => 'domain', remote_id => $2)", &[&calendar, &remote_id])
        .expect("the calendar can be subscribed");
}

fn in_state(world: &mut World, state: &str) -> i64 {
    world.count(&format!("SELECT count(*) FROM calsync.status WHERE state = '{state}'"))
}

fn error_of(world: &mut World, calendar: &str) -> String {
    eventually(&format!("{calendar} needs a credential"), || {
        world.text("SELECT state::text FROM calsync.status WHERE calendar = $1", calendar) == "needs_credential"
    });
    world.text("SELECT last_error FROM calsync.status WHERE calendar = $1", calendar)
}

/// An hour passes, and what such a one may be late; access tokens end, and every calendar has become due.
fn an_hour_passes(world: &mut World) {
    world.google.expire_access_tokens();
    world
        .sql
        .batch_execute(
            "UPDATE calsync.credential SET retry_at = retry_at - interval '76 min', \
                 granted_at = granted_at - interval '76 min'; \
             UPDATE calsync.subscription SET next_sync_at = now(), synced_at = synced_at - interval '76 min'",
        )
        .expect("an hour");
    world.cluster.reconfigure("calsync.connect_timeout = '10s'");
}

#[test]
fn one_bad_name_among_seven_good_ones_costs_only_itself() {
    for refusal in ["unauthorized_client", "access_denied", "invalid_grant: Not a valid email."] {
        let mut world = company();
        world.google.refuse_client(MALLORY, Some(refusal));
        // It is asked for first: nobody knows yet whether the domain has delegated.
        subscribe(&mut world, MALLORY, MALLORY);
        let error = error_of(&mut world, MALLORY);
        assert!(error.contains("remote_id"), "{error}");
        employ(&mut world, 7);
        eventually("the others are synced", || in_state(&mut world, "active") == 7);

        for hour in 1..=3 {
            an_hour_passes(&mut world);

            let fresh = "SELECT count(*) FROM calsync.subscription \
                         WHERE state = 'active' AND synced_at > now() - interval '1 min'";
            eventually(&format!("the others are synced in hour {hour}"), || world.count(fresh) == 7);
            world.wait_until_idle();
            assert_eq!(in_state(&mut world, "needs_credential"), 1, "{refusal}, hour {hour}");
        }
        let failures = "SELECT count(*) FROM calsync.sync_run AS r JOIN calsync.subscription AS s USING (subscription_id) \
                        WHERE r.error IS NOT NULL AND s.calendar ";
        assert_eq!(world.count(&format!("{failures} <> '{MALLORY}'")), 0);
        let tries = world.count(&format!("{failures} = '{MALLORY}'"));
        assert!(tries <= 8, "{tries} tries: once an hour, and once more where that ended a doubt");
    }
}

#[test]
fn a_bad_name_that_is_asked_for_while_others_are_rarely_polled_costs_only_itself() {
    let mut world = company();
    employ(&mut world, 3);
    eventually("all are synced", || in_state(&mut world, "active") == 3);
    world.wait_until_idle();
    // Push tells of changes, and nobody was granted a token for hours.
    world
        .sql
        .batch_execute(
            "UPDATE calsync.subscription SET next_sync_at = now() + interval '5 hours'; \
             UPDATE calsync.credential SET granted_at = now() - interval '3 hours'",
        )
        .expect("hours");
    let (tokens, lists) = (world.token_requests().len(), world.lists().len());
    world.google.refuse_client(MALLORY, Some("unauthorized_client"));

    subscribe(&mut world, MALLORY, MALLORY);

    error_of(&mut world, MALLORY);
    let his_own = "SELECT count(*) FROM calsync.subscription AS s JOIN calsync.credential AS c ON c.name = s.credential \
                   WHERE s.state = 'needs_credential' AND s.next_sync_at > now() + interval '40 min' \
                       AND c.doubts = 0 AND c.retry_at IS NULL AND c.refused_at IS NULL";
    eventually("the trouble is found to be his", || world.count(his_own) == 1);
    world.wait_until_idle();
    assert_eq!(in_state(&mut world, "active"), 3);
    // He was asked for, another, and he again.
    assert_eq!((world.token_requests().len() - tokens, world.lists().len() - lists), (3, 1));
}

/// Else whoever is refused next would begin the same doubt anew.
#[test]
fn a_grant_that_could_not_be_written_down_is_told_by_the_answer_that_follows() {
    let mut world = company();
    employ(&mut world, 1);
    eventually("synced", || in_state(&mut world, "active") == 1);
    world.wait_until_idle();
    let (tokens, lists) = (world.token_requests().len(), world.lists().len());
    world.google.add_fault(Fault::latency(Duration::from_secs(3)).on_path("/token").times(1));
    let doubt = "UPDATE calsync.credential SET doubts = 1, retry_at = now(), granted_at = now() - interval '3 hours'";
    world.sql.batch_execute(doubt).expect("in doubt");

    world.sql.batch_execute("SELECT calsync_sync('u0@example.com')").expect("sync");
    eventually("a token is asked for", || world.token_requests().len() > tokens);
    let mut holder = world.cluster.connect("postgres");
    holder.batch_execute("BEGIN; SELECT FROM calsync.credential FOR UPDATE").expect("locked");
    eventually("it is granted, and the calendar asked for", || world.lists().len() > lists);
    holder.batch_execute("COMMIT").expect("free");

    let ended = "SELECT count(*) FROM calsync.credential WHERE doubts = 0 AND granted_at > now() - interval '1 min'";
    eventually("the doubt has ended", || world.count(ended) == 1);
}

#[test]
fn a_domain_that_has_not_delegated_is_asked_for_few_calendars_and_all_come_back_once_it_has() {
    let mut world = company();
    world.google.refuse_client("robot@project.example", Some("unauthorized_client"));

    employ(&mut world, 40);

    eventually("all say so", || in_state(&mut world, "needs_credential") == 40);
    for calendar in ["u0@example.com", "u39@example.com"] {
        let error = error_of(&mut world, calendar);
        assert!(error.contains("Domain-wide delegation") && error.contains("calendar.readonly"), "{error}");
    }
    let begun = world.token_requests().len();
    assert!(begun < FEW, "{begun} requests for 40 calendars");
    for hour in 1..=3 {
        world.sql.batch_execute("UPDATE calsync.credential SET doubts = 20").expect("it has lasted");
        let asked = world.token_requests().len();
        an_hour_passes(&mut world);
        let waits =
            "SELECT count(*) FROM calsync.credential WHERE doubts = 21 AND retry_at > now() + interval '40 min'";
        eventually("another one was tried", || world.count(waits) == 1);
        assert_eq!(world.token_requests().len(), asked + 1, "in hour {hour}");
    }

    world.google.refuse_client("robot@project.example", None);
    an_hour_passes(&mut world);

    eventually("all are synced", || in_state(&mut world, "active") == 40);
    assert_eq!(world.count("SELECT count(*) FROM calsync.credential WHERE refused_at IS NOT NULL OR doubts > 0"), 0);
}

#[test]
fn a_delegation_that_is_withdrawn_is_found_out_within_hours() {
    let mut world = company();
    employ(&mut world, 30);
    eventually("all are synced", || in_state(&mut world, "active") == 30);
    world.wait_until_idle();
    let requests = world.token_requests().len();
    world.google.refuse_client("robot@project.example", Some("unauthorized_client"));

    an_hour_passes(&mut world);

    eventually("the credential is refused", || {
        world.count("SELECT count(*) FROM calsync.credential WHERE refused_at IS NOT NULL") == 1
    });
    assert_eq!(in_state(&mut world, "needs_credential"), 30);
    let asked = world.token_requests().len() - requests;
    assert!(asked < FEW, "{asked} requests for 30 calendars");
    world.google.refuse_client("robot@project.example", None);
    world.sql.batch_execute("SELECT calsync_sync('u3@example.com')").expect("somebody asks for one");
    eventually("all are synced", || in_state(&mut world, "active") == 30);
}

#[test]
fn what_can_be_no_user_is_refused_before_google_is_asked() {
    let mut world = company();
    let nobody = [
        ("mine", "primary"),
        ("acme:bob", "acme:bob"),
        ("team", "c_1a2b@group.calendar.google.com"),
        ("room", "c_3c4d@resource.calendar.google.com"),
        ("holidays", "en.austrian#holiday@group.v.calendar.google.com"),
        ("imported", "abc@import.calendar.google.com"),
    ];

    for (calendar, remote_id) in nobody {
        subscribe(&mut world, calendar, remote_id);
    }

    for (calendar, remote_id) in nobody {
        let error = error_of(&mut world, calendar);
        assert!(error.contains(remote_id) && error.contains("another credential"), "{error}");
    }
    assert!(world.token_requests().is_empty());
    employ(&mut world, 2);
    eventually("users are synced", || in_state(&mut world, "active") == 2);
}
