package owner_test

import (
	"testing"
	"testing/fstest"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/owner"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

func TestTheFirstRuleThatSaysSomethingWins(t *testing.T) {
	s, err := policy.NewStore(fstest.MapFS{"ownership.yaml": {Data: []byte(`labels: [team, owner]
rules:
  - match: shop/deployment/pay-*
    team: payments
namespaces: {shop: checkout}
default: platform
contacts: {payments: {slack: "#pay"}}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := owner.Load(s)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		entity event.Entity
		labels owner.Labels
		team   string
		rule   string
	}{
		"a label comes first":      {event.Entity{Namespace: "shop", Kind: "Deployment", Name: "pay-api"}, owner.Labels{Own: map[string]string{"owner": "o", "team": "t"}, Namespace: map[string]string{"team": "n"}}, "t", "label team on shop/deployment/pay-api"},
		"a rule with its line":     {event.Entity{Namespace: "shop", Kind: "Deployment", Name: "pay-api"}, owner.Labels{Namespace: map[string]string{"team": "n"}}, "payments", "policies/ownership.yaml:3: shop/deployment/pay-*"},
		"the namespace":            {event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}, owner.Labels{}, "checkout", "policies/ownership.yaml: namespaces.shop"},
		"a label of the namespace": {event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}, owner.Labels{Own: map[string]string{"app": "web"}, Namespace: map[string]string{"owner": "n"}}, "n", "label owner on namespace/shop"},
		"the namespace of itself":  {event.Entity{Kind: "Namespace", Name: "shop"}, owner.Labels{}, "checkout", "policies/ownership.yaml: namespaces.shop"},
		"the default for all else": {event.Entity{Kind: "Node", Name: "n1"}, owner.Labels{}, "platform", "policies/ownership.yaml: default"},
	} {
		t.Run(name, func(t *testing.T) {
			got := p.Of(tc.entity, tc.labels)
			if got.Team != tc.team || got.Rule != tc.rule {
				t.Errorf("got %q by %q, want %q by %q", got.Team, got.Rule, tc.team, tc.rule)
			}
			if tc.team == "payments" && got.Contact["slack"] != "#pay" {
				t.Errorf("contact %v", got.Contact)
			}
		})
	}
}
