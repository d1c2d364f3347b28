//! `make bench`, the worker's part: how fast it polls, how soon a change is seen, how much memory it takes.
//!
//! Real worker, real HTTP, the fake Google in this process with a latency of 50 ms an answer. What the latency allows is
//! not computed but measured: a plain client with as many connections asks the same fake for the same lists, in turn
//! with the worker.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use calsync_integration::Cluster;
use fake_google::{FakeGoogle, Fault, NewCalendar};
use postgres::Client;
use serde_json::json;

const CALENDARS: usize = 2000;
const CONCURRENCY: usize = 32;
const LATENCY: Duration = Duration::from_millis(50);

struct Bench {
    google: FakeGoogle,
    cluster: Cluster,
    sql: Client,
}

fn main() {
    let mut bench = Bench::new();
    bench.subscribe_all();
    bench.google.add_fault(Fault::latency(LATENCY).always());
    bench.poll_rounds();
    bench.webhooks();
    bench.memory_of_polls();

    bench.google.clear_faults();
    bench.memory_of_a_full_sync();
}

impl Bench {
    fn new() -> Self {
        let google = FakeGoogle::start();
        let cluster = Cluster::start(&format!(
            "calsync.google_api_url = '{}/calendar/v3'\ncalsync.allow_private_network = on\n\
             calsync.max_concurrency = {CONCURRENCY}\ncalsync.requests_per_minute = 1000000\n\
             calsync.project_requests_per_minute = 1000000\nautovacuum = on\nfsync = on",
            google.api_url()
        ));
        let mut sql = cluster.connect("postgres");
        sql.batch_execute("CREATE EXTENSION pg_calsync").expect("the extension can be created");
        Bench { google, cluster, sql }
    }

    fn subscribe_all(&mut self) {
        for number in 0..CALENDARS {
            self.google.add_calendar(&NewCalendar::new(name(number))).expect("a new calendar");
        }
        self.sql
            .batch_execute(&format!(
                "SELECT calsync_subscribe('c' || n || '@example.com') FROM generate_series(0, {}) AS n",
                CALENDARS - 1
            ))
            .expect("subscribed");
        self.wait_until_idle();
    }

    fn count(&mut self, sql: &str) -> i64 {
        self.sql.query_one(sql, &[]).expect("the query runs").get(0)
    }

