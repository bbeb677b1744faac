// Package kube is read-only access to one Kubernetes cluster.
//
// Every request of a [Client] passes a guard right before the network that lets
// only get, list and watch through, never a Secret and never a subresource that
// reaches into a container. What leaves a cluster is reduced first: [Reduce]
// drops environment values, Secrets, managed fields and applied configurations.
// [Forwarder] and [Reviewer] are the two exceptions, for the CLI alone.
package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/clock"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Config says which cluster and how hard it may be asked.
type Config struct {
	// Kubeconfig is the path of a kubeconfig file. Empty: the service account
	// inside a pod, else $KUBECONFIG, else ~/.kube/config.
	Kubeconfig string `yaml:"kubeconfig"`
	// Context is the context of the kubeconfig. Empty: its current one.
	Context string `yaml:"context"`
	// QPS is how many requests a second are sent at most. Default: 20.
	QPS float64 `yaml:"max_query_qps"`
	// Burst is how many requests may be sent at once. Default: 40.
	Burst int `yaml:"burst"`
	// Timeout bounds one get or list, with what is asked again of a server that
	// was busy; a watch lasts as long as the server allows. Default: 30s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxResponseBytes is the largest answer read to a get, to one page of a list,
	// or of a log. Default: 64 MiB.
	MaxResponseBytes int64 `yaml:"max_response_bytes"`
}

// DefaultConfig is the configuration of a user who writes nothing.
func DefaultConfig() Config {
	return Config{QPS: 20, Burst: 40, Timeout: 30 * time.Second, MaxResponseBytes: 64 << 20}
}

// Validate checks the fields.
func (c *Config) Validate() error {
	var errs []error
	if c.QPS <= 0 {
		errs = append(errs, &policy.FieldError{Path: "max_query_qps", Value: c.QPS, Problem: "is not above 0", Fix: "write 20"})
	}
	if c.Burst < 1 {
		errs = append(errs, &policy.FieldError{Path: "burst", Value: c.Burst, Problem: "is not at least 1", Fix: "write 40"})
	}
	if c.Timeout < time.Second || c.Timeout > 5*time.Minute {
		errs = append(errs, &policy.FieldError{Path: "timeout", Value: c.Timeout, Problem: "is not between 1s and 5m", Fix: "write 30s"})
	}
	if c.MaxResponseBytes < 0 {
		errs = append(errs, &policy.FieldError{Path: "max_response_bytes", Value: c.MaxResponseBytes, Problem: "is negative", Fix: "write 67108864"})
	}
	if c.Kubeconfig != "" {
		if _, err := os.Stat(c.Kubeconfig); err != nil {
			errs = append(errs, &policy.FieldError{Path: "kubeconfig", Value: c.Kubeconfig, Problem: "cannot be read", Fix: "give the path of a kubeconfig file"})
		}
	}
	return errors.Join(errs...)
}

// Settings are what code passes to the constructors.
type Settings struct {
	Service string // for the audit
	Name    string // configured name of the cluster's source; "kubernetes" when empty
	Audit   func(event.Audit)
	Now     func() time.Time // this machine's clock; nil: time.Now
}

func (s *Settings) defaults() {
	if s.Name == "" {
		s.Name = "kubernetes"
	}
	if s.Audit == nil {
		s.Audit = func(event.Audit) {}
	}
	if s.Now == nil {
		s.Now = time.Now
	}
}

// Client reads one cluster. Its methods are safe for concurrent use.
type Client struct {
	name    string
	timeout time.Duration
	most    int64 // bytes of an answer
	config  *rest.Config
	http    *http.Client
	clock   *clock.Server
	raw     rest.Interface // decoded JSON
	typed   rest.Interface // types of the scheme
}

// New makes a client that can only read. Tokens and certificates from files are
// read again when they change, as projected service account tokens do hourly.
func New(cfg Config, set Settings) (*Client, error) {
	rc, err := restConfig(cfg)
	if err != nil {
		return nil, err
	}
	return newClient(rc, cfg, set, readOnly)
}

// NewForConfig makes a client that can only read of a client-go configuration.
func NewForConfig(rc *rest.Config, set Settings) (*Client, error) {
	return newClient(rest.CopyConfig(rc), DefaultConfig(), set, readOnly)
}

