//! Occurrences: exceptions, "this and following", instances, free and busy, daylight saving.

mod story;

use fake_google::NewCalendar;
use serde_json::{Value, json};
use story::{ALICE, Client, alice, alice_in, all_day, daily, events, meeting};

fn starts(client: &Client, query: &[(&str, &str)]) -> Vec<String> {
    let expanded = [query, &[("singleEvents", "true"), ("orderBy", "startTime")]].concat();
    let list = client.list(&expanded);
    let items = list.json["items"].as_array().unwrap_or_else(|| panic!("{}", list.json));
    let start =
        |item: &Value| item["start"]["dateTime"].as_str().or(item["start"]["date"].as_str()).unwrap().to_owned();
    items.iter().map(start).collect()
}

fn busy(client: &Client, from: &str, to: &str) -> Vec<(String, String)> {
    let query = json!({ "timeMin": from, "timeMax": to, "items": [{ "id": ALICE }] });
    let answer = client.post("/freeBusy", &query);
    let busy = answer.json["calendars"][ALICE]["busy"].as_array().unwrap_or_else(|| panic!("{}", answer.json));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    busy.iter().map(|b| (text(&b["start"]), text(&b["end"]))).collect()
}

fn weekly(zone: &str, start: &str, end: &str, lines: &[&str]) -> Value {
    json!({
        "id": "series", "summary": "series", "recurrence": lines,
        "start": { "dateTime": start, "timeZone": zone }, "end": { "dateTime": end, "timeZone": zone },
    })
}

#[test]
fn an_occurrence_can_be_read_before_anybody_touched_it() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();

    let one = client.get(&events("standup_20250326T123000Z")).json;

    assert_eq!(one["recurringEventId"], "standup");
    assert_eq!(one["originalStartTime"]["dateTime"], "2025-03-26T07:30:00-05:00");
    assert!(one.get("recurrence").is_none());
    assert_eq!(client.get(&events("standup_20250326T113000Z")).status, 404);
    assert_eq!(client.full().ids(), ["standup"], "reading makes no exception");
}

#[test]
fn changing_an_occurrence_makes_an_exception_and_touches_the_master() {
    let (google, client) = alice();
    let created = google.insert_event(ALICE, &daily("standup")).unwrap();
    let token = client.full().sync_token();
    let later = json!({ "start": { "dateTime": "2025-03-26T10:00:00-05:00" },
                        "end": { "dateTime": "2025-03-26T10:15:00-05:00" } });

    let exception = client.patch(&events("standup_20250326T123000Z"), &later).json;

    assert_eq!((&exception["sequence"], &exception["iCalUID"]), (&json!(1), &created["iCalUID"]));
    assert_eq!(exception["originalStartTime"]["dateTime"], "2025-03-26T07:30:00-05:00");
    let delta = client.delta(&token);
    assert_eq!(delta.ids(), ["standup", "standup_20250326T123000Z"]);
    assert_eq!(delta.item("standup")["etag"], exception["etag"]);
    let window = [("timeMin", "2025-03-26T00:00:00Z"), ("timeMax", "2025-03-27T00:00:00Z")];
    assert_eq!(starts(&client, &window), ["2025-03-26T10:00:00-05:00"]);
    assert_eq!(client.delete(&events("standup_20250326T123000Z")).status, 204);
    assert_eq!(client.delete(&events("standup_20250326T123000Z")).status, 410);
    assert!(starts(&client, &window).is_empty());
}

