package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// resource is where objects of a kind live in the API.
type resource struct {
	path       string // /apis/apps/v1
	plural     string
	namespaced bool
}

// Apply applies YAML documents as the server sees fit, as kubectl apply
// --server-side does.
func (c *Cluster) Apply(ctx context.Context, manifests string) error {
	return c.apply(ctx, manifests, "", "")
}

// ApplyStatus applies the status of YAML documents, as controllers and kubelets
// write it; documents without one are passed over.
func (c *Cluster) ApplyStatus(ctx context.Context, manifests string) error {
	return c.apply(ctx, manifests, "/status", "")
}

// DryRun has the API server judge YAML documents without keeping them.
func (c *Cluster) DryRun(ctx context.Context, manifests string) error {
	return c.apply(ctx, manifests, "", "&dryRun=All")
}

func (c *Cluster) apply(ctx context.Context, manifests, subresource, params string) error {
	dec := yaml.NewDecoder(strings.NewReader(manifests))
	for {
		var doc map[string]any
		if err := dec.Decode(&doc); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("apply: %w", err)
		}
		if doc == nil || subresource == "/status" && doc["status"] == nil {
			continue
		}
		path, err := c.path(ctx, doc)
		if err != nil {
			return err
		}
		body, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		if err := c.do(ctx, http.MethodPatch, path+subresource+"?fieldManager=testbed&force=true"+params, "application/apply-patch+yaml", body, nil); err != nil {
			return err
		}
	}
}

// path is the address of an object.
func (c *Cluster) path(ctx context.Context, doc map[string]any) (string, error) {
	version, _ := doc["apiVersion"].(string)
	kind, _ := doc["kind"].(string)
	meta, _ := doc["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	namespace, _ := meta["namespace"].(string)
	r, err := c.resource(ctx, version, kind)
	if err != nil {
		return "", err
	}
	if !r.namespaced {
		return r.path + "/" + r.plural + "/" + name, nil
	}
	if namespace == "" {
		namespace = "default"
	}
	return r.path + "/namespaces/" + namespace + "/" + r.plural + "/" + name, nil
}

func (c *Cluster) resource(ctx context.Context, version, kind string) (resource, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.kinds[version+" "+kind]; ok {
		return r, nil
	}
	path := "/apis/" + version
	if version == "v1" {
		path = "/api/v1"
	}
	var list struct {
		Resources []struct {
			Name, Kind string
			Namespaced bool
		}
	}
	if err := c.Get(ctx, path, &list); err != nil {
		return resource{}, err
	}
	for _, r := range list.Resources {
		if !strings.Contains(r.Name, "/") {
			c.kinds[version+" "+r.Kind] = resource{path, r.Name, r.Namespaced}
		}
	}
	r, ok := c.kinds[version+" "+kind]
	if !ok {
		return resource{}, fmt.Errorf("apply: the API server knows no kind %s in %s", kind, version)
	}
	return r, nil
}

// Get reads a path of the API.
func (c *Cluster) Get(ctx context.Context, path string, into any) error {
	return c.do(ctx, http.MethodGet, path, "", nil, into)
}

// Patch merges JSON into an object.
func (c *Cluster) Patch(ctx context.Context, path, patch string) error {
	return c.do(ctx, http.MethodPatch, path, "application/merge-patch+json", []byte(patch), nil)
}

// TryPatch has the API server judge a strategic merge patch, which is what kubectl
// patch sends, without keeping it.
func (c *Cluster) TryPatch(ctx context.Context, path, patch string) error {
	return c.do(ctx, http.MethodPatch, path+"?dryRun=All", "application/strategic-merge-patch+json", []byte(patch), nil)
}

// Create posts JSON to a collection.
func (c *Cluster) Create(ctx context.Context, path string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, path, "application/json", b, nil)
}

// Ask posts a review, of which the API server keeps nothing, and reads the answer.
func (c *Cluster) Ask(ctx context.Context, path string, review, answer any) error {
	b, err := json.Marshal(review)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, path, "application/json", b, answer)
}

// Delete deletes an object; one that is not there is no error.
func (c *Cluster) Delete(ctx context.Context, path string) error {
	err := c.do(ctx, http.MethodDelete, path, "", nil, nil)
	if e, ok := errors.AsType[*StatusError](err); ok && e.Code == http.StatusNotFound {
		return nil
	}
	return err
}

// StatusError is a refusal of the API server.
type StatusError struct {
	Code    int
	Method  string
	Path    string
	Message string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: %d: %s", e.Method, e.Path, e.Code, e.Message)
}

func (c *Cluster) do(ctx context.Context, method, path, contentType string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("Accept", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		var status struct{ Message string }
		_ = json.Unmarshal(answer, &status)
		return &StatusError{res.StatusCode, method, path, status.Message}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// Wait polls a condition of the cluster until it holds, for two minutes at
// most.
func (c *Cluster) Wait(ctx context.Context, what string, cond func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("not within 2m"))
	defer cancel()
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		ok, err := cond(ctx)
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, errors.Join(context.Cause(ctx), err))
		case <-t.C:
		}
	}
}
