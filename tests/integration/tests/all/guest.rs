//! A good guest in somebody's server: it runs nobody else's code as its owner, and changes nobody's errors.

use calsync_integration::items::{at, cancelled, days_off, meeting};
use calsync_integration::{Fed, ROOM, World, check_derived, envelope, eventually, sqlstate};
use postgres::Client;
use serde_json::json;

/// A role that may do all that pg_calsync offers, and a schema of its own, open to all, in which every operator, function
/// and type that the extension could want has a double that tells as whom it runs.
fn set_trap(sql: &mut Client) {
    sql.batch_execute(
            r#"
            CREATE ROLE mallory LOGIN;
            GRANT calsync_reader, calsync_operator TO mallory;
            CREATE SCHEMA trap AUTHORIZATION mallory;
            GRANT USAGE ON SCHEMA trap TO PUBLIC;
            GRANT CREATE ON DATABASE postgres TO mallory;
            SET SESSION AUTHORIZATION mallory;
            CREATE FUNCTION trap.sprung() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
            BEGIN
                IF current_user <> 'mallory' THEN RAISE EXCEPTION 'the trap runs as %', current_user; END IF;
            END $$;
            DO $do$
            DECLARE
                one record;
                wanted oid[] := ARRAY['text', 'name', 'timestamptz', 'tstzrange', 'jsonb', 'int8', 'int4', 'int2', 'bool',
                                      'interval', 'float8', 'date', 'oid', 'text[]', 'int8[]', 'timestamptz[]',
                                      'anyelement', 'anyarray', 'anyrange', 'anycompatible']::regtype[]::oid[];
                doubles integer := 0;
            BEGIN
                FOR one IN
                    SELECT p.oid, quote_ident(p.proname) AS name, pg_get_function_identity_arguments(p.oid) AS arguments,
                           pg_get_function_result(p.oid) AS result
                    FROM pg_proc AS p
                    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0
                        AND p.pronargs <= 4 AND p.proargtypes::oid[] <@ wanted AND p.proallargtypes IS NULL
                        AND p.prorettype <> ALL (ARRAY['internal', 'cstring', 'trigger']::regtype[])
                LOOP
                    BEGIN
                        EXECUTE format('CREATE FUNCTION trap.%s(%s) RETURNS %s LANGUAGE plpgsql AS %L', one.name, one.arguments,
                            one.result, 'BEGIN PERFORM trap.sprung(); RAISE EXCEPTION ''trapped''; END');
                        doubles := doubles + 1;
                    EXCEPTION WHEN OTHERS THEN NULL;
                    END;
                END LOOP;
                FOR one IN
                    SELECT o.oprname AS name, o.oprleft::regtype AS l, o.oprright::regtype AS r, o.oprresult::regtype AS result, o.oid
                    FROM pg_operator AS o
                    WHERE o.oprkind = 'b' AND o.oprleft = ANY (wanted) AND o.oprright = ANY (wanted)
                LOOP
                    BEGIN
                        EXECUTE format('CREATE FUNCTION trap.operator_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', one.oid, one.l, one.r,
                            one.result, 'BEGIN PERFORM trap.sprung(); RAISE EXCEPTION ''trapped''; END');
                        EXECUTE format('CREATE OPERATOR trap.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = trap.operator_%s)',
                            one.name, one.l, one.r, one.oid);
                        doubles := doubles + 1;
                    EXCEPTION WHEN OTHERS THEN NULL;
                    END;
                END LOOP;
                ASSERT doubles > 500, doubles;
            END $do$;
            CREATE TABLE trap.subscription (subscription_id bigint, calendar text, owner name);
            CREATE SCHEMA shapes;
            GRANT USAGE ON SCHEMA shapes TO PUBLIC;
            DO $do$
            DECLARE
                one text;
            BEGIN
                FOREACH one IN ARRAY ARRAY['text', 'name', 'timestamptz', 'tstzrange', 'jsonb', 'int8', 'int4', 'int2', 'bool',
                                           'interval', 'float8', 'date', 'oid', 'regclass', 'timestamp', 'busy_status'] LOOP
                    EXECUTE format('CREATE DOMAIN shapes.%I AS pg_catalog.text CHECK (false)', one);
                END LOOP;
            END $do$;
            CREATE COLLATION shapes."C" FROM pg_catalog."POSIX";
            RESET SESSION AUTHORIZATION;
            "#,
        )
        .expect("the trap is set");
}

