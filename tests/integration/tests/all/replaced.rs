//! A credential that is replaced may be another person's: whose calendar it is then, and whose channels tell of it.

use std::collections::HashSet;
use std::time::Duration;

use calsync_integration::{ALICE, BOB, Pushed, World, eventually, oauth};
use fake_google::{Fault, PushQuirks, Quirks};
use serde_json::{Value, json};

const MINE: &str = "mine";

/// Alice's primary calendar is subscribed and synced: a meeting of hers in three days, and one of Bob's in four.
fn alices_primary(world: &mut World) {
    world.of_two_people();
    world.meeting(3, "08:00", "09:00");
    world.meeting_of(BOB, 4, "10:00", "11:00");
    world.add_credential("team", &oauth("1//alice"));
    world.subscribe_primary(MINE, "team");
    world.wait_for_sync(MINE);
    assert_eq!(world.busy_of(MINE), ["+3 08:00 to 09:00"]);
}

/// The same with push.
fn alices_primary_watched() -> Pushed {
    let mut pushed = Pushed::new();
    alices_primary(&mut pushed.world);
    pushed.wait_until_watched(1);
    assert_eq!(is_pushed(&mut pushed), "true");
    pushed
}

fn is_pushed(pushed: &mut Pushed) -> String {
    pushed.world.text("SELECT pushed::text FROM calsync.status WHERE calendar = $1", MINE)
}

/// As Google sends it for the channel of this id.
fn genuine(pushed: &Pushed, id: &str, number: u64) -> Value {
    let channel = pushed.world.google.channels().into_iter().find(|channel| channel.id == id).expect("the channel");
    json!({
        "X-Goog-Channel-ID": channel.id,
        "X-Goog-Channel-Token": channel.token,
        "X-Goog-Resource-ID": channel.resource_id,
        "X-Goog-Resource-State": "exists",
        "X-Goog-Message-Number": number.to_string(),
    })
}

fn only_channel(pushed: &Pushed) -> String {
    let mut channels = pushed.world.google.channels();
    assert_eq!(channels.len(), 1);
    channels.remove(0).id
}

/// A provider that takes everybody's sync tokens, and page tokens, for its own.
fn takes_everything() -> Quirks {
    Quirks { tolerate_foreign_tokens: true, tolerate_changed_parameters: true, ..Quirks::default() }
}

#[test]
fn a_replaced_credential_never_merges_two_peoples_calendars() {
    let mut world = World::new();
    world.google.set_quirks(None, takes_everything()).expect("quirks");
    alices_primary(&mut world);

    world.add_credential("team", &oauth("1//bob"));

    world.wait_until_idle();
    assert_eq!(world.busy_of(MINE), ["+4 10:00 to 11:00"], "Bob's, all of it, at once, and nothing of Alice's");
    world.meeting_of(BOB, 5, "10:00", "11:00");
    world.google.clear_log();
    world.sync();
    assert_eq!((world.busy_of(MINE).len(), world.deltas()), (2, 1), "from then on by deltas again");
}

#[test]
fn a_calendar_that_is_the_same_for_everybody_keeps_its_token_when_its_credential_is_replaced() {
    let mut world = World::new();
    world.of_two_people();
    world.add_credential("team", &oauth("1//alice"));
    world.sql.execute("SELECT calsync_subscribe($1, credential => 'team')", &[&ALICE]).expect("subscribed");
    world.wait_for_sync(ALICE);

    world.add_credential("team", &oauth("1//alice-again"));
    world.sync();

    assert_eq!((world.lists().len(), world.deltas()), (2, 1));
}

