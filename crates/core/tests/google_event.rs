//! One event resource of Google's: what kind of event, when, and what is wrong with it?

mod google_support;

use calsync_core::busy::BusyStatus;
use calsync_core::event::{Change, Kind};
use calsync_core::options::Options;
use calsync_core::providers::google::event::unreadable;
use calsync_core::providers::google::read_item;
use calsync_core::providers::google::series::{is_occurrence_id, split_occurrence_id};
use google_support::{
    at, days, item, occurrence, occurrence_on, options, problem_of, read, read_event, single, timed, vienna,
};
use serde_json::{Value, json};

// What kind of event

#[test]
fn an_event_with_times_is_a_single_event_in_its_own_zone() {
    let review = item("review", json!({}));

    let event = read_event(&review);

    assert_eq!(event.event_id, "review");
    assert_eq!(event.kind, single("2026-03-02T08:00:00Z", "2026-03-02T09:00:00Z", Some("Europe/Vienna")));
    assert_eq!(event.busy_status, BusyStatus::Busy);
    assert_eq!(event.details.summary.as_deref(), Some("Review"));
    assert_eq!(event.details.provider_updated_at, Some(at("2026-03-01T08:00:00Z")));
}

#[test]
fn an_event_with_recurrence_is_a_master_with_its_lines_as_given() {
    let lines = json!(["RRULE:FREQ=WEEKLY;BYDAY=MO", "EXDATE;TZID=Europe/Vienna:20260309T090000"]);

    let event = read_event(&item("stand-up", json!({"recurrence": lines})));

    let span = timed("2026-03-02T08:00:00Z", "2026-03-02T09:00:00Z", Some("Europe/Vienna"));
    let recurrence =
        vec!["RRULE:FREQ=WEEKLY;BYDAY=MO".to_owned(), "EXDATE;TZID=Europe/Vienna:20260309T090000".to_owned()];
    assert_eq!(event.kind, Kind::Master { span, recurrence });
}

#[test]
fn a_series_made_single_again_has_an_empty_recurrence() {
    let event = read_event(&item("review", json!({"recurrence": []})));

    assert!(matches!(event.kind, Kind::Single(_)));
}

#[test]
fn an_edited_occurrence_is_an_exception_that_keeps_its_original_start() {
    let moved = item(
        "stand-up_20260309T080000Z",
        json!({"recurringEventId": "stand-up", "originalStartTime": vienna("2026-03-09T09:00:00+01:00")}),
    );

    let event = read_event(&moved);

    let span = timed("2026-03-02T08:00:00Z", "2026-03-02T09:00:00Z", Some("Europe/Vienna"));
    assert_eq!(event.kind, Kind::Exception { of: occurrence("stand-up", "2026-03-09T08:00:00Z"), span });
}

#[test]
fn an_exception_that_names_only_its_original_start_is_understood_by_its_id() {
    let moved = item("off-site_20260309", json!({"originalStartTime": {"date": "2026-03-09"}}));

    let event = read_event(&moved);

    assert!(matches!(event.kind, Kind::Exception { of, .. } if of == occurrence_on("off-site", "2026-03-09")));
}

// What deletions look like (providers.md)

#[test]
fn a_deleted_single_event_is_deleted() {
    let stub = json!({"kind": "calendar#event", "etag": "\"2\"", "id": "review", "status": "cancelled"});

    assert_eq!(read(&stub), Change::Delete { event_id: "review".to_owned() });
}

#[test]
fn the_organizers_full_copy_of_a_cancelled_event_is_deleted_all_the_same() {
    let copy = item("review", json!({"status": "cancelled"}));

    assert_eq!(read(&copy), Change::Delete { event_id: "review".to_owned() });
}

#[test]
fn a_deleted_series_is_one_deletion_also_where_its_rule_comes_with_it() {
    let stub = item("stand-up", json!({"status": "cancelled", "recurrence": ["RRULE:FREQ=DAILY"]}));

    assert_eq!(read(&stub), Change::Delete { event_id: "stand-up".to_owned() });
}

