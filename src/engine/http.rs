//! Requests on threads of their own.
//!
//! The main thread hands over a [`Request`] and goes on; a thread sends it and puts the [`Answer`] where
//! [`HttpThreads::take_answers`] finds it, then rings the doorbell, a socket that the main thread's latch wait watches.
//! The threads never touch Postgres: they get their settings copied, and all signals are blocked in them, so that
//! Postgres' handlers run on the main thread only.
//!
//! A panic on one of them is the failure of the request that it was sending; the thread takes the next.
//!
//! They are not joined: a process that ends while a provider keeps silent does not wait for it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use calsync_core::providers::{Answer, Request};

use super::client::{Client, Manners};
use crate::settings::Settings;

/// An answer, and which request it belongs to.
pub struct Exchange {
    pub ticket: u64,
    pub answer: Answer,
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
    client: Client,
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
        let client = Client::new(&manners);
        let work = Work { waiting: VecDeque::new(), idle_threads: 0, manners, client, closed: false };
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
            work.client = Client::new(&manners);
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
        let client = work.client.clone();
        drop(work);
        let answer = std::panic::catch_unwind(AssertUnwindSafe(|| client.ask(&request))).unwrap_or_else(|_| {
            // What it left of the connections that the others share with it is not to be trusted.
            let mut work = lock(&shared.work);
            work.client = Client::new(&work.manners);
            Answer::None { reason: "the HTTP client panicked; the server's log says where".to_owned() }
        });
        deliver(shared, Exchange { ticket, answer });
    }
}

fn deliver(shared: &Shared, exchange: Exchange) {
    lock(&shared.answers).push(exchange);
    // A full socket already rings.
    let _ = lock(&shared.doorbell).write(&[1]);
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
