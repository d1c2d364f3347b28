//! Changing events: what the API's writing methods do, and what a user does in the web interface.
//!
//! Every function makes one change with one version, so the master and the exception it touches share their etag,
//! as in recorded answers.

use chrono::Days;
use serde_json::{Value, json};

use crate::calendar::{Calendar, Resource, Stored, text};
use crate::clock::{Clock, Dice, Version};
use crate::error::ApiError;
use crate::expand::{self, Series};
use crate::resources::{self, Ids, READ_ONLY};
use crate::times::{self, Time};

/// A change under way on one calendar.
pub struct Edit<'a> {
    pub calendar: &'a mut Calendar,
    pub dice: &'a mut Dice,
    version: Version,
}

/// The writer's condition, from the `If-Match` header.
pub type IfMatch<'a> = Option<&'a str>;

fn object(value: &Value) -> Result<Resource, ApiError> {
    value.as_object().cloned().ok_or_else(ApiError::bad_request)
}

fn check_match(resource: &Resource, if_match: IfMatch) -> Result<(), ApiError> {
    match if_match {
        Some(wanted) if wanted != "*" && wanted != text(resource, "etag") => Err(ApiError::condition_not_met()),
        _ => Ok(()),
    }
}

impl<'a> Edit<'a> {
    pub fn begin(calendar: &'a mut Calendar, dice: &'a mut Dice, clock: &mut Clock) -> Self {
        Self { calendar, dice, version: clock.tick() }
    }

    fn store(&mut self, resource: Resource) -> Value {
        let id = text(&resource, "id").to_owned();
        let previous = self.calendar.events.remove(&id).map(|s| s.resource);
        let answer = Value::Object(resource.clone());
        let stored = Stored { resource, changed: self.version, previous, hidden: false };
        self.calendar.events.insert(id, stored);
        self.calendar.version = self.version;
        answer
    }

    /// A new version of something whose content stays.
    fn touch(&mut self, id: &str) {
        if let Some(stored) = self.calendar.events.get_mut(id) {
            stored.previous = Some(stored.resource.clone());
            stored.changed = self.version;
            resources::stamp(&mut stored.resource, self.version);
            self.calendar.version = self.version;
        }
    }

    /// `events.insert`.
    pub fn insert(&mut self, body: &Value) -> Result<Value, ApiError> {
        self.add(body, Ids::Base32Hex)
    }

    /// An event made in the web interface, where a test chooses the id as it likes.
    pub fn insert_as_user(&mut self, body: &Value) -> Result<Value, ApiError> {
        let mut body = object(body)?;
        let own = |field: &&&str| !matches!(**field, "id" | "eventType" | "iCalUID" | "organizer");
        READ_ONLY.iter().filter(own).for_each(|field| drop(body.remove(*field)));
        self.add(&Value::Object(body), Ids::Any)
    }

    /// `events.import`: a private copy under the given `iCalUID`; a second import of it updates the first.
    pub fn import(&mut self, body: &Value) -> Result<Value, ApiError> {
        let uid = body.get("iCalUID").and_then(Value::as_str).ok_or_else(|| ApiError::required("Missing iCalUID."))?;
        let same = |s: &&Stored| text(&s.resource, "iCalUID") == uid && !s.is_exception() && !s.is_cancelled();
        match self.calendar.events.values().find(same).map(|s| text(&s.resource, "id").to_owned()) {
            Some(id) => self.update(&id, body, None),
            None => self.add(body, Ids::Restored),
        }
    }

    fn add(&mut self, body: &Value, ids: Ids) -> Result<Value, ApiError> {
        let mut resource = object(body)?;
        let id = match resource.get("id").and_then(Value::as_str) {
            Some(id) => {
                resources::check_id(id, ids)?;
                id.to_owned()
            }
            None => self.dice.event_id(),
        };
        if self.calendar.events.contains_key(&id) {
            return Err(ApiError::duplicate());
        }
        if ids == Ids::Base32Hex {
            for field in READ_ONLY.iter().filter(|f| !matches!(**f, "eventType" | "iCalUID")) {
                resource.remove(*field);
            }
        }
        resources::settle_times(&mut resource, self.calendar.zone)?;
        resources::complete(&mut resource, self.calendar, &id, self.version);
        Ok(self.store(resource))
    }

