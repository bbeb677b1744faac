package loghistory

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/upstream"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func same(s string) string { return s }

func ago(minutes int) time.Time { return noon.Add(-time.Duration(minutes) * time.Minute) }

// fakeLoki answers as Loki would that has what the fields say.
type fakeLoki struct {
	patterns string // answer; "" for a Loki without the endpoint
	status   int    // of the pattern endpoint, in its stead
	lines    []time.Time
	oldest   time.Time
	refuses  bool // metric queries

	mu    sync.Mutex
	asked []string
}

func (f *fakeLoki) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.FormValue("query")
	f.mu.Lock()
	f.asked = append(f.asked, strings.TrimPrefix(r.URL.Path, "/loki/api/v1/")+" "+q)
	f.mu.Unlock()
	switch {
	case r.URL.Path == "/loki/api/v1/patterns" && f.status != 0:
		http.Error(w, "no", f.status)
	case r.URL.Path == "/loki/api/v1/patterns" && f.patterns == "":
		http.NotFound(w, r)
	case r.URL.Path == "/loki/api/v1/patterns":
		fmt.Fprint(w, f.patterns)
	case strings.HasPrefix(q, "{") && f.oldest.IsZero():
		fmt.Fprint(w, `{"data":{"resultType":"streams","result":[]}}`)
	case strings.HasPrefix(q, "{"):
		fmt.Fprintf(w, `{"data":{"resultType":"streams","result":[{"stream":{},"values":[["%d","x"]]}]}}`, f.oldest.UnixNano())
	case f.refuses:
		http.Error(w, "too many outstanding requests", http.StatusTooManyRequests)
	default:
		var values []string
		for _, at := range f.lines { // each in the step that ends after it
			values = append(values, fmt.Sprintf(`[%d,"1"]`, at.Truncate(time.Minute).Add(time.Minute).Unix()))
		}
		fmt.Fprintf(w, `{"data":{"resultType":"matrix","result":[{"metric":{},"values":[%s]}]}}`, strings.Join(values, ","))
	}
}

// pattern is one of Loki's answer, with a line at each time.
func pattern(text string, at ...time.Time) string {
	quoted, _ := json.Marshal(text)
	var samples []string
	for _, t := range at {
		samples = append(samples, fmt.Sprintf("[%d,3]", t.Unix()))
	}
	return fmt.Sprintf(`{"pattern":%s,"level":"error","samples":[%s]}`, quoted, strings.Join(samples, ","))
}

func answerOf(patterns ...string) string {
	return `{"status":"success","data":[` + strings.Join(patterns, ",") + `]}`
}

var refused = Statement{Template: "dial tcp connection refused", Lines: []string{`level=error msg="dial tcp: connection refused"`}}

func reader(t *testing.T, f *fakeLoki) *Reader {
	t.Helper()
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	up, err := upstream.New(upstream.Config{URL: srv.URL, ExtraMatchers: `cluster="eu"`}, upstream.Settings{Source: "loki"})
	if err != nil {
		t.Fatal(err)
	}
	return New(up, same)
}

func TestAStatementIsAsOldAsPatternsShowAndLinesProve(t *testing.T) {
	const ours, other = `level=error msg="dial tcp: connection refused"`, `level=info msg="all is well here"`
	for name, c := range map[string]struct {
		loki  *fakeLoki
		want  string // source, known and first in minutes ago, lines
		asked int
		fails bool
	}{
		"patterns that show it from the beginning on need no line": {
			&fakeLoki{patterns: answerOf(pattern(ours, ago(178), ago(60), ago(1)))}, "patterns 178 178 9", 1, false,
		},
		"a pattern that begins late may hide an earlier one, and lines are counted": {
			&fakeLoki{patterns: answerOf(pattern(other, ago(170)), pattern(ours, ago(20))), oldest: ago(500), lines: []time.Time{ago(90), ago(20)}}, "lines 180 90 2", 3, false,
		},
		"what is new is so by the lines": {
			&fakeLoki{patterns: answerOf(pattern(other, ago(170))), oldest: ago(500), lines: []time.Time{ago(2), ago(1)}}, "lines 180 2 2", 3, false,
		},
		"logs that begin later prove nothing of before": {
			&fakeLoki{patterns: answerOf(), oldest: ago(30), lines: []time.Time{ago(29)}}, "lines 30 29 1", 3, false,
		},
		"a mixed pattern says nothing of one statement": {
			&fakeLoki{patterns: answerOf(pattern(`level=error msg=<_>`, ago(179))), oldest: ago(500), lines: []time.Time{ago(5)}}, "lines 180 5 1", 3, false,
		},
		"without the endpoint lines are counted": {
			&fakeLoki{oldest: ago(500), lines: []time.Time{ago(5)}}, "lines 180 5 1", 3, false,
		},
		"an endpoint that is broken costs nothing": {
			&fakeLoki{status: http.StatusInternalServerError, oldest: ago(500), lines: []time.Time{ago(5)}}, "lines 180 5 1", 3, false,
		},
		"an answer that is none costs nothing": {
			&fakeLoki{patterns: "<html>", oldest: ago(500), lines: []time.Time{ago(5)}}, "lines 180 5 1", 3, false,
		},
		"where lines are not counted the patterns are what there is": {
			&fakeLoki{patterns: answerOf(pattern(ours, ago(20))), oldest: ago(500), refuses: true}, "patterns 20 20 3", 3, true,
		},
		"none of its lines is an answer too": {
			&fakeLoki{oldest: ago(500)}, "lines 180 never 0", 3, false,
		},
		"a Loki without a line of the streams knows nothing": {
			&fakeLoki{patterns: answerOf()}, "nothing", 3, false,
		},
		"what nobody answers is unknown": {
			&fakeLoki{oldest: ago(500), refuses: true}, "nothing", 3, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := reader(t, c.loki)
			all, err := r.Read(t.Context(), Question{Selector: `{namespace="shop"}`, Statements: []Statement{refused}, Start: ago(180).Add(7 * time.Second), End: noon.Add(7 * time.Second)})
			if (err != nil) != c.fails {
				t.Errorf("err is %v, want one: %v", err, c.fails)
			}
			if got := told(all[0]); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if h := all[0]; h != nil && h.Step != time.Minute {
				t.Errorf("counts steps of %s, want 1m", h.Step)
			}
			if len(c.loki.asked) != c.asked {
				t.Errorf("asked %d times, want %d: %q", len(c.loki.asked), c.asked, c.loki.asked)
			}
			for _, q := range c.loki.asked {
				if !strings.Contains(q, `{cluster="eu", namespace="shop"}`) && !strings.Contains(q, `{namespace="shop", cluster="eu"}`) {
					t.Errorf("asked %s, without the extra matchers", q)
				}
			}
		})
	}
}

