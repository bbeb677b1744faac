#!/usr/bin/env python3
"""A value three times as high as any of the last 120: a detector in 15 lines."""
import collections, json, sys

past = collections.defaultdict(lambda: collections.deque(maxlen=120))
for line in sys.stdin:
    window, found = json.loads(line), []
    for s in window.get("series", []):
        seen = past[json.dumps(s["labels"], sort_keys=True)]
        for t, v in s["points"]:
            if len(seen) >= 20 and v > 3 * max(seen) > 0:
                found.append({"labels": s["labels"], "observed": v, "tail_prob": 1 / (len(seen) + 1), "severity": "warning",
                              "summary": f"{v:g}, at most {max(seen):g} in the last {len(seen)}"})
            seen.append(v)
    print(json.dumps(found), flush=True)
