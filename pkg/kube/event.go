package kube

import (
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// EventOf is a Kubernetes event as it is published, not yet redacted and
// without its workload.
func EventOf(e *corev1.Event) event.KubeEvent {
	out := event.KubeEvent{
		Metadata: event.KubeMeta{
			Name: e.Name, Namespace: e.Namespace, UID: string(e.UID), ResourceVersion: e.ResourceVersion, CreationTimestamp: e.CreationTimestamp.UTC(),
		},
		InvolvedObject: event.KubeRef{
			APIVersion: e.InvolvedObject.APIVersion, Kind: e.InvolvedObject.Kind, Namespace: e.InvolvedObject.Namespace,
			Name: e.InvolvedObject.Name, UID: string(e.InvolvedObject.UID), FieldPath: e.InvolvedObject.FieldPath,
		},
		Reason: e.Reason, Message: e.Message, Type: e.Type,
		Source:         event.KubeSource{Component: e.Source.Component, Host: e.Source.Host},
		FirstTimestamp: utc(e.FirstTimestamp), LastTimestamp: utc(e.LastTimestamp), EventTime: utc(metav1.Time(e.EventTime)),
		Count: int(e.Count), Action: e.Action, ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
	}
	if e.Series != nil {
		out.Series = &event.EventSeries{Count: int(e.Series.Count), LastObservedTime: utc(metav1.Time(e.Series.LastObservedTime))}
	}
	return out
}

func utc(t metav1.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// newEvent is the shape of events.k8s.io, where it differs from core/v1's.
type newEvent struct {
	APIVersion      string            `json:"apiVersion"`
	Regarding       *event.KubeRef    `json:"regarding"`
	Note            string            `json:"note"`
	Reporting       string            `json:"reportingController"`
	OldSource       *event.KubeSource `json:"deprecatedSource"`
	OldFirst        time.Time         `json:"deprecatedFirstTimestamp"`
	OldLast         time.Time         `json:"deprecatedLastTimestamp"`
	OldCount        int               `json:"deprecatedCount"`
	ReportingCompat string            `json:"reportingComponent"`
}

// ParseEvent reads an event from JSON in the shape of core/v1 or of
// events.k8s.io, as the API and event exporters write it. An event that is
// about nothing is an error.
func ParseEvent(data []byte) (event.KubeEvent, error) {
	var out event.KubeEvent
	if err := json.Unmarshal(data, &out); err != nil {
		return event.KubeEvent{}, fmt.Errorf("kubernetes event: %w", err)
	}
	var n newEvent
	if err := json.Unmarshal(data, &n); err != nil {
		return event.KubeEvent{}, fmt.Errorf("kubernetes event: %w", err)
	}
	if n.Regarding != nil {
		out.InvolvedObject = *n.Regarding
		out.Message = n.Note
		out.ReportingController = n.Reporting
		out.FirstTimestamp, out.LastTimestamp, out.Count = n.OldFirst, n.OldLast, n.OldCount
		if n.OldSource != nil {
			out.Source = *n.OldSource
		}
	}
	if out.ReportingController == "" {
		out.ReportingController = n.Reporting
	}
	out.Workload = event.Entity{} // ours to say, never the sender's
	if out.InvolvedObject.Kind == "" || out.InvolvedObject.Name == "" {
		return event.KubeEvent{}, fmt.Errorf("kubernetes event %q is about nothing: involvedObject and regarding are empty", out.Metadata.Name)
	}
	if out.Metadata.UID == "" {
		return event.KubeEvent{}, fmt.Errorf("kubernetes event %q has no uid", out.Metadata.Name)
	}
	return out, nil
}
