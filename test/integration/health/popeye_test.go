//go:build e2e

package health

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/oncall-copilot/oncall/test/testbed"
)

// issue is what Popeye says of one object.
type issue struct {
	Level   int    `json:"level"` // 2 warning, 3 error
	Message string `json:"message"`
}

// popeyeHygiene are Popeye's codes for what is untidy and not broken, which
// `oncall health` calls hygiene and does not show either: probes, requests, images,
// budgets, bare pods (100 to 113, 206, 208), security (300 to 308), unused and old
// (400 to 406 without 407), scaled to zero, taints, cordons and metrics (500, 700,
// 708, 711, 712), unclaimed volumes, single endpoints, policies (1000, 1101 to 1109
// without 1106, 1204, 1205), roles, suspended (1300, 1403, 1500).
var popeyeHygiene = regexp.MustCompile(`^\[POP-(10[0-8]|11[0-3]|206|208|30\d|40[0-6]|500|700|708|711|712|1000|110[134789]|1204|1205|1300|1403|1500)\]`)

// notByK8sgpt are exhibits whose condition is not in the list of what k8sgpt's
// analyzers look for, as read in its source; it does not build here.
var notByK8sgpt = []string{
	"api-service", "argo-sync", "autoscaler-too-large", "bare-pod", "budget-blocks-drain", "budget-unhealthy", "certificate-expired", "cilium-policy-invalid",
	"control-plane-single", "cordoned", "cron-never-ran", "daemon-set-misscheduled", "exposed", "external-secret", "flux-release", "helm-release-failed", "idle",
	"ingress-port", "ingress-port-error", "no-budget", "node-clock", "node-flaps", "node-full", "node-out-of-memory", "node-taint", "oom-once", "pre-stop-hook", "quota-near", "registry",
	"restarting", "role-missing", "service-port", "single-endpoint",
}

// compare prints what Popeye finds of the same zoo. An exhibit counts as found
// when Popeye has a warning or an error that is not hygiene about any object of
// it, or about a pod or ReplicaSet of one, whether or not that says why. Of what is
// merely untidy anything that it says will do, and nothing of that is called false.
func compare(ctx context.Context, t *testing.T, z *standing, bin string, own result) {
	t.Helper()
	popeye, err := testbed.Program(ctx, "popeye", os.Stderr)
	if err != nil {
		t.Logf("no comparison with Popeye: it cannot be built here: %v", err)
		return
	}
	var best result
	memory := int64(0)
	for range 3 {
		r, m := examine(ctx, t, bin, z.cluster.Kubeconfig)
		if best.Seconds == 0 || r.Seconds < best.Seconds {
			best = r
		}
		memory = max(memory, m)
	}
	issues, seconds, popeyeMemory := runPopeye(ctx, t, popeye, z.cluster.Kubeconfig)
	lines := 0
	for _, list := range issues {
		for _, i := range list {
			if i.Level >= 2 {
				lines++
			}
		}
	}
	var found, missed, flagged, exhibited []string
	for _, x := range slices.Concat(z.broken, z.healthy) {
		exhibited = append(exhibited, names(t, x)...)
	}
	for _, x := range z.broken {
		if about(t, x, issues, exhibited, untidy(x)) {
			found = append(found, x.name)
		} else {
			missed = append(missed, x.name)
		}
	}
	for _, x := range z.healthy {
		if about(t, x, issues, exhibited, false) {
			flagged = append(flagged, x.name)
		}
	}
	ownFound := 0
	for _, x := range z.broken {
		if !slices.ContainsFunc(x.wants, func(w want) bool { return !slices.ContainsFunc(own.Roots, w.is) }) {
			ownFound++
		}
	}
	ownLines := 0
	ownFalse := 0
	for _, r := range best.Roots {
		ownLines++
		if healthy(z, r) {
			ownFalse++
		}
	}
	listed := len(z.broken)
	for _, x := range z.broken {
		if slices.Contains(notByK8sgpt, x.name) {
			listed--
		}
	}
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tfound\tmissed\tfalse\tlines\tseconds\tMB")
	fmt.Fprintf(w, "oncall health\t%d\t%d\t%d\t%d\t%.2f\t%d\n", ownFound, len(z.broken)-ownFound, ownFalse, ownLines, best.Seconds, memory>>20)
	fmt.Fprintf(w, "popeye v0.22.1\t%d\t%d\t%d\t%d\t%.2f\t%d\n", len(found), len(missed), len(flagged), lines, seconds, popeyeMemory>>20)
	fmt.Fprintf(w, "k8sgpt, by its list\t%d\t%d\t-\t-\t-\t-\n", listed, len(z.broken)-listed)
	_ = w.Flush()
	t.Logf("%d broken exhibits, %d healthy ones:\n%s", len(z.broken), len(z.healthy), out.String())
	t.Logf("Popeye misses: %s", strings.Join(missed, ", "))
	t.Logf("Popeye flags healthy: %s", strings.Join(flagged, ", "))
}

