package check

import (
	"context"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/rule"
)

func TestAnAPIServerIsTold(t *testing.T) {
	year := noon.Add(365 * 24 * time.Hour)
	for name, tt := range map[string]struct {
		serving *kube.Serving
		want    string
	}{
		"not when it was not asked":           {nil, ""},
		"not when it is well":                 {&kube.Serving{Ends: year, Took: 900 * time.Millisecond}, ""},
		"not when it has no certificate":      {&kube.Serving{Took: time.Millisecond}, ""},
		"when it is not ready":                {&kube.Serving{NotReady: []string{"etcd"}, Ends: year}, "broken API server is not ready: etcd failing"},
		"when it is slow":                     {&kube.Serving{Took: 1300 * time.Millisecond}, "soon API server answers slowly: the quickest of 3 small requests took 1.3 s"},
		"when its certificate ends this week": {&kube.Serving{Ends: noon.Add(100 * time.Hour)}, "soon API server's certificate expires in 4d"},
		"when its certificate ends today":     {&kube.Serving{Ends: noon.Add(5 * time.Hour)}, "broken API server's certificate expires in 5h"},
		"when its certificate has ended":      {&kube.Serving{Ends: noon.Add(-5 * time.Hour)}, "broken API server's certificate expired 5h ago"},
		"first of all when it is not ready":   {&kube.Serving{NotReady: []string{"etcd"}, Took: 2 * time.Second}, "broken API server is not ready: etcd failing"},
	} {
		t.Run(name, func(t *testing.T) {
			c := read(t, "kind: Namespace\nmetadata: {name: shop}")
			c.Serving = tt.serving
			r, err := Examine(context.Background(), c, Options{Redact: redact.New(redact.Options{})})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, root := range r.Roots {
				got += string(root.Urgency) + " " + root.Line(noon)
				if next, ok := root.Next(); !ok || rule.ReadOnly(next.Command) != nil {
					t.Errorf("next check %q: %v", next.Command, rule.ReadOnly(next.Command))
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
