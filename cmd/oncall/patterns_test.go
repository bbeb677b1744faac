package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/logpattern"
)

// patternsAt writes a log and returns the pattern of each of its lines.
func patternsAt(t *testing.T, log string, atOnce bool) (ids, templates []string) {
	t.Helper()
	var out bytes.Buffer
	name, in := filepath.Join(t.TempDir(), "app.log"), strings.NewReader(log)
	if err := os.WriteFile(name, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	if atOnce {
		name = "-"
	}
	if err := patternsOf(&out, name, in, false); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(&out)
	for n := 1; lines.Scan(); n++ {
		var p patternLine
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil || p.Line != n || len(p.Pattern) != 16 {
			t.Fatalf("output line %d is %s: %v", n, lines.Text(), err)
		}
		ids, templates = append(ids, p.Pattern), append(templates, p.Template)
	}
	return ids, templates
}

func TestEachLineOfATraceHasThePatternOfItsTrace(t *testing.T) {
	for _, language := range []string{"java", "python", "go", "node", "others"} {
		raw, err := os.ReadFile("../../pkg/logpattern/testdata/traces/" + language + ".log")
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile("../../pkg/logpattern/testdata/traces/" + language + ".want")
		if err != nil {
			t.Fatal(err)
		}
		ids, templates := patternsAt(t, string(raw), false)
		if n := strings.Count(string(raw), "\n"); len(ids) != n {
			t.Fatalf("%s: %d lines of output of %d lines", language, len(ids), n)
		}
		for _, span := range strings.Fields(string(want)) {
			from, to := 0, 0
			if n, _ := fmt.Sscanf(span, "%d-%d", &from, &to); n == 1 {
				to = from
			}
			for i := from; i < to; i++ {
				if ids[i] != ids[from-1] {
					t.Errorf("%s: line %d is of %q, and its trace of %q", language, i+1, templates[i], templates[from-1])
				}
			}
		}
		atOnce, _ := patternsAt(t, string(raw), true)
		if len(atOnce) != len(ids) {
			t.Errorf("%s: %d lines of output at once, %d after the last", language, len(atOnce), len(ids))
		}
	}
}

func TestEveryLineHasOneLineOfOutput(t *testing.T) {
	for name, tc := range map[string]struct {
		log  string
		want int
	}{
		"an empty log":                  {"", 0},
		"one line without an end":       {"a", 1},
		"empty lines":                   {"\n\n\n", 3},
		"nothing but a frame":           {"\tat a.b(c.java:1)\n", 1},
		"a frame first":                 {"\tat a.b(c.java:1)\n\tat a.c(c.java:2)\nready\n", 3},
		"a line that the runtime cut":   {"2026-03-01T10:00:00.000000001Z stdout P half a\n2026-03-01T10:00:00.000000002Z stdout F line\n", 2},
		"a line of a megabyte":          {strings.Repeat("word ", 1<<18) + "\n\tat a.b(c.java:1)\nready\n", 3},
		"binary and invalid characters": {"\x00\x01\xff\xfe\n\x80\n", 2},
		"JSON that is nested too deep":  {strings.Repeat(`{"a":[`, 50_000) + "\nready\n", 2},
	} {
		t.Run(name, func(t *testing.T) {
			for _, atOnce := range []bool{false, true} {
				if ids, _ := patternsAt(t, tc.log, atOnce); len(ids) != tc.want {
					t.Errorf("at once %v: %d lines of output, want %d", atOnce, len(ids), tc.want)
				}
			}
		})
	}
}

func TestATraceCountsOnceInASummary(t *testing.T) {
	raw, err := os.ReadFile("../../pkg/logpattern/testdata/traces/java.log")
	if err != nil {
		t.Fatal(err)
	}
	m := logpattern.New(logpattern.Config{})
	l, err := readLog(m, "-", strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	l.settle(m)
	s := summarize(m, l)
	if s.Lines != 13 || len(s.Patterns) != 4 {
		t.Fatalf("%d lines and %d patterns, want 13 and 4: %+v", s.Lines, len(s.Patterns), s.Patterns)
	}
	for _, p := range s.Patterns {
		if p.Count != 1 || strings.Contains(p.Template, "IllegalState") && p.First.Line != 3 || strings.Contains(p.Template, "served") && p.First.Line != 13 {
			t.Errorf("%d times %q, first in line %d", p.Count, p.Template, p.First.Line)
		}
	}
}
