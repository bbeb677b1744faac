// Package kubetest is what tests need of an API server that no list of objects
// gives: port forwards.
package kubetest

import (
	"io"
	"net"
	"net/http"
	"sync"

	"k8s.io/apimachinery/pkg/util/httpstream"      //nolint:staticcheck // what client-go itself still speaks and returns
	"k8s.io/apimachinery/pkg/util/httpstream/spdy" //nolint:staticcheck // what client-go itself still speaks and returns
)

// Forwards answers a pod's portforward by SPDY, as an API server from before
// websockets does, and leads one port of the pod to an address.
type Forwards struct {
	Port   string // of the pod
	Target string // host and port that it leads to

	mu    sync.Mutex
	conns []httpstream.Connection
}

// ServeHTTP forwards until the client leaves or [Forwards.Cut] is called. What
// is no SPDY is refused with 400, so that the client tries that next.
func (f *Forwards) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" || r.Method != http.MethodPost {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
		return
	}
	streams := make(chan httpstream.Stream, 16)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(st httpstream.Stream, _ <-chan struct{}) error {
		streams <- st
		return nil
	})
	if conn == nil {
		return
	}
	f.mu.Lock()
	f.conns = append(f.conns, conn)
	f.mu.Unlock()
	for {
		select {
		case <-conn.CloseChan():
			return
		case st := <-streams:
			switch {
			case st.Headers().Get("streamType") == "error":
				_ = st.Close()
			case st.Headers().Get("port") != f.Port:
				_ = st.Reset()
			default:
				go f.pump(st)
			}
		}
	}
}

func (f *Forwards) pump(st httpstream.Stream) {
	up, err := net.Dial("tcp", f.Target)
	if err != nil {
		_ = st.Reset()
		return
	}
	go func() { _, _ = io.Copy(up, st); _ = up.(*net.TCPConn).CloseWrite() }()
	_, _ = io.Copy(st, up)
	_ = st.Close()
}

// Cut ends every connection.
func (f *Forwards) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.conns = nil
}
