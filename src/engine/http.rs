//! Requests on threads of their own.
//!
//! The main thread hands over a [`Request`] and goes on; a thread sends it and puts the [`Answer`] where
//! [`HttpThreads::take_answers`] finds it, then rings the doorbell, a socket that the main thread's latch wait watches.
//! The threads never touch Postgres: they get their settings copied, and all signals are blocked in them, so that
//! Postgres' handlers run on the main thread only.
//!
//! They are not joined: a process that ends while a provider keeps silent does not wait for it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use calsync_core::providers::{Answer, Method, Request};

use crate::settings::Settings;

/// An answer, and which request it belongs to.
pub struct Exchange {
    pub ticket: u64,
    pub answer: Answer,
}

/// What a thread needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Manners {
    connect_timeout: Duration,
    request_timeout: Duration,
    max_response_size: u64,
    allow_private_network: bool,
}

impl From<&Settings> for Manners {
    fn from(settings: &Settings) -> Self {
        Manners {
            connect_timeout: settings.connect_timeout,
            request_timeout: settings.request_timeout,
            max_response_size: settings.max_response_size,
            allow_private_network: settings.allow_private_network,
        }
    }
}

/// What the main thread and the others share.
struct Shared {
    work: Mutex<Work>,
    work_came: Condvar,
    answers: Mutex<Vec<Exchange>>,
    doorbell: Mutex<UnixStream>,
}

struct Work {
    waiting: VecDeque<(u64, Request)>,
    idle_threads: usize,
    manners: Manners,
    agent: ureq::Agent,
    closed: bool,
}

pub struct HttpThreads {
    shared: Arc<Shared>,
    bell: UnixStream,
}

impl HttpThreads {
    pub fn new(settings: &Settings) -> io::Result<Self> {
        let (bell, button) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        button.set_nonblocking(true)?;
        let manners = Manners::from(settings);
        let agent = agent(&manners);
        let work = Work { waiting: VecDeque::new(), idle_threads: 0, manners, agent, closed: false };
        let shared = Shared {
            work: Mutex::new(work),
            work_came: Condvar::new(),
            answers: Mutex::new(Vec::new()),
            doorbell: Mutex::new(button),
        };
        Ok(HttpThreads { shared: Arc::new(shared), bell })
    }

    pub fn reconfigure(&mut self, settings: &Settings) {
        let manners = Manners::from(settings);
        let mut work = lock(&self.shared.work);
        if work.manners != manners {
            work.agent = agent(&manners);
            work.manners = manners;
        }
    }

