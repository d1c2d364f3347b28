//! Trouble with our own key file is no refusal by the provider: told for what it is, to whom it concerns, and soon over.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use calsync_integration::{World, eventually, sqlstate};
use fake_google::Fault;
use postgres::Client;
use serde_json::{Value, json};

const TEAM: [&str; 3] = ["a@x", "b@x", "c@x"];

fn oauth() -> Value {
    json!({ "client_id": "app", "client_secret": "secret", "refresh_token": "1//alice" })
}

fn key_file(world: &World) -> PathBuf {
    world.cluster.home().join("data/calsync.key")
}

fn set_mode(world: &World, mode: u32) {
    fs::set_permissions(key_file(world), fs::Permissions::from_mode(mode)).expect("the mode can be set");
}

/// The role `app` has three calendars with the credential `team`, synced, and has shared `a@x` with the role `guest`.
/// Then others could read the key file when the worker was started again.
fn in_trouble() -> World {
    let mut world = World::new();
    world.google.require_auth(true);
    world
        .sql
        .batch_execute(
            "CREATE ROLE app LOGIN; GRANT calsync_operator TO app; CREATE ROLE guest LOGIN; GRANT calsync_reader TO guest; \
             SET ROLE app",
        )
        .expect("roles");
    world.add_credential("team", &oauth());
    world.others(&TEAM, Some("team"));
    world
        .sql
        .batch_execute(
            "SELECT calsync_share('a@x', 'guest'); SET ROLE guest; SELECT calsync_accept_share('a@x'); RESET ROLE",
        )
        .expect("shared");
    for calendar in TEAM {
        world.wait_for_sync(calendar);
    }
    set_mode(&world, 0o644);
    world.cluster.stop("fast");
    world.cluster.start_again();
    world.sql = world.cluster.connect("postgres");
    world.google.clear_log();
    world.sql.batch_execute("SELECT calsync_sync()").expect("due");
    let noticed = "SELECT count(*) FROM calsync.credential WHERE unopened_at IS NOT NULL AND NOT EXISTS ( \
                       SELECT FROM calsync.subscription WHERE leased_until IS NOT NULL)";
    eventually("it is noticed", || world.count(noticed) == 1);
    world
}

fn as_role(world: &World, role: &str) -> Client {
    world.cluster.connect_as(role, "postgres").expect(role)
}

fn text(sql: &mut Client, query: &str) -> String {
    sql.query_one(query, &[]).expect("a row").get::<_, Option<String>>(0).unwrap_or_default()
}

#[test]
fn trouble_with_the_key_file_refuses_no_credential_and_says_when_the_next_try_is() {
    let mut world = in_trouble();

    let credential = "SELECT count(*) FROM calsync.credential \
                      WHERE refused_at IS NULL AND retry_at BETWEEN now() AND now() + interval '1 minute'";
    eventually("it is tried again within a minute", || world.count(credential) == 1);
    let calendars = "SELECT count(*) FROM calsync.status WHERE state = 'backoff' AND next_sync_at > now() \
                         AND next_sync_at < now() + interval '1 minute' AND last_error LIKE '%chmod 0600%'";
    eventually("each says so", || world.count(calendars) == 3);
    let health = text(&mut as_role(&world, "app"), "SELECT calsync_health()->>'problems'");
    assert!(health.contains("3 not asked") && health.contains("chmod 0600"), "{health}");
    assert!(!health.contains("refused by the provider"), "{health}");
    assert!(world.google.log().is_empty(), "nobody was asked");
}

#[test]
fn a_mended_key_file_brings_calendars_back_by_itself() {
    let mut world = in_trouble();

    set_mode(&world, 0o600);
    let a_minute_passes = "UPDATE calsync.credential SET retry_at = now(); \
                           UPDATE calsync.subscription SET next_sync_at = now() WHERE next_sync_at < now() + interval '1 minute'";
    world.sql.batch_execute(a_minute_passes).expect("later");
    world.cluster.reconfigure("");

    for calendar in TEAM {
        world.wait_for_sync(calendar);
    }
    let trouble = "SELECT count(*) FROM calsync.credential WHERE unopened_at IS NOT NULL OR last_error IS NOT NULL";
    assert_eq!(world.count(trouble), 0);
}

