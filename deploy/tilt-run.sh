#!/bin/sh
# Runs a service from /app, the one folder that is writable, and again whenever
# Tilt has put a new binary there. It stops with the service when that fails.
set -u
name=$1
[ -e "/app/$name" ] || cp "/image/$name" "/app/$name"
child=
trap '[ -n "$child" ] && kill -TERM "$child" && wait "$child"; exit 0' TERM INT
while :; do
  made=$(stat -c %Y "/app/$name")
  "/app/$name" &
  child=$!
  while kill -0 "$child" 2>/dev/null && [ "$(stat -c %Y "/app/$name" 2>/dev/null)" = "$made" ]; do
    sleep 1 &
    wait $!
  done
  if kill -0 "$child" 2>/dev/null; then
    echo "run.sh: a new $name is there, starting it" >&2
    kill -TERM "$child"
    wait "$child"
  else
    wait "$child"
    exit $?
  fi
done
