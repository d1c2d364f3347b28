-- Roles, who owns the tables, and whose rows they show. What is granted to whom is in grants.sql.
--   calsync_reader    asks who is busy
--   calsync_detail    a reader who may also see what the events are
--   calsync_operator  a reader who also subscribes, feeds, syncs, shares and mends calendars; sees no titles
--   calsync_worker    owns the tables, and is whom the worker connects as. A member of nothing, and no superuser:
--                     whatever it could be led to run would reach the calendars, and nothing else of the server

DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT wanted.name, wanted.attributes, wanted.comment
        FROM (VALUES ('calsync_reader', 'NOLOGIN', 'asks when calendars are busy and free'),
                     ('calsync_detail', 'NOLOGIN', 'a reader who may also see what the events are'),
                     ('calsync_operator', 'NOLOGIN', 'a reader who also subscribes, feeds, syncs, shares and mends calendars'),
                     -- Background workers need LOGIN, and are not counted: with the limit nobody else gets in.
                     ('calsync_worker', 'LOGIN NOINHERIT CONNECTION LIMIT 0',
                      'owns the tables, and is whom the background worker connects as; to be granted to nobody'))
             AS wanted (name, attributes, comment)
        -- Roles belong to the cluster: another database may have brought them.
        WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r
                          WHERE r.rolname::pg_catalog.text OPERATOR(pg_catalog.=) wanted.name)
    LOOP
        EXECUTE pg_catalog.format('CREATE ROLE %I %s', one.name, one.attributes);
        EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', one.name,
                                  pg_catalog.concat('pg_calsync: ', one.comment));
    END LOOP;
    FOR one IN
        SELECT member.name FROM (VALUES ('calsync_detail'), ('calsync_operator')) AS member (name)
        WHERE NOT pg_catalog.pg_has_role(member.name::pg_catalog.name, 'calsync_reader'::pg_catalog.name, 'MEMBER')
    LOOP
        EXECUTE pg_catalog.format('GRANT calsync_reader TO %I', one.name);
    END LOOP;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles AS r
               WHERE r.rolname::pg_catalog.text OPERATOR(pg_catalog.=) 'calsync_worker'
                 AND (r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication
                      OR r.rolconnlimit OPERATOR(pg_catalog.<>) 0
                      OR EXISTS (SELECT FROM pg_catalog.pg_auth_members AS m WHERE m.member OPERATOR(pg_catalog.=) r.oid)))
    THEN
        RAISE EXCEPTION 'role "calsync_worker" may do more than it should'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'The background worker would work with its rights.',
                  HINT = 'ALTER ROLE calsync_worker NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION '
                         'CONNECTION LIMIT 0; and REVOKE from it every role that it is a member of.';
    END IF;
    -- Also where PUBLIC is kept out of the database one day.
    EXECUTE pg_catalog.format('GRANT CONNECT ON DATABASE %I TO calsync_worker', pg_catalog.current_database());
END $$;

GRANT USAGE ON SCHEMA calsync TO calsync_worker;

