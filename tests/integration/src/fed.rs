//! A calendar that an application feeds with `calsync_apply_delta`, and what must hold after each of its deltas.

use postgres::Client;
use serde_json::{Value, json};

use crate::days::busy_days;
use crate::items::{Item, today};
use crate::{Cluster, sqlstate};

/// The calendar that most stories are about.
pub const ROOM: &str = "room";

pub struct Fed {
    pub cluster: Cluster,
    pub sql: Client,
}

/// What `calsync_apply_delta` returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    pub inserted: i32,
    pub updated: i32,
    pub deleted: i32,
    pub unchanged: i32,
    pub full_sync: bool,
    pub complete: bool,
}

impl Applied {
    /// (inserted, updated, deleted, unchanged)
    pub fn counts(self) -> (i32, i32, i32, i32) {
        (self.inserted, self.updated, self.deleted, self.unchanged)
    }
}

impl Fed {
    /// The room's calendar, subscribed, never fed.
    pub fn new() -> Self {
        Self::with("")
    }

    pub fn with(configuration: &str) -> Self {
        let cluster = Cluster::start(configuration);
        let mut sql = cluster.connect("postgres");
        sql.batch_execute("CREATE EXTENSION pg_calsync").expect("the extension can be created");
        let mut fed = Fed { cluster, sql };
        fed.subscribe(ROOM, json!({}));
        fed
    }

    pub fn subscribe(&mut self, calendar: &str, options: Value) {
        self.sql
            .execute("SELECT calsync_subscribe($1, 'none', options => $2)", &[&calendar, &options])
            .expect("the calendar can be subscribed");
    }

    /// The whole calendar, in one page.
    pub fn list(&mut self, items: &[Item]) -> Applied {
        self.list_of(ROOM, items)
    }

    pub fn list_of(&mut self, calendar: &str, items: &[Item]) -> Applied {
        let successor = self.next_token(calendar);
        self.apply(&envelope(calendar, items, json!({"nextSyncToken": successor})))
    }

    /// What changed since the last delta, in one page.
    pub fn change(&mut self, items: &[Item]) -> Applied {
        self.change_of(ROOM, items)
    }

    pub fn change_of(&mut self, calendar: &str, items: &[Item]) -> Applied {
        let (token, successor) = (self.token(calendar), self.next_token(calendar));
        self.apply(&envelope(calendar, items, json!({"expectedSyncToken": token, "nextSyncToken": successor})))
    }

    /// Applies a delta and checks that everything derived follows.
    pub fn apply(&mut self, delta: &Value) -> Applied {
        self.try_apply(delta).unwrap_or_else(|error| panic!("{delta}: {error:?}"))
    }

    pub fn try_apply(&mut self, delta: &Value) -> Result<Applied, postgres::Error> {
        let row = self.sql.query_one(
            "SELECT inserted, updated, deleted, unchanged, full_sync, complete FROM calsync_apply_delta($1)",
            &[delta],
        )?;
        let applied = Applied {
            inserted: row.get(0),
            updated: row.get(1),
            deleted: row.get(2),
            unchanged: row.get(3),
            full_sync: row.get(4),
            complete: row.get(5),
        };
        check_derived(&mut self.sql);
        if applied.complete {
            let calendar = delta["calendar"].as_str().unwrap_or_default();
            assert_eq!(self.staged(calendar), 0, "nothing stays staged when a round is complete");
        }
        Ok(applied)
    }

    /// Applies a delta that must be refused and leave no trace; returns its SQLSTATE.
    pub fn refused(&mut self, delta: &Value) -> String {
        let before = all_tables(&mut self.sql);
        let error = self.try_apply(delta).expect_err(&format!("{delta} is refused"));
        assert_eq!(all_tables(&mut self.sql), before, "a refused delta changes nothing: {delta}");
        sqlstate(&error)
    }

    pub fn busy(&mut self) -> Vec<String> {
        self.busy_of(ROOM)
    }

