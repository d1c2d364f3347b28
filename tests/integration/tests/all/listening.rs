//! `CALL calsync_run()` works on behalf of all, in the session of somebody who may not listen to what he asked to be told.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

use calsync_integration::{ALICE, World, eventually};
use postgres::{Config, NoTls};

/// All that Postgres can tell a client of what it does.
const CURIOUS: &str = "SET client_min_messages = debug5; SET debug_print_parse = on; SET debug_print_rewritten = on; \
                       SET debug_print_plan = on";

/// Nobody works but who calls. Alice's calendar is due, and has something in it.
fn due() -> World {
    let mut world = World::with("calsync.databases = 'nowhere'");
    world.meeting(3, "08:00", "09:00");
    world.daily(4, "10:00", "10:30", 10);
    world.subscribe(ALICE);
    world
}

#[test]
fn a_run_tells_its_caller_nothing_while_it_holds_locks() {
    let mut world = due();
    let (ear, told) = mpsc::channel();
    let mut config = Config::new();
    config.host_path(world.cluster.connector().socket()).user("postgres").dbname("postgres");
    config.notice_callback(move |notice| drop(ear.send(notice.message().to_owned())));
    let mut curious = config.connect(NoTls).expect("connected");
    curious.batch_execute(CURIOUS).expect("set");
    curious.batch_execute("SELECT 1").expect("a statement");
    assert!(told.try_iter().any(|message| message.contains("plan")), "he is told of his own statements");

    curious.batch_execute("CALL calsync_run()").expect("run");

    assert_eq!(world.busy().len(), 11);
    let told: Vec<String> = told.try_iter().collect();
    // Postgres tells of each transaction's end which number it has; it has one once it has written.
    let holds_locks = |message: &&String| message.contains("xid/subid/cid: ") && !message.contains("xid/subid/cid: 0/");
    assert_eq!(told.iter().filter(holds_locks).collect::<Vec<_>>(), Vec::<&String>::new());
    let of_ours = told.iter().filter(|message| message.contains("subscription") || message.contains("_event"));
    assert_eq!(of_ours.collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Speaks Postgres' protocol (3.0) as far as it takes to ask, and does not read.
struct Deaf(UnixStream);

impl Deaf {
    fn connect(world: &World) -> Self {
        let socket = world.cluster.connector().socket().join(".s.PGSQL.5432");
        let mut deaf = Deaf(UnixStream::connect(socket).expect("connected"));
        deaf.send(None, b"\x00\x03\x00\x00user\0postgres\0database\0postgres\0application_name\0deaf\0\0");
        deaf.listen();
        deaf
    }

    fn ask(&mut self, sql: &str) {
        self.send(Some(b'Q'), &[sql.as_bytes(), b"\0"].concat());
    }

    fn send(&mut self, kind: Option<u8>, body: &[u8]) {
        let length = (body.len() as u32 + 4).to_be_bytes();
        let message: Vec<u8> = kind.into_iter().chain(length).chain(body.iter().copied()).collect();
        self.0.write_all(&message).expect("sent");
    }

    /// Until the server is ready for the next question.
    fn listen(&mut self) {
        let mut head = [0; 5];
        while head[0] != b'Z' {
            self.0.read_exact(&mut head).expect("a message");
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            self.0.read_exact(&mut vec![0; length - 4]).expect("its body");
        }
    }
}

#[test]
fn a_caller_who_does_not_read_holds_up_no_calendar() {
    let mut world = due();
    let others: Vec<String> = (0..40).map(|n| format!("c{n}@x")).collect();
    world.others(&others.iter().map(String::as_str).collect::<Vec<_>>(), None);
    let mut deaf = Deaf::connect(&world);
    deaf.ask(CURIOUS);
    deaf.listen();

    deaf.ask("CALL calsync_run()");
    eventually("he waits to be read, or is done", || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'deaf' \
                     AND query = 'CALL calsync_run()' AND (state = 'idle' OR wait_event = 'ClientWrite')";
        world.count(waits) == 1
    });

    let locks = "SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) \
                 WHERE a.application_name = 'deaf' AND l.mode IN ('RowShareLock', 'RowExclusiveLock')";
    assert_eq!(world.count(locks), 0, "nobody waits for him");
    for statement in ["SET lock_timeout = '5s'", "SELECT calsync_pause('alice@example.com')", "CALL calsync_run()"] {
        world.sql.batch_execute(statement).expect("not held up");
    }
}
