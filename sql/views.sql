-- What a person looks at first: the calendars of the roles that the reader is a member of, and those that are shared
-- with one, asked for once a statement.
--
-- OFFSET 0 keeps the reader's own conditions from being tried on rows that are not his: EXPLAIN would count them. And what
-- stands above a view with security_barrier is not guessed by the statistics of everybody's rows.

-- A view of its own, so that status counts the events of no calendar that a condition leaves out.
CREATE VIEW calsync.visible_calendar WITH (security_barrier) AS
SELECT * FROM calsync.subscription AS s
WHERE calsync.owns(s.owner) OR s.subscription_id OPERATOR(pg_catalog.=) ANY ((SELECT calsync.shared())::pg_catalog.int8[])
OFFSET 0;
COMMENT ON VIEW calsync.visible_calendar IS 'Internal: what calsync.status speaks of';

CREATE VIEW calsync.status WITH (security_barrier) AS
SELECT s.calendar,
       -- A credential that is refused stops all its calendars, also one whose round was under way just then.
       CASE WHEN c.refused_at IS NOT NULL AND s.state OPERATOR(pg_catalog.<>) 'paused'
            THEN 'needs_credential'::calsync.subscription_state
            -- One that could not be opened for trouble with the key file, likewise; that passes.
            WHEN c.unopened_at IS NOT NULL AND s.state OPERATOR(pg_catalog.=) ANY ('{pending,active}')
            THEN 'backoff'::calsync.subscription_state ELSE s.state END AS state,
       s.provider,
       s.owner,
       s.time_zone,
       (SELECT pg_catalog.count(*) FROM calsync.event AS e
        WHERE e.subscription_id OPERATOR(pg_catalog.=) s.subscription_id
          AND e.kind OPERATOR(pg_catalog.<>) 'tombstone') AS events,
       (SELECT pg_catalog.count(*) FROM calsync.event AS e
        WHERE e.subscription_id OPERATOR(pg_catalog.=) s.subscription_id AND e.problem IS NOT NULL) AS flagged,
       s.covered,
       s.synced_at,
       -- None of its calendars is asked for before the credential may be used again.
       CASE WHEN s.next_sync_at IS NOT NULL THEN greatest(s.next_sync_at, c.retry_at) END AS next_sync_at,
       s.failures,
       -- It may name the owner's credential, and quote what the provider says of that.
       CASE WHEN calsync.owns(s.owner) THEN coalesce(s.last_error, c.last_error) END AS last_error,
       -- What a delta is asked with is nothing that a guest needs.
       CASE WHEN calsync.owns(s.owner) THEN s.sync_token END AS sync_token,
       s.subscription_id,
       EXISTS (SELECT FROM calsync.channel AS h
               WHERE h.remote_id OPERATOR(pg_catalog.=) s.remote_id AND h.owner OPERATOR(pg_catalog.=) s.owner
                 AND h.provider OPERATOR(pg_catalog.=) s.provider
                 AND coalesce(h.credential, '') OPERATOR(pg_catalog.=) coalesce(s.credential, '')
                 AND h.generation OPERATOR(pg_catalog.=) coalesce(c.generation, 0)
                 AND h.state OPERATOR(pg_catalog.=) 'open' AND h.confirmed_at IS NOT NULL
                 AND h.expires_at OPERATOR(pg_catalog.>) pg_catalog.now()) AS pushed,
       (SELECT h.last_error FROM calsync.channel AS h
        WHERE calsync.owns(s.owner) AND h.remote_id OPERATOR(pg_catalog.=) s.remote_id AND h.owner OPERATOR(pg_catalog.=) s.owner
          AND h.provider OPERATOR(pg_catalog.=) s.provider
          AND coalesce(h.credential, '') OPERATOR(pg_catalog.=) coalesce(s.credential, '')
        ORDER BY h.requested_at DESC LIMIT 1) AS push_error
FROM calsync.visible_calendar AS s
     LEFT JOIN calsync.credential AS c
            ON c.owner OPERATOR(pg_catalog.=) s.owner AND c.name OPERATOR(pg_catalog.=) s.credential
ORDER BY s.calendar, s.owner;
COMMENT ON VIEW calsync.status IS
    'One row a calendar: how it stands, since when, what went wrong. subscription_id: to join calsync_events(). events: without '
    'deleted occurrences; flagged: events that could not be understood; pushed: the provider tells of changes, otherwise it is '
    'polled; push_error: why the last push channel could not be opened or stopped. Of a shared calendar the reader is told no '
    'error and no token';

CREATE VIEW calsync.shares WITH (security_barrier) AS
SELECT s.calendar, s.owner, h.role, h.created_at, a.answered_at AS accepted_at
FROM calsync.share AS h
JOIN calsync.subscription AS s ON s.subscription_id OPERATOR(pg_catalog.=) h.subscription_id
LEFT JOIN calsync.share_answer AS a
       ON a.subscription_id OPERATOR(pg_catalog.=) h.subscription_id AND a.offer OPERATOR(pg_catalog.=) h.offer
WHERE a.accepted IS NOT FALSE
  AND (calsync.owns(s.owner)
       OR EXISTS (SELECT FROM pg_catalog.pg_roles AS r
                  WHERE r.rolname OPERATOR(pg_catalog.=) h.role
                    AND pg_catalog.pg_has_role(current_user, r.oid, 'USAGE')))
ORDER BY s.calendar, s.owner, h.role
OFFSET 0;
COMMENT ON VIEW calsync.shares IS
    'Who besides the owner may ask about a calendar: of the reader''s own calendars all, of others what concerns the '
    'reader. Offered by calsync_share(), it counts once accepted_at is set: by calsync_accept_share(). What was '
    'refused is not shown';
