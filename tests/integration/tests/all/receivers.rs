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
        let dsn = |(socket, database): &(&Path, &str)| dsn(socket, database, RECEIVER);
        Self::start_with(databases.iter().map(dsn), Stdio::null())
    }

    fn start_with(databases: impl Iterator<Item = String>, complaints: Stdio) -> Self {
        let python = std::env::var_os("PG_CALSYNC_PYTHON").expect("PG_CALSYNC_PYTHON: run `make test`");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/webhook_receiver.py");
        let mut command = Command::new(python);
        command.arg(script).args(["--port", "0"]).stdout(Stdio::piped()).stderr(complaints);
        for dsn in databases {
            command.args(["--dsn", &dsn]);
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

fn dsn(socket: &Path, database: &str, role: &str) -> String {
    format!("host={} dbname={database} user={role}", socket.display())
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
    post_to(host, headers, &[])
}

fn post_to(host: &str, headers: &[String], body: &[u8]) -> String {
    let mut stream = TcpStream::connect(host).expect("the receiver listens");
    let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    write!(stream, "{head}{}\r\n\r\n", headers.join("\r\n")).expect("it is sent");
    stream.write_all(body).expect("it is taken to its end");
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

/// What Google sends for the channel of Alice's calendar.
fn genuine(pushed: &Pushed, number: u64) -> Vec<String> {
    let headers = pushed.genuine(number);
    let headers = headers.as_object().expect("headers").iter();
    headers.map(|(name, value)| format!("{name}: {}", value.as_str().expect("a text"))).collect()
}

#[test]
fn a_locked_row_takes_few_sessions_of_the_server_and_nothing_is_lost() {
    let (mut pushed, python) = watched_through_python();
    let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{RECEIVER}'");
    let mut forgotten = pushed.world.cluster.connect("postgres");
    forgotten.batch_execute("BEGIN; SELECT FROM calsync.channel FOR UPDATE").expect("a lock");
    let crowd: Vec<Vec<String>> = (100..160).map(|number| genuine(&pushed, number)).collect();

    pushed.world.meeting(3, "08:00", "09:00");
    std::thread::scope(|scope| {
        let address = &python.address;
        let posts: Vec<_> = crowd.iter().map(|headers| scope.spawn(move || post(address, headers))).collect();
        let mut most = 0;
        while !posts.iter().all(|post| post.is_finished()) {
            most = most.max(pushed.world.count(&sessions));
        }
        // Four, and those that are going as others come.
        assert!((1..=8).contains(&most), "of 60 notifications: {most}");
        assert!(posts.into_iter().all(|post| post.join().expect("an answer") == "503"), "Google shall try again");
    });
    eventually("so it is told", || outcomes(&pushed).last().is_some_and(|outcome| outcome == "503"));
    forgotten.batch_execute("ROLLBACK").expect("remembered");

    eventually("it tries again", || outcomes(&pushed).last().is_some_and(|outcome| outcome == "200"));
    eventually("nothing is lost", || pushed.world.busy() == ["+3 08:00 to 09:00"]);
}

#[test]
fn what_is_no_notification_never_reaches_the_database() {
    let (mut pushed, python) = watched_through_python();
    let genuine = genuine(&pushed, 99);
    let but = |name: &str, value: &str| -> Vec<String> {
        let others = genuine.iter().filter(|line| !line.starts_with(&format!("{name}:"))).cloned();
        others.chain((!value.is_empty()).then(|| format!("{name}: {value}"))).collect()
    };
    let nul = but("X-Goog-Resource-ID", "a\0b");
    pushed.world.cluster.stop("fast");

    for needed in ["X-Goog-Channel-ID", "X-Goog-Channel-Token", "X-Goog-Resource-State", "X-Goog-Message-Number"] {
        assert_eq!(post(&python.address, &but(needed, "")), "400", "without {needed}");
        assert_eq!(post(&python.address, &but(needed, "a\0b")), "400", "{needed}");
    }
    assert_eq!(post(&python.address, &nul), "400");
    assert_eq!(post(&python.address, &genuine), "503", "only what may be one waits for it");
}

#[test]
fn a_body_is_dropped_however_large_it_is_and_the_client_sees_the_answer() {
    let (pushed, python) = watched_through_python();
    let host = python.address.trim_start_matches("http://").trim_end_matches('/');
    let body = vec![b'x'; 30_000_000];

    assert_eq!(post_to(host, &["X: y".to_owned()], &body), "400");
    assert_eq!(post_to(host, &genuine(&pushed, 99), &body), "200");
}

#[test]
fn the_python_receiver_tells_at_its_start_why_a_database_takes_nothing() {
    let pushed = Pushed::new();
    let here = pushed.world.cluster.connector();
    pushed.world.cluster.connect("postgres").batch_execute("CREATE ROLE stranger LOGIN").expect("a role");
    let databases = [
        dsn(here.socket(), "postgres", RECEIVER),
        dsn(here.socket(), "postgres", "nobody") + " password=hunter2",
        dsn(here.socket(), "postgres", "stranger"),
        dsn(nowhere(), "postgres", RECEIVER),
    ];

    let mut python = Python::start_with(databases.into_iter(), Stdio::piped());

    python.process.kill().expect("it has started");
    let mut complaints = String::new();
    python.process.stderr.take().expect("complaints").read_to_string(&mut complaints).expect("text");
    let complaints: Vec<&str> =
        complaints.lines().filter(|line| line.starts_with("a database takes nothing")).collect();
    let [nobody, stranger, nowhere] = complaints[..] else { panic!("{complaints:?}") };
    assert!(nobody.contains("role \"nobody\" does not exist") && !nobody.contains("hunter2"), "{nobody}");
    assert!(stranger.ends_with(": InsufficientPrivilege"), "{stranger}");
    assert!(nowhere.contains("/nonexistent"), "{nowhere}");
}