    /// An event that was there before anybody looked: like an insert, but ids and server's fields it brings are kept,
    /// `updated` and `etag` excepted, since lists are ordered by them.
    pub fn seed(&mut self, body: &Value) -> Result<Value, ApiError> {
        if body.get("recurringEventId").is_none() && body.get("status") != Some(&json!("cancelled")) {
            return self.add(body, Ids::Any);
        }
        // Exceptions and tombstones: no client inserts those.
        let mut resource = object(body)?;
        let id = text(&resource, "id").to_owned();
        if id.is_empty() {
            return Err(ApiError::required("An exception or tombstone needs its id."));
        }
        if resource.contains_key("start") {
            resources::settle_times(&mut resource, self.calendar.zone)?;
        }
        resources::complete(&mut resource, self.calendar, &id, self.version);
        Ok(self.store(resource))
    }

    /// Stores a resource as it is, readable or not: for events no client could make. Missing `id`, `kind`, `etag`
    /// and `updated` are added.
    pub fn put_raw(&mut self, body: &Value) -> Result<Value, ApiError> {
        let mut resource = object(body)?;
        let id = match resource.get("id").and_then(Value::as_str) {
            Some(id) => id.to_owned(),
            None => self.dice.event_id(),
        };
        let mut stamped = Resource::new();
        resources::stamp(&mut stamped, self.version);
        stamped.insert("kind".into(), json!("calendar#event"));
        stamped.insert("id".into(), json!(id));
        for (field, value) in stamped {
            resource.entry(field).or_insert(value);
        }
        Ok(self.store(resource))
    }

    /// The event or, where the id names an occurrence nobody touched yet, what that occurrence looks like.
    fn current(&self, id: &str) -> Result<Resource, ApiError> {
        look_up(self.calendar, id).ok_or_else(ApiError::not_found)
    }

    /// `events.patch`: JSON merge.
    pub fn patch(&mut self, id: &str, patch: &Value, if_match: IfMatch) -> Result<Value, ApiError> {
        let old = self.current(id)?;
        check_match(&old, if_match)?;
        let mut patch = object(patch)?;
        for field in READ_ONLY {
            patch.remove(*field);
        }
        let mut new = Value::Object(old.clone());
        resources::merge(&mut new, &Value::Object(patch));
        self.replace(old, object(&new)?)
    }

    /// `events.update`: all but the server's own fields is replaced.
    pub fn update(&mut self, id: &str, body: &Value, if_match: IfMatch) -> Result<Value, ApiError> {
        let old = self.current(id)?;
        check_match(&old, if_match)?;
        let mut new = object(body)?;
        for field in READ_ONLY {
            new.remove(*field);
            if let Some(kept) = old.get(*field) {
                new.insert((*field).into(), kept.clone());
            }
        }
        let sequence = |r: &Resource| r.get("sequence").and_then(Value::as_i64);
        match (sequence(&new), sequence(&old)) {
            (Some(given), Some(now)) if given < now => {
                return Err(ApiError::invalid(
                    "Invalid sequence value. The specified sequence number is below the current sequence number of \
                     the resource. Re-fetch the resource and use its sequence number on the following request.",
                ));
            }
            (None, Some(now)) => drop(new.insert("sequence".into(), json!(now))),
            _ => {}
        }
        self.replace(old, new)
    }

