package logs

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"

	_ "embed"
)

//go:embed testdata/statements.txt
var statements string

// System is an invented system: its name, the format of its headers, and the
// statements that it writes, most frequent first.
type System struct {
	Name, Format string
	statements   []string
}

// Invented are the systems of testdata/statements.txt.
func Invented() (systems []System) {
	for line := range strings.Lines(statements) {
		line = strings.TrimSpace(line)
		if head, ok := strings.CutPrefix(line, "== "); ok {
			name, format, _ := strings.Cut(head, " ")
			systems = append(systems, System{Name: name, Format: format})
		} else if line != "" && line[0] != '#' {
			s := &systems[len(systems)-1]
			s.statements = append(s.statements, line)
		}
	}
	return systems
}

// Lines writes 2,000 lines of the system: statements by Zipf's law, in bursts.
// Names, hosts and users are others with each seed.
func (s System) Lines(seed uint64) []Line {
	a := newAuthor(seed)
	weights, sum := make([]float64, len(s.statements)), 0.0
	for i := range weights {
		sum += 1 / float64(i+1)
		weights[i] = sum
	}
	var out []Line
	for len(out) < 2000 {
		x, i := a.Float64()*sum, 0
		for weights[i] < x {
			i++
		}
		for range 1 + a.IntN(3) {
			msg := a.say(s.statements[i])
			out = append(out, Line{Raw: a.header(s.Format, msg), Content: msg, Event: fmt.Sprint(i)})
		}
	}
	return out
}

// author writes the lines of one system.
type author struct {
	*rand.Rand
	at    time.Time
	hosts []string
	users []string
	names []string
}

func newAuthor(seed uint64) *author {
	a := &author{Rand: rand.New(rand.NewPCG(seed, 1)), at: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)}
	word := func() string {
		var b strings.Builder
		for range 2 + a.IntN(2) {
			b.WriteString(a.one("ka", "lo", "mi", "ser", "tan", "vel", "do", "rin", "pas", "gu", "ble", "nor", "shi", "qua", "fer"))
		}
		return b.String()
	}
	for range 4 + a.IntN(30) {
		a.users = append(a.users, word())
	}
	for range 3 + a.IntN(20) {
		sep := a.one("", "-", "_")
		name := word()
		if sep != "" {
			name += sep + word()
		}
		a.names = append(a.names, name)
	}
	domain := a.one("", ".example.org", ".corp.example.com", ".svc.cluster.local")
	for i := range 3 + a.IntN(12) {
		h := a.one("web", "db", "node", "cache")
		if a.IntN(3) > 0 {
			h += fmt.Sprint(a.one("", "-"), i)
		} else {
			h += "-" + word()
		}
		a.hosts = append(a.hosts, h+domain)
	}
	return a
}

func (a *author) one(words ...string) string { return words[a.IntN(len(words))] }

var placeholder = regexp.MustCompile(`\{[^{}=]*\}`)

// say fills the values of a statement.
func (a *author) say(statement string) string {
	return placeholder.ReplaceAllStringFunc(statement, func(p string) string { return a.value(p[1 : len(p)-1]) })
}

