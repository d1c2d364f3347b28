//! What cannot be understood is refused as a whole, in words, and leaves the old state untouched.

use calsync_integration::items::{Item, at, cancelled, date, days_off, meeting};
use calsync_integration::{Dice, Fed, ROOM, all_tables, envelope, sqlstate};
use serde_json::{Value, json};

/// A room with a meeting, a series with an exception, an all-day event, and a page that is staged.
fn lived_in() -> Fed {
    let mut fed = Fed::new();
    fed.list(&history());
    let page = envelope(
        ROOM,
        &[meeting("late", 6, "08:00", "09:00")],
        json!({"expectedSyncToken": "t1", "pageToken": null, "nextPageToken": "p2"}),
    );
    fed.apply(&page);
    fed
}

fn history() -> Vec<Item> {
    vec![
        meeting("a", 1, "08:00", "09:00").saying(json!({"summary": "Meeting"})),
        meeting("s", 2, "08:00", "08:30").daily(5),
        meeting("s3", 3, "10:00", "10:30").instead_of("s", 3, "08:00"),
        cancelled("s4").instead_of("s", 4, "08:00"),
        days_off("trip", 9, 11),
    ]
}

/// A delta that would be taken, but for this item.
fn with_item(item: Value) -> Value {
    let mut delta =
        envelope(ROOM, &[meeting("good", 1, "10:00", "11:00")], json!({"nextSyncToken": "t9", "pageToken": null}));
    delta["items"].as_array_mut().expect("items").push(item);
    delta
}

/// One that would be taken, but for these keys; null takes a key away.
fn with_keys(keys: Value) -> Value {
    let mut delta = envelope(ROOM, &history(), json!({"nextSyncToken": "t9", "pageToken": null}));
    for (key, value) in keys.as_object().expect("keys are an object") {
        match value {
            Value::Null => drop(delta.as_object_mut().expect("an object").remove(key)),
            value => delta[key] = value.clone(),
        }
    }
    delta
}

/// The message of the refusal, which must be SC005 and leave no trace.
fn refusal(fed: &mut Fed, delta: &str) -> String {
    let before = all_tables(&mut fed.sql);
    let refused = fed.sql.execute("SELECT calsync_apply_delta($1::text::jsonb)", &[&delta]);
    let shown: String = delta.chars().take(200).collect();
    let error = refused.expect_err(&shown);
    assert_eq!(sqlstate(&error), "SC005", "{shown}: {error:?}");
    assert_eq!(all_tables(&mut fed.sql), before, "{shown}");
    let error = error.as_db_error().expect("the server says so");
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()) && error.detail().is_some(), "{shown}: {error:?}");
    error.message().to_owned()
}

#[test]
fn a_delta_that_is_no_object() {
    let mut fed = lived_in();
    for delta in ["null", "true", "5", "\"room\"", "[]", "[{}]"] {
        assert!(refusal(&mut fed, delta).contains("not a JSON object"));
    }
}

#[test]
fn an_envelope_that_lacks_something_or_has_it_wrong() {
    let mut fed = lived_in();
    for key in ["calendar", "items", "nextSyncToken"] {
        assert!(refusal(&mut fed, &with_keys(json!({key: null})).to_string()).contains(key));
    }
    let wrong = [json!(5), json!(true), json!({}), json!("")];
    for key in ["calendar", "items", "nextSyncToken", "nextPageToken", "expectedSyncToken", "pageToken"] {
        for value in &wrong {
            let delta = with_keys(
                json!({key: value, "nextSyncToken": if key == "nextPageToken" { Value::Null } else { json!("t9") }, key: value}),
            );
            assert!(refusal(&mut fed, &delta.to_string()).contains(key), "{delta}");
        }
    }
}

