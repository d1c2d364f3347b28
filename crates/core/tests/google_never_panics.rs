//! Whatever comes in, a page is read or refused; nothing panics, and what is kept can be stored.

mod google_support;

use calsync_core::delta::read_envelope;
use calsync_core::event::{Change, Kind, Span};
use calsync_core::merge::latest_of_each;
use calsync_core::options::Options;
use calsync_core::providers::Answer;
use calsync_core::providers::google::series::split_occurrence_id;
use calsync_core::providers::google::{read_answer, read_item};
use calsync_core::sync::Step;
use google_support::{item, options};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Names and texts that lead far into the reading code, and any others.
fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "id",
        "status",
        "start",
        "end",
        "date",
        "dateTime",
        "timeZone",
        "recurrence",
        "recurringEventId",
        "updated",
        "originalStartTime",
        "attendees",
        "self",
        "responseStatus",
        "items",
        "nextPageToken",
        "nextSyncToken",
        "calendar",
        "pageToken",
        "expectedSyncToken",
        "error",
        "errors",
        "reason",
        "message",
        "summary",
        "sequence",
        "endTimeUnspecified",
        "cancelled",
        "confirmed",
        "tentative",
        "Europe/Vienna",
        "Mars/Olympus",
        "a\u{0}b",
        "2026-03-02",
        "9999-12-31",
        "0001-01-01",
        "2026-03-02T09:00:00+01:00",
        "2026-03-29T02:30:00",
        "9999-12-31T23:59:60-23:59",
        "0001-01-01T00:00:00+23:59",
        "stand-up_20260302T080000Z",
        "off-site_20260302",
        "RRULE:FREQ=DAILY",
        "EXDATE;VALUE=DATE:20260302",
        "",
    ]);
    prop_oneof![3 => known.prop_map(str::to_owned), 1 => any::<String>(), 1 => "[0-9T:Z.+_é-]{0,30}"]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..8)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A good event with some of its fields replaced by anything.
fn damaged_item() -> impl Strategy<Value = Value> {
    prop::collection::vec((word(), any_json()), 0..4)
        .prop_map(|fields| item("x", Value::from(fields.into_iter().collect::<Map<_, _>>())))
}

fn holds_nul(json: &Value) -> bool {
    match json {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

fn assert_storable(change: &Change) {
    let Change::Put(event) = change else {
        assert!(!change.event_id().is_empty());
        return;
    };
    assert!(!holds_nul(&json!([event.event_id, event.kind, event.problem, event.details])), "{event:?}");
    match &event.kind {
        Kind::Single(span)
        | Kind::Master { span, .. }
        | Kind::Exception { span, .. }
        | Kind::Unreadable { span: Some(span) } => match span {
            Span::Timed { starts_at, ends_at, .. } => assert!(starts_at <= ends_at),
            Span::AllDay { start, end } => assert!(start < end),
        },
        Kind::Tombstone(_) | Kind::Unreadable { span: None } => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_an_item_or_a_problem(json in any_json()) {
        let _ = read_item(&json, &Options::default());
    }

    #[test]
    fn a_damaged_item_is_read_or_refused_and_what_is_kept_can_be_stored(json in damaged_item()) {
        if let Ok(change) = read_item(&json, &options(json!({"store": "full"}))) {
            assert_storable(&change);
        }
    }

    #[test]
    fn any_page_is_applied_whole(items in prop::collection::vec(prop_oneof![any_json(), damaged_item()], 0..6)) {
        let body = json!({"items": items, "nextSyncToken": "t"}).to_string().into_bytes();
        let answer = Answer::Http { status: 200, retry_after: None, body };

        match read_answer(&answer, true, &Options::default()) {
            Step::Commit { page, .. } => {
                prop_assert_eq!(page.changes.len(), items.len());
                page.changes.iter().for_each(assert_storable);
                prop_assert!(latest_of_each(page.changes).len() <= items.len());
            }
            step => prop_assert!(false, "{:?}", step),
        }
    }

    #[test]
    fn any_answer_is_a_step(status in any::<u16>(), json in any_json(), had_token in any::<bool>()) {
        for status in [status, 200, 400, 401, 403, 404, 410, 429] {
            let answer = Answer::Http { status, retry_after: None, body: json.to_string().into_bytes() };
            if let Step::FullSync { .. } = read_answer(&answer, had_token, &Options::default()) {
                prop_assert!(had_token);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_step(status in any::<u16>(), body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_answer(&Answer::Http { status, retry_after: None, body }, true, &Options::default());
    }

    #[test]
    fn any_json_is_an_envelope_or_refused(json in any_json(), calendar in word(), token in any_json()) {
        let _ = read_envelope(json.to_string().as_bytes());
        let nearly = json!({"calendar": calendar, "items": [json], "nextSyncToken": "t", "pageToken": token});
        let text = nearly.to_string();
        if let Ok(envelope) = read_envelope(text.as_bytes()) && let Err(refusal) = envelope.changes(&Options::default()) {
            prop_assert!(!refusal.detail().is_empty() && !refusal.hint().is_empty());
        }
    }

    #[test]
    fn any_options_are_read_or_refused_with_a_hint(json in any_json(), key in word()) {
        let _ = Options::read(&json);
        if let Err(problem) = Options::read(&json!({key: json})) {
            prop_assert!(!problem.hint().is_empty());
        }
    }

    #[test]
    fn any_id_is_split_or_not(id in any::<String>(), stamp in "_[0-9TZ]{0,20}") {
        let _ = split_occurrence_id(&id);
        let _ = split_occurrence_id(&format!("{id}{stamp}"));
    }
}
