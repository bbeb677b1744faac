package prometheus

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// walked is what a walk gives, a line a step.
func walked(t *testing.T, s *Source, from, to time.Time) string {
	t.Helper()
	var b strings.Builder
	err := s.Walk(t.Context(), from, to, time.Minute, func(at time.Time, series []event.Series) error {
		line, err := json.Marshal(series)
		b.WriteString(at.Format(time.RFC3339) + " " + string(line) + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAWalkReadsWhatInstantsWouldWithFewQuestions(t *testing.T) {
	from := time.Now().Add(-2 * time.Hour).Truncate(15 * time.Second).UTC()
	config := func(c *Config) { c.Step, c.Reprobe = 15*time.Second, time.Hour }
	url, instants := history(t, func(int) int { return 0 })
	alone := newTestSource(t, builtin(t), url, config)
	ahead := alone.past
	alone.past = nil
	var want strings.Builder
	for at := from.Add(15 * time.Second); !at.After(from.Add(time.Hour)); at = at.Add(15 * time.Second) {
		if err := alone.probe(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		answers, err := alone.answers(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		var all []event.Series
		for _, a := range answers {
			all = append(all, a...)
		}
		line, _ := json.Marshal(all)
		want.WriteString(at.Format(time.RFC3339) + " " + string(line) + "\n")
	}
	if ahead == nil || !strings.Contains(want.String(), "error_ratio") {
		t.Fatalf("the history holds no error ratio: %.200s", want.String())
	}
	url, asked := history(t, func(int) int { return 0 })
	got := walked(t, newTestSource(t, builtin(t), url, config), from, from.Add(time.Hour))
	if got != want.String() {
		t.Errorf("a walk gives\n%.300s\ninstants give\n%.300s", got, want.String())
	}
	if asked() > instants()/20 {
		t.Errorf("%d questions, instants alone take %d", asked(), instants())
	}
}

func TestAWalkInTwoPartsReadsWhatOneReads(t *testing.T) {
	from := time.Now().Add(-2 * time.Hour).Truncate(time.Minute).UTC()
	config := func(c *Config) { c.Step, c.Reprobe = 15*time.Second, time.Hour }
	url, _ := history(t, func(int) int { return 0 })
	source := func() *Source { return newTestSource(t, builtin(t), url, config) }
	whole := walked(t, source(), from, from.Add(40*time.Minute))
	parts := walked(t, source(), from, from.Add(20*time.Minute)) + walked(t, source(), from.Add(20*time.Minute), from.Add(40*time.Minute))
	if whole != parts {
		t.Error("two parts differ from the whole")
	}
}

// refusing answers every question with a status, but the first so many.
func refusing(t *testing.T, status int, after int64) (*Source, *atomic.Int64) {
	t.Helper()
	var n atomic.Int64
	good, _ := history(t, func(int) int { return 0 })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > after {
			w.WriteHeader(status)
			return
		}
		r.URL.Host, r.URL.Scheme = strings.TrimPrefix(good, "http://"), "http"
		_ = r.ParseForm()
		res, err := http.PostForm(r.URL.String(), r.Form)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = res.Body.Close() }()
		var body any
		_ = json.NewDecoder(res.Body).Decode(&body)
		_ = json.NewEncoder(w).Encode(body)
	}))
	t.Cleanup(s.Close)
	return newTestSource(t, builtin(t), s.URL, func(c *Config) { c.Step, c.Reprobe = 15*time.Second, time.Hour }), &n
}

func TestAWalkEndsWithTheErrorOfASourceThatStaysAway(t *testing.T) {
	from := time.Now().Add(-time.Hour).Truncate(time.Minute).UTC()
	for name, tc := range map[string]struct {
		status int
		kind   upstream.ErrorKind
	}{
		"a server that is too busy":     {429, upstream.Busy},
		"a server that is broken":       {503, upstream.Unreachable},
		"a server that lets nobody ask": {403, upstream.Forbidden},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := refusing(t, tc.status, 2)
			err := s.Walk(t.Context(), from, from.Add(30*time.Minute), time.Millisecond, func(time.Time, []event.Series) error { return nil })
			if upstream.KindOf(err) != tc.kind || err == nil || !strings.Contains(err.Error(), "read 2") {
				t.Errorf("got %v, want %s, and which step", err, tc.kind)
			}
		})
	}
}

func TestAnAnswerThatLacksAPartIsNoAnswer(t *testing.T) {
	s := requests(t)
	s.warn = []string{"store-1 is away"}
	source := newTestSource(t, builtin(t), s.URL, nil)
	err := source.Walk(t.Context(), noon, noon.Add(time.Minute), time.Millisecond, func(time.Time, []event.Series) error { return nil })
	if p, ok := errors.AsType[*promql.Partial](err); !ok || len(p.Warnings) != 1 {
		t.Errorf("got %v, want the warning", err)
	}
}

func TestAQueryThatIsRefusedIsNotAskedAgainAtEveryStepOfAWalk(t *testing.T) {
	from := time.Now().Add(-2 * time.Hour).Truncate(time.Minute).UTC()
	url, _ := history(t, func(int) int { return 0 })
	var refused atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		if strings.Contains(r.Form.Get("query"), "histogram_quantile") {
			refused.Add(1)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		res, err := http.PostForm(url+r.URL.Path, r.Form)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = res.Body.Close() }()
		var body any
		_ = json.NewDecoder(res.Body).Decode(&body)
		_ = json.NewEncoder(w).Encode(body)
	}))
	defer s.Close()
	source := newTestSource(t, builtin(t), s.URL, func(c *Config) { c.Step, c.Reprobe = 15*time.Second, time.Hour })
	got := walked(t, source, from, from.Add(time.Hour))
	if !strings.Contains(got, "error_ratio") {
		t.Error("the query that is refused blinds others")
	}
	if n := refused.Load(); n > 20 {
		t.Errorf("a query that is refused is asked %d times in 240 steps", n)
	}
}
