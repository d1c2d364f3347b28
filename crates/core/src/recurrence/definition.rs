//! Zones that a calendar defines itself: VTIMEZONE, with its observances (RFC 5545 §3.6.5).
//!
//! The database comes first, also where a definition is given: programs send definitions that are old, or cut to one
//! year, under names whose meaning is plain. A definition is for the names that nobody else knows.
//!
//! Read when a series first asks for it, and then kept; a name that the database knows costs nothing. Changes of the
//! clocks are known from 1900 to 2200, before and after that the clocks stand still.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};

use super::line::{Dates, Entry, Line};
use super::moment::Moment;
use super::problem::{Excess, Problem};
use super::rule::Rule;
use super::text::Piece;
use super::walk::{Budget, Walk};
use crate::zone::{self, Offsets, Zone};

/// The zones that a calendar (an iCalendar text) defines.
#[derive(Debug, Default)]
pub struct Definitions {
    by_name: HashMap<String, Definition>,
}

/// Why a definition cannot be used. Line and column are those of the text, a folded line's of where it begins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionProblem {
    #[error("definition of the time zone, line {line}, column {column}: {why}")]
    Unreadable { line: usize, column: usize, why: String },
    #[error("definition of the time zone, line {line}: {excess}")]
    TooMuch { line: usize, excess: Excess },
}

impl From<Problem> for DefinitionProblem {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Unreadable { line, column, why } => Self::Unreadable { line, column, why },
            Problem::TooMuch { line, excess } => Self::TooMuch { line, excess },
        }
    }
}

#[derive(Debug)]
struct Definition {
    /// Its lines, unfolded, each with its place in the text.
    lines: Vec<(usize, String)>,
    zone: OnceLock<Result<Zone, DefinitionProblem>>,
}

impl Definitions {
    /// Finds the VTIMEZONEs of an iCalendar text; of two with one name the first counts. Nothing is read yet.
    pub fn read(text: &str) -> Self {
        let mut definitions = Self::default();
        let mut open: Option<Vec<(usize, String)>> = None;
        for (number, line) in unfolded(text) {
            if is(&line, "BEGIN:VTIMEZONE") {
                open = Some(Vec::new());
            } else if is(&line, "END:VTIMEZONE") {
                definitions.take(open.take().unwrap_or_default());
            } else if let Some(lines) = &mut open {
                lines.push((number, line));
            }
        }
        definitions
    }

    fn take(&mut self, lines: Vec<(usize, String)>) {
        let name = lines.iter().find_map(|(_, line)| {
            let (head, value) = line.split_once(':')?;
            head.split(';').next().is_some_and(|name| is(name, "TZID")).then(|| normal(value).to_owned())
        });
        if let Some(name) = name {
            self.by_name.entry(name).or_insert(Definition { lines, zone: OnceLock::new() });
        }
    }

    /// The zone that goes by this name: the database's, by name or alias, else the one defined. None: nobody knows it.
    pub fn zone(&self, name: &str) -> Option<Result<Zone, DefinitionProblem>> {
        if let Some(known) = zone::find(name) {
            return Some(Ok(Zone::Known(known)));
        }
        let definition = self.by_name.get(normal(name))?;
        Some(definition.zone.get_or_init(|| defined(&definition.lines)).clone())
    }
}

fn normal(name: &str) -> &str {
    name.trim().trim_matches('"').trim()
}

fn is(line: &str, word: &str) -> bool {
    line.trim().eq_ignore_ascii_case(word)
}

/// Content lines: a line that begins with a blank goes on from the one before (RFC 5545 §3.1).
fn unfolded(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (Some(more), Some((_, last))) => last.push_str(more),
            _ => lines.push((index + 1, line.to_owned())),
        }
    }
    lines
}

/// STANDARD or DAYLIGHT: an offset, and when it begins to be in force.
#[derive(Default)]
struct Observance {
    start: Option<NaiveDateTime>,
    from: Option<TimeDelta>,
    to: Option<TimeDelta>,
    rules: Vec<Rule>,
    dates: Vec<Dates<Entry>>,
}

fn defined(lines: &[(usize, String)]) -> Result<Zone, DefinitionProblem> {
    let mut budget = Budget::full();
    let mut onsets: Vec<Onset> = Vec::new();
    let mut open: Option<Observance> = None;
    for (number, text) in lines {
        let line = Piece::line(text, *number);
        if line.is("BEGIN:STANDARD") || line.is("BEGIN:DAYLIGHT") {
            open = Some(Observance::default());
        } else if line.is("END:STANDARD") || line.is("END:DAYLIGHT") {
            onsets.extend(open.take().unwrap_or_default().onsets(line, &mut budget)?);
        } else if let Some(observance) = &mut open {
            observance.take(line)?;
        }
    }
    let first = onsets.iter().min_by_key(|onset| onset.at).map(|onset| onset.from);
    let nothing = || Problem::Unreadable {
        line: lines.first().map_or(1, |(number, _)| *number),
        column: 1,
        why: "it has neither STANDARD nor DAYLIGHT".to_owned(),
    };
    let first = first.ok_or_else(nothing)?;
    Ok(Zone::Defined(Arc::new(Offsets::new(first, onsets.iter().map(|onset| (onset.at, onset.to)).collect()))))
}

