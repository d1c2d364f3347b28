//! The launcher among many databases: it finds those that have the extension, and is in nobody's way meanwhile.

use std::time::Duration;

use calsync_integration::{Cluster, World, eventually};
use postgres::Client;

const NO_SLOT: &str = "all background worker slots are taken";

/// Databases that never had the extension; returns their names.
fn databases_without(sql: &mut Client, how_many: usize) -> Vec<String> {
    let names: Vec<String> = (0..how_many).map(|number| format!("without_{number}")).collect();
    for name in &names {
        sql.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy"))
            .expect("a database");
    }
    names
}

/// A worker was in each of these databases, and is no more. Nobody else has been there.
fn wait_until_looked_at(cluster: &Cluster, names: &[String]) {
    let mut sql = cluster.connect("postgres");
    let looked_at = "SELECT count(*) FROM pg_stat_database WHERE datname = ANY ($1) AND sessions + xact_commit > 0";
    eventually("each database was looked at", || {
        sql.query_one(looked_at, &[&names]).expect("a count").get::<_, i64>(0) == names.len() as i64
    });
    eventually("nobody looks any more", || workers_in(&mut sql, names) == 0);
}

fn workers_in(sql: &mut Client, names: &[String]) -> i64 {
    let workers =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker' AND datname = ANY ($1)";
    sql.query_one(workers, &[&names]).expect("a count").get(0)
}

/// Workers that found the extension in their database, which is when they tell of themselves.
fn at_work_in(sql: &mut Client, database: &str) -> i64 {
    let told = "SELECT count(*) FROM calsync.stat_worker WHERE database = $1";
    sql.query_one(told, &[&database]).expect("a count").get(0)
}

fn launcher(sql: &mut Client) -> i32 {
    let launcher = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_calsync launcher'";
    sql.query_one(launcher, &[]).expect("a launcher").get(0)
}

#[test]
fn the_one_of_many_databases_that_has_the_extension_gets_its_worker_soon_after_a_restart() {
    let mut world = World::with("max_worker_processes = 8");
    databases_without(&mut world.sql, 15);
    world.sql.batch_execute("CREATE DATABASE last TEMPLATE template0").expect("a database");
    world.cluster.connect("last").batch_execute("CREATE EXTENSION pg_calsync").expect("created");

    world.cluster.stop("fast");
    world.cluster.start_again();

    let mut sql = world.cluster.connect("last");
    eventually("the last one's worker is at work", || at_work_in(&mut sql, "last") == 1);
    assert!(!world.cluster.log().contains(NO_SLOT), "nobody lacks a slot");
}

#[test]
fn databases_that_cannot_be_looked_at_take_two_slots_and_hold_up_nobody() {
    let mut world = World::with("max_worker_processes = 12");
    let names = databases_without(&mut world.sql, 4);
    world.sql.batch_execute("CREATE DATABASE last").expect("a database");
    world.cluster.connect("last").batch_execute("CREATE EXTENSION pg_calsync").expect("created");
    eventually("its worker is at work", || at_work_in(&mut world.sql, "last") == 1);
    wait_until_looked_at(&world.cluster, &names);
    let mut holders: Vec<Client> = names.iter().map(|name| world.cluster.connect(name)).collect();
    for holder in &mut holders {
        holder.batch_execute("BEGIN; LOCK TABLE pg_catalog.pg_extension").expect("locked");
    }

    // Another launcher knows nothing of them, only where workers were.
    let first = launcher(&mut world.sql);
    world.sql.execute("SELECT pg_terminate_backend($1)", &[&first]).expect("terminated");
    eventually("it has begun to look", || workers_in(&mut world.sql, &names) == 2);
    eventually("a worker that there was is back at once", || at_work_in(&mut world.sql, "last") == 1);
    assert_eq!(workers_in(&mut world.sql, &names), 2, "slots are left to others");

    let ended = "FATAL:  terminating background worker \"pg_calsync worker\"";
    eventually("who is held up is ended, and the next have their turn", || {
        assert!(workers_in(&mut world.sql, &names) <= 2, "at no time more than two");
        world.cluster.log().matches(ended).count() >= 4
    });
    drop(holders);
    eventually("they leave when they find nothing", || workers_in(&mut world.sql, &names) == 0);
}

#[test]
fn databases_without_the_extension_take_no_place_from_a_worker() {
    // Two for launchers, Postgres' and ours, two for workers; that makes fewer lines on the board than databases.
    let mut world = World::with("max_worker_processes = 4");
    let names = databases_without(&mut world.sql, 20);
    wait_until_looked_at(&world.cluster, &names);

    world.cluster.connect("without_19").batch_execute("CREATE EXTENSION pg_calsync").expect("created");

    let mut sql = world.cluster.connect("without_19");
    eventually("its worker is seen", || at_work_in(&mut sql, "without_19") == 1);
    let running = "SELECT (calsync_health() ->> 'worker_running')::boolean";
    assert!(sql.query_one(running, &[]).expect("the health").get::<_, bool>(0));
    drop(sql);
    world.sql.batch_execute("DROP DATABASE without_19").expect("it is sent away");
}

#[test]
fn no_announcement_is_lost_however_many_come_at_once() {
    let mut world = World::with("max_worker_processes = 20");
    let names = databases_without(&mut world.sql, 12);
    wait_until_looked_at(&world.cluster, &names);

    let launcher = launcher(&mut world.sql);
    // SAFETY: the pid of the launcher of our own cluster.
    unsafe { libc::kill(launcher, libc::SIGSTOP) };
    for name in &names {
        world.cluster.connect(name).batch_execute("CREATE EXTENSION pg_calsync").expect("created");
    }
    // SAFETY: as above.
    unsafe { libc::kill(launcher, libc::SIGCONT) };

    for name in &names {
        eventually("each has a worker", || at_work_in(&mut world.sql, name) == 1);
    }
}

#[test]
fn a_database_that_is_known_to_lack_a_slot_is_told_once() {
    // One for Postgres' own logical replication launcher, one for ours, none for a worker.
    let mut world = World::with("max_worker_processes = 2");
    let of = |name: &str| format!("no worker for database \"{name}\": {NO_SLOT}");
    eventually("it is told", || world.cluster.log().contains(&of("postgres")));

    databases_without(&mut world.sql, 1);
    world.cluster.connect("without_0").batch_execute("CREATE EXTENSION pg_calsync").expect("created");
    eventually("the launcher has gone round again", || world.cluster.log().contains(&of("without_0")));

    assert_eq!(world.cluster.log().matches(&of("postgres")).count(), 1);
}

#[test]
fn that_no_database_can_be_looked_at_for_lack_of_slots_is_told() {
    let mut world = World::with("max_worker_processes = 2");
    world.cluster.stop("fast");

    world.cluster.start_again();

    // Which of them has the extension is not known now.
    eventually("it is told", || world.cluster.log().contains("databases cannot be looked at for the extension"));
    std::thread::sleep(Duration::from_millis(1500));
    let told = world.cluster.log().matches("databases cannot be looked at for the extension").count();
    assert_eq!(told, 1, "once");
}
