package check

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// foreign is a kind of objects that another controller than Kubernetes' own keeps,
// and how such an object says that something is wrong with it.
type foreign struct {
	group, plural, kind string
	whole               bool   // of the cluster, not of a namespace
	selector            string // of labels, for what the server can leave out
	idle                string // path of what is true when nobody wants it worked on
	source              string // path of the reference to what it is made of
	says                []saying
}

// saying is a condition, or a word in the status, by which an object says that
// something is wrong. The first that holds is told.
type saying struct {
	condition, is string // a condition's type and status

	path   string // or a word at a path
	values []string
	reason string // path
	why    string // path of the message
	since  string // path

	only, not []string // the condition's reasons that count, or do not
	title     string
	urgency   event.Urgency
	after     time.Duration // how long it must be so; zero: as long as what was just made may take
	pods      bool          // it speaks of pods: those of its workload that are in trouble have a line
}

// resource is the kind as kubectl takes it without doubt.
func (f *foreign) resource() string { return f.plural + "." + f.group }

// unfinished is how long something may go on that has not failed.
const unfinished = 30 * time.Minute

// fluxSays are what the toolkit of Flux has in common.
func fluxSays(title string) []saying {
	return []saying{
		{condition: "Stalled", is: "True", title: title + ", and is not tried again", urgency: event.Soon, after: starting},
		{condition: "Ready", is: "False", not: []string{"Progressing", "DependencyNotReady"}, title: title, urgency: event.Soon},
		{condition: "Ready", is: "Unknown", title: "does not come to an end", urgency: event.Soon, after: unfinished},
	}
}

var (
	secretStoreSays = []saying{{condition: "Ready", is: "False", title: "its provider does not answer", urgency: event.Soon}}
	operatorSays    = []saying{
		{condition: "Available", is: "False", title: "not available", urgency: event.Broken, pods: true},
		{condition: "Reconciled", is: "False", title: "its configuration is not taken over", urgency: event.Soon},
		{condition: "Available", is: "Degraded", title: "degraded", urgency: event.Soon, pods: true},
	}
	notInForce = event.Broken
)

