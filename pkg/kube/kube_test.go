package kube

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestOwnerChains(t *testing.T) {
	yes := true
	above := map[Ref]Ref{
		{"shop", "ReplicaSet", "web-1"}: {"shop", "Deployment", "web"},
		{"shop", "ReplicaSet", "can-1"}: {"shop", "Rollout", "can"},
		{"shop", "Job", "nightly-1"}:    {"shop", "CronJob", "nightly"},
		{"shop", "Loop", "a"}:           {"shop", "Loop", "b"},
		{"shop", "Loop", "b"}:           {"shop", "Loop", "a"},
	}
	for name, c := range map[string]struct {
		kind, owner string
		labels      map[string]string
		want        string
	}{
		"a Deployment's":    {"ReplicaSet", "web-1", nil, "shop/deployment/web"},
		"an Argo Rollout's": {"ReplicaSet", "can-1", nil, "shop/rollout/can"},
		"a CronJob's":       {"Job", "nightly-1", nil, "shop/cronjob/nightly"},
		"a StatefulSet's":   {"StatefulSet", "db", nil, "shop/statefulset/db"},
		"a DaemonSet's":     {"DaemonSet", "agent", nil, "shop/daemonset/agent"},
		"an unreadable ReplicaSet's, by its hash": {"ReplicaSet", "api-abc", map[string]string{"pod-template-hash": "abc"}, "shop/deployment/api"},
		"an unreadable ReplicaSet's of a Rollout": {"ReplicaSet", "api-abc", map[string]string{"rollouts-pod-template-hash": "abc"}, "shop/rollout/api"},
		"a ReplicaSet's that is nobody's":         {"ReplicaSet", "own", nil, "shop/replicaset/own"},
		"a node's own static pod":                 {"Node", "n1", nil, "shop/pod/p"},
		"a custom controller's":                   {"Cluster", "pg", nil, "shop/cluster/pg"},
	} {
		t.Run(name, func(t *testing.T) {
			up, _ := Controller("shop", []metav1.OwnerReference{{Kind: "Other", Name: "x"}, {Kind: c.kind, Name: c.owner, Controller: &yes}})
			got := Root(Ref{"shop", "Pod", "p"}, func(r Ref) (Ref, bool) {
				if r.Kind == "Pod" {
					return up, true
				}
				if u, ok := above[r]; ok {
					return u, true
				}
				if r.Kind == "ReplicaSet" {
					return ReplicaSetOwner(r, c.labels)
				}
				return Ref{}, false
			})
			if got.String() != c.want {
				t.Errorf("root = %s, want %s", got, c.want)
			}
		})
	}
	Root(Ref{"shop", "Loop", "a"}, func(r Ref) (Ref, bool) { u, ok := above[r]; return u, ok }) // a circle ends
}

func template(image, memory, env string) *corev1.PodTemplateSpec {
	t := &corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "app", Image: image,
		Env:     []corev1.EnvVar{{Name: "PASSWORD", Value: env}},
		EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}}}},
	}}}}
	if memory != "" {
		t.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)}
	}
	return t
}

func TestTemplateChangesInOneLine(t *testing.T) {
	base := template("reg:5000/checkout:v411", "512Mi", "a")
	for name, c := range map[string]struct {
		next *corev1.PodTemplateSpec
		want string
	}{
		"nothing":                {template("reg:5000/checkout:v411", "512Mi", "a"), ""},
		"another tag":            {template("reg:5000/checkout:v412", "512Mi", "a"), "image v411 -> v412"},
		"another repository":     {template("mirror/checkout:v411", "512Mi", "a"), "image reg:5000/checkout:v411 -> mirror/checkout:v411"},
		"image and memory":       {template("reg:5000/checkout:v412", "256Mi", "a"), "image v411 -> v412, memory limit 512Mi -> 256Mi"},
		"a limit taken away":     {template("reg:5000/checkout:v411", "", "a"), "memory limit 512Mi removed"},
		"a value not to be told": {template("reg:5000/checkout:v411", "512Mi", "b"), "env PASSWORD changed"},
	} {
		t.Run(name, func(t *testing.T) {
			diff := TemplateOf(base).Diff(TemplateOf(c.next))
			if got := Summary(diff); got != c.want {
				t.Errorf("summary = %q, want %q", got, c.want)
			}
			for _, d := range diff {
				if strings.Contains(d.Path, "env[") && (d.From == "a" || d.To == "b") {
					t.Errorf("the value of a variable is told: %+v", d)
				}
			}
		})
	}
	if got := TemplateOf(base).ConfigMaps; len(got) != 1 || got[0] != "cfg" {
		t.Errorf("config maps = %v", got)
	}
	two := template("a:1", "", "x")
	two.Spec.Containers = append(two.Spec.Containers, corev1.Container{Name: "proxy", Image: "p:1"})
	next := template("a:2", "", "x")
	next.Spec.Containers = append(next.Spec.Containers, corev1.Container{Name: "proxy", Image: "p:2"})
	if got, want := Summary(TemplateOf(two).Diff(TemplateOf(next))), "app image 1 -> 2, proxy image 1 -> 2"; got != want {
		t.Errorf("summary of two containers = %q, want %q", got, want)
	}
}

