//! Secrets appear nowhere: markers are planted in every shape, every error is driven, and then everything that the
//! server shows or writes down is searched for them.

use std::fs;

use calsync_integration::markers::{
    MARKER, assert_clean, assert_nothing_shows, everything_shown_to, needles, oauth, process_titles, shapes, talkative,
};
use calsync_integration::{ALICE, Cluster, ServiceAccountKey, World, eventually, sqlstate};
use fake_google::{Action, Fault};
use serde_json::json;

/// Every way in which the token URL and the calendar can fail, one after the other. Those that repeat what they were
/// sent do so after more or fewer words, so that the secret stands where messages are cut, too.
fn faults() -> Vec<Fault> {
    let echo = |status, words: usize, as_page| Fault::new(Action::Echo { status, words: "x".repeat(words), as_page });
    let cut = (0..8).flat_map(|n| [echo(400, 130 + 20 * n, false), echo(403, 270 + 20 * n, false)]);
    let others = [
        echo(200, 0, false),
        echo(200, 0, true),
        echo(400, 0, false),
        echo(401, 0, false),
        echo(403, 0, true),
        echo(500, 0, true),
        Fault::error(429, "rateLimitExceeded"),
        Fault::new(Action::CutBefore),
        Fault::new(Action::CutAfter { bytes: 30 }),
        Fault::new(Action::Truncate { bytes: 10 }),
        Fault::new(Action::Hang { bytes: 0 }),
    ];
    cut.chain(others).collect()
}

/// Calls that fail, with the marker in them, as literals. Some never reach the function.
fn bad_calls() -> Vec<String> {
    let call = |secret: &str| format!("SELECT calsync_add_credential('bad', 'google', '{secret}')");
    let bad = [
        format!("{{\"client_secret\": \"{MARKER}\""),
        format!("{{\"client_secret\": {MARKER}}}"),
        MARKER.to_owned(),
        format!("\"{MARKER}\""),
        format!("[\"{MARKER}\"]"),
        format!("{{\"{MARKER}\": \"{MARKER}\"}}"),
        format!("{{\"client_id\": \"{MARKER}\", \"client_secret\": 1, \"refresh_token\": \"{MARKER}\"}}"),
        format!("{{\"client_id\": \"{MARKER}\", \"refreshtoken\": \"{MARKER}\"}}"),
        format!("{{\"token\": \"{MARKER} \"}}"),
        format!("{{\"private_key\": \"{MARKER}\", \"client_email\": \"x\"}}"),
        format!("{{\"private_key\": \"-----BEGIN PRIVATE KEY-----{MARKER}\", \"client_email\": \"x\"}}"),
        format!("{{\"file\": \"/nowhere/{MARKER}\"}}"),
        "[".repeat(1000) + MARKER + &"]".repeat(1000),
    ];
    let mut calls: Vec<String> = bad.iter().map(|secret| call(secret)).collect();
    calls.extend([
        format!("SELECT calsync_add_credential('bad', 'nobody', '{{\"token\": \"{MARKER}\"}}')"),
        format!("SELECT calsync_add_credential('', 'google', '{{\"token\": \"{MARKER}\"}}')"),
        format!("SELECT calsync_add_credential(1, 'google', '{{\"token\": \"{MARKER}\"}}', true)"),
        format!("SELECT calsync_add_credential('bad', 'google', '{{\"token\": \"{MARKER}\"}}'::int)"),
        format!("SELECT calsync_add_credential('bad', 'google', {MARKER})"),
        format!("SELECT calsync_add_credential('bad', 'google', '{{\"token\": \"{MARKER}\"}}"),
        format!("SELECT calsync_add_credential('bad' 'google', \"{MARKER}\" {MARKER})"),
        format!("SELECT calsync_add_credential('bad', 'google', jsonb_build_object('token', \"ya29.{MARKER}\"))"),
        format!(
            "SELECT calsync_add_credential('bad', 'google', jsonb_build_object('token', current_setting('{MARKER}')))"
        ),
        format!("SELECT calsync_add_credential('bad', 'google', to_jsonb('{MARKER}'::regrole::text))"),
        format!("SELECT calsync_add_credential('bad', 'google', to_jsonb(convert_from('x', '{MARKER}')))"),
        format!("DO $$ BEGIN PERFORM calsync_add_credential('bad', 'google', '{{\"tokem\": \"{MARKER}\"}}'); END $$"),
        format!("SELECT pg_temp.connect('{{\"client_secret\": \"{MARKER}\"}}')"),
        format!("SELECT pg_temp.connect('{{\"client_secret\": {MARKER}}}')"),
    ]);
    calls
}

