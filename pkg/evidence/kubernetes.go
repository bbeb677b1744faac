package evidence

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

type kubernetes struct {
	c      *kube.Client
	redact Redactor
}

// NewKubernetes answers the grammar of [Query] about one cluster.
func NewKubernetes(c *kube.Client, redact Redactor) Retriever { return kubernetes{c, redact} }

// object is decoded JSON of the API.
type object = map[string]any

func (k kubernetes) Retrieve(ctx context.Context, q Query) (event.Evidence, error) {
	if err := q.Check(); err != nil {
		return event.Evidence{}, err
	}
	question, err := parseKube(q.Expr)
	if err != nil {
		return event.Evidence{}, err
	}
	askCtx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("no answer in %v", askTimeout))
	defer cancel()
	var e event.Evidence
	switch question.verb {
	case "object":
		e, err = k.object(askCtx, q, question)
	case "pods":
		e, err = k.pods(askCtx, q, question)
	case "events":
		e, err = k.events(askCtx, q, question)
	case "logs":
		e, err = k.logs(askCtx, q, question)
	}
	switch {
	case err == nil:
		return e, nil
	case ctx.Err() != nil:
		return event.Evidence{}, context.Cause(ctx)
	}
	return Failed(q, k.redact.Line(kube.Reason(err))), nil
}

func (k kubernetes) reduce(o object) object { return kube.Reduce(o, k.redact.Line) }

func (k kubernetes) get(ctx context.Context, kind, namespace, name string) (object, error) {
	kk, err := kube.KindOf(kind)
	if err != nil {
		return nil, err
	}
	var o object
	return o, k.c.Get(ctx, kk.ObjectPath(namespace, name), nil, &o)
}

// list reads objects page by page, at most maxItemsRead of them. Items of a
// list do not say their kind, so it is added.
func (k kubernetes) list(ctx context.Context, kind, namespace string, params url.Values) (items []object, truncated bool, err error) {
	kk, err := kube.KindOf(kind)
	if err != nil {
		return nil, false, err
	}
	if params == nil {
		params = url.Values{}
	}
	params.Set("limit", "500")
	for {
		var page struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []object `json:"items"`
		}
		if err := k.c.Get(ctx, kk.ListPath(namespace), params, &page); err != nil {
			return nil, false, err
		}
		for _, o := range page.Items {
			o["kind"] = kk.Name
			items = append(items, o)
		}
		if page.Metadata.Continue == "" || len(items) >= maxItemsRead {
			return items, page.Metadata.Continue != "", nil
		}
		params.Set("continue", page.Metadata.Continue)
	}
}

func (k kubernetes) object(ctx context.Context, q Query, w kubeQuestion) (event.Evidence, error) {
	o, err := k.get(ctx, w.kind, w.namespace, w.name)
	if err != nil {
		return event.Evidence{}, err
	}
	o = k.reduce(o)
	text, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return event.Evidence{}, err
	}
	e := newAnswer(q)
	e.Values = map[string]any{"object": o}
	if len(text) > maxValues {
		e.Values, e.Truncated = map[string]any{"object": object{"kind": w.kind, "metadata": object{"name": w.name, "namespace": w.namespace}, "status": o["status"]}}, true
	}
	e.Excerpt = statusLines(o)
	return seal(e), nil
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

// podsOf reads the pods of a workload: by its selector, and for a CronJob by
// the names of its Jobs.
func (k kubernetes) podsOf(ctx context.Context, w kubeQuestion) (pods []object, truncated bool, err error) {
	switch w.kind {
	case "Pod":
		o, err := k.get(ctx, "Pod", w.namespace, w.name)
		return []object{o}, false, err
	case "Node":
		return k.list(ctx, "Pod", "", url.Values{"fieldSelector": {"spec.nodeName=" + w.name}})
	case "CronJob", "Rollout":
		via := map[string]string{"CronJob": "Job", "Rollout": "ReplicaSet"}[w.kind]
		owners, cut, err := k.list(ctx, via, w.namespace, nil)
		if err != nil {
			return nil, false, err
		}
		for _, o := range owners {
			if !ownedBy(o, w.kind, w.name) {
				continue
			}
			sel := selector(child(child(o, "spec"), "selector"))
			if sel == "" {
				continue
			}
			some, c, err := k.list(ctx, "Pod", w.namespace, url.Values{"labelSelector": {sel}})
			if err != nil {
				return nil, false, err
			}
			pods, cut = append(pods, some...), cut || c
			if len(pods) >= maxItemsRead {
				return pods, true, nil
			}
		}
		return pods, cut, nil
	}
	o, err := k.get(ctx, w.kind, w.namespace, w.name)
	if err != nil {
		return nil, false, err
	}
	raw := child(child(o, "spec"), "selector")
	if w.kind == "Service" {
		raw = object{"matchLabels": raw}
	}
	sel := selector(raw)
	if sel == "" {
		return nil, false, nil
	}
	return k.list(ctx, "Pod", w.namespace, url.Values{"labelSelector": {sel}})
}

