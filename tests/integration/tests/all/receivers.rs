//! The receiver that examples/ offers, between the fake Google and the database: HTTP on one side, SQL on the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use calsync_integration::{ALICE, Pushed, RECEIVER, eventually};
use fake_google::PushQuirks;

/// `examples/webhook_receiver.py`, until it is dropped.
struct Python {
    process: Child,
    address: String,
}

impl Python {
    fn start(databases: &[(&Path, &str)]) -> Self {
        let python = std::env::var_os("PG_CALSYNC_PYTHON").expect("PG_CALSYNC_PYTHON: run `make test`");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/webhook_receiver.py");
        let mut command = Command::new(python);
        command.arg(script).args(["--port", "0"]).stdout(Stdio::piped()).stderr(Stdio::null());
        for (socket, database) in databases {
            command.args(["--dsn", &format!("host={} dbname={database} user={RECEIVER}", socket.display())]);
        }
        let mut process = command.spawn().expect("python runs");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut line).expect("it says where it is");
        let address = line.trim().strip_prefix("listening on ").expect("an address").to_owned();
        Python { process, address }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Alice's calendar, watched through the Python receiver.
fn watched_through_python() -> (Pushed, Python) {
    let mut pushed = Pushed::with("calsync.push_poll_interval = '5s'");
    let python = Python::start(&[(pushed.world.cluster.connector().socket(), "postgres")]);
    // As long as nothing is lost, nothing is polled: a poll of ours would be taken for a notification.
    pushed.world.cluster.reconfigure(&format!(
        "calsync.webhook_url = '{}'\ncalsync.poll_interval = '1h'\ncalsync.push_poll_interval = '6h'",
        python.address
    ));
    pushed.world.subscribe(ALICE);
    pushed.wait_until_watched(1);
    (pushed, python)
}

/// The statuses that Google got, oldest first.
fn outcomes(pushed: &Pushed) -> Vec<String> {
    pushed.world.google.deliveries().into_iter().map(|attempt| attempt.outcome).collect()
}

/// POSTs these lines as headers; returns the status.
fn post(address: &str, headers: &[String]) -> String {
    let host = address.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).expect("the receiver listens");
    let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n");
    write!(stream, "{head}{}\r\n\r\n", headers.join("\r\n")).expect("it is sent");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

#[test]
fn notifications_that_are_late_or_come_twice_arrive_through_the_python_receiver() {
    let (mut pushed, _python) = watched_through_python();

    pushed.quirks(PushQuirks { delay_ms: 800, ..PushQuirks::default() });
    pushed.world.meeting(3, "08:00", "09:00");
    pushed.quirks(PushQuirks { duplicate: true, ..PushQuirks::default() });
    pushed.world.meeting(4, "08:00", "09:00");

    eventually("both are there", || pushed.world.busy().len() == 2);
    eventually("all four have been answered", || outcomes(&pushed) == ["200"; 4]);
}

#[test]
fn what_was_lost_before_the_python_receiver_is_found_by_the_slow_poll() {
    let (mut pushed, _python) = watched_through_python();
    pushed.quirks(PushQuirks { drop: true, ..PushQuirks::default() });
    pushed.world.meeting(3, "08:00", "09:00");

    pushed.world.cluster.reconfigure(
        "calsync.poll_interval = '1s'\ncalsync.max_poll_interval = '1s'\ncalsync.push_poll_interval = '2s'",
    );
    // The worker may be woken before it has read them.
    eventually("from now on by these", || {
        pushed.world.sync();
        pushed.world.count("SELECT count(*) FROM calsync.subscription WHERE next_sync_at < now() + interval '1 min'")
            == 1
    });
    assert_eq!(pushed.world.busy().len(), 1, "it is found");
    pushed.world.meeting(4, "08:00", "09:00");
    eventually("and what is lost from now on", || pushed.world.busy().len() == 2);

    assert_eq!(outcomes(&pushed), ["200"], "nobody told of it");
}

#[test]
fn forged_notifications_get_nothing_through_the_python_receiver() {
    let (mut pushed, python) = watched_through_python();
    let channel = pushed.world.google.channels().pop().expect("a channel");
    let before = pushed.world.lists().len();
    let notice = |id: &str, token: &str| {
        post(
            &python.address,
            &[
                format!("X-Goog-Channel-ID: {id}"),
                format!("X-Goog-Channel-Token: {token}"),
                format!("X-Goog-Resource-ID: {}", channel.resource_id),
                "X-Goog-Resource-State: exists".to_owned(),
                "X-Goog-Message-Number: 99".to_owned(),
            ],
        )
    };

    assert_eq!(notice(&channel.id, "guessed"), "403");
    assert_eq!(notice("guessed", "guessed"), "404");
    assert_eq!(post(&python.address, &["X-Goog-Channel-ID: \u{e9}".to_owned()]), "400");
    assert_eq!(post(&python.address, &["X: y".to_owned()]), "400");
    assert_eq!((pushed.states(), pushed.world.lists().len()), (vec!["open".to_owned()], before));

    assert_eq!(notice(&channel.id, &channel.token.clone().expect("a token")), "200");
    eventually("the genuine one is followed", || pushed.world.lists().len() > before);
}

#[test]
fn a_database_that_is_down_makes_google_try_again() {
    let (mut pushed, python) = watched_through_python();
    pushed.world.cluster.stop("fast");

    pushed.world.google.notify(ALICE).expect("a notification");
    eventually("it is refused for now", || outcomes(&pushed).last().is_some_and(|outcome| outcome == "503"));
    pushed.world.cluster.start_again();
    pushed.world.sql = pushed.world.cluster.connect("postgres");

    eventually("and taken later", || outcomes(&pushed).last().is_some_and(|outcome| outcome == "200"));
    drop(python);
}

/// A socket directory with no server behind it.
fn nowhere() -> &'static Path {
    Path::new("/nonexistent")
}

