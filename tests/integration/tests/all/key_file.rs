//! The key that seals secrets: made at first use, for the server alone, rotated, lost and copied.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Barrier};

use calsync_integration::{ALICE, World, eventually, sqlstate};
use serde_json::{Value, json};

const SECRET: &str = "SELECT encode(secret, 'hex') FROM calsync.credential WHERE name = $1";

fn oauth() -> Value {
    json!({ "client_id": "app", "client_secret": "secret", "refresh_token": "1//alice" })
}

fn key_file(world: &World) -> PathBuf {
    world.cluster.home().join("data/calsync.key")
}

/// The keys in the file.
fn keys(world: &World) -> Vec<String> {
    let text = fs::read_to_string(key_file(world)).expect("a key file");
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn set_mode(path: &PathBuf, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode can be set");
}

/// Alice's calendar by an OAuth client, synced.
fn synced() -> World {
    let mut world = World::new();
    world.google.require_auth(true);
    world.add_credential("team", &oauth());
    world.sql.execute("SELECT calsync_subscribe($1, credential => 'team')", &[&ALICE]).expect("subscribed");
    world.wait_for_sync(ALICE);
    world
}

/// A worker that has to open the secret again.
fn restart(world: &mut World) {
    world.cluster.stop("fast");
    world.cluster.start_again();
    world.sql = world.cluster.connect("postgres");
    world.sql.batch_execute("SELECT calsync_sync()").expect("due");
}

/// SQLSTATE, message, detail and hint of what adding a credential raises.
fn refusal(world: &mut World) -> String {
    let error = world
        .sql
        .execute("SELECT calsync_add_credential('other', 'google', $1)", &[&oauth()])
        .expect_err("it is refused");
    let told = error.as_db_error().expect("the server's").clone();
    [&sqlstate(&error), told.message(), told.detail().unwrap_or_default(), told.hint().unwrap_or_default()].join("\n")
}

#[test]
fn the_key_file_is_made_at_first_use_for_the_server_alone() {
    let mut world = World::new();
    world.sql.batch_execute("SELECT calsync_add_credential('open', 'google', '{}')").expect("no secret");
    assert!(!key_file(&world).exists(), "nothing has been sealed");

    world.add_credential("team", &oauth());

    let mode = fs::metadata(key_file(&world)).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(keys(&world).len(), 1);
    let beside = fs::read_dir(world.cluster.home().join("data")).expect("the data directory");
    let left =
        beside.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(|name| name.contains(".new"));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn sessions_that_need_the_first_key_at_once_get_the_same_one() {
    let mut world = World::new();
    let connector = world.cluster.connector();
    let all_are_ready = Arc::new(Barrier::new(8));
    let sessions: Vec<_> = (0..8)
        .map(|n| {
            let (connector, all_are_ready) = (connector.clone(), all_are_ready.clone());
            std::thread::spawn(move || {
                let mut sql = connector.connect("postgres").expect("a session");
                sql.batch_execute("SELECT calsync_version()").expect("the library is loaded");
                all_are_ready.wait();
                let name = format!("c{n}");
                sql.execute("SELECT calsync_add_credential($1, 'google', $2)", &[&name, &oauth()]).expect("added");
            })
        })
        .collect();
    for session in sessions {
        session.join().expect("no panic");
    }

    assert_eq!(keys(&world).len(), 1);
    let ids = "SELECT count(DISTINCT substr(secret, 1, 9)) FROM calsync.credential";
    assert_eq!(world.count(ids), 1, "all are sealed with it");
}

#[test]
fn a_key_file_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let mut world = synced();
    let path = key_file(&world);
    for mode in [0o640, 0o604, 0o620] {
        set_mode(&path, mode);

        let refusal = refusal(&mut world);

        assert!(refusal.starts_with("SC006"), "{refusal}");
        assert!(refusal.contains("cd \"$PGDATA\" && chmod 0600 'calsync.key'"), "{refusal}");
    }
    restart(&mut world);
    world.wait_for_status("state", "backoff");
    assert!(world.status("last_error").contains("chmod 0600"), "{}", world.status("last_error"));

    set_mode(&path, 0o600);
    world.sync();

    world.wait_for_sync(ALICE);
}

#[test]
fn a_damaged_key_file_is_refused_and_its_text_not_shown() {
    let mut world = synced();
    let path = key_file(&world);
    fs::write(&path, "MARKER\n").expect("written");

    let refusal = refusal(&mut world);

    assert!(refusal.starts_with("SC006") && refusal.contains("damaged"), "{refusal}");
    assert!(!refusal.contains("MARKER"), "{refusal}");
}

#[test]
fn the_same_secret_is_sealed_otherwise_each_time() {
    let mut world = World::new();
    world.add_credential("team", &oauth());
    let first = world.text(SECRET, "team");
    world.add_credential("team", &oauth());
    world.add_credential("copy", &oauth());

    assert_ne!(world.text(SECRET, "team"), first);
    assert_ne!(world.text(SECRET, "team"), world.text(SECRET, "copy"));
}

#[test]
fn a_secret_that_is_copied_to_another_name_or_owner_opens_nothing() {
    for theft in [
        "UPDATE calsync.credential SET secret = (SELECT secret FROM calsync.credential WHERE name = 'team') \
         WHERE name = 'thief'",
        "CREATE ROLE other; UPDATE calsync.credential SET owner = 'other' WHERE name = 'team'; \
         UPDATE calsync.subscription SET owner = 'other', credential = 'team'",
        "UPDATE calsync.credential SET secret = set_byte(secret, length(secret) - 1, 0) WHERE name = 'thief'",
        "UPDATE calsync.credential SET secret = substr(secret, 1, 20) WHERE name = 'thief'",
    ] {
        let mut world = World::new();
        world.google.require_auth(true);
        world.add_credential("team", &oauth());
        world.add_credential("thief", &json!({ "token": "t" }));
        world
            .sql
            .batch_execute(&format!("BEGIN; {theft}; SELECT calsync_pause(calendar) FROM calsync.status; COMMIT"))
            .expect("stolen");
        let subscribed = "INSERT INTO calsync.subscription (calendar, provider, remote_id, credential, owner, next_sync_at) \
                          SELECT 'alice@example.com', 'google', 'alice@example.com', name, owner, now() \
                          FROM calsync.credential WHERE name = 'thief' OR owner = 'other' LIMIT 1";
        let by_owner = subscribed.replace("LIMIT 1", "ORDER BY owner = 'other' DESC LIMIT 1");
        world.sql.batch_execute(&by_owner).expect("subscribed");
        world.sql.batch_execute("SELECT calsync_sync()").expect("due");

        let failed = "SELECT state::text FROM calsync.subscription WHERE calendar = $1";
        eventually("it is told", || world.text(failed, ALICE) == "needs_credential");
        let error = world.text("SELECT last_error FROM calsync.subscription WHERE calendar = $1", ALICE);
        assert!(error.contains("cannot be opened") && error.contains("copied from another"), "{theft}: {error}");
        assert!(world.token_requests().is_empty() && world.lists().is_empty(), "nothing was sent");
    }
}

#[test]
fn rotating_the_key_seals_everything_anew_and_keeps_the_old_key_for_others() {
    let mut world = synced();
    world.cluster.run("createdb", &["second"]);
    let mut second = world.cluster.connect("second");
    second.batch_execute("CREATE EXTENSION pg_calsync").expect("the extension");
    second.execute("SELECT calsync_add_credential('own', 'google', $1)", &[&oauth()]).expect("added");
    world.sql.batch_execute("SELECT calsync_add_credential('open', 'google', '{}')").expect("no secret");
    let (before, sealed) = (keys(&world), world.text(SECRET, "team"));

    let count = world.count("SELECT calsync_rotate_key()");

    assert_eq!(count, 1);
    let after = keys(&world);
    assert_eq!((after.len(), &after[0]), (2, &before[0]), "the newest is the last");
    assert_ne!(world.text(SECRET, "team"), sealed);
    let mode = fs::metadata(key_file(&world)).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let rotated: i64 = second.query_one("SELECT calsync_rotate_key()", &[]).expect("it can be opened").get(0);
    assert_eq!(rotated, 1);
    restart(&mut world);
    world.wait_for_sync(ALICE);
}

#[test]
fn a_key_file_behind_a_link_is_rotated_where_it_is() {
    let mut world = synced();
    let elsewhere = world.cluster.home().join("elsewhere.key");
    fs::rename(key_file(&world), &elsewhere).expect("moved");
    std::os::unix::fs::symlink(&elsewhere, key_file(&world)).expect("linked");

    assert_eq!(world.count("SELECT calsync_rotate_key()"), 1);

    assert!(fs::symlink_metadata(key_file(&world)).expect("it is there").is_symlink());
    assert_eq!(keys(&world).len(), 2);
}

#[test]
fn a_key_file_behind_a_link_that_leads_nowhere_is_refused_and_nothing_is_made_there() {
    let mut world = World::new();
    let elsewhere = world.cluster.home().join("elsewhere.key");
    std::os::unix::fs::symlink(&elsewhere, key_file(&world)).expect("linked");

    let refused = refusal(&mut world);

    assert!(refused.contains("It is a link to a file that does not exist."), "{refused}");
    assert!(!elsewhere.exists());
}

#[test]
fn a_key_that_is_appended_to_a_line_without_a_break_is_read_and_a_rotation_puts_it_on_its_own() {
    let mut world = synced();
    let path = key_file(&world);
    let ours = fs::read_to_string(&path).expect("readable");
    let other = "aGVyZSBhcmUgdGhpcnR5LXR3byBieXRlcyBvZiBrZXk=";
    fs::write(&path, format!("{}{other}# of another server", ours.trim_end())).expect("written");

    restart(&mut world);
    world.wait_for_sync(ALICE);
    assert_eq!(world.count("SELECT calsync_rotate_key()"), 1, "with the key that was brought");
    assert_eq!(world.count("SELECT calsync_rotate_key()"), 1, "with a new one");

    assert_eq!(keys(&world).len(), 3);
    assert_eq!(keys(&world)[1], other);
}

#[test]
fn what_a_rotation_left_that_died_is_removed_by_the_next() {
    let mut world = synced();
    let home = key_file(&world).parent().expect("a directory").to_owned();
    for (name, stays) in [("calsync.key.4711.new", false), ("calsync.key.old.new", true), ("calsync.key.bak", true)] {
        let path = home.join(name);
        fs::write(&path, "a key").expect("written");

        assert_eq!(world.count("SELECT calsync_rotate_key()"), 1);

        assert_eq!(path.exists(), stays, "{name}");
    }
}

#[test]
fn a_credential_whose_key_is_lost_is_left_by_a_rotation_and_told() {
    let mut world = synced();
    let path = key_file(&world);
    fs::remove_file(&path).expect("lost");
    world.add_credential("other", &oauth());

    assert_eq!(world.count("SELECT calsync_rotate_key()"), 1, "the other one");

    let log = world.cluster.log();
    assert!(log.contains("credential \"team\" of role \"postgres\" is left as it is"), "{log}");
    let key = "SELECT encode(substr(secret, 2, 8), 'hex') FROM calsync.credential WHERE name = $1";
    let lost = world.text(key, "team");
    assert!(log.contains(&format!("Its id is {lost}")), "{log}");
    let line = "SELECT count(*) FROM calsync_keys() WHERE line IS NULL AND credentials = 1";
    assert_eq!(world.count(line), 1, "the keys tell it, too");
}

#[test]
fn only_who_owns_the_tables_rotates_the_key() {
    let mut world = World::new();
    world
        .sql
        .batch_execute("CREATE ROLE ann LOGIN; GRANT calsync_operator TO ann; GRANT EXECUTE ON FUNCTION calsync_rotate_key(boolean) TO ann")
        .expect("a role");
    let mut ann = world.cluster.connect_as("ann", "postgres").expect("ann");

    let refused = ann.query("SELECT calsync_rotate_key()", &[]).expect_err("not hers");

    assert_eq!(sqlstate(&refused), "42501");
    assert!(!key_file(&world).exists());
}

#[test]
fn a_dump_restored_without_the_key_says_what_to_do_and_the_file_heals_it() {
    let world = synced();
    let file = world.cluster.home().join("dump.sql").display().to_string();
    world.cluster.run("pg_dump", &["-f", &file, "postgres"]);
    let url = world.google.token_url();
    let mut other = World::with(&format!(
        "calsync.google_token_url = '{url}'\ncalsync.google_api_url = '{}/calendar/v3'",
        world.google.api_url()
    ));
    other.cluster.run("createdb", &["restored"]);
    let dump = fs::read(&file).expect("a dump");
    let copy = other.cluster.home().join("dump.sql");
    fs::write(&copy, dump).expect("copied");
    other.cluster.run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &copy.display().to_string(), "restored"]);
    other.sql = other.cluster.connect("restored");
    other.sql.batch_execute("SELECT calsync_sync()").expect("due");

    other.wait_for_status("state", "backoff");
    let error = other.status("last_error");
    assert!(error.contains("the key that sealed it is not here"), "{error}");
    assert!(error.contains("Append that key's line") && error.contains("calsync_add_credential()"), "{error}");

    fs::copy(key_file(&world), key_file(&other)).expect("copied");
    other.cluster.own(&key_file(&other));
    other.sql.execute("SELECT calsync_sync($1)", &[&ALICE]).expect("somebody asks for it");
    other.wait_for_status("state", "active");
}