    fn wait_until_idle(&mut self) {
        while self.count(
            "SELECT count(*) FROM calsync.subscription \
             WHERE leased_until IS NOT NULL OR next_sync_at <= clock_timestamp() OR state <> 'active'",
        ) > 0
        {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn worker(&mut self) -> Process {
        Process(self.count("SELECT pid::bigint FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker'"))
    }

    fn poll_rounds(&mut self) {
        println!(
            "a poll of {CALENDARS} unchanged calendars, {CONCURRENCY} at once, {} ms latency",
            LATENCY.as_millis()
        );
        let worker = self.worker();
        for _ in 0..3 {
            self.google.clear_log();
            let cpu = worker.cpu();
            self.sql.batch_execute("SELECT calsync_sync()").expect("sync");
            let begun = Instant::now();
            self.wait_until_idle();
            let ours = CALENDARS as f64 / begun.elapsed().as_secs_f64();
            let cpu = (worker.cpu() - cpu).as_secs_f64() * 1e6 / CALENDARS as f64;
            assert_eq!(self.google.log().len(), CALENDARS, "each was asked for once");
            let plain = plain_client(&self.google.api_url());
            let allowed = CONCURRENCY as f64 / LATENCY.as_secs_f64();
            println!(
                "  worker {ours:6.0}/s  {:4.0} % of the {allowed:.0}/s that the latency allows   plain client {plain:6.0}/s \
                 {:4.0} %   worker's CPU {cpu:4.0} us a calendar",
                ours / allowed * 100.0,
                plain / allowed * 100.0,
            );
        }
    }

    /// A change, the webhook's call, and how long until calsync_busy shows it, while all calendars are polled.
    fn webhooks(&mut self) {
        let mut taken = Vec::new();
        let mut due = Instant::now();
        let mut poller = self.cluster.connect("postgres");
        for number in 0..300 {
            if due.elapsed() > Duration::from_secs(5) || number == 0 {
                due = Instant::now();
                // Twenty seconds of polling, over and over: there is always somebody due.
                poller.batch_execute("SELECT calsync_sync()").expect("sync");
            }
            let calendar = name(number * 6);
            let day = "2027-03-01";
            let event = json!({"start": {"dateTime": format!("{day}T08:00:00Z")}, "end": {"dateTime": format!("{day}T09:00:00Z")}});
            self.google.insert_event(&calendar, &event).expect("an event");
            let begun = Instant::now();
            self.sql.execute("SELECT calsync_sync($1)", &[&calendar]).expect("sync");
            let seen = "SELECT FROM calsync_busy('[2027-03-01,2027-03-02)', ARRAY[$1::text])";
            while self.sql.query(seen, &[&calendar]).expect("busy").is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
            taken.push(begun.elapsed());
        }
        taken.sort();
        let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize].as_millis();
        println!(
            "from calsync_sync() to visible while {CALENDARS} calendars are polled, {} ms of it the provider's: \
             median {} ms, 99 % {} ms, worst {} ms",
            LATENCY.as_millis(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
        self.wait_until_idle();
    }

    fn memory_of_polls(&mut self) {
        self.google.clear_faults();
        let worker = self.worker();
        let before = worker.memory();
        let polls = 100_000;
        for _ in 0..polls / CALENDARS {
            self.google.clear_log();
            self.sql.batch_execute("SELECT calsync_sync()").expect("sync");
            self.wait_until_idle();
        }
        println!("the worker's memory over {polls} polls: {}", Growth(before, worker.memory()));
    }

    fn memory_of_a_full_sync(&mut self) {
        let events = 100_000;
        self.google.add_calendar(&NewCalendar::new("large@example.com")).expect("a calendar");
        for number in 0..events {
            let at = chrono::DateTime::from_timestamp(1_790_000_000 + number * 1200, 0).expect("a time");
            let event = json!({
                "summary": format!("Meeting {number}"), "description": "x".repeat(200),
                "start": {"dateTime": at.to_rfc3339()}, "end": {"dateTime": (at + chrono::TimeDelta::minutes(15)).to_rfc3339()},
            });
            self.google.insert_event("large@example.com", &event).expect("an event");
        }
        let worker = self.worker();
        let before = worker.memory();
        let begun = Instant::now();
        self.sql.batch_execute("SELECT calsync_subscribe('large@example.com')").expect("subscribed");
        let mut most = worker.memory();
        while self.count("SELECT count(*) FROM calsync.event") < events {
            most = most.max(worker.memory());
            std::thread::sleep(Duration::from_millis(20));
        }
        println!(
            "the worker's memory over a full sync of {events} events ({:.1} s): {}",
            begun.elapsed().as_secs_f64(),
            Growth(before, most)
        );
    }
}

fn name(number: usize) -> String {
    format!("c{number}@example.com")
}

/// Lists a second time what the worker lists, with as many connections, kept open; lists a second.
fn plain_client(api: &str) -> f64 {
    let host = api.trim_start_matches("http://").to_owned();
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENCY {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(&host).expect("connected");
                stream.set_nodelay(true).expect("set");
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= CALENDARS {
                        return;
                    }
                    let path = format!("/calendar/v3/calendars/{}/events?maxResults=1", name(number));
                    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("sent");
                    read_answer(&mut stream);
                }
            });
        }
    });
    CALENDARS as f64 / begun.elapsed().as_secs_f64()
}

fn read_answer(stream: &mut TcpStream) {
    let mut answer = Vec::new();
    let mut buffer = [0u8; 8192];
    loop {
        let count = stream.read(&mut buffer).expect("an answer");
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        let Some(end) = text.find("\r\n\r\n") else { continue };
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        if answer.len() >= end + 4 + length.unwrap_or(0) {
            return;
        }
    }
}

#[derive(Clone, Copy)]
struct Process(i64);

impl Process {
    /// Resident, and what of it is the process's own, in kB.
    fn memory(self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0)).expect("the process lives");
        let line = |name: &str| -> u64 {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            value.trim().trim_end_matches(" kB").parse().unwrap_or_default()
        };
        (line("VmRSS:"), line("RssAnon:"))
    }

    fn cpu(self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).expect("the process lives");
        let fields: VecDeque<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
        let ticks =
            |index: usize| -> u64 { fields.get(index).and_then(|field| field.parse().ok()).unwrap_or_default() };
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }
}

struct Growth((u64, u64), (u64, u64));

impl std::fmt::Display for Growth {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let mb = |kb: u64| kb as f64 / 1024.0;
        let Growth((rss, own), (rss_after, own_after)) = *self;
        write!(f, "RSS {:.1} to {:.1} MB, its own {:.1} to {:.1} MB", mb(rss), mb(rss_after), mb(own), mb(own_after))
    }
}