#[test]
fn the_new_series_of_a_this_and_following_edit_is_no_occurrence_when_deleted() {
    let stub = json!({"id": "stand-up_R20250327T123000", "status": "cancelled"});

    assert_eq!(read(&stub), Change::Delete { event_id: "stand-up_R20250327T123000".to_owned() });
}

#[test]
fn a_deleted_occurrence_is_a_tombstone_however_sparse() {
    let of = occurrence("stand-up", "2025-03-26T12:30:00Z");
    let original = json!({"dateTime": "2025-03-26T07:30:00-05:00", "timeZone": "America/Chicago"});
    let cases = [
        ("as documented", json!({"recurringEventId": "stand-up", "originalStartTime": original})),
        ("without originalStartTime", json!({"recurringEventId": "stand-up"})),
        ("without recurringEventId", json!({"originalStartTime": original})),
        ("with nothing but its id", json!({})),
        ("with null where nothing is", json!({"recurringEventId": null, "originalStartTime": null})),
        ("with times", json!({"recurringEventId": "stand-up", "start": original, "end": original})),
    ];
    for (case, mut stub) in cases {
        stub["id"] = json!("stand-up_20250326T123000Z");
        stub["status"] = json!("cancelled");

        let event = read_event(&stub);

        assert_eq!(event.kind, Kind::Tombstone(of.clone()), "{case}");
        assert_eq!(event.busy_status, BusyStatus::Free, "{case}");
    }
}

#[test]
fn a_deleted_all_day_occurrence_is_a_tombstone_of_its_day() {
    let stub = json!({"id": "off-site_20250326", "status": "cancelled"});

    assert_eq!(read_event(&stub).kind, Kind::Tombstone(occurrence_on("off-site", "2025-03-26")));
}

#[test]
fn the_series_is_what_the_tombstone_names_not_what_its_id_says() {
    let reparented = json!({
        "id": "old_20250326T123000Z", "status": "cancelled", "recurringEventId": "new",
        "originalStartTime": {"dateTime": "2025-03-26T12:30:00Z"},
    });

    assert_eq!(read_event(&reparented).kind, Kind::Tombstone(occurrence("new", "2025-03-26T12:30:00Z")));
}

#[test]
fn ids_of_occurrences_are_told_from_others() {
    let (master, _) = split_occurrence_id("abc_R20250327T123000_20250328T123000Z").expect("an occurrence");
    assert_eq!(master, "abc_R20250327T123000");

    for id in [
        "abc",
        "abc_R20250327T123000",
        "_20250326",
        "abc_20250332",
        "abc_20250326T123000",
        "abc_2025_0326",
        "abc_+2025032",
    ] {
        assert!(!is_occurrence_id(id), "{id}");
    }
}

// When

#[test]
fn every_way_to_write_the_same_instant_is_understood() {
    let spellings = [
        json!({"dateTime": "2026-03-02T09:00:00+01:00"}),
        json!({"dateTime": "2026-03-02T08:00:00Z"}),
        json!({"dateTime": "2026-03-02t08:00:00z"}),
        json!({"dateTime": "2026-03-02T08:00:00.000Z"}),
        json!({"dateTime": "2026-03-02T08:00:00.000000999Z"}),
        json!({"dateTime": "2026-03-02T08:00:00-00:00"}),
        json!({"dateTime": "2026-03-02T03:00:00-0500"}),
        json!({"dateTime": "2026-03-02T03:00:00-05"}),
        json!({"dateTime": "2026-03-02T13:45:00+05:45"}),
        json!({"dateTime": "2026-03-02T07:59:60Z"}),
        json!({"dateTime": "2026-03-02T09:00:00", "timeZone": "Europe/Vienna"}),
        json!({"dateTime": "2026-03-02T08:00:00Z", "date": null, "timeZone": null}),
    ];
    for start in spellings {
        let event = read_event(&item("review", json!({"start": start})));

        let Kind::Single(span) = event.kind else { panic!("{start}") };
        let zone = start["timeZone"].as_str();
        assert_eq!(span, timed("2026-03-02T08:00:00Z", "2026-03-02T09:00:00Z", zone), "{start}");
    }
}