func newClient(rc *rest.Config, cfg Config, set Settings, permit permission) (*Client, error) {
	set.defaults()
	timeout := cmp.Or(cfg.Timeout, DefaultConfig().Timeout)
	base, _, err := rest.DefaultServerUrlFor(rc)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: host %s: %w", rc.Host, err)
	}
	rc.UserAgent = "oncall"
	if rc.RateLimiter == nil {
		qps, burst := rc.QPS, rc.Burst
		if qps <= 0 {
			qps = float32(DefaultConfig().QPS)
		}
		if burst <= 0 {
			burst = DefaultConfig().Burst
		}
		rc.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(qps, burst)
	}
	its := clock.NewServer(set.Now)
	rc.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return &guard{next: its.Transport(next), prefix: strings.TrimRight(base.Path, "/"), permit: permit, set: set}
	})
	h, err := rest.HTTPClientFor(rc)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	c := &Client{name: set.Name, timeout: timeout, most: cmp.Or(cfg.MaxResponseBytes, DefaultConfig().MaxResponseBytes), config: rc, http: h, clock: its}
	raw := rest.CopyConfig(rc)
	raw.ContentType, raw.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	raw.NegotiatedSerializer = codecs.WithoutConversion()
	raw.GroupVersion = &schema.GroupVersion{}
	c.raw, err = rest.UnversionedRESTClientForConfigAndClient(raw, h)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	c.typed, err = c.REST(corev1.SchemeGroupVersion)
	return c, err
}

func restConfig(cfg Config) (*rest.Config, error) {
	var rc *rest.Config
	var err error
	if cfg.Kubeconfig == "" && cfg.Context == "" {
		rc, err = rest.InClusterConfig()
	}
	if rc == nil {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = cfg.Kubeconfig
		rc, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: cfg.Context}).ClientConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	d := DefaultConfig()
	rc.QPS, rc.Burst = float32(d.QPS), d.Burst
	if cfg.QPS > 0 {
		rc.QPS = float32(cfg.QPS)
	}
	if cfg.Burst > 0 {
		rc.Burst = cfg.Burst
	}
	return rc, nil
}

// InCluster says whether cfg means the service account of the pod that this
// process runs in.
func InCluster(cfg Config) bool {
	if cfg.Kubeconfig != "" || cfg.Context != "" {
		return false
	}
	_, err := rest.InClusterConfig()
	return err == nil
}

// ContextName is the context that cfg means, for people: the name of the
// kubeconfig's context, or "in-cluster".
func ContextName(cfg Config) (string, error) {
	if InCluster(cfg) {
		return "in-cluster", nil
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = cfg.Kubeconfig
	kc, err := rules.Load()
	if err != nil {
		return "", fmt.Errorf("kubernetes: %w", err)
	}
	name := cfg.Context
	if name == "" {
		name = kc.CurrentContext
	}
	if _, ok := kc.Contexts[name]; !ok {
		return "", fmt.Errorf("kubernetes: context %q is not in the kubeconfig", name)
	}
	return name, nil
}

// Contexts are the names of the kubeconfig's contexts, sorted; none when it
// cannot be read.
func Contexts(cfg Config) []string {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = cfg.Kubeconfig
	kc, err := rules.Load()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(kc.Contexts))
}

// Name is the configured name of the source.
func (c *Client) Name() string { return c.name }

// Host is the address of the API server.
func (c *Client) Host() string { return c.config.Host }

// scheme holds the types that are read typed. The whole of client-go's scheme
// would link every API group there is.
var (
	scheme = runtime.NewScheme()
	codecs = serializer.NewCodecFactory(scheme)
)

func init() {
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	for _, add := range []func(*runtime.Scheme) error{
		metav1.AddMetaToScheme, corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, autoscalingv2.AddToScheme,
		policyv1.AddToScheme, networkingv1.AddToScheme, discoveryv1.AddToScheme, storagev1.AddToScheme, admissionv1.AddToScheme, rbacv1.AddToScheme,
	} {
		utilruntime.Must(add(scheme))
	}
}

// Clock is the API server's clock, as its answers tell it. A watch is one
// answer, however long it lasts.
func (c *Client) Clock() *clock.Server { return c.clock }