#[test]
fn a_round_that_is_under_way_when_its_credential_is_replaced_is_not_gone_on_with_as_somebody_else() {
    let mut world = World::new();
    alices_primary(&mut world);
    world.meeting(5, "08:00", "09:00");
    world.meeting(6, "08:00", "09:00");
    world.sql.execute("SELECT calsync_subscribe($1, credential => 'team')", &[&BOB]).expect("subscribed");
    world.wait_for_sync(BOB);
    world.google.set_quirks(None, Quirks { page_size_cap: Some(1), ..takes_everything() }).expect("quirks");
    world.google.clear_log();
    let second_page = Fault::latency(Duration::from_millis(1500)).on_query("pageToken=").times(1);
    world.google.add_fault(second_page);
    world.sql.execute("SELECT calsync_resync($1)", &[&MINE]).expect("resync");
    eventually("its second page is awaited", || world.lists().len() == 2);

    world.add_credential("team", &oauth("1//bob"));
    world.sql.execute("SELECT calsync_sync($1)", &[&BOB]).expect("sync");
    eventually("the new secret is in use", || world.token_requests().len() == 1);

    eventually("it is Bob's", || world.busy_of(MINE) == ["+4 10:00 to 11:00"]);
    let log = world.google.log();
    let pages = log.iter().filter(|entry| entry.query.iter().any(|(name, _)| name == "pageToken"));
    let askers: HashSet<_> = pages.map(|entry| entry.header("authorization")).collect();
    assert_eq!(askers.len(), 1, "what Alice began nobody else went on with");
    assert_eq!(world.count("SELECT count(*) FROM calsync.sync_run WHERE outcome = 'failed'"), 0);
}

#[test]
fn a_refresh_token_that_the_provider_replaces_is_the_same_persons() {
    let mut pushed = Pushed::new();
    pushed.world.google.rotate_refresh_tokens(true);
    alices_primary(&mut pushed.world);
    pushed.wait_until_watched(1);
    let sealed = "SELECT encode(secret, 'hex') FROM calsync.credential WHERE name = $1";
    let before = pushed.world.text(sealed, "team");
    pushed.world.google.clear_log();

    pushed.world.google.expire_access_tokens();
    pushed.world.sync();
    eventually("the next one is stored", || pushed.world.text(sealed, "team") != before);
    pushed.look();
    pushed.world.sync();

    assert_eq!(pushed.world.deltas(), pushed.world.lists().len(), "nothing is listed anew");
    assert_eq!((pushed.asked("/watch"), pushed.asked("/stop")), (0, 0), "nor watched anew");
    assert!(pushed.next_poll() >= 4);
}

#[test]
fn a_channel_of_a_replaced_credential_puts_no_poll_off() {
    let mut pushed = alices_primary_watched();
    let old = only_channel(&pushed);
    assert!(pushed.next_poll() >= 4);
    pushed.world.google.add_fault(Fault::error(403, "forbidden").on_path("/watch").always());

    pushed.world.add_credential("team", &oauth("1//bob"));
    pushed.look();

    eventually("no other could be opened", || pushed.states() == ["open", "refused"]);
    pushed.world.wait_until_idle();
    assert_eq!(is_pushed(&mut pushed), "false");
    assert!(pushed.next_poll() <= 1, "it is polled as all others");
    let health = "SELECT (calsync_health() ->> 'pushed')::bigint";
    assert_eq!(pushed.world.count(health), 0);
    let asked = pushed.world.lists().len();
    let genuine = genuine(&pushed, &old, 50);
    assert_eq!(pushed.webhook(&genuine), 200);
    eventually("what it tells makes a poll due", || pushed.world.lists().len() == asked + 1);
    pushed.world.wait_until_idle();
    assert!(pushed.next_poll() <= 1, "and no more");
}

#[test]
fn calendars_that_were_left_to_a_channel_are_polled_when_their_credential_is_replaced() {
    let mut pushed = Pushed::new();
    pushed.world.add_credential("team", &oauth("1//alice"));
    pushed.world.others(&["a@x"], Some("team"));
    pushed.wait_until_watched(1);
    assert!(pushed.next_poll() >= 4);
    pushed.quirks(PushQuirks { drop: true, ..PushQuirks::default() });

    pushed.world.add_credential("team", &oauth("1//alice-again"));
    pushed.look();

    eventually("it is polled as all others", || pushed.next_poll() <= 1);
}

