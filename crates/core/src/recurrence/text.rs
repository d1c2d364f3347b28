//! A piece of a recurrence line that knows where in the line it stands, so that every complaint can name the column.

use super::problem::Problem;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub text: &'a str,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl<'a> Piece<'a> {
    /// A whole line, without the blanks and line ends around it.
    pub fn line(text: &'a str, line: usize) -> Self {
        Self { text, line, column: 1 }.trimmed()
    }

    /// The piece from byte `from` to byte `to` of this one, which must be character boundaries.
    fn part(self, from: usize, to: usize) -> Self {
        let column = self.column + self.text[..from].chars().count();
        Self { text: &self.text[from..to], line: self.line, column }.trimmed()
    }

    fn trimmed(self) -> Self {
        let start = self.text.trim_start();
        let skipped = self.text[..self.text.len() - start.len()].chars().count();
        Self { text: start.trim_end(), column: self.column + skipped, ..self }
    }

    /// What stands before and after the first `separator` outside quotes (RFC 5545 §3.1: a parameter's value may be
    /// quoted, and then holds separators).
    pub fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let at = self.find_unquoted(separator)?;
        Some((self.part(0, at), self.part(at + separator.len_utf8(), self.text.len())))
    }

    /// The parts between `separator`s outside quotes, empty ones too.
    pub fn split(self, separator: char) -> impl Iterator<Item = Self> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let piece = rest?;
            match piece.split_once(separator) {
                Some((first, others)) => {
                    rest = Some(others);
                    Some(first)
                }
                None => rest.take(),
            }
        })
    }

    fn find_unquoted(self, separator: char) -> Option<usize> {
        let mut quoted = false;
        self.text.char_indices().find_map(|(at, char)| {
            quoted ^= char == '"';
            (char == separator && !quoted).then_some(at)
        })
    }

    pub fn is(self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }

    /// The complaint that this piece is not what it should be.
    pub fn is_not(self, expected: &str) -> Problem {
        self.problem(format!("expected {expected}, found \"{}\"", shortened(self.text)))
    }

    pub fn problem(self, why: impl Into<String>) -> Problem {
        Problem::Unreadable { line: self.line, column: self.column, why: why.into() }
    }

    /// A whole number from `low` to `high`, with or without a sign.
    pub fn number(self, low: i64, high: i64) -> Result<i64, Problem> {
        match self.text.parse() {
            Ok(number) if (low..=high).contains(&number) => Ok(number),
            _ => Err(self.is_not(&format!("a whole number from {low} to {high}"))),
        }
    }
}

/// An operator needs to recognise the text, not to read all of it.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