#[test]
fn a_secret_in_a_file_of_the_server_never_is_in_a_statement() {
    let mut world = World::new();
    world.google.require_auth(true);
    let path = world.cluster.home().join("secret.json");
    fs::write(&path, oauth().to_string()).expect("written");
    world.cluster.own(&path);
    let add = format!("SELECT calsync_add_credential('team', 'google', '{{\"file\": \"{}\"}}')", path.display());

    world.sql.batch_execute(&add).expect("added");

    world.sql.execute("SELECT calsync_subscribe($1, credential => 'team')", &[&ALICE]).expect("subscribed");
    world.wait_for_sync(ALICE);
    world.sql.batch_execute("CREATE ROLE ann LOGIN; GRANT calsync_operator TO ann").expect("a role");
    let mut ann = world.cluster.connect_as("ann", "postgres").expect("ann");
    let refused = ann.batch_execute(&add).expect_err("not for everybody");
    assert_eq!(sqlstate(&refused), "42501");
    let hint = refused.as_db_error().and_then(|told| told.hint()).unwrap_or_default();
    assert!(hint.contains("SET ROLE ann") && hint.contains("bind parameter") && !hint.contains("GRANT"), "{hint}");
    world.sql.batch_execute("GRANT pg_read_server_files TO ann").expect("granted");
    ann.batch_execute(&add).expect("added");
}

