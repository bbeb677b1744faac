//go:build e2e

package fault

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The history that every run of this process reads: eighty minutes of three
// workloads, of which two break for a while and recover. All runs read the same
// minutes, so that what they find can be compared.
const (
	step   = time.Minute
	length = 80 * time.Minute
)

var (
	began = time.Now().Add(-3 * time.Hour).Truncate(time.Minute).UTC()
	ends  = began.Add(length)
)

// outage is when a workload of the history fails.
type outage struct{ from, to time.Time }

func (o outage) at(t time.Time) bool { return !t.Before(o.from) && t.Before(o.to) }

var workloads = map[[2]string]outage{
	{"shop", "web"}:    {began.Add(32 * time.Minute), began.Add(42 * time.Minute)},
	{"billing", "pay"}: {began.Add(46 * time.Minute), began.Add(52 * time.Minute)},
	{"shop", "search"}: {},
}

// sources answers as Prometheus and Loki that hold the history would. What is
// later than its end cannot be read yet.
type sources struct {
	*httptest.Server
	// fault may take over an answer: it returns true when it has.
	fault atomic.Pointer[func(w http.ResponseWriter, r *http.Request, at time.Time) bool]
	// pace is how long an answer takes, for each step that is read in it.
	pace atomic.Int64
	// one is held for the pace of an answer about windows of logs, of which many are
	// asked for at once: they would be read to their end while metrics are at a third.
	one sync.Mutex
	// live makes the sources answer for any time, as those of a running cluster.
	live atomic.Bool
	// now is what time it is where the sources run, which date their answers by it;
	// nil for the true time. They hold nothing of what has not happened, and early
	// counts who asked.
	now   atomic.Pointer[func() time.Time]
	early atomic.Int64
	// read is the latest time of metrics that was asked for and answered, in
	// milliseconds. They are read step by step, and logs many steps at once.
	read atomic.Int64
}

func newSources(t testing.TB) *sources {
	t.Helper()
	s := &sources{}
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v1/query", s.instant)
	mux.HandleFunc("/loki/api/v1/query_range", s.lines)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if now := s.now.Load(); now != nil {
			w.Header().Set("Date", (*now)().UTC().Format(http.TimeFormat))
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// admit paces an answer, lets a fault take it over, and refuses what is not
// history yet.
func (s *sources) admit(w http.ResponseWriter, r *http.Request, at time.Time, steps int) bool {
	passes(r.Context(), time.Duration(s.pace.Load()*int64(steps)))
	if f := s.fault.Load(); f != nil && (*f)(w, r, at) {
		return false
	}
	if at.After(ends) && !s.live.Load() {
		http.Error(w, "not yet", http.StatusServiceUnavailable)
		return false
	}
	return true
}

// happened says whether a time has come where the sources run.
func (s *sources) happened(at time.Time) bool {
	now := s.now.Load()
	if now == nil || !at.After((*now)()) {
		return true
	}
	s.early.Add(1)
	return false
}

func (s *sources) instant(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	sec, _ := strconv.ParseFloat(r.Form.Get("time"), 64)
	at := time.UnixMilli(int64(sec * 1000)).UTC()
	if !s.admit(w, r, at, 1) {
		return
	}
	for old := s.read.Load(); old < at.UnixMilli() && !s.read.CompareAndSwap(old, at.UnixMilli()); old = s.read.Load() {
	}
	query := r.Form.Get("query")
	type sample struct {
		Metric map[string]string `json:"metric"`
		Value  [2]any            `json:"value"`
	}
	result := []sample{}
	add := func(v float64, labels map[string]string) {
		result = append(result, sample{labels, [2]any{sec, fmt.Sprint(v)}})
	}
	if !s.happened(at) {
		add = func(float64, map[string]string) {}
	}
	n := int(at.Unix()/15) % 7
	for w, bad := range workloads {
		pod := map[string]string{"namespace": w[0], "pod": w[1] + "-7d4b9c6f5-x2x8q"}
		switch {
		case strings.Contains(query, "count by (__name__)"):
		case strings.Contains(query, "code=~"):
			errs := 0.0
			if bad.at(at) {
				errs = 30
			}
			add(errs, pod)
		case strings.Contains(query, "rate(http_requests_total"):
			add(100+float64(n), pod)
		}
	}
	if strings.Contains(query, "count by (__name__)") && strings.Contains(query, "http_requests_total") {
		add(1, map[string]string{"__name__": "http_requests_total"})
	}
	answer(w, "vector", result)
}

// disturb lets a fault take over answers until the returned function is
// called.
func (s *sources) disturb(f func(w http.ResponseWriter, r *http.Request, at time.Time) bool) (mend func()) {
	s.fault.Store(&f)
	return func() { s.fault.Store(nil) }
}

// isLoki says which of the two a request is for.
func isLoki(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/loki/") }
