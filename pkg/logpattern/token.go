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

// quoted is what stands before a token that is several words in quotes.
const quoted = 'q'

// ending are the signs that end a sentence, not a word.
var ending = bytesOf(".!?-:")

const (
	// maxTokens bounds what is looked at of one line.
	maxTokens = 128
	// longestWord is how long a word of a statement is; what is longer is data.
	longestWord = 128
	// longestGroup and deepestGroup bound what is taken as one value by the
	// brackets or quotes around it, so that a line of brackets costs no more
	// than another.
	longestGroup = 2000
	deepestGroup = 32
)

// isCue says whether a word announces a name that may be anything.
func isCue(w string) bool {
	if len(w) > 9 {
		return false
	}
	var b [9]byte
	switch string(lower(b[:], w)) {
	case "user", "for", "from", "by", "to", "host", "node", "pod", "service", "namespace", "container", "on", "name", "called", "named", "id", "key":
		return true
	}
	return false
}

// wildcard is what stands for a value in a template.
const wildcard = "<*>"

// tokenize appends the tokens of a line to buf, with neighbouring values
// collapsed to one.
func tokenize(buf []token, s string) []token {
	buf = buf[:0]
	after, assignments := byte(' '), 0
	for i := 0; i < len(s) && len(buf) < maxTokens; {
		c := s[i]
		kinds := kindOf[c]
		if kinds == 0 {
			if c == ' ' {
				i++
				continue
			}
			if end, ok := groupValue(s, i, after); ok && (len(buf) > 0 || c != '"') {
				// Of node[1-3,7] the word is part of the value, as it is of node3.
				if n := len(buf); c == '[' && n > 0 && !buf[n-1].value && nameByte(s[i-1]) && ranged(s[i+1:end-1]) {
					buf = push(buf[:n-1], token{text: wildcard, value: true, after: buf[n-1].after})
					i, after = end, ' '
					continue
				}
				if (c == '"' || c == '\'') && said(s[i+1:end-1], after) {
					buf = append(buf, token{text: s[i+1 : end-1], after: quoted})
					i, after = end, ' '
					continue
				}
				buf = push(buf, token{text: wildcard, value: true, after: after})
				i, after = end, ' '
				continue
			}
			if c == '=' && assigns(s, i) {
				// Whatever is assigned is a value, and so is nothing. A single word may
				// be a state, and has to show that it varies.
				end := assigned(s, i+1)
				t := token{text: strings.TrimLeft(s[i+1:end], " "), after: c}
				if !plain(t.text) {
					t.text, t.value = wildcard, true
				}
				buf = push(buf, t)
				i, after = end, ' '
				assignments++
				continue
			}
			if c != '\t' {
				after = c
			}
			i++
			continue
		}
		j := i + 1
		for ; j < len(s) && kindOf[s[j]] != 0; j++ {
			kinds |= kindOf[s[j]]
		}
		word := s[i:j]
		if kinds&slashByte != 0 && located(word) {
			// What is addressed goes on to the next space, with its parameters.
			i = until(s, j)
			buf = push(buf, token{text: wildcard, value: true, after: after})
			after = ' '
			if s[i-1] == ':' {
				after = ':'
			}
			continue
		}
		i = j
		if kinds&colonByte == 0 {
			buf = pushWord(buf, word, after, kinds)
			after = ' '
			continue
		}
		// A colon inside splits key:value, but not addresses and times.
		if k := strings.IndexByte(word, ':'); k > 0 && k < len(word)-1 && !looksLikeValue(word) && !looksLikeValue(word[:k]) {
			buf = pushWord(buf, word[:k], after, kindsOf(word[:k]))
			buf = pushWord(buf, word[k+1:], ':', kindsOf(word[k+1:]))
			after = ' '
			continue
		}
		tail := byte(' ')
		if strings.HasSuffix(word, ":") {
			tail = ':'
		}
		buf = pushWord(buf, word, after, kinds)
		after = tail
	}
	if assignments < record {
		return buf
	}
	return assignedAll(buf)
}

// record is how many assigned values make a line a record, of which each is one.
const record = 8

// assignedAll makes values of all that a record assigns.
func assignedAll(buf []token) []token {
	values, words := 0, 0
	for i := range buf {
		if buf[i].after == '=' {
			if buf[i].value {
				values++
			} else {
				words++
			}
		}
	}
	if values < record || words == 0 {
		return buf
	}
	for i := range buf {
		if buf[i].after == '=' {
			buf[i].text, buf[i].value = wildcard, true
		}
	}
	return collapse(buf)
}