#[test]
fn an_end_without_offset_and_zone_is_read_in_the_starts_zone() {
    let event = read_event(&item("review", json!({"end": {"dateTime": "2026-03-02T10:00:00"}})));

    assert_eq!(event.kind, single("2026-03-02T08:00:00Z", "2026-03-02T09:00:00Z", Some("Europe/Vienna")));
}

#[test]
fn a_local_time_in_the_gap_shifts_forward_and_one_that_occurs_twice_is_the_first() {
    for (local, instant) in
        [("2026-03-29T02:30:00", "2026-03-29T01:30:00Z"), ("2026-10-25T02:30:00", "2026-10-25T00:30:00Z")]
    {
        let event = read_event(&item("early", json!({"start": vienna(local), "end": vienna(local)})));

        assert_eq!(event.kind, single(instant, instant, Some("Europe/Vienna")), "{local}");
    }
}

#[test]
fn all_day_events_keep_their_dates_and_no_zone() {
    let off_site = json!({"start": {"date": "2026-03-02"}, "end": {"date": "2026-03-05"}});

    assert_eq!(read_event(&item("off-site", off_site)).kind, Kind::Single(days("2026-03-02", "2026-03-05")));
}

#[test]
fn an_all_day_event_that_ends_on_its_first_day_lasts_that_day() {
    let off_site = json!({"start": {"date": "2026-03-02"}, "end": {"date": "2026-03-02"}});

    assert_eq!(read_event(&item("off-site", off_site)).kind, Kind::Single(days("2026-03-02", "2026-03-03")));
}

#[test]
fn an_end_that_is_left_open_on_purpose_makes_no_length() {
    let open = json!({"end": null, "endTimeUnspecified": true});
    assert_eq!(
        read_event(&item("open", open)).kind,
        single("2026-03-02T08:00:00Z", "2026-03-02T08:00:00Z", Some("Europe/Vienna"))
    );

    let all_day = json!({"start": {"date": "2026-03-02"}, "end": null, "endTimeUnspecified": true});
    assert_eq!(read_event(&item("open", all_day)).kind, Kind::Single(days("2026-03-02", "2026-03-03")));
}

#[test]
fn an_end_that_google_makes_up_for_an_open_one_is_kept() {
    let open = json!({"endTimeUnspecified": true});

    assert_eq!(
        read_event(&item("open", open)).kind,
        single("2026-03-02T08:00:00Z", "2026-03-02T09:00:00Z", Some("Europe/Vienna"))
    );
}

// What is wrong with it

