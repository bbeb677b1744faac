//go:build e2e

package rights

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/test/testbed"
)

// readable are all resources that a command may want to list, by their plurals.
var readable = []string{
	"pods", "pods/log", "events", "nodes", "namespaces", "services", "endpoints", "endpointslices", "configmaps", "serviceaccounts", "persistentvolumeclaims", "persistentvolumes",
	"resourcequotas", "limitranges", "deployments", "replicasets", "statefulsets", "daemonsets", "controllerrevisions", "jobs", "cronjobs", "horizontalpodautoscalers",
	"poddisruptionbudgets", "ingresses", "ingressclasses", "networkpolicies", "storageclasses", "volumeattachments", "csidrivers", "csinodes", "leases", "priorityclasses", "runtimeclasses",
	"validatingwebhookconfigurations", "mutatingwebhookconfigurations", "validatingadmissionpolicies", "validatingadmissionpolicybindings", "apiservices", "customresourcedefinitions",
	"flowschemas", "prioritylevelconfigurations", "roles", "clusterroles", "rolebindings", "clusterrolebindings", "certificatesigningrequests", "verticalpodautoscalers", "scaledobjects",
	"certificates", "gateways", "gatewayclasses", "httproutes", "grpcroutes", "applications", "rollouts",
}

// withheld are those that one look after the other goes without.
var withheld = []string{"events", "nodes", "services", "replicasets", "configmaps", "serviceaccounts", "persistentvolumeclaims", "jobs", "horizontalpodautoscalers", "networkpolicies", "storageclasses", "pods/log"}

// role lets the reader read everything but one resource, and that one not at all.
func role(without string) string {
	names := slices.DeleteFunc(slices.Clone(readable), func(r string) bool { return r == without })
	list, _ := json.Marshal(names) // words
	return fmt.Sprintf(`apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules:
- {apiGroups: ["*"], resources: %s, verbs: [get, list, watch]}
- {nonResourceURLs: ["/metrics", "/version", "/readyz", "/livez"], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: %s}]
`, list, testbed.Reader)
}

// bed is a cluster with one workload that is well and one that crashes.
type bed struct {
	*testbed.Cluster
	bin, home string
}

