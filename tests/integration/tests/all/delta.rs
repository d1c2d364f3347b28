//! Merging: what an application feeds, page by page or at once, is what the calendar then is.
//!
//! After each delta here everything derived is checked against what is stored: see `check_derived`.

use calsync_integration::items::{Item, at, cancelled, date, days_off, meeting, spanning};
use calsync_integration::{Dice, Fed, ROOM, envelope, sqlstate};
use serde_json::{Value, json};

pub const COPY: &str = "copy";

/// A page of a full list of the room: fetched with one page token, naming the next.
fn page(items: &[Item], given: Option<&str>, next: &str) -> Value {
    envelope(ROOM, items, json!({"pageToken": given, "nextPageToken": next}))
}

fn last_page(items: &[Item], given: &str, successor: &str) -> Value {
    envelope(ROOM, items, json!({"pageToken": given, "nextSyncToken": successor}))
}

/// What is stored of a calendar, without its number.
pub fn stored(fed: &mut Fed, calendar: &str) -> Vec<String> {
    let mut rows = Vec::new();
    for table in ["event", "occurrence", "busy"] {
        let sql = format!(
            "SELECT '{table} ' || (to_jsonb(t) - 'subscription_id')::text FROM calsync.{table} AS t \
             JOIN calsync.subscription AS s USING (subscription_id) WHERE s.calendar = $1 ORDER BY 1"
        );
        rows.extend(fed.sql.query(&sql, &[&calendar]).expect("readable").iter().map(|row| row.get::<_, String>(0)));
    }
    rows
}

#[test]
fn page_by_page_equals_all_at_once() {
    let mut fed = Fed::new();
    fed.subscribe(COPY, json!({}));
    let mut dice = Dice::seeded(7);
    for round in 0..6 {
        // Ids come twice, some older than before, some cancelled; a series with exceptions before and after it.
        let items: Vec<Item> = (0..40)
            .map(|_| {
                let (id, day) = (format!("e{}", dice.roll(15)), dice.roll(20) as i64);
                match dice.roll(6) {
                    0 => cancelled(&id),
                    1 => meeting(&id, day, "08:00", "09:00").daily(5),
                    2 => meeting(&format!("x{}", dice.roll(9)), day, "15:00", "16:00").instead_of(&id, day, "08:00"),
                    3 => days_off(&id, day, day + 2),
                    4 => meeting(&id, day, "08:30", "10:00").updated(dice.roll(60) as u32),
                    _ => meeting(&id, day, "08:30", "10:00").saying(json!({"status": "tentative"})),
                }
            })
            .collect();
        let full = round % 3 == 0;
        let expected = if full { Value::Null } else { json!(fed.token(ROOM)) };
        let keys = |more: Value| {
            let mut keys = json!({"expectedSyncToken": expected});
            keys.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            keys
        };

        let at_once = fed.apply(&envelope(COPY, &items, keys(json!({"nextSyncToken": format!("s{round}")}))));
        let pages: Vec<&[Item]> = items.chunks(7).collect();
        let (last, others) = pages.split_last().expect("there are pages");
        for (number, items) in others.iter().enumerate() {
            let given = if number == 0 { Value::Null } else { json!(format!("p{number}")) };
            let next = format!("p{}", number + 1);
            fed.apply(&envelope(ROOM, items, keys(json!({"pageToken": given, "nextPageToken": next}))));
        }
        let paged = fed.apply(&envelope(ROOM, last, keys(json!({"nextSyncToken": format!("s{round}")}))));

        assert_eq!(paged, at_once, "round {round}");
        assert_eq!(stored(&mut fed, ROOM), stored(&mut fed, COPY), "round {round}");
    }
}

#[test]
fn staged_pages_are_seen_by_nobody() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);

    let staged = fed.apply(&page(&[meeting("b", 2, "08:00", "09:00")], None, "p2"));

    assert!(!staged.complete);
    assert_eq!(fed.busy(), ["+1 08:00 to 09:00"]);
    assert_eq!(fed.events("kind").len(), 1);
}

