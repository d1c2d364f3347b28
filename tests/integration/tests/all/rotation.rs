//! Refresh tokens that the provider itself replaces: each is worth nothing once its successor was given out, so that
//! must not get lost, whoever holds the credential's row just then; and nobody waits for it.

use std::time::Duration;

use calsync_integration::{ALICE, World, eventually, oauth};
use fake_google::Fault;
use postgres::Client;

const SEALED: &str = "SELECT encode(secret, 'hex') FROM calsync.credential WHERE name = $1";

/// Alice's calendar by an OAuth client, synced; each refresh replaces the refresh token.
fn rotating() -> World {
    let mut world = World::new();
    world.google.require_auth(true);
    world.google.rotate_refresh_tokens(true);
    world.add_credential("team", &oauth("1//first"));
    let before = world.text(SEALED, "team");
    world.sql.execute("SELECT calsync_subscribe($1, credential => 'team')", &[&ALICE]).expect("subscribed");
    world.wait_for_sync(ALICE);
    eventually("the first successor is stored", || world.text(SEALED, "team") != before);
    world
}

/// Another refresh token is given out, while somebody does `what` in a transaction that stays open. With what was stored
/// when that began.
fn given_out_during(world: &mut World, what: &str) -> (Client, String) {
    let before = world.text(SEALED, "team");
    let mut open = world.cluster.connect("postgres");
    open.batch_execute("BEGIN").expect("a transaction");
    open.batch_execute(what).expect("it waits for nobody");
    let asked = world.token_requests().len();
    world.google.expire_access_tokens();
    world.sql.execute("SELECT calsync_sync($1)", &[&ALICE]).expect("sync");
    eventually("a token was asked for", || world.token_requests().len() == asked + 1);
    eventually("the calendar goes on", || {
        world.count("SELECT count(*) FROM calsync.subscription WHERE leased_until IS NULL AND state = 'active'") >= 1
    });
    (open, before)
}

/// What is stored opens the door: a worker that knows nothing else gets in.
fn a_new_worker_gets_in(world: &mut World) {
    let worker =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker'";
    assert_eq!(world.count(worker), 1);
    world.meeting(3, "08:00", "09:00");
    world.sql.execute("SELECT calsync_sync($1)", &[&ALICE]).expect("sync");
    eventually("it syncs", || world.busy() == ["+3 08:00 to 09:00"]);
    assert_eq!(world.count("SELECT count(*) FROM calsync.sync_run WHERE outcome = 'failed'"), 0);
}

#[test]
fn a_refresh_token_that_the_provider_replaces_is_used_after_a_restart() {
    let mut world = World::new();
    world.google.require_auth(true);
    world.google.rotate_refresh_tokens(true);
    world.add_credential("team", &oauth("1//first"));
    let before = world.text(SEALED, "team");
    world.sql.execute("SELECT calsync_subscribe($1, credential => 'team')", &[&ALICE]).expect("subscribed");
    world.wait_for_sync(ALICE);
    eventually("it is stored", || world.text(SEALED, "team") != before);
    world.google.clear_log();

    world.cluster.stop("fast");
    world.cluster.start_again();
    world.sql = world.cluster.connect("postgres");
    world.sync();

    assert_eq!(world.status("state"), "active");
    assert_ne!(world.token_requests()[0]["refresh_token"], "1//first", "that one is worth nothing any more");
}

#[test]
fn a_refresh_token_that_the_provider_replaces_is_stored_once_its_row_is_free() {
    let mut world = World::new();
    world.google.require_auth(true);
    world.google.rotate_refresh_tokens(true);
    world.add_credential("team", &oauth("1//first"));
    let before = world.text(SEALED, "team");
    let mut open = world.cluster.connect("postgres");
    open.batch_execute("BEGIN; SELECT FROM calsync.credential FOR UPDATE").expect("locked");
    // Subscribing would wait for the row, too.
    world
        .sql
        .batch_execute(
            "SELECT calsync_subscribe('alice@example.com'); \
             UPDATE calsync.subscription SET credential = 'team', next_sync_at = now()",
        )
        .expect("subscribed");
    eventually("the token is there", || world.status("state") == "active");

    world.google.expire_access_tokens();
    world.sync();
    assert_eq!(world.status("state"), "active", "the new one is used before it is stored");
    open.batch_execute("COMMIT").expect("free");

    eventually("it is stored", || world.text(SEALED, "team") != before);
}

#[test]
fn a_refresh_token_is_stored_while_somebody_subscribes_with_its_credential() {
    let mut world = rotating();
    let subscribe = "SELECT calsync_subscribe('again', credential => 'team', remote_id => 'alice@example.com')";

    let (mut open, before) = given_out_during(&mut world, subscribe);

    eventually("it is stored meanwhile", || world.text(SEALED, "team") != before);
    open.batch_execute("COMMIT").expect("nobody stood in the way");
    a_new_worker_gets_in(&mut world);
}