#[test]
fn this_and_following_ends_the_old_series_and_starts_a_new_one() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();
    google.patch_event(ALICE, "standup_20250325T123000Z", &json!({ "summary": "before" })).unwrap();
    google.patch_event(ALICE, "standup_20250328T123000Z", &json!({ "summary": "after" })).unwrap();
    let token = client.full().sync_token();

    google.split_series(ALICE, "standup", "2025-03-27T12:30:00Z", &json!({ "summary": "Sit-down" })).unwrap();

    let delta = client.delta(&token);
    let new = "standup_R20250327T123000";
    assert_eq!(delta.ids(), ["standup", "standup_20250325T123000Z", "standup_20250328T123000Z", new]);
    // The evening before, 23:59:59 in Chicago.
    assert_eq!(delta.item("standup")["recurrence"], json!(["RRULE:FREQ=DAILY;UNTIL=20250327T045959Z"]));
    assert_eq!(delta.item(new)["recurrence"], json!(["RRULE:FREQ=DAILY"]));
    assert_eq!(delta.item(new)["start"]["dateTime"], "2025-03-27T07:30:00-05:00");
    assert_eq!(delta.item(new)["iCalUID"], "standup_R20250327T123000@google.com");
    assert_eq!(delta.item("standup_20250325T123000Z")["recurringEventId"], "standup");
    assert_eq!(delta.item("standup_20250328T123000Z")["recurringEventId"], new, "re-parented");
    let window = [("timeMin", "2025-03-24T00:00:00Z"), ("timeMax", "2025-03-30T00:00:00Z")];
    assert_eq!(starts(&client, &window).len(), 6, "one a day, as before");
    let one = client.get(&events("standup_20250329T123000Z")).json;
    assert_eq!((&one["recurringEventId"], &one["summary"]), (&json!(new), &json!("Sit-down")));
    assert_eq!(client.get(&events("standup_R20250327T123000_20250329T123000Z")).json, one, "its long form");
}

#[test]
fn a_split_series_shares_its_count_between_both_parts() {
    let (google, client) = alice();
    let mut series = daily("standup");
    series["recurrence"] = json!(["RRULE:FREQ=DAILY;COUNT=5"]);
    google.insert_event(ALICE, &series).unwrap();

    google.split_series(ALICE, "standup", "2025-03-26T12:30:00Z", &json!({})).unwrap();

    let new = client.get(&events("standup_R20250326T123000")).json;
    assert_eq!(new["recurrence"], json!(["RRULE:FREQ=DAILY;COUNT=3"]));
    assert_eq!(starts(&client, &[]).len(), 5);
}

#[test]
fn an_all_day_series_names_and_splits_its_occurrences_by_date() {
    let (google, client) = alice();
    let mut series = all_day("watch", "2025-03-24", "2025-03-25");
    series["id"] = json!("watch");
    series["recurrence"] = json!(["RRULE:FREQ=WEEKLY"]);
    google.insert_event(ALICE, &series).unwrap();

    google.delete_event(ALICE, "watch_20250331").unwrap();
    google.split_series(ALICE, "watch", "2025-04-14", &json!({})).unwrap();

    let list = client.full();
    assert_eq!(list.item("watch_20250331")["originalStartTime"], json!({ "date": "2025-03-31" }));
    assert_eq!(list.item("watch")["recurrence"], json!(["RRULE:FREQ=WEEKLY;UNTIL=20250413"]));
    assert_eq!(list.item("watch_R20250414")["start"], json!({ "date": "2025-04-14" }));
    let until_may = [("timeMax", "2025-05-01T00:00:00Z")];
    assert_eq!(starts(&client, &until_may), ["2025-03-24", "2025-04-07", "2025-04-14", "2025-04-21", "2025-04-28"]);
}

#[test]
fn instances_are_paged_and_show_cancelled_ones_on_demand() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();
    google.delete_event(ALICE, "standup_20250325T123000Z").unwrap();
    let path = events("standup/instances");
    let window = "timeMin=2025-03-24T00:00:00Z&timeMax=2025-03-28T00:00:00Z";

    let all = client.get(&format!("{path}?{window}"));
    assert_eq!(all.ids(), ["standup_20250324T123000Z", "standup_20250326T123000Z", "standup_20250327T123000Z"]);
    assert_eq!(client.get(&format!("{path}?{window}&showDeleted=true")).ids().len(), 4);
    let first = client.get(&format!("{path}?{window}&maxResults=2"));
    let second = client.get(&format!("{path}?{window}&maxResults=2&pageToken={}", first.page_token()));
    assert_eq!((first.ids().len(), second.ids().len()), (2, 1));
    let one = client.get(&format!("{path}?originalStart=2025-03-26T12:30:00Z"));
    assert_eq!(one.ids(), ["standup_20250326T123000Z"]);
}

