//! What people do in their calendars' web interface, drawn from the seed and from what is there.

use calsync_integration::Dice;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use fake_google::{ApiError, CalendarPatch, Control};
use serde_json::{Value, json};

use crate::moments::{Calendar, ZONES, length, time_of_day};
use crate::reader::markers;
use crate::rules::{Begins, lines};

pub struct User {
    dice: Dice,
    days: Calendar,
    remotes: Vec<String>,
    acts: usize,
}

/// What the user sees of an event, of its kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Single,
    Series,
    Exception,
    DeletedEvent,
    DeletedOccurrence,
}

type Done = Result<String, ApiError>;

impl User {
    pub fn new(dice: Dice, days: Calendar, remotes: Vec<String>) -> Self {
        User { dice, days, remotes, acts: 0 }
    }

    pub fn today(&self) -> NaiveDate {
        self.days.today
    }

    pub fn horizon(&self) -> i64 {
        self.days.horizon
    }

    pub fn place_markers(&self, google: &Control) {
        for remote in &self.remotes {
            markers::place(google, remote, self.days.today);
        }
    }

    /// One act, told in words. Acts that Google refuses count, too.
    pub fn act(&mut self, google: &Control) -> String {
        self.acts += 1;
        if self.acts.is_multiple_of(5) {
            for remote in &self.remotes {
                markers::move_on(google, remote, self.days.today, self.acts / 5);
            }
        }
        let remotes = self.remotes.clone();
        let remote = &remotes[self.dice.roll(remotes.len())];
        let done = match self.dice.roll(100) {
            0..18 => self.make_event(google, remote, false),
            18..30 => self.make_event(google, remote, true),
            30..33 => self.make_many(google, remote),
            33..44 => self.move_event(google, remote),
            44..49 => self.change_length(google, remote),
            49..54 => self.change_recurrence(google, remote),
            54..68 => self.edit_occurrence(google, remote),
            68..74 => self.this_and_following(google, remote),
            74..82 => self.delete(google, remote),
            82..85 => self.restore(google, remote),
            85..93 => self.answer(google, remote),
            93..96 => self.change_days_or_times(google, remote),
            96..98 => self.change_zone(google, remote),
            _ => self.change_zone_of_calendar(google, remote),
        };
        match done {
            Ok(what) => format!("{remote}: {what}"),
            Err(refused) => format!("{remote}: refused: {refused}"),
        }
    }

    /// A calendar in which nothing else happens now.
    pub fn move_a_calendar(&mut self, google: &Control) -> String {
        let remote = self.remotes[self.dice.roll(self.remotes.len())].clone();
        let done = self.change_zone_of_calendar(google, &remote);
        format!("{remote}: {}", done.unwrap_or_else(|refused| refused.to_string()))
    }

    fn make_event(&mut self, google: &Control, remote: &str, recurring: bool) -> Done {
        let event = self.new_event(recurring);
        google.insert_event(remote, &event)?;
        Ok(format!("make {event}"))
    }

    fn make_many(&mut self, google: &Control, remote: &str) -> Done {
        let events: Vec<Value> = (0..2 + self.dice.roll(8)).map(|_| self.new_event(false)).collect();
        google.insert_events(remote, &events)?;
        Ok(format!("make {} events at once, {}", events.len(), events[0]))
    }

    fn new_event(&mut self, recurring: bool) -> Value {
        let zone = self.dice.one_of(&ZONES);
        let endless = !recurring || self.dice.roll(10) > 0;
        let day = match recurring && endless {
            true => self.days.day_to_recur_from(&mut self.dice, tz(zone)),
            false => self.days.any_day(&mut self.dice, tz(zone)),
        };
        let all_day = self.dice.once_in(4);
        let mut event = json!({"id": format!("storm{:05}{}", self.acts, self.dice.roll(1_000_000))});
        let times = if all_day { self.whole_days(day) } else { self.times(day, zone) };
        put(&mut event, times);
        if recurring {
            let begins =
                Begins { on: self.days.date(day), zone: (!all_day).then_some(zone), endless: endless && day > -40 };
            event["recurrence"] = json!(lines(&mut self.dice, &begins));
        }
        match self.dice.roll(14) {
            0 => event["eventType"] = json!("outOfOffice"),
            1 => event["eventType"] = json!("workingLocation"),
            2 => event["eventType"] = json!("birthday"),
            3 => event["eventType"] = json!("focusTime"),
            4 => event["transparency"] = json!("transparent"),
            5 => event["status"] = json!("tentative"),
            6 | 7 => event["attendees"] = self.attendees(),
            _ => {}
        }
        event
    }

