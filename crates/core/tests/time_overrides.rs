//! recurring-ical-events as the judge of overrides: occurrences that were moved, made longer, or deleted, "this and all
//! following", and zones that the calendar defines itself.
//!
//! An iCalendar file has overrides with a RECURRENCE-ID, and EXDATE for what was deleted. Google has exceptions and
//! tombstones, and splits a series at "this and following": the old master ends, a new one begins. All three must make
//! the same time busy. `PG_CALSYNC_ORACLE_SIZE` and `PG_CALSYNC_ORACLE_SEED` as in `time_oracle.rs`.

mod time_support;

use std::collections::{BTreeMap, BTreeSet};

use calsync_core::event::{Kind, OriginalStart, Span};
use calsync_core::expansion::{Surroundings, expand};
use calsync_core::interval::Interval;
use calsync_core::recurrence::{Definitions, FromThenOn, Length, Series, Start};
use calsync_core::zone;
use chrono::{NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use chrono_tz::Tz;
use serde_json::{Value, json};
use time_support::dice::Dice;
use time_support::oracle::{ask, setting};
use time_support::{occurrence_of, rules, tz};

const LOCAL: &str = "%Y%m%dT%H%M%S";
const UTC: &str = "%Y%m%dT%H%M%SZ";

/// How many calendars CI compares, in about five seconds.
const CI_SIZE: usize = 2_000;

/// A series and what became of some of its occurrences, in local times.
struct Calendar {
    zone: Tz,
    all_day: bool,
    start: NaiveDateTime,
    length: TimeDelta,
    rule: String,
    moved: Vec<Override>,
    deleted: Vec<NaiveDateTime>,
    /// This and all following, by original start.
    from_then_on: Vec<Override>,
    /// Its zone is one that the calendar defines, by a name that nobody knows.
    defines: Option<&'static str>,
    window: Interval,
}

struct Override {
    original: NaiveDateTime,
    start: NaiveDateTime,
    length: TimeDelta,
}

impl Calendar {
    fn generated(dice: &mut Dice) -> Self {
        let all_day = dice.one_in(4);
        let day = NaiveDate::from_ymd_opt(2010, 1, 1).unwrap() + TimeDelta::days(dice.between(0, 3_000));
        // Away from the hours at which clocks change: the oracle adds durations by the clock on the wall.
        let time = if all_day { TimeDelta::zero() } else { TimeDelta::minutes(dice.between(7 * 4, 16 * 4) * 15) };
        let zone = tz(dice.any(&rules::ZONES[..8]));
        let interval = dice.between(1, 3);
        let frequency = dice.any(&["DAILY", "WEEKLY", "WEEKLY", "MONTHLY"]);
        let mut calendar = Self {
            zone,
            all_day,
            start: existing(day.and_time(NaiveTime::MIN) + time, zone),
            length: length(dice, all_day),
            rule: format!("FREQ={frequency};INTERVAL={interval}"),
            moved: Vec::new(),
            deleted: Vec::new(),
            from_then_on: Vec::new(),
            defines: None,
            window: Interval::new(
                day.and_time(NaiveTime::MIN).and_utc(),
                (day + TimeDelta::days(1)).and_time(NaiveTime::MIN).and_utc(),
            )
            .unwrap(),
        };
        let definition = definition(calendar.zone);
        calendar.defines = definition.filter(|_| dice.one_in(2));
        calendar.edit(dice);
        calendar
    }

    /// Moves and deletes some of the first occurrences, and looks at a window among them.
    fn edit(&mut self, dice: &mut Dice) {
        let first = self.start.and_utc() - TimeDelta::days(2);
        let all = Interval::new(first, first + TimeDelta::days(400)).expect("a window");
        let mut originals: Vec<NaiveDateTime> = self
            .series()
            .occurrences(all)
            .expect("a plain rule")
            .iter()
            .map(|found| found.date.and_time(self.start.time()))
            .collect();
        if dice.one_in(3) && originals.len() > 8 {
            let following = originals.split_off(originals.len() / 2);
            self.from_then_on.push(self.edited(following[0], 3, dice));
            if dice.one_in(3) {
                self.from_then_on.push(self.edited(following[following.len() / 2], 3, dice));
            }
        }
        for original in originals {
            match dice.between(0, 5) {
                0 => self.deleted.push(original),
                1 => {
                    let moved = self.edited(original, 40, dice);
                    self.moved.push(moved);
                }
                _ => {}
            }
        }
        let start = first + TimeDelta::days(dice.between(0, 200));
        self.window = Interval::new(start, start + TimeDelta::days(dice.between(1, 120))).expect("a window");
    }

    fn edited(&self, original: NaiveDateTime, days: i64, dice: &mut Dice) -> Override {
        let minutes = if self.all_day { 0 } else { dice.between(-4, 4) * 15 };
        let start = original + TimeDelta::days(dice.between(-days, days)) + TimeDelta::minutes(minutes);
        Override { original, start, length: length(dice, self.all_day) }
    }

    fn series(&self) -> Series {
        let start = match self.all_day {
            true => Start::AllDay { on: self.start.date(), zone: self.zone },
            false => Start::Local { at: self.start, zone: self.zone },
        };
        let length = if self.all_day { Length::days(1) } else { Length::exact(self.length) };
        Series::read(start, length, &[format!("RRULE:{}", self.rule)]).expect("a plain rule")
    }

    // As an iCalendar file.

    fn ics(&self) -> String {
        let mut rule = format!("RRULE:{}\r\n", self.rule);
        for deleted in &self.deleted {
            rule += &self.property("EXDATE", *deleted);
        }
        let mut text = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//pg_calsync//tests//EN\r\n".to_owned();
        text += &self.defines.map(|definition| definition.replace('\n', "\r\n")).unwrap_or_default();
        text += &self.vevent(self.start, self.length, &rule);
        for moved in &self.moved {
            text += &self.vevent(moved.start, moved.length, &self.property("RECURRENCE-ID", moved.original));
        }
        for moved in &self.from_then_on {
            text += &self.vevent(
                moved.start,
                moved.length,
                &self.property("RECURRENCE-ID;RANGE=THISANDFUTURE", moved.original),
            );
        }
        text + "END:VCALENDAR\r\n"
    }

    fn vevent(&self, start: NaiveDateTime, length: TimeDelta, more: &str) -> String {
        let (start, end) = (self.property("DTSTART", start), self.property("DTEND", start + length));
        format!("BEGIN:VEVENT\r\nUID:series\r\nDTSTAMP:20260101T000000Z\r\n{start}{end}{more}END:VEVENT\r\n")
    }

    fn property(&self, name: &str, local: NaiveDateTime) -> String {
        match self.all_day {
            true => format!("{name};VALUE=DATE:{}\r\n", local.format("%Y%m%d")),
            false => format!("{name};TZID={}:{}\r\n", self.zone_name(), local.format(LOCAL)),
        }
    }

    fn zone_name(&self) -> &'static str {
        let defined = self.defines.and_then(|text| text.lines().find_map(|line| line.strip_prefix("TZID:")));
        defined.unwrap_or(self.zone.name())
    }

    fn question(&self) -> Value {
        json!({
            "ics": self.ics(),
            "zone": self.zone.name(),
            "from": self.window.start().format(LOCAL).to_string(),
            "to": self.window.end().format(LOCAL).to_string(),
        })
    }

    // As an iCalendar file is read.

    fn answer(&self) -> Value {
        let definitions = Definitions::read(&self.ics());
        let master = self.master(self.start, self.length, &self.rule);
        let edits: Vec<FromThenOn> = self.from_then_on.iter().map(|edit| self.edit_from(edit)).collect();
        let surroundings = Surroundings {
            vacated: &self.vacated(),
            from_then_on: &edits,
            definitions: &definitions,
            calendar_zone: self.zone,
        };
        let expansion = expand(&master, &surroundings, self.window);
        assert_eq!(expansion.problem, None);
        self.told([vec![expansion.intervals], self.exceptions()].concat())
    }

    fn edit_from(&self, edit: &Override) -> FromThenOn {
        FromThenOn { original: self.original(edit.original), span: self.span(edit.start, edit.length) }
    }

    // As Google tells it.

    /// None where Google would have to write another rule for the days that follow.
    fn answer_of_google(&self) -> Option<Value> {
        let ([] | [_]) = &self.from_then_on[..] else { return None };
        let mut rule = self.rule.clone();
        let mut found = self.exceptions();
        if let [then] = &self.from_then_on[..] {
            if rule.contains("MONTHLY") {
                return None;
            }
            let until = match self.all_day {
                true => (then.original - TimeDelta::days(1)).format("%Y%m%d").to_string(),
                false => (zone::instant(then.original, self.zone) - TimeDelta::seconds(1)).format(UTC).to_string(),
            };
            found.push(self.expanded(&self.master(then.start, then.length, &rule), &[]));
            rule = format!("{rule};UNTIL={until}");
        }
        found.push(self.expanded(&self.master(self.start, self.length, &rule), &self.vacated()));
        Some(self.told(found))
    }

    fn master(&self, start: NaiveDateTime, length: TimeDelta, rule: &str) -> Kind {
        Kind::Master { span: self.span(start, length), recurrence: vec![format!("RRULE:{rule}")] }
    }

    fn exceptions(&self) -> Vec<Vec<Interval>> {
        let exception = |moved: &Override| {
            let of = occurrence_of(self.original(moved.original));
            self.expanded(&Kind::Exception { of, span: self.span(moved.start, moved.length) }, &[])
        };
        self.moved.iter().map(exception).collect()
    }

    fn vacated(&self) -> Vec<OriginalStart> {
        let moved = self.moved.iter().map(|moved| moved.original);
        self.deleted.iter().copied().chain(moved).map(|original| self.original(original)).collect()
    }

    fn expanded(&self, kind: &Kind, vacated: &[OriginalStart]) -> Vec<Interval> {
        let definitions = Definitions::read(self.defines.unwrap_or_default());
        let surroundings =
            Surroundings { vacated, from_then_on: &[], definitions: &definitions, calendar_zone: self.zone };
        let expansion = expand(kind, &surroundings, self.window);
        assert_eq!(expansion.problem, None);
        expansion.intervals
    }

    fn span(&self, start: NaiveDateTime, length: TimeDelta) -> Span {
        let starts_at = zone::instant(start, self.zone);
        match self.all_day {
            true => Span::AllDay { start: start.date(), end: (start + length).date() },
            false => Span::Timed { starts_at, ends_at: starts_at + length, zone: Some(self.zone_name().to_owned()) },
        }
    }

    fn original(&self, local: NaiveDateTime) -> OriginalStart {
        match self.all_day {
            true => OriginalStart::On(local.date()),
            false => OriginalStart::At(zone::instant(local, self.zone)),
        }
    }

    fn told(&self, found: Vec<Vec<Interval>>) -> Value {
        let found: BTreeSet<Interval> = found.into_iter().flatten().collect();
        let spell = |found: &Interval| [found.start().format(LOCAL).to_string(), found.end().format(LOCAL).to_string()];
        json!(found.iter().map(spell).collect::<Vec<_>>())
    }
}