    fn replace(&mut self, old: Resource, mut new: Resource) -> Result<Value, ApiError> {
        let id = text(&old, "id").to_owned();
        if text(&new, "status") == "cancelled" && text(&old, "status") != "cancelled" {
            self.delete(&id, None)?;
            return Ok(look_up(self.calendar, &id).map_or(Value::Null, Value::Object));
        }
        resources::settle_times(&mut new, self.calendar.zone)?;
        let moved = ["start", "end", "recurrence"].iter().any(|field| old.get(*field) != new.get(*field));
        if moved && old.get("sequence") == new.get("sequence") {
            let next = old.get("sequence").and_then(Value::as_i64).unwrap_or(0) + 1;
            new.insert("sequence".into(), json!(next));
        }
        resources::complete(&mut new, self.calendar, &id, self.version);
        let answer = self.store(new.clone());
        if let Some(master) = old.get("recurringEventId").and_then(Value::as_str) {
            self.touch(master);
        } else {
            self.carry_to_exceptions(&id, &old, &new);
        }
        Ok(answer)
    }

    /// An edit of the master comes with "all its exceptions again"; they follow where they had not differed.
    fn carry_to_exceptions(&mut self, master: &str, old: &Resource, new: &Resource) {
        const OWN: &[&str] = &["start", "end", "recurrence", "id", "etag", "updated", "sequence", "status", "htmlLink"];
        for id in self.calendar.exceptions_of(master) {
            self.touch(&id);
            let Some(stored) = self.calendar.events.get_mut(&id) else { continue };
            stored.hidden = text(new, "status") == "cancelled";
            for field in old.keys().chain(new.keys()).filter(|f| !OWN.contains(&f.as_str())) {
                if stored.resource.get(field) != old.get(field) {
                    continue;
                }
                match new.get(field) {
                    Some(value) => drop(stored.resource.insert(field.clone(), value.clone())),
                    None => drop(stored.resource.remove(field)),
                }
            }
        }
    }

    /// `events.delete`: a single event, a whole series, or one occurrence of it.
    pub fn delete(&mut self, id: &str, if_match: IfMatch) -> Result<(), ApiError> {
        let mut resource = self.current(id)?;
        check_match(&resource, if_match)?;
        if text(&resource, "status") == "cancelled" {
            return Err(ApiError::deleted());
        }
        let id = text(&resource, "id").to_owned();
        resource.insert("status".into(), json!("cancelled"));
        resources::stamp(&mut resource, self.version);
        let master = resource.get("recurringEventId").and_then(Value::as_str).map(str::to_owned);
        self.store(resource);
        if let Some(master) = master {
            self.touch(&master);
            return Ok(());
        }
        // One stub for the series, none for its exceptions.
        for exception in self.calendar.exceptions_of(&id) {
            if let Some(stored) = self.calendar.events.get_mut(&exception) {
                stored.hidden = true;
            }
        }
        Ok(())
    }

