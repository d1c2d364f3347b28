//! Lawful oddities of a list: things Google does now and then, which a client must survive.

use serde::{Deserialize, Serialize};

/// Set for all calendars or for one. All are off by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Quirks {
    /// No page holds more, whatever `maxResults` says: a page "may be less than this value, or none at all".
    pub page_size_cap: Option<usize>,
    /// So many of the next lists begin with an empty page that has a `nextPageToken`.
    pub empty_first_pages: u32,
    /// Every n-th page is empty and has a `nextPageToken`; 2 or more.
    pub empty_every: Option<u32>,
    /// So many of the next last pages come without a `nextSyncToken`.
    pub omit_sync_tokens: u32,
    /// Every item comes twice, first as it was before its last change (if it ever was different).
    pub duplicates: bool,
    /// The list runs backwards: exceptions before their masters, newest first.
    pub reversed: bool,
    /// Tombstones of deleted events carry the whole event, as on the organizer's own calendar.
    pub organizer_tombstones: bool,
    /// Cancelled exceptions come without `recurringEventId` and `originalStartTime`, where their ids tell both.
    pub sparse_tombstones: bool,
    /// With a sync token, parameters other than those of the first list are let through. Google calls that
    /// "undefined behavior"; by default the fake answers 400 so that a test sees it.
    pub tolerate_changed_parameters: bool,
    /// A sync token of another calendar is let through, as if it were this one's. By default the fake answers 400.
    pub tolerate_foreign_tokens: bool,
}
