//! The key is rotated while somebody else is at it: nothing is lost, nobody waits for ever, and all can be opened afterwards.

use std::thread::JoinHandle;

use calsync_integration::{ALICE, Connector, World, eventually, sqlstate};
use fake_google::Fault;
use postgres::Client;
use serde_json::{Value, json};

const ROTATE: &str = "SELECT calsync_rotate_key()";
/// The id of a key begins what it sealed.
const KEYS_IN_USE: &str = "SELECT count(DISTINCT substr(secret, 1, 9)) FROM calsync.credential";
const SECRETS: &str = "SELECT count(*) FROM calsync.credential WHERE secret IS NOT NULL";

fn bearer(token: &str) -> Value {
    json!({ "token": token })
}

fn oauth(refresh_token: &str) -> Value {
    json!({ "client_id": "app", "client_secret": "secret", "refresh_token": refresh_token })
}

fn add(sql: &mut Client, name: &str, secret: &Value) {
    sql.execute("SELECT calsync_add_credential($1, 'google', $2)", &[&name, secret]).expect("added");
}

fn one_number(sql: &mut Client, query: &str) -> i64 {
    sql.query_one(query, &[]).expect("a number").get(0)
}

/// Every secret can be opened: a rotation counts those that it could open. One that finds older keys in use seals what is
/// sealed with them, the next one seals all.
fn assert_all_open(sql: &mut Client) {
    one_number(sql, ROTATE);
    assert_eq!(one_number(sql, ROTATE), one_number(sql, SECRETS), "all can be opened");
    assert_eq!(one_number(sql, KEYS_IN_USE), 1, "and are sealed with the same key");
}

/// In a session of its own; the caller goes on once it waits for a lock, or, rotating, for what others hold.
fn waits<T: Send + 'static>(world: &mut World, act: impl FnOnce(&mut Client) -> T + Send + 'static) -> JoinHandle<T> {
    let mut sql = world.cluster.connect("postgres");
    let pid: i32 = sql.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    let thread = std::thread::spawn(move || act(&mut sql));
    eventually("it waits", || {
        world.count(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event_type IN ('Lock', 'Extension')"
        )) == 1
    });
    thread
}

/// Two credentials, sealed.
fn sealed() -> World {
    let mut world = World::new();
    add(&mut world.sql, "one", &bearer("first"));
    add(&mut world.sql, "two", &bearer("second"));
    world
}

#[test]
fn a_credential_that_is_not_committed_yet_is_sealed_anew_as_well() {
    let mut world = sealed();
    let mut open = world.cluster.connect("postgres");
    open.batch_execute("BEGIN").expect("begun");
    add(&mut open, "late", &bearer("third"));

    let rotation = waits(&mut world, |sql| one_number(sql, ROTATE));
    open.batch_execute("COMMIT").expect("added");

    assert_eq!(rotation.join().expect("rotated"), 3);
    assert_eq!(world.count(KEYS_IN_USE), 1);
    assert_all_open(&mut world.sql);
}

#[test]
fn a_credential_that_is_being_dropped_stays_dropped() {
    let mut world = sealed();
    let mut open = world.cluster.connect("postgres");
    open.batch_execute("BEGIN; SELECT calsync_drop_credential('two')").expect("dropped");

    let rotation = waits(&mut world, |sql| one_number(sql, ROTATE));
    open.batch_execute("COMMIT").expect("dropped");

    assert_eq!(rotation.join().expect("rotated"), 1);
    assert_eq!(world.count("SELECT count(*) FROM calsync.credential"), 1);
    assert_all_open(&mut world.sql);
}

#[test]
fn a_credential_that_is_about_to_be_dropped_and_a_rotation_do_not_wait_for_each_other() {
    let mut world = sealed();
    let mut open = world.cluster.connect("postgres");
    open.batch_execute("BEGIN; SELECT FROM calsync.credential WHERE name = 'two' FOR UPDATE").expect("locked");
    let dropping = waits(&mut world, |sql| sql.batch_execute("SELECT calsync_drop_credential('two')"));
    let rotation = waits(&mut world, |sql| one_number(sql, ROTATE));

    open.batch_execute("COMMIT").expect("free");

    dropping.join().expect("no panic").expect("dropped");
    let sealed_anew = rotation.join().expect("rotated");
    assert!([1, 2].contains(&sealed_anew), "it may come before the other: {sealed_anew}");
    assert_eq!(world.count(SECRETS), 1);
    assert_all_open(&mut world.sql);
}

