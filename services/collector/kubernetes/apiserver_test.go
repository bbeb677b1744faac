package kubernetes

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

type object = map[string]any

// apiServer is a Kubernetes API server as far as list and watch go, with
// faults.
type apiServer struct {
	*httptest.Server
	mu        sync.Mutex
	rv        int
	compacted int
	objects   map[string]map[string]object // by resource and namespace/name
	log       []entry
	changed   chan struct{} // closed at every change
	cuts      chan struct{} // closed to cut all watches
	forbidden map[string]bool
	busy      map[string]int // lists still to be answered with 429
	down      bool
	requests  []seen
	refused   []string // requests that were no GET
}

type entry struct {
	rv       int
	resource string
	typ      string
	object   object
}

type seen struct {
	path  string
	watch bool
	at    time.Time
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{rv: 100, objects: map[string]map[string]object{}, changed: make(chan struct{}), cuts: make(chan struct{}), forbidden: map[string]bool{}, busy: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() { s.cut(); s.Close() })
	return s
}

func (s *apiServer) client(t *testing.T, audit func(event.Audit)) *kube.Client {
	t.Helper()
	c, err := kube.NewForConfig(&rest.Config{Host: s.URL, QPS: 1000, Burst: 1000}, kube.Settings{Service: "test", Audit: audit})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// put adds or changes an object and returns its resource version.
func (s *apiServer) put(resource string, o object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rv++
	body, _ := json.Marshal(o)
	var c object
	_ = json.Unmarshal(body, &c)
	meta := c["metadata"].(object)
	meta["resourceVersion"] = strconv.Itoa(s.rv)
	if meta["uid"] == nil {
		meta["uid"] = "uid-" + resource + "-" + fmt.Sprint(meta["name"])
	}
	key := fmt.Sprint(meta["namespace"], "/", meta["name"])
	typ := "ADDED"
	if _, ok := s.objects[resource][key]; ok {
		typ = "MODIFIED"
	}
	if s.objects[resource] == nil {
		s.objects[resource] = map[string]object{}
	}
	s.objects[resource][key] = c
	s.record(entry{s.rv, resource, typ, c})
}

func (s *apiServer) drop(resource, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rv++
	o := s.objects[resource][key]
	delete(s.objects[resource], key)
	s.record(entry{s.rv, resource, "DELETED", o})
}

func (s *apiServer) record(e entry) {
	s.log = append(s.log, e)
	close(s.changed)
	s.changed = make(chan struct{})
}

// cut ends every watch.
func (s *apiServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.cuts)
	s.cuts = make(chan struct{})
}

// compact forgets history, so that a watch from before gets 410 Gone.
func (s *apiServer) compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rv++
	s.compacted, s.log = s.rv, nil
}

func (s *apiServer) serve(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	resource := parts[len(parts)-1]
	q := r.URL.Query()
	s.mu.Lock()
	s.requests = append(s.requests, seen{r.URL.Path, q.Get("watch") != "", time.Now()})
	if r.Method != http.MethodGet {
		s.refused = append(s.refused, r.Method+" "+r.URL.Path)
	}
	down, forbidden := s.down, s.forbidden[resource]
	busy := q.Get("watch") == "" && s.busy[resource] > 0
	if busy {
		s.busy[resource]--
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case down:
		fail(w, 503, "ServiceUnavailable", "apiserver is shutting down")
	case forbidden:
		fail(w, 403, "Forbidden", resource+` is forbidden: User "oncall" cannot list resource`)
	case busy:
		w.Header().Set("Retry-After", "1")
		fail(w, 429, "TooManyRequests", "too many requests")
	case q.Get("sendInitialEvents") != "":
		fail(w, 422, "Invalid", "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
	case q.Get("watch") != "":
		s.watch(w, r, resource)
	default:
		s.list(w, resource)
	}
}

func fail(w http.ResponseWriter, code int, reason, message string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(statusOf(code, reason, message))
}

func statusOf(code int, reason, message string) object {
	return object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}
}

