//! Whose calendar is next: no owner, and no flood of wishes, keeps the others waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use calsync_integration::{ALICE, Pushed, World, eventually, sqlstate};
use fake_google::{Action, Fault, NewCalendar};
use postgres::Client;

/// A session of a role that may operate, and owns nothing yet.
fn operator(world: &mut World, name: &str) -> Client {
    world.sql.batch_execute(&format!("CREATE ROLE {name} LOGIN; GRANT calsync_operator TO {name}")).expect("a role");
    world.cluster.connect_as(name, "postgres").expect("connected")
}

/// Subscribes so many calendars, named for their owner and a number.
fn subscribe(world: &World, session: &mut Client, owner: &str, count: usize) {
    for number in 0..count {
        let name = format!("{owner}{number}@x");
        world.google.add_calendar(&NewCalendar::new(&name)).expect("a calendar");
        session.execute("SELECT calsync_subscribe($1)", &[&name]).expect("subscribed");
    }
}

/// The calendars that Google was asked for, oldest first.
fn asked(world: &World) -> Vec<String> {
    let log = world.google.log();
    let lists = log.iter().filter(|entry| entry.path.ends_with("/events"));
    lists.filter_map(|entry| Some(entry.path.rsplit('/').nth(1)?.replace("%40", "@"))).collect()
}

const STATE: &str = "SELECT state::text FROM calsync.subscription WHERE calendar = $1";

#[test]
fn a_run_in_the_foreground_syncs_the_callers_calendars_and_no_others() {
    let mut world = World::with("calsync.databases = 'nowhere'");
    let mut app = operator(&mut world, "app");
    subscribe(&world, &mut app, "app", 1);
    let mut other = operator(&mut world, "other");
    subscribe(&world, &mut other, "other", 1);
    world.sql.batch_execute("CREATE ROLE colleague LOGIN; GRANT app, calsync_operator TO colleague").expect("a member");
    let mut colleague = world.cluster.connect_as("colleague", "postgres").expect("connected");
    subscribe(&world, &mut colleague, "colleague", 1);

    colleague.batch_execute("CALL calsync_run()").expect("a run");
    let mut of_the_colleague = asked(&world);
    of_the_colleague.sort();
    assert_eq!(of_the_colleague, ["app0@x", "colleague0@x"], "its own, and those of the role that it is a member of");
    assert_eq!(world.text(STATE, "other0@x"), "pending");

    world.sql.batch_execute("CALL calsync_run()").expect("a run of who may do everything");
    assert_eq!(world.text(STATE, "other0@x"), "active");
}

#[test]
fn a_run_in_the_foreground_slides_and_cleans_no_others_calendars() {
    let mut world = World::with("calsync.databases = 'nowhere'");
    let mut app = operator(&mut world, "app");
    for (session, name) in [(&mut app, "mine"), (&mut world.sql, "theirs")] {
        session.execute("SELECT calsync_subscribe($1, 'none')", &[&name]).expect("subscribed");
        let nothing = format!("{{\"calendar\": \"{name}\", \"items\": [], \"nextSyncToken\": \"1\"}}");
        session.batch_execute(&format!("SELECT calsync_apply_delta('{nothing}')")).expect("fed");
    }
    let behind = "UPDATE calsync.subscription SET created_at = now() - interval '3 days', \
        covered = tstzrange(lower(covered), upper(covered) - interval '3 days')";
    world.sql.batch_execute(behind).expect("three days pass");
    let kept = "SELECT string_agg(calendar, ' ') FROM calsync.subscription \
        WHERE cleaned_at IS NOT NULL AND upper(covered) > now() + interval '364 days' AND $1 <> ''";

    app.batch_execute("CALL calsync_run()").expect("a run");

    assert_eq!(world.text(kept, "of whom"), "mine");
}

