package rule_test

import (
	"strings"
	"testing"
	"testing/fstest"

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
	return map[string]any{
		"metadata": map[string]any{"name": name}, "spec": map[string]any{"containers": []any{map[string]any{"name": "c", "resources": map[string]any{"limits": map[string]any{"memory": "256Mi"}}}}},
		"status": map[string]any{"containerStatuses": []any{status}},
	}
}

func lookup(items ...any) event.Evidence {
	return event.Evidence{Values: map[string]any{"items": items}}
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
