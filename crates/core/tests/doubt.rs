//! A user is granted no token: whom does that concern?

use std::time::Duration;

use calsync_core::doubt::{Concerns, LATELY, Standing, weigh};
use chrono::{DateTime, TimeDelta, Utc};

fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).expect("a time")
}

fn granted_before(age: TimeDelta) -> Standing {
    Standing { granted_at: Some(noon() - age), doubts: 0 }
}

/// (how many doubts, seconds until the next is asked for, whether all say so) after a refusal of a calendar that probes.
fn doubted(standing: Standing, probes: bool) -> (u32, i64, bool) {
    match weigh(noon(), standing, probes, None, 0.0) {
        Concerns::Doubt { doubts, until, convincing } => (doubts, (until - noon()).num_seconds(), convincing),
        Concerns::ThisUser => panic!("nobody was granted a token"),
    }
}

#[test]
fn where_another_was_granted_a_token_lately_it_is_this_users_trouble() {
    let lately = TimeDelta::from_std(LATELY).expect("an hour");
    let second = TimeDelta::seconds(1);

    for age in [-second, TimeDelta::zero(), second, lately - second] {
        assert_eq!(weigh(noon(), granted_before(age), true, None, 0.5), Concerns::ThisUser, "{age}");
    }
    for standing in [granted_before(lately), Standing { granted_at: None, doubts: 0 }] {
        assert_eq!(doubted(standing, false), (1, 1, false), "{standing:?}");
    }
}

#[test]
fn one_after_the_other_is_asked_for_ever_later_and_after_three_all_say_so() {
    let mut standing = Standing { granted_at: None, doubts: 0 };
    let mut seen = Vec::new();
    for _ in 0..16 {
        let (doubts, wait, convincing) = doubted(standing, true);
        seen.push((wait, convincing));
        standing.doubts = doubts;
    }

    assert_eq!(seen[..4], [(1, false), (2, false), (4, true), (8, true)]);
    assert!(seen.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1), "{seen:?}");
    assert_eq!(seen[15], (2700, true), "an hour, less a quarter");
    let in_the_first_hour = seen.iter().scan(0, |sum, (wait, _)| Some(std::mem::replace(sum, *sum + wait)));
    assert!(in_the_first_hour.take_while(|at| *at < 3600).count() <= 13, "{seen:?}");
}

#[test]
fn those_that_were_asked_together_are_one_doubt() {
    let standing = Standing { granted_at: None, doubts: 1 };

    assert_eq!(doubted(standing, false), (1, 1, false));
}

#[test]
fn retry_after_is_honoured() {
    let wish = Some(Duration::from_secs(120));

    let concerns = weigh(noon(), Standing { granted_at: None, doubts: 0 }, true, wish, 0.0);

    assert_eq!(concerns, Concerns::Doubt { doubts: 1, until: noon() + TimeDelta::seconds(120), convincing: false });
}
