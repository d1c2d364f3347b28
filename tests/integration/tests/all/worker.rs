//! The worker's life: found, woken, stopped, killed, and never in anybody's way.

use std::time::Duration;

use calsync_integration::{ALICE, Cluster, World, eventually};
use fake_google::{Action, Fault, Quirks};

const WORKERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker'";

fn workers_in(world: &mut World, database: &str) -> i64 {
    let sql = format!("{WORKERS} AND datname = '{database}'");
    world.count(&sql)
}

/// Workers in the database `postgres` but this one.
fn others_than(world: &mut World, process: i32) -> i64 {
    let sql = format!("{WORKERS} AND datname = 'postgres' AND pid <> {process}");
    world.count(&sql)
}

fn pid_of_worker(world: &mut World) -> i32 {
    eventually("a worker runs", || workers_in(world, "postgres") == 1);
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker' AND datname = 'postgres'";
    world.sql.query_one(sql, &[]).expect("a worker").get(0)
}

#[test]
fn a_worker_starts_when_create_extension_commits_and_not_before() {
    let mut world = World::new();
    world.sql.batch_execute("CREATE DATABASE other").expect("a database");
    let mut other = world.cluster.connect("other");

    other.batch_execute("BEGIN; CREATE EXTENSION pg_calsync; ROLLBACK;").expect("rolled back");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(workers_in(&mut world, "other"), 0);

    other.batch_execute("CREATE EXTENSION pg_calsync").expect("created");
    eventually("its worker runs", || workers_in(&mut world, "other") == 1);
}

/// DROP EXTENSION locks the tables in the order in which they were made, `calsync.subscription` first.
#[test]
fn a_worker_locks_no_table_before_the_one_that_drop_extension_begins_with() {
    let mut world = World::synced();
    let mut holder = world.cluster.connect("postgres");
    holder.batch_execute("BEGIN; LOCK TABLE calsync.subscription IN ACCESS EXCLUSIVE MODE").expect("as a DROP does");
    holder.batch_execute("SELECT pg_reload_conf()").expect("the worker looks round");
    let locks = |granted: bool| {
        format!(
            "SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) JOIN pg_class AS c ON c.oid = l.relation \
             WHERE a.backend_type = 'pg_calsync worker' AND c.relnamespace = $$calsync$$::regnamespace \
                 AND c.relkind = 'r' AND l.granted = {granted}"
        )
    };
    eventually("it waits", || world.count(&locks(false)) == 1);

    assert_eq!(world.count(&locks(true)), 0, "and has no other");

    holder.batch_execute("DROP EXTENSION pg_calsync; COMMIT").expect("so nobody waits for both");
    assert!(!world.cluster.log().contains("deadlock"));
}

#[test]
fn the_worker_leaves_when_the_extension_is_dropped_and_comes_back_with_it() {
    let mut world = World::synced();

    world.sql.batch_execute("DROP EXTENSION pg_calsync").expect("nothing blocks the drop");
    eventually("the worker leaves", || workers_in(&mut world, "postgres") == 0);

    world.sql.batch_execute("CREATE EXTENSION pg_calsync").expect("created again");
    world.subscribe(ALICE);
    world.wait_for_sync(ALICE);
    assert!(!world.cluster.log().contains("ERROR"), "nothing failed");
}

#[test]
fn worker_does_not_block_drop_database() {
    let mut world = World::new();
    world.sql.batch_execute("CREATE DATABASE other").expect("a database");
    world.cluster.connect("other").batch_execute("CREATE EXTENSION pg_calsync").expect("created");
    eventually("its worker runs", || workers_in(&mut world, "other") == 1);

    world.sql.batch_execute("DROP DATABASE other").expect("nobody is in the way");

    assert_eq!(workers_in(&mut world, "other"), 0);
}

#[test]
fn worker_with_a_request_in_flight_does_not_block_drop_database_or_shutdown() {
    let mut world = World::with("calsync.request_timeout = '10min'");
    world.google.add_fault(Fault::new(Action::Hang { bytes: 0 }).always());
    world.sql.batch_execute("CREATE DATABASE other").expect("a database");
    for database in ["other", "postgres"] {
        let mut sql = world.cluster.connect(database);
        sql.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_calsync").expect("created");
        sql.execute("SELECT calsync_subscribe($1)", &[&ALICE]).expect("subscribed");
    }
    eventually("both requests hang", || world.lists().len() == 2);

    world.sql.batch_execute("DROP DATABASE other").expect("nobody is in the way");
    let took = world.cluster.stop("fast");

    assert!(took < Duration::from_secs(10), "the server waited {took:?} for a provider");
}

#[test]
fn a_database_can_be_renamed_and_copied_under_its_worker() {
    let mut world = World::new();
    world.sql.batch_execute("CREATE DATABASE other").expect("a database");
    world.cluster.connect("other").batch_execute("CREATE EXTENSION pg_calsync").expect("created");
    eventually("its worker runs", || workers_in(&mut world, "other") == 1);

    world.sql.batch_execute("CREATE DATABASE copy TEMPLATE other").expect("copied");
    eventually("the copy has a worker", || workers_in(&mut world, "copy") == 1);
    eventually("the original's comes back", || workers_in(&mut world, "other") == 1);

    world.sql.batch_execute("ALTER DATABASE other RENAME TO renamed").expect("renamed");
    eventually("the renamed one has a worker", || workers_in(&mut world, "renamed") == 1);
}

