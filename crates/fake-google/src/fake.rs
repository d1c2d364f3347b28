//! The fake as a Rust value: everything the control port can do, as methods.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::Value;

use crate::api;
use crate::authority::Identity;
use crate::calendar::{CalendarPatch, NewCalendar};
use crate::control;
use crate::edits::{self, Edit};
use crate::error::{ApiError, FakeError};
use crate::expand;
use crate::faults::Fault;
use crate::freebusy;
use crate::log::LogEntry;
use crate::push::{Attempt, Channel, PushQuirks};
use crate::quirks::Quirks;
use crate::resources;
use crate::server::{Reply, Server, Wire};
use crate::state::Shared;

/// A free port of loopback.
const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A running fake. Dropping it stops it.
pub struct FakeGoogle {
    control: Control,
    control_server: Server,
    courier: Option<JoinHandle<()>>,
}

/// A handle to a running fake; cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
    api: Arc<Server>,
}

/// Calendars and events to start with: `{"calendars":[{"id","summary","timeZone","accessRole","pushable","primary",
/// "events":[event resources]}]}`; all but `id` may be absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    pub calendars: Vec<NewCalendar>,
}

impl Seed {
    pub fn read(path: &Path) -> Result<Self, FakeError> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| FakeError::ReadSeed { path: path.display().to_string(), source })?;
        Ok(serde_json::from_str(&text)?)
    }
}

impl FakeGoogle {
    /// On two free ports of 127.0.0.1.
    ///
    /// # Panics
    /// Where loopback has no free port: a test has nothing better to do. See [`FakeGoogle::start_on`].
    pub fn start() -> Self {
        Self::start_on(ANY, ANY).expect("two free ports on loopback")
    }

    /// The same, with the API over TLS as `https://localhost:PORT`.
    ///
    /// # Panics
    /// As [`FakeGoogle::start`].
    pub fn start_tls(identity: &Identity) -> Self {
        Self::start_over(Wire::Tls(identity.config()), ANY, ANY).expect("two free ports on loopback")
    }

    pub fn start_on(api: SocketAddr, control: SocketAddr) -> Result<Self, FakeError> {
        Self::start_over(Wire::Clear, api, control)
    }

    fn start_over(wire: Wire, api: SocketAddr, control: SocketAddr) -> Result<Self, FakeError> {
        let shared = Shared::new();
        let api = {
            let shared = Arc::clone(&shared);
            Arc::new(Server::start(api, wire, Arc::new(move |request: &_| api::handle(&shared, request)))?)
        };
        let handle = Control { shared: Arc::clone(&shared), api };
        let control_server = {
            let handle = handle.clone();
            Server::start(
                control,
                Wire::Clear,
                Arc::new(move |request: &_| Reply::from(control::handle(&handle, request))),
            )?
        };
        let courier = thread::spawn(move || {
            shared.queue.run(|attempt| shared.lock().channels.attempts.push(attempt));
        });
        Ok(Self { control: handle, control_server, courier: Some(courier) })
    }

    pub fn control_url(&self) -> String {
        self.control_server.url()
    }
}

impl Deref for FakeGoogle {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Drop for FakeGoogle {
    fn drop(&mut self) {
        self.control_server.stop();
        self.control.api.stop();
        self.control.shared.queue.close();
        if let Some(courier) = self.courier.take() {
            let _ = courier.join();
        }
    }
}

/// Where to find it, and outages.
impl Control {
    /// `http://127.0.0.1:PORT`, or over TLS `https://localhost:PORT`; the API is below `/calendar/v3`.
    pub fn api_url(&self) -> String {
        self.api.url()
    }

    /// The OAuth token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.api_url())
    }

    /// Cuts every connection of the API and refuses new ones; the control port and the state stay.
    pub fn stop(&self) {
        self.api.stop();
    }

    /// Listens again on the same port.
    pub fn start_again(&self) -> Result<(), FakeError> {
        self.api.start_again()
    }

