package logpattern

import "strings"

// A line is cut into words; what stands between words is not kept, because
// punctuation tells values apart more often than statements.

// token is one word of a line, or a value.
type token struct {
	text  string
	value bool // stands for anything: a number, an address, a path
	after byte // the last separator before it that is not a space; ' ' for none
	cue   bool // the word before it announces a name: user, from, host
}

// wordByte are the bytes that words are made of.
var wordByte = func() (t [256]bool) {
	for c := range 256 {
		b := byte(c)
		t[c] = b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b >= 0x80 ||
			strings.IndexByte("_-./$@#%+~*\\&?!^:", b) >= 0
	}
	return t
}()

// maxTokens bounds what is looked at of one line.
const maxTokens = 128

// cues announce a name that may be anything.
var cues = map[string]bool{
	"user": true, "for": true, "from": true, "by": true, "to": true, "host": true, "node": true, "pod": true,
	"service": true, "namespace": true, "container": true, "on": true, "name": true, "called": true, "named": true, "id": true, "key": true,
}

// tokenize appends the tokens of a line to buf, with neighbouring values
// collapsed to one.
func tokenize(buf []token, s string) []token {
	buf = buf[:0]
	after := byte(' ')
	for i := 0; i < len(s) && len(buf) < maxTokens; {
		c := s[i]
		if !wordByte[c] {
			if c == '"' || c == '\'' {
				if end, ok := quotedValue(s, i, after); ok {
					buf = push(buf, token{text: "<*>", value: true, after: after})
					i, after = end, ' '
					continue
				}
			}
			if c != ' ' && c != '\t' {
				after = c
			}
			i++
			continue
		}
		j := i + 1
		for j < len(s) && wordByte[s[j]] {
			j++
		}
		word := s[i:j]
		i = j
		// A colon inside splits key:value, but not addresses and times.
		if k := strings.IndexByte(word, ':'); k > 0 && k < len(word)-1 && !looksLikeValue(word) && !looksLikeValue(word[:k]) {
			buf = pushWord(buf, word[:k], after)
			buf = pushWord(buf, word[k+1:], ':')
			after = ' '
			continue
		}
		tail := byte(' ')
		if strings.HasSuffix(word, ":") {
			tail = ':'
		}
		buf = pushWord(buf, word, after)
		after = tail
	}
	return buf
}

// quotedValue finds the end of a quoted text that follows = or :, which is a
// value whatever is in it.
func quotedValue(s string, i int, after byte) (end int, ok bool) {
	if after != '=' && after != ':' {
		return 0, false
	}
	q := s[i]
	for j := i + 1; j < len(s); j++ {
		switch s[j] {
		case '\\':
			j++
		case q:
			return j + 1, true
		}
	}
	return 0, false
}

func pushWord(buf []token, word string, after byte) []token {
	word = strings.TrimRight(word, ".!?-:")
	word = strings.TrimLeft(word, "-:")
	if word == "" {
		return buf
	}
	t := token{text: word, after: after}
	if n := len(buf); n > 0 && !buf[n-1].value {
		t.cue = cues[strings.ToLower(buf[n-1].text)]
	}
	if looksLikeValue(word) || after == '=' && isLiteral(word) {
		t.text, t.value = "<*>", true
	} else if n := len(buf); n > 0 && buf[n-1].value && isUnit(word) {
		return buf // 5 KB is one value
	}
	return push(buf, t)
}

// push appends a token, or nothing when it continues a value: lists of any
// length are one thing.
func push(buf []token, t token) []token {
	if n := len(buf); t.value && n > 0 && buf[n-1].value {
		return buf
	}
	return append(buf, t)
}

// looksLikeValue says whether a word cannot be part of a statement's constant
// text: it holds a digit, is a path, long hexadecimal, a DNS name, a date word.
func looksLikeValue(w string) bool {
	slashes, dots, hex, letters := 0, 0, true, false
	for i := range len(w) {
		switch c := w[i]; {
		case c >= '0' && c <= '9':
			return true
		case c == '/':
			slashes++
			hex = false
		case c == '.':
			dots++
			hex = false
		case c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F':
			letters = true
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			letters, hex = true, false
		case c >= 0x80:
			letters, hex = true, false
		default:
			hex = false
		}
	}
	switch {
	case !letters:
		return true // nothing but signs
	case hex && len(w) >= 8:
		return true
	case slashes >= 2 || w[0] == '/' || strings.HasPrefix(w, "./"):
		return true
	case dots >= 2 && isDNS(w):
		return true
	}
	return dateWords[w]
}

func isDNS(w string) bool {
	last := w[strings.LastIndexByte(w, '.')+1:]
	return len(last) >= 2 && len(last) <= 5 && w == strings.ToLower(w)
}

var dateWords = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields("Jan Feb Mar Apr Jun Jul Aug Sep Oct Nov Dec Mon Tue Wed Thu Fri Sat Sun UTC GMT") {
		m[w] = true
	}
	return m
}()

func isLiteral(w string) bool {
	switch strings.ToLower(w) {
	case "true", "false", "null", "nil", "none":
		return true
	}
	return false
}

func isUnit(w string) bool {
	switch w {
	case "B", "KB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "bytes", "ms", "us", "ns", "s", "sec", "secs", "seconds", "minutes", "hours":
		return true
	}
	return false
}
