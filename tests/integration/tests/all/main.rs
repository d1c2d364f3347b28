//! The promises of pg_calsync, kept by a real server, a real worker and real HTTP. One story a test; one file a topic.

mod bad_input;
mod delta;
mod durability;
mod engine;
mod explain;
mod fault_points;
mod guest;
mod limits;
mod peers;
mod recorded;
mod roles;
mod series;
mod silence;
mod sync;
mod worker;
