//! The promises of pg_calsync, kept by a real server, a real worker and real HTTP. One story a test; one file a topic.

mod bad_input;
mod changes;
mod delta;
mod durability;
mod engine;
mod explain;
mod fault_points;
mod guest;
mod history;
mod integrity;
mod limits;
mod operations;
mod peers;
mod recorded;
mod retention;
mod roles;
mod series;
mod silence;
mod sync;
mod waiting;
mod worker;
