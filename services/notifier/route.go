package notifier

import (
	"context"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// history is what was decided about an incident.
type history struct {
	Decided  int             `json:"decided"` // latest revision
	Channels map[string]Told `json:"channels,omitempty"`
}

// route decides about one report, queues what is to be sent, and publishes
// the decisions; then it remembers, in one write, so that a crash before it
// repeats everything with the same ids, and a repeat after it does nothing. A
// decision "sent" without its notification would be a lie, and so the queue
// comes first.
func (s *Service) route(ctx context.Context, st *store, r event.Report) error {
	h, rev, err := get[history](ctx, st, toldKey(r.Incident))
	if err != nil {
		return err
	}
	if h.Decided == r.Revision {
		return nil
	}
	silenced := s.silence(ctx, r)
	return s.settle(ctx, st, r, h, rev, silenced, s.decide(r, h, silenced))
}

func (s *Service) decide(r event.Report, h history, silenced string) []Verdict {
	return decide(r, inputs{
		mode: s.cfg.Mode, routes: s.cfg.routes(), silenced: silenced, policy: s.env.Policies.Hash(), told: h.Channels, decided: h.Decided,
		traits: func(ch string) Traits {
			if o, ok := s.outlets[ch]; ok {
				return o.info.Traits
			}
			return Traits{}
		},
	})
}

// settle publishes verdicts and remembers them.
func (s *Service) settle(ctx context.Context, st *store, r event.Report, h history, rev uint64, silenced string, verdicts []Verdict) error {
	var queue, decisions []event.Outgoing
	next := history{Decided: max(h.Decided, r.Revision), Channels: map[string]Told{}}
	for ch, t := range h.Channels {
		next.Channels[ch] = t
	}
	for _, v := range verdicts {
		decisions = append(decisions, event.Decided.Out(v.Decision))
		s.metrics.decisions.WithLabelValues(string(v.Decision.Outcome)).Inc()
		if ch := v.Decision.Channel; v.Decision.Outcome == event.Sent {
			queue = append(queue, event.NotificationQueued.Out(event.Notification{
				Incident: r.Incident, Revision: r.Revision, Channel: ch, Route: v.Decision.Route, Update: v.Update,
				After: h.Channels[ch].Revision, Report: r,
			}))
			next.Channels[ch] = h.Channels[ch].After(r)
		}
	}
	if err := s.env.Bus.Publish(ctx, queue...); err != nil {
		return err
	}
	if err := s.env.Bus.Publish(ctx, decisions...); err != nil {
		return err
	}
	if r.Revision == next.Decided { // an older one says nothing of what a silence keeps back now
		if err := s.watchSilence(ctx, st, r, silenced != "" && slices.ContainsFunc(verdicts, silencedVerdict)); err != nil {
			return err
		}
	}
	_, err := st.update(ctx, toldKey(r.Incident), next, rev)
	return err
}

func silencedVerdict(v Verdict) bool { return v.Decision.Outcome == event.Silenced }

// watchSilence remembers a report that only a silence keeps back, or forgets
// the incident's.
func (s *Service) watchSilence(ctx context.Context, st *store, r event.Report, silenced bool) error {
	if silenced {
		return st.put(ctx, silencedKey(r.Incident), r)
	}
	return st.drop(ctx, silencedKey(r.Incident))
}

// recheckSilences decides again about incidents whose silence has ended: that
// is no event of theirs.
func (s *Service) recheckSilences(ctx context.Context, st *store) error {
	t := time.NewTicker(s.pace.silences)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		if err := s.recheck(ctx, st); err != nil && ctx.Err() == nil {
			s.env.Log.Warn("silenced incidents unreadable, looking again later", "err", err)
		}
	}
}

func (s *Service) recheck(ctx context.Context, st *store) error {
	keys, err := st.kv.Keys(ctx, silencedKey(""))
	if err != nil {
		return err
	}
	for _, key := range keys {
		r, _, err := get[event.Report](ctx, st, key)
		if err != nil {
			return err
		}
		if r.Incident == "" || s.silence(ctx, r) != "" {
			continue
		}
		h, rev, err := get[history](ctx, st, toldKey(r.Incident))
		if err != nil {
			return err
		}
		if h.Decided != r.Revision {
			continue // a newer revision is being decided
		}
		// The channels that the silence kept nothing from were decided for.
		verdicts := slices.DeleteFunc(s.decide(r, h, ""), func(v Verdict) bool {
			return h.Channels[v.Decision.Channel].Revision >= r.Revision
		})
		if err := s.settle(ctx, st, r, h, rev, "", verdicts); err != nil {
			return err
		}
	}
	return nil
}

// silence asks the channels that keep silences. A silence that cannot be read
// silences nothing: a page too many is better than one lost.
func (s *Service) silence(ctx context.Context, r event.Report) string {
	for _, name := range sortedKeys(s.outlets) {
		sl, ok := s.outlets[name].channel.(Silencer)
		if !ok {
			continue
		}
		which, err := sl.Silenced(ctx, Labels(r))
		if err != nil {
			s.env.Log.Warn("silences unreadable, none applied", "channel", name, "err", err)
			s.env.Health.Degraded("silences "+name, "unreadable, none applied: "+err.Error())
			continue
		}
		s.env.Health.Ready("silences " + name)
		if which != "" {
			return which
		}
	}
	return ""
}
