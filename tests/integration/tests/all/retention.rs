//! What is past goes; what still matters stays; and the cache never claims to know what it has let go.

use calsync_integration::items::{at, cancelled, days_off, meeting, spanning};
use calsync_integration::{ALICE, Fed, World, check_derived, eventually, sqlstate};
use serde_json::json;

/// What `calsync_cleanup()` removed, where it was anything.
fn clean(sql: &mut postgres::Client) -> Vec<String> {
    let rows = sql.query("SELECT what || ': ' || removed FROM calsync_cleanup() WHERE removed > 0 ORDER BY 1", &[]);
    rows.expect("calsync_cleanup").iter().map(|row| row.get(0)).collect()
}

fn ids(fed: &mut Fed) -> Vec<String> {
    fed.events("kind").into_iter().map(|(id, _)| id).collect()
}

#[test]
fn events_past_retention_go_and_nothing_else_changes() {
    let mut fed = Fed::new();
    fed.list(&[
        meeting("old", -31, "08:00", "09:00"),
        days_off("old_days", -40, -34),
        days_off("nearly_old_days", -33, -30),
        meeting("over", -60, "10:00", "10:30").daily(5),
        meeting("recent", -29, "08:00", "09:00"),
        spanning("long", &at(-90, "08:00"), &at(-20, "08:00")),
        meeting("ahead", 3, "08:00", "09:00"),
        meeting("endless", -900, "12:00", "12:30").repeating("FREQ=DAILY"),
        meeting("seldom", -900, "14:00", "14:30").repeating("FREQ=YEARLY;INTERVAL=9;COUNT=2"),
    ]);
    let busy = fed.busy();

    assert_eq!(clean(&mut fed.sql), ["past events: 3"]);

    assert_eq!(ids(&mut fed), ["ahead", "endless", "long", "nearly_old_days", "recent", "seldom"]);
    assert_eq!(fed.busy(), busy);
    check_derived(&mut fed.sql);
    assert_eq!(clean(&mut fed.sql), Vec::<String>::new());
}

#[test]
fn an_exception_moved_into_the_past_keeps_its_slot_free_while_that_lies_ahead() {
    let mut fed = Fed::new();
    fed.list(&[
        meeting("s", -100, "12:00", "12:30").repeating("FREQ=DAILY"),
        meeting("s_ahead", -60, "08:00", "09:00").instead_of("s", 2, "12:00"),
        meeting("s_past", -60, "10:00", "11:00").instead_of("s", -61, "12:00"),
        meeting("s_back", 4, "08:00", "09:00").instead_of("s", -62, "12:00"),
        cancelled("s_gone_ahead")
            .saying(json!({"recurringEventId": "s", "originalStartTime": {"dateTime": at(3, "12:00")}})),
        cancelled("s_gone_past")
            .saying(json!({"recurringEventId": "s", "originalStartTime": {"dateTime": at(-63, "12:00")}})),
    ]);
    let busy = fed.busy();
    assert!(!busy.contains(&"+2 12:00 to 12:30".to_owned()));

    assert_eq!(clean(&mut fed.sql), ["deleted occurrences: 1", "past events: 1"]);

    assert_eq!(ids(&mut fed), ["s", "s_ahead", "s_back", "s_gone_ahead"]);
    assert_eq!(fed.busy(), busy);
    check_derived(&mut fed.sql);
}

#[test]
fn a_long_occurrence_that_was_moved_away_stays_away_while_it_would_reach_into_the_window() {
    let mut fed = Fed::new();
    fed.list(&[
        spanning("s", &at(-400, "00:00"), &at(-390, "00:00")).repeating("FREQ=DAILY;INTERVAL=50;COUNT=20"),
        // It would have lasted from 50 days ago until 40 days ago, the other from 35 days until 25 days ago.
        meeting("s1", -300, "08:00", "09:00").instead_of("s", -50, "00:00"),
    ]);
    fed.change(&[
        spanning("t", &at(-335, "00:00"), &at(-325, "00:00")).repeating("FREQ=DAILY;INTERVAL=50;COUNT=20"),
        meeting("t1", -300, "08:00", "09:00").instead_of("t", -35, "00:00"),
    ]);

    assert_eq!(clean(&mut fed.sql), ["past events: 1"]);

    assert_eq!(ids(&mut fed), ["s", "t", "t1"]);
    check_derived(&mut fed.sql);
}

