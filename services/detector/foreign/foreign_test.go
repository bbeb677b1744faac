package foreign

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// TestMain lets the test binary be the child.
func TestMain(m *testing.M) {
	switch os.Getenv("FOREIGN_CHILD") {
	case "":
		os.Exit(m.Run())
	case "high": // whatever is above 100 is odd; dies at 666
		s := bufio.NewScanner(os.Stdin)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			var w window
			if err := json.Unmarshal(s.Bytes(), &w); err != nil {
				fmt.Println("not JSON")
				continue
			}
			found := []map[string]any{}
			for _, x := range w.Series {
				for _, p := range x.Points {
					if p[1] == 666 && !w.Learn {
						if _, err := os.Stat(os.Getenv("FOREIGN_DIED")); err != nil {
							_ = os.WriteFile(os.Getenv("FOREIGN_DIED"), nil, 0o600)
							os.Exit(3)
						}
					}
					if p[1] > 100 {
						found = append(found, map[string]any{"labels": x.Labels, "observed": p[1], "summary": fmt.Sprint("high: ", p[1])})
					}
				}
			}
			b, _ := json.Marshal(found)
			fmt.Println(string(b))
		}
	}
	os.Exit(0)
}

func publish(t *testing.T, b *bus.Bus, minute int, v float64) {
	t.Helper()
	at := time.Date(2026, 3, 1, 10, minute, 0, 0, time.UTC)
	l := event.LabelsOf(map[string]string{event.LabelName: "x", event.LabelNamespace: "shop", event.LabelWorkload: "web", event.LabelKind: "Deployment"})
	m := event.MetricBatch{
		Source: "prom", Query: "q", Partition: 3, Namespace: "shop", Step: at,
		Series: []event.Series{{ID: l.Hash(), Labels: l, Points: []event.Point{{T: at.UnixMilli(), V: v}}}},
	}
	if err := b.Publish(t.Context(), event.MetricsRead.Out(m), event.MetricsTick.Out(event.Tick{Watermark: at})); err != nil {
		t.Fatal(err)
	}
}

