//! Nothing is lost: by dump and restore, as time passes, on a standby, in a parallel query.

use calsync_integration::items::{Item, at, days_off, meeting};
use calsync_integration::{ALICE, Fed, ROOM, World, all_tables, check_derived, eventually};
use fake_google::Fault;
use postgres::Client;
use serde_json::json;

/// Half a year ahead of what is covered at first, and back.
const FAR: &str =
    "tstzrange(date_trunc('day', now()) + interval '450 days', date_trunc('day', now()) + interval '460 days')";
const LONG_AGO: &str =
    "tstzrange(date_trunc('day', now()) - interval '80 days', date_trunc('day', now()) - interval '70 days')";

/// A database in which everything there is has a row: events of each kind, a credential, a staged page, history.
fn lived_in() -> World {
    // The restored database must not be synced while it is compared.
    let mut world = World::with("calsync.databases = 'postgres'");
    world.meeting(3, "08:00", "09:00");
    world.daily(5, "10:00", "10:30", 4);
    world
        .sql
        .batch_execute(
            "SELECT calsync_add_credential('team', 'google', '{}'); \
             SELECT calsync_subscribe('alice@example.com', credential => 'team'); \
             SELECT calsync_subscribe('room', 'none', time_zone => 'Asia/Kolkata', options => '{\"store\": \"full\", \"changes\": true}')",
        )
        .expect("subscribed");
    world.wait_for_sync(ALICE);
    let list = json!({"calendar": ROOM, "nextSyncToken": "t1", "items": [
        meeting("s", 1, "08:00", "08:30").repeating("FREQ=DAILY").json(),
        meeting("s2", 2, "12:00", "12:30").instead_of("s", 2, "08:00").json(),
        days_off("trip", 9, 11).json(),
    ]});
    let page = json!({"calendar": ROOM, "expectedSyncToken": "t1", "pageToken": null, "nextPageToken": "p2",
                      "items": [meeting("late", 6, "08:00", "09:00").json()]});
    for delta in [list, page] {
        world.sql.execute("SELECT calsync_apply_delta($1)", &[&delta]).expect("applied");
    }
    world
}

/// The same rows, the same answers, and life goes on.
fn assert_restored(world: &mut World, database: &str) {
    let mut restored = world.cluster.connect(database);
    assert_eq!(all_tables(&mut restored), all_tables(&mut world.sql));
    restored.batch_execute("SELECT calsync_repair()").expect("no worker takes it over");
    check_derived(&mut restored);
    let busy = "SELECT calendar, busy::text FROM calsync_busy(tstzrange(now()::date, now()::date + 60), $1)";
    let answer = |sql: &mut Client| -> Vec<(String, String)> {
        let rows = sql.query(busy, &[&vec![ALICE, ROOM]]).expect("busy");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    assert_eq!(answer(&mut restored), answer(&mut world.sql));
    assert_eq!(answer(&mut restored).len(), 63);

    let highest: i64 =
        restored.query_one("SELECT max(subscription_id) FROM calsync.subscription", &[]).expect("max").get(0);
    let next = restored.query_one("SELECT calsync_subscribe('another', 'none')", &[]).expect("the sequence goes on");
    assert!(next.get::<_, i64>(0) > highest);
    let last_page =
        json!({"calendar": ROOM, "expectedSyncToken": "t1", "pageToken": "p2", "nextSyncToken": "t2", "items": []});
    restored.execute("SELECT calsync_apply_delta($1)", &[&last_page]).expect("the round under way can be ended");
    check_derived(&mut restored);
}

#[test]
fn a_dump_restores_with_pg_restore() {
    let mut world = lived_in();
    let file = world.cluster.home().join("dump").display().to_string();

    world.cluster.run("pg_dump", &["-Fc", "-f", &file, "postgres"]);
    world.cluster.run("createdb", &["restored"]);
    world.cluster.run("pg_restore", &["--exit-on-error", "-d", "restored", &file]);

    assert_restored(&mut world, "restored");
}

#[test]
fn a_dump_restores_with_psql() {
    let mut world = lived_in();
    let file = world.cluster.home().join("dump.sql").display().to_string();

    world.cluster.run("pg_dump", &["-f", &file, "postgres"]);
    world.cluster.run("createdb", &["restored"]);
    world.cluster.run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file, "restored"]);

    assert_restored(&mut world, "restored");
}