    fn times(&mut self, day: i64, zone: &str) -> Value {
        let from = time_of_day(&mut self.dice);
        let to = from + length(&mut self.dice);
        json!({"start": self.days.at(day, from, zone), "end": self.days.at(day, to, zone)})
    }

    fn whole_days(&mut self, day: i64) -> Value {
        let past = day + 1 + self.dice.one_of(&[0, 0, 0, 1, 4]);
        json!({"start": self.days.on(day), "end": self.days.on(past)})
    }

    fn attendees(&mut self) -> Value {
        let response = self.dice.one_of(&["needsAction", "declined", "tentative", "accepted"]);
        json!([{"email": "somebody@example.com", "responseStatus": "declined"},
               {"email": "me@example.com", "self": true, "responseStatus": response}])
    }

    fn move_event(&mut self, google: &Control, remote: &str) -> Done {
        let Some((id, event, seen)) = self.choose(google, remote, &[Seen::Single, Seen::Series, Seen::Exception])
        else {
            return Ok("nothing to move".to_owned());
        };
        let zone = text(&event["start"], "timeZone").unwrap_or("UTC").to_owned();
        let day = match seen {
            Seen::Series => self.days.day_to_recur_from(&mut self.dice, tz(&zone)),
            _ => self.days.any_day(&mut self.dice, tz(&zone)),
        };
        let patch = match is_all_day(&event) {
            true => self.whole_days(day),
            false => self.times(day, &zone),
        };
        google.patch_event(remote, &id, &patch)?;
        Ok(format!("move {id}: {patch}"))
    }

    fn change_length(&mut self, google: &Control, remote: &str) -> Done {
        let Some((id, event, _)) = self.choose(google, remote, &[Seen::Single, Seen::Series, Seen::Exception]) else {
            return Ok("nothing to lengthen".to_owned());
        };
        let end = match text(&event["start"], "date").and_then(|day| day.parse::<NaiveDate>().ok()) {
            Some(day) => json!({"date": (day + TimeDelta::days(1 + self.dice.roll(4) as i64)).to_string()}),
            None => {
                let start = instant(&event["start"]).unwrap_or_default();
                let end = start + TimeDelta::minutes(length(&mut self.dice));
                json!({"dateTime": end.to_rfc3339(), "timeZone": event["start"]["timeZone"]})
            }
        };
        google.patch_event(remote, &id, &json!({"end": end}))?;
        Ok(format!("end {id} at {end}"))
    }

    fn change_recurrence(&mut self, google: &Control, remote: &str) -> Done {
        let Some((id, event, seen)) = self.choose(google, remote, &[Seen::Single, Seen::Series]) else {
            return Ok("nothing to recur".to_owned());
        };
        let patch = match seen {
            Seen::Series if self.dice.once_in(2) => json!({"recurrence": null}),
            _ => json!({"recurrence": self.lines_for(&event)}),
        };
        google.patch_event(remote, &id, &patch)?;
        Ok(format!("{id} recurs: {patch}"))
    }

    /// For an event that is there.
    fn lines_for(&mut self, event: &Value) -> Vec<String> {
        let on = first_day(event);
        let endless = (on - self.days.today).num_days() > -25;
        lines(&mut self.dice, &Begins { on, zone: text(&event["start"], "timeZone"), endless })
    }

    fn edit_occurrence(&mut self, google: &Control, remote: &str) -> Done {
        let Some((master, occurrence)) = self.choose_occurrence(google, remote)? else {
            return Ok("no occurrence to edit".to_owned());
        };
        let id = text(&occurrence, "id").unwrap_or_default().to_owned();
        let zone = text(&occurrence["start"], "timeZone").unwrap_or("UTC").to_owned();
        let day = self.days.any_day(&mut self.dice, tz(&zone));
        let near = (first_day(&occurrence) - self.days.today).num_days();
        let patch = match self.dice.roll(10) {
            0..4 => {
                google.delete_event(remote, &id)?;
                return Ok(format!("delete the occurrence {id} of {master}"));
            }
            4 if is_all_day(&occurrence) => self.times(near.max(-24), "Europe/Vienna"),
            4 => self.whole_days(near.max(-24)),
            5 => json!({"transparency": "transparent"}),
            6 => json!({"attendees": self.attendees()}),
            _ if is_all_day(&occurrence) => self.whole_days(day),
            7 | 8 => self.times(near.max(-24), &zone),
            _ => self.times(day, &zone),
        };
        google.patch_event(remote, &id, &patch)?;
        Ok(format!("edit the occurrence {id} of {master}: {patch}"))
    }

