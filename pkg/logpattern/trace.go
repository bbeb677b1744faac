package logpattern

import "strings"

// Part is what a line is of the record that it belongs to.
type Part int

// The parts of a record.
const (
	Begins    Part = iota // a record of its own, so far
	Continues             // one more line of a stack trace, or of a key
	Concludes             // the same, and it says what the trace is about
	Extends               // the rest of a line that the container runtime has cut
)

// Joiner says which lines of one stream are one record: the lines of a stack trace,
// of a key in PEM, and the pieces of a line that a container runtime has cut. What
// it says of a line follows from the lines before, of which it keeps next to
// nothing. A line that looks like none of these is a record of its own whatever
// came before.
type Joiner struct {
	open open
	cut  byte // the stream of the runtime, o or e, whose line is not complete; 0 for none
}

// open is what was begun.
type open uint8

const (
	nothing     open = iota
	frames           // of Java, .NET, Node, Ruby: each looks like one
	fields           // of an error of Node, in braces after its frames
	python           // a traceback, up to the line that concludes it
	pythonEnd        // that line was
	pythonChain      // another is about to follow
	golang           // after panic: or goroutine
	golangAt         // after the place of a frame
	nodeAt           // the place of an error that nobody caught; its source follows
	nodeSource       // the source, up to the error
	rust             // a panic, up to its message
	rustFrames
	php
	pem
)

// Saved is the state, to go on with later; zero when nothing is open.
func (j *Joiner) Saved() uint16 { return uint16(j.open) | uint16(j.cut)<<8 }

// Resumed goes on from a state.
func Resumed(saved uint16) Joiner {
	j := Joiner{open: open(saved), cut: byte(saved >> 8)}
	if j.open > pem {
		j.open = nothing
	}
	return j
}

// Secret says whether a key is open: what continues it is part of the key.
func (j *Joiner) Secret() bool { return j.open == pem }

// Next takes in the next line.
func (j *Joiner) Next(line string) Part {
	s, stream, partial := unwrap(line)
	was := j.cut
	j.cut = 0
	if partial {
		j.cut = stream
	}
	if was != 0 && was == stream {
		return Extends
	}
	return j.next(strings.TrimRight(s, " \t\r"))
}

func (j *Joiner) next(s string) Part {
	was := j.open
	j.open = nothing
	if k, ok := frame(s); ok {
		j.open = k
		if was == rustFrames && k == frames || was != nothing && strings.HasPrefix(strings.TrimLeft(s, " \t"), "... ") {
			j.open = was
		}
		return Continues
	}
	if k, part := was.goesOn(s); part != Begins {
		j.open = k
		return part
	}
	j.open = begun(s)
	return Begins
}

// frame recognises a line that is part of a trace by its look: they all are
// indented.
func frame(s string) (open, bool) {
	rest := strings.TrimLeft(s, " \t")
	indent := len(s) - len(rest)
	if indent == 0 || rest == "" {
		return nothing, false
	}
	switch rest[0] {
	case 'a':
		if at, ok := strings.CutPrefix(rest, "at "); ok && isPlace(at) {
			if strings.HasSuffix(at, " {") {
				return fields, true
			}
			return frames, true
		}
	case '.':
		return frames, strings.HasPrefix(rest, "... ") && (strings.HasSuffix(rest, " more") || strings.HasSuffix(rest, " omitted") || strings.Contains(rest, " frames "))
	case 'S', 'C':
		return frames, strings.HasPrefix(rest, "Suppressed: ") || strings.HasPrefix(rest, "Caused by: ")
	case '-':
		return frames, strings.HasPrefix(rest, "--- End of ")
	case 'f':
		return frames, strings.HasPrefix(rest, "from ") && strings.Contains(rest, ":in ")
	case 'F':
		return python, strings.HasPrefix(rest, `File "`) && strings.Contains(rest, `", line `)
	}
	if s[0] == '\t' {
		if i := strings.LastIndex(rest, ".go:"); i > 0 && i+4 < len(rest) && rest[i+4] >= '0' && rest[i+4] <= '9' && strings.IndexByte(rest[:i], ' ') < 0 {
			return golangAt, true
		}
	}
	return nothing, false
}

