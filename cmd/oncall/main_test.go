package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"oncall": main, pluginName: main})
}

// TestScripts runs every script of testdata/script. The scripts' own commands:
//
//	status N CMD…  CMD ends with exit code N
//	bus            a bus that other programs reach, at $NATS
//	fill DIR       an incident, at $ID, with report, decision, anomaly, and a dead letter
//	ready ADDR [PATH]  waits until an oncall answers there
//	trickle        an anomaly and an incident every 20 ms from now on, on the bus
//	prometheus     a Prometheus whose shop/web fails since 10 minutes, at $PROM
//	quiet          a Prometheus in which nothing happens, at $PROM
//	past           a Prometheus that holds half a day of shop/web, at $PROM
//	empty          a Prometheus that holds no metric that we know, at $PROM
//	objects FILE [RESOURCE…]  an API server that holds them and forbids the resources
//	canaries       a Prometheus in which a canary fares as it is called, at $PROM
//	budgets        a Prometheus in which a service burns its budget as it is called, at $PROM
//	usage DAYS [WHAT]  a Prometheus that knows the use of containers for so many days, at $PROM
//	answers …      a server at $ADDR answers so: status, method, path, text, body
//	loki           a Loki with a line of shop/web, at $LOKI
//	audited WHERE SERVICE OPERATION TEXT  the bus at an address or in a directory has such a record
//	wrote FILE TEXT  waits until somebody has written it there
//	again FILE TEXT N  waits until it is written there N times
//	json SCHEMA CMD…  what CMD writes with -o json is of a schema
//	private FILE   nobody else may read it
//	monitored      an API server by which the Prometheus at $PROM is reached
func TestScripts(t *testing.T) {
	runScripts(t, "script", commands{
		"bus": func(ts *testscript.TestScript, _ bool, _ []string) {
			h := openBus(ts, ts.MkAbs("bus"), "127.0.0.1:0")
			ts.Defer(func() { _ = h.Close() })
			ts.Setenv("NATS", h.Address())
		},
		"ready": func(ts *testscript.TestScript, _ bool, args []string) {
			path := "/readyz"
			if len(args) > 1 {
				path = args[1]
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				res, err := http.Get("http://" + args[0] + path)
				if err == nil {
					_ = res.Body.Close()
					if res.StatusCode == http.StatusOK {
						return
					}
				}
				select {
				case <-ctx.Done():
					ts.Fatalf("nobody is ready at %s within a minute: %v", args[0], err)
				case <-tick.C:
				}
			}
		},
		"trickle": func(ts *testscript.TestScript, _ bool, _ []string) {
			h := openBus(ts, ts.Getenv("NATS"), "")
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i := 0; ctx.Err() == nil; i++ {
					_ = publish(h, sample(time.Date(2026, 3, 1, 2, 51, i, 0, time.UTC))[:2])
					select {
					case <-ctx.Done():
					case <-time.After(20 * time.Millisecond):
					}
				}
			}()
			ts.Defer(func() { cancel(); <-done; _ = h.Close() })
		},
		"prometheus": func(ts *testscript.TestScript, _ bool, _ []string) {
			ts.Setenv("PROM", serve(ts, fakePrometheus(time.Now().Add(-10*time.Minute))))
		},
		"quiet": func(ts *testscript.TestScript, _ bool, _ []string) {
			ts.Setenv("PROM", serve(ts, fakePrometheus(time.Now().Add(time.Hour))))
		},
		"past": func(ts *testscript.TestScript, _ bool, _ []string) {
			ts.Setenv("PROM", serve(ts, fakePast(time.Now())))
		},
		"empty": func(ts *testscript.TestScript, _ bool, _ []string) {
			ts.Setenv("PROM", serve(ts, func(w http.ResponseWriter, _ *http.Request) {
				answer(w, map[string]any{"resultType": "vector", "result": []any{}})
			}))
		},
		"monitored": serveMonitored,
		"audited":   scriptAudited,
		"wrote":     scriptWrote,
		"again":     scriptAgain,
		"cluster": func(ts *testscript.TestScript, _ bool, _ []string) {
			ts.Check(os.WriteFile(ts.MkAbs("kubeconfig"), fmt.Appendf(nil, kubeconfig, serve(ts, fakeCluster)), 0o600))
		},
		"canaries": func(ts *testscript.TestScript, _ bool, _ []string) { ts.Setenv("PROM", serve(ts, fakeCanaries())) },
		"budgets":  func(ts *testscript.TestScript, _ bool, _ []string) { ts.Setenv("PROM", serve(ts, fakeBudgets)) },
		"requests": func(ts *testscript.TestScript, _ bool, _ []string) { ts.Setenv("PROM", serve(ts, fakeRequests)) },
		"usage":    usagePrometheus,
		"opencost": serveOpenCost,
		"answers":  scriptAnswers,
		"loki": func(ts *testscript.TestScript, _ bool, args []string) {
			of := fakeLoki
			if slices.Equal(args, []string{"empty"}) {
				of = func(w http.ResponseWriter, _ *http.Request) {
					answer(w, map[string]any{"resultType": "streams", "result": []any{}})
				}
			}
			ts.Setenv("LOKI", serve(ts, of))
		},
	})
}

