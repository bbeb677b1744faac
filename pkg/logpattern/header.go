package logpattern

import (
	"strings"
)

// Content cuts off what stands before a message (timestamps, levels, source
// positions, process ids, the envelopes of container runtimes, JSON and
// logfmt) and returns the message and the level that the line states.
func Content(line string) (string, Level) {
	if strings.IndexByte(line, 0x1b) >= 0 {
		line = uncoloured(line)
	}
	return content(line, 0)
}

const maxNesting = 3

func content(line string, depth int) (string, Level) {
	if strings.IndexByte(line, '\n') >= 0 {
		if tells, ok := telling(strings.Trim(line, "\r\n")); ok {
			msg, level := content(tells, depth+1)
			if level == Unknown {
				level = Error
			}
			return msg, level
		}
	}
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
	if klog, l, ok := klogHeader(s); ok {
		return klog, l
	}
	stamp, ok := findTime(s)
	if !ok {
		if word, after, ok := firstWord(s); ok {
			// No timestamp: a level as the first word is all of a header.
			if l := levelOf(strings.Trim(word, "[]():|<>")); l != Unknown && (isUpper(word) || strings.ContainsAny(word, "[]()")) {
				return strings.TrimLeft(after, " :|-"), l
			}
		}
		return s, wordLevel(s)
	}
	rest := s[stamp.end:]
	if msg, ok := runtimeMessage(rest); ok {
		return content(msg, depth+1)
	}
	// What was relayed has another timestamp after a few words.
	if again, ok := findTime(rest); ok {
		stamp, rest = again, rest[again.end:]
	}
	rest, level := afterTime(rest, stamp)
	if rest != "" && (rest[0] == '{' || strings.IndexByte(rest[:min(len(rest), 40)], '=') > 0) {
		if inner, l := content(rest, depth+1); len(inner) < len(rest) {
			return inner, max(level, l)
		}
	}
	if klog, l, ok := klogHeader(rest); ok {
		return klog, max(level, l)
	}
	if level == Unknown {
		level = wordLevel(rest)
	}
	return rest, level
}

// uncoloured leaves out the sequences that colour a terminal.
func uncoloured(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != 0x1b {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '[' {
			for i += 2; i < len(s) && (s[i] < '@' || s[i] > '~'); i++ {
			}
		}
	}
	return b.String()
}

// runtimeMessage cuts what a container runtime writes after its timestamp:
// stdout or stderr, and whether the line is whole.
func runtimeMessage(s string) (string, bool) {
	s = trimBlanks(s)
	if s == "" || s[0] != 's' {
		return "", false
	}
	for _, stream := range [2]string{"stdout ", "stderr "} {
		if rest, ok := strings.CutPrefix(s, stream); ok && len(rest) >= 2 && (rest[0] == 'F' || rest[0] == 'P') && rest[1] == ' ' {
			return rest[2:], true
		}
	}
	return "", false
}

// wordLevel guesses the level of a line without one by its first words.
func wordLevel(s string) Level {
	head := s[:min(len(s), 80)]
	switch {
	case strings.HasPrefix(head, "panic:"), strings.HasPrefix(head, "fatal"), strings.Contains(head, "FATAL"):
		return Fatal
	case strings.Contains(head, "ERROR"), strings.Contains(head, "Exception"), strings.HasPrefix(head, "Traceback"), startsWith(head, "error"):
		return Error
	case strings.Contains(head, "WARN"), startsWith(head, "warning"):
		return Warning
	}
	return Unknown
}

func startsWith(s, word string) bool {
	return len(s) >= len(word) && strings.EqualFold(s[:len(word)], word)
}

func firstWord(s string) (word, rest string, ok bool) {
	s = trimBlanks(s)
	if s == "" {
		return "", "", false
	}
	i := blank(s)
	if i == len(s) {
		return s, "", true
	}
	return s[:i], s[i+1:], true
}