#[test]
fn a_replaced_credential_opens_channels_of_its_own_and_stops_the_old_ones() {
    let mut pushed = alices_primary_watched();
    let old = only_channel(&pushed);

    pushed.world.add_credential("team", &oauth("1//alice-again"));
    pushed.look();
    eventually("another one is confirmed", || {
        pushed.world.count("SELECT count(*) FROM calsync.channel WHERE state = 'open' AND confirmed_at IS NOT NULL") > 1
            || pushed.states() == ["ended", "open"]
    });
    pushed.look();

    pushed.wait_for_states(&["ended", "open"]);
    assert_ne!(only_channel(&pushed), old);
    pushed.world.sync();
    assert_eq!(is_pushed(&mut pushed), "true");
    assert!(pushed.next_poll() >= 4);
    assert_eq!((pushed.asked("/watch"), pushed.asked("/stop")), (2, 1));
}

/// Bob's channel is open, and Alice's cannot be stopped any more. Returns the id of hers.
fn bobs_beside_alices(pushed: &mut Pushed) -> String {
    let old = only_channel(pushed);
    pushed.world.add_credential("team", &oauth("1//bob"));
    pushed.look();
    let both = "SELECT count(*) FROM calsync.channel WHERE confirmed_at IS NOT NULL";
    eventually("Bob's is confirmed", || pushed.world.count(both) == 2);
    eventually("Alice's is left to its end", || {
        pushed.look();
        let left = "SELECT count(*) FROM calsync.channel \
                    WHERE state = 'stopping' AND due_at = 'infinity' AND last_error IS NOT NULL";
        pushed.world.count(left) == 1
    });
    old
}

#[test]
fn a_channel_that_only_somebody_else_may_stop_is_left_to_its_end_and_does_no_harm() {
    let mut pushed = alices_primary_watched();

    let old = bobs_beside_alices(&mut pushed);

    assert_eq!((pushed.world.google.channels().len(), pushed.asked("/stop")), (2, 1));
    pushed.world.sync();
    assert!(is_pushed(&mut pushed) == "true" && pushed.next_poll() >= 4);
    let genuine = genuine(&pushed, &old, 50);
    assert_eq!(pushed.webhook(&genuine), 200, "it is not forgotten");
    pushed.world.wait_until_idle();
    pushed.world.meeting_of(BOB, 5, "10:00", "11:00");
    eventually("Bob's news arrive", || pushed.world.busy_of(MINE).len() == 2);
    let end = "UPDATE calsync.channel SET expires_at = now() WHERE state = 'stopping'";
    pushed.world.sql.batch_execute(end).expect("its end");
    pushed.look();
    pushed.wait_for_states(&["ended", "open"]);
}

#[test]
fn whoever_may_not_stop_somebody_elses_channel_is_no_less_accepted_for_that() {
    let mut pushed = alices_primary_watched();
    pushed.world.google.add_fault(Fault::error(401, "authError").on_path("/channels/stop").always());

    bobs_beside_alices(&mut pushed);

    assert_eq!(pushed.asked("/stop"), 2, "with a fresh token once more, and then never again");
    assert_eq!(pushed.world.count("SELECT count(*) FROM calsync.credential WHERE refused_at IS NULL"), 1);
    pushed.world.sync();
    assert_eq!(pushed.world.text("SELECT state::text FROM calsync.status WHERE calendar = $1", MINE), "active");
}

#[test]
fn a_credential_that_was_dropped_and_made_again_has_no_channels_yet() {
    let mut pushed = alices_primary_watched();
    pushed.world.google.add_fault(Fault::error(403, "forbidden").on_path("/watch").always());

    let away = "SELECT calsync_unsubscribe('mine'), calsync_drop_credential('team')";
    pushed.world.sql.batch_execute(away).expect("nothing stands in the way");
    pushed.world.add_credential("team", &oauth("1//bob"));
    pushed.world.subscribe_primary(MINE, "team");
    pushed.world.wait_for_sync(MINE);

    assert_eq!(pushed.world.busy_of(MINE), ["+4 10:00 to 11:00"]);
    assert_eq!(is_pushed(&mut pushed), "false");
    assert!(pushed.next_poll() <= 1);
}

