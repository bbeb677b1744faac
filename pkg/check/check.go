package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Info is one check.
type Info struct {
	// Name identifies it in findings and exemptions: service_endpoints.
	Name string
	// Doc says what it recognises and, after "Not: ", what it lets pass on
	// purpose. docs/health-checks.md is made of it.
	Doc string
	// Needs are the resources, by their plurals, without which it can conclude
	// nothing. Where one could not be read, it is not run, and that is said.
	Needs []string
	// Partly are the resources without which it concludes less, since what is in
	// them may excuse what it sees.
	Partly []string
	// Run finds problems. It must not change the cluster.
	Run func(c *Cluster, found func(Problem))
}

// All are the checks, in the order in which they are documented.
var All = slices.Concat(
	nodeChecks, podChecks, workloadChecks, serviceChecks, ingressChecks, gatewayChecks, serverChecks, controllerChecks,
	admissionChecks, certificateChecks, policyChecks, networkHygiene, admissionHygiene, policyHygiene, jobChecks,
	referenceChecks, autoscalingChecks, budgetChecks, storageChecks, quotaChecks, deletionChecks, planChecks,
	foreignChecks, configMapChecks, logChecks, signalChecks, measuredChecks, rbacHygiene, configMapHygiene, reportHygiene,
	declaredHygiene, ciliumHygiene, hygieneChecks,
)

// Problem is what a check finds wrong with one thing.
type Problem struct {
	Entity event.Entity
	// Root is the thing on whose line it stands. Zero: the root of Entity's
	// owners.
	Root event.Entity
	// State says how the thing is (0/6 ready), and not why. The rules are asked
	// why.
	State    bool
	Urgency  event.Urgency
	Severity event.Severity // zero: critical for what is broken, warning for soon, info for hygiene
	// Confidence is high when zero: most conditions are what the API itself says.
	Confidence event.Confidence
	Cause      bool
	// Effect says what its root, which is told already, takes down.
	Effect   bool
	Title    string // one line, without the entity's name
	Detail   string
	Brief    string    // stands behind the title of a state for which no cause is found
	Since    time.Time // zero when nobody knows
	Seen     []string  // the lines of evidence: what was read
	Source   string    // of evidence other than the object itself: prometheus, loki
	Query    string    // what was asked of Source
	Next     []event.Check
	Rollback []event.Check

	check string
}

// Unchecked is something that could not be checked, and why.
type Unchecked struct {
	What string `json:"what"` // checks, or a resource
	Why  string `json:"why"`
}

// NotRead is what could not be checked since an answer failed; of the error the
// first line is told.
func NotRead(what string, err error) Unchecked {
	why, _, _ := strings.Cut(err.Error(), "\n")
	return Unchecked{What: what, Why: why}
}

// run runs the checks whose needs could be read.
func run(c *Cluster, checks []Info) (found []Problem, skipped []Unchecked) {
	without := map[string][]string{} // checks by the resource they lack
	going := map[string]bool{}       // namespaces that are being deleted, with all that is in them
	for _, n := range c.Namespaces {
		going[n.Name] = n.DeletionTimestamp != nil
	}
	for _, i := range checks {
		lack := ""
		for _, n := range i.Needs {
			if !c.Read(n) {
				lack = n
				break
			}
		}
		if lack != "" {
			without[lack] = append(without[lack], i.Name)
			continue
		}
		for _, n := range i.Partly {
			if !c.Read(n) {
				without[n] = append(without[n], "part of "+i.Name)
			}
		}
		i.Run(c, func(p Problem) {
			if p = c.filled(p, i.Name); !going[p.Entity.Namespace] && !going[p.Root.Namespace] {
				found = append(found, p)
			}
		})
	}
	for _, u := range c.Unread {
		what := u.Resource
		if names := without[u.Resource]; len(names) > 0 {
			what += " (" + list(names, 5) + ")"
		}
		skipped = append(skipped, Unchecked{what, u.Why})
	}
	return found, skipped
}

// filled is a problem with what its finder left out.
func (c *Cluster) filled(p Problem, check string) Problem {
	p.check = check
	p.Severity = cmp.Or(p.Severity, map[event.Urgency]event.Severity{event.Broken: event.Critical, event.Soon: event.Warning, event.Hygiene: event.Info}[p.Urgency])
	p.Confidence = cmp.Or(p.Confidence, event.High)
	if p.Root.IsZero() {
		p.Root = c.rootOf(p.Entity)
	}
	return p
}

// shortKinds are the names that kubectl has for kinds, for lines that people
// read.
var shortKinds = map[string]string{
	"Deployment": "deploy", "StatefulSet": "sts", "DaemonSet": "ds", "ReplicaSet": "rs", "PersistentVolumeClaim": "pvc", "PersistentVolume": "pv", "Service": "svc",
	"Ingress": "ing", "NetworkPolicy": "netpol", "HorizontalPodAutoscaler": "hpa", "PodDisruptionBudget": "pdb", "ResourceQuota": "quota", "Namespace": "ns",
	"ValidatingWebhookConfiguration": "validatingwebhook", "MutatingWebhookConfiguration": "mutatingwebhook", "StorageClass": "sc",
}

// Name is an entity as people write it at a terminal: shop/deploy/checkout,
// node/ip-10-0-3-7.
func Name(e event.Entity) string {
	kind := cmp.Or(shortKinds[e.Kind], strings.ToLower(e.Kind))
	if e.Kind == "Cluster" {
		return "cluster"
	}
	if e.Namespace == "" {
		return kind + "/" + e.Name
	}
	return e.Namespace + "/" + kind + "/" + e.Name
}

// kubectl is a command with an entity's namespace in it.
func kubectl(namespace, format string, args ...any) string {
	c := "kubectl "
	if namespace != "" {
		c += "-n " + namespace + " "
	}
	return c + fmt.Sprintf(format, args...)
}

// describe is the next check that fits every object.
func describe(e event.Entity, why string) event.Check {
	return event.Check{Why: why, Command: kubectl(e.Namespace, "describe %s %s", strings.ToLower(e.Kind), e.Name)}
}

// span is a duration in the way that kubectl writes ages: 45s, 12m, 3h10m, 9d.
func span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 3*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		if m := int(d.Minutes()) % 60; m > 0 {
			return fmt.Sprintf("%dh%dm", int(d.Hours()), m)
		}
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// list names the first few of many.
func list(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
}
