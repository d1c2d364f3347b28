//! The examples of docs/availability.md are typed as they stand there, but for the date, and answer what they show.

use calsync_integration::items::{Item, spanning, today};
use calsync_integration::{Fed, envelope};
use chrono::{Datelike, NaiveDate, TimeDelta, Weekday};
use chrono_tz::Europe::Vienna;
use postgres::SimpleQueryMessage;
use serde_json::{Value, json};

/// An example, and what the page shows as its answer, if it does.
struct Example {
    sql: String,
    shown: Option<String>,
}

/// The page's examples, its Monday the 23rd of November moved to this one.
fn examples(monday: NaiveDate) -> Vec<Example> {
    let page = include_str!("../../../../docs/availability.md");
    let page = page
        .replace("2026-11-23", &monday.to_string())
        .replace("2026-11-24", &(monday + TimeDelta::days(1)).to_string());
    let page = page
        .replace("+01:00\"", &format!("{}\"", offset(monday, "%:z")))
        .replace("+01\"", &format!("{}\"", offset(monday, "%z").replace("00", "")));
    let mut examples: Vec<Example> = Vec::new();
    let mut parts = page.split("\n```");
    parts.next();
    for block in parts.step_by(2) {
        match (block.strip_prefix("sql\n"), examples.last_mut()) {
            (Some(sql), _) => examples.push(Example { sql: sql.to_owned(), shown: None }),
            (None, Some(example)) => example.shown = Some(block.to_owned()),
            (None, None) => panic!("an answer without a question"),
        }
    }
    examples
}

fn offset(day: NaiveDate, format: &str) -> String {
    day.and_hms_opt(12, 0, 0).unwrap().and_local_timezone(Vienna).unwrap().format(format).to_string()
}

/// The lines of a table as psql shows it, without its head; cells without the spaces around them.
fn lines(shown: &str) -> Vec<String> {
    let body = shown.lines().skip_while(|line| !line.contains("---"));
    let body: Vec<&str> = if shown.contains("---") { body.skip(1).collect() } else { shown.lines().collect() };
    let cells = |line: &str| line.split('|').map(str::trim).collect::<Vec<_>>().join(" | ");
    body.into_iter().filter(|line| !line.trim().is_empty()).map(cells).collect()
}

/// Anna, Ben and the room, as the page tells of them.
fn office(monday: NaiveDate) -> Fed {
    let mut fed = Fed::new();
    let meeting = |id: &str, from: &str, to: &str| -> Item {
        let at = |clock: &str| format!("{monday}T{clock}:00{}", offset(monday, "%:z"));
        spanning(id, &at(from), &at(to))
    };
    let anna = [meeting("a", "09:00", "10:00"), meeting("b", "11:00", "12:00")];
    let ben = [meeting("a", "09:30", "10:30")];
    for (calendar, events) in [("anna", &anna[..]), ("ben", &ben[..])] {
        fed.subscribe(calendar, json!({}));
        fed.apply(&envelope(calendar, events, json!({"nextSyncToken": "t1"})));
    }
    fed.list(&[]);
    fed.sql.batch_execute("SET timezone = 'Europe/Vienna'").expect("a zone");
    fed
}

#[test]
fn the_examples_answer_what_the_page_shows() {
    // Two weeks ahead: slots that are past are not offered.
    let monday =
        NaiveDate::from_isoywd_opt(today().iso_week().year(), today().iso_week().week(), Weekday::Mon).unwrap();
    let monday = monday + TimeDelta::days(14);
    let mut fed = office(monday);
    let mut compared = 0;
    for Example { sql, shown } in examples(monday) {
        let Some(shown) = shown else { continue };
        let answer = fed.sql.simple_query(&sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).unwrap_or_default()).collect::<Vec<_>>().join(" | "))
            }
            _ => None,
        });
        let rows: Vec<String> = rows.collect();
        match serde_json::from_str::<Value>(&shown) {
            Ok(shown) => assert_eq!(serde_json::from_str::<Value>(&rows[0]).expect("JSON"), shown, "{sql}"),
            Err(_) => assert_eq!(rows, lines(&shown), "{sql}"),
        }
        compared += 1;
    }
    assert_eq!(compared, 5, "examples with an answer");
}
