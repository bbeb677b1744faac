// Package logpattern finds the statements behind log lines: it groups lines
// into templates online, one line after the other, in bounded memory, and the
// same lines in the same order give the same templates.
//
// A line is cut to its message, its words that cannot be constant become
// values, and what is left is looked up by a fingerprint. A line that is new
// is compared with others that differ in one word: a place in which many
// different words were seen is a value too, and the templates that differ in
// it become one.
package logpattern

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// Config bounds a miner.
type Config struct {
	// MaxTemplates is how many templates are kept; beyond it new lines fall into
	// coarse classes by length and first word. Default: 10000.
	MaxTemplates int
	// MaxSlots bounds the places in which words are counted; the oldest half is
	// forgotten when it is full. Default: 32768.
	MaxSlots int
}

// Miner holds templates. It is not safe for concurrent use.
type Miner struct {
	cfg       Config
	byPrint   map[uint64]int32 // fingerprint of masked tokens → template
	templates []template
	slots     [2]map[uint64]*slot // new and old generation
	buf       []token
}

// template is one statement, or one that became part of another.
type template struct {
	id     uint64
	parent int32 // index of the template it became part of; its own when it stands
	tokens []token
	level  Level
	count  uint64
}

// slot is a place in lines that are equal but for it.
type slot struct {
	words   []uint32 // short hashes of the distinct words seen
	members []int32
	value   bool // any word may stand here
}

// Match is what a line was found to be.
type Match struct {
	ID    uint64 // of the template; the same for its whole life
	New   bool   // the first line of its template
	Level Level  // that the line states
}

// New makes an empty miner.
func New(cfg Config) *Miner {
	if cfg.MaxTemplates <= 0 {
		cfg.MaxTemplates = 10_000
	}
	if cfg.MaxSlots <= 0 {
		cfg.MaxSlots = 32_768
	}
	return &Miner{cfg: cfg, byPrint: map[uint64]int32{}, slots: [2]map[uint64]*slot{{}, {}}}
}

// Add folds one raw line.
func (m *Miner) Add(line string) Match {
	text, level := Content(line)
	return m.AddContent(text, level)
}

// AddContent folds one message that has no header.
func (m *Miner) AddContent(text string, level Level) Match {
	m.buf = tokenize(m.buf, text)
	fp := fingerprint(m.buf)
	if i, ok := m.byPrint[fp]; ok {
		root := m.root(i)
		t := &m.templates[root]
		t.count++
		t.level = max(t.level, level)
		return Match{ID: t.id, Level: level}
	}
	return m.miss(fp, level)
}

// miss handles a line whose fingerprint is new.
func (m *Miner) miss(fp uint64, level Level) Match {
	tokens := m.rewrite(m.buf)
	fp2 := fingerprint(tokens)
	if i, ok := m.byPrint[fp2]; ok {
		m.remember(fp, i)
		root := m.root(i)
		m.templates[root].count++
		return Match{ID: m.templates[root].id, Level: level}
	}
	if len(m.templates) >= m.cfg.MaxTemplates {
		return m.coarse(fp, level)
	}
	own := slices.Clone(tokens)
	for i := range own {
		own[i].text = strings.Clone(own[i].text)
	}
	i := int32(len(m.templates))
	m.templates = append(m.templates, template{id: identity(own), parent: i, tokens: own, level: level, count: 1})
	m.remember(fp, i)
	m.remember(fp2, i)
	if into := m.learn(i, fp2); into >= 0 {
		// It is one more line of a template whose place has just become a value.
		t := &m.templates[m.root(into)]
		return Match{ID: t.id, Level: level}
	}
	return Match{ID: m.templates[i].id, New: true, Level: level}
}

// remember maps a fingerprint to a template. The map is bounded by dropping
// everything but the templates' own fingerprints.
func (m *Miner) remember(fp uint64, i int32) {
	if len(m.byPrint) > 16*m.cfg.MaxTemplates {
		clear(m.byPrint)
		for j := range m.templates {
			if j >= m.cfg.MaxTemplates { // a coarse class is found by its id
				m.byPrint[m.templates[j].id] = int32(j)
				continue
			}
			m.byPrint[fingerprint(m.templates[j].tokens)] = int32(j)
		}
	}
	m.byPrint[fp] = i
}

