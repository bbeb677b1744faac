package check

import (
	"fmt"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

var autoscalingChecks = []Info{
	{
		Name: "autoscalers", Needs: []string{"horizontalpodautoscalers"},
		Doc: "HorizontalPodAutoscalers whose target does not exist or cannot be scaled, that cannot read their metrics, whose target's containers state no request for what they scale on, that are at their maximum while the metric is above its target, or whose wish has not been followed for ten minutes. " +
			"Not: at the minimum; at the maximum with the metric at or below its target, or within the ten per cent that the controller tolerates; a maximum that equals the minimum; a target scaled to zero; the first three minutes.",
		Run: autoscalers,
	},
	{
		Name: "keda", Needs: []string{"scaledobjects"},
		Doc: "KEDA's ScaledObjects that are not ready or fall back to a fixed size. Not: paused ones, which are hygiene, or clusters without KEDA.",
		Run: scalers,
	},
}

// tolerance is how far above its target a metric may be before the controller
// scales: --horizontal-pod-autoscaler-tolerance.
const tolerance = 0.1

// warming is how long an autoscaler may have no metrics: pods start, and the
// first two samples come.
const warming = 3 * time.Minute

func autoscalers(c *Cluster, found func(Problem)) {
	for _, h := range c.HPAs {
		e := entity("HorizontalPodAutoscaler", h)
		if c.age(h.CreationTimestamp) < warming {
			continue
		}
		target := h.Spec.ScaleTargetRef
		name := strings.ToLower(target.Kind) + " " + target.Name
		p := Problem{Entity: e, Root: e, Urgency: event.Broken, Severity: event.Warning, Seen: []string{fmt.Sprintf("scaleTargetRef %s %s, replicas %d of %d to %d", target.Kind, target.Name, h.Status.CurrentReplicas, minimum(h), h.Spec.MaxReplicas)}}
		for i := range h.Status.Conditions {
			k := &h.Status.Conditions[i]
			p.Seen = append(p.Seen, fmt.Sprintf("condition %s=%s %s: %s", k.Type, k.Status, k.Reason, k.Message))
		}
		p.Next = []event.Check{describe(e, "its conditions and events")}
		if c.targetMissing(h) {
			p.State, p.Title = true, fmt.Sprintf("cannot scale: its target %s does not exist", name)
			p.Next = append([]event.Check{{Why: "what there is to scale", Command: kubectl(h.Namespace, "get deployments,statefulsets")}}, p.Next...)
			found(p)
			continue
		}
		able, ok := condition(h.Status.Conditions, autoscalingv2.AbleToScale)
		if able.Status == corev1.ConditionFalse && c.age(able.LastTransitionTime) > stalled {
			p.State, p.Since, p.Detail = true, able.LastTransitionTime.Time, able.Message
			p.Title = "cannot scale"
			p.Brief = oneLine(able.Message, 140)
			if strings.Contains(able.Message, "no matches for kind") {
				p.Title, p.Brief = fmt.Sprintf("cannot scale: its target is a %s, which the cluster does not know", target.Kind), ""
			}
			found(p)
			continue
		}
		active, _ := condition(h.Status.Conditions, autoscalingv2.ScalingActive)
		without := c.withoutRequests(h)
		switch {
		case active.Status == corev1.ConditionFalse && active.Reason != "ScalingDisabled" && c.age(active.LastTransitionTime) > stalled:
			p.State, p.Since, p.Detail = true, active.LastTransitionTime.Time, active.Message
			p.Title, p.Brief = fmt.Sprintf("does not scale %s", name), oneLine(active.Message, 140)
			if without != "" {
				p.Brief = without
				p.Next = append([]event.Check{{Why: "requests of its containers", Command: kubectl(h.Namespace, "get %s %s -o yaml", strings.ToLower(target.Kind), target.Name)}}, p.Next...)
			} else if strings.Contains(active.Message, "metrics API") {
				p.Next = append([]event.Check{{Why: "is the metrics API served?", Command: "kubectl get apiservices"}}, p.Next...)
			}
			found(p)
			continue
		case without != "":
			p.Urgency, p.Title = event.Soon, "scales on what is not requested: "+without
			found(p)
		}
		if limited, at := condition(h.Status.Conditions, autoscalingv2.ScalingLimited); at && limited.Reason == "TooManyReplicas" && h.Status.CurrentReplicas >= h.Spec.MaxReplicas && h.Spec.MaxReplicas > minimum(h) {
			if above := over(h); above != "" {
				most := p
				most.State, most.Urgency, most.Since = true, event.Soon, limited.LastTransitionTime.Time
				most.Title, most.Brief = fmt.Sprintf("%s is at its maximum of %d", name, h.Spec.MaxReplicas), above
				found(most)
			}
			continue
		}
		if ok && h.Status.DesiredReplicas != h.Status.CurrentReplicas && h.Status.LastScaleTime != nil && c.age(*h.Status.LastScaleTime) > standing {
			p.State, p.Urgency, p.Since = true, event.Soon, h.Status.LastScaleTime.Time
			p.Title = fmt.Sprintf("%s has %d replicas, and it wants %d", name, h.Status.CurrentReplicas, h.Status.DesiredReplicas)
			p.Next = append([]event.Check{{Why: "why they do not come", Command: kubectl(h.Namespace, "describe %s %s", strings.ToLower(target.Kind), target.Name)}}, p.Next...)
			found(p)
		}
	}
}

func minimum(h *autoscalingv2.HorizontalPodAutoscaler) int32 {
	if h.Spec.MinReplicas == nil {
		return 1
	}
	return *h.Spec.MinReplicas
}

// targetMissing says whether a target of a kind that was read is not there.
func (c *Cluster) targetMissing(h *autoscalingv2.HorizontalPodAutoscaler) bool {
	switch r := h.Spec.ScaleTargetRef; {
	case r.Kind == "Deployment" && strings.HasPrefix(r.APIVersion, "apps/"):
		return !c.exists("deployments", h.Namespace, r.Name)
	case r.Kind == "StatefulSet" && strings.HasPrefix(r.APIVersion, "apps/"):
		return !c.exists("statefulsets", h.Namespace, r.Name)
	}
	return false
}

// withoutRequests names a container of the target without a request for the
// resource whose utilization the autoscaler goes by.
func (c *Cluster) withoutRequests(h *autoscalingv2.HorizontalPodAutoscaler) string {
	r := h.Spec.ScaleTargetRef
	root := event.Entity{Namespace: h.Namespace, Kind: r.Kind, Name: r.Name}
	if len(c.pods[root]) == 0 {
		return ""
	}
	spec := &c.pods[root][0].Spec // and not the template: admission may have added requests
	for _, m := range h.Spec.Metrics {
		var resource corev1.ResourceName
		only := ""
		switch {
		case m.Resource != nil && m.Resource.Target.Type == autoscalingv2.UtilizationMetricType:
			resource = m.Resource.Name
		case m.ContainerResource != nil && m.ContainerResource.Target.Type == autoscalingv2.UtilizationMetricType:
			resource, only = m.ContainerResource.Name, m.ContainerResource.Container
		default:
			continue
		}
		if spec.Resources != nil {
			if q := spec.Resources.Requests[resource]; !q.IsZero() {
				continue
			}
		}
		for i := range spec.Containers {
			k := &spec.Containers[i]
			if q := k.Resources.Requests[resource]; (only == "" || only == k.Name) && q.IsZero() {
				return fmt.Sprintf("container %s has no %s request", k.Name, resource)
			}
		}
	}
	return ""
}

// over says which metric is above its target, by more than is tolerated; "" when
// none is, or when their values are not known.
func over(h *autoscalingv2.HorizontalPodAutoscaler) string {
	current := map[string]*autoscalingv2.MetricValueStatus{}
	for i := range h.Status.CurrentMetrics {
		if name, v := measured(&h.Status.CurrentMetrics[i]); v != nil {
			current[name] = v
		}
	}
	for i := range h.Spec.Metrics {
		name, t := wished(&h.Spec.Metrics[i])
		v := current[name]
		switch {
		case t == nil || v == nil:
		case t.AverageUtilization != nil && v.AverageUtilization != nil:
			if float64(*v.AverageUtilization) > float64(*t.AverageUtilization)*(1+tolerance) {
				return fmt.Sprintf("%s is at %d %%, its target is %d %%", name, *v.AverageUtilization, *t.AverageUtilization)
			}
		case t.AverageValue != nil && v.AverageValue != nil:
			if v.AverageValue.AsApproximateFloat64() > t.AverageValue.AsApproximateFloat64()*(1+tolerance) {
				return fmt.Sprintf("%s is at %s, its target is %s", name, v.AverageValue, t.AverageValue)
			}
		case t.Value != nil && v.Value != nil:
			if v.Value.AsApproximateFloat64() > t.Value.AsApproximateFloat64()*(1+tolerance) {
				return fmt.Sprintf("%s is at %s, its target is %s", name, v.Value, t.Value)
			}
		}
	}
	return ""
}

func measured(m *autoscalingv2.MetricStatus) (string, *autoscalingv2.MetricValueStatus) {
	switch {
	case m.Resource != nil:
		return string(m.Resource.Name), &m.Resource.Current
	case m.ContainerResource != nil:
		return string(m.ContainerResource.Name) + " of " + m.ContainerResource.Container, &m.ContainerResource.Current
	case m.Pods != nil:
		return m.Pods.Metric.Name, &m.Pods.Current
	case m.Object != nil:
		return m.Object.Metric.Name, &m.Object.Current
	case m.External != nil:
		return m.External.Metric.Name, &m.External.Current
	}
	return "", nil
}

func wished(m *autoscalingv2.MetricSpec) (string, *autoscalingv2.MetricTarget) {
	switch {
	case m.Resource != nil:
		return string(m.Resource.Name), &m.Resource.Target
	case m.ContainerResource != nil:
		return string(m.ContainerResource.Name) + " of " + m.ContainerResource.Container, &m.ContainerResource.Target
	case m.Pods != nil:
		return m.Pods.Metric.Name, &m.Pods.Target
	case m.Object != nil:
		return m.Object.Metric.Name, &m.Object.Target
	case m.External != nil:
		return m.External.Metric.Name, &m.External.Target
	}
	return "", nil
}

func scalers(c *Cluster, found func(Problem)) {
	for _, o := range c.Scalers {
		e := event.Entity{Namespace: text(o, "metadata", "namespace"), Kind: text(o, "kind"), Name: text(o, "metadata", "name")}
		made, err := time.Parse(time.RFC3339, text(o, "metadata", "creationTimestamp"))
		if err != nil || c.Now.Sub(made) < warming {
			continue
		}
		for _, k := range objects(o, "status", "conditions") {
			p := Problem{
				Entity: e, Root: e, State: true, Brief: oneLine(text(k, "message"), 140), Detail: text(k, "message"), Next: []event.Check{describe(e, "its triggers, conditions and events")},
				Seen: []string{fmt.Sprintf("condition %s=%s %s: %s", text(k, "type"), text(k, "status"), text(k, "reason"), text(k, "message"))},
			}
			switch text(k, "type") + "=" + text(k, "status") {
			case "Ready=False":
				p.Urgency, p.Severity, p.Title = event.Broken, event.Warning, "does not scale"
			case "Fallback=True":
				p.Urgency, p.Title = event.Soon, "falls back to a fixed size, since its trigger fails"
			case "Paused=True":
				p.Urgency, p.Title, p.Brief = event.Hygiene, "paused", ""
			default:
				continue
			}
			found(p)
		}
	}
}
