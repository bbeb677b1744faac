#!/bin/sh
# Draws the pictures of docs/detectors.md besides baseline.svg: run it where the
# oncall binary is in the path.
set -eu
cd "$(dirname "$0")"
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

# draw DETECTOR COLUMNS ROWS SECONDS PROGRAM: the program makes row i from noise, of
# standard deviation one, and at(values).
draw() {
	awk "function at(values) { printf \"%d,%s\\n\", 1772409600 + $4*i, values }
	BEGIN {
		srand(7); pi = atan2(0, -1); print \"timestamp,$2\"
		for (i = 0; i < $3; i++) {
			noise = 0; for (k = 0; k < 12; k++) noise += rand() - 0.5
			$5
		}
	}" >"$made/$1"
	oncall detect metrics --detector "$1" --plot "$1.svg" "$made/$1" >/dev/null
}

# Eight days with a spike, which is not its business, and a level that moves and comes back.
draw level_shift request_rate 2304 300 '
	v = 100 - 40*cos(2*pi*i/288) + 5*noise
	if (i >= 1440 && i < 1442) v *= 4
	if (i >= 1860 && i < 2000) v += 80
	at(v)'
# A limit that is neared, after a jump that is no trend.
draw forecast memory_limit_ratio 360 120 '
	v = 0.55 + 0.003*noise
	if (i == 60) v += 0.1
	if (i >= 120) v += 0.0025*(i - 120)
	if (i >= 280) v = 0.5 + 0.003*noise
	at(v)'
draw flatline request_rate 400 60 '
	v = 100 + 5*noise
	if (i >= 300 && i < 340) v = 101.5
	at(v)'
# A moment of failures, and half an hour of them.
draw burn_rate error_ratio,request_rate 720 60 '
	v = 0.0004*rand()
	if (i >= 200 && i < 202) v = 0.2
	if (i >= 400 && i < 430) v = 0.3 + 0.01*noise
	at(sprintf("%f,%f", v, 100 + 5*noise))'
