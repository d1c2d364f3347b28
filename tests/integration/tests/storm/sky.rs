//! Everything that one seed moves: a fake Google, a cluster with its worker, the users, the readers, what was done.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use calsync_integration::{Cluster, Dice};
use chrono::Utc;
use fake_google::{FakeGoogle, NewCalendar};
use postgres::Client;

use crate::moments::{Calendar, ZONES};
use crate::reader::Readers;
use crate::user::User;
use crate::weather::Weather;

pub const DATABASE: &str = "postgres";

/// A subscription: the name SQL knows, and Google's calendar behind it.
#[derive(Clone)]
pub struct Kept {
    pub calendar: String,
    pub remote: String,
}

pub struct Sky {
    pub seed: u64,
    pub google: FakeGoogle,
    pub cluster: Cluster,
    sql: Option<Client>,
    pub kept: Vec<Kept>,
    pub user: User,
    pub weather: Weather,
    pub readers: Readers,
    dice: Dice,
    loud: bool,
    /// What was done, in order.
    pub journal: Vec<String>,
    /// How often what went wrong.
    pub blows: BTreeMap<&'static str, usize>,
}

impl Sky {
    pub fn new(seed: u64, loud: bool) -> Self {
        let mut dice = Dice::seeded(seed);
        let google = FakeGoogle::start();
        let horizon = dice.one_of(&[30, 60, 120, 365]);
        let days = Calendar { today: Utc::now().date_naive(), horizon };
        let remotes: Vec<String> = (0..4).map(|n| format!("c{n}@example.com")).collect();
        for remote in &remotes {
            google.add_calendar(&NewCalendar::new(remote).in_zone(dice.one_of(&ZONES))).expect("a new calendar");
        }
        let cluster = Cluster::start(&format!(
            "calsync.google_api_url = '{}/calendar/v3'\ncalsync.allow_private_network = on\n\
             calsync.requests_per_minute = 1000000\ncalsync.poll_interval = {}\n\
             calsync.request_timeout = '1s'\ncalsync.horizon = '{horizon}d'\ncalsync.retention = '40d'\n\
             calsync.full_sync_interval = '{}s'\n",
            google.api_url(),
            dice.one_of(&[1, 2, 300]),
            dice.one_of(&[0, 0, 2]),
        ));
        let mut sql = cluster.connect(DATABASE);
        sql.batch_execute("CREATE EXTENSION pg_calsync; SELECT calsync_add_credential('work', 'google', '{}')")
            .expect("the extension can be created");
        let mut sky = Sky {
            seed,
            readers: Readers::default(),
            user: User::new(Dice::seeded(seed ^ 0xacce_5500), days, remotes.clone()),
            weather: Weather::new(Dice::seeded(seed ^ 0xb10_5500)),
            google,
            cluster,
            sql: Some(sql),
            kept: Vec::new(),
            dice,
            loud,
            journal: Vec::new(),
            blows: BTreeMap::new(),
        };
        sky.user.place_markers(&sky.google);
        // Some of it is there before anybody subscribes: the first full sync is part of the storm.
        for _ in 0..10 {
            sky.user_acts();
        }
        sky.subscribe(&remotes);
        sky.readers = Readers::start(&sky.cluster, sky.user.today(), &sky.kept);
        sky
    }

    fn subscribe(&mut self, remotes: &[String]) {
        let options = ["{}", r#"{"store": "full"}"#, r#"{"incremental": false}"#, r#"{"store": "busy_only"}"#];
        for (remote, options) in remotes.iter().zip(options) {
            let credential = self.dice.once_in(2).then_some("work");
            self.keep(remote, remote, credential, options);
        }
        // Two tenants with the same remote calendar.
        self.keep("acme:c0", &remotes[0], None, "{}");
    }

    fn keep(&mut self, calendar: &str, remote: &str, credential: Option<&str>, options: &str) {
        let subscribe = "SELECT calsync_subscribe($1, 'google', $2, $3, NULL, $4::text::jsonb)";
        let sql = self.sql.as_mut().expect("connected");
        sql.execute(subscribe, &[&calendar, &credential, &remote, &options]).expect("the calendar can be subscribed");
        self.kept.push(Kept { calendar: calendar.to_owned(), remote: remote.to_owned() });
    }

    /// So many acts of users, with blows between them.
    pub fn storm(&mut self, acts: usize) {
        let mut weather = std::mem::replace(&mut self.weather, Weather::new(Dice::seeded(0)));
        for _ in 0..acts {
            self.user_acts();
            weather.blow(self);
            if self.dice.once_in(3) {
                self.try_sql("SELECT calsync_sync()");
            }
            std::thread::sleep(Duration::from_millis(self.dice.roll(12) as u64));
        }
        weather.settle(self);
        self.weather = weather;
    }

    fn user_acts(&mut self) {
        let act = self.user.act(&self.google);
        self.note(act);
    }

    /// In the quiet: no list holds any event for it.
    pub fn move_a_calendar(&mut self) {
        let act = self.user.move_a_calendar(&self.google);
        self.note(act);
    }

    pub fn note(&mut self, what: String) {
        if self.loud {
            crate::tell(&format!("  {what}"));
        }
        self.journal.push(what);
    }

    pub fn blew(&mut self, what: &'static str) {
        *self.blows.entry(what).or_default() += 1;
        self.note(format!("-- {what}"));
    }

    /// Runs a statement in our own session; what stands in its way (a server that is being killed) is part of the storm.
    pub fn try_sql(&mut self, statement: &str) -> bool {
        if self.sql.as_ref().is_none_or(Client::is_closed) {
            self.sql = self.cluster.try_connect(DATABASE).ok();
        }
        self.sql.as_mut().is_some_and(|sql| sql.batch_execute(statement).is_ok())
    }

    /// The same until it comes through.
    pub fn insist(&mut self, statement: &str) {
        let begun = Instant::now();
        while !self.try_sql(statement) {
            assert!(begun.elapsed() < Duration::from_secs(60), "seed {}: in vain: {statement}", self.seed);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Our own session, once the server is up again.
    pub fn sql(&mut self) -> &mut Client {
        self.insist("SELECT");
        self.sql.as_mut().expect("connected")
    }

    /// What blew, for the person who watches.
    pub fn end(mut self) -> String {
        let answers = self.readers.stop();
        let blows: Vec<String> = self.blows.iter().map(|(what, times)| format!("{what} {times}")).collect();
        format!("{answers} answers read; {}", blows.join(", "))
    }
}
