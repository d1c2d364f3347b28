//! Notifications: what they tell of arrives once, in whatever way they come, and nobody else can send one.

use std::time::Duration;

use calsync_integration::{ALICE, Pushed, RECEIVER, eventually, sqlstate, webhook};
use fake_google::{Fault, PushQuirks};
use serde_json::{Value, json};

#[test]
fn what_a_lost_notification_told_of_is_found_by_the_slow_poll() {
    let mut pushed = Pushed::with(
        "calsync.poll_interval = '1s'\ncalsync.max_poll_interval = '1s'\ncalsync.push_poll_interval = '3s'",
    );
    pushed.world.subscribe(ALICE);
    pushed.wait_until_watched(1);
    pushed.quirks(PushQuirks { drop: true, ..PushQuirks::default() });

    pushed.world.meeting(3, "08:00", "09:00");

    eventually("it is found", || pushed.world.busy() == ["+3 08:00 to 09:00"]);
    assert_eq!(pushed.statuses(), [200], "nobody told of it");
}

#[test]
fn a_notification_that_comes_twice_or_late_is_taken_once() {
    let mut pushed = Pushed::watched();
    pushed.quirks(PushQuirks { delay_ms: 800, ..PushQuirks::default() });
    pushed.world.meeting(3, "08:00", "09:00");
    pushed.quirks(PushQuirks { duplicate: true, ..PushQuirks::default() });
    pushed.world.meeting(4, "08:00", "09:00");

    eventually("all have come", || pushed.statuses().len() == 4);

    let number = |n: usize| pushed.receiver.received()[n].headers["X-Goog-Message-Number"].clone();
    assert!(number(1) == number(2) && number(3) != number(2), "twice, then the one that was held up");
    assert_eq!(pushed.statuses(), [200; 4]);
    pushed.world.wait_until_idle();
    assert_eq!(pushed.world.busy().len(), 2);
    let late = pushed.receiver.received()[3].headers.clone();
    let before = pushed.world.lists().len();
    assert_eq!(pushed.webhook(&late), 200);
    let news = "SELECT count(*) FROM calsync.channel WHERE has_news";
    assert_eq!(pushed.world.count(news), 0);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(pushed.world.lists().len(), before, "a replay asks for nothing");
}

/// As if what seemed to have come before had waited as long as it is to wait.
fn half_a_minute_later(pushed: &mut Pushed) {
    let aged = "UPDATE calsync.channel SET repeated_at = repeated_at - interval '30 s'";
    pushed.world.sql.batch_execute(aged).expect("its time has passed");
    pushed.look();
}

/// Until all that was news has been passed on and followed.
fn wait_until_told(pushed: &mut Pushed) {
    let news = "SELECT count(*) FROM calsync.channel WHERE has_news";
    eventually("it was passed on", || pushed.world.count(news) == 0);
    pushed.world.wait_until_idle();
}

const REPEATED: &str = "SELECT count(*) FROM calsync.channel WHERE repeated_at IS NOT NULL";

#[test]
fn a_number_that_somebody_made_up_does_not_silence_the_channel() {
    for state in ["exists", "sync"] {
        let mut pushed = Pushed::watched();
        let mut forged = pushed.genuine(i64::MAX.unsigned_abs());
        forged["X-Goog-Resource-State"] = json!(state);
        assert_eq!(pushed.webhook(&forged), 200, "he has seen a genuine one");
        wait_until_told(&mut pushed);

        pushed.world.meeting(3, "08:00", "09:00");

        eventually("what looks like a replay is remembered", || pushed.world.count(REPEATED) == 1);
        half_a_minute_later(&mut pushed);
        eventually("and followed", || pushed.world.busy() == ["+3 08:00 to 09:00"]);
    }
}

#[test]
fn replays_without_end_cause_one_poll_in_half_a_minute() {
    let mut pushed = Pushed::watched();
    let genuine = pushed.genuine(5);
    assert_eq!(pushed.webhook(&genuine), 200);
    wait_until_told(&mut pushed);
    pushed.world.google.clear_log();

    let replay = |pushed: &mut Pushed| (0..50).for_each(|_| assert_eq!(pushed.webhook(&genuine), 200));
    replay(&mut pushed);
    pushed.look();
    pushed.world.wait_until_idle();
    assert_eq!(pushed.world.lists().len(), 0, "none by itself");

    half_a_minute_later(&mut pushed);
    eventually("one follows all of them", || pushed.world.lists().len() == 1);
    pushed.world.wait_until_idle();
    replay(&mut pushed);
    let later = pushed.genuine(6);
    assert_eq!(pushed.webhook(&later), 200);
    eventually("a new one is followed at once", || pushed.world.lists().len() == 2);
    assert_eq!(pushed.world.count(REPEATED), 0, "and brings what the replays may have told");
}

