//! How many requests may be sent?

use std::collections::VecDeque;

use calsync_core::budget::{Allowance, Allowances, Ledger, Spent};
use calsync_core::ramp::Ramp;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;

fn allowed(credential: u32, project: u32) -> Allowances {
    Allowances { credential: Allowance::per_minute(credential), project: Allowance::per_minute(project) }
}

/// Sends as early and as often as one may from the beginning to `end`; when each was sent.
fn greedy(ledger: &mut Ledger, key: u64, allowed: Allowances, end: u64) -> Vec<u64> {
    let (mut now, mut sent) = (0, Vec::new());
    while now < end {
        match ledger.charge(key, allowed, now) {
            Ok(()) => sent.push(now),
            Err(spent) => now = spent.until(),
        }
    }
    sent
}

fn most_in_a_minute(sent: &[u64]) -> usize {
    let mut window: VecDeque<u64> = VecDeque::new();
    let mut most = 0;
    for &at in sent {
        window.push_back(at);
        while window.front().is_some_and(|first| at - first >= MINUTE) {
            window.pop_front();
        }
        most = most.max(window.len());
    }
    most
}

proptest! {
    #[test]
    fn no_sliding_minute_holds_more_than_was_allowed(
        requests in 1u32..3000,
        pauses in prop::collection::vec(0u64..MINUTE, 0..40),
    ) {
        // As early as one may, with pauses in between, after which a burst is allowed again.
        let (mut ledger, allowed) = (Ledger::default(), allowed(requests, u32::MAX));
        let (mut now, mut sent, mut pauses) = (0, Vec::new(), pauses.into_iter());
        while now < 10 * MINUTE {
            match ledger.charge(1, allowed, now) {
                Ok(()) => sent.push(now),
                Err(spent) => now = match pauses.next() { Some(pause) => now + pause, None => spent.until() },
            }
        }

        prop_assert!(most_in_a_minute(&sent) <= requests as usize);
    }
}

#[test]
fn nearly_all_that_is_allowed_can_be_sent() {
    for requests in [10, 60, 600, 10_000] {
        let sent = greedy(&mut Ledger::default(), 1, allowed(requests, u32::MAX), 10 * MINUTE);

        let a_minute = sent.len() as f64 / 10.0;
        assert!(a_minute > 0.88 * f64::from(requests), "{requests}: {a_minute}");
    }
}

#[test]
fn what_is_sent_is_a_small_burst_and_then_smooth() {
    let sent = greedy(&mut Ledger::default(), 1, allowed(600, u32::MAX), MINUTE);

    let in_second = |second: u64| sent.iter().filter(|at| **at / SECOND == second).count();
    assert_eq!(sent.iter().filter(|at| **at == 0).count(), 60);
    assert!((1..60).all(|second| (8..=10).contains(&in_second(second))));
}

#[test]
fn one_request_a_minute_is_one_request_a_minute() {
    let sent = greedy(&mut Ledger::default(), 1, allowed(1, 600), 3 * MINUTE);

    assert_eq!(sent, [0, MINUTE, 2 * MINUTE]);
    assert_eq!(Allowance::per_minute(0), Allowance::per_minute(1));
}

#[test]
fn a_spent_credential_leaves_the_others_alone() {
    let (mut ledger, allowed) = (Ledger::default(), allowed(10, 10_000));
    assert_eq!(ledger.charge(1, allowed, 0), Ok(()));

    assert!(matches!(ledger.charge(1, allowed, 0), Err(Spent::Credential { .. })));
    assert_eq!(ledger.charge(2, allowed, 0), Ok(()));
}

#[test]
fn the_project_is_shared_by_all_credentials() {
    let (mut ledger, allowed) = (Ledger::default(), allowed(600, 1000));
    let sent = (0..5000).filter(|key| ledger.charge(*key, allowed, 0).is_ok()).count();

    assert_eq!(sent, 100);
    let spent = ledger.charge(5001, allowed, 0).expect_err("spent");
    assert!(matches!(spent, Spent::Project { .. }));
    assert_eq!(ledger.charge(5001, allowed, spent.until()), Ok(()));
}

#[test]
fn the_project_is_not_charged_for_a_request_that_its_credential_refuses() {
    let (mut ledger, allowed) = (Ledger::default(), allowed(1, 20));
    assert_eq!(ledger.charge(1, allowed, 0), Ok(()));
    for _ in 0..100 {
        assert!(ledger.charge(1, allowed, 0).is_err());
    }

    assert_eq!(ledger.charge(2, allowed, 0), Ok(()), "two at once, of twenty a minute");
}

#[test]
fn a_full_ledger_forgets_the_account_that_owes_least() {
    let (mut ledger, generous) = (Ledger::default(), allowed(600, u32::MAX));
    let place = |n: u64| 7 + n * 512;
    for _ in 0..60 {
        ledger.charge(place(0), generous, 0).expect("its burst");
    }
    for n in 1..=20 {
        ledger.charge(place(n), generous, 0).expect("its first");
    }

    assert!(ledger.charge(place(0), generous, 0).is_err(), "who owes most is remembered");
}

#[test]
fn an_account_that_is_paid_up_makes_room() {
    let (mut ledger, generous) = (Ledger::default(), allowed(600, u32::MAX));
    for n in 0..100_000 {
        assert_eq!(ledger.charge(n, generous, n * SECOND), Ok(()));
    }
}

#[test]
fn the_width_begins_small_and_grows_with_each_answer() {
    let mut ramp = Ramp::default();
    assert_eq!(ramp.width(32), 4);

    for _ in 0..10 {
        ramp.answered(32);
    }
    assert_eq!(ramp.width(32), 14);
    for _ in 0..100 {
        ramp.answered(32);
    }
    assert_eq!(ramp.width(32), 32);
    assert_eq!(ramp.width(8), 8, "the setting was lowered");
}

#[test]
fn an_outage_narrows_the_way_and_one_bad_calendar_does_not() {
    let mut ramp = Ramp::default();
    for _ in 0..100 {
        ramp.answered(32);
    }
    for _ in 0..100 {
        ramp.failed();
        ramp.failed();
        ramp.answered(32);
    }
    assert_eq!(ramp.width(32), 32);

    for _ in 0..8 {
        ramp.failed();
    }
    assert_eq!(ramp.width(32), 4);
}

#[test]
fn a_width_of_one_stays_one() {
    let mut ramp = Ramp::default();
    ramp.answered(1);
    assert_eq!(ramp.width(1), 1);
}
