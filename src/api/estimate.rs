//! How many rows the set-returning functions will return: what the planner asks before it joins them.
//!
//! A guess from the length of the window, where it is known at planning time (a constant, or a stable expression such as
//! `tstzrange(now(), now() + '14 days')`). A window that differs from row to row of a join is taken to be a day, since
//! rows have meetings rather than years. Where nothing is known, the ROWS of the declaration stand.

use std::ffi::c_int;

use pgrx::datum::{Array, FromDatum};
use pgrx::prelude::*;
use pgrx::{Internal, pg_sys};

use super::availability::{TimeRange, window};

/// A busy calendar has so many intervals a day, as long as weekends are days, too.
const INTERVALS_A_DAY: f64 = 3.0;
/// How many calendars there are where that is not known.
const SOME_CALENDARS: usize = 3;
/// The length of a window that differs from row to row.
const DAYS_OF_A_ROW: f64 = 1.0;
/// Of the steps in a window without hours so many are slots, and of one with hours.
const OPEN_STEPS: (f64, f64) = (0.7, 0.15);
/// What a window that nobody will ever want still gets.
const MOST_ROWS: f64 = 100_000.0;

#[pg_extern(sql = false)]
fn calsync_busy_rows(request: Internal) -> Internal {
    answer(request, |call| {
        let calendars = call.elements(1).unwrap_or(SOME_CALENDARS);
        Some(call.days()? * INTERVALS_A_DAY * calendars as f64)
    })
}

#[pg_extern(sql = false)]
fn calsync_free_rows(request: Internal) -> Internal {
    answer(request, |call| Some(call.days()? * INTERVALS_A_DAY + 1.0))
}

#[pg_extern(sql = false)]
fn calsync_slots_rows(request: Internal) -> Internal {
    answer(request, |call| {
        let step = call.value::<pgrx::datum::Interval>(3)?;
        let step_in_days = f64::from(step.days()) + step.micros() as f64 / 86_400e6;
        let open = if call.is_null(5) { OPEN_STEPS.0 } else { OPEN_STEPS.1 };
        if step_in_days <= 0.0 {
            return None;
        }
        let slots = call.days()? / step_in_days * open;
        Some(call.value::<i32>(9).map_or(slots, |most| slots.min(f64::from(most))))
    })
}

/// A call that is being planned.
struct Call {
    root: *mut pg_sys::PlannerInfo,
    arguments: *mut pg_sys::List,
}

impl Call {
    /// An argument, if it is known by now.
    fn constant(&self, position: c_int) -> Option<&pg_sys::Const> {
        let value = self.reduced(position)?;
        // SAFETY: the tag says what it is.
        unsafe { ((*value).type_ == pg_sys::NodeTag::T_Const).then(|| &*value.cast::<pg_sys::Const>()) }
    }

    /// An argument, as far as it can be computed by now: a node of the planner, which lives as long as planning does.
    fn reduced(&self, position: c_int) -> Option<*mut pg_sys::Node> {
        // SAFETY: the list has so many nodes.
        unsafe {
            if self.arguments.is_null() || position >= (*self.arguments).length {
                return None;
            }
            let argument = pg_sys::list_nth(self.arguments, position).cast();
            Some(pg_sys::estimate_expression_value(self.root, argument))
        }
    }

    /// How many elements an array has: one that is known, or one that is written out, as in `ARRAY[host, 'room']`.
    fn elements(&self, position: c_int) -> Option<usize> {
        if let Some(known) = self.value::<Array<'_, &str>>(position) {
            return Some(known.len());
        }
        let array = self.reduced(position)?;
        // SAFETY: the tag says what it is; a list of no elements is null.
        unsafe {
            if (*array).type_ != pg_sys::NodeTag::T_ArrayExpr {
                return None;
            }
            let array = &*array.cast::<pg_sys::ArrayExpr>();
            let elements = if array.elements.is_null() { 0 } else { (*array.elements).length };
            (!array.multidims).then_some(elements.max(0) as usize)
        }
    }

    /// Whether an argument differs from row to row.
    fn varies(&self, position: c_int) -> bool {
        // SAFETY: a node of the planner.
        self.reduced(position).is_some_and(|argument| unsafe { pg_sys::contain_var_clause(argument) })
    }

    /// `T` must be what the SQL declaration says.
    fn value<T: FromDatum>(&self, position: c_int) -> Option<T> {
        let constant = self.constant(position)?;
        // SAFETY: the caller names the type of the argument.
        unsafe { T::from_datum(constant.constvalue, constant.constisnull) }
    }

    fn is_null(&self, position: c_int) -> bool {
        self.constant(position).is_some_and(|constant| constant.constisnull)
    }

    /// The length of the window, the first argument.
    fn days(&self) -> Option<f64> {
        if self.varies(0) {
            return Some(DAYS_OF_A_ROW);
        }
        let window = window(self.value::<TimeRange>(0)?).ok()??;
        Some(window.end().saturating_sub(window.start()) as f64 / 86_400e6)
    }
}

/// What a planner support function returns: the request where it was answered, NULL where not.
fn answer(request: Internal, estimate: impl FnOnce(&Call) -> Option<f64>) -> Internal {
    let answered = request.unwrap().and_then(|datum| {
        let node = datum.cast_mut_ptr::<pg_sys::Node>();
        // SAFETY: Postgres passes a node whose tag says what it is; see "Function Optimization Information".
        unsafe {
            if (*node).type_ != pg_sys::NodeTag::T_SupportRequestRows {
                return None;
            }
            let request = &mut *node.cast::<pg_sys::SupportRequestRows>();
            if request.node.is_null() || (*request.node).type_ != pg_sys::NodeTag::T_FuncExpr {
                return None;
            }
            let arguments = (*request.node.cast::<pg_sys::FuncExpr>()).args;
            request.rows = estimate(&Call { root: request.root, arguments })?.clamp(1.0, MOST_ROWS);
            Some(datum)
        }
    });
    Internal::from(Some(answered.unwrap_or(pg_sys::Datum::from(0))))
}
