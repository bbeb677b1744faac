package redact

import (
	"regexp"
	"strings"
)

// span is a part of a text.
type span struct{ from, to int }

// given finds values behind a sign.
type given struct {
	s      string
	whole  bool // quotes hold all of a value, blanks and all
	line   bool // without quotes it goes to the end of the line
	mapped bool // braces hold several, each with a key of its own
	out    []span
}

// mostOfList bounds how many values of one list are looked at.
const mostOfList = 64

// at finds what is given at s[i:].
func (g *given) at(i int) {
	s := g.s
	lines := 0
	for n := 0; i < len(s) && n < farthest; n++ {
		c := s[i]
		if c == '\n' {
			lines++
		}
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != '=' {
			break
		}
		i++
	}
	from := len(g.out)
	g.one(i, 0)
	if lines > 0 && len(g.out) > from {
		// What begins a line of its own and is a key is the next one.
		if to := g.out[from].to; to < len(s) && (s[to] == ':' || s[to] == '=') || strings.IndexByte(s[g.out[from].from:to], '=') > 0 {
			g.out = g.out[:from]
		}
	}
}

// one finds a value, or those in a list, at s[i:].
func (g *given) one(i, depth int) {
	s := g.s
	if i >= len(s) || depth > 3 {
		return
	}
	if from, quote, slashes, ok := opening(s, i); ok {
		if !g.whole {
			g.word(from)
			return
		}
		to, next := closing(s, from, quote, slashes)
		if n := len(g.out); n == 0 || from >= g.out[n-1].to {
			g.out = append(g.out, span{from, to})
		}
		_ = next
		return
	}
	if !g.whole {
		g.word(i)
		return
	}
	switch c := s[i]; {
	case (c == '[' || c == '(') && i+1 < len(s):
		if to := numbers(s, i+1); to > 0 {
			g.out = append(g.out, span{i + 1, to})
			return
		}
		g.list(i+1, depth)
		return
	case c == '{' && !g.mapped && object.MatchString(s[i:min(len(s), i+longestKey)]):
		if m := wrapped.FindStringIndex(s[i:min(len(s), i+40)]); m != nil {
			g.one(i+m[1], depth+1)
		}
		return
	case c == '{' && g.mapped:
		end := len(s)
		if n := strings.IndexByte(s[i:], '}'); n >= 0 {
			end = i + n
		}
		for _, m := range inMap.FindAllStringSubmatchIndex(s[i:end], mostOfList) {
			g.out = append(g.out, span{i + m[2], i + m[3]})
		}
		return
	case isLetter(c):
		// b'…', Some("…"), string(12) "…", PASSWORD('…')
		j := i
		for j < len(s) && j < i+24 && (isWord(s[j]) || s[j] == '.' || s[j] == ':') {
			j++
		}
		if j == i+1 || j == i+2 {
			if _, _, _, ok := opening(s, j); ok && strings.IndexByte("bBuUrRfF", c) >= 0 {
				g.one(j, depth+1)
				return
			}
		}
		if j < len(s) && (s[j] == '(' || s[j] == '[') {
			if k := j + 1; s[i:j] == "Some" || s[i:j] == "Optional" || s[i:j] == "Just" {
				g.one(k, depth+1)
				return
			} else if _, _, _, ok := opening(s, k); ok {
				g.one(k, depth+1)
				return
			}
			k := j + 1
			for k < len(s) && s[k] >= '0' && s[k] <= '9' {
				k++
			}
			if k > j+1 && k+1 < len(s) && s[k] == ')' && s[k+1] == ' ' {
				g.one(k+2, depth+1)
				return
			}
		}
	}
	g.word(i)
}

// list finds what stands in quotes in a list.
func (g *given) list(i, depth int) {
	s := g.s
	for n := 0; n < mostOfList && i < len(s); n++ {
		for i < len(s) && (s[i] == ' ' || s[i] == ',' || s[i] == '\n' || s[i] == '\t') {
			i++
		}
		from, quote, slashes, ok := opening(s, i)
		if !ok {
			if n == 0 {
				before := len(g.out)
				if g.word(i); len(g.out) > before && depth < 0 {
					return
				}
			}
			return
		}
		to, next := closing(s, from, quote, slashes)
		g.out = append(g.out, span{from, to})
		i = next
	}
}

