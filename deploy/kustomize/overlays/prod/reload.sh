#!/bin/sh
# Tells NATS to read its configuration again whenever its certificate changed, and
# once when it begins: what changed before that nobody has told. The kubelet brings a
# changed Secret within about a minute, and a certificate is renewed long before it
# ends.
tls=${TLS_DIR:-/etc/nats-tls}
pid=${PID_FILE:-/var/run/nats/nats.pid}
sum() { cat "$tls/tls.crt" "$tls/tls.key" "$tls/ca.crt" | sha256sum; }

told=
while :; do
  now=$(sum)
  # When it fails, as before the server has written its pid, the next round tries again.
  if [ "$now" != "$told" ] && nats-server --signal "reload=$pid"; then
    echo "reload: the server was told to read its certificate"
    told=$now
  fi
  sleep "${EVERY:-30}"
done