/// How a calendar would define this zone, for the years 2010 to 2020. Each under a name of its own, because the oracle
/// keeps a definition for all the calendars that follow.
fn definition(zone: Tz) -> Option<&'static str> {
    match zone {
        Tz::Europe__Vienna => Some(include_str!("time_support/vienna.ics")),
        Tz::America__New_York => Some(include_str!("time_support/new_york.ics")),
        Tz::Asia__Kolkata => Some(include_str!("time_support/kolkata.ics")),
        _ => None,
    }
}

/// A day later, where the zone has no such time: Google tells an instant, and no instant is that local time. (So an event
/// at noon of the day that Samoa skipped begins, to Google, on the next.)
fn existing(local: NaiveDateTime, zone: Tz) -> NaiveDateTime {
    if zone::local(zone::instant(local, zone), zone) == local { local } else { local + TimeDelta::days(1) }
}

/// Up to three hours or days.
fn length(dice: &mut Dice, all_day: bool) -> TimeDelta {
    if all_day { TimeDelta::days(dice.between(1, 3)) } else { TimeDelta::minutes(dice.between(1, 12) * 15) }
}

/// Start and end of each occurrence; of two that start together the longer, as an event is kept.
fn spans(answer: &Value) -> BTreeMap<String, String> {
    let spans: BTreeSet<[String; 2]> = serde_json::from_value(answer.clone()).expect("a list of spans");
    // A later one takes the place of a shorter one.
    spans.into_iter().map(|[start, end]| (start, end)).collect()
}

