//! Statements of the read path: planned once a session, always read-only.
//!
//! pgrx' `select` stops being read-only once the transaction has written, and then fails in a parallel worker; and it
//! plans anew at each call. The availability functions are STABLE and PARALLEL SAFE, so they read under the caller's
//! snapshot, always.

use std::cell::Cell;
use std::ffi::{CStr, c_char};

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::error::Error;

/// A statement and, once it has run in this session, its plan. For a `thread_local`.
pub struct ReadPlan {
    sql: &'static CStr,
    plan: Cell<pg_sys::SPIPlanPtr>,
}

impl ReadPlan {
    pub const fn new(sql: &'static CStr) -> Self {
        ReadPlan { sql, plan: Cell::new(std::ptr::null_mut()) }
    }

    /// Runs it and hands each row to `read`. The types of the arguments must be the same at every call.
    pub fn each<T>(
        &self,
        arguments: &[DatumWithOid],
        mut read: impl FnMut(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        Spi::connect(|_connected| {
            let mut types: Vec<pg_sys::Oid> = arguments.iter().map(DatumWithOid::oid).collect();
            if self.plan.get().is_null() {
                // SAFETY: connected to SPI; a plan that is kept lives until the session ends, and Postgres plans it
                // anew whenever what it refers to changes.
                unsafe {
                    // Generic: the range of the index is the same whatever is asked, and planning costs more than reading.
                    let plan = pg_sys::SPI_prepare_cursor(
                        self.sql.as_ptr(),
                        types.len() as i32,
                        types.as_mut_ptr(),
                        pg_sys::CURSOR_OPT_GENERIC_PLAN as i32,
                    );
                    if plan.is_null() {
                        return Err(Error::Internal("a statement could not be planned".to_owned()));
                    }
                    pg_sys::SPI_keepplan(plan);
                    self.plan.set(plan);
                }
            }
            let null = pg_sys::Datum::from(0);
            let mut values: Vec<pg_sys::Datum> =
                arguments.iter().map(|argument| argument.datum().map_or(null, |datum| datum.sans_lifetime())).collect();
            let nulls: Vec<c_char> = arguments
                .iter()
                .map(|argument| if argument.datum().is_some() { b' ' as c_char } else { b'n' as c_char })
                .collect();
            // SAFETY: values and nulls have an entry an argument, of the types the plan was made for; the tuple table
            // lives until SPI is finished, after `read` has seen each row.
            unsafe {
                let status = pg_sys::SPI_execute_plan(self.plan.get(), values.as_mut_ptr(), nulls.as_ptr(), true, 0);
                if status != pg_sys::SPI_OK_SELECT as i32 {
                    return Err(Error::Internal(format!("a statement of the read path ended with status {status}")));
                }
                let table = &*pg_sys::SPI_tuptable;
                let tuples = std::slice::from_raw_parts(table.vals, table.numvals as usize);
                tuples.iter().map(|&tuple| read(&Row { tuple, description: table.tupdesc })).collect()
            }
        })
    }
}

/// One row of a result, while `read` looks at it.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    description: pg_sys::TupleDesc,
}

impl Row {
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
