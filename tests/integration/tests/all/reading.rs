//! What a question sees: the read path asks the indexes itself, and must see what any statement of the same snapshot
//! would see, whatever becomes of the rows meanwhile.

use calsync_integration::items::{Item, at, cancelled, meeting};
use calsync_integration::{Fed, ROOM, eventually, sqlstate};
use postgres::Client;

const EIGHT: &str = "+1 08:00 to 09:00";
const TEN: &str = "+1 10:00 to 11:00";

fn at_eight() -> Item {
    meeting("a", 1, "08:00", "09:00")
}

fn at_ten() -> Item {
    meeting("a", 1, "10:00", "11:00")
}

/// Two meetings' worth of history, so that there are other pieces around.
fn taken_at_eight() -> Fed {
    let mut fed = Fed::new();
    fed.list(&[at_eight(), meeting("before", -3, "08:00", "09:00"), meeting("after", 9, "08:00", "09:00")]);
    fed
}

/// Tomorrow's busy time of the room.
fn tomorrow(sql: &mut Client) -> Vec<String> {
    try_tomorrow(sql).unwrap_or_else(|error| panic!("{error:?}"))
}

fn try_tomorrow(sql: &mut Client) -> Result<Vec<String>, postgres::Error> {
    let question = format!(
        "SELECT to_char(lower(busy), '\"+1 \"HH24:MI') || to_char(upper(busy), '\" to \"HH24:MI') \
         FROM calsync_busy(tstzrange('{}', '{}'), ARRAY['{ROOM}'])",
        at(1, "00:00"),
        at(2, "00:00")
    );
    Ok(sql.query(&question, &[])?.iter().map(|row| row.get(0)).collect())
}

/// The same question to the table: one statement, the executor's own scan.
fn stored(sql: &mut Client) -> i64 {
    sql.query_one("SELECT count(*) FROM calsync.busy", &[]).expect("the table is readable").get(0)
}