#[test]
fn staged_pages_survive_reconnecting_and_a_crash() {
    let mut fed = Fed::new();
    fed.apply(&page(&[meeting("a", 1, "08:00", "09:00")], None, "p2"));
    fed.sql = fed.cluster.connect("postgres");
    fed.apply(&page(&[meeting("b", 2, "08:00", "09:00")], Some("p2"), "p3"));
    fed.cluster.kill();
    fed.cluster.start_again();
    fed.sql = fed.cluster.connect("postgres");

    fed.apply(&last_page(&[meeting("c", 3, "08:00", "09:00")], "p3", "t1"));

    assert_eq!(fed.busy(), ["+1 08:00 to 09:00", "+2 08:00 to 09:00", "+3 08:00 to 09:00"]);
}

#[test]
fn a_round_begun_anew_forgets_the_pages_of_the_old_one() {
    let mut fed = Fed::new();
    fed.apply(&page(&[meeting("a", 1, "08:00", "09:00")], None, "p2"));

    fed.apply(&page(&[meeting("b", 2, "08:00", "09:00")], None, "q2"));
    fed.apply(&last_page(&[], "q2", "t1"));

    assert_eq!(fed.busy(), ["+2 08:00 to 09:00"]);
}

#[test]
fn a_page_that_does_not_follow_is_a_conflict() {
    let mut fed = Fed::new();
    fed.list(&[]);
    fed.apply(&page(&[], None, "p2"));

    assert_eq!(fed.refused(&page(&[], Some("p3"), "p4")), "SC004");
    assert_eq!(fed.refused(&last_page(&[], "p1", "t9")), "SC004");
    let of_another_round =
        envelope(ROOM, &[], json!({"expectedSyncToken": "t1", "pageToken": "p2", "nextSyncToken": "t2"}));
    assert_eq!(fed.refused(&of_another_round), "SC004");
}

#[test]
fn a_page_fetched_with_another_token_begins_another_round() {
    let mut fed = Fed::new();
    fed.list(&[]);
    fed.apply(&envelope(
        ROOM,
        &[meeting("given up", 1, "08:00", "09:00")],
        json!({"expectedSyncToken": "t1", "nextPageToken": "p2"}),
    ));

    // The provider calls the token expired: the application lists in full.
    fed.apply(&envelope(ROOM, &[meeting("new", 2, "08:00", "09:00")], json!({"nextSyncToken": "t9"})));

    assert_eq!(fed.busy(), ["+2 08:00 to 09:00"]);
}

#[test]
fn pages_that_were_given_up_bring_nothing_back() {
    let mut fed = Fed::new();
    fed.apply(&page(&[meeting("gone", 1, "08:00", "09:00")], None, "p2"));
    fed.sql
        .execute("UPDATE calsync.staged_round SET started_at = now() - interval '2 hours'", &[])
        .expect("hours pass");
    let list = envelope(ROOM, &[meeting("new", 2, "08:00", "09:00")], json!({"nextSyncToken": "t1"}));

    assert_eq!(fed.refused(&list), "SC004");
    fed.apply(&envelope(
        ROOM,
        &[meeting("new", 2, "08:00", "09:00")],
        json!({"pageToken": null, "nextSyncToken": "t1"}),
    ));

    assert_eq!(fed.busy(), ["+2 08:00 to 09:00"]);
}

#[test]
fn a_full_sync_sweeps_what_it_did_not_see() {
    let mut fed = Fed::new();
    fed.list(&[
        meeting("a", 1, "08:00", "09:00"),
        meeting("s", 2, "08:00", "09:00").daily(2),
        meeting("s1", 3, "10:00", "11:00").instead_of("s", 3, "08:00"),
    ]);

    let swept = fed.list(&[meeting("a", 1, "08:00", "09:00")]);

    assert_eq!(swept.counts(), (0, 0, 2, 1));
    assert_eq!(fed.busy(), ["+1 08:00 to 09:00"]);
}

