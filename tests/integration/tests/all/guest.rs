//! A good guest in somebody's server: it runs nobody else's code as its owner, and changes nobody's errors.

use calsync_integration::items::{at, cancelled, meeting};
use calsync_integration::{Fed, ROOM, check_derived, envelope, sqlstate};
use postgres::Client;
use serde_json::json;

/// A role that may do all that pg_calsync offers, and a schema of its own in which every operator and function that the
/// extension could want has a double that tells as whom it runs.
fn mallory(fed: &mut Fed) -> Client {
    fed.sql
        .batch_execute(
            r#"
            CREATE ROLE mallory LOGIN;
            GRANT calsync_reader, calsync_operator TO mallory;
            CREATE SCHEMA trap AUTHORIZATION mallory;
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
            RESET SESSION AUTHORIZATION;
            "#,
        )
        .expect("the trap is set");
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
