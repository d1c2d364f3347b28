//! A panic while secrets are in hand: it is told where it was, and not what it said; and it is nobody else's failure.
//!
//! The real code panics, in whatever profile it was built: the server runs in a libc that lies to it (`src/liar.c`). What
//! those panics say is known; whoever shows a word of it would show a secret that stood there, too.

use std::fs;

use calsync_integration::markers::{MARKER, assert_nothing_shows, needles, oauth, shapes, talkative};
use calsync_integration::{Liar, Lie, ServiceAccountKey, World, authority, eventually, sqlstate};
use fake_google::{FakeGoogle, Fault};
use postgres::Client;

/// What Rust says where more was sent, or read, than there was; and where there is no clock.
const WORDS: [&str; 3] = ["out of range for slice", "called `Result::unwrap()`", "number out of range"];

struct Story {
    world: World,
    liar: Liar,
    key: ServiceAccountKey,
}

impl Story {
    fn begin() -> Self {
        let liar = Liar::new();
        let environment = liar.environment();
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        let world = talkative(&environment);
        // What is told here is not whom Google lets in.
        world.google.require_auth(false);
        Story { world, liar, key: ServiceAccountKey::generate("robot@project.example") }
    }

    /// Each shape of secret under its own name, and a calendar of each.
    fn with_every_shape(&mut self) {
        for (name, secret) in shapes(&self.key) {
            self.world.add_credential(name, &secret);
            self.world.others(&[&format!("{name}@x")], Some(name));
        }
    }

    /// With an access token in the worker's memory.
    fn with_a_synced_calendar(&mut self) {
        self.world.add_credential("oauth", &oauth());
        self.world.others(&["oauth@x"], Some("oauth"));
        self.world.wait_for_sync("oauth@x");
    }

    fn worker(&mut self) -> i32 {
        let mut pid = None;
        eventually("a worker runs", || {
            let found = self.world.sql.query_opt("SELECT pid FROM calsync.stat_worker", &[]).expect("the worker");
            pid = found.map(|row| row.get(0));
            pid.is_some()
        });
        pid.unwrap_or_default()
    }

    fn calendars_where(&mut self, condition: &str) -> i64 {
        self.world.count(&format!("SELECT count(*) FROM calsync.status WHERE {condition}"))
    }

    fn assert_nothing_is_told(&self) {
        let words = WORDS.map(str::to_owned);
        assert_nothing_shows(&self.world, &[needles(&self.key), words.to_vec()].concat());
    }
}

/// The error of a call that panicked: an internal one that tells the place.
fn panicked(sql: &mut Client, call: &str) -> String {
    let error = sql.batch_execute(call).expect_err("it panics");
    assert_eq!(sqlstate(&error), "XX000", "{error:?}");
    let told = error.as_db_error().expect("the server's");
    let told = format!("{} {:?} {:?} {:?}", told.message(), told.detail(), told.hint(), told.where_());
    assert!(told.starts_with("pg_calsync panicked at "), "{told}");
    for word in WORDS.into_iter().chain([MARKER]) {
        assert!(!told.contains(word), "{told}");
    }
    told
}

