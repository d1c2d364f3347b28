"""Does python-dateutil, left to itself, agree with libical's corpus?

Reads one JSON object a line, {"rule", "start", "instances"}, and answers each with true or false. Nothing is explained to
dateutil here but what its parser needs: no `Z` on times (floating all through) and no semicolon at the end.
"""

import itertools
import json
import sys
from datetime import datetime

try:
    from dateutil.rrule import rrulestr
except ImportError as missing:
    sys.exit(f"{missing}: pip install -r crates/core/tests/oracle/requirements.txt")


def agrees(case):
    form = "%Y%m%dT%H%M%S" if "T" in case["start"] else "%Y%m%d"
    start = datetime.strptime(case["start"].rstrip("Z"), form)
    instances = [instance.rstrip("Z") for instance in case["instances"].split(",")]
    try:
        rule = rrulestr(case["rule"].rstrip(";"), dtstart=start, ignoretz=True)
    except ValueError:
        return False
    more = 0 if not {"COUNT", "UNTIL"} & {part.split("=")[0] for part in case["rule"].split(";")} else 1
    found = [local.strftime(form) for local in itertools.islice(rule, len(instances) + more)]
    return found == instances


for asked in sys.stdin:
    print(json.dumps(agrees(json.loads(asked))))
