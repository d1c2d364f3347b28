//! From a change at the provider to the answer, and back from every kind of trouble.

use std::time::Duration;

use calsync_integration::{ALICE, World, eventually, sqlstate};
use fake_google::{Action, Fault, NewCalendar, Quirks};
use serde_json::json;

#[test]
fn a_change_at_the_provider_reaches_busy() {
    let mut world = World::synced();
    assert!(world.busy().is_empty());

    let meeting = world.meeting(3, "08:00", "09:00");
    world.sync();
    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);

    let moved = json!({"start": {"dateTime": world.at(4, "10:00")}, "end": {"dateTime": world.at(4, "11:30")}});
    world.google.patch_event(ALICE, &meeting, &moved).expect("the event can be moved");
    world.sync();
    assert_eq!(world.busy(), ["+4 10:00 to 11:30"]);

    world.google.delete_event(ALICE, &meeting).expect("the event can be deleted");
    world.sync();
    assert!(world.busy().is_empty());
}

#[test]
fn only_the_first_sync_lists_everything() {
    let mut world = World::synced();

    world.meeting(3, "08:00", "09:00");
    world.sync();
    world.sync();

    assert_eq!((world.lists().len(), world.deltas()), (3, 2));
}

#[test]
fn a_full_sync_of_twenty_pages_becomes_visible_at_once() {
    let mut world = World::new();
    for day in 0..40 {
        world.meeting(day, "08:00", "09:00");
    }
    world.google.set_quirks(None, Quirks { page_size_cap: Some(2), ..Quirks::default() }).expect("a quirk");
    world.google.add_fault(Fault::latency(Duration::from_millis(300)).on_query("pageToken=").skip(15).times(1));
    world.subscribe(ALICE);

    eventually("pages are staged", || world.count("SELECT count(*) FROM calsync.staged_event") > 20);
    assert_eq!(sqlstate(&world.try_busy(ALICE).expect_err("not synced yet")), "SC002");
    world.wait_for_sync(ALICE);

    assert_eq!(world.busy().len(), 40);
    assert_eq!(world.lists().len(), 20);
    assert_eq!(world.count("SELECT count(*) FROM calsync.staged_event"), 0);
    assert_eq!(world.count("SELECT count(*) FROM calsync.staged_round"), 0);
}

#[test]
fn readers_see_the_old_complete_state_until_the_new_one_commits() {
    let mut world = World::synced();
    for day in 0..10 {
        world.meeting(day, "08:00", "09:00");
    }
    world.sync();
    let before = world.busy();
    let slow = world.google.add_fault(Fault::latency(Duration::from_secs(1)).on_query("pageToken=").always());
    world.google.set_quirks(None, Quirks { page_size_cap: Some(6), ..Quirks::default() }).expect("a quirk");
    for event in world.google.events(ALICE).expect("events").iter().take(3) {
        world.google.delete_event(ALICE, event["id"].as_str().expect("an id")).expect("deleted");
    }

    world.sql.execute("SELECT calsync_resync($1)", &[&ALICE]).expect("resync");
    eventually("the first page is staged", || world.count("SELECT count(*) FROM calsync.staged_event") > 0);
    assert_eq!(world.busy(), before, "half a full sync shows nothing");

    world.google.remove_fault(slow);
    world.wait_until_idle();
    assert_eq!(world.busy().len(), 7, "what the full sync did not see is gone");
}

#[test]
fn an_empty_page_with_a_page_token_goes_on() {
    let mut world = World::new();
    world.meeting(3, "08:00", "09:00");
    world.google.set_quirks(None, Quirks { empty_first_pages: 1, ..Quirks::default() }).expect("a quirk");

    world.subscribe(ALICE);
    world.wait_for_sync(ALICE);

    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);
    assert_eq!(world.lists().len(), 2);
}

