//! Whose trouble is it that a user of a credential is granted no access token: this user's, or everybody's?
//!
//! A service account can ask for each calendar as the user whom it is named for. Of some refusals ("unauthorized_client")
//! Google does not say whether they concern this user, who may be of another company, or all, since the domain has not
//! delegated. What tells is whether another user of the same credential is granted a token. The rule:
//!
//! - Somebody was granted one lately: the trouble is this user's, and nobody else hears of it.
//! - Else the credential is in doubt. One of its calendars after the other is asked for, first after a second, then ever
//!   later up to once an hour; never two together. Whoever was refused is asked again after all others.
//! - When three in a row were refused all its calendars say so; until then the others just wait.
//! - As soon as one user is granted a token the doubt has ended, and all come back.
//!
//! So one bad name costs the others some seconds at most, and a domain that has not delegated costs a dozen requests
//! in the first hour and one an hour from then on, however many calendars it has.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::schedule::{DAY, backoff, later};

/// As long as a token lives: whoever is granted one at all, and polled, was granted one since.
pub const LATELY: Duration = Duration::from_secs(3600);
/// So many refusals in a row, with no grant between, are not one bad name.
const CONVINCING: u32 = 3;

/// What is known of a credential when one of its users is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// When any user of it was last granted a token.
    pub granted_at: Option<DateTime<Utc>>,
    /// How many calendars were refused one after the other since then.
    pub doubts: u32,
}

/// Whom a refusal concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concerns {
    ThisUser,
    /// Perhaps the credential: another of its calendars is asked for at `until`, and none before.
    Doubt {
        doubts: u32,
        until: DateTime<Utc>,
        /// All its calendars say that it is refused.
        convincing: bool,
    },
}

/// Weighs a refusal that does not say whom it concerns. `probes`: the calendar was asked for because of the doubt. Others that
/// were under way when it arose add nothing to it: they were all asked at the same time. `wish`: the provider's Retry-After.
pub fn weigh(now: DateTime<Utc>, standing: Standing, probes: bool, wish: Option<Duration>, random: f64) -> Concerns {
    let Standing { granted_at, doubts } = standing;
    if granted_at.is_some_and(|granted_at| later(granted_at, LATELY) > now) {
        return Concerns::ThisUser;
    }
    let doubts = if probes || doubts == 0 { doubts.saturating_add(1) } else { doubts };
    let wait = backoff(doubts - 1, random).max(wish.unwrap_or_default().min(DAY));
    Concerns::Doubt { doubts, until: later(now, wait), convincing: doubts >= CONVINCING }
}
