package logpattern

import (
	"cmp"
	"slices"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// Write writes the state.
func (m *Miner) Write(w *snapshot.Writer) {
	w.Uint(m.lines)
	for _, o := range m.odds {
		w.Float(o.values)
		w.Float(o.words)
	}
	m.names.write(w)
	m.phrases.write(w)
	w.Uint(uint64(len(m.templates)))
	for _, t := range m.templates {
		w.Fixed(t.id)
		w.Uint(uint64(t.parent))
		w.Uint(uint64(t.level))
		w.Uint(t.count)
		w.Fixed(t.owner)
		w.Uint(t.used)
		w.Bool(t.coarse)
		w.Uint(uint64(t.like))
		w.Uint(uint64(len(t.tokens)))
		for _, k := range t.tokens {
			w.String(k.text)
			w.Bool(k.value)
			w.Uint(uint64(k.after))
			w.Bool(k.cue)
		}
	}
	w.Uint(uint64(len(m.byPrint)))
	for _, fp := range keys(m.byPrint) {
		w.Fixed(fp)
		w.Uint(uint64(m.byPrint[fp]))
	}
	for _, gen := range m.generations() {
		w.Uint(uint64(len(gen)))
		for _, key := range keys(gen) {
			s := gen[key]
			w.Fixed(key)
			w.Bool(s.value)
			w.Uint(uint64(s.named))
			w.Uint(uint64(s.asked))
			w.Uint(uint64(s.context))
			w.Uint(uint64(len(s.words)))
			for _, x := range s.words {
				w.Uint(uint64(x))
			}
			w.Uint(uint64(len(s.members)))
			for _, x := range s.members {
				w.Uint(uint64(x))
			}
		}
	}
}

// generations are those of all slots.
func (m *Miner) generations() [4]map[uint64]*slot {
	return [...]map[uint64]*slot{m.slots[0], m.slots[1], m.frames[0], m.frames[1]}
}

func keys[K cmp.Ordered, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Read reads the state into a miner that was just made.
func (m *Miner) Read(r *snapshot.Reader) {
	*m = *New(m.cfg)
	m.lines = r.Uint()
	for i := range m.odds {
		m.odds[i].values, m.odds[i].words = r.Float(), r.Float()
	}
	m.names.read(r)
	m.phrases.read(r)
	n := r.Len()
	for i := range n {
		t := template{id: r.Fixed(), parent: int32(r.Uint()), level: Level(r.Uint()), count: r.Uint(), owner: r.Fixed(), used: r.Uint(), coarse: r.Bool(), like: int32(r.Uint())}
		// A template only ever becomes part of an older one, so roots are found.
		if t.parent < 0 || int(t.parent) > i || t.like < 0 || int(t.like) > i {
			r.Fail("template is part of a younger one")
			return
		}
		for range r.Len() {
			t.tokens = append(t.tokens, token{text: r.String(), value: r.Bool(), after: byte(r.Uint()), cue: r.Bool()})
		}
		if r.Err() != nil {
			return
		}
		m.add(t)
	}
	index := func() int32 {
		i := r.Uint()
		if i >= uint64(len(m.templates)) {
			r.Fail("no such template")
			return 0
		}
		return int32(i)
	}
	for range r.Len() {
		fp := r.Fixed()
		m.byPrint[fp] = index()
	}
	for _, gen := range m.generations() {
		for range r.Len() {
			key := r.Fixed()
			s := &slot{value: r.Bool(), named: int(r.Uint() % (most + 1)), asked: uint8(r.Uint()), context: context(r.Uint() % uint64(contexts))}
			for range r.Len() {
				s.words = append(s.words, uint32(r.Uint()))
			}
			for range r.Len() {
				s.members = append(s.members, index())
			}
			if r.Err() != nil {
				return
			}
			gen[key] = s
		}
	}
	if r.Err() != nil {
		*m = *New(m.cfg)
	}
}
