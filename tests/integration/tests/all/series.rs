//! Series and what becomes of their occurrences: exceptions and deletions, in any order, in and out of the window.
//!
//! After each delta here everything derived is checked against what is stored: see `check_derived`.

use calsync_integration::Fed;
use calsync_integration::items::{at, cancelled, days_off, meeting, spanning};

#[test]
fn cancelled_override_arriving_before_its_master() {
    let mut fed = Fed::new();
    fed.list(&[]);

    fed.change(&[cancelled("s2").instead_of("s", 2, "08:00")]);
    fed.change(&[meeting("s", 1, "08:00", "08:30").daily(3)]);

    assert_eq!(fed.busy(), ["+1 08:00 to 08:30", "+3 08:00 to 08:30"]);
}

#[test]
fn a_sparse_tombstone_is_known_by_its_id() {
    let mut fed = Fed::new();
    fed.list(&[meeting("s", 1, "08:00", "08:30").daily(3)]);

    fed.change(&[cancelled(&format!("s_{}", at(2, "08:00").replace(['-', ':'], "")))]);

    assert_eq!(fed.busy(), ["+1 08:00 to 08:30", "+3 08:00 to 08:30"]);
}

#[test]
fn cancels_one_occurrence_without_deleting_its_siblings() {
    let mut fed = Fed::new();
    fed.list(&[
        meeting("s", 1, "08:00", "08:30").daily(4),
        meeting("s2", 2, "12:00", "12:30").instead_of("s", 2, "08:00"),
        meeting("s3", 3, "13:00", "13:30").instead_of("s", 3, "08:00"),
    ]);

    // Sparse, as an edit that was undone may come: nothing but the id and the status.
    fed.change(&[cancelled("s2")]);

    assert_eq!(fed.busy(), ["+1 08:00 to 08:30", "+3 13:00 to 13:30", "+4 08:00 to 08:30"]);
}

#[test]
fn keeps_both_recurring_siblings_when_one_moves_onto_the_others_interval() {
    let mut fed = Fed::new();
    fed.list(&[meeting("s", 1, "08:00", "08:30").daily(3)]);

    fed.change(&[meeting("s2", 3, "08:00", "08:30").instead_of("s", 2, "08:00")]);
    assert_eq!(fed.busy(), ["+1 08:00 to 08:30", "+3 08:00 to 08:30"]);

    fed.change(&[cancelled("s3").instead_of("s", 3, "08:00")]);
    assert_eq!(fed.busy(), ["+1 08:00 to 08:30", "+3 08:00 to 08:30"], "the moved one is still there");
}

#[test]
fn a_cancelled_series_takes_its_exceptions_with_it() {
    let mut fed = Fed::new();
    fed.list(&[
        meeting("s", 1, "08:00", "08:30").daily(4),
        meeting("s2", 2, "12:00", "12:30").instead_of("s", 2, "08:00"),
        cancelled("s3").instead_of("s", 3, "08:00"),
        meeting("a", 5, "08:00", "09:00"),
    ]);

    let gone = fed.change(&[cancelled("s")]);

    assert_eq!(gone.counts(), (0, 0, 3, 0));
    assert_eq!(fed.busy(), ["+5 08:00 to 09:00"]);
}

#[test]
fn an_exception_moved_to_another_series_in_the_delta_that_ends_its_own_lives_on() {
    let mut fed = Fed::new();
    fed.list(&[
        meeting("old", 1, "08:00", "08:30").daily(4),
        meeting("x", 3, "12:00", "12:30").instead_of("old", 3, "08:00"),
    ]);

    fed.change(&[
        cancelled("old"),
        meeting("x", 3, "12:00", "12:30").instead_of("new", 3, "08:00"),
        meeting("new", 2, "08:00", "08:30").daily(2),
    ]);

    assert_eq!(fed.busy(), ["+2 08:00 to 08:30", "+3 12:00 to 12:30"]);
}

#[test]
fn an_exception_moved_to_another_series_fills_the_slot_it_had_vacated() {
    let mut fed = Fed::new();
    fed.list(&[
        meeting("one", 1, "08:00", "08:30").daily(3),
        meeting("two", 1, "10:00", "10:30").daily(3),
        meeting("x", 2, "12:00", "12:30").instead_of("one", 2, "08:00"),
    ]);

    fed.change(&[meeting("x", 2, "12:00", "12:30").instead_of("two", 2, "10:00")]);

    let day_two: Vec<String> = fed.busy().into_iter().filter(|line| line.starts_with("+2")).collect();
    assert_eq!(day_two, ["+2 08:00 to 08:30", "+2 12:00 to 12:30"]);
}

#[test]
fn moving_one_occurrence_out_of_the_window_frees_its_slot() {
    let mut fed = Fed::new();
    fed.list(&[meeting("s", 1, "08:00", "08:30").daily(3)]);

    for far in [2000, -2000] {
        fed.change(&[meeting("s2", far, "08:00", "08:30").instead_of("s", 2, "08:00")]);
        assert_eq!(fed.busy(), ["+1 08:00 to 08:30", "+3 08:00 to 08:30"], "{far}");
    }
}

#[test]
fn a_single_event_moved_out_of_the_window_keeps_no_old_time() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);

    fed.change(&[meeting("a", 2000, "08:00", "09:00")]);

    assert!(fed.busy().is_empty());
}

#[test]
fn an_event_of_many_days_that_began_before_the_window_blocks_the_rest() {
    let mut fed = Fed::with("calsync.retention = '1d'");

    fed.list(&[days_off("sabbatical", -400, 3), spanning("conference", &at(-9, "12:00"), &at(5, "15:00"))]);

    let window = "SELECT calsync_is_free(tstzrange(now(), now() + interval '1 min'), ARRAY['room'])";
    assert!(!fed.sql.query_one(window, &[]).expect("covered").get::<_, bool>(0));
    fed.change(&[cancelled("sabbatical")]);
    assert!(!fed.sql.query_one(window, &[]).expect("covered").get::<_, bool>(0));
}

#[test]
fn an_event_that_ends_exactly_where_the_window_begins_is_not_in_it() {
    let mut fed = Fed::new();
    fed.list(&[]);
    let covered_from: chrono::DateTime<chrono::Utc> =
        fed.sql.query_one("SELECT lower(covered) FROM calsync.subscription", &[]).expect("covered").get(0);
    let hour = chrono::TimeDelta::hours(1);
    let time = |instant: chrono::DateTime<chrono::Utc>| instant.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);

    fed.change(&[
        spanning("before", &time(covered_from - hour), &time(covered_from)),
        spanning("into", &time(covered_from - hour), &time(covered_from + chrono::TimeDelta::microseconds(1))),
    ]);

    let in_window = fed.sql.query("SELECT event_id FROM calsync.occurrence", &[]).expect("readable");
    assert_eq!(in_window.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["into"]);
}

#[test]
fn made_recurring_then_single_again() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);

    fed.change(&[meeting("a", 1, "08:00", "09:00").daily(3)]);
    assert_eq!(fed.busy().len(), 3);

    fed.change(&[meeting("a", 1, "08:00", "09:00")]);
    assert_eq!(fed.busy(), ["+1 08:00 to 09:00"]);
}

#[test]
fn made_recurring_then_cancelled() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);

    fed.change(&[meeting("a", 1, "08:00", "09:00").daily(3)]);
    fed.change(&[cancelled("a")]);

    assert!(fed.busy().is_empty());
}
