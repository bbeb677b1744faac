package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/canary"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// Server answers the two controllers of progressive delivery. It is an
// http.Handler; it holds nothing but when it was first asked about each canary.
//
//	GET  /argo/ANALYSIS?namespace=NS&name=NAME&revision=HASH   Argo Rollouts' web metric
//	POST /flagger/HOOK/ANALYSIS                                Flagger's webhook of that type
//	GET  /healthz
type Server struct {
	gate  Gate
	log   *slog.Logger
	now   func() time.Time
	mux   *http.ServeMux
	first first
}

// maxBody bounds a webhook's payload, which is a few hundred bytes.
const maxBody = 64 << 10

// patience bounds an answer: both controllers give up after ten seconds unless
// told otherwise.
const patience = 9 * time.Second

// NewServer makes a server; now is the clock.
func NewServer(g Gate, log *slog.Logger, now func() time.Time) *Server {
	s := &Server{gate: g, log: log, now: now, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /argo/{analysis}", s.argo)
	s.mux.HandleFunc("POST /flagger/{hook}/{analysis}", s.flagger)
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return s
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	s.mux.ServeHTTP(w, r)
}

// argo answers the web metric provider: always 200 with a verdict, so that the
// conditions of the AnalysisTemplate decide. An error would abort the rollout
// after a few times; a Prometheus that does not answer is no reason for that, it
// is held.
func (s *Server) argo(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	result, err := s.judge(r.Context(), r.PathValue("analysis"), Canary{Namespace: q.Get("namespace"), Name: q.Get("name")}, q.Get("revision"))
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = render.Value(w, render.JSON, result)
}

// payload is what Flagger sends: CanaryWebhookPayload of its API v1beta1.
type payload struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Phase     string            `json:"phase"`
	Checksum  string            `json:"checksum"`
	Metadata  map[string]string `json:"metadata"`
}

// approves says for which verdicts a hook of Flagger's is answered with 200.
var approves = map[string]func(canary.Verdict) bool{
	// Held until it may go on.
	"confirm-traffic-increase": func(v canary.Verdict) bool { return v == canary.Continue },
	"confirm-promotion":        func(v canary.Verdict) bool { return v == canary.Continue },
	// 200 ends the analysis and rolls back.
	"rollback": func(v canary.Verdict) bool { return v == canary.Rollback },
	// Every other answer counts as a failed check, and enough of them roll back:
	// to hold is none.
	"rollout": func(v canary.Verdict) bool { return v != canary.Rollback },
}

// flagger answers a webhook. What is not approved is 409, since Flagger's client
// asks again at once for a 5xx, and puts the text of a 4xx into its events.
func (s *Server) flagger(w http.ResponseWriter, r *http.Request) {
	hook := r.PathValue("hook")
	approved, ok := approves[hook]
	if !ok {
		refuse(w, &badRequest{http.StatusNotFound, fmt.Sprintf("hook %q is not confirm-traffic-increase, confirm-promotion, rollback or rollout: with the others there is no canary traffic to judge", hook)})
		return
	}
	var p payload
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		status := http.StatusBadRequest
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			status = http.StatusRequestEntityTooLarge
		}
		refuse(w, &badRequest{status, "payload: " + err.Error()})
		return
	}
	if p.Name == "" || p.Namespace == "" {
		refuse(w, &badRequest{http.StatusBadRequest, "payload: name and namespace of the canary are missing"})
		return
	}
	result, err := s.judge(r.Context(), r.PathValue("analysis"), Canary{Namespace: p.Namespace, Name: p.Name}, p.Checksum)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !approved(result.Verdict) {
		w.WriteHeader(http.StatusConflict)
	}
	fmt.Fprintf(w, "%s; %s\n", result.Headline(), strings.Join(result.Reasons, "; "))
}

// badRequest is an error of who asks.
type badRequest struct {
	status int
	text   string
}

func (e *badRequest) Error() string { return e.text }

// refuse answers with an error. It is never a 2xx, which would approve.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusBadRequest
	if b, ok := errors.AsType[*badRequest](err); ok {
		status = b.status
	}
	http.Error(w, render.Plain(err.Error()), status)
}

// judge finds the analysis and the canary's beginning, and judges. A Prometheus
// that does not answer is a verdict too: hold.
func (s *Server) judge(ctx context.Context, analysis string, c Canary, revision string) (canary.Result, error) {
	a, ok := s.gate.Policy.Named(analysis)
	if !ok {
		return canary.Result{}, &badRequest{http.StatusNotFound, fmt.Sprintf("analysis %q is not in policies/canary.yaml", analysis)}
	}
	if err := c.Validate(); err != nil {
		return canary.Result{}, err
	}
	now := s.now()
	c.Start = s.first.asked(key{analysis, c.Namespace, c.Name}, revision, now)
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer in %s", patience))
	defer cancel()
	result, err := s.gate.Judge(ctx, a, c, now, nil)
	var mismatch *promql.Mismatch
	switch {
	case err == nil:
	case errors.As(err, &mismatch), errors.Is(err, ErrName), upstream.KindOf(err) == upstream.BadQuery:
		s.log.Warn("analysis cannot be evaluated; the canary is not approved", "analysis", analysis, "err", err)
		return canary.Result{}, err
	default:
		s.log.Warn("source does not answer; the canary is held", "analysis", analysis, "err", err)
		result = s.gate.Policy.Unmeasured(err.Error())
	}
	s.log.Info("canary judged", "analysis", analysis, "namespace", c.Namespace, "name", c.Name, "verdict", result.Verdict, "window", now.Sub(c.Start).Round(time.Second))
	return result, nil
}

// first remembers when each canary was first asked about: from then on its
// requests are counted. After a restart that is later, with fewer requests, and
// so nearer to hold.
type first struct {
	mu   sync.Mutex
	seen map[key]begun
}

type key struct{ analysis, namespace, name string }

type begun struct {
	revision string
	at, last time.Time
}

// forgotten is how long nobody asks about a canary that is over.
const forgotten = 24 * time.Hour

// maxCanaries bounds what is remembered; beyond it the one that was asked about
// longest ago is forgotten.
const maxCanaries = 10_000

// asked is when a canary was first asked about. Another revision of the same
// name is a new canary, and so is one that nobody asked about for a day.
func (f *first) asked(k key, revision string, now time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = map[key]begun{}
	}
	b, ok := f.seen[k]
	if !ok || b.revision != revision || now.Sub(b.last) > forgotten {
		b = begun{revision: revision, at: now}
	}
	b.last = now
	f.seen[k] = b
	if len(f.seen) > maxCanaries {
		oldest := k
		for other, o := range f.seen {
			if o.last.Before(f.seen[oldest].last) {
				oldest = other
			}
		}
		delete(f.seen, oldest)
	}
	return b.at
}