#[test]
fn what_cannot_be_understood_is_named_by_its_field() {
    let nine = "2026-03-02T09:00:00+01:00";
    let cases = [
        (json!({"id": null}), "id", "it is missing"),
        (json!({"id": ""}), "id", "it is empty"),
        (json!({"id": 7}), "id", "it is not a string"),
        (json!({"id": "x".repeat(1025)}), "id", "it is longer than 1024 bytes"),
        (json!({"id": "a\u{0}b"}), "id", "it holds a NUL character"),
        (json!({"status": 1}), "status", "it is not a string"),
        (json!({"status": "perhaps"}), "status", "it is none of"),
        (json!({"start": null}), "start", "it is missing"),
        (json!({"start": nine}), "start", "it is not an object"),
        (json!({"start": {}}), "start", "it has neither"),
        (json!({"start": {"date": "2026-03-02", "dateTime": nine}}), "start", "it has both"),
        (json!({"start": {"dateTime": "tomorrow"}}), "start.dateTime", "\"tomorrow\" is not an RFC 3339 time"),
        (json!({"start": {"dateTime": "2026-03-02 09:00:00Z"}}), "start.dateTime", "is not an RFC 3339 time"),
        (json!({"start": {"dateTime": "2026-02-30T09:00:00Z"}}), "start.dateTime", "is not an RFC 3339 time"),
        (json!({"start": {"dateTime": "2026-03-02T24:00:00Z"}}), "start.dateTime", "is not an RFC 3339 time"),
        (json!({"start": {"dateTime": "2026-03-02T09:00:61Z"}}), "start.dateTime", "is not an RFC 3339 time"),
        (json!({"start": {"dateTime": "2026-03-02T09:00:00+24:00"}}), "start.dateTime", "is not an RFC 3339 time"),
        (json!({"start": {"dateTime": "2026-03-02T09:00:00.Z"}}), "start.dateTime", "is not an RFC 3339 time"),
        (json!({"start": {"dateTime": "2026-03-02T09:00:00 Z"}}), "start.dateTime", "is not an RFC 3339 time"),
        (json!({"start": {"dateTime": "２026-03-02T09:00:00Z"}}), "start.dateTime", "is not an RFC 3339 time"),
        (json!({"start": {"dateTime": "0000-03-02T09:00:00Z"}}), "start.dateTime", "years 0001 to 9999"),
        (json!({"start": {"dateTime": "0001-01-01T00:00:00+14:00"}}), "start.dateTime", "years 0001 to 9999"),
        (json!({"start": {"dateTime": "12026-03-02T09:00:00Z"}}), "start.dateTime", "years 0001 to 9999"),
        (json!({"start": {"dateTime": "2026-03-02T09:00:00"}}), "start.dateTime", "neither an offset nor a timeZone"),
        (json!({"start": {"dateTime": 7}}), "start.dateTime", "it is not a string"),
        (json!({"start": {"date": "2026-3-2"}}), "start.date", "is not a date"),
        (json!({"start": {"date": "0000-03-02"}}), "start.date", "is not a date"),
        (
            json!({"start": {"dateTime": nine, "timeZone": "Mars/Olympus"}}),
            "start.timeZone",
            "unknown zone \"Mars/Olympus\"",
        ),
        (json!({"start": {"dateTime": nine, "timeZone": 1}}), "start.timeZone", "it is not a string"),
        (json!({"end": null}), "end", "it is missing"),
        (json!({"end": {"dateTime": "2026-03-02T08:59:59+01:00"}}), "end.dateTime", "it is before the start"),
        (json!({"end": {"date": "2026-03-03"}}), "end.date", "the start is a dateTime"),
        (json!({"start": {"date": "2026-03-02"}}), "end.dateTime", "the start is a date"),
        (json!({"start": {"date": "2026-03-02"}, "end": {"date": "2026-03-01"}}), "end.date", "it is before the start"),
        (json!({"start": {"date": "9999-12-31"}, "end": {"date": "9999-12-31"}}), "end.date", "after the year 9999"),
        (json!({"recurrence": "RRULE:FREQ=DAILY"}), "recurrence", "it is not an array"),
        (json!({"recurrence": ["RRULE:FREQ=DAILY", 1]}), "recurrence[1]", "it is not a string"),
        (json!({"recurrence": ["DTSTART:20260302T090000Z"]}), "recurrence[0]", "it begins with none of"),
        (json!({"recurrence": ["RRULE"]}), "recurrence[0]", "it begins with none of"),
        (json!({"recurrence": ["RRULE:FREQ=SOMETIMES"]}), "recurrence[0]", "column "),
        (json!({"recurrence": ["RRULE:FREQ=DAILY", "EXDATE:yesterday"]}), "recurrence[1]", "column "),
        (json!({"recurrence": ["RRULE:"]}), "recurrence[0]", "column "),
        (json!({"recurringEventId": "stand-up"}), "originalStartTime", "it is missing"),
        (json!({"originalStartTime": {"date": "2026-03-02"}}), "recurringEventId", "it is missing"),
        (
            json!({"recurringEventId": "x", "originalStartTime": {"date": "?"}}),
            "originalStartTime.date",
            "is not a date",
        ),
        (json!({"recurringEventId": "x", "originalStartTime": {"date": "2026-03-02"}}), "recurringEventId", "itself"),
        (json!({"summary": ["a"]}), "summary", "it is not a string"),
        (json!({"sequence": 3_000_000_000_i64}), "sequence", "it is not a whole number"),
        (json!({"updated": "yesterday"}), "updated", "is not an RFC 3339 time"),
        (json!({"endTimeUnspecified": "yes", "end": null}), "endTimeUnspecified", "it is not true or false"),
        (json!({"attendees": {}}), "attendees", "it is not an array"),
        (json!({"attendees": [1]}), "attendees[0]", "it is not an object"),
        (json!({"attendees": [{"self": "yes"}]}), "attendees[0].self", "it is not true or false"),
        (json!({"attendees": [{}, {"responseStatus": 1}]}), "attendees[1].responseStatus", "it is not a string"),
    ];
    for (fields, field, reason) in cases {
        let problem = problem_of(&item("x", fields.clone()));

        assert_eq!(problem.field, field, "{fields}");
        assert!(problem.reason.contains(reason), "{fields}: {}", problem.reason);
        assert_eq!(problem.event_id.as_deref(), if field == "id" { None } else { Some("x") }, "{fields}");
    }
}

