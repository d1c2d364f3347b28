//! Answers that Google really gave, recorded. Read where the folder is present, else passed over.

mod google_support;

use std::path::PathBuf;

use calsync_core::busy::BusyStatus;
use calsync_core::delta::read_envelope;
use calsync_core::event::{Change, Kind};
use calsync_core::options::Options;
use calsync_core::providers::Answer;
use calsync_core::providers::google::read_answer;
use calsync_core::sync::{Page, Step};
use google_support::{occurrence, timed};
use serde_json::{Value, json};

/// The recorded answer of this name; None, and a word about it, where there are none.
fn recorded(name: &str) -> Option<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/google");
    if !folder.is_dir() {
        println!("passed over: no recorded answers here");
        return None;
    }
    let path = folder.join(format!("{name}.json"));
    Some(std::fs::read(&path).unwrap_or_else(|problem| panic!("{name}: {problem}")))
}

fn page(name: &str) -> Option<Page> {
    let answer = Answer::Http { status: 200, retry_after: None, body: recorded(name)? };
    match read_answer(&answer, true, &Options::default()) {
        Step::Commit { page, .. } => Some(page),
        step => panic!("{name}: {step:?}"),
    }
}

/// Id, kind and busy status of each change.
fn told(page: &Page) -> Vec<(String, &'static str)> {
    let tell = |change: &Change| match change {
        Change::Delete { .. } => "deleted",
        Change::Put(event) => match event.kind {
            Kind::Single(_) => "single",
            Kind::Master { .. } => "master",
            Kind::Exception { .. } => "exception",
            Kind::Tombstone(_) => "tombstone",
            Kind::Unreadable { .. } => "unreadable",
        },
    };
    page.changes.iter().map(|change| (change.event_id().to_owned(), tell(change))).collect()
}

fn kind(page: &Page, place: usize) -> &Kind {
    match &page.changes[place] {
        Change::Put(event) => &event.kind,
        Change::Delete { event_id } => panic!("{event_id} is deleted"),
    }
}

#[test]
fn a_series_created_is_a_master_in_the_calendars_zone() {
    let Some(page) = page("create_create") else { return };

    assert_eq!(page.time_zone.as_deref(), Some("America/Chicago"));
    let span = timed("2025-03-24T12:30:00Z", "2025-03-24T13:15:00Z", Some("America/Chicago"));
    assert_eq!(*kind(&page, 0), Kind::Master { span, recurrence: vec!["RRULE:FREQ=DAILY".to_owned()] });
    assert!(matches!(&page.changes[0], Change::Put(event) if event.busy_status == BusyStatus::Busy));
}

#[test]
fn one_occurrence_edited_comes_with_its_master() {
    let Some(page) = page("edit_single_single.instance-2") else { return };

    let span = timed("2025-03-27T01:45:00Z", "2025-03-27T02:30:00Z", Some("America/Chicago"));
    let of = occurrence("0e6062d5un60i5sn2m9et69c27", "2025-03-26T12:30:00Z");
    assert_eq!(*kind(&page, 1), Kind::Exception { of, span });
}

#[test]
fn all_edited_brings_the_old_series_its_exception_and_the_new_series() {
    for name in ["edit_all_all-1", "edit_all_all-2"] {
        let Some(page) = page(name) else { return };

        let kinds: Vec<_> = told(&page).into_iter().map(|told| told.1).collect();
        assert_eq!(kinds, ["master", "exception", "master"], "{name}");
        assert_eq!(page.changes[2].event_id(), "68k0p6ackplecqs9fuvbs1fju0_R20250326T123000");
    }
}

#[test]
fn one_occurrence_deleted_is_a_tombstone_beside_its_master() {
    for (name, master, original) in [
        ("delete_single_delete.single", "5hni4sj3ql1669otmjg7sn1mok", "2025-03-25T13:00:00Z"),
        ("delete_single_delete.single-2", "72o12msae3t6au1lim41i8tu6j", "2025-03-28T15:00:00Z"),
    ] {
        let Some(page) = page(name) else { return };

        assert!(matches!(kind(&page, 0), Kind::Master { .. }), "{name}");
        assert_eq!(*kind(&page, 1), Kind::Tombstone(occurrence(master, original)), "{name}");
    }
}

#[test]
fn every_recorded_answer_is_a_delta_once_its_calendar_is_named() {
    for name in [
        "create_create",
        "delete_single_delete.single",
        "delete_single_delete.single-2",
        "edit_all_all-1",
        "edit_all_all-2",
        "edit_single_single.instance-1",
        "edit_single_single.instance-2",
        "edit_single_single.instance-3",
    ] {
        let Some(bytes) = recorded(name) else { return };
        let mut json: Value = serde_json::from_slice(&bytes).expect("JSON");
        json["calendar"] = json!("test.user@gmail.com");

        let changes =
            read_envelope(json.to_string().as_bytes()).and_then(|envelope| envelope.changes(&Options::default()));

        let page = page(name).expect("a page");
        assert_eq!(changes.as_ref(), Ok(&page.changes), "{name}");
        assert!(told(&page).iter().all(|(_, kind)| *kind != "unreadable"), "{name}");
    }
}
