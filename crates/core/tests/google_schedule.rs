//! When is a calendar asked again?

mod google_support;

use std::time::Duration;

use calsync_core::providers::read_retry_after;
use calsync_core::schedule::{Polling, Slows, State, after_failure, full_sync_due, next_poll, wait_for_next_poll};
use calsync_core::sync::{Failure, FailureKind};
use chrono::{DateTime, TimeDelta, Utc};
use google_support::at;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

fn noon() -> DateTime<Utc> {
    at("2026-11-20T12:00:00Z")
}

fn failed(kind: FailureKind) -> Failure {
    Failure::new(kind, "as the test says")
}

/// Seconds from noon to the next try.
fn wait(failures: u32, failure: &Failure, random: f64) -> f64 {
    let retry = after_failure(noon(), failures, None, failure, random);
    (retry.at - noon()).as_seconds_f64()
}

#[test]
fn polling_is_spread_by_a_quarter() {
    let five_minutes = Duration::from_secs(300);
    for (random, seconds) in [(0.0, 225), (0.5, 300), (1.0, 375), (-7.0, 225), (7.0, 375)] {
        assert_eq!(next_poll(noon(), five_minutes, random), noon() + TimeDelta::seconds(seconds), "{random}");
    }
}

/// From one minute to twenty.
fn polling() -> Polling {
    Polling { shortest: Duration::from_secs(60), longest: Duration::from_secs(1200) }
}

#[test]
fn a_quiet_calendar_is_polled_ever_more_rarely_and_one_with_news_more_often() {
    let mut interval = None;
    let mut seconds = |news| {
        interval = Some(polling().interval(interval, news));
        interval.unwrap_or_default().as_secs()
    };

    assert_eq!([(); 10].map(|()| seconds(false)), [60, 90, 135, 202, 303, 455, 683, 1025, 1200, 1200]);
    assert_eq!([(); 6].map(|()| seconds(true)), [600, 300, 150, 75, 60, 60]);
}

/// Polls a calendar for a day, whose changes come in working hours, some soon after one another; how often it asked.
fn calls_a_day(seed: u64, changes: usize) -> usize {
    let mut state = seed;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut changed: Vec<f64> = Vec::new();
    while changed.len() < changes {
        let at = (8.0 + 10.0 * random()) * 3600.0;
        changed.push(at);
        // A second thought within minutes, for every other change.
        if random() < 0.5 && changed.len() < changes {
            changed.push(at + 300.0 * random());
        }
    }
    let (mut now, mut last_poll, mut interval, mut calls) = (0.0, 0.0, Some(Polling::default().longest), 0);
    while now < DAY as f64 {
        calls += 1;
        let news = changed.iter().any(|at| (last_poll..now).contains(at));
        interval = Some(Polling::default().interval(interval, news));
        last_poll = now;
        now += interval.map_or(0.0, |interval| interval.as_secs_f64()) * (0.75 + 0.5 * random());
    }
    calls
}

#[test]
fn a_day_with_twenty_changes_takes_fewer_than_120_calls() {
    let days: Vec<usize> = (0..1000).map(|seed| calls_a_day(seed, 20)).collect();

    assert!(days.iter().all(|calls| *calls < 120), "{:?}", days.iter().max());
    assert!(calls_a_day(1, 0) < 76, "a quiet day is three calls an hour");
}

#[test]
fn bounds_that_changed_or_contradict_each_other_are_kept_all_the_same() {
    let shortened = Polling { longest: Duration::from_secs(300), ..polling() };
    assert_eq!(shortened.interval(Some(Duration::from_secs(1200)), false), Duration::from_secs(300));

    let contradicting = Polling { shortest: Duration::from_secs(600), longest: Duration::from_secs(60) };
    for news in [false, true] {
        assert_eq!(contradicting.interval(Some(Duration::from_secs(60)), news), Duration::from_secs(600));
    }
    assert_eq!(polling().interval(Some(Duration::MAX), false), Duration::from_secs(1200));
}