func (k kubernetes) pods(ctx context.Context, q Query, w kubeQuestion) (event.Evidence, error) {
	pods, truncated, err := k.podsOf(ctx, w)
	if err != nil {
		return event.Evidence{}, err
	}
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
		p = k.reduce(p)
		body, err := json.Marshal(p)
		if err != nil {
			return event.Evidence{}, err
		}
		if size += len(body); size > maxValues {
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
	return seal(e), nil
}

func readyRank(pod object) int {
	for _, c := range children(child(pod, "status"), "conditions") {
		if c["type"] == "Ready" && c["status"] == "True" {
			return 1
		}
	}
	return 0
}

func (k kubernetes) events(ctx context.Context, q Query, w kubeQuestion) (event.Evidence, error) {
	var params url.Values
	if w.namespace == "" || w.kind == "Pod" {
		params = url.Values{"fieldSelector": {"involvedObject.kind=" + w.kind + ",involvedObject.name=" + w.name}}
	}
	list, truncated, err := k.list(ctx, "Event", w.namespace, params)
	if err != nil {
		return event.Evidence{}, err
	}
	owned := map[string]bool{w.kind + "/" + w.name: true}
	if params == nil {
		// That the owned objects cannot be read narrows the answer to those whose
		// names say whose they are.
		pods, _, err := k.podsOf(ctx, w)
		if err != nil && ctx.Err() != nil {
			return event.Evidence{}, err
		}
		for _, p := range pods {
			meta := child(p, "metadata")
			owned["Pod/"+text(meta, "name")] = true
			for _, o := range children(meta, "ownerReferences") {
				owned[text(o, "kind")+"/"+text(o, "name")] = true
			}
		}
	}
	var found []event.KubeEvent
	for _, o := range list {
		body, err := json.Marshal(o)
		if err != nil {
			return event.Evidence{}, err
		}
		ev, err := kube.ParseEvent(body)
		if err != nil {
			continue // it is about nothing
		}
		about := ev.InvolvedObject
		if !owned[about.Kind+"/"+about.Name] && !(params == nil && event.WorkloadOfPod(about.Name) == w.name && slices.Contains([]string{"Pod", "ReplicaSet", "Job"}, about.Kind)) &&
			!(about.Kind == "ReplicaSet" && params == nil && strings.HasPrefix(about.Name, w.name+"-") && !strings.Contains(strings.TrimPrefix(about.Name, w.name+"-"), "-")) {
			continue
		}
		if t := ev.Time(); !q.Start.IsZero() && t.Before(q.Start) || !q.End.IsZero() && t.After(q.End) {
			continue
		}
		found = append(found, ev)
	}
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
		ev.Message = k.redact.Line(clip(ev.Message, 1024))
		e.Excerpt = append(e.Excerpt, fmt.Sprintf("%s %s %s %s/%s x%d: %s", ev.Time().Format(time.RFC3339), ev.Type, ev.Reason, ev.InvolvedObject.Kind, ev.InvolvedObject.Name, ev.Occurrences(), ev.Message))
		body, err := json.Marshal(ev)
		if err != nil {
			return event.Evidence{}, err
		}
		var o object
		if err := json.Unmarshal(body, &o); err != nil {
			return event.Evidence{}, err
		}
		items = append(items, o)
	}
	e.Values["items"] = items
	return seal(e), nil
}

func (k kubernetes) logs(ctx context.Context, q Query, w kubeQuestion) (event.Evidence, error) {
	params := url.Values{"tailLines": {strconv.Itoa(q.limit())}, "limitBytes": {strconv.Itoa(maxLogBytes)}, "timestamps": {"true"}}
	if w.container != "" {
		params.Set("container", w.container)
	}
	if w.previous {
		params.Set("previous", "true")
	}
	if !q.Start.IsZero() {
		params.Set("sinceTime", q.Start.UTC().Format(time.RFC3339))
	}
	body, err := k.c.Log(ctx, w.namespace, w.name, params, maxLogBytes)
	if err != nil {
		return event.Evidence{}, err
	}
	e := newAnswer(q)
	e.Truncated = len(body) == maxLogBytes
	for line := range strings.Lines(strings.ToValidUTF8(string(body), "\uFFFD")) {
		line = strings.TrimRight(line, "\r\n")
		stamp, rest, ok := strings.Cut(line, " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if !ok || err != nil {
			e.Excerpt = append(e.Excerpt, k.redact.Line(line))
			continue
		}
		if !q.End.IsZero() && at.After(q.End) {
			continue
		}
		e.Excerpt = append(e.Excerpt, at.UTC().Format("2006-01-02T15:04:05.000Z")+" "+k.redact.Line(rest))
	}
	e.Values = map[string]any{"count": float64(len(e.Excerpt))}
	return seal(e), nil
}

func child(o object, key string) object {
	c, _ := o[key].(object)
	return c
}

func children(o object, key string) []object {
	list, _ := o[key].([]any)
	var out []object
	for _, e := range list {
		if m, ok := e.(object); ok {
			out = append(out, m)
		}
	}
	return out
}

func text(o object, key string) string {
	s, _ := o[key].(string)
	return s
}

func orDash(v any) any {
	if v == nil || v == "" {
		return "-"
	}
	return v
}

func ownedBy(o object, kind, name string) bool {
	for _, ref := range children(child(o, "metadata"), "ownerReferences") {
		if ref["kind"] == kind && ref["name"] == name {
			return true
		}
	}
	return false
}

// selector writes a LabelSelector as a query parameter; "" when it would
// select nothing, or everything.
func selector(s object) string {
	var parts []string
	for k, v := range child(s, "matchLabels") {
		parts = append(parts, fmt.Sprintf("%s=%v", k, v))
	}
	for _, e := range children(s, "matchExpressions") {
		values, _ := e["values"].([]any)
		list := make([]string, len(values))
		for i, v := range values {
			list[i] = fmt.Sprint(v)
		}
		switch e["operator"] {
		case "In":
			parts = append(parts, fmt.Sprintf("%v in (%s)", e["key"], strings.Join(list, ",")))
		case "NotIn":
			parts = append(parts, fmt.Sprintf("%v notin (%s)", e["key"], strings.Join(list, ",")))
		case "Exists":
			parts = append(parts, fmt.Sprint(e["key"]))
		case "DoesNotExist":
			parts = append(parts, fmt.Sprintf("!%v", e["key"]))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}