#[test]
fn a_restored_database_is_synced_from_where_it_stood() {
    let mut world = lived_in();
    let file = world.cluster.home().join("dump.sql").display().to_string();
    world.cluster.run("pg_dump", &["-f", &file, "postgres"]);
    world.cluster.run("createdb", &["restored"]);
    world.cluster.run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file, "restored"]);
    world.meeting(4, "08:00", "09:00");
    world.google.clear_log();

    world.sql = world.cluster.connect("restored");
    world.cluster.reconfigure("calsync.databases = 'restored'");
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");

    eventually("the worker of the restored database brings it", || {
        world.try_busy(ALICE).is_ok_and(|busy| busy.contains(&"+4 08:00 to 09:00".to_owned()))
    });
    assert_eq!(world.deltas(), world.lists().len(), "with its token, not in full");
}

/// Whether the room, or whoever, has a daily meeting on each day of a window, or why not.
fn meetings_in(sql: &mut Client, window: &str, calendar: &str) -> Result<usize, String> {
    let rows = sql.query(&format!("SELECT busy::text FROM calsync_busy({window}, ARRAY[$1])"), &[&calendar]);
    rows.map(|rows| rows.len()).map_err(|error| calsync_integration::sqlstate(&error))
}

#[test]
fn a_wider_horizon_is_expanded_without_asking_the_provider() {
    let mut world = World::new();
    world.daily(-100, "10:00", "10:30", 10_000);
    world.subscribe(ALICE);
    world.sql.execute("SELECT calsync_subscribe('room', 'none')", &[]).expect("subscribed");
    let daily = json!({"calendar": ROOM, "nextSyncToken": "t1", "items": [
        meeting("s", -100, "08:00", "08:30").repeating("FREQ=DAILY").json()]});
    world.sql.execute("SELECT calsync_apply_delta($1)", &[&daily]).expect("applied");
    world.wait_for_sync(ALICE);
    world.google.clear_log();
    for window in [FAR, LONG_AGO] {
        assert_eq!(meetings_in(&mut world.sql, window, ALICE), Err("SC002".to_owned()));
        assert_eq!(meetings_in(&mut world.sql, window, ROOM), Err("SC002".to_owned()));
    }

    world.cluster.reconfigure("calsync.horizon = '500d'\ncalsync.retention = '90d'");

    for calendar in [ALICE, ROOM] {
        for window in [FAR, LONG_AGO] {
            eventually("the window has slid", || meetings_in(&mut world.sql, window, calendar) == Ok(10));
        }
    }
    check_derived(&mut world.sql);
    assert!(world.lists().is_empty(), "nobody was asked");
}

#[test]
fn as_time_passes_the_window_slides_by_itself() {
    let mut world = World::new();
    world.daily(-100, "10:00", "10:30", 10_000);
    world.meeting(300, "15:00", "16:00");
    world.subscribe(ALICE);
    world.wait_for_sync(ALICE);
    let now = all_derived(&mut world.sql);
    world.google.add_fault(Fault::error(503, "backendError").always());

    // As it was stored 120 days ago.
    world.cluster.reconfigure("calsync.enabled = off");
    world
        .sql
        .batch_execute(
            "UPDATE calsync.subscription SET covered = tstzrange(lower(covered) - interval '120 days', upper(covered) - interval '120 days'); \
             DELETE FROM calsync.occurrence AS o USING calsync.subscription AS s WHERE o.starts_at >= upper(s.covered); \
             DELETE FROM calsync.busy AS b USING calsync.subscription AS s WHERE b.starts_at >= upper(s.covered)",
        )
        .expect("time passes");
    world.google.clear_log();
    world.cluster.reconfigure("calsync.enabled = on");

    eventually("the window has slid", || all_derived(&mut world.sql) == now);
    check_derived(&mut world.sql);
    assert!(world.lists().is_empty(), "nobody was asked");
}

