package evidence

import (
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
	c *kube.Client
	Answers
}

// NewKubernetes answers the grammar of [Query] about one cluster.
func NewKubernetes(c *kube.Client, redact Redactor) Retriever { return kubernetes{c, Answers{redact}} }

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
	return Failed(q, k.Redact.Line(kube.Reason(err))), nil
}

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
	return k.Object(q, o), nil
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
	return k.Pods(q, pods, truncated), nil
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
	return k.Events(q, found, truncated), nil
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
			e.Excerpt = append(e.Excerpt, k.Redact.Line(line))
			continue
		}
		if !q.End.IsZero() && at.After(q.End) {
			continue
		}
		e.Excerpt = append(e.Excerpt, at.UTC().Format("2006-01-02T15:04:05.000Z")+" "+k.Redact.Line(rest))
	}
	e.Values = map[string]any{"count": float64(len(e.Excerpt))}
	return seal(newest(e)), nil
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
