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
	c, err := newClient(rest.CopyConfig(rc), cfg.Timeout, set, readOnly)
	if err != nil {
		return nil, err
	}
	set.defaults()
	return &Forwarder{c, rc, set}, nil
}

// PortForward listens on a free port of 127.0.0.1 and forwards what comes there
// to a ready pod of the service. When the pod goes away another one is taken,
// on the same local port. stop ends it and waits; it ends with ctx too.
func (f *Forwarder) PortForward(ctx context.Context, namespace, name string, port int) (local string, stop func(), err error) {
	pod, target, err := f.endpoint(ctx, namespace, name, port)
	if err != nil {
		return "", nil, fmt.Errorf("forward %s/%s: %w", namespace, name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	localPort, done, err := f.forward(ctx, namespace, pod, 0, target)
	if err != nil {
		cancel()
		return "", nil, fmt.Errorf("forward %s/%s: %w", namespace, name, err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { f.keep(ctx, namespace, name, port, localPort, done) })
	return net.JoinHostPort("127.0.0.1", itoa(localPort)), func() { cancel(); wg.Wait() }, nil
}

// keep opens the forwarding again whenever it has ended, until ctx is done.
func (f *Forwarder) keep(ctx context.Context, namespace, name string, port, local int, done chan struct{}) {
	for wait := 200 * time.Millisecond; ; {
		<-done // it ends with ctx
		for {
			if ctx.Err() != nil {
				return
			}
			pod, target, err := f.endpoint(ctx, namespace, name, port)
			if err == nil {
				_, done, err = f.forward(ctx, namespace, pod, local, target)
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

// forward opens one forwarding, and returns when it listens. done is closed
// when it has ended.
func (f *Forwarder) forward(ctx context.Context, namespace, pod string, local, target int) (port int, done chan struct{}, err error) {
	base, _, err := rest.DefaultServerUrlFor(f.rc)
	if err != nil {
		return 0, nil, err
	}
	u := base.JoinPath("/api/v1/namespaces/" + namespace + "/pods/" + pod + "/portforward")
	f.set.Audit(event.Audit{Service: f.set.Service, Source: "kubernetes", Instance: f.set.Name, Operation: "port-forward", Query: u.Path, Time: f.set.Now().UTC()})
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
	pf, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("%d:%d", local, target)}, ctx.Done(), ready, io.Discard, io.Discard)
	if err != nil {
		return 0, nil, err
	}
	done = make(chan struct{})
	var ended error
	go func() {
		defer close(done)
		ended = pf.ForwardPorts()
	}()
	select {
	case <-ready:
	case <-done:
		if ended == nil {
			ended = errors.New("ended before it listened")
		}
		return 0, nil, ended
	case <-ctx.Done():
		<-done
		return 0, nil, ctx.Err()
	}
	ports, err := pf.GetPorts()
	if err != nil || len(ports) != 1 {
		return 0, nil, fmt.Errorf("no local port: %w", err)
	}
	return int(ports[0].Local), done, nil
}

// podInfo is a pod as far as forwarding looks at it.
type podInfo struct {
	Metadata struct {
		Name              string  `json:"name"`
		DeletionTimestamp *string `json:"deletionTimestamp"`
	} `json:"metadata"`
	Spec struct {
		Containers []struct {
			Ports []struct {
				Name          string `json:"name"`
				ContainerPort int    `json:"containerPort"`
			} `json:"ports"`
		} `json:"containers"`
	} `json:"spec"`
	Status struct {
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
	} `json:"status"`
}

func (p *podInfo) ready() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True" && p.Metadata.DeletionTimestamp == nil
		}
	}
	return false
}

// endpoint is a ready pod of a service, and the port in it behind the
// service's.
func (f *Forwarder) endpoint(ctx context.Context, namespace, name string, port int) (pod string, target int, err error) {
	var s service
	if err := f.c.Get(ctx, "/api/v1/namespaces/"+namespace+"/services/"+name, nil, &s); err != nil {
		return "", 0, err
	}
	i := slices.IndexFunc(s.Spec.Ports, func(p servicePort) bool { return p.Port == port })
	if i < 0 {
		return "", 0, fmt.Errorf("it has no port %d", port)
	}
	if len(s.Spec.Selector) == 0 {
		return "", 0, errors.New("it selects no pods")
	}
	var sel []string
	for k, v := range s.Spec.Selector {
		sel = append(sel, k+"="+v)
	}
	slices.Sort(sel)
	var pods struct {
		Items []podInfo `json:"items"`
	}
	if err := f.c.Get(ctx, "/api/v1/namespaces/"+namespace+"/pods", url.Values{"labelSelector": {strings.Join(sel, ",")}}, &pods); err != nil {
		return "", 0, err
	}
	for _, p := range pods.Items {
		if !p.ready() {
			continue
		}
		if target := p.port(s.Spec.Ports[i]); target != 0 {
			return p.Metadata.Name, target, nil
		}
	}
	return "", 0, fmt.Errorf("none of its %d pods is ready", len(pods.Items))
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
		for _, c := range p.Spec.Containers {
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
