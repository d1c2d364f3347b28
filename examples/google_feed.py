#!/usr/bin/env python3
"""Keeps one Google calendar in pg_calsync, with a credential that stays here: fetches from Google, feeds the cache.

    python3 -m venv feed
    feed/bin/pip install -r examples/requirements.txt
    feed/bin/python examples/google_feed.py --calendar alice@example.com --key service-account.json \\
        --dsn "dbname=app user=app" --every 60

The first round lists the whole calendar, the next ones ask only for what has changed since. Run it as a role that has
been granted calsync_operator. Stop it, kill it, run it twice: the cache takes each change once, or refuses it.
"""

import argparse
import sys
import time

import google.auth.exceptions
import httplib2
import psycopg
from google.auth.credentials import AnonymousCredentials
from google.oauth2 import service_account
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from psycopg.types.json import Jsonb

READ_ONLY = ["https://www.googleapis.com/auth/calendar.events.readonly"]

# Where the feed stands. Beside the cache and not in a file, so that both move in one transaction.
FEED_TABLE = "CREATE TABLE IF NOT EXISTS calendar_feed (calendar text PRIMARY KEY, sync_token text NOT NULL)"

# Nobody but us brings news of this calendar: after this long without any, answers about it shall be errors.
SUBSCRIBE = """SELECT calsync_subscribe(%s, provider => 'none', options => '{"max_staleness": "15min"}')"""


class StartOver(Exception):
    """The token is worthless, here or at Google: list everything."""


def sync(events, db, calendar, remote_id):
    """One round: everything that has changed since the last. Returns what the last page did."""
    row = db.execute("SELECT sync_token FROM calendar_feed WHERE calendar = %s", [calendar]).fetchone()
    token = row[0] if row else None
    try:
        return round_of_pages(events, db, calendar, remote_id, token)
    except StartOver as why:
        print(f"{calendar}: {why}; listing it in full")
        return round_of_pages(events, db, calendar, remote_id, None)


def round_of_pages(events, db, calendar, remote_id, token):
    page = None
    while True:
        answer = fetch(events, remote_id, token, page)
        result = apply(db, calendar, answer, token, page)
        if result.complete:
            return result
        page = answer["nextPageToken"]


def fetch(events, remote_id, token, page):
    """A page. No timeMin and no orderBy: the first would hide moved occurrences, the second has no sync token."""
    request = events.list(
        calendarId=remote_id, singleEvents=False, maxResults=2500, syncToken=token, pageToken=page
    )
    try:
        return request.execute(num_retries=5)  # with growing pauses, for 429, 5xx and Google's rate limits
    except HttpError as error:
        stale_token = error.status_code == 410 or (error.status_code == 400 and "sync token" in str(error).lower())
        if token and stale_token:
            raise StartOver(f"Google answers {error.status_code}: {error.reason}") from error
        raise


def apply(db, calendar, answer, token, page):
    """Hands a page to the cache. All but the last are staged; the last makes everything visible at once."""
    delta = {**answer, "calendar": calendar, "expectedSyncToken": token, "pageToken": page}
    try:
        with db.transaction():
            result = db.execute("SELECT * FROM calsync_apply_delta(%s)", [Jsonb(delta)]).fetchone()
            if result.complete:
                db.execute(
                    "INSERT INTO calendar_feed VALUES (%s, %s)"
                    " ON CONFLICT (calendar) DO UPDATE SET sync_token = excluded.sync_token",
                    [calendar, result.sync_token],
                )
            return result
    except psycopg.Error as error:
        if token and error.sqlstate == "SC004":
            raise StartOver(error.diag.message_primary) from error
        raise


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calendar", required=True, help="the name under which SQL shall know it")
    parser.add_argument("--remote-id", help="Google's id of the calendar (default: the name)")
    parser.add_argument("--key", help="a service account's key file (default: ask Google as nobody)")
    parser.add_argument("--as-user", help="the user to act for, with domain-wide delegation")
    parser.add_argument("--dsn", default="", help="libpq's connection string (default: as PGHOST and so on say)")
    parser.add_argument("--every", type=float, help="seconds between rounds (default: one round)")
    parser.add_argument("--endpoint", help="where the Calendar API is (default: Google)")
    return parser.parse_args()


def main():
    wanted = arguments()
    credentials = AnonymousCredentials()
    if wanted.key:
        credentials = service_account.Credentials.from_service_account_file(
            wanted.key, scopes=READ_ONLY, subject=wanted.as_user
        )
    options = {"api_endpoint": wanted.endpoint} if wanted.endpoint else None
    events = build("calendar", "v3", credentials=credentials, client_options=options).events()
    remote_id = wanted.remote_id or wanted.calendar

    with psycopg.connect(wanted.dsn, autocommit=True, row_factory=psycopg.rows.namedtuple_row) as db:
        db.execute(FEED_TABLE)
        db.execute(SUBSCRIBE, [wanted.calendar])
        while True:
            try:
                done = sync(events, db, wanted.calendar, remote_id)
                kind = "in full" if done.full_sync else "what changed"
                print(f"{done.calendar}: {kind}: {done.inserted} inserted, {done.updated} updated,"
                      f" {done.deleted} deleted, {done.unchanged} unchanged", flush=True)
            except (HttpError, google.auth.exceptions.GoogleAuthError, httplib2.HttpLib2Error, OSError) as error:
                # Google's trouble: the cache answers on, until max_staleness.
                print(f"{wanted.calendar}: {error}", file=sys.stderr)
                if not wanted.every:
                    return 1
            if not wanted.every:
                return 0
            time.sleep(wanted.every)


if __name__ == "__main__":
    sys.exit(main())
