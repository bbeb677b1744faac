package logpattern

import (
	"bytes"
	"fmt"
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