var kinds = map[string][2]string{
	"events": {"v1", "Event"}, "pods": {"v1", "Pod"}, "nodes": {"v1", "Node"}, "namespaces": {"v1", "Namespace"}, "services": {"v1", "Service"}, "configmaps": {"v1", "ConfigMap"},
	"deployments": {"apps/v1", "Deployment"}, "replicasets": {"apps/v1", "ReplicaSet"}, "statefulsets": {"apps/v1", "StatefulSet"},
	"daemonsets": {"apps/v1", "DaemonSet"}, "controllerrevisions": {"apps/v1", "ControllerRevision"}, "jobs": {"batch/v1", "Job"},
	"cronjobs": {"batch/v1", "CronJob"}, "horizontalpodautoscalers": {"autoscaling/v2", "HorizontalPodAutoscaler"},
}

func (s *apiServer) list(w http.ResponseWriter, resource string) {
	s.mu.Lock()
	items := []object{}
	for _, o := range s.objects[resource] {
		items = append(items, o)
	}
	body, _ := json.Marshal(object{
		"apiVersion": kinds[resource][0], "kind": kinds[resource][1] + "List",
		"metadata": object{"resourceVersion": strconv.Itoa(s.rv)}, "items": items,
	})
	s.mu.Unlock()
	_, _ = w.Write(body)
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, resource string) {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	s.mu.Lock()
	cuts := s.cuts
	s.mu.Unlock()
	enc, flush := json.NewEncoder(w), w.(http.Flusher).Flush
	flush()
	for {
		s.mu.Lock()
		gone := from < s.compacted
		var out []entry
		for _, e := range s.log {
			if e.rv > from && e.resource == resource {
				out = append(out, e)
			}
		}
		if s.rv > from {
			from = s.rv
		}
		changed := s.changed
		s.mu.Unlock()
		if gone {
			_ = enc.Encode(object{"type": "ERROR", "object": statusOf(410, "Expired", "too old resource version")})
			return
		}
		for _, e := range out {
			o := object{"apiVersion": kinds[resource][0], "kind": kinds[resource][1]}
			for k, v := range e.object {
				o[k] = v
			}
			_ = enc.Encode(object{"type": e.typ, "object": o})
		}
		flush()
		select {
		case <-r.Context().Done():
			return
		case <-cuts:
			return
		case <-changed:
		}
	}
}

// Objects of the stories below.

func metaOf(name string, created time.Time, owner ...string) object {
	m := object{"namespace": "shop", "name": name, "creationTimestamp": created.UTC().Format(time.RFC3339)}
	if len(owner) == 2 {
		m["ownerReferences"] = []any{object{"apiVersion": "apps/v1", "kind": owner[0], "name": owner[1], "uid": "u", "controller": true}}
	}
	return m
}

func replicaSet(name, owner string, revision int, created time.Time, image, memory string) object {
	m := metaOf(name, created, "Deployment", owner)
	m["annotations"] = object{"deployment.kubernetes.io/revision": strconv.Itoa(revision)}
	return object{"metadata": m, "spec": object{"replicas": 1, "selector": object{}, "template": object{
		"metadata": object{"labels": object{"app": owner}},
		"spec": object{"containers": []any{object{
			"name": "app", "image": image, "resources": object{"limits": object{"memory": memory}},
			"env":     []any{object{"name": "DB_PASSWORD", "value": "hunter2-" + image}},
			"envFrom": []any{object{"configMapRef": object{"name": owner + "-config"}}},
		}}},
	}}}
}

func deployment(name string, replicas, ready, generation int, created time.Time) object {
	m := metaOf(name, created)
	m["generation"] = generation
	m["labels"] = object{"team": "payments", "pod-secret": "do-not-tell"}
	return object{"metadata": m, "spec": object{"replicas": replicas, "selector": object{}, "template": object{}}, "status": object{"readyReplicas": ready}}
}

func podOf(name, owner, kind, node string, created time.Time) object {
	m := metaOf(name, created, kind, owner)
	m["labels"] = object{"app": "checkout"}
	return object{"metadata": m, "spec": object{"nodeName": node, "containers": []any{}}, "status": object{
		"phase": "Running", "conditions": []any{object{"type": "Ready", "status": "True"}},
	}}
}

func kubeEvent(name, pod, reason string, at time.Time) object {
	return object{
		"metadata":       object{"namespace": "shop", "name": name, "uid": "uid-" + name, "creationTimestamp": at.UTC().Format(time.RFC3339)},
		"involvedObject": object{"kind": "Pod", "namespace": "shop", "name": pod},
		"reason":         reason, "message": "it happened with password=hunter2", "type": "Warning",
		"eventTime": at.UTC().Format("2006-01-02T15:04:05.000000Z07:00"), "count": 0,
	}
}