// plain says whether a text is one word of letters, other than true and yes and such.
func plain(w string) bool {
	for i := range len(w) {
		if c := w[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return w != "" && !isLiteral(w) && !isSwitch(w)
}

// isSwitch says whether a word says yes or no of what is before it. In small letters
// after a colon it begins a sentence: no such file.
func isSwitch(w string) bool {
	if len(w) < 2 || len(w) > 3 {
		return false
	}
	var b [3]byte
	switch string(lower(b[:], w)) {
	case "yes", "no":
		return true
	}
	return false
}

// located says whether a word is the beginning of an address: a URL, or a path
// from a root.
func located(w string) bool {
	return w[0] == '/' && len(w) > 1 || strings.Contains(w, "://") || len(w) > 2 && w[1] == ':' && w[2] == '\\'
}

// until is where the text ends that goes on without a space or a quote.
func until(s string, i int) int {
	for i < len(s) && strings.IndexByte(" \t\"'<>)]}", s[i]) < 0 && (s[i] != ',' && s[i] != ';' || i+1 < len(s) && s[i+1] != ' ') {
		i++
	}
	return i
}

// assigns says whether the = at s[i] follows a key: a word that is no value.
func assigns(s string, i int) bool {
	return i > 0 && (wordByte(s[i-1]) || s[i-1] == ')' || s[i-1] == ']' || s[i-1] == ' ' && i > 1 && wordByte(s[i-2])) && (i+1 >= len(s) || s[i+1] != '=')
}

// assigned is where the value ends that begins at s[i]: quoted, in brackets, or
// up to a separator.
func assigned(s string, i int) int {
	if i < len(s) && s[i] == ' ' {
		// "key = value" has one, "key= other=1" none.
		if i < 2 || s[i-2] != ' ' {
			return i
		}
		i++
	}
	if i >= len(s) {
		return i
	}
	if end, ok := closing(s, i); ok {
		return end
	}
	for i < len(s) && s[i] != ' ' && s[i] != '\t' && s[i] != ',' && s[i] != ';' && s[i] != ')' && s[i] != ']' && s[i] != '}' && s[i] != '"' && s[i] != '|' {
		if end, ok := closing(s, i); ok && s[i] != '\'' {
			i = end // Type{…}, f(…)
			continue
		}
		i++
	}
	return i
}

// closing finds the end of what is quoted or in brackets from s[i] on.
func closing(s string, i int) (end int, ok bool) {
	open := s[i]
	if open == '"' || open == '\'' || open == '`' {
		for j := i + 1; j < min(len(s), i+longestGroup); j++ {
			switch s[j] {
			case '\\':
				j++
			case open:
				return j + 1, true
			}
		}
		return 0, false
	}
	if open != '(' && open != '[' && open != '{' {
		return 0, false
	}
	depth := 0
	for j := i; j < min(len(s), i+longestGroup) && depth < deepestGroup; j++ {
		switch s[j] {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			if depth--; depth == 0 {
				return j + 1, true
			}
		}
	}
	return 0, false
}

// groupValue finds the end of what is a value by what surrounds it: quoted
// words, lists, dumps of objects, and nothing in brackets.
func groupValue(s string, i int, after byte) (end int, ok bool) {
	switch s[i] {
	case '"', '\'', '`':
		if i > 0 && (nameByte(s[i-1]) || s[i-1] >= 0x80) {
			return 0, false // it's
		}
		end, ok = closing(s, i)
		if !ok || end < len(s) && nameByte(s[end]) {
			return 0, false
		}
		// A name in quotes is a value, and so is what is said after a key. Of what is
		// said elsewhere only words are one thing; a request has a method.
		in := s[i+1 : end-1]
		return end, after == ':' || strings.IndexByte(in, ' ') < 0 || said(in, ' ')
	case '[', '{', '(':
		end, ok = closing(s, i)
		if !ok {
			return 0, false
		}
		in := s[i+1 : end-1]
		if strings.TrimSpace(in) == "" || s[i] == '(' && coded(in) {
			return end, true
		}
		// What is joined to a word is its arguments, or what it holds.
		if i > 0 && nameByte(s[i-1]) && (s[i] != '(' || !plain(in)) {
			return end, true
		}
		return end, after == ':' && (s[i] != '(' || s[i-1] == ':') || listed(in)
	}
	return 0, false
}

// said says whether a text in quotes is a few words, none of which is a value,
// and follows no key.
func said(in string, after byte) bool {
	if after == ':' || len(in) > longestWord || strings.IndexByte(in, ' ') < 0 {
		return false
	}
	for i := range len(in) {
		if c := in[i]; !nameByte(c) && strings.IndexByte(" -.,>", c) < 0 || c >= '0' && c <= '9' {
			return false
		}
	}
	return true
}

// coded says whether a text is a number and what it means: 13: Permission denied.
func coded(in string) bool {
	i := strings.IndexByte(in, ':')
	return i > 0 && digits(in[:i])
}

// ranged says whether a text is of numbers and ranges of them: 1-3,7.
func ranged(in string) bool {
	for i := range len(in) {
		if c := in[i]; (c < '0' || c > '9') && c != '-' && c != ',' {
			return false
		}
	}
	return strings.ContainsAny(in, "-,") && anyDigit(in)
}

// listed says whether what is in brackets is a list, not a remark: commas, and
// hardly more spaces than those that follow one.
func listed(in string) bool {
	commas, gaps, depth := 0, 0, 0 // what is in brackets of its own is one item
	for i := range len(in) {
		switch {
		case in[i] == '(' || in[i] == '[' || in[i] == '{':
			depth++
		case in[i] == ')' || in[i] == ']' || in[i] == '}':
			depth--
		case depth > 0:
		case in[i] == ',':
			commas++
		case in[i] == ' ' && i > 0 && in[i-1] != ',' && in[i-1] != ' ' && in[i-1] != ':' && in[i-1] != '=':
			gaps++
		}
	}
	return commas > 0 && gaps <= commas
}

// pushWord appends a word that has these kinds of bytes.
func pushWord(buf []token, word string, after byte, kinds kinds) []token {
	for word != "" && ending[word[len(word)-1]] {
		word = word[:len(word)-1]
	}
	for word != "" && (word[0] == '-' || word[0] == ':') {
		word = word[1:]
	}
	if word == "" {
		return buf
	}
	t := token{text: word, after: after}
	if kinds&digitByte != 0 || kinds&^(hexByte|letterByte) != 0 && looksLikeValue(word) || lettersAreValue(word, kinds) || after == ':' && isUpper(word) && isSwitch(word) || isLiteral(word) && (after == ':' || after == '[' || len(buf) > 0 && !strings.EqualFold(word, "none")) {
		t.text, t.value = wildcard, true
	} else if n := len(buf); n > 0 && buf[n-1].value && isUnit(word) {
		return buf // 5 KB is one value
	}
	return push(buf, t)
}

// announce marks the words that a word before them announces, which only matters
// for a line that was not seen before.
func announce(buf []token) {
	for i := range buf {
		t := &buf[i]
		t.cue = i > 0 && !t.value && t.after != '=' && t.after != quoted && !buf[i-1].value && isCue(buf[i-1].text)
	}
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
// text: it holds a digit, is a path, long hexadecimal, an address, a date word.
func looksLikeValue(w string) bool {
	switch kinds := kindsOf(w); {
	case kinds&digitByte != 0:
		return true
	case kinds&^(hexByte|letterByte) == 0 && w != "":
		return lettersAreValue(w, kinds)
	}
	slashes, dots, hex, letters := 0, 0, true, false
	for i := range len(w) {
		switch c := w[i]; {
		case c >= '0' && c <= '9', c == '@' && i > 0:
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
	case hex && len(w) >= 8, len(w) > longestWord:
		return true
	case slashes >= 2 || w[0] == '/' || strings.HasPrefix(w, "./"):
		return true
	case dots >= 2 && isDNS(w), dots >= 3:
		return true
	}
	return isDateWord(w)
}

// lettersAreValue says so of a word that has no other bytes.
func lettersAreValue(w string, kinds kinds) bool {
	return kinds == hexByte && len(w) >= 8 || len(w) > longestWord || isDateWord(w)
}

// identifier says whether a word looks like a name of something rather than a
// word of a sentence: parts that are joined, or a capital after a small letter.
func identifier(w string) bool {
	for i := 1; i < len(w)-1; i++ {
		switch c := w[i]; {
		case c == '.' || c == '_' || c == '-' || c == '/' || c == '$' || c == '\\':
			return true
		case c >= 'A' && c <= 'Z' && w[i-1] >= 'a' && w[i-1] <= 'z':
			return true
		}
	}
	return false
}

func isDNS(w string) bool {
	last := w[strings.LastIndexByte(w, '.')+1:]
	return len(last) >= 2 && len(last) <= 8 && !strings.ContainsFunc(w, isCapital)
}

// isDateWord says whether a word is a month, a day of the week or a zone. May is
// a verb too.
func isDateWord(w string) bool {
	if len(w) != 3 {
		return false
	}
	switch w {
	case "Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
		"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "UTC", "GMT":
		return true
	}
	return false
}

// literalByte are the bytes that a literal may begin with.
var literalByte = bytesOf("tfnTFN")

// isLiteral says whether a word is a value of every language. None is a word of
// sentences too.
func isLiteral(w string) bool {
	if len(w) < 3 || len(w) > 5 || !literalByte[w[0]] {
		return false
	}
	var b [5]byte
	switch string(lower(b[:], w)) {
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

func isCapital(r rune) bool { return r >= 'A' && r <= 'Z' }

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}
