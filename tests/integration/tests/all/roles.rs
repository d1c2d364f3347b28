//! Whose calendar it is, where golden SQL cannot show it.

use calsync_integration::items::{at, meeting};
use calsync_integration::{ALICE, Fed, Pushed, World, eventually, sqlstate};
use serde_json::json;

#[test]
fn calendars_of_a_dropped_role_are_left_to_superusers() {
    let mut world = World::new();
    world
        .sql
        .batch_execute(
            "CREATE ROLE tenant; GRANT calsync_operator TO tenant; SET ROLE tenant; \
             SELECT calsync_subscribe('room', 'none'); RESET ROLE; DROP ROLE tenant; \
             CREATE ROLE stranger; GRANT calsync_operator TO stranger;",
        )
        .expect("a tenant comes and goes");
    let visible = "SELECT count(*) FROM calsync.status WHERE calendar = 'room'";

    world.sql.batch_execute("SET ROLE stranger").expect("role");
    assert_eq!(world.count(visible), 0);
    let refused = world.sql.execute("SELECT calsync_pause('room')", &[]).expect_err("it does not exist for a stranger");
    assert_eq!(sqlstate(&refused), "SC001");

    world.sql.batch_execute("RESET ROLE").expect("role");
    assert_eq!(world.count(visible), 1);
    assert!(world.sql.query_one("SELECT calsync_unsubscribe('room')", &[]).expect("unsubscribed").get::<_, bool>(0));
}

#[test]
fn a_statement_sees_what_it_has_just_subscribed() {
    let mut fed = Fed::new();
    fed.sql.batch_execute("CREATE ROLE guest").expect("a role");
    let both = "SELECT calsync_subscribe('new', 'none'), calsync_share('new', 'guest'), calsync_pause('new'), \
                    calsync_unshare('new', 'guest') AS unshared";

    let row = fed.sql.query_one(both, &[]).expect("one statement after the other");

    assert!(row.get::<_, bool>("unshared"));
    assert!(fed.sql.query_one("SELECT calsync_unsubscribe('new')", &[]).expect("gone").get::<_, bool>(0));
}

#[test]
fn nobody_waits_for_a_calendar_that_is_not_his() {
    let mut fed = Fed::new();
    fed.sql.batch_execute("CREATE ROLE stranger LOGIN; GRANT calsync_operator TO stranger").expect("a role");
    let mut stranger = fed.cluster.connect_as("stranger", "postgres").expect("connected");
    fed.sql.batch_execute("BEGIN; SELECT calsync_pause('room')").expect("its row is locked");
    stranger.batch_execute("SET lock_timeout = '5s'").expect("set");

    for statement in
        ["SELECT calsync_pause('room')", "SELECT calsync_sync('room')", "SELECT calsync_share('room', 'stranger')"]
    {
        assert_eq!(sqlstate(&stranger.batch_execute(statement).expect_err(statement)), "SC001", "{statement}");
    }
    stranger
        .batch_execute(
            "SELECT calsync_unsubscribe('room'); SELECT calsync_unshare('room', 'stranger'); SELECT calsync_sync(); \
             SELECT calsync_resync(); SELECT calsync_subscribe('room', 'none')",
        )
        .expect("none of it is about the owner's");
}

/// The room, shared with a role that may see details and with one that was granted the table; and calendars of somebody
/// else.
fn shared_room() -> Fed {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00").saying(json!({"summary": "Salary talk"}))]);
    fed.sql
        .batch_execute(
            "CREATE ROLE assistant LOGIN; GRANT calsync_detail TO assistant; SELECT calsync_share('room', 'assistant'); \
             CREATE ROLE clerk LOGIN; GRANT calsync_reader TO clerk; SELECT calsync_share('room', 'clerk'); \
             GRANT SELECT ON calsync.event TO clerk; \
             SELECT calsync_subscribe('c' || n, 'none') FROM generate_series(1, 200) AS n; \
             SELECT calsync_apply_delta(jsonb_build_object('calendar', 'c' || n, 'nextSyncToken', 't', 'items', \
                 jsonb_build_array(jsonb_build_object('id', 'x', 'summary', 'Of ' || n, \
                     'start', jsonb_build_object('dateTime', '2030-01-01T08:00:00Z'), \
                     'end', jsonb_build_object('dateTime', '2030-01-01T09:00:00Z'))))) FROM generate_series(1, 200) AS n; \
             ANALYZE",
        )
        .expect("shared");
    fed
}

