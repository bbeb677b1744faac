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
# A rollout with half the memory: what each detector said of it, and when.
oncall replay --quiet --plot incident.svg ../../examples/incidents/oom-after-rollout.tar.zst >/dev/null
# A day of a workload's logs, and a quarter of an hour in which its card processor refuses
# connections: a heartbeat stops, a warning comes far oftener, an error is new, and four
# requests in ten are answered with 503.
mkdir "$made/logs"
cat >"$made/logs/manifest.json" <<'END'
{"version": 1, "name": "logs", "start": "2026-03-01T00:00:00Z", "end": "2026-03-02T02:00:00Z", "state": "complete", "made_by": "docs"}
END
awk '
function at(i, line) {
	gsub(/"/, "\\\"", line)
	printf "{\"labels\": {\"namespace\": \"shop\", \"pod\": \"pay-7d4b9c6f5-x2x8q\"}, \"line\": \"%s\", \"timestamp\": \"%s\"}\n", line, strftime("%Y-%m-%dT%H:%M:%SZ", 1772323200 + i, 1)
}
BEGIN {
	srand(7); began = 25*3600
	for (i = 0; i < 26*3600; i++) {
		odd = i >= began && i < began + 900
		if (i % 20 == 0 && !odd) at(i, "level=info msg=\"heartbeat sent\" to=coordinator")
		if (rand() < 0.15) at(i, sprintf("level=info msg=\"request served\" path=/pay/%d status=%d took_ms=%d", 9999*rand(), odd && rand() < 0.4 ? 503 : 200, 20 + 30*rand()))
		if (rand() < (odd ? 0.5 : 0.01)) at(i, sprintf("level=warn msg=\"retrying call\" to=bank attempt=%d", 1 + 3*rand()))
		if (odd && i > began + 60 && rand() < 0.2) at(i, sprintf("level=error msg=\"card processor refused connection\" err=\"dial tcp 10.0.0.%d:443: connection refused\"", 250*rand()))
	}
}' >"$made/logs/logs.jsonl"
oncall replay --quiet --plot logs.svg "$made/logs" >/dev/null
