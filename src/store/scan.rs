//! Index scans of the read path: the rows of `calsync.subscription` by name, those of `calsync.share` by subscription, the
//! pieces of `calsync.busy` in a window.
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
//! What differs from one major version of Postgres to another is in `raw` and in [`Scan::begin`].

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::ops::ControlFlow;

use calsync_core::busy::StatusSet;
use calsync_core::interval::Interval;
use pgrx::pg_sys;
use pgrx::{FromDatum, IntoDatum};

use super::availability::MicroWindow;
use super::layout::{Open, Source};
use super::time::Micros;
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
    pub(super) static SUBSCRIPTION: Source<10> = const { Source {
        table: c"subscription",
        index: c"subscription_calendar_idx",
        columns: [
            (c"calendar", pg_sys::TEXTOID),
            (c"subscription_id", pg_sys::INT8OID),
            (c"provider", pg_sys::TEXTOID),
            (c"owner", pg_sys::NAMEOID),
            (c"max_staleness", pg_sys::INTERVALOID),
            (c"state", pg_sys::InvalidOid),
            (c"covered", pg_sys::TSTZRANGEOID),
            (c"synced_at", pg_sys::TIMESTAMPTZOID),
            (c"gone_at", pg_sys::TIMESTAMPTZOID),
            (c"last_error", pg_sys::TEXTOID),
        ],
        indexed: &[0],
        unique: false,
        known: Cell::new(None),
    } };
    pub(super) static BUSY: Source<4> = const { Source {
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
    pub(super) static SHARE: Source<3> = const { Source {
        table: c"share",
        index: c"share_pkey",
        columns: [
            (c"subscription_id", pg_sys::INT8OID),
            (c"role", pg_sys::NAMEOID),
            (c"accepted_at", pg_sys::TIMESTAMPTZOID),
        ],
        indexed: &[0, 1],
        unique: true,
        known: Cell::new(None),
    } };
}

/// The columns of `SUBSCRIPTION`.
#[derive(Clone, Copy)]
pub enum Column {
    Calendar,
    SubscriptionId,
    Provider,
    Owner,
    MaxStaleness,
    State,
    Covered,
    SyncedAt,
    GoneAt,
    LastError,
}

/// A scan of an index under the active snapshot, and a slot for what comes from the heap.
struct Scan<const COLUMNS: usize> {
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
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
            Ok(Scan { scan, slot, open })
        }
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

/// `calsync.subscription`, by name.
pub struct Subscriptions {
    scan: Scan<10>,
    /// One for the look-up of a name, none for all.
    key: Option<pg_sys::ScanKeyData>,
    last: c_int,
}

impl Subscriptions {
    pub fn by_name() -> Result<Self, Error> {
        Self::open(true)
    }

    pub fn all() -> Result<Self, Error> {
        Self::open(false)
    }

    fn open(by_name: bool) -> Result<Self, Error> {
        let scan = SUBSCRIPTION.with(|source| Scan::begin(source, by_name.into(), false))?;
        let last = scan.open.layout.numbers.iter().copied().max().unwrap_or(0).into();
        let key = by_name.then(|| {
            // SAFETY: an open index has a collation for each key column.
            let collation = unsafe { *(*scan.open.index).rd_indcollation };
            scan_key(1, pg_sys::BTEqualStrategyNumber, pg_sys::F_TEXTEQ, collation)
        });
        Ok(Subscriptions { scan, key, last })
    }

    /// Hands each row of this name to `read`, whoever owns it; from [`Self::all`], each row, by name.
    pub fn each(&mut self, name: &str, mut read: impl FnMut(&Row) -> Result<(), Error>) -> Result<(), Error> {
        let (scan, slot) = (self.scan.scan, self.scan.slot);
        let keys = match &mut self.key {
            Some(key) => {
                key.sk_argument = name.into_datum().unwrap_or(pg_sys::Datum::from(0));
                std::ptr::from_mut(key)
            }
            None => std::ptr::null_mut(),
        };
        let count = (!keys.is_null()).into();
        // SAFETY: as many keys as the scan was begun with; the slot is one of this table, and a row in it stays where it
        // is until the next is fetched, after `read` has seen it.
        unsafe {
            pg_sys::index_rescan(scan, keys, count, std::ptr::null_mut(), 0);
            while pg_sys::index_getnext_slot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) {
                pgrx::check_for_interrupts!();
                if i32::from((*slot).tts_nvalid) < self.last {
                    pg_sys::slot_getsomeattrs_int(slot, self.last);
                }
                read(&Row { slot, numbers: &self.scan.open.layout.numbers })?;
            }
        }
        Ok(())
    }
}

