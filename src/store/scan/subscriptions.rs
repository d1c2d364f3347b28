//! The rows of `calsync.subscription`, by name.

use std::cell::Cell;
use std::ops::ControlFlow;

use pgrx::pg_sys;
use pgrx::{FromDatum, IntoDatum};

use super::super::home;
use super::super::layout::Source;
use super::{Fields, Scan, scan_key};
use crate::error::Error;

thread_local! {
    pub(super) static SUBSCRIPTION: Source<11> = const { Source {
        table: c"subscription",
        index: c"subscription_calendar_idx",
        columns: [
            (c"calendar", pg_sys::TEXTOID),
            (c"subscription_id", pg_sys::INT8OID),
            (c"provider", pg_sys::TEXTOID),
            (c"owner", pg_sys::NAMEOID),
            (c"home", pg_sys::TEXTOID),
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
}

/// The columns of `SUBSCRIPTION`.
#[derive(Clone, Copy)]
pub enum Column {
    Calendar,
    SubscriptionId,
    Provider,
    Owner,
    Home,
    MaxStaleness,
    State,
    Covered,
    SyncedAt,
    GoneAt,
    LastError,
}

/// `calsync.subscription`, by name.
pub struct Subscriptions {
    scan: Scan<11>,
    /// One for the look-up of a name, none for all.
    key: Option<pg_sys::ScanKeyData>,
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
        let key = by_name.then(|| {
            // SAFETY: an open index has a collation for each key column.
            let collation = unsafe { *(*scan.open.index).rd_indcollation };
            scan_key(1, pg_sys::BTEqualStrategyNumber, pg_sys::F_TEXTEQ, collation)
        });
        Ok(Subscriptions { scan, key })
    }

    /// The home of what is made here.
    pub fn home(&self) -> String {
        // SAFETY: the table is open.
        home::of(unsafe { (*self.scan.open.table).rd_id })
    }

    /// Hands each row of this name to `read`, whoever owns it; from [`Self::all`], each row, by name.
    pub fn each(&mut self, name: &str, mut read: impl FnMut(&Row) -> Result<(), Error>) -> Result<(), Error> {
        if let Some(key) = &mut self.key {
            key.sk_argument = name.into_datum().unwrap_or(pg_sys::Datum::from(0));
        }
        self.scan.each(self.key.as_mut_slice(), |fields| read(&Row(fields)).map(ControlFlow::Continue))
    }
}

/// A row of `calsync.subscription`, while `read` looks at it.
pub struct Row<'a>(&'a Fields<'a, 11>);

impl Row<'_> {
    /// None: null. `T` must be what [`SUBSCRIPTION`] says.
    pub fn get<T: FromDatum>(&self, column: Column) -> Option<T> {
        self.0.get(column as usize)
    }
}
