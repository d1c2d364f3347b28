//! Little that means much: series that recur every few minutes, all year round. What is kept of them is bounded, and the
//! memory that it takes while it is worked out.

use calsync_integration::items::{Item, spanning};
use calsync_integration::{ALICE, Fed, ROOM, World, envelope, eventually, peak_memory, problems, sqlstate};
use postgres::Client;
use serde_json::json;

/// Every half an hour from three weeks ago on: within the bound of a series, about 19,000 occurrences in the window.
fn half_hourly(id: &str, minutes: u32) -> Item {
    let day = calsync_integration::items::date(-20);
    let end = format!("{day}T08:{minutes:02}:00Z");
    spanning(id, &format!("{day}T08:00:00Z"), &end).repeating("FREQ=MINUTELY;INTERVAL=30")
}

/// Eleven kilobytes of JSON that are 190,000 occurrences, each of an event whose id is nearly as long as one may be.
fn multitude() -> Vec<Item> {
    (0..10).map(|n| half_hourly(&format!("h{n:05}{}", "a".repeat(894)), 10)).collect()
}

const OCCURRENCES: &str = "SELECT count(*) FROM calsync.occurrence";

#[test]
fn a_small_delta_that_means_a_multitude_takes_its_session_little_memory() {
    let mut fed = Fed::new();
    let session = i64::from(fed.sql.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get::<_, i32>(0));
    let mut apply = |items: &[Item], keys| {
        fed.sql.execute("SELECT calsync_apply_delta($1)", &[&envelope(ROOM, items, keys)]).expect("applied");
        let occurrences: i64 = fed.sql.query_one(OCCURRENCES, &[]).expect("a count").get(0);
        assert!(occurrences > 150_000, "none was left out: {occurrences}");
    };
    let before = peak_memory(session);

    apply(&multitude(), json!({"nextSyncToken": "1"}));
    let longer: Vec<Item> = (0..10).map(|n| half_hourly(&format!("h{n:05}{}", "a".repeat(894)), 15)).collect();
    apply(&longer, json!({"expectedSyncToken": "1", "nextSyncToken": "2"}));
    assert_eq!(problems(&mut fed.sql), Vec::<String>::new(), "looked through in the same session");

    let taken = peak_memory(session) - before;
    println!("the session took {taken} MB more");
    assert!(taken < 300, "an id for each occurrence would be 180 MB a copy: {taken} MB");
}

#[test]
fn a_small_answer_that_means_a_multitude_takes_the_worker_little_memory() {
    let mut world = World::synced();
    let worker = world.count("SELECT pid::bigint FROM calsync.stat_worker");
    for item in multitude() {
        let known = json!({"kind": "calendar#event", "etag": "\"1\"", "updated": "2026-01-01T00:00:00.000Z"});
        world.google.put_raw_event(ALICE, &item.saying(known).json()).expect("an event");
    }
    let before = peak_memory(worker);

    world.sql.execute("SELECT calsync_sync()", &[]).expect("due");
    eventually("it is merged", || world.count(OCCURRENCES) > 150_000);

    let taken = peak_memory(worker) - before;
    println!("the worker took {taken} MB more");
    assert!(taken < 300, "an id for each occurrence would be 180 MB a copy: {taken} MB");
}

/// Says what busy time is in other words than those that make it: disjoint, longest pieces; for each status the union of
/// its occurrences.
fn is_what_the_occurrences_make(sql: &mut Client) {
    let wrong = "SELECT count(*) FROM ( \
             SELECT starts_at < lag(ends_at) OVER piece \
                 OR (starts_at, statuses) = (lag(ends_at) OVER piece, lag(statuses) OVER piece) AS wrong \
             FROM calsync.busy WINDOW piece AS (ORDER BY starts_at)) AS pieces WHERE wrong";
    assert_eq!(sql.query_one(wrong, &[]).expect("a count").get::<_, i64>(0), 0, "pieces overlap, or are one");
    let differs = "SELECT count(*) FROM unnest(enum_range(NULL::calsync.busy_status)) WITH ORDINALITY AS s (status, place) \
         WHERE (SELECT range_agg(tstzrange(o.starts_at, o.ends_at)) FROM calsync.occurrence AS o WHERE o.busy_status = s.status) \
             IS DISTINCT FROM (SELECT range_agg(tstzrange(b.starts_at, b.ends_at)) FROM calsync.busy AS b \
                               WHERE b.statuses & (1 << s.place::integer - 1) <> 0)";
    assert_eq!(sql.query_one(differs, &[]).expect("a count").get::<_, i64>(0), 0, "busy time differs");
}

