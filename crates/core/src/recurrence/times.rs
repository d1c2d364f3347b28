//! At which times of a day does a rule take place?
//!
//! Rules that recur by the day or less often have the same times each day. Those that recur by the hour, minute or
//! second run on through midnight; their times on a day follow from how far the day is from DTSTART.

use chrono::{NaiveDateTime, NaiveTime, TimeDelta, Timelike};

use super::problem::Excess;
use super::rule::{Frequency, Rule};
use super::walk::Budget;

const DAY: i64 = 86_400;

#[derive(Debug, Clone)]
pub(super) struct Times {
    hours: Vec<i64>,
    minutes: Vec<i64>,
    seconds: Vec<i64>,
    pace: Option<Pace>,
    /// BYSETPOS of a rule within the day, where it picks from each hour, minute or second.
    positions: Vec<i64>,
}

/// How a rule runs through the day.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Seconds from one period to the next.
    step: i64,
    /// Seconds that one period lasts: an hour, a minute or a second.
    period: i64,
    start: NaiveDateTime,
}

impl Times {
    /// `all_day`: "The BYSECOND, BYMINUTE and BYHOUR rule parts MUST NOT be specified when the associated DTSTART
    /// property has a DATE value type. These rule parts MUST be ignored" (RFC 5545 §3.3.10).
    pub fn new(rule: &Rule, start: NaiveDateTime, all_day: bool) -> Self {
        let part = |given: &[i64], from_start: u32, limits_from: Frequency, all: i64| {
            if !given.is_empty() && !all_day {
                ordered(given, all)
            } else if rule.frequency >= limits_from {
                (0..all).collect()
            } else {
                vec![i64::from(from_start)]
            }
        };
        let pace = pace(rule, start);
        Self {
            hours: part(&rule.hours, start.hour(), Frequency::Hourly, 24),
            minutes: part(&rule.minutes, start.minute(), Frequency::Minutely, 60),
            seconds: part(&rule.seconds, start.second(), Frequency::Secondly, 60),
            positions: if pace.is_some() { rule.positions.clone() } else { Vec::new() },
            pace,
        }
    }

    /// How many there are on every day, where that is always the same.
    pub fn each_day(&self) -> Option<usize> {
        self.pace.is_none().then(|| self.hours.len() * self.minutes.len() * self.seconds.len())
    }

    /// The step from one to the next, where it takes place in every period at DTSTART's minute and second.
    pub fn even_step(&self) -> Option<TimeDelta> {
        let pace = self.pace.filter(|_| self.positions.is_empty())?;
        let as_started = |times: &[i64], start: u32| times == [i64::from(start)].as_slice();
        let even = self.hours.len() == 24
            && (if pace.period == 3600 {
                as_started(&self.minutes, pace.start.minute())
            } else {
                self.minutes.len() == 60
            })
            && (if pace.period > 1 {
                as_started(&self.seconds, pace.start.second())
            } else {
                self.seconds.len() == 60
            });
        if even { TimeDelta::try_seconds(pace.step) } else { None }
    }

    /// Adds this day's times, in order.
    pub fn on(
        &self,
        midnight: NaiveDateTime,
        found: &mut Vec<NaiveDateTime>,
        budget: &mut Budget,
    ) -> Result<(), Excess> {
        match self.pace {
            None => self.each(midnight, found, budget),
            Some(pace) => self.paced(pace, midnight, found, budget),
        }
    }

    fn each(&self, midnight: NaiveDateTime, found: &mut Vec<NaiveDateTime>, budget: &mut Budget) -> Result<(), Excess> {
        for hour in &self.hours {
            for minute in &self.minutes {
                for second in &self.seconds {
                    budget.step()?;
                    found.extend(at(midnight, hour * 3600 + minute * 60 + second));
                }
            }
        }
        Ok(())
    }

