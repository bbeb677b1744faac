package reasoner_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

var four = time.Date(2026, 11, 24, 16, 0, 0, 0, time.UTC)

// pastLoki is a Loki that has lines of one statement, by the minute they are of.
type pastLoki struct {
	patterns bool // it mines them
	status   int  // of all answers, when it is not 0
	lines    map[int]int
	begins   int // minute of the first line of any kind

	mu    sync.Mutex
	asked []string
}

func (l *pastLoki) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.FormValue("query")
	l.mu.Lock()
	l.asked = append(l.asked, strings.TrimPrefix(r.URL.Path, "/loki/api/v1/")+" "+query)
	l.mu.Unlock()
	at := func(minute int) time.Time { return four.Add(time.Duration(minute) * time.Minute) }
	var samples, values []string
	for minute, n := range l.lines {
		samples = append(samples, fmt.Sprintf("[%d,%d]", at(minute).Unix(), n))
		values = append(values, fmt.Sprintf(`[%d,"%d"]`, at(minute+1).Unix(), n)) // at the end of the step
	}
	switch {
	case l.status != 0:
		http.Error(w, "too many outstanding requests", l.status)
	case strings.HasSuffix(r.URL.Path, "/patterns") && !l.patterns:
		http.NotFound(w, r)
	case strings.HasSuffix(r.URL.Path, "/patterns"):
		fmt.Fprintf(w, `{"status":"success","data":[{"pattern":"level=error msg=\"dial tcp <_>: connection refused\"","samples":[%s]}]}`, strings.Join(samples, ","))
	case strings.HasPrefix(query, "{"):
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"streams","result":[{"stream":{},"values":[["%d","started"]]}]}}`, at(l.begins).UnixNano())
	default:
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[%s]}]}}`, strings.Join(values, ","))
	}
}

// recorder keeps what was answered.
type recorder struct {
	evidence.Retriever
	mu   sync.Mutex
	kept []event.Evidence
}

func (r *recorder) Retrieve(ctx context.Context, q evidence.Query) (event.Evidence, error) {
	e, err := r.Retriever.Retrieve(ctx, q)
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.kept = append(r.kept, e)
	}
	return e, err
}

// spoken is an incident that is one anomaly of logs.
func spoken(detector, summary string, change func(*event.Anomaly)) event.Incident {
	web := event.Entity{Namespace: "shop", Kind: "Workload", Name: "web"}
	a := event.Anomaly{
		Detector: detector, Series: "01", Key: "k1", Entity: web, Signal: "log:01", Class: event.ClassCause, Severity: event.Warning,
		Onset: four, WindowEnd: four.Add(5 * time.Minute), Observed: 40, Unit: "{line}/min", TailProb: 1e-8, Summary: summary,
		Labels:   map[string]string{"template": "dial tcp <*>: connection refused", "level": "error", event.LabelSource: "loki"},
		Evidence: []event.EvidenceRef{{Source: "loki", Query: `{namespace="shop", pod=~"web-.*"} |= "connection refused"`, Excerpt: []string{`level=error msg="dial tcp 10.0.0.4:5432: connection refused"`}}},
	}
	if change != nil {
		change(&a)
	}
	return event.Incident{
		ID: "log0000000001", Revision: 1, State: event.Open, Priority: event.P3, Entity: web, Title: "shop/web: " + summary, Onset: four, Opened: four, Updated: four.Add(5 * time.Minute),
		Anomalies: []event.Anomaly{a}, Related: []event.Entity{web}, Reason: "opened",
		Suspects: []event.Suspect{{Entity: web, Score: 3.2, Confidence: event.Medium, Why: web.String() + ": " + summary}},
	}
}

const newLine = "new log line (error): dial tcp <*>: connection refused"

