package upstream

import "strings"

// InjectPromQL adds matchers to every selector of a PromQL expression: in the
// braces where there are some, behind the metric's name where there are none.
// It works on tokens: strings, comments, label lists and functions are left
// alone. An expression that PromQL refuses comes out as one that it refuses
// too. test/compat/prometheus holds it against Prometheus' own parser.
func InjectPromQL(expr, matchers string) string {
	if strings.TrimSpace(matchers) == "" {
		return expr
	}
	var out strings.Builder
	lists := 0 // depth of parentheses that hold label names
	labels := false
	for i := 0; i < len(expr); {
		c := expr[i]
		switch {
		case c == '"' || c == '\'' || c == '`':
			n := quoted(expr[i:])
			out.WriteString(expr[i : i+n])
			i += n
		case c == '#':
			n := strings.IndexByte(expr[i:], '\n')
			if n < 0 {
				n = len(expr) - i
			}
			out.WriteString(expr[i : i+n])
			i += n
		case c == '[':
			n := strings.IndexByte(expr[i:], ']')
			if n < 0 {
				n = len(expr) - i - 1
			}
			out.WriteString(expr[i : i+n+1])
			i += n + 1
		case c == '{':
			n := braced(expr[i:])
			out.WriteString(inBraces(expr[i:i+n], matchers))
			i += n
		case c == '(':
			if labels || lists > 0 {
				lists++
				labels = false
			}
			out.WriteByte(c)
			i++
		case c == ')':
			if lists > 0 {
				lists--
			}
			out.WriteByte(c)
			i++
		case isNameStart(c):
			n := 1
			for i+n < len(expr) && isName(expr[i+n]) {
				n++
			}
			word := expr[i : i+n]
			out.WriteString(word)
			i += n
			next := strings.TrimLeft(expr[i:], " \t\n\r")
			switch {
			case listKeywords[strings.ToLower(word)]:
				labels = strings.HasPrefix(next, "(")
			case lists > 0, keywords[strings.ToLower(word)], strings.HasPrefix(next, "("), strings.HasPrefix(next, "{"):
			case aggregations[strings.ToLower(word)] && listKeywords[firstWord(next)]:
			default:
				out.WriteString("{" + matchers + "}")
			}
		case c >= '0' && c <= '9' || c == '.':
			n := 1
			for i+n < len(expr) && (isName(expr[i+n]) || expr[i+n] == '.') {
				n++ // numbers and durations: 5m, 1e3, 0x1f
			}
			out.WriteString(expr[i : i+n])
			i += n
		default:
			out.WriteByte(c)
			i++
		}
	}
	return out.String()
}

// InjectLogQL adds matchers to every stream selector of a LogQL expression.
func InjectLogQL(expr, matchers string) string {
	if strings.TrimSpace(matchers) == "" {
		return expr
	}
	var out strings.Builder
	for i := 0; i < len(expr); {
		switch c := expr[i]; c {
		case '"', '`', '#':
			n := quoted(expr[i:])
			if c == '#' { // a comment, whose quotes quote nothing
				if n = strings.IndexByte(expr[i:], '\n'); n < 0 {
					n = len(expr) - i
				}
			}
			out.WriteString(expr[i : i+n])
			i += n
		case '{':
			n := braced(expr[i:])
			out.WriteString(inBraces(expr[i:i+n], matchers))
			i += n
		default:
			out.WriteByte(c)
			i++
		}
	}
	return out.String()
}

func inBraces(s, matchers string) string {
	if len(s) < 2 || !strings.HasSuffix(s, "}") {
		return s
	}
	inner := strings.TrimRight(strings.TrimSpace(s[1:len(s)-1]), ", ")
	if inner == "" {
		return "{" + matchers + "}"
	}
	return "{" + inner + ", " + matchers + "}"
}

// quoted is the length of the string literal that s begins with.
func quoted(s string) int {
	for i := 1; i < len(s); i++ {
		if s[i] == '\\' && s[0] != '`' {
			i++
			continue
		}
		if s[i] == s[0] {
			return i + 1
		}
	}
	return len(s)
}

// braced is the length of the brace group that s begins with.
func braced(s string) int {
	for i := 1; i < len(s); {
		switch s[i] {
		case '"', '\'', '`':
			i += quoted(s[i:])
		case '}':
			return i + 1
		default:
			i++
		}
	}
	return len(s)
}

func isNameStart(c byte) bool {
	return c == '_' || c == ':' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func isName(c byte) bool { return isNameStart(c) || '0' <= c && c <= '9' }

// listKeywords are followed by label names in parentheses.
var listKeywords = map[string]bool{"by": true, "without": true, "on": true, "ignoring": true, "group_left": true, "group_right": true}

// keywords are words that are no metrics.
var keywords = map[string]bool{
	"and": true, "or": true, "unless": true, "bool": true, "offset": true, "inf": true, "nan": true, "atan2": true, "anchored": true, "smoothed": true,
}

// aggregations are functions when a list of labels or parentheses follow, else
// names of metrics like any other.
var aggregations = map[string]bool{
	"sum": true, "avg": true, "min": true, "max": true, "count": true, "stddev": true, "stdvar": true, "group": true,
	"topk": true, "bottomk": true, "quantile": true, "count_values": true, "limitk": true, "limit_ratio": true,
}

// firstWord is the name that s begins with, in lower case.
func firstWord(s string) string {
	n := 0
	for n < len(s) && isName(s[n]) {
		n++
	}
	return strings.ToLower(s[:n])
}
