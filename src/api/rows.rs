//! The rows of the functions that return ranges of time, handed over all at once, in a tuplestore.
//!
//! Row by row, each would go through the function manager, a tuple and the slot of a scan before it came into the
//! tuplestore that the executor keeps anyhow; and through pgrx' types, which look the range type up for each. The
//! store spills to disk beyond `work_mem`.

use pgrx::datum::RangeBound;
use pgrx::{IntoDatum, pg_sys};

use super::availability::TimeRange;
use crate::store::availability::MicroWindow;
use crate::store::time::Micros;

/// The functions of the loop, without pgrx' guards (see src/store/scan). As in Postgres 15; in 16 range_serialize
/// has one argument more.
mod raw {
    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        pub fn range_serialize(
            range_type: *mut pg_sys::TypeCacheEntry,
            lower: *mut pg_sys::RangeBound,
            upper: *mut pg_sys::RangeBound,
            empty: bool,
        ) -> *mut pg_sys::RangeType;
        pub fn tuplestore_putvalues(
            store: *mut pg_sys::Tuplestorestate,
            description: pg_sys::TupleDesc,
            values: *const pg_sys::Datum,
            isnull: *const bool,
        );
        pub fn pfree(pointer: *mut std::ffi::c_void);
        pub fn ProcessInterrupts();
    }
}

/// How an answer ends where time has no end: as the window does. To Postgres the time from now on, that until
/// `infinity` and that until the last timestamp are three ranges, of which only the last two lie within `[now,infinity)`.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    lower: pg_sys::RangeBound,
    upper: pg_sys::RangeBound,
}

impl Ends {
    pub fn of(window: &TimeRange) -> Self {
        let said = |end: Option<&RangeBound<_>>, lower| {
            let (val, infinite, inclusive) = match end {
                Some(RangeBound::Inclusive(moment)) => (Micros::from(*moment), false, true),
                Some(RangeBound::Exclusive(moment)) => (Micros::from(*moment), false, false),
                Some(RangeBound::Infinite) | None => (0, true, false),
            };
            pg_sys::RangeBound { val: pg_sys::Datum::from(val), infinite, inclusive, lower }
        };
        Self { lower: said(window.lower(), true), upper: said(window.upper(), false) }
    }

    /// For windows that have a beginning and an end.
    pub fn none() -> Self {
        let none = |lower| pg_sys::RangeBound { val: pg_sys::Datum::from(0), infinite: true, inclusive: false, lower };
        Self { lower: none(true), upper: none(false) }
    }

    fn lower(&self, moment: Micros) -> pg_sys::RangeBound {
        if moment == Micros::MIN { self.lower } else { bound(moment, true) }
    }

    fn upper(&self, moment: Micros) -> pg_sys::RangeBound {
        if moment == Micros::MAX { self.upper } else { bound(moment, false) }
    }

    /// Each as a tstzrange, palloc'd.
    pub fn ranges(&self, intervals: &[MicroWindow]) -> Vec<*mut pg_sys::varlena> {
        let range_type = super::multirange::range_type();
        let mut ranges = Vec::with_capacity(intervals.len());
        let pushed = &mut ranges;
        // SAFETY: as in `Rows::put_beside`; there is room for all that is pushed.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                for interval in intervals {
                    if pg_sys::InterruptPending != 0 {
                        raw::ProcessInterrupts();
                    }
                    let (mut lower, mut upper) = (self.lower(interval.start()), self.upper(interval.end()));
                    pushed.push(raw::range_serialize(range_type, &mut lower, &mut upper, false).cast());
                }
            });
        }
        ranges
    }
}

/// Where the rows go of a function whose SQL declaration returns a set, and which columns they have. Its own return value
/// then counts for nothing.
pub(super) fn result_of(fcinfo: pg_sys::FunctionCallInfo) -> (*mut pg_sys::Tuplestorestate, pg_sys::TupleDesc) {
    // SAFETY: raises where the caller cannot take a set; what it fills in lives as long as the query.
    unsafe {
        pg_sys::InitMaterializedSRF(fcinfo, pg_sys::MAT_SRF_USE_EXPECTED_DESC);
        let result = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        ((*result).setResult, (*result).setDesc)
    }
}

/// Ranges on their way to the result.
pub(super) struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    description: pg_sys::TupleDesc,
    range_type: *mut pg_sys::TypeCacheEntry,
    ends: Ends,
}

impl Rows {
    /// For the function's [`result_of`]. `ends`: of the window.
    pub fn begin(fcinfo: pg_sys::FunctionCallInfo, ends: Ends) -> Self {
        let (store, description) = result_of(fcinfo);
        Rows { store, description, range_type: super::multirange::range_type(), ends }
    }

    /// A row an interval: `(tstzrange)`.
    pub fn put_ranges(&mut self, intervals: &[MicroWindow]) {
        self.put(pg_sys::Datum::from(0), 0, intervals);
    }

    /// A row an interval, of `(text, tstzrange)`.
    pub fn put_named_ranges(&mut self, name: &str, intervals: &[MicroWindow]) {
        if !intervals.is_empty() {
            self.put(name.into_datum().unwrap_or(pg_sys::Datum::from(0)), 1, intervals);
        }
    }

    /// A row of `(tstzrange, anything)`.
    pub fn put_range_with(&mut self, interval: MicroWindow, with: pg_sys::Datum) {
        self.put_beside(with, 1, 0, &[interval]);
    }

    fn put(&mut self, other: pg_sys::Datum, at: usize, intervals: &[MicroWindow]) {
        self.put_beside(other, 0, at, intervals);
    }

    /// Rows with a range at one place, and this at another where that differs.
    fn put_beside(&mut self, other: pg_sys::Datum, other_at: usize, range_at: usize, intervals: &[MicroWindow]) {
        let mut values = [pg_sys::Datum::from(0); 2];
        values[other_at] = other;
        let (values, nulls) = (&mut values, [false; 2]);
        // SAFETY: the SQL declaration gives the columns these types. In the guarded loop nothing has a destructor and
        // nothing panics: both places are 0 or 1. tuplestore_putvalues() copies the range.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                for interval in intervals {
                    if pg_sys::InterruptPending != 0 {
                        raw::ProcessInterrupts();
                    }
                    let range = raw::range_serialize(
                        self.range_type,
                        &mut self.ends.lower(interval.start()),
                        &mut self.ends.upper(interval.end()),
                        false,
                    );
                    values[range_at & 1] = pg_sys::Datum::from(range);
                    raw::tuplestore_putvalues(self.store, self.description, values.as_ptr(), nulls.as_ptr());
                    raw::pfree(range.cast());
                }
            });
        }
    }
}

/// Half open, as all our ranges are.
fn bound(moment: Micros, lower: bool) -> pg_sys::RangeBound {
    pg_sys::RangeBound { val: pg_sys::Datum::from(moment), infinite: false, inclusive: lower, lower }
}
