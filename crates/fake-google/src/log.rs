//! What was asked of the fake.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::http::Request;

/// The log forgets its oldest entries beyond this.
const KEEP: usize = 100_000;
/// No more of a body is kept.
const BODY: usize = 16 << 10;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEntry {
    pub number: u64,
    /// RFC 3339, by the fake's own clock.
    pub time: String,
    pub method: String,
    /// As sent, without the query.
    pub path: String,
    /// The calendar the path names, decoded.
    pub calendar: Option<String>,
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// 0 until answered.
    pub status: u16,
    /// The fault that was played.
    pub fault: Option<String>,
}

impl LogEntry {
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<LogEntry>,
    last: u64,
}

impl Log {
    /// Notes a request when it arrives, so that one which is never answered is seen too.
    pub fn arrive(&mut self, request: &Request, calendar: Option<&str>, time: String, fault: Option<String>) -> u64 {
        self.last += 1;
        let body = &request.body[..request.body.len().min(BODY)];
        self.entries.push_back(LogEntry {
            number: self.last,
            time,
            method: request.method.clone(),
            path: request.path().to_owned(),
            calendar: calendar.map(str::to_owned),
            query: request.query.clone(),
            headers: request.headers.clone(),
            body: String::from_utf8_lossy(body).into_owned(),
            status: 0,
            fault,
        });
        if self.entries.len() > KEEP {
            self.entries.pop_front();
        }
        self.last
    }

    pub fn answer(&mut self, number: u64, status: u16) {
        if let Some(entry) = self.entries.iter_mut().rev().find(|entry| entry.number == number) {
            entry.status = status;
        }
    }

    pub fn entries(&self) -> Vec<LogEntry> {
        self.entries.iter().cloned().collect()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}
