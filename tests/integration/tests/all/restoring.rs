//! A calendar that came from another database answers and is synced once nobody restores any more, and not before: beside a
//! restore "free" could be a row that has not come yet.

use std::io::Write as _;
use std::time::Duration;

use calsync_integration::items::meeting;
use calsync_integration::{ALICE, Pushed, ROOM, World, check_derived, eventually, problems, sqlstate};
use postgres::Client;
use serde_json::json;

/// Longer than nobody must have been seen restoring, from when the worker was made to look.
const LONGER_THAN_QUIET: Duration = Duration::from_secs(15);

/// Alice's calendar at Google, with a meeting on day 3 and one on day 4, and the room's, which an application feeds, with one a
/// day. Alice's is due, and of the room's window so much time has passed that it must slide. No worker runs.
struct Original {
    world: World,
    /// Alice's meeting on day 3.
    meeting: String,
}

impl Original {
    fn new() -> Self {
        let mut world = World::new();
        let meeting = world.meeting(3, "08:00", "09:00");
        world.meeting(4, "08:00", "09:00");
        world.subscribe(ALICE);
        world.sql.execute("SELECT calsync_subscribe('room', 'none')", &[]).expect("subscribed");
        let list = json!({"calendar": ROOM, "nextSyncToken": "t1", "items": [
            meeting_a_day()]});
        world.sql.execute("SELECT calsync_apply_delta($1)", &[&list]).expect("applied");
        world.wait_for_sync(ALICE);
        world.cluster.reconfigure("calsync.databases = 'restored'");
        let worker = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker'";
        eventually("no worker runs", || world.count(worker) == 0);
        world
            .sql
            .batch_execute(
                "UPDATE calsync.subscription SET covered = tstzrange(lower(covered), upper(covered) - interval '120 days') WHERE calendar = 'room'; \
                 UPDATE calsync.subscription SET next_sync_at = now() WHERE provider = 'google'; \
                 DELETE FROM calsync.occurrence AS o USING calsync.subscription AS s WHERE s.calendar = 'room' AND o.starts_at >= upper(s.covered); \
                 DELETE FROM calsync.busy AS b USING calsync.subscription AS s WHERE s.calendar = 'room' AND b.starts_at >= upper(s.covered)",
            )
            .expect("time passes");
        Original { world, meeting }
    }

    fn dump(&self) -> String {
        let file = self.world.cluster.home().join("dump").display().to_string();
        self.world.cluster.run("pg_dump", &["-Fc", "-f", &file, "postgres"]);
        self.world.google.clear_log();
        file
    }

    /// A database of this name with the extension, where a restore meets it.
    fn prepared(&self, database: &str) -> Client {
        self.world.cluster.run("createdb", &[database]);
        let mut sql = self.world.cluster.connect(database);
        sql.batch_execute("CREATE EXTENSION pg_calsync").expect("created");
        sql
    }
}

fn meeting_a_day() -> serde_json::Value {
    meeting("s", -100, "08:00", "08:30").repeating("FREQ=DAILY").json()
}

/// How many days of ten are busy, or why nobody can tell.
fn busy_days(sql: &mut Client, calendar: &str, first: i32) -> Result<usize, String> {
    let rows = sql.query(
        "SELECT busy::text FROM calsync_busy(tstzrange(date_trunc('day', now()) + $2 * interval '1 day', \
             date_trunc('day', now()) + ($2 + 10) * interval '1 day'), ARRAY[$1])",
        &[&calendar, &f64::from(first)],
    );
    rows.map(|rows| rows.len()).map_err(|error| sqlstate(&error))
}

fn refused() -> Result<usize, String> {
    Err("SC002".to_owned())
}

/// Calendars that came and are not taken over.
fn foreign(sql: &mut Client) -> usize {
    problems(sql).iter().filter(|problem| problem.contains("foreign_home")).count()
}

/// Beyond what the room's window covered in the dump.
const AHEAD: i32 = 300;

/// What is not all there is neither answered from, nor slid, nor synced.
fn assert_left_alone(original: &Original, restored: &mut Client) {
    original.world.cluster.reload();
    std::thread::sleep(LONGER_THAN_QUIET);
    for calendar in [ALICE, ROOM] {
        assert_eq!(busy_days(restored, calendar, 0), refused(), "{calendar}");
    }
    let slid = "SELECT count(*) FROM calsync.subscription WHERE calendar = 'room' AND upper(covered) > now() + interval '300 days'";
    assert_eq!(restored.query_one(slid, &[]).expect("readable").get::<_, i64>(0), 0, "its window was not slid");
    assert!(original.world.lists().is_empty(), "nobody was asked");
}

/// The worker goes on from where the dump stood.
fn assert_goes_on(original: &Original, restored: &mut Client) {
    eventually("the room answers further than the dump did", || busy_days(restored, ROOM, AHEAD) == Ok(10));
    eventually("what was deleted is gone", || busy_days(restored, ALICE, 0) == Ok(1));
    assert_eq!(original.world.deltas(), original.world.lists().len(), "from its token, not in full");
    check_derived(restored);
}

