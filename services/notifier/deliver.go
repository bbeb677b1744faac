package notifier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// extRecorded is the extension that says when a notification was queued.
const extRecorded = "recordedtime"

// errStopping leaves a delivery that was not begun to the next run.
var errStopping = errors.New("the service stops")

// deliver sends one notification, once. That it was begun is remembered before
// the sending, and what was sent after it, so that a channel can find out
// about an attempt whose end was not seen. stop is done when the service is to
// stop; ctx lives on for a while, for what has begun.
func (s *Service) deliver(ctx, stop context.Context, st *store, o *outlet, e event.Event[event.Notification]) error {
	n := e.Data
	if !o.claim(n.Incident) {
		return bus.Retry(errors.New("another revision of the incident is being delivered"), 200*time.Millisecond)
	}
	defer o.release(n.Incident)
	th, rev, err := get[Thread](ctx, st, threadKey(n.Incident, o.name))
	if err != nil {
		return err
	}
	switch {
	case th.Revision == n.Revision:
		return s.delivered(ctx, st, o, n, th) // a crash may have come before the last of it
	case th.Revision > n.Revision:
		if attempts, ok := th.attempts(n.Revision); ok {
			return s.record(ctx, n, th.Ref, attempts) // sent, and a crash came before its record
		}
		return nil // overtaken: what it says is in the newer one
	}
	age := s.age(e)
	if n.After > th.Revision && age < s.patience() {
		return bus.Retry(fmt.Errorf("revision %d goes first", n.After), 500*time.Millisecond)
	}
	switch news := th.News(n.Report); {
	case n.Update == "digest":
	case n.Update == "quiet" && th.Revision == 0:
		return nil // nobody was told, and nobody is to be disturbed
	case n.Update == "quiet":
	case news == "updated" && !o.info.Edits:
		return nil // a revision that overtook this one has said it
	default:
		n.Update = news // what it adds to what the channel has, not to what it was given
	}
	if wait, why := o.probe(s.now()); wait > 0 && age < s.cfg.GiveUpAfter {
		return bus.Retry(fmt.Errorf("channel %s refuses: %s", o.name, why), wait)
	}
	select {
	case o.lanes <- struct{}{}:
		defer func() { <-o.lanes }()
	case <-stop.Done():
		return bus.Retry(errStopping, time.Second)
	}
	if o.info.Edits && th.Revision > 0 {
		return s.send(ctx, st, o, n, th, rev, age) // an edit is no new message
	}
	taken := s.now()
	if wait := o.slots.take(taken, n.Report.Priority.Pages()); wait > 0 {
		return bus.Retry(fmt.Errorf("channel %s has sent its messages of this minute", o.name), wait)
	}
	err = s.send(ctx, st, o, n, th, rev, age)
	if IsUnsent(err) {
		o.slots.back(taken)
	}
	return err
}

// age is how long ago a notification was queued.
func (s *Service) age(e event.Event[event.Notification]) time.Duration {
	t, err := time.Parse(time.RFC3339Nano, e.Extensions[extRecorded])
	if err != nil {
		return 0
	}
	return s.now().Sub(t)
}

// patience is how long a revision waits for the one before it: longer than a
// delivery that a crash has cut short takes to come again. After that it
// overtakes, so that a channel that was away is told the latest, once.
func (s *Service) patience() time.Duration { return s.ackWait() + 2*time.Minute }

