//! What the integration tests are told in: a cluster of one's own, a fake Google, and the words between them.

mod cluster;
mod consent;
mod days;
mod dice;
mod fed;
pub mod items;
mod keys;
mod liar;
pub mod markers;
pub mod model;
mod pushed;
mod receiver;
mod stranger;
mod world;

pub use cluster::{Cluster, Connector, eventually, peak_memory};
pub use consent::{BOB, oauth};
pub use dice::Dice;
pub use fed::{Applied, Fed, ROOM, all_tables, check_derived, envelope, problems};
pub use keys::ServiceAccountKey;
pub use liar::{Liar, Lie};
pub use pushed::{Pushed, webhook};
pub use receiver::{RECEIVER, Received, Receiver};
pub use stranger::Stranger;
pub use world::{ALICE, World, authority, sqlstate};