func TestReportsSayWhatAStatementDidInTheHoursBefore(t *testing.T) {
	since := func(lines map[int]int, more map[int]int) map[int]int {
		for m, n := range more {
			lines[m] = n
		}
		return lines
	}
	spike := func(a *event.Anomaly) { a.Observed = 40 }
	gone := func(a *event.Anomaly) { a.Unit, a.Observed, a.Expected = "s", 1500, &event.Interval{High: 360} }
	for name, c := range map[string]struct {
		detector, summary string
		change            func(*event.Anomaly)
		loki              *pastLoki
		says              string // the finding
		doubt             string // the summary; "" when Loki speaks for the anomaly
		asked             int
	}{
		"a new one that Loki has never had": {
			"log_new_pattern", newLine, nil, &pastLoki{lines: map[int]int{0: 20, 1: 30}, begins: -161},
			"In Loki none in the 2 h 41 min before (lines counted in Loki).", "", 3,
		},
		"a new one of which Loki's patterns show none before is counted": {
			"log_new_pattern", newLine, nil, &pastLoki{patterns: true, lines: map[int]int{0: 20, 1: 30}, begins: -165},
			"In Loki none in the 2 h 45 min before (lines counted in Loki).", "", 3,
		},
		"a new one that Loki's patterns show since long before": {
			"log_new_pattern", newLine, nil, &pastLoki{patterns: true, lines: map[int]int{-160: 2, -155: 1, 0: 30}},
			"In Loki there at 13:20 already, 2 h 40 min before, with 3 lines up to then (Loki's patterns). That speaks against it.", "Loki has it at 13:20 already, so that it is not new", 1,
		},
		"a new one that was there half an hour before, counted": {
			"log_new_pattern", newLine, nil, &pastLoki{lines: map[int]int{-30: 2, 0: 30}, begins: -165},
			"In Loki there at 15:30 already, 30 min before, with 2 lines up to then (lines counted in Loki). That speaks against it.", "Loki has it at 15:30 already, so that it is not new", 3,
		},
		"a new one that was seen three minutes late": {
			"log_new_pattern", newLine, nil, &pastLoki{lines: map[int]int{-3: 2, 0: 30}, begins: -165},
			"In Loki there at 15:57 already, 3 min before, with 2 lines up to then (lines counted in Loki).", "", 3,
		},
		"a new one of a workload whose logs begin with it": {
			"log_new_pattern", newLine, nil, &pastLoki{lines: map[int]int{0: 30}, begins: 0},
			"In Loki nothing is known of the hours before: its logs in Loki begin at 16:00 (lines counted in Loki).", "", 3,
		},
		"a spike": {
			"log_spike", "40 lines a minute, expected about 2: dial tcp <*>: connection refused", spike, &pastLoki{patterns: true, lines: since(map[int]int{-160: 2, -100: 3}, map[int]int{0: 38, 1: 41})},
			"In Loki at most 3 lines a minute in the 2 h 40 min before, at 14:20 (Loki's patterns).", "", 1,
		},
		"a spike that is no more than before": {
			"log_spike", "40 lines a minute, expected about 2: dial tcp <*>: connection refused", spike, &pastLoki{patterns: true, lines: since(map[int]int{-160: 2, -100: 45}, map[int]int{0: 38, 1: 41})},
			"In Loki at most 45 lines a minute in the 2 h 40 min before, at 14:20 (Loki's patterns). That speaks against it.", "Loki has 45 lines a minute at 14:20, before it", 1,
		},
		"what has vanished": {
			"log_vanished", "no line for 25 m that came every 5 m: dial tcp <*>: connection refused", gone, &pastLoki{lines: map[int]int{-20: 1, -15: 1, -10: 1, -5: 1}, begins: -165},
			"In Loki 4 lines in the 2 h 45 min before, none since (lines counted in Loki).", "", 3,
		},
		"what has vanished from our sight alone": {
			"log_vanished", "no line for 25 m that came every 5 m: dial tcp <*>: connection refused", gone, &pastLoki{lines: map[int]int{-20: 1, -15: 1, 2: 1, 3: 1}, begins: -165},
			"In Loki 2 lines since, the first at 16:02 (lines counted in Loki). That speaks against it.", "Loki has it at 16:02, so that it is not gone", 3,
		},
		"what is said to have vanished and was not there": {
			"log_vanished", "no line for 25 m that came every 5 m: dial tcp <*>: connection refused", gone, &pastLoki{begins: -165},
			"In Loki none in the 2 h 45 min before either (lines counted in Loki). That speaks against it.", "Loki has none of it in the 2 h 45 min before either", 3,
		},
	} {
		t.Run(name, func(t *testing.T) {
			loki := c.loki
			inc := spoken(c.detector, c.summary, c.change)
			live := &recorder{Retriever: lokiAt(t, loki)}
			r, err := newReasoner(t, config(), live).Draft(t.Context(), inc)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, r)
			i := slices.IndexFunc(r.Findings, func(f event.Finding) bool { return f.Title == c.summary })
			if i < 0 || !strings.HasSuffix(r.Findings[i].Detail, c.says) || c.doubt == "" && strings.Contains(r.Findings[i].Detail, "against") {
				t.Fatalf("findings %+v, want one that says %q", r.Findings, c.says)
			}
			f := r.Findings[i]
			want, cause := event.Medium, event.Medium
			if c.detector == "log_spike" {
				want = event.High // of which no rule speaks
			}
			if c.doubt != "" {
				want, cause = event.Low, event.Low
			}
			if f.Confidence != want || len(r.Causes) != 1 || r.Causes[0].Confidence != cause {
				t.Errorf("finding is %s, want %s; causes %+v, want one that is %s", f.Confidence, want, r.Causes, cause)
			}
			if doubted := strings.Contains(r.TLDR, "in doubt: "+c.doubt) && strings.Contains(r.Causes[0].Text, c.doubt); c.doubt != "" && !doubted || c.doubt == "" && strings.Contains(r.TLDR, "in doubt") {
				t.Errorf("summary %q and cause %q, want the doubt %q", r.TLDR, r.Causes[0].Text, c.doubt)
			}
			shown := r.Evidence[slices.IndexFunc(r.Evidence, func(e event.Evidence) bool { return e.ID == f.Evidence[len(f.Evidence)-1] })]
			if !strings.Contains(shown.Query, `{namespace="shop", pod=~"web-.*"}`) || shown.Start.After(four.Add(-2*time.Hour)) {
				t.Errorf("the evidence is %+v, want the query of the hours before", shown)
			}
			if n := len(loki.asked) - 1; n != c.asked { // but for the lines of trouble
				t.Errorf("%d questions, want %d: %q", n, c.asked, loki.asked)
			}

			before := len(loki.asked)
			again, err := newReasoner(t, config(), evidence.NewRecorded(live.kept)).Draft(t.Context(), inc)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := json.Marshal(again)
			if want, _ := json.Marshal(r); string(got) != string(want) || len(loki.asked) != before {
				t.Errorf("from the record, with %d questions to Loki:\n%s\nwant\n%s", len(loki.asked)-before, got, want)
			}
		})
	}
}