#[test]
fn an_expired_token_leaves_no_ghosts() {
    let mut world = World::synced();
    let meeting = world.meeting(3, "08:00", "09:00");
    world.meeting(5, "08:00", "09:00");
    world.sync();

    world.google.delete_event(ALICE, &meeting).expect("deleted");
    world.google.expire_sync_tokens(Some(ALICE)).expect("expired");
    world.sync();

    assert_eq!(world.busy(), ["+5 08:00 to 09:00"]);
    let history =
        world.text("SELECT string_agg(outcome, ',' ORDER BY run_id) FROM calsync.sync_run WHERE $1 <> ''", "-");
    assert!(history.ends_with("token_lost,committed"), "{history}");
}

#[test]
fn an_invalid_token_is_dropped_and_the_calendar_listed_in_full() {
    let mut world = World::synced();
    world.meeting(3, "08:00", "09:00");

    world.sql.execute("UPDATE calsync.subscription SET sync_token = 'garbage'", &[]).expect("a damaged token");
    world.sync();

    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);
    assert_eq!(world.status("failures"), "0");
}

#[test]
fn a_delta_without_a_successor_token_forces_a_full_sync() {
    let mut world = World::synced();
    world.meeting(3, "08:00", "09:00");
    world.google.set_quirks(None, Quirks { omit_sync_tokens: 1, ..Quirks::default() }).expect("a quirk");

    world.sync();

    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);
    let last = world.lists().pop().expect("a list");
    assert!(!last.contains_key("syncToken"), "the old token is never replayed");
}

#[test]
fn an_unauthorized_answer_asks_for_a_credential_and_keeps_the_old_answers() {
    let mut world = World::synced();
    world.meeting(3, "08:00", "09:00");
    world.sync();

    world.google.require_auth(true);
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    world.wait_for_status("state", "needs_credential");

    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);
    assert!(world.status("last_error").contains("401"), "{}", world.status("last_error"));
    let wait = world.text(
        "SELECT (next_sync_at - now() BETWEEN '44 min' AND '76 min')::text FROM calsync.status WHERE calendar = $1",
        ALICE,
    );
    assert_eq!(wait, "true", "tried again once an hour");

    world.google.require_auth(false);
    world.sync();
    assert_eq!(world.status("state"), "active");
}

#[test]
fn a_calendar_that_is_not_found_is_kept_for_hours_and_then_gone() {
    let mut world = World::synced();
    world.meeting(3, "08:00", "09:00");
    world.sync();

    world.google.delete_calendar(ALICE);
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    world.wait_for_status("state", "backoff");
    assert_eq!(world.busy(), ["+3 08:00 to 09:00"], "it may come back");

    world
        .sql
        .execute("UPDATE calsync.subscription SET failing_since = now() - interval '7 hours'", &[])
        .expect("hours pass");
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    world.wait_for_status("state", "gone");
    assert_eq!(sqlstate(&world.try_busy(ALICE).expect_err("a calendar that is gone is not free")), "SC003");

    world.sql.batch_execute(&format!("SELECT calsync_pause('{ALICE}')")).expect("pause");
    assert_eq!(sqlstate(&world.try_busy(ALICE).expect_err("nor by being paused")), "SC003");
}

#[test]
fn an_outage_followed_by_one_not_found_does_not_make_a_calendar_gone() {
    let mut world = World::synced();
    world.google.add_fault(Fault::error(503, "backendError"));
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    world.wait_for_status("state", "backoff");
    world
        .sql
        .execute("UPDATE calsync.subscription SET failing_since = now() - interval '7 hours'", &[])
        .expect("hours pass");

    world.google.add_fault(Fault::error(404, "notFound"));
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    eventually("it failed twice", || world.status("failures") == "2");

    assert_eq!(world.status("state"), "backoff");
}

