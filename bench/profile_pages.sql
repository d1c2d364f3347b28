-- Pages whose making is not to be measured: 2,500 events, in two revisions.
CREATE TABLE bench.page AS
SELECT revision, jsonb_build_object('timeZone', 'UTC', 'items', jsonb_agg(bench.item(e, revision) ORDER BY n)) AS body
FROM bench.event AS e, generate_series(1, 2) AS revision WHERE calendar = 'ingest2@example.com' GROUP BY revision;
GRANT SELECT ON bench.page TO booking;
