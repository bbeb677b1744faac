package kubernetes

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAnOOMKillIsToldOnceAndAgainAfterTheNext(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	cfg := Config{}
	cfg.Fill()
	w := newWorld(cfg, func(s string) string { return s }, func() time.Time { return now }, saved{})
	pod := func(end time.Time, reason string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: "u1"},
			Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "web", LastTerminationState: corev1.ContainerState{
				Terminated: &corev1.ContainerStateTerminated{Reason: reason, ExitCode: 137, FinishedAt: metav1.NewTime(end)},
			}}}},
		}
	}
	first, second := now.Add(-time.Minute), now.Add(-10*time.Second)
	for _, p := range []*corev1.Pod{pod(first, "Error"), pod(first, "OOMKilled"), pod(first, "OOMKilled"), pod(second, "OOMKilled"), pod(now.Add(-5*time.Hour), "OOMKilled")} {
		trim(p)
		w.apply(p, false)
	}
	if len(w.events) != 2 {
		t.Fatalf("%d events, want 2: %+v", len(w.events), w.events)
	}
	e := w.events[0]
	if e.Reason != "OOMKilled" || !e.Time().Equal(first) || e.Entity().String() != "shop/pod/web-1" {
		t.Errorf("event %+v", e)
	}
	if w.events[0].Metadata.UID != w.events[1].Metadata.UID || w.events[0].Metadata.ResourceVersion == w.events[1].Metadata.ResourceVersion {
		t.Error("two kills of one container share their identity")
	}
}