    fn this_and_following(&mut self, google: &Control, remote: &str) -> Done {
        let Some((master, occurrence)) = self.choose_occurrence(google, remote)? else {
            return Ok("no series to split".to_owned());
        };
        // Which half of a series keeps its RDATEs, nobody has written down.
        if google.event(remote, &master)?["recurrence"].to_string().contains("RDATE") {
            return Ok(format!("{master} has dates of its own and stays whole"));
        }
        let start = &occurrence["start"];
        let at = text(start, "dateTime").or(text(start, "date")).unwrap_or_default().to_owned();
        let day = (first_day(&occurrence) - self.days.today).num_days().max(-24);
        let patch = match (self.dice.roll(4), is_all_day(&occurrence)) {
            (0, _) => json!({"summary": "from now on"}),
            (1, _) => json!({"recurrence": self.lines_for(&occurrence)}),
            (_, true) => self.whole_days(day),
            (_, false) => {
                let zone = text(start, "timeZone").unwrap_or("UTC").to_owned();
                self.times(day, &zone)
            }
        };
        google.split_series(remote, &master, &at, &patch)?;
        Ok(format!("split {master} at {at}: {patch}"))
    }

    fn delete(&mut self, google: &Control, remote: &str) -> Done {
        let Some((id, ..)) = self.choose(google, remote, &[Seen::Single, Seen::Series, Seen::Exception]) else {
            return Ok("nothing to delete".to_owned());
        };
        google.delete_event(remote, &id)?;
        Ok(format!("delete {id}"))
    }

    /// Out of the bin.
    fn restore(&mut self, google: &Control, remote: &str) -> Done {
        let Some((id, ..)) = self.choose(google, remote, &[Seen::DeletedEvent, Seen::DeletedOccurrence]) else {
            return Ok("nothing to restore".to_owned());
        };
        google.patch_event(remote, &id, &json!({"status": "confirmed"}))?;
        Ok(format!("restore {id}"))
    }

    fn answer(&mut self, google: &Control, remote: &str) -> Done {
        let Some((id, ..)) = self.choose(google, remote, &[Seen::Single, Seen::Series, Seen::Exception]) else {
            return Ok("nothing to answer".to_owned());
        };
        let patch = match self.dice.roll(4) {
            0 => json!({"transparency": self.dice.one_of(&["opaque", "transparent"])}),
            1 => json!({"status": self.dice.one_of(&["confirmed", "tentative"])}),
            _ => json!({"attendees": self.attendees()}),
        };
        google.patch_event(remote, &id, &patch)?;
        Ok(format!("answer {id}: {patch}"))
    }

    /// All-day to timed and back. Not of a series with exceptions: which of them Google keeps, nobody has written down.
    fn change_days_or_times(&mut self, google: &Control, remote: &str) -> Done {
        let Some((id, event, seen)) = self.choose(google, remote, &[Seen::Single, Seen::Series, Seen::Exception])
        else {
            return Ok("nothing to change".to_owned());
        };
        if seen == Seen::Series && google.events(remote)?.iter().any(|other| other["recurringEventId"] == json!(id)) {
            return Ok(format!("{id} has exceptions and stays"));
        }
        let day = (first_day(&event) - self.days.today).num_days();
        let zone = self.dice.one_of(&ZONES);
        let mut patch = match is_all_day(&event) {
            true => self.times(day, zone),
            false => self.whole_days(day),
        };
        if seen == Seen::Series {
            // Its end (UNTIL) must be of the new type.
            let begins = Begins { on: first_day(&event), zone: is_all_day(&event).then_some(zone), endless: day > -25 };
            patch["recurrence"] = json!(lines(&mut self.dice, &begins));
        }
        google.patch_event(remote, &id, &patch)?;
        Ok(format!("{id} between days and times: {patch}"))
    }

