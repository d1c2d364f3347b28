//! Who gets the place that comes free?

use std::collections::HashMap;

use calsync_core::turns::{Places, Turns};
use proptest::prelude::*;

/// Sixteen places, all in use, of a way that is wide.
const FULL: Places = Places { most: 16, width: 16, awaited: 8, due: 8, other: 0, beside: 0, last_was_awaited: false };

#[test]
fn places_go_to_whoever_has_fewest() {
    let turns = Turns::default();

    assert_eq!(turns.allot(16, &[("alone", 0)]), [16]);
    assert_eq!(turns.allot(16, &[("a", 0), ("b", 0)]), [8, 8]);
    assert_eq!(turns.allot(4, &[("a", 15), ("b", 0), ("c", 1)]), [0, 3, 1]);
    assert_eq!(turns.allot(3, &[]), [0; 0]);
}

#[test]
fn among_equals_the_one_who_was_served_longest_ago_is_next() {
    let mut turns = Turns::default();
    for owner in ["a", "b", "a", "c"] {
        turns.serve(owner);
    }

    assert_eq!(turns.allot(1, &[("a", 0), ("b", 0), ("c", 0)]), [0, 1, 0]);
    assert_eq!(turns.allot(1, &[("a", 0), ("never", 0), ("b", 0)]), [0, 1, 0]);
    turns.forget();
    assert_eq!(turns.allot(1, &[("a", 0), ("b", 0), ("c", 0)]), [1, 0, 0]);
}

#[test]
fn of_calendars_that_somebody_waits_for_half_of_the_places_are_begun_first() {
    let idle = Places { awaited: 0, due: 0, ..FULL };
    assert_eq!((idle.for_awaited(), idle.for_due()), (8, 16));

    let flooded = Places { awaited: 15, due: 0, ..FULL };
    assert_eq!((flooded.for_awaited(), flooded.for_due(), flooded.left_over()), (0, 1, 1), "who is due is next");

    let mut one = Places { most: 1, width: 1, awaited: 0, due: 0, ..FULL };
    assert_eq!((one.for_awaited(), one.for_due()), (1, 1));
    one.take(true, 1);
    assert_eq!((one.for_awaited(), one.for_due(), one.left_over()), (0, 0, 0));
    one.awaited = 0;
    assert_eq!((one.for_awaited(), one.for_due(), one.left_over()), (0, 1, 1), "they take turns");
}

#[test]
fn while_the_way_is_narrow_who_is_waited_for_goes_beside_it_and_the_others_keep_half() {
    let silent = Places { width: 4, awaited: 0, due: 4, ..FULL };
    assert_eq!((silent.for_awaited(), silent.for_due()), (8, 0));

    let waited_for = Places { width: 4, awaited: 8, due: 0, ..FULL };
    assert_eq!((waited_for.for_awaited(), waited_for.for_due(), waited_for.left_over()), (0, 2, 0));
}

proptest! {
    /// Owners with more to do than there is time for, and rounds of any length: one that comes late, with one calendar,
    /// waits for one of each other owner at most.
    #[test]
    fn who_has_nothing_under_way_waits_for_one_calendar_of_each_other_owner(
        owners in 1_usize..12,
        places in 1_usize..20,
        ends in prop::collection::vec(any::<prop::sample::Index>(), 200),
    ) {
        let names: Vec<String> = (0..owners).map(|number| format!("owner {number}")).collect();
        let mut turns = Turns::default();
        let mut under_way: Vec<&str> = Vec::new();
        let late = "late";
        let next = |turns: &mut Turns, under_way: &[&str], with_late: bool| -> usize {
            let mut counts: HashMap<&str, usize> = HashMap::new();
            for owner in under_way {
                *counts.entry(owner).or_default() += 1;
            }
            let mut waiting: Vec<(&str, usize)> =
                names.iter().map(|name| (name.as_str(), counts.get(name.as_str()).copied().unwrap_or(0))).collect();
            if with_late {
                waiting.push((late, 0));
            }
            let given = turns.allot(1, &waiting);
            let chosen = given.iter().position(|places| *places == 1).expect("a place was given");
            turns.serve(waiting[chosen].0);
            chosen
        };
        for _ in 0..places {
            let chosen = next(&mut turns, &under_way, false);
            under_way.push(&names[chosen]);
        }
        let (before, after) = ends.split_at(100);
        for end in before {
            under_way.swap_remove(end.index(places));
            let chosen = next(&mut turns, &under_way, false);
            under_way.push(&names[chosen]);
        }
        for (waited, end) in after.iter().enumerate() {
            prop_assert!(waited <= owners, "{waited} calendars of {owners} owners");
            under_way.swap_remove(end.index(places));
            let chosen = next(&mut turns, &under_way, true);
            if chosen == owners {
                return Ok(());
            }
            under_way.push(&names[chosen]);
        }
        prop_assert!(false, "it never came");
    }
}
