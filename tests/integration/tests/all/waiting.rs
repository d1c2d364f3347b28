//! Nobody waits for what is not his: open transactions, replaced credentials, floods, providers gone mad.

use std::time::Duration;

use calsync_integration::{ALICE, World, eventually, sqlstate};
use fake_google::{Action, Fault};

/// `a@x` of the credential `team`, and `b@x`, which has none; both synced.
fn two() -> World {
    let mut world = World::new();
    world.sql.batch_execute("SELECT calsync_add_credential('team', 'google', '{}')").expect("a credential");
    world.others(&["a@x"], Some("team"));
    world.others(&["b@x"], None);
    world.wait_for_sync("a@x");
    world.wait_for_sync("b@x");
    world.google.clear_log();
    world
}

/// `b@x` follows its provider.
fn the_other_goes_on(world: &mut World) {
    world.meeting_of("b@x", 3, "08:00", "09:00");
    world.sql.execute("SELECT calsync_sync('b@x')", &[]).expect("sync");
    eventually("the other calendar is synced", || world.busy_of("b@x") == ["+3 08:00 to 09:00"]);
}

#[test]
fn a_credential_that_is_being_replaced_holds_up_no_other_calendar() {
    for fault in [Fault::error(429, "rateLimitExceeded"), Fault::error(401, "authError")] {
        let mut world = two();
        world.google.add_fault(fault.on_calendar("a@x").always());
        let mut open = world.cluster.connect("postgres");
        open.batch_execute("BEGIN; SELECT calsync_add_credential('team', 'google', '{}')").expect("not committed");
        world.sql.execute("SELECT calsync_sync('a@x')", &[]).expect("sync");
        eventually("it is asked for", || !world.lists().is_empty());

        the_other_goes_on(&mut world);

        open.batch_execute("ROLLBACK").expect("forgotten");
        eventually("what the provider said is kept", || {
            world.count("SELECT count(*) FROM calsync.credential WHERE retry_at > now()") == 1
        });
    }
}

#[test]
fn a_claim_of_the_dead_that_somebody_has_locked_holds_up_no_other_calendar() {
    let mut world = two();
    world.google.add_fault(Fault::new(Action::Hang { bytes: 0 }).on_calendar("a@x").always());
    world.sql.execute("SELECT calsync_sync('a@x')", &[]).expect("sync");
    eventually("it is asked for", || world.lists().len() == 1);
    let mut open = world.cluster.connect("postgres");
    open.batch_execute("BEGIN; SELECT calsync_pause('a@x')").expect("not committed");

    let worker =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker'";
    assert_eq!(world.count(worker), 1);

    the_other_goes_on(&mut world);
}

#[test]
fn history_that_is_being_forgotten_elsewhere_holds_up_nobody() {
    let mut world = two();
    world.sql.batch_execute("UPDATE calsync.sync_run SET finished_at = now() - interval '8 days'").expect("old");
    let mut open = world.cluster.connect("postgres");
    open.batch_execute("BEGIN; SELECT calsync_unsubscribe('a@x')").expect("not committed");

    world.cluster.reconfigure("calsync.connect_timeout = '9s'");

    let left = "SELECT count(*) FROM calsync.sync_run";
    eventually("what is not locked is forgotten at once", || world.count(left) == 1);
    the_other_goes_on(&mut world);
}

#[test]
fn what_a_provider_said_of_a_replaced_credential_no_longer_counts() {
    for (status, reason) in [(401, "authError"), (403, "forbidden"), (403, "rateLimitExceeded"), (404, "notFound")] {
        let mut world = two();
        let refusal = Fault::error(status, reason).after(Duration::from_millis(800)).on_calendar("a@x");
        world.google.add_fault(refusal.times(1));
        world.sql.execute("SELECT calsync_sync('a@x')", &[]).expect("sync");
        eventually("it is asked for", || world.lists().len() == 1);

        world.sql.batch_execute("SELECT calsync_add_credential('team', 'google', '{}')").expect("replaced");

        eventually("it is asked for again, with the new one", || world.lists().len() == 2);
        world.wait_until_idle();
        let untouched = "SELECT count(*) FROM calsync.credential WHERE refused_at IS NULL AND retry_at IS NULL";
        assert_eq!(world.count(untouched), 1, "{status} {reason}: the new one is not blamed");
        let in_sync = "SELECT count(*) FROM calsync.subscription \
            WHERE calendar = 'a@x' AND state = 'active' AND failures = 0 AND last_error IS NULL";
        assert_eq!(world.count(in_sync), 1, "{status} {reason}: nor does its calendar wait");
        assert_eq!(world.count("SELECT count(*) FROM calsync.sync_run WHERE outcome = 'failed'"), 0);
    }
}

