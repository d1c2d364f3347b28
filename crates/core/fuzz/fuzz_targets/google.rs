//! Whatever a provider answers, or an application hands to `calsync_apply_delta`: it is read or refused with words, and
//! what is kept can be stored. The input is the body.
#![no_main]

use calsync_core::delta::read_envelope;
use calsync_core::event::{Change, Kind, Span};
use calsync_core::options::Options;
use calsync_core::providers::Answer;
use calsync_core::providers::google::{read_answer, read_item};
use calsync_core::sync::Step;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    let options = Options::default();
    for status in [200, 400, 401, 403, 410, 500] {
        let answer = Answer::Http { status, retry_after: None, body: body.to_vec() };
        for had_token in [true, false] {
            match read_answer(&answer, had_token, &options) {
                Step::NextPage { page, .. } | Step::Commit { page, .. } => page.changes.iter().for_each(is_storable),
                Step::FullSync { .. } => assert!(had_token, "a full sync is never answered by another"),
                _ => {}
            }
        }
    }
    let Ok(json) = serde_json::from_slice::<Value>(body) else { return };
    match read_item(&json, &options) {
        Ok(change) => is_storable(&change),
        Err(problem) => assert!(!problem.field.is_empty() && !problem.reason.is_empty()),
    }
    match read_envelope(json.to_string().as_bytes()) {
        Ok(envelope) => {
            if let Err(refusal) = envelope.changes(&options) {
                assert!(refusal.index.is_some() && !refusal.hint().is_empty());
            }
        }
        Err(refusal) => assert!(!refusal.detail().is_empty() && !refusal.hint().is_empty()),
    }
});

/// It has an id, its times run forward, and no text of it holds what Postgres cannot store.
fn is_storable(change: &Change) {
    assert!(!change.event_id().is_empty());
    let Change::Put(event) = change else { return };
    let texts = serde_json::json!([event.event_id, event.kind, event.problem, event.details]);
    assert!(!holds_nul(&texts), "{event:?}");
    let (Kind::Single(span)
    | Kind::Master { span, .. }
    | Kind::Exception { span, .. }
    | Kind::Unreadable { span: Some(span) }) = &event.kind
    else {
        return;
    };
    match span {
        Span::Timed { starts_at, ends_at, .. } => assert!(starts_at <= ends_at),
        Span::AllDay { start, end } => assert!(start < end),
    }
}

fn holds_nul(json: &Value) -> bool {
    match json {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        _ => false,
    }
}
