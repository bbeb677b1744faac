//go:build e2e

package sources

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/detector"
	_ "github.com/oncall-copilot/oncall/services/detector/detectors"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// shopPod writes to a Loki what a pod would.
type shopPod struct {
	server *testbed.Server
	n      int
}

var shopLabels = map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q"}

// second is what it writes in a second: a request and a heartbeat, and each minute
// an error that is known. When it breaks the heartbeat stops, and every other request
// fails.
func (p *shopPod) second(at time.Time, broken bool) (values [][2]string) {
	add := func(format string, args ...any) {
		values = append(values, [2]string{strconv.FormatInt(at.Add(time.Duration(len(values))*time.Millisecond).UnixNano(), 10), fmt.Sprintf(format, args...)})
	}
	p.n++
	status := 200
	if broken && p.n%2 == 0 || p.n%400 == 0 {
		status = 503
	}
	add(`level=info msg="request served" path=/items/%d status=%d took=%dms`, p.n%997, status, 40+p.n%60)
	if !broken {
		add(`level=info msg="queue polled" depth=%d`, p.n%7)
	}
	if at.Second() == 30 {
		add(`level=error msg="upstream timed out" upstream=10.0.0.%d`, p.n%9)
	}
	return values
}

func (p *shopPod) push(t *testing.T, values [][2]string) {
	t.Helper()
	post(t, p.server.URL+"/loki/api/v1/push", map[string]any{"streams": []any{map[string]any{"stream": shopLabels, "values": values}}})
}

// stored waits until lines from a time on are found. What is of yesterday is asked of
// the store alone, and there only when it is flushed.
func (p *shopPod) stored(t *testing.T, from time.Time) { p.storedLine(t, from, "request served") }

