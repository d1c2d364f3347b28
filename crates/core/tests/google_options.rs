//! A subscription's options, and the mapping from event to busy status that they may change.

mod google_support;

use std::time::Duration;

use calsync_core::busy::BusyStatus;
use calsync_core::event::Change;
use calsync_core::options::{BusyFacts, BusyRules, KNOWN, KNOWN_BUSY, Options, Store};
use calsync_core::providers::google::read_item;
use google_support::{item, options};
use serde_json::{Value, json};

/// The busy status of an event with these fields, under these overrides.
fn busy(fields: Value, overrides: Value) -> BusyStatus {
    match read_item(&item("x", fields.clone()), &options(json!({"busy": overrides}))) {
        Ok(Change::Put(event)) => event.busy_status,
        other => panic!("{fields}: {other:?}"),
    }
}

fn invited(answer: &str) -> Value {
    json!({"attendees": [
        {"email": "bob@x", "responseStatus": "accepted"},
        {"email": "alice@x", "self": true, "responseStatus": answer},
    ]})
}

#[test]
fn no_options_are_the_defaults() {
    let defaults = Options {
        store: Store::Details,
        max_staleness: None,
        incremental: true,
        busy: BusyRules::default(),
        changes: false,
        notify: false,
    };

    assert_eq!(options(json!({})), defaults);
    assert_eq!(options(json!({"store": null, "max_staleness": null, "incremental": null, "busy": null})), defaults);
    assert_eq!(Options::default(), defaults);
}

#[test]
fn every_option_is_read() {
    let read = options(json!({
        "store": "full", "max_staleness": "15min", "incremental": false, "busy": {"tentative": "free"},
        "changes": true, "notify": true,
    }));

    assert_eq!(read.store, Store::Full);
    assert_eq!(read.max_staleness, Some(Duration::from_secs(900)));
    assert!(!read.incremental);
    assert!(read.changes && read.notify);
    assert_eq!(read.busy, BusyRules { tentative: BusyStatus::Free, ..BusyRules::default() });
}

#[test]
fn a_length_of_time_is_written_as_in_postgres_settings_or_in_seconds() {
    for (written, millis) in [
        (json!("90s"), 90_000),
        (json!("15min"), 900_000),
        (json!("6h"), 21_600_000),
        (json!("1d"), 86_400_000),
        (json!("250ms"), 250),
        (json!("1.5h"), 5_400_000),
        (json!(" 15 min "), 900_000),
        (json!("90"), 90_000),
        (json!(900), 900_000),
        (json!(0.5), 500),
    ] {
        let read = options(json!({"max_staleness": written})).max_staleness;

        assert_eq!(read, Some(Duration::from_millis(millis)), "{written}");
    }
}

#[test]
fn what_cannot_be_meant_is_named_with_the_fix() {
    let cases = [
        (json!([]), "options", "Pass '{}'"),
        (json!(null), "options", "Pass '{}'"),
        (json!({"max_stalenes": "1d"}), "max_stalenes", "\"store\", \"max_staleness\", \"incremental\", \"busy\""),
        (json!({"stor": null}), "stor", "\"store\", \"max_staleness\", \"incremental\", \"busy\""),
        (json!({"store": "everything"}), "store", "\"busy_only\", \"details\" or \"full\""),
        (json!({"store": 1}), "store", "\"busy_only\", \"details\" or \"full\""),
        (json!({"incremental": "false"}), "incremental", "without quotes"),
        (json!({"max_staleness": "soon"}), "max_staleness", "\"15min\""),
        (json!({"max_staleness": "1 week"}), "max_staleness", "\"15min\""),
        (json!({"max_staleness": "15 MIN"}), "max_staleness", "\"15min\""),
        (json!({"max_staleness": "1..5h"}), "max_staleness", "\"15min\""),
        (json!({"max_staleness": "-5min"}), "max_staleness", "\"15min\""),
        (json!({"max_staleness": ""}), "max_staleness", "\"15min\""),
        (json!({"max_staleness": 0}), "max_staleness", "\"15min\""),
        (json!({"max_staleness": -1}), "max_staleness", "\"15min\""),
        (json!({"max_staleness": 1e300}), "max_staleness", "\"15min\""),
        (json!({"max_staleness": "99999999d"}), "max_staleness", "\"15min\""),
        (json!({"max_staleness": true}), "max_staleness", "\"15min\""),
        (json!({"busy": "free"}), "busy", "Pass an object"),
        (json!({"busy": {"declind": "free"}}), "busy.declind", "\"declined\", \"working_location\""),
        (json!({"busy": {"declined": "no"}}), "busy.declined", "\"free\", \"tentative\", \"busy\", \"out_of_office\""),
        (json!({"busy": {"declined": 1}}), "busy.declined", "\"working_elsewhere\""),
    ];
    for (json, key, hint) in cases {
        let problem = Options::read(&json).expect_err("a problem");

        assert_eq!(problem.key, key, "{json}");
        assert!(problem.hint().contains(hint), "{json}: {}", problem.hint());
        assert!(problem.to_string().starts_with(&format!("invalid option \"{key}\": ")), "{problem}");
    }
}

