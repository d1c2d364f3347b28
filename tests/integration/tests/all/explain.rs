//! "Why is this slot blocked?", answered for every event near it.

use calsync_integration::{ALICE, World};
use serde_json::json;

/// (summary, blocks, reason) of everything near the hours on the day so many days from today.
fn explained(world: &mut World, day: i64, from: &str, to: &str) -> Vec<(String, bool, String)> {
    let rows = world
        .sql
        .query(
            "SELECT summary, blocks, reason \
             FROM calsync_explain(tstzrange($1::text::timestamptz, $2::text::timestamptz), ARRAY[$3])",
            &[&world.at(day, from), &world.at(day, to), &ALICE],
        )
        .expect("calsync_explain");
    rows.iter()
        .map(|row| {
            (
                row.get::<_, Option<String>>(0).unwrap_or_default(),
                row.get::<_, Option<bool>>(1).unwrap_or_default(),
                row.get(2),
            )
        })
        .collect()
}

#[test]
fn every_event_near_the_slot_says_whether_it_blocks_and_why() {
    let mut world = World::synced();
    let event = |summary: &str, from: &str, to: &str, more: serde_json::Value| {
        let mut event =
            json!({"summary": summary, "start": {"dateTime": world.at(3, from)}, "end": {"dateTime": world.at(3, to)}});
        event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        world.google.insert_event(ALICE, &event).expect("inserted");
    };
    event("Before", "07:00", "08:00", json!({}));
    event("Ordinary", "08:00", "08:10", json!({}));
    event(
        "Declined",
        "08:10",
        "08:20",
        json!({"attendees": [{"email": ALICE, "self": true, "responseStatus": "declined"}]}),
    );
    event("Transparent", "08:20", "08:30", json!({"transparency": "transparent"}));
    event("Tentative", "08:30", "08:40", json!({"status": "tentative"}));
    event("Out", "08:40", "08:50", json!({"eventType": "outOfOffice"}));
    event("After", "09:15", "10:00", json!({}));
    event("Far", "13:00", "14:00", json!({}));

    world.sync();

    let told = |summary: &str, blocks: bool, reason: &str| (summary.to_owned(), blocks, reason.to_owned());
    assert_eq!(
        explained(&mut world, 3, "08:00", "09:00"),
        [
            told("Before", false, "does not block: it ends as the window begins"),
            told("Ordinary", true, "blocks: an ordinary event"),
            told("Declined", false, "does not block: the calendar's owner has declined"),
            told("Transparent", false, "does not block: shown as \"available\" (transparency transparent)"),
            told("Tentative", true, "blocks: the event's status or the owner's response is tentative"),
            told("Out", true, "blocks: eventType outOfOffice"),
            told("After", false, "does not block: it begins 15 min after the window"),
        ]
    );
}

#[test]
fn a_deleted_and_a_moved_occurrence_are_told_of() {
    let mut world = World::synced();
    let series = world.daily(2, "08:00", "08:15", 4);
    let occurrence = |day: i64| format!("{series}_{}", world.at(day, "08:00").replace(['-', ':'], ""));
    world.google.delete_event(ALICE, &occurrence(3)).expect("deleted");
    let later = json!({"start": {"dateTime": world.at(4, "16:00")}, "end": {"dateTime": world.at(4, "16:15")}});
    world.google.patch_event(ALICE, &occurrence(4), &later).expect("moved");
    world.sync();

    let deleted = explained(&mut world, 3, "08:00", "09:00");
    let moved = explained(&mut world, 4, "08:00", "09:00");

    assert_eq!(deleted.len(), 1, "{deleted:?}");
    assert!(deleted[0].2.contains("was deleted"), "{deleted:?}");
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert!(!moved[0].1 && moved[0].2.contains("was moved to"), "{moved:?}");
}

#[test]
fn a_calendar_that_cannot_answer_says_so_first() {
    let mut world = World::synced();
    let told = explained(&mut world, 3000, "08:00", "09:00");
    assert_eq!(told.len(), 1);
    assert!(told[0].2.starts_with("no answer: calendar \"alice@example.com\" is not covered"), "{told:?}");
}
