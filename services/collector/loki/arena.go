package loki

import "strings"

// arena keeps many short texts in few allocations. They are not parts of one text of
// all: who keeps one for long keeps arenaBytes of others at most.
type arena struct {
	b    *strings.Builder
	from int // of the text that is being written
}

const arenaBytes = 32 << 10

// room is where a text of at most n bytes is written. Without an arena it is a text
// by itself.
func (a *arena) room(n int) *strings.Builder {
	if a == nil || n > arenaBytes/4 {
		b := &strings.Builder{}
		b.Grow(n)
		return b
	}
	if a.b == nil || a.b.Cap()-a.b.Len() < n {
		a.b = &strings.Builder{}
		a.b.Grow(arenaBytes)
	}
	a.from = a.b.Len()
	return a.b
}

// kept is the text that was written to what room gave.
func (a *arena) kept(b *strings.Builder) string {
	if a == nil || b != a.b {
		return b.String()
	}
	return b.String()[a.from:]
}

// keep copies a text.
func (a *arena) keep(s []byte) string {
	if a == nil {
		return string(s)
	}
	b := a.room(len(s))
	b.Write(s)
	return a.kept(b)
}
