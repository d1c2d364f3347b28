-- A calendar that is shared with another role.
\set ECHO none
\i words.sql
CREATE ROLE regress_calsync_host IN ROLE calsync_operator;
CREATE ROLE regress_calsync_team;
CREATE ROLE regress_calsync_guest IN ROLE regress_calsync_team, calsync_reader;
CREATE ROLE regress_calsync_assistant IN ROLE regress_calsync_team, calsync_detail;
CREATE ROLE regress_calsync_keeper IN ROLE regress_calsync_team, calsync_operator;
CREATE ROLE regress_calsync_stranger IN ROLE calsync_operator;
SET ROLE regress_calsync_host;
SELECT calsync_subscribe('anna', 'none') IS NOT NULL AS subscribed;
SELECT complete FROM calsync_apply_delta(pg_temp.list('anna', 'one',
    pg_temp.event('a', 1, '08:00', '09:00', '{"summary": "Dentist"}')));

-- Before, it does not exist for others; offering is harmless to repeat.
SET ROLE regress_calsync_guest;
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(0, 7), '{anna}') $$);
SET ROLE regress_calsync_host;
SELECT calsync_share('anna', 'regress_calsync_team') AS counts, calsync_share('anna', 'regress_calsync_team') AS again;
SELECT calendar, owner, role, accepted_at IS NOT NULL AS accepted FROM calsync.shares;
SELECT pg_temp.refusal($$ SELECT calsync_share('anna', 'regress_calsync_nobody') $$);
SELECT pg_temp.refusal($$ SELECT calsync_share('nobody', 'regress_calsync_team') $$);
SELECT pg_temp.refusal($$ SELECT calsync_share('anna', NULL) $$);
SELECT pg_temp.refusal($$ SELECT calsync_share(NULL, 'regress_calsync_team') $$);

-- What is offered counts for nothing, until a member of the role accepts it.
SET ROLE regress_calsync_stranger;
SELECT pg_temp.refusal($$ SELECT calsync_accept_share('anna') $$);
SELECT pg_temp.refusal($$ SELECT calsync_accept_share('anna', 'regress_calsync_host') $$);
SELECT pg_temp.refusal($$ SELECT calsync_accept_share(NULL) $$);
SET ROLE regress_calsync_guest;
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(0, 7), '{anna}') $$);
SELECT calendar, reason FROM calsync_coverage('{anna}');
SELECT (SELECT count(*) FROM calsync.status) AS calendars, (SELECT count(*) FROM calsync.visible_subscription) AS visible;
SELECT calendar, owner, role, accepted_at IS NOT NULL AS accepted FROM calsync.shares;
SELECT calsync_accept_share('anna') AS accepted, calsync_accept_share('anna', 'regress_calsync_host') AS again;
SET ROLE regress_calsync_host;
SELECT calsync_share('anna', 'regress_calsync_team') AS counts;
SELECT role, accepted_at IS NOT NULL AS accepted FROM calsync.shares;

-- A guest asks as the owner does.
SET ROLE regress_calsync_guest;
SELECT calendar, pg_temp.shown(busy) FROM calsync_busy(pg_temp.during(0, 7), '{anna}');
SELECT calsync_is_free(pg_temp.between(1, '08:00', '09:00'), '{anna}');
SELECT calendar, usable FROM calsync_coverage();
SELECT calendar, owner, state, events, sync_token FROM calsync.status;
SELECT calendar, owner, role FROM calsync.shares;
SELECT pg_temp.refusal($$ SELECT calsync_explain(pg_temp.during(0, 7), '{anna}') $$);

-- One that may see details sees them.
SET ROLE regress_calsync_assistant;
SELECT event_id, summary, blocks FROM calsync_explain(pg_temp.during(0, 7), '{anna}');
SELECT calendar, summary FROM calsync_events();

