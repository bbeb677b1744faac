package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

var storageChecks = []Info{
	{
		Name: "claims", Needs: []string{"persistentvolumeclaims", "storageclasses", "pods"},
		Doc: "PersistentVolumeClaims that are lost, whose resize stands still, or that stay unbound, by cause: no such class, no class at all, provisioning failed, no volume fits. A claim that pods wait for stands on the line of their workload. Not: a claim of a class that waits for a first pod (WaitForFirstConsumer) and has none, or the first minute.",
		Run: claims,
	},
	{
		Name: "volumes", Needs: []string{"persistentvolumes"},
		Doc: "PersistentVolumes that failed, or stay pending.",
		Run: volumes,
	},
	{
		Name: "volume_hygiene", Needs: []string{"persistentvolumes"},
		Doc: "PersistentVolumes that are released and kept, or that nobody has claimed for an hour.",
		Run: idleVolumes,
	},
}

var quotaChecks = []Info{{
	Name: "quotas", Needs: []string{"resourcequotas"},
	Doc: "ResourceQuotas used for more than 90 %; one line a quota. That one refuses pods is told of the workload. Not: a quota of nothing, which forbids on purpose, or of fewer than ten objects, which is used up on purpose (hygiene).",
	Run: quotas,
}}

// resizing is how long a volume's growth may take.
const resizing = 15 * time.Minute

func claims(c *Cluster, found func(Problem)) {
	users := map[string][]*corev1.Pod{}
	for _, p := range c.Pods {
		for i := range p.Spec.Volumes {
			switch v := &p.Spec.Volumes[i]; {
			case v.PersistentVolumeClaim != nil:
				key := p.Namespace + "/" + v.PersistentVolumeClaim.ClaimName
				users[key] = append(users[key], p)
			case v.Ephemeral != nil:
				key := p.Namespace + "/" + p.Name + "-" + v.Name
				users[key] = append(users[key], p)
			}
		}
	}
	for _, v := range c.PVCs {
		e := entity("PersistentVolumeClaim", v)
		if v.DeletionTimestamp != nil {
			continue
		}
		seen := []string{fmt.Sprintf("phase %s, class %s, volume %q", v.Status.Phase, className(v), v.Spec.VolumeName)}
		look := []event.Check{describe(e, "its class, its events and who uses it")}
		switch v.Status.Phase {
		case corev1.ClaimLost:
			found(Problem{
				Entity: e, Root: e, State: true, Urgency: event.Broken, Title: "Lost", Brief: fmt.Sprintf("its volume %s is gone, and what was on it", v.Spec.VolumeName), Seen: seen,
				Next: append(look, event.Check{Why: "the volumes there are", Command: "kubectl get pv"}),
			})
		case corev1.ClaimPending:
			pods := users[v.Namespace+"/"+v.Name]
			why, next, line := c.unbound(v, len(pods) > 0)
			if why == "" || c.age(v.CreationTimestamp) < starting {
				continue
			}
			p := Problem{Entity: e, Root: e, State: true, Urgency: event.Broken, Since: v.CreationTimestamp.Time, Title: "Pending", Brief: why, Seen: seen, Next: append(next, look...)}
			if line != "" {
				p.Seen = append(p.Seen, line)
			}
			for _, pod := range pods {
				if _, bad := c.troubleOf(pod); bad {
					p.Root, p.State, p.Brief, p.Cause = c.root(pod), false, "", true
					p.Title = fmt.Sprintf("claim %s is not bound: %s", v.Name, why)
					break
				}
			}
			found(p)
		case corev1.ClaimBound:
			for i := range v.Status.Conditions {
				k := &v.Status.Conditions[i]
				if k.Status != corev1.ConditionTrue || c.age(k.LastTransitionTime) < resizing {
					continue
				}
				var title string
				switch k.Type {
				case corev1.PersistentVolumeClaimResizing:
					title = "its resize stands still"
				case corev1.PersistentVolumeClaimFileSystemResizePending:
					if title = "its file system has not grown: the pod that uses it must restart"; len(users[v.Namespace+"/"+v.Name]) == 0 {
						continue // it grows when it is next mounted
					}
				case corev1.PersistentVolumeClaimControllerResizeError, corev1.PersistentVolumeClaimNodeResizeError:
					title = "cannot be resized"
				default:
					continue
				}
				found(Problem{
					Entity: e, Root: e, State: true, Urgency: event.Soon, Since: k.LastTransitionTime.Time, Title: title, Brief: oneLine(k.Message, 140),
					Seen: append(seen, fmt.Sprintf("condition %s=True: %s", k.Type, k.Message)), Next: look,
				})
				break
			}
		}
	}
}

func className(v *corev1.PersistentVolumeClaim) string {
	switch {
	case v.Spec.StorageClassName == nil:
		return "none"
	case *v.Spec.StorageClassName == "":
		return `""`
	}
	return *v.Spec.StorageClassName
}

