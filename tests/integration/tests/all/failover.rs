//! The key file does not follow the write-ahead log: what is told, what goes wrong without it, and what heals.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use calsync_integration::{ALICE, Cluster, World, eventually};
use postgres::Client;
use serde_json::{Value, json};

const FOLLOWED: &str = "is on this server only, and others seem to follow it";
const KEY: &str = "SELECT encode(substr(secret, 2, 8), 'hex') FROM calsync.credential WHERE name = $1";
const POSITION: &str = "SELECT pg_current_wal_lsn()::text";
const REPLAYED: &str = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";

fn oauth() -> Value {
    json!({ "client_id": "app", "client_secret": "secret", "refresh_token": "1//alice" })
}

fn key_file(cluster: &Cluster) -> PathBuf {
    cluster.home().join("data/calsync.key")
}

/// The last line of a key file.
fn last_line(cluster: &Cluster) -> String {
    let text = fs::read_to_string(key_file(cluster)).expect("a key file");
    text.lines().last().expect("a line").to_owned()
}

/// As `tee -a` does it; a file that is not there is made, for the server alone.
fn append(cluster: &Cluster, lines: &str) {
    let path = key_file(cluster);
    let mut file = fs::OpenOptions::new().append(true).create(true).open(&path).expect("a key file");
    write!(file, "{lines}").expect("written");
    cluster.own(&path);
}

fn add(sql: &mut Client, name: &str) {
    sql.execute("SELECT calsync_add_credential($1, 'google', $2)", &[&name, &oauth()]).expect("added");
}

fn subscribed_with(world: &mut World, credential: &str) {
    world.google.require_auth(true);
    add(&mut world.sql, credential);
    world.sql.execute("SELECT calsync_subscribe($1, credential => $2)", &[&ALICE, &credential]).expect("subscribed");
    world.wait_for_sync(ALICE);
}

/// The standby has taken over, and the worker on it has tried to sync.
fn fail_over(world: &mut World, standby: &Cluster) -> Client {
    let position: String = world.sql.query_one(POSITION, &[]).expect("a position").get(0);
    let mut sql = standby.connect("postgres");
    eventually("the standby has it all", || sql.query_one(REPLAYED, &[&position]).expect("a position").get(0));
    world.cluster.stop("immediate");
    sql.batch_execute("SELECT pg_promote()").expect("promoted");
    sql.execute("SELECT calsync_sync($1)", &[&ALICE]).expect("asked for");
    sql
}

fn status(sql: &mut Client, column: &str) -> String {
    let sql = sql.query_one(&format!("SELECT {column}::text FROM calsync.status WHERE calendar = $1"), &[&ALICE]);
    sql.expect("the calendar").get::<_, Option<String>>(0).unwrap_or_default()
}

#[test]
fn after_a_failover_without_the_new_key_its_id_is_told_and_appending_its_line_heals() {
    let mut world = World::new();
    subscribed_with(&mut world, "team");
    let standby = world.cluster.standby();
    world.sql.batch_execute("SELECT calsync_rotate_key()").expect("rotated");
    let key = world.text(KEY, "team");
    let log = world.cluster.log();
    assert!(log.contains(&format!("key {key} {FOLLOWED}")), "who rotates is warned: {log}");

    let mut sql = fail_over(&mut world, &standby);

    eventually("it is told", || status(&mut sql, "state") == "backoff");
    let error = status(&mut sql, "last_error");
    assert!(error.contains(&format!("Its id is {key}")), "{error}");
    assert!(error.contains("Append that key's line"), "{error}");
    let health: String = sql.query_one("SELECT calsync_health()::text", &[]).expect("health").get(0);
    assert!(health.contains(&format!("Its id is {key}")) && !health.contains("refused by the provider"), "{health}");
    add(&mut sql, "since");
    append(&standby, &format!("{}\n", last_line(&world.cluster)));

    sql.execute("SELECT calsync_sync($1)", &[&ALICE]).expect("asked for");

    eventually("it is synced", || status(&mut sql, "state") == "active");
    let sealed: i64 = sql.query_one("SELECT calsync_rotate_key()", &[]).expect("rotated").get(0);
    assert!(sealed >= 1, "what was sealed here meanwhile can be opened, too");
    let lost: i64 = sql.query_one("SELECT count(*) FROM calsync_keys() WHERE line IS NULL", &[]).expect("keys").get(0);
    assert_eq!(lost, 0);
}

