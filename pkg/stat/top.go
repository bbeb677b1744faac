package stat

import (
	"strings"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// Top counts the texts that come most often, in room for so many (the
// space-saving algorithm of Metwally and others, 2005): a text that has no place
// takes that of the rarest, with its count, by which it may be overestimated.
type Top struct {
	N     uint64 // all that was counted
	Texts []TopText
}

// TopText is a text that comes often: at most N times, and at least N-Over.
type TopText struct {
	Text    string
	N, Over uint32
}

// Add counts a text in room for so many others. The text is copied.
func (t *Top) Add(text string, room int) {
	t.N++
	for i := range t.Texts {
		if t.Texts[i].Text == text {
			t.Texts[i].N++
			return
		}
	}
	if len(t.Texts) < room {
		t.Texts = append(t.Texts, TopText{Text: strings.Clone(text), N: 1})
		return
	}
	rarest := 0
	for i := range t.Texts {
		if t.Texts[i].N < t.Texts[rarest].N {
			rarest = i
		}
	}
	n := t.Texts[rarest].N
	t.Texts[rarest] = TopText{Text: strings.Clone(text), N: n + 1, Over: n}
}

// Sure is the share of what was counted that is certainly of the texts that are
// kept, 0 to 1: near 1 where few texts are all there is.
func (t *Top) Sure() float64 {
	if t.N == 0 {
		return 0
	}
	n := uint64(0)
	for _, x := range t.Texts {
		n += uint64(x.N - x.Over)
	}
	return float64(n) / float64(t.N)
}

// Write writes the state.
func (t *Top) Write(w *snapshot.Writer) {
	w.Uint(t.N)
	w.Uint(uint64(len(t.Texts)))
	for _, x := range t.Texts {
		w.String(x.Text)
		w.Uint(uint64(x.N))
		w.Uint(uint64(x.Over))
	}
}

// Read reads the state.
func (t *Top) Read(r *snapshot.Reader) {
	*t = Top{N: r.Uint()}
	for range r.Len() {
		t.Texts = append(t.Texts, TopText{r.String(), uint32(r.Uint()), uint32(r.Uint())})
	}
}