#[test]
fn wall_clock_time_holds_across_daylight_saving() {
    let (google, client) = alice_in("Europe/Vienna");
    let zone = "Europe/Vienna";
    let series = weekly(zone, "2025-03-24T09:00:00", "2025-03-24T10:00:00", &["RRULE:FREQ=WEEKLY;COUNT=2"]);
    google.insert_event(ALICE, &series).unwrap();

    assert_eq!(starts(&client, &[]), ["2025-03-24T09:00:00+01:00", "2025-03-31T09:00:00+02:00"]);
}

#[test]
fn a_time_in_the_gap_moves_forward_and_one_in_the_fold_is_the_first() {
    let (google, client) = alice_in("Europe/Vienna");
    let zone = "Europe/Vienna";
    let gap = weekly(zone, "2025-03-29T02:30:00", "2025-03-29T02:45:00", &["RRULE:FREQ=DAILY;COUNT=3"]);
    google.insert_event(ALICE, &gap).unwrap();
    assert_eq!(
        starts(&client, &[]),
        ["2025-03-29T02:30:00+01:00", "2025-03-30T03:30:00+02:00", "2025-03-31T02:30:00+02:00"]
    );

    google.delete_event(ALICE, "series").unwrap();
    let mut fold = weekly(zone, "2025-10-25T02:30:00", "2025-10-25T02:45:00", &["RRULE:FREQ=DAILY;COUNT=2"]);
    fold["id"] = json!("falling");
    google.insert_event(ALICE, &fold).unwrap();
    assert_eq!(starts(&client, &[]), ["2025-10-25T02:30:00+02:00", "2025-10-26T02:30:00+02:00"]);
}

#[test]
fn rdates_exdates_and_untils_of_every_type_are_understood() {
    let (google, client) = alice_in("UTC");
    let lines = [
        "RRULE:FREQ=DAILY;UNTIL=20250327",
        "EXDATE;VALUE=DATE:20250325",
        "EXDATE:20250326T090000Z",
        "RDATE;TZID=Europe/Vienna:20250401T090000",
        "RDATE;VALUE=PERIOD:20250402T090000Z/PT2H",
        "EXRULE:FREQ=YEARLY;COUNT=1",
    ];
    let series = weekly("UTC", "2025-03-24T09:00:00", "2025-03-24T10:00:00", &lines);
    google.insert_event(ALICE, &series).unwrap();

    assert_eq!(
        busy(&client, "2025-03-01T00:00:00Z", "2025-05-01T00:00:00Z"),
        [
            ("2025-03-27T09:00:00Z".into(), "2025-03-27T10:00:00Z".into()),
            ("2025-04-01T07:00:00Z".into(), "2025-04-01T08:00:00Z".into()),
            ("2025-04-02T09:00:00Z".into(), "2025-04-02T11:00:00Z".to_owned()),
        ]
    );
}

#[test]
fn an_endless_series_expands_to_730_instances() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();
    assert_eq!(starts(&client, &[("maxResults", "2500")]).len(), 730);
}