// blank is where the first space of a text is; its length where there is none.
func blank(s string) int {
	for i := range len(s) {
		if s[i] == ' ' || s[i] == '\t' {
			return i
		}
	}
	return len(s)
}

// trimBlanks cuts the spaces off that a text begins with.
func trimBlanks(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	return s
}

// afterTime eats what follows a timestamp: numbers, levels, brackets, one
// component.
func afterTime(s string, stamp stamp) (string, Level) {
	level := Unknown
	if stamp.open != 0 {
		// The bracket around the time holds more: a level, where it comes from.
		if i := strings.IndexByte(s, stamp.open); i >= 0 && i <= 80 {
			from := 0
			for k := range i + 1 {
				if c := s[k]; k == i || c == ' ' || c == '/' || c == ':' {
					level = max(level, levelOf(s[from:k]))
					from = k + 1
				}
			}
			s = s[i+1:]
		}
	}
	if stamp.five {
		return afterSyslog5424(s)
	}
	if rest, l, ok := levelAhead(s); ok {
		s, level = rest, max(level, l)
	}
	component, ended := false, false
	tag := stamp.short // a program or a tag follows, whatever its name
	for n := range 10 {
		for s != "" && (s[0] == ' ' || s[0] == '\t' || s[0] == '|' || s[0] == ',' || s[0] == ';') {
			s = s[1:]
		}
		if s == "" {
			return s, level
		}
		if s[0] == '[' {
			i := strings.IndexByte(s, ']')
			if i < 0 || i > 250 || ended && !anyDigit(s[1:i]) && s[1:i] != "-" {
				return s, level
			}
			level = max(level, groupLevel(s[1:i]))
			s = strings.TrimPrefix(s[i+1:], ":")
			if ended {
				return strings.TrimLeft(s, " "), level
			}
			continue
		}
		if ended {
			return s, level
		}
		word, rest := s, ""
		for i := range len(s) {
			if endsWord[s[i]] {
				word, rest = s[:i], s[i:]
				break
			}
		}
		bare := bareWord(word)
		switch l := levelOf(bare); {
		case l != Unknown && level == Unknown && (n == 0 || isUpper(bare) || component):
			level = l
			s = rest
		case level == Unknown && len(word) == 1 && letterLevel(word[0]) != Unknown && tagged(rest):
			level, tag = letterLevel(word[0]), true
			s = rest
		case !letters(word) && !(strings.Count(word, ".") >= 3 && anyDigit(word)):
			s = rest // numbers, dashes, stars
		case word[0] == '"':
			return s, level
		case !component && stamp.short && host(word, rest):
			s = rest
		case !component && isComponent(word, rest, tag):
			component = true
			ended = strings.HasSuffix(word, ":") || strings.HasPrefix(rest, " : ")
			s = strings.TrimPrefix(rest, " : ")
		case !component && level == Unknown && host(word, rest) && strings.Contains(rest, "]:"):
			s = rest
		default:
			return s, level
		}
	}
	return s, level
}

// bareWord is a word without the signs around it.
func bareWord(w string) string {
	for w != "" && around[w[0]] {
		w = w[1:]
	}
	for w != "" && around[w[len(w)-1]] {
		w = w[:len(w)-1]
	}
	return w
}

// around are the signs around what a header names.
var around = bytesOf(":<>()|,")

// afterSyslog5424 eats host, program, process, message id and structured data.
func afterSyslog5424(s string) (string, Level) {
	for range 4 {
		_, rest, ok := firstWord(s)
		if !ok {
			return "", Unknown
		}
		s = rest
	}
	s = strings.TrimLeft(s, " ")
	for strings.HasPrefix(s, "[") {
		i := strings.IndexByte(s, ']')
		if i < 0 {
			break
		}
		s = s[i+1:]
	}
	return strings.TrimLeft(strings.TrimPrefix(s, "-"), " \ufeff"), Unknown
}