// REST is a typed client of one of the API groups of the scheme: what client-go's
// list and watch functions take.
func (c *Client) REST(gv schema.GroupVersion) (rest.Interface, error) {
	rc := rest.CopyConfig(c.config)
	rc.GroupVersion = &gv
	rc.APIPath = "/apis"
	if gv.Group == "" {
		rc.APIPath = "/api"
	}
	rc.NegotiatedSerializer = codecs.WithoutConversion()
	rc.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	rc.ContentType = runtime.ContentTypeProtobuf
	r, err := rest.RESTClientForConfigAndClient(rc, c.http)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %s: %w", gv, err)
	}
	return r, nil
}

// Get reads a path of the API as JSON into into.
func (c *Client) Get(ctx context.Context, path string, params url.Values, into any) error {
	res := c.request(path, params).Do(limited(ctx, c.most))
	if err := res.Error(); err != nil { // with the API's own message, which Raw leaves out
		return err
	}
	body, err := res.Raw()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("kubernetes: %s: answer: %w", path, err)
	}
	return nil
}

// Log reads the end of a container's log, at most limit bytes of it.
func (c *Client) Log(ctx context.Context, namespace, pod string, params url.Values, limit int64) ([]byte, error) {
	r, err := c.request("/api/v1/namespaces/"+namespace+"/pods/"+pod+"/log", params).SetHeader("Accept", "*/*").Stream(limited(ctx, c.most))
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(io.LimitReader(r, limit))
}

// retries is how often a get is sent again to a server that was busy, and to
// one that closed the connection. A Retry-After of the server is waited for,
// within the time of the whole call.
const retries = 3

func (c *Client) request(path string, params url.Values) *rest.Request {
	r := c.raw.Get().AbsPath(path).Timeout(c.timeout).MaxRetries(retries)
	for k, vs := range params {
		for _, v := range vs {
			r = r.Param(k, v)
		}
	}
	return r
}

// Version is what an API server says of its build.
type Version struct {
	GitVersion string `json:"gitVersion"` // v1.34.2
	BuildDate  string `json:"buildDate"`  // RFC 3339; of some builds empty, or 1970
}

// Built is when the program was built; zero when it does not say.
func (v Version) Built() time.Time {
	t, err := time.Parse(time.RFC3339, v.BuildDate)
	if err != nil || t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}

// Version asks which version the API server is.
func (c *Client) Version(ctx context.Context) (Version, error) {
	var v Version
	err := c.Get(ctx, "/version", nil, &v)
	return v, err
}

// ClusterUID is the UID of the kube-system namespace, which identifies a
// cluster for its life.
func (c *Client) ClusterUID(ctx context.Context) (string, error) {
	var ns struct {
		Metadata struct {
			UID string `json:"uid"`
		} `json:"metadata"`
	}
	if err := c.Get(ctx, "/api/v1/namespaces/kube-system", nil, &ns); err != nil {
		return "", err
	}
	return ns.Metadata.UID, nil
}

// Reason says in a few words why a request gave no answer: "forbidden: …",
// "not found", "timeout: …", "busy: …", "too large: …" or "unreachable: …".
func Reason(err error) string {
	refused, isRefused := errors.AsType[*RefusedError](err)
	large, tooLarge := errors.AsType[*TooLargeError](err)
	switch {
	case err == nil:
		return ""
	case isRefused:
		return "forbidden: " + refused.Error()
	case tooLarge:
		return "too large: " + large.Error()
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return "forbidden: " + short(err.Error())
	case apierrors.IsNotFound(err):
		return "not found"
	case apierrors.IsTooManyRequests(err):
		return "busy: " + short(err.Error())
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		return "timeout: " + short(err.Error())
	case apierrors.IsBadRequest(err), apierrors.IsInvalid(err):
		return "bad query: " + short(err.Error())
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the address
	}
	if m := relayed.FindStringSubmatch(err.Error()); m != nil {
		return "unreachable: the API server cannot reach the node's kubelet: " + short(m[1])
	}
	return "unreachable: " + short(err.Error())
}

// relayed is how the API server words that it could not ask a kubelet.
var relayed = regexp.MustCompile(`^Get "https://[^"]*/containerLogs/[^"]*": (.*)$`)

// Forbidden says whether the cluster refused a request for lack of rights.
func Forbidden(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) }

// NotFound says whether what was asked for is not there.
func NotFound(err error) bool { return apierrors.IsNotFound(err) }

func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}
