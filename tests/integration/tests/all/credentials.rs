//! Credentials: what the provider is shown, when a token is fetched, and what becomes of one that it refuses.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use calsync_integration::{ALICE, ServiceAccountKey, World, eventually, oauth, problems};
use chrono::TimeDelta;
use fake_google::{Action, Fault};
use serde_json::{Value, json};

/// Google asks for tokens; nothing is subscribed.
fn closed_world() -> World {
    let world = World::new();
    world.google.require_auth(true);
    world
}

/// Alice's calendar by an OAuth client, synced.
fn by_oauth() -> World {
    let mut world = closed_world();
    world.add_credential("team", &oauth("1//alice"));
    subscribe(&mut world, ALICE, "team");
    world.wait_for_sync(ALICE);
    world
}

fn subscribe(world: &mut World, calendar: &str, credential: &str) {
    world
        .sql
        .execute("SELECT calsync_subscribe($1, credential => $2)", &[&calendar, &credential])
        .expect("the calendar can be subscribed");
}

/// `calsync.status.last_error` of a calendar in this state.
fn failed_as(world: &mut World, calendar: &str, state: &str) -> String {
    eventually(&format!("{calendar} is in {state}"), || {
        world.text("SELECT state::text FROM calsync.status WHERE calendar = $1", calendar) == state
    });
    world.text("SELECT last_error FROM calsync.status WHERE calendar = $1", calendar)
}

/// The claims of the assertions that were shown, oldest first.
fn claims(world: &World) -> Vec<Value> {
    let assertions = world.token_requests().into_iter().filter_map(|mut form| form.remove("assertion"));
    let claims = assertions.map(|assertion| {
        let part = assertion.split('.').nth(1).expect("three parts").to_owned();
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
    });
    claims.collect()
}

fn an_hour_passes(world: &mut World) {
    world.sql.batch_execute("UPDATE calsync.credential SET retry_at = now(); SELECT calsync_sync()").expect("an hour");
}

#[test]
fn a_calendar_is_synced_by_a_users_consent() {
    let mut world = closed_world();
    world.meeting(1, "08:00", "09:00");

    world.add_credential("team", &oauth("1//alice"));
    subscribe(&mut world, ALICE, "team");
    world.wait_for_sync(ALICE);

    assert_eq!(world.busy(), ["+1 08:00 to 09:00"]);
    assert_eq!(world.token_requests()[0]["grant_type"], "refresh_token");
    assert!(world.authorizations().iter().all(|header| header.starts_with("Bearer ya29.")));
}

#[test]
fn a_calendar_is_synced_by_a_service_account_that_signs_for_itself() {
    let mut world = closed_world();
    let key = ServiceAccountKey::generate("robot@project.example");
    world.google.register_key(&key.email, key.public_key.clone());
    world.add_credential("robot", &key.file(None));

    subscribe(&mut world, ALICE, "robot");

    world.wait_for_sync(ALICE);
    let claims = claims(&world);
    assert_eq!(claims[0]["iss"], "robot@project.example");
    assert_eq!(claims[0]["scope"], "https://www.googleapis.com/auth/calendar.readonly");
    assert_eq!(claims[0]["aud"], json!(world.google.token_url()), "not the URL that the key file names");
    assert!(claims[0].get("sub").is_none());
}

#[test]
fn a_signature_by_another_key_is_not_accepted_and_the_fix_is_told() {
    let mut world = closed_world();
    let key = ServiceAccountKey::generate("robot@project.example");
    let other = ServiceAccountKey::generate("robot@project.example");
    world.google.register_key(&other.email, other.public_key);
    world.add_credential("robot", &key.file(None));

    subscribe(&mut world, ALICE, "robot");

    let error = failed_as(&mut world, ALICE, "needs_credential");
    assert!(error.contains("Invalid JWT Signature") && error.contains("make a new key"), "{error}");
}

