//! Statements that are run again and again: planned once a session.
//!
//! pgrx' `select` and `update` plan anew at each call; for the small statements of a poll or of a delta that is most of
//! what they cost. Questions about time run no statement at all: [`super::scan`].
//!
//! Plans are generic: each statement reaches its rows by a key that does not depend on what is asked.

use std::ffi::{CString, c_char};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::error::Error;

/// Whether what [`Plan::writing`] and [`in_batches`] run is only to read just now.
static ONLY_READS: AtomicBool = AtomicBool::new(false);

/// Runs `work`, which only reads, under the snapshot of the caller's statement: all of it sees one state. In a
/// transaction that has written, each statement sees what is committed by then, as pgrx' own reads do.
pub fn under_one_snapshot<T>(work: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            ONLY_READS.store(false, Ordering::Relaxed);
        }
    }
    // SAFETY: reads a variable of the backend.
    let has_written = unsafe { pg_sys::GetTopTransactionIdIfAny() } != pg_sys::InvalidTransactionId;
    ONLY_READS.store(!has_written, Ordering::Relaxed);
    let _reset = Reset;
    work()
}

/// Runs `work`, whose index scans see what is committed by now and what this transaction has written, as the statements of
/// a VOLATILE function do.
pub fn under_latest_snapshot<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: in a transaction; where `work` ends in an ERROR the abort pops the snapshot.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let result = work();
        pg_sys::PopActiveSnapshot();
        result
    }
}

/// Runs `work`, which only reads, so that it sees what is committed by now and what this transaction has written, whatever
/// the transaction's isolation: for what hangs on a lock that has just been taken.
pub fn under_committed_snapshot<T>(work: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            ONLY_READS.store(false, Ordering::Relaxed);
        }
    }
    // SAFETY: in a transaction; where `work` ends in an ERROR the abort pops the snapshot.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        ONLY_READS.store(true, Ordering::Relaxed);
        let reset = Reset;
        let result = work();
        drop(reset);
        pg_sys::PopActiveSnapshot();
        result
    }
}

/// A statement and, once it has run in this session, its plan. For a `static`.
pub struct Plan {
    sql: &'static str,
    plan: AtomicPtr<pg_sys::_SPI_plan>,
}

impl Plan {
    /// Writes, or reads what was just written.
    pub const fn writing(sql: &'static str) -> Self {
        Plan { sql, plan: AtomicPtr::new(std::ptr::null_mut()) }
    }