#[test]
fn busy_intervals_are_merged_clipped_and_without_what_does_not_block() {
    let (google, client) = alice();
    let day = |from: &str, to: &str| meeting("m", &format!("2025-03-24T{from}Z"), &format!("2025-03-24T{to}Z"));
    let with = |mut event: Value, field: &str, value: Value| {
        event[field] = value;
        event
    };
    let declined = json!([{ "email": ALICE, "self": true, "responseStatus": "declined" }]);
    let tentative = json!([{ "email": ALICE, "self": true, "responseStatus": "tentative" }]);
    let all = [
        day("08:00:00", "09:00:00"),
        day("09:00:00", "10:00:00"),
        day("09:30:00", "09:45:00"),
        day("12:00:00", "12:00:00"),
        with(day("13:00:00", "14:00:00"), "transparency", json!("transparent")),
        with(day("14:00:00", "15:00:00"), "attendees", declined),
        with(day("15:00:00", "16:00:00"), "eventType", json!("workingLocation")),
        with(day("17:00:00", "18:00:00"), "attendees", tentative),
    ];
    google.insert_events(ALICE, &all).unwrap();
    let cancelled = google.insert_event(ALICE, &day("20:00:00", "21:00:00")).unwrap();
    google.delete_event(ALICE, cancelled["id"].as_str().unwrap()).unwrap();

    let expected = [
        ("2025-03-24T08:30:00Z".to_owned(), "2025-03-24T10:00:00Z".to_owned()),
        ("2025-03-24T17:00:00Z".to_owned(), "2025-03-24T18:00:00Z".to_owned()),
    ];
    assert_eq!(busy(&client, "2025-03-24T08:30:00Z", "2025-03-25T00:00:00Z"), expected);
}

#[test]
fn exceptions_cancellations_and_whole_days_count_in_free_busy() {
    let (google, client) = alice();
    google.insert_event(ALICE, &daily("standup")).unwrap();
    google.delete_event(ALICE, "standup_20250325T123000Z").unwrap();
    let moved =
        json!({ "start": { "dateTime": "2025-03-25T20:00:00Z" }, "end": { "dateTime": "2025-03-25T21:00:00Z" } });
    google.patch_event(ALICE, "standup_20250326T123000Z", &moved).unwrap();
    google.insert_event(ALICE, &all_day("trip", "2025-03-27", "2025-03-28")).unwrap();

    let found = busy(&client, "2025-03-25T00:00:00Z", "2025-03-28T12:00:00Z");

    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        found,
        [pair("2025-03-25T20:00:00Z", "2025-03-25T21:00:00Z"), pair("2025-03-27T05:00:00Z", "2025-03-28T05:00:00Z"),]
    );
}

#[test]
fn a_calendar_that_is_not_there_is_an_error_of_its_own_in_free_busy() {
    let (google, client) = alice();
    google.add_calendar(&NewCalendar::new("bob@example.com")).unwrap();
    let ask = |from: &str, to: &str| {
        let items = json!([{ "id": ALICE }, { "id": "nobody" }, { "id": "bob@example.com" }]);
        client
            .post("/freeBusy", &json!({ "timeMin": from, "timeMax": to, "timeZone": "Europe/Vienna", "items": items }))
    };

    let answer = ask("2025-03-24T00:00:00Z", "2025-03-25T00:00:00Z");

    assert_eq!((answer.status, &answer.json["kind"]), (200, &json!("calendar#freeBusy")));
    assert_eq!(answer.json["timeMin"], "2025-03-24T00:00:00.000Z");
    assert_eq!(answer.json["calendars"]["nobody"]["errors"], json!([{ "domain": "global", "reason": "notFound" }]));
    assert_eq!(answer.json["calendars"]["bob@example.com"], json!({ "busy": [] }));
    assert_eq!(ask("2025-03-25T00:00:00Z", "2025-03-25T00:00:00Z").reason(), "timeRangeEmpty");
}

#[test]
fn rules_that_never_or_hardly_ever_happen_are_answered_all_the_same() {
    for rule in [
        "RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "RRULE:FREQ=MONTHLY;BYMONTHDAY=31;BYMONTH=4",
        "RRULE:FREQ=YEARLY;INTERVAL=1000",
        "RRULE:FREQ=DAILY;INTERVAL=65535",
        "RRULE:FREQ=WEEKLY;COUNT=0",
    ] {
        let (google, client) = alice();
        let mut series = daily("rare");
        series["recurrence"] = json!([rule]);
        if google.insert_event(ALICE, &series).is_err() {
            continue;
        }
        assert_eq!(client.list(&[("singleEvents", "true")]).status, 200, "{rule}");
        let window = [("timeMin", "2999-01-01T00:00:00Z"), ("timeMax", "2999-02-01T00:00:00Z")];
        assert_eq!(client.list(&window).status, 200, "{rule}");
    }
}
