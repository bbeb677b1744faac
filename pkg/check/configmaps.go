package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

var configMapChecks = []Info{{
	Name: "helm_releases", Needs: []string{"configmaps"},
	Doc: "Helm releases whose last revision failed, or has been pending for more than a quarter of an hour, so that Helm refuses the next: by the labels of the records that Helm keeps in ConfigMaps. " +
		"Not: records in Secrets, where Helm keeps them unless it is told otherwise, and which are never read; a revision that a newer one followed.",
	Run: helmReleases,
}}

var configMapHygiene = []Info{{
	Name: "config_map_hygiene", Needs: append([]string{"configmaps", "pods"}, shaping...),
	Doc: "ConfigMaps that no pod, no template of a workload and no object of another controller names, and such that have no data, by what their metadata says of who wrote which field; one line a namespace. What is in them is never read. Confidence is medium. " +
		"Not: system namespaces; what has an owner, is younger than an hour, is in most namespaces under the same name, or is named in arguments, variables or annotations of any pod; what labels say that a controller or sidecar reads it by the API (grafana_dashboard=1, or a label of another's domain), records of Helm and of leaders; an earlier revision, by its hash, of one that is in use.",
	Run: configMapHygieneOf,
}}

// dataless says whether the record of who wrote which field shows that a ConfigMap
// holds nothing. Only a record that goes back to its making shows that.
func dataless(o *metav1.PartialObjectMetadata) bool {
	whole := false
	for _, m := range o.ManagedFields {
		var fields struct {
			Data   map[string]json.RawMessage `json:"f:data"`
			Binary map[string]json.RawMessage `json:"f:binaryData"`
		}
		if m.FieldsV1 == nil || json.Unmarshal(m.FieldsV1.GetRawBytes(), &fields) != nil {
			return false
		}
		for _, keys := range []map[string]json.RawMessage{fields.Data, fields.Binary} {
			for k := range keys {
				if k != "." {
					return false
				}
			}
		}
		whole = whole || m.Time != nil && m.Time.Sub(o.CreationTimestamp.Time).Abs() <= 2*time.Second
	}
	return whole
}

// configMapsOf are the ConfigMaps that a pod names, and whether it can do without.
func configMapsOf(s *corev1.PodSpec, use func(name string, optional *bool)) {
	for i := range s.Volumes {
		v := &s.Volumes[i]
		if v.ConfigMap != nil {
			use(v.ConfigMap.Name, v.ConfigMap.Optional)
		}
		if v.Projected != nil {
			for _, p := range v.Projected.Sources {
				if p.ConfigMap != nil {
					use(p.ConfigMap.Name, p.ConfigMap.Optional)
				}
			}
		}
	}
	containers(s, func(k *corev1.Container) {
		for _, f := range k.EnvFrom {
			if f.ConfigMapRef != nil {
				use(f.ConfigMapRef.Name, f.ConfigMapRef.Optional)
			}
		}
		for _, v := range k.Env {
			if v.ValueFrom != nil && v.ValueFrom.ConfigMapKeyRef != nil {
				use(v.ValueFrom.ConfigMapKeyRef.Name, v.ValueFrom.ConfigMapKeyRef.Optional)
			}
		}
	})
}

// containers are those of a pod that it begins with and those that it has.
func containers(s *corev1.PodSpec, each func(*corev1.Container)) {
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			each(&list[i])
		}
	}
}

// notName are what stands between names in arguments.
var notName = regexp.MustCompile(`[^a-z0-9.-]+`)

// mentions are the words of a pod's arguments, variables and annotations.
func mentions(annotations map[string]string, s *corev1.PodSpec, word func(string)) {
	split := func(text string) {
		for _, w := range notName.Split(text, -1) {
			word(strings.Trim(w, ".-"))
		}
	}
	for k, v := range annotations {
		if k != "kubectl.kubernetes.io/last-applied-configuration" {
			split(v)
		}
	}
	containers(s, func(k *corev1.Container) {
		for _, text := range slices.Concat(k.Command, k.Args) {
			split(text)
		}
		for _, v := range k.Env {
			split(v.Value)
		}
	})
}