    /// As [`busy_days`] tells it.
    pub fn busy_of(&mut self, calendar: &str) -> Vec<String> {
        busy_days(&mut self.sql, today(), calendar).unwrap_or_else(|error| panic!("busy: {error:?}"))
    }

    /// Where the cache stands.
    pub fn token(&mut self, calendar: &str) -> Option<String> {
        let sql = "SELECT sync_token FROM calsync.subscription WHERE calendar = $1";
        self.sql.query_one(sql, &[&calendar]).expect("the calendar is subscribed").get(0)
    }

    /// The token of the calendar's next delta: `t1`, `t2` and so on.
    pub fn next_token(&mut self, calendar: &str) -> String {
        let number = self.token(calendar).and_then(|token| token.trim_start_matches('t').parse::<u32>().ok());
        format!("t{}", number.unwrap_or(0) + 1)
    }

    /// Rows that wait for the end of a round.
    pub fn staged(&mut self, calendar: &str) -> i64 {
        let sql = "SELECT (SELECT count(*) FROM calsync.staged_event AS e WHERE e.subscription_id = s.subscription_id) \
                        + (SELECT count(*) FROM calsync.staged_round AS r WHERE r.subscription_id = s.subscription_id) \
                   FROM calsync.subscription AS s WHERE s.calendar = $1";
        self.sql.query_opt(sql, &[&calendar]).expect("the query runs").map_or(0, |row| row.get(0))
    }

