package logpattern

import (
	"slices"
	"strings"
)

// slot is a place in lines that are equal but for it: a word, or all that
// follows a colon.
type slot struct {
	words   []uint32 // short hashes of what was seen there, all different
	members []int32  // the templates that it was seen in
	named   int      // how many of the words look like names
	value   bool     // anything may stand here
	asked   uint8    // how often it was guessed that it is one
	context context  // of the last guess
}

// limits are how many different words at a place make it a value.
type limits struct {
	// Words of a sentence, in one with as many constant words beside it as
	// context; one word less for each more, but not less than least: the longer
	// two sentences are, the less it is chance that they differ in one word.
	plain, context, least int

	first    int // the first word, which is what lines are told apart by
	assigned int // after an equals sign, where few words are states
	known    int // where all are names that were found to be values elsewhere
	cued     int // after a word that announces a name
	name     int // where half of the words look like names
	joined   int // where all do, and are joined by signs: web_1.example, shop/cart
	colon    int // after a colon
	bracket  int // in brackets, or several in quotes
	tail     int // texts after a colon, up to the end

	// Where a value was seen in an otherwise equal sentence of at least sentence
	// constant words, seen words are enough.
	seen, sentence int

	// Around a value of several words are at least frame constant words, and phrases
	// different ones make it a value.
	frame, phrases int
}

// usual are the limits for every log. Which they are matters little: limits drawn
// at random are nearly as good (docs/benchmarks.md).
var usual = limits{plain: 6, context: 3, least: 3, first: 12, assigned: 4, known: 2, cued: 3, name: 3, joined: 2, colon: 6, bracket: 5, tail: 12, seen: 2, sentence: 3, frame: 3, phrases: 5}

// of is the limit for the words of a slot at place p.
func (l *limits) of(s *slot, tokens []token, p int) int {
	t := tokens[p]
	switch {
	case p == 0 || p == 1 && tokens[0].value:
		return l.first
	case t.after == '=':
		return l.assigned
	case t.cue && !isUpper(t.text):
		return l.cued
	case s.named == len(s.words) && compound(t.text) && !isUpper(t.text):
		return l.joined
	case 2*s.named >= len(s.words) && !isUpper(t.text):
		return l.name
	case t.after == ':':
		return l.colon
	case strings.IndexByte("[(<{", t.after) >= 0, t.after == quoted:
		return l.bracket
	}
	if isUpper(t.text) {
		return l.first // a state, an operation of a protocol
	}
	return max(l.least, l.plain-max(0, constants(tokens)-1-l.context))
}

// compound says whether the parts of a name are joined by signs that no sentence has
// inside a word.
func compound(w string) bool {
	for i := 1; i < len(w)-1; i++ {
		if c := w[i]; c == '.' || c == '_' || c == '/' || c == '$' || c == '\\' {
			return true
		}
	}
	return false
}

// constants counts the words that are no values.
func constants(tokens []token) int {
	n := 0
	for i := range tokens {
		if !tokens[i].value {
			n++
		}
	}
	return n
}