#[test]
fn a_series_goes_after_its_last_exception() {
    let mut fed = Fed::new();
    fed.list(&[
        meeting("s", -90, "12:00", "12:30").daily(3),
        meeting("s1", 5, "12:00", "12:30").instead_of("s", -90, "12:00"),
        meeting("t", -90, "12:00", "12:30").daily(3),
        meeting("t1", -80, "12:00", "12:30").instead_of("t", -90, "12:00"),
    ]);

    assert_eq!(clean(&mut fed.sql), ["past events: 2"], "t1, then t");

    assert_eq!(ids(&mut fed), ["s", "s1"]);
    check_derived(&mut fed.sql);
}

#[test]
fn a_tombstone_without_a_master_waits_a_day_for_it() {
    let mut fed = Fed::new();
    let early =
        || cancelled("s3").saying(json!({"recurringEventId": "s", "originalStartTime": {"dateTime": at(3, "12:00")}}));
    fed.list(&[early()]);
    let time_passes = "UPDATE calsync.event SET orphaned_at = orphaned_at - interval '25 hours'";

    assert_eq!(clean(&mut fed.sql), Vec::<String>::new(), "it was found today");
    assert_eq!(clean(&mut fed.sql), Vec::<String>::new());
    fed.change(&[meeting("s", 1, "12:00", "12:30").daily(3)]);
    fed.sql.batch_execute(time_passes).expect("time passes");
    assert_eq!(clean(&mut fed.sql), Vec::<String>::new(), "the master has come");
    assert_eq!(fed.busy(), ["+1 12:00 to 12:30", "+2 12:00 to 12:30"]);

    fed.list(&[early()]);
    assert_eq!(clean(&mut fed.sql), Vec::<String>::new(), "the master has gone just now");
    fed.sql.batch_execute(time_passes).expect("time passes");
    assert_eq!(clean(&mut fed.sql), ["deleted occurrences: 1"]);
}

#[test]
fn a_round_that_was_given_up_goes_after_a_day() {
    let mut fed = Fed::new();
    let page = calsync_integration::envelope(
        "room",
        &[meeting("a", 1, "08:00", "09:00")],
        json!({"pageToken": null, "nextPageToken": "p2"}),
    );
    fed.apply(&page);

    assert_eq!(clean(&mut fed.sql), Vec::<String>::new());
    fed.sql
        .batch_execute("UPDATE calsync.staged_round SET started_at = started_at - interval '25 hours'")
        .expect("time");
    assert_eq!(clean(&mut fed.sql), ["rounds given up: 1"]);
    assert_eq!(fed.staged("room"), 0);
}

#[test]
fn history_is_kept_for_a_week() {
    let mut fed = Fed::new();
    fed.list(&[]);
    assert_eq!(clean(&mut fed.sql), Vec::<String>::new());

    fed.sql.batch_execute("UPDATE calsync.sync_run SET finished_at = finished_at - interval '8 days'").expect("time");

    assert_eq!(clean(&mut fed.sql), ["sync runs: 1"]);
}

/// The busy pieces of a day so many days from today, or why they are not told.
fn day(sql: &mut postgres::Client, calendar: &str, day: i64) -> Result<i64, String> {
    let ask =
        format!("SELECT count(*) FROM calsync_busy('[{}, {})', ARRAY[$1])", at(day, "00:00"), at(day + 1, "00:00"));
    let row = sql.query_one(&ask, &[&calendar]);
    row.map(|row| row.get(0)).map_err(|error| sqlstate(&error))
}

