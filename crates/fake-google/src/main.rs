//! `fake-google --listen 127.0.0.1:PORT --control 127.0.0.1:PORT [--load FILE.json]`
//!
//! Prints one line when ready and runs until killed. The crate's page documents the control port and the file.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use fake_google::{FakeGoogle, Seed};

const USAGE: &str = "usage: fake-google --listen ADDR:PORT --control ADDR:PORT [--load FILE.json]";

struct Arguments {
    listen: SocketAddr,
    control: SocketAddr,
    load: Option<String>,
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let (mut listen, mut control, mut load) = (None, None, None);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n{USAGE}"));
        let address = |text: String| text.parse().map_err(|_| format!("{text} is no address with a port\n{USAGE}"));
        match word.as_str() {
            "--listen" => listen = Some(address(value()?)?),
            "--control" => control = Some(address(value()?)?),
            "--load" => load = Some(value()?),
            _ => return Err(format!("{word} is not understood\n{USAGE}")),
        }
    }
    match (listen, control) {
        (Some(listen), Some(control)) => Ok(Arguments { listen, control, load }),
        _ => Err(USAGE.into()),
    }
}

fn run() -> Result<(), String> {
    let arguments = arguments(std::env::args().skip(1))?;
    let fake = FakeGoogle::start_on(arguments.listen, arguments.control).map_err(|e| e.to_string())?;
    if let Some(file) = &arguments.load {
        let seed = Seed::read(Path::new(file)).map_err(|e| e.to_string())?;
        fake.load(&seed).map_err(|e| e.to_string())?;
    }
    println!("fake-google ready: API {}/calendar/v3, control {}", fake.api_url(), fake.control_url());
    loop {
        std::thread::park();
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
