package logpattern

import "strings"

// stamp is a timestamp in a line.
type stamp struct {
	begin   int32 // where it begins
	end     int32 // where the text after it begins
	open    byte  // the bracket that closes after more than the time; 0 for none
	short   bool  // without a year and without a zone, as syslog has it
	zoned   bool  // as RFC 3339 has it, with the zone as a number: syslog's newer form
	clock   bool  // with a time of day
	compact bool  // digits only
	five    bool  // after a priority and a version, as RFC 5424 has it
}

// findTime finds a timestamp that begins within the first six words.
func findTime(s string) (stamp, bool) { return findTimeAfter(s, true) }

// findTimeAfter does so, and says whether plain words may stand before it: a thread or
// a host, where a level in capitals beside the time shows that they are no sentence.
func findTimeAfter(s string, plain bool) (stamp, bool) {
	pos, words := 0, false
	for n := range 6 {
		for pos < len(s) && (s[pos] == ' ' || s[pos] == '\t' || s[pos] == '|') {
			pos++
		}
		if pos >= len(s) {
			return stamp{}, false
		}
		at := pos
		if (s[pos] == '"' || s[pos] == '{' || s[pos] == '<') && beginsTime(s, pos+1) {
			at++
		}
		if s[pos] == '[' || s[pos] == '(' || beginsTime(s, at) {
			if t, ok := timeAt(s, at); ok {
				if words && (!t.clock || t.short || !levelBeside(s[:pos], s[t.end:])) {
					return stamp{}, false
				}
				t.begin = int32(pos)
				t.five = n == 1 && s[0] == '<' && strings.HasSuffix(s[:pos], ">1 ")
				return t, true
			}
		}
		end := pos
		for end < len(s) && !endsWord[s[end]] {
			end++
		}
		if !words && (s[pos] == '1' || s[pos] == '[') && epoch(s[pos:end], s[end:], n == 0) {
			return stamp{begin: int32(pos), end: int32(end)}, true
		}
		if s[pos] == '[' {
			if i := strings.Index(s[pos:end], "]["); i > 0 {
				pos += i + 1 // [level][time]
				continue
			}
		}
		// A plain word before a date means that the date is part of a sentence,
		// unless a record of columns began with a number.
		if w := s[pos:end]; endsClause[w[len(w)-1]] && !(n == 0 && len(w) == 2 && w[1] == ',') || w[0] == '"' {
			return stamp{}, false
		} else if (s[0] < '0' || s[0] > '9') && plainWord(w) {
			if words = true; !plain || n > 2 {
				return stamp{}, false
			}
		}
		pos = end
	}
	return stamp{}, false
}

// levelBeside says whether there is a level in capitals among the words before a
// time, or right after it.
func levelBeside(before, after string) bool {
	next, _, ok := firstWord(after)
	if ok && isUpper(next) && levelOf(bareWord(next)) != Unknown {
		return true
	}
	for before != "" {
		if next, before, ok = firstWord(before); ok && isUpper(next) && levelOf(strings.Trim(next, "[]():|<>,")) != Unknown {
			return true
		}
	}
	return false
}

// endsClause are the signs after which a date is part of what is said.
var endsClause = bytesOf(":,;=")

