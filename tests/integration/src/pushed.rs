//! A world in which Google tells of changes: a receiver, and polls so rare that what arrives was pushed.

use fake_google::PushQuirks;
use postgres::Client;
use serde_json::{Value, json};

use crate::receiver::{RECEIVER, Receiver};
use crate::{ALICE, World, eventually};

/// A world with a receiver. Polls come once an hour, so that what arrives was pushed.
pub struct Pushed {
    pub world: World,
    pub receiver: Receiver,
}

const RARELY: &str = "calsync.poll_interval = '1h'\ncalsync.max_poll_interval = '1h'\n";

impl Pushed {
    pub fn new() -> Self {
        Self::with("")
    }

    pub fn with(configuration: &str) -> Self {
        let receiver = Receiver::bind();
        let lines = format!("{RARELY}calsync.webhook_url = '{}'\n{configuration}", receiver.address());
        let mut world = World::with(&lines);
        let grant = format!(
            "CREATE ROLE {RECEIVER} LOGIN; GRANT EXECUTE ON FUNCTION calsync_webhook(jsonb, text) TO {RECEIVER}"
        );
        world.sql.batch_execute(&grant).expect("a role for the receiver");
        receiver.serve(world.cluster.connector());
        Pushed { world, receiver }
    }

    /// Alice's calendar, subscribed, synced and watched.
    pub fn watched() -> Self {
        let mut pushed = Self::new();
        pushed.world.subscribe(ALICE);
        pushed.wait_until_watched(1);
        pushed
    }

    /// Until so many channels have been confirmed, and the calendars know.
    pub fn wait_until_watched(&mut self, channels: i64) {
        let confirmed = "SELECT count(*) FROM calsync.channel WHERE state = 'open' AND confirmed_at IS NOT NULL \
             AND opened_at IS NOT NULL";
        eventually("the channels are confirmed", || self.world.count(confirmed) == channels);
        self.world.sync();
    }

    /// The tables are looked at now, and not within half a minute.
    pub fn look(&mut self) {
        self.world.cluster.reconfigure("calsync.connect_timeout = '10s'");
    }

    pub fn states(&mut self) -> Vec<String> {
        let rows = self.world.sql.query("SELECT state FROM calsync.channel ORDER BY requested_at", &[]);
        rows.expect("channels").iter().map(|row| row.get(0)).collect()
    }

    pub fn wait_for_states(&mut self, wanted: &[&str]) {
        let what = format!("the channels are {wanted:?}");
        eventually(&what, || self.states() == wanted);
    }

    /// In hours from now.
    pub fn next_poll(&mut self) -> i64 {
        self.world
            .count("SELECT min(extract(epoch FROM next_sync_at - now()) / 3600)::bigint FROM calsync.subscription")
    }

    pub fn statuses(&self) -> Vec<i32> {
        self.receiver.received().iter().map(|received| received.status).collect()
    }

    /// How many requests had a path that ends so.
    pub fn asked(&self, path: &str) -> usize {
        self.world.google.log().iter().filter(|entry| entry.path.ends_with(path)).count()
    }

    /// What Google sends for the channel of Alice's calendar.
    pub fn genuine(&self, number: u64) -> Value {
        self.genuine_of(ALICE, number)
    }

    pub fn genuine_of(&self, calendar: &str, number: u64) -> Value {
        let mut channels = self.world.google.channels().into_iter();
        let channel = channels.find(|channel| channel.calendar == calendar).expect("a channel");
        json!({
            "X-Goog-Channel-ID": channel.id,
            "X-Goog-Channel-Token": channel.token,
            "X-Goog-Resource-ID": channel.resource_id,
            "X-Goog-Resource-State": "exists",
            "X-Goog-Message-Number": number.to_string(),
        })
    }

    pub fn webhook(&mut self, headers: &Value) -> i32 {
        webhook(&mut self.world.sql, headers)
    }

    pub fn quirks(&self, quirks: PushQuirks) {
        self.world.google.set_push_quirks(quirks);
    }
}

/// What a receiver is told to answer.
pub fn webhook(sql: &mut Client, headers: &Value) -> i32 {
    sql.query_one("SELECT calsync_webhook($1)", &[headers]).expect("it never raises").get(0)
}

impl Default for Pushed {
    fn default() -> Self {
        Self::new()
    }
}