    /// One column of the room's events, by event id; null as "-".
    pub fn events(&mut self, column: &str) -> Vec<(String, String)> {
        let sql = format!(
            "SELECT e.event_id, coalesce(e.{column}::text, '-') FROM calsync.event AS e \
             JOIN calsync.subscription AS s USING (subscription_id) WHERE s.calendar = $1 ORDER BY e.event_id"
        );
        let rows = self.sql.query(&sql, &[&ROOM]).expect("the query runs");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

impl Default for Fed {
    fn default() -> Self {
        Self::new()
    }
}

/// A page of a calendar, with these keys beside its items.
pub fn envelope(calendar: &str, items: &[Item], keys: Value) -> Value {
    let mut delta = json!({"calendar": calendar, "items": items.iter().map(Item::json).collect::<Vec<_>>()});
    for (name, value) in keys.as_object().expect("keys are an object") {
        delta[name] = value.clone();
    }
    delta
}

/// Every row of every table, in a form that can be compared.
pub fn all_tables(sql: &mut Client) -> Vec<String> {
    let tables = sql.query(
        "SELECT c.oid::regclass::text FROM pg_class AS c \
         WHERE c.relnamespace = 'calsync'::regnamespace AND c.relkind = 'r' ORDER BY c.relname",
        &[],
    );
    let mut rows = Vec::new();
    for table in tables.expect("the catalog is readable") {
        let table: String = table.get(0);
        let select = format!("SELECT t::text FROM {table} AS t ORDER BY t::text COLLATE \"C\"");
        for row in sql.query(&select, &[]).expect("the table is readable") {
            rows.push(format!("{table}{}", row.get::<_, String>(0)));
        }
    }
    rows
}

/// What is derived must follow from what is stored, said here once more in plain SQL: busy time is the occurrences cut
/// into the longest disjoint pieces with a constant set of statuses; each occurrence has an event of its status, and
/// overlaps the covered window; each event that happens once, within the window, has its occurrence.
pub fn check_derived(sql: &mut Client) {
    let wrong = sql.query(
        "WITH edge AS ( \
             SELECT subscription_id, starts_at AS at FROM calsync.occurrence \
             UNION SELECT subscription_id, ends_at FROM calsync.occurrence \
         ), stretch AS ( \
             SELECT subscription_id, at AS starts_at, lead(at) OVER (PARTITION BY subscription_id ORDER BY at) AS ends_at \
             FROM edge \
         ), filled AS ( \
             SELECT s.subscription_id, s.starts_at, s.ends_at, \
                 bit_or(1 << array_position(enum_range(NULL::calsync.busy_status), o.busy_status) - 1) AS statuses \
             FROM stretch AS s JOIN calsync.occurrence AS o ON o.subscription_id = s.subscription_id \
                 AND o.starts_at <= s.starts_at AND o.ends_at >= s.ends_at \
             GROUP BY s.subscription_id, s.starts_at, s.ends_at \
         ), numbered AS ( \
             SELECT f.*, (lag(ends_at) OVER piece, lag(statuses) OVER piece) IS DISTINCT FROM (starts_at, statuses) AS fresh \
             FROM filled AS f WINDOW piece AS (PARTITION BY subscription_id ORDER BY starts_at) \
         ), grouped AS ( \
             SELECT n.*, count(*) FILTER (WHERE fresh) OVER (PARTITION BY subscription_id ORDER BY starts_at) AS piece \
             FROM numbered AS n \
         ), wanted AS ( \
             SELECT subscription_id, min(starts_at) AS starts_at, max(ends_at) AS ends_at, statuses::smallint \
             FROM grouped GROUP BY subscription_id, piece, statuses \
         ), stored AS ( \
             SELECT subscription_id, starts_at, ends_at, statuses FROM calsync.busy \
         ) \
         SELECT 'busy time is missing: ' || m::text FROM (TABLE wanted EXCEPT TABLE stored) AS m \
         UNION ALL SELECT 'busy time without reason: ' || m::text FROM (TABLE stored EXCEPT TABLE wanted) AS m \
         UNION ALL SELECT 'an occurrence without its event: ' || o::text FROM calsync.occurrence AS o \
             WHERE NOT EXISTS (SELECT FROM calsync.event AS e WHERE e.subscription_id = o.subscription_id \
                 AND e.event_id = o.event_id AND e.busy_status = o.busy_status AND e.kind <> 'tombstone') \
         UNION ALL SELECT 'an occurrence outside the window: ' || o::text FROM calsync.occurrence AS o \
             WHERE NOT EXISTS (SELECT FROM calsync.subscription AS s WHERE s.subscription_id = o.subscription_id \
                 AND s.covered && tstzrange(o.starts_at, o.ends_at)) \
         UNION ALL SELECT 'an event without its occurrence: ' || e.event_id \
             FROM calsync.event AS e JOIN calsync.subscription AS s USING (subscription_id) \
             CROSS JOIN LATERAL (SELECT coalesce(e.starts_at, e.start_date::timestamp AT TIME ZONE s.time_zone), \
                                        coalesce(e.ends_at, e.end_date::timestamp AT TIME ZONE s.time_zone)) AS t (f, u) \
             WHERE e.kind IN ('single', 'exception') AND t.f < t.u AND s.covered && tstzrange(t.f, t.u) \
                 AND NOT EXISTS (SELECT FROM calsync.occurrence AS o WHERE o.subscription_id = e.subscription_id \
                     AND o.event_id = e.event_id AND o.starts_at = t.f AND o.ends_at = t.u) \
         UNION ALL SELECT 'a page without its round: ' || g::text FROM calsync.staged_event AS g \
             WHERE NOT EXISTS (SELECT FROM calsync.staged_round AS r \
                 WHERE r.subscription_id = g.subscription_id AND r.round = g.round)",
        &[],
    );
    let wrong: Vec<String> = wrong.expect("the invariant can be asked for").iter().map(|row| row.get(0)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(problems(sql), Vec::<String>::new(), "calsync_check finds nothing either");
}

/// What `calsync_check()` finds: calendar, problem, event.
pub fn problems(sql: &mut Client) -> Vec<String> {
    let found = sql.query(
        "SELECT concat_ws(' ', coalesce(calendar, 'nobody''s'), problem, event_id) FROM calsync_check() ORDER BY 1",
        &[],
    );
    found.expect("calsync_check").iter().map(|row| row.get(0)).collect()
}
