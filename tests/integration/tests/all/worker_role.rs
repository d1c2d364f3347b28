//! The worker's own rights: a role that owns the tables and nothing else, and what becomes of it.

use std::path::Path;

use calsync_integration::items::meeting;
use calsync_integration::{ALICE, Cluster, Fed, World, eventually, sqlstate};
use fake_google::NewCalendar;

fn workers(world: &mut World, database: &str) -> i64 {
    world.count(&format!(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker' AND datname = '{database}'"
    ))
}

fn end_workers(world: &mut World) {
    world
        .sql
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker'",
        )
        .expect("terminated");
}

#[test]
fn the_worker_is_no_superuser_and_its_role_lets_nobody_in() {
    let mut world = World::synced();

    let role = world.sql.query_one(
        "SELECT usename::text, rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication, \
             EXISTS (SELECT FROM pg_auth_members WHERE member = r.oid) \
         FROM pg_stat_activity JOIN pg_roles AS r ON r.rolname = usename WHERE backend_type = 'pg_calsync worker'",
        &[],
    );
    let role = role.expect("one worker");
    assert_eq!(
        (role.get::<_, &str>(0), role.get::<_, bool>(1), role.get::<_, bool>(2)),
        ("calsync_worker", false, false)
    );
    let refused = world.cluster.connect_as("calsync_worker", "postgres").err().expect("nobody else connects as it");
    assert_eq!(sqlstate(&refused), "53300", "too many connections for the role");
    assert_eq!(
        world.count(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'calsync'::regnamespace AND relkind IN ('r', 'v', 'S') \
             AND relowner <> 'calsync_worker'::regrole"
        ),
        0,
        "it owns all that there is to read and write"
    );
}

#[test]
fn a_claim_of_a_session_that_lives_is_left_alone_whoevers_it_is() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);
    fed.sql.batch_execute("CREATE ROLE app LOGIN; GRANT calsync_operator TO app").expect("a role");
    let mut app = fed.cluster.connect_as("app", "postgres").expect("connected");
    let process: i32 = app.query_one("SELECT pg_backend_pid()", &[]).expect("a process").get(0);
    fed.sql
        .execute(
            "UPDATE calsync.subscription SET leased_by = $1, leased_at = now(), leased_until = now() + interval '1 hour'",
            &[&process],
        )
        .expect("claimed");
    let claimed = |fed: &mut Fed| -> bool {
        fed.sql.query_one("SELECT leased_until IS NOT NULL FROM calsync.subscription", &[]).expect("the room").get(0)
    };

    fed.sql.batch_execute("CALL calsync_run()").expect("whoever syncs looks for the claims of the dead");
    assert!(claimed(&mut fed), "its holder lives");

    drop(app);
    eventually("the claim of the dead is given back", || {
        fed.sql.batch_execute("CALL calsync_run()").expect("calsync_run");
        !claimed(&mut fed)
    });
}

#[test]
fn another_role_may_be_the_worker_once_it_may_write() {
    let mut world = World::with("calsync.worker_role = 'clerk'");
    eventually("it is told that there is no such role", || {
        world.cluster.log().contains("role \"clerk\", which calsync.worker_role names, does not exist")
    });
    world.sql.batch_execute("CREATE ROLE clerk NOLOGIN").expect("a role");
    world.cluster.reload();
    eventually("it is told what is missing", || world.cluster.log().contains("ALTER ROLE \"clerk\" LOGIN"));
    world.sql.batch_execute("ALTER ROLE clerk LOGIN").expect("it may log in");
    world.cluster.reload();
    eventually("it is told what is missing", || world.cluster.log().contains("GRANT calsync_worker TO \"clerk\""));

    world.sql.batch_execute("GRANT calsync_worker TO clerk").expect("granted");
    world.subscribe(ALICE);
    world.wait_for_sync(ALICE);

    let who = "SELECT usename::text FROM pg_stat_activity WHERE backend_type = $1";
    assert_eq!(world.text(who, "pg_calsync worker"), "clerk");
}

