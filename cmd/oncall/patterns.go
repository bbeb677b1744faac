package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/pkg/service"
)

func newPatterns(o *options) *cobra.Command {
	var final, summary, compare bool
	c := &cobra.Command{
		Use: "patterns FILE|-", Short: "Say which statement wrote each line of a log, without a cluster.",
		Long: `Say which statement wrote each line of a log: one line of JSON for each of its
lines, in order, empty ones too.

  line      its number, from 1
  pattern   the id of the statement: 16 hexadecimal digits. The same statement has
            the same id in every log in which it was first met in the same words
  template  its words, with <*> for what varies

FILE may be compressed with gzip; - is standard input. Headers are cut off before
(timestamps, levels, the envelopes of container runtimes, JSON, logfmt, klog,
syslog, log4j). The lines of a stack trace are of one pattern, and it counts once;
a line that a runtime has cut is put together. What varies is learnt as lines come, and two patterns may become
one. The ids of a FILE are those after its last line. Those of standard input come
at once, as they are at that line, or as they will probably be: of a pattern that
differs in one place from an older one, where such places mostly come to vary, that of
the older one. They come after the last line with --final.

--summary writes a table of the patterns instead, the most frequent first: how
often, the worst level, the first and last line, and when over the log (over its
time, if nine lines of ten state one with a year; else over its lines).

--compare says what is new, gone or changed from one log to another, the most
surprising first. One log may be longer than the other: what is compared is the
share of a pattern, after what most patterns did has been taken out. The p-value is
of a binomial test that allows for bursts (it counts as many lines less as the
pattern came in bursts within each log); changed are those that stay below 0.05
when corrected for the number of patterns (Benjamini-Hochberg). New and gone ones
are listed however rare they are.`,
		Example: `  kubectl logs deploy/checkout | oncall patterns - --final | jq -r .template | sort | uniq -c
  oncall patterns --summary app.log.gz
  oncall patterns --compare yesterday.log today.log -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if compare {
				return exactArgs(2, "two logs with --compare: BEFORE AFTER")(cmd, args)
			}
			return exactArgs(1, "one FILE, or - for standard input")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case compare && summary:
				return hint(&service.UsageError{Err: errors.New("--compare and --summary exclude each other")}, service.ExitUsage, "leave one out")
			case compare:
				if args[0] == "-" && args[1] == "-" {
					return hint(&service.UsageError{Err: errors.New("--compare: standard input is one log, not two")}, service.ExitUsage, "name a file for one of them")
				}
				return o.comparePatterns(args[0], args[1], cmd.InOrStdin())
			case summary:
				return o.summarizePatterns(args[0], cmd.InOrStdin())
			case o.output != "table" && o.output != "json":
				return hint(&service.UsageError{Err: fmt.Errorf("--output %s: is for --summary and --compare; lines are JSON", o.output)}, service.ExitUsage, "-o json")
			}
			return patternsOf(cmd.OutOrStdout(), args[0], cmd.InOrStdin(), final)
		},
	}
	c.Flags().BoolVar(&final, "final", false, "of standard input, write after its last line, with the ids as they are then")
	c.Flags().BoolVar(&summary, "summary", false, "write a table of the patterns")
	c.Flags().BoolVar(&compare, "compare", false, "write what changed from one log to another: BEFORE AFTER")
	return c
}

// patternLine is a line of output. It is a contract: fields are added, never
// changed.
type patternLine struct {
	Line     int    `json:"line"`
	Pattern  string `json:"pattern"`
	Template string `json:"template"`
}

// patternsOf writes the pattern of every line of a log.
func patternsOf(w io.Writer, name string, stdin io.Reader, final bool) error {
	out := bufio.NewWriterSize(w, 64<<10)
	m := logpattern.New(logpattern.Config{})
	if name == "-" && !final {
		n := 0
		var joined logpattern.Joiner
		var match logpattern.Match
		err := eachLine(name, stdin, func(text []byte, more bool) error {
			n++
			line := string(text)
			// What goes on with a trace is of it; what it is about is said at its end.
			if part := joined.Next(line); n == 1 || part == logpattern.Begins || part == logpattern.Concludes {
				match = m.Add(line)
			}
			if err := writePattern(out, n, match.Likely, m.Template(match.ID)); err != nil || more {
				return err
			}
			return out.Flush() // somebody waits for it
		})
		return errors.Join(err, out.Flush())
	}
	var ids []uint64
	if err := eachRecord(name, stdin, func(text string, lines int) error {
		ids = append(ids, slices.Repeat([]uint64{m.Add(text).ID}, lines)...)
		return nil
	}); err != nil {
		return err
	}
	templates := map[uint64]string{}
	resolved := map[uint64]uint64{}
	for i, id := range ids {
		now, ok := resolved[id]
		if !ok {
			now = m.Resolve(id)
			resolved[id], templates[now] = now, m.Template(now)
		}
		if err := writePattern(out, i+1, now, templates[now]); err != nil {
			return err
		}
	}
	return out.Flush()
}

func writePattern(w io.Writer, line int, id uint64, template string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // <*> is to be read by people too
	if err := enc.Encode(patternLine{Line: line, Pattern: patternID(id), Template: template}); err != nil {
		return fmt.Errorf("line %d: %w", line, err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func patternID(id uint64) string { return fmt.Sprintf("%016x", id) }

// longestLine is how much of a line is looked at, in bytes; what follows is
// passed over.
const longestLine = 1 << 20

// eachLine calls f with every line of a log, without its end; more says that the
// next one may be there without waiting. The text is only good during the call.
func eachLine(name string, stdin io.Reader, f func(text []byte, more bool) error) error {
	in := stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return &service.UsageError{Err: err}
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	r, err := unpacked(in)
	if err != nil {
		return &service.UsageError{Err: fmt.Errorf("%s: %w", name, err)}
	}
	var text []byte
	for begun := false; ; {
		part, err := r.ReadSlice('\n')
		begun = begun || len(part) > 0
		text = append(text, part[:min(len(part), longestLine-len(text))]...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return &service.UsageError{Err: fmt.Errorf("%s: %w", name, err)}
		}
		if begun {
			if err := f(bytes.TrimRight(text, "\r\n"), r.Buffered() > 0); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
		text, begun = text[:0], false
	}
}

// logged is a log that was read to its end: the pattern of each record, which is a
// line or a stack trace, and the time that it states.
type logged struct {
	lines int // of all records
	ids   []uint64
	first []int   // number of its first line
	times []int64 // Unix milliseconds; noTime for a line without
	level map[uint64]logpattern.Level
}

const noTime = -1 << 63

// readLog folds a log into a miner. Ids are final after [logged.settle].
func readLog(m *logpattern.Miner, name string, stdin io.Reader) (*logged, error) {
	l := &logged{level: map[uint64]logpattern.Level{}}
	err := eachRecord(name, stdin, func(text string, lines int) error {
		match := m.Add(text)
		l.ids, l.first = append(l.ids, match.ID), append(l.first, l.lines+1)
		l.lines += lines
		l.level[match.ID] = max(l.level[match.ID], match.Level)
		at := int64(noTime)
		if t, ok := logpattern.Time(text); ok {
			at = t.UnixMilli()
		}
		l.times = append(l.times, at)
		return nil
	})
	return l, err
}

// settle replaces ids by those that templates have now.
func (l *logged) settle(m *logpattern.Miner) {
	resolved := map[uint64]uint64{}
	level := map[uint64]logpattern.Level{}
	for i, id := range l.ids {
		now, ok := resolved[id]
		if !ok {
			now = m.Resolve(id)
			resolved[id] = now
			level[now] = max(level[now], l.level[id])
		}
		l.ids[i] = now
	}
	l.level = level
}

// span is from when to when a log goes, when nine lines of ten state a time.
func (l *logged) span() (from, to int64, ok bool) {
	n := 0
	for _, t := range l.times {
		if t == noTime {
			continue
		}
		if n == 0 {
			from, to = t, t
		}
		n++
		from, to = min(from, t), max(to, t)
	}
	return from, to, n > 0 && 10*n >= 9*len(l.times)
}

// place is a record of a log: the number of its first line, and its time when it
// states one.
type place struct {
	Line int        `json:"line"`
	Time *time.Time `json:"time,omitempty"`
}

func (l *logged) place(i int) place {
	p := place{Line: l.first[i]}
	if t := l.times[i]; t != noTime {
		at := time.UnixMilli(t).UTC()
		p.Time = &at
	}
	return p
}

func (p place) String() string {
	if p.Time != nil {
		return p.Time.Format("2006-01-02T15:04:05Z")
	}
	return fmt.Sprintf("line %d", p.Line)
}
