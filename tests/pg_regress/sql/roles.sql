-- Who may do what, and who sees whose calendars.
\set ECHO none
\i words.sql

-- Three roles carry the rights and are granted to nobody; whose calendars a role sees is another question: its own, and
-- those of roles that it is a member of.
CREATE ROLE regress_calsync_acme;
CREATE ROLE regress_calsync_boss IN ROLE regress_calsync_acme;
CREATE ROLE regress_calsync_zeta;
CREATE ROLE regress_calsync_asker IN ROLE calsync_reader;
CREATE ROLE regress_calsync_nobody;
CREATE ROLE regress_calsync_distant NOINHERIT IN ROLE regress_calsync_acme;
GRANT calsync_operator TO regress_calsync_acme, regress_calsync_zeta;
GRANT calsync_reader TO regress_calsync_distant;

-- Owners.
SET ROLE regress_calsync_acme;
SELECT calsync_subscribe('alice', 'none') IS NOT NULL, calsync_subscribe('room', 'none') IS NOT NULL AS subscribed;
SELECT calsync_apply_delta(pg_temp.list('alice', 'one', pg_temp.event('a', 1, '08:00', '09:00')));
SELECT calsync_apply_delta(pg_temp.list('room', 'one', pg_temp.event('a', 1, '10:00', '11:00')));
SET ROLE regress_calsync_zeta;
SELECT calsync_subscribe('room', 'none') IS NOT NULL AS the_same_name_as_somebody_elses;
SELECT calsync_apply_delta(pg_temp.list('room', 'one', pg_temp.event('a', 1, '14:00', '15:00')));

-- Each sees its own.
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{room}');
SELECT calendar, owner FROM calsync.status;
SELECT calendar FROM calsync_coverage();
SET ROLE regress_calsync_acme;
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{room,alice}');

-- A member of the owner sees what the owner sees.
SET ROLE regress_calsync_boss;
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{alice}');
SELECT calendar FROM calsync.status ORDER BY calendar;

-- One that does not inherit must say so first.
SET ROLE regress_calsync_distant;
SELECT pg_temp.refusal($$ SELECT calsync_busy('empty', '{alice}') $$);

-- To all others the calendar does not exist, in the same words as if there were none.
SET ROLE regress_calsync_zeta;
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(0, 7), '{alice}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_is_free(pg_temp.during(0, 7), '{alice}') $$);
SELECT pg_temp.refused_delta(pg_temp.list('alice', 'x'));
SELECT pg_temp.refusal($$ SELECT calsync_pause('alice') $$);
SELECT pg_temp.refusal($$ SELECT calsync_resync('alice') $$);
SELECT pg_temp.refusal($$ SELECT calsync_sync('alice') $$);
SELECT calsync_unsubscribe('alice');
SELECT calendar, reason FROM calsync_coverage('{alice}');
SELECT count(*) FROM calsync.status WHERE calendar = 'alice';

-- A reader asks, and changes nothing.
SET ROLE regress_calsync_asker;
SELECT pg_temp.refusal($$ SELECT calsync_busy('empty', '{alice}') $$);
SELECT count(*) FROM calsync_coverage();
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('mine', 'none') $$);
SELECT pg_temp.refusal($$ SELECT calsync_unsubscribe('alice') $$);
SELECT pg_temp.refused_delta('{}');
SELECT pg_temp.refusal($$ SELECT calsync_sync() $$);
SELECT pg_temp.refusal($$ SELECT calsync_add_credential('c', 'google', '{}') $$);
SELECT pg_temp.refusal('CALL calsync_run()');
SELECT pg_temp.refusal('SELECT calsync.announce()');

