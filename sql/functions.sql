-- The SQL API. The bodies are in src/api, one file a topic. Each checks by itself whose calendar it is asked about.

-- ------------------------------------------------------------------------------------------------ whose calendars

CREATE FUNCTION calsync.owns(owner name)
RETURNS boolean LANGUAGE c STABLE PARALLEL SAFE STRICT COST 10 AS 'MODULE_PATHNAME', 'calsync_owns_wrapper';
COMMENT ON FUNCTION calsync.owns IS
    'Whether the current role is a member of this role, which owns a calendar; superusers are of all, and of those that '
    'there are none of';

CREATE FUNCTION calsync.shared()
RETURNS bigint[] LANGUAGE c STABLE PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'calsync_shared_wrapper';
COMMENT ON FUNCTION calsync.shared IS
    'The subscription_id of every calendar that is shared with the current role, or with a role that it is a member of, '
    'and accepted';

CREATE FUNCTION calsync_share(calendar text, role text)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'calsync_share_wrapper';
COMMENT ON FUNCTION calsync_share IS
    'Offers to another role and its members to ask about a calendar: when it is busy, and, where they are '
    'calsync_detail, what its events are. True where that counts already, since the caller speaks for the role, too, or '
    'it was accepted; false where a member of it must call calsync_accept_share first. Saying the same twice is harmless';

