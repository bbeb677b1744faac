package kube

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Found is a Service that looks like one of the sources we read.
type Found struct {
	Source    string // prometheus, loki or alertmanager
	Flavour   string // prometheus, thanos, mimir, victoriametrics, loki, alertmanager
	Namespace string
	Service   string
	Port      int
	Scheme    string // http or https
	Path      string // path prefix of its API, such as /prometheus for Mimir
	Why       string // the labels that gave it away
	rank      int
}

// String is the source as it is printed for people: loki monitoring/loki:3100.
func (f Found) String() string { return f.Flavour + " " + f.Namespace + "/" + f.Service }

// Host is the Service's name and port as pods of the cluster reach it.
func (f Found) Host() string { return f.Service + "." + f.Namespace + ".svc:" + itoa(f.Port) }

// service is a Service as far as discovery looks at it.
type service struct {
	Metadata struct {
		Namespace string            `json:"namespace"`
		Name      string            `json:"name"`
		Labels    map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec struct {
		ClusterIP string            `json:"clusterIP"`
		Selector  map[string]string `json:"selector"`
		Ports     []servicePort     `json:"ports"`
	} `json:"spec"`
}

type servicePort struct {
	Name        string `json:"name"`
	Port        int    `json:"port"`
	Protocol    string `json:"protocol"`
	AppProtocol string `json:"appProtocol"`
	TargetPort  any    `json:"targetPort"` // a number or a name
}

// scheme is what is spoken on the port, as far as it says.
func (p servicePort) scheme() string {
	if p.Name == "https" || strings.HasPrefix(p.Name, "https-") || strings.HasSuffix(p.Name, "-https") || strings.EqualFold(p.AppProtocol, "https") || p.Port == 443 {
		return "https"
	}
	return "http"
}

// ports lists the ports, for messages.
func (s *service) ports() string {
	var out []string
	for _, p := range s.Spec.Ports {
		if p.Name != "" {
			out = append(out, fmt.Sprintf("%d (%s)", p.Port, p.Name))
			continue
		}
		out = append(out, itoa(p.Port))
	}
	return strings.Join(out, ", ")
}

// sign is how one kind of Service is recognised. A label's value may be any of
// those given; "" asks for none.
type sign struct {
	source, flavour string
	labels          map[string]string // name to alternatives, separated by |
	ports           []string          // names or numbers, best first
	path            string
	rank            int // lower is better
}

var signs = []sign{
	{"prometheus", "prometheus", map[string]string{"app": "kube-prometheus-stack-prometheus|prometheus-operator-prometheus"}, []string{"http-web", "web", "9090"}, "", 1},
	{"prometheus", "prometheus", map[string]string{"app.kubernetes.io/name": "prometheus", "app.kubernetes.io/component": "server|prometheus|"}, []string{"http-web", "web", "http", "9090"}, "", 2},
	{"prometheus", "thanos", map[string]string{"app.kubernetes.io/name": "thanos|thanos-query-frontend", "app.kubernetes.io/component": "query-frontend"}, []string{"http", "9090", "10902"}, "", 3},
	{"prometheus", "thanos", map[string]string{"app.kubernetes.io/name": "thanos|thanos-query", "app.kubernetes.io/component": "query|query-layer"}, []string{"http", "9090", "10902"}, "", 4},
	{"prometheus", "mimir", map[string]string{"app.kubernetes.io/name": "mimir", "app.kubernetes.io/component": "gateway|nginx"}, []string{"http-metrics", "http", "80", "8080"}, "/prometheus", 5},
	{"prometheus", "mimir", map[string]string{"app.kubernetes.io/name": "mimir", "app.kubernetes.io/component": "query-frontend"}, []string{"http-metrics", "8080"}, "/prometheus", 6},
	{"prometheus", "victoriametrics", map[string]string{"app.kubernetes.io/name": "vmsingle|victoria-metrics-single"}, []string{"http", "8428", "8429"}, "", 7},
	{"prometheus", "prometheus", map[string]string{"app": "prometheus"}, []string{"web", "http", "9090"}, "", 8},
	{"prometheus", "prometheus", map[string]string{"operated-prometheus": "true"}, []string{"http-web", "web", "9090"}, "", 9},
	{"loki", "loki", map[string]string{"app.kubernetes.io/name": "loki", "app.kubernetes.io/component": "gateway"}, []string{"http-metrics", "http", "80", "8080"}, "", 1},
	{"loki", "loki", map[string]string{"app.kubernetes.io/name": "loki", "app.kubernetes.io/component": "query-frontend"}, []string{"http-metrics", "3100"}, "", 2},
	{"loki", "loki", map[string]string{"app.kubernetes.io/name": "loki", "app.kubernetes.io/component": "read"}, []string{"http-metrics", "3100"}, "", 3},
	{"loki", "loki", map[string]string{"app.kubernetes.io/name": "loki", "app.kubernetes.io/component": "single-binary|"}, []string{"http-metrics", "3100"}, "", 4},
	{"loki", "loki", map[string]string{"app": "loki"}, []string{"http-metrics", "3100"}, "", 5},
	{"alertmanager", "alertmanager", map[string]string{"app": "kube-prometheus-stack-alertmanager|prometheus-operator-alertmanager"}, []string{"http-web", "web", "9093"}, "", 1},
	{"alertmanager", "alertmanager", map[string]string{"app.kubernetes.io/name": "alertmanager"}, []string{"http-web", "web", "http", "9093"}, "", 2},
	{"alertmanager", "alertmanager", map[string]string{"app": "alertmanager"}, []string{"web", "http", "9093"}, "", 3},
	{"alertmanager", "alertmanager", map[string]string{"operated-alertmanager": "true"}, []string{"http-web", "web", "9093"}, "", 4},
}

// Discover finds Prometheus, Thanos, Mimir, Loki and Alertmanager by the labels
// that their charts give their Services, in any namespace, the likeliest of
// each source first.
func Discover(ctx context.Context, c *Client) ([]Found, error) {
	params := url.Values{"limit": {"500"}}
	var found []Found
	for {
		var page struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []service `json:"items"`
		}
		if err := c.Get(ctx, "/api/v1/services", params, &page); err != nil {
			return nil, err
		}
		for i := range page.Items {
			if f, ok := recognise(&page.Items[i]); ok {
				found = append(found, f)
			}
		}
		if page.Metadata.Continue == "" {
			break
		}
		params.Set("continue", page.Metadata.Continue)
	}
	slices.SortStableFunc(found, func(a, b Found) int {
		return cmp.Or(strings.Compare(b.Source, a.Source), a.rank-b.rank, strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Service, b.Service))
	})
	return found, nil
}

