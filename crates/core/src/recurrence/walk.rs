//! Walks a rule's periods (years, months, weeks or days) in floating local time, from just before the window to its end.
//!
//! Seeking: period k begins k intervals after the one that holds DTSTART, so the walk may begin at any k. Only COUNT
//! needs the occurrences before the window, and where every period holds equally many, COUNT too is arithmetic: it
//! becomes the time of the last occurrence. Otherwise the walk counts from DTSTART.
//!
//! Bounds: every day and every time looked at is a step; a series may take [`MOST_STEPS`] and yield
//! [`MOST_OCCURRENCES`]. What needs more is refused with a reason, in about the time of the steps.

use chrono::{Datelike, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};

use super::MOST_OCCURRENCES;
use super::days::{DayFilter, WeekYear, start_of_week};
use super::problem::Excess;
use super::rule::{Frequency, Rule};
use super::times::{Times, pick};
use crate::interval::Interval;

/// Two to four milliseconds of work. A daily rule that must be counted since 1900 takes 46,000 steps, a leap day counted
/// since 1600 takes 12,000; an HOURLY rule takes 18,000 for a year.
const MOST_STEPS: u32 = 200_000;

/// What the bounds are for: a year ahead, a month back, and some room.
const SPAN_DAYS: i64 = 410;
/// A window of more than forty years gets no more.
const MOST_SPANS: u32 = 40;

/// Recurrence ends with the last year that RFC 5545 can write.
const LAST_YEAR: i32 = 9999;

/// How often the bounds hold in a window.
pub(super) fn spans(window: Interval) -> u32 {
    let spans = (window.end() - window.start()).num_days() / SPAN_DAYS + 1;
    u32::try_from(spans).unwrap_or(u32::MAX).min(MOST_SPANS)
}

/// What expanding a series may still cost.
#[derive(Debug)]
pub(super) struct Budget {
    steps: u32,
    occurrences: usize,
}

impl Budget {
    pub fn full() -> Self {
        Self { steps: MOST_STEPS, occurrences: MOST_OCCURRENCES }
    }

    /// In proportion to the window, so that a longer one refuses no rule that a year's would take.
    pub fn for_window(window: Interval) -> Self {
        let spans = spans(window);
        Self { steps: MOST_STEPS * spans, occurrences: MOST_OCCURRENCES * spans as usize }
    }

    pub fn step(&mut self) -> Result<(), Excess> {
        self.steps = self.steps.checked_sub(1).ok_or(Excess::Steps)?;
        Ok(())
    }

    fn occurrence(&mut self) -> Result<(), Excess> {
        self.occurrences = self.occurrences.checked_sub(1).ok_or(Excess::Occurrences)?;
        Ok(())
    }
}

/// A rule bound to its DTSTART.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    rule: &'a Rule,
    start: NaiveDateTime,
    /// The year of period 0, where periods are years.
    year: i32,
    days: DayFilter,
    times: Times,
}

/// Days from `first` up to but not including `end`.
struct Period {
    first: NaiveDate,
    end: NaiveDate,
}

/// What COUNT means for a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    None,
    /// The last occurrence, known without a walk.
    Last(NaiveDateTime),
    /// So many, to be counted from DTSTART.
    Count(u64),
}

impl<'a> Walk<'a> {
    pub fn new(rule: &'a Rule, start: NaiveDateTime, all_day: bool) -> Self {
        let days = DayFilter::new(rule, start.date());
        let year = first_year(rule, &days, start.date());
        Self { rule, start, year, days, times: Times::new(rule, start, all_day) }
    }

    /// The rule's occurrences from `from` to `to`, both included, in order; none before DTSTART.
    ///
    /// DTSTART itself is among them only where it matches the rule, and COUNT counts matches only.
    pub fn between(
        &self,
        from: NaiveDateTime,
        to: NaiveDateTime,
        budget: &mut Budget,
    ) -> Result<Vec<NaiveDateTime>, Excess> {
        let (mut index, mut left, to) = match self.limit(budget)? {
            Limit::None => (self.index_at(from.date()), u64::MAX, to),
            Limit::Last(last) => (self.index_at(from.date()), u64::MAX, to.min(last)),
            Limit::Count(count) => (0, count, to),
        };
        let mut found = Vec::new();
        let mut set = Vec::new();
        while let Some(period) = self.period(index).filter(|period| period.first <= to.date()) {
            budget.step()?;
            self.within(&period, &mut set, budget)?;
            for local in set.iter().copied() {
                if local > to {
                    return Ok(found);
                }
                if local >= from {
                    budget.occurrence()?;
                    found.push(local);
                }
                left -= 1;
                if left == 0 {
                    return Ok(found);
                }
            }
            index += 1;
        }
        Ok(found)
    }

    /// Sets `set` to what the rule yields in one period, in order, from DTSTART on. BYSETPOS picks from the whole
    /// period's set, even where the period began before DTSTART: it "operates on a set of recurrence instances in one
    /// interval of the recurrence rule" (RFC 5545 §3.3.10).
    fn within(&self, period: &Period, set: &mut Vec<NaiveDateTime>, budget: &mut Budget) -> Result<(), Excess> {
        set.clear();
        let mut day = Some(period.first);
        while let Some(today) = day.filter(|day| *day < period.end) {
            if !self.days.admits_month(today.month()) {
                day = next_month(today);
                continue;
            }
            budget.step()?;
            if self.days.matches(today) {
                self.times.on(today.and_time(NaiveTime::MIN), set, budget)?;
            }
            day = today.succ_opt();
        }
        if !self.runs_through_the_day() {
            pick(set, &self.rule.positions);
        }
        if period.first <= self.start.date() {
            set.retain(|local| *local >= self.start);
        }
        Ok(())
    }