#[test]
fn a_parallel_restore_goes_on_beside_the_worker() {
    let original = Original::new();
    let file = original.dump();
    original.world.google.delete_event(ALICE, &original.meeting).expect("deleted");
    let mut restored = original.prepared("restored");

    std::thread::scope(|scope| {
        let cluster = &original.world.cluster;
        let mut blocker = cluster.connect("restored");
        blocker.batch_execute("BEGIN; LOCK TABLE calsync.event IN SHARE MODE").expect("its copy must wait");
        let restore =
            scope.spawn(|| cluster.run("pg_restore", &["-j", "4", "--exit-on-error", "-d", "restored", &file]));
        eventually("the subscriptions have come", || foreign(&mut restored) == 2);
        assert_left_alone(&original, &mut restored);
        blocker.batch_execute("COMMIT").expect("the copy goes on");
        restore.join().expect("restored");
    });

    assert_goes_on(&original, &mut restored);
}

#[test]
fn a_copy_into_the_tables_by_whatever_program_goes_on_beside_the_worker() {
    let mut original = Original::new();
    original.world.google.clear_log();
    let mut restored = original.prepared("restored");
    let mut columns = |table: &str| -> String {
        let sql = "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute \
                   WHERE attrelid = ('calsync.' || $1)::regclass AND attnum > 0 AND NOT attisdropped";
        original.world.text(sql, table)
    };
    let mut copies = Vec::new();
    for table in ["event", "occurrence", "busy", "subscription"] {
        copies.push((table, columns(table)));
    }
    let mut feeder = original.world.cluster.connect("restored");
    let mut lines = Vec::new();
    for (table, columns) in &copies {
        let mut text = Vec::new();
        let mut reader =
            original.world.sql.copy_out(&format!("COPY calsync.{table} ({columns}) TO STDOUT")).expect("copied out");
        std::io::copy(&mut reader, &mut text).expect("read");
        lines.push(text);
    }
    original.world.google.delete_event(ALICE, &original.meeting).expect("deleted");

    let (event, columns) = &copies[0];
    let mut slow = feeder.copy_in(&format!("COPY calsync.{event} ({columns}) FROM STDIN")).expect("a copy");
    let half = lines[0].len() / 2;
    slow.write_all(&lines[0][..half]).expect("half of it");
    slow.flush().expect("on its way");
    for ((table, columns), text) in copies.iter().zip(&lines).skip(1) {
        let mut copy = restored.copy_in(&format!("COPY calsync.{table} ({columns}) FROM STDIN")).expect("a copy");
        copy.write_all(text).expect("written");
        copy.finish().expect("copied");
    }
    assert_left_alone(&original, &mut restored);
    slow.write_all(&lines[0][half..]).expect("the other half");
    slow.finish().expect("copied");

    assert_goes_on(&original, &mut restored);
}

#[test]
fn a_copy_from_a_template_answers_soon() {
    let mut original = Original::new();
    original.world.google.delete_event(ALICE, &original.meeting).expect("deleted");
    original.world.google.clear_log();
    let mut elsewhere = original.world.cluster.connect("template1");
    original.world.sql = original.world.cluster.connect("template1");

    elsewhere.batch_execute("CREATE DATABASE restored TEMPLATE postgres").expect("copied");

    let mut restored = original.world.cluster.connect("restored");
    assert_eq!(busy_days(&mut restored, ALICE, 0), refused());
    assert_goes_on(&original, &mut restored);
}

#[test]
fn where_no_worker_runs_a_call_takes_over() {
    let original = Original::new();
    let file = original.dump();
    original.world.google.delete_event(ALICE, &original.meeting).expect("deleted");
    original.world.cluster.run("createdb", &["idle"]);
    original.world.cluster.run("pg_restore", &["--exit-on-error", "-d", "idle", &file]);
    let mut sql = original.world.cluster.connect("idle");
    let row = sql.query_one(
        "SELECT reason, calsync_health() ->> 'problems' LIKE '%2 came from another database%' \
         FROM calsync_coverage(ARRAY['room'])",
        &[],
    );
    let row = row.expect("it says why");
    assert_eq!(row.get::<_, &str>(0), "came from another database, not taken over yet (SC002)");
    assert!(row.get::<_, bool>(1), "calsync_health() tells, too");
    sql.batch_execute("SELECT calsync_cleanup()").expect("leaves them alone");
    assert_eq!(foreign(&mut sql), 2);
    sql.batch_execute("DELETE FROM calsync.busy").expect("a part did not come");

    sql.batch_execute("CALL calsync_run()").expect("run");

    assert_goes_on(&original, &mut sql);
}

