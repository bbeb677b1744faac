package evidence

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

// Answers makes the answers to questions about Kubernetes of objects that were
// read already, as decoded JSON of the API. They are reduced and redacted here.
type Answers struct{ Redact Redactor }

func (a Answers) reduce(o object) object { return kube.Reduce(o, a.Redact.Line) }

// Object answers "object KIND NAMESPACE/NAME". The object has to say its kind.
func (a Answers) Object(q Query, o map[string]any) event.Evidence {
	o = a.reduce(o)
	e := newAnswer(q)
	e.Values = map[string]any{"object": o}
	if body, err := json.Marshal(o); err != nil || len(body) > maxValues {
		meta := child(o, "metadata")
		e.Values, e.Truncated = map[string]any{"object": object{"kind": o["kind"], "metadata": object{"name": meta["name"], "namespace": meta["namespace"]}, "status": o["status"]}}, true
	}
	e.Excerpt = statusLines(o)
	return seal(e)
}

// Pods answers "pods NAMESPACE KIND/NAME". Truncated says that there are more
// pods than these.
func (a Answers) Pods(q Query, pods []map[string]any, truncated bool) event.Evidence {
	pods = slices.Clone(pods)
	// The least ready first, so that a cut list keeps what matters.
	slices.SortStableFunc(pods, func(a, b object) int {
		return cmp.Or(readyRank(a)-readyRank(b), strings.Compare(text(child(a, "metadata"), "name"), text(child(b, "metadata"), "name")))
	})
	e := newAnswer(q)
	e.Truncated = truncated
	e.Values = map[string]any{"count": float64(len(pods))}
	e.Excerpt = []string{tally(pods)}
	if n := q.limit(); len(pods) > n {
		pods, e.Truncated = pods[:n], true
	}
	items, size := []any{}, 0
	for _, p := range pods {
		p = a.reduce(p)
		body, err := json.Marshal(p)
		if size += len(body); err != nil || size > maxValues {
			e.Truncated = true
			break
		}
		items = append(items, p)
		status := child(p, "status")
		line := fmt.Sprintf("%s %s node=%v", text(child(p, "metadata"), "name"), text(status, "phase"), orDash(child(p, "spec")["nodeName"]))
		if r := text(status, "reason"); r != "" {
			line += " " + r
		}
		e.Excerpt = append(e.Excerpt, line)
		for _, c := range containerLines(p) {
			e.Excerpt = append(e.Excerpt, "  "+c)
		}
	}
	e.Values["items"] = items
	return seal(e)
}

// Events answers "events NAMESPACE KIND/NAME".
func (a Answers) Events(q Query, found []event.KubeEvent, truncated bool) event.Evidence {
	found = slices.Clone(found)
	slices.SortStableFunc(found, func(a, b event.KubeEvent) int {
		return cmp.Or(a.Time().Compare(b.Time()), strings.Compare(a.Metadata.UID, b.Metadata.UID))
	})
	e := newAnswer(q)
	e.Truncated = truncated
	e.Values = map[string]any{"count": float64(len(found))}
	if n := q.limit(); len(found) > n {
		found, e.Truncated = found[len(found)-n:], true
	}
	items := []any{}
	for _, ev := range found {
		ev.Message = clip(a.Redact.Line(ev.Message), 1024)
		body, err := json.Marshal(ev)
		var o object
		if err != nil || json.Unmarshal(body, &o) != nil {
			e.Truncated = true // a time that JSON cannot write
			continue
		}
		e.Excerpt = append(e.Excerpt, fmt.Sprintf("%s %s %s %s/%s x%d: %s", ev.Time().Format(time.RFC3339), ev.Type, ev.Reason, ev.InvolvedObject.Kind, ev.InvolvedObject.Name, ev.Occurrences(), ev.Message))
		items = append(items, o)
	}
	e.Values["items"] = items
	return seal(e)
}

// statusLines say the state of an object in a few lines, the way kubectl
// describe does.
func statusLines(o object) []string {
	var out []string
	meta := child(o, "metadata")
	name := text(meta, "name")
	if ns := text(meta, "namespace"); ns != "" {
		name = ns + "/" + name
	}
	head := fmt.Sprintf("%v %s", o["kind"], name)
	if at := text(meta, "creationTimestamp"); at != "" {
		head += " created " + at
	}
	out = append(out, head)
	status := child(o, "status")
	for _, key := range []string{"phase", "reason", "message", "replicas", "readyReplicas", "updatedReplicas", "unavailableReplicas", "desiredNumberScheduled", "numberReady", "currentReplicas", "desiredReplicas", "failed", "succeeded", "active"} {
		if v, ok := status[key]; ok {
			out = append(out, fmt.Sprintf("%s: %v", key, v))
		}
	}
	for _, c := range children(status, "conditions") {
		line := fmt.Sprintf("condition %v=%v", c["type"], c["status"])
		if r, ok := c["reason"]; ok {
			line += fmt.Sprintf(" %v", r)
		}
		if m, _ := c["message"].(string); m != "" {
			line += ": " + clip(m, 300)
		}
		if t, ok := c["lastTransitionTime"]; ok {
			line += fmt.Sprintf(" since %v", t)
		}
		out = append(out, line)
	}
	return append(out, containerLines(o)...)
}

// containerLines say how the containers of a pod are, and within which image
// and limits they run.
func containerLines(pod object) []string {
	var out []string
	spec, status := child(pod, "spec"), child(pod, "status")
	for _, list := range [][2]string{{"initContainerStatuses", "initContainers"}, {"containerStatuses", "containers"}} {
		for _, c := range children(status, list[0]) {
			line := fmt.Sprintf("container %v ready=%v restarts=%v", c["name"], c["ready"], c["restartCount"])
			for _, want := range children(spec, list[1]) {
				if want["name"] != c["name"] {
					continue
				}
				if image := text(want, "image"); image != "" {
					line += " image=" + image
				}
				for _, resource := range []string{"memory", "cpu"} {
					if limit, ok := child(child(want, "resources"), "limits")[resource]; ok {
						line += fmt.Sprintf(" %s_limit=%v", resource, limit)
					}
				}
			}
			for _, which := range []string{"state", "lastState"} {
				for _, name := range []string{"waiting", "terminated", "running"} {
					s, ok := child(c, which)[name].(object)
					if !ok {
						continue
					}
					line += " " + which + "=" + name
					for _, key := range []string{"reason", "exitCode", "signal", "startedAt", "finishedAt"} {
						if v, ok := s[key]; ok {
							line += fmt.Sprintf(" %s=%v", key, v)
						}
					}
					if m, _ := s["message"].(string); m != "" {
						line += ": " + clip(m, 300)
					}
				}
			}
			out = append(out, line)
		}
	}
	return out
}

func readyRank(pod object) int {
	for _, c := range children(child(pod, "status"), "conditions") {
		if c["type"] == "Ready" && c["status"] == "True" {
			return 1
		}
	}
	return 0
}
