//! What the stories share: a client that says what it got, and events in few words.

#![allow(dead_code)] // Every test file is a crate of its own and uses its own part of this.

use fake_google::{FakeGoogle, NewCalendar};
use serde_json::{Value, json};
use ureq::http::{HeaderMap, Request};

pub const ALICE: &str = "alice@example.com";

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub json: Value,
}

impl Answer {
    pub fn reason(&self) -> &str {
        self.json["error"]["errors"][0]["reason"].as_str().unwrap_or_default()
    }

    pub fn ids(&self) -> Vec<&str> {
        let items = self.json["items"].as_array().expect("a list");
        items.iter().map(|item| item["id"].as_str().expect("an id")).collect()
    }

    pub fn item(&self, id: &str) -> &Value {
        let items = self.json["items"].as_array().expect("a list");
        items.iter().find(|item| item["id"] == id).unwrap_or_else(|| panic!("no {id} in {:?}", self.ids()))
    }

    pub fn sync_token(&self) -> String {
        self.json["nextSyncToken"].as_str().unwrap_or_else(|| panic!("no token in {}", self.json)).to_owned()
    }

    pub fn page_token(&self) -> String {
        self.json["nextPageToken"].as_str().unwrap_or_else(|| panic!("no page token in {}", self.json)).to_owned()
    }
}

pub struct Client {
    agent: ureq::Agent,
    base: String,
    pub bearer: Option<String>,
}

impl Client {
    pub fn at(base: impl Into<String>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(std::time::Duration::from_secs(20)))
            .build();
        Self { agent: config.new_agent(), base: base.into(), bearer: None }
    }

    pub fn of(google: &FakeGoogle) -> Self {
        Self::at(format!("{}/calendar/v3", google.api_url()))
    }

    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, ureq::Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.bearer {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = match body {
            Some(body) => {
                let request = request.header("Content-Type", "application/json").body(body.to_string());
                self.agent.run(request.expect("a request"))?
            }
            None => self.agent.run(request.body(()).expect("a request"))?,
        };
        let text = response.body_mut().read_to_string()?;
        let json = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(json!(text)) };
        Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), json })
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
        self.try_send(method, path, headers, body).expect("an answer")
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[], Some(body))
    }

    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, &[], Some(body))
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], None)
    }

    /// `events.list` of Alice's calendar.
    pub fn list(&self, query: &[(&str, &str)]) -> Answer {
        self.get(&format!("{}?{}", events(""), encode(query)))
    }

    pub fn full(&self) -> Answer {
        self.list(&[])
    }

    pub fn delta(&self, token: &str) -> Answer {
        self.list(&[("syncToken", token)])
    }
}

pub fn encode(query: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish()
}

/// The path of Alice's events, or of one of them.
pub fn events(id: &str) -> String {
    match id {
        "" => "/calendars/alice%40example.com/events".into(),
        id => format!("/calendars/alice%40example.com/events/{id}"),
    }
}

/// A fake with Alice's calendar, and a client.
pub fn alice() -> (FakeGoogle, Client) {
    alice_in("America/Chicago")
}

pub fn alice_in(zone: &str) -> (FakeGoogle, Client) {
    let google = FakeGoogle::start();
    google.add_calendar(&NewCalendar::new(ALICE).in_zone(zone)).expect("a calendar");
    let client = Client::of(&google);
    (google, client)
}

/// `meeting("lunch", "2025-03-24T12:00:00-05:00", "2025-03-24T13:00:00-05:00")`
pub fn meeting(summary: &str, start: &str, end: &str) -> Value {
    json!({ "summary": summary, "start": { "dateTime": start }, "end": { "dateTime": end } })
}

pub fn all_day(summary: &str, start: &str, end: &str) -> Value {
    json!({ "summary": summary, "start": { "date": start }, "end": { "date": end } })
}

/// A daily quarter of an hour at 07:30 in Chicago from 2025-03-24, which is 12:30Z.
pub fn daily(id: &str) -> Value {
    json!({
        "id": id,
        "summary": "Stand-up",
        "start": { "dateTime": "2025-03-24T07:30:00", "timeZone": "America/Chicago" },
        "end": { "dateTime": "2025-03-24T07:45:00", "timeZone": "America/Chicago" },
        "recurrence": ["RRULE:FREQ=DAILY"],
    })
}

pub fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}
