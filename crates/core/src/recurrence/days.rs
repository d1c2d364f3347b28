//! On which days does a rule take place? The BY parts that speak of days, with DTSTART's answers to what they leave open
//! (RFC 5545 §3.3.10).
//!
//! One question, asked of one day at a time, so that a walk may begin anywhere.

use chrono::{Datelike, Days, NaiveDate, Weekday};

use super::rule::{ByDay, Frequency, Rule};

/// Which days match. Sets of small numbers are bits; an empty set leaves the matter open.
#[derive(Debug, Clone)]
pub(super) struct DayFilter {
    /// Bit n: month n.
    months: u16,
    /// Bit n: day n of the month.
    month_days: u32,
    /// Bit n: day n from the end of the month.
    month_days_from_end: u32,
    year_days: Vec<i64>,
    weeks: Vec<i64>,
    week_start: Weekday,
    /// Bit n: weekday n from Monday.
    weekdays: u8,
    /// Which of its kind, and the weekday from Monday; sorted.
    nth_weekdays: Vec<(i64, u32)>,
    nth_within: Within,
}

/// What "2MO" counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    Month,
    Year,
}

impl DayFilter {
    pub fn new(rule: &Rule, start: NaiveDate) -> Self {
        let numbered = numbering(rule);
        let (nth, plain): (Vec<&ByDay>, Vec<&ByDay>) =
            rule.days.iter().partition(|day| day.nth.is_some() && numbered.is_some());
        let mut filter = Self {
            months: bits(&rule.months) as u16,
            month_days: bits(&rule.month_days),
            month_days_from_end: bits(&rule.month_days.iter().map(|day| -day).collect::<Vec<_>>()),
            year_days: rule.year_days.clone(),
            weeks: rule.weeks.clone(),
            week_start: rule.week_start,
            weekdays: plain.iter().fold(0, |days, day| days | weekday_bit(day.weekday)),
            nth_weekdays: nth_weekdays(&nth),
            nth_within: numbered.unwrap_or(Within::Month),
        };
        filter.derive_from_start(rule, start);
        filter
    }

    /// "Information, not contained in the rule, necessary to determine the various recurrence instance start time and
    /// dates are derived from the Start Time (DTSTART)" (RFC 5545 §3.3.10): the day, where no part speaks of days.
    ///
    /// A part that does speak of them needs nothing more: the table of §3.3.10 has BYMONTHDAY and BYWEEKNO "Expand" a
    /// YEARLY rule, to that day of every month and to every day of those weeks. libical narrows them down to DTSTART's
    /// month and weekday; python-dateutil, google-rfc-2445 and rrule.js do not, and theirs is the reading that blocks
    /// more: a cache must never say "free" out of ignorance.
    fn derive_from_start(&mut self, rule: &Rule, start: NaiveDate) {
        let parts_that_speak_of_days = [&rule.month_days, &rule.year_days, &rule.weeks];
        if !rule.days.is_empty() || parts_that_speak_of_days.iter().any(|part| !part.is_empty()) {
            return;
        }
        match rule.frequency {
            Frequency::Yearly => {
                self.month_days = 1 << start.day();
                if rule.months.is_empty() {
                    self.months = 1 << start.month();
                }
            }
            Frequency::Monthly => self.month_days = 1 << start.day(),
            Frequency::Weekly => self.weekdays = weekday_bit(start.weekday()),
            _ => {}
        }
    }

    /// Can a day of this month match at all? Lets a walk pass over the other months at once.
    pub fn admits_month(&self, month: u32) -> bool {
        self.months == 0 || self.months & 1 << month != 0
    }

    /// The weekdays it asks for, where it asks for nothing else of a day: then every week holds equally many.
    pub fn only_weekdays(&self) -> Option<u32> {
        let others = self.months != 0
            || self.asks_for_month_days()
            || !self.year_days.is_empty()
            || !self.weeks.is_empty()
            || !self.nth_weekdays.is_empty();
        (!others).then_some(self.weekdays.count_ones())
    }

    pub fn matches(&self, day: NaiveDate) -> bool {
        self.admits_month(day.month())
            && self.admits_month_day(day)
            && self.admits_weekday(day)
            && self.admits_year_day(day)
            && self.admits_week(day)
    }

    fn asks_for_month_days(&self) -> bool {
        self.month_days | self.month_days_from_end != 0
    }

    fn admits_month_day(&self, day: NaiveDate) -> bool {
        !self.asks_for_month_days()
            || self.month_days & 1 << day.day() != 0
            || self.month_days_from_end & 1 << (days_in_month(day) - day.day() + 1) != 0
    }

    fn admits_weekday(&self, day: NaiveDate) -> bool {
        (self.weekdays == 0 && self.nth_weekdays.is_empty())
            || self.weekdays & weekday_bit(day.weekday()) != 0
            || (!self.nth_weekdays.is_empty() && self.admits_nth_weekday(day))
    }

