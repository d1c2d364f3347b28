//! The algebra of busy time, by example and by property: on small integers every answer can be checked moment by moment.

use calsync_core::busy::{BusyStatus, StatusSet};
use calsync_core::interval::{Interval, Segment, coalesce, intersect, segments, subtract, union};
use proptest::prelude::*;

fn from(start: u8, end: u8) -> Interval<u8> {
    Interval::new(start, end).expect("not empty")
}

#[test]
fn an_interval_is_never_empty() {
    assert_eq!(Interval::new(3, 3), None);
    assert_eq!(Interval::new(4, 3), None);
}

#[test]
#[should_panic(expected = "cancelled")]
fn the_union_of_many_sets_can_be_cancelled() {
    union(vec![vec![from(1, 2)], vec![from(3, 4)]], || panic!("cancelled"));
}

#[test]
fn touching_intervals_become_one() {
    assert_eq!(coalesce([from(10, 11), from(9, 10)]), [from(9, 11)]);
}

#[test]
fn touching_intervals_do_not_overlap() {
    assert!(!from(9, 10).overlaps(from(10, 11)));
    assert!(from(9, 11).overlaps(from(10, 11)));
}

#[test]
fn a_status_that_ends_where_another_begins_makes_two_segments() {
    let day = segments([(from(9, 10), BusyStatus::Tentative), (from(10, 11), BusyStatus::Busy)]);

    assert_eq!(day, [segment(9, 10, &[BusyStatus::Tentative]), segment(10, 11, &[BusyStatus::Busy])]);
}

#[test]
fn overlapping_events_of_one_status_stay_one_segment() {
    let busy = BusyStatus::Busy;

    assert_eq!(segments([(from(9, 11), busy), (from(10, 12), busy), (from(12, 13), busy)]), [segment(9, 13, &[busy])]);
}

#[test]
fn where_two_statuses_meet_the_segment_holds_both() {
    let (free, busy) = (BusyStatus::Free, BusyStatus::Busy);

    let day = segments([(from(9, 17), free), (from(12, 13), busy)]);

    assert_eq!(day, [segment(9, 12, &[free]), segment(12, 13, &[free, busy]), segment(13, 17, &[free])]);
}

fn segment(start: u8, end: u8, statuses: &[BusyStatus]) -> Segment<u8> {
    Segment { interval: from(start, end), statuses: statuses.iter().copied().collect() }
}

/// Any intervals: overlapping, touching, nested, repeated.
fn intervals() -> impl Strategy<Value = Vec<Interval<u8>>> {
    prop::collection::vec((0_u8..40, 1_u8..12), 0..12)
        .prop_map(|pairs| pairs.into_iter().map(|(start, length)| from(start, start + length)).collect())
}

fn with_statuses() -> impl Strategy<Value = Vec<(Interval<u8>, BusyStatus)>> {
    let status = prop::sample::select(BusyStatus::ALL.to_vec());
    prop::collection::vec(((0_u8..40, 1_u8..12), status), 0..16).prop_map(|events| {
        events.into_iter().map(|((start, length), status)| (from(start, start + length), status)).collect()
    })
}

fn holds(set: &[Interval<u8>], moment: u8) -> bool {
    set.iter().any(|interval| interval.contains(moment))
}

/// Sorted, disjoint and not even touching: as few intervals as possible.
fn is_coalesced(set: &[Interval<u8>]) -> bool {
    set.windows(2).all(|pair| pair[0].end() < pair[1].start())
}

fn is_disjoint(set: &[Interval<u8>]) -> bool {
    set.windows(2).all(|pair| pair[0].end() <= pair[1].start())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn coalescing_keeps_every_moment_in_as_few_intervals_as_possible(given in intervals()) {
        let merged = coalesce(given.clone());

        prop_assert!(is_coalesced(&merged));
        prop_assert!((0..60).all(|moment| holds(&merged, moment) == holds(&given, moment)));
    }

    #[test]
    fn the_union_of_sets_is_that_of_all_their_intervals(given in prop::collection::vec(intervals(), 0..9)) {
        let all = coalesce(given.iter().flatten().copied());

        prop_assert_eq!(union(given.into_iter().map(coalesce).collect(), || ()), all);
    }

    #[test]
    fn subtracting_leaves_what_is_in_one_and_not_in_the_other(a in intervals(), b in intervals()) {
        let (a, b) = (coalesce(a), coalesce(b));
        let rest = subtract(&a, &b);

        prop_assert!(is_disjoint(&rest));
        prop_assert!((0..60).all(|moment| holds(&rest, moment) == (holds(&a, moment) && !holds(&b, moment))));
    }

    #[test]
    fn intersecting_leaves_what_is_in_both(a in intervals(), b in intervals()) {
        let (a, b) = (coalesce(a), coalesce(b));
        let common = intersect(&a, &b);

        prop_assert!(is_disjoint(&common));
        prop_assert!((0..60).all(|moment| holds(&common, moment) == (holds(&a, moment) && holds(&b, moment))));
    }

    #[test]
    fn clipping_leaves_what_is_in_the_window(given in intervals(), start in 0_u8..30, length in 1_u8..30) {
        let window = from(start, start + length);
        for interval in given {
            let clipped: Vec<_> = interval.clip(window).into_iter().collect();
            prop_assert_eq!(clipped.is_empty(), !interval.overlaps(window));
            let both = |moment| interval.contains(moment) && window.contains(moment);
            prop_assert!((0..60).all(|moment| holds(&clipped, moment) == both(moment)));
        }
    }

    #[test]
    fn segments_hold_exactly_the_statuses_of_each_moment(events in with_statuses()) {
        let found = segments(events.clone());

        for moment in 0..60 {
            let expected: StatusSet = events.iter().filter(|event| event.0.contains(moment)).map(|event| event.1).collect();
            let holding = found.iter().filter(|segment| segment.interval.contains(moment));
            let told = holding.fold(StatusSet::EMPTY, |_, segment| segment.statuses);
            prop_assert_eq!(told, expected);
        }
    }

    #[test]
    fn segments_are_in_order_disjoint_and_as_long_as_possible(events in with_statuses()) {
        for pair in segments(events).windows(2) {
            prop_assert!(pair[0].interval.end() <= pair[1].interval.start());
            let goes_on = pair[0].interval.end() == pair[1].interval.start() && pair[0].statuses == pair[1].statuses;
            prop_assert!(!goes_on);
        }
    }
}
