package kube

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Standing is how far a pod has come.
type Standing struct {
	Placed bool // on a node
	// Running is when the first of its containers began that all run; zero while one
	// does not.
	Running time.Time
	// Ready is since when it is ready; zero while it is not.
	Ready time.Time
}

// StandingOf is that of a pod.
func StandingOf(p *corev1.Pod) Standing {
	s := Standing{Placed: p.Spec.NodeName != ""}
	for i, c := range p.Status.ContainerStatuses {
		if c.State.Running == nil {
			s.Running = time.Time{}
			break
		}
		if at := c.State.Running.StartedAt.UTC(); i == 0 || at.Before(s.Running) {
			s.Running = at
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			s.Ready = c.LastTransitionTime.UTC()
		}
	}
	return s
}

// Outlived says whether the pod has got past what an event says stood in its way. Of
// what may come again at any time, as a crash may, it says that it has not.
func (s Standing) Outlived(e event.KubeEvent) bool {
	switch e.Reason {
	case "FailedScheduling":
		return s.Placed
	case "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox":
		return !s.Running.IsZero() && !s.Running.Before(e.Time())
	}
	return false
}