// told is a history in a few words.
func told(h *History) string {
	if h == nil {
		return "nothing"
	}
	minutes := func(at time.Time) string {
		if at.IsZero() {
			return "never"
		}
		return fmt.Sprintf("%.0f", noon.Sub(at).Minutes())
	}
	return fmt.Sprintf("%s %s %s %.0f", h.Source, minutes(h.Known), minutes(h.First), h.Total(h.Start, noon.Add(time.Hour)))
}

func TestALokiWithoutTheEndpointIsAskedForItOnce(t *testing.T) {
	f := &fakeLoki{oldest: ago(500)}
	r := reader(t, f)
	for range 3 {
		if _, err := r.Read(t.Context(), Question{Selector: `{namespace="shop"}`, Statements: []Statement{refused}, Start: ago(180), End: noon}); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for _, q := range f.asked {
		if strings.HasPrefix(q, "patterns") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("asked for patterns %d times, want 1", n)
	}
}

func TestAQuestionHasABoundedCost(t *testing.T) {
	f := &fakeLoki{oldest: ago(500)}
	many := make([]Statement, 50)
	for i := range many {
		many[i] = refused
	}
	if _, err := reader(t, f).Read(t.Context(), Question{Selector: `{namespace="shop"}`, Statements: many, Start: ago(180), End: noon}); err != nil {
		t.Fatal(err)
	}
	if len(f.asked) > MaxStatements+2 {
		t.Errorf("asked %d times, want at most %d", len(f.asked), MaxStatements+2)
	}
	if got := (Question{Start: ago(7 * 24 * 60), End: noon}).Step(); got != 56*time.Minute {
		t.Errorf("a week is counted in steps of %s, want 56m", got)
	}
}

func TestPatternsAreMaskedBeforeAnybodySeesThem(t *testing.T) {
	f := &fakeLoki{patterns: answerOf(pattern("no route to 10.9.8.7 for <_> at all", ago(180)))}
	r := reader(t, f)
	r.mask = func(s string) string { return strings.ReplaceAll(s, "10.9.8.7", "<ip:3fa2>") }
	all, err := r.Read(t.Context(), Question{Selector: `{namespace="shop"}`, Start: ago(180), End: noon, Statements: []Statement{
		{Template: "no route to <ip:3fa2> for <*> at all", Lines: []string{"no route to <ip:3fa2> for cart-7 at all"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := "no route to <ip:3fa2> for <_> at all"; all[0] == nil || len(all[0].Patterns) != 1 || all[0].Patterns[0] != want {
		t.Errorf("got %+v, want the pattern %q", all[0], want)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(answerOf(pattern("a <_> b c", ago(100), ago(1)))))
	f.Add([]byte(`{"data":[{"pattern":"a","samples":[[-9223372036854775808,9223372036854775807],[1,2,3],[]]}]}`))
	f.Add([]byte(`{"data":{"result":[{"values":[[1764192250,"NaN"],[9e18,"+Inf"]]}]}}`))
	q := Question{Selector: "{}", Start: ago(180), End: noon}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, _ := decode(body, q)
		h := a.of(q, Statement{Template: "a b c", Lines: []string{"a x b c"}}, same)
		if h == nil {
			h = &History{Start: q.Start, End: q.End, Step: q.Step()}
		}
		counts, _ := DecodeCounts(body)
		for _, c := range counts {
			h.add(c.Timestamp.Time(), float64(c.Value))
		}
		if len(h.Counts) > 182 {
			t.Errorf("%d steps of a range of 180", len(h.Counts))
		}
		for _, n := range h.Counts {
			if !(n >= 0) {
				t.Errorf("counted %v lines", n)
			}
		}
		if !h.First.IsZero() && (h.First.Before(q.Start) || h.First.After(q.End)) {
			t.Errorf("first at %s, out of the range", h.First)
		}
	})
}
