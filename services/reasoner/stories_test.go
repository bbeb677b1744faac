package reasoner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/reasoner"
)

var update = flag.Bool("update", false, "write the golden files")

// story is one file of testdata/stories: an incident, and the cluster and logs
// in which it happened.
type story struct {
	Incident event.Incident `json:"incident"`
	// Objects are objects of the Kubernetes API. One with "repeat": n stands for
	// n of them, with {i} replaced by 0 … n-1.
	Objects   []json.RawMessage   `json:"objects"`
	Previous  map[string]string   `json:"previous"`  // namespace/pod/container: log of the run before
	Lines     map[string][]string `json:"lines"`     // namespace/name prefix: lines that Loki has
	Forbidden []string            `json:"forbidden"` // resources that may not be read
	NoLoki    bool                `json:"no_loki"`
}

func stories(t testing.TB) map[string]story {
	t.Helper()
	files, err := filepath.Glob("testdata/stories/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d stories, %v", len(files), err)
	}
	out := map[string]story{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var s story
		if err := yaml.UnmarshalStrict(b, &s); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".yaml")] = s
	}
	return out
}

// cluster serves a story's objects as the API server would, through the
// retriever of pkg/evidence.
func (s story) cluster(t testing.TB) evidence.Retriever {
	t.Helper()
	type object = map[string]any
	var all []object
	for _, raw := range s.Objects {
		var head struct {
			Repeat int `json:"repeat"`
		}
		if err := json.Unmarshal(raw, &head); err != nil {
			t.Fatal(err)
		}
		for i := range max(1, head.Repeat) {
			var o object
			if err := json.Unmarshal(bytes.ReplaceAll(raw, []byte("{i}"), fmt.Append(nil, i)), &o); err != nil {
				t.Fatal(err)
			}
			delete(o, "repeat")
			all = append(all, o)
		}
	}
	path := func(o object) (list, name string) {
		kind, err := kube.KindOf(o["kind"].(string))
		if err != nil {
			t.Fatal(err)
		}
		meta := o["metadata"].(object)
		ns, _ := meta["namespace"].(string)
		return kind.ListPath(ns), meta["name"].(string)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fail := func(code int, reason, message string) {
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
		}
		for _, f := range s.Forbidden {
			if strings.Contains(r.URL.Path+"/", "/"+f+"/") {
				fail(403, "Forbidden", f+" is forbidden: User \"system:serviceaccount:oncall:collector\" cannot list resource \""+f+"\"")
				return
			}
		}
		if p, ok := strings.CutSuffix(r.URL.Path, "/log"); ok {
			parts := strings.Split(p, "/")
			text, ok := s.Previous[parts[len(parts)-3]+"/"+parts[len(parts)-1]+"/"+r.URL.Query().Get("container")]
			if !ok || r.URL.Query().Get("previous") != "true" {
				fail(400, "BadRequest", "previous terminated container not found")
				return
			}
			w.Header().Set("Content-Type", "text/plain")
			_, _ = fmt.Fprint(w, text)
			return
		}
		labels := selectorOf(r.URL.Query().Get("labelSelector"))
		fields := selectorOf(r.URL.Query().Get("fieldSelector"))
		items := []object{}
		listed := false
		for _, o := range all {
			list, name := path(o)
			switch {
			case r.URL.Path == strings.TrimSuffix(list, "/")+"/"+name:
				_ = json.NewEncoder(w).Encode(o)
				return
			case r.URL.Path != list && !(o["kind"] == "Pod" && r.URL.Path == "/api/v1/pods") && !(o["kind"] == "Event" && r.URL.Path == "/api/v1/events"):
				continue
			}
			listed = true
			if has(o, "metadata.labels", labels) && has(o, "", fields) {
				items = append(items, o)
			}
		}
		if !listed && strings.Count(r.URL.Path, "/") > 6 || !listed && len(labels)+len(fields) == 0 && !strings.HasSuffix(r.URL.Path, "s") {
			fail(404, "NotFound", "not found")
			return
		}
		last := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		if !slices.Contains([]string{"pods", "events", "jobs", "replicasets"}, last) {
			fail(404, "NotFound", fmt.Sprintf("%q not found", last))
			return
		}
		_ = json.NewEncoder(w).Encode(object{"kind": "List", "items": items})
	}))
	t.Cleanup(srv.Close)
	c, err := kube.NewForConfig(&rest.Config{Host: srv.URL}, kube.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	return evidence.NewKubernetes(c, redact.New(redact.Options{}))
}

func selectorOf(s string) map[string]string {
	out := map[string]string{}
	for part := range strings.SplitSeq(s, ",") {
		if k, v, ok := strings.Cut(part, "="); ok {
			out[k] = strings.TrimPrefix(v, "=")
		}
	}
	return out
}

func has(o map[string]any, under string, want map[string]string) bool {
	for path, v := range want {
		parts := strings.Split(path, ".")
		if under != "" {
			parts = append(strings.Split(under, "."), path)
		}
		var at any = o
		for _, p := range parts {
			m, _ := at.(map[string]any)
			at = m[p]
		}
		if at != v {
			return false
		}
	}
	return true
}

// lines is a Loki that holds the story's lines.
type lines map[string][]string

func (l lines) Retrieve(_ context.Context, q evidence.Query) (event.Evidence, error) {
	return evidence.New(q, l[q.Entity.Namespace+"/"+q.Entity.Name], nil), nil
}

// sources answers what a story's reasoner may ask.
func (s story) sources(t testing.TB) evidence.Retriever {
	m := evidence.NewMux()
	m.Add(evidence.Kubernetes, "main", s.cluster(t))
	if !s.NoLoki {
		m.Add(evidence.Loki, "main", lines(s.Lines))
	}
	return m
}

func config() reasoner.Config {
	c := reasoner.DefaultConfig()
	c.KubeContext = "prod-eu-1"
	c.Links.Prometheus, c.Links.Grafana, c.Links.Alertmanager = "https://prometheus.example.com", "https://grafana.example.com/", "https://alertmanager.example.com"
	return c
}

// base holds the shipped rules and runbooks, compiled once.
var base = sync.OnceValues(func() (*reasoner.Reasoner, error) {
	s, err := policy.NewStore(policies.FS)
	if err != nil {
		return nil, err
	}
	return reasoner.NewReasoner(reasoner.DefaultConfig(), nil, s)
})

func newReasoner(t testing.TB, c reasoner.Config, ask evidence.Retriever) *reasoner.Reasoner {
	t.Helper()
	r, err := base()
	if err != nil {
		t.Fatal(err)
	}
	return r.With(c, ask)
}

func draft(t testing.TB, s story) event.Report {
	t.Helper()
	r, err := newReasoner(t, config(), s.sources(t)).Draft(t.Context(), s.Incident)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReportsReadAsWritten(t *testing.T) {
	for name, s := range stories(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := draft(t, s)
			for ext, f := range map[string]render.Format{".txt": render.Table, ".md": render.MD, ".json": render.JSON} {
				var b bytes.Buffer
				if err := render.Report(&b, f, r, render.Options{Width: 100}); err != nil {
					t.Fatal(err)
				}
				golden := filepath.Join("testdata", "reports", name+ext)
				if *update {
					if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(b.Bytes(), want) {
					t.Errorf("differs from %s; run with -update and read the difference:\n%s", golden, b.String())
				}
			}
		})
	}
}
