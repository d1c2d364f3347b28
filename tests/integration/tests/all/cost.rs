//! What one question may cost: it is counted before it is worked on, refused beyond a bound, and can be cancelled.

use calsync_integration::{Fed, sqlstate};
use postgres::Client;
use serde_json::json;

/// SQLSTATE and message of a statement that must be refused, with a hint.
fn refused(sql: &mut Client, statement: &str) -> (String, String) {
    let error = sql.batch_execute(statement).expect_err(statement);
    let said = error.as_db_error().unwrap_or_else(|| panic!("{statement}: {error:?}"));
    assert!(said.hint().is_some_and(|hint| !hint.is_empty()), "{statement}: {error:?}");
    (sqlstate(&error), said.message().to_owned())
}

/// Calendars of which each is busy every other minute of its first days, as often as that.
fn busy_calendars(calendars: u32, pieces: u32) -> Fed {
    let mut fed = Fed::new();
    let fill = format!(
        "SELECT calsync_subscribe('c' || n, 'none') FROM generate_series(1, {calendars}) AS n; \
         SELECT calsync_apply_delta(jsonb_build_object('calendar', 'c' || n, 'items', '[]'::jsonb, 'nextSyncToken', '1')) \
         FROM generate_series(1, {calendars}) AS n; \
         UPDATE calsync.subscription SET covered = tstzrange('2026-01-01', '2036-01-01'); \
         INSERT INTO calsync.busy \
         SELECT s.subscription_id, at, at + interval '1 minute', 4 \
         FROM calsync.subscription AS s, \
              generate_series('2030-01-01'::timestamptz, '2030-01-01'::timestamptz + {pieces} * interval '2 minutes', '2 minutes') AS at \
         WHERE s.calendar <> 'room'"
    );
    fed.sql.batch_execute(&fill).expect("busy calendars");
    fed
}

#[test]
fn what_is_too_much_is_refused_before_it_is_looked_at() {
    let mut fed = Fed::new();
    let names = "array_fill('x'::text, '{3000000}')";
    let same = "array_fill('{\"id\": \"x\"}'::jsonb, '{1000000}')";
    let groups =
        "array_fill(jsonb_build_object('any', 1, 'calendars', to_jsonb(array_fill('x'::text, '{10000}'))), '{11}')";
    let hour = "tstzrange(now(), now() + '1 hour')";
    for (statement, said) in [
        (format!("SELECT calsync_coverage({names})"), "3000000 calendars are more than 10000"),
        (format!("SELECT calsync_is_free({hour}, {names})"), "3000000 calendars are more than 10000"),
        (
            format!("SELECT calsync_busy({hour}, '{{room}}', array_fill('busy'::calsync.busy_status, '{{3000000}}'))"),
            "3000000 statuses are more than 1000",
        ),
        (
            format!(
                "SELECT calsync_freebusy(jsonb_build_object('timeMin', '2026-01-01T00:00:00Z', 'timeMax', \
                     '2026-01-02T00:00:00Z', 'items', to_jsonb({same})))"
            ),
            "request is longer than 8 MB",
        ),
        (
            format!("SELECT calsync_group_slots({hour}, to_jsonb({groups}), '30 min')"),
            "groups name 110000 calendars, more than 100000",
        ),
        (
            format!("SELECT calsync_open_hours({hour}, 'UTC', to_jsonb(array_fill('{{}}'::jsonb, '{{1500000}}')))"),
            "weekly is longer than 8 MB",
        ),
    ] {
        assert_eq!(refused(&mut fed.sql, &statement), ("54000".to_owned(), said.to_owned()), "{statement}");
    }
}

#[test]
fn hours_of_too_many_intervals_are_refused() {
    let mut fed = Fed::new();
    let hours = "(SELECT range_agg(tstzrange(at, at + interval '1 second')) \
                  FROM generate_series('2026-01-01'::timestamptz, '2026-01-25'::timestamptz, '2 seconds') AS at)";
    let ask = format!("SELECT calsync_free(tstzrange(now(), now() + '1 hour'), '{{room}}', {hours})");

    let said = "hours has 1036801 intervals, more than 1000000".to_owned();
    assert_eq!(refused(&mut fed.sql, &ask), ("54000".to_owned(), said));
}