#[test]
fn a_late_good_answer_to_a_replaced_credential_does_not_pardon_the_new_one() {
    let mut world = two();
    world.others(&["c@x"], Some("team"));
    world.wait_for_sync("c@x");
    let refusal = world.google.add_fault(Fault::error(401, "authError").on_calendar("a@x").always());
    world.sql.execute("SELECT calsync_sync('a@x')", &[]).expect("sync");
    eventually("it is refused", || !world.text(REFUSED, "team").is_empty());
    world.google.remove_fault(refusal);
    world.google.clear_log();
    world.google.add_fault(Fault::latency(Duration::from_secs(3)).on_calendar("a@x").times(1));
    world.sql.execute("SELECT calsync_sync('a@x')", &[]).expect("sync");
    eventually("it is asked whether the old one is accepted", || world.lists().len() == 1);

    world.google.add_fault(Fault::error(401, "authError").on_calendar("c@x").always());
    world.sql.batch_execute("SELECT calsync_add_credential('team', 'google', '{}')").expect("replaced");
    world.sql.execute("SELECT calsync_sync('c@x')", &[]).expect("sync");
    eventually("the new one is refused", || !world.text(REFUSED, "team").is_empty());
    let refused_at = world.text(REFUSED, "team");

    let answered = "SELECT count(*) FROM calsync.subscription WHERE calendar = 'a@x' AND state = 'active'";
    eventually("the good answer has come", || world.count(answered) == 1);
    assert_eq!(world.text(REFUSED, "team"), refused_at);
}

/// Since when the credential is refused; nothing where it is not.
const REFUSED: &str = "SELECT coalesce(refused_at::text, '') FROM calsync.credential WHERE name = $1";

#[test]
fn a_replaced_credential_brings_its_calendars_back_at_once() {
    let mut world = two();
    let refusal = world.google.add_fault(Fault::error(401, "authError").on_calendar("a@x").always());
    world.sql.execute("SELECT calsync_sync('a@x')", &[]).expect("sync");
    let state = "SELECT state::text FROM calsync.status WHERE calendar = $1";
    eventually("it is refused", || world.text(state, "a@x") == "needs_credential");
    world.google.remove_fault(refusal);

    world.sql.batch_execute("SELECT calsync_add_credential('team', 'google', '{}')").expect("replaced");

    eventually("it is synced without being asked for", || world.text(state, "a@x") == "active");
}

#[test]
fn a_rate_limit_is_remembered_by_the_credential_not_the_calendars() {
    let mut world = World::new();
    world.sql.batch_execute("SELECT calsync_add_credential('team', 'google', '{}')").expect("a credential");
    let names: Vec<String> = (0..30).map(|n| format!("{n}@x")).collect();
    world.others(&names.iter().map(String::as_str).collect::<Vec<_>>(), Some("team"));
    eventually("all are synced", || {
        world.count("SELECT count(*) FROM calsync.subscription WHERE state = 'active'") == 30
    });
    world.wait_until_idle();
    world.google.clear_log();
    let limit = world.google.add_fault(Fault::error(429, "rateLimitExceeded").always());

    world.sql.batch_execute("SELECT calsync_sync()").expect("sync");
    eventually("it waits ever longer", || world.count("SELECT failures::bigint FROM calsync.credential") >= 3);

    let calm = "SELECT count(*) FROM calsync.subscription WHERE failures > 0";
    assert_eq!(world.count(calm), 0, "no calendar is to blame");
    let waiting = "SELECT count(*) FROM calsync.status WHERE next_sync_at > now() AND last_error LIKE '%429%'";
    assert_eq!(world.count(waiting), 30, "each says that it waits, and why");
    world.google.remove_fault(limit);
    eventually("it is forgiven", || {
        world.sql.batch_execute("UPDATE calsync.credential SET retry_at = now(); SELECT calsync_sync()").expect("now");
        world.count("SELECT failures::bigint FROM calsync.credential") == 0
    });
}