// storedLine waits for lines with a text.
func (p *shopPod) storedLine(t *testing.T, from time.Time, text string) {
	t.Helper()
	resp, err := p.server.Client.Post(p.server.URL+"/flush", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	e := event.EvidenceRef{Query: `{namespace="shop"} |= ` + strconv.Quote(text), Start: from, End: from.Add(time.Hour)}
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(p.found(t, e), text); {
		if time.Now().After(deadline) {
			t.Fatalf("Loki, flushed with %s, finds nothing from %s on within two minutes", resp.Status, from)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(time.Second):
		}
	}
}

// found asks the Loki what an anomaly says to ask it.
func (p *shopPod) found(t *testing.T, e event.EvidenceRef) string {
	t.Helper()
	resp, err := p.server.Client.Get(p.server.URL + "/loki/api/v1/query_range?" + url.Values{
		"query": {e.Query}, "start": {strconv.FormatInt(e.Start.UnixNano(), 10)}, "end": {strconv.FormatInt(e.End.UnixNano(), 10)}, "limit": {"5"},
	}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !json.Valid(body) {
		t.Fatalf("%s: %s %s %v", e.Query, resp.Status, body, err)
	}
	return string(body)
}

// TestLinesOfARealLokiBecomeExplainedAnomalies has a workload log well for a day,
// which the first start reads back, and then break in four ways: an error that
// comes far oftener, one that was never seen, a heartbeat that stops, and requests
// that fail and state it.
func TestLinesOfARealLokiBecomeExplainedAnomalies(t *testing.T) {
	server, err := bed(t).StartLoki(t.Context(), testbed.LokiConfig{})
	if err != nil {
		t.Fatal(err)
	}
	pod := &shopPod{server: server}
	began := time.Now()
	// The minutes that a first start reads, and the last before it.
	for at := began.Add(-25 * time.Hour).Truncate(time.Minute); at.Before(began); at = at.Add(time.Minute) {
		if at.Minute()%15 != 0 && began.Sub(at) > 3*time.Minute {
			continue
		}
		var minute [][2]string
		for s := range 60 {
			if second := at.Add(time.Duration(s) * time.Second); second.Before(began) {
				minute = append(minute, pod.second(second, false)...)
			}
		}
		pod.push(t, minute)
	}
	pod.stored(t, began.Add(-23*time.Hour))

	cfg := loki.Config{Window: time.Second, Delay: 2 * time.Second, Tail: loki.Tail{Off: true}}
	cfg.URL = server.URL
	e := env(t, nil)
	e.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := loki.New(cfg, e)
	if err != nil {
		t.Fatal(err)
	}
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	settings := detector.DefaultConfig()
	if err := yaml.Unmarshal([]byte("log_vanished: {min_silence: 30s}"), &settings); err != nil {
		t.Fatal(err)
	}
	fold, err := detector.NewFold(detector.Logs, event.Partition("shop", "web"), settings, store, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	got := emissions(t, s)
	told, lines, read := map[string]event.Anomaly{}, map[bool]int{}, time.Time{}
	want := map[string]string{
		"log_spike": "upstream timed out", "log_new_pattern": "ledger rejected the entry", "log_vanished": "queue polled", "log_value_shift": "request served",
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	deadline := time.After(5 * time.Minute)
	// Fifty beats are learnt from before one is missed.
	const breaks = 70 * time.Second
	for len(told) < len(want) {
		select {
		case at := <-ticker.C:
			broken := at.Sub(began) > breaks
			said := pod.second(at, broken)
			for i := range 3 {
				if broken {
					ns := strconv.FormatInt(at.Add(time.Duration(10+i)*time.Millisecond).UnixNano(), 10)
					said = append(said, [2]string{ns, `level=error msg="upstream timed out" upstream=10.0.0.4`}, [2]string{ns, `level=error msg="ledger rejected the entry" err="constraint violated"`})
				}
			}
			pod.push(t, said)
		case e := <-got:
			for _, m := range asMessages(e) {
				switch v := m.Data.(type) {
				case event.LogBatch:
					lines[v.Bootstrap] += len(v.Streams[0].Lines)
				case event.Tick:
					read = v.Watermark
				}
				out, err := fold.Apply(m)
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range out {
					a, ok := o.Data().(event.Anomaly)
					if !ok || a.Detector == "log_spike" && !strings.Contains(a.Summary, want[a.Detector]) {
						continue // what is new is much, too
					}
					if _, ok := want[a.Detector]; !ok {
						continue
					}
					if at := a.Onset.Sub(began); at < breaks-15*time.Second {
						t.Fatalf("%s told of what had its onset %s after the start: %s (%s)", a.Detector, at, a.Summary, a.Explanation)
					}
					told[a.Detector] = a
				}
			}
		case <-deadline:
			t.Fatalf("told of %d of %d within five minutes, by %d lines of the past and %d read up to %s: %+v", len(told), len(want), lines[true], lines[false], read, told)
		}
	}
	for name, text := range want {
		a := told[name]
		t.Logf("%s, %.0f s after its onset: %s; %s", name, a.WindowEnd.Sub(a.Onset).Seconds(), a.Summary, a.Explanation)
		if !strings.Contains(a.Summary, text) || a.Explanation == "" || a.Entity.Name != "web" || len(a.Evidence) == 0 {
			t.Errorf("%s: %+v", name, a)
			continue
		}
		if lines := pod.found(t, a.Evidence[0]); !strings.Contains(lines, text) {
			t.Errorf("%s: %s finds %s", name, a.Evidence[0].Query, lines)
		}
		if name != "log_value_shift" {
			continue
		}
		if !strings.HasPrefix(a.Summary, "status=5xx rose from 0.") || len(a.Evidence) != 2 {
			t.Fatalf("%s, with %+v", a.Summary, a.Evidence)
		}
		if lines := pod.found(t, a.Evidence[0]); strings.Contains(lines, "status=200") {
			t.Errorf("%s finds lines of 200: %s", a.Evidence[0].Query, lines)
		}
		if drawn := pod.found(t, a.Evidence[1]); !strings.Contains(drawn, `"status":"503"`) {
			t.Errorf("%s finds %s", a.Evidence[1].Query, drawn)
		}
	}
}

// asMessages is an emission as it lies on the bus, with the tick that closes it.
func asMessages(e collector.Emission) (out []bus.Message) {
	for _, o := range e.Events {
		out = append(out, bus.Message{Attributes: event.Attributes{ID: o.ID}, Data: o.Data()})
	}
	if !e.Closed.IsZero() {
		out = append(out, bus.Message{Data: event.Tick{Watermark: e.Closed}})
	}
	return out
}
