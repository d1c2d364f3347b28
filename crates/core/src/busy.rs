//! Busy status: does an event block its time, and how?
//!
//! Derived once, when the event is applied (see [`crate::providers::google`]); everything after that only reads it.

use serde::{Deserialize, Serialize};

/// What an event makes of its time. The names are those of the SQL enum `calsync.busy_status`, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusyStatus {
    Free,
    Tentative,
    Busy,
    OutOfOffice,
    WorkingElsewhere,
}

impl BusyStatus {
    pub const ALL: [BusyStatus; 5] =
        [Self::Free, Self::Tentative, Self::Busy, Self::OutOfOffice, Self::WorkingElsewhere];

    /// The label of the SQL enum.
    pub fn label(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Tentative => "tentative",
            Self::Busy => "busy",
            Self::OutOfOffice => "out_of_office",
            Self::WorkingElsewhere => "working_elsewhere",
        }
    }

    /// The status of this SQL label, if it is one.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.label() == label)
    }
}

/// A set of statuses, as the bits that `calsync.busy.statuses` stores: 1 free, 2 tentative, 4 busy, 8 out of office,
/// 16 working elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StatusSet(u8);

impl StatusSet {
    pub const EMPTY: Self = Self(0);
    /// What counts as busy unless the caller says otherwise: tentative, busy, out of office.
    pub const BLOCKING: Self = Self(2 | 4 | 8);

    pub fn bits(self) -> i16 {
        i16::from(self.0)
    }

    /// Unknown bits are dropped.
    pub fn from_bits(bits: i16) -> Self {
        Self((bits & 0b1_1111) as u8)
    }

    #[must_use]
    pub fn with(self, status: BusyStatus) -> Self {
        Self(self.0 | 1 << status as u8)
    }

    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub fn contains(self, status: BusyStatus) -> bool {
        self.meets(Self::EMPTY.with(status))
    }
}

impl FromIterator<BusyStatus> for StatusSet {
    fn from_iter<I: IntoIterator<Item = BusyStatus>>(statuses: I) -> Self {
        statuses.into_iter().fold(Self::EMPTY, Self::with)
    }
}
