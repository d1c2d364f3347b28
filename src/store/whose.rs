//! Whose calendars a unit of work may concern: the worker's concern everybody's, a session's its own role's.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::owner;
use crate::error::Error;

/// Owners of calendars, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose(Option<Vec<String>>);

impl Whose {
    pub const EVERYBODYS: Whose = Whose(None);

    /// Of the roles that `role` is a member of; everybody's, where it may do everything here.
    pub fn of(role: pg_sys::Oid) -> Result<Self, Error> {
        if owner::may_do_everything(role)? {
            return Ok(Self::EVERYBODYS);
        }
        Spi::connect(|client| {
            let sql = "SELECT r.rolname::text FROM pg_catalog.pg_roles AS r WHERE pg_has_role($1::oid, r.oid, 'USAGE')";
            let table = client.select(sql, None, &[role.into()])?;
            let owners = table.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect::<Result<_, Error>>()?;
            Ok(Whose(Some(owners)))
        })
    }

    /// For a parameter of [`is_theirs`].
    pub fn parameter(&self) -> DatumWithOid<'static> {
        self.0.clone().into()
    }
}

/// The condition that `owner`, a column, is one of those of parameter `$number`.
pub fn is_theirs(owner: &str, number: u32) -> String {
    format!("(${number}::text[] IS NULL OR {owner} = ANY (${number}::text[]::name[]))")
}

/// The same, of the owner of the calendar whose `subscription_id` this column is.
pub fn is_of_theirs(subscription_id: &str, number: u32) -> String {
    format!(
        "(${number}::text[] IS NULL OR EXISTS (SELECT FROM calsync.subscription AS whose \
         WHERE whose.subscription_id = {subscription_id} AND whose.owner = ANY (${number}::text[]::name[])))"
    )
}
