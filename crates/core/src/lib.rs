//! The deciding half of pg_calsync: what did a provider say, what does it mean, who is busy, when do we ask next.
//!
//! Pure: no Postgres, no network, no clock. Time and randomness come in as arguments, so that every rule is a table
//! in a test. The way of the data is one direction:
//!
//! ```text
//! provider bytes -> providers::google (what did it say) -> sync (what does that mean) -> merge (which rows change)
//!                -> expansion, recurrence (when does it take place) -> interval (what is busy)
//!                -> slots, open_hours, freebusy (what can be offered)
//! ```

pub mod budget;
pub mod busy;
pub mod credential;
pub mod delta;
pub mod destination;
pub mod doubt;
pub mod event;
pub mod expansion;
pub mod explain;
pub mod freebusy;
pub mod interval;
pub mod invalid;
pub mod merge;
pub mod open_hours;
pub mod options;
pub mod providers;
pub mod ramp;
pub mod recurrence;
pub mod retention;
pub mod row;
pub mod schedule;
pub mod slots;
pub mod sync;
pub mod turns;
pub mod zone;