// unbound is why a claim is not bound; "" when it waits on purpose.
func (c *Cluster) unbound(v *corev1.PersistentVolumeClaim, used bool) (why string, next []event.Check, line string) {
	classes := []event.Check{{Why: "the classes there are, and the default", Command: "kubectl get storageclasses"}}
	var class *storagev1.StorageClass
	if n := v.Spec.StorageClassName; n != nil && *n != "" {
		for _, s := range c.StorageClasses {
			if s.Name == *n {
				class = s
			}
		}
		if class == nil && v.Spec.VolumeName == "" && !c.staticOf(*n) {
			return "StorageClass " + *n + " does not exist", classes, ""
		}
	}
	if class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer && !used {
		return "", nil, ""
	}
	if bad := c.warned(entity("PersistentVolumeClaim", v), recently, "ProvisioningFailed", "FailedBinding"); len(bad) > 0 {
		ev := bad[len(bad)-1]
		return oneLine(ev.Message, 160), nil, fmt.Sprintf("event %s x%d: %s", ev.Reason, ev.Occurrences(), ev.Message)
	}
	switch {
	case v.Spec.StorageClassName == nil:
		return "it names no class, and the cluster has no default", classes, ""
	case class == nil:
		return "no volume fits it", []event.Check{{Why: "volumes, their sizes, modes and classes", Command: "kubectl get pv -o wide"}}, ""
	case class.Provisioner == "kubernetes.io/no-provisioner":
		return fmt.Sprintf("no volume of class %s fits it, and nobody makes one", class.Name), []event.Check{{Why: "volumes, their sizes, modes and classes", Command: "kubectl get pv -o wide"}}, ""
	case class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer:
		node := v.Annotations["volume.kubernetes.io/selected-node"]
		if node == "" {
			return "", nil, "" // the scheduler says why its pod is not placed
		}
		line = "node " + node + " was chosen for it"
	}
	return fmt.Sprintf("provisioner %s does not answer", class.Provisioner), []event.Check{{Why: "does the provisioner run?", Command: "kubectl get pods -A -o wide"}}, line
}

// staticOf says whether volumes of a class exist that nobody provisions: they
// need no StorageClass of that name.
func (c *Cluster) staticOf(class string) bool {
	for _, v := range c.PVs {
		if v.Spec.StorageClassName == class {
			return true
		}
	}
	return false
}

func volumes(c *Cluster, found func(Problem)) {
	for _, v := range c.PVs {
		e := entity("PersistentVolume", v)
		p := Problem{Entity: e, Root: e, State: true, Brief: oneLine(v.Status.Message, 140), Detail: v.Status.Message, Next: []event.Check{describe(e, "its claim, its driver and events")}, Seen: []string{fmt.Sprintf("phase %s %s: %s", v.Status.Phase, v.Status.Reason, v.Status.Message)}}
		if at := v.Status.LastPhaseTransitionTime; at != nil {
			p.Since = at.Time
		}
		switch {
		case v.Status.Phase == corev1.VolumeFailed:
			p.Urgency, p.Severity, p.Title = event.Broken, event.Warning, "Failed"
		case v.Status.Phase == corev1.VolumePending && c.age(v.CreationTimestamp) > 5*time.Minute:
			p.Urgency, p.Title = event.Soon, "Pending"
		default:
			continue
		}
		found(p)
	}
}

func idleVolumes(c *Cluster, found func(Problem)) {
	for _, v := range c.PVs {
		e := entity("PersistentVolume", v)
		var title string
		switch {
		case v.Status.Phase == corev1.VolumeReleased && v.DeletionTimestamp == nil:
			if title = "Released and kept"; v.Spec.ClaimRef != nil {
				title += ", of claim " + v.Spec.ClaimRef.Namespace + "/" + v.Spec.ClaimRef.Name
			}
		case v.Status.Phase == corev1.VolumeAvailable && c.age(v.CreationTimestamp) > recently:
			title = "nobody claims it"
		default:
			continue
		}
		found(Problem{Entity: e, Root: e, Urgency: event.Hygiene, Title: title, Seen: []string{"phase " + string(v.Status.Phase)}, Next: []event.Check{describe(e, "what it was for")}})
	}
}

// nearly is the part of a quota above which the next rollout may not fit.
const nearly = 0.9

func quotas(c *Cluster, found func(Problem)) {
	for _, q := range c.Quotas {
		e := entity("ResourceQuota", q)
		var near, few, seen []string
		for _, name := range sortedNames(q.Status.Hard) {
			hard, used := q.Status.Hard[name], q.Status.Used[name]
			most := hard.AsApproximateFloat64()
			if most <= 0 || used.AsApproximateFloat64() <= most*nearly {
				continue
			}
			line := fmt.Sprintf("%s %s of %s", name, used.String(), hard.String())
			seen = append(seen, line)
			if amount := strings.Contains(string(name), "cpu") || strings.Contains(string(name), "memory") || strings.Contains(string(name), "storage") && !strings.Contains(string(name), "claims"); !amount && most < 10 {
				few = append(few, line)
				continue
			}
			near = append(near, line)
		}
		p := Problem{Entity: e, Root: e, Seen: seen, Next: []event.Check{{Why: "quotas and their use", Command: kubectl(q.Namespace, "describe resourcequota %s", q.Name)}}}
		switch {
		case len(near) > 0:
			p.Urgency, p.Title = event.Soon, "nearly used up: "+list(near, 3)
		case len(few) > 0:
			p.Urgency, p.Title = event.Hygiene, "used up: "+list(few, 3)
		default:
			continue
		}
		found(p)
	}
}

func sortedNames(l corev1.ResourceList) []corev1.ResourceName {
	return slices.Sorted(maps.Keys(l))
}