// send makes one attempt.
func (s *Service) send(ctx context.Context, st *store, o *outlet, n event.Notification, th Thread, rev uint64, age time.Duration) error {
	id := event.NotificationID(n.Incident, n.Revision, n.Channel)
	begun := th
	if begun.Trying != id {
		begun.Trying, begun.Attempts = id, 0
	}
	begun.Pending = id
	begun.Attempts++
	rev, err := st.update(ctx, threadKey(n.Incident, o.name), begun, rev)
	if err != nil {
		return err
	}
	sendCtx, cancel := context.WithTimeoutCause(ctx, s.cfg.Timeout, fmt.Errorf("nothing in %v", s.cfg.Timeout))
	defer cancel()
	started := s.now()
	next, err := o.channel.Send(sendCtx, n, th)
	s.metrics.seconds.WithLabelValues(o.name).Observe(s.now().Sub(started).Seconds())
	next.Trying, next.Attempts = id, begun.Attempts
	if err != nil {
		next.Told, next.Sent = th.Told, th.Sent
		next.Pending = id
		if IsUnsent(err) {
			// This attempt needs no looking for. One before it may.
			next.Pending = th.Pending
		}
		if _, err := st.update(ctx, threadKey(n.Incident, o.name), next, rev); err != nil {
			return err
		}
		return s.undelivered(ctx, st, o, n, begun.Attempts, age, err)
	}
	next.Told, next.Pending = th.Told, ""
	next.Sent = append(slices.Clone(th.Sent[max(0, len(th.Sent)+1-maxSent):]), Sent{n.Revision, begun.Attempts})
	if n.Update == "digest" {
		next.Revision = n.Revision
	} else {
		next.Told = th.Told.After(n.Report)
	}
	if _, err := st.update(ctx, threadKey(n.Incident, o.name), next, rev); err != nil {
		return err
	}
	s.metrics.deliveries.WithLabelValues(o.name, "sent").Inc()
	return s.delivered(ctx, st, o, n, next)
}

// delivered does what follows a delivery. All of it may be done twice.
func (s *Service) delivered(ctx context.Context, st *store, o *outlet, n event.Notification, th Thread) error {
	s.env.Health.Ready("channel " + o.name)
	if !o.works() {
		if err := s.endRefusal(ctx, st, o); err != nil {
			return err
		}
		o.accept()
	}
	if err := st.remember(ctx, o.name, Case{Notification: n, Thread: th}); err != nil {
		return err
	}
	return s.record(ctx, n, th.Ref, th.Attempts)
}

// record says on the bus that a revision was delivered. Its id is the
// revision's, so that a repeat is dropped there.
func (s *Service) record(ctx context.Context, n event.Notification, ref string, attempts int) error {
	return s.env.Bus.Publish(ctx, event.ReportDelivered.Out(event.Delivery{
		Incident: n.Incident, Revision: n.Revision, Channel: n.Channel, Attempts: attempts, Ref: ref, Time: n.Report.Time,
	}))
}

// undelivered sorts a failed attempt: tried again, or given up with a record.
// What a channel refuses that refuses everything is kept: it is the channel
// that needs somebody, and not the message.
func (s *Service) undelivered(ctx context.Context, st *store, o *outlet, n event.Notification, attempts int, age time.Duration, cause error) error {
	s.env.Health.Degraded("channel "+o.name, cause.Error())
	_, rejected := errors.AsType[*bus.RejectError](cause)
	old := age >= s.cfg.GiveUpAfter
	if IsRefused(cause) {
		if err := s.beginRefusal(ctx, st, o, n, cause); err != nil {
			return err
		}
		if !old {
			s.metrics.deliveries.WithLabelValues(o.name, "retried").Inc()
			// Without the channel's own verdict, which is to reject.
			return bus.Retry(Refused(errors.New(cause.Error())), s.pace.probe)
		}
	}
	if !rejected && !old {
		s.metrics.deliveries.WithLabelValues(o.name, "retried").Inc()
		return cause
	}
	s.metrics.deliveries.WithLabelValues(o.name, "failed").Inc()
	s.env.Log.Error("delivery given up", "channel", o.name, "incident", n.Incident, "attempts", attempts, "err", cause)
	if err := s.env.Bus.Publish(ctx, event.ReportFailed.Out(event.Delivery{
		Incident: n.Incident, Revision: n.Revision, Channel: n.Channel, Attempts: attempts, Error: cause.Error(), Time: n.Report.Time,
	})); err != nil {
		return err
	}
	if rejected {
		return cause
	}
	return bus.Reject(fmt.Errorf("given up after %v: %w", age.Round(time.Second), cause))
}

// repeat gives a steady channel every open incident again at its interval.
func (s *Service) repeat(ctx context.Context, st *store, name string, ch Steady) error {
	t := time.NewTicker(ch.Interval())
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		open, err := st.open(ctx, name)
		if err != nil {
			s.env.Log.Warn("open incidents unreadable, repeating later", "channel", name, "err", err)
			continue
		}
		if len(open) == 0 {
			continue
		}
		if err := ch.Repeat(ctx, open); err != nil && ctx.Err() == nil {
			s.env.Log.Warn("repeat refused, repeating later", "channel", name, "incidents", len(open), "err", err)
			s.metrics.deliveries.WithLabelValues(name, "retried").Inc()
		}
	}
}
