//! Where a table of ours is, in the terms of the catalogs: which oids, which column numbers.
//!
//! Looked up by name once a session and kept until Postgres says that it has changed (the relcache callback below):
//! DROP EXTENSION, ALTER TABLE, REINDEX CONCURRENTLY. What is found is compared with what this version of the library
//! expects before anything is read through it, since an index scan hands out raw datums: a column of another type would
//! be misread, not refused.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys;

use super::owner::relation_named;
use crate::error::Error;

/// A table, the B-tree it is read through, and which columns are read.
pub struct Source<const COLUMNS: usize> {
    pub table: &'static CStr,
    pub index: &'static CStr,
    /// Name and type; InvalidOid where the type is one of ours, whose oid differs from database to database.
    pub columns: [(&'static CStr, pg_sys::Oid); COLUMNS],
    /// The columns of the index, as places in `columns`.
    pub indexed: &'static [usize],
    /// Whether no two of its rows may have the same key.
    pub unique: bool,
    pub known: Cell<Option<Layout<COLUMNS>>>,
}

#[derive(Clone, Copy)]
pub struct Layout<const COLUMNS: usize> {
    table: pg_sys::Oid,
    index: pg_sys::Oid,
    /// Number of each column in the table.
    pub numbers: [i16; COLUMNS],
}

/// A table and its index, open and locked against changes of their shape. Closed when dropped; the locks stay until the
/// transaction ends, as those of any statement do.
pub struct Open<const COLUMNS: usize> {
    pub table: pg_sys::Relation,
    pub index: pg_sys::Relation,
    pub layout: Layout<COLUMNS>,
}

impl<const COLUMNS: usize> Source<COLUMNS> {
    /// Opens both for reading, with the lock that a SELECT takes.
    pub fn open(&self) -> Result<Open<COLUMNS>, Error> {
        forget_what_changes();
        loop {
            pgrx::check_for_interrupts!();
            let wanted = match self.known.get() {
                Some(layout) => layout.table,
                None => relation_named(self.table)?,
            };
            // SAFETY: opened relations are closed here or by `Open`; an ERROR leaves them to the resource owner.
            unsafe {
                let table = pg_sys::try_table_open(wanted, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
                if table.is_null() {
                    // Dropped since it was looked up.
                    self.known.set(None);
                    continue;
                }
                // Taking the lock has told us of all changes before it, and while it is held neither the table nor its
                // indexes can go: DROP INDEX waits for it, and so does REINDEX CONCURRENTLY before it drops the old one.
                let layout = match self.known.get().filter(|layout| layout.table == wanted) {
                    Some(layout) => layout,
                    None if relation_named(self.table)? != wanted => {
                        pg_sys::table_close(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
                        continue;
                    }
                    None => self.read(table).inspect_err(|_| pg_sys::table_close(table, NO_LOCK))?,
                };
                let index = pg_sys::index_open(layout.index, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
                let open = Open { table, index, layout };
                if self.known.get().is_none() {
                    self.check_shape(&open)?;
                }
                self.check_index(&open)?;
                self.known.set(Some(layout));
                return Ok(open);
            }
        }
    }

    /// SAFETY: `table` is open and locked.
    unsafe fn read(&self, table: pg_sys::Relation) -> Result<Layout<COLUMNS>, Error> {
        // SAFETY: catalog look-ups about a table that is locked.
        unsafe {
            let oid = (*table).rd_id;
            let mut numbers = [0; COLUMNS];
            for (number, (name, wanted_type)) in numbers.iter_mut().zip(self.columns) {
                *number = pg_sys::get_attnum(oid, name.as_ptr());
                let found = if *number > 0 { pg_sys::get_atttype(oid, *number) } else { pg_sys::InvalidOid };
                if *number <= 0 || (wanted_type != pg_sys::InvalidOid && found != wanted_type) {
                    return Err(self.unlike_ours(name));
                }
            }
            let index = pg_sys::get_relname_relid(self.index.as_ptr(), (*(*table).rd_rel).relnamespace);
            if index == pg_sys::InvalidOid {
                return Err(self.unlike_ours(self.index));
            }
            Ok(Layout { table: oid, index, numbers })
        }
    }

    /// What cannot change without Postgres telling of it. A partial index would leave rows out, one in another order be read
    /// past its end.
    ///
    /// SAFETY: both relations are open.
    unsafe fn check_shape(&self, open: &Open<COLUMNS>) -> Result<(), Error> {
        // SAFETY: as in `check_index`; an option for each key column.
        let as_made = unsafe {
            let row = &*(*open.index).rd_index;
            let mut keys = 0..row.indnkeyatts.max(0) as usize;
            // Zero: ascending, nulls last.
            let ascending = keys.all(|key| *(*open.index).rd_indoption.add(key) == 0);
            let whole = pg_sys::RelationGetIndexPredicate(open.index).is_null();
            let enforced = !self.unique || (row.indisunique && row.indimmediate);
            ascending && whole && enforced
        };
        if as_made { Ok(()) } else { Err(self.unlike_ours(self.index)) }
    }

    /// SAFETY: both relations are open.
    unsafe fn check_index(&self, open: &Open<COLUMNS>) -> Result<(), Error> {
        // SAFETY: the relcache entry of an open index has its pg_index row, as many key columns as that says, and an
        // operator class for each key; indkey has indnatts entries.
        unsafe {
            let index = &*open.index;
            let row = &*index.rd_index;
            let columns = row.indkey.values.as_slice(row.indnatts.max(0) as usize);
            let wanted = self.indexed.iter().map(|place| open.layout.numbers[*place]);
            let keys = self.indexed.iter().take(row.indnkeyatts.max(0) as usize).enumerate();
            let mut keys = keys.map(|(key, place)| *index.rd_opcintype.add(key) == self.columns[*place].1);
            if row.indrelid != (*open.table).rd_id
                || (*index.rd_rel).relam != pg_sys::BTREE_AM_OID
                || !columns.iter().copied().eq(wanted)
                || !keys.all(|as_expected| as_expected)
            {
                return Err(self.unlike_ours(self.index));
            }
            // What the planner asks of an index: see get_relation_info() in plancat.c.
            let header = (*index.rd_indextuple).t_data;
            let too_new = row.indcheckxmin
                && !pg_sys::TransactionIdPrecedes(pg_sys::HeapTupleHeaderGetXmin(header), pg_sys::TransactionXmin);
            if !row.indisvalid || too_new {
                return Err(Error::argument(
                    PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("the index calsync.{} cannot be used by this transaction", self.index.to_string_lossy()),
                    "It was being rebuilt when the transaction began: try again in a new one; if that does not help, \
                     REINDEX it.",
                ));
            }
            Ok(())
        }
    }

    fn unlike_ours(&self, what: &CStr) -> Error {
        Error::argument(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "the table calsync.{} is not as this version of pg_calsync made it: look at {}",
                self.table.to_string_lossy(),
                what.to_string_lossy()
            ),
            "ALTER EXTENSION pg_calsync UPDATE; tables and indexes of the extension must not be altered by hand.",
        )
    }

    pub fn forget(&self, relation: pg_sys::Oid) {
        let concerned = |layout: &Layout<COLUMNS>| [pg_sys::InvalidOid, layout.table, layout.index].contains(&relation);
        if self.known.get().as_ref().is_some_and(concerned) {
            self.known.set(None);
        }
    }
}

const NO_LOCK: pg_sys::LOCKMODE = pg_sys::NoLock as pg_sys::LOCKMODE;

impl<const COLUMNS: usize> Drop for Open<COLUMNS> {
    fn drop(&mut self) {
        // An ERROR is on its way as a panic: the abort of the (sub)transaction releases what was in use, and Postgres'
        // own code does nothing with a scan that an ERROR came out of.
        if !std::thread::panicking() {
            // SAFETY: opened in `Source::open`, closed once.
            unsafe {
                pg_sys::index_close(self.index, NO_LOCK);
                pg_sys::table_close(self.table, NO_LOCK);
            }
        }
    }
}

/// Registers the callback, once a session.
fn forget_what_changes() {
    thread_local! { static REGISTERED: Cell<bool> = const { Cell::new(false) } }
    if !REGISTERED.replace(true) {
        // SAFETY: the callback is a function of this library, which is never unloaded.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0)) };
    }
}

/// InvalidOid: any may have changed. Called wherever Postgres accepts invalidations, so it only forgets.
unsafe extern "C-unwind" fn relation_changed(_: pg_sys::Datum, relation: pg_sys::Oid) {
    super::scan::forget(relation);
}