// commands are what scripts may call besides the programs.
type commands = map[string]func(*testscript.TestScript, bool, []string)

// runScripts runs every script of a folder of testdata with its commands and those
// that all scripts have.
func runScripts(t *testing.T, dir string, own commands) {
	cmds := commands{
		"status": func(ts *testscript.TestScript, _ bool, args []string) {
			want, err := strconv.Atoi(args[0])
			ts.Check(err)
			got := 0
			if err := ts.Exec(args[1], args[2:]...); err != nil {
				var exit *exec.ExitError
				if !errors.As(err, &exit) {
					ts.Fatalf("%v", err)
				}
				got = exit.ExitCode()
			}
			if got != want {
				ts.Fatalf("exit code %d, want %d", got, want)
			}
		},
		"fill": func(ts *testscript.TestScript, _ bool, args []string) {
			h := openBus(ts, args[0], "")
			all := sample(time.Date(2026, 3, 1, 2, 51, 0, 0, time.UTC))
			ts.Check(publish(h, all))
			ts.Setenv("ID", event.ShortID(all[1].Data().(event.Incident).ID))
			ts.Check(h.Close())
		},
		"private": func(ts *testscript.TestScript, _ bool, args []string) {
			st, err := os.Stat(ts.MkAbs(args[0]))
			ts.Check(err)
			if st.Mode().Perm() != 0o600 {
				ts.Fatalf("%s has mode %o", args[0], st.Mode().Perm())
			}
		},
		"objects": serveObjects,
		"json":    scriptJSON,
	}
	maps.Copy(cmds, own)
	testscript.Run(t, testscript.Params{
		Dir:  filepath.Join("testdata", dir),
		Cmds: cmds,
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("KUBECONFIG", filepath.Join(e.WorkDir, "no-kubeconfig"))
			e.Setenv("ONCALL_CONFIG", "")
			l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free now
			if err != nil {
				return err
			}
			e.Setenv("ADDR", l.Addr().String())
			examples, err := filepath.Abs(filepath.Join("..", "..", "examples"))
			e.Setenv("EXAMPLES", examples)
			return errors.Join(err, l.Close())
		},
	})
}

// TestVersionIsQuick bounds the time that the binary takes before it does
// anything: packages that do much work when they are loaded are felt by every
// command, and by completion in a shell.
func TestVersionIsQuick(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "oncall")
	if err := os.Symlink(self, name); err != nil {
		t.Fatal(err)
	}
	best := time.Hour
	for range 5 {
		c := exec.Command(name, "version")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		best = min(best, c.ProcessState.UserTime()+c.ProcessState.SystemTime())
	}
	if best > 100*time.Millisecond {
		t.Errorf("oncall version takes %s of processor time, want at most 100ms", best)
	}
}

// openBus opens the bus at an address, or the one in a directory.
func openBus(ts *testscript.TestScript, at, listen string) *pipeline.Host {
	cfg := service.DefaultConfig(pipeline.Services...)
	cfg.Obs.Listen, cfg.Obs.LogLevel = "", "error"
	o := pipeline.Options{Listen: listen}
	if strings.HasPrefix(at, "nats://") {
		cfg.Bus.URL, cfg.Bus.ManageStreams = at, false
	} else {
		o.Data = ts.MkAbs(at)
	}
	h, err := pipeline.Open(context.Background(), cfg, o)
	ts.Check(err)
	return h
}

func publish(h *pipeline.Host, out []event.Outgoing) error {
	return h.Bus.Publish(context.Background(), out...)
}

