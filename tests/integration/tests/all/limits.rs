//! Budgets, switches and races: what the worker must not do.

use std::time::Duration;

use calsync_integration::{ALICE, World, eventually, sqlstate};
use fake_google::{Action, Fault};
use serde_json::json;

fn last_list_was_full(world: &World) -> bool {
    world.lists().last().is_some_and(|query| !query.contains_key("syncToken"))
}

#[test]
fn a_delta_of_the_application_overtakes_the_workers_round() {
    let mut world = World::synced();
    let token = world.text("SELECT sync_token FROM calsync.subscription WHERE calendar = $1", ALICE);
    world.meeting(5, "08:00", "09:00");
    world.google.add_fault(Fault::latency(Duration::from_millis(800)));
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    eventually("the round is under way", || world.deltas() == 1);

    let delta = json!({
        "calendar": ALICE, "expectedSyncToken": token, "nextSyncToken": "of the application",
        "items": [{"id": "theirs", "start": {"dateTime": world.at(3, "08:00")}, "end": {"dateTime": world.at(3, "09:00")}}],
    });
    world.sql.execute("SELECT calsync_apply_delta($1)", &[&delta]).expect("applied");
    std::thread::sleep(Duration::from_millis(1200));

    let stands_at = world.text("SELECT sync_token FROM calsync.subscription WHERE calendar = $1", ALICE);
    assert_eq!(stands_at, "of the application");
    assert_eq!(world.busy(), ["+3 08:00 to 09:00"], "what the overtaken round brought left no trace");
}

#[test]
fn a_token_that_belongs_to_other_parameters_is_not_used() {
    let mut world = World::synced();
    world.sql.execute("UPDATE calsync.subscription SET token_params = 'singleEvents=true'", &[]).expect("changed");

    world.sync();

    assert!(last_list_was_full(&world));
    world.sync();
    assert!(!last_list_was_full(&world), "the new token belongs to ours");
}

#[test]
fn a_full_sync_comes_round_although_the_token_is_good() {
    let mut world = World::synced();
    world.sync();
    assert!(!last_list_was_full(&world));

    world
        .sql
        .execute("UPDATE calsync.subscription SET full_synced_at = now() - interval '40 days'", &[])
        .expect("time");
    world.sync();

    assert!(last_list_was_full(&world));
}

#[test]
fn a_calendar_that_wants_no_deltas_is_listed_in_full_each_time() {
    let mut world = World::new();
    world
        .sql
        .execute("SELECT calsync_subscribe($1, options => $2)", &[&ALICE, &json!({"incremental": false})])
        .expect("subscribed");
    world.wait_for_sync(ALICE);

    world.sync();

    assert_eq!((world.lists().len(), world.deltas()), (2, 0));
}

#[test]
fn no_plain_http_unless_it_is_allowed() {
    let mut world = World::in_the_clear("calsync.allow_private_network = off");
    world.subscribe(ALICE);
    world.wait_for_status("state", "backoff");

    assert!(world.status("last_error").contains("SC008"), "{}", world.status("last_error"));
    assert!(world.lists().is_empty());
}

#[test]
fn a_spent_budget_holds_up_its_own_credential_only() {
    let mut world = World::with("calsync.requests_per_minute = 2");
    world.sql.batch_execute("SELECT calsync_add_credential('team', 'google', '{}')").expect("a credential");
    world.others(&["a@x", "b@x", "c@x", "d@x"], None);
    eventually("the budget is spent", || world.lists().len() == 1);

    world.others(&["team@x"], Some("team"));

    let state = "SELECT state::text FROM calsync.subscription WHERE calendar = $1";
    eventually("the other credential's calendar is synced", || world.text(state, "team@x") == "active");
    assert_eq!(world.lists().len(), 2);
}

#[test]
fn no_more_requests_are_in_flight_than_allowed() {
    let mut world = World::with("calsync.max_concurrency = 1");
    world.google.add_fault(Fault::new(Action::Hang { bytes: 0 }).always());
    world.others(&["a@x", "b@x", "c@x"], None);
    eventually("one is asked for", || world.lists().len() == 1);

    std::thread::sleep(Duration::from_millis(400));

    assert_eq!(world.lists().len(), 1);
}