    pub fn sql(&self) -> &'static str {
        self.sql
    }

    /// Runs it and hands each row to `read`. The types of the arguments must be the same at every call.
    pub fn each<T>(
        &self,
        arguments: &[DatumWithOid],
        mut read: impl FnMut(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        self.executed(arguments, |table| {
            let Some(table) = table else { return Ok(Vec::new()) };
            // SAFETY: the table has this many tuples, and lives until SPI is finished, after `read` has seen each.
            let tuples = unsafe { std::slice::from_raw_parts(table.vals, table.numvals as usize) };
            tuples.iter().map(|&tuple| read(&Row { tuple, description: table.tupdesc })).collect()
        })
    }

    /// Runs it and hands the first row to `read`; None: there is none.
    pub fn first<T>(
        &self,
        arguments: &[DatumWithOid],
        read: impl FnOnce(&Row) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        self.executed(arguments, |table| {
            let Some(table) = table.filter(|table| table.numvals > 0) else { return Ok(None) };
            // SAFETY: the table has a tuple.
            let tuple = unsafe { *table.vals };
            read(&Row { tuple, description: table.tupdesc }).map(Some)
        })
    }

    /// Runs it for what it does.
    pub fn run(&self, arguments: &[DatumWithOid]) -> Result<(), Error> {
        self.executed(arguments, |_| Ok(()))
    }

    fn executed<T>(
        &self,
        arguments: &[DatumWithOid],
        read: impl FnOnce(Option<&pg_sys::SPITupleTable>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        Spi::connect(|_connected| {
            let plan = self.prepared(arguments)?;
            let (mut values, nulls) = values(arguments);
            let read_only = ONLY_READS.load(Ordering::Relaxed);
            // SAFETY: values and nulls have an entry an argument, of the types the plan was made for; the tuple table
            // lives until SPI is finished.
            unsafe {
                let status = pg_sys::SPI_execute_plan(plan, values.as_mut_ptr(), nulls.as_ptr(), read_only, 0);
                if status < 0 {
                    return Err(Error::Internal(format!("a statement ended with SPI status {status}")));
                }
                read(pg_sys::SPI_tuptable.as_ref())
            }
        })
    }

    /// The plan, made at the first call. SPI must be connected.
    fn prepared(&self, arguments: &[DatumWithOid]) -> Result<pg_sys::SPIPlanPtr, Error> {
        let kept = self.plan.load(Ordering::Relaxed);
        if !kept.is_null() {
            return Ok(kept);
        }
        let mut types: Vec<pg_sys::Oid> = arguments.iter().map(DatumWithOid::oid).collect();
        let sql = CString::new(self.sql).map_err(|error| Error::Internal(error.to_string()))?;
        // SAFETY: connected to SPI; a plan that is kept lives until the session ends, and Postgres plans it anew
        // whenever what it refers to changes.
        unsafe {
            let plan = pg_sys::SPI_prepare_cursor(
                sql.as_ptr(),
                types.len() as i32,
                types.as_mut_ptr(),
                pg_sys::CURSOR_OPT_GENERIC_PLAN as i32,
            );
            if plan.is_null() {
                return Err(Error::Internal("a statement could not be planned".to_owned()));
            }
            pg_sys::SPI_keepplan(plan);
            self.plan.store(plan, Ordering::Relaxed);
            Ok(plan)
        }
    }
}

fn values(arguments: &[DatumWithOid]) -> (Vec<pg_sys::Datum>, Vec<c_char>) {
    let null = pg_sys::Datum::from(0);
    arguments
        .iter()
        .map(|argument| match argument.datum() {
            Some(datum) => (datum.sans_lifetime(), b' ' as c_char),
            None => (null, b'n' as c_char),
        })
        .unzip()
}

/// Runs `work` and then gives back what it took of Postgres' memory, which else stays taken until the caller's statement
/// ends: arguments of statements, above all. What it returns must be Rust's own.
pub fn forgetting<T>(work: impl FnOnce() -> T) -> T {
    let mut memory = Scratch::new();
    let result = memory.holding(work);
    memory.forget();
    result
}

/// A memory context below the current one, with which it goes where an ERROR does not let us come back.
struct Scratch(pg_sys::MemoryContext);

impl Scratch {
    fn new() -> Self {
        // SAFETY: there always is a current context.
        Scratch(unsafe {
            pg_sys::AllocSetContextCreateExtended(
                pg_sys::CurrentMemoryContext,
                c"calsync".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        })
    }

    fn holding<T>(&mut self, work: impl FnOnce() -> T) -> T {
        // SAFETY: the context lives as long as `self`; where `work` ends in an ERROR the abort sets the current one.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.0);
            let result = work();
            pg_sys::MemoryContextSwitchTo(before);
            result
        }
    }

    fn empty(&mut self) {
        // SAFETY: nothing that was put there is used any more.
        unsafe { pg_sys::MemoryContextReset(self.0) }
    }

    fn forget(self) {
        // SAFETY: as above, and it is not the current one.
        unsafe { pg_sys::MemoryContextDelete(self.0) }
    }
}

/// Runs a statement and hands its rows to `read` in batches, so that memory does not grow with their number: a batch is
/// forgotten when `read` returns. What `read` writes is not seen by the statement.
///
/// A statement that writes and returns rows is run to its end before the first batch; its rows wait in a tuplestore,
/// which spills to disk.
pub fn in_batches(
    sql: &str,
    arguments: &[DatumWithOid],
    batch: usize,
    mut read: impl FnMut(&[Row]) -> Result<(), Error>,
) -> Result<(), Error> {
    Spi::connect(|_connected| {
        let mut types: Vec<pg_sys::Oid> = arguments.iter().map(DatumWithOid::oid).collect();
        let (mut values, nulls) = values(arguments);
        let sql = CString::new(sql).map_err(|error| Error::Internal(error.to_string()))?;
        // SAFETY: connected to SPI; the arrays have an entry an argument. A portal that an ERROR leaves open is closed by
        // the end of the (sub)transaction; each tuple table is freed once its rows have been read.
        unsafe {
            let portal = pg_sys::SPI_cursor_open_with_args(
                std::ptr::null(),
                sql.as_ptr(),
                types.len() as i32,
                types.as_mut_ptr(),
                values.as_mut_ptr(),
                nulls.as_ptr(),
                ONLY_READS.load(Ordering::Relaxed),
                0,
            );
            let mut memory = Scratch::new();
            loop {
                pg_sys::SPI_cursor_fetch(portal, true, batch as _);
                let Some(table) = pg_sys::SPI_tuptable.as_ref().filter(|table| table.numvals > 0) else { break };
                let tuples = std::slice::from_raw_parts(table.vals, table.numvals as usize);
                let rows: Vec<Row> = tuples.iter().map(|&tuple| Row { tuple, description: table.tupdesc }).collect();
                memory.holding(|| read(&rows))?;
                memory.empty();
                pg_sys::SPI_freetuptable(std::ptr::from_ref(table).cast_mut());
            }
            memory.forget();
            pg_sys::SPI_cursor_close(portal);
        }
        Ok(())
    })
}

/// One row of a result, while `read` looks at it.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    description: pg_sys::TupleDesc,
}

impl Row {
    /// Puts the row as it is where the result of a function goes: it must have the columns of that.
    pub fn put_into(&self, store: *mut pg_sys::Tuplestorestate, description: pg_sys::TupleDesc) -> Result<(), Error> {
        // SAFETY: both descriptions are alive; the tuple is copied, and is read as what was compared here.
        unsafe {
            let columns = |of: pg_sys::TupleDesc| (*of).attrs.as_slice((*of).natts.max(0) as usize);
            let types = |of| columns(of).iter().map(|column| column.atttypid);
            if !types(self.description).eq(types(description)) {
                return Err(Error::Internal("a statement has other columns than its function".to_owned()));
            }
            pg_sys::tuplestore_puttuple(store, self.tuple);
        }
        Ok(())
    }

    /// The value of a column, counted from 1; None: null. `T` must be what the statement says.
    pub fn get<T: FromDatum>(&self, column: i32) -> Option<T> {
        let mut is_null = false;
        // SAFETY: the tuple and its description belong together and live as long as `self`.
        unsafe {
            let datum = pg_sys::SPI_getbinval(self.tuple, self.description, column, &mut is_null);
            T::from_datum(datum, is_null)
        }
    }
}