// foreigns are the kinds that are asked, each only where the cluster serves its
// group.
var foreigns = []foreign{
	{group: "helm.toolkit.fluxcd.io", plural: "helmreleases", kind: "HelmRelease", idle: "spec.suspend", source: "spec.chart.spec.sourceRef", says: fluxSays("Helm release failed")},
	{group: "kustomize.toolkit.fluxcd.io", plural: "kustomizations", kind: "Kustomization", idle: "spec.suspend", source: "spec.sourceRef", says: fluxSays("not applied")},
	{group: "source.toolkit.fluxcd.io", plural: "gitrepositories", kind: "GitRepository", idle: "spec.suspend", says: fluxSays("cannot be fetched")},
	{group: "source.toolkit.fluxcd.io", plural: "ocirepositories", kind: "OCIRepository", idle: "spec.suspend", says: fluxSays("cannot be fetched")},
	{group: "source.toolkit.fluxcd.io", plural: "helmrepositories", kind: "HelmRepository", idle: "spec.suspend", says: fluxSays("cannot be fetched")},

	{group: "argoproj.io", plural: "applications", kind: "Application", says: []saying{
		{path: "status.operationState.phase", values: []string{"Failed", "Error"}, why: "status.operationState.message", since: "status.operationState.finishedAt", title: "sync failed", urgency: event.Soon},
	}},
	{group: "argoproj.io", plural: "rollouts", kind: "Rollout", says: []saying{
		{path: "status.phase", values: []string{"Degraded"}, why: "status.message", since: "status.abortedAt", title: "rollout is degraded", urgency: event.Soon, pods: true},
	}},

	{group: "operators.coreos.com", plural: "clusterserviceversions", kind: "ClusterServiceVersion", selector: "!olm.copiedFrom", says: []saying{
		{path: "status.phase", values: []string{"Failed"}, reason: "status.reason", why: "status.message", since: "status.lastTransitionTime", title: "operator failed", urgency: event.Broken},
		{path: "status.phase", values: []string{"Pending", "Installing", "Replacing"}, reason: "status.reason", why: "status.message", since: "status.lastTransitionTime", title: "operator is not installed", urgency: event.Soon, after: unfinished},
	}},
	{group: "operators.coreos.com", plural: "subscriptions", kind: "Subscription", says: []saying{
		{condition: "ResolutionFailed", is: "True", title: "no version can be chosen", urgency: event.Soon},
		{condition: "BundleUnpackFailed", is: "True", title: "its bundle cannot be unpacked", urgency: event.Soon},
		{condition: "InstallPlanFailed", is: "True", title: "its install plan failed", urgency: event.Soon},
		{condition: "CatalogSourcesUnhealthy", is: "True", title: "its catalogs are unhealthy", urgency: event.Soon, after: unfinished},
	}},
	{group: "operators.coreos.com", plural: "installplans", kind: "InstallPlan", says: []saying{
		{path: "status.phase", values: []string{"Failed"}, why: "status.message", title: "install plan failed", urgency: event.Soon},
	}},
	{group: "operators.coreos.com", plural: "catalogsources", kind: "CatalogSource", says: []saying{
		{path: "status.connectionState.lastObservedState", values: []string{"TRANSIENT_FAILURE", "SHUTDOWN"}, why: "status.message", since: "status.connectionState.lastConnect", title: "catalog does not answer", urgency: event.Soon},
		{path: "status.connectionState.lastObservedState", values: []string{"CONNECTING"}, why: "status.message", since: "status.connectionState.lastConnect", title: "catalog does not answer", urgency: event.Soon, after: unfinished},
	}},
	{group: "operators.coreos.com", plural: "operatorgroups", kind: "OperatorGroup", says: []saying{
		{condition: "MultipleOperatorGroups", is: "True", title: "one of several OperatorGroups of its namespace, so that no operator is installed", urgency: event.Soon},
		{condition: "OperatorGroupServiceAccount", is: "True", only: []string{"ServiceAccountNotFound"}, title: "its ServiceAccount does not exist", urgency: event.Soon},
	}},
	{group: "olm.operatorframework.io", plural: "clusterextensions", kind: "ClusterExtension", whole: true, says: []saying{
		{condition: "Installed", is: "False", title: "not installed", urgency: event.Broken},
		{condition: "Progressing", is: "False", only: []string{"Blocked"}, title: "its update is blocked", urgency: event.Soon},
		{condition: "Progressing", is: "True", only: []string{"Retrying"}, title: "its update fails", urgency: event.Soon, after: unfinished},
	}},
	{group: "olm.operatorframework.io", plural: "clustercatalogs", kind: "ClusterCatalog", whole: true, says: []saying{
		{condition: "Serving", is: "False", not: []string{"UserSpecifiedUnavailable"}, title: "not served", urgency: event.Soon},
		{condition: "Progressing", is: "True", only: []string{"Retrying"}, title: "its update fails", urgency: event.Soon, after: unfinished},
	}},

	{group: "monitoring.coreos.com", plural: "prometheuses", kind: "Prometheus", idle: "spec.paused", says: operatorSays},
	{group: "monitoring.coreos.com", plural: "alertmanagers", kind: "Alertmanager", idle: "spec.paused", says: operatorSays},

	{group: "cilium.io", plural: "ciliumnetworkpolicies", kind: "CiliumNetworkPolicy", says: []saying{
		{condition: "Valid", is: "False", title: "not in force", urgency: notInForce, after: starting},
	}},
	{group: "cilium.io", plural: "ciliumclusterwidenetworkpolicies", kind: "CiliumClusterwideNetworkPolicy", whole: true, says: []saying{
		{condition: "Valid", is: "False", title: "not in force", urgency: notInForce, after: starting},
	}},
	{group: "kyverno.io", plural: "clusterpolicies", kind: "ClusterPolicy", whole: true, says: []saying{
		{condition: "Ready", is: "False", title: "not in force", urgency: notInForce},
	}},
	{group: "kyverno.io", plural: "policies", kind: "Policy", says: []saying{
		{condition: "Ready", is: "False", title: "not in force", urgency: notInForce},
	}},

	{group: "external-secrets.io", plural: "externalsecrets", kind: "ExternalSecret", source: "spec.secretStoreRef", says: []saying{
		{condition: "Ready", is: "False", not: []string{"SecretDeleted"}, title: "its Secret is not kept up to date", urgency: event.Soon},
	}},
	{group: "external-secrets.io", plural: "secretstores", kind: "SecretStore", says: secretStoreSays},
	{group: "external-secrets.io", plural: "clustersecretstores", kind: "ClusterSecretStore", whole: true, says: secretStoreSays},
}