#[test]
fn a_credential_that_can_be_opened_again_lets_others_go_on_though_the_first_of_them_fails() {
    let mut world = in_trouble();
    world.google.add_fault(Fault::error(503, "backendError").on_calendar("a@x").always());
    set_mode(&world, 0o600);

    world.sql.batch_execute("SELECT calsync_sync('a@x')").expect("asked for");

    for calendar in ["b@x", "c@x"] {
        let state = "SELECT state::text FROM calsync.subscription WHERE calendar = $1";
        eventually("the others are synced", || world.text(state, calendar) == "active");
    }
    let error = "SELECT last_error FROM calsync.subscription WHERE calendar = $1";
    eventually("it fails for a reason of its own", || world.text(error, "a@x").contains("503"));
    assert_eq!(world.count("SELECT count(*) FROM calsync.credential WHERE unopened_at IS NOT NULL"), 0);
}

#[test]
fn asking_for_a_calendar_brings_it_back_as_soon_as_the_key_file_is_mended() {
    for wish in ["SELECT calsync_sync('b@x')", "SELECT calsync_sync()"] {
        let mut world = in_trouble();
        world
            .sql
            .batch_execute("UPDATE calsync.credential SET retry_at = now() + interval '1 hour'")
            .expect("a long wait");
        set_mode(&world, 0o600);

        world.sql.batch_execute(wish).expect("asked for");

        for calendar in TEAM {
            world.wait_for_sync(calendar);
        }
    }
}

#[test]
fn trouble_that_lasts_is_written_into_history_once() {
    let mut world = in_trouble();
    let tries = "SELECT max(failures)::bigint FROM calsync.subscription";
    for _ in 0..3 {
        let before = world.count(tries);
        world.sql.batch_execute("SELECT calsync_sync('a@x')").expect("asked for");
        eventually("it is tried", || {
            world.count(tries) > before
                || world.count("SELECT failures::bigint FROM calsync.subscription WHERE calendar = 'a@x'") > before
        });
    }

    let told = "SELECT max(count) FROM (SELECT count(*) FROM calsync.sync_run WHERE outcome = 'failed' \
                    GROUP BY subscription_id) AS each";
    assert_eq!(world.count(told), 1);
}

#[test]
fn a_rate_limit_is_not_overruled_and_who_asks_is_told_until_when() {
    let mut world = World::new();
    world.sql.batch_execute("SELECT calsync_add_credential('team', 'google', '{}')").expect("a credential");
    world.others(&["a@x"], Some("team"));
    world.wait_for_sync("a@x");
    let limited = "UPDATE calsync.credential SET retry_at = '2100-01-01', failures = 1, last_error = '429'";
    world.sql.batch_execute(limited).expect("limited");
    world.cluster.reconfigure("log_min_messages = notice");
    eventually("it is reloaded", || text(&mut world.cluster.connect("postgres"), "SHOW log_min_messages") == "notice");
    world.sql = world.cluster.connect("postgres");

    world.sql.batch_execute("SELECT calsync_sync('a@x')").expect("asked for");

    let log = world.cluster.log();
    assert!(log.contains("calendar \"a@x\" is not asked for before 2100-01-01"), "{log}");
    assert_eq!(world.count("SELECT count(*) FROM calsync.credential WHERE retry_at = '2100-01-01'"), 1);
}