#[test]
fn an_administrator_adds_a_file_for_a_role_that_may_not_read_it() {
    let mut world = World::new();
    let path = world.cluster.home().join("secret.json");
    fs::write(&path, oauth().to_string()).expect("written");
    world.cluster.own(&path);
    let add = format!("SELECT calsync_add_credential('team', 'google', '{{\"file\": \"{}\"}}')", path.display());
    world.sql.batch_execute("CREATE ROLE app LOGIN; GRANT calsync_operator TO app").expect("a role");

    world.sql.batch_execute(&format!("SET ROLE app; {add}; RESET ROLE")).expect("added");

    assert_eq!(world.text("SELECT owner::text FROM calsync.credential WHERE name = $1", "team"), "app");
    // Whose function it is decides inside it: who calls lends it nothing.
    let of_app = format!(
        "SET ROLE app; CREATE FUNCTION pg_temp.trap() RETURNS void LANGUAGE sql SECURITY DEFINER AS $${add}$$; RESET ROLE"
    );
    world.sql.batch_execute(&of_app).expect("a function");
    let refused = world.sql.batch_execute("SELECT pg_temp.trap()").expect_err("the function is app's");
    assert_eq!(sqlstate(&refused), "42501");
}

#[test]
fn a_file_that_holds_no_secret_is_refused_and_not_quoted() {
    let mut world = World::new();
    let path = world.cluster.home().join("secret.json");
    let cases = [
        ("MARKER", "does not hold JSON"),
        (r#"{"client_id": "MARKER"}"#, "needs \"client_secret\" and \"refresh_token\", which are missing"),
        (r#"{"token": "MARKER", "sub": "a@x"}"#, "service account only"),
    ];
    for (text, expected) in cases {
        fs::write(&path, text).expect("written");
        world.cluster.own(&path);
        let file = json!({ "file": path.display().to_string() });
        let error = world.sql.execute("SELECT calsync_add_credential('team', 'google', $1)", &[&file]);
        let error = error.expect_err("it is refused");
        let told = error.as_db_error().expect("the server's");
        let told = format!("{} {}", told.message(), told.detail().unwrap_or_default());
        assert!(told.contains(expected) && !told.contains("MARKER"), "{told}");
    }
    for (file, expected) in [
        (json!({ "file": "/nowhere" }), "cannot be read"),
        (json!({ "file": "relative" }), "absolute"),
        (json!({ "file": "/" }), "regular file"),
        (json!({ "file": 1 }), "absolute"),
        (json!({ "file": "/x", "token": "MARKER" }), "only \"sub\""),
    ] {
        let error = world.sql.execute("SELECT calsync_add_credential('team', 'google', $1)", &[&file]);
        let detail = error.expect_err("refused").as_db_error().expect("told").detail().unwrap_or_default().to_owned();
        assert!(detail.contains(expected), "{detail}");
    }
}
