//! How the calendars of a role stand, in numbers.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use super::channel::{WATCHES, live};
use super::home;
use crate::error::Error;
use crate::settings::{self, Webhook};

/// The numbers that a monitor watches.
#[derive(Debug)]
pub struct Calendars {
    /// How many there are, a state.
    pub by_state: Map<String, Value>,
    pub due: i64,
    pub oldest_due: Option<TimestampWithTimeZone>,
    pub oldest_synced_at: Option<TimestampWithTimeZone>,
    /// Synced once, and refused answers now (SC003).
    pub stale: i64,
    pub never_synced: i64,
    /// Came from another database, and are not taken over yet: they answer nothing.
    pub foreign: i64,
    /// Not asked, because their URL is refused (SC008).
    pub refused_url: i64,
    /// Not asked, because the secret of their credential cannot be opened, and why; of the role's own ones.
    pub unopened: i64,
    pub why_unopened: Option<String>,
    /// Events that could not be understood.
    pub flagged: i64,
    /// The provider tells of their changes.
    pub pushed: i64,
    /// A push channel is open, and no message has come of it in ten minutes.
    pub unconfirmed: i64,
    /// Why the last channel to the present address was refused that concerns every calendar of its credential.
    pub address_refused: Option<String>,
}

impl Calendars {
    /// How many are in this state.
    pub fn in_state(&self, state: &str) -> i64 {
        self.by_state.get(state).and_then(Value::as_i64).unwrap_or_default()
    }
}

/// `ids`: all that the role may see; `owned`: of those its own.
pub fn calendars(ids: Vec<i64>, owned: Vec<i64>) -> Result<Calendars, Error> {
    let address = match settings::webhook() {
        Webhook::Address(address) => address,
        Webhook::None | Webhook::Unusable(_) => String::new(),
    };
    let live = live();
    Spi::connect(|client| {
        let mut by_state = Map::new();
        let states = client.select(
            "SELECT every.state::text, count(s.subscription_id) \
             FROM unnest(enum_range(NULL::calsync.subscription_state)) AS every (state) \
             LEFT JOIN calsync.subscription AS s ON s.state = every.state AND s.subscription_id = ANY ($1) \
             GROUP BY every.state ORDER BY every.state",
            None,
            &[ids.clone().into()],
        )?;
        for row in states {
            let count = row.get::<i64>(2)?.unwrap_or_default();
            by_state.insert(row.get::<String>(1)?.unwrap_or_default(), json!(count));
        }
        let table = client
            .select(
                "SELECT count(*) FILTER (WHERE is_due), min(next_sync_at) FILTER (WHERE is_due), min(synced_at), \
                     count(*) FILTER (WHERE gone_at IS NOT NULL OR synced_at < now() - coalesce(max_staleness, \
                         CASE WHEN provider <> 'none' THEN make_interval(secs => $2) END)), \
                     count(*) FILTER (WHERE synced_at IS NULL), \
                     count(*) FILTER (WHERE failing_as = 'refused_url'), \
                     count(*) FILTER (WHERE home <> $3), \
                     (SELECT count(*) FROM calsync.event AS e \
                      WHERE e.subscription_id = ANY ($1) AND e.problem IS NOT NULL) \
                 FROM (SELECT s.*, s.next_sync_at <= now() AND s.provider <> 'none' AND s.state <> 'paused' AS is_due \
                       FROM calsync.subscription AS s WHERE s.subscription_id = ANY ($1)) AS s",
                None,
                &[ids.clone().into(), (settings::max_staleness() as f64).into(), home::ours()?.into()],
            )?
            .first();
        let push = client
            .select(
                &format!(
                    "SELECT count(*) FILTER (WHERE EXISTS (SELECT FROM calsync.channel AS ch WHERE {WATCHES} AND {live})), \
                         count(*) FILTER (WHERE EXISTS ( \
                             SELECT FROM calsync.channel AS ch WHERE {WATCHES} AND ch.state = 'open' \
                                 AND ch.confirmed_at IS NULL AND ch.opened_at < now() - interval '10 minutes')), \
                         (SELECT r.last_error FROM calsync.channel AS r WHERE r.refused_for = 'address' \
                              AND r.address = $2 AND r.owner = ANY (array_agg(s.owner) FILTER (WHERE s.subscription_id = ANY ($3))) \
                          ORDER BY r.requested_at DESC LIMIT 1) \
                     FROM calsync.subscription AS s WHERE s.subscription_id = ANY ($1)"
                ),
                None,
                &[ids.into(), address.into(), owned.clone().into()],
            )?
            .first();
        let sealed = client
            .select(
                "SELECT count(*), min(c.last_error) FROM calsync.subscription AS s \
                 JOIN calsync.credential AS c ON c.owner = s.owner AND c.name = s.credential \
                 WHERE s.subscription_id = ANY ($1) AND s.state <> 'paused' AND c.unopened_at IS NOT NULL",
                None,
                &[owned.into()],
            )?
            .first();
        Ok(Calendars {
            by_state,
            due: table.get(1)?.unwrap_or_default(),
            oldest_due: table.get(2)?,
            oldest_synced_at: table.get(3)?,
            stale: table.get(4)?.unwrap_or_default(),
            never_synced: table.get(5)?.unwrap_or_default(),
            foreign: table.get(7)?.unwrap_or_default(),
            refused_url: table.get(6)?.unwrap_or_default(),
            unopened: sealed.get(1)?.unwrap_or_default(),
            why_unopened: sealed.get(2)?,
            flagged: table.get(8)?.unwrap_or_default(),
            pushed: push.get(1)?.unwrap_or_default(),
            unconfirmed: push.get(2)?.unwrap_or_default(),
            address_refused: push.get(3)?,
        })
    })
}