#[test]
fn a_repair_takes_over_at_once() {
    let original = Original::new();
    let file = original.dump();
    original.world.cluster.run("createdb", &["idle"]);
    original.world.cluster.run("pg_restore", &["--exit-on-error", "-d", "idle", &file]);
    let mut sql = original.world.cluster.connect("idle");

    let mended = sql.query("SELECT concat_ws(': ', calendar, problem, action) FROM calsync_repair() ORDER BY 1", &[]);

    let mended: Vec<String> = mended.expect("repair").iter().map(|row| row.get(0)).collect();
    let done = "foreign_home: taken over: occurrences and busy time derived anew";
    assert_eq!(mended, [format!("{ALICE}: {done}"), format!("{ROOM}: {done}")]);
    assert_eq!(busy_days(&mut sql, ALICE, 0), Ok(2));
    assert_eq!(busy_days(&mut sql, ROOM, AHEAD), Ok(10));
    check_derived(&mut sql);
}

#[test]
fn a_delta_takes_its_calendar_over_and_waits_for_a_restore() {
    let original = Original::new();
    let file = original.dump();
    original.world.cluster.run("createdb", &["idle"]);
    original.world.cluster.run("pg_restore", &["--exit-on-error", "-d", "idle", &file]);
    let mut sql = original.world.cluster.connect("idle");
    let delta = json!({"calendar": ROOM, "expectedSyncToken": "t1", "nextSyncToken": "t2", "items": []});
    let mut restoring = original.world.cluster.connect("idle");
    restoring.batch_execute("SET application_name = 'pg_restore'").expect("as pg_restore calls itself");

    for statement in ["SELECT calsync_apply_delta($1)", "SELECT calsync_repair(ARRAY[$1::jsonb ->> 'calendar'])"] {
        let error = sql.execute(statement, &[&delta]).expect_err("not yet");
        assert_eq!(sqlstate(&error), "55000", "{statement}: {error:?}");
    }
    assert_eq!(busy_days(&mut sql, ROOM, 0), refused());

    restoring.batch_execute("RESET application_name").expect("it has ended");
    sql.execute("SELECT calsync_apply_delta($1)", &[&delta]).expect("applied");
    assert_eq!(busy_days(&mut sql, ROOM, AHEAD), Ok(10));
    assert_eq!(foreign(&mut sql), 1, "Alice's waits for whoever syncs it");
}

#[test]
fn a_session_that_could_not_restore_holds_nobody_up() {
    let mut original = Original::new();
    let file = original.dump();
    original.world.sql.batch_execute("CREATE ROLE guest LOGIN; GRANT calsync_operator TO guest").expect("a role");
    original.world.cluster.run("createdb", &["idle"]);
    original.world.cluster.run("pg_restore", &["--exit-on-error", "-d", "idle", &file]);
    let mut guest = original.world.cluster.connect_as("guest", "idle").expect("connected");
    guest.batch_execute("SET application_name = 'pg_restore'").expect("whatever it calls itself");

    let mut sql = original.world.cluster.connect("idle");
    sql.batch_execute("SELECT calsync_repair()").expect("taken over");

    assert_eq!(busy_days(&mut sql, ROOM, AHEAD), Ok(10));
}

#[test]
fn what_is_restored_into_its_own_database_is_foreign_too() {
    let mut original = Original::new();
    let file = original.dump();
    assert_eq!(foreign(&mut original.world.sql), 0);

    original.world.cluster.run("pg_restore", &["--clean", "--exit-on-error", "-d", "postgres", &file]);

    assert_eq!(busy_days(&mut original.world.sql, ROOM, 0), refused());
    assert_eq!(foreign(&mut original.world.sql), 2);
}

#[test]
fn of_a_calendar_of_which_not_all_may_have_come_neither_events_nor_changes_are_told_and_no_channel_is_opened() {
    let mut pushed = Pushed::watched();
    let watches = |pushed: &Pushed| pushed.world.google.channels().len();
    let before = watches(&pushed);
    pushed.world.sql.batch_execute("CREATE DATABASE copy TEMPLATE template0").expect("a database");
    let dump = pushed.world.cluster.run("pg_dump", &["postgres"]);
    let file = pushed.world.cluster.home().join("dump.sql");
    std::fs::write(&file, dump).expect("written");
    let mut restorer = pushed.world.cluster.connect("copy");
    restorer.batch_execute("SET application_name = 'pg_restore'").expect("somebody restores");
    let restored = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file.display().to_string(), "copy"];
    pushed.world.cluster.run("psql", &restored);

    let mut copy = pushed.world.cluster.connect("copy");
    for question in ["SELECT FROM calsync_events()", "SELECT FROM calsync_changes()"] {
        assert_eq!(sqlstate(&copy.batch_execute(question).expect_err(question)), "SC002", "{question}");
    }
    eventually("its worker has looked", || {
        let line = "SELECT count(*) FROM calsync.stat_worker WHERE database = 'copy'";
        copy.query_one(line, &[]).expect("workers").get::<_, i64>(0) == 1
    });
    for _ in 0..3 {
        // It looks at its channels each time, before it reads the configuration again.
        pushed.world.cluster.reload();
    }
    assert_eq!(watches(&pushed), before, "nobody asks Google to tell this one");

    drop(restorer);
    eventually("then it is taken over", || copy.batch_execute("SELECT FROM calsync_events()").is_ok());
    pushed.look();
    eventually("and watched", || watches(&pushed) == before + 1);
}
