package render_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
)

var update = flag.Bool("update", false, "write the golden files")

// hostile is what somebody who may write a log line may try.
const hostile = "x\x1b[31mred\x1b]0;title\x07 <!channel> [a](http://evil) `code` **b** <script>alert(1)</script> \u202eevil\nnext # h"

func report() event.Report {
	noon := time.Date(2026, 11, 24, 2, 51, 0, 0, time.UTC)
	web := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "checkout"}
	return event.Report{
		Incident: "7q2abcdefghij", Revision: 1, State: event.Open, Priority: event.P1, Cluster: "prod-eu-1", Entity: web, Onset: noon, Time: noon.Add(9 * time.Minute),
		Owner: event.Owner{Team: "payments", Rule: "label team"}, Headline: "P1 prod-eu-1 shop/deployment/checkout: 12 % of requests fail since 02:51 @payments",
		TLDR: "12 % of requests fail, for 9 min. Likely cause (high): rollout v412.", Symptom: "12 % of requests fail",
		Findings: []event.Finding{{Entity: web, Title: "OOMKilled in 6 of 6 pods " + hostile, Detail: "limit 256Mi", Evidence: []string{"E1"}}},
		Causes:   []event.Cause{{Text: "rollout v412 at 02:48", Entity: web, Confidence: event.High, Evidence: []string{"E1"}}},
		Checked:  []string{"no events about node/n1"}, Unknown: []string{"logs of shop/deployment/checkout: no loki is configured"},
		Checks:   []event.Check{{Why: "what changed", Command: "kubectl -n shop rollout history deployment checkout"}},
		Rollback: []event.Check{{Why: "return", Command: "kubectl -n shop rollout undo deployment checkout"}},
		Evidence: []event.Evidence{{ID: "E1", Source: "kubernetes", Query: "pods shop Deployment/checkout", Excerpt: []string{hostile}}},
		Timeline: []event.TimelineEntry{{Time: noon, Entity: web, What: hostile}},
		Links:    []event.Link{{Title: "Graph", URL: "https://grafana/explore?a=(b)"}}, Status: "Since 02:51 UTC checkout answers some requests with errors.",
	}
}

func TestReportsAreInertOnEverySurface(t *testing.T) {
	for name, f := range map[string]render.Format{"report.txt": render.Table, "report.md": render.MD, "report.json": render.JSON, "report.yaml": render.YAML} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := render.Report(&b, f, report(), render.Options{}); err != nil {
				t.Fatal(err)
			}
			if f == render.Table || f == render.MD {
				for _, bad := range []string{"\x1b", "\x07", "\u202e"} {
					if strings.Contains(b.String(), bad) {
						t.Errorf("%q got through", bad)
					}
				}
			}
			if f == render.MD && (strings.Contains(b.String(), "[a](http") && !strings.Contains(b.String(), "`") || strings.Contains(b.String(), "\n<script")) {
				t.Error("markup got through")
			}
			golden := filepath.Join("testdata", name)
			if *update {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Bytes(), want) {
				t.Errorf("differs from %s; run with -update and read the difference:\n%s", golden, b.String())
			}
		})
	}
}

func FuzzEscapes(f *testing.F) {
	f.Add(hostile)
	f.Fuzz(func(t *testing.T, s string) {
		for _, out := range []string{render.Plain(s), render.Markdown(s), render.Code(s)} {
			for _, r := range out {
				if r < ' ' || r == 0x7f || r == 0x9b {
					t.Errorf("%q lets %U through", s, r)
				}
			}
		}
	})
}