#[test]
fn an_item_that_is_no_object_is_named_as_a_whole() {
    for item in [json!(null), json!(7), json!("review"), json!([]), json!(true)] {
        let problem = problem_of(&item);

        assert_eq!((problem.field.as_str(), problem.event_id), ("item", None));
    }
}

#[test]
fn a_problem_tells_the_time_to_block_where_that_is_readable() {
    let hour = || Some(timed("2026-03-02T08:00:00Z", "2026-03-02T09:00:00Z", Some("Europe/Vienna")));
    let nine = "2026-03-02T09:00:00+01:00";
    let cases = [
        ("something else is wrong", json!({"sequence": "first"}), hour()),
        ("no id", json!({"id": null}), hour()),
        (
            "a zone that nobody knows",
            json!({"start": {"dateTime": nine, "timeZone": "Mars/Olympus"}}),
            Some(timed("2026-03-02T08:00:00Z", "2026-03-02T09:00:00Z", None)),
        ),
        (
            "an end before the start",
            json!({"end": {"dateTime": "2026-03-02T08:30:00+01:00"}}),
            Some(timed("2026-03-02T07:30:00Z", "2026-03-02T08:00:00Z", Some("Europe/Vienna"))),
        ),
        (
            "an all-day end before the start",
            json!({"start": {"date": "2026-03-02"}, "end": {"date": "2026-02-27"}}),
            Some(days("2026-02-27", "2026-03-02")),
        ),
        ("a start that does not parse", json!({"start": {"dateTime": "tomorrow"}}), None),
        ("an end of another kind", json!({"end": {"date": "2026-03-03"}}), None),
        ("a cancelled event is never busy", json!({"status": "cancelled", "recurringEventId": 1}), None),
    ];
    for (case, fields, span) in cases {
        assert_eq!(problem_of(&item("x", fields)).span, span, "{case}");
    }
}

#[test]
fn a_deletion_is_understood_whatever_else_the_item_holds() {
    let odd = json!({"id": "review", "status": "cancelled", "start": 7, "attendees": "all", "sequence": "first"});

    assert_eq!(read(&odd), Change::Delete { event_id: "review".to_owned() });
}

