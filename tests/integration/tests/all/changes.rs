//! The change feed: what happened to which event, in the transaction in which it happened, and who is told.

use calsync_integration::items::{Item, at, cancelled, days_off, meeting};
use calsync_integration::{ALICE, Fed, ROOM, World, eventually, sqlstate};
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;
use serde_json::json;

/// The room's calendar with a feed.
fn fed() -> Fed {
    let mut fed = Fed::new();
    fed.sql.execute("SELECT calsync_unsubscribe($1)", &[&ROOM]).expect("unsubscribed");
    fed.subscribe(ROOM, json!({"changes": true}));
    fed
}

/// What changed in the room since the change of this number: `what event: before -> after`, in days from today.
fn changes(fed: &mut Fed, since: i64) -> Vec<String> {
    let shown = |range: &str| {
        format!(
            "coalesce(to_char(lower({range})::date - $3::date, 'FMSG9990') || to_char(lower({range}), ' HH24:MI-') \
                 || to_char(upper({range}), 'HH24:MI'), 'nothing')"
        )
    };
    let sql = format!(
        "SELECT what || ' ' || event_id || ': ' || {} || ' -> ' || {} FROM calsync_changes($1, ARRAY[$2]) ORDER BY change_id",
        shown("before"),
        shown("after")
    );
    let rows = fed.sql.query(&sql, &[&since, &ROOM, &calsync_integration::items::today()]).expect("calsync_changes");
    rows.iter().map(|row| row.get(0)).collect()
}

/// The number of the last change.
fn last(fed: &mut Fed) -> i64 {
    fed.sql.query_one("SELECT coalesce(max(change_id), 0) FROM calsync_changes()", &[]).expect("changes").get(0)
}

#[test]
fn the_feed_tells_what_happened_to_which_event() {
    let mut fed = fed();
    fed.list(&[meeting("a", 1, "08:00", "09:00"), meeting("b", 2, "08:00", "09:00"), days_off("trip", 5, 7)]);
    assert_eq!(
        changes(&mut fed, 0),
        [
            "added a: nothing -> +1 08:00-09:00",
            "added b: nothing -> +2 08:00-09:00",
            "added trip: nothing -> +5 00:00-00:00"
        ]
    );
    let seen = last(&mut fed);

    fed.change(&[
        cancelled("a"),
        meeting("b", 2, "10:00", "11:00"),
        meeting("c", 3, "08:00", "09:00"),
        days_off("trip", 5, 7).saying(json!({"summary": "Trip"})),
    ]);

    let mut told = changes(&mut fed, seen);
    told.sort();
    assert_eq!(
        told,
        [
            "added c: nothing -> +3 08:00-09:00",
            "details trip: +5 00:00-00:00 -> +5 00:00-00:00",
            "moved b: +2 08:00-09:00 -> +2 10:00-11:00",
            "removed a: +1 08:00-09:00 -> nothing",
        ]
    );
}

#[test]
fn another_busy_status_at_the_same_time_is_told_as_such() {
    let mut fed = fed();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);
    let seen = last(&mut fed);

    fed.change(&[meeting("a", 1, "08:00", "09:00").saying(json!({"transparency": "transparent"}))]);

    let row = fed.sql.query_one(
        "SELECT what, busy_status_before::text, busy_status_after::text FROM calsync_changes($1, '{room}')",
        &[&seen],
    );
    let row = row.expect("one change");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1), row.get::<_, &str>(2)), ("status", "busy", "free"));
}

#[test]
fn an_occurrence_of_a_series_that_is_edited_or_deleted_had_the_time_of_its_series() {
    let mut fed = fed();
    let series = || meeting("s", 1, "12:00", "12:30").daily(9);
    fed.list(&[series()]);
    let seen = last(&mut fed);

    fed.change(&[
        meeting("s2", 2, "15:00", "16:00").instead_of("s", 2, "12:00"),
        cancelled("s3").saying(json!({"recurringEventId": "s", "originalStartTime": {"dateTime": at(3, "12:00")}})),
    ]);
    assert_eq!(
        changes(&mut fed, seen),
        ["moved s2: +2 12:00-12:30 -> +2 15:00-16:00", "removed s3: +3 12:00-12:30 -> nothing"]
    );
    let seen = last(&mut fed);

    fed.change(&[cancelled("s2"), series().saying(json!({"summary": "Again"}))]);
    assert_eq!(
        changes(&mut fed, seen),
        ["removed s2: +2 15:00-16:00 -> nothing", "details s: +1 12:00-12:30 -> +1 12:00-12:30"]
    );
    let seen = last(&mut fed);

    fed.change(&[meeting("s", 1, "12:00", "12:30").daily(5)]);
    assert_eq!(changes(&mut fed, seen), ["moved s: +1 12:00-12:30 -> +1 12:00-12:30"], "another rule");
    let seen = last(&mut fed);

    fed.change(&[cancelled("s")]);
    assert_eq!(changes(&mut fed, seen), ["removed s: +1 12:00-12:30 -> nothing"], "its tombstones were nothing");
}