#[test]
fn where_connecting_is_granted_to_few_the_worker_comes_and_a_copy_says_what_it_lacks() {
    let mut world = World::new();
    world.sql.batch_execute("CREATE DATABASE other").expect("a database");
    world.cluster.connect("other").batch_execute("CREATE EXTENSION pg_calsync").expect("created");
    eventually("its worker runs", || workers(&mut world, "other") == 1);
    world.sql.batch_execute("REVOKE CONNECT ON DATABASE other FROM PUBLIC").expect("revoked");
    end_workers(&mut world);
    eventually("the extension let the worker in", || workers(&mut world, "other") == 1);

    world.sql.batch_execute("ALTER DATABASE other RENAME TO another").expect("renamed");
    eventually("renamed, too", || workers(&mut world, "another") == 1);
    // What is granted on a database is not copied with it.
    world.sql.batch_execute("CREATE DATABASE copy TEMPLATE another").expect("copied");
    eventually("the copy has a worker", || workers(&mut world, "copy") == 1);
    world.sql.batch_execute("REVOKE CONNECT ON DATABASE copy FROM PUBLIC").expect("revoked");
    end_workers(&mut world);
    eventually("it is told what is missing", || {
        world.cluster.log().contains("GRANT CONNECT ON DATABASE \"copy\" TO \"calsync_worker\"")
    });
    assert_eq!(workers(&mut world, "copy"), 0);
    assert!(!world.cluster.log().contains("FATAL:  permission denied for database"), "no worker is started in vain");

    world.sql.batch_execute("GRANT CONNECT ON DATABASE copy TO calsync_worker").expect("granted");
    world.cluster.reload();
    eventually("then it comes", || workers(&mut world, "copy") == 1);
    let log = world.cluster.log();
    assert_eq!(log.matches("no worker for database \"copy\"").count(), 1, "it was said once");
}

#[test]
fn a_server_without_the_extension_is_told_nothing() {
    let cluster = Cluster::start("");
    let mut sql = cluster.connect("postgres");
    sql.batch_execute("SELECT pg_reload_conf(); SELECT pg_sleep(0.5)").expect("the launcher has looked around");

    let log = cluster.log();
    for word in ["WARNING", "ERROR", "FATAL:  role"] {
        assert!(!log.contains(word), "{log}");
    }
}

#[test]
fn roles_are_the_servers_and_outlive_the_extension() {
    let mut world = World::new();
    world.sql.batch_execute("CREATE DATABASE other").expect("a database");
    let mut other = world.cluster.connect("other");
    other.batch_execute("CREATE EXTENSION pg_calsync; DROP EXTENSION pg_calsync").expect("created and dropped");
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'calsync%'";
    assert_eq!(world.count(roles), 4);

    other.batch_execute("CREATE EXTENSION pg_calsync; DROP EXTENSION pg_calsync").expect("once more");
    world.sql.batch_execute("DROP EXTENSION pg_calsync").expect("dropped");
    let used = world.sql.batch_execute("DROP ROLE calsync_worker").expect_err("it may connect to two databases");
    assert_eq!(sqlstate(&used), "2BP01");

    other.batch_execute("DROP OWNED BY calsync_worker").expect("what it may there");
    world
        .sql
        .batch_execute(
            "DROP OWNED BY calsync_worker; DROP ROLE calsync_worker, calsync_operator, calsync_detail, calsync_reader",
        )
        .expect("nothing is left of it");
}