// levelAhead finds a level in capitals a few words on, when what stands before
// it is no sentence: RAS KERNEL INFO.
func levelAhead(s string) (string, Level, bool) {
	pos := 0
	for range 6 {
		word, rest, ok := firstWord(s[pos:])
		if !ok || word[0] == '[' || word[0] == '"' || strings.HasSuffix(word, ":") && !strings.HasPrefix(rest, "-") {
			return "", Unknown, false
		}
		if !isUpper(word) {
			return "", Unknown, false
		}
		if l := levelOf(word); l != Unknown {
			return rest, l, true
		}
		pos = len(s) - len(rest)
	}
	return "", Unknown, false
}

func groupLevel(in string) Level {
	if l := levelOf(in); l != Unknown {
		return l
	}
	if i := strings.LastIndexByte(in, ':'); i >= 0 {
		return levelOf(in[i+1:]) // [module:error]
	}
	return Unknown
}

// letterLevel reads the levels of a device's log.
func letterLevel(c byte) Level {
	switch c {
	case 'V', 'D':
		return Debug
	case 'I':
		return Info
	case 'W':
		return Warning
	case 'E':
		return Error
	case 'F', 'A':
		return Fatal
	}
	return Unknown
}

// tagged says whether a tag follows: a word with a colon, maybe padded.
func tagged(rest string) bool {
	word, rest, ok := firstWord(rest)
	return ok && (strings.HasSuffix(word, ":") || strings.HasPrefix(strings.TrimLeft(rest, " "), ": "))
}

// isComponent recognises what names the place a line comes from: x.y.Z,
// sshd[123]:, name:, file.go:12, Name followed by a dash, a pipe or a column's
// padding. A plain word with a colon is one where a tag has its place; elsewhere
// it begins the message: "Reloaded: …".
func isComponent(w, rest string, tag bool) bool {
	bare := strings.TrimRight(w, ":")
	if i := strings.LastIndexByte(bare, ':'); i > 0 && digits(bare[i+1:]) {
		return strings.Count(bare[:i], ".") == 1 || strings.HasPrefix(rest, "\t") // with more dots it is a host and a port
	}
	switch {
	case strings.HasSuffix(bare, "]") && w != bare:
		return true
	case strings.Count(bare, ".") >= 2 && !hasAny(bare, "/=,") && letters(bare):
		return true
	case w != bare && (tag || !plainWord(bare)) && !hasAny(bare, "=/\"'(") && len(bare) > 1 || w != bare && strings.HasSuffix(bare, ")"):
		return true
	case strings.HasPrefix(rest, " - "), strings.HasPrefix(rest, "|"), strings.HasPrefix(rest, "  "), strings.HasPrefix(rest, "\t"), strings.HasPrefix(rest, " : "):
		return !strings.ContainsAny(w, "=\"")
	}
	// A place and which of its kind, before a dash: "worker 7 - ", "main #12 - ".
	which, more, ok := firstWord(rest)
	return ok && !letters(which) && anyDigit(which) && strings.HasPrefix(more, "- ") && !strings.ContainsAny(w, "=\"")
}

// host recognises syslog's host before its tag.
func host(w, rest string) bool {
	if hasAny(w, "=:\"'(") {
		return false
	}
	word, _, ok := firstWord(rest)
	return ok && strings.HasSuffix(word, ":") && len(word) > 1 || ok && strings.HasSuffix(word, "]:")
}

// hasAny is strings.ContainsAny for few signs and a short text.
func hasAny(s, signs string) bool {
	for i := range len(signs) {
		if strings.IndexByte(s, signs[i]) >= 0 {
			return true
		}
	}
	return false
}

func letters(s string) bool {
	for i := range len(s) {
		if c := s[i]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80 {
			return true
		}
	}
	return false
}

func anyDigit(s string) bool { return strings.ContainsAny(s, "0123456789") }

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
