package logpattern

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

func TestContent(t *testing.T) {
	for name, c := range map[string]struct {
		in, want string
		level    Level
	}{
		"logfmt":                {`ts=2026-03-01T10:00:00Z level=error caller=x.go:1 msg="it broke" err=eof`, "it broke", Error},
		"JSON":                  {`{"level":"warn","ts":1,"msg":"slow \"disk\"","x":{"msg":"no"}}`, `slow "disk"`, Warning},
		"klog":                  {"E0312 10:11:12.123456       1 reflector.go:126] Failed to list", "Failed to list", Error},
		"a timestamp and level": {"2026-03-01 10:00:00,123 INFO org.apache.Foo: Started in 5 s", "Started in 5 s", Info},
		"syslog":                {"Jun 14 15:16:01 combo sshd(pam_unix)[19939]: authentication failure; logname= uid=0", "authentication failure; logname= uid=0", Unknown},
		"a date in a sentence":  {"deleted everything older than 2026-03-01 10:00:00", "deleted everything older than 2026-03-01 10:00:00", Unknown},
		"nothing":               {"", "", Unknown},
		"a panic of Go":         {"panic: runtime error: index out of range", "panic: runtime error: index out of range", Fatal},
	} {
		t.Run(name, func(t *testing.T) {
			got, level := Content(c.in)
			if got != c.want || level != c.level {
				t.Errorf("Content(%q): got %q %s, want %q %s", c.in, got, level, c.want, c.level)
			}
		})
	}
}

func TestLinesOfOneStatementShareATemplate(t *testing.T) {
	m := New(Config{})
	a, b := m.Add("served request 17 from 10.0.0.1:80 in 5 ms"), m.Add("served request 99 from 10.9.8.7:443 in 12 ms")
	if a.ID != b.ID || !a.New || b.New {
		t.Errorf("got %+v and %+v, want one template, new once", a, b)
	}
	if c := m.Add("refused request 17 from 10.0.0.1:80 in 5 ms"); c.ID == a.ID {
		t.Error("another statement has the same template")
	}
}

func TestAWordThatVariesBecomesAValue(t *testing.T) {
	m := New(Config{})
	var ids []uint64
	for _, user := range []string{"anna", "bob", "carl", "dora", "emil"} {
		ids = append(ids, m.Add("session opened for user "+user+" now").ID)
	}
	for _, id := range ids {
		if m.Resolve(id) != m.Resolve(ids[0]) {
			t.Errorf("template %x did not join", id)
		}
	}
	if last := m.Add("session opened for user zoe now"); last.New {
		t.Error("a sixth user is a new template")
	}
}

