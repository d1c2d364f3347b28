//! The pattern of docs/availability.md that books a slot: its own words, typed by fifty at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};

use calsync_integration::items::{at, meeting};
use calsync_integration::{Dice, Fed, ROOM, eventually, sqlstate};
use postgres::Client;

const BOOKERS: u64 = 50;
/// Hours of tomorrow that somebody wants; the third and the fifth are taken in the calendar.
const HOURS: [&str; 6] = ["08:00", "09:00", "10:00", "11:00", "12:00", "13:00"];

/// The SQL of the section about booking.
fn documented() -> String {
    let page = include_str!("../../../../docs/availability.md");
    let (_, section) = page.split_once("\n## Booking a slot").expect("the page has a section about booking");
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```sql\n").skip(1).filter_map(|block| block.split("```").next());
    let declared: Vec<&str> = blocks.filter(|block| block.contains("CREATE")).collect();
    assert!(!declared.is_empty(), "it shows the table and the function");
    declared.join("\n")
}

fn ready() -> Fed {
    let mut fed = Fed::with("max_connections = 80");
    fed.list(&[meeting("taken", 1, "10:00", "10:30"), meeting("taken2", 1, "12:30", "13:00")]);
    fed.sql.batch_execute(&documented()).expect("the documented pattern can be typed");
    fed
}

fn book(sql: &mut Client, hour: &str, customer: &str) -> Result<bool, postgres::Error> {
    let row = sql.query_one(
        "SELECT book($1, tstzrange($2::text::timestamptz, $2::text::timestamptz + interval '1 hour'), $3)",
        &[&ROOM, &at(1, hour), &customer],
    )?;
    Ok(row.get(0))
}

#[test]
fn of_fifty_who_want_a_slot_one_gets_it() {
    let fed = ready();
    let together = Arc::new(Barrier::new(BOOKERS as usize));
    let bookers: Vec<_> = (0..BOOKERS)
        .map(|booker| {
            let (mut sql, together) = (fed.cluster.connect("postgres"), Arc::clone(&together));
            std::thread::spawn(move || {
                let mut hours = HOURS.to_vec();
                hours.rotate_left(Dice::seeded(booker + 1).roll(HOURS.len()));
                together.wait();
                hours.retain(|hour| book(&mut sql, hour, &format!("customer {booker}")).expect("an answer, yes or no"));
                hours
            })
        })
        .collect();
    let mut won: BTreeMap<&str, usize> = BTreeMap::new();
    for booker in bookers {
        for hour in booker.join().expect("a booker ends") {
            *won.entry(hour).or_default() += 1;
        }
    }

    assert_eq!(won, BTreeMap::from([("08:00", 1), ("09:00", 1), ("11:00", 1), ("13:00", 1)]));
    let booked = "SELECT count(*), count(DISTINCT during) FROM booking";
    let row = fed.cluster.connect("postgres").query_one(booked, &[]).expect("the table is readable");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (4, 4));
}

#[test]
fn what_the_worker_commits_while_a_booker_waits_is_seen() {
    let mut fed = ready();
    let mut first = fed.cluster.connect("postgres");
    first.batch_execute("BEGIN").expect("a transaction");
    assert!(book(&mut first, "08:00", "first").expect("free"));
    // The second waits for the first to commit or not.
    let mut second = fed.cluster.connect("postgres");
    let waiter = std::thread::spawn(move || book(&mut second, "08:00", "second"));
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    eventually("the second waits", || fed.sql.query_one(waits, &[]).expect("activity").get::<_, i64>(0) == 1);

    fed.change(&[meeting("late", 1, "08:30", "08:45")]);
    first.batch_execute("ROLLBACK").expect("the first gives up");

    assert!(!waiter.join().expect("the second ends").expect("an answer"), "it is taken in the calendar by now");
}

#[test]
fn a_change_that_commits_after_the_check_is_found_by_the_documented_query() {
    let mut fed = ready();
    let mut booker = fed.cluster.connect("postgres");
    booker.batch_execute("BEGIN").expect("a transaction");
    assert!(book(&mut booker, "08:00", "early").expect("free"));
    fed.change(&[meeting("late", 1, "08:30", "08:45")]);
    booker.batch_execute("COMMIT").expect("nothing prevents that");

    let clashes = fed.sql.query("SELECT customer FROM clash", &[]).expect("the view is readable");

    assert_eq!(clashes.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["early"]);
}

#[test]
fn nobody_books_out_of_ignorance_whatever_the_session_says() {
    let mut fed = ready();
    fed.subscribe("never fed", serde_json::json!({}));
    fed.sql.batch_execute("SET calsync.on_uncovered = 'ignore'").expect("anybody may set it");

    for (calendar, wanted) in [("nobody", "SC001"), ("never fed", "SC002")] {
        let refused = fed.sql.query_one("SELECT book($1, tstzrange(now(), now() + '1 hour'), 'hopeful')", &[&calendar]);
        assert_eq!(sqlstate(&refused.expect_err("nobody knows")), wanted, "{calendar}");
    }
    assert_eq!(fed.sql.query_one("SELECT count(*) FROM booking", &[]).expect("readable").get::<_, i64>(0), 0);
}

#[test]
fn what_is_not_known_is_not_booked() {
    let mut fed = ready();
    fed.sql.batch_execute("UPDATE calsync.subscription SET gone_at = now()").expect("gone at the provider");

    let refused = book(&mut fed.sql, "08:00", "hopeful").expect_err("nobody knows");

    assert_eq!(sqlstate(&refused), "SC003");
    assert_eq!(fed.sql.query_one("SELECT count(*) FROM booking", &[]).expect("readable").get::<_, i64>(0), 0);
}
