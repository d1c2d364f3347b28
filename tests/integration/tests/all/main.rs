//! The promises of pg_calsync, kept by a real server, a real worker and real HTTP. One story a test; one file a topic.

mod availability;
mod bad_input;
mod booking;
mod changes;
mod composing;
mod delta;
mod documented;
mod durability;
mod engine;
mod explain;
mod fault_points;
mod freebusy;
mod guest;
mod integrity;
mod limits;
mod operations;
mod peers;
mod reading;
mod recorded;
mod retention;
mod roles;
mod series;
mod silence;
mod sync;
mod worker;
