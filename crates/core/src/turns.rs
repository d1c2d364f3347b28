//! Whose turn is it? Places for rounds are given out so that nobody keeps the others waiting.
//!
//! Two rules, of which each gives a bound:
//! - a place that comes free goes to the owner with the fewest rounds under way, and among equals to the one who was
//!   served longest ago. So an owner who has none under way waits for one calendar of each other owner at most, however
//!   many they have.
//! - of calendars that somebody waits for, no more than half of all places are begun before those that are merely due;
//!   where there is but one place, they take turns.

use std::collections::HashMap;

/// Who was served when.
#[derive(Debug, Default)]
pub struct Turns {
    served: HashMap<String, u64>,
    last: u64,
    /// The last owner that was looked at, where there were more than are looked at together.
    pub looked_at: Option<String>,
}

impl Turns {
    /// How many of `places` each owner gets, given how many each has under way. In the order of `owners`.
    pub fn allot(&self, places: usize, owners: &[(&str, usize)]) -> Vec<usize> {
        let mut given = vec![0; owners.len()];
        for _ in 0..places {
            let next = (0..owners.len()).min_by_key(|&number| {
                let (owner, under_way) = owners[number];
                (under_way + given[number], self.served_at(owner))
            });
            let Some(next) = next else { break };
            given[next] += 1;
        }
        given
    }

    /// 0: not since somebody had to wait.
    pub fn served_at(&self, owner: &str) -> u64 {
        self.served.get(owner).copied().unwrap_or_default()
    }

    /// This owner got a place.
    pub fn serve(&mut self, owner: &str) {
        self.last += 1;
        match self.served.get_mut(owner) {
            Some(at) => *at = self.last,
            None => drop(self.served.insert(owner.to_owned(), self.last)),
        }
    }

    /// Nobody waits any more: all are equal again.
    pub fn forget(&mut self) {
        self.served.clear();
    }
}

/// Places for rounds: how many there are, and who has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// All that there ever are.
    pub most: usize,
    /// How many of them may be used just now ([`crate::ramp`]).
    pub width: usize,
    /// Used by rounds of calendars that somebody waits for.
    pub awaited: usize,
    /// Used by other rounds.
    pub due: usize,
    /// Used by what such rounds wait for.
    pub other: usize,
    /// Used beside them, of `most` alone.
    pub beside: usize,
    /// The last calendar that was begun was one that somebody waits for.
    pub last_was_awaited: bool,
}

impl Places {
    fn used(&self) -> usize {
        self.awaited + self.due + self.other
    }

    fn free(&self) -> usize {
        self.most.saturating_sub(self.used() + self.beside)
    }

    /// Of the width.
    fn room(&self) -> usize {
        self.width.saturating_sub(self.used()).min(self.free())
    }

    /// For calendars that somebody waits for, before those that are merely due; also while the way is narrow, as it is
    /// at first and in an outage.
    pub fn for_awaited(&self) -> usize {
        match self.most / 2 {
            0 if self.last_was_awaited => 0,
            0 => self.room(),
            share => share.saturating_sub(self.awaited).min(self.free()),
        }
    }

    /// For those that are merely due: what is left of the width, and half of it whatever others have taken.
    pub fn for_due(&self) -> usize {
        let own = self.width.div_ceil(2).saturating_sub(self.due);
        let own = if self.most < 2 { 0 } else { own.min(self.free()) };
        self.room().max(own)
    }

    /// For calendars that somebody waits for, where nothing else is due.
    pub fn left_over(&self) -> usize {
        self.room()
    }

    /// So many are begun.
    pub fn take(&mut self, awaited: bool, count: usize) {
        if count > 0 {
            self.last_was_awaited = awaited;
        }
        *(if awaited { &mut self.awaited } else { &mut self.due }) += count;
    }
}
