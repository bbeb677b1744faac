package correlator

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/policies"
)

func gauge(t *testing.T, g prometheus.Gauge) float64 {
	t.Helper()
	var m dto.Metric
	if err := g.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetGauge().GetValue()
}

// TestPoliciesReloadLive gives the service's own fold one ownership file after
// the other while an incident is open.
func TestPoliciesReloadLive(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "ownership.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("default: first\n")
	store, err := policy.NewStore(policies.FS, os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	svc, err := New(DefaultConfig(), service.Env{
		Policies: store, Log: slog.New(slog.NewTextHandler(&said, nil)), Metrics: prometheus.NewRegistry(), Cluster: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	r := svc.(*runner)
	f := r.newFold()
	judge := func(name string, when time.Duration) event.Incident {
		t.Helper()
		var s story
		s.anomaly("burn_rate", deploy(name), event.ClassSymptom, event.Critical, at(when), at(when+30*time.Second), "burns")
		var last event.Incident
		for _, m := range s.msgs {
			if _, err := f.Apply(m); err != nil {
				t.Fatal(err)
			}
		}
		for _, g := range []string{"metrics", "logs", "events"} {
			for p := range event.Partitions {
				w := event.Watermark{Group: g, Partition: p, Time: at(when + time.Minute)}
				out, err := f.Apply(bus.Message{Data: w})
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range out {
					if i, ok := o.Data().(event.Incident); ok && i.Entity.Name == name {
						last = i
					}
				}
			}
		}
		return last
	}
	if i := judge("one", 0); i.Owner.Team != "first" || i.PolicyHash != store.Hash() {
		t.Fatalf("by the first file: owner %q, policies %q, want first, %q", i.Owner.Team, i.PolicyHash, store.Hash())
	}
	reload := func() {
		t.Helper()
		if _, err := store.Reload(); err != nil {
			t.Fatal(err)
		}
	}

	write("default: second\n")
	reload()
	second := store.Hash()
	if i := judge("two", time.Hour); i.Owner.Team != "second" || i.PolicyHash != second {
		t.Errorf("by the second file: owner %q, policies %q, want second, %q", i.Owner.Team, i.PolicyHash, second)
	}
	if v := gauge(t, r.book.valid); v != 1 {
		t.Errorf("oncall_correlator_policies_valid is %g with right files, want 1", v)
	}

	write("default: third\nrules:\n  - match: shop/*/*\n")
	reload()
	if i := judge("three", 2*time.Hour); i.Owner.Team != "second" || i.PolicyHash != second {
		t.Errorf("by a wrong third file: owner %q, policies %q, want those before: second, %q", i.Owner.Team, i.PolicyHash, second)
	}
	if v := gauge(t, r.book.valid); v != 0 {
		t.Errorf("oncall_correlator_policies_valid is %g with a wrong file, want 0", v)
	}
	if n := strings.Count(said.String(), "policies are wrong"); n != 1 || !strings.Contains(said.String(), "ownership.yaml:3: rules[0].team: is missing") {
		t.Errorf("said %d times that the file is wrong, want once with file and line:\n%s", n, said.String())
	}

	write("default: fourth\n")
	reload()
	if i := judge("four", 3*time.Hour); i.Owner.Team != "fourth" {
		t.Errorf("by the mended file: owner %q, want fourth", i.Owner.Team)
	}
	if v := gauge(t, r.book.valid); v != 1 {
		t.Errorf("oncall_correlator_policies_valid is %g with a mended file, want 1", v)
	}
}

// TestAForeignDetectorWeighsOnlyWhenAPolicyListsIt shows one and the same
// critical symptom of a third party's detector with and without trust.
func TestAForeignDetectorWeighsOnlyWhenAPolicyListsIt(t *testing.T) {
	for name, trusted := range map[string]bool{"an unlisted detector opens nothing": false, "a listed detector may page": true} {
		t.Run(name, func(t *testing.T) {
			f := newTestFold(t)
			if trusted {
				f.policy.TrustedDetectors = []string{"theirs"}
			}
			var s story
			a := s.anomaly("theirs", deploy("web"), event.ClassSymptom, event.Critical, at(0), at(30*time.Second), "fails")
			a.Foreign = true
			s.msgs[0].Data = a
			var opened []event.Incident
			apply := func(m bus.Message) {
				out, err := f.Apply(m)
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range out {
					if i, ok := o.Data().(event.Incident); ok {
						opened = append(opened, i)
					}
				}
			}
			apply(s.msgs[0])
			for _, g := range f.groups {
				for p := range event.Partitions {
					apply(bus.Message{Data: event.Watermark{Group: g, Partition: p, Time: at(2 * time.Minute)}})
				}
			}
			if !trusted && len(opened) > 0 {
				t.Errorf("an incident was opened: %s", opened[0].Title)
			}
			if trusted && (len(opened) == 0 || !opened[0].Priority.Pages()) {
				t.Errorf("got %d incidents, want one that pages", len(opened))
			}
		})
	}
}