// foreignOf finds a kind by its name.
var foreignOf = func() map[string]*foreign {
	out := map[string]*foreign{}
	for i := range foreigns {
		out[foreigns[i].kind] = &foreigns[i]
	}
	return out
}()

// foreignListings are how they are read.
func foreignListings() []listing {
	var out []listing
	for i := range foreigns {
		f := &foreigns[i]
		params := url.Values{"limit": {"250"}} // an Application may have a thousand lines of status
		if f.selector != "" {
			params.Set("labelSelector", f.selector)
		}
		out = append(out, listing{"/apis/" + f.group, f.resource(), !f.whole, f.whole, params, custom(f.kind)})
	}
	return out
}

// pruned is an object of another controller with what is looked at: in a cluster
// of many the rest would be most of the memory.
func pruned(o Object) Object {
	pick := func(from Object, keys ...string) Object {
		out := Object{}
		for _, k := range keys {
			if v, ok := from[k]; ok {
				out[k] = v
			}
		}
		return out
	}
	part := func(key string) Object { m, _ := o[key].(Object); return m }
	status := pick(part("status"), "conditions", "phase", "reason", "message", "observedGeneration", "lastTransitionTime", "connectionState", "abortedAt")
	for key, keys := range map[string][]string{"operationState": {"phase", "message", "finishedAt"}, "sync": {"status"}, "health": {"status", "message"}} {
		if m, ok := part("status")[key].(Object); ok {
			status[key] = pick(m, keys...)
		}
	}
	return Object{
		"kind": o["kind"], "metadata": pick(part("metadata"), "namespace", "name", "generation", "creationTimestamp", "deletionTimestamp", "finalizers"),
		"spec": pick(part("spec"), "suspend", "paused", "sourceRef", "chart", "chartRef", "secretStoreRef", "destination", "endpointSelector", "nodeSelector"), "status": status,
	}
}

var foreignChecks = []Info{{
	Name: "custom_resources", Partly: []string{"apis"},
	Doc: "Objects of other controllers that say of themselves that they failed: of Flux (HelmRelease, Kustomization, sources), Argo CD (Application), Argo Rollouts, OLM (ClusterServiceVersion, Subscription, InstallPlan, CatalogSource, OperatorGroup, ClusterExtension, ClusterCatalog), the Prometheus Operator (Prometheus, Alertmanager), Cilium and Kyverno (policies that are not in force) and External Secrets. " +
		"Each kind is listed only where the cluster serves its group. What fails because its source does stands on the line of the source. " +
		"Not: what is suspended, paused or being deleted; conditions of an older generation; what failed less than five minutes ago, or goes on for less than half an hour; what waits for another, or for an approval; a failed sync of an Application that is in sync by now; an install plan that a newer one followed; what pods in trouble tell.",
	Run: customResources,
}}

// failing is what an object says of itself, with what it says.
type failing struct {
	*saying
	seen, brief string
	since       time.Time
}

func customResources(c *Cluster, found func(Problem)) {
	fails := map[event.Entity]failing{}
	for _, o := range c.Foreign {
		if f, ok := c.fails(o); ok {
			fails[entityOf(o)] = f
		}
	}
	for _, o := range c.Foreign {
		e, kind := entityOf(o), foreignOf[text(o, "kind")]
		f, ok := fails[e]
		if !ok {
			continue
		}
		p := Problem{
			Entity: e, State: true, Urgency: f.urgency, Severity: event.Warning, Since: f.since, Title: f.title, Brief: f.brief, Seen: []string{f.seen},
			Next: []event.Check{{Why: "its conditions and events", Command: kubectl(e.Namespace, "describe %s %s", kind.resource(), e.Name)}},
		}
		if source := c.source(o, kind); !source.IsZero() {
			if s, known := fails[source]; known && s.urgency == f.urgency {
				p.Root, p.Effect, p.State, p.Title = source, true, false, Name(e)+" "+f.title
			}
		}
		found(p)
	}
}

