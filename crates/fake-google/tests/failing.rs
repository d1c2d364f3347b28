//! Faults: errors by script, cut and endless answers, outages.

mod story;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use fake_google::{Action, Fault};
use story::{ALICE, alice, events, meeting};

#[test]
fn a_quota_error_comes_so_often_as_scripted_and_only_where() {
    let (google, client) = alice();
    google.add_fault(Fault::error(403, "rateLimitExceeded").times(2).on_calendar(ALICE).on_method("GET"));

    assert_eq!(client.get("/users/me/calendarList").status, 200);
    for _ in 0..2 {
        let answer = client.full();
        assert_eq!((answer.status, answer.reason()), (403, "rateLimitExceeded"));
        assert_eq!(answer.json["error"]["errors"][0]["domain"], "usageLimits");
    }
    assert_eq!(client.full().status, 200);
    google.add_fault(Fault::error(403, "quotaExceeded"));
    assert_eq!(client.full().json["error"]["message"], "Calendar usage limits exceeded.");
}

#[test]
fn retry_after_is_sent_and_faults_can_skip_and_stay() {
    let (google, client) = alice();
    let id = google.add_fault(Fault::error(429, "rateLimitExceeded").retry_after("7").skip(1).always());

    assert_eq!(client.full().status, 200);
    let limited = client.full();
    assert_eq!((limited.status, limited.headers["retry-after"].to_str().unwrap()), (429, "7"));
    assert_eq!(client.full().status, 429);
    assert!(google.remove_fault(id));
    assert_eq!(client.full().status, 200);
}

#[test]
fn faults_match_the_query_and_the_token_endpoint() {
    let (google, client) = alice();
    google.add_fault(Fault::error(500, "backendError").on_query("syncToken="));
    google.add_fault(Fault::error(503, "backendError").on_path("/token"));

    let token = client.full().sync_token();
    assert_eq!(client.delta(&token).status, 500);
    assert_eq!(client.delta(&token).status, 200);
    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
    assert_eq!(config.new_agent().post(google.token_url()).send("a=b").unwrap().status(), 503);
}

#[test]
fn latency_delays_and_still_answers() {
    let (google, client) = alice();
    google.add_fault(Fault::latency(Duration::from_millis(150)));
    let begin = Instant::now();
    assert_eq!(client.full().status, 200);
    assert!(begin.elapsed() >= Duration::from_millis(150));
}

#[test]
fn connections_are_cut_before_and_within_the_answer() {
    let (google, client) = alice();
    let insert = || {
        client.try_send("POST", &events(""), &[], Some(&meeting("m", "2025-03-24T10:00:00Z", "2025-03-24T11:00:00Z")))
    };

    google.add_fault(Fault::new(Action::CutBefore));
    assert!(insert().is_err());
    assert_eq!(google.events(ALICE).unwrap().len(), 0, "cut before: nothing was done");

    google.add_fault(Fault::new(Action::CutAfter { bytes: 0 }));
    assert!(insert().is_err());
    assert_eq!(google.events(ALICE).unwrap().len(), 1, "cut after: it was done, the answer is lost");

    google.add_fault(Fault::new(Action::CutAfter { bytes: 30 }));
    assert!(insert().is_err());
    google.add_fault(Fault::new(Action::Truncate { bytes: 40 }));
    assert!(client.try_send("GET", &events(""), &[], None).is_err(), "Content-Length promised more");
}

#[test]
fn a_truncated_answer_promises_what_it_does_not_send() {
    let (google, _client) = alice();
    google.add_fault(Fault::new(Action::Truncate { bytes: 10 }));

    let mut stream = TcpStream::connect(google.api_url().trim_start_matches("http://")).unwrap();
    write!(stream, "GET /calendar/v3{} HTTP/1.1\r\nHost: x\r\n\r\n", events("")).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();

    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    assert!(length.parse::<usize>().unwrap() > 10);
    assert_eq!(body.len(), 10);
}

#[test]
fn an_answer_may_be_no_json_at_all() {
    let (google, client) = alice();
    let body = "<html>Sorry, a temporary error</html>".to_owned();
    google.add_fault(Fault::new(Action::Body { status: 502, content_type: "text/html".into(), body, headers: vec![] }));
    let answer = client.full();
    assert_eq!((answer.status, answer.json.as_str().unwrap().contains("Sorry")), (502, true));
}

