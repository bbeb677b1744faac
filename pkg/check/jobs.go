package check

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

var jobChecks = []Info{
	{
		Name: "jobs", Needs: []string{"jobs"}, Partly: []string{"cronjobs"},
		Doc: "Jobs that failed (backoff limit, deadline), that fail again and again, or that run for more than 12 hours. " +
			"Not: a failed run of a CronJob that has succeeded since, or a Job that is suspended or has granted itself a longer deadline; one that failed over a week ago is hygiene.",
		Run: jobs,
	},
	{
		Name: "cronjobs", Needs: []string{"cronjobs"},
		Doc: "CronJobs whose schedule or time zone is invalid, that did not run when they were due, whose last success is three runs ago, or of which a run that goes on keeps the next ones back (Forbid). " +
			"Not: one that is suspended, or whose first run is not due yet.",
		Run: cronJobs,
	},
	{
		Name: "job_hygiene", Needs: []string{"jobs", "cronjobs"},
		Doc: "Jobs and CronJobs that are suspended.",
		Run: suspended,
	},
}

const (
	longJob  = 12 * time.Hour       // kubernetes-mixin's KubeJobNotCompleted
	leftOver = 7 * 24 * time.Hour   // after which a failed Job is only untidy
	overdue  = 2 * time.Minute      // for the controller to start a run that is due
	lookback = 400 * 24 * time.Hour // how far missed runs are counted
)

// ended says how a Job ended, if it did.
func ended(j *batchv1.Job) (reason, message string, at time.Time, failed, done bool) {
	for i := range j.Status.Conditions {
		k := &j.Status.Conditions[i]
		if k.Status == corev1.ConditionTrue && (k.Type == batchv1.JobFailed || k.Type == batchv1.JobComplete) {
			return k.Reason, k.Message, k.LastTransitionTime.Time, k.Type == batchv1.JobFailed, true
		}
	}
	return "", "", time.Time{}, false, false
}

// jobs tells of the runs of a CronJob only the last that ended, and of a Job
// without one how it is.
func jobs(c *Cluster, found func(Problem)) {
	succeeded := map[event.Entity]time.Time{} // roots → when a run last succeeded
	last := map[event.Entity]time.Time{}      // roots → when a run last failed
	for _, j := range c.Jobs {
		root := c.rootOf(entity("Job", j))
		switch _, _, at, failed, done := ended(j); {
		case done && failed && at.After(last[root]):
			last[root] = at
		case done && !failed && at.After(succeeded[root]):
			succeeded[root] = at
		}
	}
	for _, k := range c.CronJobs {
		root := entity("CronJob", k)
		if s := k.Status.LastSuccessfulTime; s != nil && s.After(succeeded[root]) {
			succeeded[root] = s.Time
		}
	}
	for _, j := range c.Jobs {
		e := entity("Job", j)
		root := c.rootOf(e)
		reason, message, at, failed, done := ended(j)
		switch {
		case done && !failed:
		case done && root.Kind == "CronJob" && !c.Read("cronjobs"): // it may have succeeded since
		case done && root == e, done && at.Equal(last[root]) && !succeeded[root].After(at):
			p := Problem{
				Entity: e, State: true, Urgency: event.Broken, Severity: event.Warning, Since: at, Title: "failed", Brief: c.jobReason(j, reason), Detail: message,
				Seen: []string{fmt.Sprintf("Job %s: condition Failed=True %s: %s", j.Name, reason, message)},
				Next: []event.Check{describe(e, "its conditions and events")},
			}
			if c.left(j) { // a deadline takes the pods away
				p.Next = append([]event.Check{{Why: "the last lines of its pods", Command: kubectl(j.Namespace, "logs job/%s --tail=50", j.Name)}}, p.Next...)
			}
			if root != e {
				p.Title = "last run failed"
			}
			if c.Now.Sub(at) > leftOver && root == e {
				p.Urgency, p.Severity = event.Hygiene, event.Info
			}
			found(p)
		case done:
		case j.Spec.Suspend != nil && *j.Spec.Suspend:
		case j.Status.Failed >= 2 && j.Status.Active > 0:
			found(Problem{
				Entity: e, State: true, Urgency: event.Soon, Title: fmt.Sprintf("%d pods failed, and it tries on", j.Status.Failed), Brief: c.jobReason(j, ""), Since: started(j),
				Seen: []string{fmt.Sprintf("Job %s: failed=%d active=%d succeeded=%d backoffLimit=%d", j.Name, j.Status.Failed, j.Status.Active, j.Status.Succeeded, wanted(j.Spec.BackoffLimit))},
				Next: []event.Check{{Why: "the last lines of its pods", Command: kubectl(j.Namespace, "logs job/%s --tail=50", j.Name)}, describe(e, "its events")},
			})
		case j.Status.StartTime != nil && c.age(*j.Status.StartTime) > longJob && j.Status.Active > 0 && (j.Spec.ActiveDeadlineSeconds == nil || time.Duration(*j.Spec.ActiveDeadlineSeconds)*time.Second < longJob):
			found(Problem{
				Entity: e, State: true, Urgency: event.Soon, Title: "still running", Since: j.Status.StartTime.Time, Brief: fmt.Sprintf("%d of %d completions", j.Status.Succeeded, wanted(j.Spec.Completions)),
				Seen: []string{fmt.Sprintf("Job %s: startTime=%s active=%d succeeded=%d", j.Name, j.Status.StartTime.UTC().Format(time.RFC3339), j.Status.Active, j.Status.Succeeded)},
				Next: []event.Check{{Why: "does it get on?", Command: kubectl(j.Namespace, "logs job/%s --tail=50", j.Name)}, describe(e, "since when, and its deadline")},
			})
		}
	}
}

