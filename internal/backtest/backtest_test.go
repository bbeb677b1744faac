package backtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

func mustRun(t testing.TB, o Options) *Backtest {
	t.Helper()
	b, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	b.Result.Seconds = 0
	return b
}

// text is a result for comparing.
func text(t testing.TB, r Result) string {
	t.Helper()
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWhatWouldHavePagedStandsBesideWhatDid(t *testing.T) {
	o := options(t, serve(t, shop()))
	x := mustRun(t, o).Result
	if len(x.Incidents) != 1 {
		t.Fatalf("%d incidents, want that of checkout: %s", len(x.Incidents), text(t, x))
	}
	i := x.Incidents[0]
	if i.Entity != (event.Entity{Namespace: "shop", Kind: "Deployment", Name: "checkout"}) || i.Priority != event.P1 || len(i.Paged) != 1 || i.Resolved == nil {
		t.Errorf("incident %+v", i)
	}
	if at := i.Paged[0]; at.Before(bad) || at.After(bad.Add(20*time.Minute)) {
		t.Errorf("paged at %s, requests fail since %s", at, bad)
	}
	if !strings.Contains(i.Cause, "image checkout:v411 -> checkout:v412") {
		t.Errorf("cause %q, want the rollout", i.Cause)
	}
	if len(i.Firings) != 1 || x.Firings[i.Firings[0]].Alert != "HighErrorRate" || *i.LeadSeconds != bad.Add(10*time.Minute).Sub(i.Paged[0]).Seconds() {
		t.Errorf("beside it stand %v, %v s earlier", i.Firings, *i.LeadSeconds)
	}
	if len(i.Beside) != 1 || i.Beside[0] != "KubePodCrashLooping (warning)" {
		t.Errorf("besides %q", i.Beside)
	}
	why := map[string]Why{}
	for _, f := range x.Firings {
		why[f.Alert] = f.Why
	}
	want := map[string]Why{"HighErrorRate": "", "DiskFull": NotWatched, "Latency": BelowThreshold, "Deadpool": NamesNothing}
	for name, w := range want {
		if got, ok := why[name]; !ok || got != w {
			t.Errorf("%s: why %q, want %q", name, got, w)
		}
	}
	if len(why) != len(want) || x.Yours.Pages != 4 || x.Yours.Only != 3 || x.Yours.Others != 1 || x.Same.Firings != 1 || x.Ours.Pages != 1 || x.Ours.Only != 0 {
		t.Errorf("counts %+v %+v %+v", x.Yours, x.Ours, x.Same)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, StateFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state of a run that has ended is still there: %v", err)
	}
}

func TestHistoryThatIsMissingIsNamed(t *testing.T) {
	lines := shop()
	delete(lines, "ALERTS")
	away := until.Add(-90 * time.Minute)
	for name, list := range lines {
		for n, l := range list {
			value := l.value
			list[n].value = func(at time.Time) (float64, bool) {
				v, ok := value(at)
				return v, ok && at.After(until.Add(-3*time.Hour)) && (at.Before(away) || at.After(away.Add(10*time.Minute)))
			}
		}
		lines[name] = list
	}
	o := options(t, serve(t, lines))
	o.Since = 24 * time.Hour
	x := mustRun(t, o).Result
	var all []string
	for _, m := range x.Missing {
		all = append(all, m.What+": "+m.Why)
	}
	said := strings.Join(all, "\n")
	for _, want := range []string{"there is no ALERTS series", "metrics before 2026-11-26 03:00 UTC", "scaling of Deployments", "logs: no Loki", "Kubernetes events: ", "metrics: there are none from 2026-11-26 04:2"} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing says %q:\n%s", want, said)
		}
	}
	if x.Since.Sub(x.Read.From) > time.Hour || x.Since.Before(x.Read.From) {
		t.Errorf("judged from %s, read from %s", x.Since, x.Read.From)
	}
}

func TestNoHistoryAtAllIsAnError(t *testing.T) {
	_, err := Run(t.Context(), options(t, serve(t, map[string][]line{"ALERTS": shop()["ALERTS"]})))
	var nothing *NothingError
	if !errors.As(err, &nothing) {
		t.Errorf("got %v", err)
	}
}