// healthy says whether a root belongs to what is well.
func healthy(z *standing, r root) bool {
	return strings.HasPrefix(r.Entity.Namespace, "well") || slices.ContainsFunc(z.healthy, func(x exhibit) bool { return x.name == r.Entity.Name })
}

// names are the objects of an exhibit, as Popeye calls them.
func names(t *testing.T, x exhibit) []string {
	t.Helper()
	var out []string
	for _, doc := range documents(t, x.manifests) {
		meta := doc["metadata"].(map[string]any)
		if doc["kind"] == "Event" || doc["kind"] == "Namespace" && !untidy(x) {
			continue
		}
		name, _ := meta["name"].(string)
		if ns, _ := meta["namespace"].(string); ns != "" {
			name = ns + "/" + name
		}
		out = append(out, name)
	}
	return out
}

// untidy says whether all that is wanted of an exhibit is hygiene.
func untidy(x exhibit) bool {
	return !slices.ContainsFunc(x.wants, func(w want) bool { return !w.urgency.MatchString("hygiene") })
}

// about says whether there is an issue, and not of hygiene unless that is asked for,
// about an object of an exhibit or about one that is named after it and is no
// exhibit itself.
func about(t *testing.T, x exhibit, issues map[string][]issue, exhibited []string, hygiene bool) bool {
	t.Helper()
	for _, name := range names(t, x) {
		for of, list := range issues {
			if of != name && (!strings.HasPrefix(of, name+"-") || slices.Contains(exhibited, of)) {
				continue
			}
			if slices.ContainsFunc(list, func(i issue) bool {
				return hygiene || i.Level >= 2 && !popeyeHygiene.MatchString(i.Message)
			}) {
				return true
			}
		}
	}
	return false
}

func runPopeye(ctx context.Context, t *testing.T, popeye, kubeconfig string) (map[string][]issue, float64, int64) {
	t.Helper()
	var best float64
	var memory int64
	issues := map[string][]issue{}
	for range 3 {
		c := exec.CommandContext(ctx, popeye, "--kubeconfig", kubeconfig, "-A", "-o", "json")
		c.Env = append(os.Environ(), "HOME="+t.TempDir()) // its log
		var errs strings.Builder
		c.Stderr = &errs
		began := time.Now()
		out, err := c.Output()
		var report struct {
			Popeye struct {
				Sections []struct{ Issues map[string][]issue }
			}
		}
		if e := json.Unmarshal(out, &report); e != nil {
			t.Fatalf("popeye: %v, %v: %s\n%s", err, e, out[:min(len(out), 1000)], errs.String())
		}
		if s := time.Since(began).Seconds(); best == 0 || s < best {
			best = s
		}
		memory = max(memory, c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10)
		clear(issues)
		for _, s := range report.Popeye.Sections {
			for of, list := range s.Issues {
				issues[of] = append(issues[of], list...)
			}
		}
	}
	return issues, best, memory
}
