//! A real quota, for those who want to see a client keep below it: requests per user and sliding minute.
//!
//! <https://developers.google.com/workspace/calendar/api/guides/quota>

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};

use crate::error::ApiError;
use crate::http::Request;

#[derive(Debug, Default)]
pub struct Quota {
    per_minute: Option<u32>,
    /// By the access token, which stands for the user.
    spent: BTreeMap<String, VecDeque<DateTime<Utc>>>,
}

impl Quota {
    pub fn set(&mut self, per_minute: Option<u32>) {
        self.per_minute = per_minute;
        self.spent.clear();
    }

    pub fn limit(&self) -> Option<u32> {
        self.per_minute
    }

    /// Counts the request, or refuses it; a refused one costs nothing.
    pub fn spend(&mut self, request: &Request, now: DateTime<Utc>) -> Result<(), ApiError> {
        let Some(limit) = self.per_minute else { return Ok(()) };
        let spent = self.spent.entry(request.header("authorization").unwrap_or_default().to_owned()).or_default();
        while spent.front().is_some_and(|then| now - *then >= TimeDelta::minutes(1)) {
            spent.pop_front();
        }
        if spent.len() >= limit as usize {
            return Err(ApiError::new(403, "rateLimitExceeded", "Rate Limit Exceeded").in_domain("usageLimits"));
        }
        spent.push_back(now);
        Ok(())
    }
}