    /// While on, the API answers 503 `backendError` to everything.
    pub fn set_unavailable(&self, on: bool) {
        self.shared.lock().unavailable = on;
    }

    /// Forgets everything: calendars, channels, faults, tokens, log. The clock stays.
    pub fn reset(&self) {
        let mut state = self.shared.lock();
        let clock = std::mem::take(&mut state.clock);
        *state = crate::state::State { clock, ..Default::default() };
    }
}

/// Calendars.
impl Control {
    /// Makes a calendar, or replaces the one of the same id.
    pub fn add_calendar(&self, calendar: &NewCalendar) -> Result<(), FakeError> {
        self.shared.lock().add_calendar(calendar)
    }

    pub fn load(&self, seed: &Seed) -> Result<(), FakeError> {
        let mut state = self.shared.lock();
        seed.calendars.iter().try_for_each(|calendar| state.add_calendar(calendar))
    }

    pub fn patch_calendar(&self, id: &str, patch: &CalendarPatch) -> Result<(), FakeError> {
        self.shared.lock().patch_calendar(id, patch)
    }

    /// From now on it is 404; channels hear `not_exists`. Says whether it was there.
    pub fn delete_calendar(&self, id: &str) -> bool {
        self.shared.lock().delete_calendar(id, &self.shared.queue)
    }

    /// `CalendarListEntry` resources.
    pub fn calendars(&self) -> Vec<Value> {
        self.shared.lock().calendars.values().map(crate::calendar::Calendar::list_entry).collect()
    }

    /// Sync tokens issued until now answer 410 `fullSyncRequired`: of one calendar, or of all.
    pub fn expire_sync_tokens(&self, calendar: Option<&str>) -> Result<(), ApiError> {
        self.shared.lock().expire_sync_tokens(calendar)
    }
}

/// What the user does with events in the web interface. Channels are notified as by the API's own methods.
impl Control {
    fn edit<T>(&self, id: &str, change: impl FnOnce(&mut Edit) -> Result<T, ApiError>) -> Result<T, ApiError> {
        self.shared.lock().edit(id, &self.shared.queue, change)
    }

    /// An `id` may be chosen freely; an `organizer` other than the user is kept.
    pub fn insert_event(&self, calendar: &str, event: &Value) -> Result<Value, ApiError> {
        self.edit(calendar, |edit| edit.insert_as_user(event))
    }

    /// Many events in one change: they share `updated` and one notification.
    pub fn insert_events(&self, calendar: &str, events: &[Value]) -> Result<Vec<Value>, ApiError> {
        self.edit(calendar, |edit| events.iter().map(|event| edit.insert_as_user(event)).collect())
    }

    pub fn import_event(&self, calendar: &str, event: &Value) -> Result<Value, ApiError> {
        self.edit(calendar, |edit| edit.import(event))
    }

    /// Stores a resource unchecked, for shapes no client could make.
    pub fn put_raw_event(&self, calendar: &str, event: &Value) -> Result<Value, ApiError> {
        self.edit(calendar, |edit| edit.put_raw(event))
    }

    /// JSON merge; `id` may be an occurrence such as `<master>_20250326T123000Z`.
    pub fn patch_event(&self, calendar: &str, id: &str, patch: &Value) -> Result<Value, ApiError> {
        self.edit(calendar, |edit| edit.patch(id, patch, None))
    }

    pub fn update_event(&self, calendar: &str, id: &str, event: &Value) -> Result<Value, ApiError> {
        self.edit(calendar, |edit| edit.update(id, event, None))
    }

    /// A single event, a series or an occurrence.
    pub fn delete_event(&self, calendar: &str, id: &str) -> Result<(), ApiError> {
        self.edit(calendar, |edit| edit.delete(id, None))
    }

    /// "This and following events", from the occurrence that starts at `at` (RFC 3339, or a date): the old master gets
    /// an `UNTIL`, a new one, `<id>_R20250327T123000`, goes on with `patch` applied and takes over the later
    /// exceptions, whose ids stay. Answers the new master. At the first occurrence it is a patch of the whole series.
    pub fn split_series(&self, calendar: &str, master: &str, at: &str, patch: &Value) -> Result<Value, ApiError> {
        self.edit(calendar, |edit| edit.split(master, at, patch))
    }