func TestEventsOfBothShapes(t *testing.T) {
	at := time.Date(2026, 11, 24, 2, 51, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		json  string
		count int
	}{
		"core/v1":                   {`{"metadata":{"uid":"u","namespace":"shop","name":"e"},"involvedObject":{"kind":"Pod","name":"p","namespace":"shop"},"reason":"BackOff","message":"m","type":"Warning","count":5,"lastTimestamp":"2026-11-24T02:51:00Z","source":{"component":"kubelet"}}`, 5},
		"core/v1 of the scheduler":  {`{"metadata":{"uid":"u"},"involvedObject":{"kind":"Pod","name":"p","namespace":"shop"},"reason":"BackOff","message":"m","type":"Warning","count":0,"eventTime":"2026-11-24T02:51:00.000000Z","lastTimestamp":null}`, 1},
		"events.k8s.io":             {`{"apiVersion":"events.k8s.io/v1","metadata":{"uid":"u"},"regarding":{"kind":"Pod","name":"p","namespace":"shop"},"note":"m","reason":"BackOff","type":"Warning","eventTime":"2026-11-24T02:00:00Z","series":{"count":9,"lastObservedTime":"2026-11-24T02:51:00Z"},"reportingController":"c"}`, 9},
		"events.k8s.io, old fields": {`{"metadata":{"uid":"u"},"regarding":{"kind":"Pod","name":"p","namespace":"shop"},"note":"m","reason":"BackOff","type":"Warning","deprecatedCount":3,"deprecatedLastTimestamp":"2026-11-24T02:51:00Z"}`, 3},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := ParseEvent([]byte(c.json))
			if err != nil {
				t.Fatal(err)
			}
			if e.InvolvedObject.Name != "p" || e.Message != "m" || e.Occurrences() != c.count || !e.Time().Equal(at) {
				t.Errorf("event = %+v, %d at %v", e, e.Occurrences(), e.Time())
			}
		})
	}
	for name, bad := range map[string]string{"nothing": `{}`, "no JSON": `{`, "about nothing": `{"metadata":{"uid":"u"},"reason":"x"}`, "no uid": `{"involvedObject":{"kind":"Pod","name":"p"}}`} {
		if _, err := ParseEvent([]byte(bad)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(`{"metadata":{"uid":"u"},"regarding":{"kind":"Pod","name":"p"},"note":"m","series":{"count":9,"lastObservedTime":"2026-11-24T02:51:00Z"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEvent(b)
		if err == nil && (e.InvolvedObject.Name == "" || e.Metadata.UID == "" || !e.Workload.IsZero()) {
			t.Errorf("accepted %+v", e)
		}
	})
}

func TestKindsThatMayBeLookedUp(t *testing.T) {
	k, err := KindOf("deployment")
	if err != nil || k.ObjectPath("shop", "checkout") != "/apis/apps/v1/namespaces/shop/deployments/checkout" {
		t.Errorf("path = %s, %v", k.ObjectPath("shop", "checkout"), err)
	}
	if _, err := KindOf("Secret"); err == nil || !strings.Contains(err.Error(), "never read") {
		t.Errorf("Secret: %v", err)
	}
	if _, err := KindOf("Widget"); err == nil || !strings.Contains(err.Error(), "StatefulSet") {
		t.Errorf("an unknown kind does not list the known ones: %v", err)
	}
}

func TestConfigOfAKubeconfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- name: c\n  cluster: {server: 'http://127.0.0.1:1'}\ncontexts:\n- name: a\n  context: {cluster: c, user: u}\nusers:\n- name: u\n  user: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Kubeconfig: file}, Settings{})
	if err != nil || c.Host() != "http://127.0.0.1:1" {
		t.Errorf("host = %v, %v", c, err)
	}
	if name, err := ContextName(Config{Kubeconfig: file}); err != nil || name != "a" {
		t.Errorf("context = %q, %v", name, err)
	}
	if _, err := New(Config{Kubeconfig: file, Context: "b"}, Settings{}); err == nil {
		t.Error("a context that is not there is accepted")
	}
	bad := Config{Kubeconfig: file + ".none", QPS: -1, Timeout: time.Hour}
	if err := bad.Validate(); err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("Validate = %v, want four errors", err)
	}
}

func TestAKubeletThatCannotBeReachedIsSaidWithoutItsAddress(t *testing.T) {
	err := errors.New(`Get "https://10.0.3.7:10250/containerLogs/shop/checkout-1/app?previous=true": dial tcp 10.0.3.7:10250: connect: connection refused`)
	if got, want := Reason(err), "unreachable: the API server cannot reach the node's kubelet: dial tcp 10.0.3.7:10250: connect: connection refused"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