func (a *author) value(kind string) string {
	if strings.Contains(kind, "|") {
		return a.one(strings.Split(kind, "|")...)
	}
	switch kind {
	case "user":
		return a.one(a.users...)
	case "host":
		return a.one(a.hosts...)
	case "name":
		return a.one(a.names...)
	case "word":
		return a.one("alpha", "beta", "gamma", "delta", "north", "south", "green", "amber", "quiet", "rapid", "late", "early", "small", "spare", "upper", "lower")
	case "class":
		return a.one("OrderBook", "PriceFeed", "UserIndex", "TileCache", "RouteMap", "BatchQueue", "AudioSink", "PageStore")
	case "letter":
		return string(rune('a' + a.IntN(6)))
	case "n":
		return fmt.Sprint(a.IntN([]int{4, 100, 70_000, 2_000_000_000}[a.IntN(4)]))
	case "float":
		return fmt.Sprintf("%.*f", 1+a.IntN(5), a.Float64()*300)
	case "size":
		return a.one(fmt.Sprintf("%d KB", a.IntN(900)), fmt.Sprintf("%.1f MiB", a.Float64()*90), fmt.Sprintf("%d bytes", a.IntN(9000)), fmt.Sprint(a.IntN(1<<30)))
	case "volume":
		return fmt.Sprintf("%d bytes%s", a.IntN(1<<20), a.one("", fmt.Sprintf(" (%.2f KB)", a.Float64()*900)))
	case "life":
		return a.one("<1 sec", fmt.Sprintf("%02d:%02d", a.IntN(60), a.IntN(60)))
	case "dur":
		return a.one(fmt.Sprintf("%dms", a.IntN(3000)), fmt.Sprintf("%.3fs", a.Float64()*20), fmt.Sprintf("%dm%ds", a.IntN(9), a.IntN(60)), fmt.Sprintf("%d seconds", a.IntN(90)))
	case "ip":
		return fmt.Sprintf("10.%d.%d.%d", a.IntN(4), a.IntN(256), 1+a.IntN(254))
	case "addr":
		return fmt.Sprintf("10.%d.%d.%d:%d", a.IntN(4), a.IntN(256), 1+a.IntN(254), 1024+a.IntN(60000))
	case "mac":
		return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", a.IntN(256), a.IntN(256), a.IntN(256), a.IntN(256))
	case "hex":
		return fmt.Sprintf("%s%x", a.one("", "0x"), 0x10000000+a.Uint32N(1<<31))
	case "uuid":
		return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", a.Uint32(), a.IntN(1<<16), a.IntN(1<<12), a.IntN(1<<12), a.Uint64N(1<<48))
	case "id":
		return a.one(fmt.Sprintf("blk_%d", a.Uint32()), fmt.Sprintf("task_%d_%04d", 1_700_000_000+a.IntN(1000), a.IntN(9999)), fmt.Sprint(a.Uint32()))
	case "key":
		return a.one(a.names...) + a.one("/", ":", ".") + a.one(a.names...)
	case "path":
		p := a.one("/var/lib/", "/srv/", "/home/", "/opt/") + a.one(a.names...)
		for range a.IntN(3) {
			p += "/" + a.one(append(a.users, a.names...)...)
		}
		return p + a.one("", ".log", ".db", fmt.Sprintf("-%d.tmp", a.IntN(100)))
	case "url":
		return "http://" + a.one(a.hosts...) + "/" + a.one(a.names...) + a.one("", "?page="+fmt.Sprint(a.IntN(9)), "/"+a.one(a.names...))
	case "email":
		return a.one(a.users...) + "@example.org"
	case "quoted":
		return `"` + a.one(a.one(a.names...), a.one(a.users...)+" and "+a.one(a.users...), "x"+fmt.Sprint(a.IntN(99))) + `"`
	case "list":
		var l []string
		for range a.IntN(5) {
			l = append(l, a.one(a.names...))
		}
		return "[" + strings.Join(l, ", ") + "]"
	case "bool":
		return a.one("true", "false")
	case "clock":
		return fmt.Sprintf("%02d:%02d:%02d", a.IntN(24), a.IntN(60), a.IntN(60))
	case "date":
		return fmt.Sprintf("2026-%02d-%02d", 1+a.IntN(12), 1+a.IntN(28))
	case "err":
		return a.one("connection refused", "context deadline exceeded", "EOF", "no such file or directory", "permission denied", "i/o timeout", "broken pipe", "unexpected end of input",
			"read tcp 10.0.0.1:443: connection reset by peer", "no space left on device", "stale handle", "invalid argument", "no route to host", "try again")
	}
	panic("no such kind of value: " + kind)
}

