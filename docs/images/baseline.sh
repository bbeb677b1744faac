#!/bin/sh
# Draws docs/images/baseline.svg: run it where the oncall binary is in the path.
set -eu
cd "$(dirname "$0")"
csv=$(mktemp)
trap 'rm -f "$csv"' EXIT
awk 'BEGIN {
	srand(7); pi = atan2(0, -1); print "timestamp,requests"
	for (i = 0; i < 14*288; i++) {
		noise = 0; for (k = 0; k < 12; k++) noise += rand() - 0.5
		v = 1100 - 900*cos(2*pi*i/288) + 60*noise
		if (i >= 8*288+130 && i < 8*288+136) v *= 2.5       # a spike
		if (i >= 10*288+138 && i < 10*288+156) v = 200 + 60*noise # midday at the level of the night
		if (i >= 12*288+60) v += 2500                        # a level that moved
		printf "%d,%.1f\n", 1772409600 + 300*i, v
	}
}' >"$csv"
oncall detect metrics --plot baseline.svg "$csv" >/dev/null
