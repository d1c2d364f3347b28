//! The keys of a cluster are renewed while its databases, and others, go on.

use std::fs;
use std::thread::JoinHandle;

use calsync_integration::{ALICE, World, eventually};
use fake_google::Fault;
use postgres::Client;
use serde_json::{Value, json};

fn oauth() -> Value {
    json!({ "client_id": "app", "client_secret": "secret", "refresh_token": "1//alice" })
}

/// Alice's calendar by the credential `team`, synced.
fn synced() -> World {
    let mut world = World::new();
    world.google.require_auth(true);
    world.add_credential("team", &oauth());
    world.sql.execute("SELECT calsync_subscribe($1, credential => 'team')", &[&ALICE]).expect("subscribed");
    world.wait_for_sync(ALICE);
    world
}

/// A database beside it, with two credentials of its own, one of them without a secret.
fn second(world: &World) -> Client {
    world.cluster.run("createdb", &["second"]);
    let mut second = world.cluster.connect("second");
    second.batch_execute("CREATE EXTENSION pg_calsync").expect("the extension");
    second.execute("SELECT calsync_add_credential('own', 'google', $1)", &[&oauth()]).expect("added");
    second.batch_execute("SELECT calsync_add_credential('open', 'google', '{}')").expect("added");
    second
}

/// `calsync_rotate_key()` in a session of its own; how many were sealed anew.
fn rotating(world: &World) -> JoinHandle<i64> {
    let mut sql = world.cluster.connect("postgres");
    std::thread::spawn(move || rotate(&mut sql))
}

fn rotate(sql: &mut Client) -> i64 {
    sql.query_one("SELECT calsync_rotate_key()", &[]).expect("rotated").get(0)
}

/// The same without a key being added.
fn take_over(sql: &mut Client) -> i64 {
    sql.query_one("SELECT calsync_rotate_key(false)", &[]).expect("rotated").get(0)
}

/// Line of the file, does it seal, how many credentials of this database.
fn keys(sql: &mut Client) -> Vec<(Option<i32>, bool, i64)> {
    let rows = sql.query("SELECT line, seals, credentials FROM calsync_keys()", &[]).expect("the keys");
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

/// All that is sealed in the database is sealed with the newest key.
fn is_up_to_date(sql: &mut Client) -> bool {
    keys(sql).iter().all(|(_, seals, credentials)| *seals || *credentials == 0)
}

#[test]
fn when_each_database_was_rotated_once_all_lines_but_the_last_can_go() {
    let mut world = synced();
    let mut second = second(&world);
    world.cluster.run("createdb", &["third"]);
    let mut third = world.cluster.connect("third");
    third.batch_execute("CREATE EXTENSION pg_calsync").expect("the extension");

    assert_eq!(rotate(&mut world.sql), 1);
    // Where there was none before, all is sealed with the newest.
    third.execute("SELECT calsync_add_credential('since', 'google', $1)", &[&oauth()]).expect("added");
    assert_eq!((take_over(&mut second), take_over(&mut third)), (1, 0));

    assert_eq!(keys(&mut world.sql), [(Some(3), false, 0), (Some(5), true, 1)]);
    assert_eq!(keys(&mut second), keys(&mut world.sql), "they came to the same key");
    assert_eq!(keys(&mut third), keys(&mut world.sql), "they came to the same key");
    let path = world.cluster.home().join("data/calsync.key");
    let text = fs::read_to_string(&path).expect("the key file");
    fs::write(&path, text.lines().last().expect("a line")).expect("written");
    world.cluster.stop("fast");
    world.cluster.start_again();
    world.sql = world.cluster.connect("postgres");
    world.sync();
    world.wait_for_sync(ALICE);
    assert_eq!(rotate(&mut world.cluster.connect("second")), 1, "what is there can be opened");
}

#[test]
fn a_rotation_adds_a_key_where_the_newest_is_in_use_unless_it_is_told_not_to() {
    let mut world = synced();
    let mut second = second(&world);
    rotate(&mut world.sql);
    second.execute("SELECT calsync_add_credential('later', 'google', $1)", &[&oauth()]).expect("added");
    assert_eq!(keys(&mut second), [(Some(3), false, 1), (Some(5), true, 1)]);

    assert_eq!(take_over(&mut second), 1, "the older one");
    assert_eq!(take_over(&mut second), 0, "none");
    assert_eq!(keys(&mut second), [(Some(3), false, 0), (Some(5), true, 2)]);
    assert!(!world.cluster.log().contains("no key was added"), "nobody asked for one");
    assert_eq!(rotate(&mut second), 2, "both");
    assert_eq!(keys(&mut second), [(Some(3), false, 0), (Some(5), false, 0), (Some(7), true, 2)]);
    world.cluster.run("createdb", &["third"]);
    let mut third = world.cluster.connect("third");
    third.batch_execute("CREATE EXTENSION pg_calsync").expect("the extension");

    third.batch_execute("SET client_min_messages = error; SET log_min_messages = notice").expect("set");
    assert_eq!(rotate(&mut third), 0);

    assert_eq!(keys(&mut third).len(), 3, "where nothing is sealed no key is needed");
    assert!(world.cluster.log().contains("no key was added"), "which whoever rotates is told");
}

#[test]
fn a_rotation_that_shall_add_no_key_makes_no_file_either() {
    let mut world = synced();
    let path = world.cluster.home().join("data/calsync.key");
    fs::remove_file(&path).expect("lost");

    assert_eq!(take_over(&mut world.sql), 0);

    assert!(!path.exists());
    let log = world.cluster.log();
    assert!(log.contains("credential \"team\" of role \"postgres\" is left as it is"), "{log}");
}

#[test]
fn a_transaction_that_does_not_see_what_others_commit_cannot_rotate() {
    let mut world = synced();
    let mut other = world.cluster.connect("postgres");
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        other.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1")).expect("begun");
        world.sql.execute("SELECT calsync_add_credential($1, 'google', $2)", &[&level, &oauth()]).expect("added");

        let refused = other.query("SELECT calsync_rotate_key()", &[]).expect_err("it would be left, and nobody told");

        let told = refused.as_db_error().expect("the server's");
        assert_eq!(told.code().code(), "25001");
        assert!(told.hint().is_some_and(|hint| hint.contains("BEGIN ISOLATION LEVEL READ COMMITTED")), "{told:?}");
        other.batch_execute("ROLLBACK").expect("ended");
    }
    assert_eq!(keys(&mut world.sql).len(), 1, "no key was added");
    assert_eq!(rotate(&mut other), 3, "as the hint says");
}

