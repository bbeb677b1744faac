package testbed

import (
	"context"
	"fmt"
	"strings"
)

// Deployment is a workload of a simulated cluster.
type Deployment struct {
	Namespace, Name string
	Replicas        int    // 0: 2
	Version         string // of the image; default: v1
	Fault           string // "", oom, crashloop, imagepull or unready: see stages.yaml
	CPU             string // request; default: 100m
	Memory          string // limit; default: 256Mi
}

// YAML is its manifest.
func (d Deployment) YAML() string {
	if d.Replicas == 0 {
		d.Replicas = 2
	}
	for p, v := range map[*string]string{&d.Version: "v1", &d.CPU: "100m", &d.Memory: "256Mi"} {
		if *p == "" {
			*p = v
		}
	}
	labels := fmt.Sprintf("app: %s", d.Name)
	if d.Fault != "" {
		labels += ", fault: " + d.Fault
	}
	return fmt.Sprintf(strings.TrimLeft(`
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[2]s
  namespace: %[1]s
  labels: {app: %[2]s, team: %[2]s-team}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {%[4]s}}
    spec:
      automountServiceAccountToken: false
      containers:
      - name: app
        image: registry.example/%[1]s/%[2]s:%[5]s
        resources: {requests: {cpu: %[6]q, memory: 64Mi}, limits: {memory: %[7]q}}
`, "\n"), d.Namespace, d.Name, d.Replicas, labels, d.Version, d.CPU, d.Memory)
}

// Deploy applies a deployment.
func (c *Cluster) Deploy(ctx context.Context, d Deployment) error { return c.Apply(ctx, d.YAML()) }

// WaitReady waits until all pods of a deployment's present version are ready.
func (c *Cluster) WaitReady(ctx context.Context, namespace, name string) error {
	return c.Wait(ctx, fmt.Sprintf("deployment %s/%s ready", namespace, name), func(ctx context.Context) (bool, error) {
		var d struct {
			Metadata struct{ Generation int64 }
			Spec     struct{ Replicas int }
			Status   struct {
				ObservedGeneration                       int64
				UpdatedReplicas, ReadyReplicas, Replicas int
			}
		}
		if err := c.Get(ctx, "/apis/apps/v1/namespaces/"+namespace+"/deployments/"+name, &d); err != nil {
			return false, err
		}
		st := d.Status
		return st.ObservedGeneration == d.Metadata.Generation && st.UpdatedReplicas == d.Spec.Replicas && st.ReadyReplicas == d.Spec.Replicas && st.Replicas == d.Spec.Replicas, nil
	})
}