#[test]
fn a_refresh_token_outlives_a_replacement_that_is_taken_back() {
    let mut world = rotating();
    let replace = "SELECT calsync_add_credential('team', 'google', '{\"client_id\": \"app.example\", \
        \"client_secret\": \"client-secret\", \"refresh_token\": \"1//never\"}')";

    let (mut open, before) = given_out_during(&mut world, replace);
    assert_eq!(world.text(SEALED, "team"), before, "it waits");
    open.batch_execute("ROLLBACK").expect("taken back");

    eventually("it is stored", || world.text(SEALED, "team") != before);
    a_new_worker_gets_in(&mut world);
}

#[test]
fn a_refresh_token_of_a_credential_that_was_replaced_meanwhile_takes_no_ones_place() {
    let mut world = rotating();
    let replace = "SELECT calsync_add_credential('team', 'google', '{\"client_id\": \"app.example\", \
        \"client_secret\": \"client-secret\", \"refresh_token\": \"1//second\"}')";

    let (mut open, _) = given_out_during(&mut world, replace);
    world.google.clear_log();
    open.batch_execute("COMMIT").expect("replaced");
    world.sql.execute("SELECT calsync_sync($1)", &[&ALICE]).expect("sync");

    eventually("the new one is shown", || !world.token_requests().is_empty());
    assert_eq!(world.token_requests()[0]["refresh_token"], "1//second");
    world.wait_until_idle();
    a_new_worker_gets_in(&mut world);
}

#[test]
fn whoever_holds_a_credential_that_a_refresh_token_is_to_be_stored_in_holds_up_no_other() {
    let mut world = rotating();
    world.add_credential("other", &oauth("1//other"));
    let sealed_other = world.text(SEALED, "other");
    let hold = "SELECT FROM calsync.credential WHERE name = 'team' FOR UPDATE";

    let (mut open, before) = given_out_during(&mut world, hold);
    world.others(&["c@x"], Some("other"));
    world.wait_for_sync("c@x");

    eventually("another's token is stored", || world.text(SEALED, "other") != sealed_other);
    assert_eq!(world.text(SEALED, "team"), before);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    assert_eq!(world.count(waits), 0, "nobody waits for anybody");
    open.batch_execute("COMMIT").expect("remembered");
    eventually("it is stored", || world.text(SEALED, "team") != before);
    a_new_worker_gets_in(&mut world);
}

#[test]
fn the_answer_that_brings_a_refresh_token_may_come_while_its_credential_is_held() {
    let mut world = rotating();
    let before = world.text(SEALED, "team");
    world.google.expire_access_tokens();
    world.google.add_fault(Fault::latency(Duration::from_millis(700)).on_path("/token").times(1));
    let asked = world.token_requests().len();
    world.sql.execute("SELECT calsync_sync($1)", &[&ALICE]).expect("sync");
    eventually("a token is awaited", || world.token_requests().len() == asked + 1);

    let mut open = world.cluster.connect("postgres");
    open.batch_execute("BEGIN; SELECT FROM calsync.credential FOR UPDATE").expect("nobody holds it");
    world.wait_until_idle();
    assert_eq!(world.text(SEALED, "team"), before);
    open.batch_execute("COMMIT").expect("remembered");

    eventually("it is stored", || world.text(SEALED, "team") != before);
    a_new_worker_gets_in(&mut world);
}

/// Each refresh token is worth nothing once its successor was given out: who shows it then is refused, rightly.
#[test]
fn a_process_that_showed_the_token_of_yesterday_stops_nobody_for_longer_than_the_token_of_today_takes() {
    let mut world = World::new();
    world.google.require_auth(true);
    world.google.rotate_refresh_tokens(true);
    world.add_credential("team", &oauth("1//first"));
    world.google.add_fault(Fault::latency(Duration::from_secs(10)).on_path("/token").times(1));
    world.sql.execute("SELECT calsync_subscribe($1, credential => 'team')", &[&ALICE]).expect("subscribed");
    eventually("a token is asked for", || world.token_requests().len() == 1);
    world.others(&["b@x"], Some("team"));

    world.sql.batch_execute("CALL calsync_run()").expect("another process asks, too");
    let state = "SELECT state::text FROM calsync.status WHERE calendar = $1";
    assert_eq!(world.text(state, "b@x"), "needs_credential");

    for calendar in [ALICE, "b@x"] {
        eventually("what was granted meanwhile brings it back", || world.text(state, calendar) == "active");
    }
    assert_eq!(world.count("SELECT count(*) FROM calsync.credential WHERE refused_at IS NOT NULL"), 0);
}
