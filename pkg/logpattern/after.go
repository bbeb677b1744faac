package logpattern

import "strings"

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
	if rest, l, ok := separated(s); ok {
		return rest, max(level, l)
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
		if s[0] == '{' {
			i := strings.IndexByte(s, '}')
			if i < 0 || i > 60 || hasAny(s[:i], &noGroup) {
				return s, level
			}
			s = s[i+1:]
			continue
		}
		if ended {
			// A level after the tag, as Python's programs have it in syslog.
			if rest, l, ok := levelColon(s); ok && level == Unknown && (!stamp.short || isUpper(s[:1])) {
				return rest, l
			}
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
		case l != Unknown && level == Unknown && (n == 0 || isUpper(bare) || component || word[0] == '<'):
			level = l
			s = rest
		case level == Unknown && len(word) == 1 && letterLevel(word[0]) != Unknown && tagged(rest):
			level, tag = letterLevel(word[0]), true
			s = rest
		case level == Unknown && len(word) == 1 && letterLevel(word[0]) != Unknown && grouped(rest):
			level, component = letterLevel(word[0]), true
			_, s, _ = firstWord(rest)
		case !letters(word) && !(strings.Count(word, ".") >= 3 && anyDigit(word)):
			s = rest // numbers, dashes, stars
		case word[0] == '"':
			return s, level
		case !component && level == Unknown && len(word) > 3 && word[1] == '/' && word[len(word)-1] == ':' && letterLevel(word[0]) != Unknown:
			level, component, ended = letterLevel(word[0]), true, true // W/Tag:
			s = rest
		case word[0] == '(' && strings.HasSuffix(word, "):") && component:
			ended = true
			s = rest
		case !component && level != Unknown && (word[0] == '(' && word[len(word)-1] == ')' || word[0] == '<' && word[len(word)-1] == '>'):
			s = rest
		case component && (strings.HasPrefix(rest, "|") || strings.HasPrefix(rest, " | ")) && !hasAny(word, &noTag):
			s = rest
		case !component && (stamp.short || stamp.zoned && (word[0] < 'A' || word[0] > 'Z')) && host(word, rest):
			tag = true
			s = rest
		case !component && level == Unknown && host(word, rest) && strings.Contains(rest, "]:"):
			s = rest
		case !component && isComponent(word, rest, tag):
			component = true
			ended = strings.HasSuffix(word, ":") || strings.HasPrefix(rest, " : ")
			s = strings.TrimPrefix(rest, " : ")
		default:
			if level != Unknown {
				return s, level
			}
			beyond, l, ok := levelBeyond(s)
			if !ok {
				return s, level
			}
			s, level = beyond, l
		}
	}
	return s, level
}

// levelColon cuts a level that a colon ends: WARNING:, and debug 3:.
func levelColon(s string) (string, Level, bool) {
	i := strings.IndexByte(s[:min(len(s), 13)], ':')
	if i < 0 {
		return "", Unknown, false
	}
	name, grade, _ := strings.Cut(s[:i], " ")
	l := levelOf(name)
	if l == Unknown || grade != "" && !digits(grade) {
		return "", Unknown, false
	}
	return strings.TrimLeft(s[i+1:], " "), l, true
}

// levelBeyond finds a level in capitals behind up to three words that begin no
// sentence: anna@shop ERROR:, and web-1 main WARN.
func levelBeyond(s string) (string, Level, bool) {
	for n := range 4 {
		word, rest, ok := firstWord(s)
		if !ok {
			break
		}
		if l := levelOf(bareWord(word)); l != Unknown && n > 0 && isUpper(word) {
			return rest, l, true
		}
		// A capital and small letters begin a sentence.
		if endsClause[word[len(word)-1]] || hasAny(word, &noHost) && word[0] != '(' || isCapital(rune(word[0])) && plainWord(word) {
			break
		}
		s = rest
	}
	return "", Unknown, false
}

// separated eats columns that a comma, a semicolon, a pipe or a tab joins, without
// spaces. Before an object is the message.
func separated(s string) (string, Level, bool) {
	if len(s) < 2 || strings.IndexByte(",;|\t", s[0]) < 0 || s[1] == ' ' {
		return "", Unknown, false
	}
	sep, level := s[0], Unknown
	s = s[1:]
	for {
		i := strings.IndexByte(s, sep)
		if i < 0 || i > 60 || blank(s[:i]) < i || i+1 < len(s) && s[i+1] == '{' {
			return s, level, true
		}
		level = max(level, levelOf(s[:i]))
		s = s[i+1:]
	}
}

