//! libical's corpus of rules, and python-dateutil's opinion of it.
//!
//! libical expects the instances of 146 rules (`fixtures/rrule/libical_icalrecur_test.txt`); one of them it does not
//! implement itself. Where python-dateutil agrees with it, so do we. [`DISPUTED`] holds every case on which the two
//! differ, with the one we follow and the sentence of RFC 5545 by which we do, and
//! `dateutil_differs_from_libical_where_the_table_says_so` proves that the table is whole.
//!
//! One thing is added to libical's expectation, because a series is more than its rule: DTSTART takes place also where
//! the rule does not match it (§3.8.5.3, see the module `recurrence`). So a DTSTART that libical does not list is left
//! out of the comparison.

mod time_support;

use std::collections::HashMap;
use std::path::PathBuf;

use calsync_core::interval::Interval;
use calsync_core::recurrence::{Length, Series, Start};
use calsync_core::zone;
use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::json;
use time_support::date;
use time_support::oracle::ask;

/// The table of §3.3.10 has BYMONTHDAY and BYWEEKNO "Expand" a YEARLY rule: a YEARLY rule with BYMONTHDAY alone is that
/// day of every month, one with BYWEEKNO alone is every day of those weeks. libical goes by "Information, not contained
/// in the rule ... [is] derived from the Start Time (DTSTART)" and takes DTSTART's month and weekday only. Both can be
/// read out of the RFC; google-rfc-2445 and rrule.js read it as dateutil does, and theirs is the reading that blocks
/// more: a cache must never say "free" out of ignorance.
const EXPANDED: Choice = Choice { follow: Follow::Dateutil, because: "BYMONTHDAY and BYWEEKNO expand a YEARLY rule" };

/// BYWEEKNO's numbers are "weeks of the year ... according to week numbering as defined in [ISO.8601]" (§3.3.10): the
/// years, of which INTERVAL leaves some out, are years of weeks, where dateutil takes calendar years.
const YEARS_OF_WEEKS: Choice =
    Choice { follow: Follow::Libical, because: "the year of a week is the one it is numbered in" };

/// BYSETPOS "operates on a set of recurrence instances in one interval of the recurrence rule" (§3.3.10), where dateutil
/// cuts the first week at DTSTART before it picks.
const WHOLE_INTERVAL: Choice = Choice { follow: Follow::Libical, because: "BYSETPOS picks from a whole interval" };

/// "The BYSECOND, BYMINUTE and BYHOUR rule parts MUST NOT be specified when the associated DTSTART property has a DATE
/// value type. These rule parts MUST be ignored" (§3.3.10).
const NO_TIMES_ON_DATES: Choice = Choice { follow: Follow::Libical, because: "times are ignored on a DATE" };

/// Whom we follow where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follow {
    Libical,
    Dateutil,
}

#[derive(Debug, Clone, Copy)]
struct Choice {
    follow: Follow,
    because: &'static str,
}

/// Rule, DTSTART, and our choice where libical and python-dateutil differ.
const DISPUTED: &[(&str, &str, Choice)] = &[
    ("FREQ=YEARLY;BYWEEKNO=1,2;UNTIL=20170101T000000Z", "20130101T000000", EXPANDED),
    ("FREQ=YEARLY;BYMONTHDAY=29;COUNT=3", "20240229", EXPANDED),
    ("FREQ=YEARLY;BYMONTHDAY=-29,-1;COUNT=4", "20240201", EXPANDED),
    ("FREQ=DAILY;BYMINUTE=1,2,3,4;INTERVAL=2;COUNT=3", "20241018", NO_TIMES_ON_DATES),
    ("FREQ=YEARLY;BYWEEKNO=1,2;UNTIL=20170101T000000Z", "20130108T000000", EXPANDED),
    ("FREQ=YEARLY;BYWEEKNO=1,2;WKST=FR;UNTIL=20170101T000000Z", "20130108T000000", EXPANDED),
    ("FREQ=YEARLY;BYWEEKNO=1,2;UNTIL=20170101T000000Z", "20130107T000000", EXPANDED),
    ("FREQ=YEARLY;BYWEEKNO=1,2;WKST=TU;UNTIL=20170101T000000Z", "20130107T000000", EXPANDED),
    ("FREQ=YEARLY;BYWEEKNO=1,2;WKST=WE;UNTIL=20170101T000000Z", "20130107T000000", EXPANDED),
    ("FREQ=YEARLY;BYWEEKNO=1,2;WKST=TH;UNTIL=20170101T000000Z", "20130107T000000", EXPANDED),
    ("FREQ=YEARLY;BYWEEKNO=1,2;UNTIL=20170101T000000Z", "20140111T000000", EXPANDED),
    ("FREQ=YEARLY;BYWEEKNO=1,2;WKST=TU;UNTIL=20180101T000000Z", "20140111T000000", EXPANDED),
    ("FREQ=YEARLY;BYWEEKNO=1,2;WKST=SU;UNTIL=20180101T000000Z", "20140111T000000", EXPANDED),
    ("FREQ=YEARLY;BYWEEKNO=-1,-2;COUNT=2", "20131224T000000", EXPANDED),
    ("FREQ=WEEKLY;BYDAY=MO,TU,SU,SA,TH;BYSETPOS=3,2;COUNT=4", "20240102T120000", WHOLE_INTERVAL),
    ("FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1,3;COUNT=3", "20241023", WHOLE_INTERVAL),
    ("FREQ=YEARLY;BYWEEKNO=53;COUNT=1", "20230101T000000Z", EXPANDED),
    ("FREQ=YEARLY;BYWEEKNO=-1,-2;COUNT=5", "20270102", EXPANDED),
    ("FREQ=YEARLY;BYWEEKNO=53;BYDAY=TU,SA;INTERVAL=6;UNTIL=20170101T000000Z", "20100102T000000", YEARS_OF_WEEKS),
    ("FREQ=YEARLY;BYWEEKNO=53;BYDAY=TU,SA;INTERVAL=5;UNTIL=20170101T000000Z", "20100102T000000", YEARS_OF_WEEKS),
    ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=MO,TU;INTERVAL=3;UNTIL=20320101", "20241231", YEARS_OF_WEEKS),
];