/// Occurrences and busy time, but for the days at the edges of the window, which move on while the test runs.
fn all_derived(sql: &mut Client) -> Vec<String> {
    let rows = sql.query(
        "SELECT o::text FROM calsync.occurrence AS o WHERE starts_at BETWEEN now() - interval '29 days' AND now() + interval '370 days' \
         UNION ALL SELECT b::text FROM calsync.busy AS b WHERE starts_at BETWEEN now() - interval '29 days' AND now() + interval '370 days' \
         ORDER BY 1",
        &[],
    );
    rows.expect("readable").iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_call_in_the_foreground_slides_windows_too() {
    let mut fed = Fed::with("calsync.databases = 'nowhere'");
    fed.list(&[meeting("s", -100, "08:00", "08:30").repeating("FREQ=DAILY")]);
    fed.cluster.reconfigure("calsync.horizon = '500d'");
    eventually("the setting has arrived", || {
        let row = fed.sql.query_one("SELECT current_setting('calsync.horizon')", &[]).expect("a setting");
        row.get::<_, String>(0) == "500d"
    });

    fed.sql.batch_execute("CALL calsync_run()").expect("run");

    assert_eq!(meetings_in(&mut fed.sql, FAR, ROOM), Ok(10));
    check_derived(&mut fed.sql);
}

#[test]
fn what_ended_before_the_window_is_dropped_and_what_reaches_into_it_stays() {
    let mut fed = Fed::new();
    fed.list(&[
        meeting("s", -25, "08:00", "08:30").repeating("FREQ=DAILY"),
        days_off("sabbatical", -25, -2),
        meeting("old", -20, "12:00", "13:00"),
    ]);

    fed.sql
        .batch_execute("UPDATE calsync.subscription SET covered = tstzrange(lower(covered), now() + interval '1 day')")
        .expect("the horizon has come near");
    fed.cluster.reconfigure("calsync.retention = '5d'");
    eventually("the setting has arrived", || {
        let row = fed.sql.query_one("SELECT current_setting('calsync.retention')", &[]).expect("a setting");
        row.get::<_, String>(0) == "5d"
    });
    fed.change(&[]);

    let events = |fed: &mut Fed| -> Vec<String> {
        let sql = "SELECT DISTINCT event_id FROM calsync.occurrence ORDER BY 1";
        fed.sql.query(sql, &[]).expect("readable").iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(events(&mut fed), ["s", "sabbatical"]);
}

#[test]
fn a_hot_standby_answers() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);

    let standby = fed.cluster.standby();
    fed.change(&[meeting("b", 2, "08:00", "09:00")]);

    let mut sql = standby.connect("postgres");
    let ask = "SELECT count(*) FROM calsync_busy(tstzrange(now(), now() + interval '9 days'), ARRAY['room'])";
    eventually("the change has been replayed", || sql.query_one(ask, &[]).expect("busy").get::<_, i64>(0) == 2);
    let others = "SELECT pg_is_in_recovery(), \
            calsync_is_free(tstzrange(now(), now() + interval '9 days'), ARRAY['room']), \
            (SELECT usable FROM calsync_coverage(ARRAY['room'])), \
            calsync_busy_union(tstzrange(now(), now() + interval '9 days'), ARRAY['room'])::text LIKE '{%,%,%,%}', \
            (SELECT events FROM calsync.status)";
    let row = sql.query_one(others, &[]).expect("all of them answer");
    assert_eq!(
        (
            row.get::<_, bool>(0),
            row.get::<_, bool>(1),
            row.get::<_, bool>(2),
            row.get::<_, bool>(3),
            row.get::<_, i64>(4)
        ),
        (true, false, true, true, 2)
    );
    assert_eq!(calsync_integration::problems(&mut sql), Vec::<String>::new(), "a check works here, too");
    sql.batch_execute(
        "SELECT calsync_changes(), calsync_health(); SELECT FROM calsync.progress, calsync.stat_provider",
    )
    .expect("what only looks");
    let worker = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_calsync%'";
    assert_eq!(sql.query_one(worker, &[]).expect("activity").get::<_, i64>(0), 0, "no worker runs on a standby");
}

