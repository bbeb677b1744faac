//go:build e2e

package health

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// zooWithin is what the slowest conditions take: controllers and the
// guards of the checks wait for two minutes before they call a thing stuck.
const zooWithin = 4*time.Minute + 30*time.Second

// exhibit is one file of testdata/broken or testdata/healthy.
type exhibit struct {
	name      string
	manifests string
	wants     []want
}

// want is a line "# find: URGENCY NAME: REGEXP" at the head of a broken exhibit.
// URGENCY and NAME are regular expressions, too.
type want struct {
	text                string
	urgency, name, line *regexp.Regexp
}

func (w want) is(r root) bool {
	return w.urgency.MatchString(r.Urgency) && w.name.MatchString(r.Name()) && w.line.MatchString(r.Line())
}

var (
	findLine = regexp.MustCompile(`(?m)^# find: (\S+) (\S+): (.*)$`)
	agoText  = regexp.MustCompile(`\bago\((-?\w+)\)`)
)

// exhibits reads a folder of manifests. ago(5m) in them is the time five minutes
// before now.
func exhibits(t *testing.T, folder string, now time.Time) []exhibit {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no exhibits in testdata/%s: %v", folder, err)
	}
	var out []exhibit
	for _, f := range files {
		x := exhibit{name: strings.TrimSuffix(filepath.Base(f), ".yaml"), manifests: manifests(t, f, now)}
		for _, m := range findLine.FindAllStringSubmatch(x.manifests, -1) {
			w := want{text: strings.TrimPrefix(m[0], "# find: ")}
			for i, into := range []**regexp.Regexp{&w.urgency, &w.name, &w.line} {
				if *into, err = regexp.Compile("^(" + m[i+1] + ")"); err != nil {
					t.Fatalf("%s: %v", f, err)
				}
			}
			x.wants = append(x.wants, w)
		}
		if broken := folder == "broken"; broken != (len(x.wants) > 0) {
			t.Fatalf("%s: has %d lines # find", f, len(x.wants))
		}
		out = append(out, x)
	}
	return out
}

func manifests(t *testing.T, file string, now time.Time) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return agoText.ReplaceAllStringFunc(string(b), func(s string) string {
		d, err := time.ParseDuration(agoText.FindStringSubmatch(s)[1])
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		return `"` + now.Add(-d).UTC().Format(time.RFC3339) + `"`
	})
}

// root is a thing that health names.
type root struct {
	Urgency string       `json:"urgency"`
	State   string       `json:"state"`
	Why     string       `json:"why"`
	Entity  event.Entity `json:"entity"`
}

// Name is the thing as the command prints it.
func (r root) Name() string { return check.Name(r.Entity) }

// Line is what the command prints behind the name, without how long.
func (r root) Line() string {
	if r.Why == "" {
		return r.State
	}
	return r.State + ": " + r.Why
}

// standing is a cluster with the zoo in it.
type standing struct {
	cluster         *testbed.Cluster
	broken, healthy []exhibit
	began           time.Time // when the last of it was applied
}

// stand starts a cluster and applies the zoo to it.
func stand(ctx context.Context, t *testing.T) *standing {
	t.Helper()
	bed, err := testbed.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bed.Close)
	z := &standing{}
	if z.cluster, err = bed.StartKubernetes(ctx); err != nil {
		t.Fatal(err)
	}
	if err := z.cluster.AddNodes(ctx, 3); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	z.broken, z.healthy = exhibits(t, "broken", now), exhibits(t, "healthy", now)
	all := []string{manifests(t, filepath.Join("testdata", "base.yaml"), now)}
	for _, x := range slices.Concat(z.broken, z.healthy) {
		all = append(all, x.manifests)
	}
	spaces := z.apply(ctx, t, all)
	k := &kubelets{cluster: z.cluster, told: map[string]bool{}}
	done := make(chan error, 1)
	kctx, stop := context.WithCancel(ctx)
	go func() { done <- k.run(kctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("kubelets of the zoo: %v", err)
		}
	})
	for _, m := range all {
		if err := z.cluster.Apply(ctx, without(t, m, "Namespace", "CustomResourceDefinition")); err != nil {
			t.Fatal(err)
		}
		if err := z.cluster.ApplyStatus(ctx, without(t, m, "Namespace", "CustomResourceDefinition")); err != nil {
			t.Fatal(err)
		}
	}
	z.began = time.Now()
	t.Logf("%d broken exhibits and %d healthy ones in %s, applied in %s", len(z.broken), len(z.healthy), strings.Join(spaces, ", "), z.began.Sub(now).Round(time.Second))
	return z
}

