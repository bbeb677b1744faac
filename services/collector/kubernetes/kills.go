package kubernetes

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// The kubelet writes no event when the kernel kills a container for its memory
// limit: the pod's status is the only place that says so. Each kill becomes an
// event of our own, whose identity is the container and the time of its end, so
// that reading the pod again repeats nothing.

// ours is the reporting controller of events that nobody but us writes.
const ours = "oncall"

// takeKills notes the OOM kills that a pod's status shows.
func (w *world) takeKills(p *pod, o *corev1.Pod) {
	for _, list := range [][]corev1.ContainerStatus{o.Status.InitContainerStatuses, o.Status.ContainerStatuses} {
		for _, c := range list {
			for _, t := range []*corev1.ContainerStateTerminated{c.LastTerminationState.Terminated, c.State.Terminated} {
				if t == nil || t.Reason != "OOMKilled" || t.FinishedAt.IsZero() {
					continue
				}
				at := t.FinishedAt.UTC()
				if !at.After(p.killed[c.Name]) {
					continue
				}
				if p.killed == nil {
					p.killed = map[string]time.Time{}
				}
				p.killed[c.Name] = at
				if at.Before(w.horizon()) {
					continue
				}
				w.events = append(w.events, event.KubeEvent{
					Metadata: event.KubeMeta{
						Name: o.Name + "." + c.Name, Namespace: o.Namespace, UID: string(o.UID) + "." + event.Token(c.Name),
						// No number: it is none of the API server's versions, which the
						// cursor counts by.
						ResourceVersion: "at" + strconv.FormatInt(at.Unix(), 10), CreationTimestamp: at,
					},
					InvolvedObject: event.KubeRef{APIVersion: "v1", Kind: "Pod", Namespace: o.Namespace, Name: o.Name, UID: string(o.UID), FieldPath: "spec.containers{" + clip(c.Name, 64) + "}"},
					Reason:         "OOMKilled", Type: "Warning", Count: 1, FirstTimestamp: at, LastTimestamp: at,
					Message:             fmt.Sprintf("container %s was killed for exceeding its memory limit (exit code %d)", clip(c.Name, 64), t.ExitCode),
					Source:              event.KubeSource{Component: "pod status", Host: o.Spec.NodeName},
					ReportingController: ours,
				})
			}
		}
	}
}

// kills keeps of the statuses of init containers what takeKills reads.
func kills(list []corev1.ContainerStatus) []corev1.ContainerStatus {
	return slices.DeleteFunc(courses(list), func(c corev1.ContainerStatus) bool {
		return c.LastTerminationState.Terminated == nil && c.State.Terminated == nil
	})
}

// courses keeps of container statuses what takeKills and [kube.StandingOf] read.
func courses(list []corev1.ContainerStatus) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for _, c := range list {
		k := corev1.ContainerStatus{Name: c.Name}
		if r := c.State.Running; r != nil {
			k.State.Running = &corev1.ContainerStateRunning{StartedAt: r.StartedAt}
		}
		if t := c.LastTerminationState.Terminated; t != nil && t.Reason == "OOMKilled" {
			k.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: t.Reason, ExitCode: t.ExitCode, FinishedAt: t.FinishedAt}
		}
		if t := c.State.Terminated; t != nil && t.Reason == "OOMKilled" {
			k.State.Terminated = &corev1.ContainerStateTerminated{Reason: t.Reason, ExitCode: t.ExitCode, FinishedAt: t.FinishedAt}
		}
		out = append(out, k)
	}
	return out
}