// rewrite turns the places of a line into values that were found to be such,
// until nothing changes.
func (m *Miner) rewrite(tokens []token) []token {
	for range 8 {
		for p := tail(tokens, 2); p > 0; p = tail(tokens, p+1) {
			if s := m.slot(tailKey(tokens, p)); s != nil && s.value {
				tokens = collapse(append(tokens[:p], token{text: wildcard, value: true, after: ':'}))
				break
			}
		}
		fp := fingerprint(tokens)
		changed := false
		for p := range tokens {
			if tokens[p].value {
				continue
			}
			if s := m.slot(slotKey(fp, tokens[p], p)); s != nil && s.value {
				m.names.add(wordHash(tokens[p].text))
				tokens[p].text, tokens[p].value = wildcard, true
				changed = true
				break
			}
		}
		if !changed {
			if tokens, changed = m.rewriteFrame(tokens); !changed {
				return tokens
			}
			continue
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

// learn counts a new template in its slots, and joins the templates of a slot in
// which words vary. What has become wider by that is learnt again.
func (m *Miner) learn(i int32) {
	for range 8 {
		i = m.root(i)
		tokens := m.templates[i].tokens
		if constants(tokens) < 2 {
			return // the only word of a line is what the line says
		}
		if !m.learnTail(i, tokens) && !m.learnWords(i, tokens) && !m.learnFrames(i, tokens) {
			return
		}
	}
}

// learnWords counts the words of a template, and says whether it became wider.
func (m *Miner) learnWords(i int32, tokens []token) bool {
	fp, words := fingerprint(tokens), constants(tokens)
	for p, t := range tokens {
		if t.value {
			continue
		}
		s := m.makeSlot(slotKey(fp, t, p))
		if s.count(i, wordHash(t.text)) && identifier(t.text) {
			s.named++
		}
		if s.value || len(s.words) < m.limits.of(s, tokens, p) && !m.valueSeen(s, tokens, p, fp, words) && !m.known(s, tokens, p) {
			continue
		}
		m.join(i, s, widened(tokens, p))
		return true
	}
	return false
}

// widened are tokens with a value at place p.
func widened(tokens []token, p int) []token {
	wide := slices.Clone(tokens)
	wide[p].text, wide[p].value = wildcard, true
	return collapse(wide)
}

// known says whether the words of a slot at place p are enough names to be values: one
// more where a line begins, which is what lines are told apart by. A state in capitals
// is none.
func (m *Miner) known(s *slot, tokens []token, p int) bool {
	n := m.limits.known
	if p == 0 {
		n++
	}
	return len(s.words) >= n && !isUpper(tokens[p].text) && m.names.all(s.words)
}

// settle looks at a template again that has more lines now. It takes in those that
// have a word where it has a value, once it has more lines than they: that is a value
// then, and no state. And a word of it is a value if it was learnt since
// that all in its place are names.
func (m *Miner) settle(i int32) {
	tokens := m.templates[i].tokens
	if constants(tokens) < m.limits.sentence {
		return
	}
	fp := fingerprint(tokens)
	for p, t := range tokens {
		s := m.slot(slotKey(fp, t, p))
		switch {
		case s == nil || s.value:
			continue
		case t.value && p > 0 && m.linesOf(s) < m.templates[i].count:
			m.join(i, s, tokens)
		case !t.value && m.known(s, tokens, p):
			m.join(i, s, widened(tokens, p))
		default:
			continue
		}
		m.learn(m.root(i))
		return
	}
}

// linesOf is how many lines the templates of a slot have.
func (m *Miner) linesOf(s *slot) (n uint64) {
	for _, j := range s.members {
		n += m.templates[m.root(j)].count
	}
	return n
}

// valueSeen says whether there is a template that is the same but for a value
// at place p, and whether that makes values of the words of the slot. The tokens have
// this fingerprint, and so many words.
func (m *Miner) valueSeen(s *slot, tokens []token, p int, fp uint64, words int) bool {
	t := tokens[p]
	beside := p > 0 && tokens[p-1].value || p+1 < len(tokens) && tokens[p+1].value
	// One word is enough where that has a value instead of it, and one that looks like a
	// name where that has nothing but the value beside it; a state in capitals is never.
	if words <= m.limits.sentence || len(s.words) < m.limits.seen && (isUpper(t.text) || beside && !identifier(t.text)) {
		return false
	}
	if beside {
		fp = fingerprint(widened(tokens, p))
	} else {
		fp += mixHash(valueHash, p) - mix(t, p)
	}
	_, ok := m.byPrint[fp]
	return ok
}

// learnTail counts what follows a colon of a template, whatever its length, and
// says whether it became wider.
func (m *Miner) learnTail(i int32, tokens []token) bool {
	for p := tail(tokens, 2); p > 0; p = tail(tokens, p+1) {
		s := m.makeSlot(tailKey(tokens, p))
		s.count(i, uint32(fingerprint(tokens[p:])))
		if s.value || len(s.words) < m.limits.tail {
			continue
		}
		m.join(i, s, collapse(append(slices.Clone(tokens[:p]), token{text: wildcard, value: true, after: ':'})))
		return true
	}
	return false
}

// tail is where the next text begins, from place p on, that follows a colon
// after at least two constant words and has one itself; 0 when there is none.
func tail(tokens []token, p int) int {
	for ; p < len(tokens); p++ {
		if tokens[p].after == ':' && constants(tokens[:p]) >= 2 && constants(tokens[p:]) > 0 {
			return p
		}
	}
	return 0
}

// most is how many words are kept of a slot; every limit is lower.
const most = 16

// count notes a word of a template, and says whether it is another one.
func (s *slot) count(i int32, word uint32) bool {
	if s.value || len(s.words) >= most || slices.Contains(s.words, word) {
		return false
	}
	s.words, s.members = append(s.words, word), append(s.members, i)
	return true
}

// join makes a slot a value, and template i, the members of the slot and what
// is then the same one template with these tokens.
func (m *Miner) join(i int32, s *slot, tokens []token) {
	s.value = true
	m.odds.became(s)
	for _, w := range s.words {
		m.names.add(w)
	}
	tokens = m.rewrite(tokens)
	root := m.root(i)
	for _, j := range s.members {
		root = m.unite(root, m.root(j))
	}
	s.members = nil
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
	m.united++
	root, gone := min(a, b), max(a, b)
	t, g := &m.templates[root], &m.templates[gone]
	g.parent, g.tokens = root, nil
	t.count += g.count
	t.used = max(t.used, g.used)
	t.level = max(t.level, g.level)
	return root
}

// slots are places by their key, the new and the old generation: the old one is
// forgotten when the new is full.
type slots [2]map[uint64]*slot

func newSlots() slots { return slots{{}, {}} }

// get is a slot that there is; nil for none.
func (g *slots) get(key uint64) *slot {
	if s, ok := g[0][key]; ok {
		return s
	}
	if s, ok := g[1][key]; ok {
		g[0][key] = s
		delete(g[1], key)
		return s
	}
	return nil
}

// make is a slot that there is now.
func (g *slots) make(key uint64, most int) *slot {
	if s := g.get(key); s != nil {
		return s
	}
	if len(g[0]) >= most {
		g[1], g[0] = g[0], map[uint64]*slot{}
	}
	s := &slot{}
	g[0][key] = s
	return s
}

func (m *Miner) slot(key uint64) *slot { return m.slots.get(key) }

func (m *Miner) makeSlot(key uint64) *slot { return m.slots.make(key, m.cfg.MaxSlots) }

func slotKey(fp uint64, t token, p int) uint64 {
	return fp - mix(t, p) + uint64(p+1)*0xd6e8feb86659fd93
}

func tailKey(tokens []token, p int) uint64 {
	return fingerprint(tokens[:p]) ^ 0x9fb21c651e98df25
}