#[test]
fn where_the_key_file_is_only_superusers_are_told() {
    let mut world = World::new();
    let home = world.cluster.home().display().to_string();
    world.cluster.reconfigure(&format!("calsync.key_file = '{home}/the.key'"));
    eventually("it is reloaded", || {
        text(&mut world.cluster.connect("postgres"), "SHOW calsync.key_file").contains("the.key")
    });
    world.sql = world.cluster.connect("postgres");
    world.sql.batch_execute("CREATE ROLE app LOGIN; GRANT calsync_operator TO app").expect("a role");
    let mut app = as_role(&world, "app");
    fs::write(format!("{home}/the.key"), "no key\n").expect("a damaged file");
    let path = PathBuf::from(format!("{home}/the.key"));
    world.cluster.own(&path);
    let told = |sql: &mut Client| {
        let refused =
            sql.execute("SELECT calsync_add_credential('c', 'google', $1)", &[&oauth()]).expect_err("refused");
        assert_eq!(sqlstate(&refused), "SC006");
        let told = refused.as_db_error().expect("the server's").clone();
        [told.message(), told.detail().unwrap_or_default(), told.hint().unwrap_or_default()].join("\n")
    };
    let at_mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("the mode can be set");

    for mode in [0o600, 0o644] {
        at_mode(mode);
        let (superuser, operator) = (told(&mut world.sql), told(&mut app));
        assert!(superuser.contains("the.key"), "{superuser}");
        assert!(!operator.contains("the.key") && operator.contains("key file"), "{operator}");
        world.sql.batch_execute("SET ROLE app").expect("the role");
        assert_eq!(told(&mut world.sql), operator);
        world.sql.batch_execute("RESET ROLE").expect("the role");
    }
    let definer = "CREATE FUNCTION add() RETURNS void LANGUAGE sql SECURITY DEFINER AS \
                   $$SELECT calsync_add_credential('c', 'google', '{\"token\": \"t\"}')$$; \
                   GRANT EXECUTE ON FUNCTION add() TO app";
    world.sql.batch_execute(definer).expect("a function of a superuser's");
    let refused = app.batch_execute("SELECT add()").expect_err("refused");
    assert!(!format!("{refused:?}").contains("the.key"), "{refused:?}");
}

#[test]
fn what_is_stored_of_it_names_no_file_also_where_a_superuser_syncs() {
    let mut world = in_trouble();
    let home = world.cluster.home().display().to_string();
    world.cluster.reconfigure(&format!("calsync.enabled = off\ncalsync.key_file = '{home}/data/calsync.key'"));
    eventually("it is reloaded", || {
        text(&mut world.cluster.connect("postgres"), "SHOW calsync.key_file").contains(&home)
    });
    world.sql = world.cluster.connect("postgres");
    world.cluster.reconfigure("calsync.enabled = on\ncalsync.databases = ''");
    eventually("no worker runs", || {
        world.count("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker'") == 0
    });
    eventually("it is on", || text(&mut world.cluster.connect("postgres"), "SHOW calsync.enabled") == "on");
    world.sql = world.cluster.connect("postgres");
    world.sql.batch_execute("UPDATE calsync.credential SET last_error = NULL; SELECT calsync_sync()").expect("due");

    world.sql.batch_execute("CALL calsync_run()").expect("a run");

    let stored = text(&mut world.sql, "SELECT last_error FROM calsync.credential");
    assert!(stored.contains("chmod 0600") && !stored.contains(&home), "{stored}");
}

#[test]
fn a_guest_is_not_told_what_is_wrong_with_the_owners_credential() {
    let mut world = in_trouble();
    let mut guest = as_role(&world, "guest");
    eventually("its owner is told", || {
        text(&mut as_role(&world, "app"), "SELECT last_error FROM calsync.status WHERE calendar = 'a@x'")
            .contains("chmod")
    });

    let row = guest.query_one("SELECT state::text, last_error, push_error FROM calsync.status", &[]).expect("a@x");

    assert_eq!(row.get::<_, String>(0), "backoff");
    assert_eq!((row.get::<_, Option<String>>(1), row.get::<_, Option<String>>(2)), (None, None));
    let health = text(&mut guest, "SELECT calsync_health()::text");
    assert!(!health.contains("chmod") && !health.contains("team"), "{health}");
    world
        .sql
        .batch_execute("UPDATE calsync.subscription SET synced_at = '2020-01-01', last_error = 'of team'")
        .expect("old");
    let question = "SELECT calsync_is_free(tstzrange(now(), now() + interval '1 hour'), '{a@x}')";
    let told = |sql: &mut Client| format!("{:?}", sql.batch_execute(question).expect_err("stale"));
    assert!(told(&mut as_role(&world, "app")).contains("of team"), "the owner is");
    let told = told(&mut guest);
    assert!(told.contains("stale") && !told.contains("of team"), "{told}");
    let coverage = text(&mut guest, "SELECT string_agg(c::text, ' ') FROM calsync_coverage() AS c");
    assert!(!coverage.contains("of team"), "{coverage}");
}
