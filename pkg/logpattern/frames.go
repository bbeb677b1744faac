package logpattern

import "slices"

// A value may be several words, and another number of them in the next line: names of
// people, of networks, of products. Lines that are equal but for such a place share a
// frame, the words before it and the words behind. Frames are found by comparing a new
// template with those that begin or end like it; what stands in them is counted in
// slots, as words are.

// longestPhrase is how many tokens a value inside a frame may have.
const longestPhrase = 6

// place is a part of a template: tokens[from:to].
type place struct{ from, to int }

// of is what stands in a place.
func (f place) of(tokens []token) []token { return tokens[f.from:f.to] }

// sums are of the tokens of a template, so that all its frames cost no more than their
// number.
type sums struct {
	hash   [maxTokens]uint64
	before [maxTokens + 1]uint64 // fingerprint of the tokens before
	behind [maxTokens + 1]uint64 // the same of those behind, counted from the end
	words  [maxTokens + 1]int32  // how many of the tokens before are no values
}

// sum fills the sums of tokens, which are at most maxTokens.
func (s *sums) sum(tokens []token) {
	n := len(tokens)
	s.before[0], s.behind[n], s.words[0] = 0, 0, 0
	for p, t := range tokens {
		s.hash[p] = hashOf(t)
		s.before[p+1] = s.before[p] + lengthHash + mixHash(s.hash[p], p)
		s.words[p+1] = s.words[p]
		if !t.value {
			s.words[p+1]++
		}
	}
	for p := n - 1; p >= 0; p-- {
		s.behind[p] = s.behind[p+1] + mixHash(s.hash[p], p-n)
	}
}

// frame names the frame around a place, in templates of any length, and says whether
// the place is short and has words on both sides, at least so many in all.
func (s *sums) frame(f place, n, least int) (key uint64, ok bool) {
	if f.to <= f.from || f.to-f.from > longestPhrase {
		return 0, false
	}
	before, after := int(s.words[f.from]), int(s.words[n]-s.words[f.to])
	return (s.before[f.from] ^ 0x51ed270b9f652295) + s.behind[f.to], before > 0 && after > 0 && before+after >= least
}

// phrase is the short hash of what stands in a place.
func (s *sums) phrase(f place) uint32 {
	h := uint64(f.to-f.from) * lengthHash
	for p := f.from; p < f.to; p++ {
		h += mixHash(s.hash[p], p-f.from)
	}
	return uint32(h)
}

// widen makes a place a value.
func (f place) widen(tokens []token) []token {
	wide := append(slices.Clone(tokens[:f.from]), token{text: wildcard, value: true, after: tokens[f.from].after})
	return collapse(append(wide, tokens[f.to:]...))
}

// differ is where two templates differ: outside of it they are equal. The values
// beside it are part of it.
func differ(a, b []token) (inA, inB place) {
	least := min(len(a), len(b))
	p, s := 0, 0
	for p < least && alike(a[p], b[p]) {
		p++
	}
	for s < least-p && alike(a[len(a)-1-s], b[len(b)-1-s]) {
		s++
	}
	if p > 0 && a[p-1].value {
		p--
	}
	if s > 0 && a[len(a)-s].value {
		s--
	}
	return place{p, len(a) - s}, place{p, len(b) - s}
}

func alike(a, b token) bool { return a.value == b.value && (a.value || a.text == b.text) }

// phraseHash is the short hash of what stands in a place, of a single word that of the
// word.
func phraseHash(phrase []token) uint32 {
	if len(phrase) == 1 && !phrase[0].value {
		return wordHash(phrase[0].text)
	}
	return uint32(fingerprint(phrase))
}

// onlyValue is that of a value and nothing else.
var onlyValue = phraseHash([]token{{value: true}})

// hasName says whether a word of a phrase looks like one of a name: written like one, or
// with a capital where no sentence begins.
func hasName(phrase []token) bool {
	for p, t := range phrase {
		if !t.value && !isUpper(t.text) && (identifier(t.text) || isCapital(rune(t.text[0])) && (p > 0 || t.after != ':')) {
			return true
		}
	}
	return false
}

// isClause says whether a phrase says something of a value that is in it, instead of
// being one: invalid user <*>.
func isClause(phrase []token) bool {
	n := constants(phrase)
	return n > 0 && n < len(phrase) && !hasName(phrase)
}

// endKeys are those of the slots of templates that begin, and that end, alike.
func endKeys(tokens []token) [2]uint64 {
	n := len(tokens)
	return [2]uint64{
		(mix(tokens[0], 0) + mix(tokens[1], 1)) ^ 0x2545f4914f6cdd1d,
		(mix(tokens[n-2], 0) + mix(tokens[n-1], 1)) ^ 0x9e6c63d0676a9a99,
	}
}