struct Case {
    rule: String,
    start: String,
    /// Where libical begins to iterate; what lies before is not asked for again.
    start_at: Option<String>,
    instances: Vec<String>,
}

/// A file of the corpus, where the fixtures are there.
fn fixture(name: &str) -> Option<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/rrule");
    let text = std::fs::read_to_string(folder.join(name)).ok();
    if text.is_none() {
        println!("passed over: there is no {name} beside the workspace, in ../shared/fixtures/rrule");
    }
    text
}

fn corpus() -> Vec<Case> {
    let Some(text) = fixture("libical_icalrecur_test.txt") else { return Vec::new() };
    let cases: Vec<Case> = text.split("\n\n").filter_map(case).collect();
    assert_eq!(cases.len(), 145, "the corpus, without the case that libical does not implement");
    cases
}

/// All the time that the corpus speaks of.
fn centuries() -> Interval {
    let midnight = |day| zone::midnight(date(day), Tz::UTC);
    Interval::new(midnight("1900-01-01"), midnight("2110-01-01")).expect("a window")
}

fn case(block: &str) -> Option<Case> {
    let lines = block.lines().filter(|line| !line.starts_with('#'));
    let fields: HashMap<&str, &str> = lines.filter_map(|line| line.split_once(':')).collect();
    let instances = fields.get("INSTANCES")?.trim();
    (!instances.contains("UNIMPLEMENTED")).then_some(Case {
        rule: (*fields.get("RRULE")?).to_owned(),
        start: (*fields.get("DTSTART")?).to_owned(),
        start_at: fields.get("START-AT").map(|text| (*text).to_owned()),
        instances: instances.split(',').map(str::to_owned).collect(),
    })
}

impl Case {
    fn series(&self) -> Series {
        let start = match NaiveDate::parse_from_str(&self.start, "%Y%m%d") {
            Ok(on) => Start::AllDay { on, zone: Tz::UTC },
            Err(_) => Start::Local { at: time(&self.start), zone: Tz::UTC },
        };
        let length = if self.is_all_day() { Length::days(1) } else { Length::exact(TimeDelta::seconds(1)) };
        Series::read(start, length, &[format!("RRULE:{}", self.rule)]).unwrap_or_else(|problem| panic!("{problem}"))
    }

    fn is_all_day(&self) -> bool {
        !self.start.contains('T')
    }

    /// Our instances from `first` on, as many as libical has and one more, in libical's spelling.
    fn instances_from(&self, first: DateTime<Utc>) -> Vec<String> {
        let window = Interval::new(first, centuries().end()).expect("a window");
        let found = self.series().occurrences(window).unwrap_or_else(|problem| panic!("{}: {problem}", self.rule));
        let spelt = found.iter().map(|found| self.spell(found.interval.start()));
        spelt.filter(|instance| *instance != self.start || self.instances.contains(instance)).collect()
    }

    fn spell(&self, instant: DateTime<Utc>) -> String {
        let form = match (self.is_all_day(), self.start.ends_with('Z')) {
            (true, _) => "%Y%m%d",
            (_, true) => "%Y%m%dT%H%M%SZ",
            _ => "%Y%m%dT%H%M%S",
        };
        instant.format(form).to_string()
    }

    fn is_endless(&self) -> bool {
        !self.rule.contains("COUNT=") && !self.rule.contains("UNTIL=")
    }

    fn choice(&self) -> Option<Choice> {
        let told = DISPUTED.iter().find(|(rule, start, _)| *rule == self.rule && *start == self.start);
        told.map(|(.., choice)| *choice)
    }

    fn followed(&self) -> Follow {
        self.choice().map_or(Follow::Libical, |choice| choice.follow)
    }

