//! Opening a channel, where messages and answers come in another order, or say less, or something else, than they should;
//! and calendars that leave and come back.

use std::time::Duration;

use calsync_integration::{ALICE, Pushed, eventually};
use chrono::{TimeDelta, Utc};
use fake_google::{Action, Fault, PushQuirks};
use serde_json::{Value, json};

/// Answers the next request for a channel with this, and opens none.
fn answer_with(pushed: &Pushed, body: &Value, after: Duration) {
    let action = Action::Body {
        status: 200,
        content_type: "application/json".into(),
        body: body.to_string(),
        headers: Vec::new(),
    };
    pushed.world.google.add_fault(Fault::new(action).after(after).on_path("/watch").times(1));
}

/// The first message of the channel that was asked for, which says that it ends in so many hours.
fn first_message(pushed: &Pushed, hours: i64) -> Value {
    let log = pushed.world.google.log();
    let watch = log.iter().find(|entry| entry.path.ends_with("/watch")).expect("it was asked for");
    let asked: Value = serde_json::from_str(&watch.body).expect("JSON");
    json!({
        "X-Goog-Channel-ID": asked["id"],
        "X-Goog-Channel-Token": asked["token"],
        "X-Goog-Channel-Expiration": (Utc::now() + TimeDelta::hours(hours)).format("%a, %d %b %Y %H:%M:%S GMT").to_string(),
        "X-Goog-Resource-ID": "r",
        "X-Goog-Resource-State": "sync",
        "X-Goog-Message-Number": "1",
    })
}

/// When the only channel ends and when it is renewed, in minutes from now.
fn ends_and_is_renewed(pushed: &mut Pushed) -> (i64, i64) {
    let minutes = |column: &str| format!("(extract(epoch FROM {column} - now()) / 60)::bigint");
    let sql = format!("SELECT {}, {} FROM calsync.channel", minutes("expires_at"), minutes("due_at"));
    let row = pushed.world.sql.query_one(&sql, &[]).expect("one channel");
    (row.get(0), row.get(1))
}

/// It ends in two hours, and is renewed before.
fn assert_two_hours(pushed: &mut Pushed) {
    let (ends, renewed) = ends_and_is_renewed(pushed);
    assert!((115..=121).contains(&ends) && (85..=105).contains(&renewed), "{ends} {renewed}");
}

#[test]
fn an_answer_that_does_not_say_when_a_channel_ends_leaves_that_to_its_messages() {
    let mut pushed = Pushed::new();
    answer_with(&pushed, &json!({"kind": "api#channel", "resourceId": "r"}), Duration::ZERO);
    pushed.world.subscribe(ALICE);
    let answered = "SELECT count(*) FROM calsync.channel WHERE opened_at IS NOT NULL";
    eventually("it is answered", || pushed.world.count(answered) == 1);
    let (ends, _) = ends_and_is_renewed(&mut pushed);
    assert!((10_075..=10_080).contains(&ends), "a week, as was asked for: {ends}");

    let message = first_message(&pushed, 2);
    assert_eq!(pushed.webhook(&message), 200);

    assert_two_hours(&mut pushed);
}

#[test]
fn an_answer_that_does_not_say_when_a_channel_ends_does_not_overrule_the_message_before_it() {
    let mut pushed = Pushed::new();
    answer_with(&pushed, &json!({"kind": "api#channel", "resourceId": "r"}), Duration::from_millis(1500));
    pushed.world.subscribe(ALICE);
    eventually("it is asked for", || pushed.asked("/watch") == 1);
    let message = first_message(&pushed, 2);
    assert_eq!(pushed.webhook(&message), 200);

    let answered = "SELECT count(*) FROM calsync.channel WHERE opened_at IS NOT NULL";
    eventually("it is answered", || pushed.world.count(answered) == 1);

    assert_two_hours(&mut pushed);
}

#[test]
fn a_channel_that_has_ended_before_it_began_puts_no_poll_off_and_is_not_asked_for_again_at_once() {
    let mut pushed = Pushed::new();
    let past = (Utc::now() - TimeDelta::hours(1)).timestamp_millis().to_string();
    answer_with(&pushed, &json!({"kind": "api#channel", "resourceId": "r", "expiration": past}), Duration::ZERO);
    pushed.world.subscribe(ALICE);
    pushed.wait_for_states(&["lost"]);
    pushed.look();
    pushed.world.sync();

    assert_eq!(pushed.asked("/watch"), 1);
    assert!(pushed.next_poll() <= 1);
    let told = pushed.world.status("push_error");
    assert!(told.contains("ended already"), "{told}");
}

#[test]
fn a_channel_whose_answer_is_lost_after_its_first_message_is_open_all_the_same() {
    let mut pushed = Pushed::new();
    let cut = Fault::new(Action::CutAfter { bytes: 0 }).after(Duration::from_millis(1000));
    pushed.world.google.add_fault(cut.on_path("/watch").times(1));
    pushed.world.subscribe(ALICE);
    eventually("the message opens it", || pushed.states() == ["open"]);
    std::thread::sleep(Duration::from_millis(1500));
    pushed.look();
    pushed.world.sync();

    assert_eq!((pushed.states(), pushed.asked("/watch")), (vec!["open".to_owned()], 1));
    assert!(pushed.next_poll() >= 4);
}