-- Each table and view gets its owner; all objects lose what ALTER DEFAULT PRIVILEGES gave to others. Row security is for whoever
-- is granted more than grants.sql grants: without a policy below a table shows no row to anybody but its owner.
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT c.oid, c.relkind, pg_catalog.format('calsync.%I', c.relname) AS name
        FROM pg_catalog.pg_class AS c
        WHERE c.relnamespace OPERATOR(pg_catalog.=) 'calsync'::pg_catalog.regnamespace
          AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v}'::pg_catalog."char"[])
    LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s OWNER TO calsync_worker', one.name);
        IF one.relkind OPERATOR(pg_catalog.=) 'r' THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', one.name);
        END IF;
    END LOOP;
    FOR one IN
        SELECT DISTINCT CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS what,
               pg_catalog.format('calsync.%I', c.relname) AS name,
               CASE WHEN g.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                    ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)::pg_catalog.text) END AS grantee
        FROM pg_catalog.pg_class AS c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS g
        WHERE c.relnamespace OPERATOR(pg_catalog.=) 'calsync'::pg_catalog.regnamespace
          AND g.grantee OPERATOR(pg_catalog.<>) c.relowner
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s CASCADE', one.what, one.name, one.grantee);
    END LOOP;
    FOR one IN
        SELECT DISTINCT 'ROUTINE' AS what, p.oid::pg_catalog.regprocedure::pg_catalog.text AS name,
               CASE WHEN g.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                    ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)::pg_catalog.text) END AS grantee
        FROM pg_catalog.pg_extension AS e
        JOIN pg_catalog.pg_depend AS d
             ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
            AND d.refobjid OPERATOR(pg_catalog.=) e.oid
            AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
        JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) d.objid
        CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) AS g
        WHERE e.extname::pg_catalog.text OPERATOR(pg_catalog.=) 'pg_calsync'
          AND g.grantee OPERATOR(pg_catalog.<>) p.proowner
        UNION ALL
        SELECT 'SCHEMA', 'calsync', pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)::pg_catalog.text)
        FROM pg_catalog.pg_namespace AS n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS g
        WHERE n.nspname::pg_catalog.text OPERATOR(pg_catalog.=) 'calsync'
          AND g.grantee OPERATOR(pg_catalog.<>) n.nspowner
          AND pg_catalog.pg_get_userbyid(g.grantee)::pg_catalog.text OPERATOR(pg_catalog.<>) 'calsync_worker'
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s CASCADE', one.what, one.name, one.grantee);
    END LOOP;
    -- Whoever could make a table with a column of such a type would hold up a change of it. Arrays follow their elements. The
    -- row types of tables and views stay as they are: pg_dump would warn of each at every dump, and whoever may read a view
    -- holds up a change of it anyway, by a view of his own.
    FOR one IN
        SELECT pg_catalog.format('calsync.%I', t.typname) AS name FROM pg_catalog.pg_type AS t
        LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.typrelid
        WHERE t.typnamespace OPERATOR(pg_catalog.=) 'calsync'::pg_catalog.regnamespace
          AND t.typelem OPERATOR(pg_catalog.=) 0
          AND coalesce(c.relkind, 'c') OPERATOR(pg_catalog.=) 'c'
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON TYPE %s FROM PUBLIC', one.name);
    END LOOP;
END $$;

-- Correlated, so that the planner may choose: one look-up for a few rows, a hash table for many. Rows of shared calendars are
-- seen by guests, too.
CREATE POLICY visible ON calsync.event FOR SELECT USING (EXISTS (
    SELECT FROM calsync.visible_subscription AS v
    WHERE v.subscription_id OPERATOR(pg_catalog.=) event.subscription_id));
CREATE POLICY visible ON calsync.occurrence FOR SELECT USING (EXISTS (
    SELECT FROM calsync.visible_subscription AS v
    WHERE v.subscription_id OPERATOR(pg_catalog.=) occurrence.subscription_id));
CREATE POLICY visible ON calsync.busy FOR SELECT USING (EXISTS (
    SELECT FROM calsync.visible_subscription AS v
    WHERE v.subscription_id OPERATOR(pg_catalog.=) busy.subscription_id));
CREATE POLICY visible ON calsync.change FOR SELECT USING (EXISTS (
    SELECT FROM calsync.visible_subscription AS v
    WHERE v.subscription_id OPERATOR(pg_catalog.=) change.subscription_id));
-- What shows tokens, errors of the provider, and who else may ask is for the owner.
CREATE POLICY owned ON calsync.subscription FOR SELECT USING (calsync.owns(owner));
CREATE POLICY owned ON calsync.share FOR SELECT USING (EXISTS (
    SELECT FROM calsync.owned_subscription AS v
    WHERE v.subscription_id OPERATOR(pg_catalog.=) share.subscription_id));
CREATE POLICY owned ON calsync.sync_run FOR SELECT USING (EXISTS (
    SELECT FROM calsync.owned_subscription AS v
    WHERE v.subscription_id OPERATOR(pg_catalog.=) sync_run.subscription_id));

COMMENT ON POLICY visible ON calsync.event IS 'Of the calendars that the role may see';
COMMENT ON POLICY visible ON calsync.occurrence IS 'Of the calendars that the role may see';
COMMENT ON POLICY visible ON calsync.busy IS 'Of the calendars that the role may see';
COMMENT ON POLICY visible ON calsync.change IS 'Of the calendars that the role may see';
COMMENT ON POLICY owned ON calsync.subscription IS 'The role''s own calendars';
COMMENT ON POLICY owned ON calsync.share IS 'Of the role''s own calendars';
COMMENT ON POLICY owned ON calsync.sync_run IS 'Of the role''s own calendars';