#[test]
fn what_writes_is_refused_on_a_standby_and_in_a_read_only_transaction() {
    let mut fed = Fed::new();
    let standby = fed.cluster.standby();
    fed.sql.batch_execute("SET default_transaction_read_only = on").expect("set");

    for sql in [&mut fed.sql, &mut standby.connect("postgres")] {
        for statement in [
            r#"SELECT calsync_apply_delta('{"calendar": "room", "items": [], "nextSyncToken": "t9"}')"#,
            "SELECT calsync_subscribe('another', 'none')",
            "SELECT calsync_unsubscribe('room')",
            "SELECT calsync_pause('room')",
            "SELECT calsync_sync()",
            "SELECT calsync_add_credential('c', 'google', '{}')",
            "CALL calsync_run()",
            "SELECT calsync_repair()",
            "SELECT calsync_cleanup()",
        ] {
            let refused = sql.batch_execute(statement).expect_err(statement);
            assert_eq!(calsync_integration::sqlstate(&refused), "25006", "{statement}");
        }
    }
}

#[test]
fn parallel_workers_see_what_their_leader_has_just_written() {
    let mut fed = Fed::new();
    let items: Vec<Item> = (0..20).map(|day| meeting(&format!("e{day}"), day, "08:00", "09:00")).collect();
    fed.list(&items);
    fed.sql
        .batch_execute(
            "CREATE TABLE slot AS SELECT n, now()::date + n % 20 AS day FROM generate_series(0, 9999) AS n; ANALYZE slot; \
             SET force_parallel_mode = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; \
             SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2",
        )
        .expect("a table of the application's");
    let query =
        "SELECT count(*) FROM slot WHERE n < 400 AND NOT calsync_is_free(tstzrange(day, day + 1), ARRAY['room'])";

    fed.sql.batch_execute("BEGIN").expect("begun");
    fed.change(&[calsync_integration::items::cancelled("e3"), meeting("e25", 25, "08:00", "09:00")]);
    let plan = fed.sql.query(&format!("EXPLAIN (ANALYZE, COSTS off, TIMING off) {query}"), &[]).expect("a plan");
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    let busy_slots: i64 = fed.sql.query_one(query, &[]).expect("an answer").get(0);
    let busy = "SELECT count(*) FROM slot, calsync_busy(tstzrange(day, day + 1), ARRAY['room']) WHERE n < 400";
    let pieces: i64 = fed.sql.query_one(busy, &[]).expect("an answer").get(0);
    fed.sql.batch_execute("COMMIT").expect("committed");

    assert!(plan.iter().any(|line| line.contains("Workers Launched: 2")), "{plan:#?}");
    assert_eq!((busy_slots, pieces), (380, 380), "nothing on the day that was cancelled");
    assert_eq!(fed.sql.query_one(query, &[]).expect("an answer").get::<_, i64>(0), 380, "and so it stays");
}

#[test]
fn one_query_sees_one_state_though_another_commits_meanwhile() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);
    let mut reader = fed.cluster.connect("postgres");
    // Asks twice, with a pause between.
    let ask = "SELECT array_agg(c ORDER BY n) FROM ( \
                   SELECT n, (SELECT count(*) FROM calsync_busy(tstzrange(now(), now() + n * interval '9 days'), ARRAY['room'])) AS c \
                   FROM (SELECT n, pg_sleep(n - 1) FROM generate_series(1, 2) AS n OFFSET 0) AS pause) AS answers";
    let asking = std::thread::spawn(move || reader.query_one(ask, &[]).expect("answers").get::<_, Vec<i64>>(0));
    eventually("it pauses", || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        fed.sql.query_one(sql, &[]).expect("activity").get::<_, i64>(0) == 1
    });

    fed.change(&[meeting("b", 2, "08:00", "09:00")]);

    assert_eq!(asking.join().expect("no panic"), [1, 1]);
    assert_eq!(fed.busy().len(), 2);
}

#[test]
fn answers_are_of_one_snapshot() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);
    let mut reader = fed.cluster.connect("postgres");
    let ask = "SELECT string_agg(busy::text, ',') FROM calsync_busy(tstzrange(now(), now() + interval '9 days'), ARRAY['room'])";
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").expect("begun");
    let before: String = reader.query_one(ask, &[]).expect("busy").get(0);

    fed.change(&[meeting("a", 2, "08:00", "09:00")]);

    assert_eq!(reader.query_one(ask, &[]).expect("busy").get::<_, String>(0), before);
    reader.batch_execute("COMMIT").expect("committed");
    assert!(reader.query_one(ask, &[]).expect("busy").get::<_, String>(0).contains(&at(2, "08:00")[..10]));
}
