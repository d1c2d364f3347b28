//! Many calendars at once: whom a failure concerns, who waits for whom, and how often anybody is asked.

use std::time::Duration;

use calsync_integration::{ALICE, World, eventually};
use fake_google::{Action, Fault};
use serde_json::json;

const TEAM: [&str; 5] = ["a@x", "b@x", "c@x", "d@x", "e@x"];

/// Five calendars with the credential `team`, synced.
fn team(configuration: &str) -> World {
    let mut world = World::with(configuration);
    world.sql.batch_execute("SELECT calsync_add_credential('team', 'google', '{}')").expect("a credential");
    world.others(&TEAM, Some("team"));
    in_state(&mut world, "active", 5);
    world.wait_until_idle();
    world.google.clear_log();
    world
}

fn in_state(world: &mut World, state: &str, wanted: i64) {
    let sql = format!("SELECT count(*) FROM calsync.subscription WHERE state = '{state}'");
    eventually(&format!("{wanted} are {state}"), || world.count(&sql) == wanted);
}

#[test]
fn a_refused_credential_marks_all_its_calendars_once_and_stops_calling() {
    let mut world = team("");
    world.google.add_fault(Fault::error(401, "authError").always());

    world.sql.execute("SELECT calsync_sync('a@x')", &[]).expect("sync");
    in_state(&mut world, "needs_credential", 5);

    let explained = "SELECT count(*) FROM calsync.status WHERE last_error LIKE '%401%' AND next_sync_at > now()";
    assert_eq!(world.count(explained), 5);
    assert_eq!(world.lists().len(), 1, "one calendar found out for all");
}

#[test]
fn a_person_who_asks_for_calendars_of_a_refused_credential_gets_one_try() {
    let mut world = team("");
    let refusal = world.google.add_fault(Fault::error(401, "authError").always());
    world.sql.execute("SELECT calsync_sync('a@x')", &[]).expect("sync");
    in_state(&mut world, "needs_credential", 5);
    assert_eq!(world.lists().len(), 1);
    let waits = "SELECT count(*) FROM calsync.credential WHERE retry_at > now() + interval '30 minutes'";

    for (wish, lists) in [("SELECT calsync_sync()", 2), ("SELECT calsync_sync('c@x')", 3)] {
        world.sql.batch_execute(wish).expect("sync");
        eventually("one has tried, at once", || world.lists().len() == lists);
        eventually("the next try is in an hour", || world.count(waits) == 1);
        assert_eq!(world.lists().len(), lists, "and the four others have not");
    }
    let last = world.google.log().last().expect("a request").path.clone();
    assert!(last.contains("c@x") || last.contains("c%40x"), "the one that was named: {last}");

    world.google.remove_fault(refusal);
    world.sql.execute("SELECT calsync_sync('b@x')", &[]).expect("sync");
    in_state(&mut world, "active", 5);
}

#[test]
fn a_refused_credential_is_tried_by_one_calendar_and_brings_all_back() {
    let mut world = team("");
    let refusal = world.google.add_fault(Fault::error(401, "authError").always());
    world.sql.execute("SELECT calsync_sync('a@x')", &[]).expect("sync");
    in_state(&mut world, "needs_credential", 5);
    let an_hour_passes = "UPDATE calsync.credential SET retry_at = now(); SELECT calsync_sync()";

    world.sql.batch_execute(an_hour_passes).expect("later");
    eventually("one has tried", || world.lists().len() == 2);
    let again = "SELECT count(*) FROM calsync.credential WHERE retry_at > now() + interval '30 minutes'";
    eventually("the next try is in an hour", || world.count(again) == 1);
    assert_eq!(world.lists().len(), 2, "and the four others have not");

    world.google.remove_fault(refusal);
    world.sql.batch_execute(an_hour_passes).expect("later");
    in_state(&mut world, "active", 5);
    assert_eq!(world.count("SELECT count(*) FROM calsync.credential WHERE refused_at IS NOT NULL"), 0);
}

#[test]
fn replacing_a_refused_credential_brings_its_calendars_back() {
    let mut world = team("");
    let refusal = world.google.add_fault(Fault::error(401, "authError").always());
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    in_state(&mut world, "needs_credential", 5);
    world.google.remove_fault(refusal);

    world
        .sql
        .batch_execute("SELECT calsync_add_credential('team', 'google', '{}'); SELECT calsync_sync()")
        .expect("new");

    in_state(&mut world, "active", 5);
}