#[test]
fn who_subscribes_and_then_replaces_the_credential_and_a_rotation_do_not_wait_for_each_other() {
    let mut world = sealed();
    let mut open = world.cluster.connect("postgres");
    open.batch_execute("BEGIN; SELECT calsync_subscribe('a@x', credential => 'one')").expect("subscribed");
    assert_eq!(world.count(ROTATE), 2, "whoever subscribes is not in its way");

    add(&mut open, "one", &bearer("other"));
    open.batch_execute("COMMIT").expect("replaced");

    assert_all_open(&mut world.sql);
}

#[test]
fn a_round_that_has_a_word_to_say_of_its_credential_and_a_rotation_do_not_wait_for_each_other() {
    let mut world = World::new();
    add(&mut world.sql, "team", &bearer("first"));
    world.sql.execute("SELECT calsync_subscribe($1, credential => 'team')", &[&ALICE]).expect("subscribed");
    world.wait_for_sync(ALICE);
    world.google.add_fault(Fault::error(429, "rateLimitExceeded"));
    world.sql.batch_execute("SELECT calsync_sync()").expect("due");
    eventually("it is slowed", || world.count("SELECT failures::bigint FROM calsync.credential") == 1);
    world.meeting(3, "08:00", "09:00");
    let mut open = world.cluster.connect("postgres");
    open.batch_execute("BEGIN; LOCK TABLE calsync.event IN SHARE MODE").expect("locked");
    world.sql.batch_execute("UPDATE calsync.credential SET retry_at = NULL; SELECT calsync_sync()").expect("due");
    let stands = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'calsync.event'::regclass";
    eventually("the worker has locked the credential and stands before the events", || world.count(stands) == 1);

    let rotation = waits(&mut world, |sql| one_number(sql, ROTATE));
    open.batch_execute("COMMIT").expect("free");

    assert_eq!(rotation.join().expect("rotated"), 1);
    eventually("the round has ended", || world.count("SELECT failures::bigint FROM calsync.credential") == 0);
    assert!(!world.cluster.log().contains("deadlock"));
}

#[test]
fn a_rotation_that_is_not_committed_holds_up_no_calendar() {
    let mut world = World::new();
    add(&mut world.sql, "team", &bearer("first"));
    world.google.add_fault(Fault::error(401, "authError").always());
    world.others(&["a@x"], Some("team"));
    eventually("it is refused", || world.count("SELECT count(refused_at) FROM calsync.credential") == 1);
    world.google.clear_faults();
    let soon = "UPDATE calsync.credential SET retry_at = clock_timestamp() + interval '1 second'; \
         UPDATE calsync.subscription SET next_sync_at = now()";
    world.sql.batch_execute(soon).expect("it may be tried again soon");
    let mut open = world.cluster.connect("postgres");
    open.batch_execute(&format!("BEGIN; {ROTATE}")).expect("rotated");
    eventually("it may be tried again", || {
        world.count("SELECT count(*) FROM calsync.credential WHERE retry_at < clock_timestamp()") == 1
    });

    world.subscribe(ALICE);
    eventually("another calendar is synced", || world.status("state") == "active");
    assert_eq!(
        world.count("SELECT count(refused_at) FROM calsync.credential"),
        1,
        "nobody could write that it is good"
    );

    open.batch_execute("COMMIT").expect("free");
    world.wait_for_sync("a@x");
}

#[test]
fn what_comes_while_the_key_is_rotated_is_sealed_with_the_new_one() {
    let mut world = sealed();
    let mut open = world.cluster.connect("postgres");
    open.batch_execute(&format!("BEGIN; {ROTATE}")).expect("rotated");

    add(&mut world.sql, "late", &bearer("third"));
    let replacing = waits(&mut world, |sql| add(sql, "one", &bearer("other")));
    let dropping = waits(&mut world, |sql| sql.batch_execute("SELECT calsync_drop_credential('two')"));
    open.batch_execute("COMMIT").expect("rotated");

    replacing.join().expect("replaced");
    dropping.join().expect("no panic").expect("dropped");
    assert_eq!((world.count(SECRETS), world.count(KEYS_IN_USE)), (2, 1));
    assert_all_open(&mut world.sql);
}

#[test]
fn a_rotation_that_is_rolled_back_loses_nothing() {
    let mut world = sealed();
    let mut open = world.cluster.connect("postgres");
    open.batch_execute(&format!("BEGIN; {ROTATE}; ROLLBACK")).expect("not rotated");

    assert_all_open(&mut world.sql);
}