    /// As `events.get` would show it, details of cancelled ones included.
    pub fn event(&self, calendar: &str, id: &str) -> Result<Value, ApiError> {
        let state = self.shared.lock();
        edits::look_up(state.calendar(calendar)?, id).map(Value::Object).ok_or_else(ApiError::not_found)
    }

    /// Everything stored, tombstones included.
    pub fn events(&self, calendar: &str) -> Result<Vec<Value>, ApiError> {
        let state = self.shared.lock();
        let stored = state.calendar(calendar)?.events.values();
        Ok(stored.map(|stored| Value::Object(stored.resource.clone())).collect())
    }

    /// The occurrences of a living series that nobody touched, as `events.instances` shows them: those that start before
    /// `before`, in order.
    pub fn untouched_occurrences(
        &self,
        calendar: &str,
        master: &str,
        before: DateTime<Utc>,
    ) -> Result<Vec<Value>, ApiError> {
        let state = self.shared.lock();
        let calendar = state.calendar(calendar)?;
        let stored = calendar.events.get(master).filter(|stored| stored.is_master() && !stored.is_cancelled());
        let resource = &stored.ok_or_else(ApiError::not_found)?.resource;
        let times = expand::plain_times(calendar, resource, Some(before)).into_iter();
        Ok(times
            .map(|(time, length)| Value::Object(resources::instance(resource, &time, length, calendar.zone)))
            .collect())
    }

    /// The truth about a window: busy intervals as `freeBusy.query` merges them.
    pub fn busy(
        &self,
        calendar: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<freebusy::Interval>, ApiError> {
        Ok(freebusy::busy(self.shared.lock().calendar(calendar)?, from, to))
    }
}

/// Faults, quirks, log, clock.
impl Control {
    /// Answers the script's id.
    pub fn add_fault(&self, fault: Fault) -> u64 {
        self.shared.lock().faults.add(fault)
    }

    pub fn remove_fault(&self, id: u64) -> bool {
        self.shared.lock().faults.remove(id)
    }

    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Those still waiting.
    pub fn faults(&self) -> Vec<Fault> {
        self.shared.lock().faults.list().to_vec()
    }

    pub fn quirks(&self, calendar: Option<&str>) -> Result<Quirks, ApiError> {
        let state = self.shared.lock();
        match calendar {
            None => Ok(state.quirks.clone()),
            Some(id) => state.calendar(id).map(|calendar| state.quirks_of(&calendar.id).clone()),
        }
    }

    /// For all calendars, or one calendar's own.
    pub fn set_quirks(&self, calendar: Option<&str>, quirks: Quirks) -> Result<(), FakeError> {
        if let Some(n) = quirks.empty_every.filter(|n| *n < 2) {
            return Err(FakeError::EndlessPaging(n));
        }
        let mut state = self.shared.lock();
        match calendar {
            None => state.quirks = quirks,
            Some(id) => {
                let calendar = state.calendar_mut(id).map_err(|_| FakeError::UnknownCalendar(id.into()))?;
                calendar.quirks = Some(quirks);
            }
        }
        Ok(())
    }

    /// So many requests a minute for each access token (those without one share theirs); more get 403
    /// `rateLimitExceeded`. `None`, the default, counts nothing.
    pub fn set_quota(&self, requests_per_minute: Option<u32>) {
        self.shared.lock().quota.set(requests_per_minute);
    }

    pub fn quota(&self) -> Option<u32> {
        self.shared.lock().quota.limit()
    }

    /// Every request to the API since the start or the last clearing.
    pub fn log(&self) -> Vec<LogEntry> {
        self.shared.lock().log.entries()
    }

    /// Page tokens handed out until now are invalid, as after a restart of a server that kept them in memory.
    pub fn forget_pages(&self) {
        self.shared.lock().snapshots.forget();
    }