#[test]
fn a_forged_notification_leaves_no_trace() {
    let mut pushed = Pushed::watched();
    let genuine = pushed.genuine(5);
    let but = |name: &str, value: Value| {
        let mut headers = genuine.clone();
        headers[name] = value;
        headers
    };
    let row = "SELECT ch::text FROM calsync.channel AS ch WHERE $1 <> ''";
    let before = pushed.world.text(row, "x");

    assert_eq!(pushed.webhook(&but("X-Goog-Channel-Token", json!("guessed"))), 403);
    assert_eq!(pushed.webhook(&but("X-Goog-Channel-Token", Value::Null)), 403);
    assert_eq!(pushed.webhook(&but("X-Goog-Resource-ID", json!("another"))), 403);
    assert_eq!(pushed.webhook(&but("X-Goog-Resource-ID", Value::Null)), 403);
    assert_eq!(pushed.webhook(&but("X-Goog-Channel-ID", json!("unknown"))), 404);

    assert_eq!(pushed.world.text(row, "x"), before);
    assert_eq!(pushed.webhook(&genuine), 200);
    assert_ne!(pushed.world.text(row, "x"), before);
}

#[test]
fn a_channel_that_has_ended_is_unknown() {
    let mut pushed = Pushed::watched();
    let genuine = pushed.genuine(5);
    pushed.world.cluster.reconfigure("calsync.webhook_url = ''");
    pushed.wait_for_states(&["ended"]);

    assert_eq!(pushed.webhook(&genuine), 404);
}

#[test]
fn garbage_in_headers_never_raises() {
    let mut pushed = Pushed::watched();
    let genuine = pushed.genuine(5);
    let mut deep = json!("exists");
    for _ in 0..500 {
        deep = json!([deep]);
    }
    for garbage in [json!(null), json!([]), json!(7), json!("x"), json!({}), json!([genuine])] {
        assert_eq!(pushed.webhook(&garbage), 400, "{garbage}");
    }
    for name in ["X-Goog-Channel-ID", "X-Goog-Resource-State", "X-Goog-Message-Number"] {
        for value in [
            json!(null),
            json!(true),
            json!([1, 2]),
            json!({"a": {}}),
            json!(""),
            deep.clone(),
            json!("x".repeat(300_000)),
        ] {
            let mut headers = genuine.clone();
            headers[name] = value;
            assert_eq!(pushed.webhook(&headers), 400, "{name}");
        }
    }
    for number in ["-1", "0", "1.5", "99999999999999999999", "five"] {
        let mut headers = genuine.clone();
        headers["X-Goog-Message-Number"] = json!(number);
        assert_eq!(pushed.webhook(&headers), 400, "{number}");
    }
    let sql =
        "SELECT calsync_webhook(NULL), calsync_webhook('{}', NULL), calsync_webhook(repeat('[', 5000)::text::jsonb)";
    let error = pushed.world.sql.query_one(sql, &[]).expect_err("that is no jsonb");
    assert_eq!(sqlstate(&error), "22P02", "which is said before we are called");
    let nested = "SELECT calsync_webhook((repeat('[', 3000) || repeat(']', 3000))::jsonb), calsync_webhook(NULL)";
    let row = pushed.world.sql.query_one(nested, &[]).expect("it never raises");
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (400, 400));
    assert_eq!(pushed.webhook(&genuine), 200, "and the genuine one still counts");
}

#[test]
fn a_receiver_needs_one_right_and_has_no_other() {
    let mut pushed = Pushed::watched();
    pushed.world.sql.batch_execute("CREATE ROLE stranger LOGIN").expect("a role");
    let genuine = pushed.genuine(5);
    let connect = |role: &str| pushed.world.cluster.connect_as(role, "postgres").expect("a connection");
    let (mut receiver, mut stranger) = (connect(RECEIVER), connect("stranger"));

    assert_eq!(webhook(&mut receiver, &genuine), 200);

    let refused = stranger.query_one("SELECT calsync_webhook($1)", &[&genuine]).expect_err("PUBLIC may not");
    assert_eq!(sqlstate(&refused), "42501");
    let table = receiver.query("SELECT * FROM calsync.channel", &[]).expect_err("it reads nothing");
    assert_eq!(sqlstate(&table), "42501");
}

#[test]
fn a_notification_during_a_round_is_followed_by_another_round() {
    let mut pushed = Pushed::watched();
    pushed.world.google.clear_log();
    // The answer is made at once and takes its time: what happens meanwhile is not in it.
    pushed.world.google.add_fault(Fault::latency(Duration::from_millis(1200)).on_path("/events").times(1));
    pushed.world.sql.execute("SELECT calsync_sync($1)", &[&ALICE]).expect("sync");
    eventually("a round is under way", || pushed.world.lists().len() == 1);

    pushed.world.meeting(3, "08:00", "09:00");

    eventually("it is not lost", || pushed.world.busy() == ["+3 08:00 to 09:00"]);
}

#[test]
fn a_notification_during_a_round_of_a_failing_calendar_is_not_lost() {
    let mut pushed = Pushed::watched();
    pushed.world.google.add_fault(Fault::error(500, "backendError").on_path("/events").times(1));
    pushed.world.sql.execute("SELECT calsync_sync($1)", &[&ALICE]).expect("sync");
    pushed.world.wait_for_status("state", "backoff");
    pushed.world.google.add_fault(Fault::latency(Duration::from_millis(1500)).on_path("/events").times(1));
    pushed.world.google.clear_log();
    eventually("it is tried again", || pushed.world.lists().len() == 1);

    pushed.world.meeting(3, "08:00", "09:00");

    eventually("it is not lost", || pushed.world.busy() == ["+3 08:00 to 09:00"]);
}