#[test]
fn a_hanging_request_is_accepted_and_never_answered() {
    let (google, client) = alice();
    google.add_fault(Fault::new(Action::Hang { bytes: 0 }));
    let impatient = ureq::Agent::config_builder().timeout_global(Some(Duration::from_millis(300))).build().new_agent();

    let silence = impatient.get(format!("{}/calendar/v3{}", google.api_url(), events(""))).call();

    assert!(matches!(silence, Err(ureq::Error::Timeout(_))));
    let entry = &google.log()[0];
    assert_eq!((entry.status, entry.fault.as_deref()), (0, Some("hang")));
    assert_eq!(client.full().status, 200, "others are answered");
}

#[test]
fn a_dripping_answer_arrives_in_the_end() {
    let (google, client) = alice();
    google.add_fault(Fault::new(Action::Drip { bytes: 100, pause_ms: 5 }));
    assert_eq!(client.full().json["kind"], "calendar#events");
}

#[test]
fn an_outage_refuses_or_answers_503_and_loses_nothing() {
    let (google, client) = alice();
    let token = client.full().sync_token();
    let url = google.api_url();

    google.stop();
    google.insert_event(ALICE, &meeting("meanwhile", "2025-03-24T10:00:00Z", "2025-03-24T11:00:00Z")).unwrap();
    assert!(client.try_send("GET", &events(""), &[], None).is_err());
    google.start_again().unwrap();
    assert_eq!(google.api_url(), url);
    assert_eq!(client.delta(&token).ids().len(), 1);

    google.set_unavailable(true);
    assert_eq!(client.full().status, 503);
    google.set_unavailable(false);
    assert_eq!(client.full().status, 200);
}

#[test]
fn every_request_is_in_the_log() {
    let (google, client) = alice();
    client.list(&[("maxResults", "7"), ("timeMin", "2025-03-24T00:00:00+01:00")]);
    client.send("GET", &events("x"), &[("X-Trace", "abc")], None);

    let log = google.log();
    assert_eq!(log.len(), 2);
    assert_eq!((log[0].method.as_str(), log[0].status, log[0].calendar.as_deref()), ("GET", 200, Some(ALICE)));
    assert_eq!(log[0].param("timeMin"), Some("2025-03-24T00:00:00+01:00"));
    assert_eq!((log[1].status, log[1].header("X-Trace")), (404, Some("abc")));
    google.clear_log();
    assert!(google.log().is_empty());
}

#[test]
fn a_long_get_may_come_as_a_post() {
    let (google, _client) = alice();
    let agent = ureq::Agent::new_with_defaults();
    let request = agent.post(format!("{}/calendar/v3{}", google.api_url(), events("")));
    let request = request.header("X-HTTP-Method-Override", "GET").content_type("application/x-www-form-urlencoded");
    assert_eq!(request.send("maxResults=3").unwrap().status(), 200);
    assert_eq!(google.log()[0].param("maxResults"), Some("3"));
}

#[test]
fn a_quota_of_requests_a_minute_is_kept_for_each_user() {
    let (google, mut client) = alice();
    google.set_quota(Some(2));

    assert_eq!((client.full().status, client.full().status), (200, 200));
    let third = client.full();
    assert_eq!((third.status, third.reason()), (403, "rateLimitExceeded"));
    client.bearer = Some("somebody else".into());
    assert_eq!(client.full().status, 200);
    client.bearer = None;
    google.advance_clock(chrono::TimeDelta::seconds(61));
    assert_eq!(client.full().status, 200);
}

#[test]
fn a_body_may_come_in_chunks_after_a_question() {
    let (google, _client) = alice();
    let mut stream = TcpStream::connect(google.api_url().trim_start_matches("http://")).unwrap();
    write!(
        stream,
        "POST /calendar/v3{} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
        events("")
    )
    .unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert!(interim.starts_with(b"HTTP/1.1 100 Continue"));

    let body = meeting("in chunks", "2025-03-24T10:00:00Z", "2025-03-24T11:00:00Z").to_string();
    for piece in body.as_bytes().chunks(17) {
        write!(stream, "{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)).unwrap();
    }
    write!(stream, "0\r\n\r\nGET /calendar/v3/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();

    assert!(answers.starts_with("HTTP/1.1 200 OK") && answers.contains("in chunks"), "{answers}");
    assert!(answers.contains("HTTP/1.1 404"), "the connection served a second request");
}

#[test]
fn what_is_no_http_is_told_so() {
    let (google, _client) = alice();
    let mut stream = TcpStream::connect(google.api_url().trim_start_matches("http://")).unwrap();
    write!(stream, "no such thing\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}
