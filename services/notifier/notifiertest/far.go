package notifiertest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Request is one that a far side was sent.
type Request struct {
	Method, Path string
	Header       http.Header
	Body         string
}

// Far stands for what a channel talks to: it records every request, and
// answers as it is told.
type Far struct {
	*httptest.Server

	mu       sync.Mutex
	requests []Request
	answer   http.HandlerFunc
}

// NewFar starts a far side on loopback that agrees to everything. It ends with
// the test.
func NewFar(t testing.TB) *Far {
	f := &Far{answer: Agree}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(func() {
		f.CloseClientConnections() // some hang
		f.Close()
	})
	return f
}

// Agree answers 200 in the way of every protocol that we know.
func Agree(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/silences") {
		_, _ = io.WriteString(w, "[]")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"ok":true,"ts":"1700000000.000100","channel":"C0123456789","messages":[]}`)
}

// Answer changes how requests are answered from now on.
func (f *Far) Answer(h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = h
}

// Requests returns what was received since the last call.
func (f *Far) Requests() []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.requests
	f.requests = nil
	return out
}

func (f *Far) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	f.mu.Lock()
	f.requests = append(f.requests, Request{Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header.Clone(), Body: string(body)})
	answer := f.answer
	f.mu.Unlock()
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	answer(w, r)
}

// Status answers with a status, an HTML page, and headers given in pairs.
func Status(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "<html><body>\x1b[31mUpstream says no</body></html>")
	}
}

// Hang answers nothing until the request is given up.
func Hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// Cut promises more than it answers.
func Cut(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, `{"ok":tr`)
	panic(http.ErrAbortHandler)
}

// Drop closes the connection without an answer.
func Drop(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// Flood answers 200 without an end, until the reader has had enough.
func Flood(w http.ResponseWriter, r *http.Request) {
	chunk := []byte(strings.Repeat("[", 64<<10))
	for r.Context().Err() == nil {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}