#[test]
fn overrides_agree_with_recurring_ical_events() {
    let size = setting("PG_CALSYNC_ORACLE_SIZE", CI_SIZE);
    let mut dice = Dice::seeded(setting("PG_CALSYNC_ORACLE_SEED", 20_261_120));
    let calendars: Vec<_> = (0..size).map(|_| Calendar::generated(&mut dice)).collect();

    let answers = ask("expand_overrides.py", &calendars.iter().map(Calendar::question).collect::<Vec<_>>());

    let pairs: Vec<_> = calendars.iter().zip(&answers).collect();
    let differs = |calendar: &Calendar, told: &Value| {
        let differs = |answer: Value| spans(&answer) != spans(told);
        differs(calendar.answer()) || calendar.answer_of_google().is_some_and(differs)
    };
    let differing: Vec<_> = pairs.iter().filter(|(calendar, told)| differs(calendar, told)).collect();
    for (calendar, told) in differing.iter().take(5) {
        let (window, zone) = (calendar.window, calendar.zone);
        println!("{}{zone}, {} to {}", calendar.ics(), window.start(), window.end());
        let answers = [Some((*told).clone()), Some(calendar.answer()), calendar.answer_of_google()];
        for (whose, answer) in ["oracle", "pg_calsync", "as Google"].iter().zip(answers) {
            println!("  {whose:10} {:?}", answer.map(|answer| spans(&answer)));
        }
    }
    let found: usize = answers.iter().map(|told| told.as_array().map_or(0, Vec::len)).sum();
    println!("{size} calendars, {found} occurrences, {} differences", differing.len());
    assert!(found > size, "the events hardly ever take place: they prove nothing");
    assert!(differing.is_empty(), "{} of {size} calendars differ", differing.len());
}