-- To change it is the owner's business, and since the guest sees the calendar it is told whose it is.
SET ROLE regress_calsync_keeper;
SELECT pg_temp.refusal($$ SELECT calsync_sync('anna') $$);
SELECT DISTINCT pg_temp.refusal(statement) FROM (VALUES
    ($$ SELECT calsync_pause('anna') $$), ($$ SELECT calsync_resume('anna') $$), ($$ SELECT calsync_resync('anna') $$),
    ($$ SELECT calsync_unsubscribe('anna') $$), ($$ SELECT calsync_share('anna', 'regress_calsync_keeper') $$),
    ($$ SELECT calsync_check('{anna}') $$), ($$ SELECT calsync_repair('{anna}') $$),
    (format('SELECT calsync_apply_delta(%L)', pg_temp.changes('anna', 'one', 'two')))) AS s (statement) ORDER BY 1;
-- What is said of all is said of one's own.
SELECT calsync_sync(), calsync_resync();
SELECT count(*) FROM calsync_check();
SELECT (SELECT count(*) FROM calsync.owned_subscription) AS owned, (SELECT count(*) FROM calsync.visible_subscription) AS visible;
SELECT count(*) FROM calsync.stat_provider;

-- A stranger is told what it is told of a calendar that there is none of.
SET ROLE regress_calsync_stranger;
SELECT pg_temp.refusal($$ SELECT calsync_pause('anna') $$);
SELECT pg_temp.refusal($$ SELECT calsync_pause('there is none') $$);
SELECT calsync_unshare('anna', 'regress_calsync_team') AS anna, calsync_unshare('none', 'regress_calsync_team') AS none;
SELECT calsync_unsubscribe('anna') AS anna, calsync_unsubscribe('none') AS none;
SELECT count(*) FROM calsync.shares;

-- A calendar of one's own and a shared one of the same name: an error, until one is refused.
SET ROLE regress_calsync_keeper;
SELECT calsync_subscribe('anna', 'none') IS NOT NULL AS subscribed;
SELECT pg_temp.refusal($$ SELECT calsync_busy(pg_temp.during(0, 7), '{anna}') $$);
SELECT pg_temp.refusal($$ SELECT calsync_pause('anna') $$);
SELECT calendar, reason FROM calsync_coverage('{anna}');
SELECT calsync_unshare('anna', 'regress_calsync_team') AS refused, calsync_unshare('anna', 'regress_calsync_team') AS again;
SELECT calsync_pause('anna');
SET ROLE regress_calsync_guest;
SELECT count(*) FROM calsync.status;

-- Two that are shared, too; each is accepted by itself.
SET ROLE regress_calsync_host;
SELECT calsync_share('anna', 'regress_calsync_guest') AS counts;
SET ROLE regress_calsync_keeper;
SELECT calsync_share('anna', 'regress_calsync_guest') AS counts;
SET ROLE regress_calsync_guest;
SELECT pg_temp.refusal($$ SELECT calsync_accept_share('anna') $$);
SELECT calsync_accept_share('anna', 'regress_calsync_host');
SELECT calsync_is_free(pg_temp.between(1, '08:00', '09:00'), '{anna}');
SELECT calsync_accept_share('anna', 'regress_calsync_keeper');
SELECT pg_temp.refusal($$ SELECT calsync_is_free(pg_temp.during(0, 7), '{anna}') $$);
SELECT calendar, owner, role FROM calsync.shares;

-- Who could mean two of them ends neither, until it says whose; so one can be refused without losing the other.
SELECT pg_temp.refusal($$ SELECT calsync_unshare('anna', 'regress_calsync_guest') $$);
SELECT calsync_unshare('anna', 'regress_calsync_guest', 'regress_calsync_keeper') AS refused,
       calsync_unshare('anna', 'regress_calsync_guest', 'regress_calsync_keeper') AS again;
SELECT calendar, owner, role FROM calsync.shares;
SELECT calsync_is_free(pg_temp.between(1, '08:00', '09:00'), '{anna}');
SET ROLE regress_calsync_keeper;
SELECT calsync_share('anna', 'regress_calsync_guest') AS offered_again;
RESET ROLE;
SELECT pg_temp.refusal($$ SELECT calsync_unshare('anna', 'regress_calsync_guest') $$);

