//! What must hold once quiet has returned: the cache says what Google says, and nothing is left lying about.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, Utc};
use postgres::Client;
use serde_json::Value;

use crate::reader::is_lost;
use crate::sky::{Kept, Sky};
use crate::user::{instant, is_cancelled, text};

/// How long the cache may take to catch up with an idle provider.
const PATIENCE: Duration = Duration::from_secs(60);

type Interval = (DateTime<Utc>, DateTime<Utc>);

impl Sky {
    /// Waits until every calendar has been synced after now, and looks.
    pub fn calm(&mut self, when: &str) {
        self.wait_until_synced();
        self.readers.check();
        let mut wrong = Vec::new();
        for kept in self.kept.clone() {
            wrong.extend(self.compare_busy(&kept));
            wrong.extend(self.compare_events(&kept));
        }
        wrong.extend(left_over(self.sql()));
        if !wrong.is_empty() {
            self.complain(when, &wrong);
        }
    }

    fn complain(&self, when: &str, wrong: &[String]) -> ! {
        let journal = if self.journal.len() > 60 { &self.journal[self.journal.len() - 60..] } else { &self.journal };
        panic!(
            "seed {}, {when}: {} differences\n{}\n---- the last of what was done ----\n{}",
            self.seed,
            wrong.len(),
            wrong.iter().take(30).cloned().collect::<Vec<_>>().join("\n"),
            journal.join("\n")
        );
    }