// isPlace says whether a text is where code is: it has arguments, or a line.
func isPlace(s string) bool {
	if s == "" || s[0] == ' ' {
		return false
	}
	if strings.HasPrefix(s, "<anonymous>") {
		return true
	}
	if i := strings.IndexByte(s, '('); i > 0 {
		if strings.IndexByte(s[:i], ' ') < 0 {
			return true
		}
		// Of Node, with words before: new Cart (/app/cart.js:14:11)
		in, _, _ := strings.Cut(s[i+1:], ")")
		return isLocated(in) || in == "<anonymous>" || in == "native" || strings.HasPrefix(in, "index ")
	}
	return isLocated(s)
}

// isLocated says whether a text is a file with a line.
func isLocated(s string) bool {
	i := strings.LastIndexByte(s, ':')
	return i > 0 && i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9' && (strings.ContainsAny(s[:i], "/.\\") || strings.HasPrefix(s, "node:"))
}

// goesOn says what a line is of what is open.
func (o open) goesOn(s string) (open, Part) {
	indented := s != "" && (s[0] == ' ' || s[0] == '\t')
	switch o {
	case frames:
		if strings.HasPrefix(s, "Caused by: ") {
			return frames, Continues
		}
	case fields:
		if indented || s == "}" {
			return fields, Continues
		}
	case python:
		if indented {
			return python, Continues
		}
		if isException(s) {
			return pythonEnd, Concludes
		}
	case pythonEnd, pythonChain:
		switch {
		case strings.HasPrefix(s, "During handling of the above exception"), strings.HasPrefix(s, "The above exception was the direct cause"):
			return pythonChain, Continues
		case s == "" && o == pythonEnd:
			return pythonEnd, Continues
		case s == "":
			return pythonChain, Continues
		case o == pythonChain && isTraceback(s):
			return python, Continues
		}
	case golang, golangAt:
		if s == "" || indented || isCall(s) || strings.HasPrefix(s, "goroutine ") || strings.HasPrefix(s, "created by ") || strings.HasPrefix(s, "[signal ") ||
			strings.HasPrefix(s, "panic: ") || strings.HasPrefix(s, "...additional frames") || s == "runtime stack:" || strings.HasPrefix(s, "exit status ") ||
			o == golangAt && isQualified(s) {
			return golang, Continues
		}
	case nodeAt:
		return nodeSource, Continues
	case nodeSource:
		if s == "" || indented {
			return nodeSource, Continues
		}
		if isException(strings.TrimPrefix(s, "Uncaught ")) {
			return frames, Concludes
		}
	case rust:
		return rustFrames, Continues
	case rustFrames:
		rest := strings.TrimLeft(s, " ")
		if s == "stack backtrace:" || strings.HasPrefix(s, "note: ") || indented && rest[0] >= '0' && rest[0] <= '9' && strings.Contains(rest, ": ") {
			return rustFrames, Continues
		}
	case php:
		if strings.HasPrefix(s, "#") || strings.HasPrefix(s, "  thrown in ") {
			return php, Continues
		}
	case pem:
		if strings.Contains(s, "-----END ") {
			return nothing, Continues
		}
		if len(s) <= 80 && (strings.IndexByte(s, ' ') < 0 || strings.HasPrefix(s, "Proc-Type: ") || strings.HasPrefix(s, "DEK-Info: ")) {
			return pem, Continues
		}
	}
	if s == "Stack trace:" && o == nothing {
		return php, Continues
	}
	return nothing, Begins
}