/// Whoever has CREATEROLE could have made it before the extension.
#[test]
fn a_role_of_that_name_that_may_do_more_is_refused() {
    let cluster = Cluster::start("");
    let mut sql = cluster.connect("postgres");
    sql.batch_execute("CREATE ROLE calsync_worker LOGIN CONNECTION LIMIT 0").expect("somebody's role");
    for (more, less) in [
        ("ALTER ROLE calsync_worker SUPERUSER", "ALTER ROLE calsync_worker NOSUPERUSER"),
        ("ALTER ROLE calsync_worker BYPASSRLS", "ALTER ROLE calsync_worker NOBYPASSRLS"),
        ("ALTER ROLE calsync_worker CREATEROLE", "ALTER ROLE calsync_worker NOCREATEROLE"),
        ("ALTER ROLE calsync_worker CREATEDB", "ALTER ROLE calsync_worker NOCREATEDB"),
        ("ALTER ROLE calsync_worker REPLICATION", "ALTER ROLE calsync_worker NOREPLICATION"),
        ("ALTER ROLE calsync_worker CONNECTION LIMIT -1", "ALTER ROLE calsync_worker CONNECTION LIMIT 0"),
        ("GRANT pg_read_server_files TO calsync_worker", "REVOKE pg_read_server_files FROM calsync_worker"),
    ] {
        sql.batch_execute(more).expect("it may do more");

        let refused = sql.batch_execute("CREATE EXTENSION pg_calsync").expect_err(more);

        assert_eq!(sqlstate(&refused), "55000", "{more}: {refused:?}");
        sql.batch_execute(less).expect("as the hint says");
    }
    sql.batch_execute("CREATE EXTENSION pg_calsync").expect("as it should be");
}

/// `calsync.worker_role` names a member, and its GRANT belongs to the server: a second database finds it there.
#[test]
fn a_role_of_that_name_may_have_members() {
    let cluster = Cluster::start("");
    let mut sql = cluster.connect("postgres");
    sql.batch_execute("CREATE ROLE calsync_worker LOGIN CONNECTION LIMIT 0; CREATE ROLE clerk IN ROLE calsync_worker")
        .expect("a member");

    sql.batch_execute("CREATE EXTENSION pg_calsync").expect("it is whom the administrator chose");
}

#[test]
fn what_is_missing_for_a_worker_that_is_expected_is_looked_for_again_soon() {
    let mut world = World::with("calsync.worker_role = 'clerk'\nlog_min_messages = debug5");
    let looks = |world: &World| world.cluster.log().matches("pg_calsync launcher DEBUG:  CommitTransaction").count();
    let before = looks(&world);
    eventually("the launcher looks again, unasked", || looks(&world) >= before + 4);
    assert!(world.cluster.log().contains("role \"clerk\", which calsync.worker_role names, does not exist"));

    world.sql.batch_execute("CREATE ROLE clerk LOGIN IN ROLE calsync_worker").expect("a role");

    // Nobody tells the launcher, which otherwise looks once a minute.
    eventually("a worker comes", || workers(&mut world, "postgres") == 1);
}

#[test]
fn what_default_privileges_give_away_is_taken_back() {
    let cluster = Cluster::start("");
    let mut sql = cluster.connect("postgres");
    sql.batch_execute(
        "CREATE ROLE nosy; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO nosy, PUBLIC; \
         ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO nosy, PUBLIC; \
         ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO nosy; \
         ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO nosy; \
         ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC; \
         ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC; CREATE EXTENSION pg_calsync",
    )
    .expect("created");

    let given = sql.query(
        "SELECT c.relname::text FROM pg_class AS c \
         WHERE c.relnamespace = 'calsync'::regnamespace AND c.relkind IN ('r', 'v') \
             AND has_table_privilege('nosy', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') \
         UNION ALL SELECT c.relname::text FROM pg_class AS c \
         WHERE c.relnamespace = 'calsync'::regnamespace AND c.relkind = 'S' \
             AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege('nosy', c.oid, 'USAGE, SELECT, UPDATE') END \
         UNION ALL SELECT p.proname::text FROM pg_proc AS p \
         WHERE p.proname LIKE 'calsync%' AND has_function_privilege('nosy', p.oid, 'EXECUTE') \
         UNION ALL SELECT 'schema calsync' WHERE has_schema_privilege('nosy', 'calsync', 'USAGE, CREATE')",
        &[],
    );
    let given: Vec<String> = given.expect("the catalog").iter().map(|row| row.get(0)).collect();
    assert_eq!(given, [""; 0]);
    sql.batch_execute("SELECT calsync_subscribe('room', 'none')").expect("subscribed");
    sql.batch_execute("CALL calsync_run()").expect("all works");
}