#[test]
fn row_security_shows_ones_own_and_asks_no_more_than_it_must() {
    let fed = shared_room();
    let mut clerk = fed.cluster.connect_as("clerk", "postgres").expect("connected");
    let room: i64 = clerk.query_one("SELECT subscription_id FROM calsync.status", &[]).expect("one").get(0);

    let titles = clerk.query("SELECT summary FROM calsync.event", &[]).expect("her rows");
    assert_eq!(titles.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["Salary talk"]);

    let mut plan = |question: &str| -> String {
        let explain = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {question}");
        let lines = clerk.query(&explain, &[]).expect("a plan");
        lines.iter().map(|line| line.get::<_, String>(0) + "\n").collect()
    };
    let one = plan(&format!("SELECT * FROM calsync.event WHERE subscription_id = {room} AND event_id = 'a'"));
    assert!(one.contains("subscription_pkey") && one.contains("event_pkey"), "by index, both: {one}");
    let all = plan("SELECT * FROM calsync.event");
    assert!(all.contains("hashed SubPlan"), "each calendar is asked about once, not each event: {all}");
}

#[test]
fn statistics_of_the_tables_show_nobody_titles() {
    let fed = shared_room();
    let mut clerk = fed.cluster.connect_as("clerk", "postgres").expect("connected");

    let shown = clerk.query("SELECT FROM pg_stats WHERE schemaname = 'calsync' AND tablename = 'event'", &[]);

    assert!(shown.expect("asked").is_empty());
}

#[test]
fn a_condition_of_ones_own_is_asked_about_ones_own_rows_only() {
    let fed = shared_room();
    let mut clerk = fed.cluster.connect_as("clerk", "postgres").expect("connected");
    clerk
        .batch_execute(
            "CREATE FUNCTION pg_temp.peek(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS \
             $$ BEGIN IF $1 LIKE 'Of %' THEN RAISE EXCEPTION 'saw %', $1; END IF; RETURN true; END $$; \
             SELECT * FROM calsync.event WHERE pg_temp.peek(summary); \
             SELECT * FROM calsync.status WHERE pg_temp.peek('Of ' || nullif(calendar, 'room')) OR calendar = 'room'",
        )
        .expect("it sees no row that the role may not see");
}

/// A condition is tried on nobody's rows that are not the reader's: whether it meets what somebody else has makes no
/// difference to what EXPLAIN counts and guesses, in any column of any view.
#[test]
fn explain_does_not_tell_a_reader_what_others_have() {
    let mut fed = shared_room();
    fed.sql
        .batch_execute(
            "CREATE ROLE boss LOGIN; GRANT calsync_operator TO boss; SET ROLE boss; \
             SELECT calsync_add_credential('team', 'google', '{}'); \
             SELECT calsync_subscribe('secret', 'none'), calsync_share('secret', 'boss'); \
             SELECT calsync_subscribe('acquisition', credential => 'team'); \
             SELECT calsync_apply_delta('{\"calendar\": \"secret\", \"items\": [], \"nextPageToken\": \"p\"}'); RESET ROLE; \
             CREATE ROLE rita LOGIN; GRANT calsync_reader TO rita",
        )
        .expect("somebody else's");
    let mut rita = fed.cluster.connect_as("rita", "postgres").expect("connected");
    rita.batch_execute("SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off").expect("set");
    let columns = fed.sql.query(
        "SELECT c.relname::text, a.attname::text, t.typname::text \
         FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 \
         JOIN pg_type AS t ON t.oid = a.atttypid AND t.typname IN ('text', 'name', 'int4', 'int8', 'timestamptz') \
         WHERE c.relnamespace = 'calsync'::regnamespace AND c.relkind = 'v' AND has_table_privilege('rita', c.oid, 'SELECT') \
             AND c.relname NOT IN ('owned_subscription', 'visible_subscription')",
        &[],
    );

    let mut told = 0;
    for column in columns.expect("the granted views") {
        let (view, column, kind): (String, String, String) = (column.get(0), column.get(1), column.get(2));
        let nobodys = match kind.as_str() {
            "text" | "name" => "nobody's",
            "timestamptz" => "1999-01-01 00:00:00+00",
            _ => "987654321",
        };
        let mut explained = |value: &str| -> String {
            let quoted = value.replace('\'', "''");
            let explain = "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF)";
            let lines = rita.query(&format!("{explain} SELECT * FROM calsync.{view} WHERE {column} = '{quoted}'"), &[]);
            let lines: Vec<String> = lines.expect("explained").iter().map(|row| row.get(0)).collect();
            let shown = [format!("= '{quoted}'"), format!("= {quoted})")];
            shown
                .iter()
                .zip(["= a value", "= a value)"])
                .fold(lines.join("\n"), |all, (as_it_is, as_any)| all.replace(as_it_is, as_any))
        };
        // Views compare with 0 themselves.
        let values = format!("SELECT DISTINCT {column}::text FROM calsync.{view} WHERE {column}::text <> '0' LIMIT 3");
        for row in fed.sql.query(&values, &[]).expect("what others have") {
            let value: String = row.get(0);
            assert_eq!(explained(&value), explained(nobodys), "{view}.{column} = {value}");
            told += 1;
        }
    }
    assert!(told > 20, "only {told} values were tried");
    // Row security looks calendars up in these; a number that is counted tells nothing.
    for view in ["owned_subscription", "visible_subscription"] {
        let statement = rita.prepare(&format!("SELECT * FROM calsync.{view}")).expect("a view");
        let columns: Vec<&str> = statement.columns().iter().map(|column| column.name()).collect();
        assert_eq!(columns, ["subscription_id"], "{view}");
    }
}

