package loki

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
)

// written is a stream that writes a line each millisecond.
func written(labels map[string]string, from time.Time, lines ...string) stream {
	st := stream{Labels: labels}
	for i, l := range lines {
		st.Values = append(st.Values, [2]string{strconv.FormatInt(from.Add(time.Duration(i)*time.Millisecond).UnixNano(), 10), l})
	}
	return st
}

func published(batches []event.LogBatch) (out []string) {
	for _, b := range batches {
		for _, st := range b.Streams {
			for _, l := range st.Lines {
				out = append(out, l.Text)
			}
		}
	}
	return out
}

func logOf(t *testing.T, language string) []string {
	t.Helper()
	raw, err := os.ReadFile("../../../pkg/logpattern/testdata/traces/" + language + ".log")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
}

func TestAStackTraceIsOneLineWhoeverWritesBetweenItsFrames(t *testing.T) {
	s := small(10 << 20)
	java, python := logOf(t, "java"), logOf(t, "python")
	out := written(map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q", "stream": "stdout"}, noon, java...)
	errs := written(map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q", "stream": "stderr"}, noon.Add(500*time.Microsecond), python...)
	// Loki's answer came in two.
	rest := stream{Labels: out.Labels, Values: out.Values[5:]}
	out.Values = out.Values[:5]
	got := published(s.batches([]stream{rest, errs, out}, noon, noon.Add(5*time.Second), s.windows, s.traces))
	if len(got) != 4+5 {
		t.Fatalf("%d lines are published, want 4 and 5:\n%s", len(got), strings.Join(got, "\n---\n"))
	}
	for _, want := range []string{strings.Join(java[2:12], "\n"), strings.Join(python[2:15], "\n")} {
		if !slices.Contains(got, want) {
			t.Errorf("\n%s\nis not among\n%s", want, strings.Join(got, "\n---\n"))
		}
	}
}

// TestATraceThatAWindowCutsGoesOnAfterARestart cuts logs at every line, and reads
// each half with a collector of its own.
func TestATraceThatAWindowCutsGoesOnAfterARestart(t *testing.T) {
	labels := map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q"}
	end := noon.Add(5 * time.Second)
	for _, language := range []string{"java", "python", "go", "node"} {
		lines := logOf(t, language)
		whole := published(small(10<<20).batches([]stream{written(labels, noon, lines...)}, noon, end, nil, newTraces(nil)))
		for cut := 1; cut < len(lines); cut++ {
			s := small(10 << 20)
			first := published(s.batches([]stream{written(labels, end.Add(-time.Duration(cut)*time.Millisecond), lines[:cut]...)}, noon, end, s.windows, s.traces))
			position, err := json.Marshal(cursor{End: end, Open: s.traces.save()})
			if err != nil {
				t.Fatal(err)
			}
			var cur cursor
			if err := json.Unmarshal(position, &cur); err != nil {
				t.Fatal(err)
			}
			s = small(10 << 20)
			s.traces = newTraces(cur.Open)
			second := published(s.batches([]stream{written(labels, end, lines[cut:]...)}, end, end.Add(5*time.Second), s.windows, s.traces))
			// What was cut is one record more.
			if n := len(first) + len(second); n < len(whole) || n > len(whole)+1 {
				t.Errorf("%s cut after line %d: %d records and %d, want %d or one more", language, cut, len(first), len(second), len(whole))
			}
		}
	}
}

func TestOfALongTraceItsBeginningAndItsEndAreKept(t *testing.T) {
	lines := []string{"Traceback (most recent call last):"}
	for i := range 990 {
		lines = append(lines, fmt.Sprintf(`  File "/app/deep.py", line %d, in down`, i))
	}
	lines = append(lines, "RecursionError: maximum recursion depth exceeded")
	s := small(10 << 20)
	got := published(s.batches([]stream{written(map[string]string{"namespace": "shop", "pod": "web-0"}, noon, lines...)}, noon, noon.Add(5*time.Second), s.windows, s.traces))
	if len(got) != 1 || len(got[0]) > longestTrace+200 || !strings.Contains(got[0], " frames omitted\n") {
		t.Fatalf("%d records, the first of %d bytes", len(got), len(got[0]))
	}
	if text, level := logpattern.Content(got[0]); text != "RecursionError: maximum recursion depth exceeded" || level != logpattern.Error {
		t.Errorf("it tells %q (%s)", text, level)
	}
}

func TestAKeyOverSeveralLinesAndWindowsIsMasked(t *testing.T) {
	key := []string{"loaded -----BEGIN RSA PRIVATE KEY-----", "MIIEowIBAAKCAQEAx0planted0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1", "b0planted0bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb2", "c0planted0==", "-----END RSA PRIVATE KEY-----", "ready"}
	labels := map[string]string{"namespace": "shop", "pod": "web-0"}
	end := noon.Add(5 * time.Second)
	for cut := range len(key) + 1 {
		s := small(10 << 20)
		got := published(s.batches([]stream{written(labels, end.Add(-10*time.Millisecond), key[:cut]...)}, noon, end, s.windows, s.traces))
		s.traces = newTraces(s.traces.save())
		got = append(got, published(s.batches([]stream{written(labels, end, key[cut:]...)}, end, end.Add(5*time.Second), s.windows, s.traces))...)
		all := strings.Join(got, "\n")
		if strings.Contains(all, "planted") || !strings.Contains(all, "ready") || !strings.Contains(all, "loaded") && cut > 0 {
			t.Errorf("cut after line %d: %q", cut, got)
		}
	}
}

func TestTheStreamsInWhichSomethingIsOpenAreBounded(t *testing.T) {
	s := small(10 << 20)
	var streams []stream
	for p := range maxOpen + 50 {
		streams = append(streams, written(map[string]string{"namespace": "shop", "pod": fmt.Sprintf("web-%d", p)}, noon.Add(4999*time.Millisecond), "Traceback (most recent call last):"))
	}
	s.batches(streams, noon, noon.Add(5*time.Second), s.windows, s.traces)
	if len(s.traces.open) != maxOpen || len(s.traces.save()) != 10*maxOpen {
		t.Errorf("%d streams are open, want %d", len(s.traces.open), maxOpen)
	}
	s.batches(nil, noon.Add(5*time.Second), noon.Add(10*time.Second), s.windows, s.traces)
	if len(s.traces.open) != 0 {
		t.Errorf("%d streams are open that wrote nothing more", len(s.traces.open))
	}
}
