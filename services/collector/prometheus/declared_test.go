package prometheus

import (
	"bytes"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
)

func ownDetectors(t *testing.T, files map[string]string) *policy.Store {
	t.Helper()
	own := fstest.MapFS{}
	for name, text := range files {
		own["detectors/"+name+".yaml"] = &fstest.MapFile{Data: []byte("name: " + name + "\ndoc: d\nmodel: threshold\nabove: 1\nclass: cause\n" + text + "\n")}
	}
	store, err := policy.NewStore(policies.FS, own)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// The expressions of policies/detectors are asked at every step, and what they give
// is about what its labels name, for the detector of that name alone.
func TestDetectorsOfOnesOwnAreAskedFor(t *testing.T) {
	store := ownDetectors(t, map[string]string{
		"queue":   "expr: sum by (namespace, deployment, queue) (queue_messages)",
		"crashes": "expr: sum by (namespace, pod) (rate(crashes_total[$window]))",
		"hot":     "expr: max by (instance) (node_celsius)",
		"whole":   "expr: sum(anything)",
		"absent":  "guard: not_there_total\nexpr: sum(absent_messages)",
	})
	s := serve(t, func(query string, at float64) []sample {
		switch {
		case strings.Contains(query, "queue_messages"):
			return []sample{one(at, 7, "namespace", "shop", "deployment", "web", "queue", "mail"), one(at, 8, "namespace", "shop", "deployment", "web", "queue", "bills")}
		case strings.Contains(query, "rate(crashes_total[2m])"):
			return []sample{one(at, 2, "namespace", "shop", "pod", "loner")}
		case strings.Contains(query, "node_celsius"):
			return []sample{one(at, 90, "node", "node-1")}
		case strings.Contains(query, "anything"):
			return []sample{one(at, 3)}
		case strings.Contains(query, "absent_messages"):
			return []sample{one(at, 4)}
		}
		return nil
	})
	batches := read(t, newTestSource(t, store, s.URL, nil), noon)
	got := map[string]float64{}
	for _, b := range batches {
		for _, one := range b.Series {
			name := one.Labels.Get(event.LabelName)
			if one.Labels.Get(event.LabelDetected) != name || one.Labels.Get(event.LabelClass) != string(event.ClassCause) {
				t.Errorf("%s is for %q, of class %q", name, one.Labels.Get(event.LabelDetected), one.Labels.Get(event.LabelClass))
			}
			got[name+" "+one.Labels.Entity().String()+" "+one.Labels.Get("queue")] = one.Points[0].V
		}
	}
	want := map[string]float64{
		"queue shop/deployment/web mail": 7, "queue shop/deployment/web bills": 8,
		"crashes shop/pod/loner ": 2, "hot node/node-1 ": 90, "whole cluster/cluster ": 3,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestADetectorThatTheServerRefusesIsNamedOnceAndBlindsNobody(t *testing.T) {
	store := ownDetectors(t, map[string]string{"bad": "expr: no_such_function(x)", "good": "expr: sum(good)"})
	s := serve(t, func(query string, at float64) []sample {
		if strings.Contains(query, "good") {
			return []sample{one(at, 1)}
		}
		return nil
	})
	s.Config.Handler = ignorant(s.Config.Handler)
	var log bytes.Buffer
	src := newTestSource(t, store, s.URL, nil)
	src.env.Log = slog.New(slog.NewTextHandler(&log, nil))
	for i := range 3 {
		if got := values(read(t, src, noon.Add(time.Duration(i)*src.cfg.Step))); len(got) != 1 {
			t.Errorf("step %d gave %v, want what the other says", i, got)
		}
	}
	if n := strings.Count(log.String(), "unknown function"); n != 1 {
		t.Errorf("it is named %d times, want once:\n%s", n, &log)
	}
}

// ignorant is a server that knows all functions but one.
func ignorant(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body)+r.URL.RawQuery, "no_such_function") {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"status":"error","errorType":"bad_data","error":"unknown function with name \"no_such_function\""}`))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

func TestADetectorThatTheServerRefusesTakesNobodysHistory(t *testing.T) {
	behind, _ := history(t, func(int) int { return 0 })
	to, err := url.Parse(behind)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(ignorant(httputil.NewSingleHostReverseProxy(to)))
	t.Cleanup(proxy.Close)
	src := newTestSource(t, ownDetectors(t, map[string]string{"bad": "expr: no_such_function(x)"}), proxy.URL, func(c *Config) {
		c.Step, c.Delay, c.WarmStart.Off = 15*time.Second, time.Second, false
	})
	points := 0
	for _, o := range firstStep(t, src, nil).Events {
		if b := o.Data().(event.MetricBatch); b.Bootstrap {
			points += len(b.Series)
		}
	}
	if points == 0 {
		t.Error("no history was read")
	}
}

func TestADetectorIsNotCalledAsASignal(t *testing.T) {
	_, err := loadQueries(ownDetectors(t, map[string]string{"request_rate": "expr: sum(x)"}))
	if err == nil || !strings.Contains(err.Error(), "name: request_rate is a signal of policies/queries") {
		t.Errorf("got %v, want the name refused", err)
	}
}
