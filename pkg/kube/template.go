package kube

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Template is a pod template as far as a change of it is told: images,
// resources, names of environment variables, probes, scheduling. It holds no
// value of an environment variable, no argument and nothing of a Secret; where
// those differ, only that they differ is known.
type Template struct {
	fields     map[string]field
	ConfigMaps []string // names of the ConfigMaps that its pods read, sorted
}

// field is one property. What must not be shown has only a hash, keyed anew in
// every process, so that it says nothing outside of it.
type field struct {
	text   string
	hidden uint64
}

var hiddenSeed = maphash.MakeSeed()

// Moved is when a Deployment's rollout last made progress, or ended: of a template
// that is rolled out again, at the latest when that was; zero where nothing says
// so. Scaling does not move it, as it does the time at which a ReplicaSet was edited.
func Moved(d *appsv1.Deployment) time.Time {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing {
			return c.LastUpdateTime.UTC()
		}
	}
	return time.Time{}
}

// TemplateOf summarises a pod template.
func TemplateOf(t *corev1.PodTemplateSpec) *Template {
	out := &Template{fields: map[string]field{}}
	spec := &t.Spec
	maps.Copy(out.fields, annotationFields(t.Annotations))
	for i := range spec.InitContainers {
		out.container("initContainers", &spec.InitContainers[i])
	}
	for i := range spec.Containers {
		out.container("containers", &spec.Containers[i])
	}
	out.set("serviceAccountName", spec.ServiceAccountName)
	out.set("priorityClassName", spec.PriorityClassName)
	if spec.RuntimeClassName != nil {
		out.set("runtimeClassName", *spec.RuntimeClassName)
	}
	if spec.HostNetwork {
		out.set("hostNetwork", "true")
	}
	if spec.TerminationGracePeriodSeconds != nil && *spec.TerminationGracePeriodSeconds != 30 {
		out.set("terminationGracePeriodSeconds", fmt.Sprint(*spec.TerminationGracePeriodSeconds))
	}
	for _, k := range slices.Sorted(maps.Keys(spec.NodeSelector)) {
		out.set("nodeSelector."+k, spec.NodeSelector[k])
	}
	if len(spec.Tolerations) > 0 {
		out.hide("tolerations", fmt.Sprintf("%+v", spec.Tolerations))
	}
	if spec.Affinity != nil {
		out.hide("affinity", spec.Affinity.String())
	}
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		path := "volumes[" + v.Name + "]"
		switch {
		case v.ConfigMap != nil:
			out.set(path, "ConfigMap "+v.ConfigMap.Name)
			out.configMap(v.ConfigMap.Name)
		case v.Secret != nil:
			out.hide(path, v.Secret.SecretName)
		case v.PersistentVolumeClaim != nil:
			out.set(path, "PersistentVolumeClaim "+v.PersistentVolumeClaim.ClaimName)
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil {
					out.configMap(s.ConfigMap.Name)
				}
			}
			if !strings.HasPrefix(v.Name, "kube-api-access-") {
				out.hide(path, v.Projected.String())
			}
		default:
			out.hide(path, v.VolumeSource.String())
		}
	}
	slices.Sort(out.ConfigMaps)
	out.ConfigMaps = slices.Compact(out.ConfigMaps)
	return out
}

func (t *Template) container(list string, c *corev1.Container) {
	path := list + "[" + c.Name + "]."
	t.set(path+"image", c.Image)
	for _, r := range []struct {
		kind string
		list corev1.ResourceList
	}{{"requests", c.Resources.Requests}, {"limits", c.Resources.Limits}} {
		for name, q := range r.list {
			t.set(path+"resources."+r.kind+"."+string(name), q.String())
		}
	}
	for i := range c.Env {
		e := &c.Env[i]
		t.hide(path+"env["+e.Name+"]", e.String())
		if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
			t.configMap(e.ValueFrom.ConfigMapKeyRef.Name)
		}
	}
	for i := range c.EnvFrom {
		e := &c.EnvFrom[i]
		if e.ConfigMapRef != nil {
			t.set(path+"envFrom[ConfigMap "+e.ConfigMapRef.Name+"]", "present")
			t.configMap(e.ConfigMapRef.Name)
		} else {
			t.hide(fmt.Sprintf("%senvFrom[%d]", path, i), e.String())
		}
	}
	if len(c.Command) > 0 {
		t.hide(path+"command", strings.Join(c.Command, "\x00"))
	}
	if len(c.Args) > 0 {
		t.hide(path+"args", strings.Join(c.Args, "\x00"))
	}
	for name, p := range map[string]*corev1.Probe{"livenessProbe": c.LivenessProbe, "readinessProbe": c.ReadinessProbe, "startupProbe": c.StartupProbe} {
		if p != nil {
			t.hide(path+name, p.String())
		}
	}
	for _, p := range c.Ports {
		t.set(fmt.Sprintf("%sports[%d/%s]", path, p.ContainerPort, p.Protocol), "open")
	}
	if c.SecurityContext != nil {
		t.hide(path+"securityContext", c.SecurityContext.String())
	}
	if c.Lifecycle != nil {
		t.hide(path+"lifecycle", c.Lifecycle.String())
	}
}

