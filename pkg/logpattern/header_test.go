package logpattern

import "testing"

// A header is cut by its grammar, whoever wrote it: the same message is left.
func TestHeadersOfManyFormats(t *testing.T) {
	const msg = "cannot reach the store, 3 attempts left"
	for name, c := range map[string]struct {
		line  string
		level Level
	}{
		"log4j with a thread":        {"2026-03-01 10:00:00,123 WARN [LeaseRenewer:anna@web-1:9000] org.shop.Store: ", Warning},
		"a thread with spaces":       {"2026-03-01 10:00:00,123 ERROR [Writer for file /a/b block x-1] org.shop.Store: ", Error},
		"logback":                    {"10:00:00.123 [main] ERROR c.s.a.Store - ", Error},
		"Spring":                     {"2026-03-01T10:00:00.123Z  WARN 4711 --- [           main] c.shop.app.Store                         : ", Warning},
		"Kafka":                      {"[2026-03-01 10:00:00,123] INFO ", Info},
		"logcat":                     {"03-01 10:00:00.123  1702  2395 D Store: ", Debug},
		"logging of Python":          {"2026-03-01 10:00:00,123 - shop.store - ERROR - ", Error},
		"Celery":                     {"[2026-03-01 10:00:00,123: ERROR/MainProcess] ", Error},
		"Redis":                      {"4711:M 01 Mar 2026 10:00:00.123 * ", Unknown},
		"syslog":                     {"Mar  1 10:00:00 web-1 stored[4711]: ", Unknown},
		"syslog without an id":       {"Mar  1 10:00:00 web-1 kernel: ", Unknown},
		"RFC 5424":                   {"<34>1 2026-03-01T10:00:00.123Z web-1 stored 4711 ID47 - ", Unknown},
		"a relay of a cluster":       {"- 1772359200 2026.03.01 dn228 Mar 1 10:00:00 dn228/dn228 stored(x)[4711]: ", Unknown},
		"a supercomputer's records":  {"- 1772359200 2026.03.01 R02-M1-N0 2026-03-01-10.00.00.123456 R02-M1-N0 RAS KERNEL FATAL ", Fatal},
		"columns with an epoch":      {"134681 node-246 unix.hw state_change.unavailable 1772359200 1 ", Unknown},
		"Apache 2.4":                 {"[Sun Mar 01 10:00:00.123456 2026] [core:error] [pid 35708:tid 4328636416] ", Error},
		"Apache 2.2":                 {"[Sun Mar 01 10:00:00 2026] [notice] ", Info},
		"nginx":                      {"2026/03/01 10:00:00 [crit] 31#31: *1234 ", Fatal},
		"NATS":                       {"[4711] 2026/03/01 10:00:00.123456 [WRN] ", Warning},
		"klog":                       {"W0301 10:00:00.123456    4711 store.go:17] ", Warning},
		"pipes":                      {"20260301-10:00:00:123|Step_Store|30002312|", Unknown},
		"Windows":                    {"2026-03-01 10:00:00, Warning               CBS    ", Warning},
		"a desktop":                  {"Mar  1 10:00:00 Annas-MacBook-Pro com.shop.store[4711]: ", Unknown},
		"a proxy's day and clock":    {"[03.01 10:00:00] store.exe - ", Unknown},
		"env_logger":                 {"[2026-03-01T10:00:00Z ERROR shop::store] ", Error},
		"tracing":                    {"2026-03-01T10:00:00.123456Z  WARN shop::store: ", Warning},
		"zap's console":              {"2026-03-01T10:00:00.123Z\twarn\tstore/store.go:17\t", Warning},
		"OpenStack":                  {"nova-api.log.1.2026-03-01_13:53:08 2026-03-01 00:00:00.008 25746 INFO nova.osapi.server [req-38101a0b - - -] ", Info},
		"a container runtime":        {"2026-03-01T10:00:00.123456789Z stderr F ", Unknown},
		"a container runtime's klog": {"2026-03-01T10:00:00.123456789Z stderr F E0301 10:00:00.123456    4711 store.go:17] ", Error},
		"an epoch with a fraction":   {"1772359200.123456 ERROR ", Error},
		"an epoch in milliseconds":   {"1772359200123 INFO c.s.a.Store - ", Info},
		"an epoch in brackets":       {"[1772359200] stored[4711:0] error: ", Error},
		"an epoch and a colon":       {"1772359200: ", Unknown},
		"ROS":                        {"[WARN] [1772359200.123456789] [store]: ", Warning},
		"basicConfig of Python":      {"ERROR:shop.store:", Error},
		"brackets that touch":        {"[WARN][2026-03-01T10:00:00.123][store.go:17] ", Warning},
		"Elasticsearch":              {"[2026-03-01T10:00:00,123][WARN ][o.e.n.Node               ] [node-1] ", Warning},
		"commas":                     {"2026-03-01 10:00:00.123,WARN,main,42,", Warning},
		"semicolons":                 {"2026-03-01T10:00:00Z;ERROR;main;", Error},
		"pipes with spaces":          {"2026-03-01 10:00:00 | WARN | shop.store | ", Warning},
		"launchd":                    {"Mar  1 10:00:00 annas-mac com.apple.xpc.launchd[1] (com.shop.store[4711]): ", Unknown},
		"syslog with a zone":         {"2026-03-01T10:00:00.123456+00:00 web-1 stored[4711]: ", Unknown},
		"and without an id":          {"2026-03-01T10:00:00.123456+00:00 web-1 kernel: ", Unknown},
		"a level after the tag":      {"Mar  1 10:00:00 web-1 stored[4711]: WARNING: ", Warning},
		"a kernel's ring buffer":     {"[  123.456789] ", Unknown},
		"the same with a priority":   {"<6>[  123.456789] ", Unknown},
		"Chromium":                   {"[4711:12:0301/100000.123456:ERROR:store.cc(17)] ", Error},
		"Ruby":                       {"E, [2026-03-01T10:00:00.123456 #4711] ERROR -- : ", Error},
		"PostgreSQL with a user":     {"2026-03-01 10:00:00.123 UTC [4711] anna@shop ERROR:  ", Error},
		"ejabberd":                   {"2026-03-01 10:00:00.123456+00:00 [info] <0.108.0>@shop_store:start/2:17 ", Info},
		"old MySQL":                  {"260301  9:00:00 [Warning] ", Warning},
		"two names before the level": {"2026-03-01T10:00:00.123Z app-1 worker.1 WARN ", Warning},
		"BIND":                       {"01-Mar-2026 10:00:00.123 general: error: ", Error},
		"BIND's debugging":           {"01-Mar-2026 10:00:00.123 general: debug 3: ", Debug},
		"Tomcat":                     {"27-Nov-2026 00:00:00.123 INFO [main] org.shop.Store.open ", Info},
		"half a day":                 {"03/01/2026 10:00:00 AM - WARNING - ", Warning},
		"a thread before the level":  {"2026-03-01 10:00:00,123 main ERROR ", Error},
		"a host and a thread":        {"2026-03-01 10:00:00 web-1 http-worker ERROR ", Error},
		"a thread in brackets":       {"2026-03-01 10:00:00 WARN (main) ", Warning},
		"the thread, then the time":  {"main WARN 2026-03-01 10:00:00,123 ", Warning},
		"the host, then the time":    {"web 2026-03-01 10:00:00 ERROR ", Error},
		"a time in quotes":           {`"2026-03-01 10:00:00" ERROR `, Error},
		"a time in braces":           {"{2026-03-01 10:00:00} ERROR ", Error},
		"WebLogic":                   {"<Mar 1, 2026 10:00:00 AM UTC> <Warning> <store> <BEA-47> ", Warning},
		"many pipes":                 {"2026-03-01 10:00:00|WARN|web-1|main|", Warning},
		"many tabs":                  {"WARN\t2026-03-01 10:00:00\tweb-1\tmain\t", Warning},
		"double colons":              {"2026-03-01 10:00:00 :: WARN :: main :: ", Warning},
		"an epoch, host and user":    {"1772359200 web anna ERROR ", Error},
		"MongoDB":                    {"2026-03-01T10:00:00.123+0000 W NETWORK  [conn12] ", Warning},
		"logcat with a thread":       {"03-01 10:00:00.123 1702-2395/org.shop W/Store: ", Warning},
		"logcat in brief":            {"W/Store( 1702): ", Warning},
		"colours":                    {"\x1b[2m2026-03-01T10:00:00.123456Z\x1b[0m \x1b[33m WARN\x1b[0m \x1b[2mshop::store\x1b[0m\x1b[2m:\x1b[0m ", Warning},
		"a level alone":              {"[ERROR] ", Error},
		"nothing":                    {"", Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			got, level := Content(c.line + msg)
			if got != msg || level != c.level {
				t.Errorf("Content(%q): got %q %s, want %q %s", c.line+msg, got, level, msg, c.level)
			}
		})
	}
}

