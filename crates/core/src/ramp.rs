//! How many requests fly at once: few at first, more with each answer.
//!
//! After a start or an outage everything is due at once. Asking with full width would hit a provider that has just come
//! back with all of it; so the width begins small and grows by one with each good answer (it doubles each round trip, as
//! TCP's slow start does, RFC 5681 section 3.1), and falls back once nothing but failures comes.
//!
//! One calendar that fails for ever must not narrow the way of the others, so a single failure does nothing.

/// Where the width begins, and the least it falls to: calendars that hang leave room for others.
const FIRST: usize = 4;
/// So many failures with no good answer between are an outage.
const OUTAGE: usize = 8;

/// The width of the way to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ramp {
    width: usize,
    failures_in_a_row: usize,
}

impl Default for Ramp {
    fn default() -> Self {
        Ramp { width: FIRST, failures_in_a_row: 0 }
    }
}

impl Ramp {
    /// How many requests may fly at once, of at most `most`.
    pub fn width(self, most: usize) -> usize {
        self.width.min(most).max(1)
    }

    /// The provider answered, whatever it said about the calendar. The width grows no further than `most`.
    pub fn answered(&mut self, most: usize) {
        self.failures_in_a_row = 0;
        self.width = (self.width + 1).min(most.max(FIRST));
    }

    /// The provider did not answer, or with a server's trouble.
    pub fn failed(&mut self) {
        self.failures_in_a_row += 1;
        if self.failures_in_a_row >= OUTAGE {
            self.width = FIRST;
        }
    }
}
