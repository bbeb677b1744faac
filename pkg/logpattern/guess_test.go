package logpattern

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

func TestAnIdGivenAtOnceIsThatOfWhatATemplateWillProbablyBecome(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		same  bool // the last has the id of the first
	}{
		"another name after user":              {[]string{"session opened for user anna", "session opened for user bob"}, true},
		"a number where a name was":            {[]string{"rejected the login of user anna from 10.0.0.1", "rejected the login of user 4711 from 10.0.0.1"}, true},
		"and what is like that one":            {[]string{"session opened for user anna", "session opened for user bob", "session opened for user carl"}, true},
		"another word of a sentence":           {[]string{"the gate was opened by hand", "the gate was closed by hand"}, false},
		"another beginning":                    {[]string{"opening the gate", "closing the gate"}, false},
		"a word that the log shows to be none": {[]string{"copy to alpha ok", "copy to beta failed"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(Config{})
			var ids []uint64
			for _, l := range c.lines {
				ids = append(ids, m.Add(l).Likely)
			}
			if last := ids[len(ids)-1]; (last == ids[0]) != c.same {
				t.Errorf("%x, want the id of the first: %v", ids, c.same)
			}
		})
	}
}

// What a log shows of its places counts for more than what others did.
func TestWhatBecameOfPlacesIsLearnt(t *testing.T) {
	likely := func(m *Miner) bool {
		return m.Add("the queue north is drained now").Likely == m.Add("the queue south is drained now").Likely
	}
	if likely(New(Config{})) {
		t.Error("a word of a sentence is taken for a value though nothing was seen of the log")
	}
	m := New(Config{})
	for i := range 12 {
		for _, w := range []string{"amber", "birch", "cedar", "elm", "fir", "gum", "hazel", "ivy"} {
			// Other words in each place: the same ones would be known after the first.
			m.Add(fmt.Sprintf("the %c%c shard %s%c is moved away", 'a'+i, 'k'+i, w, 'a'+i))
		}
	}
	if !likely(m) {
		t.Error("a word of a sentence is taken for a constant though all like it were values")
	}
	w := &snapshot.Writer{}
	m.Write(w)
	again := New(Config{})
	again.Read(snapshot.NewReader(w.Data()))
	w2 := &snapshot.Writer{}
	if again.Write(w2); !bytes.Equal(w.Data(), w2.Data()) {
		t.Error("what was read is not what was written")
	}
	if !likely(again) {
		t.Error("what was learnt is forgotten with a restart")
	}
}