#[test]
fn what_was_let_go_is_not_claimed_again_but_listed_anew() {
    let mut world = World::new();
    world.meeting(-60, "08:00", "09:00");
    world.meeting(3, "08:00", "09:00");
    world.subscribe(ALICE);
    world.wait_for_sync(ALICE);
    assert_eq!(clean(&mut world.sql), ["past events: 1"]);
    world.google.clear_log();

    world.cluster.reconfigure("calsync.enabled = off\ncalsync.retention = '90d'");
    eventually("the setting has arrived", || world.text("SELECT current_setting($1)", "calsync.retention") == "90d");
    eventually("the token is dropped", || {
        world.count("SELECT count(*) FROM calsync.subscription WHERE sync_token IS NULL") == 1
    });
    assert_eq!(day(&mut world.sql, ALICE, -60), Err("SC002".to_owned()), "never free out of ignorance");
    assert_eq!(day(&mut world.sql, ALICE, 3), Ok(1));
    check_derived(&mut world.sql);
    world.cluster.reconfigure("calsync.enabled = on\ncalsync.retention = '90d'");

    eventually("it is listed in full", || day(&mut world.sql, ALICE, -60) == Ok(1));
    assert_eq!(world.deltas(), 0);
    world.wait_until_idle();
    check_derived(&mut world.sql);
}

#[test]
fn what_the_application_feeds_covers_no_more_than_it_holds_until_the_application_lists_it() {
    let mut fed = Fed::new();
    let all = [meeting("old", -60, "08:00", "09:00"), meeting("ahead", 3, "08:00", "09:00")];
    fed.list(&all);
    clean(&mut fed.sql);
    let token = fed.token("room");

    // It must slide ahead, and must not slide back.
    fed.cluster.reconfigure("calsync.retention = '90d'\ncalsync.horizon = '380d'");
    eventually("the setting has arrived", || {
        fed.sql.query_one("SELECT current_setting('calsync.retention')", &[]).expect("a setting").get::<_, String>(0)
            == "90d"
    });
    fed.change(&[meeting("new", 4, "08:00", "09:00")]);
    assert_eq!(day(&mut fed.sql, "room", 375), Ok(0));
    assert_eq!(day(&mut fed.sql, "room", -60), Err("SC002".to_owned()));
    assert_ne!(fed.token("room"), None, "deltas go on");
    assert_ne!(fed.token("room"), token);

    fed.list(&all);

    assert_eq!(day(&mut fed.sql, "room", -60), Ok(1));
}

#[test]
fn a_full_sync_that_brings_the_past_back_tells_of_no_change() {
    let mut fed = Fed::new();
    fed.subscribe("hall", json!({"changes": true}));
    let all = [
        meeting("old", -60, "08:00", "09:00"),
        meeting("over", -60, "10:00", "10:30").daily(5),
        meeting("s", -100, "12:00", "12:30").repeating("FREQ=DAILY"),
        meeting("s_past", -60, "10:00", "11:00").instead_of("s", -61, "12:00"),
        cancelled("s_gone")
            .saying(json!({"recurringEventId": "s", "originalStartTime": {"dateTime": at(-63, "12:00")}})),
        meeting("ahead", 3, "08:00", "09:00"),
    ];
    fed.list_of("hall", &all);
    let count = |fed: &mut Fed| -> i64 {
        fed.sql.query_one("SELECT count(*) FROM calsync_changes()", &[]).expect("count").get(0)
    };
    let before = count(&mut fed);
    assert_eq!(clean(&mut fed.sql), ["deleted occurrences: 1", "past events: 3"]);
    assert_eq!(count(&mut fed), before, "letting go is no change");

    assert_eq!(fed.list_of("hall", &all).inserted, 4);
    assert_eq!(count(&mut fed), before);

    fed.list_of("hall", &all[..5]);
    assert_eq!(count(&mut fed), before + 1, "what was swept is told");
}

