-- The words that the regression tests are told in. Days are counted from today and times are UTC, so that what is
-- printed is the same whenever the tests run. Read by each test; nothing of it is printed.
\o /dev/null
SET client_min_messages = error;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SELECT public.calsync_version() IS NOT NULL;
SET calsync.on_uncovered = 'error';
SET calsync.max_staleness = '1d';
SELECT pg_catalog.set_config('words.today', to_char(now(), 'YYYY-MM-DD'), false);

CREATE FUNCTION pg_temp.today() RETURNS date LANGUAGE sql STABLE
AS $$ SELECT pg_catalog.current_setting('words.today')::date $$;

-- A time as providers write it: at(3, '08:00') is eight o'clock in three days.
CREATE FUNCTION pg_temp.at(day integer, clock text) RETURNS text LANGUAGE sql STABLE
AS $$ SELECT to_char(pg_temp.today() + day, 'YYYY-MM-DD"T"') || clock || ':00Z' $$;

-- An event resource with these times and whatever else is said of it.
CREATE FUNCTION pg_temp.event(id text, day integer, starts text, ends text, more jsonb DEFAULT '{}')
RETURNS jsonb LANGUAGE sql STABLE
AS $$ SELECT jsonb_build_object('id', id,
                                'start', jsonb_build_object('dateTime', pg_temp.at(day, starts)),
                                'end', jsonb_build_object('dateTime', pg_temp.at(day, ends))) || more $$;

-- An all-day event.
CREATE FUNCTION pg_temp.days(id text, first integer, past integer, more jsonb DEFAULT '{}')
RETURNS jsonb LANGUAGE sql STABLE
AS $$ SELECT jsonb_build_object('id', id,
                                'start', jsonb_build_object('date', to_char(pg_temp.today() + first, 'YYYY-MM-DD')),
                                'end', jsonb_build_object('date', to_char(pg_temp.today() + past, 'YYYY-MM-DD'))) || more $$;

-- What a provider sends when something was deleted.
CREATE FUNCTION pg_temp.cancelled(id text) RETURNS jsonb LANGUAGE sql
AS $$ SELECT jsonb_build_object('id', id, 'status', 'cancelled') $$;

-- A full list of a calendar, in one page.
CREATE FUNCTION pg_temp.list(calendar text, token text, VARIADIC items jsonb[]) RETURNS jsonb LANGUAGE sql
AS $$ SELECT jsonb_build_object('calendar', calendar, 'items', to_jsonb(items), 'nextSyncToken', token) $$;

-- What changed since a token, in one page.
CREATE FUNCTION pg_temp.changes(calendar text, since text, token text, VARIADIC items jsonb[])
RETURNS jsonb LANGUAGE sql
AS $$ SELECT pg_temp.list(calendar, token, VARIADIC items) || jsonb_build_object('expectedSyncToken', since) $$;

-- The same, of an empty calendar and of no change.
CREATE FUNCTION pg_temp.list(calendar text, token text) RETURNS jsonb LANGUAGE sql
AS $$ SELECT pg_temp.list(calendar, token, VARIADIC '{}') $$;
CREATE FUNCTION pg_temp.changes(calendar text, since text, token text) RETURNS jsonb LANGUAGE sql
AS $$ SELECT pg_temp.changes(calendar, since, token, VARIADIC '{}') $$;

-- From the start of one day to the start of another.
CREATE FUNCTION pg_temp.during(first integer, past integer) RETURNS tstzrange LANGUAGE sql STABLE
AS $$ SELECT tstzrange(pg_temp.today() + first, pg_temp.today() + past) $$;

-- From one time of a day to another: between(1, '08:00', '13:00').
CREATE FUNCTION pg_temp.between(day integer, starts text, ends text) RETURNS tstzrange LANGUAGE sql STABLE
AS $$ SELECT tstzrange(pg_temp.at(day, starts)::timestamptz, pg_temp.at(day, ends)::timestamptz) $$;

-- A bound or an interval in days from today: +3 08:00.
CREATE FUNCTION pg_temp.shown(moment timestamptz) RETURNS text LANGUAGE sql STABLE
AS $$ SELECT CASE WHEN isfinite(moment)
                  THEN to_char(moment::date - pg_temp.today(), 'FMSG9999990') || to_char(moment, ' HH24:MI')
                  ELSE moment::text END $$;
CREATE FUNCTION pg_temp.shown(span tstzrange) RETURNS text LANGUAGE sql STABLE
AS $$ SELECT coalesce(pg_temp.shown(lower(span)), 'always') || ' to ' || coalesce(pg_temp.shown(upper(span)), 'ever') $$;

-- What a statement is told when it is refused; times and lengths, which differ from run to run, are left out.
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text; line text;
BEGIN
    EXECUTE statement;
    RETURN NEXT 'not refused';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    FOREACH line IN ARRAY ARRAY[state || ': ' || message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, '')]
    LOOP
        line := regexp_replace(line, '\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d(:\d\d)?|Z)', '<time>', 'g');
        line := regexp_replace(line, '''\d+d''', '<days>', 'g');
        line := replace(line, 'Role "' || current_user || '"', 'Role "<me>"');
        CONTINUE WHEN line IS NULL;
        RETURN NEXT line;
    END LOOP;
END $$;

-- The same for a delta.
CREATE FUNCTION pg_temp.refused_delta(delta jsonb) RETURNS SETOF text LANGUAGE sql
AS $$ SELECT pg_temp.refusal(format('SELECT calsync_apply_delta(%L)', delta)) $$;
\o
\pset format unaligned
\pset footer off
\set ECHO all
