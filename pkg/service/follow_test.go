package service

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// reader is a service that reads detectors/x.yaml when it is made, as the detectors do.
type reader struct {
	content string
	runs    chan<- string
	lines   prometheus.Counter
}

func (r *reader) Run(ctx context.Context) error {
	r.lines.Add(float64(len(r.content)))
	select {
	case r.runs <- r.content:
	case <-ctx.Done():
	}
	<-ctx.Done()
	return ctx.Err()
}

// watched is a process with that service, and the folder of its policies.
type watched struct {
	p    *Process
	dir  string
	runs chan string
	made chan string // contents that were refused
	log  *logged
	end  func() error
}

type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func watch(t *testing.T, follows bool) *watched {
	t.Helper()
	w := &watched{dir: t.TempDir(), runs: make(chan string), made: make(chan string, 100), log: &logged{}}
	w.write(t, "detectors/x.yaml", "one")
	store, err := policy.NewStore(os.DirFS(w.dir))
	if err != nil {
		t.Fatal(err)
	}
	w.p = &Process{
		Config: &Config{}, Log: slog.New(slog.NewTextHandler(w.log, nil)), Metrics: obs.NewRegistry(), Tracing: &obs.Tracing{}, Health: obs.NewHealth(time.Now),
		Bus: bustest.Start(t), Policies: store, now: time.Now, follows: follows, reloadEvery: 5 * time.Millisecond,
	}
	if w.p.Tracing, err = obs.NewTracing(t.Context(), obs.Config{}, "test"); err != nil {
		t.Fatal(err)
	}
	spec := Spec{Name: "reader", New: func(_ any, env Env) (Runner, error) {
		b, _ := env.Policies.File("detectors/x.yaml")
		if strings.HasPrefix(string(b), "bad") {
			w.made <- string(b)
			return nil, &policy.Error{File: "detectors/x.yaml", Problems: []policy.Problem{{Line: 1, Text: "is bad"}}}
		}
		r := &reader{string(b), w.runs, prometheus.NewCounter(prometheus.CounterOpts{Name: "reader_lines_total"})}
		env.Metrics.MustRegister(r.lines)
		return r, nil
	}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.p.Run(ctx, spec) }()
	w.end = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = w.end() })
	w.ran(t, "one")
	return w
}

// write exchanges a file at once, so that no half of it is read.
func (w *watched) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func (w *watched) ran(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-w.runs:
		if got != want {
			t.Fatalf("the services run with %q, want %q", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("no services run with %q; log:\n%s", want, w.log)
	}
}

// metric is a value of the process; -1 when there is none.
func (w *watched) metric(t *testing.T, name string) float64 {
	t.Helper()
	all, err := w.p.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			if f.GetType() == dto.MetricType_COUNTER {
				return m.GetCounter().GetValue()
			}
			return m.GetGauge().GetValue()
		}
	}
	return -1
}

// until waits for a condition.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s", what)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(time.Millisecond):
		}
	}
}

func TestServicesStartAgainWithPoliciesThatChanged(t *testing.T) {
	w := watch(t, true)
	w.write(t, "detectors/x.yaml", "three")
	w.ran(t, "three")
	until(t, "the metrics of the new services", func() bool { return w.metric(t, "reader_lines_total") == 5 })
	if n, ok := w.metric(t, "oncall_policies_restarts_total"), w.metric(t, "oncall_policies_loaded"); n != 1 || ok != 1 {
		t.Errorf("%v restarts, loaded %v; want 1 and 1", n, ok)
	}
	if err := w.end(); err != nil {
		t.Errorf("the end: %v", err)
	}
	if n := w.metric(t, "reader_lines_total"); n != -1 {
		t.Errorf("what has ended shows a metric of %v", n)
	}
}

func TestWrongPoliciesLeaveTheServicesAlone(t *testing.T) {
	w := watch(t, true)
	w.write(t, "detectors/x.yaml", "bad one")
	if got := <-w.made; got != "bad one" {
		t.Fatalf("made of %q", got)
	}
	until(t, "the metric", func() bool { return w.metric(t, "oncall_policies_loaded") == 0 })
	// Another file changes, and the same is wrong.
	w.write(t, "rules/y.yaml", "y")
	<-w.made
	w.write(t, "detectors/x.yaml", "two")
	w.ran(t, "two")
	until(t, "the metric", func() bool { return w.metric(t, "oncall_policies_loaded") == 1 })
	if err := w.end(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(w.log.String(), "policies are wrong"); n != 2 || !strings.Contains(w.log.String(), "detectors/x.yaml:1: is bad") {
		t.Errorf("said %d times, want a line for each state of the files, with where it is wrong:\n%s", n, w.log)
	}
	if n := w.metric(t, "oncall_policies_restarts_total"); n != -1 {
		t.Errorf("the process has ended and shows %v restarts", n)
	}
}

func TestPoliciesThatComeBackNeedNoRestart(t *testing.T) {
	w := watch(t, true)
	w.write(t, "detectors/x.yaml", "bad")
	<-w.made
	w.write(t, "detectors/x.yaml", "one")
	until(t, "the metric", func() bool { return w.metric(t, "oncall_policies_loaded") == 1 })
	if n := w.metric(t, "oncall_policies_restarts_total"); n != 0 {
		t.Errorf("%v restarts, want none", n)
	}
}

func TestAProcessThatDoesNotFollowSaysThatARestartIsDue(t *testing.T) {
	w := watch(t, false)
	w.write(t, "detectors/x.yaml", "two")
	until(t, "the line", func() bool { return strings.Contains(w.log.String(), "until a restart") })
	if ok := w.metric(t, "oncall_policies_loaded"); ok != 0 {
		t.Errorf("loaded is %v, want 0", ok)
	}
}

func TestAFailureOfAServiceEndsTheProcess(t *testing.T) {
	w := watch(t, true)
	failing := Spec{Name: "reader", New: func(any, Env) (Runner, error) {
		return runner(func(context.Context) error { return errors.New("out of luck") }), nil
	}}
	if err := w.p.Run(t.Context(), failing); err == nil || err.Error() != "reader: out of luck" {
		t.Errorf("%v, want the failure", err)
	}
}

type runner func(context.Context) error

func (r runner) Run(ctx context.Context) error { return r(ctx) }
