//! A faithful Google Calendar v3 on loopback, for tests and the demo.
//!
//! The API is served below `/calendar/v3` (and, for Google's Python client whose `api_endpoint` replaces that part, at
//! the root too; the log shows which was used), the OAuth token endpoint at `/token`, and a second port controls it all:
//! what the user does in the web interface, what goes wrong, and what was asked.
//!
//! ```
//! use fake_google::{Fault, FakeGoogle, NewCalendar};
//! use serde_json::json;
//!
//! let google = FakeGoogle::start();
//! google.add_calendar(&NewCalendar::new("alice@example.com").in_zone("Europe/Vienna"))?;
//! let lunch = json!({
//!     "summary": "Lunch",
//!     "start": { "dateTime": "2026-03-02T12:00:00", "timeZone": "Europe/Vienna" },
//!     "end": { "dateTime": "2026-03-02T13:00:00", "timeZone": "Europe/Vienna" },
//! });
//! google.insert_event("alice@example.com", &lunch)?;
//! google.add_fault(Fault::error(403, "rateLimitExceeded").times(2).on_calendar("alice@example.com"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`FakeGoogle::start_tls`] serves the same over https, with a certificate of an [`Authority`] of the test's own.
//!
//! # Sources
//! The discovery document of the API (calendar v3), the guides under
//! <https://developers.google.com/workspace/calendar/api/guides>, RFC 5545 for recurrence, RFC 9112 for HTTP, RFC 6749
//! and 7523 for tokens. Occurrences are expanded independently of the extension, so this crate is also an oracle for it.
//!
//! # The seed file
//! What [`Seed`] reads, `--load FILE.json` takes and `POST /load` accepts:
//! ```json
//! {"calendars": [
//!   {"id": "alice@example.com", "summary": "Alice", "timeZone": "Europe/Vienna",
//!    "accessRole": "owner", "pushable": true, "primary": true,
//!    "events": [
//!      {"id": "standup", "summary": "Stand-up", "recurrence": ["RRULE:FREQ=WEEKLY;BYDAY=MO"],
//!       "start": {"dateTime": "2026-03-02T09:00:00+01:00", "timeZone": "Europe/Vienna"},
//!       "end":   {"dateTime": "2026-03-02T09:15:00+01:00", "timeZone": "Europe/Vienna"}}
//!    ]}
//! ]}
//! ```
//! All but a calendar's `id` may be absent. Events are event resources; exceptions and tombstones may be among them,
//! with their `id`, `recurringEventId` and `originalStartTime`.
//!
//! # The control port
//! JSON in, JSON out; errors have Google's shape. Every path has a method on [`Control`], to which [`FakeGoogle`]
//! dereferences. `{id}` is a calendar's id, percent-encoded where it must be.
//!
//! | request | body | method |
//! |---|---|---|
//! | `GET /` | | where the API is |
//! | `GET /calendars` | | [`Control::calendars`] |
//! | `POST /calendars` | a [`NewCalendar`] | [`Control::add_calendar`] |
//! | `PATCH /calendars/{id}` | a [`CalendarPatch`] | [`Control::patch_calendar`] |
//! | `DELETE /calendars/{id}` | | [`Control::delete_calendar`]: 404 from now on |
//! | `GET /calendars/{id}/events` | | [`Control::events`]: all that is stored |
//! | `POST /calendars/{id}/events` | an event, or an array of them | [`Control::insert_event`], [`Control::insert_events`] |
//! | `POST /calendars/{id}/events/import` | an event with `iCalUID` | [`Control::import_event`] |
//! | `POST /calendars/{id}/events/raw` | anything | [`Control::put_raw_event`] |
//! | `GET /calendars/{id}/events/{event}` | | [`Control::event`] |
//! | `PATCH /calendars/{id}/events/{event}` | a merge patch | [`Control::patch_event`]; also one occurrence |
//! | `PUT /calendars/{id}/events/{event}` | an event | [`Control::update_event`] |
//! | `DELETE /calendars/{id}/events/{event}` | | [`Control::delete_event`] |
//! | `POST /calendars/{id}/events/{event}/split` | `{"at":"2025-03-27T12:30:00Z","patch":{}}` | [`Control::split_series`] |
//! | `GET /calendars/{id}/busy?from=&to=` | | [`Control::busy`] |
//! | `POST /calendars/{id}/expire-sync-tokens`, `POST /expire-sync-tokens` | | [`Control::expire_sync_tokens`] |
//! | `POST /calendars/{id}/notify` | | [`Control::notify`] |
//! | `GET`, `PATCH /quirks`, also `/calendars/{id}/quirks` | fields of [`Quirks`] | [`Control::quirks`], [`Control::set_quirks`] |
//! | `GET /faults` | | [`Control::faults`] |
//! | `POST /faults` | a [`Fault`] | [`Control::add_fault`]: answers `{"id"}` |
//! | `DELETE /faults`, `DELETE /faults/{n}` | | [`Control::clear_faults`], [`Control::remove_fault`] |
//! | `GET`, `POST /quota` | `{"requestsPerMinute":600}`, `null` for none | [`Control::quota`], [`Control::set_quota`] |
//! | `GET`, `DELETE /log` | | [`Control::log`], [`Control::clear_log`] |
//! | `GET /auth` | | [`Control::auth_status`] |
//! | `PATCH /auth` | `{"requireAuth":true,"tokenLifetime":3599,"rotateRefreshTokens":false}` | [`Control::require_auth`], [`Control::set_token_lifetime`], [`Control::rotate_refresh_tokens`] |
//! | `POST /auth/tokens` | `{"token":"t","expiresIn":3599}` | [`Control::register_token`] |
//! | `POST /auth/keys` | `{"account":"robot@example.com","publicKey":"base64 of PKCS #1"}` | [`Control::register_key`] |
//! | `POST /auth/users` | `{"grant":"refresh token","calendar":"id"}` | [`Control::sign_in`] |
//! | `POST /auth/expire` | | [`Control::expire_access_tokens`] |
//! | `POST /auth/revoke` | `{}` or `{"grant":"refresh token"}` | [`Control::revoke_grants`] |
//! | `POST /auth/restore` | | [`Control::restore_grants`] |
//! | `POST /auth/clients` | `{"client":"id","error":"invalid_client"}` | [`Control::refuse_client`] |
//! | `GET /channels`, `GET /deliveries` | | [`Control::channels`], [`Control::deliveries`] |
//! | `GET`, `PATCH /push` | fields of [`PushQuirks`] | [`Control::push_quirks`], [`Control::set_push_quirks`] |
//! | `POST /outage` | `{"mode":"none"}`, `refuse` or `unavailable` | [`Control::stop`], [`Control::start_again`], [`Control::set_unavailable`] |
//! | `GET`, `POST /clock` | `{"now":"2026-01-01T00:00:00Z"}`, `{"advanceSeconds":60}` | [`Control::now`], [`Control::set_clock`], [`Control::advance_clock`] |
//! | `POST /load`, `POST /reset` | a seed | [`Control::load`], [`Control::reset`] |
//!
//! Two fault scripts, for a shell:
//! ```text
//! curl -X POST $CONTROL/faults -d '{"when":{"calendar":"alice@example.com","method":"GET"},"times":3,
//!   "action":{"error":{"status":429,"reason":"rateLimitExceeded","retryAfter":"2"}}}'
//! curl -X POST $CONTROL/faults -d '{"when":{"query":"syncToken="},"times":1,"latencyMs":200,
//!   "action":{"truncate":{"bytes":100}}}'
//! ```
//!
//! # Ids of occurrences
//! `<master>_20250326T123000Z`, or `<master>_20250326` for whole days, always by the original start. A series that
//! "this and following" split off is called `<id>_R20250327T123000`, but its occurrences keep the original id in
//! front: `<id>_20250328T123000Z`, with `recurringEventId` naming the new master. Both forms can be asked for.
//!
//! # Where it knows less than Google
//! - All calendars belong to whoever asks; no sharing, and a guest's copy in another calendar is not made. Which is
//!   `primary`, and whose channels may be stopped, depends on the user, where [`Control::sign_in`] told who asks.
//! - A calendar's attendees, conference data and reminders are kept as given, never checked.
//! - Moving a whole series does not drop the exceptions it leaves behind.
//! - With `singleEvents=true` a delta has no tombstones for instances that a shortened series lost, and a deleted
//!   series has them for its first 730 untouched instances only.
//! - The signature of a service account's assertion is verified only where its public key was registered.
//! - A service account's token opens every calendar, whatever user it was granted for.
//! - Notifications go to http on loopback only; https addresses are accepted, and their messages fail.
//! - Words of some messages (`syncTokenWithRequestRestrictions` among them) are ours: no recording had them.

mod api;
mod authority;
mod calendar;
mod calendar_list;
mod clock;
mod control;
mod edits;
mod error;
mod expand;
mod fake;
mod faults;
mod fields;
mod freebusy;
mod http;
mod list;
mod log;
mod oauth;
mod push;
mod query;
mod quirks;
mod quota;
mod resources;
mod server;
mod state;
mod times;
mod tokens;
mod view;

pub use authority::{Authority, Identity};
pub use calendar::{CalendarPatch, NewCalendar};
pub use error::{ApiError, FakeError};
pub use fake::{Control, FakeGoogle, Seed};
pub use faults::{Action, Fault, Matching};
pub use freebusy::Interval;
pub use log::LogEntry;
pub use push::{Attempt, Channel, PushQuirks};
pub use quirks::Quirks;
