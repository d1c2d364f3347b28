#!/usr/bin/env python3
"""Receives Google's push notifications and hands them to pg_calsync. Put it behind your TLS proxy (docs/push.md).

    pip install -r examples/requirements.txt
    webhook_receiver.py --dsn "dbname=app user=receiver" --port 8080

The role needs one right: GRANT EXECUTE ON FUNCTION calsync_webhook(jsonb, text) TO receiver. With calendars in several
databases, give --dsn for each: the one that knows the channel takes the notification.
"""

import argparse
import http.server

import psycopg
from psycopg.types.json import Jsonb


class Receiver(http.server.BaseHTTPRequestHandler):
    timeout = 10  # seconds, for a client that says nothing
    databases = []

    def do_POST(self):
        self.send_response(self.taken(Jsonb(dict(self.headers.items()))))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def taken(self, headers):
        unknown = 404
        for dsn in self.databases:
            try:
                with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as db:
                    status = db.execute("SELECT calsync_webhook(%s)", [headers]).fetchone()[0]
            except psycopg.Error as error:
                self.log_error("a database cannot take it: %s", type(error).__name__)
                unknown = 503  # It may be the one that knows the channel: Google tries again.
                continue
            if status != 404:
                return status
        return unknown


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--dsn", action="append", required=True, help="a libpq connection string")
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=8080, help="0: any that is free")
    given = arguments.parse_args()
    Receiver.databases = given.dsn
    server = http.server.ThreadingHTTPServer((given.host, given.port), Receiver)
    print(f"listening on http://{server.server_address[0]}:{server.server_address[1]}/", flush=True)
    server.serve_forever()
