package check

import (
	"slices"
	"strings"
	"testing"
)

// TestWhatIsAroundAWorkload finds what stands on lines of its own and is a
// workload's trouble, too.
func TestWhatIsAroundAWorkload(t *testing.T) {
	objects := strings.ReplaceAll(shopWeb, "AGE", "1h") + `---
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{port: 80}]}
---
kind: Service
metadata: {name: web, namespace: lab}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
kind: Ingress
metadata: {name: front, namespace: shop}
spec: {rules: [{host: a, http: {paths: [{path: /, backend: {service: {name: web, port: {number: 80}}}}]}}]}
---
kind: Ingress
metadata: {name: other, namespace: shop}
spec: {rules: [{host: a, http: {paths: [{path: /, backend: {service: {name: cart, port: {number: 80}}}}]}}]}
---
kind: HTTPRoute
metadata: {name: way, namespace: shop}
spec: {rules: [{backendRefs: [{name: web, port: 80}]}]}
---
kind: HorizontalPodAutoscaler
metadata: {name: more, namespace: shop}
spec: {scaleTargetRef: {kind: Deployment, name: web}}
---
kind: HorizontalPodAutoscaler
metadata: {name: others, namespace: shop}
spec: {scaleTargetRef: {kind: StatefulSet, name: web}}
---
kind: PodDisruptionBudget
metadata: {name: enough, namespace: shop}
spec: {selector: {matchLabels: {app: web}}}
---
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}}
---
kind: NetworkPolicy
metadata: {name: open, namespace: shop}
spec: {podSelector: {matchLabels: {app: cart}}}
`
	objects = strings.Replace(objects, `spec: {nodeName: n1,`, `spec: {nodeName: n1, volumes: [{name: d, persistentVolumeClaim: {claimName: data}}],`, 1)
	var got []string
	for _, e := range read(t, objects).Around(webDeployment) {
		got = append(got, Name(e))
	}
	want := []string{"shop/svc/web", "shop/ing/front", "shop/httproute/way", "shop/hpa/more", "shop/pdb/enough", "shop/netpol/closed", "shop/pvc/data"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