func TestALokiThatFailsIsNamedAndTheReportIsWritten(t *testing.T) {
	inc := spoken("log_new_pattern", newLine, nil)
	r, err := newReasoner(t, config(), lokiAt(t, &pastLoki{status: http.StatusTooManyRequests})).Draft(t.Context(), inc)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, r)
	if !slices.ContainsFunc(r.Unknown, func(u string) bool {
		return strings.Contains(u, "the hours before in the logs of shop/workload/web") && strings.Contains(u, "too many outstanding requests")
	}) {
		t.Errorf("unknown is %q, want the hours before, and why", r.Unknown)
	}
	if len(r.Findings) == 0 || r.Findings[0].Confidence != event.Medium || r.Findings[0].Detail != "" {
		t.Errorf("findings %+v, want the anomaly as it was seen", r.Findings)
	}
}

func TestFewStatementsAreAskedAbout(t *testing.T) {
	inc := spoken("log_new_pattern", newLine, nil)
	one := inc.Anomalies[0]
	for i := range 20 {
		a := one
		a.Key, a.Summary = strconv.Itoa(i), fmt.Sprintf("%s %d", newLine, i)
		a.Labels = map[string]string{"template": fmt.Sprintf("dial tcp <*>: connection refused %d", i), event.LabelSource: "loki"}
		a.Evidence = slices.Clone(one.Evidence)
		a.Evidence[0].Query = fmt.Sprintf(`{namespace="shop", pod=~"web%d-.*"} |= "connection refused"`, i/2)
		inc.Anomalies = append(inc.Anomalies, a)
	}
	loki := &pastLoki{patterns: true, lines: map[int]int{0: 20}, begins: -165}
	if _, err := newReasoner(t, config(), lokiAt(t, loki)).Draft(t.Context(), inc); err != nil {
		t.Fatal(err)
	}
	if n := len(loki.asked) - 1; n < 3 || n > 9 {
		t.Errorf("%d questions for the hours before, want at most 9 for three statements: %q", n, loki.asked)
	}
}

// lokiAt answers from a Loki.
func lokiAt(t *testing.T, h http.Handler) evidence.Retriever {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	up, err := upstream.New(upstream.Config{URL: srv.URL}, upstream.Settings{Source: "loki"})
	if err != nil {
		t.Fatal(err)
	}
	m := evidence.NewMux()
	m.Add(evidence.Loki, "loki", evidence.NewLoki(up, redact.New(redact.Options{})))
	return m
}
