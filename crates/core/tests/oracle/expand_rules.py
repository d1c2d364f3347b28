"""python-dateutil's opinion: when does a series take place?

Reads one JSON object a line, {"start", "zone", "lines", "from", "to"} (local times as 20260301T090000, the window in
UTC), and answers each with one line: the starts in UTC, ordered, each once.

dateutil iterates in floating local time; each time is then placed in its zone by zoneinfo, which reads gaps and folds as
RFC 5545 section 3.3.5 does (fold=0). Where dateutil's reading of a rule differs from the one pg_calsync documents, the
rule is told in words both read alike; each such place names its reason.
"""

import datetime as datetimes
import json
import sys
import zoneinfo
from datetime import datetime, timedelta, timezone

try:
    from dateutil import rrule
    import tzdata  # noqa: F401, the pinned zone database
except ImportError as missing:
    sys.exit(f"{missing}: pip install -r crates/core/tests/oracle/requirements.txt")

# The pinned zone database, not the system's: both sides must know the same changes of the clocks.
zoneinfo.reset_tzpath(to=[])



class Bounded:
    """The datetime module as dateutil sees it, ending with the window's last year: dateutil walks a rule that never
    takes place to the year 9999, which takes it seconds."""

    MAXYEAR = datetimes.MAXYEAR

    def __getattr__(self, name):
        return getattr(datetimes, name)


rrule.datetime = Bounded()

DAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
LOCAL = "%Y%m%dT%H%M%S"


def parts_of(rule):
    return dict(part.split("=") for part in rule.split(";"))


def explicit(parts):
    """Says in other words what dateutil reads in its own way."""
    parts = dict(parts)
    frequency = parts["FREQ"]
    # dateutil wants a day to be both where a list has plain and numbered weekdays; RFC 5545 has it be either.
    if "BYDAY" in parts:
        listed = parts["BYDAY"].split(",")
        if any(len(day) > 2 for day in listed) and any(len(day) == 2 for day in listed):
            most = 53 if frequency == "YEARLY" and "BYMONTH" not in parts else 5
            parts["BYDAY"] = ",".join(
                day if len(day) > 2 else ",".join(f"{nth}{day}" for nth in range(1, most + 1)) for day in listed
            )
    return parts


def yielded(rule, start, zone, until):
    """The rule's local times, in order."""
    parts = explicit(parts_of(rule))
    count = int(parts.pop("COUNT", 0))
    last = parts.pop("UNTIL", None)
    seed = start
    # dateutil cuts the first week at DTSTART before BYSETPOS picks from it; RFC 5545 has it pick from one interval.
    if parts["FREQ"] == "WEEKLY" and "BYSETPOS" in parts:
        seed = start - timedelta(days=(start.weekday() - DAYS.index(parts.get("WKST", "MO"))) % 7)
        parts.setdefault("BYDAY", DAYS[start.weekday()])
    found = 0
    rrule.datetime.MAXYEAR = until.year
    for local in matches(parts, seed):
        if local < start:
            continue
        if local > until or (last and past(local, last, zone)):
            return
        yield local
        found += 1
        if found == count:
            return


def matches(parts, start):
    """What dateutil yields. A rule such as every second hour, at odd hours only, from an even one, is an error to it at
    times; it never takes place."""
    try:
        yield from rrule.rrulestr(";".join(f"{name}={value}" for name, value in parts.items()), dtstart=start)
    except ValueError as problem:
        if "empty" not in str(problem):
            raise


def past(local, last, zone):
    if last.endswith("Z"):
        return placed(local, zone) > datetime.strptime(last, LOCAL + "Z").replace(tzinfo=timezone.utc)
    if "T" in last:
        return local > datetime.strptime(last, LOCAL)
    return local.date() > datetime.strptime(last, "%Y%m%d").date()


def placed(local, zone):
    return local.replace(tzinfo=zone, fold=0).astimezone(timezone.utc)


def instants(values, zone):
    for value in values.split(","):
        if value.endswith("Z"):
            yield datetime.strptime(value, LOCAL + "Z").replace(tzinfo=timezone.utc)
        else:
            yield placed(datetime.strptime(value, LOCAL), zone)


def expand(case):
    zone = zoneinfo.ZoneInfo(case["zone"])
    start = datetime.strptime(case["start"], LOCAL)
    begin, end = (datetime.strptime(case[key], LOCAL).replace(tzinfo=timezone.utc) for key in ("from", "to"))
    until = end.replace(tzinfo=None) + timedelta(days=2)
    found, gone = {placed(start, zone)}, set()
    for line in case["lines"]:
        head, values = line.split(":", 1)
        name, _, parameters = head.partition(";")
        if name in ("RRULE", "EXRULE"):
            times = {placed(local, zone) for local in yielded(values, start, zone, until)}
        elif "VALUE=DATE" in parameters:
            dates = {datetime.strptime(value, "%Y%m%d").date() for value in values.split(",")}
            found = {at for at in found if at.astimezone(zone).date() not in dates} if name == "EXDATE" else found
            continue
        else:
            times = set(instants(values, zone))
        (found if name in ("RRULE", "RDATE") else gone).update(times)
    return [at.strftime(LOCAL) for at in sorted(found - gone) if begin <= at < end]


for asked in sys.stdin:
    print(json.dumps(expand(json.loads(asked))))