#[test]
fn a_full_sync_tells_what_it_swept_and_nothing_of_what_stayed() {
    let mut fed = fed();
    let all = [meeting("a", 1, "08:00", "09:00"), meeting("b", 2, "08:00", "09:00"), days_off("trip", 5, 7)];
    fed.list(&all);
    let seen = last(&mut fed);

    fed.list(&all);
    assert_eq!(changes(&mut fed, seen), Vec::<String>::new());
    fed.list(&all[1..]);

    assert_eq!(changes(&mut fed, seen), ["removed a: +1 08:00-09:00 -> nothing"]);
}

#[test]
fn pages_that_are_staged_are_told_when_they_are_complete() {
    let mut fed = fed();
    let page = |keys, items: &[Item]| calsync_integration::envelope(ROOM, items, keys);
    fed.apply(&page(json!({"pageToken": null, "nextPageToken": "p2"}), &[meeting("a", 1, "08:00", "09:00")]));
    assert_eq!(changes(&mut fed, 0), Vec::<String>::new());

    fed.apply(&page(json!({"pageToken": "p2", "nextSyncToken": "t1"}), &[meeting("b", 2, "08:00", "09:00")]));

    assert_eq!(changes(&mut fed, 0), ["added a: nothing -> +1 08:00-09:00", "added b: nothing -> +2 08:00-09:00"]);
}

#[test]
fn another_zone_of_the_calendar_moves_its_days() {
    let mut fed = fed();
    fed.list(&[days_off("trip", 5, 7), meeting("a", 1, "08:00", "09:00")]);
    let seen = last(&mut fed);

    let token = fed.token(ROOM);
    fed.apply(&calsync_integration::envelope(
        ROOM,
        &[],
        json!({"timeZone": "Asia/Kolkata", "expectedSyncToken": token, "nextSyncToken": "t2"}),
    ));

    assert_eq!(changes(&mut fed, seen), ["moved trip: +5 00:00-00:00 -> +4 18:30-18:30"]);
}

#[test]
fn what_is_rolled_back_was_not_told() {
    let mut fed = fed();
    fed.sql.batch_execute("BEGIN").expect("begun");
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);
    fed.sql.batch_execute("ROLLBACK").expect("rolled back");

    assert_eq!(changes(&mut fed, 0), Vec::<String>::new());
}

#[test]
fn without_the_option_nothing_is_written() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);
    fed.change(&[cancelled("a")]);

    assert_eq!(changes(&mut fed, 0), Vec::<String>::new());
    assert_eq!(fed.sql.query_one("SELECT count(*) FROM calsync.change", &[]).expect("count").get::<_, i64>(0), 0);
}

#[test]
fn unsubscribing_forgets_the_feed_with_the_calendar() {
    let mut fed = fed();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);
    let seen = last(&mut fed);
    fed.sql.execute("SELECT calsync_unsubscribe($1)", &[&ROOM]).expect("unsubscribed");
    let ask = "SELECT count(*) FROM calsync_changes($1, '{room}')";

    assert_eq!(sqlstate(&fed.sql.query_one(ask, &[&seen]).expect_err("unknown")), "SC001");
    assert_eq!(fed.sql.query_one("SELECT count(*) FROM calsync.change", &[]).expect("count").get::<_, i64>(0), 0);

    fed.subscribe(ROOM, json!({"changes": true}));
    fed.list(&[meeting("b", 1, "08:00", "09:00")]);
    let missed = fed.sql.query_one(ask, &[&seen]).expect_err("whoever follows the old one is told that it has ended");
    assert_eq!(sqlstate(&missed), "55000");
}

#[test]
fn whoever_was_away_too_long_is_told_that_changes_are_missing() {
    let mut fed = fed();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);
    let long_ago = last(&mut fed);
    fed.change(&[meeting("b", 1, "10:00", "11:00")]);
    let before = last(&mut fed);
    fed.change(&[meeting("c", 1, "12:00", "13:00")]);
    let away = last(&mut fed);
    fed.sql
        .batch_execute("UPDATE calsync.change SET changed_at = changed_at - interval '8 days'")
        .expect("time passes");
    fed.change(&[meeting("d", 1, "14:00", "15:00")]);

    fed.sql.batch_execute("SELECT calsync_cleanup()").expect("cleaned");

    for since in [long_ago, before] {
        let missed = fed.sql.query("SELECT FROM calsync_changes($1, '{room}')", &[&since]).expect_err("missed");
        assert_eq!(sqlstate(&missed), "55000");
    }
    assert_eq!(changes(&mut fed, away), ["added d: nothing -> +1 14:00-15:00"]);
    assert_eq!(changes(&mut fed, 0).len(), 2, "the last of those past is kept, so that this can be told");
}

