package logpattern

import (
	"strings"
)

// Level is the severity that a line states of itself.
type Level uint8

// The levels, from harmless to worst.
const (
	Unknown Level = iota
	Debug
	Info
	Warning
	Error
	Fatal
)

// String is the level in lower case; "unknown" when the line does not say.
func (l Level) String() string {
	return [...]string{"unknown", "debug", "info", "warning", "error", "fatal"}[min(l, Fatal)]
}

// levelOf reads a word as a level.
func levelOf(w string) Level {
	if len(w) < 1 || len(w) > 11 {
		return Unknown
	}
	switch strings.ToLower(w) {
	case "trace", "debug", "dbg", "fine", "finer", "finest":
		return Debug
	case "info", "inf", "information", "notice", "log":
		return Info
	case "warn", "warning", "wrn":
		return Warning
	case "error", "err", "severe", "failure":
		return Error
	case "fatal", "critical", "crit", "panic", "alert", "emerg", "emergency", "dpanic":
		return Fatal
	}
	return Unknown
}

// Content cuts off what stands before a message (timestamps, levels, source
// positions, process ids, the envelopes of container runtimes, JSON and
// logfmt) and returns the message and the level that the line states.
func Content(line string) (string, Level) { return content(line, 0) }

const maxNesting = 3

func content(line string, depth int) (string, Level) {
	s := strings.TrimSpace(line)
	if depth >= maxNesting || s == "" {
		return s, Unknown
	}
	if s[0] == '{' {
		if msg, level, ok := jsonMessage(s); ok {
			inner, l := content(msg, depth+1)
			return inner, max(level, l)
		}
		return s, Unknown
	}
	if msg, level, ok := logfmtMessage(s); ok {
		return msg, level
	}
	rest, found := s, false
	if klog, l, ok := klogHeader(s); ok {
		return klog, l
	}
	// A timestamp among the first words, with nothing but a prefix before it.
	if end, ok := timestampEnd(s); ok {
		rest, found = s[end:], true
	}
	if !found {
		// No timestamp: a level as the first word is all of a header.
		if word, after, ok := firstWord(s); ok {
			if l := levelOf(strings.Trim(word, "[]():|")); l != Unknown && (word == strings.ToUpper(word) || strings.ContainsAny(word, "[]()")) {
				return strings.TrimLeft(after, " :|-"), l
			}
		}
		return s, wordLevel(s)
	}
	rest, level := afterTime(rest)
	// What a relay wrapped has a header of its own.
	if inner, l := content(rest, depth+1); l != Unknown && level == Unknown || len(inner) < len(rest) && depth == 0 {
		return inner, max(level, l)
	}
	if level == Unknown {
		level = wordLevel(rest)
	}
	return rest, level
}

// wordLevel guesses the level of a line without one by its first words.
func wordLevel(s string) Level {
	head := s[:min(len(s), 80)]
	switch {
	case strings.HasPrefix(head, "panic:"), strings.HasPrefix(head, "fatal"), strings.Contains(head, "FATAL"):
		return Fatal
	case strings.Contains(head, "ERROR"), strings.Contains(head, "Exception"), strings.HasPrefix(head, "Traceback"), strings.HasPrefix(strings.ToLower(head), "error"):
		return Error
	case strings.Contains(head, "WARN"), strings.HasPrefix(strings.ToLower(head), "warning"):
		return Warning
	}
	return Unknown
}

func firstWord(s string) (word, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	if s == "" {
		return "", "", false
	}
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, "", true
	}
	return s[:i], s[i+1:], true
}