#[test]
fn a_rate_limit_backs_off_for_as_long_as_google_says() {
    for (status, reason) in [(403, "rateLimitExceeded"), (403, "quotaExceeded"), (429, "rateLimitExceeded")] {
        let mut world = World::synced();
        world.google.add_fault(Fault::error(status, reason).retry_after("120"));

        world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
        world.wait_for_status("state", "backoff");

        let wait = world.text(
            "SELECT (next_sync_at - now() BETWEEN '110 s' AND '125 s')::text FROM calsync.status WHERE calendar = $1",
            ALICE,
        );
        assert_eq!(wait, "true", "{status} {reason}");
    }
}

#[test]
fn a_rate_limit_slows_every_calendar_of_the_credential() {
    let mut world = World::new();
    world.google.add_calendar(&NewCalendar::new("bob@example.com")).expect("a calendar");
    world
        .sql
        .batch_execute(
            "SELECT calsync_add_credential('team', 'google', '{}'); \
         SELECT calsync_subscribe('alice@example.com', credential => 'team'); \
         SELECT calsync_subscribe('bob@example.com', credential => 'team');",
        )
        .expect("two calendars of one credential");
    world.wait_for_sync(ALICE);
    world.wait_for_sync("bob@example.com");
    world.google.clear_log();

    world.google.add_fault(Fault::error(429, "rateLimitExceeded").retry_after("300").on_calendar(ALICE));
    world.sql.execute("SELECT calsync_sync($1)", &[&ALICE]).expect("sync");
    world.wait_for_status("state", "backoff");
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    std::thread::sleep(Duration::from_millis(300));

    assert_eq!(world.lists().len(), 1, "nobody asks before the credential may");
}

#[test]
fn a_broken_answer_is_never_a_deletion() {
    let broken = [
        Action::CutBefore,
        Action::CutAfter { bytes: 300 },
        Action::Truncate { bytes: 300 },
        Action::Body {
            status: 200,
            content_type: "text/html".into(),
            body: "<html>proxy</html>".into(),
            headers: vec![],
        },
        Action::Body {
            status: 200,
            content_type: "application/json".into(),
            body: "{\"nextSyncToken\":\"x\"}".into(),
            headers: vec![],
        },
        Action::Error { status: 500, reason: "backendError".into(), message: None, retry_after: None },
    ];
    let mut world = World::synced();
    world.meeting(3, "08:00", "09:00");
    world.sync();
    for action in broken {
        let failures: i64 = world.count("SELECT failures::bigint FROM calsync.subscription");
        world.google.add_fault(Fault::new(action.clone()));
        world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
        eventually("the failure is counted", || {
            world.count("SELECT failures::bigint FROM calsync.subscription") > failures
        });
        assert_eq!(world.busy(), ["+3 08:00 to 09:00"], "{action:?}");
    }
    world.sync();
    assert_eq!(world.status("state"), "active");
}

#[test]
fn an_answer_larger_than_allowed_is_refused() {
    let mut world = World::with("calsync.max_response_size = '64kB'");
    let long = json!({
        "summary": "x".repeat(200_000), "start": {"dateTime": world.at(3, "08:00")}, "end": {"dateTime": world.at(3, "09:00")},
    });
    world.google.insert_event(ALICE, &long).expect("inserted");

    world.subscribe(ALICE);
    world.wait_for_status("state", "backoff");

    assert!(world.status("last_error").contains("calsync.max_response_size (64 kB)"), "{}", world.status("last_error"));
}

#[test]
fn an_outage_passes() {
    let mut world = World::synced();
    world.meeting(3, "08:00", "09:00");
    world.sync();

    world.google.stop();
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    world.wait_for_status("state", "backoff");
    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);

    world.meeting(5, "08:00", "09:00");
    world.google.start_again().expect("Google comes back");
    eventually("the worker finds it back by itself", || world.status("state") == "active");
    assert_eq!(world.busy(), ["+3 08:00 to 09:00", "+5 08:00 to 09:00"]);
}

