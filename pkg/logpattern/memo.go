package logpattern

// timeMemo remembers the timestamp that the last line began with: the next has its
// digits in the same places, mostly, and then is read the same. It changes no result.
type timeMemo struct {
	stamp stamp
	text  [40]byte // of the line, up to the end of the timestamp
	n     int
	next  byte // what followed it
}

// find is findTime.
func (m *timeMemo) find(s string) (stamp, bool) {
	if m == nil {
		return findTime(s)
	}
	if m.n > 0 && m.fits(s) {
		return m.stamp, true
	}
	t, ok := findTime(s)
	// Of a date and a time of six digits each it matters what follows.
	if ok && t.begin == 0 && t.clock && !t.compact && int(t.end) <= len(m.text) && endsThere(s, int(t.end)) {
		m.stamp, m.n, m.next = t, copy(m.text[:], s[:t.end]), s[t.end]
	}
	return t, ok
}

// fits says whether a line begins like the last: with the same bytes, or digits where
// that had some.
func (m *timeMemo) fits(s string) bool {
	if !endsThere(s, m.n) || s[m.n-1] != ' ' && s[m.n] != m.next {
		return false
	}
	for i := range m.n {
		if a, b := s[i], m.text[i]; a != b && (a-'0' > 9 || b-'0' > 9) {
			return false
		}
	}
	return true
}

// endsThere says whether a timestamp that ends before s[n] does so whatever follows:
// no other word of it begins there, and its last goes no further.
func endsThere(s string, n int) bool {
	return n > 0 && n < len(s) && s[n] != ' ' && !timeByte[s[n]] && !zoneByte(s[n]) && (s[n-1] == ' ' || endsTime[s[n]])
}