// klogHeader cuts "I0312 10:11:12.123456    1 file.go:12] ".
func klogHeader(s string) (string, Level, bool) {
	if len(s) < 21 || strings.IndexByte("DIWEF", s[0]) < 0 || !digits(s[1:5]) || s[5] != ' ' {
		return "", 0, false
	}
	i := strings.Index(s, "] ")
	if i < 0 || i > 120 {
		return "", 0, false
	}
	level := map[byte]Level{'D': Debug, 'I': Info, 'W': Warning, 'E': Error, 'F': Fatal}[s[0]]
	return s[i+2:], level, true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// timestampEnd finds a timestamp that begins within the first six words and
// returns where the text after it begins.
func timestampEnd(s string) (int, bool) {
	pos := 0
	for range 6 {
		for pos < len(s) && (s[pos] == ' ' || s[pos] == '\t') {
			pos++
		}
		if pos >= len(s) {
			return 0, false
		}
		if end, ok := timeAt(s, pos); ok {
			return end, true
		}
		// A plain word before a date means that the date is part of a sentence.
		end := pos
		for end < len(s) && s[end] != ' ' && s[end] != '\t' {
			end++
		}
		if plainWord(s[pos:end]) {
			return 0, false
		}
		pos = end
	}
	return 0, false
}

// plainWord is a word of a sentence: small letters only.
func plainWord(w string) bool {
	for i := range len(w) {
		if c := w[i]; (c < 'a' || c > 'z') && !(i == 0 && c >= 'A' && c <= 'Z') {
			return false
		}
	}
	return len(w) > 1 && levelOf(w) == Unknown
}

// timeAt reads a date, a time or both at pos, by the shape of their digits.
func timeAt(s string, pos int) (end int, ok bool) {
	i := pos
	if s[i] == '[' || s[i] == '(' {
		i++
	}
	words := 0
	seen := false
	for words < 5 && i < len(s) {
		j := i
		for j < len(s) && s[j] != ' ' && s[j] != '\t' && s[j] != ']' && s[j] != ')' {
			j++
		}
		w := s[i:j]
		if !timeWord(w, seen) {
			break
		}
		if clock(w) || date(w) || compact(w, s[j:]) {
			seen = true
		}
		words++
		i = j
		if i < len(s) && (s[i] == ']' || s[i] == ')') {
			i++
			if seen {
				break
			}
		}
		for i < len(s) && s[i] == ' ' {
			i++
		}
	}
	return i, seen
}

// timeWord says whether a word can be part of a timestamp.
func timeWord(w string, seen bool) bool {
	w = strings.TrimRight(w, ",;:")
	if w == "" {
		return false
	}
	if dateWords[w] || w == "May" || clock(w) || date(w) {
		return true
	}
	if digits(w) {
		// A day, a year, or a compact date; after the time only a year or zone.
		return !seen || len(w) == 4 || len(w) == 6
	}
	return seen && (w[0] == '+' || w[0] == '-') && digits(strings.ReplaceAll(w[1:], ":", ""))
}

// clock recognises 10:11:12 with anything after the seconds.
func clock(w string) bool {
	return len(w) >= 8 && digits(w[0:2]) && w[2] == ':' && digits(w[3:5]) && w[5] == ':' && digits(w[6:8])
}

// date recognises 2026-03-12…, 2026/03/12…, 26/03/12, 2005-06-03-15.42.50.3 and
// 2026-03-12T10:11:12Z.
func date(w string) bool {
	for _, n := range [2]int{4, 2} {
		if len(w) >= n+6 && digits(w[:n]) && (w[n] == '-' || w[n] == '/' || w[n] == '.') && digits(w[n+1:n+3]) && w[n+3] == w[n] && digits(w[n+4:n+6]) {
			return true
		}
	}
	return false
}

// compact recognises 081109 203615.
func compact(w, rest string) bool {
	rest = strings.TrimLeft(rest, " ")
	return len(w) == 6 && digits(w) && len(rest) >= 6 && digits(rest[:6])
}

// afterTime eats what follows a timestamp: numbers, levels, brackets, one
// component.
func afterTime(s string) (string, Level) {
	level := Unknown
	component := false
	for range 8 {
		s = strings.TrimLeft(s, " \t|,;-")
		if s == "" {
			return s, level
		}
		if s[0] == '[' {
			// A group that is a sentence belongs to the message.
			i := strings.IndexByte(s, ']')
			if i < 0 || i > 80 || strings.Count(s[:i], " ") > 2 {
				return s, level
			}
			if l := levelOf(s[1:i]); l != Unknown {
				level = max(level, l)
			}
			s = strings.TrimPrefix(s[i+1:], ":")
			continue
		}
		word, rest, _ := firstWord(s)
		bare := strings.Trim(word, ":<>()|,")
		switch l := levelOf(bare); {
		case l != Unknown && (bare == strings.ToUpper(bare) || level == Unknown && !component):
			level = max(level, l)
			s = rest
		case digits(bare):
			s = rest
		case !component && isComponent(word, rest):
			component = true
			s = rest
		case level == Unknown && !component && hostLike(word, rest):
			s = rest
		default:
			return s, level
		}
	}
	return s, level
}

// isComponent recognises what names the place a line comes from: x.y.Z,
// sshd[123]:, name:, file.go:12, and Name followed by a dash.
func isComponent(w, rest string) bool {
	bare := strings.TrimRight(w, ":")
	switch {
	case strings.HasSuffix(w, "]:"), strings.HasSuffix(bare, "]") && w != bare:
		return true
	case strings.Count(bare, ".") >= 2 && !strings.ContainsAny(bare, "/="):
		return true
	case strings.HasSuffix(w, ":") && !strings.ContainsAny(bare, "=/") && len(bare) > 1:
		return true
	case strings.HasPrefix(rest, "- "):
		return true
	}
	if i := strings.LastIndexByte(bare, ':'); i > 0 && digits(bare[i+1:]) && strings.Contains(bare[:i], ".") {
		return true
	}
	return false
}

// hostLike recognises syslog's host before its tag.
func hostLike(w, rest string) bool {
	next, _, ok := firstWord(rest)
	return ok && (strings.HasSuffix(next, "]:") || strings.HasSuffix(next, ":") && strings.ContainsAny(next, "([")) && !strings.ContainsAny(w, "=:")
}

// jsonMessage takes message and level out of a line that is a JSON object,
// without building it: the first of the usual keys at the top level counts.
func jsonMessage(s string) (msg string, level Level, ok bool) {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			key, next, good := jsonString(s, i)
			if !good {
				return "", Unknown, false
			}
			i = next - 1
			if depth != 1 {
				continue
			}
			j := next
			for j < len(s) && (s[j] == ' ' || s[j] == ':') {
				j++
			}
			if j == next || j >= len(s) || s[j] != '"' {
				continue
			}
			value, end, good := jsonString(s, j)
			if !good {
				return "", Unknown, false
			}
			i = end - 1
			switch strings.ToLower(key) {
			case "msg", "message", "log", "event", "@message", "short_message":
				if !ok {
					msg, ok = value, true
				}
			case "level", "severity", "lvl", "loglevel", "log.level", "severitytext":
				level = max(level, levelOf(value))
			}
		}
	}
	return msg, level, ok
}