#[test]
fn explain_does_not_tell_whoever_sees_details_which_titles_others_have() {
    let fed = shared_room();
    let mut assistant = fed.cluster.connect_as("assistant", "postgres").expect("connected");
    let mut explained = |title: &str| -> String {
        let explain = "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) SELECT FROM calsync_events() WHERE summary >= ";
        let lines = assistant.query(&format!("{explain} '{title}'"), &[]).expect("explained");
        let lines: Vec<String> = lines.iter().map(|row| row.get(0)).collect();
        lines.join("\n").replace(title, "")
    };

    assert_eq!(explained("Of"), explained("Og"), "there are 200 titles of somebody else between the two");
    for table in ["event", "occurrence", "change"] {
        let refused = assistant.batch_execute(&format!("TABLE calsync.{table}")).expect_err(table);
        assert_eq!(sqlstate(&refused), "42501", "{table}");
    }
}

#[test]
fn an_offer_neither_answers_for_a_name_nor_makes_it_ambiguous() {
    let mut fed = Fed::new();
    fed.sql
        .batch_execute(
            "CREATE ROLE victim LOGIN; GRANT calsync_operator TO victim; \
             CREATE ROLE mallory LOGIN; GRANT calsync_operator TO mallory",
        )
        .expect("two tenants");
    let mut victim = fed.cluster.connect_as("victim", "postgres").expect("connected");
    let mut mallory = fed.cluster.connect_as("mallory", "postgres").expect("connected");
    let feed = "SELECT calsync_apply_delta('{\"calendar\": \"NAME\", \"items\": [], \"nextSyncToken\": \"t\"}')";
    let day = format!("[{}, {})", at(1, "00:00"), at(2, "00:00"));
    let mut is_free = |name: &str| -> Result<bool, String> {
        let asked = victim.query_one(&format!("SELECT calsync_is_free('{day}', '{{{name}}}')"), &[]);
        asked.map(|row| row.get(0)).map_err(|error| sqlstate(&error).to_owned())
    };
    mallory
        .batch_execute(
            "SELECT calsync_subscribe('boss', 'none'), calsync_share('boss', 'victim'); \
             SELECT calsync_subscribe('own', 'none'), calsync_share('own', 'victim')",
        )
        .expect("offered");
    mallory.batch_execute(&feed.replace("NAME", "boss")).expect("an empty calendar");

    assert_eq!(is_free("boss"), Err("SC001".to_owned()), "nobody has said that mallory answers for the boss");

    let mut owner = fed.cluster.connect_as("victim", "postgres").expect("connected");
    owner.batch_execute("SELECT calsync_subscribe('own', 'none')").expect("subscribed");
    owner.batch_execute(&feed.replace("NAME", "own")).expect("fed");
    assert_eq!(is_free("own"), Ok(true), "it means one calendar, the victim's own");

    let everybody =
        mallory.batch_execute("SELECT calsync_share('boss', 'calsync_reader')").expect_err("with everybody");
    assert_eq!(sqlstate(&everybody), "42501");
    let everybody = mallory.batch_execute("SET ROLE calsync_reader; SELECT calsync_accept_share('boss', 'mallory')");
    assert_eq!(sqlstate(&everybody.expect_err("for everybody")), "42704");

    owner.batch_execute("SELECT calsync_accept_share('boss', 'mallory')").expect("accepted");
    assert_eq!(is_free("boss"), Ok(true), "now somebody has");
}

