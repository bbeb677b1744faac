package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/httpstream" //nolint:staticcheck // what client-go itself still speaks and returns
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	streaming "k8s.io/streaming/pkg/httpstream"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Forwarder reaches Services from outside of the cluster through the API
// server, as kubectl port-forward does. It is for the CLI alone: it is a create
// of pods/portforward, which the collector's role does not have.
type Forwarder struct {
	c   *Client
	rc  *rest.Config
	set Settings
}

// NewForwarder makes a Forwarder.
func NewForwarder(cfg Config, set Settings) (*Forwarder, error) {
	rc, err := restConfig(cfg)
	if err != nil {
		return nil, err
	}
	c, err := newClient(rest.CopyConfig(rc), cfg, set, readOnly)
	if err != nil {
		return nil, err
	}
	set.defaults()
	return &Forwarder{c, rc, set}, nil
}

// Forwarding is a port of 127.0.0.1 that leads to a Service, until it is
// stopped. When the pod behind it goes away another one is taken, on the same
// local port.
type Forwarding struct {
	Target // with the number of its port, its scheme and its path
	// Local is the address to connect to: 127.0.0.1:41877.
	Local string
	// Source is what the Service's labels say it is: prometheus, loki or
	// alertmanager; "" when they say nothing.
	Source string

	stop func()
}

// URL is the address of the API behind the forwarding.
func (f *Forwarding) URL() string { return f.Scheme + "://" + f.Local + f.Path }

// ServerName is the name that a certificate of the Service is for, as pods call
// it.
func (f *Forwarding) ServerName() string { return f.Service + "." + f.Namespace + ".svc" }

// Stop ends the forwarding and waits for its end.
func (f *Forwarding) Stop() { f.stop() }

// Forward listens on a free port of 127.0.0.1 and forwards what comes there to
// a ready pod of the Service. ctx bounds the opening alone.
func (f *Forwarder) Forward(ctx context.Context, t Target) (*Forwarding, error) {
	e, err := f.endpoint(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("forward svc/%s/%s: %w", t.Namespace, t.Service, err)
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	local, done, err := f.forward(ctx, life, t.Namespace, e, 0)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("forward svc/%s/%s: %w", t.Namespace, t.Service, err)
	}
	t.Port = itoa(e.port.Port)
	if t.Scheme == "" {
		t.Scheme = e.port.scheme()
	}
	if t.Path == "" {
		t.Path = e.found.Path
	}
	var wg sync.WaitGroup
	wg.Go(func() { f.keep(life, t, local, done) })
	return &Forwarding{Target: t, Local: net.JoinHostPort("127.0.0.1", itoa(local)), Source: e.found.Source, stop: func() { cancel(); wg.Wait() }}, nil
}

// keep opens the forwarding again whenever it has ended, until ctx is done.
func (f *Forwarder) keep(ctx context.Context, t Target, local int, done <-chan struct{}) {
	for wait := 200 * time.Millisecond; ; {
		<-done // it ends with ctx
		for {
			if ctx.Err() != nil {
				return
			}
			e, err := f.endpoint(ctx, t)
			if err == nil {
				_, done, err = f.forward(ctx, ctx, t.Namespace, e, local)
			}
			if err == nil {
				wait = 200 * time.Millisecond
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			wait = min(2*wait, 5*time.Second)
		}
	}
}

// forward opens one forwarding that lasts as long as life, and returns when it
// listens. done is closed when it has ended.
func (f *Forwarder) forward(ctx, life context.Context, namespace string, e endpoint, local int) (port int, done <-chan struct{}, err error) {
	base, _, err := rest.DefaultServerUrlFor(f.rc)
	if err != nil {
		return 0, nil, err
	}
	u := base.JoinPath("/api/v1/namespaces/" + namespace + "/pods/" + e.pod + "/portforward")
	a := event.Audit{
		Service: f.set.Service, Source: "kubernetes", Instance: f.set.Name, Target: u.Host, Operation: "create", Query: "/" + strings.TrimLeft(strings.TrimPrefix(u.Path, strings.TrimRight(base.Path, "/")), "/"),
		Status: http.StatusSwitchingProtocols, Time: f.set.Now().UTC(),
	}
	defer func() {
		a.DurationMS = f.set.Now().Sub(a.Time).Milliseconds()
		if err != nil {
			a.Status, a.Error = 0, err.Error()
		}
		f.set.Audit(a)
	}()
	transport, upgrader, err := spdy.RoundTripperFor(f.rc)
	if err != nil {
		return 0, nil, err
	}
	websocket, err := portforward.NewSPDYOverWebsocketDialer(u, f.rc)
	if err != nil {
		return 0, nil, err
	}
	dialer := portforward.NewFallbackDialer(websocket, spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, u), func(err error) bool {
		// client-go's websockets fail with the types of either package.
		return httpstream.IsUpgradeFailure(err) || streaming.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	ready := make(chan struct{})
	ending, cancel := context.WithCancel(life)
	pf, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("%d:%d", local, e.target)}, ending.Done(), ready, io.Discard, io.Discard)
	if err != nil {
		cancel()
		return 0, nil, err
	}
	end := make(chan struct{})
	var ended error
	go func() {
		defer close(end)
		defer cancel()
		ended = pf.ForwardPorts()
	}()
	select {
	case <-ready:
	case <-end:
		if ended == nil {
			ended = errors.New("ended before it listened")
		}
		return 0, nil, ended
	case <-ctx.Done():
		// A dial cannot be interrupted: what it leads to ends at once.
		cancel()
		return 0, nil, context.Cause(ctx)
	}
	ports, err := pf.GetPorts()
	if err != nil || len(ports) != 1 {
		cancel()
		<-end
		return 0, nil, fmt.Errorf("no local port: %w", err)
	}
	return int(ports[0].Local), end, nil
}

