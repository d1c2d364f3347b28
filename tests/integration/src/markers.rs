//! Marked secrets, and every place where the server shows or writes something down.

use std::fs;

use postgres::{Client, SimpleQueryMessage};
use serde_json::{Value, json};

use crate::keys::ServiceAccountKey;
use crate::world::{World, sqlstate};

/// In every secret, so that one search finds them all. Percent-encoded, escaped or in base64 it looks otherwise.
pub const MARKER: &str = "XyZZyMaRkEr";
/// What the marker is as a part of `user:password` in base64, whichever way it is aligned.
const IN_BASE64: [&str; 3] = ["WHlaWnlNYVJrRX", "h5Wlp5TWFSa0Vy", "YeVpaeU1hUmtFc"];

/// A server that tells all it can of what it does, roles that may read, and a Google that asks for authorization.
pub fn talkative(environment: &[(&str, &str)]) -> World {
    let mut world = World::in_environment(environment, TALKATIVE);
    world.google.require_auth(true);
    world
        .sql
        .batch_execute(
            "CREATE EXTENSION pg_stat_statements; CREATE ROLE reader LOGIN; GRANT calsync_reader TO reader; \
             CREATE ROLE operator LOGIN; GRANT calsync_operator TO operator; \
             CREATE ROLE detail LOGIN; GRANT calsync_detail TO detail",
        )
        .expect("roles");
    world
}

/// The log says all it can, but no statement unless it fails.
const TALKATIVE: &str = "log_min_messages = debug5\nlog_statement = none\n\
     shared_preload_libraries = 'pg_calsync,pg_stat_statements'\npg_stat_statements.track = all\n\
     calsync.request_timeout = '2s'";

pub fn oauth() -> Value {
    json!({ "client_id": "app", "client_secret": format!("{MARKER}/+=1"), "refresh_token": format!("1//{MARKER}") })
}

/// Each shape, under its own name; the calendars of each follow.
pub fn shapes(key: &ServiceAccountKey) -> Vec<(&'static str, Value)> {
    vec![
        ("oauth", oauth()),
        ("installed", json!({ "installed": { "client_id": "app", "client_secret": MARKER }, "refresh_token": MARKER })),
        ("robot", key.file(None)),
        ("domain", key.file(Some("*"))),
        ("bearer", json!({ "token": format!("ya29.{MARKER}") })),
        ("basic", json!({ "username": "gate", "password": format!("\"{MARKER}\\") })),
    ]
}

/// What must be found nowhere: the marker and its disguises, a line of the private key, how each signed assertion and
/// each access token begins.
pub fn needles(key: &ServiceAccountKey) -> Vec<String> {
    let line = key.private_key.lines().nth(5).expect("a key has many lines");
    let fixed = [MARKER, line, "eyJhbGciOiJSUzI1NiIs", "ya29."];
    IN_BASE64.into_iter().chain(fixed).map(str::to_owned).collect()
}

/// Every row that a role can read in schema calsync, and what the activity and statement views say.
pub fn everything_shown_to(sql: &mut Client) -> String {
    let names = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c \
                 JOIN pg_namespace AS n ON n.oid = c.relnamespace \
                 WHERE n.nspname = 'calsync' AND c.relkind IN ('r', 'v') AND has_table_privilege(c.oid, 'SELECT') \
                 UNION ALL VALUES ('pg_stat_activity'), ('pg_stat_statements'), ('pg_prepared_statements')";
    let relations: Vec<String> = sql.query(names, &[]).expect("relations").iter().map(|row| row.get(0)).collect();
    assert!(relations.len() > 5, "{relations:?}");
    let mut shown = String::new();
    let functions = ["calsync_health()", "calsync_check()", "calsync_events()", "calsync_changes()"].map(str::to_owned);
    for relation in relations.iter().chain(&functions) {
        match sql.simple_query(&format!("SELECT t::text FROM {relation} AS t")) {
            Ok(rows) => shown.extend(rows.iter().filter_map(|row| match row {
                SimpleQueryMessage::Row(row) => row.get(0).map(|text| format!("{relation}: {text}\n")),
                _ => None,
            })),
            Err(error) => assert_eq!(sqlstate(&error), "42501", "{relation}"),
        }
    }
    shown
}

pub fn assert_clean(what: &str, text: &str, needles: &[String]) {
    for needle in needles {
        if let Some(at) = text.find(needle.as_str()) {
            let from = text.floor_char_boundary(at.saturating_sub(300));
            let to = text.ceil_char_boundary((at + 300).min(text.len()));
            panic!("{what} shows a secret: …{}…", &text[from..to]);
        }
    }
}

/// The command lines of the server's processes.
pub fn process_titles() -> String {
    let entries = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let titles = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    titles.filter(|title| title.starts_with("postgres:")).collect::<Vec<_>>().join("\n")
}

/// Neither what any role may read, nor the dump, a process title, or the log.
pub fn assert_nothing_shows(world: &World, needles: &[String]) {
    for role in ["postgres", "operator", "detail", "reader"] {
        let mut sql = world.cluster.connect_as(role, "postgres").expect(role);
        assert_clean(&format!("what {role} may read"), &everything_shown_to(&mut sql), needles);
    }
    assert_clean("the dump", &world.cluster.run("pg_dump", &["postgres"]), needles);
    assert_clean("a process title", &process_titles(), needles);
    let log = world.cluster.log();
    assert!(log.contains("DEBUG"), "the log is as talkative as can be");
    assert_clean("the log", &log, needles);
}