// annotationFields keep those annotations that people put there to roll pods:
// checksums of configuration and kubectl's restart.
func annotationFields(annotations map[string]string) map[string]field {
	out := map[string]field{}
	for k, v := range annotations {
		switch {
		case k == "kubectl.kubernetes.io/restartedAt":
			out["restartedAt"] = field{text: v}
		case strings.HasPrefix(k, "checksum/"), strings.Contains(k, "config-hash"):
			out["annotations["+k+"]"] = field{text: v[:min(12, len(v))]}
		}
	}
	return out
}

func (t *Template) set(path, text string) {
	if text != "" {
		t.fields[path] = field{text: text}
	}
}

func (t *Template) hide(path, text string) {
	t.fields[path] = field{hidden: maphash.String(hiddenSeed, text) | 1}
}

func (t *Template) configMap(name string) { t.ConfigMaps = append(t.ConfigMaps, name) }

// Images are the images of the containers, by container.
func (t *Template) Images() map[string]string {
	out := map[string]string{}
	for path, f := range t.fields {
		if name, ok := strings.CutPrefix(path, "containers["); ok {
			if name, ok := strings.CutSuffix(name, "].image"); ok {
				out[name] = f.text
			}
		}
	}
	return out
}

// Diff lists the fields in which two templates differ, by path. A nil template
// has no fields.
func (t *Template) Diff(next *Template) []event.FieldChange {
	var a, b map[string]field
	if t != nil {
		a = t.fields
	}
	if next != nil {
		b = next.fields
	}
	paths := slices.Sorted(maps.Keys(a))
	for p := range b {
		if _, ok := a[p]; !ok {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	var out []event.FieldChange
	for _, p := range paths {
		if a[p] != b[p] {
			out = append(out, event.FieldChange{Path: p, From: shown(a, p), To: shown(b, p)})
		}
	}
	return out
}

func shown(m map[string]field, path string) string {
	f, ok := m[path]
	switch {
	case !ok:
		return ""
	case f.hidden != 0:
		return "(not shown)"
	}
	return f.text
}

// Summary says a diff in one line, the most telling fields first:
// "image v411 -> v412, memory limit 512Mi -> 256Mi and 3 more".
func Summary(diff []event.FieldChange) string {
	type line struct {
		rank int
		text string
	}
	several := map[string]bool{}
	for _, d := range diff {
		several[containerOf(d.Path)] = true
	}
	delete(several, "")
	var lines []line
	for _, d := range diff {
		who := ""
		if c := containerOf(d.Path); c != "" && len(several) > 1 {
			who = c + " "
		}
		rank, what := wording(d.Path)
		from, to := d.From, d.To
		if rank == 0 {
			from, to = shortImages(from, to)
		}
		switch {
		case from == "" && to == "(not shown)":
			what += " added"
		case to == "" && from == "(not shown)":
			what += " removed"
		case from == to:
			what += " changed"
		case from == "":
			what += " set to " + to
		case to == "":
			what += " " + from + " removed"
		default:
			what += " " + from + " -> " + to
		}
		lines = append(lines, line{rank, who + what})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.rank - b.rank })
	const most = 4
	var b strings.Builder
	for i, l := range lines[:min(most, len(lines))] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(l.text)
	}
	if n := len(lines) - most; n > 0 {
		fmt.Fprintf(&b, " and %d more", n)
	}
	return b.String()
}

func containerOf(path string) string {
	_, rest, ok := strings.Cut(path, "ontainers[")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "]")
	return name
}

func wording(path string) (rank int, what string) {
	tail := path
	if containerOf(path) != "" {
		_, tail, _ = strings.Cut(path, "].")
	}
	switch {
	case tail == "image":
		return 0, "image"
	case strings.HasPrefix(tail, "resources.limits."):
		return 1, strings.TrimPrefix(tail, "resources.limits.") + " limit"
	case strings.HasPrefix(tail, "resources.requests."):
		return 2, strings.TrimPrefix(tail, "resources.requests.") + " request"
	case strings.HasPrefix(tail, "env["):
		return 3, "env " + strings.TrimSuffix(strings.TrimPrefix(tail, "env["), "]")
	case tail == "restartedAt":
		return 4, "restart asked"
	}
	return 5, tail
}

// shortImages leaves out what two images have in common: the repository when
// only the tag differs.
func shortImages(a, b string) (string, string) {
	i, j := strings.LastIndexByte(a, ':'), strings.LastIndexByte(b, ':')
	if i > 0 && j > 0 && a[:i] == b[:j] && !strings.Contains(a[i:], "/") {
		return a[i+1:], b[j+1:]
	}
	return a, b
}