/// An application's own function, which builds the statement from what it is given.
const CONNECT: &str = "CREATE FUNCTION pg_temp.connect(secret text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN \
     EXECUTE format('SELECT calsync_add_credential(''bad'', ''google'', %L)', secret); END $$";

/// One of two sessions adds a credential, the other is the victim whose error tells of it.
fn deadlock(cluster: &Cluster) {
    let mut first = cluster.connect("postgres");
    first.batch_execute("CREATE TABLE pair AS SELECT generate_series(1, 2) AS id").expect("two rows");
    let mut second = cluster.connect("postgres");
    second
        .batch_execute("SET deadlock_timeout = '20ms'; BEGIN; SELECT FROM pair WHERE id = 2 FOR UPDATE")
        .expect("held");
    let call = format!(
        "SET deadlock_timeout = '1min'; BEGIN; SELECT FROM pair WHERE id = 1 FOR UPDATE; SELECT FROM pair WHERE id = 2 FOR UPDATE; \
         SELECT calsync_add_credential('bearer', 'google', '{{\"token\": \"{MARKER}\"}}'); COMMIT"
    );
    let caller = std::thread::spawn(move || first.batch_execute(&call));
    eventually("it waits for the other", || {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        cluster.connect("postgres").query_one(waits, &[]).expect("locks").get::<_, i64>(0) > 0
    });
    assert!(second.batch_execute("SELECT FROM pair WHERE id = 1 FOR UPDATE").is_err());
    second.batch_execute("ROLLBACK").expect("ended");
    caller.join().expect("no panic").expect("added");
    assert!(cluster.log().contains("deadlock detected"), "the log tells of it");
}

