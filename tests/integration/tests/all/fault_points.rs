//! `kill -9` on the postmaster in every phase of a round, full sync and delta, without a word of test code in the product.
//!
//! A table that the round is about to write is locked from another session, so that the worker stands still right there;
//! or the provider keeps silent. Readers see the old complete state until the kill and after it; then the round is
//! repeated, and the new state is the provider's.

use std::time::Duration;

use calsync_integration::{ALICE, World, eventually};
use chrono::{DateTime, TimeDelta, Utc};
use fake_google::{Action, Fault, Quirks};
use postgres::Client;
use serde_json::json;

/// Where the worker stands when the power goes.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// About to take the calendar, before any request.
    Claiming,
    /// About to write this table with the first page in its hands, of which more follow.
    WithThePageBefore(&'static str),
    /// About to write this table with the last page in its hands.
    Committing(&'static str),
    RequestInFlight,
    BetweenPages,
    AfterTheCommit,
}

/// What the round under way is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Round {
    Full,
    Delta,
}

/// So long a page is held back while a lock is taken; much longer than that takes.
const HELD_BACK: Duration = Duration::from_secs(2);

type Busy = Vec<(DateTime<Utc>, DateTime<Utc>)>;

/// A calendar with something of everything, synced; and then edited.
struct Story {
    world: World,
    round: Round,
    before: Busy,
    after: Busy,
}

impl Story {
    fn begin(round: Round) -> Self {
        let mut world = World::new();
        let moved = world.meeting(1, "08:00", "09:00");
        let deleted = world.meeting(2, "08:00", "09:00");
        world.meeting(3, "08:00", "09:00");
        let series = world.daily(4, "10:00", "10:30", 10);
        world.subscribe(ALICE);
        world.wait_for_sync(ALICE);
        let before = google_says(&world);

        let google = &world.google;
        let later = json!({"start": {"dateTime": world.at(1, "15:00")}, "end": {"dateTime": world.at(1, "16:00")}});
        google.patch_event(ALICE, &moved, &later).expect("moved");
        google.delete_event(ALICE, &deleted).expect("deleted");
        let occurrences = google.untouched_occurrences(ALICE, &series, Utc::now() + TimeDelta::days(30));
        let third = occurrences.expect("the series is there")[2]["id"].as_str().unwrap_or_default().to_owned();
        google.delete_event(ALICE, &third).expect("one occurrence deleted");
        for day in 20..24 {
            world.meeting(day, "08:00", "09:00");
        }
        let after = google_says(&world);
        assert_ne!(before, after);
        if round == Round::Full {
            // The token is spoilt at the provider, so that the rows here are the old ones until the full sync commits.
            world.google.expire_sync_tokens(None).expect("expired");
        }
        Story { world, round, before, after }
    }

    fn small_pages(&self) {
        self.world.google.set_quirks(None, Quirks { page_size_cap: Some(2), ..Quirks::default() }).expect("a quirk");
    }

    /// Brings the worker to the point. The session that holds it there is handed out.
    fn stand_at(&mut self, point: Point) -> Option<Client> {
        let asked_before = self.world.lists().len();
        // A full sync here begins with a refused delta.
        let first_list = asked_before + if self.round == Round::Full { 2 } else { 1 };
        match point {
            Point::Claiming => {
                // Nothing wakes the worker before the table is locked.
                let due = "UPDATE calsync.subscription SET next_sync_at = now()";
                self.world.sql.execute(due, &[]).expect("due");
                let mut holder = self.lock("subscription");
                holder.batch_execute("SELECT pg_reload_conf()").expect("the worker looks round");
                self.wait_until_it_stands_before("subscription");
                Some(holder)
            }
            Point::Committing(table) => {
                let holder = self.lock(table);
                self.make_due();
                self.wait_until_it_stands_before(table);
                Some(holder)
            }
            Point::WithThePageBefore(table) => {
                self.small_pages();
                self.hold_back(Fault::latency(HELD_BACK));
                self.make_due();
                eventually("the page is asked for", || self.world.lists().len() == first_list);
                let holder = self.lock(table);
                self.wait_until_it_stands_before(table);
                Some(holder)
            }
            Point::RequestInFlight => {
                self.hold_back(Fault::new(Action::Hang { bytes: 0 }).always());
                self.make_due();
                eventually("the request is in flight", || self.world.lists().len() == first_list);
                None
            }
            Point::BetweenPages => {
                self.small_pages();
                self.world.google.add_fault(Fault::new(Action::Hang { bytes: 0 }).on_query("pageToken").always());
                self.make_due();
                eventually("the first page is staged and the next in flight", || {
                    self.world.count("SELECT count(*) FROM calsync.staged_event") > 0
                        && self.world.lists().len() == first_list + 1
                });
                None
            }
            Point::AfterTheCommit => {
                self.make_due();
                eventually("the round is committed", || self.answer() == self.after);
                None
            }
        }
    }