#[test]
fn a_run_in_the_foreground_opens_no_channel_for_others_and_passes_on_no_news_of_theirs() {
    let mut pushed = Pushed::with("calsync.databases = 'none'\ncalsync.webhook_url = ''");
    pushed.world.subscribe(ALICE);
    pushed.world.sql.batch_execute("CALL calsync_run()").expect("the first sync");
    let mut app = operator(&mut pushed.world, "app");
    let address = pushed.receiver.address();
    pushed.world.cluster.reconfigure(&format!("calsync.webhook_url = '{address}'"));

    app.batch_execute("CALL calsync_run()").expect("a run");
    assert_eq!(pushed.states(), [""; 0], "no channel is asked for");

    pushed.world.sql.batch_execute("CALL calsync_run()").expect("a run of who may do everything");
    eventually("the channel is confirmed", || pushed.statuses() == [200]);
    pushed.world.meeting(3, "08:00", "09:00");
    let news = "SELECT count(*) FROM calsync.channel WHERE has_news";
    eventually("its message has come", || pushed.world.count(news) == 1);

    app.batch_execute("CALL calsync_run()").expect("a run");
    assert_eq!(pushed.world.count(news), 1, "it is still to be told");
}

#[test]
fn a_cancelled_run_leaves_its_calendars_as_due_as_they_were() {
    let mut world = World::with("calsync.databases = 'nowhere'");
    world.subscribe(ALICE);
    let due = "SELECT next_sync_at::text FROM calsync.subscription WHERE calendar = $1";
    for since in ["1 hour", "1 second"] {
        let earlier = format!("UPDATE calsync.subscription SET next_sync_at = now() - interval '{since}'");
        world.sql.batch_execute(&earlier).expect("due");
        let before = world.text(due, ALICE);
        world.google.add_fault(Fault::new(Action::Hang { bytes: 0 }).times(1));

        world.sql.batch_execute("SET statement_timeout = '400ms'").expect("set");
        let cancelled = world.sql.batch_execute("CALL calsync_run()").expect_err("it is cancelled");
        world.sql.batch_execute("RESET statement_timeout").expect("reset");

        assert_eq!(sqlstate(&cancelled), "57014");
        assert_eq!(world.text(due, ALICE), before, "neither hurried nor put behind others");
    }
}

#[test]
fn the_worker_takes_on_what_a_cancelled_run_gives_back() {
    let mut world = World::synced();
    world.meeting(3, "08:00", "09:00");
    world.google.add_fault(Fault::new(Action::Hang { bytes: 0 }).times(1));
    // The worker sleeps, and is not told.
    world.sql.batch_execute("UPDATE calsync.subscription SET next_sync_at = now()").expect("due");

    world.sql.batch_execute("SET statement_timeout = '400ms'").expect("set");
    world.sql.batch_execute("CALL calsync_run()").expect_err("it is cancelled");
    world.sql.batch_execute("RESET statement_timeout").expect("reset");

    eventually("the worker was woken", || world.busy() == ["+3 08:00 to 09:00"]);
}

#[test]
fn one_owners_backlog_keeps_no_other_owner_waiting() {
    let mut world = World::with("calsync.enabled = off\ncalsync.max_concurrency = 2");
    let mut app = operator(&mut world, "app");
    subscribe(&world, &mut app, "app", 40);
    world.sql.batch_execute("UPDATE calsync.subscription SET next_sync_at = now() - interval '1 hour'").expect("old");
    world.others(&["lone@x"], None);
    world.google.add_fault(Fault::latency(Duration::from_millis(100)).always());

    world.cluster.reconfigure("calsync.enabled = on");

    eventually("it is asked for", || asked(&world).contains(&"lone@x".to_owned()));
    let before = asked(&world).iter().position(|name| name == "lone@x");
    assert!(before < Some(2), "as one of the first two, of 41, and the youngest: {before:?}");
}

#[test]
fn an_owner_that_comes_late_gets_the_next_place_that_comes_free() {
    let mut world = World::with("calsync.max_concurrency = 2");
    let mut app = operator(&mut world, "app");
    world.google.add_fault(Fault::latency(Duration::from_millis(400)).always());
    subscribe(&world, &mut app, "app", 40);
    eventually("its flood is under way", || asked(&world).len() >= 2);

    world.others(&["lone@x"], None);
    let under_way = asked(&world).len();

    eventually("it is asked for", || asked(&world).contains(&"lone@x".to_owned()));
    let waited = asked(&world).iter().position(|name| name == "lone@x").unwrap_or_default() - under_way;
    assert!(waited <= 2, "{waited} were begun before it, of forty that were due longer");
}

