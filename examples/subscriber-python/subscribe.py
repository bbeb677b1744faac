#!/usr/bin/env python3
"""Print the CloudEvents of the bus: attributes and data, one JSON line each.

Standard library only: it speaks the NATS text protocol over a socket.
Usage: subscribe.py [nats://host:port] [subject] [--count N]
"""
import json
import socket
import sys
import urllib.parse


def subscribe(address, subject):
    """Yield (subject, headers, payload) of every message from now on."""
    url = urllib.parse.urlsplit(address)
    sock = socket.create_connection((url.hostname, url.port or 4222), timeout=10)
    stream = sock.makefile("rb")
    json.loads(stream.readline().split(b" ", 1)[1])  # INFO {...}
    options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "name": "subscriber-python", "lang": "python", "version": "1"}
    sock.sendall(b"CONNECT %s\r\nSUB %s 1\r\nPING\r\n" % (json.dumps(options).encode(), subject.encode()))
    while True:
        line = stream.readline()
        if not line:
            raise ConnectionError("the server closed the connection")
        verb, *args = line.decode().split()
        if verb == "PING":
            sock.sendall(b"PONG\r\n")
        elif verb == "PONG":
            sock.settimeout(None)  # subscribed: from here on silence is fine
            print("subscribed to", subject, file=sys.stderr, flush=True)
        elif verb == "-ERR":
            raise ConnectionError(line.decode().strip())
        elif verb == "MSG":  # MSG subject sid [reply] bytes
            payload = stream.read(int(args[-1]))
            stream.readline()
            yield args[0], {}, payload
        elif verb == "HMSG":  # HMSG subject sid [reply] header-bytes total-bytes
            size, total = int(args[-2]), int(args[-1])
            body = stream.read(total)
            stream.readline()
            yield args[0], headers(body[:size]), body[size:]


def headers(block):
    """NATS headers look like those of HTTP, below a status line."""
    out = {}
    for line in block.decode().split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            out[name.strip().lower()] = value.strip()
    return out


def cloudevent(headers, payload):
    """A CloudEvent in binary mode: attributes in ce- headers, percent-encoded; the payload is the data."""
    event = {k[3:]: urllib.parse.unquote(v) for k, v in headers.items() if k.startswith("ce-")}
    kind = event.get("datacontenttype") or headers.get("content-type", "")
    event["data"] = json.loads(payload) if kind.startswith("application/json") else "%d bytes" % len(payload)
    return event


def main(args):
    count = 0
    if "--count" in args:
        i = args.index("--count")
        count = int(args[i + 1])
        del args[i:i + 2]
    address = args[0] if args else "nats://127.0.0.1:4222"
    subject = args[1] if len(args) > 1 else "anomalies.>"
    seen = 0
    for _, head, payload in subscribe(address, subject):
        if "ce-type" not in head:
            continue  # not a CloudEvent
        print(json.dumps(cloudevent(head, payload)), flush=True)
        seen += 1
        if seen == count:
            return


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        pass
    except (OSError, ValueError) as err:
        sys.exit("subscribe.py: %s" % err)
