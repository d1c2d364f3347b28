//! A provider that accepts and never answers is in nobody's way: not of a shutdown, of DROP DATABASE, of DROP EXTENSION,
//! nor of another calendar (that story is in `sync.rs`).

use std::time::{Duration, Instant};

use calsync_integration::{ALICE, World, eventually, sqlstate};
use fake_google::{Action, Fault};

/// Far below the ten minutes that a request may take here; it takes some hundredths of a second, also on a busy machine.
const PROMPT: Duration = Duration::from_secs(2);

/// Alice's calendar is asked for, and the answer ends after so many bytes without an end.
fn waiting_for_an_answer(bytes: usize) -> World {
    let mut world = World::with("calsync.request_timeout = '10min'\ncalsync.connect_timeout = '10min'");
    world.google.add_fault(Fault::new(Action::Hang { bytes }).always());
    world.subscribe(ALICE);
    eventually("the request is in flight", || world.lists().len() == 1);
    world
}

#[test]
fn a_silent_provider_does_not_hold_up_a_fast_shutdown() {
    for bytes in [0, 100] {
        let mut world = waiting_for_an_answer(bytes);

        let took = world.cluster.stop("fast");

        assert!(took < PROMPT, "the server waited {took:?} for a provider that fell silent after {bytes} bytes");
    }
}

#[test]
fn a_silent_provider_does_not_hold_up_a_crash_recovery() {
    let mut world = waiting_for_an_answer(0);
    let worker = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker'";
    let launcher: i32 = {
        let launcher = worker.replace("worker", "launcher");
        world.sql.query_one(&launcher, &[]).expect("a launcher").get(0)
    };

    // SAFETY: the pid of the launcher of our own cluster; its death makes the server end every other process.
    unsafe { libc::kill(launcher, libc::SIGKILL) };

    eventually("the server notices", || world.sql.execute("SELECT", &[]).is_err());
    eventually("the server is back", || world.cluster.try_connect("postgres").map(|sql| world.sql = sql).is_ok());
    eventually("the worker asks again", || world.lists().len() == 2);
}

#[test]
fn a_silent_provider_does_not_hold_up_drop_extension() {
    let mut world = waiting_for_an_answer(0);
    world.sql.batch_execute("SET statement_timeout = '5s'").expect("set");

    world.sql.batch_execute("DROP EXTENSION pg_calsync").expect("nobody is in the way");

    eventually("the worker leaves", || {
        world.count("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker'") == 0
    });
}

#[test]
fn a_silent_provider_does_not_hold_up_drop_database() {
    let mut world = World::with("calsync.request_timeout = '10min'");
    world.google.add_fault(Fault::new(Action::Hang { bytes: 0 }).always());
    world.sql.batch_execute("CREATE DATABASE other").expect("a database");
    let mut other = world.cluster.connect("other");
    other.batch_execute("CREATE EXTENSION pg_calsync").expect("created");
    other.execute("SELECT calsync_subscribe($1)", &[&ALICE]).expect("subscribed");
    eventually("the request is in flight", || world.lists().len() == 1);
    drop(other);
    world.sql.batch_execute("SET statement_timeout = '5s'").expect("set");

    world.sql.batch_execute("DROP DATABASE other").expect("nobody is in the way");
}

#[test]
fn a_call_that_waits_for_a_silent_provider_ends_with_the_server() {
    let mut world = World::with("calsync.request_timeout = '10min'\ncalsync.databases = 'nowhere'");
    world.google.add_fault(Fault::new(Action::Hang { bytes: 0 }).always());
    world.subscribe(ALICE);
    let mut session = world.cluster.connect("postgres");
    let call = std::thread::spawn(move || session.batch_execute("CALL calsync_run()"));
    eventually("the request is in flight", || world.lists().len() == 1);
    let begun = Instant::now();

    let took = world.cluster.stop("fast");

    assert!(took < PROMPT, "the server waited {took:?} for a provider");
    let error = call.join().expect("the session ends").expect_err("with an error");
    assert!(["57P01", ""].contains(&sqlstate(&error).as_str()), "{error:?}");
    assert!(begun.elapsed() < PROMPT);
}
