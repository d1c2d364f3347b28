//! A fake Google, a cluster whose worker knows no other, and a calendar or two.
//!
//! They speak over TLS, as with the real one: the server trusts an authority of the tests' own and no other.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::OnceLock;

use chrono::{NaiveDate, TimeDelta};
use fake_google::{Authority, FakeGoogle, Identity, NewCalendar};
use postgres::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::new_home;
use crate::days::busy_days;
use crate::items::today;
use crate::{Cluster, eventually};

/// The calendar that most stories are about.
pub const ALICE: &str = "alice@example.com";

pub struct World {
    pub google: FakeGoogle,
    pub cluster: Cluster,
    pub sql: Client,
    pub today: NaiveDate,
    /// With the certificate of whom the server trusts; as long as the server runs.
    _trusted: TempDir,
}

/// Whom the servers of all worlds trust.
pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(Authority::new)
}

fn localhost() -> &'static Identity {
    static LOCALHOST: OnceLock<Identity> = OnceLock::new();
    LOCALHOST.get_or_init(|| authority().certify(&["localhost"]))
}

impl World {
    /// A worker that polls often, and Alice's empty calendar in Vienna, not yet subscribed.
    pub fn new() -> Self {
        Self::with("")
    }

    pub fn with(configuration: &str) -> Self {
        Self::of(FakeGoogle::start_tls(localhost()), &[], configuration)
    }

    /// Without TLS.
    pub fn in_the_clear(configuration: &str) -> Self {
        Self::of(FakeGoogle::start(), &[], configuration)
    }

    /// The server finds these variables in its environment.
    pub fn in_environment(environment: &[(&str, &str)], configuration: &str) -> Self {
        Self::of(FakeGoogle::start_tls(localhost()), environment, configuration)
    }

    fn of(google: FakeGoogle, environment: &[(&str, &str)], configuration: &str) -> Self {
        google.add_calendar(&NewCalendar::new(ALICE).in_zone("Europe/Vienna")).expect("a new calendar");
        let trusted = new_home();
        let certificate = trusted.path().join("trusted.pem");
        std::fs::write(&certificate, authority().pem()).expect("the certificate is writable");
        let certificate = certificate.display().to_string();
        let environment = [&[("SSL_CERT_FILE", certificate.as_str())], environment].concat();
        let configuration = format!(
            "calsync.google_api_url = '{}/calendar/v3'\ncalsync.google_token_url = '{}'\n\
             calsync.allow_private_network = on\n{configuration}",
            google.api_url(),
            google.token_url()
        );
        let cluster = Cluster::start_in(&environment, &configuration);
        let mut sql = cluster.connect("postgres");
        sql.batch_execute("CREATE EXTENSION pg_calsync").expect("the extension can be created");
        World { google, cluster, sql, today: today(), _trusted: trusted }
    }

    /// Alice's calendar, subscribed and synced once.
    pub fn synced() -> Self {
        let mut world = Self::new();
        world.subscribe(ALICE);
        world.wait_for_sync(ALICE);
        world
    }

    pub fn subscribe(&mut self, calendar: &str) {
        self.sql.execute("SELECT calsync_subscribe($1)", &[&calendar]).expect("the calendar can be subscribed");
    }

    /// Subscribes more calendars, which exist at Google.
    pub fn others(&mut self, names: &[&str], credential: Option<&str>) {
        for name in names {
            self.google.add_calendar(&NewCalendar::new(*name)).expect("a calendar");
            self.sql
                .execute("SELECT calsync_subscribe($1, credential => $2)", &[name, &credential])
                .expect("the calendar can be subscribed");
        }
    }

    /// Until the calendar has been synced at least once and nothing is due or under way.
    pub fn wait_for_sync(&mut self, calendar: &str) {
        eventually("the calendar is synced", || {
            self.text("SELECT state::text FROM calsync.subscription WHERE calendar = $1", calendar) == "active"
        });
        self.wait_until_idle();
    }

    /// Until no calendar is due or under way.
    pub fn wait_until_idle(&mut self) {
        eventually("nothing is due or under way", || {
            let row = self.sql.query_one(
                "SELECT count(*) FROM calsync.subscription \
                 WHERE leased_until IS NOT NULL OR next_sync_at <= clock_timestamp()",
                &[],
            );
            row.expect("the subscriptions are readable").get::<_, i64>(0) == 0
        });
    }

    /// `calsync_sync()`, and until what it asked for is done.
    pub fn sync(&mut self) {
        self.sql.execute("SELECT calsync_sync()", &[]).expect("calsync_sync");
        self.wait_until_idle();
    }