#[test]
fn a_database_that_is_down_keeps_no_notification_from_the_next() {
    let mut pushed = Pushed::new();
    let python = Python::start(&[(nowhere(), "first"), (pushed.world.cluster.connector().socket(), "postgres")]);
    pushed.world.cluster.reconfigure(&format!("calsync.webhook_url = '{}'", python.address));
    pushed.world.subscribe(ALICE);
    pushed.wait_until_watched(1);

    pushed.world.meeting(3, "08:00", "09:00");

    eventually("it arrives", || pushed.world.busy() == ["+3 08:00 to 09:00"]);
    assert_eq!(outcomes(&pushed), ["200"; 2]);
}

#[test]
fn google_tries_again_while_a_database_that_may_know_the_channel_is_down() {
    let mut pushed = Pushed::watched();
    let here = (pushed.world.cluster.connector().socket().to_owned(), "postgres");
    let channel = pushed.world.google.channels().pop().expect("a channel");
    let notice = |python: &Python, id: &str, token: &str| {
        let resource = format!("X-Goog-Resource-ID: {}", channel.resource_id);
        let headers = [format!("X-Goog-Channel-ID: {id}"), format!("X-Goog-Channel-Token: {token}"), resource];
        let rest = ["X-Goog-Resource-State: exists", "X-Goog-Message-Number: 99"].map(str::to_owned);
        post(&python.address, &[&headers[..], &rest[..]].concat())
    };
    let token = channel.token.clone().expect("a token");
    for databases in [[(nowhere(), "first"), (&*here.0, here.1)], [(&*here.0, here.1), (nowhere(), "second")]] {
        let python = Python::start(&databases);

        assert_eq!(notice(&python, "unknown", &token), "503", "the one that is down may know it");
        assert_eq!(notice(&python, &channel.id, "guessed"), "403", "the one that is there knows it");
        assert_eq!(notice(&python, &channel.id, &token), "200");
    }
    pushed.world.sql.batch_execute("CREATE DATABASE other").expect("a database");
    let extension =
        format!("CREATE EXTENSION pg_calsync; GRANT EXECUTE ON FUNCTION calsync_webhook(jsonb, text) TO {RECEIVER}");
    pushed.world.cluster.connect("other").batch_execute(&extension).expect("the extension");
    let python = Python::start(&[(&here.0, here.1), (&here.0, "other")]);
    assert_eq!(notice(&python, "unknown", &token), "404", "nobody knows it");
}

#[test]
fn one_receiver_serves_several_databases() {
    let mut pushed = Pushed::new();
    pushed.world.sql.batch_execute("CREATE DATABASE first").expect("a database");
    let mut first = pushed.world.cluster.connect("first");
    let empty =
        format!("CREATE EXTENSION pg_calsync; GRANT EXECUTE ON FUNCTION calsync_webhook(jsonb, text) TO {RECEIVER}");
    first.batch_execute(&empty).expect("the extension");
    let connector = pushed.world.cluster.connector();
    let python = Python::start(&[(connector.socket(), "first"), (connector.socket(), "postgres")]);
    pushed.world.cluster.reconfigure(&format!("calsync.webhook_url = '{}'", python.address));

    pushed.world.subscribe(ALICE);
    pushed.wait_until_watched(1);

    assert_eq!(outcomes(&pushed), ["200"]);
}
