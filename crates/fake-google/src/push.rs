//! Push notifications: channels, and the thread that delivers.
//!
//! <https://developers.google.com/workspace/calendar/api/guides/push>

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::Dice;
use crate::error::ApiError;
use crate::server::lock;
use crate::times::rfc3339_millis;

/// "The default is 604800 seconds (7 days)"; asking for more than a month gives a month.
const DEFAULT_TTL: i64 = 604_800;
const LONGEST_TTL: i64 = 30 * 86_400;
/// How often a receiver that answers 5xx, or not at all, is tried.
const TRIES: u32 = 4;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Channel {
    pub id: String,
    pub calendar: String,
    pub resource_id: String,
    pub resource_uri: String,
    pub token: Option<String>,
    pub address: String,
    pub expiration: DateTime<Utc>,
    pub last_message: u64,
    /// Who opened it, and so may stop it: named by his primary calendar, where that is known.
    pub user: Option<String>,
}

/// One attempt to deliver.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    pub channel: String,
    pub message: u64,
    pub state: String,
    /// The receiver's status, or what went wrong.
    pub outcome: String,
}

/// What happens to notifications on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PushQuirks {
    /// None arrives.
    pub drop: bool,
    /// So many of the next do not arrive.
    pub drop_next: u32,
    pub delay_ms: u64,
    /// Each arrives twice.
    pub duplicate: bool,
}

#[derive(Debug, Default)]
pub struct Channels {
    pub open: BTreeMap<String, Channel>,
    pub quirks: PushQuirks,
    pub attempts: Vec<Attempt>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    channel: String,
    number: u64,
    state: &'static str,
    address: String,
    head: String,
    tries: u32,
}

/// Messages waiting for their time.
#[derive(Debug, Default)]
pub struct PushQueue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    heap: BinaryHeap<Reverse<(Instant, u64, Slot)>>,
    last: u64,
    closed: bool,
}

/// A message that does not take part in the heap's order.
#[derive(Debug)]
struct Slot(Message);

