//! A provider that means harm, a name that leads inside, an environment that leads astray: each is a row with a reason,
//! and the worker lives. What the pure rules refuse is tabled in `crates/core/tests/destination.rs`.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use calsync_integration::{ALICE, Stranger, World, eventually, peak_memory, sqlstate};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

/// What a stranger does with a connection, the request being read.
type Script = Box<dyn Fn(&mut TcpStream) -> io::Result<()> + Send + Sync>;

/// A calendar's name, what is answered when it is asked for, and what its `last_error` then says.
struct Answer {
    calendar: &'static str,
    script: Script,
    reason: &'static str,
}

fn says(calendar: &'static str, bytes: impl Into<Vec<u8>>, reason: &'static str) -> Answer {
    let bytes = bytes.into();
    Answer { calendar, script: Box::new(move |stream| stream.write_all(&bytes)), reason }
}

/// Says the first once and the second for ever.
fn goes_on(calendar: &'static str, first: &'static str, for_ever: impl Into<String>, reason: &'static str) -> Answer {
    drips(calendar, first, for_ever, Duration::ZERO, reason)
}

fn drips(
    calendar: &'static str,
    first: &'static str,
    for_ever: impl Into<String>,
    pause: Duration,
    reason: &'static str,
) -> Answer {
    let for_ever = for_ever.into();
    let script = move |stream: &mut TcpStream| {
        stream.write_all(first.as_bytes())?;
        loop {
            stream.write_all(for_ever.as_bytes())?;
            std::thread::sleep(pause);
        }
    };
    Answer { calendar, script: Box::new(script), reason }
}

fn silent(calendar: &'static str, reason: &'static str) -> Answer {
    Answer { calendar, script: Box::new(|stream| stream.read(&mut [0]).map(drop)), reason }
}

