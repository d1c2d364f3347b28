-- Push notifications: what calsync_webhook answers, who may call it, and the receiver for PostgREST.
\set ECHO none
\i words.sql

-- A channel, as the worker would have opened it: its token is "secret".
CREATE FUNCTION pg_temp.headers(more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
    SELECT '{"Host": "app.example.com", "X-Goog-Channel-ID": "regress", "X-Goog-Channel-Token": "secret",
             "X-Goog-Resource-ID": "r1", "X-Goog-Resource-State": "exists", "X-Goog-Message-Number": "7"}'::jsonb || more
$$;
CREATE FUNCTION pg_temp.number(n integer) RETURNS jsonb LANGUAGE sql AS $$
    SELECT pg_temp.headers(jsonb_build_object('X-Goog-Message-Number', n::text))
$$;
INSERT INTO calsync.channel (channel_id, provider, owner, credential, remote_id, state, address, token_hash, resource_id,
                             opened_at, expires_at)
VALUES ('regress', 'google', 'nobody', 'none', 'calendar@example.com', 'open', 'https://app.example.com/hook',
        sha256('secret'), 'r1', now(), now() + interval '7 days');

-- Only who was granted it.
CREATE ROLE regress_calsync_receiver;
CREATE ROLE regress_calsync_visitor IN ROLE calsync_reader, calsync_operator;
GRANT EXECUTE ON FUNCTION calsync_webhook(jsonb, text) TO regress_calsync_receiver;
GRANT EXECUTE ON FUNCTION pg_temp.refusal(text), pg_temp.headers(jsonb), pg_temp.number(integer)
    TO regress_calsync_receiver, regress_calsync_visitor;
SET ROLE regress_calsync_visitor;
SELECT pg_temp.refusal($$ SELECT calsync_webhook('{}') $$);
SET ROLE regress_calsync_receiver;
SELECT calsync_webhook(pg_temp.headers()) AS genuine;

-- A replay, and a late one, are taken and make nothing due by themselves; the next counts.
SELECT calsync_webhook(pg_temp.headers()) AS again, calsync_webhook(pg_temp.number(3)) AS late;
RESET ROLE;
SELECT message_number, confirmed_at IS NOT NULL AS confirmed FROM calsync.channel WHERE channel_id = 'regress';
SET ROLE regress_calsync_receiver;
SELECT calsync_webhook(pg_temp.number(11), 'a body') AS next;

-- Forged, unknown, and what is no notification.
SELECT calsync_webhook(pg_temp.headers('{"X-Goog-Channel-Token": "guessed"}')) AS token,
       calsync_webhook(pg_temp.headers() - 'X-Goog-Channel-Token') AS no_token,
       calsync_webhook(pg_temp.headers('{"X-Goog-Resource-ID": "r2"}')) AS resource,
       calsync_webhook(pg_temp.headers('{"X-Goog-Channel-ID": "other"}')) AS channel;
SELECT headers, calsync_webhook(headers) FROM (VALUES (NULL::jsonb), ('null'), ('[]'), ('{}'), ('7'), ('"x"'),
    ('{"x-goog-channel-id": []}'), ('{"x-goog-channel-id": {"a": null}, "x-goog-resource-state": 1}')) AS v (headers);
SELECT calsync_webhook(jsonb_object_agg(upper(key), value)) AS upper_case FROM jsonb_each(pg_temp.number(12));
SELECT calsync_webhook(jsonb_object_agg(lower(key), jsonb_build_array(value))) AS lower_case_in_lists
FROM jsonb_each(pg_temp.number(13));
RESET ROLE;
SELECT message_number FROM calsync.channel WHERE channel_id = 'regress';

-- In a read-only transaction it says so, and the receiver answers 5xx: the provider tries again.
BEGIN READ ONLY;
SELECT pg_temp.refusal($$ SELECT calsync_webhook(pg_temp.number(14)) $$);
ROLLBACK;

-- PostgREST: it sets request.headers, and answers response.status.
\set schema regress_api
\set web_role regress_calsync_web
\set ECHO none
\i ../../examples/postgrest_webhook.sql
\set ECHO all
SET ROLE regress_calsync_web;
SELECT set_config('request.headers', pg_temp.number(20)::text, false) IS NOT NULL AS asked;
BEGIN;
SELECT regress_api.receive_calendar_notification();
SELECT current_setting('response.status') AS status;
COMMIT;
SELECT set_config('request.headers', pg_temp.headers('{"X-Goog-Channel-Token": "guessed"}')::text, false) IS NOT NULL AS asked;
BEGIN;
SELECT regress_api.receive_calendar_notification();
SELECT current_setting('response.status') AS status;
COMMIT;
SELECT set_config('request.headers', '', false) AS asked;
BEGIN;
SELECT regress_api.receive_calendar_notification();
SELECT current_setting('response.status') AS status;
COMMIT;
-- Headers that are no jsonb are no notification, and no error either: that would be logged with them.
SELECT set_config('request.headers', '{"x-goog-channel-id": "a\u0000b"}', false) IS NOT NULL AS asked;
BEGIN;
SELECT regress_api.receive_calendar_notification();
SELECT current_setting('response.status') AS status;
COMMIT;
SELECT set_config('request.headers', repeat('[', 100000), false) IS NOT NULL AS asked;
BEGIN;
SELECT regress_api.receive_calendar_notification();
SELECT current_setting('response.status') AS status;
COMMIT;
SELECT pg_temp.refusal($$ SELECT * FROM calsync.channel $$);
RESET ROLE;
SELECT message_number FROM calsync.channel WHERE channel_id = 'regress';

DROP SCHEMA regress_api CASCADE;
DELETE FROM calsync.channel WHERE channel_id = 'regress';
REVOKE ALL ON FUNCTION calsync_webhook(jsonb, text) FROM regress_calsync_receiver, regress_calsync_web;
DROP OWNED BY regress_calsync_receiver, regress_calsync_visitor, regress_calsync_web;
DROP ROLE regress_calsync_receiver, regress_calsync_visitor, regress_calsync_web;