#[test]
fn a_terminated_worker_comes_back() {
    let mut world = World::synced();
    let first = pid_of_worker(&mut world);

    world.sql.execute("SELECT pg_terminate_backend($1)", &[&first]).expect("terminated");
    eventually("another comes", || others_than(&mut world, first) == 1);

    world.meeting(3, "08:00", "09:00");
    world.sync();
    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);
}

#[test]
fn a_terminated_launcher_leaves_one_worker_a_database() {
    let mut world = World::synced();
    let launcher = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_calsync launcher'";
    let first: i32 = world.sql.query_one(launcher, &[]).expect("a launcher").get(0);
    let worker = pid_of_worker(&mut world);

    world.sql.execute("SELECT pg_terminate_backend($1)", &[&first]).expect("terminated");
    eventually("another launcher and another worker come", || others_than(&mut world, worker) == 1);

    world.meeting(3, "08:00", "09:00");
    world.sync();
    assert_eq!(world.busy(), ["+3 08:00 to 09:00"]);
    assert_eq!(workers_in(&mut world, "postgres"), 1);
}

#[test]
fn kill_9_in_the_middle_of_a_full_sync_loses_nothing_and_doubles_nothing() {
    let mut world = World::new();
    for day in 0..40 {
        world.meeting(day, "08:00", "09:00");
    }
    world.google.set_quirks(None, Quirks { page_size_cap: Some(2), ..Quirks::default() }).expect("a quirk");
    let slow = world.google.add_fault(Fault::latency(Duration::from_millis(100)).always());
    world.subscribe(ALICE);
    eventually("half of the pages are staged", || world.count("SELECT count(*) FROM calsync.staged_event") >= 20);

    let worker = pid_of_worker(&mut world);
    // SAFETY: the pid of a worker of our own cluster.
    unsafe { libc::kill(worker, libc::SIGKILL) };
    world.google.remove_fault(slow);
    eventually("the server notices and ends every session", || world.sql.execute("SELECT", &[]).is_err());
    eventually("the server has recovered", || world.cluster.try_connect("postgres").map(|sql| world.sql = sql).is_ok());
    world.wait_for_sync(ALICE);

    assert_eq!(world.busy().len(), 40);
    assert_eq!(world.count("SELECT count(*) FROM calsync.event"), 40);
    assert_eq!(world.count("SELECT count(*) FROM calsync.occurrence"), 40);
    assert_eq!(world.count("SELECT count(*) FROM calsync.staged_event"), 0);
}

#[test]
fn a_power_cut_in_the_middle_of_a_full_sync_loses_nothing() {
    let mut world = World::with("fsync = on");
    world.meeting(1, "08:00", "09:00");
    world.subscribe(ALICE);
    world.wait_for_sync(ALICE);
    for day in 2..20 {
        world.meeting(day, "08:00", "09:00");
    }
    world.google.set_quirks(None, Quirks { page_size_cap: Some(2), ..Quirks::default() }).expect("a quirk");
    let slow = world.google.add_fault(Fault::latency(Duration::from_millis(100)).always());
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    eventually("some pages are staged", || world.count("SELECT count(*) FROM calsync.staged_event") >= 6);

    world.cluster.kill();
    world.google.remove_fault(slow);
    world.cluster.start_again();
    world.sql = world.cluster.connect("postgres");
    eventually("the round is done again", || world.busy().len() == 19);
}

#[test]
fn sighup_changes_how_often_it_polls() {
    let mut world = World::synced();

    world.cluster.reconfigure("calsync.poll_interval = 1\ncalsync.max_poll_interval = 1");
    world.sync();
    world.meeting(3, "08:00", "09:00");

    eventually("the poll brings it", || world.busy() == ["+3 08:00 to 09:00"]);
}

#[test]
fn switched_off_it_asks_nobody() {
    let mut world = World::synced();
    world.cluster.reconfigure("calsync.enabled = off");
    eventually("the setting has arrived", || {
        world.text("SELECT current_setting('calsync.enabled') WHERE $1 <> ''", "-") == "off"
    });
    std::thread::sleep(Duration::from_millis(200));
    world.google.clear_log();

    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    std::thread::sleep(Duration::from_millis(300));
    assert!(world.lists().is_empty());

    world.meeting(3, "08:00", "09:00");
    world.cluster.reconfigure("calsync.enabled = on");
    eventually("it goes on", || world.busy() == ["+3 08:00 to 09:00"]);
}

#[test]
fn without_preloading_sql_works_and_says_what_is_missing() {
    let cluster = Cluster::start_without_preloading();
    let mut sql = cluster.connect("postgres");
    sql.batch_execute("CREATE EXTENSION pg_calsync").expect("created");

    sql.batch_execute("SELECT calsync_subscribe('room', 'none', time_zone => 'UTC')").expect("subscribed");
    sql.batch_execute("SELECT calsync_subscribe('alice@example.com')").expect("subscribed");

    assert!(cluster.log().contains("no background worker will sync this calendar"), "{}", cluster.log());
    assert!(cluster.log().contains("shared_preload_libraries = 'pg_calsync'"));
}

#[test]
fn too_few_worker_slots_are_told() {
    // One for Postgres' own logical replication launcher, one for ours, none for a worker.
    let world = World::with("max_worker_processes = 2");

    eventually("the launcher says so", || world.cluster.log().contains("Raise max_worker_processes"));
}
