//! Answers that Google really gave, applied in the order of their edits, give the busy times that the edits describe.

use std::path::PathBuf;

use calsync_integration::{Fed, ROOM};
use serde_json::Value;

/// The recorded answer of this name; None, and a word about it, where there are none.
fn recorded(name: &str) -> Option<Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/google");
    if !folder.is_dir() {
        println!("passed over: no recorded answers here");
        return None;
    }
    let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).expect("the answer is readable");
    Some(serde_json::from_str(&text).expect("the answer is JSON"))
}

/// A calendar to which these answers came one after the other, each fetched with the token of the one before.
fn after(names: &[&str]) -> Option<Fed> {
    let mut fed = Fed::with("calsync.retention = '3650d'");
    for name in names {
        let mut delta = recorded(name)?;
        delta["calendar"] = ROOM.into();
        delta["expectedSyncToken"] = fed.token(ROOM).into();
        fed.apply(&delta);
    }
    Some(fed)
}

/// Busy times in a few days of 2025, in UTC: `24 12:30 to 13:15`, or with the day on which they end.
fn busy(fed: &mut Fed, from: &str, to: &str) -> Vec<String> {
    let rows = fed.sql.query(
        "SELECT to_char(lower(busy), 'DD HH24:MI to ') || to_char(upper(busy), 'HH24:MI') \
         FROM calsync_busy(tstzrange($1::text::timestamptz, $2::text::timestamptz), ARRAY[$3])",
        &[&from, &to, &ROOM],
    );
    rows.expect("busy").iter().map(|row| row.get(0)).collect()
}

/// The days of the edits.
fn week(fed: &mut Fed) -> Vec<String> {
    busy(fed, "2025-03-23", "2025-03-29")
}

const DISHES: [&str; 5] =
    ["24 12:30 to 13:15", "25 12:30 to 13:15", "26 12:30 to 13:15", "27 12:30 to 13:15", "28 12:30 to 13:15"];

#[test]
fn a_series_is_created() {
    let Some(mut fed) = after(&["create_create"]) else { return };

    assert_eq!(week(&mut fed), DISHES);
}

#[test]
fn a_series_keeps_its_local_time_when_the_clocks_change() {
    let Some(mut fed) = after(&["create_create"]) else { return };

    assert_eq!(
        busy(&mut fed, "2025-11-01", "2025-11-04"),
        ["01 12:30 to 13:15", "02 13:30 to 14:15", "03 13:30 to 14:15"]
    );
}

#[test]
fn its_first_occurrence_is_moved_to_noon() {
    let Some(mut fed) = after(&["create_create", "edit_single_single.instance-1"]) else { return };

    let mut moved = DISHES.map(str::to_owned);
    moved[0] = "24 17:30 to 18:15".to_owned();
    assert_eq!(week(&mut fed), moved);
}

#[test]
fn all_occurrences_are_edited_and_the_moved_one_comes_back() {
    let edits = ["create_create", "edit_single_single.instance-1", "edit_all_all-1", "edit_all_all-2"];
    let Some(mut fed) = after(&edits) else { return };

    assert_eq!(week(&mut fed), DISHES);
    assert_eq!(fed.events("kind").len(), 3, "the old series that ends, its exception, and the new series");
}

#[test]
fn one_occurrence_is_moved_from_morning_to_night() {
    let Some(mut fed) = after(&["edit_single_single.instance-2"]) else { return };

    assert_eq!(
        week(&mut fed),
        ["24 12:30 to 13:15", "25 12:30 to 13:15", "27 01:45 to 02:30", "27 12:30 to 13:15", "28 12:30 to 13:15"]
    );
}

#[test]
fn three_occurrences_are_renamed_and_stay_where_they_are() {
    let Some(mut fed) = after(&["edit_single_single.instance-3"]) else { return };

    assert_eq!(week(&mut fed), DISHES);
}

#[test]
fn one_occurrence_is_deleted() {
    let Some(mut fed) = after(&["delete_single_delete.single-2"]) else { return };

    assert_eq!(
        week(&mut fed),
        ["24 15:00 to 16:30", "25 15:00 to 16:30", "26 15:00 to 16:30", "27 15:00 to 16:30"],
        "not on the 28th"
    );
}

#[test]
fn one_occurrence_of_a_series_that_ends_is_deleted() {
    let Some(mut fed) = after(&["delete_single_delete.single"]) else { return };

    assert_eq!(busy(&mut fed, "2025-03-24", "2025-03-27"), ["24 13:00 to 14:00", "26 13:00 to 14:00"]);
    assert_eq!(busy(&mut fed, "2025-03-30", "2025-04-05"), ["30 13:00 to 14:00", "31 13:00 to 14:00"]);
    assert_eq!(
        busy(&mut fed, "2025-03-08", "2025-03-10"),
        ["08 14:00 to 15:00", "09 13:00 to 14:00"],
        "daylight saving"
    );
}

#[test]
fn all_of_it_in_the_order_of_the_edits() {
    let edits = [
        "create_create",
        "edit_single_single.instance-1",
        "edit_all_all-1",
        "edit_all_all-2",
        "edit_single_single.instance-3",
        "edit_single_single.instance-2",
        "delete_single_delete.single",
        "delete_single_delete.single-2",
    ];
    let Some(mut fed) = after(&edits) else { return };

    assert_eq!(
        week(&mut fed),
        [
            "23 13:00 to 14:00",
            "24 12:30 to 14:00",
            "24 15:00 to 16:30",
            "25 12:30 to 13:15",
            "25 15:00 to 16:30",
            "26 12:30 to 14:00",
            "26 15:00 to 16:30",
            "27 01:45 to 02:30",
            "27 12:30 to 14:00",
            "27 15:00 to 16:30",
            "28 12:30 to 14:00",
        ]
    );
}