#[test]
fn a_prepared_transaction_that_added_a_credential_is_told_with_what_ends_it() {
    let mut world = World::with("max_prepared_transactions = 1");
    world.add_credential("team", &oauth());
    let mut other = world.cluster.connect("postgres");
    other.batch_execute("BEGIN").expect("begun");
    other.execute("SELECT calsync_add_credential('new', 'google', $1)", &[&oauth()]).expect("not committed");
    other.batch_execute("PREPARE TRANSACTION 'forgotten'").expect("prepared");

    assert_eq!(rotate(&mut world.sql), 1);

    let log = world.cluster.log();
    assert!(log.contains("It was not committed yet by a prepared transaction."), "{log}");
    assert!(log.contains("pg_prepared_xacts names, is ended by COMMIT PREPARED or ROLLBACK PREPARED"), "{log}");
    other.batch_execute("COMMIT PREPARED 'forgotten'").expect("as the hint says");
    assert_eq!(take_over(&mut world.sql), 1, "as the hint says");
    assert!(is_up_to_date(&mut world.sql) && keys(&mut world.sql).len() == 2, "without another key");
}

#[test]
fn a_forgotten_transaction_that_added_a_credential_holds_up_nobody_and_is_told() {
    let mut world = synced();
    world.others(&["b@x"], Some("team"));
    world.wait_for_sync("b@x");
    let mut forgotten = world.cluster.connect("postgres");
    forgotten
        .execute("SELECT calsync_add_credential('before', 'google', $1)", &[&oauth()])
        .expect("there is one to replace");
    let mut open = forgotten.transaction().expect("a transaction");
    let process: i32 = open.query_one("SELECT pg_backend_pid()", &[]).expect("pid").get(0);
    for name in ["new", "before"] {
        open.execute("SELECT calsync_add_credential($1, 'google', $2)", &[&name, &oauth()]).expect("not committed");
    }

    let rotation = rotating(&world);
    eventually("the key is there", || keys(&mut world.sql).len() == 2);
    // The worker writes to calsync.credential meanwhile, and others add theirs.
    world.google.add_fault(Fault::error(429, "rateLimitExceeded").on_calendar("b@x").times(1));
    world.sql.batch_execute("SELECT calsync_sync('b@x')").expect("sync");
    world.sql.execute("SELECT calsync_add_credential('other', 'google', $1)", &[&oauth()]).expect("added");
    world.others(&["c@x"], Some("other"));
    let state = "SELECT state::text FROM calsync.subscription WHERE calendar = $1";
    eventually("another calendar is synced", || world.text(state, "c@x") == "active");
    assert!(!rotation.is_finished(), "it still looks whether the row becomes free");

    eventually("it leaves what it cannot get at", || rotation.is_finished());
    assert_eq!(rotation.join().expect("no panic"), 1, "team");
    let log = world.cluster.log();
    assert!(log.contains("credential \"before\" of role \"postgres\" is left sealed with an older key"), "{log}");
    assert!(log.contains(&format!("It was not committed yet by process {process}.")), "{log}");
    assert!(!log.contains("deadlock"), "{log}");

    open.commit().expect("remembered");
    assert!(!is_up_to_date(&mut world.sql));
    assert_eq!(take_over(&mut world.sql), 2, "what was left");
    assert!(is_up_to_date(&mut world.sql) && keys(&mut world.sql).len() == 2, "without another key");
}

#[test]
fn what_becomes_free_while_a_rotation_looks_is_taken_up() {
    // One that is locked, and one that is not to be seen yet.
    for (name, sealed_anew) in [("team", 1), ("new", 2)] {
        let mut world = synced();
        let mut other = world.cluster.connect("postgres");
        let mut open = other.transaction().expect("a transaction");
        open.execute("SELECT calsync_add_credential($1, 'google', $2)", &[&name, &oauth()]).expect("not committed");
        let rotation = rotating(&world);
        eventually("the rotation has begun", || keys(&mut world.sql).len() == 2 || rotation.is_finished());

        open.commit().expect("committed");

        assert_eq!(rotation.join().expect("no panic"), sealed_anew);
        assert!(is_up_to_date(&mut world.sql), "{:?}", keys(&mut world.sql));
        assert!(!world.cluster.log().contains("older key"), "{}", world.cluster.log());
    }
}

#[test]
fn only_who_owns_the_tables_sees_the_keys() {
    let mut world = synced();
    world
        .sql
        .batch_execute(
            "CREATE ROLE ann LOGIN; GRANT calsync_operator TO ann; GRANT EXECUTE ON FUNCTION calsync_keys() TO ann",
        )
        .expect("a role");
    let mut ann = world.cluster.connect_as("ann", "postgres").expect("ann");

    let refused = ann.query("SELECT * FROM calsync_keys()", &[]).expect_err("not hers");

    assert_eq!(calsync_integration::sqlstate(&refused), "42501");
}
