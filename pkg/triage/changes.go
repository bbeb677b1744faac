package triage

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

// revisionOf is the number that a Deployment's or Argo's controller gave a
// ReplicaSet; 0 where it gave none.
func revisionOf(annotations map[string]string) int64 {
	n, _ := strconv.ParseInt(cmp.Or(annotations["deployment.kubernetes.io/revision"], annotations["rollout.argoproj.io/revision"]), 10, 64)
	return n
}

// history is what each revision changed against the one before, newest first.
// returned is when a Deployment last began to move, which is when it went back to
// a template of before: the ReplicaSet is as old as it was.
func history(root event.Entity, revisions []revision, returned time.Time, redact func(string) string) []Change {
	revisions = slices.Clone(revisions)
	slices.SortFunc(revisions, func(a, b revision) int {
		return cmp.Or(cmp.Compare(a.number, b.number), a.created.Compare(b.created), cmp.Compare(a.name, b.name))
	})
	revisions = revisions[max(0, len(revisions)-maxRevisions):]
	var out []Change
	for i, r := range revisions {
		c := Change{Change: event.Change{Kind: event.Rollout, Entity: root, Time: r.created.UTC(), Revision: strconv.FormatInt(r.number, 10)}, Current: i == len(revisions)-1}
		if r.number == 0 {
			c.Revision = r.name
		}
		if i == 0 {
			// What was before it is not kept; only of a first revision it is known
			// that there was nothing.
			c.First = r.number <= 1
			if !c.First && len(revisions) > 1 {
				continue
			}
			c.Summary = "the first that is kept"
			if c.First {
				c.Summary = "first rollout"
			}
			c.First = true // there is nothing to compare it with
			out = append(out, c)
			continue
		}
		before := revisions[i-1]
		for _, f := range kube.TemplateOf(&before.template).Diff(kube.TemplateOf(&r.template)) {
			f.From, f.To = redact(f.From), redact(f.To)
			c.Fields = append(c.Fields, f)
		}
		c.Summary = redact(kube.Summary(c.Fields))
		if c.Summary == "" {
			c.Summary = "labels or annotations of the template"
		}
		if r.again || r.created.Before(before.created) {
			c.Summary = "back to an earlier template: " + c.Summary
			if c.Current && returned.After(before.created) && returned.After(r.created) {
				c.Time = returned.UTC()
			}
		}
		out = append(out, c)
	}
	slices.Reverse(out)
	return out
}

// before are the changes that may explain what began at a time: those of the
// hour before, and up to a minute later, since the times are of two clocks.
func before(changes []Change, began time.Time) []event.Change {
	var out []event.Change
	for _, c := range changes {
		if d := began.Sub(c.Time); !began.IsZero() && d >= -time.Minute && d <= time.Hour {
			out = append(out, c.Change)
		}
	}
	return out
}

// closely is the longest time between a rollout and trouble that is taken to
// come of it, without a rule that says how.
const closely = 30 * time.Minute

// rolledOut is the newest rollout that trouble followed closely.
func rolledOut(changes []Change, began, now time.Time) (text string, c *Change) {
	if began.IsZero() {
		return "", nil
	}
	for i := range changes {
		c := &changes[i]
		d := began.Sub(c.Time)
		if c.First || d < -time.Minute || d > closely {
			continue
		}
		return fmt.Sprintf("it began %s after the rollout of revision %s: %s", age(d), c.Revision, c.Summary), c
	}
	return "", nil
}
