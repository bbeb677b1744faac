package pipeline

import (
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// outage writes a bundle of sources in which every third request of one
// workload fails for a while, beside a workload that stays well.
func outage(t *testing.T) *bundle.Bundle {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "outage")
	start := time.Date(2026, 11, 25, 2, 0, 0, 0, time.UTC)
	m := bundle.Metrics{Types: map[string]bundle.MetricType{}}
	for _, w := range []string{"web", "cart", "pay"} {
		var rate, errs []event.Point
		for i := range 100 {
			at := start.Add(time.Duration(i) * 30 * time.Second).UnixMilli()
			bad := 0.0
			if w == "web" && i >= 60 && i < 80 {
				bad = 30
			}
			rate, errs = append(rate, event.Point{T: at, V: 90 + float64(i%5)}), append(errs, event.Point{T: at, V: bad})
		}
		for name, points := range map[string][]event.Point{"request_rate": rate, "error_rate": errs} {
			ls := event.LabelsOf(map[string]string{event.LabelName: name, event.LabelFamily: "http_requests_total", event.LabelNamespace: "shop", event.LabelWorkload: w, event.LabelKind: "Deployment"})
			m.Series = append(m.Series, event.Series{ID: ls.Hash(), Labels: ls, Points: points})
		}
	}
	if err := bundle.WriteFile(dir, "metrics.om", func(w io.Writer) error { return bundle.WriteMetrics(w, &m) }); err != nil {
		t.Fatal(err)
	}
	if err := bundle.WriteManifest(dir, bundle.Manifest{Name: "outage", Start: start, End: start.Add(50 * time.Minute), State: bundle.Complete}); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func host(t *testing.T) *Host {
	t.Helper()
	cfg := service.DefaultConfig(Services...)
	cfg.Obs.Listen = ""
	h, err := Open(t.Context(), cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func TestAWorkerThatDiesInTheMiddleChangesNothing(t *testing.T) {
	t.Parallel()
	b := outage(t)
	digest := func(r *Replay) string {
		t.Helper()
		r.Host, r.Bundle = host(t), b
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		d, err := Digest(t.Context(), r.Host.Bus)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	undisturbed := digest(&Replay{})
	if strings.HasPrefix(undisturbed, "0 ") {
		t.Fatal("nothing was found")
	}
	var killed atomic.Bool
	disturbed := &Replay{Workers: 3}
	disturbed.Clock = func(_ time.Time, done float64) {
		// Its connection is cut: it can neither checkpoint nor say good-bye.
		if done > 0.6 && killed.CompareAndSwap(false, true) {
			disturbed.workers[2].Bus.Conn().Close()
		}
	}
	if got := digest(disturbed); got != undisturbed {
		t.Errorf("with a death: %s\nwithout:      %s", got, undisturbed)
	}
	if !killed.Load() {
		t.Error("nobody died")
	}
}

func TestTheStoryIsToldInTheOrderOfItsTimeHoweverFastItIs(t *testing.T) {
	t.Parallel()
	b := outage(t)
	var stories []string
	for range 2 {
		h := host(t)
		s := Tell(t.Context(), h)
		done := make(chan error, 1)
		go func() { done <- (&Replay{Host: h, Bundle: b}).Run(t.Context()) }()
		var told []string
		var last time.Time
		tick := time.NewTicker(10 * time.Millisecond)
		far := b.Manifest.End.Add(24 * time.Hour)
		for over := false; ; {
			moments, at := s.Next(t.Context(), far)
			for _, m := range moments {
				if m.At.Before(last) {
					t.Errorf("%s is told after %s", m.At, last)
				}
				last = m.At
				switch {
				case m.Incident != nil:
					told = append(told, m.At.String()+" "+m.Incident.Title)
				case m.Anomaly != nil:
					told = append(told, m.At.String()+" "+m.Anomaly.Summary)
				}
			}
			if over && at.Equal(far) {
				break
			}
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				over = true
				s.Over()
			case <-tick.C:
			}
		}
		tick.Stop()
		s.Close()
		stories = append(stories, strings.Join(told, "\n"))
	}
	if stories[0] == "" || stories[0] != stories[1] {
		t.Errorf("two tellings of one story:\n%s\n\n%s", stories[0], stories[1])
	}
}

func TestABundleThatCannotBeReplayedSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		from From
		want string
	}{
		"no streams":         {FromTelemetry, "replay it from sources"},
		"no anomalies":       {FromAnomalies, "no streams/ANOMALIES"},
		"no such beginning":  {"metrics", `cannot replay from "metrics"`},
		"nothing to compare": {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Replay{Bundle: outage(t), From: tc.from}
			err := r.start()
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