    pub fn doorbell(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Sends a request; there are as many threads as requests in flight. The caller bounds those.
    pub fn send(&self, ticket: u64, request: Request) {
        let mut work = lock(&self.shared.work);
        work.waiting.push_back((ticket, request));
        if work.waiting.len() > work.idle_threads {
            let shared = Arc::clone(&self.shared);
            if let Err(error) = with_signals_blocked(|| {
                std::thread::Builder::new()
                    .name("calsync http".to_owned())
                    .stack_size(512 * 1024)
                    .spawn(move || serve(&shared))
            }) && let Some((ticket, _)) = work.waiting.pop_back()
            {
                let answer = Answer::None { reason: format!("no thread could be started: {error}") };
                deliver(&self.shared, Exchange { ticket, answer });
            }
        }
        drop(work);
        self.shared.work_came.notify_one();
    }

    /// The answers that have come since last asked.
    pub fn take_answers(&mut self) -> Vec<Exchange> {
        let mut buffer = [0u8; 256];
        // Reads until it would block; the bytes mean nothing but "come and look".
        while self.bell.read(&mut buffer).is_ok_and(|count| count > 0) {}
        std::mem::take(&mut lock(&self.shared.answers))
    }
}

impl Drop for HttpThreads {
    fn drop(&mut self) {
        lock(&self.shared.work).closed = true;
        self.shared.work_came.notify_all();
    }
}

/// A thread's life: take a request, send it, deliver the answer.
fn serve(shared: &Shared) {
    loop {
        let mut work = lock(&shared.work);
        let (ticket, request) = loop {
            if work.closed {
                return;
            }
            if let Some(taken) = work.waiting.pop_front() {
                break taken;
            }
            work.idle_threads += 1;
            work = shared.work_came.wait(work).unwrap_or_else(PoisonError::into_inner);
            work.idle_threads -= 1;
        };
        let (agent, manners) = (work.agent.clone(), work.manners.clone());
        drop(work);
        let answer = std::panic::catch_unwind(AssertUnwindSafe(|| ask(&agent, &manners, &request)))
            .unwrap_or_else(|_| Answer::None { reason: "the HTTP client failed".to_owned() });
        deliver(shared, Exchange { ticket, answer });
    }
}

fn deliver(shared: &Shared, exchange: Exchange) {
    lock(&shared.answers).push(exchange);
    // A full socket already rings.
    let _ = lock(&shared.doorbell).write(&[1]);
}

fn agent(manners: &Manners) -> ureq::Agent {
    let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        // A redirect would carry the request to a host that nobody allowed.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(manners.connect_timeout))
        .timeout_global(Some(manners.request_timeout))
        .user_agent(concat!("pg_calsync/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls)
        .build()
        .new_agent()
}

fn ask(agent: &ureq::Agent, manners: &Manners, request: &Request) -> Answer {
    if let Err(reason) = allowed(&request.url, manners.allow_private_network) {
        return Answer::None { reason };
    }
    let mut call = ureq::http::Request::builder().uri(&request.url);
    for (name, value) in &request.headers {
        call = call.header(*name, value);
    }
    let answered = match &request.method {
        Method::Get => call.method("GET").body(()).map(|call| agent.run(call)),
        Method::Post(body) => call.method("POST").body(body.as_str()).map(|call| agent.run(call)),
    };
    match answered {
        Ok(Ok(response)) => read(response, manners.max_response_size),
        Ok(Err(error)) => Answer::None { reason: explained(&error) },
        Err(_) => Answer::None { reason: "the request cannot be written as HTTP".to_owned() },
    }
}

fn read(mut response: ureq::http::Response<ureq::Body>, max_response_size: u64) -> Answer {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| calsync_core::providers::read_retry_after(value, chrono::Utc::now()));
    let mut body = Vec::new();
    // ureq counts the bytes on the wire; a small answer may still unpack into a large one.
    match response.body_mut().as_reader().take(max_response_size + 1).read_to_end(&mut body) {
        Ok(_) if body.len() as u64 > max_response_size => Answer::None {
            reason: format!("the answer is larger than calsync.max_response_size ({} kB)", max_response_size / 1024),
        },
        Ok(_) => Answer::Http { status, retry_after, body },
        Err(error) => Answer::None { reason: format!("the answer broke off: {error}") },
    }
}

/// TLS always, but to this very machine where the settings allow it.
fn allowed(url: &str, allow_private_network: bool) -> Result<(), String> {
    let Some(rest) = url.strip_prefix("http://") else {
        return match url.starts_with("https://") {
            true => Ok(()),
            false => Err("refused URL (SC008): it is not https".to_owned()),
        };
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _port)| host);
    let is_loopback = host == "localhost"
        || host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    if is_loopback && allow_private_network {
        return Ok(());
    }
    Err("refused URL (SC008): without TLS only loopback may be asked, and only with calsync.allow_private_network = on"
        .to_owned())
}

/// What went wrong, without the URL: its query holds tokens.
fn explained(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(which) => format!("the provider did not answer in time ({which})"),
        ureq::Error::HostNotFound => "the provider's host was not found".to_owned(),
        ureq::Error::ConnectionFailed => "the provider's host could not be reached".to_owned(),
        ureq::Error::Io(error) => format!("the provider could not be reached: {error}"),
        ureq::Error::Tls(what) => format!("TLS failed: {what}"),
        ureq::Error::Rustls(error) => format!("TLS failed: {error}"),
        ureq::Error::Protocol(error) => format!("the answer is not HTTP: {error}"),
        _ => "the request failed".to_owned(),
    }
}

/// A thread that panicked while holding the lock left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads started inside take over the mask: no signal of Postgres' is ever handled on them.
fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: plain calls on valid sets; the old mask comes back before returning.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut old: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        let result = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &old, std::ptr::null_mut());
        result
    }
}
