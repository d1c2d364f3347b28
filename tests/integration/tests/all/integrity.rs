//! What is damaged is named, and nothing else; what can be derived is mended at once, and the rest by a full sync.

use calsync_integration::items::{Item, cancelled, days_off, meeting};
use calsync_integration::{ALICE, Fed, ROOM, World, check_derived, problems, sqlstate};
use serde_json::json;

/// A room with an event of each kind, and a hall beside it that nobody damages.
fn lived_in() -> Fed {
    let mut fed = Fed::new();
    fed.subscribe("hall", json!({}));
    for calendar in [ROOM, "hall"] {
        fed.list_of(calendar, &events());
        fed.change_of(calendar, &[cancelled("a"), meeting("b", 4, "10:00", "11:00")]);
    }
    fed
}

fn events() -> Vec<Item> {
    vec![
        meeting("a", 1, "08:00", "09:00"),
        meeting("b", 2, "08:00", "09:00"),
        meeting("c", 2, "08:30", "09:30").saying(json!({"transparency": "transparent"})),
        days_off("trip", 9, 11),
        meeting("s", 1, "12:00", "12:30").repeating("FREQ=DAILY"),
        meeting("s_moved", 3, "15:00", "15:30").instead_of("s", 3, "12:00"),
        cancelled("s_gone").saying(json!({
            "recurringEventId": "s", "originalStartTime": {"dateTime": calsync_integration::items::at(4, "12:00")}})),
        meeting("dense", 1, "00:00", "00:01").repeating("FREQ=MINUTELY"),
        cancelled("early").saying(json!({
            "recurringEventId": "late", "originalStartTime": {"dateTime": calsync_integration::items::at(4, "12:00")}})),
    ]
}

/// Damages something; `{room}` stands for the room's subscription.
fn damage(fed: &mut Fed, sql: &str) {
    let room = "(SELECT subscription_id FROM calsync.subscription WHERE calendar = 'room')";
    fed.sql.batch_execute(&sql.replace("{room}", room)).expect(sql);
}

/// What `calsync_repair()` says it did.
fn repair(fed: &mut Fed) -> Vec<String> {
    let done = fed.sql.query(
        "SELECT concat_ws(': ', coalesce(calendar, 'nobody''s'), problem, action) FROM calsync_repair() ORDER BY 1",
        &[],
    );
    done.expect("calsync_repair").iter().map(|row| row.get(0)).collect()
}

/// Plants the damage; it is found, mended as said, and nothing else has changed for whoever asks.
fn story(sql: &str, found: &[&str], done: &[&str]) {
    let mut fed = lived_in();
    let before = (fed.busy(), fed.busy_of("hall"));

    damage(&mut fed, sql);

    assert_eq!(problems(&mut fed.sql), found, "{sql}");
    assert_eq!(repair(&mut fed), done, "{sql}");
    assert_eq!(problems(&mut fed.sql), Vec::<String>::new(), "{sql}");
    assert_eq!(repair(&mut fed), Vec::<String>::new(), "nothing is left to do");
    assert_eq!((fed.busy(), fed.busy_of("hall")), before, "{sql}");
    check_derived(&mut fed.sql);
}

#[test]
fn a_calendar_with_an_event_of_each_kind_is_in_order() {
    let mut fed = lived_in();

    assert_eq!(problems(&mut fed.sql), Vec::<String>::new());
    assert_eq!(repair(&mut fed), Vec::<String>::new());
}

#[test]
fn a_window_that_has_slid_is_what_one_expansion_of_it_gives() {
    let mut fed = lived_in();
    // What recurs too often takes all its time in the whole window, though it would not in the strip that is added.
    fed.cluster.reconfigure("calsync.horizon = '380d'");
    calsync_integration::eventually("the window has slid", || {
        let sql = "SELECT count(*) FROM calsync.subscription WHERE upper(covered) > now() + interval '380 days'";
        fed.sql.query_one(sql, &[]).expect("readable").get::<_, i64>(0) == 2
    });

    check_derived(&mut fed.sql);
}

