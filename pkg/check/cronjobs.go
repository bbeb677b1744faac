package check

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

// schedule is when a CronJob is due. It is nil, without an error, when its time
// zone is not known here: the controller may know it.
func schedule(k *batchv1.CronJob) (cron.Schedule, error) {
	if spec := strings.TrimSpace(k.Spec.Schedule); strings.Contains(spec, "TZ=") && !strings.Contains(spec, " ") {
		return nil, fmt.Errorf("%q has a time zone and no schedule", spec) // the parser would panic
	}
	s, err := cron.ParseStandard(strings.TrimSpace(k.Spec.Schedule))
	if err != nil {
		return nil, err
	}
	zone := time.UTC // of the controller manager, as a rule
	if k.Spec.TimeZone != nil {
		if zone, err = time.LoadLocation(*k.Spec.TimeZone); err != nil {
			return nil, nil //nolint:nilerr // told apart by the caller: the schedule is well formed
		}
	}
	if at, ok := s.(*cron.SpecSchedule); ok && at.Location == time.Local {
		at.Location = zone
	}
	return s, nil
}

// dueBetween counts the runs that were due after one moment and before another,
// up to most, and gives the first and the last of those it counted.
func dueBetween(s cron.Schedule, after, before time.Time, most int) (n int, first, last time.Time) {
	if before.Sub(after) > lookback {
		after = before.Add(-lookback)
	}
	for t := s.Next(after); n < most && !t.IsZero() && t.Before(before); t = s.Next(t) {
		if n++; n == 1 {
			first = t
		}
		last = t
	}
	return n, first, last
}

// manyRuns bounds how many missed runs are counted.
const manyRuns = 1000

func cronJobs(c *Cluster, found func(Problem)) {
	for _, k := range c.CronJobs {
		e := entity("CronJob", k)
		if k.Spec.Suspend != nil && *k.Spec.Suspend || k.DeletionTimestamp != nil {
			continue
		}
		seen := []string{"spec.schedule=" + k.Spec.Schedule}
		if k.Spec.TimeZone != nil {
			seen = append(seen, "spec.timeZone="+*k.Spec.TimeZone)
		}
		if t := k.Status.LastScheduleTime; t != nil {
			seen = append(seen, "status.lastScheduleTime="+t.UTC().Format(time.RFC3339))
		}
		if t := k.Status.LastSuccessfulTime; t != nil {
			seen = append(seen, "status.lastSuccessfulTime="+t.UTC().Format(time.RFC3339))
		}
		p := Problem{Entity: e, State: true, Urgency: event.Broken, Severity: event.Warning, Seen: seen, Next: []event.Check{describe(e, "its schedule, runs and events")}}
		due, err := schedule(k)
		if err != nil {
			p.Title, p.Detail = fmt.Sprintf("schedule %q is invalid: it never runs", k.Spec.Schedule), err.Error()
			found(p)
			continue
		}
		if bad := c.warned(e, recently, "UnknownTimeZone", "InvalidSchedule", "UnparseableSchedule", "UnParseableCronJobSchedule"); len(bad) > 0 {
			ev := bad[len(bad)-1]
			p.Title, p.Detail, p.Since = "its schedule or time zone is invalid: it does not run", ev.Message, ev.FirstTimestamp
			p.Seen = append(p.Seen, fmt.Sprintf("event %s: %s", ev.Reason, ev.Message))
			found(p)
			continue
		}
		if d := k.Spec.StartingDeadlineSeconds; d != nil && *d < 10 {
			hurried := p
			hurried.State, hurried.Urgency, hurried.Title = false, event.Soon, fmt.Sprintf("startingDeadlineSeconds %d: runs may be left out, since the controller looks every 10 s", *d)
			found(hurried)
		}
		if due == nil {
			continue
		}
		late(c, k, due, p, found)
	}
}

// late tells of runs that were due and did not come, or do not succeed.
func late(c *Cluster, k *batchv1.CronJob, due cron.Schedule, p Problem, found func(Problem)) {
	from := k.CreationTimestamp.Time
	if t := k.Status.LastScheduleTime; t != nil {
		from = t.Time
	}
	missed, first, _ := dueBetween(due, from, c.Now.Add(-overdue), manyRuns)
	var running *batchv1.Job
	for _, j := range c.Jobs {
		if _, _, _, _, done := ended(j); !done && c.rootOf(entity("Job", j)) == p.Entity && (running == nil || j.CreationTimestamp.Before(&running.CreationTimestamp)) {
			running = j
		}
	}
	switch {
	case missed > 0 && k.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && (running != nil || len(k.Status.Active) > 0):
		var name string
		if running != nil {
			name, p.Since = running.Name, started(running)
		} else {
			name = k.Status.Active[0].Name
		}
		p.Urgency, p.Title = event.Soon, fmt.Sprintf("run %s still goes on, and keeps back %s (Forbid)", name, many(missed, "run"))
		p.Next = append([]event.Check{{Why: "does the run get on?", Command: kubectl(k.Namespace, "logs job/%s --tail=50", name)}}, p.Next...)
		found(p)
		return
	case missed > 0 && k.Status.LastScheduleTime == nil:
		p.Title, p.Since = fmt.Sprintf("never ran, though %s due", many(missed, "run")+was(missed)), first
		found(p)
		return
	case missed > 0:
		p.Title, p.Since = many(missed, "run")+" did not start when due", first
		if ev := c.warned(p.Entity, recently, "TooManyMissedTimes", "FailedCreate"); len(ev) > 0 {
			p.Brief = oneLine(ev[len(ev)-1].Message, 120)
			p.Seen = append(p.Seen, fmt.Sprintf("event %s: %s", ev[len(ev)-1].Reason, ev[len(ev)-1].Message))
		}
		p.Next = append(p.Next, event.Check{Why: "is the controller manager well?", Command: "kubectl -n kube-system get pods -l component=kube-controller-manager"})
		found(p)
		return
	}
	// A failed run may be gone already, when its history limit is 0.
	since := k.CreationTimestamp.Time
	if t := k.Status.LastSuccessfulTime; t != nil {
		since = t.Time
	}
	if t := k.Status.LastScheduleTime; t == nil || running != nil || len(k.Status.Active) > 0 {
		return
	}
	if runs, _, _ := dueBetween(due, since, k.Status.LastScheduleTime.Add(time.Second), manyRuns); runs >= 3 {
		p.Title, p.Since = fmt.Sprintf("no run has succeeded of the last %s", many(runs, "run")), since
		found(p)
	}
}

func many(n int, what string) string {
	if n >= manyRuns {
		return fmt.Sprintf("over %d %ss", manyRuns-1, what)
	}
	return evidence.Count(n, what)
}

func was(n int) string {
	if n == 1 {
		return " was"
	}
	return " were"
}