    /// Alice's busy time from yesterday for sixty days, one interval a line, in UTC and days from today:
    /// `+3 08:00 to 09:00`.
    pub fn busy(&mut self) -> Vec<String> {
        self.busy_of(ALICE)
    }

    pub fn busy_of(&mut self, calendar: &str) -> Vec<String> {
        self.try_busy(calendar).unwrap_or_else(|error| panic!("busy: {error:?}"))
    }

    pub fn try_busy(&mut self, calendar: &str) -> Result<Vec<String>, postgres::Error> {
        busy_days(&mut self.sql, self.today, calendar)
    }

    /// `HH:MM` UTC on the day so many days from today, as RFC 3339.
    pub fn at(&self, day: i64, time: &str) -> String {
        format!("{}T{time}:00Z", self.today + TimeDelta::days(day))
    }

    /// A single event of Alice's, on the day so many days from today. Returns its id.
    pub fn meeting(&self, day: i64, from: &str, to: &str) -> String {
        self.meeting_of(ALICE, day, from, to)
    }

    pub fn meeting_of(&self, calendar: &str, day: i64, from: &str, to: &str) -> String {
        let event = json!({
            "summary": "Meeting",
            "start": {"dateTime": self.at(day, from)},
            "end": {"dateTime": self.at(day, to)},
        });
        id(&self.google.insert_event(calendar, &event).expect("an event can be inserted"))
    }

    /// A daily event of Alice's, so many times from the day so many days from today. Returns its id.
    pub fn daily(&self, day: i64, from: &str, to: &str, times: u32) -> String {
        let event = json!({
            "summary": "Stand-up",
            "start": {"dateTime": self.at(day, from), "timeZone": "UTC"},
            "end": {"dateTime": self.at(day, to), "timeZone": "UTC"},
            "recurrence": [format!("RRULE:FREQ=DAILY;COUNT={times}")],
        });
        id(&self.google.insert_event(ALICE, &event).expect("a series can be inserted"))
    }

    /// One text of a row that is there.
    pub fn text(&mut self, sql: &str, argument: impl Display) -> String {
        let row = self.sql.query_opt(sql, &[&argument.to_string()]).expect("the query runs");
        row.and_then(|row| row.get::<_, Option<String>>(0)).unwrap_or_default()
    }

    pub fn count(&mut self, sql: &str) -> i64 {
        self.sql.query_one(sql, &[]).expect("the query runs").get(0)
    }

    /// The lists of events that Google was asked for, oldest first: the query, decoded.
    pub fn lists(&self) -> Vec<HashMap<String, String>> {
        let log = self.google.log();
        log.iter()
            .filter(|entry| entry.path.ends_with("/events"))
            .map(|entry| entry.query.iter().cloned().collect())
            .collect()
    }

    /// The requests for access tokens, oldest first: the form, decoded.
    pub fn token_requests(&self) -> Vec<HashMap<String, String>> {
        let log = self.google.log();
        let forms = log.iter().filter(|entry| entry.path == "/token").map(|entry| &entry.body);
        forms.map(|body| form_urlencoded::parse(body.as_bytes()).into_owned().collect()).collect()
    }

    /// The header Authorization of each list of events, oldest first.
    pub fn authorizations(&self) -> Vec<String> {
        let log = self.google.log();
        let lists = log.iter().filter(|entry| entry.path.ends_with("/events"));
        lists.map(|entry| entry.header("authorization").unwrap_or_default().to_owned()).collect()
    }

    /// `calsync_add_credential`, with bind parameters.
    pub fn add_credential(&mut self, name: &str, secret: &Value) {
        self.sql
            .execute("SELECT calsync_add_credential($1, 'google', $2)", &[&name, secret])
            .expect("the credential can be added");
    }

    /// How many of them asked for a delta.
    pub fn deltas(&self) -> usize {
        self.lists().iter().filter(|query| query.contains_key("syncToken")).count()
    }

    /// A column of Alice's row in `calsync.status`, as text.
    pub fn status(&mut self, column: &str) -> String {
        self.text(&format!("SELECT {column}::text FROM calsync.status WHERE calendar = $1"), ALICE)
    }

    /// Until Alice's row in `calsync.status` says so.
    pub fn wait_for_status(&mut self, column: &str, wanted: &str) {
        eventually(&format!("{column} is {wanted}"), || self.status(column) == wanted);
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// The SQLSTATE of an error of the server's.
pub fn sqlstate(error: &postgres::Error) -> String {
    error.code().map(|code| code.code().to_owned()).unwrap_or_default()
}

fn id(event: &Value) -> String {
    event["id"].as_str().expect("an event has an id").to_owned()
}
