-- The two sides, and the source that both are filled from.

CREATE EXTENSION pg_calsync;
CREATE EXTENSION pg_stat_statements;
CREATE EXTENSION pg_visibility;

-- An application's role: owns its calendars, owns nothing of the extension.
CREATE ROLE booking LOGIN IN ROLE calsync_operator;

CREATE SCHEMA bench;
GRANT USAGE ON SCHEMA bench TO booking;

-- The same events for both sides. Built by generate.sql.
CREATE UNLOGGED TABLE bench.event (
    calendar  text NOT NULL,
    n         integer NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at   timestamptz NOT NULL,
    all_day   boolean NOT NULL,
    tentative boolean NOT NULL
);

-- What "a one-row primary-key lookup" looks up.
CREATE TABLE bench.customer (customer_id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL);

-- Groups of 50 and of 500 calendars, so that a statement that asks so many takes one parameter on both sides.
CREATE TABLE bench.pick (pick_id integer PRIMARY KEY, calendars text[] NOT NULL);
CREATE TABLE bench.pick_500 (pick_id integer PRIMARY KEY, calendars text[] NOT NULL);

-- A start or an end as Google gives it.
CREATE FUNCTION bench.moment(at timestamptz, all_day boolean) RETURNS jsonb LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT CASE WHEN all_day THEN jsonb_build_object('date', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD'))
                ELSE jsonb_build_object('dateTime', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                                        'timeZone', 'UTC') END;
END;

-- What both sides store of an event. With another revision it is the same event, edited: half an hour later, renamed.
CREATE FUNCTION bench.stored(event bench.event, revision integer)
RETURNS TABLE (event_id text, etag text, summary text, description text, location text, status text, shift interval)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'ev' || md5(event.calendar || event.n), '"' || 3485462229718558 + 2 * revision || '"',
           'Meeting ' || event.n || ', version ' || revision,
           'What we shall talk about, and who brings what. What we shall talk about, and who brings what.',
           'Room 4.12, second floor', CASE WHEN event.tentative THEN 'tentative' ELSE 'confirmed' END,
           CASE WHEN event.all_day THEN interval '0' ELSE (revision - 1) * interval '30 min' END;
END;

-- An event as Google gives it.
CREATE FUNCTION bench.item(event bench.event, revision integer) RETURNS jsonb LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT jsonb_build_object(
        'kind', 'calendar#event', 'etag', s.etag, 'id', s.event_id, 'status', s.status,
        'htmlLink', 'https://www.google.com/calendar/event?eid=' || s.event_id,
        'created', '2025-03-23T10:41:35.000Z', 'updated', '2025-03-23T11:58:' || 10 + revision || '.000Z',
        'summary', s.summary, 'description', s.description, 'location', s.location,
        'creator', jsonb_build_object('email', event.calendar, 'self', true),
        'organizer', jsonb_build_object('email', event.calendar, 'self', true),
        'start', bench.moment(event.starts_at + s.shift, event.all_day),
        'end', bench.moment(event.ends_at + s.shift, event.all_day),
        'iCalUID', s.event_id || '@google.com', 'sequence', revision - 1,
        'attendees', jsonb_build_array(
            jsonb_build_object('email', event.calendar, 'self', true, 'organizer', true, 'responseStatus', 'accepted'),
            jsonb_build_object('email', 'guest@example.org', 'responseStatus', 'needsAction')),
        'reminders', jsonb_build_object('useDefault', true), 'eventType', 'default')
    FROM bench.stored(event, revision) AS s;
END;

-- The peer: Cal.com's calendar cache as merged, with the index that was added later.
CREATE TYPE "CalendarCacheEventStatus" AS ENUM ('confirmed', 'tentative', 'cancelled');
CREATE TABLE "CalendarCacheEvent" (
    id                   text PRIMARY KEY,
    "selectedCalendarId" text NOT NULL,
    "externalId"         text NOT NULL,
    "externalEtag"       text NOT NULL,
    "iCalUID"            text,
    summary              text,
    description          text,
    location             text,
    start                timestamp(3) NOT NULL,
    "end"                timestamp(3) NOT NULL,
    "isAllDay"           boolean NOT NULL DEFAULT false,
    "timeZone"           text,
    status               "CalendarCacheEventStatus" NOT NULL DEFAULT 'confirmed',
    "createdAt"          timestamp(3) NOT NULL DEFAULT now(),
    "updatedAt"          timestamp(3) NOT NULL DEFAULT now()
);
GRANT ALL ON "CalendarCacheEvent" TO booking;

-- An event as a row of theirs.
CREATE FUNCTION bench.peer_row(event bench.event, revision integer) RETURNS SETOF "CalendarCacheEvent"
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT gen_random_uuid()::text, event.calendar, s.event_id, s.etag, s.event_id || '@google.com', s.summary,
           s.description, s.location, (event.starts_at + s.shift) AT TIME ZONE 'UTC',
           (event.ends_at + s.shift) AT TIME ZONE 'UTC', event.all_day, 'UTC',
           s.status::"CalendarCacheEventStatus", now(), now()
    FROM bench.stored(event, revision) AS s;
END;

-- Raises where the two sides differ for this window; returns how many busy intervals were compared.
CREATE FUNCTION bench.same_answer(asked tstzrange, calendars text[]) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    ours        jsonb;
    theirs      jsonb;
    their_union tstzmultirange;
    compared    bigint;
    is_free     boolean;
BEGIN
    SELECT jsonb_object_agg(calendar, busy), coalesce(sum(pieces), 0) INTO ours, compared
    FROM (SELECT calendar, range_agg(busy)::text AS busy, count(*) AS pieces
          FROM calsync_busy(asked, calendars) GROUP BY calendar) AS answer;
    SELECT jsonb_object_agg(calendar, busy) INTO theirs
    FROM (SELECT "selectedCalendarId" AS calendar,
                 (range_agg(tstzrange(start AT TIME ZONE 'UTC', "end" AT TIME ZONE 'UTC'))
                     * tstzmultirange(asked))::text AS busy
          FROM "CalendarCacheEvent"
          WHERE "selectedCalendarId" = ANY (calendars)
            AND start < (upper(asked) AT TIME ZONE 'UTC') AND "end" > (lower(asked) AT TIME ZONE 'UTC')
          GROUP BY 1) AS answer;
    SELECT coalesce(range_agg(tstzrange(start AT TIME ZONE 'UTC', "end" AT TIME ZONE 'UTC')) * tstzmultirange(asked), '{}')
    INTO their_union FROM "CalendarCacheEvent"
    WHERE "selectedCalendarId" = ANY (calendars)
        AND start < (upper(asked) AT TIME ZONE 'UTC') AND "end" > (lower(asked) AT TIME ZONE 'UTC');
    is_free := calsync_is_free(asked, calendars);
    IF ours IS DISTINCT FROM theirs OR calsync_busy_union(asked, calendars) IS DISTINCT FROM their_union OR is_free IS DISTINCT FROM (theirs IS NULL) THEN
        RAISE EXCEPTION 'the answers differ for % and %', asked, calendars
            USING DETAIL = format(E'ours: %s\ntheirs: %s\ncalsync_is_free: %s', left(ours::text, 2000), left(theirs::text, 2000), is_free);
    END IF;
    RETURN compared;
END $$;
