package loki

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// decode reads Loki's answer as Loki writes it: names as they are documented, each
// once, lines that are pairs of texts with metadata behind them or not. It says false
// of every other one, valid or not, which is then for encoding/json: what it reads it
// reads as that does, in a third of the time.
func decode(body []byte) (kind string, streams []stream, ok bool) {
	d := decoder{b: body}
	ok = d.object(func(name string) bool {
		if name != "data" {
			return !strings.EqualFold(name, "data") && d.skip(0)
		}
		return d.object(func(name string) bool {
			switch {
			case name == "resultType" && kind == "":
				kind, ok = d.text(nil)
				return ok && kind != ""
			case name == "result" && streams == nil:
				streams = []stream{}
				return d.array(func() bool {
					st, ok := d.stream()
					streams = append(streams, st)
					return ok
				})
			}
			return !strings.EqualFold(name, "resultType") && !strings.EqualFold(name, "result") && d.skip(0)
		})
	}) && d.end()
	return kind, streams, ok
}

// decoder reads JSON from its beginning. A method says false where there is not what
// it reads, and nothing may be read after that.
type decoder struct {
	b     []byte
	i     int
	lines arena
}

// stream reads one stream.
func (d *decoder) stream() (st stream, ok bool) {
	ok = d.object(func(name string) bool {
		switch {
		case name == "stream" && st.Labels == nil:
			st.Labels = map[string]string{}
			return d.object(func(name string) bool {
				v, ok := d.text(nil)
				st.Labels[name] = v
				return ok
			})
		case name == "values" && st.Values == nil:
			st.Values = [][2]string{}
			return d.array(func() bool {
				v, ok := d.value()
				st.Values = append(st.Values, v)
				return ok
			})
		}
		return !strings.EqualFold(name, "stream") && !strings.EqualFold(name, "values") && d.skip(0)
	})
	return st, ok
}

// value reads a line with its time, and passes over its metadata.
func (d *decoder) value() (v [2]string, ok bool) {
	if !d.next('[') {
		return v, false
	}
	if v[0], ok = d.text(&d.lines); !ok || !d.next(',') {
		return v, false
	}
	if v[1], ok = d.text(&d.lines); !ok {
		return v, false
	}
	for d.next(',') {
		if !d.skip(0) {
			return v, false
		}
	}
	return v, d.next(']')
}

// object reads an object; f reads the value of each name.
func (d *decoder) object(f func(name string) bool) bool {
	if !d.next('{') {
		return false
	}
	if d.next('}') {
		return true
	}
	for {
		name, ok := d.text(nil)
		if !ok || !d.next(':') || !f(name) {
			return false
		}
		if !d.next(',') {
			return d.next('}')
		}
	}
}

// array reads an array; f reads each of its values.
func (d *decoder) array(f func() bool) bool {
	if !d.next('[') {
		return false
	}
	if d.next(']') {
		return true
	}
	for {
		if !f() {
			return false
		}
		if !d.next(',') {
			return d.next(']')
		}
	}
}

// next reads c, after white space.
func (d *decoder) next(c byte) bool {
	d.space()
	if d.i < len(d.b) && d.b[d.i] == c {
		d.i++
		return true
	}
	return false
}

func (d *decoder) space() {
	for d.i < len(d.b) && (d.b[d.i] == ' ' || d.b[d.i] == '\n' || d.b[d.i] == '\t' || d.b[d.i] == '\r') {
		d.i++
	}
}

// end says whether nothing but white space is left.
func (d *decoder) end() bool {
	d.space()
	return d.i == len(d.b)
}

// plain are the bytes of a text that stand for themselves.
var plain = func() (t [256]bool) {
	for c := range 256 {
		t[c] = c >= ' ' && c != '"' && c != '\\'
	}
	return t
}()

// escapes are what stands for one byte after a backslash.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// text reads a text into an arena, or by itself.
func (d *decoder) text(into *arena) (string, bool) {
	if !d.next('"') {
		return "", false
	}
	b, from := d.b, d.i
	i := from
	for i < len(b) && plain[b[i]] {
		i++
	}
	if i < len(b) && b[i] == '"' {
		d.i = i + 1
		if !utf8.Valid(b[from:i]) {
			return d.odd(from)
		}
		return into.keep(b[from:i]), true
	}
	// With something to be unescaped. The end is looked for first: what is unescaped
	// is no longer.
	end := i
	for end < len(b) && b[end] != '"' {
		switch {
		case b[end] == '\\':
			end += 2
		case b[end] < ' ':
			return "", false
		default:
			end++
		}
	}
	if end >= len(b) {
		return "", false
	}
	d.i = end + 1
	if !utf8.Valid(b[from:end]) {
		return d.odd(from)
	}
	to := into.room(end - from)
	for run := from; ; {
		to.Write(b[run:i])
		if i == end {
			break
		}
		c := escapes[b[i+1]]
		if c == 0 {
			// It may be any character, and none.
			return d.odd(from)
		}
		to.WriteByte(c)
		i += 2
		run = i
		for plain[b[i]] { // up to the end at most, which is none
			i++
		}
	}
	return into.kept(to), true
}

// odd reads the text that began at from and was read up to its end once more, with
// whatever it may hold.
func (d *decoder) odd(from int) (s string, ok bool) {
	return s, json.Unmarshal(d.b[from-1:d.i], &s) == nil
}

// deepest is how deep a value may be that is passed over.
const deepest = 32

// skip passes over a value.
func (d *decoder) skip(depth int) bool {
	d.space()
	if d.i == len(d.b) || depth > deepest {
		return false
	}
	switch c := d.b[d.i]; c {
	case '{':
		return d.object(func(string) bool { return d.skip(depth + 1) })
	case '[':
		return d.array(func() bool { return d.skip(depth + 1) })
	case '"':
		_, ok := d.text(nil)
		return ok
	}
	from := d.i
	for d.i < len(d.b) && strings.IndexByte("+-.0123456789Eaeflnrstu", d.b[d.i]) >= 0 {
		d.i++
	}
	return json.Valid(d.b[from:d.i])
}
