//! Readers look on all the while. From a calendar's first answer on they must get one at each question, whatever blows,
//! and never a half state.
//!
//! Each list of Google's shows a calendar as it was at one moment, so each answer must be what the calendar was at one
//! moment, and never an earlier one than an answer before. Markers in every calendar show that: events on days that
//! nobody else touches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use calsync_integration::{Cluster, Connector, sqlstate};
use chrono::{DateTime, NaiveDate, Utc};
use postgres::Client;

use crate::sky::{DATABASE, Kept};

/// Events that show whether an answer is whole.
pub mod markers {
    use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
    use fake_google::Control;
    use serde_json::{Value, json};

    /// Never touched: always busy.
    pub const STILL: i64 = -29;
    /// One event that moves to the next slot, again and again: exactly one slot is busy, and never an earlier one than
    /// before.
    pub const TICK: i64 = -28;
    /// The next event is made, then the one before is deleted: at least one slot is busy.
    pub const BATON: i64 = -27;

    const SLOTS: usize = 280;

    pub fn is_marker(id: &str) -> bool {
        id.starts_with("marker")
    }

    pub fn slot(today: NaiveDate, day: i64, slot: usize) -> (DateTime<Utc>, DateTime<Utc>) {
        let start = (today + TimeDelta::days(day)).and_time(NaiveTime::MIN).and_utc();
        let start = start + TimeDelta::minutes(5 * slot.min(SLOTS) as i64);
        (start, start + TimeDelta::minutes(5))
    }

    pub fn place(google: &Control, remote: &str, today: NaiveDate) {
        for (id, day) in [("marker-still", STILL), ("marker-tick", TICK), ("marker-baton-0", BATON)] {
            google.insert_event(remote, &event(id, today, day, 0)).expect("a marker can be placed");
        }
    }

    pub fn move_on(google: &Control, remote: &str, today: NaiveDate, step: usize) {
        if step > SLOTS {
            return;
        }
        google.patch_event(remote, "marker-tick", &event("marker-tick", today, TICK, step)).expect("it can be moved");
        let next = event(&format!("marker-baton-{step}"), today, BATON, step);
        google.insert_event(remote, &next).expect("the next can be made");
        google.delete_event(remote, &format!("marker-baton-{}", step - 1)).expect("the one before can be deleted");
    }

    fn event(id: &str, today: NaiveDate, day: i64, step: usize) -> Value {
        let (start, end) = slot(today, day, step);
        let at = |time: DateTime<Utc>| json!({"dateTime": time.to_rfc3339(), "timeZone": "UTC"});
        json!({"id": id, "start": at(start), "end": at(end)})
    }
}

/// Threads that read; their first complaint ends them.
#[derive(Default)]
pub struct Readers {
    threads: Vec<JoinHandle<Result<usize, String>>>,
    over: Arc<AtomicBool>,
}

impl Readers {
    pub fn start(cluster: &Cluster, today: NaiveDate, kept: &[Kept]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let reader = |pause: u64| {
            let calendars = kept.iter().map(|kept| kept.calendar.clone()).collect();
            let reader = Reader {
                connector: cluster.connector(),
                over: Arc::clone(&over),
                today,
                calendars,
                pause: Duration::from_millis(pause),
                answered: BTreeSet::new(),
                ticks: BTreeMap::new(),
            };
            std::thread::spawn(move || reader.read())
        };
        Readers { threads: vec![reader(5), reader(40)], over }
    }

    /// Panics with what a reader has to complain of.
    pub fn check(&mut self) {
        if self.threads.iter().any(JoinHandle::is_finished) {
            self.stop();
            panic!("a reader has left");
        }
    }