// coarse is where lines go when there are too many templates: by length and
// first word. It makes at most as many classes again.
func (m *Miner) coarse(fp uint64, level Level) Match {
	head := "<*>"
	if len(m.buf) > 0 {
		head = m.buf[0].text
	}
	key := xxhash.Sum64String(fmt.Sprintf("coarse %d %s", len(m.buf), head))
	if len(m.templates) >= 2*m.cfg.MaxTemplates {
		key = xxhash.Sum64String("coarse")
	}
	if i, ok := m.byPrint[key]; ok {
		m.remember(fp, i)
		return Match{ID: m.templates[m.root(i)].id, Level: level}
	}
	i := int32(len(m.templates))
	tokens := []token{{text: strings.Clone(head)}, {text: "<*>", value: true}}
	m.templates = append(m.templates, template{id: key, parent: i, tokens: tokens, level: level, count: 1})
	m.byPrint[key] = i
	m.remember(fp, i)
	return Match{ID: key, New: true, Level: level}
}

// rewrite turns the places of a line into values that were found to be such,
// until nothing changes.
func (m *Miner) rewrite(tokens []token) []token {
	for range 8 {
		fp := fingerprint(tokens)
		changed := false
		for p := range tokens {
			if tokens[p].value {
				continue
			}
			if s := m.slot(slotKey(fp, tokens[p], p)); s != nil && s.value {
				tokens[p].text, tokens[p].value = "<*>", true
				changed = true
				break
			}
		}
		if !changed {
			return tokens
		}
		tokens = collapse(tokens)
	}
	return tokens
}

// collapse joins neighbouring values.
func collapse(tokens []token) []token {
	out := tokens[:0]
	for _, t := range tokens {
		out = push(out, t)
	}
	return out
}

// learn counts a new template in the slots of its words, and joins the
// templates of a slot that has seen enough words. It returns the template
// that the new one became part of, or -1.
func (m *Miner) learn(i int32, fp uint64) int32 {
	tokens := m.templates[i].tokens
	words := 0
	for _, t := range tokens {
		if !t.value {
			words++
		}
	}
	if words < 2 {
		return -1 // the only word of a line is what the line says
	}
	into := int32(-1)
	for p, t := range tokens {
		if t.value {
			continue
		}
		s := m.makeSlot(slotKey(fp, t, p))
		w := uint32(xxhash.Sum64String(t.text))
		if !slices.Contains(s.words, w) && len(s.words) < 16 {
			s.words = append(s.words, w)
			s.members = append(s.members, i)
		}
		if s.value || len(s.words) < enough(tokens, p) {
			continue
		}
		s.value = true
		into = m.join(s.members, p)
		s.members = nil
	}
	if into >= 0 && m.root(i) != i {
		return into
	}
	return -1
}

// enough is how many distinct words make a place a value, by what stands
// before it: after an equals sign few values are states, plain text is nearly
// always constant.
func enough(tokens []token, p int) int {
	t := tokens[p]
	switch {
	case p == 0:
		return 12
	case t.after == '=':
		return 5
	case t.cue && t.text != strings.ToUpper(t.text):
		return 3
	case t.after == ':':
		return 6
	case strings.IndexByte("[(<{", t.after) >= 0:
		return 5
	case strings.ContainsAny(t.text, ".@"):
		return 4
	}
	return 8
}

// join makes templates one: the oldest, with place p a value.
func (m *Miner) join(members []int32, p int) int32 {
	root := m.root(members[0])
	for _, i := range members[1:] {
		root = min(root, m.root(i))
	}
	for _, i := range members {
		if r := m.root(i); r != root {
			m.templates[r].parent = root
			m.templates[root].count += m.templates[r].count
			m.templates[root].level = max(m.templates[root].level, m.templates[r].level)
		}
	}
	t := &m.templates[root]
	if p < len(t.tokens) {
		t.tokens[p].text, t.tokens[p].value = "<*>", true
		t.tokens = collapse(t.tokens)
	}
	m.remember(fingerprint(t.tokens), root)
	return root
}

func (m *Miner) root(i int32) int32 {
	for m.templates[i].parent != i {
		i = m.templates[i].parent
	}
	return i
}

func (m *Miner) slot(key uint64) *slot {
	if s, ok := m.slots[0][key]; ok {
		return s
	}
	if s, ok := m.slots[1][key]; ok {
		m.slots[0][key] = s
		delete(m.slots[1], key)
		return s
	}
	return nil
}