CREATE FUNCTION calsync_accept_share(calendar text, owner text DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'calsync_accept_share_wrapper';
COMMENT ON FUNCTION calsync_accept_share IS
    'Accepts a calendar that calsync.shares shows as offered to the current role, or to one that it is a member of: from '
    'now on they may ask about it. owner: whose, where several offer one of that name. False where it was accepted before';

CREATE FUNCTION calsync_unshare(calendar text, role text, owner text DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'calsync_unshare_wrapper';
COMMENT ON FUNCTION calsync_unshare IS
    'Takes that back, accepted or not. A member of the role that a calendar is shared with refuses it so. owner: whose, '
    'where several share one of that name. False where nothing was shared';

-- ---------------------------------------------------------------------------------------------- subscriptions

CREATE FUNCTION calsync_subscribe(calendar text, provider text DEFAULT 'google', credential text DEFAULT NULL,
                                  remote_id text DEFAULT NULL, time_zone text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS bigint LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'calsync_subscribe_wrapper';
COMMENT ON FUNCTION calsync_subscribe IS
    'Keeps a calendar in the cache from now on and returns its subscription_id. Saying the same twice is harmless. '
    'remote_id: the provider''s id, by default the name; time_zone: until the provider says its own';

CREATE FUNCTION calsync_unsubscribe(calendar text)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'calsync_unsubscribe_wrapper';
COMMENT ON FUNCTION calsync_unsubscribe IS
    'Forgets a calendar and all its rows. False where there is none of that name';

CREATE FUNCTION calsync_pause(calendar text)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'calsync_pause_wrapper';
COMMENT ON FUNCTION calsync_pause IS 'Stops syncing a calendar. It answers until it is stale';

CREATE FUNCTION calsync_resume(calendar text)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'calsync_resume_wrapper';
COMMENT ON FUNCTION calsync_resume IS 'Syncs a paused calendar again, at once';

CREATE FUNCTION calsync_sync(calendar text DEFAULT NULL)
RETURNS integer LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'calsync_sync_wrapper';
COMMENT ON FUNCTION calsync_sync IS
    'Makes one calendar, or all that the role owns, due now; the worker is woken at commit. Returns how many';

CREATE FUNCTION calsync_resync(calendar text DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'calsync_resync_wrapper';
COMMENT ON FUNCTION calsync_resync IS
    'Drops the sync token and what is staged: the next sync is full. The calendar answers as before until then';

CREATE PROCEDURE calsync_run(max_calendars integer DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'calsync_run_wrapper';
COMMENT ON PROCEDURE calsync_run IS
    'The worker''s work in the foreground, for servers where the library cannot be preloaded: syncs what is due, '
    'committing per calendar. Needs calsync_operator; syncs the calendars that the role owns, and all of the database where '
    'it is a superuser or a member of calsync_worker';

-- -------------------------------------------------------------------------------------------------------- delta

CREATE FUNCTION calsync_apply_delta(delta jsonb)
RETURNS calsync.delta_result LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'calsync_apply_delta_wrapper';
COMMENT ON FUNCTION calsync_apply_delta IS
    'Merges a provider''s answer that the application fetched: {"calendar", "expectedSyncToken", "items", "timeZone", '
    '"nextPageToken" | "nextSyncToken"}. Without expectedSyncToken it is a full sync and replaces. '
    'Errors: SC001 unknown calendar, SC004 sync token conflict, SC005 invalid delta';

-- ------------------------------------------------------------------------------------------------- availability

CREATE FUNCTION calsync.busy_rows(internal)
RETURNS internal LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'calsync_busy_rows_wrapper';
CREATE FUNCTION calsync.free_rows(internal)
RETURNS internal LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'calsync_free_rows_wrapper';
CREATE FUNCTION calsync.slots_rows(internal)
RETURNS internal LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'calsync_slots_rows_wrapper';
COMMENT ON FUNCTION calsync.busy_rows IS 'Internal: tells the planner how many rows calsync_busy will return';
COMMENT ON FUNCTION calsync.free_rows IS 'Internal: tells the planner how many rows calsync_free will return';
COMMENT ON FUNCTION calsync.slots_rows IS
    'Internal: tells the planner how many rows calsync_slots and calsync_group_slots will return';

CREATE FUNCTION calsync_busy(during tstzrange, calendars text[], statuses calsync.busy_status[] DEFAULT NULL,
                             on_uncovered text DEFAULT NULL)
RETURNS TABLE (calendar text, busy tstzrange)
LANGUAGE c STABLE PARALLEL SAFE ROWS 50 COST 1000 SUPPORT calsync.busy_rows
AS 'MODULE_PATHNAME', 'calsync_busy_wrapper';
COMMENT ON FUNCTION calsync_busy IS
    'When each calendar is busy: merged, clipped to during, in order. statuses: what counts, by default tentative, '
    'busy and out_of_office. Errors: SC001 unknown calendar, SC002 not covered, SC003 stale; on_uncovered: ''error'' or '
    '''busy'' in place of the setting calsync.on_uncovered';

CREATE FUNCTION calsync_busy_union(during tstzrange, calendars text[], statuses calsync.busy_status[] DEFAULT NULL)
RETURNS tstzmultirange
LANGUAGE c STABLE PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'calsync_busy_union_wrapper';
COMMENT ON FUNCTION calsync_busy_union IS
    'When any of the calendars is busy, as one multirange. Errors as calsync_busy';

CREATE FUNCTION calsync_is_free(during tstzrange, calendars text[], on_uncovered text DEFAULT NULL)
RETURNS boolean LANGUAGE c STABLE PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'calsync_is_free_wrapper';
COMMENT ON FUNCTION calsync_is_free IS
    'Whether nothing blocks any part of during in any of the calendars. on_uncovered and errors as calsync_busy';

CREATE FUNCTION calsync_free(during tstzrange, calendars text[], hours tstzmultirange DEFAULT NULL,
                             min_length interval DEFAULT '0')
RETURNS SETOF tstzrange
LANGUAGE c STABLE PARALLEL SAFE ROWS 50 COST 1000 SUPPORT calsync.free_rows
AS 'MODULE_PATHNAME', 'calsync_free_wrapper';
COMMENT ON FUNCTION calsync_free IS
    'When all of the calendars are free within during and hours (null: at any time), in order; only what is at least '
    'min_length long. Errors as calsync_busy';

CREATE FUNCTION calsync_slots(during tstzrange, calendars text[], duration interval, step interval DEFAULT '15 min',
                              time_zone text DEFAULT 'UTC', hours tstzmultirange DEFAULT NULL,
                              buffer_before interval DEFAULT '0', buffer_after interval DEFAULT '0',
                              min_notice interval DEFAULT '0', max_results integer DEFAULT NULL)
RETURNS SETOF tstzrange
LANGUAGE c STABLE PARALLEL SAFE ROWS 200 COST 1000 SUPPORT calsync.slots_rows
AS 'MODULE_PATHNAME', 'calsync_slots_wrapper';
COMMENT ON FUNCTION calsync_slots IS
    'Meetings of that duration for which all of the calendars are free, with the buffers around it: within during and '
    'hours, beginning where the clock of time_zone shows a whole number of steps since midnight, not before now() + '
    'min_notice. Errors as calsync_busy; 54000 beyond 100,000 slots';

CREATE FUNCTION calsync_group_slots(during tstzrange, groups jsonb, duration interval, step interval DEFAULT '15 min',
                                    time_zone text DEFAULT 'UTC', hours tstzmultirange DEFAULT NULL,
                                    buffer_before interval DEFAULT '0', buffer_after interval DEFAULT '0',
                                    min_notice interval DEFAULT '0', max_results integer DEFAULT NULL)
RETURNS TABLE (slot tstzrange, calendars text[])
LANGUAGE c STABLE PARALLEL SAFE ROWS 200 COST 1000 SUPPORT calsync.slots_rows
AS 'MODULE_PATHNAME', 'calsync_group_slots_wrapper';
COMMENT ON FUNCTION calsync_group_slots IS
    'As calsync_slots, where of each group enough are free: [{"any": 2, "calendars": ["a", "b", "c"]}, {"all": true, '
    '"calendars": ["room"]}]. Returns all who are free then, in the order of the groups';

CREATE FUNCTION calsync_open_hours(during tstzrange, time_zone text, weekly jsonb, overrides jsonb DEFAULT '[]')
RETURNS tstzmultirange
LANGUAGE c IMMUTABLE PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'calsync_open_hours_wrapper';
COMMENT ON FUNCTION calsync_open_hours IS
    'Weekly hours in local time as concrete time: weekly [{"days": ["mon", "tue"], "start": "09:00", "end": "17:00"}], '
    'overrides of dates [{"date": "2026-12-24", "start": "09:00", "end": "12:00"}, {"from": "2026-12-25", "to": '
    '"2026-12-31", "closed": true}]';

CREATE FUNCTION calsync_freebusy(request jsonb)
RETURNS jsonb
LANGUAGE c STABLE PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'calsync_freebusy_wrapper';
COMMENT ON FUNCTION calsync_freebusy IS
    'Google''s freeBusy.query from the cache: its request, its response. What cannot be answered is an error of its '
    'calendar: notFound as in Google, notCovered, stale';

CREATE FUNCTION calsync_coverage(calendars text[] DEFAULT NULL)
RETURNS TABLE (calendar text, covered tstzrange, synced_at timestamptz, state text, usable boolean, reason text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 50 AS 'MODULE_PATHNAME', 'calsync_coverage_wrapper';
COMMENT ON FUNCTION calsync_coverage IS
    'Which answers can be had: of these calendars, or of all that the role may see. No calendar makes it fail: '
    'reason tells';

CREATE FUNCTION calsync.explain_lines(during tstzrange, calendars text[])
RETURNS TABLE (calendar text, event_id text, summary text, takes_place tstzrange, busy_status text, blocks boolean,
               reason text)
LANGUAGE c STABLE ROWS 20 COST 1000 AS 'MODULE_PATHNAME', 'calsync_explain_lines_wrapper';
COMMENT ON FUNCTION calsync.explain_lines IS 'Internal: calsync_explain before its statuses are typed';

CREATE FUNCTION calsync_explain(during tstzrange, calendars text[])
RETURNS SETOF calsync.explanation LANGUAGE sql STABLE ROWS 20 COST 1000
BEGIN ATOMIC
    SELECT l.calendar, l.event_id, l.summary, l.takes_place, l.busy_status::calsync.busy_status, l.blocks, l.reason
    FROM calsync.explain_lines(during, calendars) AS l;
END;
COMMENT ON FUNCTION calsync_explain IS
    'Every event in the window or within an hour of it, also deleted and moved occurrences: does it block, and why. A '
    'line without an event says why the calendar as a whole cannot answer';

CREATE FUNCTION calsync_events(calendars text[] DEFAULT NULL)
RETURNS TABLE (calendar text, subscription_id bigint, event_id text, kind text, status text,
               busy_status calsync.busy_status, starts_at timestamptz, ends_at timestamptz, start_date date, end_date date,
               time_zone text, recurrence text[], recurring_event_id text, original_start timestamptz,
               original_start_date date, ical_uid text, etag text, sequence integer, summary text, description text,
               location text, transparency text, visibility text, event_type text, response_status text,
               provider_updated_at timestamptz, problem text, raw jsonb)
LANGUAGE c STABLE ROWS 1000 COST 10000 AS 'MODULE_PATHNAME', 'calsync_events_wrapper';
COMMENT ON FUNCTION calsync_events IS
    'The events of these calendars, or of all that the role may see, as the provider gives them: single ones, masters, '
    'exceptions and tombstones; the columns of calsync.event. When a series takes place says calsync_explain. Errors: '
    'SC001 unknown calendar';

-- --------------------------------------------------------------------------------------------------- credentials

CREATE FUNCTION calsync_add_credential(name text, provider text, secret jsonb)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'calsync_add_credential_wrapper';
COMMENT ON FUNCTION calsync_add_credential IS
    'Makes a credential that subscriptions can name, or replaces it, which brings back the calendars that waited for it. '
    'secret, 64 kB at most, is sealed at once: an OAuth client with a refresh token, a service account''s key file (with sub for a '
    'delegated domain), {"token"}, {"username", "password"}, {} for none, or {"file"} with one of these in a file on the '
    'server. Pass it as a bind parameter or a file: a literal is part of the statement';

CREATE FUNCTION calsync_drop_credential(name text)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'calsync_drop_credential_wrapper';
COMMENT ON FUNCTION calsync_drop_credential IS 'Forgets a credential. False where there is none of that name';

CREATE FUNCTION calsync_rotate_key(add_key boolean DEFAULT true)
RETURNS bigint LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'calsync_rotate_key_wrapper';
COMMENT ON FUNCTION calsync_rotate_key IS
    'Seals every credential of this database with the newest key of the file calsync.key_file; returns how many were sealed '
    'anew. add_key: adds a key to the file first where the newest is in use here; false, for the other databases of the '
    'cluster, never adds one. Older keys stay in the file';

CREATE FUNCTION calsync_keys()
RETURNS TABLE (key_id text, line integer, seals boolean, credentials bigint)
LANGUAGE c STABLE ROWS 3 AS 'MODULE_PATHNAME', 'calsync_keys_wrapper';
COMMENT ON FUNCTION calsync_keys IS
    'The keys of the file calsync.key_file: on which line each stands, which one seals, and how many credentials of this '
    'database are sealed with it. line is null for a key that is not in the file';

-- ---------------------------------------------------------------------------------------------------------- push

CREATE FUNCTION calsync_webhook(headers jsonb, body text DEFAULT NULL)
RETURNS integer LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'calsync_webhook_wrapper';
COMMENT ON FUNCTION calsync_webhook IS
    'Takes a provider''s push notification: its HTTP headers as an object, names in any case. Makes the calendars of its '
    'channel due at commit and returns the status to answer: 200, 400 no notification, 403 forged, 404 unknown channel. '
    'Granted to nobody: GRANT EXECUTE to the role of the receiver, which needs no other right';

-- ---------------------------------------------------------------------------------------------------- operations

CREATE FUNCTION calsync_version()
RETURNS text LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'calsync_version_wrapper';
COMMENT ON FUNCTION calsync_version IS 'The version of the library that is loaded';

CREATE FUNCTION calsync.announce()
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'calsync_announce_wrapper';
COMMENT ON FUNCTION calsync.announce IS 'Internal: tells the launcher at commit that this database has the extension';