#[test]
fn a_guest_whose_answer_is_open_keeps_no_owner_from_his_calendar() {
    let mut fed = Fed::new();
    fed.sql
        .batch_execute(
            "CREATE ROLE guest LOGIN; GRANT calsync_reader TO guest; CREATE ROLE another; \
             CREATE ROLE host LOGIN; GRANT calsync_operator TO host",
        )
        .expect("two tenants");
    let mut host = fed.cluster.connect_as("host", "postgres").expect("connected");
    host.batch_execute(
        "SET lock_timeout = '5s'; \
         SELECT calsync_subscribe('mine', 'none'), calsync_share('mine', 'guest'); \
         SELECT calsync_subscribe('other', 'none'), calsync_share('other', 'guest')",
    )
    .expect("offered");
    let mut guest = fed.cluster.connect_as("guest", "postgres").expect("connected");
    guest
        .batch_execute("BEGIN; SELECT calsync_accept_share('mine'), calsync_unshare('other', 'guest')")
        .expect("not committed");

    host.batch_execute("SELECT calsync_share('mine', 'another'), calsync_pause('mine'), calsync_resume('mine')")
        .expect("it is the host's");
    host.batch_execute("SELECT calsync_unsubscribe('mine'), calsync_unsubscribe('other')").expect("gone at once");
    guest.batch_execute("COMMIT").expect("too late");

    assert!(guest.query("SELECT FROM calsync.status", &[]).expect("asked").is_empty());
    fed.sql.batch_execute("SELECT calsync_repair()").expect("mended");
    for table in ["share", "share_answer"] {
        assert_eq!(fed.sql.query(&format!("SELECT FROM calsync.{table}"), &[]).expect("the table").len(), 0, "{table}");
    }
}

/// It could hold on to what was accepted, by a refusal that it does not commit.
#[test]
fn a_guest_whose_answer_is_open_keeps_no_owner_from_taking_back() {
    let mut fed = shared_room();
    let day = format!("[{}, {})", at(1, "00:00"), at(2, "00:00"));
    let question = format!("SELECT calsync_is_free('{day}', '{{room}}')");
    let mut assistant = fed.cluster.connect_as("assistant", "postgres").expect("connected");
    let mut another = fed.cluster.connect_as("assistant", "postgres").expect("connected");
    another.batch_execute("BEGIN; SELECT calsync_unshare('room', 'assistant')").expect("not committed");
    assert!(!assistant.query_one(&question, &[]).expect("it is shared still").get::<_, bool>(0));

    fed.sql.batch_execute("SET lock_timeout = '5s'").expect("set");
    let taken_back =
        fed.sql.query_one("SELECT calsync_unshare('room', 'assistant')", &[]).expect("nobody is waited for");
    assert!(taken_back.get::<_, bool>(0));
    assert_eq!(sqlstate(&assistant.query_one(&question, &[]).expect_err("taken back")), "SC001");

    // What is offered again is asked again, whatever becomes of that answer.
    another.batch_execute("ROLLBACK; BEGIN").expect("it still counts for nothing");
    fed.sql.batch_execute("RESET ROLE; CREATE ROLE host; GRANT calsync_operator TO host").expect("an owner");
    fed.sql.batch_execute("UPDATE calsync.subscription SET owner = 'host' WHERE calendar = 'room'").expect("moved");
    fed.sql.batch_execute("SET ROLE host").expect("the host");
    let share = "SELECT calsync_share('room', 'assistant')";
    assert!(!fed.sql.query_one(share, &[]).expect("offered").get::<_, bool>(0));
    another.batch_execute("SELECT calsync_accept_share('room')").expect("not committed");
    fed.sql.batch_execute("SELECT calsync_unshare('room', 'assistant')").expect("nobody is waited for");
    assert!(!fed.sql.query_one(share, &[]).expect("offered").get::<_, bool>(0));
    another.batch_execute("COMMIT").expect("of an offer that is no more");
    assert_eq!(sqlstate(&assistant.query_one(&question, &[]).expect_err("not this one")), "SC001");
    assistant.batch_execute("SELECT calsync_accept_share('room')").expect("this one");
    assert!(!assistant.query_one(&question, &[]).expect("shared").get::<_, bool>(0));

    // What nobody offers any more leaves nothing behind.
    fed.sql.batch_execute("SELECT calsync_unshare('room', 'assistant'); RESET ROLE").expect("taken back");
    let stale = "SELECT FROM calsync.share_answer WHERE offer <> ALL (SELECT offer FROM calsync.share)";
    assert_eq!(fed.sql.query(stale, &[]).expect("the table").len(), 0);
}

