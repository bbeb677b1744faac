package logpattern

import (
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Likeness compares templates with one: by the words that they have in common, and
// the pairs of words that follow each other.
type Likeness struct {
	parts map[uint32]int
	n     int
}

// AtLeastLike is a likeness below which two templates have nothing to do with each
// other, mostly.
const AtLeastLike = 0.6

// NewLikeness prepares the comparison with a template.
func NewLikeness(template string) *Likeness {
	l := &Likeness{parts: map[uint32]int{}}
	l.n = eachPart(template, func(part uint32) { l.parts[part]++ })
	return l
}

// To is how much alike another template is, 0 to 1; 1 for one with the same words in
// the same order. A template of one word is like none.
func (l *Likeness) To(template string) float64 {
	common, used := 0, map[uint32]int{}
	n := eachPart(template, func(part uint32) {
		if used[part] < l.parts[part] {
			used[part]++
			common++
		}
	})
	if l.n < 3 || n < 3 {
		return 0
	}
	return 2 * float64(common) / float64(l.n+n)
}

// eachPart calls f with the words of a template and their pairs, without values,
// and says how many there are.
func eachPart(template string, f func(uint32)) (n int) {
	before := ""
	for word := range strings.FieldsSeq(values.ReplaceAllString(template, " ")) {
		word = strings.ToLower(word)
		f(uint32(xxhash.Sum64String(word)))
		n++
		if before != "" {
			f(uint32(xxhash.Sum64String(before + " " + word)))
			n++
		}
		before = word
	}
	return n
}
