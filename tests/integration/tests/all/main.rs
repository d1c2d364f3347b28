//! The promises of pg_calsync, kept by a real server, a real worker and real HTTP. One story a test; one file a topic.

mod bad_input;
mod changes;
mod delta;
mod durability;
mod engine;
mod explain;
mod guest;
mod integrity;
mod limits;
mod operations;
mod recorded;
mod retention;
mod roles;
mod series;
mod sync;
mod worker;
