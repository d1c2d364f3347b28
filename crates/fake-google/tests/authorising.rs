//! Access tokens: who needs one, where they come from, when they end.

mod story;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use fake_google::{Action, FakeGoogle, Fault, NewCalendar, Quirks};
use serde_json::{Value, json};
use story::{Client, alice, encode};

fn token(google: &FakeGoogle, form: &[(&str, &str)]) -> (u16, Value) {
    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
    let request = config.new_agent().post(google.token_url());
    let request = request.header("Content-Type", "application/x-www-form-urlencoded");
    let mut answer = request.send(encode(form)).unwrap();
    let json = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    (answer.status().as_u16(), json)
}

const REFRESH: [(&str, &str); 4] =
    [("grant_type", "refresh_token"), ("client_id", "app"), ("client_secret", "secret"), ("refresh_token", "1//alice")];

fn assertion(google: &FakeGoogle, lifetime: i64) -> String {
    let now = google.now().timestamp();
    let claims = json!({ "iss": "robot@example.com", "scope": "calendar", "aud": google.token_url(),
                         "iat": now, "exp": now + lifetime, "sub": "alice@example.com" });
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signature = URL_SAFE_NO_PAD.encode([7; 256]);
    format!("{}.{}.{signature}", encode(json!({ "alg": "RS256", "typ": "JWT" })), encode(claims))
}

