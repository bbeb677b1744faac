//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/test/testbed"
)

// churn does to a namespace what healthy clusters do all day: rollouts,
// scaling, configuration, jobs that complete. It goes on until ctx is done and
// returns what it did.
func (w *world) churn(ctx context.Context, namespace string) (map[string]int, error) {
	did := map[string]int{}
	if err := w.cluster.Apply(ctx, fmt.Sprintf(`apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: %s}
spec:
  schedule: "* * * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          automountServiceAccountToken: false
          containers: [{name: app, image: registry.example/nightly:v1}]
`, namespace)); err != nil {
		return nil, err
	}
	t := time.NewTicker(4 * time.Second)
	defer t.Stop()
	for n := 1; ; n++ {
		var err error
		what := ""
		switch n % 4 {
		case 0:
			what = "rollouts"
			err = w.cluster.Deploy(ctx, testbed.Deployment{Namespace: namespace, Name: "web", Version: fmt.Sprintf("v%d", n)})
		case 1:
			what = "scalings"
			err = w.cluster.Patch(ctx, "/apis/apps/v1/namespaces/"+namespace+"/deployments/cart", fmt.Sprintf(`{"spec":{"replicas":%d}}`, 2+n%3))
		case 2:
			what = "configurations"
			err = w.cluster.Apply(ctx, fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web, namespace: %s}\ndata: {limit: \"%d\"}\n", namespace, n))
		case 3:
			what = "jobs"
			err = w.cluster.Apply(ctx, fmt.Sprintf(`apiVersion: batch/v1
kind: Job
metadata: {name: once-%d, namespace: %s}
spec:
  ttlSecondsAfterFinished: 20
  template:
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      containers: [{name: app, image: registry.example/once:v1}]
`, n, namespace))
		}
		if err != nil {
			if ctx.Err() != nil {
				return did, nil
			}
			return did, err
		}
		did[what]++
		select {
		case <-ctx.Done():
			return did, nil
		case <-t.C:
		}
	}
}

// quiet checks that nobody was woken about a namespace, and shows what was
// said of it all the same.
func (w *world) quiet(t *testing.T, namespace string) {
	t.Helper()
	for _, d := range w.receiver.about(namespace) {
		if d.Report.Priority.Pages() {
			t.Errorf("a page about a healthy namespace:\n%s", describe(d.Report))
		} else {
			t.Errorf("a ticket about a healthy namespace:\n%s", describe(d.Report))
		}
	}
}