// word follows a dotted path to a string; "" for none.
func word(o Object, dotted string) string {
	if dotted == "" {
		return ""
	}
	return text(o, strings.Split(dotted, ".")...)
}

// fails says whether an object says that something is wrong with it.
func (c *Cluster) fails(o Object) (failing, bool) {
	f := foreignOf[text(o, "kind")]
	made := since(o, "metadata", "creationTimestamp")
	about, told := number(at(o, "status", "observedGeneration"))
	generation, known := number(at(o, "metadata", "generation"))
	idle := f.idle != "" && at(o, strings.Split(f.idle, ".")...) == true
	if idle || text(o, "metadata", "deletionTimestamp") != "" || told && known && about < generation || c.overtaken(o) {
		return failing{}, false
	}
	for i := range f.says {
		s := &f.says[i]
		out := failing{saying: s}
		if s.path != "" {
			is := word(o, s.path)
			if !slices.Contains(s.values, is) {
				continue
			}
			out.since = since(o, strings.Split(s.since, ".")...)
			reason, why := word(o, s.reason), word(o, s.why)
			out.seen = strings.TrimRight(fmt.Sprintf("%s=%s %s: %s", s.path, is, reason, why), ": ")
			out.brief = strings.Trim(orElse(reason, is)+": "+oneLine(why, 120), ": ")
		} else {
			k, current := state(o, objects(o, "status", "conditions"), s.condition)
			if !current || text(k, "status") != s.is || len(s.only) > 0 && !slices.Contains(s.only, text(k, "reason")) || slices.Contains(s.not, text(k, "reason")) {
				continue
			}
			out.since = since(k, "lastTransitionTime")
			out.seen, out.brief = said(k)
			out.brief = strings.Trim(out.brief, ": ") // not everybody gives a reason
		}
		if out.since.IsZero() {
			out.since = made
		}
		after := s.after
		if after == 0 {
			after = assigning
		}
		if c.Now.Sub(out.since) < after || s.pods && c.ownsTrouble(entityOf(o)) {
			return failing{}, false
		}
		return out, true
	}
	return failing{}, false
}

// overtaken says whether what an object says is over.
func (c *Cluster) overtaken(o Object) bool {
	switch text(o, "kind") {
	case "Application":
		return word(o, "status.sync.status") == "Synced"
	case "InstallPlan":
		return slices.ContainsFunc(c.Foreign, func(newer Object) bool {
			return text(newer, "kind") == "InstallPlan" && text(newer, "metadata", "namespace") == text(o, "metadata", "namespace") &&
				since(newer, "metadata", "creationTimestamp").After(since(o, "metadata", "creationTimestamp"))
		})
	}
	return false
}

// ownsTrouble says whether pods of a thing, or of a workload that it made, have a
// line of their own.
func (c *Cluster) ownsTrouble(e event.Entity) bool {
	bad := func(root event.Entity) bool { trouble, _ := c.inTrouble(root); return trouble }
	if bad(e) {
		return true
	}
	for _, s := range c.StatefulSets {
		owned := slices.ContainsFunc(s.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == e.Kind && o.Name == e.Name })
		if s.Namespace == e.Namespace && owned && bad(entity("StatefulSet", s)) {
			return true
		}
	}
	return false
}

// source is what an object is made of, as it says.
func (c *Cluster) source(o Object, f *foreign) event.Entity {
	if f.source == "" {
		return event.Entity{}
	}
	ref, ok := at(o, strings.Split(f.source, ".")...).(Object)
	if !ok {
		return event.Entity{}
	}
	e := event.Entity{Kind: orElse(text(ref, "kind"), "SecretStore"), Name: text(ref, "name")}
	if to := foreignOf[e.Kind]; to == nil || !to.whole {
		e.Namespace = orElse(text(ref, "namespace"), text(o, "metadata", "namespace"))
	}
	return e
}

// nameLong is how long a name may be.
const nameLong = 253

// remember keeps the strings of a value that may name an object.
func (c *Cluster) remember(v any) {
	switch v := v.(type) {
	case Object:
		for _, e := range v {
			c.remember(e)
		}
	case []any:
		for _, e := range v {
			c.remember(e)
		}
	case string:
		if len(v) > nameLong || v == "" {
			return
		}
		if c.strings == nil {
			c.strings = map[string]bool{}
		}
		c.strings[v] = true
	}
}