#[test]
fn occurrences_that_differ_from_a_fresh_expansion() {
    let done = ["room: occurrences_differ: occurrences and busy time derived anew"];
    for sql in [
        "DELETE FROM calsync.occurrence WHERE subscription_id = {room} AND event_id = 'b'",
        "UPDATE calsync.occurrence SET ends_at = ends_at + interval '1 hour' WHERE subscription_id = {room} AND event_id = 'b'",
        "UPDATE calsync.occurrence SET busy_status = 'free' WHERE subscription_id = {room} AND event_id = 'b'",
        "INSERT INTO calsync.occurrence SELECT subscription_id, event_id, starts_at + interval '1 day', ends_at + interval '1 day', 'busy' \
         FROM calsync.occurrence WHERE subscription_id = {room} AND event_id = 'b'",
    ] {
        story(sql, &["room occurrences_differ b"], &done);
    }
    story(
        "DELETE FROM calsync.occurrence WHERE subscription_id = {room} AND starts_at > now() + interval '300 days'; \
         DELETE FROM calsync.busy WHERE subscription_id = {room} AND starts_at > now() + interval '300 days'",
        &["room occurrences_differ s"],
        &done,
    );
}

#[test]
fn busy_time_that_differs_from_the_occurrences() {
    for sql in [
        "DELETE FROM calsync.busy WHERE subscription_id = {room}",
        "UPDATE calsync.busy SET statuses = 1 WHERE subscription_id = {room} AND ends_at = (SELECT max(ends_at) FROM calsync.busy)",
        "UPDATE calsync.busy SET starts_at = starts_at - interval '3 minutes' WHERE subscription_id = {room}",
        "INSERT INTO calsync.busy SELECT {room}, now() - interval '9 years', now() - interval '8 years', 4",
    ] {
        story(sql, &["room busy_differs"], &["room: busy_differs: busy time derived anew"]);
    }
}

#[test]
fn a_calendar_left_to_a_channel_that_is_not_there() {
    story(
        "UPDATE calsync.subscription SET pushed = true WHERE subscription_id = {room}",
        &["room push_lost"],
        &["room: push_lost: due now"],
    );
}

#[test]
fn rows_that_belong_to_nothing() {
    story(
        "INSERT INTO calsync.event (subscription_id, event_id, kind, busy_status) VALUES (99, 'x', 'unreadable', 'busy'); \
         INSERT INTO calsync.staged_event (subscription_id, round, event_id, deleted) \
             VALUES (98, 0, 'c', true), (99, 0, 'c', true), (99, 0, 'd', true); \
         INSERT INTO calsync.busy SELECT 99, now(), now() + interval '1 day', 4",
        &["nobody's orphan_rows", "nobody's orphan_rows", "nobody's orphan_rows", "nobody's orphan_rows"],
        &[
            "nobody's: orphan_rows: removed 1 in calsync.busy of subscription 99, which is not there",
            "nobody's: orphan_rows: removed 1 in calsync.event of subscription 99, which is not there",
            "nobody's: orphan_rows: removed 1 in calsync.staged_event of subscription 98, which is not there",
            "nobody's: orphan_rows: removed 2 in calsync.staged_event of subscription 99, which is not there",
        ],
    );
    let removed = ["room: orphan_rows: removed"];
    story(
        "INSERT INTO calsync.occurrence SELECT {room}, 'nothing', now(), now() + interval '1 day', 'busy'",
        &["room orphan_rows nothing"],
        &removed,
    );
    story(
        "INSERT INTO calsync.staged_event (subscription_id, round, event_id, deleted) VALUES ({room}, 0, 'x', true)",
        &["room orphan_rows"],
        &removed,
    );
    story(
        "UPDATE calsync.event SET orphaned_at = now() - interval '9 days' WHERE subscription_id = {room} AND event_id = 'early'",
        &["room orphan_rows early"],
        &removed,
    );
}

#[test]
fn leases_that_never_end() {
    let mut world = World::synced();
    // A worker would give back the claims of the dead as soon as it has read this.
    world.cluster.reconfigure("calsync.databases = 'none'");
    let workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker'";
    calsync_integration::eventually("nobody works here", || world.count(workers) == 0);
    world
        .sql
        .batch_execute(
            "UPDATE calsync.subscription SET leased_until = 'infinity', leased_by = 1, next_sync_at = 'infinity'",
        )
        .expect("damaged");

    assert_eq!(problems(&mut world.sql), [format!("{ALICE} endless_lease"), format!("{ALICE} never_due")]);
    world.sql.batch_execute("SELECT calsync_repair()").expect("repaired");

    assert_eq!(problems(&mut world.sql), Vec::<String>::new());
    world.google.clear_log();
    world.cluster.reconfigure("calsync.databases = '*'");
    calsync_integration::eventually("it is asked for", || world.deltas() > 0);
    world.wait_until_idle();
    assert_eq!(world.deltas(), 1, "and it is synced again");
}