func recognise(s *service) (Found, bool) {
	if len(s.Spec.Selector) == 0 {
		return Found{}, false // nothing to forward to
	}
	for _, part := range []string{"-memberlist", "-canary", "-chunks-cache", "-results-cache", "-backend", "-write", "-pushgateway", "-node-exporter", "-adapter", "-discovery"} {
		if strings.HasSuffix(s.Metadata.Name, part) {
			return Found{}, false
		}
	}
	for _, g := range signs {
		why, ok := g.matches(s.Metadata.Labels)
		if !ok {
			continue
		}
		for _, want := range g.ports {
			for _, p := range s.Spec.Ports {
				if p.Name != want && itoa(p.Port) != want {
					continue
				}
				f := Found{Source: g.source, Flavour: g.flavour, Namespace: s.Metadata.Namespace, Service: s.Metadata.Name, Port: p.Port, Scheme: p.scheme(), Path: g.path, Why: why, rank: g.rank * 2}
				if s.Spec.ClusterIP == "None" {
					f.rank++ // a headless Service is the lesser name of the same pods
				}
				return f, true
			}
		}
	}
	return Found{}, false
}

func (g sign) matches(labels map[string]string) (why string, ok bool) {
	var said []string
	for name, alternatives := range g.labels {
		if !slices.Contains(strings.Split(alternatives, "|"), labels[name]) {
			return "", false
		}
		if labels[name] != "" {
			said = append(said, name+"="+labels[name])
		}
	}
	slices.Sort(said)
	return strings.Join(said, ","), true
}
