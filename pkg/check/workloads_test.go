package check

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestAFirstRevisionHasNoneToReturnTo: kubectl would refuse to undo it.
func TestAFirstRevisionHasNoneToReturnTo(t *testing.T) {
	for revision, want := range map[string]int{"1": 0, "2": 1, "": 1} {
		d := &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Annotations: map[string]string{"deployment.kubernetes.io/revision": revision}},
			Status: appsv1.DeploymentStatus{Conditions: []appsv1.DeploymentCondition{
				{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"},
			}},
		}
		var got []Problem
		deployments(&Cluster{Deployments: []*appsv1.Deployment{d}}, func(p Problem) { got = append(got, p) })
		if len(got) != 1 || len(got[0].Rollback) != want {
			t.Errorf("revision %q: %+v, want one problem with %d ways back", revision, got, want)
		}
	}
}