/// Damages Alice's calendar; it is found, a full sync is made of it, and then all is as before.
fn full_sync_mends(sql: &str, found: &[&str]) {
    let mut world = World::new();
    let series = world.daily(1, "10:00", "10:30", 5);
    world.meeting(3, "08:00", "09:00");
    world.subscribe(ALICE);
    world.wait_for_sync(ALICE);
    let before = world.busy();
    world.cluster.reconfigure("calsync.enabled = off");
    world.sql.batch_execute(&sql.replace("{series}", &series)).expect(sql);

    let found: Vec<String> =
        found.iter().map(|found| format!("{ALICE} {}", found.replace("{series}", &series))).collect();
    assert_eq!(problems(&mut world.sql), found, "{sql}");
    let done =
        world.text("SELECT string_agg(problem || ': ' || action, '; ') FROM calsync_repair() WHERE $1 <> ''", "-");
    assert!(done.ends_with("token dropped: the next sync is full"), "{done}");
    world.google.clear_log();
    world.cluster.reconfigure("calsync.enabled = on");
    calsync_integration::eventually("it is synced in full", || !world.lists().is_empty());
    world.wait_until_idle();

    assert_eq!(world.deltas(), 0, "it was listed in full");
    assert_eq!(problems(&mut world.sql), Vec::<String>::new(), "{sql}");
    assert_eq!(world.busy(), before);
}

#[test]
fn a_token_without_a_full_sync() {
    full_sync_mends(
        "UPDATE calsync.subscription SET full_synced_at = NULL, covered = 'empty'; DELETE FROM calsync.occurrence; DELETE FROM calsync.busy",
        &["token_without_full_sync"],
    );
}

#[test]
fn covered_windows_that_lie() {
    for sql in [
        "UPDATE calsync.subscription SET full_synced_at = NULL, sync_token = NULL",
        "UPDATE calsync.subscription SET covered = 'empty'",
        "UPDATE calsync.subscription SET covered = tstzrange(NULL, upper(covered))",
        "UPDATE calsync.subscription SET complete_from = lower(covered) + interval '1 day'",
    ] {
        full_sync_mends(sql, &["untrue_cover"]);
    }
}

#[test]
fn a_window_that_covers_more_than_was_expanded() {
    story(
        "UPDATE calsync.subscription SET covered = tstzrange(lower(covered), upper(covered) + interval '90 days') WHERE calendar = 'room'",
        &["room occurrences_differ dense", "room occurrences_differ s"],
        &["room: occurrences_differ: occurrences and busy time derived anew"],
    );
}

#[test]
fn two_exceptions_for_one_occurrence() {
    full_sync_mends(
        "INSERT INTO calsync.event (subscription_id, event_id, kind, busy_status, recurring_event_id, original_start, starts_at, ends_at) \
         SELECT subscription_id, x, 'exception', 'free', event_id, starts_at, starts_at, starts_at \
         FROM calsync.event, unnest(ARRAY['x', 'y']) AS x WHERE kind = 'master'; \
         SELECT calsync_repair()",
        &["duplicate_event x"],
    );
}

#[test]
fn one_event_stored_twice() {
    let mut fed = lived_in();
    let before = fed.busy();
    // As an index that was corrupted would let it happen.
    damage(
        &mut fed,
        "ALTER TABLE calsync.event DROP CONSTRAINT event_pkey; \
         INSERT INTO calsync.event SELECT * FROM calsync.event WHERE subscription_id = {room} AND event_id = 'b'",
    );

    assert_eq!(problems(&mut fed.sql), ["room duplicate_event b"]);
    assert_eq!(repair(&mut fed), ["room: duplicate_event: token dropped: feed the whole calendar"]);
    fed.sql
        .batch_execute("ALTER TABLE calsync.event ADD PRIMARY KEY (subscription_id, event_id)")
        .expect("a key again");
    assert_eq!(fed.busy(), before);
    assert_eq!(fed.token(ROOM), None);
    fed.list(&events()[1..]);

    check_derived(&mut fed.sql);
}