// untimed cuts headers that have no time that we read: INFO:root:, what a kernel
// counts since its start, and brackets with a level and a number.
func untimed(s string) (string, Level, bool) {
	if len(s) > 2 && s[1] == '/' && letterLevel(s[0]) != Unknown {
		if i := strings.Index(s[:min(len(s), 60)], "): "); i > 0 && strings.IndexByte(s[:i], '(') > 0 {
			return s[i+3:], letterLevel(s[0]), true // W/Tag( 4711):
		}
	}
	if s[0] == '<' {
		if i := strings.IndexByte(s, '>'); i > 1 && digits(s[1:i]) {
			s = s[i+1:]
		}
	}
	if s != "" && s[0] == '[' {
		i := strings.IndexByte(s, ']')
		if i < 0 || i > 80 {
			return "", Unknown, false
		}
		in := strings.TrimLeft(s[1:i], " ")
		if dot := strings.IndexByte(in, '.'); dot > 0 && digits(in[:dot]) && len(in) == dot+7 && digits(in[dot+1:]) {
			return strings.TrimLeft(s[i+1:], " "), Unknown, true
		}
		if blank(in) < len(in) || !anyDigit(in) {
			return "", Unknown, false
		}
		for part := range strings.SplitSeq(in, ":") {
			if l := levelOf(part); l != Unknown && len(part) < len(in) {
				return strings.TrimLeft(s[i+1:], " "), l, true
			}
		}
		return "", Unknown, false
	}
	i := strings.IndexByte(s, ':')
	if i < 0 || i+1 >= len(s) || s[i+1] == ' ' || !isUpper(s[:i]) {
		return "", Unknown, false
	}
	l := levelOf(s[:i])
	end := strings.IndexByte(s[i+1:], ':')
	if l == Unknown || end <= 0 || blank(s[i+1:i+1+end]) < end {
		return "", Unknown, false
	}
	return strings.TrimLeft(s[i+end+2:], " "), l, true
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
	in = strings.TrimRight(in, " ")
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

// grouped says whether a word in capitals and a group follow: NETWORK  [conn1].
func grouped(rest string) bool {
	word, rest, ok := firstWord(rest)
	rest = trimBlanks(rest)
	return ok && isUpper(word) && letters(word) && rest != "" && rest[0] == '['
}

// isComponent recognises what names the place a line comes from: x.y.Z,
// sshd[123]:, name:, file.go:12, Name followed by a dash, a pipe or a column's
// padding. A plain word with a colon is one where a tag has its place; elsewhere
// it begins the message: "Reloaded: …".
func isComponent(w, rest string, tag bool) bool {
	bare := strings.TrimRight(w, ":")
	if i := strings.LastIndexByte(bare, ':'); i > 0 && digits(bare[i+1:]) {
		return strings.Count(bare[:i], ".") == 1 || strings.HasPrefix(rest, "\t") || w[0] == '<' // with more dots it is a host and a port
	}
	switch {
	case strings.HasSuffix(bare, "]") && (w != bare || strings.HasPrefix(rest, " (") || strings.HasPrefix(rest, " [") && pid(bare)), (w != bare || strings.HasSuffix(bare, "]")) && levelFollows(rest):
		return true
	case strings.Count(bare, ".") >= 2 && !hasAny(bare, &noColumn) && letters(bare):
		return true
	case w != bare && (tag || !plainWord(bare)) && !hasAny(bare, &noTag) && len(bare) > 1 || w != bare && strings.HasSuffix(bare, ")"):
		return true
	case strings.HasPrefix(rest, " - "), strings.HasPrefix(rest, "|"), strings.HasPrefix(rest, "  "), strings.HasPrefix(rest, "\t"), strings.HasPrefix(rest, " : "), strings.HasPrefix(rest, " | "), strings.HasPrefix(rest, " :: "), strings.HasPrefix(rest, " / "):
		return !strings.ContainsAny(w, "=\"")
	}
	if i := strings.IndexByte(w, '('); i > 0 && strings.IndexByte(w[:i], '.') > 0 && strings.HasSuffix(w, ")") && digits(w[i+1:len(w)-1]) {
		return true // file.cc(12)
	}
	// A place and which of its kind, before a dash: "worker 7 - ", "main #12 - ".
	which, more, ok := firstWord(rest)
	return ok && !letters(which) && anyDigit(which) && strings.HasPrefix(more, "- ") && !strings.ContainsAny(w, "=\"")
}

// pid says whether a word ends in a number in brackets, as a program's with its process.
func pid(w string) bool {
	i := strings.IndexByte(w, '[')
	return i > 0 && digits(w[i+1:len(w)-1])
}

// levelFollows says whether a level with a colon comes next, which makes a tag of
// the word before it.
func levelFollows(rest string) bool {
	_, _, ok := levelColon(trimBlanks(rest))
	return ok
}

// host recognises syslog's host before its tag.
func host(w, rest string) bool {
	if hasAny(w, &noHost) {
		return false
	}
	word, rest, ok := firstWord(rest)
	if !ok {
		return false
	}
	if strings.HasSuffix(word, "]") { // launchd[1] (com.example.agent):
		next, _, ok := firstWord(rest)
		return ok && next[0] == '(' && strings.HasSuffix(next, "):")
	}
	return strings.HasSuffix(word, ":") && len(word) > 1
}

// hasAny says whether a text has a byte of a set. It is for short texts.
func hasAny(s string, set *[256]bool) bool {
	for i := range len(s) {
		if set[s[i]] {
			return true
		}
	}
	return false
}

// What words of a header do not have: those of columns, of tags, of hosts, of groups
// in braces, and of keys.
var (
	noColumn = bytesOf("/=,")
	noTag    = bytesOf("=/\"'(")
	noHost   = bytesOf("=:\"'(")
	noGroup  = bytesOf(" \"=:,")
	noKey    = bytesOf(" \t\"'{[(")
)
