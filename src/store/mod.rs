//! Every SQL statement that touches the tables, one file a concern.
//!
//! The functions here run in the caller's transaction and, but for the read path, expect to run inside
//! [`owner::as_owner`].

pub mod availability;
pub mod busy;
pub mod credential;
pub mod delta;
pub mod expansion;
pub mod explain;
mod layout;
pub mod merge;
pub mod owner;
// The read path needs it no more; the statements that write are about to be planned once a session, too.
#[allow(dead_code)]
pub mod plan;
pub mod rounds;
pub mod scan;
pub mod staging;
pub mod subscription;
pub mod time;
pub mod upkeep;
