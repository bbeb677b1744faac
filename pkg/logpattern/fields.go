package logpattern

import (
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Form is how a line states a value, and so how a query finds it.
type Form uint8

// The forms of values.
const (
	Word Form = iota // after a word: took 45 ms, state: open
	Pair             // key=value
	JSON             // a member of the object that the line is
)

// Field is a value that a line states under a name.
type Field struct {
	Name string // of the key, or the word before it; "" at the start of a message
	// Place is which of several values after the name it is, from 1; of a key it
	// is 1.
	Place int
	Form  Form
	Text  string  // as it stands there, without quotes
	Value float64 // in the unit; of what is no number zero
	Unit  string  // "s" or "By" where the text names one
	IsNum bool
}

// Key names the field: the same for the same place in lines of one statement.
func (f *Field) Key() uint64 {
	return xxhash.Sum64String(f.Name) ^ (uint64(f.Place)<<8|uint64(f.Form))*0x9e3779b97f4a7c15
}

const (
	// maxFields bounds what is read of one line, and longestField a value that is
	// not a number.
	maxFields    = 24
	longestField = 48
)

// Fields appends to buf what a line states beside its message, and the numbers
// and states in the message. Times, levels and the message itself are none: they
// are [Content]'s. What is longer than a few words is left out. The texts are
// parts of the line.
func Fields(buf []Field, line string) []Field {
	if strings.IndexByte(line, 0x1b) >= 0 {
		line = uncoloured(line)
	}
	return fieldsOf(buf[:0], line, 0)
}

func fieldsOf(buf []Field, line string, depth int) []Field {
	s := strings.TrimSpace(line)
	if depth >= maxNesting || s == "" {
		return buf
	}
	if s[0] == '{' {
		if msg, _, ok := jsonMessage(s); ok {
			return fieldsOf(jsonFields(buf, s), msg, depth+1)
		}
		return jsonFields(buf, s)
	}
	if msg, _, ok := logfmtMessage(s); ok {
		return words(words(buf, s, true), msg, false)
	}
	if klog, _, ok := klogHeader(s); ok {
		return words(buf, klog, false)
	}
	stamp, ok := findTime(s)
	if !ok {
		text, _ := content(s, depth, nil)
		return words(buf, text, false)
	}
	rest := s[stamp.end:]
	if msg, ok := runtimeMessage(rest); ok {
		return fieldsOf(buf, msg, depth+1)
	}
	if again, ok := findTime(rest); ok {
		stamp, rest = again, rest[again.end:]
	}
	rest, _ = afterTime(rest, stamp)
	if rest == "" {
		return buf
	}
	if _, _, ok := logfmtMessage(rest); ok || rest[0] == '{' {
		return fieldsOf(buf, rest, depth+1)
	}
	if klog, _, ok := klogHeader(rest); ok {
		rest = klog
	}
	return words(buf, rest, false)
}

// add appends a value, unless it is too much or nothing.
func addField(buf []Field, f Field) []Field {
	if len(buf) >= maxFields || f.Text == "" || len(f.Name) > longestField {
		return buf
	}
	if !f.IsNum {
		f.Value, f.Unit, f.IsNum = number(f.Text)
	}
	if !f.IsNum && len(f.Text) > longestField {
		return buf
	}
	return append(buf, f)
}

// isHeaderKey says whether what a key names is read as part of a header.
func isHeaderKey(key string) bool {
	var b [maxKey + 1]byte
	switch string(lower(b[:], key)) {
	case "msg", "message", "log", "event", "@message", "short_message", "level", "severity", "lvl", "loglevel", "log.level", "severitytext", "time", "ts", "timestamp", "@timestamp":
		return true
	}
	return false
}

// jsonFields reads the scalars at the top level of an object.
func jsonFields(buf []Field, s string) []Field {
	depth := 0
	for i := 0; i < len(s) && len(buf) < maxFields; i++ {
		switch s[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			key, next, ok := jsonString(s, i)
			if !ok {
				return buf
			}
			i = next - 1
			j := next
			for j < len(s) && (s[j] == ' ' || s[j] == ':') {
				j++
			}
			if depth != 1 || j == next || j >= len(s) || s[j] == '{' || s[j] == '[' {
				continue
			}
			var text string
			if s[j] == '"' {
				if text, next, ok = jsonString(s, j); !ok {
					return buf
				}
			} else {
				next = j
				for next < len(s) && s[next] != ',' && s[next] != '}' && s[next] != ']' && s[next] != ' ' && s[next] != '\t' {
					next++
				}
				text = s[j:next]
			}
			i = next - 1
			if !isHeaderKey(key) {
				buf = addField(buf, Field{Name: key, Place: 1, Form: JSON, Text: text})
			}
		}
	}
	return buf
}

// between are the bytes between words.
var between = [256]bool{' ': true, '\t': true, '"': true, '\'': true, '(': true, ')': true, '[': true, ']': true, '{': true, '}': true, ',': true, ';': true, '|': true, '<': true, '>': true}

// words reads the values of a text: pairs, and unless only those are wanted, what
// stands after a word.
func words(buf []Field, s string, onlyPairs bool) []Field {
	before, place, colon := "", 0, false
	for i := 0; i < len(s) && len(buf) < maxFields; {
		if between[s[i]] {
			i++
			continue
		}
		j := i
		for j < len(s) && !between[s[j]] && s[j] != '=' {
			j++
		}
		word := s[i:j]
		if j < len(s) && s[j] == '=' && j > i && nameByte(word[0]) {
			end := assigned(s, j+1)
			if !isHeaderKey(word) {
				buf = addField(buf, Field{Name: word, Place: 1, Form: Pair, Text: strings.Trim(s[j+1:end], ` "'`)})
			}
			i, before, place, colon = end, word, 1, false
			continue
		}
		i = max(j, i+1)
		if onlyPairs || word == "" {
			continue
		}
		bare := strings.TrimRight(word, ".:!?")
		value, unit, isNum := number(bare)
		switch {
		case isNum:
			// 45 ms is one value.
			if unit == "" && j < len(s) && s[j] == ' ' {
				end := j + 1
				for end < len(s) && (s[end] >= 'a' && s[end] <= 'z' || s[end] >= 'A' && s[end] <= 'Z') {
					end++
				}
				if factor, u, ok := unitOf(s[j+1 : end]); ok && isUnit(s[j+1:end]) {
					value, unit, i = value*factor, u, end
				}
			}
			place++
			buf = addField(buf, Field{Name: before, Place: place, Text: bare, Value: value, Unit: unit, IsNum: true})
		case looksLikeValue(bare) || bare == "" || bare == "-":
			place++
		case colon && place == 0:
			place++
			buf = addField(buf, Field{Name: before, Place: place, Text: bare})
		default:
			before, place = bare, 0
		}
		colon = strings.HasSuffix(word, ":") && !isNum
	}
	return buf
}

// longestNumber is how many digits a quantity has; what has more is an id.
const longestNumber = 15

// number reads a quantity with its unit: 17, -0.5, 1.5e3, 45ms, 1m2.5s, 12KiB, 3%.
// Durations come in seconds, sizes in bytes.
func number(s string) (value float64, unit string, ok bool) {
	if s == "" || s[0] > '9' || len(s) > 32 {
		return 0, "", false
	}
	neg := false
	if s[0] == '-' || s[0] == '+' {
		neg = s[0] == '-'
		s = s[1:]
	}
	for parts := 0; s != ""; parts++ {
		v, n := decimal(s)
		if n == 0 {
			return 0, "", false
		}
		s = s[n:]
		end := 0
		for end < len(s) && (s[end] < '0' || s[end] > '9') && s[end] != '.' {
			end++
		}
		factor, u, known := unitOf(s[:end])
		if !known || parts > 0 && u != "s" || parts > 0 && unit != "s" || u != "s" && end < len(s) {
			return 0, "", false
		}
		value += float64(v * factor)
		unit = u
		s = s[end:]
		ok = true
	}
	if neg {
		value = -value
	}
	return value, unit, ok
}

// decimal reads digits with a point and an exponent, and says how many bytes they
// are; 0 for what is no number.
func decimal(s string) (v float64, n int) {
	digit, scale := 0, 0.0
	for n < len(s) {
		c := s[n]
		switch {
		case c >= '0' && c <= '9':
			v = float64(v*10) + float64(c-'0')
			if scale > 0 {
				scale *= 10
			}
			if digit++; digit > longestNumber {
				return 0, 0
			}
		case c == '.' && scale == 0 && digit > 0:
			scale = 1
		default:
			goto end
		}
		n++
	}
end:
	if digit == 0 || s[n-1] == '.' {
		return 0, 0
	}
	if scale > 0 {
		v /= scale
	}
	if n < len(s) && (s[n] == 'e' || s[n] == 'E') {
		k, e, sign := n+1, 0, false
		if k < len(s) && (s[k] == '-' || s[k] == '+') {
			sign = s[k] == '-'
			k++
		}
		from := k
		for k < len(s) && s[k] >= '0' && s[k] <= '9' && k-from < 3 {
			e = e*10 + int(s[k]-'0')
			k++
		}
		if k == from {
			return 0, 0
		}
		for range min(e, 300) {
			if sign {
				v /= 10
			} else {
				v *= 10
			}
		}
		n = k
	}
	return v, n
}

// unitOf is what a unit is in seconds or bytes.
func unitOf(u string) (factor float64, unit string, ok bool) {
	switch u {
	case "":
		return 1, "", true
	case "%":
		return 0.01, "", true
	case "ns":
		return 1e-9, "s", true
	case "us", "µs", "μs":
		return 1e-6, "s", true
	case "ms":
		return 1e-3, "s", true
	case "s", "sec", "secs", "seconds":
		return 1, "s", true
	case "m", "minutes":
		return 60, "s", true
	case "h", "hours":
		return 3600, "s", true
	case "B", "bytes":
		return 1, "By", true
	case "kB", "KB":
		return 1e3, "By", true
	case "MB":
		return 1e6, "By", true
	case "GB":
		return 1e9, "By", true
	case "TB":
		return 1e12, "By", true
	case "KiB", "Ki":
		return 1 << 10, "By", true
	case "MiB", "Mi":
		return 1 << 20, "By", true
	case "GiB", "Gi":
		return 1 << 30, "By", true
	case "TiB", "Ti":
		return 1 << 40, "By", true
	}
	return 0, "", false
}
