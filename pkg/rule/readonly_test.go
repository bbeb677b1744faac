package rule_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/rule"
)

func TestReadOnlyKnowsWhatReadsAndRefusesTheRest(t *testing.T) {
	for _, c := range []string{
		"kubectl get pods", "kubectl --context prod-eu-1 -n shop describe deployment checkout", "kubectl -n shop logs web-1 -c app --previous --tail=50",
		"kubectl -n shop rollout history deployment/checkout", "kubectl -n shop rollout status deployment checkout --timeout=5s",
		"kubectl -n shop events --types Warning", "kubectl top nodes", "kubectl auth can-i list pods", "kubectl get --raw '/readyz?verbose'",
		`promtool query instant $PROMETHEUS 'sum(rate(x{a="b"}[5m])) > 1'`, `logcli query --since=1h '{namespace="shop"} |~ "(?i)error"'`,
		"kubectl -n shop logs delete", "kubectl -n delete get pods", `kubectl -n shop get pod 'it'\''s; $(odd)'`, "oncall why 7Q2",
		"kubectl get nodes -o 'custom-columns=NAME:.metadata.name'",
	} {
		if err := rule.ReadOnly(c); err != nil {
			t.Errorf("%s: %v", c, err)
		}
	}
	for c, want := range map[string]string{
		"": "empty", "kubectl": "no verb", "kubectl -n get": "no verb",
		"kubectl -n shop delete pod web-1":               "changes something",
		"kubectl -n get delete pod web-1":                "changes something", // a namespace that is called get
		"kubectl rollout undo deployment x":              "changes something",
		"kubectl rollout restart deployment x":           "changes something",
		"kubectl exec web-1 -- id":                       "changes something",
		"kubectl debug node/n1":                          "changes something",
		"kubectl cp a:b c":                               "changes something",
		"kubectl proxy":                                  "changes something",
		"kubectl create token x":                         "changes something",
		"kubectl get secret db -o yaml":                  "Secrets",
		"kubectl get pods,secrets":                       "Secrets",
		"kubectl describe secrets/db":                    "Secrets",
		"kubectl get --raw /api/v1/secrets":              "raw path",
		"kubectl auth reconcile -f x":                    "none of auth",
		"kubectl get pods; reboot":                       "acts on",
		"kubectl get pods | sh":                          "acts on",
		"kubectl get pods > f":                           "acts on",
		"kubectl get pods $(reboot)":                     "acts on",
		"kubectl get pods `reboot`":                      "acts on",
		"kubectl get pods\nreboot":                       "acts on",
		`kubectl get pods "$(reboot)"`:                   "expands",
		"kubectl get pods $HOME":                         "acts on",
		"kubectl get pods 'x":                            "open quotation",
		"curl http://x":                                  "runs curl",
		"sudo kubectl get pods":                          "runs sudo",
		"promtool tsdb create-blocks-from openmetrics x": "none of promtool",
		"amtool silence add x":                           "none of amtool",
		"promtool query instant $PROMETHEUSX x":          "acts on",
	} {
		if err := rule.ReadOnly(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", c, err, want)
		}
	}
}

func FuzzWords(f *testing.F) {
	f.Add("x; rm -rf ~\n$(reboot)'", "--context=`id`")
	f.Fuzz(func(t *testing.T, a, b string) {
		// Whatever a name holds, quoting makes it one word.
		got, err := rule.Words("kubectl get " + rule.Quote(a) + " " + rule.Quote(b))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 4 || !slices.Equal(got[:2], []string{"kubectl", "get"}) {
			t.Errorf("%q and %q are quoted as %q", a, b, got)
		}
		_ = rule.ReadOnly(a)
	})
}