#[test]
fn a_dump_is_whole_or_fails_and_restores_where_there_is_no_such_role() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);
    fed.sql
        .batch_execute(
            "CREATE ROLE guest LOGIN; GRANT calsync_detail TO guest; SELECT calsync_share('room', 'guest'); \
             GRANT SELECT ON ALL TABLES IN SCHEMA calsync TO guest; \
             GRANT SELECT ON ALL SEQUENCES IN SCHEMA calsync TO guest",
        )
        .expect("shared");
    let file = Path::new("/tmp").join(format!("calsync-dump-{}", std::process::id()));
    let partial = fed.cluster.try_run("pg_dump", &["-U", "guest", "-f", "/dev/null", "postgres"]);
    let complaint = partial.expect_err("not all rows are its own");
    assert!(complaint.contains("row-level security"), "{complaint}");
    let dump = fed.cluster.run("pg_dump", &["postgres"]);

    let elsewhere = Cluster::start("");
    std::fs::write(&file, dump).expect("written");
    elsewhere.connect("postgres").batch_execute("CREATE ROLE guest LOGIN").expect("the roles come first");
    elsewhere.run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file.display().to_string(), "postgres"]);
    std::fs::remove_file(&file).expect("removed");

    let mut sql = elsewhere.connect_as("guest", "postgres").expect("connected");
    let day =
        format!("[{}, {})", calsync_integration::items::at(1, "00:00"), calsync_integration::items::at(2, "00:00"));
    let busy = sql
        .query(&format!("SELECT busy::text FROM calsync_busy('{day}', '{{room}}')"), &[])
        .expect_err("no reader there yet");
    assert_eq!(sqlstate(&busy), "42501");
    elsewhere
        .connect("postgres")
        .batch_execute("GRANT calsync_reader TO guest; SELECT calsync_repair()")
        .expect("memberships are the server's");
    let busy = sql
        .query(&format!("SELECT busy::text FROM calsync_busy('{day}', '{{room}}')"), &[])
        .expect("shared there, too");
    assert_eq!(busy.len(), 1);
}

#[test]
fn a_dump_complains_of_nothing() {
    let fed = Fed::new();

    assert_eq!(fed.cluster.complaints("pg_dump", &["-f", "/dev/null", "postgres"]), "");
}

#[test]
fn a_calendar_without_a_worker_role_is_still_synced_in_the_foreground() {
    let mut world = World::with("calsync.databases = 'none of these'");
    world.google.add_calendar(&NewCalendar::new("ben@example.com")).expect("a calendar");
    world
        .sql
        .batch_execute("ALTER ROLE calsync_worker NOLOGIN; CREATE ROLE app LOGIN; GRANT calsync_operator TO app")
        .expect("roles");
    let mut app = world.cluster.connect_as("app", "postgres").expect("connected");

    app.batch_execute("SELECT calsync_subscribe('ben@example.com')").expect("subscribed");
    app.batch_execute("CALL calsync_run()").expect("synced");

    assert_eq!(
        app.query_one("SELECT state::text FROM calsync.status", &[]).expect("one").get::<_, String>(0),
        "active"
    );
}

/// What `calsync_health` says should be looked at.
fn problems(world: &mut World) -> String {
    let sql = "SELECT string_agg(one ->> 'problem' || ': ' || (one ->> 'hint'), E'\\n') \
        FROM jsonb_array_elements(calsync_health() -> 'problems') AS one WHERE $1 <> ''";
    world.text(sql, "of all")
}

