//! python-dateutil as the judge of our calendar arithmetic: seeded rules of every frequency, with the parts that RFC 5545
//! allows, in zones with all kinds of changes of the clocks, expanded over a year by both.
//!
//! `PG_CALSYNC_PYTHON` names the interpreter (else `python3`), with `crates/core/tests/oracle/requirements.txt`
//! installed. `PG_CALSYNC_ORACLE_SIZE` sets the number of rules, `PG_CALSYNC_ORACLE_SEED` other rules than usual.

mod time_support;

use calsync_core::interval::Interval;
use calsync_core::recurrence::{Length, Series, Start};
use chrono::{NaiveDateTime, TimeDelta};
use chrono_tz::Tz;
use serde_json::{Value, json};
use time_support::dice::Dice;
use time_support::oracle::{ask, setting};
use time_support::rules;
use time_support::tz;

const LOCAL: &str = "%Y%m%dT%H%M%S";

/// How many rules CI compares, in about ten seconds.
const CI_SIZE: usize = 5_000;

struct Case {
    start: NaiveDateTime,
    zone: Tz,
    lines: Vec<String>,
    window: Interval,
}

impl Case {
    fn generated(dice: &mut Dice) -> Self {
        let zone = tz(dice.any(&rules::ZONES));
        let start = rules::start(dice);
        let lines = rules::lines(dice, start);
        // A rule within the day has in a fortnight what others have in a year.
        let (earliest, latest, length) = match lines.iter().any(|line| is_within_the_day(line)) {
            true => (-3, 40, 14),
            false => (-200, 3_600, 366),
        };
        let first = start.and_utc() + TimeDelta::days(dice.between(earliest, latest));
        let window = Interval::new(first, first + TimeDelta::days(length)).expect("not empty");
        Self { start, zone, lines, window }
    }

    fn question(&self) -> Value {
        json!({
            "start": self.start.format(LOCAL).to_string(),
            "zone": self.zone.name(),
            "lines": self.lines,
            "from": self.window.start().format(LOCAL).to_string(),
            "to": self.window.end().format(LOCAL).to_string(),
        })
    }

    fn answer(&self) -> Value {
        let start = Start::Local { at: self.start, zone: self.zone };
        let series = match Series::read(start, Length::exact(TimeDelta::seconds(1)), &self.lines) {
            Ok(series) => series,
            Err(problem) => return json!(problem.to_string()),
        };
        match series.occurrences(self.window) {
            Ok(found) => found.iter().map(|found| found.interval.start().format(LOCAL).to_string()).collect(),
            Err(problem) => json!(problem.to_string()),
        }
    }
}

fn is_within_the_day(line: &str) -> bool {
    ["HOURLY", "MINUTELY", "SECONDLY"].iter().any(|frequency| line.contains(frequency))
}

#[test]
fn generated_rules_agree_with_python_dateutil() {
    let size = setting("PG_CALSYNC_ORACLE_SIZE", CI_SIZE);
    let mut dice = Dice::seeded(setting("PG_CALSYNC_ORACLE_SEED", 20_261_120));
    let cases: Vec<Case> = (0..size).map(|_| Case::generated(&mut dice)).collect();

    let answers = ask("expand_rules.py", &cases.iter().map(Case::question).collect::<Vec<_>>());

    let differing: Vec<_> = cases.iter().zip(&answers).filter(|(case, told)| case.answer() != **told).collect();
    for (case, told) in differing.iter().take(10) {
        println!("{}\n  dateutil   {told}\n  pg_calsync {}", case.question(), case.answer());
    }
    let occurrences: usize = answers.iter().map(|told| told.as_array().map_or(0, Vec::len)).sum();
    println!("{size} rules, {occurrences} occurrences, {} differences", differing.len());
    assert!(occurrences > size, "the rules hardly ever take place: they prove nothing");
    assert!(differing.is_empty(), "{} of {size} rules differ", differing.len());
}
