package check

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/stat"
)

// shopWeb is a Deployment with one pod, an hour old.
const shopWeb = `kind: Namespace
metadata: {name: shop}
---
kind: Node
metadata: {name: n1, creationTimestamp: ago(900h)}
status: {conditions: [{type: Ready, status: "True"}]}
---
kind: Deployment
metadata: {name: web, namespace: shop, uid: d1, creationTimestamp: ago(900h)}
spec: {replicas: 1, selector: {matchLabels: {app: web}}}
status: {replicas: 1, readyReplicas: 1, availableReplicas: 1, updatedReplicas: 1}
---
kind: ReplicaSet
metadata: {name: web-6b8d7c9f4, namespace: shop, uid: r1, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: d1, controller: true}]}
---
kind: Pod
metadata: {name: web-6b8d7c9f4-x2x8q, namespace: shop, labels: {app: web}, creationTimestamp: ago(AGE), ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-6b8d7c9f4, uid: r1, controller: true}]}
spec: {nodeName: n1, containers: [{name: app, image: "r.example/web:v1"}]}
status: {phase: Running, startTime: ago(AGE), conditions: [{type: PodScheduled, status: "True"}, {type: Ready, status: "True", lastTransitionTime: ago(AGE)}]}
`

var (
	webDeployment = event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}
	dataClaim     = event.Entity{Namespace: "shop", Kind: "PersistentVolumeClaim", Name: "data"}
	coreDNS       = event.Entity{Namespace: "kube-system", Kind: "Deployment", Name: "coredns"}
)

func odd(e event.Entity, detector, signal string, observed, high float64, s event.Severity, ago time.Duration) event.Anomaly {
	return event.Anomaly{
		Entity: e, Detector: detector, Signal: signal, Observed: observed, Expected: &event.Interval{High: high}, Severity: s, Onset: noon.Add(-ago),
		Summary: signal + " odd, full in 5 h (4 h - 6 h)", Explanation: "by " + detector, Evidence: []event.EvidenceRef{{Source: "prometheus", Query: "q"}},
	}
}

func habit(each float64, times int) stat.GammaPoisson {
	var g stat.GammaPoisson
	for range times {
		g.Add(each, 24)
	}
	return g
}

