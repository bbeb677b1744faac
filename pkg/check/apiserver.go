package check

import (
	"fmt"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// slow is how long a small request may take: the objective that Kubernetes' own
// scalability tests hold it to for reads of one object.
const slow = time.Second

var serverChecks = []Info{{
	Name: "api_server",
	Doc:  "An API server that says of itself that it is not ready, with the checks that fail; whose certificate ends within a week; or that took more than a second for the quickest of three small requests, one after the other. Not: one slow answer among them. A server that cannot be reached ends the command.",
	Run:  apiServer,
}}

func apiServer(c *Cluster, found func(Problem)) {
	s := c.Serving
	if s == nil {
		return
	}
	e := event.Entity{Kind: "Cluster", Name: "api-server"}
	next := []event.Check{{Why: "what the API server says of itself", Command: "kubectl get --raw /readyz?verbose"}}
	if len(s.NotReady) > 0 {
		found(Problem{
			Entity: e, Root: e, State: true, Urgency: event.Broken, Title: "API server is not ready", Brief: list(s.NotReady, 5) + " failing", Next: next,
			Seen: []string{"GET /readyz: " + list(s.NotReady, 10) + " failing"},
		})
	}
	if s.Took > slow {
		found(Problem{
			Entity: e, Root: e, State: true, Urgency: event.Soon, Title: "API server answers slowly", Brief: fmt.Sprintf("the quickest of 3 small requests took %.1f s", s.Took.Seconds()), Next: next,
			Seen: []string{fmt.Sprintf("GET /readyz three times: the quickest took %s, more than %s", s.Took.Round(time.Millisecond), slow)},
		})
	}
	if left := s.Ends.Sub(c.Now); !s.Ends.IsZero() && left < expiring {
		p := Problem{
			Entity: e, Root: e, State: true, Urgency: event.Soon, Title: "API server's certificate expires in " + span(left), Next: next,
			Seen: []string{"the certificate of the TLS handshake ends " + s.Ends.UTC().Format(time.RFC3339)},
		}
		switch {
		case left < 0: // whoever trusts it all the same
			p.Urgency, p.Title = event.Broken, "API server's certificate expired "+span(-left)+" ago"
		case left < ending:
			p.Urgency, p.Severity = event.Broken, event.Warning
		}
		found(p)
	}
}