#[test]
fn a_calendar_that_is_gone_stays_gone_until_a_sync_succeeds() {
    let mut world = World::synced();
    world.sql.execute("UPDATE calsync.subscription SET gone_at = now(), state = 'gone'", &[]).expect("gone");
    let refused = |world: &mut World| sqlstate(&world.try_busy(ALICE).expect_err("not free"));

    world.google.add_fault(Fault::error(503, "backendError"));
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    world.wait_for_status("state", "backoff");
    assert_eq!(refused(&mut world), "SC003");
    world.sql.execute("SELECT calsync_pause($1)", &[&ALICE]).expect("paused");
    assert_eq!(refused(&mut world), "SC003");

    world.sql.execute("SELECT calsync_resume($1)", &[&ALICE]).expect("resumed");
    eventually("it answers again", || world.try_busy(ALICE).is_ok());
}

#[test]
fn a_cancelled_call_gives_its_calendars_back() {
    let mut world = World::with("calsync.databases = 'nowhere'");
    world.meeting(3, "08:00", "09:00");
    world.subscribe(ALICE);
    let hang = world.google.add_fault(Fault::new(Action::Hang { bytes: 0 }).always());

    world.sql.batch_execute("SET statement_timeout = '500ms'").expect("set");
    let cancelled = world.sql.batch_execute("CALL calsync_run()").expect_err("it is cancelled");
    assert_eq!(sqlstate(&cancelled), "57014");
    world.sql.batch_execute("RESET statement_timeout").expect("reset");

    world.google.remove_fault(hang);
    let mut another = world.cluster.connect("postgres");
    another.batch_execute("CALL calsync_run()").expect("at once, from another session");
    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);
}

#[test]
fn a_call_cancelled_in_the_middle_of_its_writing_gives_its_calendars_back() {
    let mut world = World::with("calsync.databases = 'nowhere'");
    world.meeting(3, "08:00", "09:00");
    world.subscribe(ALICE);
    let mut holder = world.cluster.connect("postgres");
    holder.batch_execute("BEGIN; LOCK TABLE calsync.event IN SHARE MODE").expect("nobody writes events");

    world.sql.batch_execute("SET statement_timeout = '500ms'").expect("set");
    let cancelled = world.sql.batch_execute("CALL calsync_run()").expect_err("it is cancelled");
    assert_eq!(sqlstate(&cancelled), "57014");
    world.sql.batch_execute("RESET statement_timeout").expect("reset");
    assert_eq!(world.count("SELECT count(*) FROM calsync.subscription WHERE leased_until IS NOT NULL"), 0);

    holder.batch_execute("COMMIT").expect("released");
    let mut another = world.cluster.connect("postgres");
    another.batch_execute("CALL calsync_run()").expect("at once, from another session");
    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);
}

#[test]
fn a_locked_calendar_does_not_make_the_worker_spin() {
    let mut world = World::synced();
    world.cluster.reconfigure("calsync.enabled = off");
    let setting = "SELECT current_setting('calsync.enabled') WHERE $1 <> ''";
    eventually("the setting has arrived", || world.text(setting, "-") == "off");
    std::thread::sleep(Duration::from_millis(300));
    world.sql.execute("UPDATE calsync.subscription SET next_sync_at = now()", &[]).expect("due");
    let mut holder = world.cluster.connect("postgres");
    holder.batch_execute("BEGIN; SELECT FROM calsync.subscription FOR UPDATE").expect("the row is locked");
    world.cluster.reconfigure("calsync.enabled = on");
    let transactions = "SELECT pg_stat_get_db_xact_commit(oid) FROM pg_database WHERE datname = 'postgres'";
    std::thread::sleep(Duration::from_millis(1500));
    let before = world.count(transactions);

    std::thread::sleep(Duration::from_secs(3));

    let spent = world.count(transactions) - before;
    assert!(spent < 200, "{spent} transactions in three seconds");
    holder.batch_execute("COMMIT").expect("released");
}