    /// Goes from period to period where they are far apart, from one time it asks for to the next where they are close.
    fn paced(
        &self,
        pace: Pace,
        midnight: NaiveDateTime,
        found: &mut Vec<NaiveDateTime>,
        budget: &mut Budget,
    ) -> Result<(), Excess> {
        for hour in &self.hours {
            budget.step()?;
            if pace.next(midnight, hour * 3600) >= (hour + 1) * 3600 {
                continue;
            }
            if pace.period == 3600 {
                self.in_hour(*hour, midnight, found, budget)?;
                continue;
            }
            for minute in &self.minutes {
                budget.step()?;
                let minute = hour * 60 + minute;
                if pace.next(midnight, minute * 60) < (minute + 1) * 60 {
                    self.in_minute(pace, minute, midnight, found, budget)?;
                }
            }
        }
        Ok(())
    }

    /// One period of an HOURLY rule.
    fn in_hour(
        &self,
        hour: i64,
        midnight: NaiveDateTime,
        found: &mut Vec<NaiveDateTime>,
        budget: &mut Budget,
    ) -> Result<(), Excess> {
        let mut set = Vec::with_capacity(self.minutes.len() * self.seconds.len());
        for minute in &self.minutes {
            for second in &self.seconds {
                budget.step()?;
                set.extend(at(midnight, hour * 3600 + minute * 60 + second));
            }
        }
        pick(&mut set, &self.positions);
        found.extend(set);
        Ok(())
    }

    /// One period of a MINUTELY rule, or the periods of a SECONDLY rule within one minute of the day.
    fn in_minute(
        &self,
        pace: Pace,
        minute: i64,
        midnight: NaiveDateTime,
        found: &mut Vec<NaiveDateTime>,
        budget: &mut Budget,
    ) -> Result<(), Excess> {
        let mut set = Vec::with_capacity(self.seconds.len());
        for second in &self.seconds {
            budget.step()?;
            let second = minute * 60 + second;
            if pace.period == 60 || pace.next(midnight, second) == second {
                set.extend(at(midnight, second));
            }
        }
        if pace.period == 60 {
            pick(&mut set, &self.positions);
        } else if !self.positions.is_empty() {
            // Each second is a set of one.
            set.retain(|_| self.positions.iter().any(|position| position.abs() == 1));
        }
        found.extend(set);
        Ok(())
    }
}

impl Pace {
    /// The second of the day, `from` or later, at which a period begins.
    fn next(self, midnight: NaiveDateTime, from: i64) -> i64 {
        let start = self.start.and_utc().timestamp().div_euclid(self.period) * self.period;
        let passed = midnight.and_utc().timestamp() + from - start;
        from + (-passed).rem_euclid(self.step)
    }
}

fn pace(rule: &Rule, start: NaiveDateTime) -> Option<Pace> {
    let period = match rule.frequency {
        Frequency::Hourly => 3600,
        Frequency::Minutely => 60,
        Frequency::Secondly => 1,
        _ => return None,
    };
    Some(Pace { step: rule.interval * period, period, start })
}

fn at(midnight: NaiveDateTime, second: i64) -> Option<NaiveDateTime> {
    debug_assert!(second < DAY);
    let time = NaiveTime::from_num_seconds_from_midnight_opt(u32::try_from(second).ok()?, 0)?;
    Some(midnight.date().and_time(time))
}

/// Sorted, without duplicates. A leap second (60) is the second before it to clocks that know none.
fn ordered(given: &[i64], all: i64) -> Vec<i64> {
    let mut numbers: Vec<_> = given.iter().map(|number| (*number).min(all - 1)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Leaves what BYSETPOS picks of one period's set; all of it where nothing is said (RFC 5545 §3.3.10).
pub(super) fn pick(set: &mut Vec<NaiveDateTime>, positions: &[i64]) {
    if positions.is_empty() {
        return;
    }
    let length = i64::try_from(set.len()).unwrap_or(i64::MAX);
    let mut position = 0;
    set.retain(|_| {
        position += 1;
        positions.contains(&position) || positions.contains(&(position - length - 1))
    });
}
