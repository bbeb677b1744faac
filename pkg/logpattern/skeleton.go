package logpattern

// Skeletons says which lines look alike at first sight: without what was learnt
// of others, and so the same at any time and in any order. It is not safe for
// concurrent use.
type Skeletons struct{ buf []token }

// Of is a hash of what is constant in a line: the words of its message that can
// be no values. Lines of one statement may have several, lines of two seldom the
// same.
func (s *Skeletons) Of(line string) uint64 {
	text, _ := Content(line)
	s.buf = tokenize(s.buf, text[:min(len(text), longestMessage)])
	return fingerprint(s.buf)
}