// jsonString reads the string that begins at s[i]; escapes stay, but for
// quotes and line ends, which is good enough to tell templates apart.
func jsonString(s string, i int) (text string, next int, ok bool) {
	for j := i + 1; j < len(s); j++ {
		switch s[j] {
		case '\\':
			j++
		case '"':
			text = s[i+1 : j]
			if strings.IndexByte(text, '\\') >= 0 {
				text = unescape.Replace(text)
			}
			return text, j + 1, true
		}
	}
	return "", 0, false
}

var unescape = strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\n`, " ", `\t`, " ", `\r`, "")

// logfmtMessage takes message and level out of a line that begins with a key
// and an equals sign and has a msg key.
func logfmtMessage(s string) (msg string, level Level, ok bool) {
	i := strings.IndexByte(s, '=')
	if i <= 0 || i > 40 || strings.ContainsAny(s[:i], " \t\"'{[(") {
		return "", Unknown, false
	}
	for s != "" {
		s = strings.TrimLeft(s, " \t")
		k := strings.IndexAny(s, "= \t")
		if k < 0 || s[k] != '=' {
			if k < 0 {
				break
			}
			s = s[k:]
			continue
		}
		key := s[:k]
		s = s[k+1:]
		var value string
		if s != "" && s[0] == '"' {
			v, next, good := jsonString(s, 0)
			if !good {
				break // torn: what is left is not to be trusted
			}
			value, s = v, s[next:]
		} else if k = strings.IndexAny(s, " \t"); k >= 0 {
			value, s = s[:k], s[k:]
		} else {
			value, s = s, ""
		}
		switch strings.ToLower(key) {
		case "msg", "message":
			msg, ok = value, true
		case "level", "lvl", "severity":
			level = max(level, levelOf(value))
		case "err", "error":
			if ok && level == Unknown {
				level = Error
			}
		}
	}
	return msg, level, ok
}
