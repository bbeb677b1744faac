#!/bin/sh
# Print what the detectors find, one line each: time, severity, entity, summary.
# Needs oncall and jq. Usage: subscribe.sh [nats://host:port] [more flags of oncall anomalies watch]
set -eu
nats=${1:-nats://127.0.0.1:4222}
[ $# -gt 0 ] && shift
oncall anomalies watch --nats "$nats" -o json "$@" |
	jq --unbuffered -r '[.window_end, .severity, ([.entity.namespace, .entity.kind, .entity.name] | map(select(. != null)) | join("/")), (.summary | gsub("[[:cntrl:]]"; ""))] | join("  ")'
