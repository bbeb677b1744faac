// Package logpattern finds the statements behind log lines: it groups lines
// into templates online, one line after the other, in bounded memory, and the
// same lines in the same order give the same templates.
//
// A line is cut to its message, its words that cannot be constant become
// values, and what is left is looked up by a fingerprint. A line that is new
// is compared with others that differ in one word: a place in which many
// different words were seen is a value too, and the templates that differ in
// it become one. How many are many depends on what stands around them.
package logpattern

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Version changes when the same lines may be found to be other statements than
// before: state of another version is not read, and the past is learnt again.
const Version = "5"

// Config bounds a miner.
type Config struct {
	// MaxTemplates is how many templates are kept; beyond it new lines fall into
	// coarse classes by length and first word. Of one owner a quarter as many are
	// kept, see [Miner.AddFor]. Default: 10000.
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
	slots     slots
	frames    slots // places in which several words may stand
	buf       []token
	limits    limits
	united    uint64 // how many templates became part of others

	lines   uint64         // folded so far
	owner   uint64         // of the line that is being folded
	made    map[uint64]int // templates by owner, those that became part of others too
	classes int            // templates that are coarse classes
	odds    odds
	names   names
	phrases names // of several words
	memo    timeMemo
	sums    sums // of the template that is looked at
}

// template is one statement, or one that became part of another.
type template struct {
	id     uint64
	parent int32 // index of the template it became part of; its own when it stands
	tokens []token
	level  Level
	count  uint64
	owner  uint64 // who was the first to log it
	used   uint64 // the last line of it, as a number of Miner.lines
	coarse bool
	like   int32 // the older template that it is likely to become one with; its own index for none
}

// Match is what a line was found to be.
type Match struct {
	// ID is that of the template; the same for its whole life.
	ID uint64
	// Likely is the id of the template that this one will probably become part of,
	// by what became of its like; mostly ID. It is for who cannot wait.
	Likely uint64
	New    bool  // the first line of its template
	Level  Level // that the line states
}

// New makes an empty miner.
func New(cfg Config) *Miner {
	if cfg.MaxTemplates <= 0 {
		cfg.MaxTemplates = 10_000
	}
	if cfg.MaxSlots <= 0 {
		cfg.MaxSlots = 32_768
	}
	return &Miner{cfg: cfg, byPrint: map[uint64]int32{}, byID: map[uint64]int32{}, made: map[uint64]int{}, names: newNames(), phrases: newNames(), slots: newSlots(), frames: newSlots(), limits: usual, odds: firstOdds}
}

// Add folds one raw line.
func (m *Miner) Add(line string) Match {
	text, level := cut(line, &m.memo)
	return m.AddContent(text, level)
}

// AddFor folds a line of an owner, such as a workload. Templates are shared, but
// one owner makes a quarter of them at most: the next lines that it alone would
// need some for fall into coarse classes by their length, so that one that never
// says the same twice takes nobody's place. Owner 0 is nobody's.
func (m *Miner) AddFor(owner uint64, line string) Match {
	m.owner = owner
	defer func() { m.owner = 0 }()
	return m.Add(line)
}

// share is how many templates one owner may make.
func (m *Miner) share() int { return max(1, m.cfg.MaxTemplates/4) }

// longestMessage is how much of a message is looked at, in bytes.
const longestMessage = 16 << 10

// AddContent folds one message that has no header.
func (m *Miner) AddContent(text string, level Level) Match {
	m.lines++
	m.buf = tokenize(m.buf, text[:min(len(text), longestMessage)])
	fp := fingerprint(m.buf)
	if i, ok := m.byPrint[fp]; ok {
		return m.hit(i, level)
	}
	return m.miss(fp, level)
}

// settled is how many lines of a template tell enough of it to take others in.
const settled = 8

// hit counts a line of a template.
func (m *Miner) hit(i int32, level Level) Match {
	i = m.root(i)
	t := &m.templates[i]
	t.count++
	t.used = m.lines
	t.level = max(t.level, level)
	if t.count&(t.count-1) == 0 && !t.coarse {
		i = m.lookAgain(i)
		t = &m.templates[i]
	}
	return Match{ID: t.id, Likely: m.likely(i), Level: level}
}

// lookAgain looks at a template that has twice as many lines as it had the last time,
// and says what it has become.
func (m *Miner) lookAgain(i int32) int32 {
	if m.templates[i].count >= settled {
		m.settle(i)
	}
	return m.nameAll(i)
}