// learnFrames compares a new template with the latest that begin or end like it, and
// says whether it became wider.
func (m *Miner) learnFrames(i int32, tokens []token) bool {
	if len(tokens) <= m.limits.frame {
		return false
	}
	m.sums.sum(tokens)
	for _, key := range endKeys(tokens) {
		s := m.makeSlot(key)
		for _, j := range slices.Backward(s.members) {
			if j = m.root(j); j != i && m.learnFrame(i, j, tokens) {
				return true
			}
		}
		if !slices.Contains(s.members, i) {
			if len(s.members) >= most {
				s.members = slices.Delete(s.members, 0, 1)
			}
			s.members = append(s.members, i)
		}
	}
	return false
}

// learnFrame counts what template i has where it differs from template j, and says
// whether it became wider.
func (m *Miner) learnFrame(i, j int32, tokens []token) bool {
	others := m.templates[j].tokens
	mine, its := differ(tokens, others)
	// Outside of the place both are the same.
	key, ok := m.sums.frame(mine, len(tokens), m.limits.frame)
	if !ok || its.to <= its.from || its.to-its.from > longestPhrase {
		return false
	}
	phrase, other := mine.of(tokens), its.of(others)
	if len(phrase) == 1 && len(other) == 1 || isClause(phrase) || isClause(other) {
		return false // two words are counted elsewhere
	}
	s := m.frames.make(key, m.cfg.MaxSlots/4)
	if s.value {
		return false
	}
	if s.count(j, phraseHash(other)) && hasName(other) {
		s.named++
	}
	if s.count(i, phraseHash(phrase)) && hasName(phrase) {
		s.named++
	}
	n := len(s.words)
	// Where there was a value, one that looks like a name is enough.
	if slices.Contains(s.words, onlyValue) && (s.named > 0 || n > m.limits.seen) || n >= m.limits.phrases {
		for _, w := range s.words {
			m.phrases.add(w)
		}
		m.join(i, s, mine.widen(tokens))
		return true
	}
	return false
}

// rewriteFrame makes a value of what stands in a frame that holds values.
func (m *Miner) rewriteFrame(tokens []token) ([]token, bool) {
	n := len(tokens)
	if n <= m.limits.frame || len(m.frames[0])+len(m.frames[1]) == 0 {
		return tokens, false
	}
	m.sums.sum(tokens)
	for from := 1; from < n-1; from++ {
		if tokens[from-1].value {
			continue
		}
		for to := from + 1; to < min(n, from+longestPhrase+1); to++ {
			f := place{from, to}
			if tokens[to].value || to == from+1 && tokens[from].value {
				continue
			}
			key, ok := m.sums.frame(f, n, m.limits.frame)
			if !ok {
				continue
			}
			if s := m.frames.get(key); s != nil && s.value && !isClause(f.of(tokens)) {
				return f.widen(tokens), true
			}
		}
	}
	return tokens, false
}

// nameAll makes a template part of the one that has values where this has names that
// were found to be values elsewhere, in any number of places; and says what it is now.
func (m *Miner) nameAll(i int32) int32 {
	i = m.root(i)
	tokens := m.named(m.templates[i].tokens)
	if tokens == nil || constants(tokens) < m.limits.sentence {
		return i
	}
	if j, ok := m.byPrint[fingerprint(tokens)]; ok {
		i = m.unite(i, m.root(j))
		m.templates[i].tokens = tokens
	}
	return i
}

// named are tokens with values for the names among them; nil where there are none. What
// has a value assigned is a key, whatever it is elsewhere.
func (m *Miner) named(tokens []token) (wide []token) {
	for p := 1; p < len(tokens); p++ {
		t := tokens[p]
		if t.value || isUpper(t.text) || !m.names.has(wordHash(t.text)) || p+1 < len(tokens) && tokens[p+1].after == '=' {
			continue
		}
		if wide == nil {
			wide = slices.Clone(tokens)
		}
		wide[p].text, wide[p].value = wildcard, true
	}
	if wide != nil {
		tokens = wide
	}
	if len(m.phrases[0]) > 0 {
		m.sums.sum(tokens)
	}
	for from := 1; len(m.phrases[0]) > 0 && from < len(tokens)-1; from++ {
		for to := from + 2; to <= min(len(tokens), from+longestPhrase); to++ {
			if f := (place{from, to}); m.phrases.has(m.sums.phrase(f)) {
				wide = f.widen(tokens)
				tokens = wide
				m.sums.sum(tokens)
				break
			}
		}
	}
	if wide == nil {
		return nil
	}
	return collapse(wide)
}