#[test]
fn an_unknown_zone() {
    let mut fed = lived_in();
    for zone in [json!("Mars/Olympus"), json!(""), json!("../../etc/passwd"), json!(5), json!([])] {
        let delta = with_keys(json!({"timeZone": zone}));
        assert!(refusal(&mut fed, &delta.to_string()).contains("timeZone"));
    }
    let event = json!({"id": "x", "start": {"dateTime": at(1, "08:00"), "timeZone": "Mars/Olympus"},
                       "end": {"dateTime": at(1, "09:00")}});
    assert!(refusal(&mut fed, &with_item(event).to_string()).contains("items[1] (id \"x\"): start.timeZone"));
}

#[test]
fn an_item_is_named_by_its_place_and_id() {
    let mut fed = lived_in();
    let no_end = json!({"id": "x", "start": {"dateTime": at(1, "08:00")}});
    assert!(refusal(&mut fed, &with_item(no_end).to_string()).contains("items[1] (id \"x\"): end"));
    for nameless in [
        json!(null),
        json!([]),
        json!("x"),
        json!({}),
        json!({"id": null}),
        json!({"id": 7}),
        json!({"id": ""}),
        json!({"id": "x".repeat(2000)}),
    ] {
        assert!(refusal(&mut fed, &with_item(nameless).to_string()).contains("items[1]:"));
    }
}

#[test]
fn times_that_cannot_be() {
    let mut fed = lived_in();
    let times = [
        "",
        "noon",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T25:00:00Z",
        "2026-01-01",
        "now",
        "infinity",
        "-infinity",
        "epoch",
        "10000-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-01-01T00:00:00+99:00",
        "2026-01-01T00:00:00",
        "294277-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z'; DROP TABLE",
    ];
    for time in times {
        for name in ["start", "end", "originalStartTime"] {
            let item =
                meeting("x", 1, "08:00", "09:00").instead_of("s", 2, "08:00").saying(json!({name: {"dateTime": time}}));
            assert!(refusal(&mut fed, &with_item(item.json()).to_string()).contains(name), "{name} {time}");
        }
    }
    for day in ["", "2026-02-30", "10000-01-01", "0000-12-31", "tomorrow", "2026-1-1", "2026-01-01T00:00:00Z"] {
        let item = days_off("x", 1, 2).saying(json!({"start": {"date": day}}));
        assert!(refusal(&mut fed, &with_item(item.json()).to_string()).contains("start.date"), "{day}");
    }
}

#[test]
fn an_end_before_the_start() {
    let mut fed = lived_in();
    for item in [meeting("x", 1, "09:00", "08:00"), days_off("x", 5, 4)] {
        assert!(refusal(&mut fed, &with_item(item.json()).to_string()).contains("before the start"));
    }
    let mixed = meeting("x", 1, "09:00", "08:00").saying(json!({"end": {"date": date(3)}}));
    assert!(refusal(&mut fed, &with_item(mixed.json()).to_string()).contains("end.date"));
}

#[test]
fn a_rule_that_no_library_reads() {
    let mut fed = lived_in();
    let lines = [
        json!("FREQ=DAILY"),
        json!("RRULE"),
        json!("RRULE:"),
        json!("RRULE:FREQ=SOMETIMES"),
        json!("RRULE:COUNT=3"),
        json!("RRULE:FREQ=DAILY;COUNT=0"),
        json!("RRULE:FREQ=DAILY;INTERVAL=0"),
        json!("RRULE:FREQ=DAILY;UNTIL=soon"),
        json!("RRULE:FREQ=DAILY;BYMONTH=13"),
        json!("RRULE:FREQ=DAILY;COUNT=99999999999999999999"),
        json!("DTSTART:20260101T000000Z"),
        json!("EXDATE:never"),
        json!("RDATE;VALUE=PERIOD:x/y"),
        json!(5),
        json!(null),
        json!({"freq": "DAILY"}),
        json!("RRULE:FREQ=DAILY;".repeat(5000)),
    ];
    for line in lines {
        let item = meeting("x", 1, "08:00", "09:00").saying(json!({"recurrence": ["RRULE:FREQ=DAILY", line]}));
        assert!(refusal(&mut fed, &with_item(item.json()).to_string()).contains("recurrence[1]"), "{line}");
    }
}

