package evidence

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

type mask struct{}

func (mask) Line(s string) string { return strings.ReplaceAll(s, "hunter2", "***") }
func (mask) Labels(l event.Labels) event.Labels {
	for i := range l {
		l[i].Value = mask{}.Line(l[i].Value)
	}
	return l
}

var at = time.Date(2026, 11, 24, 2, 51, 0, 0, time.UTC)

// cluster answers fixed paths.
func cluster(t *testing.T, answers map[string]string) Retriever {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.URL.Path]
		w.Header().Set("Content-Type", "application/json")
		switch {
		case !ok:
			w.WriteHeader(404)
			_, _ = fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":404,"reason":"NotFound","message":"not found"}`)
		case body == "forbidden":
			w.WriteHeader(403)
			_, _ = fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":403,"reason":"Forbidden","message":"pods is forbidden: hunter2"}`)
		default:
			_, _ = fmt.Fprint(w, body)
		}
	}))
	t.Cleanup(srv.Close)
	c, err := kube.NewForConfig(&rest.Config{Host: srv.URL}, kube.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	return NewKubernetes(c, mask{})
}

const (
	podJSON = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1","namespace":"shop","labels":{"app":"web"},"ownerReferences":[{"kind":"ReplicaSet","name":"web-abc"}]},
"spec":{"nodeName":"n1","containers":[{"name":"app","env":[{"name":"P","value":"hunter2"}]}]},
"status":{"phase":"Running","containerStatuses":[{"name":"app","ready":false,"restartCount":6,"lastState":{"terminated":{"reason":"OOMKilled","exitCode":137}}}]}}`
	deployJSON = `{"kind":"Deployment","metadata":{"name":"web","namespace":"shop"},"spec":{"selector":{"matchLabels":{"app":"web"}}},"status":{"readyReplicas":0}}`
)

func eventJSON(uid, kind, name, message string, minute int) string {
	return fmt.Sprintf(`{"metadata":{"uid":%q,"namespace":"shop"},"involvedObject":{"kind":%q,"name":%q,"namespace":"shop"},"reason":"R","message":%q,"type":"Warning","lastTimestamp":%q}`,
		uid, kind, name, message, at.Add(time.Duration(minute)*time.Minute).Format(time.RFC3339))
}

func TestLookUpsInKubernetes(t *testing.T) {
	k := cluster(t, map[string]string{
		"/api/v1/namespaces/shop/pods/web-1":            podJSON,
		"/api/v1/namespaces/shop/pods":                  `{"items":[` + podJSON + `]}`,
		"/apis/apps/v1/namespaces/shop/deployments/web": deployJSON,
		"/api/v1/namespaces/shop/events": `{"items":[` + strings.Join([]string{
			eventJSON("3", "Pod", "web-1", "third hunter2", 3), eventJSON("1", "Deployment", "web", "first", 1), eventJSON("2", "ReplicaSet", "web-abc", "second", 2),
			eventJSON("4", "Pod", "web-7d4b9c6f5-x2x8q", "of a pod that is gone", 4), eventJSON("5", "Pod", "other-1", "other", 5), eventJSON("6", "Pod", "web-1", "late", 99),
		}, ",") + `]}`,
		"/api/v1/namespaces/shop/pods/web-1/log":   at.Format(time.RFC3339Nano) + " token hunter2\n" + at.Format(time.RFC3339Nano) + " second\n",
		"/api/v1/namespaces/shop/configmaps/cfg":   `{"kind":"ConfigMap","metadata":{"name":"cfg"},"data":{"a":"hunter2"}}`,
		"/api/v1/namespaces/shop/configmaps/stays": "forbidden",
	})
	for name, c := range map[string]struct {
		expr    string
		want    []string // in the excerpt, in order
		not     string
		count   float64
		failed  string
		wrong   string
		nothing bool
	}{
		"an object":                 {expr: "object Pod shop/web-1", want: []string{"restarts=6 lastState=terminated reason=OOMKilled exitCode=137"}},
		"the pods of a workload":    {expr: "pods shop Deployment/web", want: []string{"web-1 Running node=n1", "OOMKilled"}, count: 1},
		"events of what is owned":   {expr: "events shop Deployment/web", want: []string{"first", "second", "third ***", "of a pod that is gone"}, not: "other", count: 4},
		"the end of a log":          {expr: "logs shop/web-1 app previous", want: []string{"token ***", "second"}, count: 2},
		"the hash of a ConfigMap":   {expr: "object ConfigMap shop/cfg", want: []string{"ConfigMap"}},
		"what may not be read":      {expr: "object ConfigMap shop/stays", failed: "forbidden: pods is forbidden: ***"},
		"what is not there":         {expr: "object Pod shop/none", failed: "not found"},
		"a Secret":                  {expr: "object Secret shop/db", wrong: "never read"},
		"an unknown kind":           {expr: "object Widget shop/a", wrong: "is not one of"},
		"a path in a name":          {expr: "object Pod shop/../../secrets/x", wrong: "not a name"},
		"a namespace with a slash":  {expr: "pods shop%2F Deployment/web", wrong: "not a name"},
		"a question it has not":     {expr: "delete shop Pod/a", wrong: "not a question"},
		"a pod without a namespace": {expr: "object Pod web-1", wrong: "has a namespace"},
		"several containers":        {expr: "logs shop/web-1 a b", wrong: "one container"},
	} {
		t.Run(name, func(t *testing.T) {
			q := Query{Source: Kubernetes, Expr: c.expr, End: at.Add(time.Hour), Incident: "i1"}
			e, err := k.Retrieve(t.Context(), q)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Fatalf("err = %v, want %q", err, c.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.failed != "" {
				if e.Failed != c.failed {
					t.Errorf("failed = %q, want %q", e.Failed, c.failed)
				}
				return
			}
			text := strings.Join(e.Excerpt, "\n")
			from := 0
			for _, w := range c.want {
				i := strings.Index(text[from:], w)
				if i < 0 {
					t.Fatalf("excerpt:\n%s\nlacks %q in its place", text, w)
				}
				from += i
			}
			if c.not != "" && strings.Contains(text, c.not) {
				t.Errorf("excerpt holds %q:\n%s", c.not, text)
			}
			if c.count != 0 && e.Values["count"] != c.count {
				t.Errorf("count = %v, want %v", e.Values["count"], c.count)
			}
			body, _ := json.Marshal(e)
			if strings.Contains(string(body), "hunter2") {
				t.Errorf("a secret in the answer: %s", body)
			}
			if e.QueryHash != q.Hash() || e.Digest == "" || e.Incident != "i1" {
				t.Errorf("frame = %+v", e)
			}
			again, _ := k.Retrieve(t.Context(), q)
			if again.Digest != e.Digest {
				t.Error("the same answer has another digest")
			}
		})
	}
}

func source(t *testing.T, h http.HandlerFunc) *upstream.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	cfg := upstream.DefaultConfig("main")
	cfg.URL = srv.URL
	up, err := upstream.New(cfg, upstream.Settings{Source: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return up
}

func TestALogThatIsLongerThanAnAnswerKeepsItsEnd(t *testing.T) {
	var log strings.Builder
	for i := range 300 {
		fmt.Fprintf(&log, "2026-11-24T02:50:00.%03dZ line %d %s\n", i, i, strings.Repeat("x", 400))
	}
	log.WriteString("2026-11-24T02:50:01Z panic: the last words\n")
	ask := cluster(t, map[string]string{"/api/v1/namespaces/shop/pods/web-1/log": log.String()})
	e, err := ask.Retrieve(t.Context(), Query{Source: Kubernetes, Expr: "logs shop/web-1 app", End: at, Limit: 400})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(e.Excerpt); !e.Truncated || n == 0 || !strings.HasSuffix(e.Excerpt[n-1], "the last words") {
		t.Errorf("truncated %v, %d lines, the last is %q; want it cut at its beginning", e.Truncated, n, e.Excerpt[max(n-1, 0):])
	}
}

func TestLookUpsInPrometheus(t *testing.T) {
	answer := `{"status":"success","data":{"resultType":"vector","result":[
{"metric":{"pod":"a","user":"hunter2"},"value":[1,"1"]},{"metric":{"pod":"b"},"value":[1,"3"]},{"metric":{"pod":"c"},"value":[1,"NaN"]}]}}`
	code := 200
	p := NewPrometheus(promql.New(source(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); _, _ = fmt.Fprint(w, answer) })), mask{})
	e, err := p.Retrieve(t.Context(), Query{Source: Prometheus, Expr: "up", End: at, Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if e.Values["value"] != 3.0 || e.Values["count"] != 2.0 || !e.Truncated || len(e.Excerpt) != 1 || e.Excerpt[0] != `{pod="b"} 3` {
		t.Errorf("answer = %+v", e)
	}
	for name, c := range map[string]struct {
		code         int
		body, failed string
	}{
		"forbidden":   {403, "no", "forbidden: answered 403: no"},
		"too busy":    {429, "later", "busy: answered 429: later"},
		"broken":      {200, "{", "unreachable: "},
		"unreachable": {503, "down", "unreachable: answered 503: down"},
	} {
		code, answer = c.code, c.body
		e, err := p.Retrieve(t.Context(), Query{Source: Prometheus, Expr: "up", End: at})
		if err != nil || !strings.HasPrefix(e.Failed, c.failed) {
			t.Errorf("%s: failed = %q, %v; want %q", name, e.Failed, err, c.failed)
		}
	}
	code, answer = 400, `{"status":"error","errorType":"bad_data","error":"parse error"}`
	if _, err := p.Retrieve(t.Context(), Query{Source: Prometheus, Expr: "up{", End: at}); err == nil {
		t.Error("a wrong query is no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Retrieve(ctx, Query{Source: Prometheus, Expr: "up", End: at}); err == nil {
		t.Error("a done context is no error")
	}
}

func TestLookUpsInLoki(t *testing.T) {
	var asked string
	answer := `{"status":"success","data":{"resultType":"streams","result":[
{"stream":{"pod":"b"},"values":[["2000000000","second"],["1000000000","first hunter2"]]},{"stream":{"pod":"a"},"values":[["3000000000","third",{"trace":"x"}]]}]}}`
	l := NewLoki(source(t, func(w http.ResponseWriter, r *http.Request) { asked = r.URL.String(); _, _ = fmt.Fprint(w, answer) }), mask{})
	e, err := l.Retrieve(t.Context(), Query{Source: Loki, Expr: `{app="x"}`, Start: at.Add(-time.Hour), End: at, Limit: 2})
	if err != nil || !e.Truncated || len(e.Excerpt) != 2 || !strings.HasSuffix(e.Excerpt[1], "a third") || !strings.HasSuffix(e.Excerpt[0], "b second") {
		t.Errorf("answer = %+v, %v; want the newest two, newest last", e, err)
	}
	if !strings.Contains(asked, "direction=backward") || !strings.Contains(asked, "limit=3") {
		t.Errorf("asked %s", asked)
	}
	answer = `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"app":"x"},"values":[[1,"2"],[2,"5"],[3,"4"]]}]}}`
	e, err = l.Retrieve(t.Context(), Query{Source: Loki, Expr: `sum(rate({app="x"}[1m]))`, Start: at.Add(-time.Hour), End: at, Step: time.Minute})
	if err != nil || e.Values["value"] != 4.0 || e.Excerpt[0] != `{app="x"} last 4, first 2, min 2, max 5` {
		t.Errorf("answer = %+v, %v", e, err)
	}
	answer = `{"status":"success","data":{"resultType":"streams","result":[{"stream":{},"values":[["x"]]}]}}`
	if e, err := l.Retrieve(t.Context(), Query{Source: Loki, Expr: `{app="x"}`, End: at}); err != nil || e.Failed == "" {
		t.Errorf("garbage = %+v, %v; want a failed answer", e, err)
	}
}

func TestQueriesAreCheckedBeforeAnybodyIsAsked(t *testing.T) {
	good := Query{Source: Prometheus, Expr: "up", Start: at.Add(-time.Hour), End: at, Step: time.Minute}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Query){
		"an unknown source":   func(q *Query) { q.Source = "shell" },
		"no expression":       func(q *Query) { q.Expr = " " },
		"a huge expression":   func(q *Query) { q.Expr = strings.Repeat("a", maxExpr+1) },
		"control characters":  func(q *Query) { q.Expr = "up\x1b[2J" },
		"a huge limit":        func(q *Query) { q.Limit = MaxLimit + 1 },
		"a negative limit":    func(q *Query) { q.Limit = -1 },
		"an end before start": func(q *Query) { q.End = at.Add(-2 * time.Hour) },
		"a year":              func(q *Query) { q.Start = at.AddDate(-1, 0, 0) },
		"a tiny step":         func(q *Query) { q.Step = time.Millisecond },
	} {
		q := good
		change(&q)
		if q.Check() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

type fixed struct{ line string }

func (f fixed) Retrieve(_ context.Context, q Query) (event.Evidence, error) {
	return New(q, []string{f.line}, nil), nil
}

func TestMuxRoutesBySourceAndInstance(t *testing.T) {
	m := NewMux()
	m.Add(Prometheus, "eu", fixed{"eu"})
	m.Add(Prometheus, "us", fixed{"us"})
	for name, c := range map[string]struct{ source, instance, want, failed string }{
		"the first of a kind": {Prometheus, "", "eu", ""},
		"one by name":         {Prometheus, "us", "us", ""},
		"one that is not":     {Prometheus, "ap", "", "no prometheus is called ap; there is eu, us"},
		"a kind that is not":  {Loki, "", "", "no loki is configured"},
	} {
		q := Query{Source: c.source, Instance: c.instance, Expr: "up", End: at}
		e, err := m.Retrieve(t.Context(), q)
		if err != nil || e.Failed != c.failed || c.want != "" && e.Excerpt[0] != c.want {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
		if e.QueryHash != q.Hash() {
			t.Errorf("%s: the answer does not name the question as it was asked", name)
		}
	}
}

func TestARecordAnswersWhatItHolds(t *testing.T) {
	q := Query{Source: Prometheus, Expr: "up", End: at, Incident: "i1"}
	other := q
	other.Incident = "i2"
	r := NewRecorded([]event.Evidence{New(q, []string{"one"}, nil), New(other, []string{"two"}, nil)})
	for incident, want := range map[string]string{"i1": "one", "i2": "two", "i3": "two"} {
		q.Incident = incident
		if e, err := r.Retrieve(t.Context(), q); err != nil || e.Excerpt[0] != want || e.Incident != incident {
			t.Errorf("%s: %+v, %v", incident, e, err)
		}
	}
	q.Expr = "down"
	if e, err := r.Retrieve(t.Context(), q); err != nil || e.Failed != "not recorded" {
		t.Errorf("unknown: %+v, %v", e, err)
	}
}

func TestRemoteAsksTheCollector(t *testing.T) {
	b := bustest.Start(t)
	r := NewRemote(b, 5*time.Second)
	q := Query{Source: Prometheus, Expr: "up", End: at}
	if e, err := r.Retrieve(t.Context(), q); err != nil || !strings.Contains(e.Failed, "no collector") {
		t.Fatalf("nobody there: %+v, %v", e, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_ = b.Serve(ctx, event.QuerySubject, "q", func(_ context.Context, body []byte) (any, error) {
			var q Query
			if err := json.Unmarshal(body, &q); err != nil {
				return nil, err
			}
			if q.Expr == "bad" {
				return nil, fmt.Errorf("it is wrong")
			}
			return New(q, []string{"yes"}, nil), nil
		})
	}()
	for {
		e, err := r.Retrieve(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if e.Failed == "" {
			if e.Excerpt[0] != "yes" || e.QueryHash != q.Hash() {
				t.Errorf("answer = %+v", e)
			}
			break
		}
	}
	q.Expr = "bad"
	if _, err := r.Retrieve(t.Context(), q); err == nil {
		t.Error("a query that the collector calls wrong is no error")
	}
}

func FuzzParseKube(f *testing.F) {
	for _, s := range []string{"object Pod a/b", "pods a Deployment/b", "events - Node/n", "logs a/b c previous", "object Pod a/../b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := parseKube(s)
		if err == nil && (strings.ContainsAny(q.kind+q.namespace+q.name+q.container, "/%?# ") || q.name == ".." || q.kind == "Secret") {
			t.Errorf("accepted %q as %+v", s, q)
		}
	})
}

func FuzzReadLoki(f *testing.F) {
	f.Add([]byte(`{"data":{"resultType":"streams","result":[{"stream":{},"values":[["1","a"]]}]}}`))
	f.Add([]byte(`{"data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"NaN"]]}]}}`))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = readLoki(Query{Source: Loki, Expr: "{}"}, b, mask{}) })
}
