package check

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/rule"
	"github.com/oncall-copilot/oncall/policies"
)

var update = flag.Bool("update", false, "write what is found as what is wanted")

// noon is now in every file of the zoo.
var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// kindsOf makes the objects that the files hold.
var kindsOf = map[string]func() any{
	"Pod": func() any { return new(corev1.Pod) }, "Event": func() any { return new(corev1.Event) }, "Node": func() any { return new(corev1.Node) },
	"Namespace": func() any { return new(corev1.Namespace) }, "Deployment": func() any { return new(appsv1.Deployment) }, "StatefulSet": func() any { return new(appsv1.StatefulSet) },
	"DaemonSet": func() any { return new(appsv1.DaemonSet) }, "Job": func() any { return new(batchv1.Job) }, "CronJob": func() any { return new(batchv1.CronJob) },
	"HorizontalPodAutoscaler": func() any { return new(autoscalingv2.HorizontalPodAutoscaler) }, "PodDisruptionBudget": func() any { return new(policyv1.PodDisruptionBudget) },
	"Service": func() any { return new(corev1.Service) }, "EndpointSlice": func() any { return new(discoveryv1.EndpointSlice) }, "Ingress": func() any { return new(networkingv1.Ingress) },
	"IngressClass": func() any { return new(networkingv1.IngressClass) }, "NetworkPolicy": func() any { return new(networkingv1.NetworkPolicy) },
	"PersistentVolumeClaim": func() any { return new(corev1.PersistentVolumeClaim) }, "PersistentVolume": func() any { return new(corev1.PersistentVolume) },
	"StorageClass": func() any { return new(storagev1.StorageClass) }, "ResourceQuota": func() any { return new(corev1.ResourceQuota) },
	"ValidatingWebhookConfiguration": func() any { return new(admissionv1.ValidatingWebhookConfiguration) }, "MutatingWebhookConfiguration": func() any { return new(admissionv1.MutatingWebhookConfiguration) },
	"Role": func() any { return new(rbacv1.Role) }, "ClusterRole": func() any { return new(rbacv1.ClusterRole) },
	"RoleBinding": func() any { return new(rbacv1.RoleBinding) }, "ClusterRoleBinding": func() any { return new(rbacv1.ClusterRoleBinding) },
	"ReplicaSet": func() any { return new(metav1.PartialObjectMetadata) }, "ConfigMap": func() any { return new(metav1.PartialObjectMetadata) }, "ServiceAccount": func() any { return new(metav1.PartialObjectMetadata) },
	"PriorityClass": func() any { return new(metav1.PartialObjectMetadata) }, "RuntimeClass": func() any { return new(metav1.PartialObjectMetadata) },
}

var ages = regexp.MustCompile(`\bago\((\w+)\)`)

// exhibit is one object of a file.
type exhibit struct {
	kind   string
	object any
}

// read makes a cluster of a file of objects. ago(5m) in it stands for a time.
func read(t *testing.T, objects string, unread ...string) *Cluster {
	t.Helper()
	return cluster(parse(t, objects), unread...)
}

// cluster is one of which some resources could not be read. What is of them is
// for the caller to leave out.
func cluster(objects []exhibit, unread ...string) *Cluster {
	c := &Cluster{Now: noon, Version: "v1.34.0", read: map[string]bool{}}
	for _, r := range resources() {
		c.read[r] = true
	}
	for _, u := range unread {
		c.read[u] = false
		c.Unread = append(c.Unread, Unread{u, "forbidden: cannot list " + u})
	}
	for _, o := range objects {
		c.add(o.object)
	}
	c.prepare()
	return c
}

func parse(t *testing.T, objects string) []exhibit {
	t.Helper()
	objects = ages.ReplaceAllStringFunc(objects, func(s string) string {
		d, err := time.ParseDuration(ages.FindStringSubmatch(s)[1])
		if err != nil {
			t.Fatal(err)
		}
		return `"` + noon.Add(-d).Format(time.RFC3339) + `"`
	})
	var out []exhibit
	for i, doc := range strings.Split(objects, "\n---\n") {
		var head struct {
			Kind string `json:"kind"`
		}
		if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
			t.Fatalf("object %d: %v", i, err)
		}
		if head.Kind == "" {
			continue
		}
		var o any = &Object{}
		if kind := kindsOf[head.Kind]; kind != nil {
			o = kind()
		}
		if err := yaml.UnmarshalStrict([]byte(doc), o); err != nil && !strings.Contains(err.Error(), "unknown field") {
			t.Fatalf("object %d, %s: %v", i, head.Kind, err)
		}
		if custom, ok := o.(*Object); ok {
			o = *custom
		}
		out = append(out, exhibit{head.Kind, o})
	}
	return out
}