// miss handles a line whose fingerprint is new.
func (m *Miner) miss(fp uint64, level Level) Match {
	announce(m.buf)
	tokens := m.rewrite(m.buf)
	fp2 := fingerprint(tokens)
	if i, ok := m.byPrint[fp2]; ok {
		m.remember(fp, i)
		return m.hit(i, level)
	}
	id := identity(tokens)
	if i, ok := m.byID[id]; ok {
		// It was seen before, and its fingerprint forgotten.
		m.remember(fp, i)
		return m.hit(i, level)
	}
	if len(m.templates)-m.classes >= m.cfg.MaxTemplates {
		return m.coarse(fp, level, m.buf[:min(len(m.buf), 1)])
	}
	if m.owner != 0 && m.made[m.owner] >= m.share() {
		return m.coarse(fp, level, nil)
	}
	own := slices.Clone(tokens)
	for i := range own {
		own[i].text = strings.Clone(own[i].text)
	}
	i := int32(len(m.templates))
	m.add(template{id: id, parent: i, like: i, tokens: own, level: level, count: 1, owner: m.owner, used: m.lines})
	m.remember(fp, i)
	m.remember(fp2, i)
	m.learn(i)
	m.nameAll(i)
	m.guess(i)
	if root := m.root(i); root != i {
		// It is one more line of a template, which may have become wider by it.
		return Match{ID: m.templates[root].id, Likely: m.likely(i), Level: level}
	}
	return Match{ID: m.templates[i].id, Likely: m.likely(i), New: true, Level: level}
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
			if m.templates[j].coarse { // it is found by its id
				m.byPrint[m.templates[j].id] = int32(j)
				continue
			}
			m.byPrint[fingerprint(m.templates[j].tokens)] = int32(j)
		}
	}
	m.byPrint[fp] = i
}

// coarse is where lines go when there are too many templates: by length and, where
// that is given, first word. It makes at most as many classes again.
func (m *Miner) coarse(fp uint64, level Level, first []token) Match {
	head := wildcard
	if len(first) > 0 {
		head = first[0].text
	}
	key := xxhash.Sum64String(fmt.Sprintf("coarse %d %s", min(len(m.buf), 64), head))
	if m.classes >= m.cfg.MaxTemplates {
		key = xxhash.Sum64String("coarse")
	}
	if i, ok := m.byPrint[key]; ok {
		m.remember(fp, i)
		return m.hit(i, level)
	}
	i := int32(len(m.templates))
	tokens := []token{{text: strings.Clone(head)}, {text: wildcard, value: true}}
	m.add(template{id: key, parent: i, like: i, tokens: tokens, level: level, count: 1, used: m.lines, coarse: true})
	m.byPrint[key] = i
	m.remember(fp, i)
	return Match{ID: key, Likely: key, New: true, Level: level}
}

func (m *Miner) root(i int32) int32 {
	for m.templates[i].parent != i {
		i = m.templates[i].parent
	}
	return i
}

// fingerprint is an additive hash, so that leaving one word out is a
// subtraction.
func fingerprint(tokens []token) uint64 {
	fp := uint64(len(tokens)) * lengthHash
	for p := range tokens {
		fp += mix(tokens[p], p)
	}
	return fp
}

const lengthHash = 0x9e3779b97f4a7c15

func mix(t token, p int) uint64 { return mixHash(hashOf(t), p) }

func hashOf(t token) uint64 {
	if t.value {
		return valueHash
	}
	return xxhash.Sum64String(t.text)
}

func mixHash(h uint64, p int) uint64 {
	h ^= uint64(p+1) * 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>29
}

var valueHash = xxhash.Sum64String(wildcard)

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
	if t.coarse {
		m.classes++
	} else if t.owner != 0 {
		m.made[t.owner]++
	}
}

// Resolve is the id that a template has now: its own, or that of the one it
// became part of. Ids that are not known are returned as they are.
func (m *Miner) Resolve(id uint64) uint64 {
	if i, ok := m.byID[id]; ok {
		return m.templates[m.root(i)].id
	}
	return id
}

// United is how many templates became part of others since the miner was made
// or read back: while it stays the same, so does what Resolve says.
func (m *Miner) United() uint64 { return m.united }

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
