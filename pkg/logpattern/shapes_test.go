package logpattern

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/test/benchmark/logs"
)

// header writes headers of invented shapes: level, thread and host vary from line to
// line, so that a header that is not understood costs the whole log.
type header struct {
	*rand.Rand
	now time.Time
}

func (h *header) one(words ...string) string { return words[h.IntN(len(words))] }

func (h *header) at(layout string) string {
	h.now = h.now.Add(time.Duration(h.IntN(7)) * time.Second)
	return h.now.Format(layout)
}

func (h *header) level() string { return h.one("INFO", "INFO", "INFO", "WARN", "ERROR", "DEBUG") }

func (h *header) thread() string {
	return h.one("main", "pool-1-thread-"+fmt.Sprint(h.IntN(30)), "http-worker", "io-"+h.one("a", "b", "c"))
}

func (h *header) host() string {
	return h.one("anna-pc", "web-1", "db", "node17", "cache.example.org", "kaka")
}

func (h *header) user() string { return h.one("anna", "bob", "carl", "-", "root") }

// shapes are fields in many orders and with many separators. Some cannot be told from
// a message: a plain word behind the level.
var shapes = []struct {
	name  string
	write func(*header) string
}{
	{"thread LEVEL date", func(h *header) string {
		return h.thread() + " " + h.level() + " " + h.at("2006-01-02 15:04:05,000") + " "
	}},
	{"LEVEL thread date", func(h *header) string {
		return h.level() + " " + h.thread() + " " + h.at("2006-01-02 15:04:05,000") + " "
	}},
	{"LEVEL [thread] date", func(h *header) string {
		return h.level() + " [" + h.thread() + "] " + h.at("2006-01-02 15:04:05,000") + " "
	}},
	{"date LEVEL thread", func(h *header) string {
		return h.at("2006-01-02 15:04:05,000") + " " + h.level() + " " + h.thread() + " "
	}},
	{"date thread LEVEL", func(h *header) string {
		return h.at("2006-01-02 15:04:05,000") + " " + h.thread() + " " + h.level() + " "
	}},
	{"date host LEVEL", func(h *header) string {
		return h.at("2006-01-02 15:04:05,000") + " " + h.host() + " " + h.level() + " "
	}},
	{"date host thread LEVEL", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + " " + h.host() + " " + h.thread() + " " + h.level() + " "
	}},
	{"host date LEVEL", func(h *header) string { return h.host() + " " + h.at("2006-01-02 15:04:05") + " " + h.level() + " " }},
	{"date [host] [thread] LEVEL", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + " [" + h.host() + "] [" + h.thread() + "] " + h.level() + " "
	}},
	{"date (thread) LEVEL", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + " (" + h.thread() + ") " + h.level() + " "
	}},
	{"date <thread> LEVEL", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + " <" + h.thread() + "> " + h.level() + " "
	}},
	{"date LEVEL (thread)", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + " " + h.level() + " (" + h.thread() + ") "
	}},
	{"date LEVEL <thread>", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + " " + h.level() + " <" + h.thread() + "> "
	}},
	{"date LEVEL class method", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + " " + h.level() + " [" + h.one("Store", "Cart", "User") + "." + h.one("open", "close") + "()] "
	}},
	{"date LEVEL file:func:line", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + " " + h.level() + " store.py:open:" + fmt.Sprint(h.IntN(300)) + " "
	}},
	{"date - LEVEL - thread - ", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + " - " + h.level() + " - " + h.thread() + " - "
	}},
	{"date :: LEVEL :: thread :: ", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + " :: " + h.level() + " :: " + h.thread() + " :: "
	}},
	{"date / LEVEL / thread / ", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + " / " + h.level() + " / " + h.thread() + " / "
	}},
	{"pipes", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + "|" + h.level() + "|" + h.host() + "|" + h.thread() + "|"
	}},
	{"pipes with spaces", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + " | " + h.level() + " | " + h.host() + " | " + h.thread() + " | "
	}},
	{"tabs", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + "\t" + h.level() + "\t" + h.host() + "\t" + h.thread() + "\t"
	}},
	{"commas", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + "," + h.level() + "," + h.host() + "," + h.thread() + ","
	}},
	{"tabs, level first", func(h *header) string {
		return h.level() + "\t" + h.at("2006-01-02 15:04:05") + "\t" + h.host() + "\t" + h.thread() + "\t"
	}},
	{"pipes, level first", func(h *header) string {
		return h.level() + "|" + h.at("2006-01-02 15:04:05") + "|" + h.host() + "|" + h.thread() + "|"
	}},
	{"commas, host first", func(h *header) string {
		return h.host() + "," + h.at("2006-01-02 15:04:05") + "," + h.level() + "," + h.thread() + ","
	}},
	{"epoch user", func(h *header) string {
		return fmt.Sprint(1772359200+h.IntN(9999)) + " " + h.host() + " " + h.user() + " " + h.level() + " "
	}},
	{"epoch.frac host tag", func(h *header) string {
		return fmt.Sprintf("%d.%06d", 1772359200+h.IntN(9999), h.IntN(1e6)) + " " + h.host() + " app[" + fmt.Sprint(h.IntN(99)) + "]: "
	}},
	{"hex thread", func(h *header) string {
		return h.at("2006-01-02 15:04:05.000000") + " " + fmt.Sprintf("%x", 0x7f0000000000+h.Int64N(1<<30)) + " " + h.level() + " "
	}},
	{"padded", func(h *header) string {
		return fmt.Sprintf("%s %-5s %-20s %-10s ", h.at("2006-01-02 15:04:05"), h.level(), h.thread(), h.host())
	}},
	{"compact :ms", func(h *header) string {
		return h.at("20060102-15:04:05:000") + " " + h.level() + " " + h.thread() + " "
	}},
	{"no time LEVEL thread", func(h *header) string { return h.level() + " [" + h.thread() + "] " }},
	{"no time [LEVEL] thread:", func(h *header) string { return "[" + h.level() + "] " + h.thread() + ": " }},
	{"ctime host", func(h *header) string {
		return h.at("Mon Jan _2 15:04:05 2006") + " " + h.host() + " " + h.level() + ": "
	}},
	{"rfc1123", func(h *header) string {
		return h.at("Mon, 02 Jan 2006 15:04:05 GMT") + " " + h.level() + " " + h.thread() + " "
	}},
	{"us date", func(h *header) string {
		return h.at("01/02/2006 03:04:05 PM") + " " + h.level() + " [" + h.thread() + "] "
	}},
	{"day month", func(h *header) string {
		return h.at("02 Jan 2006 15:04:05,000") + " [" + h.thread() + "] " + h.level() + " "
	}},
	{"T date tz name", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + " CET " + h.level() + " " + h.thread() + ": "
	}},
	{"request id", func(h *header) string {
		return h.at("2006-01-02T15:04:05Z") + " " + h.level() + " [req-" + fmt.Sprintf("%08x", h.Uint32()) + " " + h.user() + "] "
	}},
	{"k=v header", func(h *header) string {
		return h.at("2006-01-02T15:04:05Z") + " " + h.level() + " host=" + h.host() + " user=" + h.user() + " "
	}},
	{"quoted date", func(h *header) string {
		return "\"" + h.at("2006-01-02 15:04:05") + "\" " + h.level() + " " + h.thread() + " "
	}},
	{"curly date", func(h *header) string { return "{" + h.at("2006-01-02 15:04:05") + "} " + h.level() + " " }},
	{"angle date", func(h *header) string {
		return "<" + h.at("Jan 2, 2006 3:04:05 PM UTC") + "> <" + h.level() + "> <" + h.thread() + "> <BEA-" + fmt.Sprint(h.IntN(999)) + "> "
	}},
	{"mongo", func(h *header) string {
		return h.at("2006-01-02T15:04:05.000+0000") + " I " + h.one("NETWORK ", "COMMAND ", "STORAGE ") + " [" + h.one("conn", "initandlisten") + fmt.Sprint(h.IntN(20)) + "] "
	}},
	{"ceph", func(h *header) string {
		return h.at("2006-01-02T15:04:05.000+0000") + " " + fmt.Sprintf("%x", 0x7f0000000000+h.Int64N(1<<30)) + " " + fmt.Sprint(h.IntN(20)-1) + " osd." + fmt.Sprint(h.IntN(9)) + " "
	}},
	{"android thread", func(h *header) string {
		return h.at("01-02 15:04:05.000") + " " + fmt.Sprint(h.IntN(9999)) + "-" + fmt.Sprint(h.IntN(9999)) + "/com.shop " + h.one("I", "W", "E") + "/" + h.one("Store", "Cart") + ": "
	}},
	{"android brief", func(h *header) string {
		return h.one("I", "W", "E") + "/" + h.one("Store", "Cart", "ActivityManager") + "(" + fmt.Sprintf("%5d", h.IntN(9999)) + "): "
	}},
	{"win", func(h *header) string {
		return h.at("2006-01-02 15:04:05") + ", " + h.level() + "        " + h.one("CBS", "CSI", "DPX") + "    "
	}},
	{"heroku", func(h *header) string {
		return h.at("2006-01-02T15:04:05.000000+00:00") + " " + h.one("app", "heroku") + "[" + h.one("web.1", "router", "worker.2") + "]: "
	}},
	{"journald short-precise", func(h *header) string {
		return h.at("Jan 02 15:04:05.000000") + " " + h.host() + " app[" + fmt.Sprint(h.IntN(99)) + "]: "
	}},
}

