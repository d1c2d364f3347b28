//! Many changes into one state: which version of an event counts?

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrono::{DateTime, Utc};

use crate::event::Change;

/// One change for each event id: the version that the provider made last.
///
/// The same id may come twice in one round. The later `updated` wins; where both have the same, or either has none (a
/// deletion, a sparse tombstone), the one that came later. The survivors keep their order.
pub fn latest_of_each(changes: Vec<Change>) -> Vec<Change> {
    let mut survivors: HashMap<&str, usize> = HashMap::with_capacity(changes.len());
    for (position, change) in changes.iter().enumerate() {
        match survivors.entry(change.event_id()) {
            Entry::Vacant(free) => {
                free.insert(position);
            }
            Entry::Occupied(mut held) => {
                if !is_older(change, &changes[*held.get()]) {
                    held.insert(position);
                }
            }
        }
    }
    let mut survives = vec![false; changes.len()];
    for position in survivors.into_values() {
        survives[position] = true;
    }
    changes.into_iter().zip(survives).filter_map(|(change, survives)| survives.then_some(change)).collect()
}

/// Do both say when they were made, and was `one` made before `other`?
fn is_older(one: &Change, other: &Change) -> bool {
    matches!((updated(one), updated(other)), (Some(one), Some(other)) if one < other)
}

fn updated(change: &Change) -> Option<DateTime<Utc>> {
    match change {
        Change::Put(event) => event.details.provider_updated_at,
        Change::Delete { .. } => None,
    }
}