    /// How many answers were read.
    pub fn stop(&mut self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        let ends = self.threads.drain(..).map(|thread| thread.join().expect("a reader does not panic"));
        ends.map(|end| end.unwrap_or_else(|complaint| panic!("a reader saw: {complaint}"))).sum()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

struct Reader {
    connector: Connector,
    over: Arc<AtomicBool>,
    today: NaiveDate,
    calendars: Vec<String>,
    pause: Duration,
    /// Those that have answered once: they must go on answering.
    answered: BTreeSet<String>,
    /// Where each calendar's tick was seen last.
    ticks: BTreeMap<String, DateTime<Utc>>,
}

type Busy = BTreeMap<String, Vec<(DateTime<Utc>, DateTime<Utc>)>>;

impl Reader {
    fn read(mut self) -> Result<usize, String> {
        let mut answers = 0;
        let mut sql = None;
        while !self.over.load(Ordering::Relaxed) {
            std::thread::sleep(self.pause);
            let Some(session) = connected(&mut sql, &self.connector) else { continue };
            for calendar in self.calendars.clone() {
                if self.answered.contains(&calendar) {
                    continue;
                }
                match self.ask(session, std::slice::from_ref(&calendar)) {
                    Ok(_) => drop(self.answered.insert(calendar)),
                    Err(error) if is_lost(&error) || sqlstate(&error) == "SC002" => {}
                    Err(error) => return Err(format!("of {calendar}, not synced yet: {error:?}")),
                }
            }
            if self.answered.is_empty() {
                continue;
            }
            let asked: Vec<String> = self.answered.iter().cloned().collect();
            match self.ask(session, &asked) {
                Ok(busy) => {
                    answers += 1;
                    self.look_at(&busy, &asked)?;
                }
                Err(error) if is_lost(&error) => sql = None,
                Err(error) => return Err(format!("{error:?}")),
            }
        }
        Ok(answers)
    }

    fn ask(&self, sql: &mut Client, calendars: &[String]) -> Result<Busy, postgres::Error> {
        let (from, _) = markers::slot(self.today, markers::STILL, 0);
        let (to, _) = markers::slot(self.today, markers::BATON + 1, 0);
        let rows = sql.query(
            "SELECT calendar, lower(busy), upper(busy) FROM calsync_busy(tstzrange($1, $2), $3)",
            &[&from, &to, &calendars],
        )?;
        let mut busy = Busy::new();
        for row in rows {
            busy.entry(row.get(0)).or_default().push((row.get(1), row.get(2)));
        }
        Ok(busy)
    }

    fn look_at(&mut self, busy: &Busy, asked: &[String]) -> Result<(), String> {
        let midnight = |day| markers::slot(self.today, day, 0).0;
        let nothing = Vec::new();
        for calendar in asked {
            let seen = busy.get(calendar).unwrap_or(&nothing);
            let on = |day: i64| {
                let (from, to) = (midnight(day), midnight(day + 1));
                seen.iter().filter(move |(start, end)| *start < to && *end > from).collect::<Vec<_>>()
            };
            if on(markers::STILL) != [&markers::slot(self.today, markers::STILL, 0)] {
                return Err(format!("{calendar}: the marker that stands still is not as it always was: {seen:?}"));
            }
            let [(tick, tock)] = on(markers::TICK)[..] else {
                return Err(format!("{calendar}: the marker that moves is not in one place: {seen:?}"));
            };
            if (*tock - *tick).num_minutes() != 5 {
                return Err(format!("{calendar}: the marker that moves is in two places: {seen:?}"));
            }
            let before = self.ticks.insert(calendar.clone(), *tick);
            if before.is_some_and(|before| before > *tick) {
                return Err(format!("{calendar}: an answer went back from {before:?} to {tick}"));
            }
            if on(markers::BATON).is_empty() {
                return Err(format!("{calendar}: one was deleted before the other was made: {seen:?}"));
            }
        }
        Ok(())
    }
}

fn connected<'a>(sql: &'a mut Option<Client>, connector: &Connector) -> Option<&'a mut Client> {
    if sql.as_ref().is_none_or(Client::is_closed) {
        *sql = connector.connect(DATABASE).ok();
    }
    sql.as_mut()
}

/// The server went away under the question: no answer, and no wrong one.
pub fn is_lost(error: &postgres::Error) -> bool {
    error.code().is_none_or(|code| matches!(code.code(), "57P01" | "57P02" | "57P03"))
}