#[test]
fn a_full_sync_in_pages_sweeps_what_no_page_held() {
    let mut fed = Fed::new();
    fed.list(&[
        meeting("a", 1, "08:00", "09:00"),
        meeting("b", 2, "08:00", "09:00"),
        meeting("c", 3, "08:00", "09:00"),
    ]);

    fed.apply(&page(&[meeting("a", 1, "08:00", "09:00")], None, "p2"));
    fed.apply(&page(&[cancelled("b")], Some("p2"), "p3"));
    let swept = fed.apply(&last_page(&[meeting("d", 4, "08:00", "09:00")], "p3", "t2"));

    assert_eq!(swept.counts(), (1, 0, 2, 1));
    assert_eq!(fed.busy(), ["+1 08:00 to 09:00", "+4 08:00 to 09:00"]);
}

#[test]
fn a_delta_is_merged_and_never_replaces() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00"), meeting("b", 2, "08:00", "09:00")]);

    let merged = fed.change(&[meeting("b", 2, "10:00", "11:00")]);

    assert_eq!(merged.counts(), (0, 1, 0, 0));
    assert_eq!(fed.busy(), ["+1 08:00 to 09:00", "+2 10:00 to 11:00"]);
}

#[test]
fn flushes_the_token_even_when_a_delta_yields_no_change() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);

    let nothing = fed.change(&[]);
    let the_same = fed.change(&[meeting("a", 1, "08:00", "09:00")]);

    assert_eq!((nothing.counts(), the_same.counts()), ((0, 0, 0, 0), (0, 0, 0, 1)));
    assert_eq!(fed.token(ROOM).as_deref(), Some("t3"));
}

#[test]
fn a_delta_that_comes_twice_is_a_conflict_the_second_time() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);
    let delta = envelope(ROOM, &[cancelled("a")], json!({"expectedSyncToken": "t1", "nextSyncToken": "t2"}));
    fed.apply(&delta);

    assert_eq!(fed.refused(&delta), "SC004");
}

#[test]
fn of_two_deltas_from_one_token_at_the_same_time_one_wins() {
    let mut fed = Fed::new();
    fed.list(&[]);
    let delta = |id: &str, day| {
        let items = [meeting(id, day, "08:00", "09:00")];
        envelope(ROOM, &items, json!({"expectedSyncToken": "t1", "nextSyncToken": "t2"}))
    };
    fed.sql.batch_execute("BEGIN").expect("begun");
    fed.apply(&delta("a", 1));

    let mut other = fed.cluster.connect("postgres");
    let late = delta("b", 2);
    let waiting = std::thread::spawn(move || other.execute("SELECT calsync_apply_delta($1)", &[&late]));
    calsync_integration::eventually("the second waits for the first", || {
        let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        fed.sql.query_one(sql, &[]).expect("locks").get::<_, i64>(0) > 0
    });
    fed.sql.batch_execute("COMMIT").expect("committed");

    let refused = waiting.join().expect("no panic").expect_err("the token has moved");
    assert_eq!(sqlstate(&refused), "SC004");
    assert_eq!(fed.busy(), ["+1 08:00 to 09:00"]);
}

#[test]
fn never_writes_a_token_on_a_superseded_path() {
    let mut fed = Fed::new();
    fed.list(&[]);
    fed.sql.execute("SELECT calsync_resync($1)", &[&ROOM]).expect("resync");

    let late =
        envelope(ROOM, &[meeting("a", 1, "08:00", "09:00")], json!({"expectedSyncToken": "t1", "nextSyncToken": "t2"}));

    assert_eq!(fed.refused(&late), "SC004");
    assert_eq!(fed.token(ROOM), None);
}

#[test]
fn applies_only_the_final_version_when_an_occurrence_changes_repeatedly_in_one_delta() {
    let mut fed = Fed::new();
    fed.list(&[meeting("s", 1, "08:00", "08:30").daily(3)]);
    let moved = |to: &str, until: &str| meeting("s2", 2, to, until).instead_of("s", 2, "08:00");

    let changed = fed.change(&[
        moved("10:00", "10:30").updated(1),
        moved("14:00", "14:30").updated(3),
        moved("12:00", "12:30").updated(2),
    ]);

    assert_eq!(changed.counts(), (1, 0, 0, 0));
    assert_eq!(fed.busy(), ["+1 08:00 to 08:30", "+2 14:00 to 14:30", "+3 08:00 to 08:30"]);
}