    /// "This and following events" of the web interface: the old master ends before `occurrence` (RFC 3339 or a
    /// date), a new one, `<id>_R20250327T123000`, goes on from there with `patch` applied. Later exceptions keep
    /// their ids and belong to the new master. Answers the new master.
    pub fn split(&mut self, master: &str, occurrence: &str, patch: &Value) -> Result<Value, ApiError> {
        let zone = self.calendar.zone;
        let stored = self.calendar.events.get(master).filter(|s| s.is_master() && !s.is_cancelled());
        let mut old = stored.map(|s| s.resource.clone()).ok_or_else(ApiError::not_found)?;
        let series = Series::read(&old, zone)?;
        let stamp = if occurrence.len() == 10 {
            let day = occurrence.parse().map_err(|_| ApiError::invalid("Invalid occurrence."))?;
            times::Stamp::Day(day)
        } else {
            times::Stamp::At(times::parse_bound(occurrence)?)
        };
        let (at, length) = series.find(stamp).ok_or_else(|| ApiError::invalid("The series has no such occurrence."))?;
        let passed = series.starts(Some(stamp.bound()), usize::MAX);
        let passed = passed.iter().filter(|(time, _)| time.instant(zone) < at.instant(zone)).count();
        if passed == 0 {
            return self.patch(master, patch, None); // From the first occurrence on means all of them.
        }

        let new_id = format!("{}_R{}", resources::family(master), at.stamp().trim_end_matches('Z'));
        let mut new = old.clone();
        new.insert("start".into(), at.render(zone));
        new.insert("end".into(), at.plus(length).render(zone));
        new.insert("recurrence".into(), json!(rewrite_rules(&old, |rule| count_down(rule, passed))));
        new.insert("iCalUID".into(), json!(format!("{new_id}@google.com")));
        let mut new = Value::Object(new);
        let mut patch = object(patch)?;
        READ_ONLY.iter().for_each(|field| drop(patch.remove(*field)));
        resources::merge(&mut new, &Value::Object(patch));
        let mut new = object(&new)?;
        resources::settle_times(&mut new, zone)?;
        resources::complete(&mut new, self.calendar, &new_id, self.version);

        let until = until_before(&at);
        old.insert("recurrence".into(), json!(rewrite_rules(&old, |rule| end_at(rule, &until))));
        resources::complete(&mut old, self.calendar, master, self.version);
        self.store(old);
        let answer = self.store(new);
        for id in self.calendar.exceptions_of(master) {
            self.touch(&id);
            let later = times::split_stamp(&id).is_some_and(|(_, stamp)| match stamp {
                times::Stamp::At(utc) => utc >= at.instant(zone),
                times::Stamp::Day(day) => day >= at.local().date(),
            });
            if let Some(stored) = self.calendar.events.get_mut(&id).filter(|_| later) {
                stored.resource.insert("recurringEventId".into(), json!(new_id));
                stored.resource.insert("iCalUID".into(), json!(format!("{new_id}@google.com")));
            }
        }
        Ok(answer)
    }
}

/// A stored event, cancelled or not, or an occurrence of a living series.
pub fn look_up(calendar: &Calendar, id: &str) -> Option<Resource> {
    if let Some(stored) = calendar.events.get(id) {
        let mut resource = stored.resource.clone();
        if stored.hidden {
            resource.insert("status".into(), json!("cancelled"));
        }
        return Some(resource);
    }
    let (master, time, length) = expand::find_instance(calendar, id)?;
    let instance = resources::instance(master, &time, length, calendar.zone);
    // The id may have named it by the new master's long form: the stored exception answers for both.
    match calendar.events.get(text(&instance, "id")) {
        Some(stored) => Some(stored.resource.clone()),
        None => Some(instance),
    }
}

fn rewrite_rules(master: &Resource, rewrite: impl Fn(&str) -> String) -> Vec<String> {
    let lines = master.get("recurrence").and_then(Value::as_array);
    lines
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|line| match line.split_once(':') {
            Some((head, rule)) if head.eq_ignore_ascii_case("RRULE") => format!("RRULE:{}", rewrite(rule)),
            _ => line.to_owned(),
        })
        .collect()
}

/// The end of the local day before: that is where the web interface ends a series.
fn until_before(at: &Time) -> String {
    let day = at.local().date();
    let eve = day.checked_sub_days(Days::new(1)).unwrap_or(day);
    match at {
        Time::Day(_) => eve.format("%Y%m%d").to_string(),
        Time::At { zone, .. } => {
            let end = eve.and_hms_opt(23, 59, 59).unwrap_or_default();
            times::place(end, *zone).format("%Y%m%dT%H%M%SZ").to_string()
        }
    }
}

fn end_at(rule: &str, until: &str) -> String {
    let named = |part: &&str| {
        let part = part.to_ascii_uppercase();
        !part.starts_with("UNTIL=") && !part.starts_with("COUNT=")
    };
    let kept: Vec<&str> = rule.split(';').filter(named).collect();
    format!("{};UNTIL={until}", kept.join(";"))
}

/// COUNT counts from the start, so the part that goes on has fewer left.
fn count_down(rule: &str, passed: usize) -> String {
    let parts = rule.split(';').map(|part| match part.to_ascii_uppercase().strip_prefix("COUNT=") {
        Some(count) => match count.parse::<usize>() {
            Ok(count) => format!("COUNT={}", count.saturating_sub(passed).max(1)),
            Err(_) => part.to_owned(),
        },
        None => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(";")
}