#[test]
fn every_documented_key_is_understood() {
    for (key, ..) in KNOWN {
        options(json!({key: null}));
    }
    for (step, default, _) in KNOWN_BUSY {
        assert_eq!(options(json!({"busy": {step: default.label()}})), Options::default(), "{step}");
        assert_ne!(options(json!({"busy": {step: "working_elsewhere"}})), Options::default(), "{step}");
    }
}

#[test]
fn the_mapping_from_event_to_busy_status() {
    use BusyStatus::{Busy, Free, OutOfOffice, Tentative};
    let table = [
        ("an event", json!({}), Busy),
        ("without a status", json!({"status": null}), Busy),
        ("opaque", json!({"transparency": "opaque"}), Busy),
        ("transparent", json!({"transparency": "transparent"}), Free),
        ("tentative", json!({"status": "tentative"}), Tentative),
        ("accepted", invited("accepted"), Busy),
        ("declined", invited("declined"), Free),
        ("answered maybe", invited("tentative"), Tentative),
        ("not answered", invited("needsAction"), Busy),
        ("somebody else declined", json!({"attendees": [{"email": "bob@x", "responseStatus": "declined"}]}), Busy),
        ("guests left out", json!({"attendeesOmitted": true}), Busy),
        ("a birthday", json!({"eventType": "birthday"}), Free),
        ("where she works", json!({"eventType": "workingLocation", "transparency": "transparent"}), Free),
        ("focus time", json!({"eventType": "focusTime"}), Busy),
        ("a flight", json!({"eventType": "fromGmail"}), Busy),
        ("out of office", json!({"eventType": "outOfOffice"}), OutOfOffice),
        ("out of office, perhaps", json!({"eventType": "outOfOffice", "status": "tentative"}), OutOfOffice),
        ("a type invented tomorrow", json!({"eventType": "siesta"}), Busy),
    ];
    for (case, fields, status) in table {
        assert_eq!(busy(fields, json!({})), status, "{case}");
    }
}

#[test]
fn every_step_of_the_mapping_can_be_overridden() {
    let table = [
        ("declined", invited("declined")),
        ("transparent", json!({"transparency": "transparent"})),
        ("tentative", json!({"status": "tentative"})),
        ("tentative", invited("tentative")),
        ("needs_action", invited("needsAction")),
        ("working_location", json!({"eventType": "workingLocation", "transparency": "transparent"})),
        ("birthday", json!({"eventType": "birthday", "transparency": "transparent"})),
        ("out_of_office", json!({"eventType": "outOfOffice"})),
        ("focus_time", json!({"eventType": "focusTime"})),
        ("from_gmail", json!({"eventType": "fromGmail"})),
    ];
    for (step, fields) in table {
        let status = busy(fields, json!({step: "working_elsewhere"}));

        assert_eq!(status, BusyStatus::WorkingElsewhere, "{step}");
    }
}

#[test]
fn the_first_step_that_holds_decides() {
    let everything = BusyFacts {
        status: "tentative",
        transparency: Some("transparent"),
        event_type: Some("workingLocation"),
        self_response: Some("declined"),
    };
    let distinct = options(json!({"busy": {
        "declined": "busy", "working_location": "working_elsewhere", "transparent": "free",
        "out_of_office": "out_of_office", "tentative": "tentative",
    }}))
    .busy;
    let accepted = BusyFacts { self_response: Some("accepted"), ..everything };
    let away = BusyFacts { event_type: Some("outOfOffice"), ..accepted };
    let opaque = BusyFacts { transparency: None, ..away };
    let plain = BusyFacts { event_type: None, ..opaque };

    let statuses = [everything, accepted, away, opaque, plain].map(|facts| distinct.status(&facts));

    assert_eq!(
        statuses,
        [
            BusyStatus::Busy,
            BusyStatus::WorkingElsewhere,
            BusyStatus::Free,
            BusyStatus::OutOfOffice,
            BusyStatus::Tentative,
        ]
    );
}
