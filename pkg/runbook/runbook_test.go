package runbook_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/runbook"
	"github.com/oncall-copilot/oncall/policies"
)

func shelf(t *testing.T) *runbook.Shelf {
	t.Helper()
	s, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	sh, err := runbook.Load(s)
	if err != nil {
		t.Fatal(err)
	}
	return sh
}

func TestFindPrefersWhatNamesTheAlertThenTheRuleThenWords(t *testing.T) {
	for name, tc := range map[string]struct {
		q    runbook.Query
		want string
	}{
		"an alert":    {runbook.Query{Alerts: []string{"KubeNodeNotReady"}, Rules: []string{"oom_killed"}}, "runbooks/node.md"},
		"a rule":      {runbook.Query{Rules: []string{"oom_killed", "bad_rollout"}}, "runbooks/oom.md"},
		"words only":  {runbook.Query{Text: "volume claim full, expand the disk"}, "runbooks/storage.md"},
		"other words": {runbook.Query{Text: "TLS certificate expired, renew"}, "runbooks/certificate.md"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := shelf(t).Find(tc.q)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) == 0 || got[0].Path != tc.want {
				t.Errorf("got %+v, want %s first", got, tc.want)
			}
		})
	}
}

func TestABrokenFrontMatterNamesFileAndLine(t *testing.T) {
	s, err := policy.NewStore(fstest.MapFS{"runbooks/x.md": {Data: []byte("---\ntitle: x\ntag: [a]\n---\ntext")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := runbook.Load(s); err == nil || !strings.Contains(err.Error(), "policies/runbooks/x.md:2: tag: unknown field") {
		t.Errorf("got %v", err)
	}
}