#[test]
fn wrong_types_everywhere() {
    let mut fed = lived_in();
    let wrong = [json!(5), json!(-1.5), json!(true), json!([]), json!({}), json!("x"), json!([null]), json!([5])];
    let fields = [
        "id",
        "status",
        "start",
        "end",
        "recurrence",
        "recurringEventId",
        "originalStartTime",
        "iCalUID",
        "etag",
        "sequence",
        "summary",
        "description",
        "location",
        "transparency",
        "visibility",
        "eventType",
        "attendees",
        "updated",
        "endTimeUnspecified",
    ];
    // What each field may be of these, or what is the same to us as its absence.
    let fits = |field: &str, value: &Value| match field {
        "sequence" => *value == json!(5),
        "endTimeUnspecified" => value.is_boolean(),
        "recurrence" | "attendees" => *value == json!([]),
        "id" | "iCalUID" | "etag" | "summary" | "description" | "location" | "transparency" | "visibility"
        | "eventType" | "recurringEventId" => value.is_string(),
        _ => false,
    };
    for field in fields {
        for value in wrong.iter().filter(|value| !fits(field, value)) {
            // Without a start and an end nobody asks whether the end is open.
            let item = meeting("x", 1, "08:00", "09:00").instead_of("s", 2, "08:00").saying(json!({field: value}));
            let mut item = item.json();
            match field {
                "endTimeUnspecified" => drop(item.as_object_mut().expect("an object").remove("end")),
                "recurrence" => drop(item.as_object_mut().expect("an object").remove("recurringEventId")),
                _ => {}
            }
            if field == "recurrence" {
                item.as_object_mut().expect("an object").remove("originalStartTime");
            }
            assert!(refusal(&mut fed, &with_item(item.clone()).to_string()).contains(field), "{item}");
        }
    }
}