// What looks like a header inside a message stays.
func TestMessagesStayWhole(t *testing.T) {
	for _, msg := range []string{
		"ready in 5 s",
		"user anna logged in at 2026-03-01 10:00:00",
		"Next run: 2026-03-01 10:00:00",
		"10.0.0.1 refused",
		"10.11.21.143,10.11.10.1 \"GET /latest HTTP/1.1\" status: 200",
		"workerEnv.init() ok /etc/httpd/conf/workers2.properties",
		"web.example.org:443 open through proxy proxy.example.org:5070 HTTPS",
		"Step count 3579",
		"Reloaded: name = 5",
		"Got ERROR from the store",
	} {
		if got, _ := Content(msg); got != msg {
			t.Errorf("Content(%q): got %q, want all of it", msg, got)
		}
		if got, _ := Content("[4711] 2026/03/01 10:00:00.123456 [INF] " + msg); got != msg {
			t.Errorf("behind a header %q: got %q, want all of it", msg, got)
		}
	}
}

func TestAKnownLineAllocatesNothing(t *testing.T) {
	m := New(Config{})
	lines := []string{
		"2026-03-01 10:00:00,123 WARN [main] org.shop.Store: User anna Logged In From 10.0.0.1, flags=[a, b] took 5 ms",
		`{"level":"info","ts":"2026-03-01T10:00:00Z","msg":"session opened for Anna"}`,
		`ts=2026-03-01T10:00:00Z level=info caller=a.go:1 msg="session opened for Anna" id=7`,
		"[2026-03-01 10:00:00,123: ERROR/MainProcess] session opened",
		"[2026-03-01T10:00:00+02:00 WARN shop::store] session closed",
	}
	for _, l := range lines {
		m.Add(l)
	}
	for _, l := range lines {
		if n := testing.AllocsPerRun(100, func() { m.Add(l) }); n > 0 {
			t.Errorf("%q: got %.0f allocations a line", l, n)
		}
	}
}
