//! A secret is a few kilobytes. What is larger is refused unread, and nothing of it is told or used, wherever it comes from.

use calsync_integration::markers::{MARKER, assert_clean};
use calsync_integration::{ALICE, World, eventually, oauth, sqlstate};
use fake_google::{Action, Fault};
use serde_json::json;

/// A role that may subscribe adds a credential with this secret, an SQL expression, and is told why it cannot.
fn refusal(world: &mut World, secret: &str) -> String {
    let call = format!("SELECT calsync_add_credential('big', 'google', {secret})");
    let error = world.sql.batch_execute(&call).expect_err("refused");
    assert_eq!(sqlstate(&error), "SC006");
    let told = error.as_db_error().expect("the server's");
    format!("{}. {}", told.message(), told.detail().unwrap_or_default())
}

#[test]
fn a_secret_that_is_too_large_is_refused_and_nothing_of_it_is_told() {
    let mut world = World::new();
    let token = |length| format!("jsonb_build_object('token', repeat('{MARKER}', {length}))");

    let unread = refusal(&mut world, &token(1_000_000));
    let read = refusal(&mut world, &token(1000));

    let message = "the secret of credential \"big\" cannot be used. ";
    assert_eq!(unread, format!("{message}It is larger than 64 kB, too large to be a secret."));
    assert_eq!(read, format!("{message}Its \"token\" is too long: 8192 bytes at most."));
    assert_clean("the log", &world.cluster.log(), &[MARKER.to_owned()]);
    assert_eq!(world.count("SELECT count(*) FROM calsync.credential"), 0);
}

/// As versions before this one took it.
#[test]
fn a_stored_secret_that_is_too_large_is_not_used_until_it_is_replaced() {
    let mut world = World::new();
    world.google.require_auth(true);
    world.google.sign_in("1//alice", ALICE);
    world.add_credential("team", &oauth("1//alice"));
    let large = "UPDATE calsync.credential SET secret = secret || decode(repeat('00', 10000000), 'hex')";
    world.sql.batch_execute(large).expect("altered");

    world.sql.execute("SELECT calsync_subscribe($1, credential => 'team')", &[&ALICE]).expect("subscribed");

    world.wait_for_status("state", "needs_credential");
    let told = world.status("last_error");
    assert!(told.contains("it is too large") && told.contains("calsync_add_credential()"), "{told}");
    assert!(world.token_requests().is_empty());
    world.add_credential("team", &oauth("1//alice"));
    world.wait_for_sync(ALICE);
}

#[test]
fn a_token_that_is_too_long_is_no_grant() {
    let mut world = World::new();
    world.google.require_auth(true);
    world.google.sign_in("1//alice", ALICE);
    world.add_credential("team", &oauth("1//alice"));
    let body = json!({ "access_token": MARKER.repeat(4000), "expires_in": 3600 }).to_string();
    let grant = Action::Body { status: 200, content_type: "application/json".into(), body, headers: Vec::new() };
    world.google.add_fault(Fault::new(grant).on_path("/token").always());

    world.sql.execute("SELECT calsync_subscribe($1, credential => 'team')", &[&ALICE]).expect("subscribed");

    world.wait_for_status("state", "backoff");
    let told = world.status("last_error");
    assert!(told.contains("the answer's token is longer than any that is taken"), "{told}");
    assert!(world.lists().is_empty(), "it was shown to nobody");
    world.google.clear_faults();
    world.sql.batch_execute("SELECT calsync_sync()").expect("due");
    eventually("a token of ordinary length is used", || !world.lists().is_empty());
}