// shapesScore is the mean grouping accuracy of 27 invented systems, of their messages
// and behind the headers of a shape.
func shapesScore(write func(*header) string) (content, raw float64) {
	h := &header{Rand: rand.New(rand.NewPCG(5, 6)), now: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)}
	n := 0.0
	for _, s := range logs.Invented() {
		if s.Format == "logfmt" || s.Format == "slog-text" || s.Format == "combined" {
			continue // whose messages are no text, or begin with what may be a header
		}
		lines := s.Lines(1)[:800]
		for i := range lines {
			lines[i].Raw = write(h) + lines[i].Content
		}
		c, _ := grouping(lines, false)
		r, _ := grouping(lines, true)
		content, raw, n = content+c, raw+r, n+1
	}
	return content / n, raw / n
}

// BenchmarkHeaderShapes prints what headers of many shapes cost.
func BenchmarkHeaderShapes(b *testing.B) {
	var content, raw float64
	lost := 0
	for _, s := range shapes {
		c, r := shapesScore(s.write)
		b.Logf("%-28s content %.3f raw %.3f", s.name, c, r)
		n := float64(len(shapes))
		content, raw = content+c/n, raw+r/n
		if r < c/2 {
			lost++
		}
	}
	b.ReportMetric(content, "GA/content")
	b.ReportMetric(raw, "GA/raw")
	b.ReportMetric(float64(lost), "shapes-lost")
	b.ReportMetric(0, "ns/op")
}

// TestHeadersInAnyOrderAreCut holds what was reached for a few of them.
func TestHeadersInAnyOrderAreCut(t *testing.T) {
	for _, s := range shapes {
		switch s.name {
		case "thread LEVEL date", "date host thread LEVEL", "pipes", "tabs", "commas", "angle date":
			if c, r := shapesScore(s.write); r < c-0.1 {
				t.Errorf("%s: got %.3f on raw lines and %.3f on messages", s.name, r, c)
			}
		}
	}
}