#[test]
fn no_secret_is_found_in_anything_that_the_server_shows_or_writes_down() {
    let mut world = talkative(&[]);
    let key = ServiceAccountKey::generate("robot@project.example");
    let needles = needles(&key);

    // Every shape, by a bind parameter, with two calendars each, and every fault for each of them.
    for (name, secret) in shapes(&key) {
        world.add_credential(name, &secret);
        world.others(&[&format!("{name}1@x"), &format!("{name}2@x")], Some(name));
    }
    for (path, touched) in [("/token", 4), ("/events", 6)] {
        for fault in faults() {
            world.google.add_fault(fault.always().on_path(path));
            let last = world.count("SELECT coalesce(max(run_id), 0) FROM calsync.sync_run");
            // Replaced, they are tried anew, whatever went wrong before.
            for (name, secret) in shapes(&key) {
                world.add_credential(name, &secret);
            }
            world.sql.batch_execute("SELECT calsync_sync()").expect("due");
            let failed = format!(
                "SELECT count(DISTINCT s.credential) FROM calsync.sync_run AS r \
                 JOIN calsync.subscription AS s USING (subscription_id) \
                 WHERE r.run_id > {last} AND r.outcome = 'failed' AND r.error <> ''"
            );
            eventually("a calendar of each has failed", || world.count(&failed) >= touched);
            assert_clean("a table", &everything_shown_to(&mut world.sql), &needles);
            world.google.clear_faults();
        }
    }
    // Calls that fail, as literals; after each, the session still shows what it did last.
    let mut session = world.cluster.connect("postgres");
    session.batch_execute(CONNECT).expect("a function");
    for call in bad_calls() {
        let error = session.batch_execute(&call).expect_err(&call.replace(MARKER, "…"));
        let told = error.as_db_error().expect("the server's");
        if told.code().code().starts_with("SC") {
            let told = format!("{} {:?} {:?}", told.message(), told.detail(), told.hint());
            assert_clean("an error", &told, &needles);
        }
        if call.contains("calsync_add_credential") {
            assert_clean("pg_stat_activity", &everything_shown_to(&mut world.sql), &needles);
        }
    }
    // The same by the extended protocol, whose steps a talkative log tells.
    for call in bad_calls().into_iter().filter(|call| call.contains("calsync_add_credential")) {
        assert!(session.execute(&call, &[]).is_err());
    }
    // Of two that wait for each other, the log tells what both were doing.
    deadlock(&world.cluster);
    // A call that works and takes its time, as a literal.
    let mut slow = world.cluster.connect("postgres");
    let mut open = world.cluster.connect("postgres");
    open.batch_execute("BEGIN; SELECT FROM calsync.credential FOR UPDATE").expect("locked");
    let call = format!("SELECT calsync_add_credential('bearer', 'google', '{{\"token\": \"{MARKER}\"}}')");
    let waiting = std::thread::spawn(move || slow.batch_execute(&call).map(|()| slow));
    eventually("it waits for the row", || {
        world.count("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") > 0
    });
    assert_clean("pg_stat_activity", &everything_shown_to(&mut world.sql), &needles);
    assert_clean("a process title", &process_titles(), &needles);
    open.batch_execute("COMMIT").expect("free");
    let _slow = waiting.join().expect("no panic").expect("added");
    // The key file, damaged.
    let path = world.cluster.home().join("data/calsync.key");
    let good = fs::read(&path).expect("a key file");
    fs::write(&path, MARKER).expect("damaged");
    assert!(world.sql.execute("SELECT calsync_add_credential('oauth', 'google', $1)", &[&oauth()]).is_err());
    assert!(world.sql.execute("SELECT calsync_rotate_key()", &[]).is_err());
    fs::write(&path, good).expect("mended");
    world.sql.execute("SELECT calsync_rotate_key()", &[]).expect("rotated");

    assert_nothing_shows(&world, &needles);
}

#[test]
fn a_password_that_a_provider_repeats_escaped_for_html_is_not_shown() {
    let mut world = World::new();
    world.add_credential("gate", &json!({ "username": "gate", "password": "hunter2&<secret>\"very\"long" }));
    let message = "wrong password hunter2&amp;&lt;secret&gt;&quot;very&quot;long";
    let body =
        json!({ "error": { "code": 403, "message": message, "errors": [{ "reason": "forbidden" }] } }).to_string();
    let refusal = Action::Body { status: 403, content_type: "application/json".into(), body, headers: Vec::new() };
    world.google.add_fault(Fault::new(refusal).on_path("/events").always());

    world.sql.execute("SELECT calsync_subscribe($1, credential => 'gate')", &[&ALICE]).expect("subscribed");

    eventually("it is refused", || !world.status("last_error").is_empty());
    let told = world.status("last_error");
    assert!(told.contains("wrong password ***") && !told.contains("hunter2"), "{told}");
    assert!(!world.cluster.log().contains("hunter2"));
}

