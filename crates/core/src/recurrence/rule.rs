//! The recurrence rule as written (RFC 5545 §3.3.10), before DTSTART fills in what it leaves open.
//!
//! Read leniently where the meaning is plain: any case, a trailing semicolon (Google writes it), parts in any order,
//! `X-` parts passed over. What could be meant in two ways is refused, with line and column.

use chrono::Weekday;

use super::moment::Moment;
use super::problem::Problem;
use super::text::Piece;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Frequency {
    Yearly,
    Monthly,
    Weekly,
    Daily,
    Hourly,
    Minutely,
    Secondly,
}

/// A weekday, or the nth of its kind in the month or year, counted from the end where negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByDay {
    pub nth: Option<i64>,
    pub weekday: Weekday,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// Which of the series' lines it is, from 1.
    pub line: usize,
    pub frequency: Frequency,
    pub interval: i64,
    pub count: Option<u64>,
    pub until: Option<Moment>,
    pub week_start: Weekday,
    // The lists are sorted, each number once.
    pub seconds: Vec<i64>,
    pub minutes: Vec<i64>,
    pub hours: Vec<i64>,
    pub days: Vec<ByDay>,
    pub month_days: Vec<i64>,
    pub year_days: Vec<i64>,
    pub weeks: Vec<i64>,
    pub months: Vec<i64>,
    pub positions: Vec<i64>,
}

/// A century of seconds: more than any sensible interval, and small enough that no sum overflows.
const LONGEST_INTERVAL: i64 = 3_200_000_000;

impl Rule {
    /// Reads what stands after `RRULE:`.
    pub fn read(value: Piece) -> Result<Self, Problem> {
        let mut rule = Self::with_frequency(frequency(value)?, value.line);
        let mut seen: Vec<&str> = Vec::new();
        for part in value.split(';').filter(|part| !part.text.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| part.is_not("NAME=value"))?;
            if seen.iter().any(|earlier| name.is(earlier)) {
                return Err(name.problem(format!("{} occurs twice in one rule", name.text)));
            }
            if rule.take(name, value)? {
                seen.push(name.text);
            }
        }
        Ok(rule)
    }

    fn with_frequency(frequency: Frequency, line: usize) -> Self {
        Self {
            line,
            frequency,
            interval: 1,
            count: None,
            until: None,
            week_start: Weekday::Mon,
            seconds: Vec::new(),
            minutes: Vec::new(),
            hours: Vec::new(),
            days: Vec::new(),
            month_days: Vec::new(),
            year_days: Vec::new(),
            weeks: Vec::new(),
            months: Vec::new(),
            positions: Vec::new(),
        }
    }

    /// Takes in one part; false where it is a private one, which says nothing.
    fn take(&mut self, name: Piece, value: Piece) -> Result<bool, Problem> {
        match name.text.to_ascii_uppercase().as_str() {
            "FREQ" => {}
            "INTERVAL" => self.interval = value.number(1, LONGEST_INTERVAL)?,
            "COUNT" => self.count = Some(value.number(1, i64::from(u32::MAX))?.unsigned_abs()),
            "UNTIL" => self.until = Some(Moment::read(value)?),
            "WKST" => self.week_start = weekday(value)?,
            "BYSECOND" => self.seconds = numbers(value, 0, 60)?,
            "BYMINUTE" => self.minutes = numbers(value, 0, 59)?,
            "BYHOUR" => self.hours = numbers(value, 0, 23)?,
            "BYDAY" => self.days = value.split(',').map(by_day).collect::<Result<_, _>>()?,
            "BYMONTHDAY" => self.month_days = numbers_but_zero(value, 31)?,
            "BYYEARDAY" => self.year_days = numbers_but_zero(value, 366)?,
            "BYWEEKNO" => self.weeks = numbers_but_zero(value, 53)?,
            "BYMONTH" => self.months = numbers(value, 1, 12)?,
            // An ordinal within a period; a second is the shortest, a year of seconds the longest.
            "BYSETPOS" => self.positions = numbers_but_zero(value, 366 * 86_400)?,
            // RFC 7529: these are the values that mean what RFC 5545 means without them.
            "RSCALE" if value.is("GREGORIAN") => {}
            "SKIP" if value.is("OMIT") => {}
            other if other.starts_with("X-") => return Ok(false),
            _ => return Err(name.is_not("a part of a recurrence rule that pg_calsync knows")),
        }
        Ok(true)
    }
}

fn frequency(value: Piece) -> Result<Frequency, Problem> {
    let named = value.split(';').filter_map(|part| part.split_once('=')).find(|(name, _)| name.is("FREQ"));
    let (_, frequency) = named.ok_or_else(|| value.problem("the rule has no FREQ"))?;
    Ok(match frequency.text.to_ascii_uppercase().as_str() {
        "YEARLY" => Frequency::Yearly,
        "MONTHLY" => Frequency::Monthly,
        "WEEKLY" => Frequency::Weekly,
        "DAILY" => Frequency::Daily,
        "HOURLY" => Frequency::Hourly,
        "MINUTELY" => Frequency::Minutely,
        "SECONDLY" => Frequency::Secondly,
        _ => return Err(frequency.is_not("YEARLY, MONTHLY, WEEKLY, DAILY, HOURLY, MINUTELY or SECONDLY")),
    })
}

/// Sorted, each once: what is looked up in a list must not cost more where a list is longer than it has sense.
fn numbers(list: Piece, low: i64, high: i64) -> Result<Vec<i64>, Problem> {
    let mut numbers: Vec<_> = list.split(',').map(|number| number.number(low, high)).collect::<Result<_, _>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// Ordinals: from 1 to `highest`, or as far back from the end. There is no zeroth.
fn numbers_but_zero(list: Piece, highest: i64) -> Result<Vec<i64>, Problem> {
    if let Some(zero) = list.split(',').find(|number| number.number(0, 0).is_ok()) {
        return Err(zero.is_not("a number other than 0"));
    }
    numbers(list, -highest, highest)
}

fn by_day(piece: Piece) -> Result<ByDay, Problem> {
    let expected = "a weekday such as MO, 2TU or -1FR";
    let split = piece.text.len().checked_sub(2).filter(|at| piece.text.is_char_boundary(*at));
    let (number, name) = piece.text.split_at(split.ok_or_else(|| piece.is_not(expected))?);
    let weekday = weekday(Piece { text: name, ..piece }).map_err(|_| piece.is_not(expected))?;
    let nth = match number {
        "" => None,
        _ => match (Piece { text: number, ..piece }).number(-53, 53) {
            Ok(nth) if nth != 0 => Some(nth),
            _ => return Err(piece.is_not(expected)),
        },
    };
    Ok(ByDay { nth, weekday })
}

fn weekday(piece: Piece) -> Result<Weekday, Problem> {
    Ok(match piece.text.to_ascii_uppercase().as_str() {
        "MO" => Weekday::Mon,
        "TU" => Weekday::Tue,
        "WE" => Weekday::Wed,
        "TH" => Weekday::Thu,
        "FR" => Weekday::Fri,
        "SA" => Weekday::Sat,
        "SU" => Weekday::Sun,
        _ => return Err(piece.is_not("MO, TU, WE, TH, FR, SA or SU")),
    })
}
