//! Index scans of the read path: the rows of `calsync.subscription` by name, what of `calsync.share` was accepted, by
//! subscription, the pieces of `calsync.busy` in a window.
//!
//! A question touches a few dozen index entries. Through SPI, starting and ending an executor for them cost more than
//! reading them (docs/performance.md), so this module asks the indexes as the executor's own scan nodes do:
//! `nodeIndexscan.c` for subscriptions, `nodeIndexonlyscan.c` for pieces. It is the only place that does.
//!
//! Why this is right:
//! - *What is seen* is what the caller's statement sees: its active snapshot is handed to the index scan, and each
//!   entry counts only if its heap page is all-visible or the heap has a version that the snapshot sees. That holds under
//!   any isolation level, on a standby and in a parallel worker. Predicate locks for SERIALIZABLE are taken by the B-tree
//!   and the heap, and for entries whose heap page is not visited here, as in `nodeIndexonlyscan.c`.
//! - *Who may see it*: the tables are closed, and read on behalf of their owner (src/store/owner.rs). A scan at this level
//!   checks no permissions and so needs no switch of user; whose calendar is meant, the functions check themselves.
//! - *No foreign code runs*: nothing is parsed, so no `search_path` counts; comparisons are those of the indexes' operator
//!   classes, which `layout` compares with what the extension created.
//! - *Locks and pins*: tables and indexes are locked as by a SELECT. Buffer pins, relation references and slots belong to
//!   the current resource owner; where a scan ends in an ERROR, the abort of the (sub)transaction releases them.
//! - *Unguarded calls*: pgrx sets a jump target around each call into Postgres. For a few calls an index entry that costs
//!   as much as the reading, so one target surrounds the loop over a calendar. Between it and the calls inside there is
//!   nothing with a destructor and nothing that panics; what is found goes into a vector that lives outside.
//!
//! What differs from one major version of Postgres to another is in `pieces::raw` and in [`Scan::begin`].

mod pieces;
mod shares;
mod subscriptions;

use std::ffi::c_int;
use std::ops::ControlFlow;

use pgrx::FromDatum;
use pgrx::pg_sys;

use super::layout::{Open, Source};
use crate::error::Error;

pub use pieces::Pieces;
pub use shares::Shares;
pub use subscriptions::{Column, Row, Subscriptions};

/// Whatever is kept of the tables' layout, if it concerns this relation.
pub fn forget(relation: pg_sys::Oid) {
    subscriptions::SUBSCRIPTION.with(|source| source.forget(relation));
    pieces::BUSY.with(|source| source.forget(relation));
    shares::SHARE.with(|source| source.forget(relation));
    shares::SHARE_ANSWER.with(|source| source.forget(relation));
}

/// A scan of an index under the active snapshot, and a slot for what comes from the heap.
struct Scan<const COLUMNS: usize> {
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
    /// How many columns must be deformed before those that are read can be.
    last: c_int,
    /// Dropped last: the scan refers to the relations.
    open: Open<COLUMNS>,
}

impl<const COLUMNS: usize> Scan<COLUMNS> {
    fn begin(source: &Source<COLUMNS>, keys: c_int, index_only: bool) -> Result<Self, Error> {
        let open = source.open()?;
        // SAFETY: the relations are open, and an API function is called by a statement, which has a snapshot.
        unsafe {
            let scan = pg_sys::index_beginscan(open.table, open.index, pg_sys::GetActiveSnapshot(), keys, 0);
            // Before the first rescan, where the B-tree allocates room for the tuples.
            (*scan).xs_want_itup = index_only;
            let slot = pg_sys::table_slot_create(open.table, std::ptr::null_mut());
            let last = open.layout.numbers.iter().copied().max().unwrap_or(0).into();
            Ok(Scan { scan, slot, last, open })
        }
    }

    /// Hands each row that meets the keys, as many as the scan was begun with, to `read`, until that has seen enough.
    fn each(
        &mut self,
        keys: &mut [pg_sys::ScanKeyData],
        mut read: impl FnMut(&Fields<COLUMNS>) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let (scan, slot) = (self.scan, self.slot);
        let count = c_int::try_from(keys.len()).unwrap_or_default();
        let keys = if count == 0 { std::ptr::null_mut() } else { keys.as_mut_ptr() };
        // SAFETY: as many keys as the scan was begun with; the slot is one of this table, and a row in it stays where it
        // is until the next is fetched, after `read` has seen it.
        unsafe {
            pg_sys::index_rescan(scan, keys, count, std::ptr::null_mut(), 0);
            while pg_sys::index_getnext_slot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) {
                pgrx::check_for_interrupts!();
                if c_int::from((*slot).tts_nvalid) < self.last {
                    pg_sys::slot_getsomeattrs_int(slot, self.last);
                }
                if read(&Fields { slot, numbers: &self.open.layout.numbers })?.is_break() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// A row, while `read` looks at it.
struct Fields<'a, const COLUMNS: usize> {
    slot: *mut pg_sys::TupleTableSlot,
    numbers: &'a [i16; COLUMNS],
}

impl<const COLUMNS: usize> Fields<'_, COLUMNS> {
    /// The column at this place of the [`Source`]; `T` must be what that says. None: null.
    fn get<T: FromDatum>(&self, place: usize) -> Option<T> {
        let attribute = usize::try_from(self.numbers[place] - 1).unwrap_or_default();
        // SAFETY: the columns up to the last that is read are deformed, and `layout` has compared the types.
        unsafe { T::from_datum(*(*self.slot).tts_values.add(attribute), *(*self.slot).tts_isnull.add(attribute)) }
    }
}

impl<const COLUMNS: usize> Drop for Scan<COLUMNS> {
    fn drop(&mut self) {
        // As in `Open::drop`.
        if !std::thread::panicking() {
            // SAFETY: made in `begin`, ended once, before the relations are closed.
            unsafe {
                pg_sys::index_endscan(self.scan);
                pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            }
        }
    }
}

/// `column OPERATOR argument`, for the column of the index with this number.
fn scan_key(number: i16, strategy: u32, operator: u32, collation: pg_sys::Oid) -> pg_sys::ScanKeyData {
    let mut key = pg_sys::ScanKeyData::default();
    // SAFETY: fills the key in; the operator is a built-in function.
    unsafe {
        pg_sys::ScanKeyEntryInitialize(
            &mut key,
            0,
            number,
            strategy as u16,
            pg_sys::InvalidOid,
            collation,
            pg_sys::Oid::from(operator),
            pg_sys::Datum::from(0),
        );
    }
    key
}
