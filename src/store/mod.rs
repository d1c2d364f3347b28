//! Every SQL statement that touches the tables, one file a concern.
//!
//! The functions here run in the caller's transaction and, but for the read path, expect to run inside
//! [`owner::as_owner`].

pub mod availability;
pub mod busy;
pub mod change;
pub mod channel;
pub mod claims;
mod columns;
pub mod credential;
pub mod delta;
pub mod durability;
pub mod event;
pub mod expansion;
pub mod explain;
pub mod health;
pub mod home;
pub mod integrity;
mod layout;
pub mod merge;
pub mod notification;
pub mod owner;
mod piece;
pub mod plan;
pub mod repair;
pub mod retention;
pub mod rounds;
pub mod scan;
pub mod sealing;
pub mod settling;
pub mod share;
pub mod staging;
mod stored;
pub mod subscription;
pub mod time;
pub mod upkeep;
pub mod whose;