// epoch recognises seconds since 1970 as a column: with a fraction, or numbers
// follow; and, at the beginning of a line, with a colon or before a level. There
// milliseconds count too.
func epoch(w, rest string, first bool) bool {
	bracket := len(w) > 2 && w[0] == '[' && w[len(w)-1] == ']'
	if bracket {
		w = w[1 : len(w)-1]
	}
	if len(w) < 10 || w[0] != '1' || !digits(w[:10]) {
		return false
	}
	if !first && w[10:] == "" {
		next, _, ok := firstWord(rest)
		return ok && digits(next)
	}
	next, _, ok := firstWord(rest)
	levelled := first && ok && (next[0] == '[' || levelOf(bareWord(next)) != Unknown)
	if first && !levelled {
		_, _, levelled = levelBeyond(trimBlanks(rest))
	}
	switch tail := w[10:]; {
	case tail == "":
		return ok && digits(next) || levelled || bracket && first
	case tail == ":":
		return first
	case tail[0] == '.':
		return len(tail) >= 4 && digits(strings.TrimSuffix(tail[1:], ":"))
	}
	return len(w) == 13 && digits(w) && levelled
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
func timeAt(s string, pos int) (stamp, bool) {
	i := pos
	var t stamp
	if s[i] == '[' || s[i] == '(' {
		if s[i] == '[' {
			t.open = ']'
		} else {
			t.open = ')'
		}
		i++
	}
	if !beginsTime(s, i) {
		return stamp{}, false
	}
	clocks, dated, year := false, false, false
	for words := 0; words < 6 && i < len(s) && (timeByte[s[i]] || words > 0 && zoneByte(s[i])); words++ {
		j := i
		for j < len(s) && !endsTime[s[j]] {
			j++
		}
		w := s[i:j]
		for w != "" && (w[len(w)-1] == ',' || w[len(w)-1] == ';' || w[len(w)-1] == ':') {
			w = w[:len(w)-1]
		}
		switch {
		case date(w):
			w = separate(w)
			j = i + len(w)
			dated, year = true, true
			clocks = clocks || len(w) > 11
			t.zoned = len(w) > 25 && w[10] == 'T' && isZone(w[len(w)-6:])
		case clock(w), dated && len(w) >= 7 && w[1] == ':' && digits(w[:1]) && clockRest(w[1:]):
			w = separate(w)
			j = i + len(w)
			clocks = true
		case clocks && (w == "AM" || w == "PM"):
		case compact(w, s[j:]):
			dated, year, clocks, t.compact = true, true, true, true
		case monthDay(w) && clockFollows(s[j:]):
			dated = true
		case isDateWord(w) || w == "May":
			dated = true
		case digits(w) && len(w) <= 4 && (!clocks || len(w) == 4):
			year = year || len(w) == 4
		case clocks && (w == "Z" || isZone(w)):
			year = true
		default:
			words = 6
			continue
		}
		i = j
		if i < len(s) && (s[i] == ']' || s[i] == ')' || s[i] == '"' || s[i] == '}' || s[i] == '>') {
			i++
			t.open = 0
			break
		}
		for i < len(s) && s[i] == ' ' {
			i++
		}
		if i < len(s) && (s[i] == '|' || s[i] == '\t') {
			break
		}
	}
	t.end, t.short, t.clock = int32(i), !year, clocks
	return t, clocks || dated && year
}

// beginsTime says whether a timestamp may begin at s[i]: by how many digits there
// are in a row, or by the name of a month, a day of the week or a zone.
func beginsTime(s string, i int) bool {
	if i >= len(s) || !timeByte[s[i]] {
		return false
	}
	if s[i] > '9' {
		return i+3 <= len(s) && (isDateWord(s[i:i+3]) || s[i:i+3] == "May")
	}
	n := i + 1
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	switch n - i {
	case 2, 4, 6, 8:
		return true
	case 1, 3:
		return n < len(s) && (s[n] == ' ' || s[n] == ',') // the day of a month
	}
	return false
}

// isZone recognises +02, +0200 and +02:00.
func isZone(w string) bool {
	switch {
	case len(w) < 3 || w[0] != '+' && w[0] != '-':
		return false
	case len(w) == 6 && w[3] == ':':
		return digits(w[1:3]) && digits(w[4:])
	}
	return digits(w[1:])
}

// timeByte are the bytes that a word of a timestamp may begin with, but for a zone.
var timeByte = bytesOf("0123456789JFMASONDTWUGP")

// zoneByte says whether a zone may begin with a byte.
func zoneByte(c byte) bool { return c == 'Z' || c == '+' || c == '-' }

// endsTime are the bytes that a word of a timestamp ends at, endsWord those that
// any word of a header ends at.
var (
	endsTime = bytesOf(" \t])|\"}>")
	endsWord = bytesOf(" \t|")
)

func bytesOf(set string) (t [256]bool) {
	for i := range len(set) {
		t[set[i]] = true
	}
	return t
}

// clock recognises 10:11:12 with anything after the seconds.
func clock(w string) bool {
	return len(w) >= 8 && digits(w[0:2]) && clockRest(w[2:])
}

// clockRest recognises minutes and seconds.
func clockRest(w string) bool {
	return len(w) >= 6 && w[0] == ':' && digits(w[1:3]) && w[3] == ':' && digits(w[4:6])
}

// separate is a time without the columns that commas join to it.
func separate(w string) string {
	for i := 8; i+1 < len(w); i++ {
		if (w[i] == ',' || w[i] == ';') && !digits(w[i+1:i+2]) {
			return w[:i]
		}
	}
	return w
}

func clockFollows(s string) bool { return len(s) >= 9 && s[0] == ' ' && clock(s[1:]) }

// monthDay recognises 03-12, 03/12 and 03.12.
func monthDay(w string) bool {
	return len(w) == 5 && digits(w[:2]) && strings.IndexByte("-/.", w[2]) >= 0 && digits(w[3:])
}

// date recognises 2026-03-12…, 2026/03/12…, 26/03/12, 2005-06-03-15.42.50.3 and
// 2026-03-12T10:11:12Z, 12/Mar/2026:10:11:12 and 12-Mar-2026.
func date(w string) bool {
	if len(w) >= 11 && digits(w[:2]) && (w[2] == '/' || w[2] == '-') && (isDateWord(w[3:6]) || w[3:6] == "May") && w[6] == w[2] && digits(w[7:11]) {
		return true
	}
	for _, n := range [2]int{4, 2} {
		if len(w) < n+6 || !digits(w[:n]) || w[n] != '-' && w[n] != '/' && w[n] != '.' || !digits(w[n+1:n+3]) || w[n+3] != w[n] || !digits(w[n+4:n+6]) {
			continue
		}
		return len(w) == n+6 || n == 4 && strings.IndexByte("T-_ :t", w[n+6]) >= 0
	}
	return false
}

// compact recognises 081109 203615, and 20260312-10:11:12.
func compact(w, rest string) bool {
	if len(w) >= 14 && digits(w[:8]) && w[8] >= ' ' && strings.IndexByte("-T_ ", w[8]) >= 0 {
		return digits(w[9:11])
	}
	if len(w) != 6 || !digits(w) {
		return false
	}
	rest = strings.TrimLeft(rest, " ")
	return len(rest) >= 6 && digits(rest[:6]) || len(rest) >= 7 && digits(rest[:1]) && (clockRest(rest[1:]) || clock(rest))
}
