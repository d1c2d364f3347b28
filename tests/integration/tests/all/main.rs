//! The promises of pg_calsync, kept by a real server, a real worker and real HTTP. One story a test; one file a topic.

mod explain;
mod sync;
mod worker;
