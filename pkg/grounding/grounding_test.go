package grounding_test

import (
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/grounding"
)

// facts are those of an out-of-memory incident.
func facts() *grounding.Facts {
	f := &grounding.Facts{}
	f.AddEvidence(event.Evidence{
		Source: "kubernetes", Query: "pods shop Deployment/checkout", Entity: event.Entity{Namespace: "shop", Kind: "Deployment", Name: "checkout"},
		Excerpt: []string{
			"6 pods, 0 ready; last OOMKilled 6; 18 restarts",
			"checkout-7d4b9c6f5-x2x8q Running node=ip-10-0-3-7",
			"  container app ready=false restarts=3 lastState=terminated reason=OOMKilled exitCode=137 finishedAt=2026-11-24T02:50:12Z",
			`2026-11-24T02:48:03Z rollout image v411 -> v412, memory limit 512Mi -> 256Mi`,
			`Back-off pulling image "registry.local/shop/checkout:v412"`,
		},
		Values: map[string]any{"count": 6.0, "observed": 0.1234},
	})
	return f
}

func TestAClaimIsGroundedWhenItsEvidenceShowsItsNumbersAndNames(t *testing.T) {
	for _, claim := range []string{
		"All six pods were OOMKilled after the memory limit went from 512Mi to 256Mi",
		"shop/deployment/checkout: 6 of 6 pods OOMKilled, exit code 137",
		"The rollout to v412 at 02:48 lowered the memory limit; the container app was killed at 02:50:12.",
		"checkout runs on ip-10-0-3-7; 18 restarts",
		"The pod checkout-7d4b9c6f5-x2x8q restarts, and the service is unavailable.",
		"A roll-back is likely to help; the limit is too low for this release.",
		"0/6 ready", "It was 0.1234 before",
	} {
		if p := facts().Check(claim); len(p) > 0 {
			t.Errorf("%q: %v", claim, p)
		}
	}
}

func TestAnInventedNumberOrNameIsFound(t *testing.T) {
	for claim, want := range map[string]grounding.Problem{
		"7 of 7 pods OOMKilled":                           {Fault: grounding.Number, Token: "7"},
		"memory went to 300Mi":                            {Fault: grounding.Number, Token: "300Mi"},
		"since 02:49 it fails":                            {Fault: grounding.Number, Token: "02:49"},
		"the rollout of v413 broke it":                    {Fault: grounding.Name, Token: "v413"},
		"the redis-master pod is slow":                    {Fault: grounding.Name, Token: "redis-master"},
		"the payments database is down":                   {Fault: grounding.Name, Token: "payments"},
		"the service billing refuses":                     {Fault: grounding.Name, Token: "billing"},
		"DiskPressure on the node":                        {Fault: grounding.Name, Token: "DiskPressure"},
		"ECONNREFUSED in the logs":                        {Fault: grounding.Name, Token: "ECONNREFUSED"},
		"shop/deployment/cart is down":                    {Fault: grounding.Name, Token: "shop/deployment/cart"},
		"kube_pod_info is missing":                        {Fault: grounding.Name, Token: "kube_pod_info"},
		"nine pods fail":                                  {Fault: grounding.Number, Token: "nine"},
		`it says "out of disk"`:                           {Fault: grounding.Quote, Token: "out of disk"},
		"48 restarts":                                     {Fault: grounding.Number, Token: "48"}, // a digit of a time is no count
		"run kubectl -n shop delete pod":                  {Fault: grounding.Command, Token: "kubectl -"},
		"then $(reboot)":                                  {Fault: grounding.Command, Token: "$("},
		"see https://evil.example/x":                      {Fault: grounding.Link, Token: "https://"},
		"see evil.com":                                    {Fault: grounding.Link, Token: "evil.com"},
		"<!channel> look":                                 {Fault: grounding.Mention, Token: "<!channel>"},
		"ask @alice":                                      {Fault: grounding.Mention, Token: " @alice"},
		"[click](x)":                                      {Fault: grounding.Markup, Token: "[click]("},
		"<img src=x onerror=alert(1)>":                    {Fault: grounding.Markup, Token: "<img src=x onerror=alert(1)>"},
		"red \x1b[31m text":                               {Fault: grounding.Markup, Token: `"\x1b[31"`},
		"\u202etxet":                                      {Fault: grounding.Markup, Token: `"\u202et"`},
		"the owner is curl -s x | sh":                     {Fault: grounding.Command, Token: "curl -"},
		"about a thousand requests":                       {Fault: grounding.Number, Token: "thousand"},
		"it is 3.7 times worse than 2026-11-24T02:48:03Z": {Fault: grounding.Number, Token: "3.7"},
		"version 4.1.2 is broken":                         {Fault: grounding.Number, Token: "4.1.2"},
	} {
		found := false
		got := facts().Check(claim)
		for _, p := range got {
			found = found || p == want
		}
		if !found {
			t.Errorf("%q: got %v, want %v", claim, got, want)
		}
	}
}

func TestNeededNamesWhatTheEvidenceHasToShow(t *testing.T) {
	got := strings.Join(grounding.Needed("OOMKilled in 6 of 7 pods at 02:50"), " ")
	if want := "OOMKilled 6 7 02:50"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("6 of 6 pods OOMKilled at 02:50", "6 pods OOMKilled 02:50")
	f.Add("\x1b]0;x\x07 <!here> `a` \"b\" 1,000.5% -1/2:3", "")
	f.Fuzz(func(t *testing.T, claim, evidence string) {
		// What stands word for word in its evidence names nothing beyond it.
		for _, p := range grounding.Of(evidence, claim).Check(claim) {
			if p.Fault == grounding.Number || p.Fault == grounding.Name {
				t.Errorf("%v in %q, which is its own evidence", p, claim)
			}
		}
	})
}
