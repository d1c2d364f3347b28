//! The functions of availability among an application's own tables, roles and plans; and what one call may cost.

use calsync_integration::items::{at, meeting};
use calsync_integration::{Fed, ROOM, eventually, sqlstate};
use postgres::Client;
use serde_json::json;

/// Tomorrow, from when the tests began.
fn day() -> String {
    format!("tstzrange('{}', '{}')", at(1, "00:00"), at(2, "00:00"))
}

/// A question to each of the functions about [`day`]; its answer is one text.
const QUESTIONS: [&str; 10] = [
    "SELECT string_agg(b::text, ' ') FROM calsync_busy(DAY, '{room}') AS b",
    "SELECT string_agg(b::text, ' ') FROM calsync_busy(DAY, '{room,nobody}', NULL, 'busy') AS b",
    "SELECT calsync_busy_union(DAY, '{room}')::text",
    "SELECT calsync_is_free(DAY, '{room}')::text",
    "SELECT calsync_is_free(DAY, '{nobody}', 'busy')::text",
    "SELECT string_agg(f::text, ' ') FROM calsync_free(DAY, '{room}') AS f",
    "SELECT string_agg(s::text, ' ') FROM calsync_slots(DAY, '{room}', '1 hour', max_results => 12) AS s",
    "SELECT string_agg(g::text, ' ') FROM calsync_group_slots(DAY, '[{\"any\": 1, \"calendars\": [\"room\"]}]', '1 hour', \
         hours => calsync_open_hours(DAY, 'UTC', '[{\"days\": [\"mon\",\"tue\",\"wed\",\"thu\",\"fri\",\"sat\",\"sun\"], \
             \"start\": \"06:00\", \"end\": \"12:00\"}]')) AS g",
    "SELECT calsync_freebusy(jsonb_build_object('timeMin', to_char(lower(DAY), 'YYYY-MM-DD\"T00:00:00Z\"'), \
         'timeMax', to_char(upper(DAY), 'YYYY-MM-DD\"T00:00:00Z\"'), 'items', '[{\"id\": \"room\"}]'::jsonb))::text",
    "SELECT usable::text FROM calsync_coverage('{room}')",
];

fn questions() -> impl Iterator<Item = String> {
    QUESTIONS.iter().map(|question| question.replace("DAY", &day()))
}

fn taken_from_eight_to_nine() -> Fed {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);
    fed
}

fn every_answer(sql: &mut Client) -> Vec<String> {
    let mut answer =
        |question: String| sql.query_one(&question, &[]).unwrap_or_else(|error| panic!("{question}: {error:?}")).get(0);
    questions().map(&mut answer).collect()
}

#[test]
fn a_hot_standby_gives_every_answer() {
    let mut fed = taken_from_eight_to_nine();

    let standby = fed.cluster.standby();

    let mut sql = standby.connect("postgres");
    assert!(sql.query_one("SELECT pg_is_in_recovery()", &[]).expect("a query").get::<_, bool>(0));
    assert_eq!(every_answer(&mut sql), every_answer(&mut fed.sql));
}

#[test]
fn a_parallel_worker_gives_every_answer() {
    let mut fed = taken_from_eight_to_nine();
    let alone = every_answer(&mut fed.sql);

    fed.sql
        .batch_execute("SET force_parallel_mode = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0")
        .expect("settings");
    for question in questions() {
        let plan = fed.sql.query(&format!("EXPLAIN (COSTS off) {question}"), &[]).expect("a plan");
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        assert!(plan.iter().any(|line| line.contains("Gather")), "{plan:#?}");
    }
    assert_eq!(every_answer(&mut fed.sql), alone);
}

