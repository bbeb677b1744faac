package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	recorded "github.com/oncall-copilot/oncall/examples/incidents"
	"github.com/oncall-copilot/oncall/internal/pipeline"
)

var update = flag.Bool("update", false, "write the golden files, and the README's demo")

func shownDemo(t *testing.T, fast bool) string {
	t.Helper()
	b, err := recorded.Open(recorded.Default)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	o := &options{output: "table", out: &out}
	if err := demo(t.Context(), o, b, fast, io.Discard); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The marks in the README between which the demo's output stands.
const demoBegins, demoEnds = "<!-- oncall demo -->\n```text\n", "```\n<!-- end -->"

// TestTheDemoShowsWhatTheREADMEShows compares the whole output, which is a
// function of the recording, with the README, where people see it first.
func TestTheDemoShowsWhatTheREADMEShows(t *testing.T) {
	got := shownDemo(t, true)
	for n, line := range strings.Split(got, "\n") {
		if len([]rune(line)) > 80 && !strings.Contains(line, "kubectl") && !strings.Contains(line, "logcli") && !strings.Contains(line, "promtool") {
			t.Errorf("line %d has more than 80 columns, and is no command: %s", n+1, line)
		}
	}
	readme := filepath.Join("..", "..", "README.md")
	b, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), demoBegins)
	shown, after, ok2 := strings.Cut(rest, demoEnds)
	if !ok1 || !ok2 {
		t.Fatalf("README.md has no %q … %q", demoBegins, demoEnds)
	}
	if *update {
		if err := os.WriteFile(readme, []byte(before+demoBegins+got+demoEnds+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if shown != got {
		t.Errorf("README.md shows another demo; run go test ./cmd/oncall -run Demo -update and read the difference:\n%s", got)
	}
}

func TestTheDemoPrintsItsReportWithinTenSeconds(t *testing.T) {
	if os.Getenv("ONCALL_TIMING") == "" {
		t.Skip("measures the machine too: set ONCALL_TIMING=1 on one that is idle")
	}
	began := time.Now()
	out := shownDemo(t, false)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	if !strings.Contains(out, "Likely:") || !strings.Contains(out, "OOMKilled") {
		t.Errorf("the incident is not told to its end:\n%s", out)
	}
}

// TestEveryShippedIncidentReplaysAlikeFromSourcesAndTelemetry compares what is
// found when the collector reads a recording with what is found from its
// streams.
func TestEveryShippedIncidentReplaysAlikeFromSourcesAndTelemetry(t *testing.T) {
	for _, name := range recorded.Names() {
		t.Run(name, func(t *testing.T) {
			digests := map[string]bool{}
			for _, from := range []pipeline.From{pipeline.FromSources, pipeline.FromTelemetry} {
				b, err := recorded.Open(name)
				if err != nil {
					t.Fatal(err)
				}
				h, err := openReplay(t.Context(), &options{output: "table", out: io.Discard}, b, io.Discard)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = h.Close() }()
				r := &pipeline.Replay{Host: h, Bundle: b, From: from}
				if err := r.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				// What is shipped is what this program finds: whoever replays it is told
				// that it is equal.
				if c, err := r.Compare(t.Context()); err != nil || c.Difference != "" {
					t.Errorf("from %s: %s, %v; if that is meant, judge it again: oncall replay --from sources --record", from, c.Difference, err)
				}
				d, err := pipeline.Digest(t.Context(), h.Bus)
				if err != nil {
					t.Fatal(err)
				}
				digests[d] = true
			}
			if len(digests) != 1 {
				t.Errorf("digests differ: %v", digests)
			}
		})
	}
}