#[test]
fn notifications_do_not_hurry_a_calendar_that_fails() {
    let mut pushed = Pushed::watched();
    pushed.world.google.add_fault(Fault::error(500, "backendError").on_path("/events").always());
    pushed.world.sql.execute("SELECT calsync_sync($1)", &[&ALICE]).expect("sync");
    eventually("it fails", || {
        pushed.world.count("SELECT count(*) FROM calsync.subscription WHERE leased_until IS NULL AND failures >= 2")
            == 1
    });
    let later = "UPDATE calsync.subscription SET next_sync_at = now() + interval '1 hour' WHERE leased_until IS NULL";
    pushed.world.sql.batch_execute(later).expect("it waits");
    let asked = pushed.world.lists().len();

    for number in 5..15 {
        let genuine = pushed.genuine(number);
        assert_eq!(pushed.webhook(&genuine), 200);
    }

    eventually("there is nothing more to tell", || {
        pushed.world.count("SELECT count(*) FROM calsync.channel WHERE has_news") == 0
    });
    assert!(pushed.world.lists().len() <= asked + 1, "its next try brings it all");
}

#[test]
fn a_locked_calendar_neither_holds_up_the_receiver_nor_loses_the_news() {
    let mut pushed = Pushed::new();
    let subscribe = "SELECT calsync_subscribe('locked', remote_id => $1), calsync_subscribe('open', remote_id => $1)";
    pushed.world.sql.execute(subscribe, &[&ALICE]).expect("two names");
    pushed.wait_until_watched(1);
    let mut forgotten = pushed.world.cluster.connect("postgres");
    let lock = "BEGIN; SELECT FROM calsync.subscription WHERE calendar = 'locked' FOR UPDATE";
    forgotten.batch_execute(lock).expect("a lock");
    pushed.world.google.clear_log();

    pushed.world.meeting(3, "08:00", "09:00");

    eventually("the other one goes on", || pushed.world.busy_of("open") == ["+3 08:00 to 09:00"]);
    assert!(pushed.statuses().iter().all(|status| *status == 200));
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(pushed.world.lists().len(), 1, "and is not asked for again and again meanwhile");
    forgotten.batch_execute("ROLLBACK").expect("remembered");
    eventually("the news waited for it", || pushed.world.busy_of("locked") == ["+3 08:00 to 09:00"]);
}

#[test]
fn a_change_arrives_by_notification() {
    let mut pushed = Pushed::watched();

    pushed.world.meeting(3, "08:00", "09:00");
    eventually("it is there", || pushed.world.busy() == ["+3 08:00 to 09:00"]);

    pushed.world.wait_until_idle();
    assert!((4..=8).contains(&pushed.next_poll()), "and is polled as rarely as before");
}

#[test]
fn the_first_message_may_come_before_the_answer() {
    let mut pushed = Pushed::new();
    pushed.world.google.add_fault(Fault::latency(Duration::from_millis(1500)).on_path("/watch").times(1));
    pushed.world.subscribe(ALICE);

    eventually("the message opens it", || {
        pushed.world.count("SELECT count(*) FROM calsync.channel WHERE state = 'open' AND opened_at IS NULL") == 1
    });

    pushed.wait_until_watched(1);
    assert_eq!((pushed.statuses(), pushed.asked("/watch")), (vec![200], 1));
}

#[test]
fn a_receiver_that_does_not_commit_holds_up_its_own_channel_only() {
    let mut pushed = Pushed::watched();
    pushed.world.others(&["b@x"], None);
    pushed.wait_until_watched(2);
    pushed.world.google.clear_log();
    let (first, second) = (pushed.genuine(5), pushed.genuine(6));
    let mut forgotten = pushed.world.cluster.connect("postgres");
    // So that there already is news of it, which cannot be passed on.
    let lock = "BEGIN; SELECT FROM calsync.subscription WHERE calendar LIKE 'alice%' FOR UPDATE";
    forgotten.batch_execute(lock).expect("a transaction");
    assert_eq!(pushed.webhook(&first), 200);
    assert_eq!(webhook(&mut forgotten, &second), 200);

    pushed.world.meeting_of("b@x", 3, "08:00", "09:00");
    eventually("another's news arrive", || pushed.world.busy_of("b@x") == ["+3 08:00 to 09:00"]);
    pushed.world.others(&["c@x"], None);
    let watched = "SELECT count(*) FROM calsync.status WHERE calendar = 'c@x' AND pushed";
    eventually("others are watched", || pushed.world.count(watched) == 1);
    let asked = |pushed: &Pushed| pushed.world.google.log().iter().filter(|entry| entry.path.contains("alice")).count();
    assert_eq!(asked(&pushed), 0);

    forgotten.batch_execute("COMMIT").expect("remembered");
    eventually("and its own, once it has committed", || asked(&pushed) == 1);
}