    fn change_zone(&mut self, google: &Control, remote: &str) -> Done {
        let Some((id, event, _)) = self.choose(google, remote, &[Seen::Single, Seen::Series, Seen::Exception]) else {
            return Ok("nothing to take elsewhere".to_owned());
        };
        if is_all_day(&event) {
            return Ok(format!("{id} is all-day: it has no zone"));
        }
        let zone = self.dice.one_of(&ZONES);
        let patch = json!({"start": {"timeZone": zone}, "end": {"timeZone": zone}});
        google.patch_event(remote, &id, &patch)?;
        Ok(format!("{id} in {zone}"))
    }

    fn change_zone_of_calendar(&mut self, google: &Control, remote: &str) -> Done {
        let zone = self.dice.one_of(&ZONES);
        let patch = CalendarPatch { time_zone: Some(zone.to_owned()), ..CalendarPatch::default() };
        google.patch_calendar(remote, &patch).map_err(|_| ApiError::not_found())?;
        Ok(format!("the calendar moves to {zone}"))
    }

    /// Any event of these kinds, but the markers.
    fn choose(&mut self, google: &Control, remote: &str, kinds: &[Seen]) -> Option<(String, Value, Seen)> {
        let events = google.events(remote).ok()?;
        let deleted = |id: &str| events.iter().any(|e| text(e, "id") == Some(id) && is_cancelled(e));
        let mut found: Vec<(&Value, Seen)> = events
            .iter()
            .filter(|event| !markers::is_marker(text(event, "id").unwrap_or_default()))
            // What goes with a deleted series is nowhere to be seen.
            .filter(|event| !text(event, "recurringEventId").is_some_and(deleted))
            .map(|event| (event, seen(event)))
            .filter(|(_, seen)| kinds.contains(seen))
            .collect();
        if found.is_empty() {
            return None;
        }
        let (event, seen) = found.swap_remove(self.dice.roll(found.len()));
        Some((text(event, "id")?.to_owned(), event.clone(), seen))
    }

    /// A series and one of its occurrences that nobody touched yet, rather an early one.
    fn choose_occurrence(&mut self, google: &Control, remote: &str) -> Result<Option<(String, Value)>, ApiError> {
        let Some((master, ..)) = self.choose(google, remote, &[Seen::Series]) else { return Ok(None) };
        let before = Utc::now() + TimeDelta::days(self.days.horizon + 20);
        let mut occurrences = google.untouched_occurrences(remote, &master, before)?;
        if occurrences.is_empty() {
            return Ok(None);
        }
        let most = if self.dice.once_in(4) { occurrences.len() } else { occurrences.len().min(10) };
        let chosen = self.dice.roll(most);
        Ok(Some((master, occurrences.swap_remove(chosen))))
    }
}

fn seen(event: &Value) -> Seen {
    let of_series = event.get("recurringEventId").is_some();
    match (is_cancelled(event), of_series) {
        (true, true) => Seen::DeletedOccurrence,
        (true, false) => Seen::DeletedEvent,
        (false, true) => Seen::Exception,
        (false, false) if event["recurrence"].as_array().is_some_and(|lines| !lines.is_empty()) => Seen::Series,
        (false, false) => Seen::Single,
    }
}

pub fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}

pub fn is_cancelled(event: &Value) -> bool {
    text(event, "status") == Some("cancelled")
}

fn is_all_day(event: &Value) -> bool {
    text(&event["start"], "date").is_some()
}

pub fn instant(time: &Value) -> Option<DateTime<Utc>> {
    text(time, "dateTime")?.parse().ok()
}

/// The day it begins, as written.
fn first_day(event: &Value) -> NaiveDate {
    let start = &event["start"];
    let written = text(start, "date").or(text(start, "dateTime")).unwrap_or_default();
    written.get(..10).and_then(|day| day.parse().ok()).unwrap_or_default()
}

fn tz(name: &str) -> Tz {
    name.parse().unwrap_or(Tz::UTC)
}

fn put(event: &mut Value, fields: Value) {
    for (name, value) in fields.as_object().into_iter().flatten() {
        event[name] = value.clone();
    }
}