impl PartialEq for Slot {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Slot {}

impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slot {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

impl Channels {
    /// `events.watch`: opens the channel and sends its `sync` message, which may arrive before this answer.
    pub fn watch(
        &mut self,
        calendar: &str,
        pushable: bool,
        user: Option<&str>,
        body: &Value,
        now: DateTime<Utc>,
        queue: &PushQueue,
    ) -> Result<Value, ApiError> {
        if !pushable {
            return Err(ApiError::new(
                400,
                "pushNotSupportedForRequestedResource",
                "Push notifications are not supported by this resource.",
            ));
        }
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let id = text("id").ok_or_else(|| ApiError::required("entity.resource.id"))?;
        if id.is_empty() || id.len() > 64 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+/=".contains(&b)) {
            return Err(ApiError::new(400, "channelIdInvalid", "Invalid channel id"));
        }
        if !matches!(text("type"), Some("web_hook" | "webhook")) {
            return Err(ApiError::new(400, "push.channelTypeInvalid", "Invalid channel type"));
        }
        let token = text("token").map(str::to_owned);
        if token.as_ref().is_some_and(|token| token.len() > 256) {
            return Err(ApiError::invalid_value("token"));
        }
        let address = text("address").ok_or_else(|| ApiError::required("entity.resource.address"))?;
        check_address(address)?;
        self.forget_expired(now);
        if self.open.contains_key(id) {
            return Err(ApiError::new(400, "channelIdNotUnique", format!("Channel id {id} not unique")));
        }
        let segment = utf8_percent_encode(calendar, PATH_SEGMENT);
        let channel = Channel {
            id: id.into(),
            calendar: calendar.into(),
            resource_id: resource_id(calendar),
            resource_uri: format!("https://www.googleapis.com/calendar/v3/calendars/{segment}/events?alt=json"),
            token,
            address: address.into(),
            expiration: expiration(body, now)?,
            last_message: 1,
            user: user.map(str::to_owned),
        };
        let mut answer = json!({
            "kind": "api#channel",
            "id": channel.id,
            "resourceId": channel.resource_id,
            "resourceUri": channel.resource_uri,
            "expiration": channel.expiration.timestamp_millis().to_string(),
        });
        if let Some(token) = &channel.token {
            answer["token"] = json!(token);
        }
        send(&mut self.quirks, &channel, "sync", queue);
        self.open.insert(channel.id.clone(), channel);
        Ok(answer)
    }

    /// `channels.stop`. Somebody else's channel is "not found".
    pub fn stop(&mut self, body: &Value, user: Option<&str>, now: DateTime<Utc>) -> Result<(), ApiError> {
        self.forget_expired(now);
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let id = text("id");
        match self.open.get(id) {
            Some(channel) if channel.resource_id == text("resourceId") && channel.user.as_deref() == user => {
                self.open.remove(id);
            }
            _ => {
                let message = format!("Channel '{id}' not found for project '1070000000000'");
                return Err(ApiError::new(404, "notFound", message));
            }
        }
        Ok(())
    }

    /// Something changed in a calendar: one message to each of its channels. Numbers grow, with gaps.
    pub fn notify(
        &mut self,
        calendar: &str,
        state: &'static str,
        now: DateTime<Utc>,
        dice: &mut Dice,
        queue: &PushQueue,
    ) {
        self.forget_expired(now);
        for channel in self.open.values_mut().filter(|c| c.calendar == calendar) {
            channel.last_message += 1 + dice.roll() % 3;
            send(&mut self.quirks, channel, state, queue);
        }
    }

    pub fn forget_expired(&mut self, now: DateTime<Utc>) {
        self.open.retain(|_, channel| channel.expiration > now);
    }
}

/// The user opens it in no particular way: any hash will do, if it is stable.
fn resource_id(calendar: &str) -> String {
    let mut seed = crate::tokens::hash(calendar);
    let alphabet = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    let digit = |_| {
        seed = crate::tokens::hash(&seed.to_string());
        char::from(alphabet[(seed % alphabet.len() as u64) as usize])
    };
    (0..27).map(digit).collect()
}

/// https everywhere, but this fake also takes http on loopback, which is all it delivers to.
fn check_address(address: &str) -> Result<(), ApiError> {
    let host = address.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
    let local = host.map(|h| h.rsplit_once(':').map_or(h, |(name, _)| name));
    match (address.starts_with("https://"), address.starts_with("http://"), local) {
        (true, _, Some(_)) | (_, true, Some("127.0.0.1" | "localhost" | "[::1]")) => Ok(()),
        (_, true, _) => {
            let message = format!("WebHook callback must be HTTPS: {address}");
            Err(ApiError::new(400, "push.webhookUrlNotHttps", message))
        }
        _ => Err(ApiError::new(
            401,
            "push.webhookUrlUnauthorized",
            "Unauthorized WebHook callback channel: ".to_owned() + address,
        )),
    }
}

/// `params.ttl` in seconds as a string, or `expiration` in milliseconds.
fn expiration(body: &Value, now: DateTime<Utc>) -> Result<DateTime<Utc>, ApiError> {
    let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
    let latest = now + chrono::TimeDelta::seconds(LONGEST_TTL);
    if let Some(ttl) = body.get("params").and_then(|p| p.get("ttl")) {
        let ttl = number(ttl).filter(|ttl| *ttl > 0).ok_or_else(|| ApiError::invalid_value("ttl"))?;
        return Ok(now + chrono::TimeDelta::seconds(ttl.min(LONGEST_TTL)));
    }
    match body.get("expiration").map(number) {
        None => Ok(now + chrono::TimeDelta::seconds(DEFAULT_TTL)),
        Some(millis) => {
            let wanted = millis.and_then(DateTime::from_timestamp_millis).filter(|wanted| *wanted > now);
            Ok(wanted.ok_or_else(|| ApiError::invalid_value("expiration"))?.min(latest))
        }
    }
}

fn send(quirks: &mut PushQuirks, channel: &Channel, state: &'static str, queue: &PushQueue) {
    if quirks.drop_next > 0 {
        quirks.drop_next -= 1;
        return;
    }
    if quirks.drop {
        return;
    }
    let message = Message {
        channel: channel.id.clone(),
        number: channel.last_message,
        state,
        address: channel.address.clone(),
        head: headers(channel, state),
        tries: 0,
    };
    let due = Instant::now() + Duration::from_millis(quirks.delay_ms);
    for _ in 0..=u8::from(quirks.duplicate) {
        queue.put(due, message.clone());
    }
}

fn headers(channel: &Channel, state: &str) -> String {
    let mut lines = vec![
        "Accept: */*".to_owned(),
        "User-Agent: APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)".to_owned(),
        "Content-Length: 0".to_owned(),
        "Connection: close".to_owned(),
        format!("X-Goog-Channel-ID: {}", channel.id),
        format!("X-Goog-Channel-Expiration: {}", channel.expiration.format("%a, %d %b %Y %H:%M:%S GMT")),
        format!("X-Goog-Resource-State: {state}"),
        format!("X-Goog-Message-Number: {}", channel.last_message),
        format!("X-Goog-Resource-ID: {}", channel.resource_id),
        format!("X-Goog-Resource-URI: {}", channel.resource_uri),
    ];
    if let Some(token) = &channel.token {
        let clean: String = token.chars().filter(|c| !c.is_control()).collect();
        lines.push(format!("X-Goog-Channel-Token: {clean}"));
    }
    lines.join("\r\n")
}

impl PushQueue {
    fn put(&self, due: Instant, message: Message) {
        let mut waiting = lock(&self.waiting);
        waiting.last += 1;
        let order = waiting.last;
        waiting.heap.push(Reverse((due, order, Slot(message))));
        self.changed.notify_all();
    }

