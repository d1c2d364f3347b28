//! The promises of pg_calsync, kept by a real server, a real worker and real HTTP. One story a test; one file a topic.

mod availability;
mod bad_input;
mod booking;
mod composing;
mod delta;
mod documented;
mod durability;
mod explain;
mod freebusy;
mod guest;
mod limits;
mod reading;
mod recorded;
mod roles;
mod series;
mod sync;
mod worker;