#[test]
fn rounds_that_wait_for_one_credentials_budget_leave_room_for_the_others() {
    let mut world = World::with("calsync.max_concurrency = 2\ncalsync.requests_per_minute = 60");
    world.sql.batch_execute("SELECT calsync_add_credential('big', 'google', '{}')").expect("a credential");
    world.google.add_fault(
        Fault::new(Action::Body {
            status: 200,
            content_type: "application/json".to_owned(),
            body: r#"{"kind": "calendar#events", "timeZone": "UTC", "items": [], "nextPageToken": "more"}"#.to_owned(),
            headers: Vec::new(),
        })
        .on_calendar("big1@x")
        .always(),
    );
    world.others(&["big1@x", "big2@x", "big3@x"], Some("big"));

    world.others(&["small@x"], None);

    world.wait_for_sync("small@x");
}

#[test]
fn pages_without_end_are_a_failure() {
    let mut world = World::synced();
    world.google.add_fault(
        Fault::new(Action::Body {
            status: 200,
            content_type: "application/json".to_owned(),
            body: r#"{"kind": "calendar#events", "timeZone": "Europe/Vienna", "items": [], "nextPageToken": "same"}"#
                .to_owned(),
            headers: Vec::new(),
        })
        .always(),
    );

    world.sql.execute("SELECT calsync_sync($1)", &[&ALICE]).expect("sync");
    world.wait_for_status("state", "backoff");

    assert!(world.status("last_error").contains("do not come to an end"), "{}", world.status("last_error"));
}

#[test]
fn switched_off_in_the_middle_of_a_round_it_asks_for_no_further_page() {
    let mut world = World::new();
    let mut quirks = world.google.quirks(Some(ALICE)).expect("quirks");
    quirks.page_size_cap = Some(1);
    world.google.set_quirks(Some(ALICE), quirks).expect("small pages");
    for day in 1..40 {
        world.meeting(day, "08:00", "09:00");
    }
    world.google.add_fault(Fault::latency(Duration::from_millis(100)).always());
    world.subscribe(ALICE);
    eventually("some pages have come", || world.lists().len() >= 3);

    world.cluster.reconfigure("calsync.enabled = off");
    eventually("the claim is given back", || {
        world.count("SELECT count(*) FROM calsync.subscription WHERE leased_until IS NULL") == 1
    });

    let asked = world.lists().len();
    assert!(asked < 39, "{asked} of 39 pages");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(world.lists().len(), asked);
    assert_eq!(world.count("SELECT count(*) FROM calsync.staged_event"), 0);
}

#[test]
fn a_credential_that_was_taken_into_use_meanwhile_is_not_dropped_whatever_the_snapshot() {
    for isolation in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let mut world = World::with("calsync.enabled = off");
        world.sql.batch_execute("SELECT calsync_add_credential('team', 'google', '{}')").expect("a credential");
        let mut other = world.cluster.connect("postgres");
        other
            .batch_execute(&format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM calsync.subscription"))
            .expect("what it sees is nobody's calendar");
        world.others(&["a@x"], Some("team"));

        let refused = other.batch_execute("SELECT calsync_drop_credential('team'); COMMIT").expect_err("in use");

        assert_eq!(sqlstate(&refused), "2BP01", "{isolation}: {refused:?}");
        assert_eq!(world.count("SELECT count(*) FROM calsync.credential"), 1, "{isolation}");
    }
}

#[test]
fn nobody_subscribes_with_a_credential_that_is_just_being_dropped() {
    for (isolation, code) in [("READ COMMITTED", "SC006"), ("REPEATABLE READ", "40001")] {
        let mut world = World::with("calsync.enabled = off");
        world.sql.batch_execute("SELECT calsync_add_credential('team', 'google', '{}')").expect("a credential");
        let mut other = world.cluster.connect("postgres");
        let begin = format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM calsync.credential");
        other.batch_execute(&begin).expect("it sees the credential");
        world.sql.batch_execute("BEGIN; SELECT calsync_drop_credential('team')").expect("not committed");

        let subscribing = std::thread::spawn(move || {
            other.batch_execute("SELECT calsync_subscribe('a@x', credential => 'team'); COMMIT")
        });
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        let mut watch = world.cluster.connect("postgres");
        eventually("it waits to see what becomes of it", || {
            watch.query_one(waiting, &[]).expect("activity").get::<_, i64>(0) == 1
        });
        world.sql.batch_execute("COMMIT").expect("dropped");

        let refused = subscribing.join().expect("no panic").expect_err("it is gone");
        assert_eq!(sqlstate(&refused), code, "{refused:?}");
        assert_eq!(world.count("SELECT count(*) FROM calsync.subscription"), 0);
    }
}
