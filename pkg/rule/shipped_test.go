package rule_test

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/grounding"
	"github.com/oncall-copilot/oncall/pkg/rule"
)

// facts is the evidence of a case, as testdata/rules.yaml writes it.
type facts struct {
	Pods      []shortPod       `yaml:"pods"`
	Events    []map[string]any `yaml:"events"`
	Logs      []string         `yaml:"logs"`
	Crash     []string         `yaml:"crash"`
	Object    map[string]any   `yaml:"object"`
	Node      map[string]any   `yaml:"node"`
	HPA       map[string]any   `yaml:"hpa"`
	Anomalies []shortAnomaly   `yaml:"anomalies"`
	Changes   []shortChange    `yaml:"changes"`
}

type shippedCase struct {
	Rule   string `yaml:"rule"`
	Kind   string `yaml:"kind"`
	Title  string `yaml:"title"`
	Detail string `yaml:"detail"` // "" is not compared
	Near   facts  `yaml:"near"`
	facts  `yaml:",inline"`
}

type shortPod struct {
	Name, Node, Phase, Reason, Message string
	Container, Image, Memory           string
	Init, Ready                        bool
	Restarts                           float64
	Waiting, Ended                     string
	LastWords                          string `yaml:"last_words"`
	Code                               float64
}

// object is the pod as Kubernetes writes it.
func (p shortPod) object() any {
	status := map[string]any{"phase": p.Phase, "reason": p.Reason}
	spec := map[string]any{"nodeName": p.Node}
	if p.Container == "" {
		status["message"] = p.Message
		return map[string]any{"metadata": map[string]any{"name": p.Name}, "spec": spec, "status": status}
	}
	c := map[string]any{"name": p.Container, "ready": p.Ready, "restartCount": p.Restarts}
	if p.Waiting != "" {
		c["state"] = map[string]any{"waiting": map[string]any{"reason": p.Waiting, "message": p.Message}}
	}
	if p.Ended != "" {
		c["lastState"] = map[string]any{"terminated": map[string]any{"reason": p.Ended, "exitCode": p.Code, "message": p.LastWords}}
	}
	want := map[string]any{"name": p.Container, "image": p.Image}
	if p.Memory != "" {
		want["resources"] = map[string]any{"limits": map[string]any{"memory": p.Memory}}
	}
	if p.Init {
		spec["initContainers"], status["initContainerStatuses"] = []any{want}, []any{c}
	} else {
		spec["containers"], status["containerStatuses"] = []any{want}, []any{c}
	}
	return map[string]any{"metadata": map[string]any{"name": p.Name}, "spec": spec, "status": status}
}

type shortAnomaly struct {
	Detector, Signal, Summary string
	Class                     event.SignalClass
	Severity                  event.Severity
	Observed, Low, High       float64
	Minute, Ended             int
}

type shortChange struct {
	Kind                    event.ChangeKind
	Name, Revision, Summary string
	Minute                  int
	Fields                  []event.FieldChange
}

var three = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

func minute(n int) time.Time { return three.Add(time.Duration(n) * time.Minute) }

// input is what rules see of a case; the values are what JSON would hold.
func (f facts) input(t *testing.T, e event.Entity) rule.Input {
	t.Helper()
	in := rule.Input{Entity: e, Evidence: map[string]event.Evidence{}}
	put := func(name, key string, v any) {
		b, err := json.Marshal(map[string]any{key: v})
		if err != nil {
			t.Fatal(err)
		}
		var values map[string]any
		if err := json.Unmarshal(b, &values); err != nil {
			t.Fatal(err)
		}
		in.Evidence[name] = event.Evidence{Values: values, Entity: e, Excerpt: []string{string(b)}}
	}
	if f.Pods != nil {
		var pods []any
		for _, p := range f.Pods {
			pods = append(pods, p.object())
		}
		put("pods", "items", pods)
		// The tally is pkg/evidence's; here the counts do.
		pod := in.Evidence["pods"]
		pod.Values["count"] = float64(len(pods))
		pod.Excerpt = append(pod.Excerpt, "1 OOMKilled")
		in.Evidence["pods"] = pod
	}
	if f.Events != nil {
		put("events", "items", f.Events)
	}
	for name, o := range map[string]map[string]any{"object": f.Object, "node": f.Node, "hpa": f.HPA} {
		if o != nil {
			put(name, "object", o)
		}
	}
	if f.Logs != nil {
		in.Evidence["logs"] = event.Evidence{Excerpt: f.Logs}
	}
	if f.Crash != nil {
		in.Evidence["crash"] = event.Evidence{Excerpt: f.Crash}
	}
	for _, a := range f.Anomalies {
		x := event.Anomaly{Detector: a.Detector, Signal: a.Signal, Class: a.Class, Severity: a.Severity, Summary: a.Summary, Entity: e, Onset: minute(a.Minute), Observed: a.Observed}
		if a.High != 0 {
			x.Expected = &event.Interval{Low: a.Low, High: a.High}
		}
		if a.Ended != 0 {
			end := minute(a.Ended)
			x.Ended = &end
		}
		in.Anomalies = append(in.Anomalies, x)
	}
	for _, c := range f.Changes {
		about := e
		if c.Name != "" {
			about.Name = c.Name
		}
		in.Changes = append(in.Changes, event.Change{Kind: c.Kind, Entity: about, Time: minute(c.Minute), Summary: c.Summary, Revision: c.Revision, Fields: c.Fields})
	}
	return in
}

