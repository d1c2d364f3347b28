//! What of `calsync.share` was accepted, by subscription: what is only offered, or was refused, counts for nothing.
//!
//! An offer is the owner's row, the answer to it, in `calsync.share_answer`, the guest's: neither ever waits for the other.

use std::cell::Cell;
use std::ffi::CStr;
use std::ops::ControlFlow;

use pgrx::datum::Uuid;
use pgrx::{IntoDatum, pg_sys};

use super::super::layout::Source;
use super::{Scan, scan_key};
use crate::error::Error;

thread_local! {
    pub(super) static SHARE: Source<3> = const { Source {
        table: c"share",
        index: c"share_pkey",
        columns: [
            (c"subscription_id", pg_sys::INT8OID),
            (c"role", pg_sys::NAMEOID),
            (c"offer", pg_sys::UUIDOID),
        ],
        indexed: &[0, 1],
        unique: true,
        known: Cell::new(None),
    } };
    pub(super) static SHARE_ANSWER: Source<3> = const { Source {
        table: c"share_answer",
        index: c"share_answer_pkey",
        columns: [
            (c"subscription_id", pg_sys::INT8OID),
            (c"offer", pg_sys::UUIDOID),
            (c"accepted", pg_sys::BOOLOID),
        ],
        indexed: &[0, 1],
        unique: true,
        known: Cell::new(None),
    } };
}

pub struct Shares {
    offers: Scan<3>,
    /// One for those of a subscription, none for all.
    key: Option<pg_sys::ScanKeyData>,
    answers: Answers,
}

impl Shares {
    pub fn by_subscription() -> Result<Self, Error> {
        Self::open(true)
    }

    pub fn all() -> Result<Self, Error> {
        Self::open(false)
    }

    fn open(by_subscription: bool) -> Result<Self, Error> {
        let offers = SHARE.with(|source| Scan::begin(source, by_subscription.into(), false))?;
        let key = by_subscription.then(of_subscription);
        Ok(Shares { offers, key, answers: Answers::open()? })
    }

    /// Those of this subscription; nothing but [`Self::by_subscription`] takes one.
    pub fn of(&mut self, subscription: i64) -> &mut Self {
        if let Some(key) = &mut self.key {
            key.sk_argument = pg_sys::Datum::from(subscription);
        }
        self
    }

    /// Hands the subscription of each share with a role that `concerns` says yes to, and that counts, to `read`, until that
    /// has seen enough.
    pub fn each(
        &mut self,
        concerns: impl Fn(&CStr) -> bool,
        mut read: impl FnMut(i64) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let answers = &mut self.answers;
        self.offers.each(self.key.as_mut_slice(), |offer| {
            let (Some(subscription), Some(role), Some(name)) = (offer.get(0), offer.get(1), offer.get(2)) else {
                return Ok(ControlFlow::Continue(()));
            };
            if concerns(role) && answers.accepted(subscription, name)? {
                return Ok(read(subscription));
            }
            Ok(ControlFlow::Continue(()))
        })
    }
}

struct Answers {
    scan: Scan<3>,
    keys: [pg_sys::ScanKeyData; 2],
}

impl Answers {
    fn open() -> Result<Self, Error> {
        let scan = SHARE_ANSWER.with(|source| Scan::begin(source, 2, false))?;
        let of_offer = scan_key(2, pg_sys::BTEqualStrategyNumber, pg_sys::F_UUID_EQ, pg_sys::InvalidOid);
        Ok(Answers { scan, keys: [of_subscription(), of_offer] })
    }

    fn accepted(&mut self, subscription: i64, offer: Uuid) -> Result<bool, Error> {
        self.keys[0].sk_argument = pg_sys::Datum::from(subscription);
        self.keys[1].sk_argument = offer.into_datum().unwrap_or(pg_sys::Datum::from(0));
        let mut accepted = false;
        self.scan.each(&mut self.keys, |answer| {
            accepted = answer.get(2).unwrap_or(false);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(accepted)
    }
}

fn of_subscription() -> pg_sys::ScanKeyData {
    scan_key(1, pg_sys::BTEqualStrategyNumber, pg_sys::F_INT8EQ, pg_sys::InvalidOid)
}