#[test]
fn ten_megabytes_of_nesting() {
    let mut fed = lived_in();
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    // As deep as jsonb accepts, and as often as makes ten megabytes.
    let deep = vec![nested(2000); 2500].join(",");
    let envelopes = [
        format!("[{deep}]"),
        format!(r#"{{"calendar": "room", "items": [{deep}], "nextSyncToken": "t9"}}"#),
        format!(r#"{{"calendar": [{deep}], "items": [], "nextSyncToken": "t9"}}"#),
    ];
    for delta in &envelopes {
        assert!(delta.len() > 9_000_000);
        refusal(&mut fed, delta);
    }

    // Deeper than that, jsonb itself says no.
    let before = all_tables(&mut fed.sql);
    let error =
        fed.sql.execute("SELECT calsync_apply_delta($1::text::jsonb)", &[&nested(5_000_000)]).expect_err("too deep");
    assert_eq!(sqlstate(&error), "54001");
    assert_eq!(all_tables(&mut fed.sql), before, "and the connection goes on");

    // Of a key that nobody asks for nothing is read.
    let more = format!(r#"{{"calendar": "room", "items": [], "nextSyncToken": "t9", "more": [{deep}]}}"#);
    fed.sql.execute("SELECT calsync_apply_delta($1::text::jsonb)", &[&more]).expect("it is a list all the same");
}

#[test]
fn numbers_that_only_jsonb_holds() {
    let mut fed = lived_in();
    for number in ["1e400", "-1e9000", "123456789012345678901234567890", "0.1e-400"] {
        let delta = format!(
            r#"{{"calendar": "room", "items": [{{"id": "x", "sequence": {number}}}], "nextSyncToken": "t9", "pageToken": null}}"#
        );
        refusal(&mut fed, &delta);
    }
}

#[test]
fn texts_that_try_to_be_something_else() {
    let mut fed = lived_in();
    let nasty = "'; DROP TABLE calsync.event; -- \\ \" $1 %s {} \u{202e}\u{feff}\u{10ffff} \r\n\t";
    let item =
        meeting("good", 1, "10:00", "11:00").saying(json!({"summary": nasty, "location": nasty, "iCalUID": nasty}));
    let id = format!("id {nasty}");
    let other = meeting(&id, 1, "12:00", "13:00");

    fed.apply(&envelope(ROOM, &[item, other], json!({"nextSyncToken": nasty, "pageToken": null})));

    assert_eq!(fed.token(ROOM).as_deref(), Some(nasty));
    assert_eq!(fed.events("summary"), [("good".to_owned(), nasty.to_owned()), (id, "-".to_owned())]);
    let unknown = json!({"calendar": nasty, "items": [], "nextSyncToken": "t"});
    assert_eq!(fed.refused(&unknown), "SC001");
}

#[test]
fn options_nested_too_deeply_are_refused_and_the_backend_lives() {
    let mut fed = Fed::new();
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));

    let refused = fed.sql.execute("SELECT calsync_subscribe('x', 'none', options => $1::text::jsonb)", &[&deep]);

    assert_eq!(sqlstate(&refused.expect_err("refused")), "22023");
    fed.list(&[]);
}

/// Something that stands where something else should.
fn junk(dice: &mut Dice) -> Value {
    let texts = [
        "",
        "x",
        "room",
        "s",
        "null",
        "2026-02-30",
        "9999-12-31",
        "0001-01-01",
        "9999-12-31T23:59:59.999999Z",
        "0001-01-01T00:00:00Z",
        "2026-11-29T02:30:00",
        "2026-01-01T23:59:60Z",
        "2026-01-01T00:00:00.1234567890123-23:59",
        "America/New_York",
        "Europe/Vienna",
        "Pacific Standard Time",
        "cancelled",
        "tentative",
        "confirmed",
        "declined",
        "transparent",
        "outOfOffice",
        "RRULE:FREQ=SECONDLY",
        "RRULE:FREQ=YEARLY;BYWEEKNO=53",
        "EXDATE:20260101T000000Z",
        "RRULE:FREQ=DAILY;UNTIL=00010101T000000Z",
        "RDATE;VALUE=DATE:20261130",
        "RRULE:FREQ=MINUTELY;INTERVAL=1",
        "s_20261123",
        "s_20261123T080000Z",
        "_20261123",
        "🍽️",
        "\u{7f}\u{1}",
    ];
    match dice.roll(9) {
        0 => Value::Null,
        1 => json!(dice.roll(3) as i64 - 1),
        2 => json!([i64::MAX, i64::MIN, 0][dice.roll(3)]),
        3 => json!([f64::MAX, 1e-300, -0.0][dice.roll(3)]),
        4 => json!(dice.once_in(2)),
        5 => json!([dice.one_of(&texts)]),
        6 => json!({dice.one_of(&["date", "dateTime", "timeZone", "self", "id"]): dice.one_of(&texts)}),
        _ => json!(dice.one_of(&texts)),
    }
}

/// Something of the kind that stands there, and so perhaps taken.
fn sibling(stands: &Value, dice: &mut Dice) -> Value {
    let text = stands.as_str().unwrap_or_default();
    let times = [
        "0001-01-01T00:00:00Z",
        "1901-12-13T20:45:52Z",
        "2026-02-30T08:00:00Z",
        "2027-03-28T02:30:00+01:00",
        "9999-12-31T23:59:59.999999Z",
        "2026-06-30T23:59:60Z",
    ];
    let rules = [
        "RRULE:FREQ=SECONDLY",
        "RRULE:FREQ=MINUTELY;INTERVAL=30;COUNT=50",
        "RRULE:FREQ=YEARLY;BYWEEKNO=53",
        "RRULE:FREQ=DAILY;UNTIL=00010101T000000Z",
        "RRULE:FREQ=MONTHLY;BYDAY=-1FR;BYSETPOS=1",
        "EXDATE:20261123T080000Z",
        "RDATE;VALUE=DATE:20261130",
        "RRULE:FREQ=DAILY;COUNT=1000000",
    ];
    let day = dice.roll(900) as i64 - 60;
    match text {
        _ if text.contains("T08:00:00Z") && dice.once_in(4) => json!(dice.one_of(&times)),
        _ if text.ends_with(":00Z") => json!(at(day, dice.one_of(&["00:00", "08:00", "08:30", "23:59"]))),
        _ if text.starts_with("20") => json!(if dice.once_in(9) { "9999-12-31".to_owned() } else { date(day) }),
        _ if text.starts_with("RRULE") => json!(dice.one_of(&rules)),
        "confirmed" => json!(dice.one_of(&["tentative", "cancelled"])),
        "Europe/Vienna" => json!(dice.one_of(&["Asia/Kathmandu", "Pacific/Apia", "UTC", "Pacific Standard Time"])),
        "a" | "s" | "s3" | "s4" | "trip" => json!(dice.one_of(&["a", "s", "s3", "s4", "trip", "new"])),
        _ => junk(dice),
    }
}

/// Every place in a JSON value, as a pointer.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| places(item, &format!("{here}/{index}"), found));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(key, field)| places(field, &format!("{here}/{key}"), found));
        }
        _ => {}
    }
}

