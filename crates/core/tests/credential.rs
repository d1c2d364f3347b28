//! Which secrets there are, and what is said of one that is none.

use calsync_core::credential::{Secret, Subject};
use serde_json::{Value, json};

const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMARKER\n-----END PRIVATE KEY-----\n";

fn read(secret: Value) -> Secret {
    Secret::read(&secret).unwrap_or_else(|why| panic!("{why}"))
}

fn refused(secret: Value) -> String {
    Secret::read(&secret).expect_err("it is no secret").to_string()
}

fn account(sub: Option<&str>) -> Value {
    let mut key = json!({
        "type": "service_account", "project_id": "p", "private_key_id": "k1", "private_key": PEM,
        "client_email": "robot@p.example", "client_id": "123", "auth_uri": "https://a", "token_uri": "https://evil.example",
        "auth_provider_x509_cert_url": "https://c", "client_x509_cert_url": "https://d", "universe_domain": "googleapis.com",
    });
    if let Some(sub) = sub {
        key["sub"] = json!(sub);
    }
    key
}

#[test]
fn an_oauth_client_is_taken_in_each_form_that_google_gives() {
    let plain = read(json!({ "client_id": "i", "client_secret": "s", "refresh_token": "r" }));
    let user = json!({ "type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r",
                       "token": "ya29", "token_uri": "https://evil.example", "scopes": [], "account": "" });

    assert_eq!(read(user), plain);
    for kind in ["installed", "web"] {
        let client = json!({ "client_id": "i", "client_secret": "s", "project_id": "p", "redirect_uris": [] });
        assert_eq!(read(json!({ kind: client, "refresh_token": "r" })), plain);
    }
}

#[test]
fn a_service_account_asks_as_itself_as_one_user_or_as_each_calendars_user() {
    let as_whom = |sub| match read(account(sub)) {
        Secret::ServiceAccount(account) => account.subject.user_of("bob@x").map(str::to_owned),
        other => panic!("{other:?}"),
    };

    assert_eq!(as_whom(None), None);
    assert_eq!(as_whom(Some("alice@x")).as_deref(), Some("alice@x"));
    assert_eq!(as_whom(Some("*")).as_deref(), Some("bob@x"));
}

#[test]
fn a_key_whose_line_breaks_were_escaped_twice_is_mended() {
    let mut key = account(None);
    key["private_key"] = json!(PEM.replace('\n', "\\n"));

    let Secret::ServiceAccount(account) = read(key) else { panic!("a service account") };

    assert_eq!(account.private_key, PEM);
    assert!(account.subject == Subject::Itself);
}

#[test]
fn tokens_passwords_and_nothing_are_secrets_too() {
    assert_eq!(read(json!({})), Secret::None);
    assert_eq!(read(json!({ "token": "t" })), Secret::Bearer { token: "t".into() });
    let basic = json!({ "username": "u", "password": "p ä:" });
    assert_eq!(read(basic), Secret::Basic { username: "u".into(), password: "p ä:".into() });
}

#[test]
fn what_is_stored_is_read_again_as_it_was() {
    for secret in [
        json!({}),
        json!({ "client_id": "i", "client_secret": "s", "refresh_token": "r" }),
        account(None),
        account(Some("*")),
        account(Some("alice@x")),
        json!({ "token": "t" }),
        json!({ "username": "u", "password": "p" }),
    ] {
        let secret = read(secret);
        assert_eq!(read(secret.to_json()), secret);
    }
}