fn jwt(google: &FakeGoogle, lifetime: i64) -> (u16, Value) {
    let assertion = assertion(google, lifetime);
    token(google, &[("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)])
}

fn with_bearer(google: &FakeGoogle, bearer: &str) -> Client {
    let mut client = Client::of(google);
    client.bearer = Some(bearer.into());
    client
}

#[test]
fn nobody_needs_a_token_until_it_is_required() {
    let (google, client) = alice();
    assert_eq!(client.full().status, 200);

    google.require_auth(true);

    let refused = client.full();
    assert_eq!((refused.status, refused.reason()), (401, "authError"));
    assert_eq!(refused.json["error"]["errors"][0]["location"], "Authorization");
    assert_eq!(with_bearer(&google, "unknown").full().status, 401);
}

#[test]
fn a_refreshed_token_opens_the_door_until_it_expires() {
    let (google, _client) = alice();
    google.require_auth(true);

    let (status, answer) = token(&google, &REFRESH);
    assert_eq!(status, 200);
    assert_eq!((&answer["expires_in"], &answer["token_type"]), (&json!(3599), &json!("Bearer")));
    let client = with_bearer(&google, answer["access_token"].as_str().unwrap());
    assert_eq!(client.full().status, 200);

    google.advance_clock(TimeDelta::seconds(3600));
    assert_eq!(client.full().status, 401);
}

#[test]
fn tokens_can_be_registered_and_expired_by_hand() {
    let (google, _client) = alice();
    google.require_auth(true);
    google.register_token("mine", TimeDelta::minutes(1));
    let client = with_bearer(&google, "mine");
    assert_eq!(client.full().status, 200);

    google.expire_access_tokens();
    assert_eq!(client.full().status, 401);
    assert_eq!(token(&google, &REFRESH).0, 200, "the grant lives");
}

#[test]
fn a_revoked_grant_is_invalid_and_its_tokens_die() {
    let (google, _client) = alice();
    google.require_auth(true);
    let (_, answer) = token(&google, &REFRESH);
    let client = with_bearer(&google, answer["access_token"].as_str().unwrap());

    google.revoke_grants(Some("1//alice"));

    assert_eq!(client.full().status, 401);
    let (status, answer) = token(&google, &REFRESH);
    assert_eq!(status, 400);
    assert_eq!(answer, json!({ "error": "invalid_grant", "error_description": "Token has been expired or revoked." }));
    google.restore_grants();
    assert_eq!(token(&google, &REFRESH).0, 200);
    google.revoke_grants(None);
    assert_eq!(jwt(&google, 3600).0, 400);
}

#[test]
fn where_refresh_tokens_are_replaced_the_old_one_is_worth_nothing() {
    let (google, _client) = alice();
    google.rotate_refresh_tokens(true);

    let (_, answer) = token(&google, &REFRESH);

    let new = answer["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(token(&google, &REFRESH).0, 400);
    let again = REFRESH.map(|(name, value)| (name, if name == "refresh_token" { new.as_str() } else { value }));
    assert_eq!(token(&google, &again).0, 200);
}

#[test]
fn a_signature_is_verified_where_the_public_key_is_known() {
    let (google, _client) = alice();
    assert_eq!(jwt(&google, 3600).0, 200, "unknown keys are trusted");

    google.register_key("robot@example.com", vec![0x30, 0x00]);

    let (status, answer) = jwt(&google, 3600);
    assert_eq!((status, &answer["error_description"]), (400, &json!("Invalid JWT: Invalid JWT Signature.")));
}

#[test]
fn an_echo_repeats_what_was_sent() {
    let (google, _client) = alice();
    google.add_fault(Fault::new(Action::Echo { status: 400, words: "no ".into(), as_page: false }).on_path("/token"));

    let (status, answer) = token(&google, &REFRESH);

    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
    let said = answer["error_description"].as_str().unwrap();
    assert!(said.starts_with("no ") && said.contains("1//alice") && said.contains("1%2F%2Falice"), "{said}");
}

#[test]
fn a_refused_client_is_401() {
    let (google, _client) = alice();
    google.refuse_client("app", Some("invalid_client"));
    google.refuse_client("alice@example.com", Some("unauthorized_client"));

    let (status, answer) = token(&google, &REFRESH);
    assert_eq!((status, &answer["error"]), (401, &json!("invalid_client")));
    let (status, answer) = jwt(&google, 3600);
    assert_eq!((status, &answer["error"]), (401, &json!("unauthorized_client")));
    google.refuse_client("app", None);
    assert_eq!(token(&google, &REFRESH).0, 200);
}

#[test]
fn a_user_is_refused_in_googles_own_words() {
    let (google, _client) = alice();
    for (refusal, status, error, description) in [
        ("invalid_grant", 400, "invalid_grant", "Not a valid email."),
        ("invalid_grant: The account has been deleted", 400, "invalid_grant", "The account has been deleted"),
        ("access_denied", 403, "access_denied", "Requested client not authorized."),
        ("disabled_client", 401, "disabled_client", "The OAuth client was disabled."),
        ("admin_policy_enforced", 400, "admin_policy_enforced", ""),
    ] {
        google.refuse_client("alice@example.com", Some(refusal));

        let answer = jwt(&google, 3600);

        assert_eq!(answer, (status, json!({ "error": error, "error_description": description })));
    }
    google.refuse_client("alice@example.com", None);
    assert_eq!(jwt(&google, 3600).0, 200);
}

#[test]
fn a_service_accounts_assertion_is_checked() {
    let (google, _client) = alice();

    let (status, answer) = jwt(&google, 3600);
    assert_eq!((status, &answer["scope"]), (200, &json!("calendar")));
    let (status, answer) = jwt(&google, 3601);
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
    assert_eq!(jwt(&google, -10).0, 400, "expired");
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert_eq!(token(&google, &[grant, ("assertion", "a.b.c")]).0, 400);
    assert_eq!(token(&google, &[("grant_type", "password")]).1["error"], "unsupported_grant_type");
}

/// A client that asks by this refresh token.
fn signed_in(google: &FakeGoogle, refresh_token: &str) -> Client {
    let mut form = REFRESH;
    form[3].1 = refresh_token;
    with_bearer(google, token(google, &form).1["access_token"].as_str().expect("a token"))
}

/// Alice and Bob, each with a calendar and a refresh token.
fn two_people() -> (FakeGoogle, Client, Client) {
    let (google, _) = alice();
    google.add_calendar(&NewCalendar::new("bob@example.com")).unwrap();
    google.sign_in("1//alice", story::ALICE);
    google.sign_in("1//bob", "bob@example.com");
    let (alice, bob) = (signed_in(&google, "1//alice"), signed_in(&google, "1//bob"));
    (google, alice, bob)
}

#[test]
fn primary_is_the_calendar_of_whoever_asks() {
    let (_google, alice, bob) = two_people();

    assert_eq!(alice.get("/calendars/primary").json["id"], story::ALICE);
    assert_eq!(bob.get("/calendars/primary").json["id"], "bob@example.com");
    assert_eq!(bob.get("/users/me/calendarList/primary").json["id"], "bob@example.com");
}

#[test]
fn a_sync_token_of_somebody_elses_primary_calendar_is_refused_unless_that_is_tolerated() {
    let (google, alice, bob) = two_people();
    let token = alice.get("/calendars/primary/events").sync_token();
    let with_it = format!("/calendars/primary/events?{}", encode(&[("syncToken", &token)]));
    assert_eq!(alice.get(&with_it).status, 200);
    assert_eq!(bob.get(&with_it).status, 400);

    google.set_quirks(None, Quirks { tolerate_foreign_tokens: true, ..Quirks::default() }).unwrap();

    assert_eq!(bob.get(&with_it).status, 200);
}

#[test]
fn a_channel_is_stopped_by_whom_it_was_opened_and_to_others_is_not_there() {
    let (google, alice, bob) = two_people();
    let channel = json!({ "id": "c", "type": "web_hook", "address": "https://example.com/hook" });
    let opened = alice.post("/calendars/primary/events/watch", &channel).json;
    let stop = json!({ "id": "c", "resourceId": opened["resourceId"] });

    assert_eq!(bob.post("/channels/stop", &stop).status, 404);
    assert_eq!(google.channels().len(), 1);
    assert_eq!(signed_in(&google, "1//alice").post("/channels/stop", &stop).status, 204);
}

#[test]
fn a_rotated_refresh_token_is_the_same_persons() {
    let (google, ..) = two_people();
    google.rotate_refresh_tokens(true);
    let mut form = REFRESH;
    let first = token(&google, &form).1;
    form[3].1 = first["refresh_token"].as_str().expect("another one");

    let client = with_bearer(&google, token(&google, &form).1["access_token"].as_str().expect("a token"));

    assert_eq!(client.get("/calendars/primary").json["id"], story::ALICE);
}