func (m *Miner) makeSlot(key uint64) *slot {
	if s := m.slot(key); s != nil {
		return s
	}
	if len(m.slots[0]) >= m.cfg.MaxSlots {
		m.slots[1], m.slots[0] = m.slots[0], map[uint64]*slot{}
	}
	s := &slot{}
	m.slots[0][key] = s
	return s
}

// fingerprint is an additive hash, so that leaving one word out is a
// subtraction.
func fingerprint(tokens []token) uint64 {
	fp := uint64(len(tokens)) * 0x9e3779b97f4a7c15
	for p := range tokens {
		fp += mix(tokens[p], p)
	}
	return fp
}

func mix(t token, p int) uint64 {
	h := valueHash
	if !t.value {
		h = xxhash.Sum64String(t.text)
	}
	h ^= uint64(p+1) * 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>29
}

var valueHash = xxhash.Sum64String("<*>")

func slotKey(fp uint64, t token, p int) uint64 {
	return fp - mix(t, p) + uint64(p+1)*0xd6e8feb86659fd93
}

// identity is the id of a template: a hash of its words when it was first
// seen, so that the same statement has the same id in every partition that
// saw it first in the same form.
func identity(tokens []token) uint64 {
	var d xxhash.Digest
	d.Reset()
	for _, t := range tokens {
		_, _ = d.WriteString(t.text)
		_, _ = d.Write([]byte{0xff})
	}
	return d.Sum64()
}

// Resolve is the id that a template has now: its own, or that of the one it
// became part of. Ids that are not known are returned as they are.
func (m *Miner) Resolve(id uint64) uint64 {
	for i := range m.templates {
		if m.templates[i].id == id {
			return m.templates[m.root(int32(i))].id
		}
	}
	return id
}

// Template is the text of a template with <*> for values; "" when it is not
// known.
func (m *Miner) Template(id uint64) string {
	for i := range m.templates {
		if m.templates[i].id == id {
			return text(m.templates[m.root(int32(i))].tokens)
		}
	}
	return ""
}

// Len is how many templates stand for themselves.
func (m *Miner) Len() int {
	n := 0
	for i := range m.templates {
		if m.templates[i].parent == int32(i) {
			n++
		}
	}
	return n
}

func text(tokens []token) string {
	var b strings.Builder
	for i, t := range tokens {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(t.text)
	}
	return b.String()
}

// Write writes the state.
func (m *Miner) Write(w *snapshot.Writer) {
	w.Uint(uint64(len(m.templates)))
	for _, t := range m.templates {
		w.Fixed(t.id)
		w.Uint(uint64(t.parent))
		w.Uint(uint64(t.level))
		w.Uint(t.count)
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
	for _, gen := range m.slots {
		w.Uint(uint64(len(gen)))
		for _, key := range keys(gen) {
			s := gen[key]
			w.Fixed(key)
			w.Bool(s.value)
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

func keys[V any](m map[uint64]V) []uint64 {
	out := make([]uint64, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Read reads the state into a miner that was just made.
func (m *Miner) Read(r *snapshot.Reader) {
	*m = *New(m.cfg)
	n := r.Len()
	for i := range n {
		t := template{id: r.Fixed(), parent: int32(r.Uint()), level: Level(r.Uint()), count: r.Uint()}
		// A template only ever becomes part of an older one, so roots are found.
		if t.parent < 0 || int(t.parent) > i {
			r.Fail("template is part of a younger one")
			return
		}
		for range r.Len() {
			t.tokens = append(t.tokens, token{text: r.String(), value: r.Bool(), after: byte(r.Uint()), cue: r.Bool()})
		}
		if r.Err() != nil {
			return
		}
		m.templates = append(m.templates, t)
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
	for g := range m.slots {
		for range r.Len() {
			key := r.Fixed()
			s := &slot{value: r.Bool()}
			for range r.Len() {
				s.words = append(s.words, uint32(r.Uint()))
			}
			for range r.Len() {
				s.members = append(s.members, index())
			}
			if r.Err() != nil {
				return
			}
			m.slots[g][key] = s
		}
	}
	if r.Err() != nil {
		*m = *New(m.cfg)
	}
}
