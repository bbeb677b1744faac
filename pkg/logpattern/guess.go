package logpattern

// A word is a constant until enough others were seen in its place. Who takes ids
// as they are given gets another for each until then. So of a new template that
// differs from an older one in a single place it is guessed whether they will become
// one: by what became of places with the same context, in this log and, before there
// are any, in others.

// context is what tells of a place, before many words were seen in it, whether they
// are values.
type context uint8

const (
	inSentence context = iota
	atStart
	assignedTo // after an equals sign
	afterCue   // after a word that announces a name
	afterColon
	inBrackets
	inQuotes
	nameLike // the word looks like a name
	besideValue
	contexts
)

// odds are how many places of each context became values, and how many did not.
type odds [contexts]struct{ values, words float64 }

// firstOdds are those of the logs of the benchmarks, weighted as a few places.
var firstOdds = odds{
	inSentence:  {1, 4},
	atStart:     {1, 8},
	assignedTo:  {2, 2},
	afterCue:    {5, 2},
	afterColon:  {2, 3},
	inBrackets:  {1, 3},
	inQuotes:    {2, 2},
	nameLike:    {4, 2},
	besideValue: {3, 1},
}

// contextOf is that of a word.
func contextOf(t token, p int) context {
	switch {
	case p == 0:
		return atStart
	case t.after == '=':
		return assignedTo
	case t.cue && !isUpper(t.text):
		return afterCue
	case identifier(t.text):
		return nameLike
	case t.after == quoted:
		return inQuotes
	case t.after == ':':
		return afterColon
	case t.after != ' ':
		return inBrackets
	}
	return inSentence
}

// guess finds the older template that a new one is likely to become one with.
func (m *Miner) guess(i int32) {
	if m.templates[i].parent != i {
		return
	}
	tokens := m.templates[i].tokens
	if constants(tokens) < 2 {
		return
	}
	fp, best := fingerprint(tokens), 0.5
	for p, t := range tokens {
		s := m.slot(slotKey(fp, t, p))
		if s == nil || s.value {
			continue
		}
		older := m.oldest(s, i)
		if older == i {
			continue
		}
		c := contextOf(t, p)
		if t.value {
			// The others have a word where this one has a value.
			if t = m.wordAt(older, p); t.text == "" {
				continue
			}
			if c = contextOf(t, p); c != atStart && c != inSentence {
				c = besideValue
			}
		}
		if share := m.odds.share(c); share > best {
			best, m.templates[i].like = share, older
		}
		s.context = c
		s.asked = min(s.asked, 254) + 1
		m.odds[c].words++
	}
}

// wordAt is the word of a template at a place; none where its tokens are others.
func (m *Miner) wordAt(i int32, p int) token {
	if tokens := m.templates[i].tokens; p < len(tokens) && !tokens[p].value {
		return tokens[p]
	}
	return token{}
}

// oldest is the oldest template of a slot, but for one.
func (m *Miner) oldest(s *slot, but int32) int32 {
	older := but
	for _, j := range s.members {
		if r := m.root(j); r < older {
			older = r
		}
	}
	return older
}

// likely is the id of what a template is likely to become.
func (m *Miner) likely(i int32) uint64 {
	for i = m.root(i); m.templates[i].like != i; {
		i = m.root(m.templates[i].like)
	}
	return m.templates[i].id
}

// share is how many of the places of a context became values, 0 to 1.
func (o *odds) share(c context) float64 { return o[c].values / (o[c].values + o[c].words) }

// became notes that a place of which it was guessed is a value.
func (o *odds) became(s *slot) {
	if s.asked == 0 {
		return
	}
	n := float64(s.asked)
	o[s.context].values += n
	o[s.context].words = max(0, o[s.context].words-n)
	s.asked = 0
}