    fn runs_through_the_day(&self) -> bool {
        self.rule.frequency > Frequency::Daily
    }

    /// The period so many intervals after DTSTART's; None past the last year. Rules within the day have days as periods.
    fn period(&self, index: i64) -> Option<Period> {
        let start = self.start.date();
        let passed = index.checked_mul(self.rule.interval)?;
        let period = match self.rule.frequency {
            Frequency::Yearly if counts_week_years(self.rule) => {
                let weeks = WeekYear::new(later_year(self.year, passed)?, self.rule.week_start)?;
                Period { first: weeks.first, end: weeks.end }
            }
            Frequency::Yearly => {
                let year = later_year(self.year, passed)?;
                Period { first: NaiveDate::from_yo_opt(year, 1)?, end: NaiveDate::from_yo_opt(year + 1, 1)? }
            }
            Frequency::Monthly => {
                let first = start.with_day(1)?.checked_add_months(Months::new(u32::try_from(passed).ok()?))?;
                Period { first, end: next_month(first)? }
            }
            Frequency::Weekly => {
                let first = later_day(start_of_week(start, self.rule.week_start)?, passed.checked_mul(7)?)?;
                Period { first, end: later_day(first, 7)? }
            }
            Frequency::Daily => one_day(later_day(start, passed)?)?,
            _ => one_day(later_day(start, index)?)?,
        };
        (period.first.year() <= LAST_YEAR).then_some(period)
    }

    /// The last period that begins on this day or before; the first one, where the day lies before DTSTART.
    fn index_at(&self, day: NaiveDate) -> i64 {
        let start = self.start.date();
        let days = (day - start).num_days();
        let units = match self.rule.frequency {
            // One early, because a year of weeks may reach into the calendar year before.
            Frequency::Yearly => i64::from(day.year()) - i64::from(self.year) - 1,
            Frequency::Monthly => months(day) - months(start),
            Frequency::Weekly => (days + i64::from(start.weekday().days_since(self.rule.week_start))).div_euclid(7),
            Frequency::Daily => days,
            _ => return days.max(0),
        };
        units.div_euclid(self.rule.interval).max(0)
    }

    fn limit(&self, budget: &mut Budget) -> Result<Limit, Excess> {
        let Some(count) = self.rule.count else { return Ok(Limit::None) };
        if let Some(step) = self.times.even_step().filter(|_| self.days.only_weekdays() == Some(0)) {
            return Ok(self.nth_step(count - 1, step).map_or(Limit::None, Limit::Last));
        }
        match self.each_period() {
            Some(each) => self.last_of_even_periods(count, each, budget),
            None => Ok(Limit::Count(count)),
        }
    }

    /// The last of `count` occurrences, where every period but the first, which DTSTART cuts, holds `each`.
    fn last_of_even_periods(&self, count: u64, each: u64, budget: &mut Budget) -> Result<Limit, Excess> {
        let Some(first) = self.period(0) else { return Ok(Limit::None) };
        let mut set = Vec::new();
        self.within(&first, &mut set, budget)?;
        let Some(rest) = count.checked_sub(set.len() as u64 + 1) else { return Ok(Limit::Count(count)) };
        let Some(period) = i64::try_from(rest / each + 1).ok().and_then(|index| self.period(index)) else {
            // The last one lies beyond the last year.
            return Ok(Limit::None);
        };
        self.within(&period, &mut set, budget)?;
        Ok(set.get((rest % each) as usize).map_or(Limit::Count(count), |last| Limit::Last(*last)))
    }

    fn nth_step(&self, nth: u64, step: TimeDelta) -> Option<NaiveDateTime> {
        let seconds = i64::try_from(nth).ok()?.checked_mul(step.num_seconds())?;
        self.start.checked_add_signed(TimeDelta::try_seconds(seconds)?)
    }

    /// How many occurrences every period but the first holds, where that is always the same.
    fn each_period(&self) -> Option<u64> {
        if !self.rule.positions.is_empty() {
            return None;
        }
        let days = match (self.rule.frequency, self.days.only_weekdays()?) {
            (Frequency::Daily, 0) => 1,
            (Frequency::Weekly, days) => u64::from(days),
            _ => return None,
        };
        Some(days * self.times.each_day()? as u64).filter(|each| *each > 0)
    }
}

/// The years of a rule with BYWEEKNO are years of weeks.
fn counts_week_years(rule: &Rule) -> bool {
    rule.frequency == Frequency::Yearly && !rule.weeks.is_empty()
}

/// The year from which INTERVAL counts. A year of weeks is the first where the rule takes place in what DTSTART leaves of
/// it; else the calendar year is, by which libical and dateutil count a DTSTART that is no occurrence.
fn first_year(rule: &Rule, days: &DayFilter, start: NaiveDate) -> i32 {
    WeekYear::of(start, rule.week_start)
        .filter(|_| counts_week_years(rule))
        .filter(|weeks| start.iter_days().take_while(|day| *day < weeks.end).any(|day| days.matches(day)))
        .map_or(start.year(), |weeks| weeks.year)
}

fn one_day(day: NaiveDate) -> Option<Period> {
    Some(Period { first: day, end: day.succ_opt()? })
}

fn later_year(year: i32, passed: i64) -> Option<i32> {
    i32::try_from(i64::from(year).checked_add(passed)?).ok().filter(|year| *year <= LAST_YEAR)
}

fn later_day(day: NaiveDate, passed: i64) -> Option<NaiveDate> {
    day.checked_add_signed(TimeDelta::try_days(passed)?)
}

fn next_month(day: NaiveDate) -> Option<NaiveDate> {
    day.with_day(1)?.checked_add_months(Months::new(1))
}

fn months(day: NaiveDate) -> i64 {
    i64::from(day.year()) * 12 + i64::from(day.month0())
}