// word is what goes up to a blank, to a quote, or to what ends it.
func (g *given) word(i int) {
	s := g.s
	from, to := i, i
	if g.line {
		for to < len(s) && s[to] != '\n' && s[to] != '\r' && s[to] != '"' && s[to] != '\\' {
			to++
		}
		g.out = append(g.out, span{from, to})
		return
	}
	var open [8]byte
	depth := 0
scan:
	for ; to < len(s); to++ {
		switch c := s[to]; c {
		case ' ', '\t', '\r', '\n', '\f', '\v', '"', '\'', '`', '\\', '|':
			break scan
		case ',', ';', '&':
			if !g.whole || endsValue(s[to+1:]) {
				break scan
			}
		case '<', '>':
			if to > from || c == '>' {
				break scan
			}
			if !g.whole || strings.HasPrefix(s[to:], "</") || maskAt0.MatchString(s[to:]) || placeholder.MatchString(s[to:]) {
				break scan
			}
		case '(', '{', '[':
			if !g.whole {
				break scan
			}
			if depth < len(open) {
				open[depth] = c
			}
			depth++
		case ')', '}', ']':
			if depth == 0 {
				break scan
			}
			depth--
		}
	}
	if to < len(s) && s[from:to] == "" && s[to] == '<' {
		if m := maskAt0.FindString(s[to:]); m != "" {
			g.out = append(g.out, span{to, to + len(m)})
		}
		return
	}
	for to > from && (s[to-1] == '.' || s[to-1] == ':' || s[to-1] == '!' && !g.whole || s[to-1] == '?' || s[to-1] == ',' || s[to-1] == ';') {
		to--
	}
	g.out = append(g.out, span{from, to})
}

// object is how one begins that is no value, and wrapped one that holds it.
var (
	object  = regexp.MustCompile(`^\{\s*["'\\]*[\w.-]+["'\\]*\s*:`)
	wrapped = regexp.MustCompile(`^\{\s*["'\\]*(?:S|[Vv]alue|text|data|plaintext|raw)["'\\]*\s*:\s*`)
)

var inMap = regexp.MustCompile(`[\w.-]["'\\]*[=:]\s*["'\\]*([^\s,}"'\\]{3,})`)

// placeholder is what stands for a value that is not told.
var placeholder = regexp.MustCompile(`^<[A-Za-z][A-Za-z _'/-]*(?:\d|>)`)

// nextKey is what follows the sign that ends a value: the end, a blank, a quote, or
// the next key.
var nextKey = regexp.MustCompile(`^(?:$|[\s"'\\)\]}]|\s*[A-Za-z_$][\w .$-]{0,40}(?:[=:]|%3[Dd])|amp;)`)

func endsValue(rest string) bool { return nextKey.MatchString(rest[:min(len(rest), 64)]) }

// opening says whether a quote opens at s[i], behind however many backslashes.
func opening(s string, i int) (from int, quote byte, slashes int, ok bool) {
	j := i
	for j < len(s) && s[j] == '\\' && j < i+mostSlashes {
		j++
	}
	if j < len(s) && (s[j] == '"' || s[j] == '\'' || s[j] == '`') {
		return j + 1, s[j], j - i, true
	}
	return 0, 0, 0, false
}

// mostSlashes are those before a quote of JSON in JSON in JSON in JSON.
const mostSlashes = 15

// closing is where what stands in quotes ends, and where the text goes on. A quote
// that does not close holds the rest of its line.
func closing(s string, from int, quote byte, slashes int) (to, next int) {
	run := 0
	for i := from; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			run++
			continue
		case c == quote && run <= slashes:
			if quote == '\'' && run == 0 && i+2 < len(s) && s[i+1] == quote && i > from && (isWord(s[i+2]) || s[i+2] == quote) {
				i++ // of SQL, for one
				continue
			}
			return i - run, i + 1
		case c == '\n' && slashes == 0 && i > from+longestQuoted:
			return i, i
		}
		run = 0
	}
	to = len(s)
	if n := strings.IndexByte(s[from:], '\n'); n >= 0 {
		to = from + n
	}
	return to, to
}

// longestQuoted is how long what stands in quotes may be with line ends in it.
const longestQuoted = 4096

// numbers is where a list of bytes ends, four at least; 0: it is none.
func numbers(s string, i int) int {
	n, d := 0, 0
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c >= '0' && c <= '9' || c == 'x' || d > 0 && (c >= 'a' && c <= 'f'):
			if d == 0 {
				n++
			}
			if d++; d > 4 {
				return 0
			}
		case c == ' ' || c == ',':
			d = 0
		case c == ']' || c == '}':
			if n >= 3 {
				return i
			}
			return 0
		default:
			return 0
		}
	}
	if n >= 3 {
		return i
	}
	return 0
}

// decoded is a text in which quotes and signs stand for how they were written in
// JSON, in HTML and in URLs, each character where it was.
func decoded(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '&') < 0 && !strings.Contains(s, `\u00`) {
		return s
	}
	return writtenOtherwise.Replace(s)
}

