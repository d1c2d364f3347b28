-- What a person looks at first. Each view shows the calendars of the roles that the reader is a member of.

CREATE VIEW calsync.status WITH (security_barrier) AS
SELECT s.calendar,
       s.state,
       s.provider,
       s.owner,
       s.time_zone,
       (SELECT count(*) FROM calsync.event AS e
        WHERE e.subscription_id OPERATOR(pg_catalog.=) s.subscription_id
          AND e.kind OPERATOR(pg_catalog.<>) 'tombstone') AS events,
       (SELECT count(*) FROM calsync.event AS e
        WHERE e.subscription_id OPERATOR(pg_catalog.=) s.subscription_id AND e.problem IS NOT NULL) AS flagged,
       s.covered,
       s.synced_at,
       s.next_sync_at,
       s.failures,
       s.last_error,
       s.sync_token
FROM calsync.subscription AS s
WHERE EXISTS (SELECT FROM pg_catalog.pg_roles AS r
              WHERE r.rolname OPERATOR(pg_catalog.=) s.owner
                AND pg_catalog.pg_has_role(current_user, r.oid, 'USAGE'))
   -- What belonged to a role that was dropped is left to superusers.
   OR (NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) s.owner)
       AND EXISTS (SELECT FROM pg_catalog.pg_roles AS r
                   WHERE r.rolname OPERATOR(pg_catalog.=) current_user AND r.rolsuper))
ORDER BY s.calendar, s.owner;
COMMENT ON VIEW calsync.status IS
    'One row a calendar: how it stands, since when, what went wrong. events: without deleted occurrences; flagged: '
    'events that could not be understood';