// A line of brackets or quotes is a line: it must not cost its length squared.
func TestHostileLinesAreLines(t *testing.T) {
	m := New(Config{})
	for _, unit := range []string{"[", "{", "(a,", `"`, `"\`, "'a ", "a=", "a=[", `{"a":`, "\\", "x:", "://", "\x00\xff", "\x1b[", "1 ", "2026-01-01 "} {
		line := strings.Repeat(unit, 1<<20/len(unit))
		first := m.Add(line)
		if again := m.Add(line); again.ID != m.Resolve(first.ID) {
			t.Errorf("%q: the same line has two templates", unit)
		}
		if n := len(m.Template(first.ID)); n > 64<<10 {
			t.Errorf("%q: its template has %d bytes", unit, n)
		}
	}
}

// What has become wider keeps its id and counts, and takes in what it now equals.
func TestATemplateThatBecomesWiderTakesInWhatItEquals(t *testing.T) {
	m := New(Config{})
	named := m.Add("password refused for user u17 today").ID // a value at once
	first := m.Add("password refused for user anna today").ID
	for _, user := range []string{"bob", "carl", "dora"} {
		m.Add("password refused for user " + user + " today")
	}
	if m.Resolve(first) != m.Resolve(named) {
		t.Errorf("got %q and %q, want one template", m.Template(first), m.Template(named))
	}
	if m.Resolve(named) != named {
		t.Error("the oldest template has lost its id")
	}
	if got := m.templates[m.byID[named]].count; got != 5 {
		t.Errorf("got %d lines, want 5", got)
	}
}

func TestWhatIsAValueAtFirstSight(t *testing.T) {
	for name, pair := range map[string][2]string{
		"lists of any length":        {"members: [anna, bob] left", "members: [] left"},
		"a list of one":              {"members: [anna, bob] left", "members: [carl] left"},
		"objects":                    {"task Task(id=5, name=a) done", "task Task(id=7, name=b, x=[c, d]) done"},
		"what is assigned in quotes": {`refused err="no route to host" now`, `refused err="timed out" now`},
		"assigned nothing":           {"ruser= rhost=10.0.0.1 x", "ruser=0 rhost= x"},
		"a name in quotes":           {"topic 'orders' is gone", "topic 'carts' is gone"},
		"a URL with parameters":      {"GET /a/b?x=1&y=True done", "GET /c done"},
		"a path of Windows":          {`opened C:\data\x.log now`, `opened C:\y now`},
		"sizes":                      {"sent 0 bytes to them", "sent 1234 bytes (1.20 KB) to them"},
		"a number and its meaning":   {"open failed (2: No such file or directory), client", "open failed (13: Permission denied), client"},
		"what a record assigns":      {"closed a=1 b=2 c=3 d=4 e=5 f=6 g=7 h=8 flags=N", "closed a=1 b=2 c=3 d=4 e=5 f=6 g=7 h=8 flags=S"},
		"a host of a name":           {"proxy web.example.org:443 open", "proxy 10.0.0.1:80 open"},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(Config{})
			if a, b := m.Add(pair[0]), m.Add(pair[1]); a.ID != b.ID {
				t.Errorf("got %q and %q, want one template", m.Template(a.ID), m.Template(b.ID))
			}
		})
	}
}

func TestStatementsStayApart(t *testing.T) {
	m := New(Config{})
	seen := map[uint64]string{}
	for _, line := range []string{
		"sent PUBLISH to 10.0.0.1", "sent PUBACK to 10.0.0.1", "sent PUBREC to 10.0.0.1", "sent PUBREL to 10.0.0.1", "sent CONNACK to 10.0.0.1", "sent SUBACK to 10.0.0.1", "sent PINGRESP to 10.0.0.1",
		"session opened for user root", "session closed for user root", "VM Started (Lifecycle Event)", "VM Stopped (Lifecycle Event)", "VM Paused (Lifecycle Event)",
		`"Waiting" for="cache"`, `"Done waiting" for="cache"`, "it's up", "it's down", "file (deleted) gone", "file (moved) gone",
	} {
		id := m.Add(line).ID
		if other, ok := seen[id]; ok {
			t.Errorf("%q has the template of %q", line, other)
		}
		seen[id] = line
	}
}

// A text after a colon is a value when it never ends to be another.
func TestTextsOfManyLengthsBecomeAValue(t *testing.T) {
	m := New(Config{})
	texts := []string{"no route", "it timed out", "who are you", "gone", "connection was refused", "end of file", "broken pipe", "not now", "too many cooks in here", "bad luck", "permission denied", "stale handle", "try again", "no"}
	for _, text := range texts {
		m.Add("cannot reach store: " + text)
	}
	if got := m.Add("cannot reach store: something else entirely"); got.New || m.Template(got.ID) != "cannot reach store <*>" {
		t.Errorf("got %+v %q, want the template of the others", got, m.Template(got.ID))
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := New(Config{MaxTemplates: 200, MaxSlots: 400})
	for i := range 20_000 {
		w := func(k int) string { return string(rune('a'+(i/k)%26)) + string(rune('a'+(i/k/26)%26)) }
		m.AddContent(fmt.Sprintf("%s says %s to %s %s", w(1), w(7), w(13), w(29)), Unknown)
	}
	if len(m.templates) > 401 || len(m.byPrint) > 16*200+2 || len(m.slots[0])+len(m.slots[1]) > 2*400+20 {
		t.Errorf("got %d templates, %d fingerprints, %d slots", len(m.templates), len(m.byPrint), len(m.slots[0])+len(m.slots[1]))
	}
}

func TestStateSurvivesASnapshot(t *testing.T) {
	feed := func(m *Miner, from, to int) (ids []uint64) {
		for i := from; i < to; i++ {
			ids = append(ids, m.Add(fmt.Sprintf("level=info msg=\"user%c did thing %d in %s\"", 'a'+i%20, i, []string{"shop", "bank", "park"}[i%3])).ID)
		}
		return ids
	}
	a := New(Config{})
	feed(a, 0, 300)
	w := &snapshot.Writer{}
	a.Write(w)
	b := New(Config{})
	r := snapshot.NewReader(w.Data())
	b.Read(r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if x, y := feed(a, 300, 600), feed(b, 300, 600); fmt.Sprint(x) != fmt.Sprint(y) {
		t.Error("a miner that was restored gives other templates")
	}
	w1, w2 := &snapshot.Writer{}, &snapshot.Writer{}
	a.Write(w1)
	b.Write(w2)
	if !bytes.Equal(w1.Data(), w2.Data()) {
		t.Error("a miner that was restored ends in other state")
	}
}

func FuzzAdd(f *testing.F) {
	f.Add("2026-03-01 10:00:00 ERROR [main] a.b.C: x=1 y=\"z\"", "{\"msg\":\"a\\\"b\"}")
	f.Add("[[[[", "=\"")
	f.Fuzz(func(t *testing.T, a, b string) {
		m := New(Config{})
		first := m.Add(a)
		m.Add(b)
		if again := m.Add(a); again.New || m.Resolve(again.ID) != m.Resolve(first.ID) {
			t.Errorf("the same line %q has two templates", a)
		}
	})
}

func FuzzRead(f *testing.F) {
	m := New(Config{})
	m.Add("a b c")
	w := &snapshot.Writer{}
	m.Write(w)
	f.Add(w.Data())
	f.Fuzz(func(t *testing.T, b []byte) {
		m := New(Config{})
		m.Read(snapshot.NewReader(b))
		m.Add("x y z")
		m.Add("a b c")
	})
}

// A state that is assigned is a constant as long as it is what most lines say; when
// most say something else there, it was a name.
func TestWhatIsAssignedIsAValueOnceMostLinesHaveOne(t *testing.T) {
	for name, c := range map[string]struct {
		words, values int
		one           bool
	}{
		"more lines have a value":      {3, 40, true},
		"most lines have the one word": {100, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(Config{})
			var word, value uint64
			for range c.words {
				word = m.Add("connection was authorised database=postgres").ID
			}
			for i := range c.values {
				value = m.Add(fmt.Sprintf("connection was authorised database=shop%d", i)).ID
			}
			if one := m.Resolve(word) == m.Resolve(value); one != c.one {
				t.Errorf("got one template: %v, want %v", one, c.one)
			}
		})
	}
}

// Of words that are values elsewhere few are enough, even where a line begins: two, and
// three there.
func TestNamesAreNamesEverywhere(t *testing.T) {
	for name, c := range map[string]struct {
		before string
		words  []string
		one    bool
	}{
		"three names":                 {"", []string{"anna", "bob", "carl"}, true},
		"three words of no name":      {"", []string{"opened", "closed", "reset"}, false},
		"two names":                   {"", []string{"anna", "bob"}, false},
		"two names inside":            {"seen ", []string{"anna", "bob"}, true},
		"two words of no name inside": {"seen ", []string{"opened", "closed"}, false},
		"a name and another word":     {"seen ", []string{"anna", "nobody"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(Config{})
			for _, user := range []string{"anna", "bob", "carl", "dora", "emil"} {
				m.Add("password changed for user " + user + " today")
			}
			var ids []uint64
			for _, word := range c.words {
				ids = append(ids, m.Add(c.before+word+" by the gate of 10.0.0.1 again").ID)
			}
			if one := m.Resolve(ids[0]) == m.Resolve(ids[len(ids)-1]); one != c.one {
				t.Errorf("got one template: %v, want %v", one, c.one)
			}
		})
	}
}

// Names are bounded: the older half is forgotten.
func TestNamesAreBounded(t *testing.T) {
	n := newNames()
	for w := range uint32(5 * mostNames) {
		n.add(w)
	}
	if len(n[0])+len(n[1]) > 2*mostNames || !n.has(5*mostNames-1) || n.has(0) {
		t.Errorf("got %d and %d names", len(n[0]), len(n[1]))
	}
}
