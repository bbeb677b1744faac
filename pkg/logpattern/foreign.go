package logpattern

import "strings"

// Foreign is a pattern of Loki's own miner: the text of lines, in which
// [ForeignWildcard] stands for anything. Such a pattern keeps punctuation that our
// templates lose, and our templates lose headers that it keeps; the words are what
// both have. It is immutable.
type Foreign struct {
	parts [][]string // words, between wildcards; the first and the last may be empty
	words []string   // of all parts
}

// ForeignWildcard is what stands for values in a [Foreign].
const ForeignWildcard = "<_>"

// maxForeignWords bounds what is compared of a line or a pattern. What is longer is
// like nothing: Loki's miner takes no line of more than 80 words or 3,000 bytes.
const maxForeignWords = 1024

// NewForeign reads a pattern. Each part between wildcards goes through mask, which
// does to it what was done to the lines that it is compared with.
func NewForeign(pattern string, mask func(string) string) Foreign {
	var f Foreign
	for part := range strings.SplitSeq(pattern, ForeignWildcard) {
		words := bareWords(nil, mask(part))
		f.parts = append(f.parts, words)
		f.words = append(f.words, words...)
	}
	return f
}

// Covers says whether a line is one of the pattern's: it has the pattern's words in
// their order, and others only where a wildcard is.
func (f Foreign) Covers(line string) bool {
	rest := bareWords(nil, line)
	if len(rest) > maxForeignWords || len(f.words) > maxForeignWords || len(f.words) == 0 {
		return false
	}
	last := len(f.parts) - 1
	for i, part := range f.parts {
		switch at := indexOf(rest, part); {
		case i == last:
			// The last part ends the line; the only part is all of it.
			return len(rest) >= len(part) && (i > 0 || len(rest) == len(part)) && hasPrefix(rest[len(rest)-len(part):], part)
		case at < 0 || i == 0 && at > 0:
			return false
		default:
			// The first place will do: what is skipped then could be matched later only
			// by a wildcard, which takes it here as well.
			rest = rest[at+len(part):]
		}
	}
	return false
}

// Keeps says whether the pattern has all words of a template that are the same in
// every line of it, in their order. One that has a wildcard in their stead has the
// lines of other statements, too, and its counts say nothing of this one.
func (f Foreign) Keeps(template string) bool {
	words := bareWords(nil, values.ReplaceAllString(template, " "))
	if len(words) == 0 {
		return false
	}
	for _, w := range f.words {
		if len(words) > 0 && w == words[0] {
			words = words[1:]
		}
	}
	return len(words) == 0
}

// bareWords appends the runs of letters and digits of a text: neither quotes nor
// brackets, which differ by who wrote the line down.
func bareWords(buf []string, s string) []string {
	start := -1
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80
		switch {
		case letter && start < 0:
			start = i
		case !letter && start >= 0:
			buf, start = append(buf, s[start:i]), -1
			if len(buf) > maxForeignWords {
				return buf
			}
		}
	}
	if start >= 0 {
		buf = append(buf, s[start:])
	}
	return buf
}

// indexOf is where part begins in words; -1 where it does not stand.
func indexOf(words, part []string) int {
	for i := 0; i+len(part) <= len(words); i++ {
		if hasPrefix(words[i:], part) {
			return i
		}
	}
	return -1
}

func hasPrefix(words, part []string) bool {
	if len(words) < len(part) {
		return false
	}
	for i, w := range part {
		if words[i] != w {
			return false
		}
	}
	return true
}
