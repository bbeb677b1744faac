package logpattern

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// babble is a line that shares no word with another one.
func babble(r *rand.Rand) string {
	var words []string
	for range 3 + r.IntN(12) {
		var w strings.Builder
		for range 4 + r.IntN(6) {
			w.WriteByte(byte('a' + r.IntN(26)))
		}
		words = append(words, w.String())
	}
	return strings.Join(words, " ")
}

func TestOneThatNeverSaysTheSameTwiceTakesNobodysPlace(t *testing.T) {
	const bad, shop = 1, 2
	m := New(Config{MaxTemplates: 1000})
	r := rand.New(rand.NewPCG(1, 1))
	known := m.AddFor(shop, "payment accepted by the bank")
	for range 50_000 {
		m.AddFor(bad, babble(r))
	}
	fresh := m.AddFor(shop, "payment refused by the bank")
	if !fresh.New || m.Template(fresh.ID) != "payment refused by the bank" {
		t.Errorf("a new line of another is %+v, %q", fresh, m.Template(fresh.ID))
	}
	if again := m.AddFor(shop, "payment accepted by the bank"); again.New || again.ID != known.ID {
		t.Errorf("a known line of another has become %+v", again)
	}
	if n := m.Len(); n > 400 {
		t.Errorf("%d templates of what one has babbled, want a quarter of 1000 and a few classes", n)
	}
	if one := m.AddFor(shop, babble(r)); !one.New {
		t.Error("another cannot make templates")
	}
}

func TestWhatWasNotSeenForLongestIsForgotten(t *testing.T) {
	m := New(Config{MaxTemplates: 400})
	r := rand.New(rand.NewPCG(2, 2))
	lines := make([]string, 400)
	ids := map[string]uint64{}
	for i := range lines {
		lines[i] = babble(r)
		ids[lines[i]] = m.AddFor(uint64(1+i%10), lines[i]).ID
	}
	recent := lines[:100] // the first are seen again
	for _, l := range recent {
		m.AddFor(1, l)
	}
	m.Compact()
	if n := m.Len(); n > 300 || n < 250 {
		t.Errorf("%d templates of 400 are left, want three quarters", n)
	}
	for _, l := range recent {
		if got := m.Add(l); got.New || got.ID != ids[l] || m.Template(got.ID) == "" {
			t.Fatalf("%q was seen lately, and has become %+v", l, got)
		}
	}
	if m.Template(ids[lines[100]]) != "" {
		t.Error("what was not seen for longest is still there")
	}
	before := m.Len()
	m.Compact()
	if m.Len() != before {
		t.Error("there was room, and templates were forgotten")
	}
	if got := m.AddFor(3, babble(r)); !got.New {
		t.Error("after templates were forgotten there is no room for new ones")
	}
}

// What became part of others takes no room for ever: a log whose values had to be
// learnt goes on as well as one in which they were known.
func TestWhatBecamePartOfOthersIsForgottenFirst(t *testing.T) {
	m := New(Config{MaxTemplates: 200})
	r := rand.New(rand.NewPCG(7, 7))
	for range 20 {
		sentence := babble(r)
		for range 10 {
			m.Add("the shelf of " + babble(r)[:4] + " " + sentence)
		}
	}
	standing := map[uint64]string{}
	for i := range m.templates {
		if m.templates[i].parent == int32(i) {
			standing[m.templates[i].id] = text(m.templates[i].tokens)
		}
	}
	if len(standing) > 25 || len(m.templates) < 2*len(standing) {
		t.Fatalf("%d templates of %d stand for themselves, want about twenty", len(standing), len(m.templates))
	}
	m.cfg.MaxTemplates = len(m.templates)
	m.Compact()
	if len(m.templates) != len(standing) {
		t.Errorf("%d templates are kept, %d stand for themselves", len(m.templates), len(standing))
	}
	for id, was := range standing {
		if now := m.Template(id); now != was {
			t.Errorf("template %q has become %q", was, now)
		}
	}
}

// A restart between any two lines changes nothing, with room made between windows.
func TestMakingRoomIsTheSameAfterARestart(t *testing.T) {
	run := func(restart bool) []byte {
		m := New(Config{MaxTemplates: 300, MaxSlots: 500})
		r := rand.New(rand.NewPCG(3, 3))
		var out bytes.Buffer
		for window := range 40 {
			m.Compact()
			for i := range 50 {
				got := m.AddFor(uint64(r.IntN(6)), babble(r))
				again := m.AddFor(2, fmt.Sprintf("job %s done in window of %d", babble(r)[:5], i%3))
				fmt.Fprintln(&out, got, again)
			}
			if restart && window%7 == 3 {
				w := &snapshot.Writer{}
				m.Write(w)
				m = New(Config{MaxTemplates: 300, MaxSlots: 500})
				rd := snapshot.NewReader(w.Data())
				m.Read(rd)
				if err := rd.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
		w := &snapshot.Writer{}
		m.Write(w)
		return append(out.Bytes(), w.Data()...)
	}
	if !bytes.Equal(run(false), run(true)) {
		t.Error("a restart changes what is found")
	}
}

// A hundred thousand templates of a thousand workloads take at most 64 MB.
func TestAHundredThousandTemplatesFitInto64MB(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := heap()
	m := New(Config{MaxTemplates: 100_000})
	r := rand.New(rand.NewPCG(4, 4))
	for i := range 120_000 {
		m.AddFor(uint64(1+i%1000), babble(r))
	}
	took := heap() - before
	runtime.KeepAlive(m)
	t.Logf("%d templates: %d MB", m.Len(), took>>20)
	if m.Len() < 100_000 {
		t.Errorf("only %d templates", m.Len())
	}
	if took > 64<<20 {
		t.Errorf("%d MB, want at most 64", took>>20)
	}
}

func TestAFairShareLeavesToWhoHasLittleWhatItHas(t *testing.T) {
	for _, c := range []struct {
		has  map[uint64]int
		room int
		want int
	}{
		{map[uint64]int{1: 5, 2: 100, 3: 100}, 105, 50},
		{map[uint64]int{1: 5, 2: 20, 3: 100}, 105, 80},
		{map[uint64]int{1: 5, 2: 6}, 2, 1},
		{map[uint64]int{1: 5, 2: 6}, -3, 1},
		{map[uint64]int{1: 5}, 100, 95}, // nobody is cut
	} {
		got := FairShare(c.has, c.room)
		kept := 0
		for _, n := range c.has {
			kept += min(n, got)
		}
		if got != c.want || kept > max(c.room, len(c.has)) {
			t.Errorf("FairShare(%v, %d) = %d, which keeps %d, want %d", c.has, c.room, got, kept, c.want)
		}
	}
}