#[test]
fn a_calendar_that_may_not_be_read_leaves_its_credential_alone() {
    let mut world = team("");
    world.google.add_fault(Fault::error(403, "forbidden").on_calendar("a@x").always());

    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    in_state(&mut world, "needs_credential", 1);
    world.meeting_of("b@x", 3, "08:00", "09:00");
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");

    eventually("the others go on", || world.busy_of("b@x") == ["+3 08:00 to 09:00"]);
}

#[test]
fn a_forgotten_transaction_on_one_calendar_holds_up_no_other() {
    let mut world = World::synced();
    world.others(&["b@x"], None);
    world.wait_for_sync("b@x");
    world.meeting(3, "08:00", "09:00");
    world.google.add_fault(Fault::latency(Duration::from_millis(600)).on_calendar(ALICE));
    world.google.clear_log();
    world.sql.execute("SELECT calsync_sync($1)", &[&ALICE]).expect("sync");
    eventually("the round is under way", || world.lists().len() == 1);

    let mut forgotten = world.cluster.connect("postgres");
    forgotten.batch_execute(&format!("BEGIN; SELECT calsync_pause('{ALICE}')")).expect("paused, not committed");
    world.meeting_of("b@x", 3, "10:00", "11:00");
    std::thread::sleep(Duration::from_millis(900));
    world.sql.execute("SELECT calsync_sync('b@x')", &[]).expect("sync");
    eventually("the other calendar is synced", || world.busy_of("b@x") == ["+3 10:00 to 11:00"]);
    assert!(world.busy().is_empty());

    let asked = world.lists().len();
    forgotten.batch_execute("ROLLBACK").expect("remembered");
    eventually("the answer that waited is applied", || world.busy() == ["+3 08:00 to 09:00"]);
    assert_eq!(world.lists().len(), asked, "without asking again");
}

#[test]
fn what_is_due_after_a_start_is_asked_for_oldest_first_and_few_at_a_time() {
    let mut world = World::with("calsync.enabled = off");
    let names: Vec<String> = (10..40).map(|n| format!("{n}@x")).collect();
    world.others(&names.iter().map(String::as_str).collect::<Vec<_>>(), None);
    let youngest_first = "UPDATE calsync.subscription SET next_sync_at = now() - subscription_id * interval '1 minute'";
    world.sql.batch_execute(youngest_first).expect("due");
    let silence = world.google.add_fault(Fault::new(Action::Hang { bytes: 0 }).always());

    world.cluster.reconfigure("calsync.enabled = on\ncalsync.request_timeout = '1s'");
    eventually("some are asked for", || world.lists().len() >= 4);
    std::thread::sleep(Duration::from_millis(300));

    let asked: Vec<String> = world.google.log().iter().map(|entry| entry.path.clone()).collect();
    assert_eq!(asked.len(), 4, "of thirty, though sixteen may fly: nobody has answered yet");
    for name in &names[26..] {
        let calendar = name.replace('@', "%40");
        assert!(asked.iter().any(|path| path.contains(&calendar) || path.contains(name)), "{name} in {asked:?}");
    }
    world.google.remove_fault(silence);
    in_state(&mut world, "active", 30);
}

#[test]
fn the_projects_budget_is_shared_by_the_workers_of_all_databases() {
    let mut world = World::with("calsync.project_requests_per_minute = 10");
    world.sql.batch_execute("CREATE DATABASE other").expect("a database");
    let mut other = world.cluster.connect("other");
    other.batch_execute("CREATE EXTENSION pg_calsync").expect("the extension");
    world.others(&["a@x", "b@x"], None);
    eventually("the budget is spent", || world.lists().len() == 1);

    other.batch_execute("SELECT calsync_subscribe('a@x'); SELECT calsync_subscribe('b@x')").expect("subscribed");
    let mut foreground = world.cluster.connect("other");
    foreground.batch_execute("SET statement_timeout = '700ms'").expect("set");
    assert!(foreground.batch_execute("CALL calsync_run()").is_err(), "it waits for the budget, too");

    assert_eq!(world.lists().len(), 1);
}

#[test]
fn one_credentials_flood_does_not_hold_up_the_others() {
    let mut world = World::with("calsync.requests_per_minute = 10\ncalsync.max_concurrency = 2");
    world.sql.batch_execute("SELECT calsync_add_credential('team', 'google', '{}')").expect("a credential");
    let flood: Vec<String> = (0..20).map(|n| format!("{n}@x")).collect();
    world.others(&flood.iter().map(String::as_str).collect::<Vec<_>>(), None);
    eventually("its budget is spent", || !world.lists().is_empty());

    world.others(&["team@x"], Some("team"));

    let state = "SELECT state::text FROM calsync.subscription WHERE calendar = $1";
    eventually("the other credential's calendar is synced", || world.text(state, "team@x") == "active");
    assert!(world.lists().len() < 10);
}