fn port_of(google: &FakeGoogle) -> u16 {
    google.api_url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

#[test]
fn a_panic_while_a_secret_is_sent_is_its_own_calendars_failure() {
    let mut story = Story::begin();
    let tokens = FakeGoogle::start_tls(&authority().certify(&["localhost"]));
    tokens.register_key(&story.key.email, story.key.public_key.clone());
    let token_url = tokens.token_url();
    story.world.cluster.reconfigure(&format!("calsync.google_token_url = '{token_url}'"));
    let before = story.worker();

    let to_the_token_url = Lie::Sent { port: port_of(&tokens) };
    story.liar.tell(to_the_token_url);
    story.with_every_shape();
    eventually("whoever needs a token fails", || {
        story.calendars_where("state = 'backoff' AND last_error LIKE '%the HTTP client panicked%'") == 4
    });
    eventually("whoever needs none is synced", || story.calendars_where("state = 'active'") == 2);
    story.liar.take_back(to_the_token_url);
    let to_the_calendars = Lie::Sent { port: port_of(&story.world.google) };
    story.liar.tell(to_the_calendars);
    story.world.sql.batch_execute("UPDATE calsync.subscription SET last_error = NULL").expect("forgotten");
    eventually("all fail", || {
        story.world.sql.batch_execute("SELECT calsync_sync()").expect("due");
        story.calendars_where("last_error LIKE '%the HTTP client panicked%'") == 6
    });
    story.liar.take_back(to_the_calendars);

    eventually("all are synced", || {
        story.world.sql.batch_execute("SELECT calsync_sync()").expect("due");
        story.calendars_where("state = 'active' AND last_error IS NULL") == 6
    });
    assert_eq!(story.worker(), before, "the worker lived through it");
    assert!(story.world.cluster.log().contains("pg_calsync: a thread panicked at "), "the log says where");
    story.assert_nothing_is_told();
}

#[test]
fn a_worker_that_panics_tells_no_secret_and_another_goes_on() {
    let mut story = Story::begin();
    story.with_a_synced_calendar();
    let before = story.worker();

    story.liar.tell(Lie::Clock { pid: before });
    story.world.sql.batch_execute("SELECT calsync_sync()").expect("due");

    eventually("another worker has come", || story.worker() != before);
    story.world.sync();
    let log = story.world.cluster.log();
    assert!(log.contains("ERROR:  pg_calsync panicked at "), "the log says where");
    story.assert_nothing_is_told();
}

#[test]
fn a_foreground_run_that_panics_tells_its_caller_no_secret_of_others() {
    let mut story = Story::begin();
    story.world.cluster.reconfigure("calsync.databases = 'nowhere'");
    eventually("the worker leaves", || story.world.count("SELECT count(*) FROM calsync.stat_worker") == 0);
    story.world.add_credential("oauth", &oauth());
    story.world.others(&["oauth@x"], Some("oauth"));
    story.world.google.add_fault(Fault::latency(std::time::Duration::from_secs(1)).on_path("/events"));
    // Who may run all calendars, and is not told everything.
    let role = "CREATE ROLE runner LOGIN IN ROLE calsync_operator, calsync_worker";
    story.world.sql.batch_execute(role).expect("a role");
    let mut caller = story.world.cluster.connect_as("runner", "postgres").expect("it logs in");
    let pid: i32 = caller.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);

    let call = std::thread::spawn(move || panicked(&mut caller, "CALL calsync_run()"));
    eventually("the calendar is asked for with a token", || story.world.lists().len() == 1);
    story.liar.tell(Lie::Clock { pid });

    call.join().expect("it told what it may");
    story.assert_nothing_is_told();
}

#[test]
fn a_unit_of_work_that_panics_tells_where_and_not_what() {
    let mut story = Story::begin();
    story.with_a_synced_calendar();
    let before = story.worker();

    // A number that pgrx cannot read, where nobody but a superuser can put it.
    story.world.sql.batch_execute("UPDATE calsync.subscription SET options = '{\"x\": 1e400}'").expect("spoilt");
    story.world.sql.batch_execute("SELECT calsync_sync()").expect("due");

    eventually("the log says where", || {
        story.world.cluster.log().contains("no calendar could be claimed: panicked at ")
    });
    story.world.sql.batch_execute("UPDATE calsync.subscription SET options = '{}'").expect("mended");
    story.world.sync();
    assert_eq!(story.worker(), before, "the worker lived through it");
    story.assert_nothing_is_told();
}

#[test]
fn a_session_that_panics_over_a_secret_tells_nothing_of_it() {
    let mut story = Story::begin();
    story.world.add_credential("oauth", &oauth());
    let file = story.world.cluster.home().join("secret.json");
    fs::write(&file, oauth().to_string()).expect("written");
    story.world.cluster.own(&file);
    let mut sql = story.world.cluster.connect("postgres");
    let pid: i32 = sql.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);

    for call in [
        format!("SELECT calsync_add_credential('a', 'google', '{}')", oauth()),
        format!("SELECT calsync_add_credential('a', 'google', '{{\"file\": \"{}\"}}')", file.display()),
        "SELECT calsync_rotate_key()".to_owned(),
    ] {
        story.liar.tell(Lie::Read { pid });
        panicked(&mut sql, &call);
    }

    sql.batch_execute("SELECT calsync_rotate_key()").expect("the session goes on");
    story.assert_nothing_is_told();
}
