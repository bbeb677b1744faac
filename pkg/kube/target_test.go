package kube

import (
	"strings"
	"testing"
)

func TestTargetsAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]Target{
		"svc/monitoring/prometheus:9090":     {Namespace: "monitoring", Service: "prometheus", Port: "9090"},
		"service/monitoring/prometheus:web":  {Namespace: "monitoring", Service: "prometheus", Port: "web"},
		"https:svc/m/p:9091":                 {Namespace: "m", Service: "p", Port: "9091", Scheme: "https"},
		"svc/mimir/gateway:80/prometheus/":   {Namespace: "mimir", Service: "gateway", Port: "80", Path: "/prometheus"},
		"svc/a/b:http-web/select/0/prom.api": {Namespace: "a", Service: "b", Port: "http-web", Path: "/select/0/prom.api"},
	} {
		if got, err := ParseTarget(text); err != nil || got != want {
			t.Errorf("%s is %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                          "is not [https:]svc/NAMESPACE/NAME:PORT",
		"http://prometheus:9090":    "is not",
		"pod/monitoring/prom-0:80":  "is not",
		"svc/prometheus:9090":       "has no namespace",
		"svc/monitoring/prometheus": "has no port",
		"svc/m/p:":                  "has a port that is neither",
		"svc/m/p:99999":             "has a port that is neither",
		"svc/m/p:-1":                "has a port that is neither",
		"svc/m/p:80?x":              "has a port that is neither",
		"svc/m/../p:80":             "holds what is not a name",
		"svc//p:80":                 "holds what is not a name",
		"svc/M/p:80":                "holds what is not a name",
		"svc/m/p:80/../x":           "has a path prefix that is not a path",
		"svc/m/p:80/a//b":           "has a path prefix that is not a path",
	} {
		if _, err := ParseTarget(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// What is accepted names one Service and nothing else of the API.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"svc/monitoring/prometheus:9090", "https:svc/a/b:web/p", "svc/../secrets:1", "svc/a/b:1/.."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseTarget(s)
		if err != nil {
			return
		}
		if again, err := ParseTarget(got.String()); err != nil || again != got {
			t.Errorf("%q is %+v, which reads back as %+v, %v", s, got, again, err)
		}
		for _, part := range []string{got.Namespace, got.Service, got.Port} {
			if part == "" || strings.ContainsAny(part, "/?#%: ") || part == ".." {
				t.Errorf("%q has the part %q", s, part)
			}
		}
	})
}
