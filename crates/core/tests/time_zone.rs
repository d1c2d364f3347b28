//! Names of zones, and local times on the time line.

mod time_support;

use calsync_core::interval::Interval;
use calsync_core::invalid::Refusal;
use calsync_core::zone::{self, find, instant, knows, midnight, named};
use chrono::{NaiveDate, TimeDelta};
use time_support::{at, date, local, tz, utc};

#[test]
fn a_time_in_the_gap_moves_forward_by_the_gap() {
    assert_eq!(instant(local("2026-03-29 02:30"), tz("Europe/Vienna")), at("2026-03-29 03:30", "Europe/Vienna"));
    assert_eq!(instant(local("2026-03-08 02:30"), tz("America/New_York")), utc("2026-03-08 07:30"));
    // Half an hour only.
    assert_eq!(
        instant(local("2026-10-04 02:15"), tz("Australia/Lord_Howe")),
        at("2026-10-04 02:45", "Australia/Lord_Howe")
    );
}

#[test]
fn a_time_that_occurs_twice_means_the_first() {
    assert_eq!(instant(local("2026-10-25 02:30"), tz("Europe/Vienna")), utc("2026-10-25 00:30"));
    assert_eq!(instant(local("2026-11-01 01:30"), tz("America/New_York")), utc("2026-11-01 05:30"));
}

#[test]
fn a_day_begins_at_local_midnight() {
    assert_eq!(midnight(date("2026-07-01"), tz("Asia/Kolkata")), utc("2026-06-30 18:30"));
    assert_eq!(midnight(date("2026-07-01"), tz("Asia/Kathmandu")), utc("2026-06-30 18:15"));
    assert_eq!(midnight(date("2026-07-01"), tz("Pacific/Kiritimati")), utc("2026-06-30 10:00"));
    assert_eq!(midnight(date("2026-07-01"), tz("America/St_Johns")), utc("2026-07-01 02:30"));
}

#[test]
fn a_day_that_begins_in_a_gap_begins_after_it() {
    assert_eq!(midnight(date("2018-11-04"), tz("America/Sao_Paulo")), utc("2018-11-04 03:00"));
    assert_eq!(midnight(date("2026-04-24"), tz("Africa/Cairo")), utc("2026-04-23 22:00"));
    // The clocks went from 23:30 to 00:30: the day began half an hour late, not an hour.
    assert_eq!(midnight(date("1919-03-31"), tz("America/Toronto")), utc("1919-03-31 04:30"));
}

#[test]
fn a_midnight_that_occurs_twice_means_the_first() {
    assert_eq!(midnight(date("2026-11-01"), tz("America/Havana")), utc("2026-11-01 04:00"));
}

#[test]
fn a_day_that_the_zone_skipped_is_empty() {
    let apia = tz("Pacific/Apia");

    assert_eq!(midnight(date("2011-12-30"), apia), midnight(date("2011-12-31"), apia));
    assert_eq!(midnight(date("2011-12-31"), apia) - midnight(date("2011-12-29"), apia), TimeDelta::hours(24));
}

#[test]
fn no_day_of_any_zone_ends_before_it_begins() {
    for zone in chrono_tz::TZ_VARIANTS {
        let first = NaiveDate::from_ymd_opt(2005, 1, 1).unwrap();
        for day in first.iter_days().take(366 * 25) {
            let length = midnight(day.succ_opt().unwrap(), zone) - midnight(day, zone);
            assert!(length >= TimeDelta::zero() && length <= TimeDelta::hours(48), "{zone} {day} lasts {length}");
        }
    }
}

#[test]
fn iana_names_and_aliases_are_understood_in_any_case() {
    for (name, zone) in [
        ("Europe/Vienna", "Europe/Vienna"),
        ("europe/vienna", "Europe/Vienna"),
        (" \"Asia/Calcutta\" ", "Asia/Calcutta"),
        ("US/Pacific", "US/Pacific"),
        ("UTC", "UTC"),
        ("utc", "UTC"),
        ("Z", "UTC"),
        ("GMT", "GMT"),
        ("Etc/GMT+5", "Etc/GMT+5"),
    ] {
        assert_eq!(find(name), Some(tz(zone)), "{name}");
    }
}

#[test]
fn whole_hours_from_utc_are_understood_with_their_sign() {
    assert_eq!(find("UTC+2"), Some(tz("Etc/GMT-2")));
    assert_eq!(find("GMT-05:00"), Some(tz("Etc/GMT+5")));
    assert_eq!(find("GMT+0000"), Some(tz("UTC")));
    // No zone of the database stands for it alone.
    assert_eq!(find("UTC+05:30"), None);
}

#[test]
fn an_offset_is_no_name_to_postgres() {
    for name in ["UTC+2", "+03", "GMT-05:00", "utc-0", "/vendor/x/UTC+2"] {
        let refused = named(name).expect_err(name);
        assert!(refused.to_string().contains("is an offset from UTC"), "{name}: {refused}");
    }
    assert!(named("UTC+2").expect_err("an offset").hint().contains("'Etc/GMT-2'"));
    assert!(named("Mars/Olympus").expect_err("no zone").to_string().contains("is unknown"));
    for name in ["UTC", "z", "GMT", "GMT+0", "Etc/GMT-2", "europe/vienna", "Pacific Standard Time"] {
        assert_eq!(named(name).ok(), find(name), "{name}");
    }
}

#[test]
fn beyond_2099_no_local_time_is_known() {
    let from = at("2099-06-01 00:00", "UTC");
    let until = |end: &str| knows(Interval::new(from, at(end, "UTC")).expect("a window"));

    assert_eq!(until("2100-01-01 00:00"), Ok(()));
    assert!(matches!(until("2100-01-01 00:01"), Err(Refusal::TooMuch(_))));
    // What the compiled database believes of a summer, the last that it knows and the first that it does not.
    let noon =
        |year: &str| zone::local(at(&format!("{year}-07-01 12:00"), "UTC"), tz("Europe/Vienna")).time().to_string();
    assert_eq!((noon("2099").as_str(), noon("2100").as_str()), ("14:00:00", "13:00:00"));
}

#[test]
fn outlooks_names_are_understood() {
    assert_eq!(find("Pacific Standard Time"), Some(tz("America/Los_Angeles")));
    assert_eq!(find("W. Europe Standard Time"), Some(tz("Europe/Berlin")));
    assert_eq!(find("india standard time"), Some(tz("Asia/Calcutta")));
    assert_eq!(find("tzone://Microsoft/Utc"), Some(tz("UTC")));
}

#[test]
fn a_name_with_a_vendors_prefix_is_understood() {
    for (name, zone) in [
        ("/freeassociation.sourceforge.net/Tzfile/Europe/Vienna", "Europe/Vienna"),
        ("/softwarestudio.org/Olson_20011030_5/America/Argentina/Ushuaia", "America/Argentina/Ushuaia"),
        ("/citadel.org/20210210_1/Japan", "Japan"),
    ] {
        assert_eq!(find(name), Some(tz(zone)), "{name}");
    }
}

#[test]
fn what_is_no_zone_is_none() {
    for name in
        ["", "/", "Mars/Olympus_Mons", "Customized Time Zone", "+", "UTC+", "UTC+99", "é", "Europe/Vienna/Wieden"]
    {
        assert_eq!(find(name), None, "{name}");
    }
}
