//! Why a series cannot be expanded, in words for the operator who will read it in `calsync.status`.

use super::MOST_OCCURRENCES;

/// Why a series cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A line that means nothing to us. Line and column count from 1, the column in characters.
    #[error("recurrence line {line}, column {column}: {why}")]
    Unreadable { line: usize, column: usize, why: String },
    /// A rule that would keep us busy for too long. See [`super::walk`] for the bounds.
    #[error("recurrence line {line}: {excess}")]
    TooMuch { line: usize, excess: Excess },
}

impl Problem {
    /// Where it is and of what kind, without a word of what stands there.
    pub fn without_content(&self) -> String {
        match self {
            Self::Unreadable { line, column, .. } => {
                format!("recurrence line {line}, column {column}: it cannot be read")
            }
            Self::TooMuch { .. } => self.to_string(),
        }
    }
}

/// A list of dates names a zone that nobody knows. The series is expanded all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "recurrence line {line}, column {column}: unknown time zone \"{name}\"{because}; its times are read in the event's zone"
)]
pub struct UnknownListZone {
    pub line: usize,
    pub column: usize,
    pub name: String,
    /// What is wrong with the calendar's own definition of it, in brackets; empty where it has none.
    pub because: String,
}

impl UnknownListZone {
    /// As [`Problem::without_content`].
    pub fn without_content(&self) -> String {
        let Self { line, column, .. } = self;
        format!("recurrence line {line}, column {column}: unknown time zone; its times are read in the event's zone")
    }
}

/// What a rule has too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    #[error("the rule yields more than {MOST_OCCURRENCES} occurrences in thirteen months")]
    Occurrences,
    #[error("the rule needs more steps to expand than are allowed; it recurs too often, or almost never")]
    Steps,
}