#[test]
fn channels_of_many_calendars_are_replaced_each_once() {
    let mut pushed = Pushed::with("calsync.max_concurrency = 8");
    pushed.world.of_two_people();
    pushed.world.add_credential("team", &oauth("1//alice"));
    let names: Vec<String> = (0..30).map(|n| format!("{n}@x")).collect();
    pushed.world.others(&names.iter().map(String::as_str).collect::<Vec<_>>(), Some("team"));
    pushed.wait_until_watched(30);
    pushed.world.google.clear_log();
    pushed.world.google.add_fault(Fault::latency(Duration::from_millis(50)).on_path("/watch").always());

    pushed.world.add_credential("team", &oauth("1//alice-again"));

    eventually("all are watched anew, and by no other channel", || {
        pushed.look();
        let ended = "SELECT count(*) FROM calsync.channel WHERE state = 'ended'";
        pushed.world.count(ended) == 30 && pushed.world.google.channels().len() == 30
    });
    assert_eq!((pushed.asked("/watch"), pushed.asked("/stop")), (30, 30));
    assert_eq!(pushed.world.lists().len(), pushed.world.deltas(), "none is listed anew");
}

#[test]
fn a_channel_that_was_being_opened_when_its_credential_was_replaced_gets_a_successor() {
    let mut pushed = Pushed::new();
    pushed.world.google.add_fault(Fault::latency(Duration::from_millis(1500)).on_path("/watch").times(1));
    alices_primary(&mut pushed.world);
    eventually("it is asked for", || pushed.asked("/watch") == 1);
    pushed.world.add_credential("team", &oauth("1//alice-again"));
    let answered = "SELECT count(*) FROM calsync.channel WHERE opened_at IS NOT NULL AND confirmed_at IS NOT NULL";
    eventually("it is open", || pushed.world.count(answered) == 1);

    pushed.world.sync();
    assert_eq!(is_pushed(&mut pushed), "false", "it was opened for whoever was there before");

    eventually("another takes its place", || {
        pushed.look();
        pushed.states() == ["ended", "open"]
    });
    pushed.world.sync();
    assert_eq!((is_pushed(&mut pushed).as_str(), pushed.asked("/watch")), ("true", 2));
}

#[test]
fn a_calendar_that_was_locked_when_its_credential_came_back_follows_once_it_is_free() {
    let mut world = World::new();
    world.google.require_auth(true);
    world.google.sign_in("1//old", ALICE);
    world.add_credential("alice", &oauth("1//old"));
    world.others(&["b@x"], Some("alice"));
    world.sql.execute("SELECT calsync_subscribe($1, credential => 'alice')", &[&ALICE]).expect("subscribed");
    world.wait_for_sync(ALICE);
    world.google.revoke_grants(Some("1//old"));
    world.sql.batch_execute("SELECT calsync_sync()").expect("sync");
    eventually("refused", || world.status("state") == "needs_credential");
    world.wait_until_idle();
    let mut holder = world.cluster.connect("postgres");
    let lock = "BEGIN; SELECT FROM calsync.subscription WHERE calendar <> 'b@x' FOR UPDATE";
    holder.batch_execute(lock).expect("locked");

    world.google.sign_in("1//new", ALICE);
    world.add_credential("alice", &oauth("1//new"));

    let state = "SELECT state::text FROM calsync.status WHERE calendar = $1";
    eventually("the other one comes back", || world.text(state, "b@x") == "active");
    assert_eq!(world.status("state"), "needs_credential");
    holder.batch_execute("COMMIT").expect("free");
    eventually("so does this one", || world.status("state") == "active");
    world.wait_until_idle();
    assert_eq!(world.count("SELECT count(*) FROM calsync.credential WHERE recalls <> '{}'"), 0);
}
