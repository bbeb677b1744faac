package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Right is one thing that may be asked of the API server.
type Right struct {
	Verb        string `json:"verb"`
	Group       string `json:"group,omitempty"`
	Resource    string `json:"resource"`
	Subresource string `json:"subresource,omitempty"`
	Namespace   string `json:"namespace,omitempty"` // "" for all namespaces
}

// String is the right as kubectl auth can-i writes it.
func (r Right) String() string {
	s := r.Verb + " " + r.Resource
	if r.Group != "" {
		s += "." + r.Group
	}
	if r.Subresource != "" {
		s += "/" + r.Subresource
	}
	if r.Namespace != "" {
		s += " -n " + r.Namespace
	}
	return s
}

// watched are the resources that the collector lists and watches; those that
// its look-ups list are among them.
var watched = []Right{
	{Resource: "configmaps"},
	{Resource: "events"},
	{Resource: "namespaces"},
	{Resource: "nodes"},
	{Resource: "pods"},
	{Resource: "services"},
	{Group: "apps", Resource: "controllerrevisions"},
	{Group: "apps", Resource: "daemonsets"},
	{Group: "apps", Resource: "deployments"},
	{Group: "apps", Resource: "replicasets"},
	{Group: "apps", Resource: "statefulsets"},
	{Group: "autoscaling", Resource: "horizontalpodautoscalers"},
	{Group: "batch", Resource: "cronjobs"},
	{Group: "batch", Resource: "jobs"},
}

// Needed are the rights that the collector uses, nothing more: to list and
// watch what it follows, to get an object of any kind that may be looked up, and
// to read the end of a container's log.
func Needed() []Right {
	var out []Right
	for _, r := range watched {
		for _, verb := range []string{"list", "watch"} {
			r.Verb = verb
			out = append(out, r)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(kinds)) {
		k := kinds[key]
		group := ""
		if parts := strings.Split(k.Path, "/"); parts[1] == "apis" {
			group = parts[2]
		}
		out = append(out, Right{Verb: "get", Group: group, Resource: k.Plural})
	}
	return append(out, Right{Verb: "get", Resource: "pods", Subresource: "log"})
}

// Reviewer asks the API server what the caller may do. It is for the CLI
// alone: asking is a create of a SelfSubjectAccessReview, which stores nothing.
type Reviewer struct{ c *Client }

// NewReviewer makes a Reviewer.
func NewReviewer(cfg Config, set Settings) (*Reviewer, error) {
	rc, err := restConfig(cfg)
	if err != nil {
		return nil, err
	}
	c, err := newClient(rc, cfg, set, reviewOnly)
	if err != nil {
		return nil, err
	}
	return &Reviewer{c}, nil
}

const reviewPath = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

func reviewOnly(method, path string, upgrade bool) string {
	if method == http.MethodPost && path == reviewPath && !upgrade {
		return ""
	}
	return "a reviewer asks for its own rights and nothing else"
}

// Allowed says whether the caller has a right, and the API server's reason.
func (r *Reviewer) Allowed(ctx context.Context, right Right) (ok bool, reason string, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.c.timeout)
	defer cancel()
	if err := r.c.config.RateLimiter.Wait(ctx); err != nil {
		return false, "", fmt.Errorf("kubernetes: may I %s: %w", right, err)
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
		"spec": map[string]any{"resourceAttributes": map[string]any{
			"verb": right.Verb, "group": right.Group, "resource": right.Resource, "subresource": right.Subresource, "namespace": right.Namespace,
		}},
	})
	if err != nil {
		return false, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.c.raw.Get().AbsPath(reviewPath).URL().String(), bytes.NewReader(body))
	if err != nil {
		return false, "", fmt.Errorf("kubernetes: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	res, err := r.c.http.Do(req)
	if err != nil {
		return false, "", fmt.Errorf("kubernetes: may I %s: %w", right, err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return false, "", fmt.Errorf("kubernetes: may I %s: %w", right, err)
	}
	if res.StatusCode/100 != 2 {
		return false, "", fmt.Errorf("kubernetes: may I %s: answered %s: %s", right, res.Status, short(strings.TrimSpace(string(answer))))
	}
	var said struct {
		Status struct {
			Allowed bool   `json:"allowed"`
			Reason  string `json:"reason"`
		} `json:"status"`
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return false, "", fmt.Errorf("kubernetes: may I %s: answer: %w", right, err)
	}
	return said.Status.Allowed, said.Status.Reason, nil
}