var writtenOtherwise = strings.NewReplacer(
	`\u0022`, `\\\\\"`, `\u0027`, `\\\\\'`, `\u0026`, `    \&`, `\u003d`, `\\\\\=`, `\u003c`, `\\\\\<`, `\u003e`, `\\\\\>`,
	`&quot;`, `\\\\\"`, `&#34;`, `\\\\"`, `&#39;`, `\\\\'`, `%22`, `\\"`, `%27`, `\\'`, `%3A`, `\\:`, `%3a`, `\\:`, `%3D`, `\\=`, `%3d`, `\\=`, `%26`, `  &`, `%7B`, `\\{`, `%7D`, `\\}`,
)

// harmless says that the value behind a sensitive key is none: a word that
// states something about it, a number of tokens, a reference.
func harmless(s string) bool { return states(s) || len(s) <= 6 && digits(s) == len(s) }

// states is the same of keys whose values may be digits.
func states(s string) bool {
	l := strings.ToLower(strings.Trim(s, `.,;:!?)]}`))
	if words[l] || strings.HasPrefix(l, "{{") || strings.HasPrefix(s, "ENC[") || strings.HasPrefix(s, "%") && len(s) <= 3 {
		return true
	}
	switch {
	case strings.HasPrefix(s, "$"):
		return reference.MatchString(s)
	case strings.HasPrefix(s, "/"):
		return path.MatchString(s) && (knownRoot.MatchString(s) || !strings.ContainsAny(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
	case strings.HasPrefix(l, "http://"), strings.HasPrefix(l, "https://"), strings.HasPrefix(l, "file:"), strings.HasPrefix(l, "vault://"), strings.HasPrefix(l, "arn:"):
		return true
	case strings.HasPrefix(l, "***"), strings.HasPrefix(l, "xxx"), strings.HasPrefix(l, "..."), strings.HasPrefix(s, "•"):
		return strings.Trim(l, "*x.•·-") == ""
	}
	return l != "" && strings.Trim(l, "*<>[]() ") == ""
}

var (
	reference = regexp.MustCompile(`^\$(?:\{.*|\(.*|[A-Z_][A-Z0-9_]*|[a-z_]+)$`)
	path      = regexp.MustCompile(`^/[\w.@-]*(?:/[\w.@{}$-]*)*$`)
	knownRoot = regexp.MustCompile(`^/(?:etc|var|run|tmp|usr|opt|home|root|secrets?|vault|mnt|proc|sys|dev|app|srv|data|config|certs?|keys|api|v\d|kubernetes|registry|token|oauth2?)(?:/|$)`)
)

// said are words of sentences that no passphrase would be made of.
var said = map[string]bool{
	"is": true, "are": true, "was": true, "must": true, "be": true, "not": true, "the": true, "this": true, "field": true, "required": true, "cannot": true, "can't": true, "can": true,
	"invalid": true, "at": true, "should": true, "too": true, "has": true, "have": true, "for": true, "to": true, "in": true, "of": true, "please": true, "with": true, "and": true, "does": true,
	"expired": true, "missing": true, "no": true, "may": true, "your": true, "only": true, "an": true, "on": true, "or": true, "by": true, "from": true, "if": true, "set": true,
}

// sentence says whether a value says something about a secret.
func sentence(s string) bool {
	if strings.IndexByte(s, ' ') < 0 {
		return false
	}
	for w := range strings.FieldsSeq(s) {
		if said[strings.ToLower(strings.Trim(w, ".,;:!?()"))] {
			return true
		}
	}
	return false
}

// goesOnAsProse says whether a value without quotes is the first word of a message:
// another one follows that is no key.
func goesOnAsProse(s string, v span) bool {
	for i := v.from; i < v.to; i++ {
		if !isLetter(s[i]) && s[i] != '\'' {
			return false
		}
	}
	if v.to+1 >= len(s) || s[v.to] != ' ' && !(s[v.to] == ':' && s[v.to+1] == ' ') || strings.IndexByte(s[v.from:v.to], '\'') >= 0 {
		return v.to+1 < len(s) && s[v.to] == '\''
	}
	if s[v.to] == ':' {
		return true
	}
	rest := s[v.to+1:]
	if rest[0] == '"' || rest[0] == '/' {
		return true
	}
	end := 0
	for end < len(rest) && (isLetter(rest[end]) || rest[end] == '-') {
		end++
	}
	return end > 1 && (end == len(rest) || rest[end] == ' ' || rest[end] == '.' || rest[end] == ',' || rest[end] == ':' && end+1 < len(rest) && rest[end+1] == ' ' && (said[strings.ToLower(rest[:end])] || words[strings.ToLower(rest[:end])]))
}
