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

/// What a rule has too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    #[error("the rule yields more than {MOST_OCCURRENCES} occurrences in thirteen months")]
    Occurrences,
    #[error("the rule needs more steps to expand than are allowed; it recurs too often, or almost never")]
    Steps,
}
