//! A server that says whatever it likes: bytes, not HTTP.

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// Stops with the value.
pub struct Stranger {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Stranger {
    /// Reads a request's head, and has `answer` write what comes back; it is given the request's first line.
    pub fn answering(answer: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::meeting(move |stream| {
            let mut head = BufReader::new(stream.try_clone()?).lines();
            let first = head.next().transpose()?.unwrap_or_default();
            while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
            answer(&first, stream)
        })
    }

    /// Has `answer` speak from the first byte of each connection, which is closed at its end.
    pub fn meeting(answer: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
        let addr = listener.local_addr().expect("it is bound");
        let (connections, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let acceptor = {
            let (connections, stop, answer) = (Arc::clone(&connections), Arc::clone(&stop), Arc::new(answer));
            thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    connections.fetch_add(1, Ordering::SeqCst);
                    let answer = Arc::clone(&answer);
                    // What goes wrong is that the client went away.
                    thread::spawn(move || drop(answer(&mut stream)));
                }
            })
        };
        Stranger { addr, connections, stop, acceptor: Some(acceptor) }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How often it was connected to.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // The acceptor sits in accept(): a connection of our own wakes it.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}
