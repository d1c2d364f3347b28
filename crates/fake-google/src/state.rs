//! All that the fake remembers, behind one lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::TimeDelta;
use serde_json::Value;

use crate::calendar::{Calendar, CalendarPatch, NewCalendar};
use crate::clock::{Clock, Dice, Version};
use crate::edits::Edit;
use crate::error::{ApiError, FakeError};
use crate::faults::Faults;
use crate::log::Log;
use crate::oauth::OAuth;
use crate::push::{Channels, PushQueue};
use crate::quirks::Quirks;
use crate::quota::Quota;
use crate::server::lock;
use crate::times::parse_zone;
use crate::tokens::Snapshots;

#[derive(Debug, Default)]
pub struct State {
    pub clock: Clock,
    pub dice: Dice,
    pub calendars: BTreeMap<String, Calendar>,
    /// Calendars that were, and when they went.
    pub gone: BTreeMap<String, Version>,
    pub snapshots: Snapshots,
    pub quirks: Quirks,
    pub oauth: OAuth,
    pub channels: Channels,
    pub faults: Faults,
    pub quota: Quota,
    pub log: Log,
    /// Every request gets 503.
    pub unavailable: bool,
}

#[derive(Debug, Default)]
pub struct Shared {
    state: Mutex<State>,
    pub queue: PushQueue,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub fn new() -> Arc<Self> {
        Arc::default()
    }
}

impl State {
    /// Finds a calendar; "primary" is the user's own, or the first where none is marked.
    pub fn calendar(&self, id: &str) -> Result<&Calendar, ApiError> {
        let key = self.key(id)?;
        self.calendars.get(&key).ok_or_else(ApiError::not_found)
    }

    pub fn calendar_mut(&mut self, id: &str) -> Result<&mut Calendar, ApiError> {
        let key = self.key(id)?;
        self.calendars.get_mut(&key).ok_or_else(ApiError::not_found)
    }

    fn key(&self, id: &str) -> Result<String, ApiError> {
        if id != "primary" || self.calendars.contains_key(id) {
            return Ok(id.to_owned());
        }
        let marked = self.calendars.values().find(|c| c.primary).or_else(|| self.calendars.values().next());
        marked.map(|c| c.id.clone()).ok_or_else(ApiError::not_found)
    }

    pub fn quirks_of(&self, id: &str) -> &Quirks {
        self.calendar(id).ok().and_then(|c| c.quirks.as_ref()).unwrap_or(&self.quirks)
    }

    /// Those that hold for this calendar: its own, else everyone's.
    pub fn quirks_mut(&mut self, id: &str) -> &mut Quirks {
        let own = self.calendar(id).ok().filter(|c| c.quirks.is_some()).map(|c| c.id.clone());
        match own.and_then(|id| self.calendars.get_mut(&id)).and_then(|c| c.quirks.as_mut()) {
            Some(own) => own,
            None => &mut self.quirks,
        }
    }

    /// Makes or replaces a calendar. Its events are stored as a user would have made them, except that ids and
    /// server's fields they bring are kept.
    pub fn add_calendar(&mut self, new: &NewCalendar) -> Result<(), FakeError> {
        let mut calendar = Calendar::new(new, self.clock.tick())?;
        // One change for all of them: `updated` must not run ahead of the clock by a millisecond an event.
        let mut edit = Edit::begin(&mut calendar, &mut self.dice, &mut self.clock);
        for event in &new.events {
            edit.seed(event).map_err(|source| FakeError::SeedEvent {
                calendar: new.id.clone(),
                event: event.get("id").and_then(Value::as_str).unwrap_or("(without id)").to_owned(),
                source: Box::new(source),
            })?;
        }
        self.gone.remove(&new.id);
        self.calendars.insert(new.id.clone(), calendar);
        Ok(())
    }

    pub fn patch_calendar(&mut self, id: &str, patch: &CalendarPatch) -> Result<(), FakeError> {
        let zone = match &patch.time_zone {
            Some(name) => Some(parse_zone(name).ok_or_else(|| FakeError::UnknownZone(name.clone()))?),
            None => None,
        };
        let version = self.clock.tick();
        let calendar = self.calendar_mut(id).map_err(|_| FakeError::UnknownCalendar(id.into()))?;
        if let Some(zone) = zone {
            calendar.move_to(zone);
        }
        if let Some(summary) = &patch.summary {
            calendar.summary.clone_from(summary);
        }
        if let Some(role) = &patch.access_role {
            calendar.access_role.clone_from(role);
        }
        calendar.pushable = patch.pushable.unwrap_or(calendar.pushable);
        calendar.own_version = version;
        Ok(())
    }

    pub fn delete_calendar(&mut self, id: &str, queue: &PushQueue) -> bool {
        let Some(calendar) = self.calendars.remove(id) else { return false };
        self.gone.insert(calendar.id, self.clock.tick());
        self.channels.notify(id, "not_exists", self.clock.now(), &mut self.dice, queue);
        self.channels.open.retain(|_, channel| channel.calendar != id);
        true
    }

    /// Makes one change and tells the channels that watch the calendar.
    pub fn edit<T>(
        &mut self,
        id: &str,
        queue: &PushQueue,
        change: impl FnOnce(&mut Edit) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let key = self.key(id)?;
        let calendar = self.calendars.get_mut(&key).ok_or_else(ApiError::not_found)?;
        let done = change(&mut Edit::begin(calendar, &mut self.dice, &mut self.clock))?;
        self.channels.notify(&key, "exists", self.clock.now(), &mut self.dice, queue);
        Ok(done)
    }

    /// Tokens issued until now answer 410, for one calendar or for all.
    pub fn expire_sync_tokens(&mut self, id: Option<&str>) -> Result<(), ApiError> {
        let only = id.map(|id| self.key(id)).transpose()?;
        if let Some(id) = &only {
            self.calendar(id)?;
        }
        let version = self.clock.tick();
        for calendar in self.calendars.values_mut().filter(|c| only.as_ref().is_none_or(|id| *id == c.id)) {
            calendar.expired_through = calendar.version;
            // A fresh list, even of an unchanged calendar, must give a token beyond the expired ones.
            calendar.version = version;
        }
        Ok(())
    }

    pub fn advance_clock(&mut self, by: TimeDelta) {
        self.clock.advance(by.num_microseconds().unwrap_or(i64::MAX));
    }
}
