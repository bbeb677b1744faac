package redact

import (
	"math/bits"
	"strings"
)

// found says what a text holds that some rule looks for: a set of rules.
type found struct {
	rules  [2]uint64 // by index into builtin
	tokens bool      // the beginning of a provider's token
	names  bool      // a sensitive name
	// provider: the name of a service, behind which a random value is a secret.
	provider bool
}

func (f *found) any() bool { return f.tokens || f.names || f.provider || f.rules[0]|f.rules[1] != 0 }

func (f *found) add(rule int) { f.rules[rule/64] |= 1 << (rule % 64) }

func (f *found) all(rules []int) {
	for _, r := range rules {
		f.add(r)
	}
}

func (f *found) each(do func(rule int)) {
	for w, set := range f.rules {
		for ; set != 0; set &= set - 1 {
			do(64*w + bits.TrailingZeros64(set))
		}
	}
}

// What a word stands for that is no rule's.
const (
	ofToken = -1 - iota // it begins a provider's token
	ofName              // it makes the key sensitive that it stands in
	ofProvider
)

// word is what to look for, in lower case, at least four bytes long.
type word struct {
	text string
	of   int // index of a rule, ofToken or ofName
}

// index finds all words of all rules in one pass: by their first four bytes,
// which a small table rules out nearly everywhere.
type index struct {
	bucket  [1 << tableBits]uint16 // of buckets; 0 is empty
	buckets [][]word
	by      [byLast][]int // rules that are tried by characters instead of words
}

const tableBits = 14

var builtinIndex = newIndex()

func newIndex() *index {
	x := &index{buckets: make([][]word, 1)}
	for i, ru := range builtin {
		for _, w := range ru.words {
			x.add(word{w, i}, afterName)
		}
		x.by[ru.by] = append(x.by[ru.by], i)
	}
	for _, t := range tokens {
		x.add(word{t.prefix, ofToken}, inToken)
	}
	for _, n := range sensitiveWords {
		x.add(word{n, ofName}, afterName)
	}
	x.add(word{keyWord, ofName}, "=:\"'\\")
	x.add(word{"pw:", ofName}, " \"'\\")
	x.add(word{"pw=", ofName}, "abcdefghijklmnopqrstuvwxyz0123456789\"'")
	for _, n := range providers {
		x.add(word{n, ofProvider}, afterName)
	}
	return x
}

// What may follow a word of three bytes, which is looked for with its next one.
const (
	afterName = " \t\r\n\f=:\"'`\\],>|?.+"
	inToken   = "abcdefghijklmnopqrstuvwxyz0123456789-_.=+/~%"
)

func (x *index) add(w word, next string) {
	if len(w.text) == 3 {
		for i := range len(next) {
			x.add(word{w.text + next[i:i+1], w.of}, "")
		}
		return
	}
	slot := slotOf(gram(w.text))
	if x.bucket[slot] == 0 {
		x.bucket[slot] = uint16(len(x.buckets))
		x.buckets = append(x.buckets, nil)
	}
	b := &x.buckets[x.bucket[slot]]
	*b = append(*b, w)
}

func gram(s string) uint32 {
	return uint32(s[0])<<24 | uint32(s[1])<<16 | uint32(s[2])<<8 | uint32(s[3])
}

func slotOf(g uint32) uint32 { return g * 0x9e3779b1 >> (32 - tableBits) }

// scan looks at each byte of s once.
func (x *index) scan(s string) (f found) {
	var g uint32
	run, long := 0, 0 // of digits, spaces and hyphens between them aside; of letters and digits
	for i := range len(s) {
		c := lowered[s[i]]
		g = g<<8 | uint32(c)
		switch kindOf[c] {
		case aLetter:
			run = 0
			if long++; long == 16 {
				f.all(x.by[byLong])
			}
		case aDigit:
			if run++; run == 13 {
				f.all(x.by[byDigits])
			}
			if long++; long == 16 {
				f.all(x.by[byLong])
			}
		case aGap:
			if c == ' ' && long == 4 && i >= 9 && s[i-5] == ' ' && groups(s[i-9:i]) {
				f.all(x.by[byGroups])
			}
			long = 0
		case aSign:
			run, long = 0, 0
			f.all(x.by[bySign[c]])
		default:
			run, long = 0, 0
			if c == '(' && i+1 < len(s) && kindOf[s[i+1]] == aDigit {
				f.all(x.by[byParen])
			}
		}
		if at := x.bucket[slotOf(g)]; at != 0 && i >= 3 {
			f.words(x.buckets[at], s, i-3)
		}
	}
	return f
}

// words notes those of some words that stand at s[i:].
func (f *found) words(ws []word, s string, i int) {
	for _, w := range ws {
		if !hasWord(s, i, w.text) {
			continue
		}
		switch w.of {
		case ofToken:
			f.tokens = true
		case ofName:
			f.names = true
		case ofProvider:
			f.provider = true
		default:
			f.add(w.of)
		}
	}
}

const (
	aLetter = iota + 1
	aDigit
	aGap // a space or a hyphen
	aSign
)

var bySign = [256]by{'@': byAt, '+': byPlus, '~': byTilde, '%': byPercent}

var kindOf = func() (t [256]uint8) {
	for c := 'a'; c <= 'z'; c++ {
		t[c] = aLetter
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = aDigit
	}
	for c, b := range bySign {
		if b != byWords {
			t[c] = aSign
		}
	}
	t[' '], t['-'] = aGap, aGap
	return t
}()

var lowered = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if i >= 'A' && i <= 'Z' {
			t[i] += 'a' - 'A'
		}
	}
	return t
}()

// hasWord says whether a lower-case word stands at s[i:], in whatever case.
func hasWord(s string, i int, w string) bool {
	if i+len(w) > len(s) {
		return false
	}
	for j := range len(w) {
		if lowered[s[i+j]] != w[j] {
			return false
		}
	}
	return true
}

// contains makes a condition of a rule.
func contains(part string) func(string) bool {
	return func(s string) bool { return strings.Contains(s, part) }
}

// groups says whether two groups of four capitals and digits stand in s, a blank
// between them, the first of which could begin the number of an account.
func groups(s string) bool {
	for i := range len(s) {
		if c := s[i]; i != 4 && (c < '0' || c > '9') && !isCapital(c) {
			return false
		}
	}
	return isCapital(s[0]) && isCapital(s[1]) && !isCapital(s[2]) && !isCapital(s[3])
}