// run starts a foreign detector and gives the anomaly events it publishes.
func run(t *testing.T, b *bus.Bus, cfg Config) <-chan event.Anomaly {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, b, slog.New(slog.DiscardHandler), cfg) }()
	found := make(chan event.Anomaly, 100)
	go func() {
		_ = b.Read(ctx, event.Anomalies, bus.ReadOptions{Follow: true}, func(m bus.Message) error {
			if a, ok := m.Data.(event.Anomaly); ok {
				found <- a
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return found
}

func next(t *testing.T, c <-chan event.Anomaly) event.Anomaly {
	t.Helper()
	select {
	case a := <-c:
		return a
	case <-time.After(20 * time.Second):
		t.Fatal("no anomaly came")
		return event.Anomaly{}
	}
}

func TestRunFeedsAChildAndPublishesItsAnomalies(t *testing.T) {
	t.Setenv("FOREIGN_CHILD", "high")
	t.Setenv("FOREIGN_DIED", t.TempDir()+"/died")
	b := bustest.Start(t)
	publish(t, b, 0, 500) // the past: shown, but not published
	found := run(t, b, Config{Name: "test_high", Exec: []string{os.Args[0]}, Select: map[string]string{"namespace": "sh*"}})
	// The child is up when it has seen the past; what comes before counts as past too.
	publish(t, b, 1, 50)
	minute := 2
	var a event.Anomaly
	for got := false; !got; minute++ {
		publish(t, b, minute, 200)
		select {
		case a = <-found:
			got = true
		case <-time.After(200 * time.Millisecond):
		}
		if minute > 50 {
			t.Fatal("no anomaly came")
		}
	}
	if !a.Foreign || a.Detector != "test_high" || a.Entity.String() != "shop/deployment/web" || a.Class != event.ClassAmbient || a.Observed != 200 {
		t.Errorf("got %+v", a)
	}
	// It dies at this one, is started again, and is shown what it missed.
	publish(t, b, minute, 666)
	for m := range 6 {
		publish(t, b, minute+1+m, 1)
	}
	for {
		a = next(t, found)
		if a.Ended != nil {
			break
		}
	}
	if a.Observed != 666 {
		t.Errorf("the anomaly ended at %v, want the value at which the child died to have been seen", a.Observed)
	}
}

func TestRunRefusesABadConfiguration(t *testing.T) {
	err := Run(t.Context(), nil, slog.New(slog.DiscardHandler), Config{Name: "Bad Name", Timeout: time.Hour})
	for _, want := range []string{"name: Bad Name is not lower_snake", "exec: is missing", "timeout: 1h0m0s is not between"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

func TestParse(t *testing.T) {
	w := window{Watermark: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)}
	for name, c := range map[string]struct{ in, err string }{
		"an empty array is nothing":             {`[]`, ""},
		"one object counts as an array of one":  {`{"entity":"shop/deployment/web","observed":1,"summary":"s"}`, ""},
		"text is refused":                       {`hello`, "not a JSON array"},
		"two arrays in a line are refused":      {`[] []`, "goes on after its array"},
		"an unknown field is refused by name":   {`[{"obsvered":1}]`, `unknown field "obsvered"`},
		"an anomaly about nothing is refused":   {`[{"observed":1,"summary":"s"}]`, "anomaly 0: has neither entity nor labels"},
		"an anomaly without a value is refused": {`[{"entity":"node/n1","summary":"s"}]`, "observed is missing"},
		"an anomaly without summary is refused": {`[{"entity":"node/n1","observed":1}]`, "no signal or no summary"},
		"a severity of its own is refused":      {`[{"entity":"node/n1","observed":1,"summary":"s","severity":"bad"}]`, `severity "bad"`},
		"a class of its own is refused":         {`[{"entity":"node/n1","observed":1,"summary":"s","class":"page"}]`, `class "page"`},
		"a probability above one is refused":    {`[{"entity":"node/n1","observed":1,"summary":"s","tail_prob":2}]`, "tail_prob 2"},
		"an onset in the future is refused":     {`[{"entity":"node/n1","observed":1,"summary":"s","onset":"2026-03-01T11:00:00Z"}]`, "onset"},
		"an entity of one part is refused":      {`[{"entity":"web","observed":1,"summary":"s"}]`, `entity "web"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse([]byte(c.in), "x", w)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("got %v, want %q", err, c.err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`[{"entity":"node/n1","observed":1,"summary":"s","expected":{"low":1,"high":2}}]`))
	f.Add([]byte(`{"labels":{"a":"b"},"observed":-1e308,"summary":"\u0000"}`))
	w := window{Watermark: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)}
	f.Fuzz(func(t *testing.T, b []byte) {
		found, _ := parse(b, "x", w)
		for _, a := range found {
			if _, err := json.Marshal(a); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestPythonExample(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on this machine: the Python example was not run")
	}
	var in strings.Builder
	for i := range 30 {
		v := 1.0
		if i == 29 {
			v = 10
		}
		fmt.Fprintf(&in, `{"watermark":"2026-03-01T10:%02d:00Z","partition":1,"series":[{"labels":{"__name__":"x","namespace":"shop"},"points":[[%d,%g]]}]}`+"\n", i, i*60, v)
	}
	cmd := exec.CommandContext(t.Context(), python, "../../../examples/detector-python/highest.py")
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	answers := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(answers) != 30 {
		t.Fatalf("got %d answers, want 30", len(answers))
	}
	for i, a := range answers {
		found, err := parse([]byte(a), "highest", window{Watermark: time.Date(2026, 3, 1, 10, i, 0, 0, time.UTC)})
		if err != nil {
			t.Fatal(err)
		}
		if (len(found) == 1) != (i == 29) {
			t.Errorf("window %d: got %d anomalies", i, len(found))
		}
	}
}