#[test]
fn a_change_of_the_calendars_zone_moves_its_days_and_nothing_else() {
    let mut fed = Fed::new();
    let in_zone = |zone: &str, token: &str, successor: &str| {
        envelope(ROOM, &[], json!({"expectedSyncToken": token, "nextSyncToken": successor, "timeZone": zone}))
    };
    fed.list(&[
        days_off("trip", 3, 5),
        days_off("duty", 8, 9).daily(2),
        meeting("a", 1, "08:00", "09:00"),
        cancelled("gone").saying(json!({"recurringEventId": "duty", "originalStartTime": {"date": date(9)}})),
    ]);
    assert_eq!(fed.busy(), ["+1 08:00 to 09:00", "+3 00:00 to +5 00:00", "+8 00:00 to +9 00:00"]);

    fed.apply(&in_zone("Asia/Kolkata", "t1", "t2"));
    assert_eq!(fed.busy(), ["+1 08:00 to 09:00", "+2 18:30 to +4 18:30", "+7 18:30 to +8 18:30"]);

    fed.apply(&in_zone("America/Phoenix", "t2", "t3"));
    assert_eq!(fed.busy(), ["+1 08:00 to 09:00", "+3 07:00 to +5 07:00", "+8 07:00 to +9 07:00"]);
}

#[test]
fn what_is_deleted_in_the_delta_that_changes_the_zone_is_gone() {
    let mut fed = Fed::new();
    fed.list(&[
        meeting("a", 1, "08:00", "09:00"),
        meeting("b", 2, "08:00", "09:00"),
        meeting("c", 3, "08:00", "09:00"),
    ]);
    let keys = |token: Value, zone: &str, successor: &str| json!({"expectedSyncToken": token, "timeZone": zone, "nextSyncToken": successor});

    fed.apply(&envelope(ROOM, &[cancelled("a")], keys(json!("t1"), "Asia/Kolkata", "t2")));
    assert_eq!(fed.busy(), ["+2 08:00 to 09:00", "+3 08:00 to 09:00"]);

    fed.apply(&envelope(ROOM, &[meeting("b", 2, "08:00", "09:00")], keys(Value::Null, "Europe/Vienna", "t3")));
    assert_eq!(fed.busy(), ["+2 08:00 to 09:00"]);
}

#[test]
fn a_zone_told_by_an_earlier_page_counts() {
    let mut fed = Fed::new();
    let mut first = page(&[days_off("trip", 3, 5)], None, "p2");
    first["timeZone"] = "Asia/Kolkata".into();

    fed.apply(&first);
    fed.apply(&last_page(&[], "p2", "t1"));

    assert_eq!(fed.busy(), ["+2 18:30 to +4 18:30"]);
}

#[test]
fn an_event_that_comes_back_is_there_again() {
    let mut fed = Fed::new();
    fed.list(&[meeting("s", 1, "08:00", "08:30").daily(2), cancelled("s2").instead_of("s", 2, "08:00")]);
    fed.change(&[cancelled("s")]);

    let back = fed.change(&[meeting("s", 1, "08:00", "08:30").daily(2)]);

    assert_eq!(back.counts(), (1, 0, 0, 0));
    assert_eq!(fed.busy(), ["+1 08:00 to 08:30", "+2 08:00 to 08:30"], "its tombstone went with it");
}

#[test]
fn a_declined_invitation_stops_blocking_and_blocks_again() {
    let mut fed = Fed::new();
    let answered = |answer: &str| {
        meeting("a", 1, "08:00", "09:00").saying(json!({"attendees": [{"self": true, "responseStatus": answer}]}))
    };
    fed.list(&[answered("needsAction")]);
    assert_eq!(fed.busy().len(), 1);

    fed.change(&[answered("declined")]);
    assert!(fed.busy().is_empty());

    fed.change(&[answered("accepted")]);
    assert_eq!(fed.busy().len(), 1);
}

