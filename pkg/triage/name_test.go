package triage

import (
	"errors"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/event"
)

func TestParseName(t *testing.T) {
	for name, c := range map[string]struct {
		in, namespace, kind string
		want                Want
		wrong               string
	}{
		"a name alone is looked for everywhere":         {in: "checkout", want: Want{"", "", "checkout"}},
		"a namespace and a name":                        {in: "shop/checkout", want: Want{"shop", "", "checkout"}},
		"a kind and a name":                             {in: "deploy/checkout", want: Want{"", "Deployment", "checkout"}},
		"a kind and a name in a namespace":              {in: "sts/db", namespace: "shop", want: Want{"shop", "StatefulSet", "db"}},
		"a namespace, a kind and a name":                {in: "shop/deployments/checkout", want: Want{"shop", "Deployment", "checkout"}},
		"the namespace said twice":                      {in: "shop/checkout", namespace: "shop", want: Want{"shop", "", "checkout"}},
		"a pod":                                         {in: "shop/web-1", kind: "Pod", want: Want{"shop", "Pod", "web-1"}},
		"two namespaces are a mistake":                  {in: "shop/deploy/web", namespace: "lab", wrong: "leave one out"},
		"a word that is neither namespace nor kind":     {in: "lamp/web", namespace: "lab", wrong: "neither the namespace lab nor a kind"},
		"a kind that cannot be triaged":                 {in: "shop/svc/web", wrong: "the kinds are deployment"},
		"a workload where a pod is wanted":              {in: "shop/deploy/web", kind: "Pod", wrong: "names a deployment, not a pod"},
		"nothing between slashes":                       {in: "shop//web", wrong: "is not a name"},
		"nothing at all":                                {in: "", wrong: "is not a name"},
		"more parts than a name has":                    {in: "a/b/c/d", wrong: "is not a name"},
		"a short name of a kind is not cut to another":  {in: "ds/agent", want: Want{"", "DaemonSet", "agent"}},
		"a namespace that ends in s is not a kind":      {in: "payments/api", want: Want{"payments", "", "api"}},
		"the plural of a kind is a kind":                {in: "pods/web-1", want: Want{"", "Pod", "web-1"}},
		"a namespace called like a kind needs the kind": {in: "job/deploy/web", want: Want{"job", "Deployment", "web"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseName(c.in, c.namespace, c.kind)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Fatalf("ParseName(%q) = %v, want an error that says %q", c.in, err, c.wrong)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("ParseName(%q) = %+v, %v, want %+v", c.in, got, err, c.want)
			}
		})
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("shop/deploy/checkout", "")
	f.Add("a/b", "a")
	f.Fuzz(func(t *testing.T, s, namespace string) {
		w, err := ParseName(s, namespace, "")
		if err == nil && (w.Name == "" || strings.Contains(w.Name, "/")) {
			t.Errorf("ParseName(%q) = %+v", s, w)
		}
	})
}

var things = []event.Entity{
	{Namespace: "lab", Kind: "Deployment", Name: "web"},
	{Namespace: "shop", Kind: "Deployment", Name: "checkout"},
	{Namespace: "shop", Kind: "Deployment", Name: "db"},
	{Namespace: "shop", Kind: "StatefulSet", Name: "db"},
	{Namespace: "shop", Kind: "Pod", Name: "db"},
	{Namespace: "shop", Kind: "Pod", Name: "web-7d4b9c6f5-x2x8q"},
	{Namespace: "shop", Kind: "Pod", Name: "web-7d4b9c6f5-b4cdf"},
	{Namespace: "shop", Kind: "Deployment", Name: "web"},
}

func TestResolve(t *testing.T) {
	for name, c := range map[string]struct {
		want Want
		is   string
		says string
	}{
		"the only one of its name":    {want: Want{"", "", "checkout"}, is: "shop/deployment/checkout"},
		"a kind decides between two":  {want: Want{"shop", "StatefulSet", "db"}, is: "shop/statefulset/db"},
		"two kinds of a name":         {want: Want{"shop", "", "db"}, says: "db is 2 things: shop/deploy/db, shop/sts/db"},
		"two namespaces":              {want: Want{"", "", "web"}, says: "lab/deploy/web, shop/deploy/web"},
		"a letter is wrong":           {want: Want{"shop", "", "chekout"}, says: "there is shop/deploy/checkout"},
		"the beginning of a pod":      {want: Want{"shop", "Pod", "web-7d4b9c6f5"}, says: "there is shop/pod/web-7d4b9c6f5-b4cdf, shop/pod/web-7d4b9c6f5-x2x8q"},
		"a name of another namespace": {want: Want{"lab", "", "checkout"}, says: "namespace lab has no workload checkout; there is shop/deploy/checkout"},
		"nothing is like it":          {want: Want{"shop", "", "zzzzzzzzzz"}, says: "nor one of a similar name"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Resolve(c.want, things)
			if c.says != "" {
				var n *NameError
				if !errors.As(err, &n) || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("Resolve(%+v) = %v, %v, want an error that says %q", c.want, got, err, c.says)
				}
				return
			}
			if err != nil || got.String() != c.is {
				t.Errorf("Resolve(%+v) = %v, %v, want %s", c.want, got, err, c.is)
			}
		})
	}
}