-- A stranger may not even ask.
SET ROLE regress_calsync_nobody;
SELECT pg_temp.refusal($$ SELECT calsync_busy('empty', '{alice}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_busy_union('empty', '{alice}') $$);
SELECT pg_temp.refusal('SELECT calsync_coverage()');
SELECT pg_temp.refusal('SELECT calsync_version()');
SELECT pg_temp.refusal('SELECT FROM calsync.status');

-- The tables are closed to everybody.
SET ROLE regress_calsync_acme;
SELECT t.relname, pg_temp.refusal(format('SELECT FROM calsync.%I', t.relname))
FROM pg_catalog.pg_class AS t
WHERE t.relnamespace = 'calsync'::regnamespace AND t.relkind = 'r' ORDER BY t.relname;

-- Where requests go is the superuser's business; even reading it is.
SELECT left(pg_temp.refusal('SET calsync.google_api_url = ''http://localhost'''), 5) AS sqlstate;
SELECT left(pg_temp.refusal('SET calsync.allow_private_network = on'), 5) AS sqlstate;
SELECT left(pg_temp.refusal('SHOW calsync.key_file'), 5) AS sqlstate;

-- A name that could mean two calendars is an error, never a guess.
RESET ROLE;
GRANT regress_calsync_zeta TO regress_calsync_boss;
SET ROLE regress_calsync_boss;
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(0, 7), '{room}') $$);
-- It hides nobody else who cannot answer, no setting decides it, and in Google's shape it is an error of its calendar.
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(0, 7), '{nobody,room,alice}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(0, 7), '{nobody,room,alice}', on_uncovered => 'busy') $$);
SELECT c.key, c.value -> 'errors' AS errors, jsonb_array_length(c.value -> 'busy') AS busy
FROM jsonb_each(calsync_freebusy(jsonb_build_object('timeMin', pg_temp.at(0, '00:00'), 'timeMax', pg_temp.at(1, '00:00'),
                                                    'items', '[{"id": "room"}, {"id": "alice"}, {"id": "nobody"}]'::jsonb)) -> 'calendars') AS c ORDER BY c.key;
SELECT pg_temp.refused_delta(pg_temp.list('room', 'x'));
SELECT pg_temp.refusal($$ SELECT calsync_unsubscribe('room') $$);
SELECT calendar, usable, reason FROM calsync_coverage('{alice,room}');
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{alice}');
SET ROLE regress_calsync_zeta;
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{room}');

-- A credential belongs to its owner, too.
SELECT calsync_add_credential('team', 'google', '{}');
SET ROLE regress_calsync_acme;
SELECT calsync_drop_credential('team');
SELECT pg_temp.refusal($$ SELECT calsync_subscribe('x', credential => 'team') $$);
SET ROLE regress_calsync_zeta;
SELECT calsync_drop_credential('team');

SELECT calsync_unsubscribe('room');
SET ROLE regress_calsync_acme;
SELECT calsync_unsubscribe('room'), calsync_unsubscribe('alice');
RESET ROLE;

-- Three roles side by side, members of one tenant, about the same two events. What each may do:
CREATE ROLE regress_calsync_tenant;
CREATE ROLE regress_calsync_reads IN ROLE regress_calsync_tenant, calsync_reader;
CREATE ROLE regress_calsync_details IN ROLE regress_calsync_tenant, calsync_detail;
CREATE ROLE regress_calsync_operates IN ROLE regress_calsync_tenant, calsync_operator;
GRANT calsync_operator TO regress_calsync_tenant;
SET ROLE regress_calsync_tenant;
SELECT calsync_subscribe('anna', 'none', options => '{"changes": true}') IS NOT NULL AS subscribed;
SELECT complete FROM calsync_apply_delta(pg_temp.list('anna', 'one',
    pg_temp.event('a', 1, '08:00', '09:00', '{"summary": "Dentist", "location": "Main street"}'),
    pg_temp.event('b', 2, '08:00', '09:00', '{"summary": "Interview", "attendees": [{"email": "ben@example.com"}]}')));
