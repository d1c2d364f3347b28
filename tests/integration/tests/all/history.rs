//! However a calendar got where it is, it is what one full list of it would make.

use calsync_integration::items::{Item, at, cancelled, days_off, meeting, spanning};
use calsync_integration::{Dice, Fed, ROOM};
use serde_json::json;

use super::delta::{COPY, stored};

/// A calendar at a provider: every item as it last was, tombstones of occurrences among them.
#[derive(Default)]
struct Remote(std::collections::BTreeMap<String, Item>);

impl Remote {
    /// Some edit by its owner; what the provider then sends.
    fn edit(&mut self, dice: &mut Dice) -> Vec<Item> {
        let hours = ["06:00", "08:00", "08:30", "09:00", "11:00", "12:00"];
        let hour = dice.roll(5);
        let (from, to) = (hours[hour], hours[hour + 1]);
        let day = dice.roll(30) as i64 - 3;
        let series = format!("s{}", dice.roll(4));
        let rules = ["FREQ=DAILY;COUNT=9", "FREQ=DAILY;INTERVAL=2;COUNT=6", "FREQ=WEEKLY", "FREQ=DAILY"];
        let slot = dice.roll(12) as i64;
        let exception = format!("{series}x{slot}");
        let item = match dice.roll(10) {
            0 => meeting(&series, day, from, to).repeating(dice.one_of(&rules)),
            1 => days_off(&series, day, day + 1 + dice.roll(2) as i64).repeating(dice.one_of(&rules)),
            2 | 3 => meeting(&exception, day, from, to).instead_of(&series, slot, dice.one_of(&hours)),
            4 => cancelled(&exception).instead_of(&series, slot, dice.one_of(&hours)),
            5 => days_off(&format!("e{}", dice.roll(8)), day, day + dice.roll(9) as i64),
            6 => spanning(&format!("e{}", dice.roll(8)), &at(day, to), &at(day + dice.roll(6) as i64, "20:00")),
            7 => {
                let id = dice.one_of(&["s0", "s1", "s2", "s3", "e0", "e1", "e2", "e3"]).to_string();
                let of_series = |item: &Item| item.json()["recurringEventId"] == json!(id);
                self.0.retain(|other, item| *other != id && !of_series(item));
                return vec![cancelled(&id)];
            }
            8 => meeting(&series, day, from, to),
            _ => meeting(&format!("e{}", dice.roll(8)), day, from, to),
        };
        let statuses = [json!({}), json!({"status": "tentative"}), json!({"eventType": "outOfOffice"})];
        let item =
            if item.json()["status"] == "cancelled" { item } else { item.saying(statuses[dice.roll(3)].clone()) };
        let id = item.json()["id"].as_str().expect("an id").to_owned();
        self.0.insert(id, item.clone());
        vec![item]
    }
}

#[test]
fn any_history_of_deltas_ends_where_one_full_list_begins() {
    let mut fed = Fed::new();
    fed.subscribe(COPY, json!({}));
    for seed in 0..6 {
        let (mut dice, mut remote) = (Dice::seeded(seed), Remote::default());
        fed.list(&[]);
        for step in 0..60 {
            let edits: Vec<Item> = (0..1 + dice.roll(3)).flat_map(|_| remote.edit(&mut dice)).collect();
            // An id comes once in a provider's delta, as it last was.
            let mut latest: Vec<Item> = Vec::new();
            for edit in edits {
                latest.retain(|other| other.json()["id"] != edit.json()["id"]);
                latest.push(edit);
            }
            let still = |item: &Item| {
                let id = item.json()["id"].as_str().unwrap_or_default().to_owned();
                remote.0.contains_key(&id) || item.json() == cancelled(&id).json()
            };
            latest.retain(still);
            fed.change(&latest);
            if step % 10 == 9 {
                // Forgotten first, so that nothing of the copy's own past can hide a mistake.
                fed.sql.execute("SELECT calsync_unsubscribe($1)", &[&COPY]).expect("forgotten");
                fed.subscribe(COPY, json!({}));
                let all: Vec<Item> = remote.0.values().cloned().collect();
                fed.list_of(COPY, &all);
                assert_eq!(stored(&mut fed, ROOM), stored(&mut fed, COPY), "seed {seed}, step {step}");
            }
        }
    }
}
