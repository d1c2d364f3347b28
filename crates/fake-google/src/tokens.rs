//! Sync tokens and page tokens, and the snapshots that pages are cut from.
//!
//! A sync token is a calendar's version: everything that changed later is the delta. It looks like Google's (a
//! protobuf message in base64: the version twice, a constant, and two numbers), of which the last two hold the
//! calendar and the parameters of the list that yielded it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::clock::Version;

/// FNV-1a, folded to what fits a five byte varint as in real tokens.
pub fn hash(text: &str) -> u64 {
    let full = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (full ^ (full >> 32)) & 0x7fff_ffff
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncToken {
    pub version: Version,
    pub calendar: u64,
    pub params: u64,
}

impl SyncToken {
    pub fn encode(&self) -> String {
        let mut bytes = Vec::new();
        let version = self.version.unsigned_abs();
        for (field, value) in [(1, version), (2, version), (3, 5), (4, self.calendar), (5, self.params)] {
            put_field(&mut bytes, field, value);
        }
        STANDARD.encode(bytes).replace('+', "-").replace('/', "_")
    }

    pub fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok()?;
        let [version, again, constant, calendar, params] = take_fields(&bytes)?;
        let token = Self { version: i64::try_from(version).ok()?, calendar, params };
        (version == again && constant == 5).then_some(token)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageToken {
    pub snapshot: u64,
    /// How many items came before.
    pub offset: usize,
    /// The page's number, the first being 1.
    pub page: u32,
}

impl PageToken {
    pub fn encode(&self) -> String {
        let mut bytes = Vec::new();
        for (field, value) in [(1, self.snapshot), (2, self.offset as u64), (3, u64::from(self.page))] {
            put_field(&mut bytes, field, value);
        }
        URL_SAFE.encode(bytes)
    }

    pub fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok()?;
        let [snapshot, offset, page] = take_fields(&bytes)?;
        Some(Self { snapshot, offset: usize::try_from(offset).ok()?, page: u32::try_from(page).ok()? })
    }
}

fn put_field(bytes: &mut Vec<u8>, number: u8, mut value: u64) {
    bytes.push(number << 3);
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_fields<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let mut rest = bytes.iter();
    let mut values = [0; N];
    for (number, value) in (1_u8..).zip(values.iter_mut()) {
        if *rest.next()? != number << 3 {
            return None;
        }
        for shift in (0..64).step_by(7) {
            let byte = *rest.next()?;
            *value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    rest.next().is_none().then_some(values)
}

/// The result of a list, whole, so that its pages agree with each other.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub calendar: String,
    /// Hash of the query; each page must ask the same.
    pub query: u64,
    pub items: Arc<Vec<Value>>,
    pub sync_token: Option<String>,
}

/// The snapshots that pages may still be asked of. Old ones are dropped; their page tokens are then invalid.
#[derive(Debug)]
pub struct Snapshots {
    kept: BTreeMap<u64, Snapshot>,
    last: u64,
    /// Those whose last page was served, oldest first: kept a while, for a client that lost the answer.
    finished: VecDeque<u64>,
}

impl Default for Snapshots {
    /// Numbered from the present instant, so that page tokens of an earlier run name nothing.
    fn default() -> Self {
        let last = chrono::Utc::now().timestamp_micros().unsigned_abs();
        Self { kept: BTreeMap::new(), last, finished: VecDeque::new() }
    }
}

impl Snapshots {
    const KEEP: usize = 1024;
    const KEEP_FINISHED: usize = 16;

    pub fn keep(&mut self, snapshot: Snapshot) -> u64 {
        self.last += 1;
        self.kept.insert(self.last, snapshot);
        while self.kept.len() > Self::KEEP {
            self.kept.pop_first();
        }
        self.last
    }

    /// The last page went out. Whole calendars in memory add up, so only the newest of these stay.
    pub fn finish(&mut self, id: u64) {
        if self.finished.contains(&id) {
            return;
        }
        self.finished.push_back(id);
        if self.finished.len() > Self::KEEP_FINISHED
            && let Some(oldest) = self.finished.pop_front()
        {
            self.kept.remove(&oldest);
        }
    }

    pub fn forget(&mut self) {
        self.kept.clear();
        self.finished.clear();
    }

    pub fn get(&self, id: u64) -> Option<&Snapshot> {
        self.kept.get(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_were_and_nothing_else_is_taken_for_one() {
        let token = SyncToken { version: 1_742_726_495_252_255, calendar: hash("a"), params: 0 };
        assert_eq!(SyncToken::decode(&token.encode()), Some(token));
        let page = PageToken { snapshot: u64::MAX, offset: 0, page: 7 };
        assert_eq!(PageToken::decode(&page.encode()), Some(page));
        assert_eq!(SyncToken::decode(&page.encode()), None);
        for rubbish in ["", "AAAA", "CP__________________", "%%%", "2025-03-23T10:41:35Z"] {
            assert_eq!(SyncToken::decode(rubbish), None, "{rubbish}");
            assert_eq!(PageToken::decode(rubbish), None, "{rubbish}");
        }
    }
}
