//! Push: channels are opened, renewed, stopped and never forgotten; what they tell of arrives, and what they lose is polled.

use std::time::Duration;

use calsync_integration::{ALICE, RECEIVER, Receiver, World, eventually, sqlstate};
use fake_google::{Action, Fault, NewCalendar, PushQuirks};
use postgres::Client;
use serde_json::{Value, json};

/// A world with a receiver. Polls come once an hour, so that what arrives was pushed.
struct Pushed {
    world: World,
    receiver: Receiver,
}

const RARELY: &str = "calsync.poll_interval = '1h'\ncalsync.max_poll_interval = '1h'\n";

impl Pushed {
    fn new() -> Self {
        Self::with("")
    }

    fn with(configuration: &str) -> Self {
        let receiver = Receiver::bind();
        let lines = format!("{RARELY}calsync.webhook_url = '{}'\n{configuration}", receiver.address());
        let mut world = World::with(&lines);
        let grant = format!(
            "CREATE ROLE {RECEIVER} LOGIN; GRANT EXECUTE ON FUNCTION calsync_webhook(jsonb, text) TO {RECEIVER}"
        );
        world.sql.batch_execute(&grant).expect("a role for the receiver");
        receiver.serve(world.cluster.connector());
        Pushed { world, receiver }
    }

    /// Alice's calendar, subscribed, synced and watched.
    fn watched() -> Self {
        let mut pushed = Self::new();
        pushed.world.subscribe(ALICE);
        pushed.wait_until_watched(1);
        pushed
    }

    /// Until so many channels have been confirmed, and the calendars know.
    fn wait_until_watched(&mut self, channels: i64) {
        let confirmed = "SELECT count(*) FROM calsync.channel WHERE state = 'open' AND confirmed_at IS NOT NULL \
             AND opened_at IS NOT NULL";
        eventually("the channels are confirmed", || self.world.count(confirmed) == channels);
        self.world.sync();
    }

    /// The tables are looked at now, and not within half a minute.
    fn look(&mut self) {
        self.world.cluster.reconfigure("calsync.connect_timeout = '10s'");
    }

    fn states(&mut self) -> Vec<String> {
        let rows = self.world.sql.query("SELECT state FROM calsync.channel ORDER BY requested_at", &[]);
        rows.expect("channels").iter().map(|row| row.get(0)).collect()
    }

    fn wait_for_states(&mut self, wanted: &[&str]) {
        let what = format!("the channels are {wanted:?}");
        eventually(&what, || self.states() == wanted);
    }

    /// In hours from now.
    fn next_poll(&mut self) -> i64 {
        self.world
            .count("SELECT min(extract(epoch FROM next_sync_at - now()) / 3600)::bigint FROM calsync.subscription")
    }

    fn statuses(&self) -> Vec<i32> {
        self.receiver.received().iter().map(|received| received.status).collect()
    }

    /// Paths of the requests about channels.
    fn asked(&self, path: &str) -> usize {
        self.world.google.log().iter().filter(|entry| entry.path.ends_with(path)).count()
    }

    /// What Google sends for the one open channel.
    fn genuine(&self, number: u64) -> Value {
        let channel = self.world.google.channels().pop().expect("a channel");
        json!({
            "X-Goog-Channel-ID": channel.id,
            "X-Goog-Channel-Token": channel.token,
            "X-Goog-Resource-ID": channel.resource_id,
            "X-Goog-Resource-State": "exists",
            "X-Goog-Message-Number": number.to_string(),
        })
    }

    fn webhook(&mut self, headers: &Value) -> i32 {
        webhook(&mut self.world.sql, headers)
    }

    fn quirks(&self, quirks: PushQuirks) {
        self.world.google.set_push_quirks(quirks);
    }
}

fn webhook(sql: &mut Client, headers: &Value) -> i32 {
    sql.query_one("SELECT calsync_webhook($1)", &[headers]).expect("it never raises").get(0)
}