#[test]
fn a_row_that_contradicts_itself_goes_on_blocking_until_the_provider_was_asked() {
    full_sync_mends(
        "UPDATE calsync.event SET recurrence = NULL WHERE event_id = '{series}'",
        &["broken_event {series}"],
    );
}

#[test]
fn what_is_asked_about_some_calendars_is_answered_about_those() {
    let mut fed = lived_in();
    fed.sql.batch_execute("DELETE FROM calsync.busy").expect("damaged");

    let found = |fed: &mut Fed, calendars: &[&str]| -> Vec<String> {
        let rows = fed.sql.query("SELECT calendar FROM calsync_check($1)", &[&calendars]).expect("check");
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(found(&mut fed, &["hall"]), ["hall"]);
    assert_eq!(found(&mut fed, &[]), Vec::<String>::new());
    fed.sql.execute("SELECT calsync_repair($1)", &[&vec!["hall"]]).expect("repair");
    assert_eq!(problems(&mut fed.sql), ["room busy_differs"]);

    for function in ["calsync_check", "calsync_repair"] {
        let refused = fed.sql.execute(&format!("SELECT {function}($1)"), &[&vec!["cellar"]]).expect_err("unknown");
        assert_eq!(sqlstate(&refused), "SC001");
    }
}

#[test]
fn a_check_beside_a_writer_finds_nothing() {
    let mut fed = lived_in();
    let mut reader = fed.cluster.connect("postgres");
    // A transaction that has written sees, with each statement, what was committed meanwhile.
    reader.batch_execute("CREATE TABLE written (n int)").expect("a table");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let checking = std::thread::spawn(move || {
        let mut checks = 0;
        while stopped.try_recv().is_err() {
            reader.batch_execute("BEGIN; INSERT INTO written VALUES (1)").expect("begun");
            assert_eq!(problems(&mut reader), Vec::<String>::new());
            reader.batch_execute("COMMIT").expect("committed");
            checks += 1;
        }
        checks
    });

    for day in 0..40 {
        fed.change(&[meeting("b", day, "08:00", "09:00"), meeting(&format!("n{day}"), day, "18:00", "19:00")]);
    }

    stop.send(()).expect("it still checks");
    assert!(checking.join().expect("no panic") > 0);
}

#[test]
fn a_repair_waits_for_the_round_that_holds_the_calendar_and_mends_what_that_leaves() {
    let mut fed = lived_in();
    damage(&mut fed, "UPDATE calsync.event SET recurrence = NULL WHERE subscription_id = {room} AND event_id = 's'");
    let list = calsync_integration::envelope(ROOM, &events(), json!({"nextSyncToken": "listed"}));
    let mut writer = fed.cluster.connect("postgres");
    writer.batch_execute("BEGIN").expect("begun");
    writer.execute("SELECT calsync_apply_delta($1)", &[&list]).expect("listed in full");
    let mut mender = fed.cluster.connect("postgres");
    let mending =
        std::thread::spawn(move || mender.query("SELECT FROM calsync_repair()", &[]).expect("repaired").len());
    calsync_integration::eventually("it waits", || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        fed.sql.query_one(sql, &[]).expect("activity").get::<_, i64>(0) == 1
    });

    writer.batch_execute("COMMIT").expect("committed");

    assert_eq!(mending.join().expect("no panic"), 0, "the list has mended it");
    assert_eq!(fed.token(ROOM).as_deref(), Some("listed"));
    check_derived(&mut fed.sql);
}

#[test]
fn a_check_and_a_repair_can_be_cancelled() {
    let mut fed = lived_in();
    for function in ["calsync_check", "calsync_repair"] {
        fed.sql.batch_execute("SET statement_timeout = '1ms'").expect("set");
        let cancelled = fed.sql.batch_execute(&format!("SELECT {function}() FROM generate_series(1, 100000)"));
        fed.sql.batch_execute("RESET statement_timeout").expect("reset");
        assert_eq!(sqlstate(&cancelled.expect_err("cancelled")), "57014", "{function}");
    }
    check_derived(&mut fed.sql);
}
