//! Failures of comparable systems that no other story tells of; docs/reliability.md lists them all, each with its test.

use std::time::{Duration, Instant};

use calsync_integration::{ALICE, World, eventually, sqlstate};
use fake_google::{Fault, NewCalendar};

/// Cal.com's cache never got a token for a calendar without events, and so listed it in full for ever.
#[test]
fn an_empty_calendar_gets_its_token_and_is_free() {
    let mut world = World::synced();
    assert_ne!(world.status("sync_token"), "");

    world.sync();

    assert_eq!((world.lists().len(), world.deltas()), (2, 1));
    assert_eq!(world.busy(), [""; 0]);
}

/// Cal.com's cache kept an entry for each group of calendars: a question about another group missed it.
#[test]
fn any_group_of_calendars_is_answered_from_what_is_known_of_each() {
    let mut world = World::synced();
    let (bob, room) = ("bob@example.com", "c_188room@resource.calendar.google.com");
    for (calendar, day) in [(ALICE, 1), (bob, 2), (room, 3)] {
        if calendar != ALICE {
            world.google.add_calendar(&NewCalendar::new(calendar)).expect("a calendar");
            world.subscribe(calendar);
            world.wait_for_sync(calendar);
        }
        world.meeting_of(calendar, day, "08:00", "09:00");
    }
    world.sync();

    for (group, busy) in [(vec![ALICE], 1), (vec![room, ALICE], 2), (vec![bob, room], 2), (vec![ALICE, bob, room], 3)] {
        let sql = "SELECT count(*) FROM calsync_busy(tstzrange(now(), now() + interval '9 days'), $1)";
        let rows: i64 = world.sql.query_one(sql, &[&group]).expect("it answers").get(0);
        assert_eq!(rows, busy, "{group:?}");
    }
}

/// Cal.com's cache lost what changed between asking and writing. `sync.rs` tells it of a poll that brings nothing.
#[test]
fn a_change_wished_for_while_news_is_under_way_is_not_lost() {
    let mut world = World::synced();
    world.meeting(2, "08:00", "09:00");
    world.google.clear_log();
    world.google.add_fault(Fault::latency(Duration::from_millis(700)));
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    eventually("the delta is on its way", || world.lists().len() == 1);
    std::thread::sleep(Duration::from_millis(200));

    world.meeting(3, "08:00", "09:00");
    world.sync();

    assert_eq!(world.busy(), ["+2 08:00 to 09:00", "+3 08:00 to 09:00"]);
}

#[test]
fn stale_a_millisecond_past_the_threshold_and_not_before() {
    let mut world = World::synced();
    world
        .sql
        .batch_execute("SELECT calsync_pause('alice@example.com'); SET calsync.max_staleness = '1h'")
        .expect("set");
    // Within one statement the clock of all questions stands still.
    let aged = |age: &str| {
        format!(
            "DO $$BEGIN \
                 UPDATE calsync.subscription SET synced_at = statement_timestamp() - interval '{age}'; \
                 PERFORM calsync_busy(tstzrange(now(), now() + interval '1 day'), '{{alice@example.com}}'); \
             END$$"
        )
    };

    world.sql.batch_execute(&aged("59 min 59.999 s")).expect("younger: fresh");
    world.sql.batch_execute(&aged("1 hour")).expect("exactly as old as allowed: fresh");
    let error = world.sql.batch_execute(&aged("1 hour 0.001 s")).expect_err("older: stale");

    assert_eq!(sqlstate(&error), "SC003");
}

/// pg_net's and pg_cron's workers crashed once a second for ever.
#[test]
fn a_worker_that_dies_again_and_again_is_started_ever_more_slowly() {
    let mut world = World::synced();
    let mut pause = Duration::ZERO;
    for _ in 0..3 {
        let worker = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker'";
        let first: i32 = world.sql.query_one(worker, &[]).expect("a worker").get(0);
        world.sql.execute("SELECT pg_terminate_backend($1)", &[&first]).expect("terminated");
        let died = Instant::now();
        eventually("another comes", || {
            world.sql.query_opt(worker, &[]).expect("asked").is_some_and(|row| row.get::<_, i32>(0) != first)
        });
        pause = died.elapsed();
    }

    // One second, two, four: a busy machine only makes it longer.
    assert!(pause > Duration::from_secs(3), "the third came back after {pause:?}");
}