// used are the ConfigMaps that something names, by namespace and name, and the
// words in which anything may be named.
func (c *Cluster) used() (names, words map[string]bool) {
	names, words = map[string]bool{}, maps.Clone(c.strings)
	if words == nil {
		words = map[string]bool{}
	}
	template := func(namespace string, annotations map[string]string, s *corev1.PodSpec) {
		configMapsOf(s, func(name string, _ *bool) { names[namespace+"/"+name] = true })
		mentions(annotations, s, func(w string) { words[w] = true })
	}
	of := func(namespace string, t *corev1.PodTemplateSpec) { template(namespace, t.Annotations, &t.Spec) }
	for _, o := range c.Deployments {
		of(o.Namespace, &o.Spec.Template)
	}
	for _, o := range c.StatefulSets {
		of(o.Namespace, &o.Spec.Template)
	}
	for _, o := range c.DaemonSets {
		of(o.Namespace, &o.Spec.Template)
	}
	for _, o := range c.Jobs {
		of(o.Namespace, &o.Spec.Template)
	}
	for _, o := range c.CronJobs {
		of(o.Namespace, &o.Spec.JobTemplate.Spec.Template)
	}
	for root, pods := range c.pods {
		if c.object(root) == nil || root.Kind == "Pod" {
			template(root.Namespace, pods[0].Annotations, &pods[0].Spec)
		}
		for _, p := range pods { // an older revision, or what a webhook put in
			configMapsOf(&p.Spec, func(name string, _ *bool) { names[p.Namespace+"/"+name] = true })
		}
	}
	return names, words
}

// hashed is a name that ends in the hash of what is in it.
var hashed = regexp.MustCompile(`^(.+)-[a-z0-9]{8,10}$`)

// descriptive are domains whose labels say what a thing belongs to, and not who
// reads it.
var descriptive = []string{"app.kubernetes.io", "helm.sh", "kubernetes.io", "k8s.io", "argocd.argoproj.io", "kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io", "olm.operatorframework.io"}

// readByLabel says whether a label says that somebody looks for the object by it.
func readByLabel(l map[string]string) bool {
	for k, v := range l {
		domain, _, qualified := strings.Cut(k, "/")
		if qualified && !slices.ContainsFunc(descriptive, func(d string) bool { return domain == d || strings.HasSuffix(domain, "."+d) && d == "k8s.io" }) {
			return true
		}
		if !qualified && slices.Contains([]string{"1", "true", "yes", "enabled"}, strings.ToLower(v)) {
			return true
		}
	}
	return false
}

// forgotten is how old a ConfigMap must be to count as one that nobody uses.
const forgotten = time.Hour

