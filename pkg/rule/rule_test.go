package rule_test

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/rule"
	"github.com/oncall-copilot/oncall/policies"
)

func engine(t testing.TB) *rule.Engine {
	t.Helper()
	s, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	e, err := rule.Load(s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestTheShippedRulesCompile(t *testing.T) {
	if n := len(engine(t).Rules()); n < 25 {
		t.Errorf("%d rules, want at least 25", n)
	}
}

func pod(name string, status map[string]any) any {
	return map[string]any{"metadata": map[string]any{"name": name}, "spec": map[string]any{"containers": []any{map[string]any{"name": "c", "resources": map[string]any{"limits": map[string]any{"memory": "256Mi"}}}}},
		"status": map[string]any{"containerStatuses": []any{status}}}
}

func lookup(items ...any) event.Evidence {
	return event.Evidence{Values: map[string]any{"items": items}}
}

func TestRulesHoldOnTheirEvidenceAndNotOnItsAbsence(t *testing.T) {
	web := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	ev := func(reason, message string) any { return map[string]any{"reason": reason, "message": message} }
	waiting := func(reason string, code float64) map[string]any {
		return map[string]any{"state": map[string]any{"waiting": map[string]any{"reason": reason}}, "lastState": map[string]any{"terminated": map[string]any{"exitCode": code, "reason": "Error"}}}
	}
	for name, tc := range map[string]struct {
		in    rule.Input
		rule  string
		title string
	}{
		"OOMKilled":                     {rule.Input{Evidence: map[string]event.Evidence{"pods": lookup(pod("a", map[string]any{"lastState": map[string]any{"terminated": map[string]any{"reason": "OOMKilled", "exitCode": 137.0}}}), pod("b", map[string]any{}))}}, "oom_killed", "OOMKilled in 1 of 2 pods"},
		"a crash loop with exit code 3": {rule.Input{Evidence: map[string]event.Evidence{"pods": lookup(pod("a", waiting("CrashLoopBackOff", 3)))}}, "crash_loop_app_error", "CrashLoopBackOff: exit code 3"},
		"a missing command":             {rule.Input{Evidence: map[string]event.Evidence{"pods": lookup(pod("a", waiting("CrashLoopBackOff", 127)))}}, "crash_loop_command", "Container command cannot be run"},
		"no CPU left":                   {rule.Input{Evidence: map[string]event.Evidence{"events": lookup(ev("FailedScheduling", "0/3 nodes are available: 3 Insufficient cpu."))}}, "unschedulable_cpu", "Pods cannot be scheduled, no node has enough CPU"},
		"a quota":                       {rule.Input{Evidence: map[string]event.Evidence{"events": lookup(ev("FailedCreate", `pods "x" is forbidden: exceeded quota: q`))}}, "quota_exhausted", "Quota or limit range refuses pods"},
		"a registry that refuses":       {rule.Input{Evidence: map[string]event.Evidence{"events": lookup(ev("Failed", "Failed to pull image: unauthorized"))}}, "image_unauthorized", "Image cannot be pulled, the registry refuses the credentials"},
		"a rollout before the symptom": {rule.Input{
			Changes:   []event.Change{{Kind: event.Rollout, Entity: web, Time: noon, Summary: "image v1 -> v2"}},
			Anomalies: []event.Anomaly{{Class: event.ClassSymptom, Onset: noon.Add(3 * time.Minute)}},
		}, "bad_rollout", "Trouble began right after a rollout: image v1 -> v2"},
		"a name that is not resolved": {rule.Input{Evidence: map[string]event.Evidence{"logs": {Excerpt: []string{"dial tcp: lookup db: no such host"}}}}, "dns_failing", "Names are not resolved"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.in.Entity = web
			got, err := engine(t).Eval(t.Context(), tc.in)
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			for _, m := range got {
				found = append(found, m.Finding.Rule+": "+m.Finding.Title)
			}
			if !strings.Contains(strings.Join(found, "\n"), tc.rule+": "+tc.title) {
				t.Errorf("found %q, want %s: %s", found, tc.rule, tc.title)
			}
			for k, e := range tc.in.Evidence {
				e.Failed = "forbidden"
				tc.in.Evidence[k] = e
			}
			tc.in.Changes = nil
			again, err := engine(t).Eval(t.Context(), tc.in)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range again {
				if m.Finding.Rule == tc.rule {
					t.Errorf("%s holds although its evidence failed", tc.rule)
				}
			}
		})
	}
}

func TestCommandsQuoteHostileNames(t *testing.T) {
	in := rule.Input{
		Entity:   event.Entity{Namespace: "shop", Kind: "Deployment", Name: "x; rm -rf ~\n$(reboot)'"},
		Evidence: map[string]event.Evidence{"pods": lookup(pod("a", map[string]any{"lastState": map[string]any{"terminated": map[string]any{"reason": "OOMKilled"}}}))},
		Context:  "prod eu",
	}
	got, err := engine(t).Eval(t.Context(), in)
	if err != nil || len(got) == 0 {
		t.Fatalf("%v, %v", got, err)
	}
	want := `kubectl --context 'prod eu' -n shop describe deployment 'x; rm -rf ~ $(reboot)'\'''`
	if c := got[0].Finding.Checks[0].Command; c != want {
		t.Errorf("command %s, want %s", c, want)
	}
}

func TestABadRuleNamesFileLineAndColumn(t *testing.T) {
	s, err := policy.NewStore(fstest.MapFS{"rules/x.yaml": {Data: []byte("rules:\n  - id: Bad\n    doc: d\n    title: t {{x}}\n    when: pods.exists(p\n    needs: [secrets]\n    next_checks:\n      - {why: w, command: kubectl delete pod x}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = rule.Load(s)
	for _, want := range []string{
		"policies/rules/x.yaml:2: rules[0].id: Bad is not a name", "policies/rules/x.yaml:6: rules[0].needs: secrets is not a look-up",
		"policies/rules/x.yaml:5: rules[0].when: is not valid CEL at line 1, column", "{{x}} is used and not defined", "kubectl delete pod x changes something",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q:\n%v", want, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("rules:\n  - id: a\n    doc: d\n    title: t\n    when: 'true'\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := policy.NewStore(fstest.MapFS{"rules/x.yaml": {Data: b}})
		if err != nil {
			t.Fatal(err)
		}
		e, err := rule.Load(s)
		if err == nil {
			_, _ = e.Eval(t.Context(), rule.Input{})
		}
	})
}