#[test]
fn an_unreadable_item_keeps_its_text_its_reason_and_its_time() {
    let odd = item("review", json!({"sequence": "first", "summary": "a\u{0}b"}));

    let event = unreadable(&odd, problem_of(&odd), &Options::default());

    assert_eq!(event.event_id, "review");
    assert_eq!(event.problem.as_deref(), Some("sequence: it is not a whole number of 32 bits"));
    assert!(matches!(event.kind, Kind::Unreadable { span: Some(_) }));
    assert_eq!(event.busy_status, BusyStatus::Busy);
    assert_eq!(event.details.raw.as_ref().map(|raw| &raw["summary"]), Some(&json!("ab")));
    assert_eq!(event.details.provider_updated_at, Some(at("2026-03-01T08:00:00Z")));
}

#[test]
fn of_an_unreadable_item_busy_only_keeps_its_time_and_which_field_it_was() {
    let busy_only = options(json!({"store": "busy_only"}));
    for marked in [
        json!({"summary": "MARKER", "sequence": "MARKER"}),
        json!({"updated": "MARKER"}),
        json!({"recurrence": ["RRULE:FREQ=MARKER"]}),
        json!({"recurrence": ["MARKER"]}),
        json!({"attendees": ["MARKER"]}),
        json!({"recurringEventId": "MARKER".repeat(1000)}),
    ] {
        let odd = item("review", marked.clone());
        let problem = read_item(&odd, &busy_only).expect_err("a problem");
        let field = problem.field.clone();

        let event = unreadable(&odd, problem, &busy_only);

        assert!(matches!(event.kind, Kind::Unreadable { span: Some(_) }), "{marked}");
        assert!(event.problem.as_ref().is_some_and(|problem| problem.starts_with(&field)), "{marked}");
        assert!(!format!("{event:?}").contains("MARKER"), "{event:?}");
    }
}

#[test]
fn an_item_without_an_id_always_gets_the_same_one() {
    let id = |item: &Value| unreadable(item, problem_of(item), &Options::default()).event_id;
    let nameless = item("x", json!({"id": null}));

    assert_eq!(id(&nameless), id(&nameless.clone()));
    assert_ne!(id(&nameless), id(&item("x", json!({"id": null, "summary": "another"}))));
    assert!(id(&nameless).starts_with("unreadable:"));
}

// What is kept

#[test]
fn what_is_kept_follows_the_option_store() {
    let private = item("x", json!({"description": "d", "location": "l", "visibility": "private"}));
    for (store, summary, raw) in [("busy_only", false, false), ("details", true, false), ("full", true, true)] {
        let Ok(Change::Put(event)) = read_item(&private, &options(json!({"store": store}))) else { panic!("{store}") };

        let details = event.details;
        let private = [&details.summary, &details.description, &details.location, &details.visibility];
        assert!(private.iter().all(|kept| kept.is_some() == summary), "{store}: {private:?}");
        assert_eq!(details.raw.is_some(), raw, "{store}");
        assert_eq!(details.etag.as_deref(), Some("\"1\""), "{store}");
    }
}

#[test]
fn nul_characters_are_dropped_everywhere_since_postgres_cannot_store_them() {
    let zeros = item("x", json!({"summary": "a\u{0}b", "extendedProperties": {"k\u{0}ey": ["\u{0}"]}}));

    let Ok(Change::Put(event)) = read_item(&zeros, &options(json!({"store": "full"}))) else { panic!("a problem") };

    assert_eq!(event.details.summary.as_deref(), Some("ab"));
    let raw = event.details.raw.expect("raw");
    assert_eq!(raw["extendedProperties"], json!({"key": [""]}));
    assert!(!raw.to_string().contains("\\u0000"));
}

#[test]
fn texts_of_absurd_length_are_cut_between_characters() {
    let long = item("x", json!({"summary": "é".repeat(9000), "description": format!("a{}", "🍽".repeat(20_000))}));

    let details = read_event(&long).details;

    assert_eq!(details.summary.map(|kept| kept.len()), Some(8192));
    assert_eq!(details.description.map(|kept| kept.len()), Some(65_533));
}