#[test]
fn a_calendar_that_cannot_be_cleaned_keeps_nobody_waiting() {
    let mut fed = Fed::with("calsync.databases = 'nowhere'");
    fed.list(&[meeting("old", -60, "08:00", "09:00")]);
    for n in 0..30 {
        let stuck = format!("stuck {n}");
        fed.subscribe(&stuck, json!({}));
        fed.list_of(&stuck, &[meeting("over", -60, "08:00", "09:00").daily(2)]);
    }
    fed.sql
        .batch_execute(
            "UPDATE calsync.subscription SET created_at = created_at - interval '25 hours'; \
             UPDATE calsync.subscription SET time_zone = 'Mars/Olympus', created_at = created_at - interval '9 days' \
             WHERE calendar <> 'room'",
        )
        .expect("time passes");

    fed.cluster.reconfigure("calsync.databases = '*'");

    eventually("the worker has cleaned it", || ids(&mut fed).is_empty());
}

#[test]
fn the_worker_cleans_each_calendar_once_a_day() {
    let mut fed = Fed::with("calsync.databases = 'nowhere'");
    fed.list(&[meeting("old", -60, "08:00", "09:00")]);
    let yesterday = "UPDATE calsync.subscription SET created_at = created_at - interval '25 hours', \
                         cleaned_at = cleaned_at - interval '25 hours'";
    fed.sql.batch_execute(yesterday).expect("time passes");

    fed.cluster.reconfigure("calsync.databases = '*'");
    eventually("the worker has cleaned it", || ids(&mut fed).is_empty());
    let cleaned_at = "SELECT cleaned_at > now() - interval '1 hour' FROM calsync.subscription";
    assert!(fed.sql.query_one(cleaned_at, &[]).expect("a time").get::<_, bool>(0));

    fed.cluster.reconfigure("calsync.databases = 'nowhere'");
    fed.list(&[meeting("old", -60, "08:00", "09:00")]);
    fed.sql.batch_execute("CALL calsync_run()").expect("run");
    assert_eq!(ids(&mut fed), ["old"], "not twice a day");
    fed.sql.batch_execute(yesterday).expect("time passes");
    fed.sql.batch_execute("CALL calsync_run()").expect("run");
    assert_eq!(ids(&mut fed), Vec::<String>::new());
}

#[test]
fn a_cleaning_takes_and_counts_the_callers_own_and_nothing_of_others() {
    let mut fed = Fed::with("calsync.databases = 'nowhere'");
    fed.sql.batch_execute("CREATE ROLE app LOGIN; GRANT calsync_operator TO app").expect("a role");
    let mut app = fed.cluster.connect_as("app", "postgres").expect("connected");
    app.batch_execute("SELECT calsync_subscribe('mine', 'none', options => '{\"changes\": true}')")
        .expect("subscribed");
    fed.subscribe("theirs", json!({"changes": true}));
    for calendar in ["mine", "theirs"] {
        fed.list_of(calendar, &[meeting("old", 1, "08:00", "09:00"), meeting("new", 1, "08:00", "09:00")]);
    }
    let past = "UPDATE calsync.event SET starts_at = starts_at - interval '90 days', ends_at = ends_at - interval '90 days' \
            WHERE event_id = 'old'; \
        UPDATE calsync.sync_run SET finished_at = now() - interval '8 days'; \
        UPDATE calsync.change SET changed_at = now() - interval '90 days'; \
        INSERT INTO calsync.channel (channel_id, provider, owner, remote_id, state, address, token_hash, expires_at, \
            ended_at, home) \
        SELECT owner, 'google', owner, 'x', 'ended', 'https://x', sha256('x'), now(), now() - interval '2 days', NULL \
        FROM (SELECT DISTINCT owner FROM calsync.subscription) AS owners";
    fed.sql.batch_execute(past).expect("months pass");
    let all = ["changes: 1", "past events: 1", "push channels: 1", "sync runs: 1"];

    assert_eq!(clean(&mut app), all, "of two owners");
    assert_eq!(clean(&mut app), [""; 0]);
    assert_eq!(clean(&mut fed.sql), all, "who may do everything cleans what is left");
}
