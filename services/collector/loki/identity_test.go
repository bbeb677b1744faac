package loki

import (
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector"
)

// cluster knows one pod.
type cluster struct{}

func (cluster) OfPod(_, pod string) (event.Entity, bool) {
	return event.Entity{Namespace: "shop", Kind: "CronJob", Name: "nightly"}, pod == "nightly-29400000-x2x8q"
}

func (cluster) Named(string, string) (event.Entity, bool) { return event.Entity{}, false }

func TestLinesAreOfTheWorkloadThatKubernetesNamesAndTheirRecordingToo(t *testing.T) {
	known := make(chan struct{})
	close(known)
	set := env()
	set.Workloads = &collector.Workloads{}
	set.Workloads.Add(cluster{}, known)
	cfg := Config{}
	cfg.Name = "loki"
	cfg.Fill()
	live := newSource(cfg, set, nil)
	ls := live.labels(map[string]string{"namespace": "shop", "pod": "nightly-29400000-x2x8q"})
	if got := ls.Entity().String(); got != "shop/cronjob/nightly" {
		t.Errorf("lines are of %s, want shop/cronjob/nightly", got)
	}
	other := live.labels(map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q"})
	if got := other.Entity().String(); got != "shop/pod/web-7d4b9c6f5-x2x8q" {
		t.Errorf("lines of a pod that is not known are of %s", got)
	}
	r := NewRecorded("loki", []Entry{{Labels: ls.Map(), Line: "x", Time: time.Unix(1_772_000_000, 0)}}, time.Time{}, time.Time{}, time.Minute, env(), nil)
	again := r.source.labels(streams(r.entries)[0].Labels)
	if again.String() != ls.String() {
		t.Errorf("recorded as %s, read again as %s", ls, again)
	}
}
