"""What does python-dateutil, left to itself, make of libical's corpus?

Reads one JSON object a line, {"rule", "start", "most"}, and answers each with dateutil's first `most` instances, spelt as
libical does, or with null where dateutil refuses the rule. Nothing is explained to dateutil here but what its parser needs:
no `Z` on times (floating all through) and no semicolon at the end.
"""

import itertools
import json
import sys
from datetime import datetime

try:
    from dateutil.rrule import rrulestr
except ImportError as missing:
    sys.exit(f"{missing}: pip install -r crates/core/tests/oracle/requirements.txt")


def instances(case):
    form = "%Y%m%dT%H%M%S" if "T" in case["start"] else "%Y%m%d"
    start = datetime.strptime(case["start"].rstrip("Z"), form)
    try:
        rule = rrulestr(case["rule"].rstrip(";"), dtstart=start, ignoretz=True)
    except ValueError:
        return None
    utc = "Z" if case["start"].endswith("Z") else ""
    return [local.strftime(form) + utc for local in itertools.islice(rule, case["most"])]


for asked in sys.stdin:
    print(json.dumps(instances(json.loads(asked))))
