package loki

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
)

// traces joins the lines of stack traces, of keys, and the pieces of lines that a
// container runtime has cut, stream by stream. What is open at the end of a window
// goes on in the next one; it is saved with the cursor.
type traces struct{ open map[uint64]uint16 }

const (
	// maxOpen bounds the streams in which something is open.
	maxOpen = 1024
	// openFor is how long before the end of a window the last line was, where it is
	// taken to go on in the next.
	openFor = time.Second
	// longestTrace bounds what is kept of a trace, in bytes: the first half of its
	// lines and the last, which says what caused it, or what it is about.
	longestTrace = 4000
	// longestPieces bounds a line that is put together.
	longestPieces = 256 << 10
)

func newTraces(saved []byte) *traces {
	t := &traces{open: map[uint64]uint16{}}
	for ; len(saved) >= 10 && len(t.open) < maxOpen; saved = saved[10:] {
		t.open[binary.LittleEndian.Uint64(saved)] = binary.LittleEndian.Uint16(saved[8:])
	}
	return t
}

// save is what a cursor is to hold.
func (t *traces) save() []byte {
	var out []byte
	for _, id := range slices.Sorted(maps.Keys(t.open)) {
		out = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint64(out, id), t.open[id])
	}
	return out
}

// entry is a line of a stream, or several that are one record.
type entry struct {
	at   time.Time
	text string
	// secret: it goes on with a key that began before.
	secret bool
}

// source is a stream of Loki in one window.
type source struct {
	stream
	entries []entry
}

// join makes records of the lines of a window, in the order of their times; of
// those that have the same, in the order in which Loki gives them.
func (t *traces) join(streams []stream, start, end time.Time) []source {
	var all []source
	index := map[uint64]int{}
	ids := []uint64{}
	for _, st := range streams {
		id := event.LabelsOf(st.Labels).Hash() + uint64(st.rate)
		i, ok := index[id]
		if !ok {
			i = len(all)
			index[id] = i
			all, ids = append(all, source{stream: st, entries: make([]entry, 0, len(st.Values))}), append(ids, id)
		}
		for _, v := range st.Values {
			if at, text, ok := value(v); ok && !at.Before(start) && at.Before(end) {
				all[i].entries = append(all[i].entries, entry{at: at, text: text})
			}
		}
	}
	left := map[uint64]uint16{}
	for i := range all {
		lines := all[i].entries
		if len(lines) == 0 {
			continue
		}
		slices.SortStableFunc(lines, func(a, b entry) int { return a.at.Compare(b.at) })
		j := logpattern.Resumed(t.open[ids[i]])
		last := lines[len(lines)-1].at
		all[i].entries = records(&j, lines)
		if saved := j.Saved(); saved != 0 && end.Sub(last) <= openFor {
			left[ids[i]] = saved
		}
	}
	for _, id := range slices.Sorted(maps.Keys(left))[min(maxOpen, len(left)):] {
		delete(left, id)
	}
	t.open = left
	return all
}

// records joins lines that are one record, in place.
func records(j *logpattern.Joiner, lines []entry) []entry {
	out := lines[:0]
	for n := 0; n < len(lines); {
		first := lines[n]
		if strings.IndexByte(first.text, '\n') >= 0 { // joined already
			*j = logpattern.Joiner{}
			out = append(out, first)
			n++
			continue
		}
		first.secret = j.Secret()
		part := j.Next(first.text)
		first.secret = first.secret && part != logpattern.Begins
		var rec trace
		for n++; n < len(lines) && strings.IndexByte(lines[n].text, '\n') < 0; n++ {
			was := *j
			part := j.Next(lines[n].text)
			if part == logpattern.Begins {
				*j = was
				break
			}
			rec.add(first.text, lines[n].text, part)
		}
		if rec.lines != nil {
			first.text = rec.text()
		}
		out = append(out, first)
	}
	return out
}

// trace is a record of several lines.
type trace struct{ lines []string }

func (r *trace) add(first, line string, as logpattern.Part) {
	if r.lines == nil {
		r.lines = []string{first}
	}
	if as == logpattern.Extends {
		if last := &r.lines[len(r.lines)-1]; len(*last)+len(line) <= longestPieces {
			*last = string(logpattern.Append([]byte(*last), line, as))
		}
		return
	}
	r.lines = append(r.lines, string(logpattern.Append(nil, line, as)[1:]))
}

// text is the record, without the middle of a long one.
func (r *trace) text() string {
	size := 0
	for _, l := range r.lines[1:] {
		size += len(l) + 1
	}
	if size <= longestTrace {
		return strings.Join(r.lines, "\n")
	}
	from, head := 1, 0
	for ; from < len(r.lines) && head+len(r.lines[from]) < longestTrace/2; from++ {
		head += len(r.lines[from]) + 1
	}
	to, tail := len(r.lines), 0
	for ; to > from && tail+len(r.lines[to-1]) < longestTrace/2; to-- {
		tail += len(r.lines[to-1]) + 1
	}
	kept := slices.Concat(r.lines[:from], []string{fmt.Sprintf("\t... %d frames omitted", to-from)}, r.lines[to:])
	return strings.Join(kept, "\n")
}
