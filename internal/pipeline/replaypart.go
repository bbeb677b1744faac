package pipeline

import (
	"context"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bundle"
)

// Span is a part of a recording, by event time. A zero bound is none.
type Span struct{ From, To time.Time }

// Holds says whether a time is in the span; both bounds are.
func (s Span) Holds(t time.Time) bool {
	return (s.From.IsZero() || !t.Before(s.From)) && (s.To.IsZero() || !t.After(s.To))
}

// String is its bounds as the end of a sentence; "" when it has none.
func (s Span) String() string {
	out := ""
	if !s.From.IsZero() {
		out += " from " + stamp(s.From)
	}
	if !s.To.IsZero() {
		out += " to " + stamp(s.To)
	}
	return out
}

// Within is the part of s that lies between two times.
func (s Span) Within(from, to time.Time) Span {
	if s.From.Before(from) {
		s.From = from
	}
	if s.To.IsZero() || s.To.After(to) {
		s.To = to
	}
	return s
}

// end is where the replay ends: the recording's end, or the span's. Recorded
// sources are read in whole windows, of which the last is over by then.
func (r *Replay) end() time.Time {
	m := r.Bundle.Manifest
	if to := r.Span.To; !to.IsZero() && (m.End.IsZero() || to.Before(m.End)) {
		return to.Truncate(m.Grain())
	}
	return m.End
}

// beyond says whether a time is after the span that was asked for.
func (r *Replay) beyond(t time.Time) bool { return !r.Span.To.IsZero() && t.After(r.end()) }

// Judged is the part of the recording that the replay has judged whole, of the
// one that was asked for. It is known after Run.
func (r *Replay) Judged(ctx context.Context) (Span, error) {
	s := r.Span
	if s.To.IsZero() {
		return s, nil
	}
	at, err := judged(ctx, r.Host.Bus)
	if err != nil {
		return s, err
	}
	if at.Before(s.To) {
		s.To = at
	}
	return s, nil
}

// Digest is [Digest] of what the replay found in its span.
func (r *Replay) Digest(ctx context.Context) (string, error) {
	s, err := r.Judged(ctx)
	if err != nil {
		return "", err
	}
	return digest(ctx, r.Host.Bus, s)
}

// checkSpan says when there is nothing of the span in the bundle.
func (r *Replay) checkSpan() error {
	m, s := r.Bundle.Manifest, r.Span
	covers := "the recording goes from " + stamp(m.Start) + " to " + stamp(m.End)
	switch {
	case !s.From.IsZero() && !s.To.IsZero() && !s.From.Before(s.To):
		return usage("from %s to %s: is not a time that passes", stamp(s.From), stamp(s.To))
	case !s.From.IsZero() && !m.End.IsZero() && s.From.After(m.End):
		return usage("from %s: is after the end; %s", stamp(s.From), covers)
	case !s.To.IsZero() && !s.To.After(m.Start):
		return usage("to %s: is not after the beginning; %s", stamp(s.To), covers)
	case !s.To.IsZero() && m.State == bundle.Warm && !s.To.After(m.Since) && r.From != FromSources:
		return usage("to %s: the checkpoints that the recording begins with are of %s; write a later time", stamp(s.To), stamp(m.Since))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
