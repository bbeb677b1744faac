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
	byID      map[uint64]int32 // template by its first identity
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
	return &Miner{cfg: cfg, byPrint: map[uint64]int32{}, byID: map[uint64]int32{}, slots: [2]map[uint64]*slot{{}, {}}}
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
	id := identity(tokens)
	if j, ok := m.byID[id]; ok {
		// It was seen before, and its fingerprint forgotten.
		root := m.root(j)
		m.remember(fp, root)
		m.templates[root].count++
		return Match{ID: m.templates[root].id, Level: level}
	}
	own := slices.Clone(tokens)
	for i := range own {
		own[i].text = strings.Clone(own[i].text)
	}
	i := int32(len(m.templates))
	m.add(template{id: id, parent: i, tokens: own, level: level, count: 1})
	m.remember(fp, i)
	m.remember(fp2, i)
	m.learn(i)
	if root := m.root(i); root != i {
		// It is one more line of a template, which may have become wider by it.
		return Match{ID: m.templates[root].id, Level: level}
	}
	return Match{ID: m.templates[i].id, New: true, Level: level}
}

// remember maps a fingerprint to a template. The map is bounded by dropping
// everything but the templates' own fingerprints.
func (m *Miner) remember(fp uint64, i int32) {
	if len(m.byPrint) > 16*m.cfg.MaxTemplates {
		clear(m.byPrint)
		for j := range m.templates {
			if m.templates[j].parent != int32(j) {
				continue
			}
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
	head := wildcard
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
	tokens := []token{{text: strings.Clone(head)}, {text: wildcard, value: true}}
	m.add(template{id: key, parent: i, tokens: tokens, level: level, count: 1})
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
				tokens[p].text, tokens[p].value = wildcard, true
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

// learn counts a template in the slots of its words, and joins the templates of
// a slot in which words vary. What has become wider by that is learnt again.
func (m *Miner) learn(i int32) {
	for range 8 {
		i = m.root(i)
		wider := false
		tokens := m.templates[i].tokens
		words := 0
		for _, t := range tokens {
			if !t.value {
				words++
			}
		}
		if words < 2 {
			return // the only word of a line is what the line says
		}
		fp := fingerprint(tokens)
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
			m.join(i, s.members, p)
			s.members = nil
			wider = true
			break // its tokens are others now
		}
		if !wider {
			return
		}
	}
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
	case t.cue && !isUpper(t.text):
		return 3
	case identifier(t.text):
		return 4
	case t.after == ':':
		return 6
	case strings.IndexByte("[(<{", t.after) >= 0:
		return 5
	}
	return 8
}

// join makes template i and the members of its slot one, with place p a value,
// and with what is then the same.
func (m *Miner) join(i int32, members []int32, p int) {
	tokens := slices.Clone(m.templates[i].tokens)
	tokens[p].text, tokens[p].value = wildcard, true
	tokens = m.rewrite(collapse(tokens))
	root := m.root(i)
	for _, j := range members {
		root = m.unite(root, m.root(j))
	}
	fp := fingerprint(tokens)
	if j, ok := m.byPrint[fp]; ok {
		root = m.unite(root, m.root(j))
	}
	m.templates[root].tokens = tokens
	m.remember(fp, root)
}

// unite makes two templates one: the older.
func (m *Miner) unite(a, b int32) int32 {
	if a == b {
		return a
	}
	root, gone := min(a, b), max(a, b)
	t, g := &m.templates[root], &m.templates[gone]
	g.parent, g.tokens = root, nil
	t.count += g.count
	t.level = max(t.level, g.level)
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

var valueHash = xxhash.Sum64String(wildcard)

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

// add appends a template.
func (m *Miner) add(t template) {
	m.byID[t.id] = int32(len(m.templates))
	m.templates = append(m.templates, t)
}

// Resolve is the id that a template has now: its own, or that of the one it
// became part of. Ids that are not known are returned as they are.
func (m *Miner) Resolve(id uint64) uint64 {
	if i, ok := m.byID[id]; ok {
		return m.templates[m.root(i)].id
	}
	return id
}

// Template is the text of a template with <*> for values; "" when it is not
// known.
func (m *Miner) Template(id uint64) string {
	if i, ok := m.byID[id]; ok {
		return text(m.templates[m.root(i)].tokens)
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
