//! The pieces of `calsync.busy` in a window, read from their index alone where the heap's pages are all-visible.

use std::cell::Cell;

use calsync_core::busy::StatusSet;
use calsync_core::interval::Interval;
use pgrx::pg_sys;

use super::super::availability::MicroWindow;
use super::super::layout::Source;
use super::super::time::Micros;
use super::{Scan, scan_key};
use crate::error::Error;

/// The functions of the loop, without pgrx' guards. As in Postgres 15.
mod raw {
    use std::ffi::c_int;

    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        pub fn index_rescan(
            scan: pg_sys::IndexScanDesc,
            keys: pg_sys::ScanKey,
            nkeys: c_int,
            orderbys: pg_sys::ScanKey,
            norderbys: c_int,
        );
        pub fn index_getnext_tid(
            scan: pg_sys::IndexScanDesc,
            direction: pg_sys::ScanDirection::Type,
        ) -> pg_sys::ItemPointer;
        pub fn index_fetch_heap(scan: pg_sys::IndexScanDesc, slot: *mut pg_sys::TupleTableSlot) -> bool;
        pub fn index_deform_tuple(
            tuple: pg_sys::IndexTuple,
            description: pg_sys::TupleDesc,
            values: *mut pg_sys::Datum,
            isnull: *mut bool,
        );
        pub fn visibilitymap_get_status(
            relation: pg_sys::Relation,
            block: pg_sys::BlockNumber,
            buffer: *mut pg_sys::Buffer,
        ) -> u8;
        pub fn PredicateLockPage(relation: pg_sys::Relation, block: pg_sys::BlockNumber, snapshot: pg_sys::Snapshot);
        pub fn ProcessInterrupts();
    }
}

thread_local! {
    pub(in crate::store) static BUSY: Source<4> = const { Source {
        table: c"busy",
        index: c"busy_pkey",
        columns: [
            (c"subscription_id", pg_sys::INT8OID),
            (c"ends_at", pg_sys::TIMESTAMPTZOID),
            (c"starts_at", pg_sys::TIMESTAMPTZOID),
            (c"statuses", pg_sys::INT2OID),
        ],
        indexed: &[0, 1, 2, 3],
        unique: true,
        known: Cell::new(None),
    } };
}

/// `calsync.busy`, by subscription.
pub struct Pieces {
    scan: Scan<4>,
    keys: [pg_sys::ScanKeyData; 3],
    snapshot: pg_sys::Snapshot,
    /// The page of the visibility map that was looked at last, pinned.
    map: pg_sys::Buffer,
}

/// Pieces are in the order of their ends, and none overlaps another: those that end inside the window come first, and at
/// most one more, the next, can reach into it. A B-tree copies all entries of a page that match before it hands out the
/// first, so the search is bounded: to the window and a little more. Only where nothing ends in that, the next piece is
/// searched further away.
const FIRST_REACH: Micros = 3 * 86_400_000_000;
const SECOND_REACH: Micros = 60 * 86_400_000_000;

/// How the reading of a calendar ended.
enum Ended {
    Complete,
    /// There was no more room.
    Full,
    /// A null, or a chain of versions of which the snapshot sees two.
    Broken,
}

impl Pieces {
    pub fn open() -> Result<Self, Error> {
        let scan = BUSY.with(|source| Scan::begin(source, 3, true))?;
        let none = pg_sys::InvalidOid;
        // SAFETY: reads what the scan was begun with.
        let snapshot = unsafe { (*scan.scan).xs_snapshot };
        Ok(Pieces {
            scan,
            keys: [
                scan_key(1, pg_sys::BTEqualStrategyNumber, pg_sys::F_INT8EQ, none),
                scan_key(2, pg_sys::BTGreaterStrategyNumber, pg_sys::F_TIMESTAMPTZ_GT, none),
                scan_key(2, pg_sys::BTLessEqualStrategyNumber, pg_sys::F_TIMESTAMPTZ_LE, none),
            ],
            snapshot,
            map: pg_sys::InvalidBuffer as pg_sys::Buffer,
        })
    }

    /// The time of a subscription with one of these statuses: clipped, merged, in order. At most `room` intervals; None:
    /// there are more.
    pub fn taken(
        &mut self,
        subscription: i64,
        window: MicroWindow,
        statuses: StatusSet,
        room: usize,
    ) -> Result<Option<Vec<MicroWindow>>, Error> {
        let mut found = Vec::new();
        // SAFETY: `read` has no destructors in its frame, and it does not panic.
        let ended = unsafe {
            let found = &mut found;
            pg_sys::ffi::pg_guard_ffi_boundary(|| self.read(subscription, window, statuses, room, found))
        };
        match ended {
            Ended::Complete => Ok(Some(found)),
            Ended::Full => Ok(None),
            Ended::Broken => Err(Error::Internal(format!("busy time of subscription {subscription} cannot be read"))),
        }
    }

