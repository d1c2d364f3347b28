//! What people consent to: refresh tokens, and whose calendar they open.

use fake_google::NewCalendar;
use serde_json::{Value, json};

use crate::{ALICE, World};

/// The other one, where a story needs two people.
pub const BOB: &str = "bob@example.com";

/// The secret of an OAuth client with this refresh token.
pub fn oauth(refresh_token: &str) -> Value {
    json!({ "client_id": "app.example", "client_secret": "client-secret", "refresh_token": refresh_token })
}

impl World {
    /// Google asks who is there: Alice, by `1//alice` and `1//alice-again`, or Bob, by `1//bob`. For each of them
    /// `primary` is a calendar of their own.
    pub fn of_two_people(&mut self) {
        self.google.require_auth(true);
        self.google.add_calendar(&NewCalendar::new(BOB).in_zone("Europe/Vienna")).expect("a calendar");
        for (refresh_token, calendar) in [("1//alice", ALICE), ("1//alice-again", ALICE), ("1//bob", BOB)] {
            self.google.sign_in(refresh_token, calendar);
        }
    }

    /// Subscribes to the calendar that is `primary` for whoever gave the consent.
    pub fn subscribe_primary(&mut self, calendar: &str, credential: &str) {
        let subscribe = "SELECT calsync_subscribe($1, credential => $2, remote_id => 'primary')";
        self.sql.execute(subscribe, &[&calendar, &credential]).expect("the calendar can be subscribed");
    }
}
