package triage

import (
	"context"
	"net/url"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

// Behind is the workload whose pods a Service chooses, when they are of one.
func Behind(ctx context.Context, c *kube.Client, namespace, service string, all []event.Entity) (event.Entity, bool) {
	var s struct {
		Spec struct {
			Selector map[string]string `json:"selector"`
		} `json:"spec"`
	}
	if namespace == "" || c.Get(ctx, "/api/v1/namespaces/"+url.PathEscape(namespace)+"/services/"+url.PathEscape(service), nil, &s) != nil || len(s.Spec.Selector) == 0 {
		return event.Entity{}, false
	}
	found := map[string]bool{}
	params := url.Values{"labelSelector": {labels.SelectorFromSet(s.Spec.Selector).String()}}
	err := kube.List(ctx, c, "/api/v1/namespaces/"+url.PathEscape(namespace)+"/pods", params, func(page *metav1.PartialObjectMetadataList) {
		for i := range page.Items {
			found[event.WorkloadOfPod(page.Items[i].Name)] = true
		}
	})
	if err != nil || len(found) != 1 {
		return event.Entity{}, false
	}
	for name := range found {
		e, err := Resolve(Want{Namespace: namespace, Name: name}, all)
		return e, err == nil
	}
	return event.Entity{}, false
}