    fn wait_until_synced(&mut self) {
        let begun = Instant::now();
        let since: DateTime<Utc> = loop {
            if let Ok(row) = self.sql().query_one("SELECT clock_timestamp()", &[]) {
                break row.get(0);
            }
        };
        // A calendar is looked at until it has been synced once: polls go on, and may be under way whenever one looks.
        let mut open: Vec<String> = self.kept.iter().map(|kept| kept.calendar.clone()).collect();
        let mut asked: Option<Instant> = None;
        while !open.is_empty() {
            if asked.is_none_or(|asked| asked.elapsed() > Duration::from_secs(1)) {
                self.try_sql("UPDATE calsync.credential SET retry_at = NULL");
                for calendar in &open {
                    self.try_sql(&format!("SELECT calsync_sync('{calendar}')"));
                }
                asked = Some(Instant::now());
            }
            if begun.elapsed() > PATIENCE {
                open.extend(whereabouts(self.sql()));
                self.complain("the cache does not catch up", &open);
            }
            let synced = "SELECT calendar FROM calsync.subscription WHERE state = 'active' AND synced_at >= $1";
            match self.sql().query(synced, &[&since]) {
                Ok(synced) => open.retain(|calendar| !synced.iter().any(|row| row.get::<_, &str>(0) == calendar)),
                Err(error) if is_lost(&error) => {}
                Err(error) => panic!("seed {}: {error:?}", self.seed),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// In all of the covered window.
    fn compare_busy(&mut self, kept: &Kept) -> Vec<String> {
        let mut wrong = Vec::new();
        let (from, to) = self.covered(kept);
        let ours = self.sql().query(
            "SELECT lower(busy), upper(busy) FROM calsync_busy(tstzrange($1, $2), ARRAY[$3])",
            &[&from, &to, &kept.calendar],
        );
        let ours: Vec<Interval> = ours.expect("busy").iter().map(|row| (row.get(0), row.get(1))).collect();
        let theirs = self.google.busy(&kept.remote, from, to).expect("the calendar is there");
        let differing = |these: &[Interval], those: &[Interval], what: &str| -> Vec<String> {
            let only = these.iter().filter(|interval| !those.contains(interval));
            only.map(|(start, end)| format!("{}: busy {what}: {start} to {end}", kept.calendar)).collect()
        };
        wrong.extend(differing(&ours, &theirs, "here, not at Google"));
        wrong.extend(differing(&theirs, &ours, "at Google, not here"));
        let suspects = ours.iter().filter(|interval| !theirs.contains(interval)).take(3).copied().collect::<Vec<_>>();
        for (start, end) in suspects {
            let reasons = self.sql().query(
                "SELECT o.event_id || ' from ' || o.starts_at || ' to ' || o.ends_at || ' is ' || o.busy_status \
                 FROM calsync.occurrence AS o JOIN calsync.subscription AS s USING (subscription_id) \
                 WHERE s.calendar = $1 AND o.starts_at < $3 AND o.ends_at > $2 ORDER BY o.starts_at",
                &[&kept.calendar, &start, &end],
            );
            wrong.extend(reasons.expect("occurrences").iter().map(|row| format!("    {}", row.get::<_, String>(0))));
        }
        wrong
    }

    /// The covered window, once it is as wide as the settings say. The worker slides windows when the settings change; one
    /// that somebody held just then, a minute later, or at the end of a foreground run.
    fn covered(&mut self, kept: &Kept) -> Interval {
        let begun = Instant::now();
        loop {
            let row = self.sql().query_one(
                "SELECT lower(covered), upper(covered), covered @> tstzrange(now() - interval '40 days', now() + \
                     make_interval(secs => extract(epoch FROM current_setting('calsync.horizon')::interval))) \
                 FROM calsync.subscription WHERE calendar = $1",
                &[&kept.calendar],
            );
            let row = row.expect("the subscription is there");
            let covered: Interval = (row.get(0), row.get(1));
            if row.get(2) {
                return covered;
            }
            if begun.elapsed() > PATIENCE {
                let what = format!("{}: {covered:?} is narrower than the settings say", kept.calendar);
                self.complain("its window does not slide", &[what]);
            }
            self.try_sql("CALL calsync_run()");
        }
    }

    /// Each event that a list of Google's shows is a row, with its times; no other is.
    fn compare_events(&mut self, kept: &Kept) -> Vec<String> {
        let rows = self.sql().query(
            "SELECT event_id, kind, starts_at, start_date, recurrence FROM calsync.event AS e \
                 JOIN calsync.subscription AS s USING (subscription_id) WHERE s.calendar = $1 AND kind <> 'tombstone'",
            &[&kept.calendar],
        );
        let ours: BTreeMap<String, Row> = rows
            .expect("the events")
            .iter()
            .map(|row| (row.get(0), Row { starts_at: row.get(2), on: row.get(3), recurrence: row.get(4) }))
            .collect();
        let events = self.google.events(&kept.remote).expect("the calendar is there");
        let deleted = |id: &str| events.iter().any(|event| text(event, "id") == Some(id) && is_cancelled(event));
        let theirs: BTreeMap<String, Row> = events
            .iter()
            .filter(|event| !is_cancelled(event) && !text(event, "recurringEventId").is_some_and(deleted))
            .map(|event| (text(event, "id").unwrap_or_default().to_owned(), Row::of(event)))
            .collect();
        let mut wrong = Vec::new();
        for (id, row) in &theirs {
            if ours.get(id) != Some(row) {
                wrong.push(format!("{}: {id} is {row:?}, here {:?}", kept.calendar, ours.get(id)));
            }
        }
        for id in ours.keys().filter(|id| !theirs.contains_key(*id)) {
            wrong.push(format!("{}: {id} is here, not at Google", kept.calendar));
        }
        wrong
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    starts_at: Option<DateTime<Utc>>,
    on: Option<NaiveDate>,
    recurrence: Option<Vec<String>>,
}

impl Row {
    fn of(event: &Value) -> Self {
        let lines = event["recurrence"].as_array().filter(|lines| !lines.is_empty());
        Row {
            starts_at: instant(&event["start"]),
            on: text(&event["start"], "date").and_then(|day| day.parse().ok()),
            recurrence: lines.map(|lines| lines.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        }
    }
}

/// Rows that belong to nothing. A poll may be under way again.
fn left_over(sql: &mut Client) -> Vec<String> {
    let rows = sql.query(
        "WITH under_way AS ( \
             SELECT subscription_id, lease FROM calsync.subscription WHERE leased_until > clock_timestamp()) \
         SELECT 'a staged page is left: ' || g::text FROM calsync.staged_round AS g \
             WHERE (subscription_id, round) NOT IN (SELECT subscription_id, lease FROM under_way) \
         UNION ALL SELECT 'a staged event is left: ' || g.event_id FROM calsync.staged_event AS g \
             WHERE (subscription_id, round) NOT IN (SELECT subscription_id, lease FROM under_way) \
         UNION ALL SELECT 'a lease is left: ' || s.calendar FROM calsync.subscription AS s \
             WHERE leased_by IS NOT NULL AND subscription_id NOT IN (SELECT subscription_id FROM under_way) \
         UNION ALL SELECT 'it still fails: ' || s.calendar FROM calsync.subscription AS s \
             WHERE failures > 0 OR last_error IS NOT NULL \
         UNION ALL SELECT 'an event was not understood: ' || e.event_id || ': ' || e.problem \
             FROM calsync.event AS e WHERE problem IS NOT NULL \
         UNION ALL SELECT 'an occurrence without its event: ' || o::text FROM calsync.occurrence AS o \
             WHERE NOT EXISTS (SELECT FROM calsync.event AS e WHERE e.subscription_id = o.subscription_id \
                 AND e.event_id = o.event_id AND e.busy_status = o.busy_status AND e.kind <> 'tombstone') \
         UNION ALL SELECT 'busy time overlaps: ' || b::text FROM ( \
             SELECT subscription_id, starts_at, ends_at, \
                 lag(ends_at) OVER (PARTITION BY subscription_id ORDER BY starts_at) AS former FROM calsync.busy) AS b \
             WHERE former > starts_at",
        &[],
    );
    rows.expect("the tables are readable").iter().map(|row| row.get(0)).collect()
}

/// Who does what, where nothing seems to be done.
fn whereabouts(sql: &mut Client) -> Vec<String> {
    let rows = sql.query(
        "SELECT concat_ws(' ', now(), calendar, 'lease', lease, 'by', leased_by, 'until', leased_until, 'next', \
             next_sync_at, 'synced', synced_at) FROM calsync.subscription \
         UNION ALL SELECT concat_ws(' ', 'credential', name, retry_at, last_error) FROM calsync.credential \
         UNION ALL SELECT concat_ws(' ', backend_type, pid, backend_start, state, wait_event_type, wait_event, query) \
             FROM pg_stat_activity WHERE backend_type LIKE 'pg_calsync%' OR backend_type = 'client backend'",
        &[],
    );
    rows.map_or_else(|error| vec![error.to_string()], |rows| rows.iter().map(|row| row.get(0)).collect())
}
