package pipeline

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// played runs a replay to its end.
func played(t *testing.T, r *Replay) *Replay {
	t.Helper()
	r.Host = host(t)
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAPartOfARecordingIsWhatTheWholeFindsInIt compares, by digest, what replays
// of parts show with what the replay of all of it had found at that time.
func TestAPartOfARecordingIsWhatTheWholeFindsInIt(t *testing.T) {
	t.Parallel()
	b := outage(t)
	whole := played(t, &Replay{Bundle: b})
	dir := filepath.Join(t.TempDir(), "streams")
	if _, err := Record(t.Context(), whole.Host.Bus, dir, Recording{Manifest: b.Manifest}); err != nil {
		t.Fatal(err)
	}
	streams, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := Digest(t.Context(), whole.Host.Bus)
	if err != nil {
		t.Fatal(err)
	}
	start := b.Manifest.Start
	during, after := start.Add(36*time.Minute), start.Add(42*time.Minute)
	for name, tc := range map[string]struct {
		bundle *bundle.Bundle
		from   From
		span   Span
	}{
		"the beginning, from the streams":          {streams, FromTelemetry, Span{To: during}},
		"the beginning, from what was found":       {streams, FromAnomalies, Span{To: during}},
		"up to a time within a step":               {streams, FromTelemetry, Span{To: during.Add(17 * time.Second)}},
		"up to a time within a step, from sources": {b, FromSources, Span{To: during.Add(17 * time.Second)}},
		"the middle": {streams, FromTelemetry, Span{From: during, To: after}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := played(t, &Replay{Bundle: tc.bundle, From: tc.from, Span: tc.span})
			judged, err := r.Judged(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if to := tc.span.To; !to.IsZero() && (judged.To.After(to) || to.Sub(judged.To) > time.Minute) {
				t.Errorf("judged up to %v, want the last step before %v", judged.To, to)
			}
			got, err := r.Digest(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want, err := digest(t.Context(), whole.Host.Bus, judged)
			if err != nil {
				t.Fatal(err)
			}
			if got != want || strings.HasPrefix(got, "0 ") || got == all {
				t.Errorf("got %s\nthe whole found then %s\nand in all %s", got, want, all)
			}
			if err := r.Host.Bus.Read(t.Context(), event.Incidents, bus.ReadOptions{}, func(m bus.Message) error {
				if to := tc.span.To; !to.IsZero() && m.Time.After(to) {
					t.Errorf("revision %s of %v is after %v", m.ID, m.Time, to)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if tc.from == FromSources {
				return // of which there is nothing recorded to compare with
			}
			c, err := r.Compare(t.Context())
			if err != nil || !c.Comparable || c.Difference != "" {
				t.Errorf("%s, %v", c, err)
			}
		})
	}
}

func TestARecordingOfAPartReplaysAlike(t *testing.T) {
	t.Parallel()
	b := outage(t)
	r := played(t, &Replay{Bundle: b, Span: Span{To: b.Manifest.Start.Add(40 * time.Minute)}})
	dir := filepath.Join(t.TempDir(), "part")
	if err := r.Record(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	part, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := part.Manifest.End, b.Manifest.Start.Add(40*time.Minute); !got.Equal(want) {
		t.Errorf("it ends at %v, want %v", got, want)
	}
	again := played(t, &Replay{Bundle: part})
	if c, err := again.Compare(t.Context()); err != nil || !c.Comparable || c.Difference != "" || c.Incidents == 0 {
		t.Errorf("%s, %v", c, err)
	}
}

func TestAPartThatIsNotThereIsRefused(t *testing.T) {
	t.Parallel()
	b := outage(t)
	start, end := b.Manifest.Start, b.Manifest.End
	for name, tc := range map[string]struct {
		span Span
		want string
	}{
		"after the end":        {Span{From: end.Add(time.Second)}, "is after the end; the recording goes from 2026-11-25T02:00:00Z to 2026-11-25T02:50:00Z"},
		"before the beginning": {Span{To: start}, "is not after the beginning; the recording goes from"},
		"the wrong way round":  {Span{From: end, To: start.Add(time.Minute)}, "is not a time that passes"},
		"no time at all":       {Span{From: end, To: end}, "is not a time that passes"},
		"all of it":            {Span{From: start, To: end}, ""},
		"more than all of it":  {Span{From: start.Add(-time.Hour), To: end.Add(time.Hour)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := (&Replay{Bundle: b, Span: tc.span}).start()
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
