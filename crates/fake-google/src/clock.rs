//! The fake's own time: the wall clock plus an offset, and a version for every change.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};

/// The instant of a change in microseconds; what etags, `updated` and sync tokens are made of.
pub type Version = i64;

#[derive(Debug, Default)]
pub struct Clock {
    offset: i64,
    last: Version,
}

impl Clock {
    fn micros(&self) -> i64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
        i64::try_from(wall).unwrap_or(i64::MAX).saturating_add(self.offset)
    }

    /// Never before the last change.
    pub fn now(&self) -> DateTime<Utc> {
        instant(self.micros().max(self.last))
    }

    /// A version later than every one before by at least a millisecond, since `updated` shows no more than that.
    pub fn tick(&mut self) -> Version {
        let next_milli = (self.last / 1000 + 1) * 1000;
        self.last = self.micros().max(next_milli);
        self.last
    }

    pub fn advance(&mut self, micros: i64) {
        self.offset = self.offset.saturating_add(micros);
    }

    pub fn set(&mut self, now: DateTime<Utc>) {
        self.offset = self.offset.saturating_add(now.timestamp_micros().saturating_sub(self.micros()));
    }
}

pub fn instant(version: Version) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(version).unwrap_or(DateTime::UNIX_EPOCH)
}

/// Small pseudo-random numbers for ids (splitmix64). Not secret, only distinct, also between two runs.
#[derive(Debug)]
pub struct Dice(u64);

impl Default for Dice {
    fn default() -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos());
        Self(u64::try_from(nanos & u128::from(u64::MAX)).unwrap_or(1))
    }
}

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// `length` characters out of `alphabet`.
    pub fn word(&mut self, alphabet: &[u8], length: usize) -> String {
        let size = alphabet.len().max(1) as u64;
        (0..length).map(|_| char::from(alphabet[(self.roll() % size) as usize])).collect()
    }

    /// 26 characters of base32hex (RFC 4648, 7), as Google makes event ids.
    pub fn event_id(&mut self) -> String {
        self.word(b"0123456789abcdefghijklmnopqrstuv", 26)
    }
}