#[test]
fn one_delegated_credential_serves_each_calendar_as_its_own_user() {
    let mut world = closed_world();
    let key = ServiceAccountKey::generate("robot@project.example");
    world.google.register_key(&key.email, key.public_key.clone());
    world.add_credential("domain", &key.file(Some("*")));

    world.others(&["a@x", "b@x", "c@x"], Some("domain"));

    for calendar in ["a@x", "b@x", "c@x"] {
        world.wait_for_sync(calendar);
    }
    world.sync();
    let mut users: Vec<String> = claims(&world).iter().map(|claims| claims["sub"].to_string()).collect();
    users.sort();
    assert_eq!(users, [r#""a@x""#, r#""b@x""#, r#""c@x""#], "one token each, and no second one");
    assert_eq!(world.authorizations().iter().collect::<HashSet<_>>().len(), 3);
}

#[test]
fn a_delegated_user_can_be_named_beside_the_file_that_holds_the_key() {
    let mut world = closed_world();
    let key = ServiceAccountKey::generate("robot@project.example");
    let path = world.cluster.home().join("robot.json");
    std::fs::write(&path, key.file(None).to_string()).expect("written");
    world.cluster.own(&path);
    world.add_credential("boss", &json!({ "file": path.display().to_string(), "sub": "boss@x" }));
    std::fs::remove_file(&path).expect("it is read once");
    world.others(&["a@x", "b@x"], Some("boss"));

    world.wait_for_sync("a@x");
    world.wait_for_sync("b@x");

    assert!(claims(&world).iter().all(|claims| claims["sub"] == "boss@x"));
}

#[test]
fn a_domain_that_is_not_delegated_says_what_the_administrator_must_do() {
    let mut world = closed_world();
    let key = ServiceAccountKey::generate("robot@project.example");
    world.google.refuse_client("robot@project.example", Some("unauthorized_client"));
    world.add_credential("domain", &key.file(Some("*")));

    subscribe(&mut world, ALICE, "domain");

    let error = failed_as(&mut world, ALICE, "needs_credential");
    assert!(error.contains("Domain-wide delegation") && error.contains("calendar.readonly"), "{error}");
}

#[test]
fn tokens_and_passwords_are_shown_as_they_are() {
    let mut world = World::new();
    world.add_credential("gate", &json!({ "username": "gate", "password": "open sesame" }));
    world.add_credential("static", &json!({ "token": "ya29.static" }));
    world.others(&["a@x"], Some("gate"));
    world.wait_for_sync("a@x");
    let basic = world.authorizations();
    world.google.clear_log();
    world.others(&["b@x"], Some("static"));
    world.wait_for_sync("b@x");

    assert_eq!(basic[0], "Basic Z2F0ZTpvcGVuIHNlc2FtZQ==");
    assert!(world.authorizations().contains(&"Bearer ya29.static".to_owned()));
    assert!(world.token_requests().is_empty(), "nothing is fetched");
}

#[test]
fn one_refresh_serves_many_calendars() {
    let mut world = closed_world();
    world.google.add_fault(Fault::latency(Duration::from_millis(300)).on_path("/token").always());
    world.add_credential("team", &oauth("1//alice"));
    let names: Vec<String> = (0..40).map(|n| format!("c{n}@x")).collect();
    world.others(&names.iter().map(String::as_str).collect::<Vec<_>>(), Some("team"));

    for name in &names {
        world.wait_for_sync(name);
    }
    world.sync();

    assert_eq!(world.token_requests().len(), 1);
}

#[test]
fn a_token_that_is_said_to_end_at_once_is_not_fetched_for_each_request() {
    let mut world = closed_world();
    let token = r#"{"access_token": "ya29.brief", "expires_in": 0, "token_type": "Bearer"}"#;
    world.google.register_token("ya29.brief", TimeDelta::hours(1));
    let grant =
        Action::Body { status: 200, content_type: "application/json".into(), body: token.into(), headers: Vec::new() };
    world.google.add_fault(Fault::new(grant).on_path("/token").always());
    world.add_credential("team", &oauth("1//alice"));
    subscribe(&mut world, ALICE, "team");
    world.wait_for_sync(ALICE);

    for _ in 0..3 {
        world.sync();
    }

    assert_eq!((world.lists().len(), world.token_requests().len()), (4, 1));
}

#[test]
fn a_token_that_is_refused_before_its_time_is_renewed_and_nobody_notices() {
    let mut world = by_oauth();
    world.meeting(2, "08:00", "09:00");

    world.google.expire_access_tokens();
    world.sync();

    assert_eq!(world.busy(), ["+2 08:00 to 09:00"]);
    assert_eq!(world.status("failures"), "0");
    assert_eq!(world.count("SELECT count(*) FROM calsync.sync_run WHERE outcome = 'failed'"), 0);
}

#[test]
fn a_provider_that_refuses_every_token_is_asked_twice_and_no_more() {
    let mut world = by_oauth();
    world.google.clear_log();
    world.google.add_fault(Fault::error(401, "authError").on_calendar(ALICE).always());

    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");

    failed_as(&mut world, ALICE, "needs_credential");
    assert_eq!((world.lists().len(), world.token_requests().len()), (2, 1));
}

#[test]
fn consent_that_is_withdrawn_is_told_with_its_fix_and_comes_back_with_the_new_one() {
    let mut world = by_oauth();
    world.others(&["bob@x"], Some("team"));
    world.wait_for_sync("bob@x");

    world.google.revoke_grants(Some("1//alice"));
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");

    for calendar in [ALICE, "bob@x"] {
        let error = failed_as(&mut world, calendar, "needs_credential");
        assert!(error.contains("Token has been expired or revoked."), "{error}");
        assert!(error.contains("consent again") && error.contains("calsync_add_credential()"), "{error}");
    }

    world.add_credential("team", &oauth("1//again"));

    for calendar in [ALICE, "bob@x"] {
        world.wait_for_sync(calendar);
    }
}

#[test]
fn consent_that_is_given_back_is_found_out_by_the_hours_try() {
    let mut world = by_oauth();
    world.google.revoke_grants(None);
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    failed_as(&mut world, ALICE, "needs_credential");

    world.google.restore_grants();
    an_hour_passes(&mut world);

    world.wait_for_sync(ALICE);
}

#[test]
fn the_hours_try_fetches_a_token_of_its_own() {
    let mut world = by_oauth();
    world.google.add_fault(Fault::error(401, "authError").on_calendar(ALICE).times(2));
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
    failed_as(&mut world, ALICE, "needs_credential");
    world.google.clear_log();

    an_hour_passes(&mut world);

    world.wait_for_sync(ALICE);
    assert_eq!(world.token_requests().len(), 1);
}

#[test]
fn a_client_that_was_deleted_is_told() {
    let mut world = closed_world();
    world.google.refuse_client("app.example", Some("invalid_client"));
    world.add_credential("team", &oauth("1//alice"));

    subscribe(&mut world, ALICE, "team");

    let error = failed_as(&mut world, ALICE, "needs_credential");
    assert!(error.contains("invalid_client") && error.contains("client secret"), "{error}");
}

#[test]
fn an_outage_of_the_token_url_is_each_calendars_failure_and_no_storm() {
    let mut world = closed_world();
    let outage = Fault::new(Action::Body {
        status: 503,
        content_type: "text/html".into(),
        body: "down".into(),
        headers: Vec::new(),
    });
    world.google.add_fault(outage.on_path("/token").always());
    world.add_credential("team", &oauth("1//alice"));
    let names: Vec<String> = (0..60).map(|n| format!("c{n}@x")).collect();

    world.others(&names.iter().map(String::as_str).collect::<Vec<_>>(), Some("team"));

    for name in &names {
        let error = failed_as(&mut world, name, "backoff");
        assert!(error.contains("no access token could be fetched"), "{error}");
    }
    // Somebody in a hurry makes it no better.
    for _ in 0..10 {
        let failures = world.count("SELECT sum(failures) FROM calsync.subscription");
        world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");
        eventually("each has failed again", || {
            world.count("SELECT sum(failures) FROM calsync.subscription") >= failures + 60
        });
    }
    let asked = world.token_requests().len();
    assert!(asked < 9, "asked {asked} times, for 660 failures: the pauses double up to a minute");
    world.google.clear_faults();
    eventually("all come back", || {
        world.sync();
        world.count("SELECT count(*) FROM calsync.subscription WHERE state = 'active'") == 60
    });
}

#[test]
fn while_a_token_is_awaited_no_transaction_is_open_and_the_others_go_on() {
    // The budget is not what holds its calendars back.
    let mut world = World::with("calsync.requests_per_minute = 100000\ncalsync.project_requests_per_minute = 100000");
    world.google.require_auth(true);
    world.google.add_fault(Fault::new(Action::Hang { bytes: 0 }).on_path("/token").times(1));
    world.add_credential("slow", &oauth("1//slow"));
    // More than may wait in all.
    let names: Vec<String> = (0..80).map(|n| format!("c{n}@x")).collect();
    world.others(&names.iter().map(String::as_str).collect::<Vec<_>>(), Some("slow"));
    eventually("its token is awaited", || world.token_requests().len() == 1);

    world.add_credential("team", &oauth("1//team"));
    subscribe(&mut world, ALICE, "team");

    eventually("the other credential's calendar is synced", || world.status("state") == "active");
    let open = "SELECT count(*) FROM pg_stat_activity \
                WHERE backend_type = 'pg_calsync worker' AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)";
    eventually("the worker only waits", || world.count(open) == 0);
    assert_eq!(world.token_requests().len(), 2, "the first is awaited still");
}

#[test]
fn a_credential_that_is_replaced_during_its_refresh_is_tried_with_the_new_secret() {
    let mut world = closed_world();
    let refusal = Fault::new(Action::Body {
        status: 400,
        content_type: "application/json".into(),
        body: r#"{"error": "invalid_grant"}"#.into(),
        headers: Vec::new(),
    });
    world.google.add_fault(refusal.after(Duration::from_secs(2)).on_path("/token").times(1));
    world.add_credential("team", &oauth("1//old"));
    subscribe(&mut world, ALICE, "team");
    eventually("its token is awaited", || world.token_requests().len() == 1);

    world.add_credential("team", &oauth("1//new"));

    world.wait_for_sync(ALICE);
    assert_eq!(world.token_requests()[1]["refresh_token"], "1//new");
    assert_eq!(world.count("SELECT count(*) FROM calsync.sync_run WHERE outcome = 'failed'"), 0);
}

#[test]
fn a_foreground_run_fetches_its_own_token() {
    let mut world = World::with("calsync.databases = ''");
    world.google.require_auth(true);
    world.meeting(1, "08:00", "09:00");
    world.add_credential("team", &oauth("1//alice"));
    world.others(&["a@x", "b@x"], Some("team"));
    subscribe(&mut world, ALICE, "team");

    world.sql.batch_execute("CALL calsync_run()").expect("run");

    assert_eq!(world.busy(), ["+1 08:00 to 09:00"]);
    assert_eq!(world.token_requests().len(), 1);
}

#[test]
fn a_foreground_run_ends_where_the_token_url_is_out_of_order() {
    let mut world = World::with("calsync.databases = ''");
    world.google.add_fault(Fault::new(Action::CutBefore).on_path("/token").always());
    world.add_credential("team", &oauth("1//alice"));
    world.others(&["a@x", "b@x"], Some("team"));

    world.sql.batch_execute("CALL calsync_run()").expect("run");

    failed_as(&mut world, "a@x", "backoff");
    failed_as(&mut world, "b@x", "backoff");
}

#[test]
fn a_credential_that_is_not_there_any_more_is_told_and_found_by_the_check() {
    let mut world = by_oauth();
    world.sql.batch_execute("DELETE FROM calsync.credential").expect("lost");
    assert_eq!(problems(&mut world.sql), [format!("{ALICE} missing_credential")]);
    world.google.clear_log();
    // The worker still remembers the secret, and a token.
    world.sql.execute("SELECT calsync_sync()", &[]).expect("sync");

    let error = failed_as(&mut world, ALICE, "needs_credential");
    assert_eq!(world.lists().len(), 0, "what is gone is shown to nobody");
    assert!(error.contains("there is no credential \"team\"") && error.contains("calsync_add_credential()"), "{error}");

    world.add_credential("team", &oauth("1//alice"));
    world.wait_for_sync(ALICE);
}

#[test]
fn a_credential_that_was_dropped_and_made_again_is_not_taken_for_its_predecessor() {
    let mut world = by_oauth();
    world
        .sql
        .batch_execute("SELECT calsync_unsubscribe('alice@example.com'); SELECT calsync_drop_credential('team')")
        .expect("gone");
    world.google.clear_log();

    world.add_credential("team", &json!({ "token": "ya29.other" }));
    subscribe(&mut world, ALICE, "team");

    failed_as(&mut world, ALICE, "needs_credential");
    assert_eq!(world.authorizations()[0], "Bearer ya29.other");
}