/// From this instant on the offset is in force.
struct Onset {
    at: DateTime<Utc>,
    from: TimeDelta,
    to: TimeDelta,
}

impl Observance {
    fn take(&mut self, line: Piece) -> Result<(), Problem> {
        let Some((head, value)) = line.split_once(':') else { return Ok(()) };
        let name = head.split(';').next().unwrap_or(head);
        match name.text.to_ascii_uppercase().as_str() {
            "DTSTART" => self.start = Some(local(Moment::read(value)?, NaiveTime::MIN)),
            "TZOFFSETFROM" => self.from = Some(offset(value)?),
            "TZOFFSETTO" => self.to = Some(offset(value)?),
            "RRULE" => self.rules.push(Rule::read(value)?),
            "RDATE" => {
                if let Line::RDate(dates) = Line::read(line, &Definitions::default())? {
                    self.dates.push(dates);
                }
            }
            // Names, comments, and what RFC 5545 does not have here.
            _ => {}
        }
        Ok(())
    }

    /// DTSTART, RDATE and RRULE are local times of the offset before (RFC 5545 §3.6.5, "relative to the UTC offset
    /// specified by TZOFFSETFROM").
    fn onsets(self, end: Piece, budget: &mut Budget) -> Result<Vec<Onset>, Problem> {
        let (Some(start), Some(from), Some(to)) = (self.start, self.from, self.to) else {
            return Err(end.problem("it ends without DTSTART, TZOFFSETFROM and TZOFFSETTO"));
        };
        let mut locals = vec![start];
        for rule in &self.rules {
            locals.extend(yielded(rule, start, from, budget)?);
        }
        for entry in self.dates.iter().flat_map(|dates| &dates.entries) {
            locals.push(match entry.start {
                Moment::Utc(instant) => instant.naive_utc() + from,
                other => local(other, start.time()),
            });
        }
        let instant = |local: NaiveDateTime| Some(local.checked_sub_signed(from)?.and_utc());
        Ok(locals.into_iter().filter_map(instant).map(|at| Onset { at, from, to }).collect())
    }
}

fn yielded(
    rule: &Rule,
    start: NaiveDateTime,
    from: TimeDelta,
    budget: &mut Budget,
) -> Result<impl Iterator<Item = NaiveDateTime>, Problem> {
    let day = |year| NaiveDate::from_ymd_opt(year, 1, 1).unwrap_or_default().and_time(NaiveTime::MIN);
    let until = rule.until;
    // Some definitions have an observance for each year, which ends in it.
    let end = until.map(|until| local(until, NaiveTime::MIN)).and_then(|end| end.checked_add_days(Days::new(2)));
    let locals = Walk::new(rule, start, false)
        .between(day(1900), end.map_or(day(2200), |end| end.min(day(2200))), budget)
        .map_err(|excess| Problem::TooMuch { line: rule.line, excess })?;
    Ok(locals.into_iter().filter(move |time| match until {
        None => true,
        Some(Moment::Utc(until)) => time.checked_sub_signed(from).is_none_or(|time| time <= until.naive_utc()),
        Some(Moment::Local(until)) => *time <= until,
        Some(Moment::Date(until)) => time.date() <= until,
    }))
}

fn local(moment: Moment, time: NaiveTime) -> NaiveDateTime {
    match moment {
        Moment::Date(date) => date.and_time(time),
        Moment::Local(local) => local,
        Moment::Utc(instant) => instant.naive_utc(),
    }
}

/// `+0100`, `-053000` (RFC 5545 §3.3.14).
fn offset(piece: Piece) -> Result<TimeDelta, Problem> {
    let wrong = || piece.is_not("an offset from UTC such as +0100 or -0530");
    let (sign, digits) = match piece.text.split_at_checked(1) {
        Some(("+", digits)) => (1, digits),
        Some(("-", digits)) => (-1, digits),
        _ => return Err(wrong()),
    };
    if !matches!(digits.len(), 4 | 6) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let two = |from: usize| digits.get(from..from + 2).and_then(|two| two.parse::<i64>().ok()).unwrap_or(0);
    let (hours, minutes, seconds) = (two(0), two(2), two(4));
    if hours > 23 || minutes > 59 || seconds > 59 {
        return Err(wrong());
    }
    TimeDelta::try_seconds(sign * (hours * 3600 + minutes * 60 + seconds)).ok_or_else(wrong)
}