func rules(t testing.TB) *rule.Engine {
	t.Helper()
	s, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	e, err := rule.Load(s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestZoo examines each file of testdata/zoo, a cluster each: what is broken in
// it beside what only looks so. Its last part is what is to be found, a line
// each, and what is to be checked next; -update writes it. What pods merely lack
// is told in the files called hygiene alone, since every file would tell it.
func TestZoo(t *testing.T) {
	files, err := filepath.Glob("testdata/zoo/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no zoo", err)
	}
	engine := rules(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			declared := len(a.Files) == 3 && a.Files[0].Name == "policy"
			var agreed Policy
			if declared {
				if err := policy.Decode(file, a.Files[0].Data, &agreed); err != nil {
					t.Fatal(err)
				}
				a.Files = a.Files[1:]
			}
			if len(a.Files) != 2 || a.Files[0].Name != "objects" || a.Files[1].Name != "found" {
				t.Fatal("want the parts objects and found, and perhaps policy before them")
			}
			c := read(t, string(a.Files[0].Data))
			c.Policy = agreed
			checks := All
			if !strings.HasPrefix(filepath.Base(file), "hygiene") {
				checks = slices.DeleteFunc(slices.Clone(All), func(i Info) bool {
					return slices.ContainsFunc(slices.Concat(hygieneChecks, networkHygiene, admissionHygiene, policyHygiene, configMapHygiene, reportHygiene, declaredHygiene, ciliumHygiene), func(h Info) bool { return h.Name == i.Name })
				})
			}
			r, err := examine(context.Background(), c, checks, Options{Rules: engine, Redact: redact.New(redact.Options{})})
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			cited := map[string]bool{}
			for _, e := range r.Evidence {
				cited[e.ID] = true
			}
			for _, root := range r.Roots {
				fmt.Fprintf(&got, "%s %s %s\n", strings.ToUpper(string(root.Urgency)), Name(root.Entity), root.Line(noon))
				if next, ok := root.Next(); ok && root.Urgency != "hygiene" {
					fmt.Fprintf(&got, "  %s\n", next.Command)
				} else if !ok && root.Urgency != "hygiene" {
					t.Errorf("%s: nothing to check next", Name(root.Entity))
				}
				for _, f := range root.Findings {
					if len(f.Evidence) == 0 || !cited[f.Evidence[0]] {
						t.Errorf("%s of %s cites no evidence", f.Rule, Name(root.Entity))
					}
					for _, c := range f.Checks {
						if err := rule.ReadOnly(c.Command); err != nil {
							t.Errorf("next check %q: %v", c.Command, err)
						}
					}
				}
			}
			if *update {
				a.Files[1].Data = []byte(got.String())
				if err := os.WriteFile(file, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(a.Files[1].Data); got.String() != want {
				t.Errorf("found\n%swant\n%s", got.String(), want)
			}
		})
	}
}

func TestWhatCannotBeReadIsSaidAndConcludesNothing(t *testing.T) {
	c := read(t, "kind: Pod\nmetadata: {name: a, namespace: shop, creationTimestamp: ago(1h)}\nstatus: {phase: Unknown}", "pods", "deployments")
	r, err := Examine(context.Background(), c, Options{Redact: redact.New(redact.Options{})})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Roots) != 0 {
		t.Errorf("found %+v in what could not be read", r.Roots)
	}
	want := []string{"deployments (", "pods ("}
	if len(r.NotChecked) != len(want) {
		t.Fatalf("not checked: %+v", r.NotChecked)
	}
	for i, w := range want {
		if !strings.HasPrefix(r.NotChecked[i].What, w) || !strings.HasPrefix(r.NotChecked[i].Why, "forbidden") {
			t.Errorf("not checked %+v, want %s…", r.NotChecked[i], w)
		}
	}
}
