package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/services/collector"
)

// mask is a redactor that knows one secret.
type mask struct{}

func (mask) Line(s string) string               { return strings.ReplaceAll(s, "hunter2", "***") }
func (mask) Labels(l event.Labels) event.Labels { return l }
func (m mask) On(time.Time) redact.Masker       { return m }

// run is one life of the source, with what it has emitted.
type run struct {
	t      *testing.T
	health *obs.Health
	cancel context.CancelFunc
	done   chan error

	mu     sync.Mutex
	got    []collector.Emission
	notify chan struct{}
}

func start(t *testing.T, s *apiServer, cursor []byte) *run {
	t.Helper()
	cfg := Config{History: time.Hour}
	cfg.Fill()
	ctx, cancel := context.WithCancel(t.Context())
	r := &run{t: t, health: obs.NewHealth(time.Now), cancel: cancel, done: make(chan error, 1), notify: make(chan struct{}, 1)}
	src := New(cfg, s.client(t, nil), collector.Env{Log: slog.New(slog.DiscardHandler), Health: r.health, Now: time.Now, Redact: mask{}})
	go func() {
		r.done <- src.Run(ctx, cursor, func(_ context.Context, e collector.Emission) error {
			r.mu.Lock()
			r.got = append(r.got, e)
			r.mu.Unlock()
			select {
			case r.notify <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *run) stop() {
	r.cancel()
	if err := <-r.done; err != nil && !errors.Is(err, context.Canceled) {
		r.t.Errorf("Run: %v", err)
	}
	r.done <- nil
}

// until waits until f says that what was emitted is enough.
func (r *run) until(what string, f func([]collector.Emission) bool) {
	r.t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		r.mu.Lock()
		ok := f(r.got)
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-r.notify:
		case <-timeout:
			r.t.Fatalf("%s did not happen; emitted: %s", what, strings.Join(ids(r.emissions()), "\n"))
		}
	}
}

func (r *run) emissions() []collector.Emission {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func ids(got []collector.Emission) []string {
	var out []string
	for _, e := range got {
		for _, o := range e.Events {
			out = append(out, o.ID)
		}
	}
	return out
}

func data[T any](got []collector.Emission) []T {
	var out []T
	for _, e := range got {
		for _, o := range e.Events {
			if v, ok := o.Data().(T); ok {
				out = append(out, v)
			}
		}
	}
	return out
}

func cursorOf(got []collector.Emission) []byte {
	var c []byte
	for _, e := range got {
		if e.Cursor != nil {
			c = e.Cursor
		}
	}
	return c
}

func closed(got []collector.Emission) bool {
	return slices.ContainsFunc(got, func(e collector.Emission) bool { return !e.Closed.IsZero() })
}

// shop fills a server with one workload that was rolled out ten minutes ago.
func shop(s *apiServer) {
	now := time.Now()
	s.put("deployments", deployment("checkout", 1, 1, 3, now.Add(-48*time.Hour)))
	s.put("replicasets", replicaSet("checkout-aaaa", "checkout", 1, now.Add(-48*time.Hour), "reg/checkout:v411", "512Mi"))
	s.put("replicasets", replicaSet("checkout-bbbb", "checkout", 2, now.Add(-10*time.Minute), "reg/checkout:v412", "256Mi"))
	s.put("pods", podOf("checkout-bbbb-x2x8q", "checkout-bbbb", "ReplicaSet", "node-1", now.Add(-10*time.Minute)))
	s.put("services", object{"metadata": metaOf("checkout", now), "spec": object{"selector": object{"app": "checkout"}}})
	s.put("configmaps", object{"metadata": metaOf("checkout-config", now), "data": object{"mode": "hunter2"}})
	s.put("nodes", object{
		"metadata": object{"name": "node-1", "creationTimestamp": now.Add(-72 * time.Hour).UTC().Format(time.RFC3339)},
		"status":   object{"conditions": []any{object{"type": "Ready", "status": "True", "lastTransitionTime": now.Add(-72 * time.Hour).UTC().Format(time.RFC3339)}}},
	})
	s.put("events", kubeEvent("ev-old", "checkout-bbbb-x2x8q", "Ancient", now.Add(-3*time.Hour)))
	s.put("events", kubeEvent("ev-1", "checkout-bbbb-x2x8q", "BackOff", now.Add(-time.Minute)))
}

func TestFirstStartTellsTheRecentPastAndNothingElse(t *testing.T) {
	s := newAPIServer(t)
	shop(s)
	r := start(t, s, nil)
	r.until("the first closing", closed)
	got := r.emissions()

	changes := data[event.Change](got)
	if len(changes) != 1 {
		t.Fatalf("changes = %+v, want the one rollout of the last hour", changes)
	}
	c := changes[0]
	if want := "image v411 -> v412, memory limit 512Mi -> 256Mi, env DB_PASSWORD changed"; c.Summary != want {
		t.Errorf("summary = %q, want %q", c.Summary, want)
	}
	if c.Kind != event.Rollout || c.Revision != "2" || c.Entity.String() != "shop/deployment/checkout" {
		t.Errorf("change = %+v", c)
	}

	events := data[event.KubeEvent](got)
	if len(events) != 1 || events[0].Reason != "BackOff" {
		t.Fatalf("events = %+v, want the one of the last hour", events)
	}
	if w := events[0].Workload.String(); w != "shop/deployment/checkout" {
		t.Errorf("workload of the event = %s", w)
	}
	if events[0].Occurrences() != 1 {
		t.Errorf("an event with count 0 counts %d times, want 1", events[0].Occurrences())
	}

	var found bool
	for _, topo := range data[event.Topology](got) {
		if topo.Entity.String() != "shop/deployment/checkout" {
			continue
		}
		found = true
		if len(topo.Pods) != 1 || topo.Pods[0].Node != "node-1" || topo.Pods[0].Via != "checkout-bbbb" {
			t.Errorf("pods = %+v", topo.Pods)
		}
		if !slices.Equal(topo.Services, []string{"checkout"}) || topo.Labels["team"] != "payments" || topo.Desired != 1 || topo.Ready != 1 || len(topo.ConfigIDs) != 1 {
			t.Errorf("topology = %+v", topo)
		}
		if _, ok := topo.Labels["pod-secret"]; ok {
			t.Error("a label that says nothing of ownership left the cluster")
		}
	}
	if !found {
		t.Error("no topology of the workload")
	}
	for _, e := range got {
		for _, o := range e.Events {
			if b, _ := o.Payload(); strings.Contains(string(b), "hunter2") {
				t.Errorf("a secret left the cluster: %s", b)
			}
		}
	}
	if b, _ := json.Marshal(cursorOf(got)); strings.Contains(string(b), "hunter2") {
		t.Error("the cursor holds content")
	}
	if len(s.refused) != 0 {
		t.Errorf("requests other than GET: %v", s.refused)
	}
}

func TestARestartRepeatsNothingAndTellsWhatChangedMeanwhile(t *testing.T) {
	s := newAPIServer(t)
	shop(s)
	r := start(t, s, nil)
	r.until("a cursor", func(got []collector.Emission) bool {
		return cursorOf(got) != nil && len(data[event.Topology](got)) >= 2
	})
	r.until("a cursor that knows the events", func(got []collector.Emission) bool {
		past, err := decodeCursor(cursorOf(got))
		return err == nil && past.EventVersion > 0 && len(past.Topology) >= 2 && past.Closed.After(time.Now().Add(-20*time.Second))
	})
	r.stop()
	cursor := cursorOf(r.emissions())

	quiet := start(t, s, cursor)
	quiet.until("the closing after an idle restart", closed)
	if again := ids(quiet.emissions()); len(again) != 0 {
		t.Errorf("a restart with nothing new repeated %v", again)
	}
	quiet.stop()

	now := time.Now()
	s.put("deployments", deployment("checkout", 4, 1, 4, now.Add(-48*time.Hour)))
	s.put("replicasets", replicaSet("checkout-cccc", "checkout", 3, now, "reg/checkout:v413", "256Mi"))
	s.put("configmaps", object{"metadata": metaOf("checkout-config", now), "data": object{"mode": "other"}})
	s.put("nodes", object{
		"metadata": object{"name": "node-1", "creationTimestamp": now.Add(-72 * time.Hour).UTC().Format(time.RFC3339)}, "spec": object{"unschedulable": true},
		"status": object{"conditions": []any{object{"type": "Ready", "status": "False", "reason": "KubeletStopped", "lastTransitionTime": now.UTC().Format(time.RFC3339)}}},
	})
	s.put("events", kubeEvent("ev-2", "checkout-bbbb-x2x8q", "Killing", now))
	r = start(t, s, cursor)
	r.until("the closing after a busy downtime", closed)
	got := r.emissions()
	var kinds []string
	for _, c := range data[event.Change](got) {
		kinds = append(kinds, string(c.Kind)+" "+c.Entity.Name+": "+c.Summary)
	}
	slices.Sort(kinds)
	want := []string{
		"config checkout: ConfigMap checkout-config changed", "node node-1: condition Ready True -> False (KubeletStopped)", "node node-1: node cordoned",
		"rollout checkout: image v412 -> v413", "scale checkout: replicas 1 -> 4",
	}
	if len(kinds) != len(want) {
		t.Fatalf("changes = %q, want %q", kinds, want)
	}
	for i := range want {
		if !strings.HasPrefix(kinds[i], want[i]) {
			t.Errorf("change %d = %q, want %q", i, kinds[i], want[i])
		}
	}
	events := data[event.KubeEvent](got)
	if len(events) != 1 || events[0].Reason != "Killing" {
		t.Errorf("events after the downtime = %+v, want the new one alone", events)
	}
}

func TestCutWatchesAndForgottenVersionsRepeatNoEvent(t *testing.T) { // fault 23
	s := newAPIServer(t)
	shop(s)
	r := start(t, s, nil)
	r.until("the first closing", closed)
	for i, fault := range []func(){
		s.cut,
		func() { s.compact(); s.cut() },
	} {
		fault()
		name := []string{"ev-cut", "ev-gone"}[i]
		s.put("events", kubeEvent(name, "checkout-bbbb-x2x8q", "BackOff", time.Now()))
		r.until("the event after the fault", func(got []collector.Emission) bool {
			return slices.ContainsFunc(ids(got), func(id string) bool { return strings.HasPrefix(id, "e:uid-"+name) })
		})
	}
	// A repeat of the same event is another version of it, and told.
	again := kubeEvent("ev-1", "checkout-bbbb-x2x8q", "BackOff", time.Now())
	again["count"] = 7
	s.put("events", again)
	r.until("the repeated event", func(got []collector.Emission) bool {
		return slices.ContainsFunc(data[event.KubeEvent](got), func(e event.KubeEvent) bool { return e.Count == 7 })
	})
	all := ids(r.emissions())
	slices.Sort(all)
	if once := slices.Compact(slices.Clone(all)); len(once) != len(all) {
		t.Errorf("told more than once: %v", all)
	}
	if n := len(data[event.Change](r.emissions())); n != 1 {
		t.Errorf("%d changes, want the one rollout: relisting is no change", n)
	}
}

func TestAForbiddenResourceCostsThatPartAlone(t *testing.T) { // fault 24
	s := newAPIServer(t)
	s.forbidden["configmaps"], s.forbidden["horizontalpodautoscalers"] = true, true
	shop(s)
	r := start(t, s, nil)
	r.until("the first closing", closed)
	got := r.emissions()
	if len(data[event.KubeEvent](got)) != 1 || len(data[event.Change](got)) != 1 {
		t.Errorf("emitted %v, want the event and the rollout", ids(got))
	}
	for _, e := range got {
		if e.Blind != nil {
			t.Errorf("blind = %+v; a forbidden ConfigMap does not make us blind", e.Blind)
		}
	}
	parts, _ := r.health.Parts()
	if !slices.ContainsFunc(parts, func(p obs.Part) bool {
		return p.Name == "kubernetes configmaps" && p.Degraded && strings.Contains(p.Why, "forbidden") && strings.Contains(p.Why, "no changes of configuration")
	}) {
		t.Errorf("health = %+v, want a note on configmaps", parts)
	}
}

func TestForbiddenEventsAreBlindness(t *testing.T) {
	s := newAPIServer(t)
	s.forbidden["events"] = true
	shop(s)
	r := start(t, s, nil)
	r.until("blindness", func(got []collector.Emission) bool {
		return slices.ContainsFunc(got, func(e collector.Emission) bool {
			return e.Blind != nil && strings.Contains(e.Blind.Reason, "forbidden")
		})
	})
	r.until("the rollout all the same", func(got []collector.Emission) bool { return len(data[event.Change](got)) == 1 })
	if closed(r.emissions()) {
		t.Error("a source that may not read events closed their stream")
	}
}

func TestRetryAfterIsKept(t *testing.T) { // fault 24
	s := newAPIServer(t)
	s.busy["pods"] = 2
	shop(s)
	r := start(t, s, nil)
	r.until("the first closing", closed)
	s.mu.Lock()
	defer s.mu.Unlock()
	var lists []time.Time
	for _, q := range s.requests {
		if strings.HasSuffix(q.path, "/pods") && !q.watch {
			lists = append(lists, q.at)
		}
	}
	if len(lists) < 3 {
		t.Fatalf("%d lists of pods, want 3", len(lists))
	}
	for i := 1; i < 3; i++ {
		if d := lists[i].Sub(lists[i-1]); d < time.Second {
			t.Errorf("asked again after %v, want at least the second that Retry-After says", d)
		}
	}
}

func TestLiveChanges(t *testing.T) {
	s := newAPIServer(t)
	shop(s)
	r := start(t, s, nil)
	r.until("the first closing", closed)
	now := time.Now()
	node := object{
		"metadata": object{"name": "node-1"}, "spec": object{"unschedulable": true, "taints": []any{object{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule", "timeAdded": now.UTC().Format(time.RFC3339)}}},
		"status": object{"conditions": []any{object{"type": "Ready", "status": "True", "lastTransitionTime": now.Add(-72 * time.Hour).UTC().Format(time.RFC3339)}}},
	}
	s.put("nodes", node)
	r.until("the cordon", func(got []collector.Emission) bool { return count(got, event.NodeState) == 1 })
	pod := podOf("checkout-bbbb-x2x8q", "checkout-bbbb", "ReplicaSet", "node-1", now)
	pod["status"].(object)["conditions"] = []any{object{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}}
	s.put("pods", pod)
	r.until("the drain", func(got []collector.Emission) bool { return count(got, event.Drain) == 1 })
	s.put("nodes", object{"metadata": object{"name": "node-2", "creationTimestamp": now.UTC().Format(time.RFC3339)}})
	r.until("the node that joins", func(got []collector.Emission) bool { return count(got, event.NodeState) == 2 })
	s.drop("nodes", "<nil>/node-2")
	r.until("the node that leaves", func(got []collector.Emission) bool { return count(got, event.NodeState) == 3 })
	// Back to the first template: the old ReplicaSet gets a new number.
	s.put("replicasets", replicaSet("checkout-aaaa", "checkout", 3, now.Add(-48*time.Hour), "reg/checkout:v411", "512Mi"))
	r.until("the rollback", func(got []collector.Emission) bool { return count(got, event.Rollout) == 2 })
	changes := data[event.Change](r.emissions())
	back := changes[len(changes)-1]
	if !strings.HasPrefix(back.Summary, "image v412 -> v411, memory limit 256Mi -> 512Mi") || time.Since(back.Time) > time.Minute {
		t.Errorf("rollback = %q at %v", back.Summary, back.Time)
	}
	hpa := func(most int) object {
		return object{"metadata": metaOf("checkout", now), "spec": object{"minReplicas": 1, "maxReplicas": most, "scaleTargetRef": object{"kind": "Deployment", "name": "checkout"}}}
	}
	s.put("horizontalpodautoscalers", hpa(4))
	s.put("horizontalpodautoscalers", hpa(9))
	r.until("the autoscaler's bounds", func(got []collector.Emission) bool { return count(got, event.Autoscale) == 1 })
	s.put("deployments", deployment("search", 1, 0, 1, now))
	s.put("replicasets", replicaSet("search-cccc", "search", 1, now, "reg/search:v1", "1Gi"))
	r.until("the first rollout of a new workload", func(got []collector.Emission) bool { return count(got, event.Rollout) == 3 })
	changes = data[event.Change](r.emissions())
	if c := changes[len(changes)-1]; !c.First || c.Summary != "first rollout, image reg/search:v1" {
		t.Errorf("first rollout = %+v, want it to say that it is", c)
	}
	// Of a workload that keeps no history what was before is not known, but
	// something was.
	s.put("deployments", deployment("carts", 1, 0, 1, now))
	s.put("replicasets", replicaSet("carts-dddd", "carts", 7, now, "reg/carts:v7", "1Gi"))
	r.until("a rollout whose predecessor is gone", func(got []collector.Emission) bool { return count(got, event.Rollout) == 4 })
	changes = data[event.Change](r.emissions())
	if c := changes[len(changes)-1]; c.First || c.Summary != "pod template changed, image reg/carts:v7" {
		t.Errorf("rollout of revision 7 = %+v, want it to be one of many", c)
	}
	if slices.ContainsFunc(changes, func(c event.Change) bool { return c.First && c.Entity.Name != "search" }) {
		t.Errorf("changes = %+v, want one first rollout", changes)
	}
	s.put("configmaps", object{"metadata": metaOf("checkout-config", now), "data": object{"mode": "hunter2 edited", "new": "hunter2"}})
	r.until("the edit of the configuration", func(got []collector.Emission) bool { return count(got, event.ConfigEdit) == 1 })
	for _, e := range r.emissions() {
		for _, o := range e.Events {
			if b, _ := o.Payload(); strings.Contains(string(b), "hunter2") {
				t.Errorf("content left the cluster: %s", b)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.requests {
		if strings.Contains(q.path, "secrets") {
			t.Errorf("asked for %s", q.path)
		}
	}
	if len(s.refused) != 0 {
		t.Errorf("requests other than GET: %v", s.refused)
	}
}

func count(got []collector.Emission, kind event.ChangeKind) int {
	n := 0
	for _, c := range data[event.Change](got) {
		if c.Kind == kind {
			n++
		}
	}
	return n
}