#[test]
fn a_role_that_may_do_too_much_is_not_made_the_worker() {
    let unprivileged = "NOSUPERUSER NOCREATEROLE NOBYPASSRLS NOREPLICATION NOCREATEDB";
    for (attribute, told) in [
        ("SUPERUSER", "a superuser"),
        ("CREATEROLE", "CREATEROLE"),
        ("BYPASSRLS", "BYPASSRLS"),
        ("REPLICATION", "REPLICATION"),
        ("CREATEDB", "CREATEDB"),
    ] {
        let mut world = World::with("calsync.worker_role = 'clerk'");
        world
            .sql
            .batch_execute(&format!("CREATE ROLE clerk LOGIN {attribute} CONNECTION LIMIT 0 IN ROLE calsync_worker"))
            .expect("a role");

        let refusal = "role \"clerk\", which calsync.worker_role names, is ";
        eventually("it is refused", || world.cluster.log().contains(refusal));
        eventually("the health says it", || problems(&mut world).contains(refusal));
        assert!(problems(&mut world).contains(told), "{}", problems(&mut world));
        assert!(world.cluster.log().contains(unprivileged), "and how to mend it");
        assert_eq!(workers(&mut world, "postgres"), 0);

        world.sql.batch_execute(&format!("ALTER ROLE clerk {unprivileged}")).expect("mended");
        eventually("then it comes", || workers(&mut world, "postgres") == 1);
        eventually("nothing is to be looked at", || problems(&mut world).is_empty());
    }
}

#[test]
fn a_worker_whose_role_comes_to_do_too_much_stops_syncing() {
    let mut world = World::synced();
    let syncs = world.lists().len();

    world.sql.batch_execute("ALTER ROLE calsync_worker SUPERUSER").expect("a slip");
    world.sql.batch_execute("SELECT calsync_sync()").expect("sync");

    eventually("it is told", || world.cluster.log().contains("role \"calsync_worker\""));
    assert!(problems(&mut world).contains("a superuser"), "{}", problems(&mut world));
    assert_eq!(world.lists().len(), syncs);

    // Nobody tells the worker, which otherwise sleeps for a minute.
    world.sql.batch_execute("ALTER ROLE calsync_worker NOSUPERUSER").expect("mended");
    eventually("it syncs what was asked for", || world.lists().len() > syncs);
}

#[test]
fn a_worker_whose_role_becomes_a_member_of_a_mighty_one_stops_syncing() {
    let mut world = World::synced();
    world
        .sql
        .batch_execute(
            "CREATE ROLE boss SUPERUSER; CREATE ROLE streamer REPLICATION; CREATE ROLE between; \
             GRANT between TO calsync_worker",
        )
        .expect("roles");
    // Whether it inherits or not, directly or by way of another: what it may become it is.
    for (granted, to) in [
        ("pg_execute_server_program", "calsync_worker"),
        ("pg_read_server_files", "calsync_worker"),
        ("pg_write_server_files", "calsync_worker"),
        ("pg_read_all_data", "calsync_worker"),
        ("pg_write_all_data", "calsync_worker"),
        ("streamer", "calsync_worker"),
        ("boss", "calsync_worker"),
        ("boss", "between"),
    ] {
        let before = world.lists().len();
        world.sync();
        let syncs = world.lists().len();
        assert!(syncs > before, "as long as it may, it syncs");

        world.sql.batch_execute(&format!("GRANT {granted} TO {to}")).expect("a slip");
        world.sql.batch_execute("SELECT calsync_sync()").expect("sync");

        let told = format!("is a member of \"{granted}\"");
        let log = |world: &World| world.cluster.log().matches(&told).count();
        eventually("the log tells it", || log(&world) > usize::from(to == "between"));
        assert!(problems(&mut world).contains(&told), "{}", problems(&mut world));
        assert!(problems(&mut world).contains(&format!("REVOKE \"{granted}\" FROM \"calsync_worker\"")));
        assert_eq!(world.lists().len(), syncs);
        world.sql.batch_execute(&format!("REVOKE {granted} FROM {to}")).expect("mended");
        world.cluster.reload();
        eventually("its worker is back", || workers(&mut world, "postgres") == 1);
        world.wait_until_idle();
    }
}