    /// Of a full sync's requests, the list; the delta before it is refused at once.
    fn hold_back(&self, fault: Fault) {
        let skip = if self.round == Round::Full { 1 } else { 0 };
        self.world.google.add_fault(fault.skip(skip));
    }

    fn make_due(&mut self) {
        self.world.sql.execute("SELECT calsync_sync()", &[]).expect("due");
    }

    /// Nobody writes the table until this session ends; readers do not notice.
    fn lock(&self, table: &str) -> Client {
        let mut holder = self.world.cluster.connect("postgres");
        holder.batch_execute(&format!("BEGIN; LOCK TABLE calsync.{table} IN SHARE MODE")).expect("locked");
        holder
    }

    fn wait_until_it_stands_before(&mut self, table: &str) {
        let waits = format!(
            "SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) \
             WHERE NOT l.granted AND l.relation = 'calsync.{table}'::regclass AND a.backend_type = 'pg_calsync worker'"
        );
        eventually(&format!("the worker stands before calsync.{table}"), || self.world.count(&waits) == 1);
    }

    fn answer(&mut self) -> Busy {
        let (from, to) = window(&self.world);
        let busy = "SELECT lower(busy), upper(busy) FROM calsync_busy(tstzrange($1, $2), ARRAY[$3])";
        let rows = self.world.sql.query(busy, &[&from, &to, &ALICE]).expect("it answers");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

fn window(world: &World) -> (DateTime<Utc>, DateTime<Utc>) {
    let at = |day| (world.today + TimeDelta::days(day)).and_time(chrono::NaiveTime::MIN).and_utc();
    (at(-1), at(60))
}

/// Independently of the extension.
fn google_says(world: &World) -> Busy {
    let (from, to) = window(world);
    world.google.busy(ALICE, from, to).expect("the calendar is there")
}

/// The power goes while the worker stands there.
fn killed(point: Point, round: Round) {
    let mut story = Story::begin(round);
    let holder = story.stand_at(point);
    let seen = if matches!(point, Point::AfterTheCommit) { story.after.clone() } else { story.before.clone() };
    assert_eq!(story.answer(), seen, "{point:?}, {round:?}: before the crash");

    story.world.cluster.kill();
    drop(holder);
    // What is stored, not what a worker that was quicker than we has made of it.
    story.world.google.clear_faults();
    story.world.google.set_unavailable(true);
    story.world.cluster.start_again();
    story.world.sql = story.world.cluster.connect("postgres");
    assert_eq!(story.answer(), seen, "{point:?}, {round:?}: after the crash");

    story.world.google.set_unavailable(false);
    story.world.google.clear_log();
    let world = &mut story.world;
    world.sql.execute("UPDATE calsync.subscription SET synced_at = 'epoch'", &[]).expect("marked");
    eventually("it is synced again", || {
        let _ = world.sql.execute("SELECT calsync_sync()", &[]);
        world.count("SELECT count(*) FROM calsync.subscription WHERE state = 'active' AND synced_at > 'epoch'") == 1
    });
    world.wait_until_idle();
    assert_eq!(story.answer(), story.after, "{point:?}, {round:?}: in the end");
    let world = &mut story.world;
    for table in ["staged_event", "staged_round"] {
        assert_eq!(world.count(&format!("SELECT count(*) FROM calsync.{table}")), 0, "{point:?}, {round:?}: {table}");
    }
    if matches!(point, Point::AfterTheCommit) {
        assert!(world.lists().iter().all(|query| query.contains_key("syncToken")), "the token came through, too");
    }
    calsync_integration::check_derived(&mut world.sql);
}

fn killed_in_either_round(point: Point) {
    killed(point, Round::Full);
    killed(point, Round::Delta);
}

#[test]
fn killed_while_claiming() {
    killed_in_either_round(Point::Claiming);
}

#[test]
fn killed_while_the_request_is_in_flight() {
    killed_in_either_round(Point::RequestInFlight);
}

#[test]
fn killed_while_staging_a_page() {
    killed_in_either_round(Point::WithThePageBefore("staged_event"));
}

#[test]
fn killed_while_opening_the_round_of_a_page() {
    killed_in_either_round(Point::WithThePageBefore("staged_round"));
}

#[test]
fn killed_between_pages() {
    killed_in_either_round(Point::BetweenPages);
}

#[test]
fn killed_while_merging_events() {
    killed_in_either_round(Point::Committing("event"));
}

#[test]
fn killed_while_expanding_occurrences() {
    killed_in_either_round(Point::Committing("occurrence"));
}

#[test]
fn killed_while_deriving_busy_time() {
    killed_in_either_round(Point::Committing("busy"));
}

/// The last thing that a round writes, but that a lost token is told there first.
#[test]
fn killed_while_writing_history() {
    killed_in_either_round(Point::Committing("sync_run"));
}

#[test]
fn killed_right_after_the_commit() {
    killed_in_either_round(Point::AfterTheCommit);
}