// A run that is stopped again and again, and goes on, ends as one that was not.
func TestARunThatGoesOnEndsAsOneThatWasNotStopped(t *testing.T) {
	o := options(t, serve(t, shop()))
	want := text(t, mustRun(t, o).Result)
	o = options(t, serve(t, shop()))
	stops := 0
	for _, after := range []time.Duration{30 * time.Minute, 110 * time.Minute, 3 * time.Hour} {
		ctx, cancel := context.WithCancel(t.Context())
		o.Progress = func(p Progress) {
			if p.At.Sub(p.From) >= after {
				cancel()
			}
		}
		if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
			t.Fatalf("a run that is stopped after %s: %v", after, err)
		}
		cancel()
		stops++
	}
	resumed := false
	o.Progress = func(p Progress) { resumed = resumed || p.Resumed && p.At.After(p.From) }
	o.Now = o.Now.Add(5 * time.Hour) // whoever goes on later goes on with the same time
	if got := text(t, mustRun(t, o).Result); got != want {
		t.Errorf("stopped %d times:\n%s\nnever stopped:\n%s", stops, got, want)
	}
	if !resumed {
		t.Error("it began anew")
	}
}

func TestAStateOfAnotherBacktestIsRefused(t *testing.T) {
	f := serve(t, shop())
	o := options(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(p Progress) {
		if p.At.Sub(p.From) >= 70*time.Minute {
			cancel()
		}
	}
	if _, err := Run(ctx, o); err == nil {
		t.Fatal("it was not stopped")
	}
	o.Progress = nil
	name := filepath.Join(o.Dir, StateFile)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Options){
		"of other flags": func(o *Options) { o.Since += time.Hour },
		"that is cut":    func(*Options) { _ = os.WriteFile(name, whole[:len(whole)/2], 0o600) },
	} {
		p := o
		change(&p)
		var other *OtherError
		if _, err := Run(t.Context(), p); !errors.As(err, &other) || !strings.Contains(err.Error(), o.Dir) {
			t.Errorf("a state %s: %v", what, err)
		}
		_ = os.WriteFile(name, whole, 0o600)
	}
}

func TestWhatASourceRefusesForAWhileChangesNothing(t *testing.T) {
	want := text(t, mustRun(t, options(t, serve(t, shop()))).Result)
	f := serve(t, shop())
	f.failing = func(n int, _ string) int {
		return map[int]int{9: 429, 30: 503}[n]
	}
	o := options(t, f)
	o.Patience = time.Minute
	var x, y Result
	got := mustRun(t, o).Result
	if err := errors.Join(json.Unmarshal([]byte(want), &x), json.Unmarshal([]byte(text(t, got)), &y)); err != nil {
		t.Fatal(err)
	}
	x.Read.Requests, y.Read.Requests = 0, 0
	if text(t, x) != text(t, y) {
		t.Errorf("got\n%s\nwant\n%s", text(t, y), text(t, x))
	}
}

func TestASourceThatStaysAwayIsAnErrorThatKeepsHowFarItWas(t *testing.T) {
	f := serve(t, shop())
	o := options(t, f)
	f.failing = func(n int, _ string) int {
		if n > 90 {
			return 503
		}
		return 0
	}
	_, err := Run(t.Context(), o)
	if err == nil || upstream.KindOf(err) != upstream.Unreachable || strings.Contains(err.Error(), "hunter2") && !strings.Contains(err.Error(), "503") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, StateFile)); err != nil {
		t.Errorf("nothing is kept: %v", err)
	}
	f.failing = nil
	if x := mustRun(t, o).Result; len(x.Incidents) != 1 {
		t.Errorf("after that: %s", text(t, x))
	}
}

func TestHistoryThatLacksAPartIsAnError(t *testing.T) {
	f := serve(t, shop())
	f.warn = []string{"store-1 is away"}
	_, err := Run(t.Context(), options(t, f))
	if p, ok := errors.AsType[*promql.Partial](err); !ok || len(p.Warnings) != 1 {
		t.Errorf("got %v", err)
	}
}

func TestWhatOthersWroteIsInertOnThePage(t *testing.T) {
	lines := shop()
	hostile := `<script>alert(1)</script>"' onload=x `
	lines["ALERTS"] = append(lines["ALERTS"], line{map[string]string{
		"__name__": "ALERTS", "alertstate": "firing", "alertname": hostile, "severity": "page", "namespace": "shop", "deployment": "\u202e" + hostile, "evil": "javascript:x\x1b[31m",
	}, within(bad, bad.Add(time.Hour), 1)})
	b := mustRun(t, options(t, serve(t, lines)))
	var page bytes.Buffer
	if err := b.HTML(t.Context(), &page); err != nil {
		t.Fatal(err)
	}
	got := page.String()
	for _, bad := range []string{"<script", "\x1b", "\u202e", `"' onload`} {
		if strings.Contains(got, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if n := strings.Count(got, "<svg"); n < 2 {
		t.Errorf("%d graphs: %.2000s", n, got)
	}
	for _, want := range []string{"&lt;script&gt;", "HighErrorRate", "default-src 'none'", "checkout:v411 -&gt; checkout:v412"} {
		if !strings.Contains(got, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if strings.Contains(got, "http://") && !strings.Contains(got, "http://www.w3.org/") {
		t.Error("the page needs something from elsewhere")
	}
}