#[test]
fn one_statement_answers_for_each_row_of_the_applications_table() {
    let mut fed = taken_from_eight_to_nine();
    fed.sql
        .batch_execute(
            &"CREATE TABLE offer (name text PRIMARY KEY, host text, duration interval, weekly jsonb); \
             INSERT INTO offer VALUES \
                 ('short', 'room', '30 min', '[{\"days\": [\"mon\",\"tue\",\"wed\",\"thu\",\"fri\",\"sat\",\"sun\"], \"start\": \"08:00\", \"end\": \"10:00\"}]'), \
                 ('long', 'room', '90 min', '[{\"days\": [\"mon\",\"tue\",\"wed\",\"thu\",\"fri\",\"sat\",\"sun\"], \"start\": \"08:00\", \"end\": \"12:00\"}]'); \
             CREATE VIEW bookable AS \
                 SELECT o.name, s AS slot FROM offer AS o, \
                     LATERAL (SELECT DAY AS day) AS w, \
                     LATERAL calsync_slots(w.day, ARRAY[o.host], o.duration, '30 min', hours => calsync_open_hours(w.day, 'UTC', o.weekly)) AS s"
                .replace("DAY", &day()),
        )
        .expect("a table and a view");

    let rows = fed.sql.query("SELECT name, to_char(lower(slot), 'HH24:MI') FROM bookable ORDER BY name, slot", &[]);

    let told: Vec<(String, String)> = rows.expect("slots").iter().map(|row| (row.get(0), row.get(1))).collect();
    let wanted = [
        ("long", "09:00"),
        ("long", "09:30"),
        ("long", "10:00"),
        ("long", "10:30"),
        ("short", "09:00"),
        ("short", "09:30"),
    ];
    assert_eq!(told, wanted.map(|(name, slot)| (name.to_owned(), slot.to_owned())));
}

#[test]
fn a_row_policy_and_a_trigger_ask_on_behalf_of_who_writes() {
    let mut fed = taken_from_eight_to_nine();
    fed.sql
        .batch_execute(
            "CREATE ROLE app LOGIN; GRANT calsync_reader TO app; \
             UPDATE calsync.subscription SET owner = 'app'; \
             CREATE TABLE request (host text, during tstzrange); GRANT ALL ON request TO app; \
             ALTER TABLE request ENABLE ROW LEVEL SECURITY; \
             CREATE POLICY free ON request USING (calsync_is_free(during, ARRAY[host])) WITH CHECK (true); \
             CREATE TABLE held (host text, during tstzrange); GRANT ALL ON held TO app; \
             CREATE FUNCTION must_be_free() RETURNS trigger LANGUAGE plpgsql AS $$ \
             BEGIN \
                 IF NOT calsync_is_free(NEW.during, ARRAY[NEW.host]) THEN \
                     RAISE EXCEPTION '% is not free', NEW.host USING ERRCODE = 'check_violation'; \
                 END IF; \
                 RETURN NEW; \
             END $$; \
             CREATE TRIGGER must_be_free BEFORE INSERT OR UPDATE ON held FOR EACH ROW EXECUTE FUNCTION must_be_free()",
        )
        .expect("a policy and a trigger");
    let mut app = fed.cluster.connect_as("app", "postgres").expect("the application connects");
    let hour = "tstzrange($1::text::timestamptz, $1::text::timestamptz + interval '1 hour')";
    for clock in ["08:30", "09:00"] {
        app.execute(&format!("INSERT INTO request VALUES ('room', {hour})"), &[&at(1, clock)]).expect("requested");
    }

    let visible = app.query("SELECT to_char(lower(during), 'HH24:MI') FROM request", &[]).expect("the policy answers");
    assert_eq!(visible.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["09:00"]);
    let hold = format!("INSERT INTO held VALUES ('room', {hour})");
    assert_eq!(sqlstate(&app.execute(&hold, &[&at(1, "08:30")]).expect_err("taken")), "23514");
    assert_eq!(app.execute(&hold, &[&at(1, "09:00")]).expect("free"), 1);
}

#[test]
fn a_role_without_the_right_to_ask_is_refused() {
    let mut fed = taken_from_eight_to_nine();
    fed.sql.batch_execute("CREATE ROLE nobody; SET ROLE nobody").expect("a role");
    let functions = fed.sql.query(
        "SELECT p.oid::regprocedure::text FROM pg_proc AS p JOIN pg_depend AS d ON d.objid = p.oid AND d.deptype = 'e' \
         JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pg_calsync' WHERE has_function_privilege(p.oid, 'EXECUTE')",
        &[],
    );
    let functions: Vec<String> = functions.expect("the catalog").iter().map(|row| row.get(0)).collect();
    assert_eq!(functions, [""; 0]);
}