func configMapHygieneOf(c *Cluster, found func(Problem)) {
	names, words := c.used()
	revisions, everywhere, spaces := map[string]bool{}, map[string]int{}, map[string][]*metav1.PartialObjectMetadata{}
	for n := range names {
		if m := hashed.FindStringSubmatch(n); m != nil {
			revisions[m[1]] = true
		}
	}
	for _, o := range c.ConfigMaps {
		everywhere[o.Name]++
		spaces[o.Namespace] = append(spaces[o.Namespace], o)
	}
	for _, ns := range slices.Sorted(maps.Keys(spaces)) {
		if slices.Contains(systemNamespaces, ns) {
			continue
		}
		var unused, empty []string
		for _, o := range spaces[ns] {
			if len(o.OwnerReferences) > 0 || o.DeletionTimestamp != nil || c.age(o.CreationTimestamp) < forgotten || readByLabel(o.Labels) || o.Labels["owner"] == "helm" ||
				o.Annotations["control-plane.alpha.kubernetes.io/leader"] != "" || o.Name == "kube-root-ca.crt" || everywhere[o.Name] > 2 && 2*everywhere[o.Name] > len(spaces) {
				continue
			}
			if c.dataless[ns+"/"+o.Name] {
				empty = append(empty, o.Name)
			}
			m := hashed.FindStringSubmatch(ns + "/" + o.Name)
			if !names[ns+"/"+o.Name] && !words[o.Name] && (m == nil || !revisions[m[1]]) {
				unused = append(unused, o.Name)
			}
		}
		slices.Sort(unused)
		slices.Sort(empty)
		e := event.Entity{Kind: "Namespace", Name: ns}
		var lacks, seen []string
		if len(unused) > 0 {
			lacks = append(lacks, fmt.Sprintf("%d of %s unused: %s", len(unused), evidence.Count(len(spaces[ns]), "ConfigMap"), list(unused, 3)))
			seen = append(seen, "no pod, template or custom resource names: "+list(unused, 20))
		}
		if len(empty) > 0 {
			lacks = append(lacks, fmt.Sprintf("%s without data: %s", evidence.Count(len(empty), "ConfigMap"), list(empty, 3)))
			seen = append(seen, "managed fields without any of data: "+list(empty, 20))
		}
		if len(lacks) > 0 {
			found(Problem{
				Entity: e, Root: e, Urgency: event.Hygiene, Confidence: event.Medium, Title: strings.Join(lacks, "; "), Seen: seen,
				Next: []event.Check{{Why: "how old they are, and how much is in them", Command: kubectl(ns, "get configmaps")}},
			})
		}
	}
}

// pendingHelm is how long a revision may be on its way.
const pendingHelm = 15 * time.Minute

func helmReleases(c *Cluster, found func(Problem)) {
	last := map[event.Entity]*metav1.PartialObjectMetadata{}
	deployed := map[event.Entity]int{}
	revision := func(o *metav1.PartialObjectMetadata) int { n, _ := strconv.Atoi(o.Labels["version"]); return n }
	for _, o := range c.ConfigMaps {
		if o.Labels["owner"] != "helm" || o.Labels["name"] == "" || o.DeletionTimestamp != nil {
			continue
		}
		release := event.Entity{Namespace: o.Namespace, Name: o.Labels["name"]}
		if was := last[release]; was == nil || revision(was) < revision(o) {
			last[release] = o
		}
		if o.Labels["status"] == "deployed" {
			deployed[release] = max(deployed[release], revision(o))
		}
	}
	for _, release := range slices.SortedFunc(maps.Keys(last), func(a, b event.Entity) int { return strings.Compare(a.String(), b.String()) }) {
		o := last[release]
		changed := o.CreationTimestamp.Time
		for _, k := range []string{"createdAt", "modifiedAt"} {
			if n, err := strconv.ParseInt(o.Labels[k], 10, 64); err == nil {
				changed = time.Unix(n, 0)
			}
		}
		p := Problem{
			Entity: entity("ConfigMap", o), Root: entity("ConfigMap", o), State: true, Urgency: event.Soon, Since: changed,
			Seen: []string{fmt.Sprintf("labels owner=helm name=%s version=%s status=%s", release.Name, o.Labels["version"], o.Labels["status"])},
			Next: []event.Check{{Why: "the revisions of the release", Command: kubectl(o.Namespace, "get configmaps -l owner=helm,name=%s --show-labels", release.Name)}},
		}
		if n := deployed[release]; n > 0 {
			p.Brief = fmt.Sprintf("revision %d is in force", n)
		}
		switch status := o.Labels["status"]; {
		case status == "failed":
			p.Title = fmt.Sprintf("Helm release %s failed at revision %s", release.Name, o.Labels["version"])
		case (strings.HasPrefix(status, "pending-") || status == "uninstalling") && c.Now.Sub(changed) > pendingHelm:
			p.Title = fmt.Sprintf("Helm release %s is %s at revision %s, and nothing can follow", release.Name, status, o.Labels["version"])
		default:
			continue
		}
		found(p)
	}
}
