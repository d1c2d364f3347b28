//! `tstzmultirange`, which pgrx does not know, between Rust and Postgres.

use std::ffi::c_int;

use calsync_core::interval::coalesce;
use pgrx::datum::FromDatum;
use pgrx::{AnyElement, pg_sys};

use super::availability::{TimeRange, window};
use super::rows::Ends;
use crate::error::Error;
use crate::store::availability::MicroWindow;

// Of utils/multirangetypes.h; the same in Postgres 14 to 18.
unsafe extern "C-unwind" {
    fn multirange_deserialize(
        rangetyp: *mut pg_sys::TypeCacheEntry,
        multirange: *const pg_sys::varlena,
        range_count: *mut i32,
        ranges: *mut *mut *mut pg_sys::varlena,
    );
    fn make_multirange(
        mltrngtypoid: pg_sys::Oid,
        rangetyp: *mut pg_sys::TypeCacheEntry,
        range_count: i32,
        ranges: *mut *mut pg_sys::varlena,
    ) -> *mut pg_sys::varlena;
}

/// More intervals in one multirange are refused, as argument and as result: Postgres makes and takes apart a multirange
/// as a whole, which cannot be cancelled meanwhile.
const MOST_INTERVALS: usize = 1_000_000;

/// The head of a multirange in memory, of utils/multirangetypes.h; the same in Postgres 14 to 18.
#[repr(C)]
struct Head {
    length: i32,
    multirange_type: pg_sys::Oid,
    count: u32,
}

/// The intervals of an argument that the SQL declaration gives the type tstzmultirange.
pub(super) fn read(argument: &AnyElement, name: &str) -> Result<Vec<MicroWindow>, Error> {
    // SAFETY: the datum is a tstzmultirange, detoasted here, and so aligned as its head asks.
    let (multirange, all) = unsafe {
        let multirange = pg_sys::pg_detoast_datum(argument.datum().cast_mut_ptr());
        (multirange, (*multirange.cast::<Head>()).count as usize)
    };
    if all > MOST_INTERVALS {
        return Err(Error::too_much(
            format!("{name} has {all} intervals, more than {MOST_INTERVALS}"),
            format!("Pass only what of it meets the window: {name} * tstzmultirange(during)."),
        ));
    }
    let (mut count, mut ranges) = (0, std::ptr::null_mut());
    // SAFETY: what is returned lives as long as the call's memory context.
    let ranges: &[*mut pg_sys::varlena] = unsafe {
        multirange_deserialize(range_type(), multirange, &mut count, &mut ranges);
        if count == 0 { &[] } else { std::slice::from_raw_parts(ranges, count as usize) }
    };
    let mut intervals = Vec::with_capacity(ranges.len());
    for range in ranges {
        pgrx::check_for_interrupts!();
        // SAFETY: each is a tstzrange.
        let range = unsafe { TimeRange::from_datum(pg_sys::Datum::from(*range), false) };
        let range = range.ok_or_else(|| Error::Internal("a range of a multirange is null".to_owned()))?;
        intervals.extend(window(range)?);
    }
    // They are disjoint and in order; but what is exclusive or inclusive to Postgres may touch to us.
    Ok(coalesce(intervals))
}

/// For returning from a function that the SQL declaration gives the type tstzmultirange.
pub(super) fn write(intervals: &[MicroWindow], ends: Ends) -> Result<AnyElement, Error> {
    if intervals.len() > MOST_INTERVALS {
        return Err(Error::too_much(
            format!("the answer would have more than {MOST_INTERVALS} intervals"),
            "Ask for fewer calendars at once, or for a shorter window.",
        ));
    }
    let mut ranges = ends.ranges(intervals);
    // SAFETY: the ranges are not null and of the type that the cache entry is for; the result is palloc'd.
    let multirange = unsafe {
        let made = make_multirange(
            pg_sys::TSTZMULTIRANGEOID,
            range_type(),
            ranges.len() as i32,
            if ranges.is_empty() { std::ptr::null_mut() } else { ranges.as_mut_ptr() },
        );
        AnyElement::from_polymorphic_datum(pg_sys::Datum::from(made), false, pg_sys::TSTZMULTIRANGEOID)
    };
    multirange.ok_or_else(|| Error::Internal("no multirange was made".to_owned()))
}

pub(super) fn range_type() -> *mut pg_sys::TypeCacheEntry {
    // SAFETY: a look-up of a built-in type; the entry lives as long as the session.
    unsafe { pg_sys::lookup_type_cache(pg_sys::TSTZRANGEOID, pg_sys::TYPECACHE_RANGE_INFO as c_int) }
}