func TestMatchersAreThoseOfAlertmanager(t *testing.T) {
	for in, want := range map[string]string{
		`alertname=X`:                    `alertname="X"`,
		`{alertname="X", pod=~"web-.*"}`: `alertname="X" pod=~"web-.*"`,
		`a!="b,c",d!~e.*`:                `a!="b,c" d!~"e.*"`,
		`alertname="a\"b"`:               `alertname="a\"b"`,
		` a = b , c = "d" , `:            `a="b" c="d"`,
		`alertname=`:                     `alertname=""`,
		``:                               "error: no matcher",
		`{a="b"`:                         "error: a brace has no other",
		`web`:                            "error: is not a matcher",
		`a="b" c="d"`:                    "error: no comma",
		`a="b`:                           "error: quote",
		`pod=~"("`:                       "error: is not a regular expression",
		`a=b"c`:                          "error: needs double quotes",
	} {
		ms, err := ParseMatchers(in)
		var got []string
		for _, m := range ms {
			got = append(got, m.String())
		}
		if says, wrong := strings.CutPrefix(want, "error: "); wrong {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("ParseMatchers(%q) = %v, %v, want an error that says %q", in, got, err, says)
			}
		} else if err != nil || strings.Join(got, " ") != want {
			t.Errorf("ParseMatchers(%q) = %v, %v, want %s", in, got, err, want)
		}
	}
}

func FuzzParseMatchers(f *testing.F) {
	f.Add(`{alertname="X", pod=~"web-.*"}`)
	f.Add(`a!="b,c",d!~e.*`)
	f.Fuzz(func(t *testing.T, s string) {
		ms, err := ParseMatchers(s)
		if err != nil {
			return
		}
		var written []string
		for _, m := range ms {
			written = append(written, m.String())
		}
		again, err := ParseMatchers(strings.Join(written, ","))
		if err != nil || len(again) != len(ms) {
			t.Errorf("%q is read as %v, and that as %v, %v", s, ms, again, err)
		}
	})
}

func TestWhatAnAlertIsAbout(t *testing.T) {
	for name, c := range map[string]struct {
		labels   map[string]string
		matchers string
		is, says string
	}{
		"its pod":                                        {labels: map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q"}, is: "shop/pod/web-7d4b9c6f5-x2x8q"},
		"the workload of a pod that is gone":             {labels: map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-zzzzz"}, is: "shop/deployment/web"},
		"not the exporter that measured it":              {labels: map[string]string{"namespace": "mon", "pod": "ksm-1", "exported_namespace": "shop", "exported_pod": "web-7d4b9c6f5-b4cdf"}, is: "shop/pod/web-7d4b9c6f5-b4cdf"},
		"its deployment":                                 {labels: map[string]string{"namespace": "shop", "deployment": "checkout"}, is: "shop/deployment/checkout"},
		"the pods that a matcher chooses are a workload": {matchers: `namespace="shop",pod=~"web-.*"`, is: "shop/deployment/web"},
		"a matcher that chooses several things":          {matchers: `namespace="shop",deployment=~".*"`, says: "things: shop/deploy/checkout"},
		"a matcher that chooses nothing":                 {matchers: `namespace="shop",pod=~"zzz.*"`, says: "no pod or workload in the cluster matches"},
		"labels that name nothing":                       {labels: map[string]string{"alertname": "Watchdog"}, matchers: `alertname="Watchdog"`, says: "nothing in it names"},
	} {
		t.Run(name, func(t *testing.T) {
			var got event.Entity
			ms, err := ParseMatchers(c.matchers)
			if c.matchers != "" && err != nil {
				t.Fatal(err)
			}
			got, err = About(c.labels, ms, things)
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("About = %v, %v, want an error that says %q", got, err, c.says)
				}
				return
			}
			if err != nil || got.String() != c.is {
				t.Errorf("About = %v, %v, want %s", got, err, c.is)
			}
		})
	}
}
