//! Why a calendar does not answer, and what makes it answer.

use super::literal;

/// Why the cache cannot answer for a window.
#[derive(Debug, Clone)]
pub enum NotCovered {
    NeverSynced {
        last_error: Option<String>,
        fed_by_application: bool,
    },
    /// It came from another database, and is not taken over yet.
    Foreign,
    Outside {
        from: String,
        to: String,
        earlier: bool,
        needed: Option<String>,
    },
}

/// Why what the cache holds is too old to answer from.
#[derive(Debug, Clone)]
pub enum Stale {
    Old { synced_at: String, limit: String, last_error: Option<String>, remedy: Remedy },
    Gone { last_error: Option<String> },
}

/// What makes a stale calendar fresh again.
#[derive(Debug, Clone, Copy)]
pub enum Remedy {
    /// The application feeds it.
    Feed,
    Resume,
    /// `own_limit`: its option `max_staleness` is in force, not the setting.
    Sync {
        own_limit: bool,
    },
}

impl NotCovered {
    pub(super) fn detail_and_hint(&self, calendar: &str) -> (String, String) {
        match self {
            NotCovered::NeverSynced { last_error: Some(error), .. } => (
                format!("It has never been synced. The last try failed: {error}"),
                "Mend the cause, then SELECT calsync_sync(); calsync.status shows how it goes.".into(),
            ),
            NotCovered::NeverSynced { fed_by_application: true, .. } => (
                "Nothing has come for it yet: the application feeds it.".into(),
                "Feed it with SELECT calsync_apply_delta(...).".into(),
            ),
            NotCovered::NeverSynced { .. } => (
                "It has never been synced.".into(),
                format!(
                    "Wait for the worker, or CALL calsync_run(); SELECT * FROM calsync_coverage(ARRAY['{}']) shows \
                     how it stands.",
                    literal(calendar)
                ),
            ),
            NotCovered::Foreign => (
                "It came from another database (a restore, a copy), and is not taken over yet: not all of it may have \
                 come."
                    .into(),
                format!(
                    "The worker takes it over once nobody has restored for ten seconds; where no worker runs, CALL \
                     calsync_run(), or SELECT calsync_repair(ARRAY['{}']).",
                    literal(calendar)
                ),
            ),
            NotCovered::Outside { from, to, earlier, needed } => (
                format!("The cache holds it from {from} to {to}."),
                match (needed, *earlier) {
                    (Some(needed), true) => {
                        format!("Raise calsync.retention to at least '{needed}' and reload, or ask for a later window.")
                    }
                    (Some(needed), false) => {
                        format!(
                            "Raise calsync.horizon to at least '{needed}' and reload, or ask for an earlier window."
                        )
                    }
                    (None, true) => "Ask for a window that begins later.".into(),
                    (None, false) => "Ask for a window that ends earlier.".into(),
                },
            ),
        }
    }
}

impl Stale {
    pub(super) fn detail_and_hint(&self, calendar: &str) -> (String, String) {
        match self {
            Stale::Gone { last_error } => (
                format!(
                    "The provider no longer knows it: {}",
                    last_error.as_deref().unwrap_or("it answered \"not found\" for hours")
                ),
                format!(
                    "Share it again with the credential and SELECT calsync_sync('{0}'), or SELECT \
                     calsync_unsubscribe('{0}').",
                    literal(calendar)
                ),
            ),
            Stale::Old { synced_at, limit, last_error, remedy } => (
                match last_error {
                    Some(error) => {
                        format!("Last synced at {synced_at}, the limit is {limit}. The last try failed: {error}")
                    }
                    None => format!("Last synced at {synced_at}, the limit is {limit}."),
                },
                match remedy {
                    Remedy::Feed => {
                        "Feed it with SELECT calsync_apply_delta(...); the limit is its option max_staleness.".into()
                    }
                    Remedy::Resume => format!("It is paused: SELECT calsync_resume('{}').", literal(calendar)),
                    Remedy::Sync { own_limit: true } => "See calsync.status, then SELECT calsync_sync() or CALL \
                         calsync_run(); the limit is its option max_staleness."
                        .into(),
                    Remedy::Sync { own_limit: false } => "See calsync.status, then SELECT calsync_sync() or CALL \
                         calsync_run(); to accept older data, raise calsync.max_staleness."
                        .into(),
                },
            ),
        }
    }
}
