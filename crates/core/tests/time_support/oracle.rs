//! Runs one of the Python programs of `tests/oracle`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Sends the cases through the program, a line each, and reads a line of JSON for each.
///
/// The interpreter is the one named by `PG_CALSYNC_PYTHON`, else `python3`, with `oracle/requirements.txt` installed.
pub fn ask(program: &str, cases: &[Value]) -> Vec<Value> {
    let python = std::env::var("PG_CALSYNC_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(program);
    let mut oracle =
        Command::new(&python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap_or_else(
            |error| panic!("cannot run {python}: {error}; set PG_CALSYNC_PYTHON to a Python 3.11 or later"),
        );
    let mut questions = oracle.stdin.take().expect("a pipe");
    let text: String = cases.iter().map(|case| format!("{case}\n")).collect();
    // A program that ends early leaves a broken pipe; its status says why.
    let writer = std::thread::spawn(move || questions.write_all(text.as_bytes()).is_ok());
    let output = oracle.wait_with_output().expect("its output");
    assert!(
        output.status.success() && writer.join().unwrap_or(false),
        "{program} failed, see above; to install what it needs: \
         {python} -m pip install -r crates/core/tests/oracle/requirements.txt \
         (or name another interpreter in PG_CALSYNC_PYTHON)"
    );
    let answers: Vec<Value> =
        output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!(answers.len(), cases.len(), "an answer to each case");
    answers
}

/// A number from the environment.
pub fn setting<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => otherwise,
    }
}