// sample is an anomaly, its incident, and what came of it. The onset tells
// samples apart.
func sample(onset time.Time) []event.Outgoing {
	e := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "checkout"}
	a := event.Anomaly{
		Detector: "burn_rate", ConfigHash: "00000000", Series: event.SeriesHash(uint64(onset.Unix())), Entity: e, Signal: "error_ratio",
		Class: event.ClassSymptom, Severity: event.Critical, Onset: onset, WindowEnd: onset.Add(time.Minute), Observed: 0.12,
		Expected: &event.Interval{High: 0.001}, Unit: "1", TailProb: 1e-6, Summary: "12 % of requests fail \x1b[31mred",
	}
	a.Key = event.AnomalyKey(a.Detector, a.Series, a.Onset)
	inc := event.Incident{
		ID: event.IncidentID(e, a.Detector, onset), Revision: 1, State: event.Open, Priority: event.P1, Entity: e, Title: "12 % of requests fail",
		Symptom: "SLO burn 18x", Owner: event.Owner{Team: "payments", Rule: "label team on " + e.String()}, Onset: onset, Opened: onset.Add(time.Minute),
		Updated: onset.Add(time.Minute), Score: 13.8, Contributions: []event.Contribution{{Scorer: "metrics", Weight: 13.8, Why: a.Summary}},
		Anomalies: []event.Anomaly{a}, PolicyHash: "000000000000", Reason: "opened",
	}
	r := event.Report{
		Incident: inc.ID, Revision: 1, IncidentRevision: 1, State: inc.State, Priority: inc.Priority, Entity: e, Owner: inc.Owner, Onset: onset,
		Time: inc.Updated, Headline: "P1 shop/checkout: 12 % of requests fail since 02:51", TLDR: "Requests fail.", Symptom: inc.Symptom, Reason: "opened",
		Findings: []event.Finding{}, Causes: []event.Cause{}, Checks: []event.Check{}, Evidence: []event.Evidence{},
	}
	d := event.Decision{
		Incident: inc.ID, Revision: 1, Route: "default", Channel: "slack", Outcome: event.Shadow, Priority: event.P1, Team: "payments", Entity: e,
		Headline: r.Headline, Rule: "notify.mode=shadow", Time: inc.Updated,
	}
	dead := event.DeadLetter{
		Stream: "ANOMALIES", Consumer: "correlator", Sequence: 7, Subject: "anomalies.critical.shop.mine", Reason: "payload: not JSON",
		Headers: map[string][]string{"Nats-Msg-Id": {"x"}}, Payload: []byte("{broken"), Time: onset,
	}
	return []event.Outgoing{
		event.AnomalyDetected.Out(a), event.IncidentOpened.Out(inc), event.ReportDrafted.Out(r), event.Decided.Out(d), event.DeadLettered.Out(dead),
	}
}

func serve(ts *testscript.TestScript, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	ts.Defer(s.Close)
	return s.URL
}

// fakePrometheus answers PromQL as a Prometheus would that scrapes one
// workload, whose requests fail from a time on.
func fakePrometheus(bad time.Time) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		query := r.Form.Get("query")
		at, _ := strconv.ParseFloat(r.Form.Get("time"), 64)
		if at == 0 {
			at = float64(time.Now().Unix())
		}
		type point struct {
			Metric map[string]string `json:"metric"`
			Value  [2]any            `json:"value"`
		}
		result := []point{}
		add := func(v float64, labels map[string]string) {
			result = append(result, point{labels, [2]any{at, fmt.Sprint(v)}})
		}
		pod := map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q"}
		switch {
		case strings.HasPrefix(query, "count(up)"):
			add(1, nil)
		case strings.Contains(query, "count by (__name__)"):
			if strings.Contains(query, "http_requests_total") {
				add(1, map[string]string{"__name__": "http_requests_total"})
			}
		case strings.Contains(query, "code=~"):
			failed := 0.0
			if at >= float64(bad.Unix()) {
				failed = 30
			}
			add(failed, pod)
		case strings.Contains(query, "http_requests_total"):
			add(100+float64(int(at)%7), pod)
		}
		answer(w, map[string]any{"resultType": "vector", "result": result})
	}
}

// fakeLoki has one stream, with a line in every window.
func fakeLoki(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	if !strings.HasSuffix(r.URL.Path, "query_range") {
		answer(w, []any{})
		return
	}
	answer(w, map[string]any{"resultType": "streams", "result": []any{map[string]any{
		"stream": map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q"},
		"values": [][2]string{{r.Form.Get("start"), "GET /checkout 200"}},
	}}})
}

func answer(w http.ResponseWriter, data any) {
	_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data})
}
