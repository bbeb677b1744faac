package logpattern

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func linesOf(t testing.TB, path string) []string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
}

// spans are the records of lines, as their first and last.
func spans(lines []string) (out []string) {
	var j Joiner
	from := 0
	for i := range len(lines) + 1 {
		if i < len(lines) && j.Next(lines[i]) != Begins && i > 0 {
			continue
		}
		if i > 0 {
			span := fmt.Sprint(from + 1)
			if i > from+1 {
				span += fmt.Sprint("-", i)
			}
			out = append(out, span)
		}
		from = i
	}
	return out
}

func traces(t testing.TB) []string {
	t.Helper()
	all, err := filepath.Glob("testdata/traces/*.log")
	if err != nil || len(all) < 5 {
		t.Fatal(all, err)
	}
	return all
}

func TestTheLinesOfAStackTraceAreOneRecord(t *testing.T) {
	for _, path := range traces(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			lines := linesOf(t, path)
			want := linesOf(t, strings.TrimSuffix(path, ".log")+".want")
			if got := spans(lines); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("records of lines %v, want %v", got, want)
			}
			// The same inside what a container runtime writes, with every other line cut.
			var cri []string
			for i, l := range lines {
				stamp := fmt.Sprintf("2026-03-01T10:00:00.%09dZ stderr ", i)
				if i%2 == 1 && len(l) > 10 {
					cri = append(cri, stamp+"P "+l[:10], stamp+"F "+l[10:])
					continue
				}
				cri = append(cri, stamp+"F "+l)
			}
			var whole []string
			var j Joiner
			for _, l := range cri {
				if j.Next(l) == Extends {
					whole[len(whole)-1] = string(Append([]byte(whole[len(whole)-1]), l, Extends))
					continue
				}
				whole = append(whole, l)
			}
			for i := range whole {
				whole[i] = strings.Replace(whole[i], " stderr P ", " stderr F ", 1)
			}
			if len(whole) != len(lines) {
				t.Fatalf("%d lines are put together from %d pieces, want %d", len(whole), len(cri), len(lines))
			}
			for i, l := range whole {
				if !strings.HasSuffix(l, lines[i]) {
					t.Errorf("line %d is put together as %q, want %q", i+1, l, lines[i])
				}
			}
			if got := spans(whole); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("in a runtime's lines: records of lines %v, want %v", got, want)
			}
		})
	}
}

// joined are the records of a log.
func joined(lines []string) (out []string) {
	var j Joiner
	for i, l := range lines {
		part := j.Next(l)
		if i == 0 || part == Begins {
			out = append(out, l)
			continue
		}
		out[len(out)-1] = string(Append([]byte(out[len(out)-1]), l, part))
	}
	return out
}

func TestATraceIsOneTemplateThatSaysWhatWasThrown(t *testing.T) {
	for path, want := range map[string]string{
		"java": "java.lang.IllegalStateException ledger is closed since <*>", "python": "shop.errors.CartError no cart <*>",
		"go": "panic runtime error invalid memory address or <*> pointer dereference recovered", "node": "TypeError cart is undefined",
	} {
		t.Run(path, func(t *testing.T) {
			lines := linesOf(t, "testdata/traces/"+path+".log")
			m := New(Config{})
			templates := map[string]Level{}
			for range 3 {
				for _, r := range joined(lines) {
					match := m.Add(r)
					templates[m.Template(match.ID)] = max(templates[m.Template(match.ID)], match.Level)
				}
			}
			if level, ok := templates[want]; !ok || level < Error {
				t.Errorf("%q is not among the errors: %v", want, templates)
			}
			if records := len(joined(lines)); len(templates) > records {
				t.Errorf("%d templates of %d records: %v", len(templates), records, templates)
			}
		})
	}
}

func TestWhatIsNoTraceIsNotJoined(t *testing.T) {
	for name, lines := range map[string][]string{
		"indented text":               {"usage:", "  at least one file", "  from 1 to 3"},
		"a sentence with at":          {"look", " at 10:30 the job (nightly) began"},
		"a word and a colon":          {"ready", "ValueError: seen"},
		"a file and a line":           {"main.go:12: unused", "cart.go:13: unused"},
		"a caused by without a frame": {"down", "Caused by: maintenance"},
		"a number and a colon":        {"list", "   1: one"},
		"an empty line":               {"a", "", "b"},
		"a hash":                      {"a", "#1 b"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := spans(lines); len(got) != len(lines) {
				t.Errorf("%q are records of lines %v, want each its own", lines, got)
			}
		})
	}
}

// FuzzJoiner: the state is what is saved of it, and a record can be put together
// and mined.
func FuzzJoiner(f *testing.F) {
	for _, path := range traces(f) {
		f.Add(strings.Join(linesOf(f, path), "\n"))
	}
	f.Add("2026-03-01T10:00:00.000000001Z stdout P a\n2026-03-01T10:00:00.000000001Z stdout F b\n\x00\xff\n\t\n")
	f.Fuzz(func(t *testing.T, text string) {
		var j Joiner
		lines := strings.Split(text, "\n")
		for _, l := range lines {
			again := Resumed(j.Saved())
			if a, b := j.Next(l), again.Next(l); a != b || j != again {
				t.Fatalf("%q: %v, and %v after a restart", l, a, b)
			}
		}
		for _, r := range joined(lines) {
			Content(r)
		}
	})
}

func TestNoLineOfTheSharedLogsIsPartOfATrace(t *testing.T) {
	for name, lines := range sharedLogs(t) {
		var raw, content Joiner
		for i, l := range lines {
			if i > 0 && raw.Next(l.Raw) != Begins {
				t.Errorf("%s, line %d: %q", name, i+1, l.Raw)
			}
			if i > 0 && content.Next(l.Content) != Begins {
				t.Errorf("%s, content of line %d: %q", name, i+1, l.Content)
			}
		}
	}
}
