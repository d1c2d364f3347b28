//! Push channels: opened, renewed, stopped and never forgotten; a calendar that has lost its own is polled.

use std::time::Duration;

use calsync_integration::{ALICE, Pushed, Receiver, eventually};
use fake_google::{Action, Fault, NewCalendar, PushQuirks};

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
    pushed.quirks(PushQuirks { drop_next: 1, ..PushQuirks::default() });
    pushed.world.sql.batch_execute("UPDATE calsync.channel SET due_at = now()").expect("its time has come");
    pushed.look();

    pushed.wait_for_states(&["open", "open"]);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(1100));
        pushed.look();
    }
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

    // It is its owner's business: not that of a guest, who sees one of the calendars.
    pushed
        .world
        .sql
        .batch_execute(
            "CREATE ROLE guest LOGIN; GRANT calsync_operator TO guest; SELECT calsync_share('1@x', 'guest'); \
             SET SESSION AUTHORIZATION guest; SELECT calsync_subscribe('own', 'none')",
        )
        .expect("a guest with a calendar of its own");
    assert_eq!(pushed.world.count("SELECT count(*) FROM calsync.status"), 2);
    assert_eq!(pushed.world.count(problem), 0);
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
    let genuine = pushed.genuine_of("a@x", 5);

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

#[test]
fn two_that_look_at_the_same_time_open_one_channel() {
    let mut pushed = Pushed::with("calsync.databases = 'none'\ncalsync.webhook_url = ''");
    pushed.world.subscribe(ALICE);
    pushed.world.sql.batch_execute("CALL calsync_run()").expect("the first sync");
    let address = pushed.receiver.address();
    pushed.world.cluster.reconfigure(&format!("calsync.webhook_url = '{address}'"));
    pushed.world.google.add_fault(Fault::latency(Duration::from_millis(500)).on_path("/watch").always());

    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut sql = pushed.world.cluster.connect("postgres");
            scope.spawn(move || sql.batch_execute("CALL calsync_run()").expect("a run"));
        }
    });

    assert_eq!((pushed.asked("/watch"), pushed.states()), (1, vec!["open".to_owned()]));
}

#[test]
fn many_calendars_are_watched_a_few_at_a_time() {
    let mut pushed = Pushed::with("calsync.max_concurrency = 8");
    pushed.world.google.add_fault(Fault::latency(Duration::from_millis(50)).on_path("/watch").always());
    let names: Vec<String> = (0..30).map(|n| format!("{n}@x")).collect();

    pushed.world.others(&names.iter().map(String::as_str).collect::<Vec<_>>(), None);

    pushed.wait_until_watched(30);
    assert_eq!(pushed.asked("/watch"), 30);
    assert_eq!(pushed.world.count("SELECT count(*) FROM calsync.status WHERE pushed"), 30);
}

#[test]
fn channels_are_asked_for_and_stopped_with_the_credential() {
    let mut pushed = Pushed::new();
    pushed.world.google.require_auth(true);
    pushed.world.google.register_token("letmein", chrono::TimeDelta::hours(1));
    let credential = r#"SELECT calsync_add_credential('team', 'google', '{"token": "letmein"}')"#;
    pushed.world.sql.batch_execute(credential).expect("a credential");
    pushed.world.others(&["a@x"], Some("team"));
    pushed.wait_until_watched(1);

    pushed.world.sql.batch_execute("SELECT calsync_unsubscribe('a@x')").expect("gone");
    pushed.look();

    pushed.wait_for_states(&["ended"]);
    assert_eq!(pushed.world.google.channels().len(), 0);
}

#[test]
fn a_poll_is_put_off_only_by_a_round_that_began_after_the_channel_was_confirmed() {
    let mut pushed = Pushed::new();
    pushed.world.subscribe(ALICE);
    let confirmed = "SELECT count(*) FROM calsync.channel WHERE confirmed_at IS NOT NULL AND opened_at IS NOT NULL";
    eventually("the channel is confirmed", || pushed.world.count(confirmed) == 1);

    // What changed between the first round and the channel nobody tells of.
    assert!(pushed.next_poll() <= 1);
    pushed.world.sync();
    assert!(pushed.next_poll() >= 4);
}

#[test]
fn a_calendar_is_polled_at_least_twice_within_its_max_staleness_push_or_not() {
    let mut pushed = Pushed::new();
    pushed.world.google.add_calendar(&NewCalendar::new("holidays").not_pushable()).expect("a calendar");
    let subscribe = r#"SELECT calsync_subscribe($1, options => '{"max_staleness": "30min"}')"#;
    for calendar in [ALICE, "holidays"] {
        pushed.world.sql.execute(subscribe, &[&calendar]).expect("the calendar can be subscribed");
    }
    pushed.wait_until_watched(1);

    let poll = "SELECT string_agg(s.pushed || ' ' || (next_sync_at - synced_at < max_staleness / 2), ', ' ORDER BY s.calendar) \
        FROM calsync.subscription AS s WHERE $1 <> ''";
    assert_eq!(pushed.world.text(poll, "all"), "true true, false true");
}