func TestSignals(t *testing.T) {
	slow := func(requests float64, now, usual float64, since time.Duration) Signals {
		return Signals{Departures: []Departure{{odd(webDeployment, "level_shift", "latency_p99", now, usual, event.Warning, since), requests}}}
	}
	failing := func(failed, all, usual float64, known time.Duration) Signals {
		return Signals{Failing: []Failing{{Entity: webDeployment, Query: "q", Failed: failed, All: all, Usual: usual, Known: known, Since: noon.Add(-6 * time.Minute)}}}
	}
	said := func(lines float64, before stat.GammaPoisson, known, last time.Duration) Signals {
		return Signals{Statements: []Statement{{Entity: webDeployment, Template: "dial <*>: refused", Example: "dial db: refused", Query: "{}", Lines: lines, Before: before, Known: known, First: noon.Add(-8 * time.Minute), Last: noon.Add(-last)}}}
	}
	share := func(v float64) Signals {
		return Signals{Shares: []Share{{dataClaim, "pvc_used_ratio", "q", v}}}
	}
	departure := func(a event.Anomaly) Signals { return Signals{Departures: []Departure{{a, 5000}}} }
	hour := time.Hour
	for name, c := range map[string]struct {
		of   Signals
		age  string // of the pod; an hour
		want string // what is found, "" for nothing
	}{
		"an error budget that burns at a page's rate is broken": {departure(odd(webDeployment, "burn_rate", "error_ratio", 0.3, 0.005, event.Critical, 9*time.Minute)), "", "broken shop/deploy/web 30 % of requests fail 9m"},
		"one that burns at a ticket's rate will be":             {departure(odd(webDeployment, "burn_rate", "error_ratio", 0.02, 0.005, event.Warning, hour)), "", "soon shop/deploy/web 2 % of requests fail 60m"},
		"one that burns slowly is no news":                      {departure(odd(webDeployment, "burn_rate", "error_ratio", 0.006, 0.005, event.Info, hour)), "", ""},
		"a third of requests failing is told within minutes":    {failing(90, 300, 0.001, hour), "", "broken shop/deploy/web 30 % of requests fail 6m: usual is 0.1 %"},
		"a tenth failing is not broken yet":                     {failing(60, 600, 0, hour), "", "soon shop/deploy/web 10 % of requests fail 6m: usual is 0 %"},
		"a failure among few requests says nothing":             {failing(20, 60, 0, hour), "", ""},
		"nine failures say nothing":                             {failing(9, 100, 0, hour), "", ""},
		"failures as usual are no news":                         {failing(90, 300, 0.25, hour), "", ""},
		"without history failures may be usual":                 {failing(90, 300, 0, 20*time.Minute), "", ""},
		"latency that doubled will be trouble":                  {slow(5000, 0.9, 0.4, 10*time.Minute), "", "soon shop/deploy/web 99th percentile of latency is 900 ms 10m: usual is up to 400 ms"},
		"latency that is many times as long is":                 {slow(5000, 3, 0.4, 10*time.Minute), "", "broken shop/deploy/web 99th percentile of latency is 3 s 10m: usual is up to 400 ms"},
		"a slow request among few says nothing":                 {slow(150, 3, 0.4, 10*time.Minute), "", ""},
		"latency that nobody counts requests of says nothing":   {slow(-1, 3, 0.4, 10*time.Minute), "", ""},
		"latency that rose a minute ago may fall again":         {slow(5000, 3, 0.4, time.Minute), "", ""},
		"latency that rose by little is no trouble":             {slow(5000, 0.5, 0.4, 10*time.Minute), "", ""},
		"milliseconds are no trouble":                           {slow(5000, 0.012, 0.002, 10*time.Minute), "", ""},
		"pods that came just now warm up":                       {slow(5000, 3, 0.4, 10*time.Minute), "6m", ""},
		"name look-ups that fail are trouble":                   {departure(odd(coreDNS, "spike", "dns_error_ratio", 0.4, 0.01, event.Warning, 5*time.Minute)), "", "broken kube-system/deploy/coredns 40 % of name look-ups fail 5m"},
		"few that fail are none":                                {departure(odd(coreDNS, "spike", "dns_error_ratio", 0.03, 0.001, event.Warning, 5*time.Minute)), "", ""},
		"a volume that fills up is told with the time to full":  {departure(odd(dataClaim, "forecast", "pvc_used_ratio", 0.81, 1, event.Warning, 5*time.Minute)), "", "soon shop/pvc/data volume is 81.0 % full, full in 5 h (4 h - 6 h) 5m"},
		"a volume that is nearly full is told without a trend":  {share(0.97), "", "soon shop/pvc/data volume is 97.0 % full"},
		"a volume that is full is broken":                       {share(0.999), "", "broken shop/pvc/data volume is 99.9 % full"},
		"a volume that is well used is none":                    {share(0.9), "", ""},
		"a statement that was never made is news":               {said(12, habit(0, 20), 4*hour, 0), "", "soon shop/deploy/web new in its logs, 12 lines 8m: dial db: refused"},
		"a statement made far oftener than before is news":      {said(200, habit(4, 20), 4*hour, 0), "", "soon shop/deploy/web 52 times as many in its logs, 200 lines 8m: dial db: refused"},
		"a statement made as often as before is none":           {said(50, habit(45, 20), 4*hour, 0), "", ""},
		"a workload whose logs are young says only new things":  {said(50, habit(0, 3), 40*time.Minute, 0), "", ""},
		"a statement that has ended is none":                    {said(50, habit(0, 20), 4*hour, 7*time.Minute), "", ""},
		"four lines are few":                                    {said(4, habit(0, 20), 4*hour, 0), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			age := c.age
			if age == "" {
				age = "1h"
			}
			cluster := read(t, strings.ReplaceAll(shopWeb, "AGE", age))
			cluster.Signals = &c.of
			x, err := Examine(t.Context(), cluster, Options{Redact: redact.New(redact.Options{})})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range x.Roots {
				if r.Urgency == event.Hygiene {
					continue
				}
				got = append(got, string(r.Urgency)+" "+Name(r.Entity)+" "+r.Line(noon))
				if len(r.Findings[0].Checks) == 0 || len(r.Findings[0].Evidence) == 0 {
					t.Errorf("no evidence, or nothing to check next: %+v", r.Findings[0])
				}
				id := r.Findings[0].Evidence[0]
				i := slices.IndexFunc(x.Evidence, func(e event.Evidence) bool { return e.ID == id })
				if e := x.Evidence[i]; e.Source == "kubernetes" || e.Query == "" {
					t.Errorf("the evidence is of %s %q, not of what was measured", e.Source, e.Query)
				}
			}
			if s := strings.Join(got, "\n"); s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
		})
	}
}

func TestAPodThatIsGoneBelongsToTheWorkloadOfItsName(t *testing.T) {
	c := read(t, strings.ReplaceAll(shopWeb, "AGE", "1h"))
	for pod, want := range map[string]event.Entity{"web-6b8d7c9f4-x2x8q": webDeployment, "web-7c9f4b8d6-b4b5c": webDeployment, "api-7c9f4b8d6-b4b5c": {}} {
		got, ok := c.Owner("shop", pod)
		if got != want || ok != !want.IsZero() {
			t.Errorf("%s: %v %v, want %v", pod, got, ok, want)
		}
	}
}