#[test]
fn answers_are_read_from_an_index() {
    let mut fed = taken_from_eight_to_nine();
    let scans = |fed: &mut Fed| {
        fed.sql.batch_execute("SELECT pg_stat_force_next_flush()").expect("statistics");
        let row = fed.sql.query_one(
            "SELECT seq_scan, coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relid = 'calsync.busy'::regclass",
            &[],
        );
        let row = row.expect("statistics");
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    let (whole_before, index_before) = scans(&mut fed);

    every_answer(&mut fed.sql);

    eventually("the statistics show the index", || scans(&mut fed).1 > index_before);
    assert_eq!(scans(&mut fed).0, whole_before, "nobody has read the whole table");
}

#[test]
fn the_planner_is_told_how_many_rows_to_expect() {
    let mut fed = taken_from_eight_to_nine();
    let mut expected = |from: &str| {
        let plan = fed.sql.query_one(&format!("EXPLAIN (FORMAT json) SELECT * FROM {from}"), &[]).expect("a plan");
        let plan: serde_json::Value = plan.get(0);
        plan[0]["Plan"]["Plan Rows"].as_f64().expect("an estimate")
    };
    let (day, fortnight) = ("tstzrange(now(), now() + '1 day')", "tstzrange(now(), now() + '14 days')");

    assert_eq!(expected(&format!("calsync_slots({fortnight}, '{{room}}', '1 hour', max_results => 5)")), 5.0);
    // Of 1344 quarters of an hour the room is free for all but a few.
    let slots = expected(&format!("calsync_slots({fortnight}, '{{room}}', '15 min')"));
    assert!((650.0..=1344.0).contains(&slots), "{slots}");
    for function in ["calsync_busy", "calsync_free"] {
        let of = |expected: &mut dyn FnMut(&str) -> f64, during| expected(&format!("{function}({during}, '{{room}}')"));
        assert!(of(&mut expected, day) * 7.0 < of(&mut expected, fortnight), "{function}");
    }
    let grouped = format!("calsync_group_slots({day}, '[]', '1 hour', '1 hour')");
    assert!((12.0..=24.0).contains(&expected(&grouped)), "{}", expected(&grouped));
    // An array that is written out has as many calendars as it names, whoever they are.
    let hosts = "(VALUES ('a'), ('b'), ('c')) AS host (name)";
    let each = expected(&format!("{hosts}, LATERAL calsync_busy({day}, ARRAY[host.name])"));
    assert!((6.0..=12.0).contains(&each), "{each}");
    // A window of each row's own is a meeting's rather than a year.
    let meetings = "(VALUES (now(), now() + '1 hour'), (now(), now() + '2 hours')) AS m (starts_at, ends_at)";
    let each = expected(&format!("{meetings}, LATERAL calsync_busy(tstzrange(m.starts_at, m.ends_at), '{{room}}')"));
    assert!((2.0..=10.0).contains(&each), "{each}");
    // Where nothing is known, the declaration speaks; and what cannot be is for the call to say, not for the plan.
    assert_eq!(
        expected("(VALUES (1)) AS v, LATERAL calsync_busy((SELECT '[now,now]'::tstzrange OFFSET 0), '{room}')"),
        50.0
    );
    assert_eq!(expected("calsync_slots('[-infinity,infinity]', '{room}', '0', NULL, NULL)"), 200.0);
}

#[test]
fn a_long_answer_ends_at_its_timeout() {
    let mut fed = Fed::new();
    fed.sql
        .batch_execute(
            "SELECT calsync_subscribe('c' || n, 'none') FROM generate_series(1, 39) AS n; \
             SELECT calsync_apply_delta(jsonb_build_object('calendar', 'c' || n, 'items', '[]'::jsonb, 'nextSyncToken', '1')) \
             FROM generate_series(1, 39) AS n; \
             SET statement_timeout = '100ms'",
        )
        .expect("calendars");
    let members: Vec<String> = (1..=39).map(|n| format!("c{n}")).collect();
    let groups = json!([{"all": true, "calendars": members}]);
    let long = [
        // Four million names, as many as there may be.
        "SELECT count(*) FROM calsync_group_slots(tstzrange(now(), now() + interval '69 days'), $1, '1 min', '1 min')",
        "SELECT count(calsync_group_slots) FROM (SELECT calsync_group_slots(tstzrange(now(), now() + interval '69 days'), $1, '1 min', '1 min')) AS s",
        "SELECT count(calsync_open_hours(tstzrange('2000-01-01', '2099-01-01') , 'Europe/Vienna', \
             '[{\"days\": [\"mon\",\"tue\",\"wed\",\"thu\",\"fri\",\"sat\",\"sun\"], \"start\": \"08:00\", \"end\": \"10:00\"}]', \
             (SELECT jsonb_agg(jsonb_build_object('from', '2000-01-01', 'to', '2099-01-01', 'start', '11:00', 'end', '12:00')) \
              FROM generate_series(1, 25)))) FROM generate_series(1, 2000) WHERE $1::jsonb IS NOT NULL",
    ];
    for statement in long {
        let cancelled = fed.sql.execute(statement, &[&groups]).expect_err(statement);
        assert_eq!(sqlstate(&cancelled), "57014", "{statement}: {cancelled:?}");
    }
    fed.sql.batch_execute("RESET statement_timeout; SELECT 1").expect("the session lives on");
}

#[test]
fn absurd_questions_are_refused() {
    let mut fed = taken_from_eight_to_nine();
    let mut refused = |statement: &str| {
        let error = fed.sql.execute(statement, &[]).expect_err(statement);
        let hint = error.as_db_error().and_then(|error| error.hint()).unwrap_or_default().to_owned();
        assert!(!hint.is_empty(), "{statement}: {error:?}");
        sqlstate(&error)
    };
    let many = "(SELECT array_agg('c' || n) FROM generate_series(1, 100000) AS n)";
    for function in ["calsync_busy", "calsync_busy_union", "calsync_is_free", "calsync_free", "calsync_coverage"] {
        let during = if function == "calsync_coverage" { "" } else { "tstzrange(now(), now() + interval '1 day'), " };
        assert_eq!(refused(&format!("SELECT {function}({during}{many})")), "54000", "{function}");
    }
    assert_eq!(
        refused(&format!("SELECT calsync_slots(tstzrange(now(), now() + interval '1 day'), {many}, '1 hour')")),
        "54000"
    );
    let groups = format!("jsonb_build_array(jsonb_build_object('any', 1, 'calendars', to_jsonb({many})))");
    assert_eq!(
        refused(&format!("SELECT calsync_group_slots(tstzrange(now(), now() + interval '1 day'), {groups}, '1 hour')")),
        "54000"
    );
    let items = "(SELECT jsonb_agg(jsonb_build_object('id', 'c' || n)) FROM generate_series(1, 100000) AS n)";
    let request = format!(
        "jsonb_build_object('timeMin', '2026-01-01T00:00:00Z', 'timeMax', '2026-01-02T00:00:00Z', 'items', {items})"
    );
    assert_eq!(refused(&format!("SELECT calsync_freebusy({request})")), "54000");

    let years = "tstzrange(now(), now() + interval '50 years')";
    assert_eq!(refused(&format!("SELECT calsync_slots({years}, '{{room}}', '15 min')")), "SC002");
    assert_eq!(
        refused("SELECT calsync_slots(tstzrange(now(), now() + interval '9 days'), '{room}', '1 min', '1 second')"),
        "54000"
    );
    assert_eq!(refused("SELECT calsync_open_hours('[0001-01-01, 3000-01-01)', 'UTC', '[]')"), "54000");
    fed.sql.batch_execute("SET calsync.on_uncovered = 'ignore'").expect("a setting");
    let mut refused = |statement: &str| sqlstate(&fed.sql.execute(statement, &[]).expect_err(statement));
    assert_eq!(refused(&format!("SELECT calsync_slots({years}, '{{room}}', '15 min')")), "54000");
    let first = "SELECT count(*) FROM calsync_slots(tstzrange(now(), now() + interval '50 years'), ARRAY[$1], '15 min', max_results => 7)";
    assert_eq!(fed.sql.query_one(first, &[&ROOM]).expect("served").get::<_, i64>(0), 7);
}

#[test]
fn buffers_that_reach_beyond_all_time_are_not_known_to_be_free() {
    let mut fed = taken_from_eight_to_nine();
    for days in [20_000, 2_500_000, 100_000_000, 2_000_000_000] {
        for buffer in ["buffer_before", "buffer_after"] {
            let ask = format!(
                "SELECT count(*) FROM calsync_slots(tstzrange(now(), now() + interval '2 days'), '{{room}}', '30 min', \
                     {buffer} => make_interval(days => {days}))"
            );
            fed.sql.batch_execute("RESET calsync.on_uncovered").expect("a setting");
            assert_eq!(sqlstate(&fed.sql.query_one(&ask, &[]).expect_err(&ask)), "SC002", "{ask}");
            fed.sql.batch_execute("SET calsync.on_uncovered = 'busy'").expect("a setting");
            assert_eq!(fed.sql.query_one(&ask, &[]).expect(&ask).get::<_, i64>(0), 0, "{ask}");
        }
    }
}