RESET ROLE;
REVOKE calsync_operator FROM regress_calsync_tenant;
CREATE FUNCTION pg_temp.may(role name) RETURNS TABLE (what text, outcome text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    RETURN QUERY
        SELECT w.what, (SELECT string_agg(split_part(r, ':', 1), '') FROM pg_temp.refusal(w.statement) AS r LIMIT 1)
        FROM (VALUES
            ('ask', 'SELECT calsync_busy(pg_temp.during(0, 7), ''{anna}'')'),
            ('offer', 'SELECT calsync_slots(pg_temp.during(1, 2), ''{anna}'', ''1 hour'')'),
            ('see status', 'TABLE calsync.status'),
            ('see health', 'SELECT calsync_health()'),
            ('see titles', 'SELECT calsync_explain(pg_temp.during(0, 7), ''{anna}'')'),
            ('see events', 'SELECT calsync_events(''{anna}'')'),
            ('follow changes', 'SELECT calsync_changes()'),
            ('read events', 'TABLE calsync.event'),
            ('read occurrences', 'TABLE calsync.occurrence'),
            ('read changes', 'TABLE calsync.change'),
            ('see tokens', 'TABLE calsync.subscription'),
            ('see credentials', 'TABLE calsync.credential'),
            ('see history', 'TABLE calsync.sync_run'),
            ('see pages', 'TABLE calsync.staged_event'),
            ('see workers', 'TABLE calsync.stat_worker'),
            ('subscribe', 'SELECT calsync_subscribe(''mine'', ''none'')'),
            ('sync', 'SELECT calsync_sync()'),
            ('feed', format('SELECT calsync_apply_delta(%L)', pg_temp.changes('anna', 'one', 'one'))),
            ('share', 'SELECT calsync_share(''anna'', ''regress_calsync_tenant'')'),
            ('unshare', 'SELECT calsync_unshare(''anna'', ''regress_calsync_tenant'')'),
            ('accept a share', 'SELECT calsync_accept_share(''anna'')'),
            ('check', 'SELECT calsync_check()'),
            ('clean', 'SELECT calsync_cleanup()'),
            ('write events', 'UPDATE calsync.event SET summary = NULL'),
            ('write busy', 'DELETE FROM calsync.busy')) AS w (what, statement);
    RESET ROLE;
END $$;
SELECT r.what, r.outcome AS reader, d.outcome AS detail, o.outcome AS operator
FROM pg_temp.may('regress_calsync_reads') WITH ORDINALITY AS r (what, outcome, place)
JOIN pg_temp.may('regress_calsync_details') AS d USING (what)
JOIN pg_temp.may('regress_calsync_operates') AS o USING (what)
ORDER BY r.place;

-- What each sees of a title: detail all, the others nothing.
SET ROLE regress_calsync_details;
SELECT calendar, event_id, summary, location, busy_status FROM calsync_events('{anna}');
SELECT summary, reason FROM calsync_explain(pg_temp.during(1, 2), '{anna}') WHERE blocks;
SELECT event_id, what FROM calsync_changes() ORDER BY change_id;
-- Null is all that the role may see, an empty list is none, and what it may not see is unknown.
SELECT count(*) FROM calsync_events();
SELECT count(*) FROM calsync_events('{}');
SELECT pg_temp.refusal($$ SELECT calsync_events('{anna,boss}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_events('{anna,NULL}') $$);
SET ROLE regress_calsync_operates;
SELECT event_id, what FROM calsync_changes() ORDER BY change_id;
SELECT count(*) FROM calsync_check();

-- A detail of somebody else sees no row of it, whatever the statement; also not where it was granted the tables.
RESET ROLE;
CREATE ROLE regress_calsync_foreign IN ROLE calsync_detail;
GRANT SELECT ON calsync.event, calsync.occurrence, calsync.change TO regress_calsync_foreign, regress_calsync_details;
SET ROLE regress_calsync_foreign;
SELECT (SELECT count(*) FROM calsync.event) AS events, (SELECT count(*) FROM calsync.occurrence) AS occurrences,
       (SELECT count(*) FROM calsync.change) AS changes, (SELECT count(*) FROM calsync.status) AS calendars;
SELECT count(*) FROM calsync.visible_subscription;
SELECT count(*) FROM calsync_events();
SELECT pg_temp.refusal($$ SELECT calsync_events('{anna}') $$);
SELECT calendar, reason FROM calsync_explain(pg_temp.during(0, 7), '{anna}');
SET ROLE regress_calsync_details;
SELECT event_id, summary, location FROM calsync.event ORDER BY event_id;
SELECT o.event_id, count(*) FROM calsync.occurrence AS o GROUP BY o.event_id ORDER BY o.event_id;
SELECT event_id, what FROM calsync.change ORDER BY change_id;
-- Somebody's view of the table shows its reader the reader's rows, too.
RESET ROLE;
CREATE VIEW pg_temp.titles AS SELECT summary FROM calsync.event;
ALTER VIEW pg_temp.titles OWNER TO regress_calsync_details;
GRANT SELECT ON pg_temp.titles TO regress_calsync_foreign;
SET ROLE regress_calsync_foreign;
SELECT count(*) FROM pg_temp.titles;
RESET ROLE;
DROP VIEW pg_temp.titles;
REVOKE SELECT ON calsync.event, calsync.occurrence, calsync.change FROM regress_calsync_foreign, regress_calsync_details;
SET ROLE regress_calsync_operates;
SELECT calsync_unsubscribe('anna'), calsync_unsubscribe('mine');
RESET ROLE;
DROP ROLE regress_calsync_reads, regress_calsync_details, regress_calsync_operates, regress_calsync_tenant,
    regress_calsync_foreign;
DROP ROLE regress_calsync_boss, regress_calsync_distant, regress_calsync_acme, regress_calsync_zeta,
    regress_calsync_asker, regress_calsync_nobody;