    pub fn clear_log(&self) {
        self.shared.lock().log.clear();
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.shared.lock().clock.now()
    }

    pub fn advance_clock(&self, by: TimeDelta) {
        self.shared.lock().advance_clock(by);
    }

    /// The clock goes on from there. `updated` never runs backwards all the same.
    pub fn set_clock(&self, now: DateTime<Utc>) {
        self.shared.lock().clock.set(now);
    }
}

/// Authorization.
impl Control {
    /// Whether requests need a valid access token; off by default.
    pub fn require_auth(&self, on: bool) {
        self.shared.lock().oauth.required = on;
    }

    /// Makes `token` valid for so long.
    pub fn register_token(&self, token: &str, lifetime: TimeDelta) {
        let mut state = self.shared.lock();
        let expires = state.clock.now().checked_add_signed(lifetime).unwrap_or(DateTime::<Utc>::MAX_UTC);
        state.oauth.register(token, expires);
    }

    /// How long tokens issued from now on live (and say they live).
    pub fn set_token_lifetime(&self, seconds: i64) {
        self.shared.lock().oauth.lifetime = seconds;
    }

    /// Whether each refresh also replaces the refresh token, and the one before is worth nothing any more.
    pub fn rotate_refresh_tokens(&self, on: bool) {
        self.shared.lock().oauth.rotates = on;
    }

    /// The public key (PKCS #1, DER) that a service account's assertions are verified with from now on.
    pub fn register_key(&self, account: &str, public_key: Vec<u8>) {
        self.shared.lock().oauth.register_key(account, public_key);
    }

    /// Access tokens die, grants live: the client must refresh.
    pub fn expire_access_tokens(&self) {
        self.shared.lock().oauth.expire_tokens();
    }

    /// Refreshing answers `invalid_grant`: for one refresh token (or service account), or for all.
    pub fn revoke_grants(&self, grant: Option<&str>) {
        self.shared.lock().oauth.revoke(grant);
    }

    pub fn restore_grants(&self) {
        self.shared.lock().oauth.restore_grants();
    }

    /// Whoever asks with what this refresh token (or service account) is granted has this calendar as `primary`. The channels
    /// that he opens nobody else can stop.
    pub fn sign_in(&self, grant: &str, calendar: &str) {
        self.shared.lock().oauth.sign_in(grant, calendar);
    }

    /// A client, a service account, or a user whom one asks for, is refused a token. `error` is Google's, such as
    /// `unauthorized_client`, with another description than usual after a colon (`invalid_grant: Not a valid email.`);
    /// `None` accepts it again.
    pub fn refuse_client(&self, client: &str, error: Option<&str>) {
        self.shared.lock().oauth.refuse_client(client, error);
    }

    /// `{requireAuth, tokenLifetime, tokens, allRevoked, revoked, refusedClients, rotateRefreshTokens, users, keys}`
    pub fn auth_status(&self) -> Value {
        self.shared.lock().oauth.status()
    }
}

/// Push.
impl Control {
    /// Channels that are neither stopped nor expired.
    pub fn channels(&self) -> Vec<Channel> {
        let mut state = self.shared.lock();
        let now = state.clock.now();
        state.channels.forget_expired(now);
        state.channels.open.values().cloned().collect()
    }

    /// Every attempt to deliver a notification.
    pub fn deliveries(&self) -> Vec<Attempt> {
        self.shared.lock().channels.attempts.clone()
    }

    pub fn push_quirks(&self) -> PushQuirks {
        self.shared.lock().channels.quirks.clone()
    }

    pub fn set_push_quirks(&self, quirks: PushQuirks) {
        self.shared.lock().channels.quirks = quirks;
    }

    /// Notifies a calendar's channels although nothing changed.
    pub fn notify(&self, calendar: &str) -> Result<(), ApiError> {
        let mut state = self.shared.lock();
        let id = state.calendar(calendar)?.id.clone();
        let state = &mut *state;
        state.channels.notify(&id, "exists", state.clock.now(), &mut state.dice, &self.shared.queue);
        Ok(())
    }
}
