//! Two tenants of one database, each with an operator, a person who sees details and one who asks: what a booking product
//! is made of. Google is spoken to over TLS, asks for tokens and tells of changes; nothing is done by a superuser.

use calsync_integration::{ALICE, Pushed, ServiceAccountKey, eventually, sqlstate};
use fake_google::NewCalendar;
use postgres::Client;
use serde_json::{Value, json};

const BOB: &str = "bob@example.com";

/// The three roles of a tenant, connected. The first owns the calendars, and shares them with the others: a member of an
/// operator would be one.
struct Tenant {
    operates: Client,
    sees: Client,
    asks: Client,
    name: &'static str,
}

impl Tenant {
    fn join(pushed: &mut Pushed, name: &'static str) -> Self {
        let roles = [("operates", "calsync_operator"), ("sees", "calsync_detail"), ("asks", "calsync_reader")];
        let [operates, sees, asks] = roles.map(|(does, right)| {
            let role = format!("{name}_{does}");
            pushed.world.sql.batch_execute(&format!("CREATE ROLE {role} LOGIN IN ROLE {right}")).expect("a role");
            pushed.world.cluster.connect_as(&role, "postgres").expect("connected")
        });
        Tenant { operates, sees, asks, name }
    }

    fn subscribe(&mut self, calendar: &str, credential: &str, secret: &Value, remote_id: &str) {
        self.operates
            .execute("SELECT calsync_add_credential($1, 'google', $2)", &[&credential, secret])
            .expect("a credential");
        self.operates
            .execute(
                "SELECT calsync_subscribe($1, credential => $2, remote_id => $3)",
                &[&calendar, &credential, &remote_id],
            )
            .expect("subscribed");
        for (guest, sql) in [("sees", &mut self.sees), ("asks", &mut self.asks)] {
            let with = format!("{}_{guest}", self.name);
            self.operates.execute("SELECT calsync_share($1, $2)", &[&calendar, &with]).expect("offered");
            sql.execute("SELECT calsync_accept_share($1)", &[&calendar]).expect("accepted");
        }
    }

    fn is_busy(&mut self, day: &str, calendar: &str) -> Result<bool, String> {
        let asked = self.asks.query_one(&format!("SELECT NOT calsync_is_free('{day}', ARRAY['{calendar}'])"), &[]);
        asked.map(|row| row.get(0)).map_err(|error| sqlstate(&error))
    }

    fn titles(&mut self) -> Vec<String> {
        let rows = self.sees.query("SELECT summary FROM calsync_events() ORDER BY summary", &[]).expect("rows");
        rows.iter().map(|row| row.get(0)).collect()
    }
}

fn titled(pushed: &Pushed, calendar: &str, title: &str) {
    let event = json!({
        "summary": title,
        "start": {"dateTime": pushed.world.at(3, "08:00")},
        "end": {"dateTime": pushed.world.at(3, "09:00")},
    });
    pushed.world.google.insert_event(calendar, &event).expect("an event");
}

#[test]
fn two_tenants_with_three_roles_each_share_a_server_and_nothing_else() {
    let mut pushed = Pushed::new();
    pushed.world.google.require_auth(true);
    pushed.world.google.add_calendar(&NewCalendar::new(BOB)).expect("a calendar");
    let key = ServiceAccountKey::generate("robot@project.example");
    pushed.world.google.register_key(&key.email, key.public_key.clone());
    let consent = json!({"client_id": "app", "client_secret": "s", "refresh_token": "1//alice"});
    let day = format!("[{}, {})", pushed.world.at(3, "08:00"), pushed.world.at(3, "09:00"));
    let mut acme = Tenant::join(&mut pushed, "acme");
    let mut zeta = Tenant::join(&mut pushed, "zeta");

    // One comes by OAuth, the other by a service account; both call their calendar the same.
    acme.subscribe("boss", "google", &consent, ALICE);
    zeta.subscribe("boss", "google", &key.file(Some("*")), BOB);
    pushed.wait_until_watched(2);
    assert_eq!((acme.is_busy(&day, "boss"), zeta.is_busy(&day, "boss")), (Ok(false), Ok(false)));

    // What happens to the one is told by push, and is nobody else's.
    titled(&pushed, ALICE, "Salaries of Acme");
    eventually("it arrived", || acme.is_busy(&day, "boss") == Ok(true));
    assert_eq!(zeta.is_busy(&day, "boss"), Ok(false));
    titled(&pushed, BOB, "Takeover by Zeta");
    eventually("it arrived", || zeta.is_busy(&day, "boss") == Ok(true));
    assert_eq!(acme.titles(), ["Salaries of Acme"]);
    assert_eq!(zeta.titles(), ["Takeover by Zeta"]);
    let tokens = pushed.world.token_requests();
    let grants: Vec<&str> = tokens.iter().map(|form| form["grant_type"].as_str()).collect();
    assert!(
        grants.contains(&"refresh_token") && grants.iter().any(|grant| grant.ends_with("jwt-bearer")),
        "{grants:?}"
    );

    // Each role may do its own: who asks sees no title, who sees changes nothing, who operates sees no title.
    let refused = |role: &mut Client, statement: &str| {
        assert_eq!(sqlstate(&role.batch_execute(statement).expect_err(statement)), "42501", "{statement}");
    };
    refused(&mut acme.asks, "SELECT FROM calsync_events()");
    for statement in ["SELECT calsync_sync()", "SELECT calsync_add_credential('x', 'google', '{}')"] {
        refused(&mut acme.asks, statement);
        refused(&mut acme.sees, statement);
    }
    for statement in ["SELECT FROM calsync_events()", "TABLE calsync.event", "TABLE calsync.credential"] {
        refused(&mut acme.operates, statement);
    }

    // Consent that is withdrawn at the one stops nothing of the other.
    pushed.world.google.revoke_grants(Some("1//alice"));
    pushed.world.google.expire_access_tokens();
    acme.operates.batch_execute("SELECT calsync_sync()").expect("due");
    let state = "SELECT state::text FROM calsync.status";
    eventually("somebody must act", || {
        acme.asks.query_one(state, &[]).expect("one").get::<_, String>(0) == "needs_credential"
    });
    zeta.operates.batch_execute("SELECT calsync_sync()").expect("due");
    pushed.world.wait_until_idle();
    assert_eq!(zeta.asks.query_one(state, &[]).expect("one").get::<_, String>(0), "active");
}