-- The owner takes it back, and takes the shares with the calendar.
SET ROLE regress_calsync_keeper;
SELECT calsync_unshare('anna', 'regress_calsync_guest');
SELECT calsync_unsubscribe('anna');
SET ROLE regress_calsync_guest;
SELECT calsync_is_free(pg_temp.between(1, '08:00', '09:00'), '{anna}');
SELECT pg_temp.refusal($$ SELECT calsync_accept_share('anna', 'regress_calsync_keeper') $$);
SET ROLE regress_calsync_host;
SELECT calsync_unsubscribe('anna');
RESET ROLE;
SELECT count(*) FROM calsync.share;
SET ROLE regress_calsync_guest;
SELECT pg_temp.refusal($$ SELECT calsync_is_free(pg_temp.during(0, 7), '{anna}') $$);

-- An offer can be refused, too, and offered again.
SET ROLE regress_calsync_host;
SELECT calsync_subscribe('anna', 'none') IS NOT NULL AS subscribed;
SELECT calsync_share('anna', 'regress_calsync_guest') AS counts;
SET ROLE regress_calsync_guest;
SELECT calsync_unshare('anna', 'regress_calsync_guest');
SELECT pg_temp.refusal($$ SELECT calsync_accept_share('anna') $$);
SELECT count(*) FROM calsync.shares;

-- Who speaks for both sides need not be asked twice: a member of the other role, a superuser.
RESET ROLE;
CREATE ROLE regress_calsync_pool IN ROLE regress_calsync_host, regress_calsync_assistant, calsync_operator;
SET ROLE regress_calsync_pool;
SELECT calsync_share('anna', 'regress_calsync_assistant') AS counts;
RESET ROLE;
SELECT calsync_share('anna', 'regress_calsync_keeper') AS counts;
DROP ROLE regress_calsync_pool;
SET ROLE regress_calsync_host;
SELECT role, accepted_at IS NOT NULL AS accepted FROM calsync.shares ORDER BY role;
SELECT calsync_unshare('anna', 'regress_calsync_assistant'), calsync_unshare('anna', 'regress_calsync_keeper');

-- With all who may ask only somebody shares who may say who they are. No reader accepts or refuses for the others.
SELECT pg_temp.refusal($$ SELECT calsync_share('anna', 'calsync_reader') $$);
SELECT pg_temp.refusal($$ SELECT calsync_share('anna', 'pg_monitor') $$);
RESET ROLE;
SELECT calsync_share('anna', 'calsync_reader') AS counts;
SET ROLE regress_calsync_stranger;
SELECT calendar, owner FROM calsync.status;
SELECT calsync_unshare('anna', 'calsync_reader');
SET ROLE regress_calsync_host;
SELECT calsync_unshare('anna', 'calsync_reader');

-- What is shared with a role that is gone is found, and let go.
SELECT calsync_share('anna', 'regress_calsync_guest') AS guest, calsync_share('anna', 'regress_calsync_team') AS team;
RESET ROLE;
DROP ROLE regress_calsync_guest;
SELECT calendar, problem, detail FROM calsync_check();
SET ROLE regress_calsync_host;
SELECT calendar, problem, action FROM calsync_repair();
SELECT calendar, role FROM calsync.shares;
SELECT count(*) FROM calsync_check();

-- So is a calendar whose owner is gone; its owner's name is for superusers to mend.
RESET ROLE;
ALTER ROLE regress_calsync_host RENAME TO regress_calsync_hostess;
SELECT calendar, problem, detail FROM calsync_check();
SELECT calendar, problem, action FROM calsync_repair();
SET ROLE regress_calsync_hostess;
SELECT count(*) FROM calsync_check();
RESET ROLE;
UPDATE calsync.subscription SET owner = 'regress_calsync_hostess' WHERE calendar = 'anna';
SET ROLE regress_calsync_hostess;
SELECT calsync_unsubscribe('anna');
RESET ROLE;
DROP ROLE regress_calsync_hostess, regress_calsync_team, regress_calsync_assistant, regress_calsync_keeper,
    regress_calsync_stranger;