#[test]
fn calendars_asked_for_by_name_without_end_keep_nobody_waiting_that_is_merely_due() {
    for places in [1, 4] {
        let mut world = World::with(&format!("calsync.max_concurrency = {places}"));
        world.others(&["quiet@x"], None);
        let wanted: Vec<String> = (0..20).map(|number| format!("{number}@x")).collect();
        world.others(&wanted.iter().map(String::as_str).collect::<Vec<_>>(), None);
        eventually("all are synced", || {
            world.count("SELECT count(*) FROM calsync.subscription WHERE state = 'active'") == 21
        });
        world.google.add_fault(Fault::latency(Duration::from_millis(200)).always());
        let over = Arc::new(AtomicBool::new(false));
        let flood = std::thread::spawn({
            let (mut session, over) = (world.cluster.connect("postgres"), Arc::clone(&over));
            move || {
                while !over.load(Ordering::Relaxed) {
                    for name in &wanted {
                        session.execute("SELECT calsync_sync($1)", &[name]).expect("sync");
                    }
                }
            }
        });
        world.google.clear_log();
        eventually("the flood is under way", || asked(&world).len() > 2 * places);

        world.google.clear_log();
        world
            .sql
            .batch_execute("UPDATE calsync.subscription SET next_sync_at = now() WHERE calendar = 'quiet@x'")
            .expect("due");

        eventually("it is asked for", || asked(&world).contains(&"quiet@x".to_owned()));
        let before = asked(&world).iter().position(|name| name == "quiet@x").unwrap_or_default();
        over.store(true, Ordering::Relaxed);
        flood.join().expect("no panic");
        assert!(before <= 2 * places + 1, "{places} places: {before} went before it");
    }
}

#[test]
fn where_there_are_more_owners_than_are_looked_at_together_none_is_left_out() {
    let plenty = "calsync.requests_per_minute = 100000\ncalsync.project_requests_per_minute = 100000";
    let mut world = World::with(&format!("calsync.databases = 'nowhere'\n{plenty}"));
    // Rows of owners that no role stands for, which only a superuser sees.
    let many = "INSERT INTO calsync.subscription (calendar, provider, remote_id, owner, state, next_sync_at) \
        SELECT 'c' || n, 'google', 'alice@example.com', 'owner' || n, 'pending', now() FROM generate_series(1, 300) AS n";
    world.sql.batch_execute(many).expect("three hundred owners");

    for left in [200, 100, 0] {
        world.sql.batch_execute("CALL calsync_run(100)").expect("a run");

        assert_eq!(world.count("SELECT count(*) FROM calsync.subscription WHERE state <> 'active'"), left);
    }
}

#[test]
fn a_tenants_forgotten_cleaning_holds_up_nobody_else() {
    let mut world = World::new();
    let mut app = operator(&mut world, "app");
    let mut other = operator(&mut world, "other");
    subscribe(&world, &mut app, "app", 1);
    subscribe(&world, &mut other, "other", 2);
    eventually("all are synced", || {
        world.count("SELECT count(*) FROM calsync.subscription WHERE state = 'active'") == 3
    });
    other.batch_execute("SET lock_timeout = '3s'").expect("set");
    for (day, holding) in [(3, "calsync_cleanup()"), (4, "calsync_repair()")] {
        app.batch_execute(&format!("BEGIN; SELECT {holding}")).expect("not committed");

        world.meeting_of("other0@x", day, "08:00", "09:00");
        other.batch_execute("SELECT calsync_sync('other0@x')").expect(holding);
        let expected = format!("+{day} 08:00 to 09:00");
        eventually(&format!("the worker follows her calendar beside {holding}"), || {
            world.busy_of("other0@x").contains(&expected)
        });
        other.batch_execute("BEGIN; SELECT calsync_unsubscribe('other1@x'); ROLLBACK").expect(holding);

        app.batch_execute("COMMIT").expect("remembered");
    }
}