// left says whether a Job that failed has pods yet, of which there are logs.
func (c *Cluster) left(j *batchv1.Job) bool {
	return slices.ContainsFunc(c.byNamespace[j.Namespace], func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == "Job" && o.Name == j.Name })
	})
}

func started(j *batchv1.Job) time.Time {
	if j.Status.StartTime != nil {
		return j.Status.StartTime.Time
	}
	return j.CreationTimestamp.Time
}

// jobReason is why a Job fails, as its pods say, or else its condition.
func (c *Cluster) jobReason(j *batchv1.Job, reason string) string {
	var pods []*corev1.Pod
	for _, p := range c.pods[c.rootOf(entity("Job", j))] {
		if slices.ContainsFunc(p.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == "Job" && o.Name == j.Name }) {
			pods = append(pods, p)
		}
	}
	why := ""
	for _, p := range pods {
		for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			e := s.State.Terminated
			if e == nil {
				e = s.LastTerminationState.Terminated
			}
			if e == nil || e.ExitCode == 0 {
				continue
			}
			why = fmt.Sprintf("container %s exits with code %d", s.Name, e.ExitCode)
			if e.Reason != "" && e.Reason != "Error" {
				why = fmt.Sprintf("container %s: %s", s.Name, e.Reason)
			}
		}
	}
	switch {
	case reason == "" || why != "" && reason == batchv1.JobReasonBackoffLimitExceeded:
		return why
	case why != "":
		return reason + ", " + why
	}
	return reason
}

func suspended(c *Cluster, found func(Problem)) {
	for _, j := range c.Jobs {
		if _, _, _, _, done := ended(j); !done && j.Spec.Suspend != nil && *j.Spec.Suspend && c.age(j.CreationTimestamp) > recently {
			found(Problem{
				Entity: entity("Job", j), Urgency: event.Hygiene, Title: "suspended", Since: j.CreationTimestamp.Time, Seen: []string{"spec.suspend=true"},
				Next: []event.Check{describe(entity("Job", j), "who suspended it, and why")},
			})
		}
	}
	for _, k := range c.CronJobs {
		if k.Spec.Suspend == nil || !*k.Spec.Suspend {
			continue
		}
		seen := []string{"spec.suspend=true"}
		if t := k.Status.LastScheduleTime; t != nil {
			seen = append(seen, "last run "+t.UTC().Format(time.RFC3339))
		}
		found(Problem{
			Entity: entity("CronJob", k), Urgency: event.Hygiene, Title: "suspended", Seen: seen,
			Next: []event.Check{describe(entity("CronJob", k), "who suspended it, and why")},
		})
	}
}
