//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// receiver is a webhook as a user would write it: it checks the signature,
// answers a repeated id and keeps it out.
type receiver struct {
	addr   string
	secret string

	mu       sync.Mutex
	got      []delivery
	ids      map[string]int
	problems []string
}

// delivery is a notification with the time it arrived.
type delivery struct {
	event.Notification
	at time.Time
}

func newReceiver(t *testing.T, b *testbed.Bed) *receiver {
	t.Helper()
	r := &receiver{secret: "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef")), ids: map[string]int{}}
	r.addr = must(b.Serve(http.HandlerFunc(r.take)))(t)
	return r
}

func (r *receiver) take(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 8<<20))
	if err == nil {
		err = r.accept(req.Header, body)
	}
	if err != nil {
		r.mu.Lock()
		r.problems = append(r.problems, err.Error())
		r.mu.Unlock()
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (r *receiver) accept(h http.Header, body []byte) error {
	wh, err := standardwebhooks.NewWebhook(r.secret)
	if err != nil {
		return err
	}
	if err := wh.Verify(body, h); err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	e := cloudevents.New()
	if err := json.Unmarshal(body, &e); err != nil {
		return fmt.Errorf("CloudEvent: %w", err)
	}
	if err := e.Validate(); err != nil {
		return fmt.Errorf("CloudEvent: %w", err)
	}
	var n event.Notification
	if err := e.DataAs(&n); err != nil {
		return fmt.Errorf("notification: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids[e.ID()]++
	if r.ids[e.ID()] > 1 {
		return nil
	}
	r.got = append(r.got, delivery{n, time.Now()})
	return nil
}

// all is a copy of what has arrived.
func (r *receiver) all() []delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// about is what has arrived about a namespace, oldest first.
func (r *receiver) about(namespace string) []delivery {
	return slices.DeleteFunc(r.all(), func(d delivery) bool { return d.Report.Entity.Namespace != namespace })
}

// wait waits for a report about a namespace that satisfies a condition.
func (r *receiver) wait(t *testing.T, namespace string, limit time.Duration, what string, ok func(event.Report) bool) delivery {
	t.Helper()
	var found delivery
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		about := r.about(namespace)
		i := slices.IndexFunc(about, func(d delivery) bool { return ok(d.Report) })
		if i >= 0 {
			found = about[i]
			return found
		}
		select {
		case <-deadline.C:
			var b strings.Builder
			for _, d := range about {
				fmt.Fprintf(&b, "\n%s", describe(d.Report))
			}
			t.Fatalf("%s: no such report about %s within %v; there were %d:%s", what, namespace, limit, len(about), b.String())
		case <-tick.C:
		}
	}
}

// describe is a report in a few lines, for people who read the test's output.
func describe(r event.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s rev %d %s %s (%s)\n  %s\n", event.ShortID(r.Incident), r.Revision, r.State, r.Priority, r.Reason, r.Headline)
	fmt.Fprintf(&b, "  tl;dr: %s\n", r.TLDR)
	for _, c := range r.Causes {
		fmt.Fprintf(&b, "  cause (%s, %.1f): %s %v\n", c.Confidence, c.Score, c.Text, c.Evidence)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "  finding (%s): %s: %s %v\n", f.Confidence, f.Entity, f.Title, f.Evidence)
	}
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "  next: %s # %s\n", c.Command, c.Why)
	}
	for _, c := range r.Rollback {
		fmt.Fprintf(&b, "  rollback: %s # %s\n", c.Command, c.Why)
	}
	if len(r.Unknown) > 0 {
		fmt.Fprintf(&b, "  unknown: %s\n", strings.Join(r.Unknown, "; "))
	}
	if r.Held != "" {
		fmt.Fprintf(&b, "  held: %s\n", r.Held)
	}
	return b.String()
}

func decode(r io.Reader, into any) error { return json.NewDecoder(r).Decode(into) }