/// Damages a value in one place: something else there, something missing, something doubled, something added.
fn damage(value: &mut Value, dice: &mut Dice) {
    let mut all = Vec::new();
    places(value, "", &mut all);
    let place = all[dice.roll(all.len())].clone();
    let Some(target) = value.pointer_mut(&place) else { return };
    let what = if dice.once_in(6) { junk(dice) } else { sibling(target, dice) };
    match (target, dice.roll(4)) {
        (Value::Object(fields), 0) if !fields.is_empty() => {
            let key = fields.keys().nth(dice.roll(fields.len())).cloned().unwrap_or_default();
            fields.remove(&key);
        }
        (Value::Object(fields), 1) => {
            let keys = [
                "recurrence",
                "recurringEventId",
                "originalStartTime",
                "attendees",
                "updated",
                "sequence",
                "end",
                "start",
                "status",
                "id",
                "timeZone",
                "date",
                "pageToken",
                "nextPageToken",
                "expectedSyncToken",
            ];
            fields.insert(dice.one_of(&keys).to_string(), what);
        }
        (Value::Array(items), 0 | 1) if !items.is_empty() => {
            let copy = items[dice.roll(items.len())].clone();
            items.push(copy);
        }
        (target, _) => *target = what,
    }
}

#[test]
fn whatever_comes_is_taken_or_refused_and_nothing_in_between() {
    let mut fed = lived_in();
    let (mut taken, mut refused) = (0, std::collections::BTreeMap::<String, u32>::new());
    for seed in 0..700 {
        let mut dice = Dice::seeded(seed);
        let mut delta = with_keys(json!({"timeZone": "Europe/Vienna"}));
        if dice.once_in(2) {
            delta["expectedSyncToken"] = json!(fed.token(ROOM));
        }
        for _ in 0..1 + dice.roll(4) {
            damage(&mut delta, &mut dice);
        }
        let before = all_tables(&mut fed.sql);
        match fed.try_apply(&delta) {
            Ok(_) => taken += 1,
            Err(error) => {
                let state = sqlstate(&error);
                assert!(["SC001", "SC004", "SC005"].contains(&state.as_str()), "seed {seed}: {error:?}\n{delta}");
                assert_eq!(all_tables(&mut fed.sql), before, "seed {seed}: {delta}");
                *refused.entry(state).or_default() += 1;
            }
        }
    }
    println!("{taken} taken, refused: {refused:?}");
    assert!(taken > 50 && refused.values().sum::<u32>() > 200, "the damage is neither too small nor too great");
}