#[test]
fn what_is_wrong_is_said_by_key_and_never_by_value() {
    let mut without_key = account(None);
    without_key["private_key"] = json!("MARKER");
    let mut with_subject = account(None);
    with_subject["subject"] = json!("MARKER@x");
    let cases = [
        (json!("MARKER"), "not a JSON object"),
        (json!(["MARKER"]), "not a JSON object"),
        (json!({ "MARKER": "MARKER" }), "none of the keys"),
        (json!({ "client_id": "MARKER", "refresh_token": "MARKER" }), "needs \"client_secret\", which is missing"),
        (
            json!({ "type": "authorized_user" }),
            "needs \"client_id\", \"client_secret\" and \"refresh_token\", which are missing",
        ),
        (json!({ "installed": {} }), "needs \"client_id\", \"client_secret\" and \"refresh_token\", which are missing"),
        (json!({ "type": "service_account" }), "needs \"client_email\" and \"private_key\", which are missing"),
        (
            json!({ "client_id": "MARKER", "client_secret": "MARKER", "refresh-token": "MARKER" }),
            "\"refresh_token\"; here is a key that looks like it, misspelt",
        ),
        (json!({ "client_id": "i", "client_secret": "MARKER", "refreshtoken": "MARKER" }), "\"refresh_token\"; here"),
        (json!({ "client_id": "i", "client_secret": "", "refresh_token": "MARKER" }), "\"client_secret\" is empty"),
        (
            json!({ "client_id": "i", "client_secret": ["MARKER"], "refresh_token": "r" }),
            "\"client_secret\" is not a string",
        ),
        (json!({ "client_id": "i", "client_secret": "s", "refresh_token": "MARKER\n" }), "white space"),
        (
            json!({ "client_id": "i", "client_secret": "s", "refresh_token": "r", "sub": "MARKER" }),
            "service account only",
        ),
        (
            json!({ "installed": { "client_id": "i", "client_secret": "MARKER" } }),
            "needs \"refresh_token\", which is missing",
        ),
        (json!({ "installed": { "client_id": "i", "client_secret": "s" }, "refreshToken": "MARKER" }), "misspelt"),
        (json!({ "installed": "MARKER" }), "not a JSON object"),
        (without_key, "not a private key in PEM"),
        (with_subject, "\"sub\"; here is a key that looks like it, misspelt"),
        (account(Some("MARKER")), "neither a user's address nor \"*\""),
        (json!({ "type": "service_account", "client_email": "MARKER" }), "needs \"private_key\""),
        (json!({ "Token": "MARKER" }), "misspelt"),
        (json!({ "token": "MARK ER" }), "white space"),
        (json!({ "username": "MARKER" }), "needs \"password\""),
        (json!({ "username": "MARKER:x", "password": "p" }), "has a colon"),
        (json!({ "username": "u", "password": "MARKER\r\n" }), "line break"),
        (json!({ "username": 1, "password": "p" }), "\"username\" is not a string"),
    ];
    for (secret, expected) in cases {
        let said = refused(secret.clone());
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
        assert!(!said.contains("MARK"), "{said}");
    }
}

#[test]
fn each_key_has_a_length_that_it_may_not_exceed() {
    let client = json!({ "client_id": "i", "client_secret": "s", "refresh_token": "r" });
    let installed = json!({ "installed": client.clone(), "refresh_token": "r" });
    let bounds = [
        (json!({ "token": "t" }), "/token", 8192),
        (json!({ "username": "u", "password": "p" }), "/username", 8192),
        (json!({ "username": "u", "password": "p" }), "/password", 8192),
        (client.clone(), "/client_id", 1024),
        (client.clone(), "/client_secret", 1024),
        (client, "/refresh_token", 8192),
        (installed.clone(), "/installed/client_secret", 1024),
        (installed, "/refresh_token", 8192),
        (account(None), "/client_email", 1024),
        (account(None), "/private_key", 16_384),
        (account(None), "/private_key_id", 1024),
        (account(None), "/client_id", 1024),
        (account(Some("a@x")), "/sub", 1024),
    ];
    for (mut secret, place, longest) in bounds {
        let of_length = |length: usize| {
            let (begin, filling) = if place == "/private_key" { (PEM, "M") } else { ("a@", "M") };
            json!(begin.to_owned() + &filling.repeat(length - begin.len()))
        };
        *secret.pointer_mut(place).expect("a key") = of_length(longest);
        read(secret.clone());
        *secret.pointer_mut(place).expect("a key") = of_length(longest + 1);

        let said = refused(secret);

        let key = place.rsplit('/').next().expect("a key");
        assert_eq!(said, format!("its \"{key}\" is too long: {longest} bytes at most"));
    }
}

#[test]
fn no_debug_form_shows_a_secret() {
    let secret = read(account(Some("*")));
    let shown = format!("{secret:?}");
    assert!(!shown.contains("MARKER") && !shown.contains("robot"), "{shown}");
    if let Secret::ServiceAccount(account) = secret {
        assert!(!format!("{account:?}").contains("MARKER"));
    }
}