// header writes a line with this message in a format.
func (a *author) header(format, msg string) string {
	a.at = a.at.Add(time.Duration(a.ExpFloat64() * float64(2*time.Second)))
	t, level, pid := a.at.Format, a.one("INFO", "INFO", "INFO", "WARN", "ERROR"), 300+a.IntN(3)
	low := strings.ToLower(level)
	switch format {
	case "slog-text":
		head, rest := msg, ""
		if i := strings.IndexByte(msg, '='); i > 0 {
			k := strings.LastIndexByte(msg[:i], ' ')
			head, rest = msg[:k], msg[k:]
		}
		return fmt.Sprintf("time=%s level=%s msg=%q%s", t(time.RFC3339Nano), level, head, rest)
	case "slog-json":
		b, _ := json.Marshal(map[string]any{"time": t(time.RFC3339Nano), "level": level, "msg": msg, "id": a.IntN(9999), "account": a.one(a.users...)})
		return string(b)
	case "pino":
		b, _ := json.Marshal(map[string]any{"level": 30, "time": a.at.UnixMilli(), "pid": pid, "hostname": a.hosts[0], "msg": msg})
		return string(b)
	case "winston":
		return fmt.Sprintf("%s [%s] %s: %s", t("2006-01-02T15:04:05.000Z"), "gateway", low, msg)
	case "logfmt":
		return fmt.Sprintf("ts=%s level=%s caller=bgp.go:%d %s", t(time.RFC3339Nano), low, a.IntN(400), msg)
	case "klog":
		return fmt.Sprintf("%c%s %7d widget.go:%d] %s", level[0], t("0102 15:04:05.000000"), pid, a.IntN(400), msg)
	case "log4j":
		return fmt.Sprintf("%s %s [%s] org.example.warehouse.Node: %s", t("2006-01-02 15:04:05,000"), level, a.one("main", "pool-1-thread-"+fmt.Sprint(a.IntN(9)), "Receiver for blk_"+fmt.Sprint(a.Uint32())), msg)
	case "logback":
		return fmt.Sprintf("%s [%s] %-5s o.e.b.Invoices - %s", t("15:04:05.000"), a.one("main", "http-nio-8080-exec-"+fmt.Sprint(a.IntN(9))), level, msg)
	case "spring":
		return fmt.Sprintf("%s %5s %d --- [%15s] %-40s : %s", t("2006-01-02T15:04:05.000Z"), level, pid, "main", "o.e.crawler.Fetcher", msg)
	case "python":
		return fmt.Sprintf("%s - importer.%s - %s - %s", t("2006-01-02 15:04:05,000"), a.one("rows", "files"), level, msg)
	case "celery":
		return fmt.Sprintf("[%s: %s/%s] %s", t("2006-01-02 15:04:05,000"), level, a.one("MainProcess", "ForkPoolWorker-"+fmt.Sprint(a.IntN(8))), msg)
	case "env_logger":
		return fmt.Sprintf("[%s %-5s indexer::segment] %s", t("2006-01-02T15:04:05Z"), level, msg)
	case "tracing":
		return fmt.Sprintf("%s %5s ingest::kafka: %s", t("2006-01-02T15:04:05.000000Z"), level, msg)
	case "nginx":
		return fmt.Sprintf("%s [%s] %d#%d: *%d %s", t("2006/01/02 15:04:05"), low, pid, pid, a.IntN(99999), msg)
	case "apache":
		return fmt.Sprintf("[%s] [core:%s] [pid %d:tid %d] %s", t("Mon Jan 02 15:04:05.000000 2006"), low, pid, a.Uint32(), msg)
	case "combined":
		return fmt.Sprintf("%s - - [%s] %s", a.value("ip"), t("02/Jan/2006:15:04:05 -0700"), msg)
	case "syslog":
		return fmt.Sprintf("%s %s sshd[%d]: %s", t(time.Stamp), a.hosts[0], pid, msg)
	case "syslog-kernel":
		return fmt.Sprintf("%s %s kernel: [%12.6f] %s", t(time.Stamp), a.hosts[0], a.Float64()*1e5, msg)
	case "rfc5424":
		return fmt.Sprintf("<%d>1 %s %s postfix %d - - %s", a.IntN(190), t("2006-01-02T15:04:05.000Z"), a.hosts[0], pid, msg)
	case "ras":
		rack := fmt.Sprintf("R%02d-M%d-N%d", a.IntN(64), a.IntN(2), a.IntN(16))
		return fmt.Sprintf("- %d %s %s %s %s RAS %s %s %s", a.at.Unix(), t("2006.01.02"), rack, t("2006-01-02-15.04.05.000000"), rack, a.one("KERNEL", "APP"), a.one("INFO", "FATAL"), msg)
	case "relay":
		h := a.one(a.hosts...)
		return fmt.Sprintf("- %d %s %s %s %s/%s crond[%d]: %s", a.at.Unix(), t("2006.01.02"), h, t(time.Stamp), h, h, pid, msg)
	case "columns":
		return fmt.Sprintf("%d node-%d unix.hw state_change.available %d 1 %s", a.IntN(1_000_000), a.IntN(256), a.at.Unix(), msg)
	case "logcat":
		return fmt.Sprintf("%s %5d %5d %c PowerService: %s", t("01-02 15:04:05.000"), 1700+pid, 1800+pid, level[0], msg)
	case "asl":
		return fmt.Sprintf("%s %s com.example.agent[%d]: %s", t(time.Stamp), "Anna-MacBook-Pro", pid, msg)
	case "cbs":
		return fmt.Sprintf("%s, %-22s CBS    %s", t("2006-01-02 15:04:05"), a.one("Info", "Error"), msg)
	case "pipes":
		return fmt.Sprintf("%s|Tracker_%s|%d|%s", t("20060102-15:04:05:000"), a.one("Main", "Sync"), 30_000_000+pid, msg)
	case "bracket":
		return fmt.Sprintf("[%s] %s - %s", t("01.02 15:04:05"), a.one("browser.exe", "sync.exe *64"), msg)
	case "zap":
		return fmt.Sprintf("%s\t%s\tring/ring.go:%d\t%s", t("2006-01-02T15:04:05.000Z0700"), low, a.IntN(400), msg)
	case "redis":
		return fmt.Sprintf("%d:M %s %s %s", pid, t("02 Jan 2006 15:04:05.000"), a.one("*", "#", "-"), msg)
	case "nats":
		return fmt.Sprintf("[%d] %s [%s] %s", pid, t("2006/01/02 15:04:05.000000"), a.one("INF", "ERR"), msg)
	}
	panic("no such format: " + format)
}
