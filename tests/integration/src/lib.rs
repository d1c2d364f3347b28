//! What the integration tests are told in: a cluster of one's own, a fake Google, and the words between them.

mod cluster;
mod world;

pub use cluster::{Cluster, eventually};
pub use world::{ALICE, World, sqlstate};