    fn admits_nth_weekday(&self, day: NaiveDate) -> bool {
        let asked = |nth: u32, sign: i64| (sign * i64::from(nth), day.weekday().num_days_from_monday());
        let (ordinal, length) = match self.nth_within {
            Within::Month => (day.day(), days_in_month(day)),
            Within::Year => (day.ordinal(), days_in_year(day.year())),
        };
        self.nth_weekdays.binary_search(&asked((ordinal - 1) / 7 + 1, 1)).is_ok()
            || self.nth_weekdays.binary_search(&asked((length - ordinal) / 7 + 1, -1)).is_ok()
    }

    fn admits_year_day(&self, day: NaiveDate) -> bool {
        if self.year_days.is_empty() {
            return true;
        }
        let (ordinal, length) = (i64::from(day.ordinal()), i64::from(days_in_year(day.year())));
        is_among(&self.year_days, ordinal, length)
    }

    fn admits_week(&self, day: NaiveDate) -> bool {
        if self.weeks.is_empty() {
            return true;
        }
        let Some(year) = WeekYear::of(day, self.week_start) else { return false };
        let week = (day - year.first).num_days() / 7 + 1;
        is_among(&self.weeks, week, year.weeks())
    }
}

/// Does the sorted list hold this ordinal, counted from the start or from the end?
fn is_among(list: &[i64], ordinal: i64, length: i64) -> bool {
    list.binary_search(&ordinal).is_ok() || list.binary_search(&(ordinal - length - 1)).is_ok()
}

fn nth_weekdays(days: &[&ByDay]) -> Vec<(i64, u32)> {
    let numbered = days.iter().filter_map(|day| Some((day.nth?, day.weekday.num_days_from_monday())));
    let mut numbered: Vec<_> = numbered.collect();
    numbered.sort_unstable();
    numbered.dedup();
    numbered
}

/// What the numbers in BYDAY count in. They mean something with MONTHLY and YEARLY only, and not together with
/// BYWEEKNO (RFC 5545 §3.3.10: "MUST NOT be specified with a numeric value" otherwise); elsewhere they are passed over,
/// because that blocks rather more than less.
fn numbering(rule: &Rule) -> Option<Within> {
    match rule.frequency {
        Frequency::Monthly => Some(Within::Month),
        Frequency::Yearly if !rule.weeks.is_empty() => None,
        Frequency::Yearly if rule.months.is_empty() => Some(Within::Year),
        Frequency::Yearly => Some(Within::Month),
        _ => None,
    }
}

/// The year that weeks are counted in: it begins with the first week of which at least four days lie in the calendar
/// year (RFC 5545 §3.3.10, BYWEEKNO; ISO 8601 where weeks begin on Monday).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WeekYear {
    pub year: i32,
    pub first: NaiveDate,
    /// The first day of the next one.
    pub end: NaiveDate,
}

impl WeekYear {
    pub fn new(year: i32, week_start: Weekday) -> Option<Self> {
        Some(Self { year, first: first_week(year, week_start)?, end: first_week(year + 1, week_start)? })
    }

    /// The one that this day lies in: its calendar year's, or a neighbour's.
    pub fn of(day: NaiveDate, week_start: Weekday) -> Option<Self> {
        let year = day.year();
        [year, year - 1, year + 1]
            .into_iter()
            .filter_map(|year| Self::new(year, week_start))
            .find(|weeks| weeks.first <= day && day < weeks.end)
    }

    fn weeks(self) -> i64 {
        (self.end - self.first).num_days() / 7
    }
}

fn first_week(year: i32, week_start: Weekday) -> Option<NaiveDate> {
    let january = NaiveDate::from_yo_opt(year, 1)?;
    let week = start_of_week(january, week_start)?;
    if (january - week).num_days() <= 3 { Some(week) } else { week.checked_add_days(Days::new(7)) }
}

/// The day on which this day's week began.
pub(super) fn start_of_week(day: NaiveDate, week_start: Weekday) -> Option<NaiveDate> {
    day.checked_sub_days(Days::new(u64::from(day.weekday().days_since(week_start))))
}

fn bits(numbers: &[i64]) -> u32 {
    numbers.iter().filter(|number| (0..32).contains(*number)).fold(0, |set, number| set | 1 << number)
}

fn weekday_bit(weekday: Weekday) -> u8 {
    1 << weekday.num_days_from_monday()
}

fn days_in_month(day: NaiveDate) -> u32 {
    u32::from(day.num_days_in_month())
}

fn days_in_year(year: i32) -> u32 {
    if NaiveDate::from_yo_opt(year, 366).is_some() { 366 } else { 365 }
}