#[test]
fn a_series_is_whole_however_many_pieces_it_is_stored_in() {
    let mut fed = Fed::with("calsync.horizon = '700d'");
    let mut token = 0;
    let mut apply = |fed: &mut Fed, items: &[Item], occurrences: std::ops::Range<i64>| {
        let keys = json!({"expectedSyncToken": (token > 0).then(|| token.to_string()), "nextSyncToken": (token + 1).to_string()});
        token += 1;
        let delta = envelope(ROOM, items, keys);
        fed.sql.execute("SELECT calsync_apply_delta($1)", &[&delta]).expect("applied");
        let stored: i64 = fed.sql.query_one(OCCURRENCES, &[]).expect("a count").get(0);
        assert!(occurrences.contains(&stored), "{stored}");
        is_what_the_occurrences_make(&mut fed.sql);
        assert_eq!(problems(&mut fed.sql), Vec::<String>::new());
    };

    // It blocks all its time, each occurrence reaching into the next: there is no gap to cut at.
    apply(&mut fed, &[half_hourly("a", 40)], 34_000..36_000);
    apply(&mut fed, &[half_hourly("b", 10).saying(json!({"status": "tentative"}))], 68_000..72_000);
    // Half of them go, from every piece, and come back.
    let hourly = half_hourly("a", 40).saying(json!({"recurrence": ["RRULE:FREQ=HOURLY"]}));
    apply(&mut fed, &[hourly], 51_000..54_000);
    // Each ends where the next begins: when the others have gone, all is one piece.
    apply(&mut fed, &[half_hourly("a", 30)], 68_000..72_000);
    apply(&mut fed, &[calsync_integration::items::cancelled("b")], 34_000..36_000);
}

#[test]
fn a_calendar_of_more_occurrences_than_are_kept_is_refused_and_stays_as_it_was() {
    let mut world = World::synced();
    world.meeting(3, "08:00", "09:00");
    world.sync();
    let full = "INSERT INTO calsync.occurrence (subscription_id, event_id, starts_at, ends_at, busy_status) \
         SELECT s.subscription_id, 'x', at, at + interval '1 s', 'free' \
         FROM calsync.subscription AS s, generate_series(now(), now() + interval '1995000 s', '1 s') AS at";
    world.sql.batch_execute(full).expect("nearly full");
    let before = world.count(OCCURRENCES);
    let token = world.text("SELECT sync_token FROM calsync.subscription WHERE calendar = $1", ALICE);

    let delta = envelope(ALICE, &[half_hourly("a", 10)], json!({"expectedSyncToken": token, "nextSyncToken": "x"}));
    let refused = world.sql.execute("SELECT calsync_apply_delta($1)", &[&delta]).expect_err("refused");
    let said = refused.as_db_error().expect("by the server");
    assert_eq!(sqlstate(&refused), "54000");
    assert_eq!(said.message(), format!("calendar \"{ALICE}\" has more than 2000000 occurrences"));
    assert!(said.detail().is_some() && said.hint().is_some(), "{said:?}");

    let known = json!({"kind": "calendar#event", "etag": "\"1\"", "updated": "2026-01-01T00:00:00.000Z"});
    world.google.put_raw_event(ALICE, &half_hourly("abcde", 10).saying(known).json()).expect("an event");
    world.sql.execute("SELECT calsync_sync()", &[]).expect("due");
    eventually("it is the calendar's failure", || {
        world.status("last_error").contains("has more than 2000000 occurrences")
    });
    assert_eq!(world.count(OCCURRENCES), before, "nothing of it is kept");
    assert_eq!(world.busy(), ["+3 08:00 to 09:00"], "what was known still answers");
}
