//! `calsync_apply_delta`.

use pgrx::AnyElement;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::prelude::*;

use super::{jsonb_text, required};
use crate::error::{Error, Report};
use crate::store::delta::{self, Applied};
use crate::store::owner::{as_writing_owner, caller};

#[pg_extern(sql = false)]
fn calsync_apply_delta(delta: Option<AnyElement>) -> pgrx::composite_type!('static, "calsync.delta_result") {
    let apply = || -> Result<Applied, Error> {
        let delta = required(delta, "delta")?;
        let role = caller();
        as_writing_owner(c"calsync_apply_delta()", || delta::apply(role, jsonb_text(&delta)))
    };
    let applied = apply().report();
    as_composite(applied).report()
}

fn as_composite(applied: Applied) -> Result<PgHeapTuple<'static, AllocatedByRust>, Error> {
    let broken = |error: pgrx::heap_tuple::PgHeapTupleError| Error::Internal(error.to_string());
    let mut row = PgHeapTuple::new_composite_type("calsync.delta_result").map_err(broken)?;
    let set =
        |result: Result<(), pgrx::datum::TryFromDatumError>| result.map_err(|error| Error::Internal(error.to_string()));
    set(row.set_by_name("calendar", applied.calendar))?;
    set(row.set_by_name("inserted", applied.counts.inserted))?;
    set(row.set_by_name("updated", applied.counts.updated))?;
    set(row.set_by_name("deleted", applied.counts.deleted))?;
    set(row.set_by_name("unchanged", applied.counts.unchanged))?;
    set(row.set_by_name("full_sync", applied.full_sync))?;
    set(row.set_by_name("complete", applied.complete))?;
    set(row.set_by_name("sync_token", applied.sync_token))?;
    Ok(row)
}
