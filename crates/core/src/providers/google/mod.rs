//! Google Calendar v3: how to ask for a calendar's events, and what the answer says.
//!
//! Calendars are listed with `singleEvents=false` (masters, exceptions and tombstones) and expanded locally; see
//! [`list`] for why. [`event::read_item`] reads one event resource, [`answer::read_answer`] one whole response.
//! [`token`] asks for the access token that all of this needs.
//! Push: [`channel`] asks for notifications, [`notification`] reads one, [`address`] says where they can be sent to.

pub mod address;
pub mod answer;
pub mod channel;
pub mod event;
mod fields;
pub mod list;
pub(crate) mod list_text;
pub mod notification;
pub mod series;
pub(crate) mod text;
pub mod token;
mod when;

pub use answer::read_answer;
pub use event::{ItemProblem, read_item};
pub use list::{ListRequest, is_relative, token_parameters};
