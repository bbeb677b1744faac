package signals

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/loghistory"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// TestWhatLokisPatternsShowIsNotCountedAgain is of statements of the last minutes of
// which patterns show three lines in each ten minutes of two hours, or nothing.
func TestWhatLokisPatternsShowIsNotCountedAgain(t *testing.T) {
	now := time.Date(2026, 11, 27, 8, 3, 0, 0, time.UTC)
	patterns := func(ago ...time.Duration) string {
		var samples []string
		for _, d := range ago {
			samples = append(samples, fmt.Sprintf("[%d,3]", now.Add(-d).Unix()))
		}
		return `{"data":[{"pattern":"dial tcp <_> refused","samples":[` + strings.Join(samples, ",") + `]}]}`
	}
	var hours []time.Duration
	for d := 10 * time.Minute; d <= 2*time.Hour; d += 10 * time.Minute {
		hours = append(hours, d)
	}
	refused := suspect{Statement: check.Statement{Entity: web, Template: "dial tcp <*> refused", Example: "dial tcp 10.0.0.4:5432 refused", Lines: 12}, selector: `{namespace="shop"}`}
	surge, other := refused, refused
	surge.Lines = 60
	other.Template, other.Example = "ledger rejected the entry", "ledger rejected the entry"
	for name, c := range map[string]struct {
		status int
		answer string
		list   []suspect
		want   []bool
		asked  int
	}{
		"few lines of what is there for hours":      {200, patterns(hours...), []suspect{refused}, []bool{true}, 1},
		"far more lines of it are counted":          {200, patterns(hours...), []suspect{surge}, []bool{false}, 1},
		"what patterns do not show is counted":      {200, patterns(hours...), []suspect{refused, other}, []bool{true, false}, 1},
		"what they show of the last minutes is new": {200, patterns(time.Minute, 20*time.Minute), []suspect{refused}, []bool{false}, 1},
		"a Loki without patterns":                   {404, "not found", []suspect{refused, other}, []bool{false, false}, 1},
		"a Loki that is too busy":                   {429, "later", []suspect{refused}, []bool{false}, 1},
		"of six statements of a workload, five are asked about": {
			200, patterns(hours...), slices.Repeat([]suspect{refused}, 6), []bool{true, true, true, true, true, false}, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked++
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.answer)
			}))
			defer srv.Close()
			up, err := upstream.New(upstream.Config{URL: srv.URL}, upstream.Settings{Source: "loki"})
			if err != nil {
				t.Fatal(err)
			}
			mask := redact.New(redact.Options{})
			r := &Reader{Loki: up, Redact: mask, history: loghistory.New(up, mask.Line)}
			if got := r.shown(t.Context(), c.list, now); !slices.Equal(got, c.want) || asked != c.asked {
				t.Errorf("%v by %d questions, want %v by %d", got, asked, c.want, c.asked)
			}
		})
	}
}