#[test]
fn a_poll_after_the_end_of_time_is_at_its_end() {
    assert_eq!(next_poll(noon(), Duration::MAX, 1.0), DateTime::<Utc>::MAX_UTC);
    assert_eq!(next_poll(noon(), Duration::from_secs(300), f64::NAN), noon() + TimeDelta::seconds(300));
}

#[test]
fn a_passing_failure_is_tried_again_in_a_burst_and_then_ever_more_rarely() {
    let passing = failed(FailureKind::Passing);
    let waits = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 4_000_000_000].map(|n| wait(n, &passing, 0.5));

    assert_eq!(
        waits,
        [1.5, 2.5, 4.5, 8.5, 16.5, 32.5, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 3600.0, 3600.0, 3600.0]
    );
}

#[test]
fn waits_are_never_shorter_or_longer_than_promised() {
    let passing = failed(FailureKind::Passing);
    for failures in 0..40 {
        let (shortest, longest) = (wait(failures, &passing, 0.0), wait(failures, &passing, 1.0));

        assert!(shortest >= 1.0 && longest <= 4500.0, "{failures}: {shortest} to {longest}");
        assert!(shortest <= longest);
    }
}

#[test]
fn a_failed_calendar_is_in_backoff() {
    for kind in [FailureKind::Passing, FailureKind::RefusedUrl] {
        let retry = after_failure(noon(), 3, Some(noon() - TimeDelta::days(9)), &failed(kind), 0.5);

        assert_eq!((retry.state, retry.slows), (State::Backoff, Slows::Calendar));
    }
}

#[test]
fn a_rate_limit_slows_the_credential_not_the_calendar() {
    let retry = after_failure(noon(), 0, None, &failed(FailureKind::RateLimited), 0.5);

    assert_eq!((retry.state, retry.slows), (State::Backoff, Slows::Credential));
}

#[test]
fn a_refused_credential_is_asked_for_once_and_tried_once_an_hour() {
    // 401 is the credential's, 403 the calendar's: another calendar of the same credential may be readable.
    // Of a user who is granted no token it is to be found out.
    for (kind, slows) in [
        (FailureKind::Credential, Slows::CredentialRefused),
        (FailureKind::Forbidden, Slows::Calendar),
        (FailureKind::Ungranted, Slows::CredentialPerhaps),
    ] {
        for failures in [0, 1, 50] {
            let retry = after_failure(noon(), failures, None, &failed(kind), 0.5);

            assert_eq!((retry.state, retry.slows), (State::NeedsCredential, slows));
            assert_eq!(retry.at, noon() + TimeDelta::hours(1));
        }
    }
}

#[test]
fn a_credential_that_cannot_be_opened_is_tried_again_within_a_minute() {
    for (failures, random) in [(0, 0.0), (1, 0.5), (50, 1.0)] {
        let retry = after_failure(noon(), failures, None, &failed(FailureKind::Unopened), random);

        assert_eq!((retry.state, retry.slows), (State::Backoff, Slows::CredentialUnopened));
        let wait = retry.at - noon();
        assert!(wait >= TimeDelta::seconds(30) && wait <= TimeDelta::minutes(1), "{wait}");
    }
}

#[test]
fn a_calendar_is_gone_only_after_404_has_lasted_six_hours() {
    let not_found = failed(FailureKind::NotFound);
    let six_hours = TimeDelta::hours(6);
    let millisecond = TimeDelta::milliseconds(1);
    for (since, state) in [
        (None, State::Backoff),
        (Some(noon()), State::Backoff),
        (Some(noon() + six_hours), State::Backoff),
        (Some(noon() - six_hours + millisecond), State::Backoff),
        (Some(noon() - six_hours), State::Gone),
        (Some(noon() - six_hours - millisecond), State::Gone),
    ] {
        assert_eq!(after_failure(noon(), 20, since, &not_found, 0.5).state, state, "{since:?}");
    }
}

#[test]
fn a_calendar_that_is_gone_is_tried_once_a_day() {
    let since = Some(noon() - TimeDelta::days(30));

    let retry = after_failure(noon(), 60, since, &failed(FailureKind::NotFound), 0.5);

    assert_eq!((retry.state, retry.at), (State::Gone, noon() + TimeDelta::days(1)));
}