#[test]
fn a_calendar_that_somebody_waits_for_goes_first() {
    let mut world = team("calsync.max_concurrency = 1");
    let silence = world.google.add_fault(Fault::latency(Duration::from_millis(300)).always());
    world.sql.execute("SELECT calsync_sync()", &[]).expect("all are due");
    eventually("one is under way", || world.lists().len() == 1);

    world.sql.execute("SELECT calsync_sync('e@x')", &[]).expect("and one by name");
    eventually("a second is asked for", || world.lists().len() == 2);

    let second = world.google.log()[1].path.clone();
    assert!(second.contains("e@x") || second.contains("e%40x"), "{second}");
    world.google.remove_fault(silence);
}

/// Alice's, in minutes.
fn poll_interval(world: &mut World) -> f64 {
    let sql = "SELECT (extract(epoch FROM poll_interval) / 60)::float8 FROM calsync.subscription";
    world.sql.query_one(sql, &[]).expect("one calendar").get(0)
}

#[test]
fn a_quiet_calendar_is_polled_more_rarely_and_one_with_news_more_often() {
    let mut world = World::synced();
    assert_eq!(poll_interval(&mut world), 5.0, "at first as calsync.poll_interval says");

    let mut quiet = || {
        world.sync();
        poll_interval(&mut world)
    };
    assert_eq!([quiet(), quiet(), quiet(), quiet(), quiet()], [7.5, 11.25, 16.875, 20.0, 20.0]);

    world.meeting(3, "08:00", "09:00");
    world.sync();
    assert_eq!(poll_interval(&mut world), 10.0);
    let due = "SELECT count(*) FROM calsync.subscription \
        WHERE next_sync_at BETWEEN now() + interval '7 minutes' AND now() + interval '13 minutes'";
    assert_eq!(world.count(due), 1, "and that is when it is due");
}

#[test]
fn a_calendar_with_a_live_channel_is_polled_at_push_poll_interval() {
    let mut world = World::synced();
    let due = "SELECT (extract(epoch FROM next_sync_at - now()) / 3600)::bigint FROM calsync.subscription";
    for (channel, hours) in [
        ("state = 'open'", 4..=8),
        ("expires_at = now() - interval '1 second'", 0..=0),
        ("expires_at = now() + interval '5 days', confirmed_at = NULL", 0..=0),
        ("confirmed_at = now(), state = 'stopping'", 0..=0),
    ] {
        world
            .sql
            .batch_execute(&format!(
                "INSERT INTO calsync.channel (channel_id, provider, owner, remote_id, state, address, token_hash, \
                     confirmed_at, expires_at) \
                 SELECT 'a channel', 'google', owner, remote_id, 'open', 'https://a.example/', sha256('a'), now(), \
                     now() + interval '5 days' \
                 FROM calsync.subscription ON CONFLICT DO NOTHING; \
                 UPDATE calsync.channel SET {channel}"
            ))
            .expect("a channel");

        world.sync();

        assert!(hours.contains(&world.count(due)), "{channel}: {}", world.count(due));
    }
}

#[test]
fn a_poll_without_news_that_was_overtaken_leaves_no_trace() {
    let mut world = World::synced();
    let token = world.text("SELECT sync_token FROM calsync.subscription WHERE calendar = $1", ALICE);
    world.google.add_fault(Fault::latency(Duration::from_millis(500)));
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    eventually("the poll is under way", || world.deltas() == 1);

    let delta = json!({
        "calendar": ALICE, "expectedSyncToken": token, "nextSyncToken": "of the application", "items": [],
    });
    world.sql.execute("SELECT calsync_apply_delta($1)", &[&delta]).expect("applied");
    std::thread::sleep(Duration::from_millis(900));

    let stands_at = world.text("SELECT sync_token FROM calsync.subscription WHERE calendar = $1", ALICE);
    assert_eq!(stands_at, "of the application");
}

#[test]
fn all_calendars_can_be_listed_anew_at_once() {
    let mut world = team("");
    world.sql.batch_execute("CREATE ROLE stranger LOGIN; GRANT calsync_operator TO stranger").expect("a role");
    let mut stranger = world.cluster.connect_as("stranger", "postgres").expect("connected");
    stranger.execute("SELECT calsync_resync()", &[]).expect("of the calendars that it may see: none");
    assert_eq!(world.count("SELECT count(*) FROM calsync.subscription WHERE sync_token IS NULL"), 0);

    world.sql.execute("SELECT calsync_resync()", &[]).expect("resync");
    eventually("each is listed", || world.lists().len() == 5);

    assert_eq!(world.deltas(), 0);
    in_state(&mut world, "active", 5);
}
