package runbook_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/rule"
	"github.com/oncall-copilot/oncall/pkg/runbook"
	"github.com/oncall-copilot/oncall/policies"
)

func store(t testing.TB, users ...fstest.MapFS) *policy.Store {
	t.Helper()
	s, err := policy.NewStore(policies.FS)
	if len(users) > 0 {
		s, err = policy.NewStore(policies.FS, users[0])
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func shelf(t testing.TB, users ...fstest.MapFS) *runbook.Shelf {
	t.Helper()
	sh, err := runbook.Load(store(t, users...))
	if err != nil {
		t.Fatal(err)
	}
	return sh
}

func TestFindPrefersWhatNamesTheAlertThenTheRuleThenWords(t *testing.T) {
	sh := shelf(t)
	for name, tc := range map[string]struct {
		q    runbook.Query
		want string
	}{
		"an alert before a rule":      {runbook.Query{Alerts: []string{"KubeNodeNotReady"}, Rules: []string{"oom_killed"}}, "node"},
		"the first of two rules":      {runbook.Query{Rules: []string{"oom_killed", "bad_rollout"}}, "oom"},
		"a rule before words":         {runbook.Query{Rules: []string{"dns_failing"}, Text: "certificate expired"}, "dns"},
		"an alert of the mixin":       {runbook.Query{Alerts: []string{"KubeJobFailed"}}, "job"},
		"a crash loop alert":          {runbook.Query{Alerts: []string{"KubePodCrashLooping"}}, "crashloop"},
		"tags only":                   {runbook.Query{Tags: []string{"quota"}}, "quota"},
		"a full disk":                 {runbook.Query{Text: "volume claim full, expand the disk"}, "storage"},
		"a certificate":               {runbook.Query{Text: "TLS certificate expired, renew"}, "certificate"},
		"a name that is not resolved": {runbook.Query{Text: "lookup db: no such host"}, "dns"},
		"memory":                      {runbook.Query{Text: "pods killed because they went over the memory limit"}, "oom"},
		"a pull":                      {runbook.Query{Text: "cannot pull image from registry, unauthorized"}, "image"},
		"a pending pod":               {runbook.Query{Text: "scheduler finds no node for the pod, FailedScheduling"}, "scheduling"},
		"an autoscaler":               {runbook.Query{Text: "hpa at its maximum replicas"}, "autoscaling"},
		"a node":                      {runbook.Query{Text: "kubelet of the node stopped reporting"}, "node"},
		"a probe":                     {runbook.Query{Text: "liveness probe fails under load"}, "probe"},
		"throttling":                  {runbook.Query{Text: "cpu limit throttled latency"}, "cpu"},
		"a webhook":                   {runbook.Query{Text: "admission webhook does not answer, pods refused"}, "admission"},
		"connections":                 {runbook.Query{Text: "too many connections to the database"}, "database"},
		"the control plane":           {runbook.Query{Text: "api server slow, etcd"}, "apiserver"},
		"a missing config map":        {runbook.Query{Text: "configmap not found CreateContainerConfigError"}, "config"},
		"a stuck rollout":             {runbook.Query{Text: "rollout still rolling, undo to the revision before"}, "rollout"},
		"an error budget":             {runbook.Query{Text: "error budget burns, users see errors"}, "slo"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := sh.Find(tc.q)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) == 0 || got[0].Path != "runbooks/"+tc.want+".md" {
				t.Errorf("got %+v, want %s first", got, tc.want)
			}
		})
	}
}

func TestWordsThatFitNothingFindNothing(t *testing.T) {
	for _, q := range []runbook.Query{
		{},
		{Text: "zzz qqq"},
		{Text: "much fails"},
		{Text: "30 % of checkouts fail"},
		{Text: "cart service is down"},
		{Text: "queue is growing"},
		{Text: "request latency p99 above 2 s"},
		{Rules: []string{"no_such_rule"}, Alerts: []string{"NoSuchAlert"}},
	} {
		if got, err := shelf(t).Find(q); err != nil || len(got) > 0 {
			t.Errorf("%+v finds %+v, %v", q, got, err)
		}
	}
}

func TestEveryShippedRuleHasARunbookAndEveryNamedRuleIsThere(t *testing.T) {
	e, err := rule.Load(store(t))
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, b := range shelf(t).Books() {
		for _, r := range b.Rules {
			named[r] = true
			if !slices.ContainsFunc(e.Rules(), func(x rule.Rule) bool { return x.ID == r }) {
				t.Errorf("%s names rule %s, which there is not", b.Path, r)
			}
		}
	}
	for _, r := range e.Rules() {
		if !named[r.ID] {
			t.Errorf("no runbook names rule %s", r.ID)
		}
	}
}

func TestAFolderOfTheUserReplacesAndAddsRunbooks(t *testing.T) {
	sh := shelf(t, fstest.MapFS{
		"runbooks/oom.md":  {Data: []byte("---\ntitle: Ours for memory\nrules: [oom_killed]\n---\n## Mend\n\nCall the cart team.\n")},
		"runbooks/cart.md": {Data: []byte("---\ntitle: The cart is slow\nalerts: [CartSlow]\n---\nEmpty the cart cache.\n")},
	})
	got, err := sh.Find(runbook.Query{Rules: []string{"oom_killed"}})
	if err != nil || len(got) != 1 || got[0].Title != "Ours for memory" || got[0].Excerpt != "Call the cart team." {
		t.Errorf("replaced: %+v, %v", got, err)
	}
	got, err = sh.Find(runbook.Query{Alerts: []string{"CartSlow"}})
	if err != nil || len(got) != 1 || got[0].Path != "runbooks/cart.md" {
		t.Errorf("added: %+v, %v", got, err)
	}
}

func TestABrokenFrontMatterNamesFileAndLine(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"an unknown field": {"---\ntitle: x\ntag: [a]\n---\ntext", "policies/runbooks/x.md:2: tag: unknown field"},
		"no end":           {"---\ntitle: x\n", "policies/runbooks/x.md:1: front matter is not closed by ---"},
		"no title":         {"---\ntags: [a]\n---\ntext", "policies/runbooks/x.md:1: title: is missing; write title: in the front matter"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := policy.NewStore(fstest.MapFS{"runbooks/x.md": {Data: []byte(tc.text)}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := runbook.Load(s); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("---\ntitle: x\nrules: [a]\n---\n# x\n\n## Mend\n\ny"))
	f.Add([]byte("no front matter"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := policy.NewStore(fstest.MapFS{"runbooks/x.md": {Data: b}})
		if err != nil {
			t.Fatal(err)
		}
		sh, err := runbook.Load(s)
		if err != nil {
			return
		}
		if _, err := sh.Find(runbook.Query{Text: string(b)}); err != nil {
			t.Error(err)
		}
	})
}