fn packed(head: &str, body: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(body).expect("memory is writable");
    let body = packed.finish().expect("memory is writable");
    [format!("{head}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes(), body].concat()
}

/// A page of so many items.
fn many(item: &str, times: usize) -> Vec<u8> {
    format!("{{\"items\":[{item}{}],\"nextSyncToken\":\"t\"}}", format!(",{item}").repeat(times - 1)).into_bytes()
}

const A_LITTLE: Duration = Duration::from_millis(20);
const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// `trap`: where redirects lead that may not be followed.
fn hostile_answers(trap: &str) -> Vec<Answer> {
    let redirect = |status: u16, location: &str| {
        format!("HTTP/1.1 {status} Over There\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
    };
    let not_followed = ": a redirect, which is not followed";
    let gzip = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip";
    vec![
        says("redirect-here@x", redirect(301, trap), not_followed),
        says("redirect-post@x", redirect(307, trap), not_followed),
        says("redirect-forever@x", redirect(308, trap), not_followed),
        says("redirect-relative@x", redirect(302, "/calendar/v3/trap"), not_followed),
        says("redirect-metadata@x", redirect(302, "http://169.254.169.254/latest/meta-data/"), "answered 302"),
        says("redirect-file@x", redirect(302, "file:///etc/passwd"), "answered 302"),
        says("redirect-nowhere@x", "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "answered 302"),
        says("not-modified@x", "HTTP/1.1 304 Not Modified\r\n\r\n", "the provider answered 304"),
        says("bomb@x", packed(gzip, &vec![b' '; 64 << 20]), "larger than calsync.max_response_size (1024 kB)"),
        says("bomb-of-events@x", packed(gzip, &many("{}", 300_000)), "the page holds more than 10000 events"),
        says("one-large-event@x", packed(gzip, &many(&format!("\"{}\"", "x".repeat(1 << 20)), 1)), "than calsync.max"),
        says("bomb-of-keys@x", packed(gzip, format!("{{\"x\":[{}1]}}", "1,".repeat(400_000)).as_bytes()), "not a list"),
        says("long-error@x", format!("HTTP/1.1 503 Busy\r\n\r\n{}", "[1,".repeat(300_000)), "answered 503"),
        says("bomb-twice@x", packed(gzip, &packed("", &vec![0; 1 << 20])), "not readable as JSON"),
        says("no-gzip@x", format!("{gzip}\r\nContent-Length: 4\r\n\r\nabcd"), "the answer"),
        says("cut-gzip@x", &packed(gzip, b"{}")[..80], "cannot be unpacked"),
        goes_on("endless-body@x", OK, "                ", "larger than calsync.max_response_size"),
        goes_on(
            "endless-chunks@x",
            CHUNKED,
            format!("1000\r\n{:4096}\r\n", ' '),
            "larger than calsync.max_response_size",
        ),
        goes_on("endless-headers@x", "HTTP/1.1 200 OK\r\n", "X-More: more\r\n", "the answer"),
        goes_on("endless-header@x", "HTTP/1.1 200 OK\r\nX-More: ", "more and more ", "head is larger than 64 kB"),
        goes_on("endless-status@x", "HTTP/1.1 200 ", "OK", "the answer"),
        goes_on("endless-hints@x", "", "HTTP/1.1 103 Early Hints\r\n\r\n", "head is larger than 64 kB"),
        goes_on("endless-trailers@x", CHUNKED_AND_DONE, "X-More: more\r\n", "the answer "),
        drips("slow-head@x", "HTTP/1.1 200 OK\r\n", "X", A_LITTLE, "did not answer in time"),
        drips("slow-body@x", OK, " ", A_LITTLE, "did not end in time"),
        drips("slow-chunks@x", CHUNKED, "1\r\n \r\n", A_LITTLE, "did not end in time"),
        silent("silent@x", "did not answer in time"),
        says("gone@x", "", "Peer disconnected"),
        says("too-long@x", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "broke off"),
        says("too-short@x", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}", "not readable as JSON"),
        says("negative@x", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}", "not HTTP"),
        says("two-lengths@x", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n{}", "not HTTP"),
        says("huge-length@x", "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n{}", "broke off"),
        says("no-chunks@x", format!("{CHUNKED}not a number\r\n{{}}"), "not HTTP"),
        says("huge-chunk@x", format!("{CHUNKED}FFFFFFFFFFFFFFFF\r\n{{}}"), "the answer"),
        says("huger-chunk@x", format!("{CHUNKED}FFFFFFFFFFFFFFFFF\r\n{{}}"), "the answer"),
        says("http-0.9@x", "<html>Welcome</html>", "not HTTP"),
        says("http-9@x", "HTTP/9.9 200 OK\r\n\r\n{}", "not HTTP"),
        says("ftp@x", "220 ready\r\n", "not HTTP"),
        says("noise@x", [0, 159, 146, 150, 13, 10, 13, 10], "not HTTP"),
        says("status-0@x", "HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n", "the answer"),
        says("status-999@x", "HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n", "answered 999"),
        says("no-content@x", "HTTP/1.1 204 No Content\r\n\r\n", "answered 204"),
        says("html@x", format!("{OK}<html>Log in first</html>"), "not readable as JSON"),
        says("deep@x", format!("{OK}{}", "[".repeat(500_000)), "the answer"),
        says("deep-items@x", format!("{OK}{{\"items\":[{}", "{\"a\":".repeat(100_000)), "not readable as JSON"),
        says(
            "terminal@x",
            "HTTP/1.1 400 Bad\r\n\r\n{\"error\":{\"message\":\"\\u001b[2J\\u0000\\u202egone\\r\\n\"}}",
            "the provider answered 400: ",
        ),
    ]
}

const CHUNKED_AND_DONE: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n";

#[test]
fn a_hostile_answer_is_its_calendars_failure_and_the_worker_lives() {
    let trap = Stranger::answering(|_, _| Ok(()));
    let answers = Arc::new(hostile_answers(&format!("http://{}/", trap.addr())));
    let stranger = {
        let answers = Arc::clone(&answers);
        Stranger::answering(move |request, stream| {
            let asked = |answer: &&Answer| request.contains(&answer.calendar.replace('@', "%40"));
            match answers.iter().find(asked) {
                Some(answer) => (answer.script)(stream),
                None if request.contains("trap") => panic!("the redirect was followed: {request}"),
                None => stream.write_all(
                    format!("{OK}{{\"timeZone\": \"UTC\", \"items\": [], \"nextSyncToken\": \"t\"}}").as_bytes(),
                ),
            }
        })
    };
    let mut world = World::with(&format!(
        "calsync.google_api_url = 'http://{}/calendar/v3'\ncalsync.request_timeout = '1s'\n\
         calsync.max_response_size = '1MB'\ncalsync.requests_per_minute = 10000",
        stranger.addr()
    ));
    let worker = "SELECT pid::bigint FROM calsync.stat_worker";
    eventually("a worker runs", || world.sql.query(worker, &[]).is_ok_and(|rows| rows.len() == 1));
    let before = world.count(worker);
    for answer in &*answers {
        world.subscribe(answer.calendar);
    }

    for Answer { calendar, reason, .. } in &*answers {
        let sql = "SELECT last_error FROM calsync.status WHERE calendar = $1 AND state = 'backoff'";
        let mut told = String::new();
        // Not the first failure: a connection that was kept open may have been another stranger's, who has left.
        eventually(&format!("{calendar}: {reason}"), || {
            let before = std::mem::replace(&mut told, world.text(sql, calendar));
            if told != before {
                println!("{calendar}: {told}");
            }
            told.contains(reason)
        });
        assert!(!told.chars().any(|c| c.is_control() || c == '\u{202e}'), "{calendar}: {told:?}");
    }
    world.subscribe(ALICE);
    eventually("a good calendar is synced beside them", || world.status("state") == "active");
    assert_eq!(world.count(worker), before, "the worker never died");
    assert_eq!(trap.connections(), 0, "no redirect was followed");
}

#[test]
fn a_small_answer_that_unpacks_into_millions_of_events_takes_little_memory() {
    let nested = format!("{{\"x\": {}}}", String::from_utf8(many("{}", 10_000_000)).expect("text")).into_bytes();
    let bombs = [
        ("events@x", packed("HTTP/1.1 200 OK\r\nContent-Encoding: gzip", &many("{}", 10_000_000))),
        ("error@x", packed("HTTP/1.1 403 No\r\nContent-Encoding: gzip", &many("{}", 10_000_000))),
        ("keys@x", packed("HTTP/1.1 200 OK\r\nContent-Encoding: gzip", &nested)),
    ];
    assert!(bombs.iter().all(|(_, bomb)| bomb.len() < 256 * 1024), "they are small on the way");
    let stranger = Stranger::answering(move |request, stream| {
        let asked = bombs.iter().find(|(calendar, _)| request.contains(&calendar.replace('@', "%40")));
        stream.write_all(&asked.expect("one of them").1)
    });
    let mut world = World::with(&format!("calsync.google_api_url = 'http://{}/calendar/v3'", stranger.addr()));
    let worker = "SELECT pid::bigint FROM calsync.stat_worker";
    eventually("a worker runs", || world.sql.query(worker, &[]).is_ok_and(|rows| rows.len() == 1));
    let worker = world.count(worker);

    for calendar in ["events@x", "error@x", "keys@x"] {
        world.subscribe(calendar);
    }
    for calendar in ["events@x", "error@x", "keys@x"] {
        let failed = "SELECT (last_error IS NOT NULL)::int::bigint FROM calsync.status WHERE calendar = $1";
        eventually(calendar, || world.sql.query_one(failed, &[&calendar]).expect("a calendar").get::<_, i64>(0) == 1);
    }

    let peak = peak_memory(worker);
    println!("the worker took {peak} MB at most");
    assert!(peak < 300, "as JSON values or rows they would take gigabytes: {peak} MB");
}

#[test]
fn a_url_that_may_not_be_asked_is_a_failure_that_says_so() {
    let mut world = World::synced();
    let inside = Stranger::answering(|_, _| Ok(()));
    let port = inside.addr().port();
    let refused = [
        // (the private network allowed, the URL, why not)
        (false, format!("https://localhost:{port}"), "its host is not in the public Internet"),
        (false, format!("https://LOCALHOST.:{port}"), "its host is not in the public Internet"),
        (false, format!("https://127.0.0.1:{port}"), "its host is not in the public Internet"),
        (false, format!("https://[::1]:{port}"), "its host is not in the public Internet"),
        (false, "https://169.254.169.254".to_owned(), "its host has no address that may be asked"),
        (false, format!("http://127.0.0.1:{port}"), "without TLS"),
        (false, format!("http://localhost:{port}"), "without TLS"),
        (true, "https://169.254.169.254".to_owned(), "its host has no address that may be asked"),
        (true, "http://169.254.169.254".to_owned(), "without TLS"),
        (true, format!("https://0.0.0.0:{port}"), "its host has no address that may be asked"),
        (true, format!("https://[::ffff:127.0.0.1]:{port}"), "its host has no address that may be asked"),
    ];
    for (allowed, url, why) in refused {
        let allowed = if allowed { "on" } else { "off" };
        world.cluster.reconfigure(&format!(
            "calsync.allow_private_network = {allowed}\ncalsync.google_api_url = '{url}/calendar/v3'"
        ));
        eventually(&format!("{url} is refused"), || {
            world.sql.execute("SELECT calsync_sync()", &[]).expect("due");
            let told = world.status("last_error");
            told.starts_with("refused URL (SC008): ") && told.contains(why)
        });
        world.sql.execute("UPDATE calsync.subscription SET last_error = NULL", &[]).expect("forgotten");
    }
    assert_eq!(inside.connections(), 0, "nothing was even connected to");
    let health: Value = world.sql.query_one("SELECT calsync_health()", &[]).expect("health").get(0);
    assert!(health["problems"].to_string().contains("1 not asked: their URL is refused (SC008)"), "{health}");

    let good = world.google.api_url();
    world
        .cluster
        .reconfigure(&format!("calsync.allow_private_network = on\ncalsync.google_api_url = '{good}/calendar/v3'"));
    eventually("it is synced again", || {
        world.sql.execute("SELECT calsync_sync()", &[]).expect("due");
        world.status("state") == "active"
    });
}

#[test]
fn a_calendars_id_leads_nowhere_but_to_its_calendar() {
    let mut world = World::new();
    for (id, asked_for) in [("../../token", true), ("..", false), ("a/b?c=d#e", true), ("@evil.example", true)] {
        world.google.clear_log();
        world.subscribe(id);
        let told = "SELECT last_error FROM calsync.status WHERE calendar = $1";
        eventually("it has failed", || !world.text(told, id).is_empty());

        assert_eq!(world.text(told, id).contains("SC008"), !asked_for, "{id}: {}", world.text(told, id));
        for entry in world.google.log() {
            assert!(entry.path.starts_with("/calendar/v3/calendars/"), "{id}: {}", entry.path);
            assert!(entry.path.ends_with("/events"), "{id}: {}", entry.path);
        }
        world.sql.execute("SELECT calsync_unsubscribe($1)", &[&id]).expect("unsubscribed");
    }
}

#[test]
fn proxies_of_the_environment_are_not_used() {
    let proxy = Stranger::meeting(|_| Ok(()));
    let url = format!("http://{}", proxy.addr());
    let environment: Vec<(&str, &str)> =
        ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"]
            .map(|name| (name, url.as_str()))
            .to_vec();

    let mut world = World::in_environment(&environment, "");
    world.subscribe(ALICE);
    world.wait_for_sync(ALICE);

    assert_eq!(proxy.connections(), 0);
}

#[test]
fn a_setting_that_names_no_url_is_refused_where_it_is_set() {
    let mut world = World::new();
    for url in ["ftp://calendar.example", "https://user:secret@calendar.example", "https://127.1", "", "http//x"] {
        for setting in ["calsync.google_api_url", "calsync.google_token_url"] {
            let refused = world.sql.batch_execute(&format!("ALTER SYSTEM SET {setting} = '{url}'"));

            let error = refused.expect_err(url);
            let told = error.as_db_error().expect("of the server's");
            assert_eq!(sqlstate(&error), "SC008", "{setting} = {url}: {told:?}");
            assert!(told.detail().is_some_and(|detail| detail.starts_with("The URL is refused: ")), "{told:?}");
            assert!(told.hint().is_some(), "{told:?}");
        }
    }
    world.sql.batch_execute("ALTER SYSTEM SET calsync.google_api_url = 'https://calendar.example/v3'").expect("a URL");
}

#[test]
fn a_slip_in_the_configuration_file_does_not_lead_to_the_real_google() {
    let mut world = World::with("calsync.google_api_url = 'ftp://calendar.example'");
    world.subscribe(ALICE);
    world.wait_for_status("state", "backoff");

    assert_eq!(world.status("last_error"), "refused URL (SC008): it is not https");
    // Nor is it the business of a query that has nothing to do with it.
    world.sql.batch_execute("SET force_parallel_mode = on; SELECT count(*) FROM pg_class").expect("a parallel query");
}