// apply applies what must be there before the rest: kinds and namespaces.
func (z *standing) apply(ctx context.Context, t *testing.T, all []string) (namespaces []string) {
	t.Helper()
	for _, m := range all {
		for _, doc := range documents(t, m) {
			kind, meta := doc["kind"], doc["metadata"].(map[string]any)
			if kind != "Namespace" && kind != "CustomResourceDefinition" {
				continue
			}
			if err := z.cluster.Apply(ctx, marshal(t, doc)); err != nil {
				t.Fatal(err)
			}
			path := ""
			if name := meta["name"].(string); kind == "Namespace" {
				namespaces = append(namespaces, name)
				path = "/api/v1/namespaces/" + name + "/serviceaccounts/default"
			} else {
				plural, group, _ := strings.Cut(name, ".")
				version := doc["spec"].(map[string]any)["versions"].([]any)[0].(map[string]any)["name"].(string)
				path = "/apis/" + group + "/" + version + "/" + plural
			}
			if err := z.cluster.Wait(ctx, path, func(ctx context.Context) (bool, error) {
				err := z.cluster.Get(ctx, path, nil)
				return err == nil, err
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return namespaces
}

func documents(t *testing.T, manifests string) []map[string]any {
	t.Helper()
	var out []map[string]any
	dec := yaml.NewDecoder(strings.NewReader(manifests))
	for {
		var doc map[string]any
		if err := dec.Decode(&doc); err != nil {
			if err.Error() == "EOF" {
				return out
			}
			t.Fatal(err)
		}
		if doc != nil {
			out = append(out, doc)
		}
	}
}

func marshal(t *testing.T, doc map[string]any) string {
	t.Helper()
	b, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// without leaves out documents of some kinds.
func without(t *testing.T, manifests string, kinds ...string) string {
	t.Helper()
	var out []string
	for _, doc := range documents(t, manifests) {
		if kind, _ := doc["kind"].(string); !slices.Contains(kinds, kind) {
			out = append(out, marshal(t, doc))
		}
	}
	return strings.Join(out, "---\n")
}

// kubelets do what KWOK does not: they give pods with the label fault=status the
// status in their annotation kubelet, and keep the leases of nodes that are
// alive, by a clock that is fast by their annotation clock.
type kubelets struct {
	cluster *testbed.Cluster
	told    map[string]bool // pods, by UID
}

func (k *kubelets) run(ctx context.Context) error {
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for i := 0; ; i++ {
		if err := k.pods(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		if i%20 == 0 {
			if err := k.nodes(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// object is what kubelets read of pods and nodes.
type object struct {
	Metadata struct {
		Namespace, Name, UID string
		Annotations          map[string]string
	}
	Spec struct{ NodeName string }
}

func (k *kubelets) pods(ctx context.Context) error {
	var list struct{ Items []object }
	if err := k.cluster.Get(ctx, "/api/v1/pods?labelSelector=fault%3Dstatus", &list); err != nil {
		return err
	}
	for _, p := range list.Items {
		if k.told[p.Metadata.UID] || p.Spec.NodeName == "" {
			continue
		}
		status := strings.ReplaceAll("\n"+strings.TrimRight(p.Metadata.Annotations["kubelet"], "\n"), "\n", "\n  ")
		doc := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: %s}\nstatus:%s\n", p.Metadata.Name, p.Metadata.Namespace, status)
		if err := k.cluster.ApplyStatus(ctx, doc); err != nil {
			return err
		}
		k.told[p.Metadata.UID] = true
	}
	return nil
}

func (k *kubelets) nodes(ctx context.Context) error {
	var list struct{ Items []object }
	if err := k.cluster.Get(ctx, "/api/v1/nodes", &list); err != nil {
		return err
	}
	for _, n := range list.Items {
		if n.Metadata.Annotations["zoo"] != "alive" {
			continue
		}
		fast, _ := time.ParseDuration(n.Metadata.Annotations["clock"]) // none: its clock is right
		lease := fmt.Sprintf("apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: %[1]s, namespace: kube-node-lease}\nspec: {holderIdentity: %[1]s, leaseDurationSeconds: 40, renewTime: %[2]q}\n",
			n.Metadata.Name, time.Now().Add(fast).UTC().Format("2006-01-02T15:04:05.000000Z"))
		if err := k.cluster.Apply(ctx, lease); err != nil {
			return err
		}
	}
	return nil
}

// TestZoo looks at everything that is broken, one condition an exhibit, beside
// what only looks so, from the first second on.
func TestZoo(t *testing.T) {
	limit := 15 * time.Minute
	if os.Getenv("ONCALL_E2E_HOLD") != "" {
		limit = 24 * time.Hour // -timeout ends it
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	z := stand(ctx, t)
	bin := build(t)
	policies, err := filepath.Abs("testdata/policies")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "oncall.yaml")
	if err := os.WriteFile(config, []byte("policies: "+policies+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := map[string]string{} // by the line that is wanted, what stands there instead
	var wants []want
	for _, x := range z.broken {
		wants = append(wants, x.wants...)
	}
	flagged := map[string]string{}    // healthy things that were called broken or soon
	unexpected := map[string]string{} // lines that no exhibit wants
	after := map[string]time.Duration{}
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	var r result
	for {
		r, _ = examine(ctx, t, bin, z.cluster.Kubeconfig, "--hygiene", "--config", config)
		clear(missing)
		clear(unexpected)
		for _, w := range wants {
			i := slices.IndexFunc(r.Roots, func(r root) bool { return w.is(r) })
			if i >= 0 && after[w.text] == 0 {
				after[w.text] = time.Since(z.began)
			}
			if i < 0 {
				missing[w.text] = instead(w, r.Roots)
			}
		}
		for _, got := range r.Roots {
			line := got.Urgency + " " + got.Name() + ": " + got.Line()
			switch {
			case got.Urgency == "hygiene":
			case healthy(z, got):
				flagged[line] = time.Since(z.began).Round(time.Second).String()
			case !slices.ContainsFunc(wants, func(w want) bool { return w.name.MatchString(got.Name()) }):
				unexpected[line] = ""
			}
		}
		if len(missing) == 0 || time.Since(z.began) > zooWithin {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		case <-tick.C:
		}
	}
	slowest := slices.SortedFunc(maps.Keys(after), func(a, b string) int { return cmp.Compare(after[b], after[a]) })
	for _, s := range slowest[:min(5, len(slowest))] {
		t.Logf("found after %s: %s", after[s].Round(time.Second), s)
	}
	for _, w := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("not found within %s: %s%s", zooWithin, w, missing[w])
	}
	for _, l := range slices.Sorted(maps.Keys(flagged)) {
		t.Errorf("healthy, and at %s after the start: %s", flagged[l], l)
	}
	for _, l := range slices.Sorted(maps.Keys(unexpected)) {
		t.Errorf("nobody broke that: %s", l)
	}
	if len(r.unread()) > 0 {
		t.Errorf("not checked: %+v", r.unread())
	}
	t.Logf("%d of %d broken found, %d of %d healthy flagged; %d requests, %.2f s", len(wants)-len(missing), len(wants), len(flagged), len(z.healthy), r.Requests, r.Seconds)
	walk(ctx, t, bin, z.cluster.Kubeconfig)
	compare(ctx, t, z, bin, r)
	if os.Getenv("ONCALL_E2E_HOLD") != "" {
		t.Logf("held for whoever wants to look, until interrupted: oncall health --kubeconfig %s", z.cluster.Kubeconfig)
		<-ctx.Done()
	}
}

// instead says what is found where something else is wanted.
func instead(w want, roots []root) string {
	for _, r := range roots {
		if w.name.MatchString(r.Name()) {
			return fmt.Sprintf("\n\thas %s: %s", r.Urgency, r.Line())
		}
	}
	return ""
}