// podInfo is a pod as far as forwarding looks at it.
type podInfo struct {
	Metadata struct {
		Name              string  `json:"name"`
		DeletionTimestamp *string `json:"deletionTimestamp"`
	} `json:"metadata"`
	Spec struct {
		InitContainers []container `json:"initContainers"` // sidecars are among them
		Containers     []container `json:"containers"`
	} `json:"spec"`
	Status struct {
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
	} `json:"status"`
}

type container struct {
	Ports []struct {
		Name          string `json:"name"`
		ContainerPort int    `json:"containerPort"`
	} `json:"ports"`
}

func (p *podInfo) ready() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True" && p.Metadata.DeletionTimestamp == nil
		}
	}
	return false
}

// endpoint is a ready pod of a Service, with the port of it behind the
// Service's.
type endpoint struct {
	pod    string
	target int
	port   servicePort
	found  Found // what the Service's labels say it is
}

func (f *Forwarder) endpoint(ctx context.Context, t Target) (endpoint, error) {
	var s service
	if err := f.c.Get(ctx, "/api/v1/namespaces/"+t.Namespace+"/services/"+t.Service, nil, &s); err != nil {
		return endpoint{}, err
	}
	i := slices.IndexFunc(s.Spec.Ports, func(p servicePort) bool { return itoa(p.Port) == t.Port || p.Name == t.Port })
	switch {
	case i < 0:
		return endpoint{}, fmt.Errorf("it has no port %s; its ports are %s", t.Port, s.ports())
	case s.Spec.Ports[i].Protocol == "UDP" || s.Spec.Ports[i].Protocol == "SCTP":
		return endpoint{}, fmt.Errorf("its port %s is %s, which cannot be forwarded", t.Port, s.Spec.Ports[i].Protocol)
	case len(s.Spec.Selector) == 0:
		return endpoint{}, errors.New("it selects no pods")
	}
	e := endpoint{port: s.Spec.Ports[i]}
	e.found, _ = recognise(&s)
	var sel []string
	for k, v := range s.Spec.Selector {
		sel = append(sel, k+"="+v)
	}
	slices.Sort(sel)
	var pods struct {
		Items []podInfo `json:"items"`
	}
	if err := f.c.Get(ctx, "/api/v1/namespaces/"+t.Namespace+"/pods", url.Values{"labelSelector": {strings.Join(sel, ",")}}, &pods); err != nil {
		return endpoint{}, err
	}
	ready := 0
	for _, p := range pods.Items {
		if !p.ready() {
			continue
		}
		ready++
		if e.target = p.port(e.port); e.target != 0 {
			e.pod = p.Metadata.Name
			return e, nil
		}
	}
	if ready > 0 {
		return endpoint{}, fmt.Errorf("none of its %d ready pods has a port called %v", ready, e.port.TargetPort)
	}
	return endpoint{}, fmt.Errorf("none of its %d pods is ready", len(pods.Items))
}

// port is the container port that a service's port leads to; 0 when the pod
// has none of that name.
func (p *podInfo) port(sp servicePort) int {
	switch t := sp.TargetPort.(type) {
	case float64:
		if t > 0 {
			return int(t)
		}
	case string:
		for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
			for _, cp := range c.Ports {
				if cp.Name == t {
					return cp.ContainerPort
				}
			}
		}
		n, _ := strconv.Atoi(t)
		return n
	}
	return sp.Port
}

func itoa(n int) string { return strconv.Itoa(n) }