#[test]
fn a_standby_knows_what_is_shared() {
    let mut fed = shared_room();
    let standby = fed.cluster.standby();
    let day = format!("[{}, {})", at(1, "00:00"), at(2, "00:00"));
    let question = format!("SELECT calsync_is_free('{day}', '{{room}}')");
    let mut assistant = standby.connect_as("assistant", "postgres").expect("connected");
    assert!(!assistant.query_one(&question, &[]).expect("answered").get::<_, bool>(0));
    assert_eq!(assistant.query("SELECT FROM calsync_events()", &[]).expect("rows").len(), 1);
    assert_eq!(
        sqlstate(&assistant.batch_execute("SELECT calsync_unshare('room', 'assistant')").expect_err("written")),
        "25006"
    );

    fed.sql.batch_execute("SELECT calsync_unshare('room', 'assistant')").expect("taken back");

    calsync_integration::eventually("the standby follows", || assistant.query_one(&question, &[]).is_err());
}

#[test]
fn parallel_workers_know_whom_they_ask_for() {
    let fed = shared_room();
    let mut assistant = fed.cluster.connect_as("assistant", "postgres").expect("connected");
    let day = format!("[{}, {})", at(1, "00:00"), at(2, "00:00"));

    assistant.batch_execute("SET force_parallel_mode = on").expect("set");
    let answers = assistant.query(&format!("SELECT busy::text FROM calsync_busy('{day}', '{{room}}')"), &[]);

    assert_eq!(answers.expect("answered").len(), 1);
    let mut clerk = fed.cluster.connect_as("clerk", "postgres").expect("connected");
    clerk.batch_execute("SET force_parallel_mode = on").expect("set");
    assert_eq!(clerk.query("SELECT summary FROM calsync.event", &[]).expect("rows").len(), 1);
    let refused =
        assistant.query(&format!("SELECT * FROM calsync_busy('{day}', '{{c1}}')"), &[]).expect_err("not hers");
    assert_eq!(sqlstate(&refused), "SC001");
}