#[test]
fn a_provider_that_never_answers_holds_up_only_its_own_calendar() {
    let mut world = World::new();
    world.google.add_calendar(&NewCalendar::new("slow@example.com")).expect("a calendar");
    world.google.add_fault(Fault::new(Action::Hang { bytes: 0 }).on_calendar("slow@example.com").always());
    world.meeting(3, "08:00", "09:00");

    world.subscribe("slow@example.com");
    world.subscribe(ALICE);

    eventually("alice is synced", || world.status("state") == "active");
    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);
    // Its short transactions come and go; one held for the request would stay as long as the request does.
    eventually("no transaction waits for the silent provider", || {
        world.count(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker' AND xact_start IS NOT NULL",
        ) == 0
    });
}

#[test]
fn a_change_wished_for_while_a_round_is_under_way_is_not_lost() {
    let mut world = World::synced();
    world.google.add_fault(Fault::latency(Duration::from_millis(700)));
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    eventually("the round is under way", || {
        world.count("SELECT count(*) FROM calsync.subscription WHERE leased_until IS NOT NULL") == 1
    });
    std::thread::sleep(Duration::from_millis(200));

    world.meeting(3, "08:00", "09:00");
    world.sync();

    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);
}

#[test]
fn a_paused_calendar_is_left_alone_until_it_is_resumed() {
    let mut world = World::synced();
    world.sql.execute("SELECT calsync_pause($1)", &[&ALICE]).expect("pause");
    world.google.clear_log();
    world.meeting(3, "08:00", "09:00");

    assert_eq!(world.sql.query_one("SELECT calsync_sync()", &[]).expect("sync").get::<_, i32>(0), 0);
    std::thread::sleep(Duration::from_millis(300));
    assert!(world.lists().is_empty());

    world.sql.execute("SELECT calsync_resume($1)", &[&ALICE]).expect("resume");
    eventually("it is synced again", || world.busy() == ["+3 08:00 to 09:00"]);
}

#[test]
fn a_round_overtaken_by_a_pause_leaves_no_trace() {
    let mut world = World::synced();
    world.meeting(3, "08:00", "09:00");
    world.google.add_fault(Fault::latency(Duration::from_millis(500)));
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    eventually("the round is under way", || !world.lists().is_empty() && world.deltas() == 1);

    world.sql.execute("SELECT calsync_pause($1)", &[&ALICE]).expect("pause");
    std::thread::sleep(Duration::from_millis(800));

    assert!(world.busy().is_empty());
    assert_eq!(world.status("state"), "paused");
}

#[test]
fn an_event_that_cannot_be_understood_is_flagged_and_blocks_its_time() {
    let mut world = World::synced();
    let broken = json!({
        "id": "broken1", "kind": "calendar#event", "status": "confirmed", "summary": "Broken",
        "start": {"dateTime": world.at(3, "08:00")}, "end": {"dateTime": world.at(3, "09:00")},
        "recurrence": ["RRULE:FREQ=SOMETIMES"],
    });
    world.google.put_raw_event(ALICE, &broken).expect("raw");
    world.meeting(5, "08:00", "09:00");

    world.sync();

    assert_eq!(world.busy(), ["+3 08:00 to 09:00", "+5 08:00 to 09:00"]);
    assert_eq!(world.status("flagged"), "1");
    let problem = world.text("SELECT problem FROM calsync.event WHERE event_id = $1", "broken1");
    assert!(problem.contains("recurrence"), "{problem}");
}