#[test]
fn a_long_event_over_many_short_ones_comes_and_goes() {
    let mut fed = Fed::new();
    fed.list(&[meeting("s", 1, "08:00", "09:00").daily(20), meeting("a", 3, "08:30", "09:30")]);
    let before = fed.busy();

    fed.change(&[spanning("long", &at(2, "08:30"), &at(12, "08:00")).saying(json!({"eventType": "outOfOffice"}))]);
    assert_eq!(fed.busy()[..3], ["+1 08:00 to 09:00", "+2 08:00 to +12 09:00", "+13 08:00 to 09:00"]);

    fed.change(&[meeting("b", 5, "23:00", "23:30"), cancelled("a")]);
    fed.change(&[meeting("a", 3, "08:30", "09:30"), cancelled("b"), cancelled("long")]);
    assert_eq!(fed.busy(), before);
}

#[test]
fn what_is_kept_of_an_event_is_the_subscribers_choice() {
    let item = meeting("a", 1, "08:00", "09:00").saying(json!({
        "summary": "Salary talk", "description": "Secret", "location": "Room 5", "visibility": "private",
        "iCalUID": "u", "etag": "\"1\"", "sequence": 2, "hangoutLink": "x",
    }));
    for (store, summary, raw) in
        [("busy_only", None, false), ("details", Some("Salary talk"), false), ("full", Some("Salary talk"), true)]
    {
        let mut fed = Fed::new();
        fed.subscribe(store, json!({"store": store}));
        fed.list_of(store, std::slice::from_ref(&item));

        let sql = "SELECT summary, raw IS NOT NULL, concat(summary, description, location, visibility, raw), sequence \
                   FROM calsync.event";
        let row = fed.sql.query_one(sql, &[]).expect("one event");
        assert_eq!(row.get::<_, Option<String>>(0).as_deref(), summary, "{store}");
        assert_eq!(row.get::<_, bool>(1), raw, "{store}");
        assert_eq!(row.get::<_, String>(2).is_empty(), store == "busy_only", "{store}");
        assert_eq!(row.get::<_, i32>(3), 2);
        assert_eq!(fed.busy_of(store), ["+1 08:00 to 09:00"], "{store}");
        assert_eq!(
            fed.list_of(store, std::slice::from_ref(&item)).counts(),
            (0, 0, 0, 1),
            "{store}: read again, unchanged"
        );
    }
}

#[test]
fn the_whole_resource_is_kept_as_given_where_that_is_wanted() {
    let mut fed = Fed::new();
    fed.subscribe("full", json!({"store": "full"}));
    let item = meeting("a", 1, "08:00", "09:00").saying(json!({"extendedProperties": {"private": {"k": "v"}}}));

    fed.list_of("full", std::slice::from_ref(&item));

    let raw: Value = fed.sql.query_one("SELECT raw FROM calsync.event", &[]).expect("one event").get(0);
    assert_eq!(raw, item.json());
}

#[test]
fn thousands_of_events_in_one_delta() {
    let mut fed = Fed::new();
    let items: Vec<Item> = (0..2500).map(|n| meeting(&format!("e{n:04}"), n % 40, "08:00", "09:00")).collect();
    assert_eq!(fed.list(&items).counts(), (2500, 0, 0, 0));

    let gone: Vec<Item> = (0..2499).map(|n| cancelled(&format!("e{n:04}"))).collect();
    assert_eq!(fed.change(&gone).counts(), (0, 0, 2499, 0));

    assert_eq!(fed.busy(), ["+19 08:00 to 09:00"]);
}

#[test]
fn a_delta_that_is_rolled_back_never_was() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);

    fed.sql.batch_execute("BEGIN").expect("begun");
    fed.change(&[cancelled("a"), meeting("b", 2, "08:00", "09:00")]);
    assert_eq!(fed.busy(), ["+2 08:00 to 09:00"], "seen by its own transaction");
    fed.sql.batch_execute("ROLLBACK").expect("rolled back");

    assert_eq!(fed.busy(), ["+1 08:00 to 09:00"]);
    assert_eq!(fed.token(ROOM).as_deref(), Some("t1"));
}