fn mallory(fed: &mut Fed) -> Client {
    set_trap(&mut fed.sql);
    let mut sql = fed.cluster.connect_as("mallory", "postgres").expect("mallory may connect");
    sql.batch_execute("SET search_path = trap, calsync, pg_catalog, public").expect("the path leads through the trap");
    sql
}

#[test]
fn nobody_elses_functions_run_as_the_owner() {
    let mut fed = Fed::new();
    let mut sql = mallory(&mut fed);
    let sprung = sql.execute("SELECT lower('X'::text)", &[]).expect_err("the trap works");
    assert!(format!("{sprung:?}").contains("trapped"), "{sprung:?}");

    let list = envelope(
        "mine",
        &[
            meeting("a", 1, "08:00", "09:00"),
            meeting("s", 2, "08:00", "08:30").daily(4),
            meeting("s3", 3, "12:00", "13:00").instead_of("s", 3, "08:00"),
        ],
        json!({"nextSyncToken": "t1", "timeZone": "Asia/Kolkata"}),
    );
    let page = envelope(
        "mine",
        &[cancelled("a")],
        json!({"expectedSyncToken": "t1", "pageToken": null, "nextPageToken": "p2"}),
    );
    let last = envelope(
        "mine",
        &[cancelled("s")],
        json!({"expectedSyncToken": "t1", "pageToken": "p2", "nextSyncToken": "t2"}),
    );
    let call = |sql: &mut Client, statement: &str| {
        sql.batch_execute(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    };
    call(&mut sql, "SELECT public.calsync_subscribe('mine', 'none', options => '{\"max_staleness\": \"1h\"}')");
    call(&mut sql, "SELECT public.calsync_subscribe('mine', 'none', options => '{\"max_staleness\": \"1h\"}')");
    for delta in [&list, &page, &last, &list] {
        sql.execute("SELECT public.calsync_apply_delta($1) IS NULL", &[delta])
            .unwrap_or_else(|error| panic!("{delta}: {error:?}"));
    }
    let day = format!("[{}, {})", at(1, "08:00"), at(2, "08:00"));
    for question in [
        "calsync_busy('DAY', '{mine}')",
        "calsync_busy('DAY', '{mine}', NULL, 'busy')",
        "calsync_busy_union('DAY', '{mine}')",
        "calsync_is_free('DAY', '{mine}')",
        "calsync_is_free('DAY', '{mine}', 'busy')",
        "calsync_free('DAY', '{mine}', '{DAY}', '1 min')",
        "calsync_slots('DAY', '{mine}', '1 hour', hours => '{DAY}')",
        "calsync_group_slots('DAY', '[{\"any\": 1, \"calendars\": [\"mine\"]}]', '1 hour')",
        "calsync_open_hours('DAY', 'UTC', '[{\"days\": [\"mon\"], \"start\": \"09:00\", \"end\": \"10:00\"}]')",
        "calsync_freebusy('{\"timeMin\": \"2026-11-23T00:00:00Z\", \"timeMax\": \"2026-11-30T00:00:00Z\", \"items\": [{\"id\": \"mine\"}]}')",
    ] {
        call(&mut sql, &format!("SELECT * FROM public.{}", question.replace("DAY", &day)));
    }
    for statement in [
        "SELECT * FROM public.calsync_busy('[2026-01-01,2026-01-01]', '{mine}') WHERE false",
        "SELECT * FROM public.calsync_coverage()",
        "SELECT * FROM public.calsync_coverage('{mine}')",
        "TABLE calsync.status",
        "SELECT public.calsync_sync()",
        "SELECT public.calsync_sync('mine')",
        "SELECT public.calsync_pause('mine')",
        "SELECT public.calsync_resume('mine')",
        "SELECT public.calsync_resync('mine')",
        "SELECT public.calsync_add_credential('c', 'google', '{}')",
        "SELECT public.calsync_drop_credential('c')",
        "CALL public.calsync_run()",
    ] {
        call(&mut sql, statement);
    }
    // The window is a parameter, since making one here would spring the trap.
    let now = chrono::Utc::now();
    let window = format!("[{},{})", now.to_rfc3339(), (now + chrono::TimeDelta::days(9)).to_rfc3339());
    for statement in [
        "SELECT busy FROM public.calsync_busy($1::text::tstzrange, '{mine}')",
        "SELECT public.calsync_busy_union($1::text::tstzrange, '{mine}')::text",
        "SELECT public.calsync_is_free($1::text::tstzrange, '{mine}')",
    ] {
        let rows = sql.query(statement, &[&window]).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        assert!(!rows.is_empty(), "{statement}");
    }
    call(&mut sql, "SELECT public.calsync_unsubscribe('mine')");
    check_derived(&mut fed.sql);
}

/// What anybody may set for a session, a role or a database of his own, and statements could depend on.
const ODD_SETTINGS: [(&str, &str); 27] = [
    ("search_path", "shapes, trap, pg_catalog"),
    ("DateStyle", "SQL, DMY"),
    ("IntervalStyle", "sql_standard"),
    ("TimeZone", "Pacific/Kiritimati"),
    ("standard_conforming_strings", "off"),
    ("backslash_quote", "on"),
    ("transform_null_equals", "on"),
    ("array_nulls", "off"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-15"),
    ("xmloption", "document"),
    ("quote_all_identifiers", "on"),
    ("row_security", "off"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("check_function_bodies", "off"),
    ("constraint_exclusion", "on"),
    ("force_parallel_mode", "on"),
    ("enable_indexscan", "off"),
    ("enable_nestloop", "off"),
    ("enable_hashjoin", "off"),
    ("join_collapse_limit", "1"),
    ("geqo_threshold", "2"),
    ("plan_cache_mode", "force_custom_plan"),
    ("work_mem", "64kB"),
    ("default_toast_compression", "pglz"),
    ("client_min_messages", "debug1"),
];

/// What would end or stop whoever works under it.
const HARMFUL_SETTINGS: [(&str, &str); 6] = [
    ("default_transaction_read_only", "on"),
    ("statement_timeout", "1ms"),
    ("lock_timeout", "1ms"),
    ("idle_in_transaction_session_timeout", "1ms"),
    ("exit_on_error", "on"),
    ("calsync.on_uncovered", "ignore"),
];

fn set_for(sql: &mut Client, whom: &str, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        let value = if *name == "search_path" { (*value).to_owned() } else { format!("'{value}'") };
        let statement = format!("{whom} SET {name} = {value}");
        sql.batch_execute(&statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

#[test]
fn who_owns_the_database_leads_the_worker_nowhere() {
    let mut world = World::synced();
    set_trap(&mut world.sql);
    world.sql.batch_execute("ALTER DATABASE postgres OWNER TO mallory; SET ROLE mallory").expect("it is hers");
    set_for(&mut world.sql, "ALTER DATABASE postgres", &ODD_SETTINGS);
    set_for(&mut world.sql, "ALTER DATABASE postgres", &HARMFUL_SETTINGS);
    // And as somebody would who may alter the role.
    world.sql.batch_execute("RESET ROLE").expect("role");
    set_for(&mut world.sql, "ALTER ROLE calsync_worker", &ODD_SETTINGS);
    set_for(&mut world.sql, "ALTER ROLE calsync_worker", &HARMFUL_SETTINGS);
    let of_the_role =
        [("role", "mallory"), ("local_preload_libraries", "nosuch"), ("session_preload_libraries", "nosuch")];
    world.sql.batch_execute("GRANT mallory TO calsync_worker").expect("it could become her");
    set_for(&mut world.sql, "ALTER ROLE calsync_worker", &of_the_role);

    let worker = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker'";
    let process: i32 = world.sql.query_one(worker, &[]).expect("a worker").get(0);
    world.sql.execute("SELECT pg_terminate_backend($1)", &[&process]).expect("ended");
    eventually("another worker runs", || {
        world.sql.query_opt(worker, &[]).expect("asked").is_some_and(|row| row.get::<_, i32>(0) != process)
    });
    world.meeting(3, "08:00", "09:00");
    world.daily(5, "10:00", "11:00", 2);
    world.sync();

    assert_eq!(world.busy(), ["+3 08:00 to 09:00", "+5 10:00 to 11:00", "+6 10:00 to 11:00"]);
    let log = world.cluster.log();
    assert!(!log.contains("the trap runs") && !log.contains("ERROR"), "none of her code ran");
}

#[test]
fn answers_do_not_depend_on_the_settings_of_the_session() {
    let mut fed = Fed::new();
    let mut odd = mallory(&mut fed);
    set_for(&mut odd, "", &ODD_SETTINGS);
    let mut plain = fed.cluster.connect_as("mallory", "postgres").expect("connected");
    let options = json!({"max_staleness": "90min", "changes": true});
    let items = [
        meeting("a", 1, "08:00", "09:00").saying(json!({"summary": "it''s \\ NULL", "description": "NULL"})),
        meeting("s", 2, "08:00", "08:30").daily(4).saying(json!({"updated": at(0, "08:00")})),
        meeting("s3", 3, "12:00", "13:00").instead_of("s", 3, "08:00"),
        days_off("d", 7, 9),
    ];
    for (sql, calendar) in [(&mut plain, "plain"), (&mut odd, "odd")] {
        let list = envelope(calendar, &items, json!({"nextSyncToken": "t1", "timeZone": "Asia/Kolkata"}));
        let page = envelope(
            calendar,
            &[cancelled("a"), meeting("b", 4, "20:00", "21:00")],
            json!({"expectedSyncToken": "t1", "pageToken": null, "nextPageToken": "p2"}),
        );
        let last = envelope(
            calendar,
            &[cancelled("s3").instead_of("s", 3, "08:00")],
            json!({"expectedSyncToken": "t1", "pageToken": "p2", "nextSyncToken": "t2"}),
        );
        sql.execute("SELECT public.calsync_subscribe($1, 'none', options => $2)", &[&calendar, &options])
            .unwrap_or_else(|error| panic!("{calendar}: {error:?}"));
        for delta in [&list, &page, &last] {
            sql.execute("SELECT public.calsync_apply_delta($1) IS NULL", &[delta])
                .unwrap_or_else(|error| panic!("{calendar}: {error:?}"));
        }
        sql.batch_execute("CALL public.calsync_run()").unwrap_or_else(|error| panic!("{calendar}: {error:?}"));
        let found = sql.query("SELECT calendar FROM public.calsync_check()", &[]).expect("checked");
        assert!(found.is_empty(), "{calendar}");
    }

    // Asked by both of both.
    let window = format!("[{}, {})", at(0, "00:00"), at(20, "00:00"));
    for calendar in ["plain", "odd"] {
        let ask = |sql: &mut Client| -> Vec<(String, String)> {
            let rows = sql.query(
                "SELECT pg_catalog.lower(busy), pg_catalog.upper(busy) \
                 FROM public.calsync_busy($1::pg_catalog.text::pg_catalog.tstzrange, ARRAY[$2])",
                &[&window, &calendar],
            );
            let rows = rows.unwrap_or_else(|error| panic!("{calendar}: {error:?}"));
            let moment = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339();
            rows.iter().map(|row| (moment(row.get(0)), moment(row.get(1)))).collect()
        };
        assert_eq!(ask(&mut plain), ask(&mut odd), "{calendar}");
    }
    let mut kept = |table: &str| {
        let of = |calendar| {
            format!(
                "SELECT to_jsonb(t) - '{{subscription_id,calendar,change_id,changed_at,created_at,synced_at,full_synced_at,\
                     remote_id,covered,run_id,started_at,finished_at}}'::text[] FROM calsync.{table} AS t \
                 JOIN calsync.subscription AS s USING (subscription_id) WHERE s.calendar = '{calendar}'"
            )
        };
        let sql = format!(
            "SELECT 'more' FROM (({0} EXCEPT ALL {1}) UNION ALL ({1} EXCEPT ALL {0})) AS d",
            of("plain"),
            of("odd")
        );
        fed.sql.query(&sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}")).len()
    };
    for table in ["subscription", "event", "occurrence", "busy", "change", "sync_run"] {
        assert_eq!(kept(table), 0, "{table}");
    }
}

#[test]
fn the_extension_is_created_among_doubles() {
    let mut fed = Fed::new();
    set_trap(&mut fed.sql);
    // These fit better than Postgres' own, which take any range.
    fed.sql
        .batch_execute(
            "DROP EXTENSION pg_calsync; SET ROLE mallory; \
             CREATE FUNCTION trap.upper(tstzrange) RETURNS timestamptz IMMUTABLE LANGUAGE plpgsql AS \
                 'BEGIN PERFORM trap.sprung(); RETURN now(); END'; \
             CREATE FUNCTION trap.isempty(tstzrange) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS \
                 'BEGIN PERFORM trap.sprung(); RETURN false; END'; \
             CREATE FUNCTION trap.format(text, name) RETURNS text LANGUAGE plpgsql AS \
                 'BEGIN PERFORM trap.sprung(); RETURN NULL; END'; \
             RESET ROLE; CREATE EXTENSION pg_calsync SCHEMA trap",
        )
        .expect("created where mallory could put things before");

    fed.sql.batch_execute("SET ROLE mallory; SELECT trap.calsync_subscribe('mine', 'none')").expect("subscribed");
    let list = envelope("mine", &[meeting("a", 1, "08:00", "09:00")], json!({"nextSyncToken": "t1"}));
    fed.sql.execute("SELECT trap.calsync_apply_delta($1) IS NULL", &[&list]).expect("fed");
    for statement in ["TABLE calsync.status", "CALL trap.calsync_run()", "RESET ROLE"] {
        fed.sql.batch_execute(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }

    let foreign = fed.sql.query(
        "SELECT DISTINCT d.refobjid::regprocedure::text FROM pg_depend AS d JOIN pg_proc AS p ON p.oid = d.refobjid \
         WHERE d.refclassid = 'pg_proc'::regclass AND p.proowner = 'mallory'::regrole AND d.classid <> 'pg_operator'::regclass",
        &[],
    );
    let foreign: Vec<String> = foreign.expect("the catalog").iter().map(|row| row.get(0)).collect();
    assert_eq!(foreign, [""; 0], "nothing of the extension depends on them");
}

#[test]
fn who_owns_the_database_hangs_nothing_on_the_tables() {
    let mut fed = Fed::new();
    let mut sql = mallory(&mut fed);
    fed.sql.batch_execute("ALTER DATABASE postgres OWNER TO mallory").expect("it is hers");
    sql.batch_execute(
        "SET search_path = pg_catalog; CREATE TYPE trap.shape AS (t text); \
         CREATE FUNCTION trap.fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
         CREATE FUNCTION trap.fires_on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; \
         CREATE FUNCTION trap.kind(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1'; \
         CREATE TABLE trap.heir (n int)",
    )
    .expect("what she would hang");

    for statement in [
        "CREATE TRIGGER t BEFORE INSERT ON calsync.event FOR EACH ROW EXECUTE FUNCTION trap.fires()",
        "CREATE TRIGGER t AFTER UPDATE ON calsync.subscription EXECUTE FUNCTION trap.fires()",
        "CREATE RULE r AS ON INSERT TO calsync.event DO ALSO SELECT trap.sprung()",
        "CREATE POLICY p ON calsync.event USING (trap.kind(event_id) IS NULL)",
        "ALTER TABLE calsync.event DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE calsync.event ADD CHECK (trap.kind(event_id) IS NOT NULL)",
        "ALTER TABLE calsync.event ALTER summary SET DEFAULT trap.kind('x')",
        "ALTER TABLE calsync.event ALTER summary TYPE trap.shape USING NULL",
        "ALTER TABLE trap.heir INHERIT calsync.event",
        "CREATE TABLE trap.child () INHERITS (calsync.event)",
        "CREATE INDEX ON calsync.event (trap.kind(event_id))",
        "CREATE STATISTICS trap.s ON event_id, (trap.kind(event_id)) FROM calsync.event",
        "ALTER TABLE calsync.event OWNER TO mallory",
        "GRANT ALL ON calsync.event TO mallory",
        "CREATE VIEW calsync.more AS SELECT 1",
        "CREATE FUNCTION calsync.busy_rows(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        "CREATE OR REPLACE VIEW calsync.status AS SELECT 1",
        "ALTER TYPE calsync.busy_status ADD VALUE 'trapped'",
        "CREATE CAST (text AS timestamptz) WITHOUT FUNCTION",
        "CREATE CAST (calsync.busy_status AS integer) WITH INOUT AS IMPLICIT",
        "CREATE OPERATOR pg_catalog.= (LEFTARG = text, RIGHTARG = bigint, FUNCTION = trap.kind)",
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION trap.fires_on_ddl()",
        "ALTER DEFAULT PRIVILEGES FOR ROLE calsync_worker GRANT ALL ON TABLES TO mallory",
        "ALTER ROLE calsync_worker SET search_path = trap",
        "ALTER ROLE calsync_worker PASSWORD 'x'",
        "GRANT calsync_worker TO mallory",
        "GRANT calsync_detail TO mallory",
        "SET ROLE calsync_worker",
        "SET SESSION AUTHORIZATION calsync_worker",
        "REASSIGN OWNED BY calsync_worker TO mallory",
        "ALTER DATABASE postgres SET session_preload_libraries = 'x'",
        "ALTER DATABASE postgres SET session_replication_role = 'replica'",
        "ALTER DATABASE postgres SET calsync.google_api_url = 'https://mallory.example'",
        "ALTER EXTENSION pg_calsync ADD TABLE trap.heir",
        "ALTER EXTENSION pg_calsync DROP TABLE calsync.event",
        "DROP EXTENSION pg_calsync",
    ] {
        let refused = sql.batch_execute(statement).expect_err(statement);
        let code = sqlstate(&refused);
        assert!(["42501", "42809", "42P17", "55P02"].contains(&code.as_str()), "{statement}: {refused:?}");
    }
    check_derived(&mut fed.sql);
}

#[test]
fn a_table_of_ones_own_is_never_taken_for_ours() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);
    let mut sql = mallory(&mut fed);
    sql.batch_execute(
        "CREATE TEMP TABLE subscription AS SELECT 1::bigint AS subscription_id, 'room'::text AS calendar, 'mallory'::name AS owner; \
         CREATE TEMP TABLE busy (subscription_id bigint, starts_at timestamptz, ends_at timestamptz, statuses smallint); \
         SET search_path = pg_temp, trap",
    )
    .expect("doubles of the tables");

    let refused = sql.batch_execute("SELECT public.calsync_busy('(,)', '{room}')").expect_err("not mallory's");

    assert_eq!(sqlstate(&refused), "SC001");
}

#[test]
fn a_reader_reaches_no_table_and_nobody_elses_calendar() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);
    let mut sql = mallory(&mut fed);

    for table in ["subscription", "event", "occurrence", "busy", "credential", "staged_event", "sync_run"] {
        let refused = sql.batch_execute(&format!("SELECT FROM calsync.{table}")).expect_err(table);
        assert_eq!(sqlstate(&refused), "42501", "{table}");
    }
    let delta = envelope(ROOM, &[], json!({"nextSyncToken": "t2"}));
    let refused = sql.execute("SELECT public.calsync_apply_delta($1) IS NULL", &[&delta]).expect_err("not mallory's");
    assert_eq!(sqlstate(&refused), "SC001");
}

#[test]
fn an_error_of_ours_leaves_the_session_as_it_was() {
    let mut fed = Fed::new();
    let mut sql = mallory(&mut fed);
    let state =
        "SELECT pg_catalog.concat(pg_catalog.current_setting('search_path'), ' ', current_user, ' ', session_user)";
    let before: String = sql.query_one(state, &[]).expect("a state").get(0);

    sql.batch_execute(
        "BEGIN; SAVEPOINT a; \
         DO $$ BEGIN PERFORM public.calsync_is_free('(,)', '{room}'); EXCEPTION WHEN SQLSTATE 'SC001' THEN NULL; END $$; \
         DO $$ BEGIN PERFORM public.calsync_apply_delta('{}'); EXCEPTION WHEN SQLSTATE 'SC005' THEN NULL; END $$",
    )
    .expect("caught");

    assert_eq!(sql.query_one(state, &[]).expect("a state").get::<_, String>(0), before);
    sql.batch_execute("COMMIT").expect("committed");
    assert_eq!(sql.query_one(state, &[]).expect("a state").get::<_, String>(0), before);
}

#[test]
fn errors_of_other_peoples_statements_keep_all_they_say() {
    let mut fed = Fed::new();
    fed.sql.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").expect("a table");

    let no_column = fed.sql.batch_execute("CREATE VIEW v AS SELECT nosuch FROM t").expect_err("no such column");
    let violated = fed.sql.batch_execute("ALTER TABLE t ADD CONSTRAINT big CHECK (n > 5)").expect_err("violated");

    let no_column = no_column.as_db_error().expect("the server's");
    assert!(no_column.position().is_some() && no_column.detail().is_none(), "{no_column:?}");
    let violated = violated.as_db_error().expect("the server's");
    assert_eq!((violated.table(), violated.constraint()), (Some("t"), Some("big")));
}
