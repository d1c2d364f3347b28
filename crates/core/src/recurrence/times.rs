//! At which times of a day does a rule take place?
//!
//! Rules that recur by the day or less often have the same times each day. Those that recur by the hour, minute or
//! second run on through midnight; their times on a day follow from how far the day is from DTSTART.

use chrono::{NaiveDateTime, NaiveTime, TimeDelta, Timelike};

use super::problem::Excess;
use super::rule::{Frequency, Rule};
use super::walk::Budget;

const HOUR: i64 = 3600;
const MINUTE: i64 = 60;

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
                without_leap_seconds(given, all)
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
        let minutes = if pace.period == HOUR { vec![i64::from(pace.start.minute())] } else { (0..60).collect() };
        let seconds = if pace.period > 1 { vec![i64::from(pace.start.second())] } else { (0..60).collect() };
        let even = self.hours.len() == 24 && self.minutes == minutes && self.seconds == seconds;
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
                    found.extend(at(midnight, hour * HOUR + minute * MINUTE + second));
                }
            }
        }
        Ok(())
    }

    fn paced(
        &self,
        pace: Pace,
        midnight: NaiveDateTime,
        found: &mut Vec<NaiveDateTime>,
        budget: &mut Budget,
    ) -> Result<(), Excess> {
        for hour in self.hours.iter().map(|hour| hour * HOUR) {
            budget.step()?;
            match pace.period {
                HOUR if pace.next(midnight, hour) == hour => self.within_hour(hour, midnight, found, budget)?,
                HOUR => {}
                MINUTE => {
                    for minute in pace.starts(midnight, hour, MINUTE, &self.minutes, budget)? {
                        self.within_minute(minute, midnight, found, budget)?;
                    }
                }
                _ => self.seconds_of(pace, hour, midnight, found, budget)?,
            }
        }
        Ok(())
    }

    /// One period of an HOURLY rule.
    fn within_hour(
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
                set.extend(at(midnight, hour + minute * MINUTE + second));
            }
        }
        pick(&mut set, &self.positions);
        found.extend(set);
        Ok(())
    }

    /// One period of a MINUTELY rule.
    fn within_minute(
        &self,
        minute: i64,
        midnight: NaiveDateTime,
        found: &mut Vec<NaiveDateTime>,
        budget: &mut Budget,
    ) -> Result<(), Excess> {
        let mut set = Vec::with_capacity(self.seconds.len());
        for second in &self.seconds {
            budget.step()?;
            set.extend(at(midnight, minute + second));
        }
        pick(&mut set, &self.positions);
        found.extend(set);
        Ok(())
    }

    /// Does it take place in this minute and second of whichever hour?
    fn asks_for(&self, second: i64) -> bool {
        let minute = second / MINUTE % 60;
        self.minutes.binary_search(&minute).is_ok() && self.seconds.binary_search(&(second % MINUTE)).is_ok()
    }

    /// The periods of a SECONDLY rule in one hour; each is a set of one.
    fn seconds_of(
        &self,
        pace: Pace,
        hour: i64,
        midnight: NaiveDateTime,
        found: &mut Vec<NaiveDateTime>,
        budget: &mut Budget,
    ) -> Result<(), Excess> {
        if !self.positions.is_empty() && !self.positions.iter().any(|position| position.abs() == 1) {
            return Ok(());
        }
        if pace.step >= MINUTE {
            let mut second = pace.next(midnight, hour);
            while second < hour + HOUR {
                budget.step()?;
                found.extend(at(midnight, second).filter(|_| self.asks_for(second)));
                second += pace.step;
            }
            return Ok(());
        }
        for minute in &self.minutes {
            budget.step()?;
            let seconds = pace.starts(midnight, hour + minute * MINUTE, 1, &self.seconds, budget)?;
            found.extend(seconds.into_iter().filter_map(|second| at(midnight, second)));
        }
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

    /// Of sixty minutes or seconds (`unit`) from `from` on, those of the list at which a period begins. Goes from period
    /// to period where these are far apart, from one of the list to the next where they are close.
    fn starts(
        self,
        midnight: NaiveDateTime,
        from: i64,
        unit: i64,
        list: &[i64],
        budget: &mut Budget,
    ) -> Result<Vec<i64>, Excess> {
        let mut starts = Vec::new();
        if 60 * unit / self.step < list.len() as i64 {
            let mut second = self.next(midnight, from);
            while second < from + 60 * unit {
                budget.step()?;
                if list.binary_search(&((second - from) / unit)).is_ok() {
                    starts.push(second);
                }
                second += self.step;
            }
            return Ok(starts);
        }
        for second in list.iter().map(|number| from + number * unit) {
            budget.step()?;
            if self.next(midnight, second) == second {
                starts.push(second);
            }
        }
        Ok(starts)
    }
}

fn pace(rule: &Rule, start: NaiveDateTime) -> Option<Pace> {
    let period = match rule.frequency {
        Frequency::Hourly => HOUR,
        Frequency::Minutely => MINUTE,
        Frequency::Secondly => 1,
        _ => return None,
    };
    Some(Pace { step: rule.interval * period, period, start })
}

fn at(midnight: NaiveDateTime, second: i64) -> Option<NaiveDateTime> {
    let time = NaiveTime::from_num_seconds_from_midnight_opt(u32::try_from(second).ok()?, 0)?;
    Some(midnight.date().and_time(time))
}

/// A leap second (60) is the second before it to clocks that know none.
fn without_leap_seconds(given: &[i64], all: i64) -> Vec<i64> {
    let mut numbers: Vec<_> = given.iter().map(|number| (*number).min(all - 1)).collect();
    numbers.dedup();
    numbers
}

/// Leaves what BYSETPOS (sorted) picks of one period's set; all of it where nothing is said (RFC 5545 §3.3.10).
pub(super) fn pick(set: &mut Vec<NaiveDateTime>, positions: &[i64]) {
    if positions.is_empty() {
        return;
    }
    let length = i64::try_from(set.len()).unwrap_or(i64::MAX);
    let mut position = 0;
    set.retain(|_| {
        position += 1;
        positions.binary_search(&position).is_ok() || positions.binary_search(&(position - length - 1)).is_ok()
    });
}
