package logpattern

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
	var b [11]byte
	switch string(lower(b[:], w)) {
	case "trace", "trce", "debug", "dbug", "dbg", "fine", "finer", "finest":
		return Debug
	case "info", "inf", "information", "notice", "log":
		return Info
	case "warn", "warning", "wrn":
		return Warning
	case "error", "err", "severe", "failure", "fail":
		return Error
	case "fatal", "critical", "crit", "panic", "alert", "emerg", "emergency", "dpanic":
		return Fatal
	}
	return Unknown
}

// lower writes an ASCII word in small letters to b, as much as has room.
func lower(b []byte, w string) []byte {
	n := min(len(b), len(w))
	for i := range n {
		c := w[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b[i] = c
	}
	return b[:n]
}

// isUpper says whether a word has no small letter.
func isUpper(w string) bool {
	for i := range len(w) {
		if w[i] >= 'a' && w[i] <= 'z' {
			return false
		}
	}
	return true
}
