"""recurring-ical-events' opinion: when do the events of a calendar take place, with their overrides?

Reads one JSON object a line, {"ics", "zone", "from", "to"} (the window in UTC), and answers each with one line: [start,
end] of every occurrence that overlaps the window, in UTC, ordered. All-day events run from midnight to midnight in the
calendar's zone.
"""

import json
import sys
from datetime import datetime, time, timedelta, timezone

try:
    import zoneinfo

    import icalendar
    import recurring_ical_events
    import tzdata  # noqa: F401, the pinned zone database
except ImportError as missing:
    sys.exit(f"{missing}: pip install -r crates/core/tests/oracle/requirements.txt")

zoneinfo.reset_tzpath(to=[])

UTC = "%Y%m%dT%H%M%S"


def instant(value, zone):
    if not isinstance(value, datetime):
        value = datetime.combine(value, time(), zone)
    return value.astimezone(timezone.utc)


def expand(case):
    zone = zoneinfo.ZoneInfo(case["zone"])
    begin, end = (datetime.strptime(case[key], UTC).replace(tzinfo=timezone.utc) for key in ("from", "to"))
    events = recurring_ical_events.of(icalendar.Calendar.from_ical(case["ics"]))
    # A day more on either side: it reads all-day events in UTC. What does not overlap is left out below.
    found = set()
    for event in events.between(begin - timedelta(days=2), end + timedelta(days=2)):
        start, stop = instant(event["DTSTART"].dt, zone), instant(event["DTEND"].dt, zone)
        # A day that its zone skipped has no length.
        if start < stop and start < end and begin < stop:
            found.add((start, stop))
    return [[start.strftime(UTC), stop.strftime(UTC)] for start, stop in sorted(found)]


for asked in sys.stdin:
    print(json.dumps(expand(json.loads(asked))))