    fn takes_place_as(&self, expected: &[String], judge: &str) {
        let found = self.instances_from(centuries().start());
        let because = self.choice().map_or("", |choice| choice.because);
        assert!(
            self.agrees(&found, expected),
            "{} from {} {because}\n  ours {found:?}\n  {judge} {expected:?}",
            self.rule,
            self.start
        );
    }

    /// A rule without end is compared as far as libical lists it.
    fn agrees(&self, found: &[String], expected: &[String]) -> bool {
        if self.is_endless() { found.starts_with(expected) } else { found == expected }
    }
}

fn time(text: &str) -> NaiveDateTime {
    NaiveDateTime::parse_from_str(text.trim_end_matches('Z'), "%Y%m%dT%H%M%S").unwrap_or_else(|_| panic!("time {text}"))
}

#[test]
fn every_rule_of_libicals_corpus_takes_place_as_libical_expects() {
    for case in corpus().iter().filter(|case| case.followed() == Follow::Libical) {
        case.takes_place_as(&case.instances, "libical");
    }
}

#[test]
fn a_rule_entered_in_the_middle_goes_on_as_if_it_had_been_walked_from_its_start() {
    for case in corpus() {
        let all = case.instances_from(centuries().start());
        let middle = case.start_at.clone().unwrap_or_else(|| all[all.len() / 2].clone());
        let first = NaiveDate::parse_from_str(&middle, "%Y%m%d").map_or_else(|_| time(&middle), |day| day.into());

        let found = case.instances_from(first.and_utc());

        let rest: Vec<String> = all.into_iter().filter(|instance| *instance >= middle).collect();
        assert_eq!(found, rest, "{} from {middle}", case.rule);
    }
}

#[test]
fn dateutil_differs_from_libical_where_the_table_says_so() {
    let cases = corpus();
    let question = |case: &Case| json!({"rule": case.rule, "start": case.start, "most": case.instances.len() + 200});
    let answers = ask("libical_by_dateutil.py", &cases.iter().map(question).collect::<Vec<_>>());
    let mut differing = Vec::new();

    for (case, told) in cases.iter().zip(answers) {
        let told: Option<Vec<String>> = serde_json::from_value(told).expect("instances, or null");
        if !told.as_ref().is_some_and(|told| case.agrees(told, &case.instances)) {
            differing.push((case.rule.as_str(), case.start.as_str()));
        }
        if case.followed() == Follow::Dateutil {
            case.takes_place_as(&told.expect("instances"), "dateutil");
        }
    }

    let disputed: Vec<_> = DISPUTED.iter().map(|(rule, start, _)| (*rule, *start)).collect();
    if !cases.is_empty() {
        assert_eq!(differing, disputed);
    }
}

/// Rules of that file that do not match their DTSTART, which takes place all the same.
const DTSTART_BESIDE_THE_RULE: &[&str] = &[
    "RRULE:FREQ=WEEKLY;INTERVAL=1;COUNT=6;BYDAY=TH",
    "RRULE:FREQ=WEEKLY;INTERVAL=2;UNTIL=19971224T000000Z;BYDAY=MO,WE,FR;WKST=SU",
    "RRULE:FREQ=MONTHLY;INTERVAL=1;COUNT=10;BYDAY=FR;BYMONTHDAY=13",
];

/// `fixtures/rrule/libical_recur.txt`: whole events in America/Los_Angeles, with the number of their occurrences.
#[test]
fn every_event_of_libicals_corpus_takes_place_as_often_as_libical_expects() {
    let Some(text) = fixture("libical_recur.txt") else { return };
    let unfolded = text.replace("\n ", "");
    let commented_out = |event: &&str| event.lines().any(|line| line.starts_with(";BEGIN"));
    let mut events = 0;
    for event in unfolded.split("END:VEVENT").filter(|event| event.contains("RRULE") && !commented_out(event)) {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        let dtstart = field("DTSTART").expect("a DTSTART").rsplit(':').next().unwrap_or_default();
        let zone = if dtstart.ends_with('Z') { Tz::UTC } else { Tz::America__Los_Angeles };
        let is_rule = |line: &&str| ["RRULE", "EXRULE", "RDATE", "EXDATE"].iter().any(|name| line.starts_with(name));
        let lines: Vec<_> = event.lines().filter(is_rule).collect();
        let start = Start::Local { at: time(dtstart), zone };
        let series =
            Series::read(start, Length::exact(TimeDelta::hours(1)), &lines).unwrap_or_else(|why| panic!("{why}"));

        let found = series.occurrences(centuries()).unwrap_or_else(|why| panic!("{lines:?}: {why}"));

        let expected: usize = field("X-EXPECT-NUMEVENTS:").expect("a number").trim().parse().expect("a number");
        let beside = lines.iter().any(|line| DTSTART_BESIDE_THE_RULE.contains(line));
        assert_eq!(found.len(), expected + usize::from(beside), "{lines:?} from {dtstart}");
        events += 1;
    }
    assert_eq!(events, 57, "the whole corpus");
}
