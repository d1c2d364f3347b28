//! A receiver of notifications, as an application would run it: HTTP in, one SQL call, the status out.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use postgres::Client;
use serde_json::{Map, Value};

use crate::Connector;

/// The role that the receiver connects as: it may call `calsync_webhook`, and nothing else.
pub const RECEIVER: &str = "receiver";

/// What one notification said, and what it was answered.
#[derive(Debug, Clone)]
pub struct Received {
    pub headers: Value,
    pub status: i32,
}

pub struct Receiver {
    listener: TcpListener,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    pub fn bind() -> Self {
        Receiver { listener: TcpListener::bind("127.0.0.1:0").expect("a port"), received: Arc::default() }
    }

    /// For `calsync.webhook_url`.
    pub fn address(&self) -> String {
        format!("http://{}/calsync", self.listener.local_addr().expect("an address"))
    }

    /// Answers from now on, on a thread that ends with the process.
    pub fn serve(&self, connector: Connector) {
        let listener = self.listener.try_clone().expect("a listener");
        let received = Arc::clone(&self.received);
        thread::spawn(move || {
            let mut sql: Option<Client> = None;
            for stream in listener.incoming().map_while(Result::ok) {
                let headers = read_headers(&stream);
                let status = call(&mut sql, &connector, &headers);
                received.lock().unwrap_or_else(PoisonError::into_inner).push(Received { headers, status });
                let _ = write!(&stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
    }

    /// All that came, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// 503 where the database cannot be asked: then the provider tries again.
fn call(sql: &mut Option<Client>, connector: &Connector, headers: &Value) -> i32 {
    let asked = match sql.take().map_or_else(|| connector.connect_as(RECEIVER, "postgres"), Ok) {
        Ok(mut client) => client.query_one("SELECT calsync_webhook($1)", &[headers]).map(|row| (client, row.get(0))),
        Err(error) => Err(error),
    };
    match asked {
        Ok((client, status)) => {
            *sql = Some(client);
            status
        }
        Err(_) => 503,
    }
}

fn read_headers(stream: &TcpStream) -> Value {
    let lines = BufReader::new(stream).lines().map_while(Result::ok).skip(1).take_while(|line| !line.is_empty());
    let headers: Map<String, Value> = lines
        .filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_owned(), Value::from(value.trim()))))
        .collect();
    Value::Object(headers)
}