#[test]
fn a_cursor_belongs_to_one_calendar() {
    let mut fed = fed();
    for ask in [
        "SELECT FROM calsync_changes(1)",
        "SELECT FROM calsync_changes(1, '{room,hall}')",
        "SELECT FROM calsync_changes(NULL)",
    ] {
        let refused = fed.sql.batch_execute(ask).expect_err(ask);
        assert!(["22023", "22004"].contains(&sqlstate(&refused).as_str()), "{ask}");
    }
    fed.sql
        .batch_execute("SELECT FROM calsync_changes(0, '{room}'); SELECT FROM calsync_changes(1, '{room}')")
        .expect("one");
}

/// Listens, and counts what it was told: payload by payload.
fn told(listener: &mut Client) -> Vec<String> {
    listener.batch_execute("SELECT 1").expect("alive");
    let mut payloads = Vec::new();
    let mut notifications = listener.notifications();
    let mut iterator = notifications.iter();
    while let Some(notification) = iterator.next().expect("connected") {
        assert_eq!(notification.channel(), "calsync_change");
        payloads.push(notification.payload().to_owned());
    }
    payloads
}

#[test]
fn who_listens_is_told_once_a_transaction_and_only_of_calendars_that_want_it() {
    let mut fed = Fed::new();
    fed.subscribe("hall", json!({"notify": true}));
    fed.subscribe("stage", json!({"changes": true, "notify": true}));
    let mut listener = fed.cluster.connect("postgres");
    listener.batch_execute("LISTEN calsync_change").expect("listens");

    fed.list_of(ROOM, &[meeting("a", 1, "08:00", "09:00")]);
    assert_eq!(told(&mut listener), Vec::<String>::new(), "off unless asked for");
    fed.sql.batch_execute("BEGIN").expect("begun");
    for day in 1..4 {
        fed.list_of("hall", &[meeting("a", day, "08:00", "09:00"), meeting("b", day, "10:00", "11:00")]);
        fed.list_of("stage", &[meeting("a", day, "08:00", "09:00")]);
    }
    assert_eq!(told(&mut listener), Vec::<String>::new(), "not before it is committed");
    fed.sql.batch_execute("COMMIT").expect("committed");

    assert_eq!(told(&mut listener), ["hall", "stage"]);
    fed.change_of("hall", &[]);
    fed.change_of("hall", &[meeting("a", 3, "08:00", "09:00")]);
    assert_eq!(told(&mut listener), Vec::<String>::new(), "nothing changed");
    fed.sql.batch_execute("SELECT calsync_unsubscribe('hall')").expect("unsubscribed");
    assert_eq!(told(&mut listener), ["hall"], "it has gone");
}

#[test]
fn the_longest_name_fits_into_a_notification() {
    let mut fed = Fed::new();
    let name = "ü".repeat(512);
    fed.subscribe(&name, json!({"notify": true}));
    let mut listener = fed.cluster.connect("postgres");
    listener.batch_execute("LISTEN calsync_change").expect("listens");

    fed.list_of(&name, &[meeting("a", 1, "08:00", "09:00")]);

    assert_eq!(told(&mut listener), [name]);
}

#[test]
fn the_worker_writes_the_feed_and_notifies() {
    let mut world = World::new();
    let mut listener = world.cluster.connect("postgres");
    listener.batch_execute("LISTEN calsync_change").expect("listens");
    world
        .sql
        .execute("SELECT calsync_subscribe($1, options => '{\"changes\": true, \"notify\": true}')", &[&ALICE])
        .expect("subscribed");
    world.wait_for_sync(ALICE);
    eventually("the first sync gives the calendar its zone", || told(&mut listener) == [ALICE]);
    world.meeting(3, "08:00", "09:00");
    world.sync();

    let mut payloads = Vec::new();
    eventually("the listener is told", || {
        payloads.extend(told(&mut listener));
        payloads == [ALICE]
    });
    let what = world.text("SELECT string_agg(what, ',') FROM calsync_changes(0, ARRAY[$1])", ALICE);
    assert_eq!(what, "added");
}