// begun is what a line that is a record of its own begins.
func begun(s string) open {
	if s == "" {
		return nothing
	}
	switch {
	case isTraceback(s):
		return python
	case strings.HasPrefix(s, "panic: "), strings.HasPrefix(s, "fatal error: "), strings.HasPrefix(s, "goroutine ") && strings.HasSuffix(s, "]:"):
		return golang
	case strings.HasPrefix(s, "thread '") && strings.Contains(s, "' panicked at ") && strings.HasSuffix(s, ":"):
		return rust
	case strings.Contains(s, "-----BEGIN ") && !strings.Contains(s, "-----END "):
		return pem
	case isScript(s):
		return nodeAt
	}
	return nothing
}

func isTraceback(s string) bool { return strings.HasSuffix(s, "Traceback (most recent call last):") }

// isException says whether a line names what was thrown: one word with or without
// a message after a colon.
func isException(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case nameByte(c), c == '.':
		case c == ':':
			return i > 0 && (i+1 == len(s) || s[i+1] == ' ')
		case c == ' ' || c == '[':
			// Error [ERR_X]: of Node
			return i > 0 && strings.HasPrefix(s[i:], " [ERR_")
		default:
			return false
		}
	}
	return s != "" && (s[0] < '0' || s[0] > '9')
}

// isCall is what Go writes of a function: its name and its arguments.
func isCall(s string) bool {
	i := strings.IndexByte(s, '(')
	return i > 0 && s[len(s)-1] == ')' && strings.IndexByte(s[:i], ' ') < 0 && strings.IndexByte(s[:i], '.') > 0
}

// isQualified is the same without arguments.
func isQualified(s string) bool {
	return strings.IndexByte(s, ' ') < 0 && strings.IndexByte(s, '.') > 0 && strings.IndexByte(s, '=') < 0 && s[0] != '{'
}

// isScript is what Node writes first of an error that nobody caught: where it is.
func isScript(s string) bool {
	i := strings.LastIndexByte(s, ':')
	if i <= 0 || !digits(s[i+1:]) || strings.IndexByte(s, ' ') >= 0 {
		return false
	}
	for _, ext := range [...]string{".js", ".ts", ".mjs", ".cjs", ".jsx", ".tsx"} {
		if strings.HasSuffix(s[:i], ext) {
			return true
		}
	}
	return strings.HasPrefix(s, "node:")
}

// unwrap cuts what a container runtime writes before a line. stream is o or e, and
// 0 for a line without.
func unwrap(line string) (text string, stream byte, partial bool) {
	if len(line) < 30 || line[0] < '0' || line[0] > '9' || line[4] != '-' {
		return line, 0, false
	}
	i := strings.IndexByte(line, ' ')
	if i < 20 || i > 36 || line[10] != 'T' {
		return line, 0, false
	}
	rest := line[i+1:]
	if len(rest) < 8 || rest[:3] != "std" || rest[6] != ' ' {
		return line, 0, false
	}
	if text, ok := runtimeMessage(rest); ok {
		return text, rest[3], rest[7] == 'P'
	}
	return line, 0, false
}

// Append adds a line to a record that it is part of.
func Append(record []byte, line string, as Part) []byte {
	text, _, _ := unwrap(line)
	if as != Extends {
		record = append(record, '\n')
	}
	return append(record, text...)
}

// telling is the line of a stack trace that says what happened, and whether a text
// of several lines is one.
func telling(s string) (string, bool) {
	first, rest, more := strings.Cut(s, "\n")
	if !more {
		return s, false
	}
	var j Joiner
	j.next(strings.TrimRight(first, " \t\r"))
	if j.Secret() {
		return s, false
	}
	out, is := first, false
	for n := 0; more; n++ {
		var line string
		line, rest, more = strings.Cut(rest, "\n")
		line = strings.TrimRight(line, " \t\r")
		part := j.next(line)
		if part == Begins {
			// What was thrown often stands below what is said of it.
			if n == 0 && isException(line) && more && looksLikeFrame(rest) {
				is = true
				continue
			}
			break
		}
		is = true
		if part == Concludes {
			out = line
		}
	}
	if !is {
		return s, false
	}
	return out, true
}

func looksLikeFrame(s string) bool {
	line, _, _ := strings.Cut(s, "\n")
	_, ok := frame(strings.TrimRight(line, "\r"))
	return ok
}