    /// SAFETY: to be called inside a guard; see the head of this directory's mod.rs.
    unsafe fn read(
        &mut self,
        subscription: i64,
        window: MicroWindow,
        statuses: StatusSet,
        room: usize,
        found: &mut Vec<MicroWindow>,
    ) -> Ended {
        let mut from = window.start();
        let mut reach = Some(FIRST_REACH);
        loop {
            let to = reach.and_then(|reach| window.end().checked_add(reach));
            self.keys[0].sk_argument = pg_sys::Datum::from(subscription);
            self.keys[1].sk_argument = pg_sys::Datum::from(from);
            self.keys[2].sk_argument = pg_sys::Datum::from(to.unwrap_or(Micros::MAX));
            // SAFETY: the scan was begun with as many keys.
            unsafe { raw::index_rescan(self.scan.scan, self.keys.as_mut_ptr(), 3, std::ptr::null_mut(), 0) };
            loop {
                // SAFETY: the scan has been positioned.
                let (starts, ends, bits) = match unsafe { self.next() } {
                    Next::Piece(starts, ends, bits) => (starts, ends, bits),
                    Next::None => break,
                    Next::Broken => return Ended::Broken,
                };
                let meant = StatusSet::from_bits(bits).meets(statuses);
                let inside = Interval::new(starts, ends).and_then(|piece| piece.clip(window));
                if let Some(piece) = inside.filter(|_| meant) {
                    let full = found.len() >= room;
                    match found.last_mut().filter(|last| last.end() == piece.start()) {
                        Some(last) => *last = Interval::new(last.start(), piece.end()).unwrap_or(*last),
                        None if full => return Ended::Full,
                        None => found.push(piece),
                    }
                }
                if ends >= window.end() {
                    return Ended::Complete;
                }
            }
            match to {
                Some(to) => (from, reach) = (to, (reach == Some(FIRST_REACH)).then_some(SECOND_REACH)),
                None => return Ended::Complete,
            }
        }
    }

    /// The next piece that the snapshot sees.
    ///
    /// SAFETY: as `read`; the scan has been positioned.
    unsafe fn next(&mut self) -> Next {
        let (scan, slot, table) = (self.scan.scan, self.scan.slot, self.scan.open.table);
        // SAFETY: the order of calls is that of IndexOnlyNext() in nodeIndexonlyscan.c, where it is argued why the
        // visibility map may be read without a lock.
        unsafe {
            loop {
                if pg_sys::InterruptPending != 0 {
                    raw::ProcessInterrupts();
                }
                let tid = raw::index_getnext_tid(scan, pg_sys::ScanDirection::ForwardScanDirection);
                if tid.is_null() {
                    return Next::None;
                }
                let block = u32::from((*tid).ip_blkid.bi_hi) << 16 | u32::from((*tid).ip_blkid.bi_lo);
                let map = raw::visibilitymap_get_status(table, block, &mut self.map);
                if map & pg_sys::VISIBILITYMAP_ALL_VISIBLE as u8 != 0 {
                    // The heap, had we looked there, would have locked the row.
                    raw::PredicateLockPage(table, block, self.snapshot);
                } else {
                    if !raw::index_fetch_heap(scan, slot) {
                        continue;
                    }
                    if let Some(clear) = (*(*slot).tts_ops).clear {
                        clear(slot);
                    }
                    if (*scan).xs_heap_continue {
                        return Next::Broken;
                    }
                }
                let (mut values, mut nulls) = ([pg_sys::Datum::from(0); 4], [true; 4]);
                if (*scan).xs_itup.is_null() {
                    return Next::Broken;
                }
                raw::index_deform_tuple((*scan).xs_itup, (*scan).xs_itupdesc, values.as_mut_ptr(), nulls.as_mut_ptr());
                if nulls != [false; 4] {
                    return Next::Broken;
                }
                return Next::Piece(values[2].value() as i64, values[1].value() as i64, values[3].value() as i16);
            }
        }
    }
}

/// What [`Pieces::next`] came upon.
enum Next {
    /// When it starts and ends, and its statuses.
    Piece(Micros, Micros, i16),
    None,
    Broken,
}

impl Drop for Pieces {
    fn drop(&mut self) {
        // As in `Open::drop`.
        if self.map != pg_sys::InvalidBuffer as pg_sys::Buffer && !std::thread::panicking() {
            // SAFETY: pinned by visibilitymap_get_status().
            unsafe { pg_sys::ReleaseBuffer(self.map) };
        }
    }
}