fn run(sql: &mut Client, statements: &str) {
    sql.batch_execute(statements).unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

/// What may not run inside a transaction, not even with others in one message.
fn run_one_by_one(sql: &mut Client, statements: &[&str]) {
    statements.iter().for_each(|statement| run(sql, statement));
}

/// A message of the server's when something was not given back: pins, references, slots, snapshots.
fn leaks(fed: &Fed) -> Vec<String> {
    let leaked = |line: &&str| line.contains("leak");
    fed.cluster.log().lines().filter(leaked).map(str::to_owned).collect()
}

#[test]
fn a_reader_keeps_its_snapshot_while_others_commit() {
    let mut fed = taken_at_eight();
    let mut reader = fed.cluster.connect("postgres");
    run(&mut reader, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(tomorrow(&mut reader), [EIGHT]);

    fed.change(&[at_ten()]);

    assert_eq!(tomorrow(&mut fed.sql), [TEN], "whoever asks now sees the new time");
    assert_eq!(tomorrow(&mut reader), [EIGHT], "the reader sees what it saw");
    // Vacuum must keep what the reader sees, and the reader must find it.
    run_one_by_one(&mut fed.sql, &["VACUUM calsync.busy", "VACUUM calsync.subscription"]);
    assert_eq!(tomorrow(&mut reader), [EIGHT]);
    run(&mut reader, "COMMIT");
    assert_eq!(tomorrow(&mut reader), [TEN]);
}

#[test]
fn a_reader_does_not_see_a_calendar_that_came_or_went_after_its_snapshot() {
    let mut fed = taken_at_eight();
    let mut reader = fed.cluster.connect("postgres");
    run(&mut reader, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(tomorrow(&mut reader), [EIGHT]);

    run(&mut fed.sql, &format!("SELECT calsync_unsubscribe('{ROOM}')"));
    fed.subscribe("hall", serde_json::json!({}));

    assert_eq!(tomorrow(&mut reader), [EIGHT], "it is still there for the reader");
    let unknown = reader.query("SELECT calsync_is_free(tstzrange(now(), now() + '1 hour'), '{hall}')", &[]);
    assert_eq!(sqlstate(&unknown.expect_err("the hall is not there yet")), "SC001");
    run(&mut reader, "ROLLBACK");
    assert_eq!(sqlstate(&try_tomorrow(&mut reader).expect_err("the room is gone now")), "SC001");
}

#[test]
fn what_was_deleted_is_free_before_and_after_vacuum() {
    let mut fed = taken_at_eight();
    run(&mut fed.sql, "VACUUM calsync.busy");
    assert_eq!(tomorrow(&mut fed.sql), [EIGHT]);

    fed.change(&[cancelled("a")]);

    assert_eq!(tomorrow(&mut fed.sql), [""; 0], "the dead row is still in the index");
    run(&mut fed.sql, "VACUUM calsync.busy");
    assert_eq!(tomorrow(&mut fed.sql), [""; 0]);
}

#[test]
fn what_was_never_committed_is_never_seen() {
    let mut fed = taken_at_eight();
    let mut writer = fed.cluster.connect("postgres");
    run(&mut writer, "BEGIN");
    let delta = calsync_integration::envelope(
        ROOM,
        &[at_ten()],
        serde_json::json!({"expectedSyncToken": "t1", "nextSyncToken": "t2"}),
    );
    writer.execute("SELECT calsync_apply_delta($1)", &[&delta]).expect("the delta is applied");

    assert_eq!(tomorrow(&mut writer), [TEN], "the writer sees its own work");
    assert_eq!(tomorrow(&mut fed.sql), [EIGHT], "nobody else does");
    run(&mut writer, "ROLLBACK");
    assert_eq!(tomorrow(&mut writer), [EIGHT]);
    assert_eq!(tomorrow(&mut fed.sql), [EIGHT]);
    run(&mut fed.sql, "VACUUM calsync.busy");
    assert_eq!(tomorrow(&mut fed.sql), [EIGHT]);
}

#[test]
fn vacuumed_time_is_read_from_the_index_alone() {
    let mut fed = taken_at_eight();
    let fetched = |sql: &mut Client| -> (i64, i64) {
        tomorrow(sql);
        run(sql, "SELECT pg_stat_force_next_flush()");
        let counters = "SELECT idx_tup_read, idx_tup_fetch FROM pg_stat_user_indexes \
                        WHERE schemaname = 'calsync' AND indexrelname = 'busy_pkey'";
        let row = sql.query_one(counters, &[]).expect("the counters are readable");
        (row.get(0), row.get(1))
    };
    let (read, visited) = fetched(&mut fed.sql);
    let (read_again, visited_again) = fetched(&mut fed.sql);
    assert!(read_again > read && visited_again > visited, "until a vacuum the heap is asked, too");

    // The worker's own transactions are short, but while one is older than the rows a vacuum leaves the page as it is.
    eventually("a vacuum marks the page as visible to all", || {
        run(&mut fed.sql, "VACUUM calsync.busy");
        let marked = "SELECT relallvisible = relpages FROM pg_class WHERE oid = 'calsync.busy'::regclass";
        fed.sql.query_one(marked, &[]).expect("the catalog is readable").get(0)
    });

    let (read, visited) = fetched(&mut fed.sql);
    let (read_again, visited_again) = fetched(&mut fed.sql);
    assert!(read_again > read, "the index is read");
    assert_eq!(visited_again, visited, "the heap is not");
}

#[test]
fn a_standby_follows() {
    let mut fed = taken_at_eight();
    let standby = fed.cluster.standby();
    let mut sql = standby.connect("postgres");
    assert_eq!(tomorrow(&mut sql), [EIGHT]);
    run(&mut sql, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(tomorrow(&mut sql), [EIGHT]);

    fed.change(&[at_ten()]);

    let mut other = standby.connect("postgres");
    eventually("the standby shows the new time", || tomorrow(&mut other) == [TEN]);
    assert_eq!(tomorrow(&mut sql), [EIGHT], "a snapshot on the standby holds");
    run(&mut sql, "COMMIT");
    assert_eq!(tomorrow(&mut sql), [TEN]);
}

#[test]
fn two_that_each_undo_what_the_other_relied_on_do_not_both_commit() {
    let mut fed = taken_at_eight();
    fed.subscribe("hall", serde_json::json!({}));
    fed.list_of("hall", &[at_eight()]);
    // Entries of all-visible pages: what marks them as read is the reader itself, not the heap.
    run(&mut fed.sql, "VACUUM calsync.busy");
    let id = |sql: &mut Client, calendar: &str| -> i64 {
        let sql = sql.query_one("SELECT subscription_id FROM calsync.subscription WHERE calendar = $1", &[&calendar]);
        sql.expect("the calendar is there").get(0)
    };
    let (room, hall) = (id(&mut fed.sql, ROOM), id(&mut fed.sql, "hall"));
    let (mut one, mut other) = (fed.cluster.connect("postgres"), fed.cluster.connect("postgres"));
    let busy = |sql: &mut Client, calendar: &str| -> bool {
        run(sql, "SET enable_seqscan = off; BEGIN ISOLATION LEVEL SERIALIZABLE");
        let question = "SELECT calsync_is_free(tstzrange($1::text::timestamptz, $2::text::timestamptz), ARRAY[$3])";
        let row = sql.query_one(question, &[&at(1, "08:00"), &at(1, "09:00"), &calendar]);
        !row.expect("an answer").get::<_, bool>(0)
    };
    assert!(busy(&mut one, ROOM) && busy(&mut other, "hall"));

    // Each gives up the other's hour, since its own is taken.
    let give_up = |sql: &mut Client, id: i64| {
        sql.execute("DELETE FROM calsync.busy WHERE subscription_id = $1", &[&id])
            .and_then(|_| sql.batch_execute("COMMIT"))
            .map_err(|error| sqlstate(&error))
    };
    let outcomes = [give_up(&mut one, hall), give_up(&mut other, room)];

    let refused = outcomes.iter().filter(|outcome| **outcome == Err("40001".to_owned())).count();
    assert_eq!(refused, 1, "one of them is refused: {outcomes:?}");
}

#[test]
fn a_session_outlives_the_extension_that_it_asked() {
    let mut fed = taken_at_eight();
    assert_eq!(tomorrow(&mut fed.sql), [EIGHT]);

    run(&mut fed.sql, "DROP EXTENSION pg_calsync CASCADE; CREATE EXTENSION pg_calsync");
    fed.subscribe(ROOM, serde_json::json!({}));
    assert_eq!(sqlstate(&try_tomorrow(&mut fed.sql).expect_err("nothing was fed yet")), "SC002");
    fed.list(&[at_ten()]);

    assert_eq!(tomorrow(&mut fed.sql), [TEN]);
}

#[test]
fn a_session_follows_indexes_that_are_rebuilt() {
    let mut fed = taken_at_eight();
    let mut reader = fed.cluster.connect("postgres");
    assert_eq!(tomorrow(&mut reader), [EIGHT]);

    run_one_by_one(
        &mut fed.sql,
        &["REINDEX TABLE CONCURRENTLY calsync.busy", "REINDEX TABLE CONCURRENTLY calsync.subscription"],
    );
    fed.change(&[at_ten()]);
    assert_eq!(tomorrow(&mut reader), [TEN]);

    run_one_by_one(
        &mut fed.sql,
        &["REINDEX TABLE calsync.busy", "VACUUM FULL calsync.subscription", "VACUUM FULL calsync.busy"],
    );
    assert_eq!(tomorrow(&mut reader), [TEN]);
    assert_eq!(tomorrow(&mut fed.sql), [TEN]);
}

#[test]
fn a_table_that_was_altered_by_hand_is_refused_not_misread() {
    let mut fed = taken_at_eight();
    assert_eq!(tomorrow(&mut fed.sql), [EIGHT]);

    run(&mut fed.sql, "ALTER TABLE calsync.busy ALTER statuses TYPE integer");
    let refused = try_tomorrow(&mut fed.sql).expect_err("the column has another type");
    assert_eq!(sqlstate(&refused), "55000");
    run(&mut fed.sql, "ALTER TABLE calsync.busy ALTER statuses TYPE smallint");
    assert_eq!(tomorrow(&mut fed.sql), [EIGHT]);

    run(&mut fed.sql, "ALTER INDEX calsync.busy_pkey RENAME TO elsewhere");
    let refused = try_tomorrow(&mut fed.sql).expect_err("there is no index of that name");
    assert_eq!(sqlstate(&refused), "55000");
    run(&mut fed.sql, "ALTER INDEX calsync.elsewhere RENAME TO busy_pkey");
    assert_eq!(tomorrow(&mut fed.sql), [EIGHT]);
    run_one_by_one(
        &mut fed.sql,
        &["ALTER TABLE calsync.subscription ADD COLUMN of_our_own integer", "VACUUM FULL calsync.subscription"],
    );
    assert_eq!(tomorrow(&mut fed.sql), [EIGHT]);
}

#[test]
fn an_index_of_another_shape_is_refused_not_misread() {
    let mut fed = taken_at_eight();
    let columns = "(subscription_id, ends_at) INCLUDE (starts_at, statuses)";
    run(&mut fed.sql, "ALTER TABLE calsync.busy DROP CONSTRAINT busy_pkey");
    for index in [
        "CREATE UNIQUE INDEX busy_pkey ON calsync.busy (subscription_id, ends_at DESC) INCLUDE (starts_at, statuses)",
        &format!("CREATE UNIQUE INDEX busy_pkey ON calsync.busy {columns} WHERE ends_at < '2000-01-01'"),
        &format!("CREATE INDEX busy_pkey ON calsync.busy {columns}"),
    ] {
        run(&mut fed.sql, index);
        assert_eq!(sqlstate(&try_tomorrow(&mut fed.sql).expect_err(index)), "55000", "{index}");
        run(&mut fed.sql, "DROP INDEX calsync.busy_pkey");
    }

    run(&mut fed.sql, &format!("CREATE UNIQUE INDEX busy_pkey ON calsync.busy {columns}"));

    assert_eq!(tomorrow(&mut fed.sql), [EIGHT]);
}

#[test]
fn a_partial_index_of_names_hides_no_calendar() {
    let mut fed = taken_at_eight();
    run(
        &mut fed.sql,
        "DROP INDEX calsync.subscription_calendar_idx; \
         CREATE INDEX subscription_calendar_idx ON calsync.subscription (calendar) WHERE calendar <> 'room'",
    );

    assert_eq!(sqlstate(&try_tomorrow(&mut fed.sql).expect_err("an index of another shape")), "55000");
}

#[test]
fn a_scan_that_is_cancelled_gives_everything_back() {
    let mut fed = taken_at_eight();
    // Half a million pieces of a minute each, which would take the scan a while.
    run(
        &mut fed.sql,
        "UPDATE calsync.subscription SET covered = tstzrange(now() - interval '2000 days', now() + interval '2000 days'); \
         INSERT INTO calsync.busy SELECT s.subscription_id, at, at + interval '1 minute', 4 \
         FROM calsync.subscription AS s, generate_series(1, 500000) AS n, \
              LATERAL (SELECT now() - interval '1900 days' + n * interval '2 minutes' AS at) AS piece \
         WHERE at < now() - interval '5 days'",
    );
    let all = format!(
        "SELECT count(*) FROM calsync_busy(tstzrange(now() - interval '1950 days', now() + interval '2 days'), ARRAY['{ROOM}'])"
    );
    assert!(fed.sql.query_one(&all, &[]).expect("an answer").get::<_, i64>(0) > 400_000);
    run(&mut fed.sql, "SET statement_timeout = '10ms'; BEGIN");

    for _ in 0..5 {
        run(&mut fed.sql, "SAVEPOINT before");
        let cancelled = fed.sql.query(&all, &[]).expect_err("it takes longer than that");
        assert_eq!(sqlstate(&cancelled), "57014");
        run(&mut fed.sql, "ROLLBACK TO before");
        assert_eq!(tomorrow(&mut fed.sql), [EIGHT], "the transaction goes on");
    }
    run(&mut fed.sql, "COMMIT; RESET statement_timeout");

    assert_eq!(tomorrow(&mut fed.sql), [EIGHT]);
    // A pin that was left behind would keep this waiting.
    run_one_by_one(&mut fed.sql, &["SET lock_timeout = '10s'", "VACUUM FREEZE calsync.busy", "TRUNCATE calsync.busy"]);
    assert_eq!(tomorrow(&mut fed.sql), [""; 0]);
    assert_eq!(leaks(&fed), [""; 0]);
}

#[test]
fn refused_questions_leave_nothing_open() {
    let mut fed = taken_at_eight();
    fed.subscribe("never fed", serde_json::json!({}));

    run(
        &mut fed.sql,
        "DO $$ BEGIN FOR n IN 1 .. 200 LOOP BEGIN \
             PERFORM calsync_is_free(tstzrange(now(), now() + '1 hour'), ARRAY['room', 'never fed', 'nobody']); \
         EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$",
    );

    assert_eq!(tomorrow(&mut fed.sql), [EIGHT]);
    assert_eq!(stored(&mut fed.sql), 3);
    assert_eq!(leaks(&fed), [""; 0]);
}