/// Whoever may grant a role may grant it to anybody, who is not asked.
#[test]
fn nobody_stops_the_worker_by_making_it_a_member_of_his_team() {
    let mut world = World::synced();
    world.sql.batch_execute("CREATE ROLE mallory LOGIN; CREATE ROLE team CREATEDB ADMIN mallory").expect("roles");
    let mut mallory = world.cluster.connect_as("mallory", "postgres").expect("mallory");
    let syncs = world.lists().len();

    mallory.batch_execute("GRANT team TO calsync_worker").expect("nobody is asked");

    world.sql.batch_execute("SELECT calsync_sync()").expect("sync");
    eventually("it syncs", || world.lists().len() > syncs);
    assert_eq!(problems(&mut world), "");
}

#[test]
fn who_owns_the_tables_reaches_nobody_who_calls() {
    let mut fed = Fed::new();
    fed.list(&[meeting("a", 1, "08:00", "09:00")]);
    fed.sql
        .batch_execute(
            "CREATE ROLE mallory LOGIN IN ROLE calsync_worker; CREATE SCHEMA trap AUTHORIZATION mallory; \
             GRANT USAGE ON SCHEMA trap TO PUBLIC; SET ROLE mallory; \
             CREATE FUNCTION trap.rise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF current_user <> 'calsync_worker' THEN ALTER ROLE mallory SUPERUSER; END IF; RETURN NULL; END $$; \
             CREATE TABLE trap.later (n int); GRANT INSERT ON trap.later TO calsync_worker; \
             CREATE CONSTRAINT TRIGGER rise AFTER INSERT ON trap.later DEFERRABLE INITIALLY DEFERRED \
                 FOR EACH ROW EXECUTE FUNCTION trap.rise(); \
             CREATE FUNCTION trap.leave() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN \
                 INSERT INTO trap.later VALUES (1); RETURN true; END $$; \
             CREATE FUNCTION trap.lead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 PERFORM set_config('search_path', 'trap, pg_catalog', false); RETURN NEW; END $$; \
             GRANT USAGE ON SCHEMA trap TO calsync_worker; RESET ROLE",
        )
        .expect("a member of the tables' owner, and what runs as whoever commits");
    let traps = [
        (
            "CREATE CONSTRAINT TRIGGER rise AFTER UPDATE ON calsync.subscription DEFERRABLE INITIALLY DEFERRED \
                 FOR EACH ROW EXECUTE FUNCTION trap.rise()",
            "DROP TRIGGER rise ON calsync.subscription",
        ),
        (
            "ALTER TABLE calsync.subscription ADD CONSTRAINT leave CHECK (trap.leave()) NOT VALID",
            "ALTER TABLE calsync.subscription DROP CONSTRAINT leave",
        ),
    ];

    for (trap, removal) in traps {
        fed.sql.batch_execute(&format!("SET ROLE mallory; SET ROLE calsync_worker; {trap}; RESET ROLE")).expect(trap);

        let sprung = fed.sql.batch_execute("SELECT calsync_pause('room')").expect_err("told, not run");

        let told = sprung.as_db_error().expect("the server's").message();
        assert!(told.contains("cannot fire deferred trigger within security-restricted operation"), "{told}");
        let risen = "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'";
        assert!(!fed.sql.query_one(risen, &[]).expect("a role").get::<_, bool>(0), "{trap}");
        fed.sql.batch_execute(removal).expect("removed");
        fed.sql.batch_execute("SELECT calsync_pause('room'), calsync_resume('room')").expect("all is well again");
    }

    // Nor does a path stay, on which the caller would find his operators.
    let trap = "SET ROLE mallory; SET ROLE calsync_worker; CREATE TRIGGER lead BEFORE UPDATE ON calsync.subscription \
         FOR EACH ROW EXECUTE FUNCTION trap.lead(); RESET ROLE; SET search_path = public";
    fed.sql.batch_execute(trap).expect("hung");
    fed.sql.batch_execute("SELECT calsync_pause('room')").expect("it may do its own");
    assert_eq!(fed.sql.query_one("SHOW search_path", &[]).expect("a path").get::<_, &str>(0), "public");
}