/// Whoever mixes up the arguments of a call.
#[test]
fn a_secret_that_is_given_as_a_name_is_neither_taken_nor_shown() {
    let mut world = World::with("calsync.enabled = off\nlog_parameter_max_length_on_error = -1");
    let mut session = world.cluster.connect("postgres");
    let secret = format!("{{\"token\": \"{MARKER}\"}}");
    let mut calls: Vec<String> = Vec::new();
    for name in
        [&secret, &format!(" \n{secret}"), &format!("[{secret}]"), &format!("\"{MARKER}\""), &format!("{MARKER}\n=")]
    {
        calls.extend([
            format!("SELECT calsync_add_credential('{name}', 'google', '1')"),
            format!("SELECT calsync_add_credential('{name}', 'google', '{{}}')"),
            format!("SELECT calsync_add_credential('{name}', 'google', 'my name')"),
            format!("SELECT calsync_add_credential('{name}', 'my name', '{{}}')"),
            format!("SELECT calsync_subscribe('a@x', credential => '{name}')"),
            format!("SELECT calsync_subscribe('a@x', 'none', '{name}')"),
            format!("SELECT calsync_subscribe('a@x', 'nobody', '{name}')"),
            format!("DO $$ BEGIN PERFORM calsync_subscribe('a@x', credential => '{name}'); END $$"),
        ]);
    }
    calls.push(format!("SELECT calsync_subscribe('a@x', credential => '{}')", MARKER.repeat(100)));
    let shown = "SELECT string_agg(query, ' ') FROM pg_stat_activity WHERE pid <> pg_backend_pid()";

    for call in calls {
        let error = session.batch_execute(&call).expect_err(&call);

        assert!(["22023", "22P02"].contains(&sqlstate(&error).as_str()), "{error:?}");
        let told = error.as_db_error().expect("the server's");
        let told = format!("{} {:?} {:?}", told.message(), told.detail(), told.hint());
        assert_clean("an error", &told, &[MARKER.to_owned()]);
        let activity: String = world.sql.query_one(shown, &[]).expect("activity").get(0);
        assert_clean("pg_stat_activity", &activity, &[MARKER.to_owned()]);
    }
    assert!(session.execute("SELECT calsync_add_credential($1, 'google', '{}')", &[&secret]).is_err());
    assert!(session.execute("SELECT calsync_subscribe('a@x', credential => $1)", &[&secret]).is_err());
    assert_clean("the log", &world.cluster.log(), &[MARKER.to_owned()]);
    assert_eq!(world.count("SELECT (SELECT count(*) FROM calsync.credential) + count(*) FROM calsync.subscription"), 0);
}

/// A credential that was called so before such names were refused.
#[test]
fn a_secret_that_became_a_name_can_be_dropped_and_is_not_shown_on_the_way() {
    let mut world = World::with("calsync.enabled = off");
    world.add_credential("team", &json!({}));
    world.others(&["a@x"], Some("team"));
    let name = format!("{{\"token\": \"{MARKER}\"}}");
    world.sql.execute("UPDATE calsync.subscription SET credential = NULL", &[]).expect("altered");
    world.sql.execute("UPDATE calsync.credential SET name = $1", &[&name]).expect("altered");
    world.sql.execute("UPDATE calsync.subscription SET credential = $1", &[&name]).expect("altered");
    let mut session = world.cluster.connect("postgres");
    let drop = format!("SELECT calsync_drop_credential('{name}')");

    let error = session.batch_execute(&drop).expect_err("it is in use");
    world.sql.batch_execute("SELECT calsync_unsubscribe('a@x')").expect("unsubscribed");
    session.batch_execute(&drop).expect("dropped");

    assert_eq!(error.as_db_error().expect("the server's").message(), "this credential is in use");
    assert_eq!(world.count("SELECT count(*) FROM calsync.credential"), 0);
    let shown = "SELECT string_agg(query, ' ') FROM pg_stat_activity WHERE pid <> pg_backend_pid()";
    let activity: String = world.sql.query_one(shown, &[]).expect("activity").get(0);
    assert_clean("pg_stat_activity", &activity, &[MARKER.to_owned()]);
    assert_clean("the log", &world.cluster.log(), &[MARKER.to_owned()]);
}

/// What the log shows of an error whose statement names the function, but for our own errors, which hold no secret.
fn shows_nothing(message: &str) -> bool {
    let ours = [
        "the secret of credential ",
        "name must have between 1 and ",
        "this cannot be the name of a credential",
        "the provider of a credential must be 'google'",
        "permission denied to read a file",
    ];
    let hidden = "Hidden: the statement names calsync_add_credential.";
    ours.iter().chain([&hidden]).any(|ours| message.starts_with(ours))
}