func start(ctx context.Context, t *testing.T) *bed {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := testbed.New(t.TempDir())
	must(err)
	t.Cleanup(b.Close)
	x := &bed{bin: filepath.Join(t.TempDir(), "oncall"), home: t.TempDir()}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", x.bin, "../../../cmd/oncall").CombinedOutput(); err != nil {
		t.Fatalf("build oncall: %v\n%s", err, out)
	}
	x.Cluster, err = b.StartKubernetes(ctx)
	must(err)
	must(x.AddNodes(ctx, 2))
	must(x.Apply(ctx, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"))
	account := "/api/v1/namespaces/shop/serviceaccounts/default"
	must(x.Wait(ctx, account, func(ctx context.Context) (bool, error) {
		err := x.Get(ctx, account, nil)
		return err == nil, err
	}))
	must(x.Deploy(ctx, testbed.Deployment{Namespace: "shop", Name: "web", Replicas: 1}))
	must(x.Deploy(ctx, testbed.Deployment{Namespace: "shop", Name: "cart", Replicas: 1, Fault: "crashloop"}))
	must(x.WaitReady(ctx, "shop", "web"))
	must(x.Wait(ctx, "cart crashes", func(ctx context.Context) (bool, error) {
		var pods struct {
			Items []struct {
				Status struct {
					ContainerStatuses []struct{ RestartCount int }
				}
			}
		}
		err := x.Get(ctx, "/api/v1/namespaces/shop/pods?labelSelector=fault%3Dcrashloop", &pods)
		return err == nil && len(pods.Items) > 0 && len(pods.Items[0].Status.ContainerStatuses) > 0 && pods.Items[0].Status.ContainerStatuses[0].RestartCount > 1, err
	}))
	return x
}

// run runs a command as a user.
func (x *bed) run(ctx context.Context, t *testing.T, kubeconfig string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := exec.CommandContext(ctx, x.bin, append(args, "--kubeconfig", kubeconfig)...)
	c.Env = []string{"HOME=" + x.home, "PATH=/nowhere"}
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return out.String(), errs.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatalf("oncall %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), 0
}

// commands read a cluster and nothing else.
var commands = map[string][]string{
	"health":    {"health", "--prometheus", "none", "--loki", "none", "--find=false"},
	"triage":    {"triage", "--workload", "shop/cart", "--find=false"},
	"cost":      {"cost", "--prometheus", "none"},
	"agent-run": {"agent-run", "--once", "--prometheus", "none", "--loki", "none", "--alertmanager", "none", "--history", "0s"},
}

func TestRights(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	x := start(ctx, t)
	t.Run("one that is missing costs that part and nothing else", func(t *testing.T) { x.withheld(ctx, t) })
	t.Run("without any, commands say so in one line", func(t *testing.T) { x.none(ctx, t) })
}

func (x *bed) withheld(ctx context.Context, t *testing.T) {
	reader, err := x.KubeconfigFor(testbed.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, without := range append([]string{""}, withheld...) {
		if err := x.Apply(ctx, role(without)); err != nil {
			t.Fatal(err)
		}
		x.granted(ctx, t, without)
		for name, args := range commands {
			t.Run(strings.ReplaceAll(name+" without "+without, "/", " of "), func(t *testing.T) {
				out, errs, code := x.run(ctx, t, reader, args...)
				if code != 0 {
					t.Fatalf("exit code %d\n%s%s", code, out, errs)
				}
				if name != "cost" && !strings.Contains(out, "cart") {
					t.Errorf("cart crashes, and nothing is said of it:\n%s", out)
				}
				resource, _, _ := strings.Cut(without, "/")
				noted := strings.Contains(out+errs, "forbidden")
				if without == "" && noted {
					t.Errorf("nothing is withheld, and yet:\n%s%s", out, errs)
				}
				if without != "" && noted && !strings.Contains(out+errs, resource) {
					t.Errorf("what is forbidden is not named:\n%s%s", out, errs)
				}
				if strings.Contains(out+errs, "nothing abnormal") {
					t.Errorf("cart crashes, and nothing is abnormal:\n%s", out)
				}
				if (name == "health" || name == "triage") && without != "" && without != "pods/log" && !noted {
					t.Errorf("%s may not be read, and nobody says so:\n%s", without, out)
				}
			})
		}
	}
}

// granted waits until the API server has learnt the role.
func (x *bed) granted(ctx context.Context, t *testing.T, without string) {
	t.Helper()
	// Everything that was withheld before must be readable, and this not.
	may := func(resource string) bool {
		name, sub, _ := strings.Cut(resource, "/")
		review := map[string]any{
			"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
			"spec": map[string]any{"user": testbed.Reader, "resourceAttributes": map[string]any{"verb": "list", "group": "*", "resource": name, "subresource": sub}},
		}
		var answer struct{ Status struct{ Allowed bool } }
		if err := x.Ask(ctx, "/apis/authorization.k8s.io/v1/subjectaccessreviews", review, &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Status.Allowed
	}
	err := x.Wait(ctx, "the role without "+without, func(context.Context) (bool, error) {
		for _, r := range withheld {
			if may(r) != (r != without) {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (x *bed) none(ctx context.Context, t *testing.T) {
	stranger, err := x.KubeconfigFor(testbed.Stranger)
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range commands {
		t.Run(name, func(t *testing.T) {
			out, errs, code := x.run(ctx, t, stranger, args...)
			if code != 3 || !strings.Contains(errs, "forbidden") {
				t.Errorf("exit code %d, want 3\n%s%s", code, out, errs)
			}
			lines := 0
			for l := range strings.Lines(errs) {
				if strings.HasPrefix(l, "oncall: ") && strings.Contains(l, "forbidden") {
					lines++
				} else if !strings.HasPrefix(l, "hint: ") && !strings.HasPrefix(l, "oncall: ") {
					t.Errorf("a line of another kind: %q", l)
				}
			}
			if lines != 1 || out != "" {
				t.Errorf("%d lines say that it is forbidden, want 1, and %q is printed", lines, out)
			}
		})
	}
}
