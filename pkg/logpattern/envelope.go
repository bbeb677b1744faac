package logpattern

import "strings"

// Envelopes: what carries a message inside.

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

// maxKey is the length of the longest key that is looked for.
const maxKey = 13

// jsonMessage takes message and level out of a line that is a JSON object,
// without building it: the first of the usual keys at the top level counts.
func jsonMessage(s string) (msg string, level Level, ok bool) {
	var b [maxKey + 1]byte
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
			switch string(lower(b[:], key)) {
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
	i := strings.IndexByte(s[:min(len(s), 41)], '=')
	if i <= 0 || hasAny(s[:i], &noKey) {
		return "", Unknown, false
	}
	var b [maxKey + 1]byte
	for s != "" {
		k := 0
		for k < len(s) && isSpace(s[k]) {
			k++
		}
		s = s[k:]
		for k = 0; k < len(s) && s[k] != '=' && !isSpace(s[k]); {
			k++
		}
		if k == len(s) {
			break
		}
		if s[k] != '=' {
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
		} else {
			for k = 0; k < len(s) && !isSpace(s[k]); {
				k++
			}
			value, s = s[:k], s[k:]
		}
		switch string(lower(b[:], key)) {
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

func isSpace(c byte) bool { return c == ' ' || c == '\t' }