#[test]
fn one_broken_event_of_each_kind_spoils_no_other() {
    let mut world = World::synced();
    let (from, to) = (world.at(3, "08:00"), world.at(3, "09:00"));
    let broken = [
        json!({"id": "nozone", "start": {"dateTime": from, "timeZone": "Mars/Olympus"}, "end": {"dateTime": to, "timeZone": "Mars/Olympus"}}),
        json!({"id": "backwards", "start": {"dateTime": to}, "end": {"dateTime": from}}),
        json!({"id": "notimes", "start": {"dateTime": "soon"}, "end": {"dateTime": "later"}}),
        json!({"id": "nostart"}),
        json!({"id": "badrule", "start": {"dateTime": from}, "end": {"dateTime": to}, "recurrence": ["RRULE:FREQ="]}),
        json!({"id": "types", "start": 7, "end": [], "summary": {}}),
    ];
    for event in &broken {
        world.google.put_raw_event(ALICE, event).expect("raw");
    }
    world.meeting(5, "08:00", "09:00");

    world.sync();

    assert_eq!(world.status("state"), "active");
    assert_eq!(world.status("flagged"), broken.len().to_string());
    assert_eq!(world.busy(), ["+3 08:00 to 09:00", "+5 08:00 to 09:00"], "those whose times can be read block them");
    assert_eq!(world.count("SELECT count(*) FROM calsync.event WHERE problem IS NOT NULL AND raw IS NULL"), 0);
}

#[test]
fn ten_megabytes_of_nesting_are_a_failure_like_any_other() {
    let mut world = World::synced();
    world.meeting(3, "08:00", "09:00");
    world.sync();
    let nested = format!("{{\"items\":{}", "[".repeat(10_000_000));
    world.google.add_fault(Fault::new(Action::Body {
        status: 200,
        content_type: "application/json".into(),
        body: nested,
        headers: vec![],
    }));

    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    eventually("the failure is counted", || world.status("failures") == "1");

    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);
    world.sync();
    assert_eq!(world.status("state"), "active");
}

#[test]
fn polling_needs_no_one_to_ask() {
    let mut world = World::with("calsync.poll_interval = 1");
    world.subscribe(ALICE);
    world.wait_for_sync(ALICE);

    world.meeting(3, "08:00", "09:00");

    eventually("the poll brings it", || world.busy() == ["+3 08:00 to 09:00"]);
}

#[test]
fn a_series_its_exceptions_and_its_end_are_followed() {
    let mut world = World::synced();
    let series = world.daily(2, "08:00", "08:15", 4);
    world.sync();
    assert_eq!(world.busy(), ["+2 08:00 to 08:15", "+3 08:00 to 08:15", "+4 08:00 to 08:15", "+5 08:00 to 08:15"]);

    let occurrence = |day: i64| format!("{series}_{}", world.at(day, "08:00").replace(['-', ':'], ""));
    let (moved, deleted) = (occurrence(3), occurrence(4));
    let later = json!({"start": {"dateTime": world.at(3, "12:00")}, "end": {"dateTime": world.at(3, "12:15")}});
    world.google.patch_event(ALICE, &moved, &later).expect("moved");
    world.google.delete_event(ALICE, &deleted).expect("deleted");
    world.sync();
    assert_eq!(world.busy(), ["+2 08:00 to 08:15", "+3 12:00 to 12:15", "+5 08:00 to 08:15"]);

    let split = json!({"start": {"dateTime": world.at(5, "09:00"), "timeZone": "UTC"}, "end": {"dateTime": world.at(5, "09:15"), "timeZone": "UTC"}});
    world.google.split_series(ALICE, &series, &world.at(5, "08:00"), &split).expect("this and following");
    world.sync();
    let busy = world.busy();
    assert_eq!(&busy[..3], ["+2 08:00 to 08:15", "+3 12:00 to 12:15", "+5 09:00 to 09:15"]);

    world.google.delete_event(ALICE, &series).expect("the series is deleted");
    world.sync();
    assert_eq!(world.busy()[0], "+5 09:00 to 09:15");
}

#[test]
fn a_call_in_the_foreground_does_the_workers_work() {
    let mut world = World::with("calsync.databases = 'nowhere'");
    world.meeting(3, "08:00", "09:00");
    world.subscribe(ALICE);

    world.sql.batch_execute("CALL calsync_run()").expect("calsync_run");

    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);
    let refused = world.sql.batch_execute("BEGIN; CALL calsync_run();").expect_err("not in a transaction block");
    assert_eq!(sqlstate(&refused), "2D000");
}
