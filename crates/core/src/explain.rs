//! Why does an event block its time, or not? In words that a support person can paste.

use chrono::{DateTime, TimeDelta, Utc};

use crate::busy::{BusyStatus, StatusSet};
use crate::event::OriginalStart;
use crate::interval::Interval;
use crate::options::{BusyFacts, BusyRules, KNOWN_BUSY};

/// How far from the window an event may lie and still be told of.
pub const NEAR: TimeDelta = TimeDelta::hours(1);

/// What is known of an event near the window.
#[derive(Debug, Clone, PartialEq)]
pub enum Sight {
    /// It takes place then.
    Occurrence { during: Interval, status: BusyStatus },
    /// The occurrence that would have been in the window was deleted.
    Deleted { original: OriginalStart },
    /// The occurrence that would have been in the window was moved out of it.
    Moved { original: OriginalStart, to: Option<Interval> },
    /// It begins and ends at the same moment.
    NoLength { at: DateTime<Utc> },
    /// Its times could not be read.
    TimesUnknown,
}

/// Whether it blocks (a part of) the window, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub blocks: bool,
    pub reason: String,
}

/// The verdict on what is seen near `window`. `problem`: what was wrong when the event was read.
pub fn verdict(
    sight: &Sight,
    facts: &BusyFacts<'_>,
    rules: &BusyRules,
    problem: Option<&str>,
    window: Interval,
) -> Verdict {
    let free = |reason: String| Verdict { blocks: false, reason };
    let mut verdict = match sight {
        Sight::Occurrence { during, .. } if !during.overlaps(window) => free(beside(*during, window)),
        Sight::Occurrence { status, .. } => {
            Verdict { blocks: StatusSet::BLOCKING.contains(*status), reason: why(*status, facts, rules, problem) }
        }
        Sight::Deleted { original } => {
            free(format!("does not block: the occurrence of {} was deleted", shown(original)))
        }
        Sight::Moved { original, to } => free(match to {
            Some(to) => {
                format!("does not block: the occurrence of {} was moved to {}", shown(original), instant(to.start()))
            }
            None => format!("does not block: the occurrence of {} was moved away", shown(original)),
        }),
        Sight::NoLength { at } => free(format!("does not block: it has no length, at {}", instant(*at))),
        Sight::TimesUnknown => free("does not block: when it takes place could not be read".to_owned()),
    };
    if let Some(problem) = problem {
        verdict.reason.push_str(&format!("; the event could not be understood: {problem}"));
    }
    verdict
}

fn why(status: BusyStatus, facts: &BusyFacts<'_>, rules: &BusyRules, problem: Option<&str>) -> String {
    let verb = if StatusSet::BLOCKING.contains(status) { "blocks" } else { "does not block" };
    if problem.is_some() {
        return format!("{verb}, to be safe");
    }
    let Some(step) = facts.step() else { return format!("{verb}: an ordinary event") };
    let (description, default) = KNOWN_BUSY
        .iter()
        .find(|(key, ..)| *key == step)
        .map_or(("", BusyStatus::Busy), |(_, default, description)| (*description, *default));
    if rules.of(step) == default {
        format!("{verb}: {description}")
    } else {
        format!("{verb}: {description}, which options.busy.{step} makes {}", status.label())
    }
}

fn beside(during: Interval, window: Interval) -> String {
    if during.end() <= window.start() {
        let gap = window.start() - during.end();
        return if gap.is_zero() {
            "does not block: it ends as the window begins".to_owned()
        } else {
            format!("does not block: it ends {} min before the window", minutes(gap))
        };
    }
    let gap = during.start() - window.end();
    if gap.is_zero() {
        "does not block: it begins as the window ends".to_owned()
    } else {
        format!("does not block: it begins {} min after the window", minutes(gap))
    }
}

/// Rounded up, so that a gap is never told as none.
fn minutes(gap: TimeDelta) -> i64 {
    (gap.num_seconds() + 59) / 60
}

fn shown(original: &OriginalStart) -> String {
    match original {
        OriginalStart::At(at) => instant(*at),
        OriginalStart::On(date) => date.to_string(),
    }
}

fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: u32, minute: u32) -> DateTime<Utc> {
        DateTime::from_timestamp(i64::from(hour) * 3600 + i64::from(minute) * 60, 0).unwrap_or_default()
    }

    fn between(from: (u32, u32), to: (u32, u32)) -> Interval {
        Interval::new(at(from.0, from.1), at(to.0, to.1)).expect("a window")
    }

    fn told(sight: Sight, facts: BusyFacts<'_>, rules: BusyRules) -> (bool, String) {
        let verdict = verdict(&sight, &facts, &rules, None, between((9, 0), (10, 0)));
        (verdict.blocks, verdict.reason)
    }

    #[test]
    fn a_declined_invitation_says_so() {
        let during = between((9, 0), (9, 30));
        let facts = BusyFacts { status: "confirmed", self_response: Some("declined"), ..BusyFacts::default() };
        let (blocks, reason) =
            told(Sight::Occurrence { during, status: BusyStatus::Free }, facts, BusyRules::default());
        assert!(!blocks);
        assert_eq!(reason, "does not block: the calendar's owner has declined");
    }

    #[test]
    fn a_step_that_the_options_changed_says_which_option() {
        let during = between((9, 0), (9, 30));
        let facts = BusyFacts { status: "tentative", ..BusyFacts::default() };
        let rules = BusyRules { tentative: BusyStatus::Free, ..BusyRules::default() };
        let (blocks, reason) = told(Sight::Occurrence { during, status: BusyStatus::Free }, facts, rules);
        assert!(!blocks);
        assert!(reason.ends_with("which options.busy.tentative makes free"), "{reason}");
    }

    #[test]
    fn neighbours_of_the_window_do_not_block_it() {
        let busy = |during| Sight::Occurrence { during, status: BusyStatus::Busy };
        let reason = |during| told(busy(during), BusyFacts::default(), BusyRules::default());
        assert_eq!(reason(between((8, 0), (9, 0))), (false, "does not block: it ends as the window begins".to_owned()));
        assert_eq!(
            reason(between((10, 10), (11, 0))),
            (false, "does not block: it begins 10 min after the window".to_owned())
        );
        assert_eq!(reason(between((8, 0), (9, 1))), (true, "blocks: an ordinary event".to_owned()));
    }
}
