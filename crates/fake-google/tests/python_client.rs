//! Google's own Python client against the fake: what it accepts is Google's protocol, whatever we believe.

mod story;

use std::process::Command;

use story::alice;

const INSTALL: &str = "Google's Python client is needed: make a virtual environment, \
    `pip install -r crates/fake-google/tests/requirements.txt` into it (google-api-python-client), and set \
    PG_CALSYNC_PYTHON to its python. `make test` does that.";

#[test]
fn googles_own_client_works_with_the_fake() {
    let (google, _client) = alice();
    let python = std::env::var("PG_CALSYNC_PYTHON").unwrap_or_else(|_| "python3".into());
    let importable = Command::new(&python).args(["-c", "import googleapiclient"]).output();
    let importable = importable.is_ok_and(|outcome| outcome.status.success());
    assert!(importable, "{python} cannot import googleapiclient. {INSTALL}");

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python_client.py");
    let outcome = Command::new(&python).arg(script).args([google.api_url(), google.control_url()]).output().unwrap();

    let said = [outcome.stdout, outcome.stderr].concat();
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&said));
}