#[test]
fn a_calendar_that_is_subscribed_anew_at_once_keeps_its_channel() {
    let mut pushed = Pushed::watched();
    let channel = pushed.world.google.channels().pop().expect("a channel").id;

    let anew = "SELECT calsync_unsubscribe($1), calsync_subscribe($1)";
    pushed.world.sql.execute(anew, &[&ALICE]).expect("subscribed anew");
    pushed.world.wait_for_sync(ALICE);
    pushed.look();
    pushed.world.sync();

    assert_eq!((pushed.asked("/watch"), pushed.asked("/stop")), (1, 0));
    assert_eq!(pushed.world.google.channels()[0].id, channel);
    assert!(pushed.next_poll() >= 4);
    pushed.world.meeting(3, "08:00", "09:00");
    eventually("it tells of changes", || pushed.world.busy() == ["+3 08:00 to 09:00"]);
}

#[test]
fn a_calendar_that_is_subscribed_anew_while_its_channel_is_being_stopped_gets_another() {
    let mut pushed = Pushed::watched();
    let old = pushed.world.google.channels().pop().expect("a channel").id;
    pushed.world.google.add_fault(Fault::latency(Duration::from_millis(1500)).on_path("/channels/stop").times(1));
    pushed.world.sql.execute("SELECT calsync_unsubscribe($1)", &[&ALICE]).expect("gone");
    pushed.look();
    eventually("it is being stopped", || pushed.asked("/stop") == 1);

    pushed.world.subscribe(ALICE);
    pushed.world.wait_for_sync(ALICE);
    pushed.look();

    pushed.wait_for_states(&["ended", "open"]);
    pushed.wait_until_watched(1);
    let open = pushed.world.google.channels();
    assert!(open.len() == 1 && open[0].id != old);
    pushed.world.meeting(3, "08:00", "09:00");
    eventually("it tells of changes", || pushed.world.busy() == ["+3 08:00 to 09:00"]);
}

/// A copy of the database, made by dump and restore, in which a worker runs, too.
fn copied(pushed: &Pushed) -> postgres::Client {
    let cluster = &pushed.world.cluster;
    let dump = cluster.home().join("dump.sql").display().to_string();
    cluster.run("pg_dump", &["-f", &dump, "postgres"]);
    cluster.run("createdb", &["copy"]);
    cluster.run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &dump, "copy"]);
    cluster.connect("copy")
}

#[test]
fn a_copy_of_a_database_neither_counts_on_the_originals_channels_nor_stops_them() {
    let mut pushed = Pushed::watched();
    let genuine = pushed.genuine(50);
    let original = pushed.world.google.channels().pop().expect("a channel").id;
    let mut copy = copied(&pushed);
    let count = |copy: &mut postgres::Client, sql: &str| copy.query_one(sql, &[]).expect("a number").get::<_, i64>(0);
    let of_the_original = "SELECT count(*) FROM calsync.channel WHERE state = 'ended' AND confirmed_at IS NOT NULL";
    eventually("it has ended for the copy", || count(&mut copy, of_the_original) == 1);

    assert_eq!(calsync_integration::webhook(&mut copy, &genuine), 404, "the original is asked next");
    copy.execute("SELECT calsync_sync()", &[]).expect("sync");
    let poll = "SELECT (extract(epoch FROM min(next_sync_at) - now()) / 3600)::bigint FROM calsync.subscription \
                WHERE leased_until IS NULL AND next_sync_at > now()";
    eventually("the copy polls", || {
        let hours = copy.query_one(poll, &[]).expect("a number").get::<_, Option<i64>>(0);
        hours.is_some_and(|hours| hours <= 1)
    });
    copy.execute("SELECT calsync_unsubscribe($1)", &[&ALICE]).expect("gone");
    pushed.look();
    pushed.world.sync();
    let open = pushed.world.google.channels();
    assert!(open.iter().any(|channel| channel.id == original), "nobody stopped it");
    pushed.world.meeting(3, "08:00", "09:00");
    eventually("it tells the original", || pushed.world.busy() == ["+3 08:00 to 09:00"]);
    assert!(pushed.next_poll() >= 4);
}

#[test]
fn a_message_of_a_channel_that_came_with_a_copy_is_nobodys_here() {
    let mut pushed = Pushed::watched();
    let genuine = pushed.genuine(50);
    pushed.quirks(PushQuirks { drop: true, ..PushQuirks::default() });
    pushed.world.cluster.reconfigure("calsync.enabled = off");

    pushed.world.sql.batch_execute("UPDATE calsync.channel SET home = '1/1'").expect("it came with a copy");

    assert_eq!(pushed.webhook(&genuine), 404, "also before anybody has looked");
}