/// In each language a message quotes otherwise: none of it stays, whatever it is. The catalogs come with Debian's Postgres; the
/// locale need not be there.
#[test]
fn nothing_of_an_error_over_a_secret_is_logged_in_any_language() {
    for (language, error, wrong) in [
        ("C", "ERROR", "invalid input syntax"),
        ("de", "FEHLER", "ungültige Eingabesyntax"),
        ("fr", "ERREUR", "syntaxe en entrée invalide"),
    ] {
        let configuration = "lc_messages = 'C.UTF-8'\nlog_min_messages = debug5";
        let world = World::in_environment(&[("LANGUAGE", language)], configuration);
        let mut session = world.cluster.connect("postgres");
        let told = session.batch_execute("SELECT 'a literal'::int").expect_err("no number");
        if !told.as_db_error().is_some_and(|told| told.message().contains(wrong)) {
            assert_ne!(language, "C", "{told:?}");
            println!("NOT TESTED: the Postgres of this machine does not speak {language}");
            continue;
        }
        let before = world.cluster.log().len();
        let calls: Vec<String> =
            bad_calls().into_iter().filter(|call| call.contains("calsync_add_credential")).collect();

        for call in &calls {
            assert!(session.batch_execute(call).is_err());
            assert!(session.execute(call, &[]).is_err());
        }

        let log = world.cluster.log().split_off(before);
        assert_clean("the log", &log, &[MARKER.to_owned()]);
        let mark = format!(" client backend {error}:  ");
        let errors: Vec<&str> =
            log.lines().filter_map(|line| line.split_once(&mark)).map(|(_, message)| message).collect();
        assert_eq!(errors.len(), 2 * calls.len(), "{language}: {errors:?}");
        let shown: Vec<&&str> = errors.iter().filter(|message| !shows_nothing(message)).collect();
        assert_eq!(shown, Vec::<&&str>::new(), "{language}");
    }
}

#[test]
fn bind_parameters_are_not_logged_even_where_every_statement_is() {
    let mut world = World::with("log_statement = all\nlog_min_duration_statement = 0");

    world.add_credential("team", &oauth());
    let bad = world.sql.execute("SELECT calsync_add_credential('team', 'nobody', $1)", &[&oauth()]);

    assert!(bad.is_err());
    let log = world.cluster.log();
    assert!(log.contains("SELECT calsync_add_credential($1, 'google', $2)"), "the statement itself is the audit's");
    assert_clean("the log", &log, &[MARKER.to_owned()]);
}

#[test]
fn other_statements_are_logged_as_ever() {
    let mut world = World::with("log_statement = all");
    let failing = "SELECT 'a literal'::int";

    assert!(world.sql.batch_execute(failing).is_err());

    let log = world.cluster.log();
    assert!(log.contains("invalid input syntax for type integer: \"a literal\""), "{log}");
    assert!(log.contains(&format!("STATEMENT:  {failing}")), "{log}");
}

/// What docs/google.md has a newcomer type into psql, with the files where they are.
fn typed(page: &str, beginning: &str) -> String {
    let from = page.find(beginning).expect("the page says so");
    let lines = page[from..].lines().take_while(|line| !line.trim().starts_with("```"));
    lines.map(|line| format!("{}\n", line.trim())).collect()
}

#[test]
fn a_key_file_goes_through_a_temporary_table_as_documented_and_through_no_statement() {
    let mut world = World::with("log_statement = all\nlog_min_duration_statement = 0");
    world.google.require_auth(true);
    let key = ServiceAccountKey::generate("robot@project.example");
    world.google.register_key(&key.email, key.public_key.clone());
    let file = world.cluster.home().join("robot.json");
    fs::write(&file, serde_json::to_string_pretty(&key.file(None)).expect("JSON")).expect("written");
    world.cluster.own(&file);
    let script = world.cluster.home().join("script.sql");
    let page = include_str!("../../../../docs/google.md");
    let page = page.replace("robot.json'", &format!("{}'", file.display()));
    fs::write(&script, typed(&page, "CREATE TEMP TABLE pasted")).expect("written");

    let script = script.display().to_string();
    world.cluster.run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &script, "postgres"]);

    world.others(&["a@x"], Some("robot"));
    world.wait_for_sync("a@x");
    let log = world.cluster.log();
    assert!(log.contains("calsync_add_credential('robot'"), "the statement is logged as ever");
    assert_clean("the log", &log, &needles(&key));
}