#[test]
fn slots_that_name_too_many_calendars_are_refused() {
    let mut fed = busy_calendars(50, 0);
    let members: Vec<String> = (1..=50).map(|n| format!("c{n}")).collect();
    let groups = json!([{"all": true, "calendars": members}]);
    let ask = format!(
        "SELECT count(*) FROM calsync_group_slots(tstzrange(now(), now() + interval '69 days'), '{groups}', '1 min', '1 min'"
    );

    let (code, said) = refused(&mut fed.sql, &format!("{ask})"));
    assert_eq!((code.as_str(), said.contains("more than 4000000 calendars")), ("54000", true), "{said}");
    let first = fed.sql.query_one(&format!("{ask}, max_results => 1000)"), &[]).expect("few enough");
    assert_eq!(first.get::<_, i64>(0), 1000);
}

#[test]
fn a_freebusy_answer_that_would_be_too_long_is_refused_and_a_long_one_can_be_cancelled() {
    let mut fed = busy_calendars(3, 40_000);
    let about = |items: serde_json::Value| {
        let request = json!({"timeMin": "2026-01-01T00:00:00Z", "timeMax": "2035-01-01T00:00:00Z", "items": items});
        format!("SELECT calsync_freebusy('{request}')")
    };
    let of_all = about(json!([{"id": "c1"}, {"id": "c2"}, {"id": "c3"}]));
    let of_two = about(json!([{"id": "c1"}, {"id": "c2"}]));

    let (code, said) = refused(&mut fed.sql, &of_all);
    assert_eq!((code.as_str(), said.contains("more than 100000 times")), ("54000", true), "{said}");
    let row = fed.sql.query_one(
        &format!("SELECT jsonb_array_length(answer -> 'calendars' -> 'c2' -> 'busy') FROM ({of_two} AS answer) AS a"),
        &[],
    );
    assert_eq!(row.expect("within the bound").get::<_, i32>(0), 40_001);
    fed.sql.batch_execute("SET statement_timeout = '10ms'").expect("a setting");
    assert_eq!(sqlstate(&fed.sql.batch_execute(&of_two).expect_err("it takes longer")), "57014");
}

#[test]
fn the_time_of_many_calendars_can_be_cancelled_at_every_stage() {
    let mut fed = busy_calendars(40, 10_000);
    let all = "(SELECT array_agg('c' || n) FROM generate_series(1, 40) AS n)";
    let during = "tstzrange('2030-01-01', '2031-01-01')";
    let groups = format!("jsonb_build_array(jsonb_build_object('any', 1, 'calendars', to_jsonb({all})))");
    fed.sql.batch_execute("SET statement_timeout = '10ms'").expect("a setting");

    for question in [
        format!("calsync_busy({during}, {all})"),
        format!("calsync_busy_union({during}, {all})"),
        format!("calsync_free({during}, {all})"),
        format!("calsync_slots({during}, {all}, '1 min', '1 min')"),
        format!("calsync_group_slots({during}, {groups}, '1 min', '1 min')"),
    ] {
        let cancelled = fed.sql.batch_execute(&format!("SELECT count(*) FROM {question}"));
        assert_eq!(sqlstate(&cancelled.expect_err(&question)), "57014", "{question}");
    }
    fed.sql.batch_execute("RESET statement_timeout; SELECT 1").expect("the session lives on");
}

#[test]
fn a_database_of_another_encoding_is_refused() {
    let fed = Fed::new();
    let mut sql = fed.cluster.connect("postgres");
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let database =
            format!("CREATE DATABASE {encoding} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'");
        sql.batch_execute(&database).expect("a database");
        let mut there = fed.cluster.connect(&encoding.to_lowercase());
        let (code, said) = refused(&mut there, "CREATE EXTENSION pg_calsync");
        assert_eq!((code.as_str(), said.contains(encoding)), ("0A000", true), "{said}");
    }
}
