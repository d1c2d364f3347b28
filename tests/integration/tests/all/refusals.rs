//! What a refusal tells: which argument, why, and what to do; and nothing that is nobody's business.

use calsync_integration::{ALICE, World};
use postgres::error::DbError;
use serde_json::json;

/// The error of this statement.
fn refused(world: &mut World, sql: &str) -> DbError {
    let error = world.sql.batch_execute(sql).expect_err("it is refused");
    error.as_db_error().expect("the server said it").clone()
}

#[test]
fn a_name_that_no_index_could_hold_is_refused_in_words() {
    let mut world = World::with("calsync.enabled = off");
    let long = "x".repeat(12_800);
    for (call, argument) in [
        (format!("SELECT calsync_add_credential('{long}', 'google', '{{}}')"), "name"),
        ("SELECT calsync_add_credential('', 'google', '{}')".to_owned(), "name"),
        (format!("SELECT calsync_subscribe('{long}')"), "calendar"),
        (format!("SELECT calsync_subscribe('a@x', remote_id => '{long}')"), "remote_id"),
    ] {
        let error = refused(&mut world, &call);

        assert_eq!(error.code().code(), "22023");
        assert!(error.message().starts_with(&format!("{argument} must have between 1 and 1024 bytes")), "{error}");
        assert!(error.detail().is_some() && error.hint().is_some(), "{error:?}");
        assert!(error.message().len() < 200, "it is not repeated");
    }
}

#[test]
fn the_longest_names_that_are_taken_fit_into_every_index() {
    let mut world = World::with("calsync.enabled = off");
    // Of random letters: what repeats itself is compressed.
    let row = world.sql.query_one(
        "SELECT 'x' || string_agg(chr(33 + (random() * 90)::integer), '') FROM generate_series(1, 1023)",
        &[],
    );
    let longest: String = row.expect("letters").get(0);
    let role = "r".repeat(63);
    world
        .sql
        .batch_execute(&format!("CREATE ROLE {role}; GRANT calsync_operator TO {role}; SET ROLE {role}"))
        .expect("a role with the longest name");

    world.add_credential(&longest, &json!({ "token": "t" }));
    world
        .sql
        .execute("SELECT calsync_subscribe($1, credential => $1, remote_id => $1)", &[&longest])
        .expect("subscribed");
    world.sql.batch_execute("RESET ROLE").expect("reset");
    world
        .sql
        .execute(
            "INSERT INTO calsync.channel (channel_id, provider, owner, credential, remote_id, state, address, token_hash, \
                 expires_at) VALUES ('c', 'google', $1::text::name, $2, $2, 'opening', 'a', sha256(''), now())",
            &[&role, &longest],
        )
        .expect("its channel");
}

#[test]
fn a_credential_that_is_not_there_is_asked_for_in_a_form_that_opens_something() {
    let mut world = World::with("calsync.enabled = off");

    let error = refused(&mut world, "SELECT calsync_subscribe('x', credential => 'no''pe')");

    let hint = error.hint().expect("a hint");
    assert!(hint.contains("calsync_add_credential('no''pe', 'google', '{\"file\":"), "{hint}");
    assert!(!hint.contains("'{}'") && hint.contains("docs/google.md"), "{hint}");
}

#[test]
fn a_provider_that_asks_for_no_credential_is_refused_with_a_reason_and_not_quoted() {
    let mut world = World::with("calsync.enabled = off");
    for provider in ["none", "a secret that was put in the wrong place"] {
        let error = refused(&mut world, &format!("SELECT calsync_add_credential('team', '{provider}', '{{}}')"));

        assert_eq!(error.message(), "the provider of a credential must be 'google'");
        let told = format!("{:?} {:?}", error.detail().expect("why"), error.hint().expect("what to do"));
        assert!(!told.contains("a secret"), "{told}");
    }
}

#[test]
fn a_secret_that_lacks_several_keys_is_told_all_of_them() {
    let mut world = World::with("calsync.enabled = off");

    let error =
        refused(&mut world, "SELECT calsync_add_credential('team', 'google', '{\"type\": \"authorized_user\"}')");

    let detail = error.detail().expect("why");
    for key in ["client_id", "client_secret", "refresh_token"] {
        assert!(detail.contains(key), "{detail}");
    }
}

#[test]
fn no_error_shows_a_backtrace_whatever_the_servers_environment_wants() {
    let environment = [("RUST_BACKTRACE", "1"), ("RUST_LIB_BACKTRACE", "full")];
    let mut world = World::in_environment(&environment, "");
    world.subscribe(ALICE);
    world.wait_for_sync(ALICE);
    let now = "tstzrange(now(), now() + '1 hour')";
    for (sql, code) in [
        (format!("SELECT calsync_is_free({now}, '{{nobody}}')"), "SC001"),
        (format!("SELECT calsync_is_free({now}, '{{}}')"), "22023"),
        ("SELECT calsync_apply_delta('{\"calendar\": 1}')".to_owned(), "SC005"),
        // Raised by Postgres, below our functions.
        ("BEGIN READ ONLY; SELECT calsync_sync()".to_owned(), "25006"),
        ("ROLLBACK; BEGIN; CALL calsync_run()".to_owned(), "2D000"),
        (
            format!(
                "ROLLBACK; SET statement_timeout = 1; SELECT count(*) FROM generate_series(1, 1000000) AS n, \
                     calsync_busy({now}, ARRAY['{ALICE}', 'x' || n])"
            ),
            "",
        ),
    ] {
        let error = refused(&mut world, &sql);

        assert!(code.is_empty() || error.code().code() == code, "{error:?}");
        let told = format!("{error:?}");
        for trace in ["backtrace", "stack", "core::", "std::", ".cargo", "at /"] {
            assert!(!told.contains(trace), "{sql}: {told}");
        }
    }
}
