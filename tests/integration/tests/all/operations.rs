//! What an operator and his monitor look at.

use calsync_integration::items::meeting;
use calsync_integration::{ALICE, Fed, World, eventually};
use fake_google::Fault;
use serde_json::{Value, json};

fn health(sql: &mut postgres::Client) -> Value {
    sql.query_one("SELECT calsync_health()", &[]).expect("calsync_health").get(0)
}

fn problems(health: &Value) -> Vec<&str> {
    let problems = health["problems"].as_array().expect("a list");
    assert!(problems.iter().all(|problem| problem["hint"].as_str().is_some_and(|hint| !hint.is_empty())));
    problems.iter().filter_map(|problem| problem["problem"].as_str()).collect()
}

#[test]
fn a_world_in_order_is_healthy() {
    let mut world = World::synced();

    let health = health(&mut world.sql);

    assert_eq!(health["ok"], json!(true), "{health:#}");
    assert_eq!(health["worker_running"], json!(true));
    assert_eq!(health["calendars"]["active"], json!(1));
    assert_eq!(health["calendars"]["backoff"], json!(0));
    assert_eq!((&health["stale"], &health["never_synced"], &health["due"]), (&json!(0), &json!(0), &json!(0)));
    assert!(health["oldest_synced_at"].is_string() && health["oldest_due"].is_null());
}

#[test]
fn what_is_wrong_is_named_with_a_hint() {
    let mut world = World::synced();
    world.google.add_fault(Fault::error(500, "backendError").always());
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    world.wait_for_status("state", "backoff");
    world.cluster.reconfigure("calsync.enabled = off");
    world
        .sql
        .batch_execute("UPDATE calsync.subscription SET synced_at = now() - interval '2 days'")
        .expect("time passes");
    eventually("the setting has arrived", || !health(&mut world.sql)["enabled"].as_bool().unwrap_or_default());

    let health = health(&mut world.sql);

    assert_eq!(health["ok"], json!(false));
    assert_eq!(
        problems(&health),
        [
            "calsync.enabled is off: no provider is asked",
            "1 stale or gone: questions about them fail (SC003)",
            "1 failing, tried again at next_sync_at"
        ]
    );
}

#[test]
fn a_database_without_a_worker_says_so() {
    let mut fed = Fed::with("calsync.databases = 'nowhere'");

    assert_eq!(problems(&health(&mut fed.sql)), ["no worker runs in this database"]);

    let standby = fed.cluster.standby();
    let health = health(&mut standby.connect("postgres"));
    assert_eq!((&health["ok"], &health["standby"]), (&json!(true), &json!(true)), "none is missed on a standby");
}

#[test]
fn rounds_under_way_are_seen_page_by_page() {
    let mut fed = Fed::new();
    let progress = "SELECT calendar, full_sync, fed_by_application, pages, events FROM calsync.progress";
    for (page, keys) in
        [(1, json!({"pageToken": null, "nextPageToken": "p2"})), (2, json!({"pageToken": "p2", "nextPageToken": "p3"}))]
    {
        let items = [
            meeting(&format!("a{page}"), page, "08:00", "09:00"),
            meeting(&format!("b{page}"), page, "10:00", "11:00"),
        ];
        fed.apply(&calsync_integration::envelope("room", &items, keys));
        let row = fed.sql.query_one(progress, &[]).expect("a round");
        assert_eq!((row.get::<_, &str>(0), row.get::<_, bool>(1), row.get::<_, bool>(2)), ("room", true, true));
        assert_eq!((i64::from(row.get::<_, i32>(3)), row.get::<_, i64>(4)), (page, 2 * page));
    }

    fed.apply(&calsync_integration::envelope("room", &[], json!({"pageToken": "p3", "nextSyncToken": "t1"})));

    assert!(fed.sql.query(progress, &[]).expect("readable").is_empty());
}

#[test]
fn how_it_goes_with_a_provider_is_counted() {
    let mut world = World::synced();
    world.google.add_fault(Fault::error(500, "backendError"));
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    eventually("it has failed once and recovered", || {
        world.count("SELECT failures FROM calsync.stat_provider") == 1 && world.status("state") == "active"
    });

    let row = world
        .sql
        .query_one(
            "SELECT provider, calendars, runs, full_syncs, last_failure, last_failure_at IS NOT NULL, \
                 average_duration > '0' FROM calsync.stat_provider",
            &[],
        )
        .expect("one provider");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), ("google", 1, 2));
    assert_eq!(row.get::<_, i64>(3), 1, "the first sync was full");
    assert!(row.get::<_, &str>(4).contains("500"), "{}", row.get::<_, &str>(4));
    assert!(row.get::<_, bool>(5) && row.get::<_, bool>(6));
    assert_eq!(world.text("SELECT calendar FROM calsync.status WHERE calendar = $1", ALICE), ALICE);
}

#[test]
fn a_worker_tells_what_it_does() {
    let mut world = World::synced();
    world.sync();
    let line = "SELECT count(*) FROM calsync.stat_worker AS w JOIN pg_stat_activity AS a USING (pid) \
        WHERE w.database = 'postgres' AND a.backend_type = 'pg_calsync worker' AND w.requests = 2 AND w.answers = 2 \
            AND w.failures = 0 AND w.under_way = 0 AND w.width > 4 AND w.last_answer_at BETWEEN w.started_at AND now()";
    eventually("it says so", || world.count(line) == 1);

    world.google.add_fault(Fault::error(503, "backendError"));
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");

    eventually("a failure counts", || world.count("SELECT failures FROM calsync.stat_worker") == 1);
}

#[test]
fn a_worker_tells_which_configuration_it_goes_by() {
    let mut world = World::synced();
    let asked = "SELECT now()::text, pg_reload_conf()";
    let asked: String = world.sql.query_one(asked, &[]).expect("reload").get(0);

    let later = format!(
        "SELECT count(*) FROM calsync.stat_worker WHERE config_loaded_at BETWEEN '{asked}' AND clock_timestamp() \
             AND started_at < config_loaded_at"
    );
    eventually("it has read it", || world.count(&later) == 1);
}
