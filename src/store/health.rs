//! How the calendars of a role stand, in numbers.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::settings;

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
    /// Not asked, because their URL is refused (SC008).
    pub refused_url: i64,
    /// Events that could not be understood.
    pub flagged: i64,
}

impl Calendars {
    /// How many are in this state.
    pub fn in_state(&self, state: &str) -> i64 {
        self.by_state.get(state).and_then(Value::as_i64).unwrap_or_default()
    }
}

pub fn calendars(ids: Vec<i64>) -> Result<Calendars, Error> {
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
                     (SELECT count(*) FROM calsync.event AS e \
                      WHERE e.subscription_id = ANY ($1) AND e.problem IS NOT NULL) \
                 FROM (SELECT s.*, s.next_sync_at <= now() AND s.provider <> 'none' AND s.state <> 'paused' AS is_due \
                       FROM calsync.subscription AS s WHERE s.subscription_id = ANY ($1)) AS s",
                None,
                &[ids.into(), (settings::max_staleness() as f64).into()],
            )?
            .first();
        Ok(Calendars {
            by_state,
            due: table.get(1)?.unwrap_or_default(),
            oldest_due: table.get(2)?,
            oldest_synced_at: table.get(3)?,
            stale: table.get(4)?.unwrap_or_default(),
            never_synced: table.get(5)?.unwrap_or_default(),
            refused_url: table.get(6)?.unwrap_or_default(),
            flagged: table.get(7)?.unwrap_or_default(),
        })
    })
}
