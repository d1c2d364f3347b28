"""Drives the fake with Google's own client: python_client.py API_URL CONTROL_URL"""

import json
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue

from google.auth.credentials import AnonymousCredentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

API, CONTROL = sys.argv[1:3]
ALICE = "alice@example.com"


def control(path, body=None):
    """A user's act or a fault, through the control port."""
    request = urllib.request.Request(CONTROL + path, json.dumps(body or {}).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def refused(request):
    """The status and reason of a request that must fail."""
    try:
        answer = request.execute()
    except HttpError as error:
        return error.status_code, error.error_details[0]["reason"]
    raise AssertionError(f"expected an error, got {answer}")


def meeting(summary, hour):
    return {
        "summary": summary,
        "start": {"dateTime": f"2025-03-24T{hour:02}:00:00-05:00", "timeZone": "America/Chicago"},
        "end": {"dateTime": f"2025-03-24T{hour:02}:30:00-05:00", "timeZone": "America/Chicago"},
    }


class Receiver(BaseHTTPRequestHandler):
    notices = Queue()

    def do_POST(self):
        self.notices.put({name.lower(): value for name, value in self.headers.items()})
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def full_and_incremental_sync(events):
    for hour in range(8, 13):
        created = events.insert(calendarId=ALICE, body=meeting(f"at {hour}", hour)).execute()
        assert created["iCalUID"] == created["id"] + "@google.com", created

    pages, items = 0, []
    request = events.list(calendarId=ALICE, maxResults=2, singleEvents=False)
    while request is not None:
        answer = request.execute()
        pages, items = pages + 1, items + answer["items"]
        request = events.list_next(request, answer)
    assert (pages, len(items)) == (3, 5), (pages, items)
    token = answer["nextSyncToken"]

    events.delete(calendarId=ALICE, eventId=items[0]["id"]).execute()
    events.insert(calendarId=ALICE, body=meeting("late", 18)).execute()
    delta = events.list(calendarId=ALICE, maxResults=2, singleEvents=False, syncToken=token).execute()
    assert [item["status"] for item in delta["items"]] == ["cancelled", "confirmed"], delta
    assert set(delta["items"][0]) == {"kind", "etag", "id", "status"}, delta
    return delta["nextSyncToken"]


def lost_tokens(events, token):
    assert refused(events.list(calendarId=ALICE, syncToken="rubbish")) == (400, "invalid")
    window = events.list(calendarId=ALICE, maxResults=2, singleEvents=False, syncToken=token, q="x")
    assert refused(window) == (400, "syncTokenWithRequestRestrictions")
    control("/expire-sync-tokens")
    stale = events.list(calendarId=ALICE, maxResults=2, singleEvents=False, syncToken=token)
    assert refused(stale) == (410, "fullSyncRequired")


def changes_under_condition(events):
    created = events.insert(calendarId=ALICE, body=meeting("guarded", 20)).execute()
    patch = events.patch(calendarId=ALICE, eventId=created["id"], body={"summary": "mine"})
    patch.headers["If-Match"] = created["etag"]
    assert patch.execute()["summary"] == "mine"
    assert refused(patch) == (412, "conditionNotMet")
    replaced = events.update(calendarId=ALICE, eventId=created["id"], body=meeting("new", 21)).execute()
    assert replaced["created"] == created["created"], replaced
    assert events.get(calendarId=ALICE, eventId=created["id"]).execute() == replaced
    events.delete(calendarId=ALICE, eventId=created["id"]).execute()
    assert refused(events.delete(calendarId=ALICE, eventId=created["id"])) == (410, "deleted")
    assert refused(events.get(calendarId=ALICE, eventId="nothing")) == (404, "notFound")


def series(events):
    body = meeting("daily", 7) | {"id": "series1", "recurrence": ["RRULE:FREQ=DAILY;COUNT=3"]}
    events.insert(calendarId=ALICE, body=body).execute()
    instances = events.instances(calendarId=ALICE, eventId="series1").execute()["items"]
    assert [i["id"] for i in instances] == [f"series1_202503{day}T120000Z" for day in (24, 25, 26)], instances
    events.delete(calendarId=ALICE, eventId=instances[1]["id"]).execute()
    left = events.list(calendarId=ALICE, singleEvents=True, orderBy="startTime", q="daily").execute()
    assert len(left["items"]) == 2 and "nextSyncToken" not in left, left
    imported = events.import_(calendarId=ALICE, body=meeting("imported", 22) | {"iCalUID": "x@example.net"}).execute()
    assert imported["iCalUID"] == "x@example.net", imported


def free_and_busy(service):
    query = {"timeMin": "2025-03-26T00:00:00Z", "timeMax": "2025-03-27T00:00:00Z", "items": [{"id": ALICE}, {"id": "nobody"}]}
    answer = service.freebusy().query(body=query).execute()["calendars"]
    assert answer[ALICE]["busy"] == [{"start": "2025-03-26T12:00:00Z", "end": "2025-03-26T12:30:00Z"}], answer
    assert answer["nobody"]["errors"][0]["reason"] == "notFound", answer


def watching(service, events):
    receiver = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    channel = {"id": "python-1", "type": "web_hook", "address": f"http://127.0.0.1:{receiver.server_port}/"}
    opened = events.watch(calendarId=ALICE, body=channel).execute()
    assert Receiver.notices.get(timeout=20)["x-goog-resource-state"] == "sync"
    control(f"/calendars/{ALICE}/events", meeting("by the user", 23))
    assert Receiver.notices.get(timeout=20)["x-goog-resource-id"] == opened["resourceId"]
    assert refused(events.watch(calendarId=ALICE, body=channel)) == (400, "channelIdNotUnique")
    stop = {"id": opened["id"], "resourceId": opened["resourceId"]}
    service.channels().stop(body=stop).execute()
    assert refused(service.channels().stop(body=stop)) == (404, "notFound")
    receiver.shutdown()


def scripted_errors(service, events):
    action = {"error": {"status": 403, "reason": "rateLimitExceeded"}}
    control("/faults", {"when": {"path": "/events"}, "action": action})
    assert refused(events.list(calendarId=ALICE)) == (403, "rateLimitExceeded")
    control("/faults", {"when": {"path": "/events"}, "times": 2, "action": action})
    assert events.list(calendarId=ALICE).execute(num_retries=3)["kind"] == "calendar#events"
    entries = service.calendarList().list().execute()["items"]
    assert [entry["id"] for entry in entries] == [ALICE], entries
    assert service.calendars().get(calendarId="primary").execute()["timeZone"] == "America/Chicago"


def main():
    options = {"api_endpoint": API}
    with build("calendar", "v3", credentials=AnonymousCredentials(), client_options=options) as service:
        events = service.events()
        token = full_and_incremental_sync(events)
        lost_tokens(events, token)
        changes_under_condition(events)
        series(events)
        free_and_busy(service)
        watching(service, events)
        scripted_errors(service, events)


main()