func cases(t *testing.T) []shippedCase {
	t.Helper()
	b, err := os.ReadFile("testdata/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var cs []shippedCase
	if err := yaml.Unmarshal(b, &cs); err != nil {
		t.Fatal(err)
	}
	return cs
}

// fired is the finding of a rule on an input, if it fires.
func fired(t *testing.T, e *rule.Engine, in rule.Input, id string) (event.Finding, bool) {
	t.Helper()
	got, err := e.Eval(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range got {
		if m.Finding.Rule == id {
			return m.Finding, true
		}
	}
	return event.Finding{}, false
}

func TestEveryShippedRuleFiresOnItsConditionAndStaysSilentOnANearMiss(t *testing.T) {
	e := engine(t)
	seen := map[string]bool{}
	for _, c := range cases(t) {
		seen[c.Rule] = true
		t.Run(c.Rule, func(t *testing.T) {
			about := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}
			if c.Kind != "" {
				about.Kind = c.Kind
			}
			if about.Kind == "Node" || about.Kind == "Cluster" {
				about.Namespace = ""
			}
			in := c.facts.input(t, about)
			f, ok := fired(t, e, in, c.Rule)
			if !ok {
				t.Fatal("does not fire on its condition")
			}
			if f.Title != c.Title {
				t.Errorf("title  %s\nwant   %s", f.Title, c.Title)
			}
			if c.Detail != "" && f.Detail != c.Detail {
				t.Errorf("detail %s\nwant   %s", f.Detail, c.Detail)
			}
			known := &grounding.Facts{}
			known.AddEntity(about)
			for _, ev := range in.Evidence {
				known.AddEvidence(ev)
			}
			for _, a := range in.Anomalies {
				known.Add(a.Summary)
			}
			for _, ch := range in.Changes {
				known.Add(ch.Summary, "revision "+ch.Revision)
			}
			for _, claim := range []string{f.Title, f.Detail} {
				for _, p := range known.Check(claim) {
					if p.Fault == grounding.Number || p.Fault == grounding.Name {
						t.Errorf("%q says what its evidence does not: %v", claim, p)
					}
				}
			}
			for _, ch := range f.Checks {
				if err := rule.ReadOnly(ch.Command); err != nil {
					t.Errorf("check %s %v", ch.Command, err)
				}
			}
			if _, ok := fired(t, e, c.Near.input(t, about), c.Rule); ok {
				t.Error("fires on the near miss")
			}
			if len(in.Evidence) > 0 {
				blind := rule.Input{Entity: about, Evidence: map[string]event.Evidence{}}
				for name, ev := range in.Evidence {
					ev.Failed = "forbidden"
					blind.Evidence[name] = ev
				}
				if _, ok := fired(t, e, blind, c.Rule); ok {
					t.Error("fires although its evidence failed: no access is not absence")
				}
			}
		})
	}
	for _, r := range e.Rules() {
		if !seen[r.ID] {
			t.Errorf("rule %s has no case in testdata/rules.yaml", r.ID)
		}
	}
}

func TestCommandsFitTheKindOfTheEntity(t *testing.T) {
	e := engine(t)
	pods := facts{Pods: []shortPod{{Name: "web-1", Container: "app", Ended: "OOMKilled", Code: 137}}}
	for kind, want := range map[string]struct{ check, rollback []string }{
		"Deployment": {[]string{"kubectl -n shop describe deployment web", "kubectl -n shop rollout history deployment web", "kubectl -n shop top pods"}, []string{"kubectl -n shop rollout undo deployment web"}},
		"Rollout":    {[]string{"kubectl -n shop describe rollout web", "kubectl -n shop describe rollout web", "kubectl -n shop top pods"}, []string{"kubectl argo rollouts -n shop undo web"}},
		"Workload":   {[]string{"kubectl -n shop describe deployment web", "kubectl -n shop rollout history deployment web", "kubectl -n shop top pods"}, []string{"kubectl -n shop rollout undo deployment web"}},
		"Job":        {[]string{"kubectl -n shop describe job web", "kubectl -n shop top pods"}, nil},
	} {
		f, ok := fired(t, e, pods.input(t, event.Entity{Namespace: "shop", Kind: kind, Name: "web"}), "oom_killed")
		if !ok {
			t.Fatalf("%s: oom_killed does not fire", kind)
		}
		var check, rollback []string
		for _, c := range f.Checks {
			check = append(check, c.Command)
		}
		for _, c := range f.Rollback {
			rollback = append(rollback, c.Command)
		}
		if !slices.Equal(check, want.check) || !slices.Equal(rollback, want.rollback) {
			t.Errorf("%s: got %q and %q", kind, check, rollback)
		}
	}
}