#[test]
fn a_calendar_is_watched_after_its_first_sync_and_then_polled_rarely() {
    let mut pushed = Pushed::watched();

    let log = pushed.world.google.log();
    let paths: Vec<&str> = log.iter().map(|entry| entry.path.rsplit('/').next().unwrap_or_default()).collect();
    assert_eq!(paths[..2], ["events", "watch"]);
    assert_eq!(pushed.asked("/watch"), 1);
    assert!((4..=8).contains(&pushed.next_poll()), "push_poll_interval is 6h: {}", pushed.next_poll());
    assert_eq!(pushed.world.status("pushed"), "true");
    assert_eq!(pushed.statuses(), [200]);
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
fn a_secret_token_is_kept_as_a_hash_only() {
    let mut pushed = Pushed::watched();
    let channel = pushed.world.google.channels().pop().expect("a channel");
    let token = channel.token.expect("a token");

    let row = pushed.world.text("SELECT ch::text FROM calsync.channel AS ch WHERE channel_id = $1", &channel.id);

    assert_eq!((token.len(), channel.id.len()), (64, 32), "256 and 128 bits in hexadecimal");
    assert!(!row.is_empty() && !row.contains(&token));
    let hash = "SELECT (token_hash = sha256($1::text::bytea))::text FROM calsync.channel";
    assert_eq!(pushed.world.text(hash, &token), "true");
}

#[test]
fn subscriptions_of_one_calendar_and_credential_share_a_channel() {
    let mut pushed = Pushed::new();
    pushed.world.sql.batch_execute("SELECT calsync_add_credential('team', 'google', '{}')").expect("a credential");
    let subscribe = "SELECT calsync_subscribe('acme', credential => 'team', remote_id => $1), \
        calsync_subscribe('zeta', credential => 'team', remote_id => $1), calsync_subscribe($1)";
    pushed.world.sql.execute(subscribe, &[&ALICE]).expect("three names");
    pushed.wait_until_watched(2);

    pushed.world.meeting(3, "08:00", "09:00");

    for calendar in ["acme", "zeta", ALICE] {
        eventually("all of them are told", || pushed.world.busy_of(calendar) == ["+3 08:00 to 09:00"]);
    }
    assert_eq!(pushed.asked("/watch"), 2, "one for the credential, one for nobody");
}

#[test]
fn a_calendar_that_cannot_be_watched_is_polled() {
    let mut pushed = Pushed::new();
    pushed.world.google.add_calendar(&NewCalendar::new("holidays").not_pushable()).expect("a calendar");
    pushed.world.subscribe("holidays");
    pushed.wait_for_states(&["refused"]);
    pushed.world.sync();
    pushed.look();
    pushed.world.sync();

    assert_eq!(pushed.asked("/watch"), 1, "it is not asked for again within days");
    assert!(pushed.next_poll() <= 1);
    let days = "SELECT (extract(epoch FROM due_at - now()) / 86400)::bigint FROM calsync.channel";
    assert!((4..=9).contains(&pushed.world.count(days)));
    let status = "SELECT concat_ws(' ', pushed, push_error) FROM calsync.status WHERE calendar = $1";
    let told = pushed.world.text(status, "holidays");
    assert!(told.starts_with("f ") && told.contains("pushNotSupportedForRequestedResource"), "{told}");
}

#[test]
fn a_channel_is_renewed_with_overlap_and_then_stopped() {
    let mut pushed = Pushed::watched();
    let old = pushed.world.google.channels().pop().expect("a channel").id;
    pushed.quirks(PushQuirks { delay_ms: 1500, ..PushQuirks::default() });
    pushed.world.sql.batch_execute("UPDATE calsync.channel SET due_at = now()").expect("its time has come");
    pushed.look();

    eventually("the new one is open", || pushed.world.google.channels().len() == 2);
    pushed.look();
    assert_eq!(pushed.asked("/stop"), 0, "the old one stays until the new one has shown that it works");
    pushed.world.meeting(3, "08:00", "09:00");
    eventually("nothing is lost meanwhile", || pushed.world.busy() == ["+3 08:00 to 09:00"]);
    eventually("then the old one is stopped", || {
        pushed.look();
        let open = pushed.world.google.channels();
        open.len() == 1 && open[0].id != old
    });
    pushed.wait_for_states(&["ended", "open"]);
    assert_eq!(pushed.asked("/watch"), 2);
    pushed.world.sync();
    assert_eq!(pushed.world.status("pushed"), "true");
}

#[test]
fn a_channel_is_stopped_when_the_last_subscription_goes() {
    let mut pushed = Pushed::new();
    let subscribe = "SELECT calsync_subscribe('one', remote_id => $1), calsync_subscribe('two', remote_id => $1)";
    pushed.world.sql.execute(subscribe, &[&ALICE]).expect("two names");
    pushed.wait_until_watched(1);

    pushed.world.sql.batch_execute("SELECT calsync_unsubscribe('one')").expect("gone");
    pushed.look();
    pushed.world.sync();
    assert_eq!(pushed.asked("/stop"), 0);

    pushed.world.sql.batch_execute("SELECT calsync_unsubscribe('two')").expect("gone");
    assert_eq!(pushed.states(), ["open"], "the row outlives the subscription");
    pushed.look();
    pushed.wait_for_states(&["ended"]);
    assert_eq!(pushed.world.google.channels().len(), 0);
}

#[test]
fn a_stop_that_fails_is_tried_again() {
    let mut pushed = Pushed::watched();
    pushed.world.google.add_fault(Fault::error(500, "backendError").on_path("/channels/stop"));
    pushed.world.sql.execute("SELECT calsync_pause($1)", &[&ALICE]).expect("paused");
    pushed.look();
    eventually("it was asked for", || {
        pushed.world.count("SELECT count(*) FROM calsync.channel WHERE state = 'stopping' AND failures = 1") == 1
    });

    pushed.world.sql.batch_execute("UPDATE calsync.channel SET due_at = now()").expect("its time has come");
    pushed.look();

    pushed.wait_for_states(&["ended"]);
    assert_eq!((pushed.asked("/stop"), pushed.world.google.channels().len()), (2, 0));
}

#[test]
fn without_an_address_channels_are_stopped_and_calendars_polled_at_once() {
    let mut pushed = Pushed::watched();
    assert!(pushed.next_poll() >= 4);

    pushed.world.cluster.reconfigure("calsync.webhook_url = ''");

    pushed.wait_for_states(&["ended"]);
    eventually("it is polled as all others", || pushed.next_poll() <= 1);
    assert_eq!(pushed.world.status("pushed"), "false");
    assert_eq!(pushed.world.google.channels().len(), 0);
}

#[test]
fn another_address_supersedes_the_channels_to_the_old_one() {
    let mut pushed = Pushed::watched();
    let other = Receiver::bind();
    other.serve(pushed.world.cluster.connector());

    pushed.world.cluster.reconfigure(&format!("calsync.webhook_url = '{}'", other.address()));

    pushed.wait_for_states(&["ended", "open"]);
    let open = pushed.world.google.channels();
    assert_eq!((open.len(), open[0].address.as_str()), (1, other.address().as_str()));
    eventually("the new one is confirmed", || !other.received().is_empty());
}

#[test]
fn an_address_that_cannot_be_used_ends_nothing_and_is_told() {
    let mut pushed = Pushed::watched();

    pushed.world.cluster.reconfigure("calsync.webhook_url = 'https://10.0.0.1/hook'");

    let warning = "calsync.webhook_url cannot be used: its host is an address";
    eventually("the log says so", || pushed.world.cluster.log().contains(warning));
    assert_eq!(pushed.states(), ["open"]);
    let problem = "SELECT count(*) FROM jsonb_array_elements(calsync_health() -> 'problems') AS p \
        WHERE p ->> 'problem' LIKE 'calsync.webhook_url cannot be used%'";
    assert_eq!(pushed.world.count(problem), 1);
}

#[test]
fn a_channel_that_expired_leaves_its_calendar_to_polling_at_once() {
    let mut pushed = Pushed::watched();
    pushed.world.google.add_fault(Fault::error(403, "forbidden").on_path("/watch").always());

    pushed.world.sql.batch_execute("UPDATE calsync.channel SET expires_at = now(), due_at = now()").expect("its end");
    pushed.look();

    eventually("it is polled as all others", || pushed.next_poll() <= 1);
    eventually("the channel is over", || pushed.states() == ["ended", "refused"]);
    assert_eq!(pushed.world.status("pushed"), "false");
}

#[test]
fn a_channel_of_which_no_message_arrives_puts_no_poll_off() {
    let mut pushed = Pushed::new();
    pushed.quirks(PushQuirks { drop: true, ..PushQuirks::default() });
    pushed.world.subscribe(ALICE);
    pushed.wait_for_states(&["open"]);

    pushed.world.sync();

    assert!(pushed.next_poll() <= 1);
    assert_eq!(pushed.world.status("pushed"), "false");
}

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
        pushed.world.count("SELECT failures::bigint FROM calsync.subscription WHERE leased_until IS NULL") >= 2
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
fn a_channel_that_the_worker_finds_locked_is_confirmed_later() {
    let mut pushed = Pushed::new();
    pushed.world.google.add_fault(Fault::latency(Duration::from_millis(1000)).on_path("/watch").times(1));
    pushed.world.subscribe(ALICE);
    eventually("it is asked for", || pushed.states() == ["open"]);
    let mut open = pushed.world.cluster.connect("postgres");
    open.batch_execute("BEGIN; SELECT FROM calsync.channel FOR UPDATE").expect("a receiver that takes its time");
    std::thread::sleep(Duration::from_millis(1500));

    open.batch_execute("COMMIT").expect("done");

    eventually("the answer was kept", || {
        pushed.world.count("SELECT count(*) FROM calsync.channel WHERE opened_at IS NOT NULL") == 1
    });
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
fn a_channel_whose_answer_was_lost_is_known_by_its_first_message() {
    let mut pushed = Pushed::new();
    pushed.world.google.add_fault(Fault::new(Action::CutAfter { bytes: 0 }).on_path("/watch").times(1));
    pushed.world.subscribe(ALICE);
    pushed.wait_for_states(&["open"]);

    pushed.world.meeting(3, "08:00", "09:00");
    eventually("it tells of changes", || pushed.world.busy() == ["+3 08:00 to 09:00"]);
    pushed.look();
    pushed.world.sync();

    assert_eq!((pushed.asked("/watch"), pushed.world.google.channels().len()), (1, 1));
    pushed.world.cluster.reconfigure("calsync.webhook_url = ''");
    pushed.wait_for_states(&["ended"]);
    assert_eq!(pushed.world.google.channels().len(), 0, "and can be stopped");
}

#[test]
fn a_worker_that_dies_before_the_answer_has_not_forgotten_the_channel() {
    let mut pushed = Pushed::new();
    pushed.quirks(PushQuirks { delay_ms: 2000, ..PushQuirks::default() });
    pushed.world.google.add_fault(Fault::latency(Duration::from_secs(20)).on_path("/watch").times(1));
    pushed.world.subscribe(ALICE);
    pushed.wait_for_states(&["opening"]);
    eventually("Google has opened it", || pushed.world.google.channels().len() == 1);

    let worker =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker'";
    assert_eq!(pushed.world.count(worker), 1);

    eventually("its message finds it", || pushed.states() == ["open"]);
    assert_eq!(pushed.statuses(), [200]);
}

#[test]
fn a_channel_of_which_nothing_is_heard_is_asked_for_again_and_still_remembered() {
    let mut pushed = Pushed::new();
    pushed.quirks(PushQuirks { drop_next: 1, ..PushQuirks::default() });
    pushed.world.google.add_fault(Fault::new(Action::CutAfter { bytes: 0 }).on_path("/watch").times(1));
    pushed.world.subscribe(ALICE);
    pushed.wait_for_states(&["lost"]);
    pushed.look();
    pushed.world.sync();
    assert_eq!(pushed.asked("/watch"), 1, "not at once");

    pushed.world.sql.batch_execute("UPDATE calsync.channel SET due_at = now()").expect("its time has come");
    pushed.look();
    pushed.wait_for_states(&["lost", "open"]);

    pushed.world.meeting(3, "08:00", "09:00");
    eventually("both tell of it", || pushed.statuses() == [200, 200, 200]);
    eventually("one is enough", || {
        pushed.look();
        pushed.states() == ["ended", "open"]
    });
    assert_eq!(pushed.world.google.channels().len(), 1);
}

#[test]
fn an_address_that_is_not_authorized_is_told_and_not_stormed() {
    let mut pushed = Pushed::with("calsync.max_concurrency = 4");
    pushed.world.google.add_fault(Fault::error(401, "push.webhookUrlUnauthorized").on_path("/watch").always());
    let names: Vec<String> = (0..12).map(|n| format!("{n}@x")).collect();
    pushed.world.others(&names.iter().map(String::as_str).collect::<Vec<_>>(), None);
    eventually("all are synced", || {
        pushed.world.count("SELECT count(*) FROM calsync.subscription WHERE state = 'active'") == 12
    });
    eventually("it was asked for", || pushed.states() == ["refused"]);
    pushed.look();
    pushed.world.sync();

    assert_eq!(pushed.asked("/watch"), 1, "the others wait for the hour's try");
    let warning = "the provider does not send notifications to calsync.webhook_url";
    assert_eq!(pushed.world.cluster.log().matches(warning).count(), 1);
    let problem = "SELECT count(*) FROM jsonb_array_elements(calsync_health() -> 'problems') AS p \
        WHERE p ->> 'problem' LIKE '%webhookUrlUnauthorized%'";
    assert_eq!(pushed.world.count(problem), 1);
    assert_eq!(pushed.world.count("SELECT count(*) FROM calsync.status WHERE state = 'active'"), 12);
}

#[test]
fn a_rate_limit_on_a_channel_slows_its_credential() {
    let mut pushed = Pushed::new();
    pushed.world.google.add_fault(Fault::error(429, "rateLimitExceeded").on_path("/watch").times(1));
    pushed.world.sql.batch_execute("SELECT calsync_add_credential('team', 'google', '{}')").expect("a credential");
    pushed.world.others(&["a@x"], Some("team"));

    pushed.wait_for_states(&["refused"]);

    assert_eq!(pushed.world.count("SELECT failures::bigint FROM calsync.credential"), 1);
}

#[test]
fn nothing_is_watched_before_its_first_sync_or_while_syncing_is_off() {
    let mut pushed = Pushed::new();
    pushed.world.google.add_fault(Fault::error(500, "backendError").on_path("/events").times(1));
    pushed.world.subscribe(ALICE);
    pushed.world.wait_for_status("state", "backoff");
    pushed.look();
    assert_eq!(pushed.asked("/watch"), 0);
    pushed.wait_until_watched(1);

    pushed.world.cluster.reconfigure("calsync.enabled = off\ncalsync.webhook_url = ''");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((pushed.states(), pushed.asked("/stop")), (vec!["open".to_owned()], 0));
    let genuine = pushed.genuine(5);
    assert_eq!(pushed.webhook(&genuine), 200, "notifications are taken all the same");
}

#[test]
fn a_dropped_credential_leaves_its_channels_to_their_end() {
    let mut pushed = Pushed::new();
    pushed.world.sql.batch_execute("SELECT calsync_add_credential('team', 'google', '{}')").expect("a credential");
    pushed.world.others(&["a@x"], Some("team"));
    pushed.wait_until_watched(1);
    let genuine = pushed.genuine(5);

    let away = "SELECT calsync_unsubscribe('a@x'), calsync_drop_credential('team')";
    pushed.world.sql.batch_execute(away).expect("nothing stands in the way");
    pushed.look();
    pushed.wait_for_states(&["stopping"]);

    assert_eq!(pushed.asked("/stop"), 0, "nobody can stop it any more");
    assert_eq!(pushed.webhook(&genuine), 200, "and it is not forgotten");
    pushed.world.sql.batch_execute("UPDATE calsync.channel SET expires_at = now()").expect("its end");
    pushed.look();
    pushed.wait_for_states(&["ended"]);
}

#[test]
fn a_foreground_run_opens_and_stops_channels_too() {
    let mut pushed = Pushed::with("calsync.databases = 'none'");
    pushed.world.subscribe(ALICE);

    pushed.world.sql.batch_execute("CALL calsync_run()").expect("a run");
    eventually("the channel is confirmed", || pushed.statuses() == [200]);
    pushed.world.meeting(3, "08:00", "09:00");
    eventually("its message has come", || pushed.statuses().len() == 2);
    pushed.world.sql.batch_execute("CALL calsync_run()").expect("a run");
    assert_eq!(pushed.world.busy(), ["+3 08:00 to 09:00"]);

    pushed.world.sql.execute("SELECT calsync_unsubscribe($1)", &[&ALICE]).expect("gone");
    pushed.world.sql.batch_execute("CALL calsync_run()").expect("a run");
    assert_eq!((pushed.states(), pushed.world.google.channels().len()), (vec!["ended".to_owned()], 0));
}

#[test]
fn rows_of_channels_that_ended_go_after_a_day() {
    let mut pushed = Pushed::watched();
    pushed.world.cluster.reconfigure("calsync.webhook_url = ''");
    pushed.wait_for_states(&["ended"]);
    let cleaned = "SELECT removed FROM calsync_cleanup() WHERE what = 'push channels'";
    assert_eq!(pushed.world.count(cleaned), 0);

    pushed.world.sql.batch_execute("UPDATE calsync.channel SET ended_at = now() - interval '25 hours'").expect("old");

    assert_eq!(pushed.world.count(cleaned), 1);
    assert_eq!(pushed.states(), Vec::<String>::new());
}
