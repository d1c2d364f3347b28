#!/usr/bin/env python3
"""Receives Google's push notifications and hands them to pg_calsync. Put it behind your TLS proxy (docs/push.md).

    webhook_receiver.py --dsn "dbname=app user=receiver" --port 8080

Needs psycopg 3 (apt install python3-psycopg), and a role with one right: GRANT EXECUTE ON FUNCTION
calsync_webhook(jsonb, text) TO receiver. With calendars in several databases, give --dsn for each: the one that knows the
channel takes the notification.
"""

import argparse
import contextlib
import http.server
import socket
import sys
import threading

import psycopg
from psycopg.types.json import Jsonb

CLIENTS = 32  # at once; others wait to be accepted
SESSIONS = threading.BoundedSemaphore(4)
LIMITS = {"connect_timeout": 5, "tcp_user_timeout": 10000, "options": "-c statement_timeout=5s -c lock_timeout=1s"}
NEEDED = ["X-Goog-Channel-ID", "X-Goog-Channel-Token", "X-Goog-Resource-State", "X-Goog-Message-Number"]

USED = ["X-Goog-Resource-ID", "X-Goog-Channel-Expiration"]


def ask(dsn, headers):
    """The status to answer. 503: the database cannot say it now, and Google tries again."""
    if not SESSIONS.acquire(timeout=2):
        return 503
    try:
        with psycopg.connect(dsn, autocommit=True, **LIMITS) as db:
            return db.execute("SELECT calsync_webhook(%s)", [Jsonb(headers)]).fetchone()[0]
    except psycopg.Error as error:
        # What the server says of a statement may quote it; why there is no connection must be known.
        why = error if isinstance(error, psycopg.OperationalError) and not error.sqlstate else type(error).__name__
        print(f"a database takes nothing: {why}", file=sys.stderr, flush=True)
        return 503
    finally:
        SESSIONS.release()


class Receiver(http.server.BaseHTTPRequestHandler):
    timeout = 10  # seconds, for a client that says nothing
    databases = []

    def do_POST(self):
        self.send_response(self.status())
        self.send_header("Content-Length", "0")
        self.end_headers()

    def status(self):
        headers = {name: self.headers.get(name, "") for name in NEEDED + USED}
        if not all(headers[name] for name in NEEDED) or "\0" in "".join(headers.values()):
            return 400
        unknown = 404
        for dsn in self.databases:
            status = ask(dsn, headers)
            if status not in (404, 503):
                return status
            unknown = max(unknown, status)  # One that cannot be asked may be the one that knows the channel.
        return unknown

    def finish(self):
        super().finish()
        # Bodies are dropped; Google's is empty. A client that is cut off while it sends one does not see the answer.
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1)
            all(self.connection.recv(65536) for _ in range(1000))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--dsn", action="append", required=True, help="a libpq connection string")
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=8080, help="0: any that is free")
    given = arguments.parse_args()
    Receiver.databases = given.dsn
    for dsn in given.dsn:
        ask(dsn, {})  # Tells now what is wrong with it.
    http.server.HTTPServer.request_queue_size = 128
    server = http.server.HTTPServer((given.host, given.port), Receiver)
    print(f"listening on http://{server.server_address[0]}:{server.server_address[1]}/", flush=True)
    for _ in range(CLIENTS - 1):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    server.serve_forever()
