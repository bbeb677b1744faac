package check

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/client-go/rest"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/redact"
)

// resources are what is listed, each once, also for hygiene alone.
func resources() (out []string) {
	for _, l := range append(slices.Clone(listings), foreignListings()...) {
		if !slices.Contains(out, l.resource) {
			out = append(out, l.resource)
		}
	}
	return append(out, ForHygiene...)
}

// of says whether a kind is that of a resource.
func of(resource, kind string) bool {
	kind = strings.ToLower(kind)
	resource, _, _ = strings.Cut(resource, ".")
	return slices.Contains([]string{kind + "s", kind + "es", strings.TrimSuffix(kind, "y") + "ies"}, resource)
}

// TestWithoutAnyOneResourceNothingIsConcludedThatWasNotTrue denies each resource
// to each file of the zoo that has objects of it: what is found then was found before, and the output
// says what is missing.
func TestWithoutAnyOneResourceNothingIsConcludedThatWasNotTrue(t *testing.T) {
	files, err := filepath.Glob("testdata/zoo/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no zoo", err)
	}
	mask := redact.New(redact.Options{})
	look := func(c *Cluster) *Result {
		r, err := Examine(context.Background(), c, Options{Redact: mask})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	// What stands on the line of a workload while its ReplicaSets can be read.
	line := func(f event.Finding) string {
		e := f.Entity
		switch e.Kind {
		case "ReplicaSet":
			if i := strings.LastIndexByte(e.Name, '-'); i > 0 {
				e.Kind, e.Name = "Deployment", e.Name[:i]
			}
		}
		return f.Rule + " " + Name(e)
	}
	// What is true all the same, and told of something else while the resource can
	// be read: pods of their node, and those that are gone of their workload, or what is in a
	// namespace that goes of that, or of the workload that another controller made.
	told := map[string]bool{
		"nodes pods": true, "replicasets pod_endings": true, "namespaces deletions": true, "pods custom_resources": true, "statefulsets custom_resources": true,
	}
	// What is true of a thing, whoever says it.
	alike := strings.NewReplacer("secret_references", "references")
	left := map[string]bool{} // resources whose denial left objects out
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		objects := parse(t, string(txtar.Parse(b).Files[0].Data))
		known := map[string]bool{}
		for _, r := range look(cluster(objects)).Roots {
			for _, f := range r.Findings {
				known[alike.Replace(line(f))] = true
			}
		}
		for _, resource := range resources() {
			rest := slices.DeleteFunc(slices.Clone(objects), func(x exhibit) bool { return of(resource, x.kind) })
			if len(rest) == len(objects) {
				continue
			}
			left[resource] = true
			r := look(cluster(rest, resource))
			for _, root := range r.Roots {
				for _, f := range root.Findings {
					if !known[alike.Replace(line(f))] && !told[resource+" "+f.Rule] {
						t.Errorf("%s without %s: %s of %s: %s", filepath.Base(file), resource, f.Rule, Name(f.Entity), f.Title)
					}
				}
			}
			if !slices.ContainsFunc(r.NotChecked, func(u Unchecked) bool {
				return strings.HasPrefix(u.What+" ", resource+" ") && strings.HasPrefix(u.Why, "forbidden")
			}) {
				t.Errorf("%s without %s: the output does not say so: %+v", filepath.Base(file), resource, r.NotChecked)
			}
		}
	}
	for _, resource := range resources() {
		if !left[resource] {
			t.Errorf("no file of the zoo has an object of %s to leave out", resource)
		}
	}
}

// TestAnyOneListThatIsRefusedIsNotedAndTheRestIsRead asks a server that refuses
// one kind after the other.
func TestAnyOneListThatIsRefusedIsNotedAndTheRestIsRead(t *testing.T) {
	groups := []string{`{"name": "gateway.networking.k8s.io"}`, `{"name": "cert-manager.io"}`, `{"name": "keda.sh"}`}
	groups = append(groups, `{"name": "wgpolicyk8s.io", "preferredVersion": {"version": "v1alpha2"}}`)
	for i := range foreigns {
		groups = append(groups, fmt.Sprintf(`{"name": %q, "preferredVersion": {"version": "v1"}}`, foreigns[i].group))
	}
	for _, resource := range resources() {
		t.Run(resource, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if r.URL.Path == "/apis" {
					fmt.Fprintf(w, `{"groups": [%s]}`, strings.Join(groups, ", "))
					return
				}
				if (listing{resource: resource}).path("") == r.URL.Path[strings.LastIndexByte(r.URL.Path, '/'):] {
					w.WriteHeader(http.StatusForbidden)
					fmt.Fprintf(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "%s is forbidden: User \"u\" cannot list resource %q"}`, resource, resource)
					return
				}
				fmt.Fprint(w, `{"metadata": {}, "items": []}`)
			}))
			defer s.Close()
			client, err := kube.NewForConfig(&rest.Config{Host: s.URL, QPS: 1000, Burst: 1000}, kube.Settings{})
			if err != nil {
				t.Fatal(err)
			}
			c, err := Read(t.Context(), client, "", noon, ForHygiene...)
			if err != nil {
				t.Fatalf("without %s: %v", resource, err)
			}
			if len(c.Unread) != 1 || c.Unread[0].Resource != resource || !strings.HasPrefix(c.Unread[0].Why, "forbidden: ") {
				t.Errorf("without %s, not read: %+v", resource, c.Unread)
			}
			for _, other := range resources() {
				if c.Read(other) != (other != resource) {
					t.Errorf("without %s: %s read: %v", resource, other, c.Read(other))
				}
			}
		})
	}
}