/// A row of `calsync.subscription`, while `read` looks at it.
pub struct Row<'a> {
    slot: *mut pg_sys::TupleTableSlot,
    numbers: &'a [i16; 10],
}

impl Row<'_> {
    /// None: null. `T` must be what [`SUBSCRIPTION`] says.
    pub fn get<T: FromDatum>(&self, column: Column) -> Option<T> {
        let place = usize::try_from(self.numbers[column as usize] - 1).unwrap_or_default();
        // SAFETY: the columns up to the last that we know of are deformed, and `layout` has compared the types.
        unsafe { T::from_datum(*(*self.slot).tts_values.add(place), *(*self.slot).tts_isnull.add(place)) }
    }
}

/// What of `calsync.share` was accepted, by subscription: what is only offered counts for nothing.
pub struct Shares {
    scan: Scan<3>,
    /// One for those of a subscription, none for all.
    key: Option<pg_sys::ScanKeyData>,
}

impl Shares {
    pub fn by_subscription() -> Result<Self, Error> {
        Self::open(true)
    }

    pub fn all() -> Result<Self, Error> {
        Self::open(false)
    }

    fn open(by_subscription: bool) -> Result<Self, Error> {
        let scan = SHARE.with(|source| Scan::begin(source, by_subscription.into(), false))?;
        let key = || scan_key(1, pg_sys::BTEqualStrategyNumber, pg_sys::F_INT8EQ, pg_sys::InvalidOid);
        Ok(Shares { scan, key: by_subscription.then(key) })
    }

    /// Those of this subscription; nothing but [`Self::by_subscription`] takes one.
    pub fn of(&mut self, subscription: i64) -> &mut Self {
        if let Some(key) = &mut self.key {
            key.sk_argument = pg_sys::Datum::from(subscription);
        }
        self
    }

    /// Hands subscription and role of each to `read`, until that has seen enough.
    pub fn each(&mut self, mut read: impl FnMut(i64, &CStr) -> ControlFlow<()>) -> Result<(), Error> {
        let (scan, slot) = (self.scan.scan, self.scan.slot);
        let numbers = self.scan.open.layout.numbers;
        let (keys, count) = match &mut self.key {
            Some(key) => (std::ptr::from_mut(key), 1),
            None => (std::ptr::null_mut(), 0),
        };
        let place = |number: i16| usize::try_from(number - 1).unwrap_or_default();
        let last = numbers.iter().copied().max().unwrap_or(0).into();
        // SAFETY: as in `Subscriptions::each`; `layout` has compared the types, and the key's columns cannot be null.
        unsafe {
            pg_sys::index_rescan(scan, keys, count, std::ptr::null_mut(), 0);
            while pg_sys::index_getnext_slot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) {
                pgrx::check_for_interrupts!();
                pg_sys::slot_getsomeattrs_int(slot, last);
                if *(*slot).tts_isnull.add(place(numbers[2])) {
                    continue;
                }
                let datum = |number: i16| *(*slot).tts_values.add(place(number));
                let role = <&CStr>::from_datum(datum(numbers[1]), false);
                if role.is_some_and(|role| read(datum(numbers[0]).value() as i64, role).is_break()) {
                    break;
                }
            }
        }
        Ok(())
    }
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

    /// SAFETY: to be called inside a guard; see the head of this file.
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