#[test]
fn a_standby_tells_beforehand_which_keys_it_lacks() {
    let mut world = World::new();
    subscribed_with(&mut world, "team");
    world.sql.batch_execute("CREATE ROLE ann LOGIN; GRANT calsync_reader TO ann").expect("who owns nothing");
    let standby = world.cluster.standby();
    let mut sql = standby.connect("postgres");
    let health = "SELECT calsync_health()->>'problems'";
    let mut text =
        |query: &str| sql.query_one(query, &[]).expect("an answer").get::<_, Option<String>>(0).unwrap_or_default();
    assert_eq!(text(health), "[]", "the copy has the file");

    world.sql.batch_execute("SELECT calsync_rotate_key()").expect("rotated");
    let key = world.text(KEY, "team");

    let missing = "SELECT string_agg(key_id, ' ') FROM calsync_keys() WHERE line IS NULL AND credentials > 0";
    eventually("the keys tell it", || text(missing) == key);
    assert!(text(health).contains("1 keys are not on this standby, which 1 credentials need"), "{}", text(health));
    let mut ann = standby.connect_as("ann", "postgres").expect("ann");
    let told: String = ann.query_one(health, &[]).expect("an answer").get(0);
    assert!(told.contains("not all keys are on this standby"), "{told}");
    assert!(!told.contains("credentials need") && !told.contains('1'), "how many is not hers to know: {told}");
    append(&standby, &format!("{}\n", last_line(&world.cluster)));
    assert_eq!((text(missing), text(health)), (String::new(), "[]".to_owned()));
}

#[test]
fn the_first_key_of_a_server_with_a_standby_is_told() {
    let mut world = World::new();
    add(&mut world.sql, "open");
    assert!(!world.cluster.log().contains(FOLLOWED), "nobody follows");
    fs::remove_file(key_file(&world.cluster)).expect("as before the first credential");
    world
        .sql
        .batch_execute(
            "CREATE ROLE app LOGIN; GRANT calsync_operator TO app; \
             SELECT pg_create_physical_replication_slot('standby')",
        )
        .expect("a role, and a slot of a standby that is away");
    let mut app = world.cluster.connect_as("app", "postgres").expect("app");

    add(&mut app, "team");

    let log = world.cluster.log();
    assert!(log.contains(FOLLOWED), "{log}");
    assert!(log.contains("of the file that calsync.key_file names to that file of each standby"), "{log}");
    add(&mut app, "another");
    assert_eq!(world.cluster.log().matches(FOLLOWED).count(), 1, "it is told once");
}

#[test]
fn a_key_that_is_brought_to_the_standby_first_survives_the_failover() {
    let mut world = World::new();
    subscribed_with(&mut world, "team");
    let before = world.text(KEY, "team");
    let standby = world.cluster.standby();
    // head -c 32 /dev/zero | base64
    let line = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

    append(&standby, line);
    append(&world.cluster, line);
    // The application uses it before the rotation does.
    add(&mut world.sql, "since");
    world.sql.batch_execute("SELECT calsync_rotate_key(false)").expect("rotated");

    assert_ne!(world.text(KEY, "team"), before, "the key that was brought seals");
    assert!(!world.cluster.log().contains(FOLLOWED), "no other was made: {}", world.cluster.log());
    let mut sql = fail_over(&mut world, &standby);
    eventually("it is synced", || status(&mut sql, "(synced_at > pg_postmaster_start_time())") == "true");
    assert_eq!((status(&mut sql, "state"), status(&mut sql, "last_error")), ("active".to_owned(), String::new()));
}

#[test]
fn lines_of_the_key_file_may_come_twice_and_in_any_order() {
    let mut world = World::new();
    subscribed_with(&mut world, "team");
    world.sql.batch_execute("SELECT calsync_rotate_key()").expect("rotated");
    let path = key_file(&world.cluster);
    let text = fs::read_to_string(&path).expect("a key file");
    let keys: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();

    fs::write(&path, format!("{1}\n{0}\n\n# appended\n{1}\n{0}", keys[0], keys[1])).expect("written");

    let lines = world.sql.query("SELECT line, seals, credentials FROM calsync_keys()", &[]).expect("the keys");
    let lines: Vec<(i32, bool, i64)> = lines.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(lines, [(5, false, 1), (6, true, 0)]);
    assert_eq!(world.count("SELECT calsync_rotate_key()"), 1, "with the last one");
}
