package logpattern

import (
	"strings"
)

// Content cuts off what stands before a message (timestamps, levels, source
// positions, process ids, the envelopes of container runtimes, JSON and
// logfmt) and returns the message and the level that the line states.
func Content(line string) (string, Level) { return cut(line, nil) }

func cut(line string, memo *timeMemo) (string, Level) {
	if strings.IndexByte(line, 0x1b) >= 0 {
		line = uncoloured(line)
	}
	return content(line, 0, memo)
}

const maxNesting = 3

func content(line string, depth int, memo *timeMemo) (string, Level) {
	if strings.IndexByte(line, '\n') >= 0 {
		if tells, ok := telling(strings.Trim(line, "\r\n")); ok {
			msg, level := content(tells, depth+1, nil)
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
			inner, l := content(msg, depth+1, nil)
			return inner, max(level, l)
		}
		if !beginsTime(s, 1) {
			return s, Unknown
		}
	}
	if msg, level, ok := logfmtMessage(s); ok {
		return msg, level
	}
	if klog, l, ok := klogHeader(s); ok {
		return klog, l
	}
	stamp, ok := memo.find(s)
	if !ok {
		if rest, l, ok := untimed(s); ok {
			return rest, l
		}
		if word, after, ok := firstWord(s); ok {
			// No timestamp: a level as the first word is all of a header.
			if l := levelOf(strings.Trim(word, "[]():|<>")); l != Unknown && (isUpper(word) || strings.ContainsAny(word, "[]()")) {
				return strings.TrimLeft(after, " :|-"), l
			}
		}
		return s, wordLevel(s)
	}
	before, rest := s[:stamp.begin], s[stamp.end:]
	if msg, ok := runtimeMessage(rest); ok {
		return content(msg, depth+1, nil)
	}
	// What was relayed has another timestamp after a few words.
	if !stamp.clock || clockAhead(rest) {
		if again, ok := findTimeAfter(rest, false); ok {
			stamp, rest = again, rest[again.end:]
		}
	}
	rest, level := afterTime(rest, stamp)
	for before != "" && level == Unknown {
		var word string
		word, before, _ = firstWord(before)
		level = levelOf(strings.Trim(word, "[]():|<>,"))
	}
	if rest != "" && (rest[0] == '{' || strings.IndexByte(rest[:min(len(rest), 40)], '=') > 0) {
		if inner, l := content(rest, depth+1, nil); len(inner) < len(rest) {
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

// clockAhead says whether there may be another time of day soon.
func clockAhead(s string) bool {
	const soon = 100
	for i := 2; i+2 < min(len(s), soon); i++ {
		k := strings.IndexByte(s[i:min(len(s)-2, soon)], ':')
		if k < 0 {
			return false
		}
		if i += k; digits(s[i-2:i]) && digits(s[i+1:i+3]) {
			return true
		}
	}
	return false
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