#[test]
fn a_refresh_token_that_is_replaced_while_the_key_is_rotated_is_stored_afterwards() {
    let mut world = World::new();
    world.google.require_auth(true);
    world.google.rotate_refresh_tokens(true);
    add(&mut world.sql, "team", &oauth("1//first"));
    world.sql.execute("SELECT calsync_subscribe($1, credential => 'team')", &[&ALICE]).expect("subscribed");
    world.wait_for_sync(ALICE);
    let sealed = "SELECT encode(secret, 'hex') FROM calsync.credential WHERE name = $1";
    let before = world.text(sealed, "team");
    let mut open = world.cluster.connect("postgres");
    open.batch_execute(&format!("BEGIN; {ROTATE}")).expect("rotated");

    world.google.expire_access_tokens();
    world.google.clear_log();
    world.sql.batch_execute("SELECT calsync_sync()").expect("due");
    eventually("the token has been replaced", || world.token_requests().len() == 1);
    let rotated: String = open.query_one(sealed, &[&"team"]).expect("the credential").get(0);
    open.batch_execute("COMMIT").expect("free");

    eventually("it is stored", || ![rotated.clone(), before.clone()].contains(&world.text(sealed, "team")));
    assert_all_open(&mut world.sql);
    world.cluster.stop("fast");
    world.cluster.start_again();
    world.sql = world.cluster.connect("postgres");
    world.google.clear_log();
    world.sync();
    assert_eq!(world.status("state"), "active", "the one that is stored is good: {:?}", world.token_requests());
}

/// Rotates so many times. Another session may be writing the key file just then, which is told.
fn rotate_again_and_again(connector: &Connector, database: &str) {
    let mut sql = connector.connect(database).expect("a session");
    let mut left = ROTATIONS;
    while left > 0 {
        match sql.batch_execute(ROTATE) {
            Ok(()) => left -= 1,
            Err(error) => assert_eq!(sqlstate(&error), "SC006", "{error:?}"),
        }
    }
}

const ROTATIONS: usize = 15;
const WRITERS: usize = 3;

#[test]
fn two_databases_rotate_while_others_add_drop_and_renew() {
    let mut world = World::new();
    world.google.require_auth(true);
    world.google.rotate_refresh_tokens(true);
    add(&mut world.sql, "team", &oauth("1//first"));
    world.sql.execute("SELECT calsync_subscribe($1, credential => 'team')", &[&ALICE]).expect("subscribed");
    world.wait_for_sync(ALICE);
    world.cluster.run("createdb", &["second"]);
    let mut second = world.cluster.connect("second");
    second.batch_execute("CREATE EXTENSION pg_calsync").expect("created");
    add(&mut second, "own", &bearer("of the second".replace(' ', "-").as_str()));
    let connector = world.cluster.connector();

    let mut threads: Vec<JoinHandle<()>> = ["postgres", "second"]
        .map(|database| {
            let connector = connector.clone();
            std::thread::spawn(move || rotate_again_and_again(&connector, database))
        })
        .into();
    threads.extend((0..WRITERS).map(|writer| {
        let connector = connector.clone();
        std::thread::spawn(move || {
            let mut sql = connector.connect("postgres").expect("a session");
            for round in 0..ROTATIONS {
                add(&mut sql, &format!("kept{writer}"), &bearer(&format!("token-{writer}-{round}")));
                add(&mut sql, &format!("dropped{writer}"), &bearer("worthless"));
                sql.execute("SELECT calsync_drop_credential($1)", &[&format!("dropped{writer}")]).expect("dropped");
            }
        })
    }));
    while threads.iter().any(|thread| !thread.is_finished()) {
        // Each sync needs another token, which brings another refresh token.
        world.google.expire_access_tokens();
        world.sync();
    }
    for thread in threads {
        thread.join().expect("no deadlock, and nothing else");
    }

    assert_eq!(world.count("SELECT count(*) FROM calsync.credential WHERE name LIKE 'dropped%'"), 0);
    assert_eq!(world.count(SECRETS), 1 + WRITERS as i64);
    world.sync();
    assert_all_open(&mut world.sql);
    assert_all_open(&mut second);
    world.google.require_auth(false);
    world.google.clear_log();
    for writer in 0..WRITERS {
        let calendar = format!("kept{writer}@x");
        world.others(&[&calendar], Some(&format!("kept{writer}")));
        world.wait_for_sync(&calendar);
        let last = format!("Bearer token-{writer}-{}", ROTATIONS - 1);
        assert!(world.authorizations().contains(&last), "{:?}", world.authorizations());
    }
    assert_eq!(world.status("state"), "active");
    let lost = "SELECT count(*) FROM calsync_keys() WHERE line IS NULL";
    assert_eq!((world.count(lost), one_number(&mut second, lost)), (0, 0), "no key is lost");
    assert!(!world.cluster.log().contains("deadlock"));
}