#[test]
fn retry_after_is_a_lower_bound_and_never_more_than_a_day() {
    let wishing = |kind, seconds| failed(kind).with_retry_after(Some(Duration::from_secs(seconds)));
    for (kind, failures, wish, seconds) in [
        (FailureKind::RateLimited, 0, 120, 120.5),
        (FailureKind::RateLimited, 0, 0, 1.5),
        (FailureKind::Passing, 9, 120, 512.0),
        (FailureKind::Passing, 0, 7 * DAY, DAY as f64 + 0.5),
        (FailureKind::Passing, 0, u64::MAX, DAY as f64 + 0.5),
        (FailureKind::Credential, 0, 2 * HOUR, 2.0 * HOUR as f64 + 0.5),
    ] {
        assert_eq!(wait(failures, &wishing(kind, wish), 0.5), seconds, "{kind:?} {wish}");
    }
}

#[test]
fn a_full_sync_is_due_after_its_interval_give_or_take_a_tenth() {
    let month = Duration::from_secs(30 * DAY);
    let due_after = |days: i64, id: i64| full_sync_due(Some(noon()), month, id, noon() + TimeDelta::days(days));
    for id in [i64::MIN, -1, 0, 1, 2, 3, 4711, i64::MAX] {
        assert!(!due_after(26, id), "{id}");
        assert!(due_after(33, id), "{id}");
    }
}

#[test]
fn calendars_subscribed_together_do_not_sync_in_full_together() {
    let month = Duration::from_secs(30 * DAY);
    let due_days: std::collections::HashSet<i64> = (1..=50)
        .filter_map(|id| (26..=34).find(|day| full_sync_due(Some(noon()), month, id, noon() + TimeDelta::days(*day))))
        .collect();

    assert!(due_days.len() >= 5, "{due_days:?}");
}

#[test]
fn a_calendar_never_synced_in_full_is_due_and_with_no_interval_never_again() {
    let century = noon() + TimeDelta::days(36_500);

    assert!(full_sync_due(None, Duration::from_secs(DAY), 1, noon()));
    assert!(full_sync_due(None, Duration::ZERO, 1, noon()));
    assert!(!full_sync_due(Some(noon()), Duration::ZERO, 1, century));
    assert!(!full_sync_due(Some(noon()), Duration::MAX, 1, century));
}

#[test]
fn states_go_by_their_labels() {
    let labels = State::ALL.map(State::label);

    assert_eq!(labels, ["pending", "active", "paused", "backoff", "needs_credential", "gone"]);
    assert_eq!(labels.map(State::from_label), State::ALL.map(Some));
    assert_eq!(State::from_label("lost"), None);
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    for (header, seconds) in [
        ("120", Some(120)),
        (" 0 ", Some(0)),
        ("Fri, 20 Nov 2026 12:02:00 GMT", Some(120)),
        ("Fri, 20 Nov 2026 11:00:00 GMT", Some(0)),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ] {
        assert_eq!(read_retry_after(header, noon()), seconds.map(Duration::from_secs), "{header}");
    }
}

#[test]
fn a_calendar_is_polled_twice_within_the_age_at_which_it_would_be_stale() {
    let seconds = Duration::from_secs;
    let (interval, rarely) = (seconds(20 * 60), seconds(6 * HOUR));
    for limit in [seconds(10), seconds(900), seconds(HOUR), seconds(DAY), seconds(30 * DAY)] {
        for push in [None, Some(rarely)] {
            let wait = wait_for_next_poll(interval, push, limit);
            let latest = (next_poll(noon(), wait, 1.0) - noon()).to_std().expect("later");
            assert!(2 * latest < limit, "{push:?} {limit:?}: {latest:?}");
        }
    }
    assert_eq!(wait_for_next_poll(interval, None, seconds(DAY)), interval, "no oftener than it must");
    assert_eq!(wait_for_next_poll(interval, Some(rarely), seconds(DAY)), rarely);
    assert_eq!(wait_for_next_poll(interval, Some(seconds(1)), seconds(DAY)), interval);
    assert_eq!(wait_for_next_poll(interval, None, Duration::from_millis(1)), seconds(1), "there is an end to it");
}