    pub fn close(&self) {
        lock(&self.waiting).closed = true;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<Message> {
        let mut waiting = lock(&self.waiting);
        loop {
            if waiting.closed {
                return None;
            }
            let wait = match waiting.heap.peek() {
                None => Duration::from_secs(3600),
                Some(Reverse((due, ..))) => due.saturating_duration_since(Instant::now()),
            };
            if wait.is_zero() {
                return waiting.heap.pop().map(|Reverse((_, _, Slot(message)))| message);
            }
            waiting = match self.changed.wait_timeout(waiting, wait) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Delivers until closed; `report` gets every attempt.
    pub fn run(&self, report: impl Fn(Attempt)) {
        while let Some(mut message) = self.next() {
            let outcome = post(&message);
            // "200, 201, 202, 204, or 102" is success, 500 to 504 is retried, all else is a failed message.
            let again = match &outcome {
                Ok(status) => (500..=504).contains(status),
                Err(_) => true,
            };
            let text = outcome.map_or_else(|error| error.to_string(), |status| status.to_string());
            let Message { channel, number, state, .. } = message.clone();
            report(Attempt { channel, message: number, state: state.into(), outcome: text });
            message.tries += 1;
            if again && message.tries < TRIES {
                self.put(Instant::now() + Duration::from_millis(100 << message.tries), message);
            }
        }
    }
}

fn post(message: &Message) -> std::io::Result<u16> {
    let refuse = |why: &str| std::io::Error::new(std::io::ErrorKind::Unsupported, why);
    let rest = message.address.strip_prefix("http://").ok_or_else(|| refuse("https is not delivered by this fake"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let with_port = if host.ends_with(']') || !host.contains(':') { format!("{host}:80") } else { host.to_owned() };
    let addr = with_port.to_socket_addrs()?.find(|a| a.ip().is_loopback()).ok_or_else(|| refuse("not loopback"))?;
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&addr, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    write!(stream, "POST /{path} HTTP/1.1\r\nHost: {host}\r\n{}\r\n\r\n", message.head)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let status = line.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    status.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "no HTTP answer"))
}

impl Channel {
    pub fn describe(&self) -> Value {
        let mut shown = json!(self);
        shown["expiration"] = json!(rfc3339_millis(self.expiration));
        shown
    }
}
