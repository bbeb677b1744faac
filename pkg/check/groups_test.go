package check

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/oncall-copilot/oncall/pkg/kube"
)

// TestOnlyWhatIsServedIsListed counts what is asked of the groups that a cluster
// need not have.
func TestOnlyWhatIsServedIsListed(t *testing.T) {
	cases := map[string]struct {
		groups string // answer to /apis; "" refuses it
		want   []string
		unread []Unread
	}{
		"a cluster of Kubernetes alone pays no request": {groups: `{"name": "apps"}, {"name": "batch"}`},
		"a group that is served is listed in its preferred version, and no other": {
			groups: `{"name": "cilium.io", "preferredVersion": {"version": "v2"}}, {"name": "cert-manager.io", "preferredVersion": {"version": "v1"}}`,
			want:   []string{"/apis/cert-manager.io/v1/certificates", "/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies", "/apis/cilium.io/v2/ciliumnetworkpolicies"},
		},
		"where the server does not say, what has a version is tried, and the rest is told once": {
			want: []string{
				"/apis/cert-manager.io/v1/certificates", "/apis/gateway.networking.k8s.io/v1/gatewayclasses", "/apis/gateway.networking.k8s.io/v1/gateways",
				"/apis/gateway.networking.k8s.io/v1/grpcroutes", "/apis/gateway.networking.k8s.io/v1/httproutes", "/apis/keda.sh/v1alpha1/scaledobjects",
			},
			unread: []Unread{{"apis", "forbidden: forbidden: User \"u\" cannot get path \"/apis\""}},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var asked []string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if (listing{group: r.URL.Path[:strings.LastIndexByte(r.URL.Path, '/')]}).foreign() != "" {
					mu.Lock()
					defer mu.Unlock()
					asked = append(asked, r.URL.Path)
				}
				switch {
				case r.URL.Path == "/apis" && c.groups == "":
					w.WriteHeader(http.StatusForbidden)
					fmt.Fprint(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "forbidden: User \"u\" cannot get path \"/apis\""}`)
				case r.URL.Path == "/apis":
					fmt.Fprintf(w, `{"groups": [%s]}`, c.groups)
				default:
					fmt.Fprint(w, `{"metadata": {}, "items": []}`)
				}
			}))
			defer s.Close()
			client, err := kube.NewForConfig(&rest.Config{Host: s.URL, QPS: 1000, Burst: 1000}, kube.Settings{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := Read(t.Context(), client, "", noon)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(asked)
			if !slices.Equal(asked, c.want) {
				t.Errorf("asked %q, want %q", asked, c.want)
			}
			if !slices.Equal(got.Unread, c.unread) {
				t.Errorf("not read: %+v, want %+v", got.Unread, c.unread)
			}
		})
	}
}
