# Tells NATS to read its configuration again whenever its certificate changed. The
# kubelet brings a changed Secret within about a minute, and a certificate is
# renewed long before it ends.
tls=${TLS_DIR:-/etc/nats-tls}
pid=${PID_FILE:-/var/run/nats/nats.pid}
sum() { cat "$tls/tls.crt" "$tls/tls.key" "$tls/ca.crt" | sha256sum; }

was=$(sum)
while sleep "${EVERY:-30}"; do
  now=$(sum)
  [ "$now" = "$was" ] && continue
  # When it fails, as before the server has written its pid, the next round tries again.
  if nats-server --signal "reload=$pid"; then
    echo "reload: the certificate changed, the server was told"
    was=$now
  fi
done
