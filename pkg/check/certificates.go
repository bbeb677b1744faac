package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

const (
	expiring = 7 * 24 * time.Hour // the kubernetes-mixin warns of a certificate then
	ending   = 24 * time.Hour     // and pages then
	issuing  = 10 * time.Minute   // for a certificate to be issued: an ACME order takes minutes
	renewing = time.Hour          // beyond its time of renewal
)

var certificateChecks = []Info{{
	Name: "certificates", Needs: []string{"certificates"},
	Doc: "Certificates of cert-manager that expired, were never issued, or end within a week though their time to be renewed has passed, with what its issuer says and which Ingress serves them. Not: one that is being issued for less than ten minutes, or a short-lived one that is not yet due.",
	Run: certificates,
}}

func certificates(c *Cluster, found func(Problem)) {
	list := slices.Clone(c.Certificates)
	slices.SortFunc(list, func(a, b Object) int { return strings.Compare(entityOf(a).String(), entityOf(b).String()) })
	for _, o := range list {
		e := entityOf(o)
		ends, renew := since(o, "status", "notAfter"), since(o, "status", "renewalTime")
		ready, _ := state(o, objects(o, "status", "conditions"), "Ready")
		issue, _ := state(o, objects(o, "status", "conditions"), "Issuing")
		p := Problem{Entity: e, State: true, Next: []event.Check{describe(e, "its conditions and events"), {Why: "what the issuer says", Command: kubectl(e.Namespace, "get certificaterequests,orders,challenges")}}}
		for _, k := range []Object{issue, ready} {
			if k == nil {
				continue
			}
			seen, brief := said(k)
			p.Seen = append(p.Seen, seen)
			if p.Brief == "" && text(k, "message") != "" && (text(k, "type") == "Issuing" || text(k, "status") == "False") {
				p.Brief = brief
			}
		}
		p.Seen = append(p.Seen, fmt.Sprintf("status.notAfter=%s renewalTime=%s", orElse(text(o, "status", "notAfter"), "none"), orElse(text(o, "status", "renewalTime"), "none")))
		left := ends.Sub(c.Now)
		switch {
		case !ends.IsZero() && left < 0:
			p.Urgency, p.Title, p.Since = event.Broken, "expired", ends
		case ends.IsZero() && text(ready, "status") != "True" && c.Now.Sub(since(o, "metadata", "creationTimestamp")) > issuing:
			p.Urgency, p.Title, p.Since = event.Broken, "never issued", since(o, "metadata", "creationTimestamp")
		case !ends.IsZero() && left < expiring && !renew.IsZero() && c.Now.Sub(renew) > renewing:
			p.Urgency, p.Title, p.Since = event.Soon, fmt.Sprintf("expires in %s and is not renewed", span(left)), renew
			if left < ending {
				p.Urgency, p.Severity = event.Broken, event.Warning
			}
		case !ends.IsZero() && text(ready, "status") == "False" && c.Now.Sub(since(ready, "lastTransitionTime")) > issuing:
			p.Urgency, p.Title, p.Since = event.Soon, "cannot be issued anew; the old one ends in "+span(left), since(ready, "lastTransitionTime")
		default:
			continue
		}
		if served := c.servedBy(e.Namespace, text(o, "spec", "secretName")); served != "" {
			p.Brief = strings.TrimPrefix(p.Brief+"; served by "+served, "; ")
		}
		found(p)
	}
}

// servedBy names the Ingress that serves what is in a Secret.
func (c *Cluster) servedBy(namespace, secret string) string {
	for _, i := range c.Ingresses {
		if i.Namespace == namespace && slices.ContainsFunc(i.Spec.TLS, func(t networkingv1.IngressTLS) bool { return t.SecretName == secret }) {
			return short(entity("Ingress", i))
		}
	}
	return ""
}
