//! A listener on loopback with a thread a connection, which can be stopped and started again on its port.
//!
//! Plain blocking sockets, because the faults we play need the bytes: cut after the n-th, promise more than is sent,
//! accept and stay silent.

use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::error::{ApiError, FakeError};
use crate::http::{self, Request, Response};

/// How an answer leaves the house.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    /// So many bytes of head and body, then the connection closes. 0 closes it without a word.
    CutAfter(usize),
    /// The full Content-Length, so many bytes of body, then the connection closes.
    Truncated(usize),
    /// So many bytes, then silence until the client gives up.
    HangAfter(usize),
    /// So many bytes at a time with a pause after each.
    Drip {
        bytes: usize,
        pause: Duration,
    },
}

pub struct Reply {
    pub response: Response,
    pub latency: Duration,
    pub delivery: Delivery,
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self { response, latency: Duration::ZERO, delivery: Delivery::Whole }
    }
}

pub type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

type Connections = Arc<Mutex<HashMap<u64, TcpStream>>>;

/// What HTTP is spoken over.
#[derive(Clone)]
pub enum Wire {
    Clear,
    Tls(Arc<ServerConfig>),
}

/// A server whose address outlives its listening.
pub struct Server {
    addr: SocketAddr,
    wire: Wire,
    handler: Arc<Handler>,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: Arc<AtomicBool>,
    connections: Connections,
    acceptor: JoinHandle<()>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in one connection's thread must not silence the others: the state is plain data.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    pub fn start(addr: SocketAddr, wire: Wire, handler: Arc<Handler>) -> Result<Self, FakeError> {
        let listener = bind(addr)?;
        let addr = listener.local_addr().map_err(|source| FakeError::Listen { addr, source })?;
        let running = Mutex::new(Some(listen(listener, wire.clone(), Arc::clone(&handler))));
        Ok(Self { addr, wire, handler, running })
    }

    /// `http://127.0.0.1:PORT`, or `https://localhost:PORT`: a certificate is of a name.
    pub fn url(&self) -> String {
        match self.wire {
            Wire::Clear => format!("http://{}", self.addr),
            Wire::Tls(_) => format!("https://localhost:{}", self.addr.port()),
        }
    }

    /// Refuses new connections and cuts the open ones. Doing it twice is harmless.
    pub fn stop(&self) {
        let Some(running) = lock(&self.running).take() else { return };
        running.stop.store(true, Ordering::SeqCst);
        // The acceptor sits in accept(): one connection of our own wakes it, and it sees the flag.
        let _ = TcpStream::connect_timeout(&self.addr, Duration::from_secs(1));
        let _ = running.acceptor.join();
        for (_, stream) in lock(&running.connections).drain() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Listens again on the same port.
    pub fn start_again(&self) -> Result<(), FakeError> {
        let mut running = lock(&self.running);
        if running.is_none() {
            *running = Some(listen(bind(self.addr)?, self.wire.clone(), Arc::clone(&self.handler)));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn bind(addr: SocketAddr) -> Result<TcpListener, FakeError> {
    // After a stop the port may be held for a moment by a connection that is still closing.
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match TcpListener::bind(addr) {
            Ok(listener) => return Ok(listener),
            Err(_) if addr.port() != 0 && Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            Err(source) => return Err(FakeError::Listen { addr, source }),
        }
    }
}

fn listen(listener: TcpListener, wire: Wire, handler: Arc<Handler>) -> Running {
    let stop = Arc::new(AtomicBool::new(false));
    let connections: Connections = Arc::default();
    let acceptor = {
        let (stop, connections) = (Arc::clone(&stop), Arc::clone(&connections));
        thread::spawn(move || accept(&listener, &wire, &handler, &stop, &connections))
    };
    Running { stop, connections, acceptor }
}

fn accept(
    listener: &TcpListener,
    wire: &Wire,
    handler: &Arc<Handler>,
    stop: &Arc<AtomicBool>,
    connections: &Connections,
) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else {
            // Out of descriptors, most likely: give the open connections a moment to end.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let Ok(twin) = stream.try_clone() else { continue };
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        lock(connections).insert(id, twin);
        let (wire, handler, stop) = (wire.clone(), Arc::clone(handler), Arc::clone(stop));
        let connections = Arc::clone(connections);
        thread::spawn(move || {
            let _ = stream.set_nodelay(true);
            match wire {
                Wire::Clear => serve(stream, &*handler, &stop),
                Wire::Tls(config) => {
                    if let Ok(tls) = ServerConnection::new(config) {
                        serve(StreamOwned::new(tls, stream), &*handler, &stop);
                    }
                }
            }
            if let Some(stream) = lock(&connections).remove(&id) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
    }
}

fn serve(stream: impl Read + Write, handler: &Handler, stop: &AtomicBool) {
    let mut connection = BufReader::new(stream);
    loop {
        let request = match http::read_request(&mut connection) {
            Ok(Some(request)) => request,
            Ok(None) => break,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                let answer = Response::new(400, "text/plain; charset=UTF-8", error.to_string());
                let _ = http::write_all(connection.get_mut(), &answer.wire(false).0);
                break;
            }
            Err(_) => break,
        };
        // A mistake of ours must look like a server's error, not like a connection that never ends.
        let reply = panic::catch_unwind(AssertUnwindSafe(|| handler(&request)))
            .unwrap_or_else(|_| Response::from(ApiError::new(500, "backendError", "The fake panicked")).into());
        if !rest(reply.latency, stop) || !deliver(&reply, &request, &mut connection, stop) {
            break;
        }
    }
}

/// Sends the reply; says whether the connection may serve another request.
fn deliver(reply: &Reply, request: &Request, connection: &mut BufReader<impl Read + Write>, stop: &AtomicBool) -> bool {
    let out = connection.get_mut();
    let (bytes, head) = reply.response.wire(request.keep_alive && reply.delivery == Delivery::Whole);
    match reply.delivery {
        Delivery::Whole => http::write_all(out, &bytes).is_ok() && request.keep_alive,
        Delivery::CutAfter(n) => {
            let _ = http::write_all(out, &bytes[..n.min(bytes.len())]);
            false
        }
        Delivery::Truncated(n) => {
            let _ = http::write_all(out, &bytes[..(head + n).min(bytes.len().saturating_sub(1))]);
            false
        }
        Delivery::HangAfter(n) => {
            let _ = http::write_all(out, &bytes[..n.min(bytes.len())]);
            // Ends when the client closes, or when stop() shuts the socket down.
            let mut ignored = [0; 512];
            while matches!(connection.read(&mut ignored), Ok(n) if n > 0) {}
            false
        }
        Delivery::Drip { bytes: step, pause } => {
            for piece in bytes.chunks(step.max(1)) {
                if http::write_all(out, piece).is_err() || !rest(pause, stop) {
                    return false;
                }
            }
            false
        }
    }
}

/// Sleeps, but wakes for a stop; false when stopped.
fn rest(time: Duration, stop: &AtomicBool) -> bool {
    let end = Instant::now() + time;
    loop {
        if stop.load(Ordering::SeqCst) {
            return false;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(Duration::from_millis(20)));
    }
}
