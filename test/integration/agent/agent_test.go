//go:build e2e

package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/survey"
	"github.com/oncall-copilot/oncall/test/testbed"
)

var (
	web  = event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}
	cart = event.Entity{Namespace: "shop", Kind: "Deployment", Name: "cart"}
)

// looked is what the tests read of agent-run --incident.
type looked struct {
	Verdict string   `json:"verdict"`
	Why     []string `json:"why"`
	Gone    []string `json:"gone"`
	Changes []any    `json:"changes_since"`
}

// TestOneLookFindsWhatIsWrong goes through an incident as an engineer would:
// all is well; a rollout is killed for its memory, and then another workload
// fails; a pipeline has recorded it; it is mended.
func TestOneLookFindsWhatIsWrong(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	b := start(ctx, t)

	out := b.run(ctx, t, "agent-run", "--once")
	if n := strings.Count(out, "\n"); n > 5 || !strings.Contains(out, "nothing abnormal in the last 1h") {
		t.Errorf("%d lines of a shop that is well, want at most five:\n%s", n, out)
	}

	if err := b.cluster.Deploy(ctx, testbed.Deployment{Namespace: "shop", Name: "web", Version: "v2", Fault: "oom"}); err != nil {
		t.Fatal(err)
	}
	until(ctx, t, b, "a rollout that is killed", []string{"agent-run", "--once"}, func(r survey.Result) string {
		return lacks(r, web, "OOMKilled", "v1 -> v2")
	})

	b.shop.Fail("cart", 0.3, 0)
	failed := time.Now()
	r := until(ctx, t, b, "errors of another workload", []string{"agent-run", "--once"}, func(r survey.Result) string {
		if s := lacks(r, cart, "of requests fail", ""); s != "" {
			return s
		}
		return lacks(r, web, "OOMKilled", "v1 -> v2")
	})
	t.Logf("30 %% of requests failing are told after %s: %s", time.Since(failed).Round(time.Second), r.TLDR)

	data, id := b.record(ctx, t)
	again := []string{"agent-run", "--once", "--incident", id}
	bundle := filepath.Join(t.TempDir(), "incident.tar.zst")
	if out, err := exec.CommandContext(ctx, b.bin, "record", "--data", data, bundle).CombinedOutput(); err != nil {
		t.Fatalf("record: %v\n%s", err, out)
	}
	for _, from := range [][]string{{"--data", data}, {"--bundle", bundle}} {
		until(ctx, t, b, "an incident that goes on", slices.Concat(again, from), func(l looked) string {
			if l.Verdict != "goes on" || len(l.Why) == 0 {
				return fmt.Sprintf("verdict %q because of %q", l.Verdict, l.Why)
			}
			return ""
		})
	}

	b.shop.Fail("cart", 0, 0)
	if err := b.cluster.Deploy(ctx, testbed.Deployment{Namespace: "shop", Name: "web", Version: "v3"}); err != nil {
		t.Fatal(err)
	}
	if err := b.cluster.WaitReady(ctx, "shop", "web"); err != nil {
		t.Fatal(err)
	}
	for _, from := range [][]string{{"--data", data}, {"--bundle", bundle}} {
		l := until(ctx, t, b, "an incident that is over", slices.Concat(again, from), func(l looked) string {
			if l.Verdict != "is over" {
				return fmt.Sprintf("verdict %q because of %q", l.Verdict, l.Why)
			}
			return ""
		})
		if len(l.Changes) == 0 {
			t.Errorf("what mended it is not told: %+v", l)
		}
	}
}

// lacks says what a look lacks: a thing of this name whose line says how it is,
// with a cause or finding that cites evidence.
func lacks(r survey.Result, e event.Entity, line, cause string) string {
	i := slices.IndexFunc(r.Things, func(t survey.Thing) bool { return t.Entity == e })
	if i < 0 {
		var names []string
		for _, t := range r.Things {
			names = append(names, t.Entity.String()+": "+t.Line)
		}
		return fmt.Sprintf("%s is not named, but %q", e, names)
	}
	th := r.Things[i]
	cited := func(ids []string) bool {
		return len(ids) > 0 && !slices.ContainsFunc(ids, func(id string) bool {
			return !slices.ContainsFunc(r.Evidence, func(e event.Evidence) bool { return e.ID == id })
		})
	}
	said := strings.Contains(th.Line, line)
	for _, f := range th.Findings {
		said = said || strings.Contains(f.Title, line)
		if !cited(f.Evidence) {
			return fmt.Sprintf("%q of %s cites %v", f.Title, e, f.Evidence)
		}
	}
	if !said {
		return fmt.Sprintf("nothing of %s says %q: %s", e, line, th.Line)
	}
	if cause != "" && !slices.ContainsFunc(th.Causes, func(c event.Cause) bool { return strings.Contains(c.Text, cause) && cited(c.Evidence) }) {
		return fmt.Sprintf("no cause of %s says %q: %+v", e, cause, th.Causes)
	}
	return ""
}

// record has a pipeline watch until it has an incident of web, and gives where
// it kept it.
func (b *bed) record(ctx context.Context, t *testing.T) (data, id string) {
	t.Helper()
	data = filepath.Join(t.TempDir(), "data")
	up := exec.CommandContext(ctx, b.bin, slices.Concat([]string{"up", "--mode", "shadow", "--listen", "127.0.0.1:0", "--data", data}, b.sources)...)
	pipe, err := up.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var text strings.Builder
		for buf := make([]byte, 4096); ; {
			n, err := pipe.Read(buf)
			text.Write(buf[:n])
			if _, rest, ok := strings.Cut(text.String(), "bus listens on "); ok && strings.Contains(rest, ": ") {
				where, _, _ := strings.Cut(rest, ": ")
				select {
				case address <- where:
				default:
				}
			}
			if err != nil {
				return
			}
		}
	}()
	var nats string
	select {
	case nats = <-address:
	case <-done:
		t.Fatal("oncall up ended")
	case <-ctx.Done():
		t.Fatal("oncall up does not listen")
	}
	for id == "" {
		out, err := exec.CommandContext(ctx, b.bin, "incidents", "ls", "--nats", nats, "-o", "json").CombinedOutput()
		var all []event.Incident
		if err == nil {
			err = json.Unmarshal(out, &all)
		}
		for _, i := range all {
			if i.State == event.Open && i.Entity.Namespace == "shop" && (i.Entity.Name == web.Name || slices.ContainsFunc(i.Related, func(e event.Entity) bool { return e.Name == web.Name })) && i.Priority != event.P4 {
				id = event.ShortID(i.ID)
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no incident of web: %v\n%.2000s", err, out)
		case <-time.After(time.Second): // between two looks, and not for something
		}
	}
	if err := up.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-done
	_ = up.Wait() // 130: it was interrupted
	return data, id
}