#[test]
fn nothing_that_an_operator_may_ask_shows_a_title() {
    let mut fed = Fed::new();
    fed.subscribe("words", json!({"store": "full", "changes": true}));
    let words =
        json!({"summary": "MARKER", "description": "MARKER", "location": "MARKER", "attendees": [{"email": "MARKER"}]});
    fed.list_of("words", &[meeting("a", 1, "08:00", "09:00").saying(words.clone())]);
    fed.change_of("words", &[meeting("b", 2, "08:00", "09:00").saying(words)]);
    fed.sql
        .batch_execute(
            "CREATE ROLE operator LOGIN; GRANT calsync_operator TO operator; \
             UPDATE calsync.subscription SET owner = 'operator'; \
             UPDATE calsync.event SET problem = 'MARKER' WHERE event_id = 'a'; \
             DELETE FROM calsync.occurrence WHERE event_id = 'b'",
        )
        .expect("one event is flagged, one damaged");
    let mut operator = fed.cluster.connect_as("operator", "postgres").expect("connected");
    let open = operator.query(
        "SELECT 'calsync.' || relname FROM pg_class WHERE relnamespace = 'calsync'::regnamespace \
             AND relkind IN ('r', 'v') AND has_any_column_privilege(oid, 'SELECT')",
        &[],
    );
    let mut questions: Vec<String> = open.expect("the catalog").iter().map(|row| row.get(0)).collect();
    assert!(questions.len() >= 5, "{questions:?}");
    let day = format!("'[{}, {})'", at(1, "00:00"), at(3, "00:00"));
    questions.extend(
        [
            "calsync_busy(DAY, '{words}')",
            "calsync_freebusy('{\"timeMin\": \"2026-01-01T00:00:00Z\", \"timeMax\": \"2026-01-02T00:00:00Z\", \"items\": [{\"id\": \"words\"}]}')",
            "calsync_coverage()",
            "calsync_changes()",
            "calsync_health()",
            "calsync_check()",
            "calsync_repair()",
            "calsync_cleanup()",
        ]
        .map(|question| question.replace("DAY", &day)),
    );

    for question in &questions {
        let rows = operator.query(&format!("SELECT q::text FROM {question} AS q"), &[]);
        for row in rows.unwrap_or_else(|error| panic!("{question}: {error:?}")) {
            let line: String = row.get(0);
            assert!(!line.contains("MARKER"), "{question}: {line}");
        }
    }
    for refused in [
        "calsync_explain(DAY, '{words}')",
        "calsync.explain_lines(DAY, '{words}')",
        "calsync_events('{words}')",
        "calsync.event",
    ] {
        let refused = format!("SELECT * FROM {}", refused.replace("DAY", &day));
        assert_eq!(sqlstate(&operator.batch_execute(&refused).expect_err(&refused)), "42501", "{refused}");
    }
}

/// What docs/security.md has a superuser type after a rename.
fn documented_after_a_rename() -> String {
    let page = include_str!("../../../../docs/security.md");
    let from = page.find("UPDATE calsync.subscription SET owner").expect("the page says so");
    page[from..].lines().take_while(|line| !line.starts_with("```")).collect()
}

#[test]
fn after_a_rename_what_is_documented_gives_the_new_name_all_that_the_old_one_had() {
    let mut pushed = Pushed::new();
    let world = &mut pushed.world;
    world
        .sql
        .batch_execute(
            "CREATE ROLE old_name LOGIN; CREATE ROLE host LOGIN; GRANT calsync_operator TO old_name, host; \
             SET ROLE host; SELECT calsync_subscribe('hall', 'none'); SELECT calsync_share('hall', 'old_name'); RESET ROLE",
        )
        .expect("roles");
    let mut tenant = world.cluster.connect_as("old_name", "postgres").expect("connected");
    tenant
        .batch_execute(
            "SELECT calsync_accept_share('hall', 'host'); SELECT calsync_add_credential('team', 'google', '{}')",
        )
        .expect("shared");
    tenant.execute("SELECT calsync_subscribe($1, credential => 'team')", &[&ALICE]).expect("subscribed");
    eventually("its channel is confirmed", || {
        pushed.world.count("SELECT count(*) FROM calsync.channel WHERE state = 'open' AND confirmed_at IS NOT NULL")
            == 1
    });

    pushed.world.sql.batch_execute("ALTER ROLE old_name RENAME TO new_name").expect("renamed");
    pushed.world.sql.batch_execute(&documented_after_a_rename()).expect("typed");

    let mut tenant = pushed.world.cluster.connect_as("new_name", "postgres").expect("connected");
    let seen = tenant.query("SELECT calendar FROM calsync.status ORDER BY calendar", &[]);
    let seen: Vec<String> = seen.expect("its calendars").iter().map(|row| row.get(0)).collect();
    assert_eq!(seen, [ALICE, "hall"]);
    tenant.execute("SELECT calsync_unsubscribe($1)", &[&ALICE]).expect("unsubscribed");
    pushed.look();
    pushed.wait_for_states(&["ended"]);
    assert_eq!(pushed.world.google.channels().len(), 0, "it was stopped at Google");
    tenant.batch_execute("SELECT calsync_drop_credential('team')").expect("its own");
}
