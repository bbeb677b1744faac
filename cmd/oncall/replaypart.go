package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// beginnings are what a replay can begin with.
var beginnings = []string{string(pipeline.FromSources), string(pipeline.FromTelemetry), string(pipeline.FromAnomalies)}

// part reads --from, which is what to begin with, a time, or one of each, and
// --to.
func (f *replayFlags) part(m bundle.Manifest) (from pipeline.From, span pipeline.Span, err error) {
	for _, v := range f.from {
		if !strings.ContainsAny(v, "0123456789") { // a word
			if from != "" {
				return "", span, usageOf("--from %s: %s was written before; a replay begins with one of them", v, from)
			}
			from = pipeline.From(v)
			continue
		}
		if !span.From.IsZero() {
			return "", span, usageOf("--from %s: a time was written before; there is one beginning", v)
		}
		if span.From, err = moment(v, m.Start); err != nil {
			return "", span, usageOf("--from %w", err)
		}
	}
	if f.to != "" {
		if span.To, err = moment(f.to, m.Start); err != nil {
			return "", span, usageOf("--to %w", err)
		}
	}
	if f.record != "" && !span.From.IsZero() {
		return "", span, usageOf("--record %s: is of all that was replayed, from the recording's beginning; leave out --from %s", f.record, span.From.Format(time.RFC3339))
	}
	return from, span, nil
}

func usageOf(format string, args ...any) error {
	return &service.UsageError{Err: fmt.Errorf(format, args...)}
}

// moment reads an event time of a recording that begins at start: in RFC 3339, as
// a time of day in UTC, which is the first such time in the recording, or as the
// time since its beginning, +10m.
func moment(s string, start time.Time) (time.Time, error) {
	if d, ok := strings.CutPrefix(s, "+"); ok {
		if after, err := time.ParseDuration(d); err == nil && after >= 0 {
			return start.Add(after).UTC(), nil
		}
	}
	for _, layout := range []string{"15:04", time.TimeOnly} {
		if of, err := time.Parse(layout, s); err == nil {
			y, m, d := start.UTC().Date()
			t := time.Date(y, m, d, of.Hour(), of.Minute(), of.Second(), of.Nanosecond(), time.UTC)
			if t.Before(start.Truncate(time.Second)) {
				t = t.AddDate(0, 0, 1)
			}
			return t, nil
		}
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: is no time; write 2026-11-25T02:10:00Z, 02:10 (UTC), or +10m from the recording's beginning", s)
	}
	return t.UTC(), nil
}

// completeParts completes --from and --to with what the bundle covers, when there
// is one in the command line.
func completeParts(c *cobra.Command) {
	of := func(args []string) (first, last []string) {
		if len(args) == 0 {
			return nil, nil
		}
		b, err := bundle.Open(args[0])
		if err != nil {
			return nil, nil
		}
		return []string{b.Manifest.Start.UTC().Format(time.RFC3339)}, []string{b.Manifest.End.UTC().Format(time.RFC3339)}
	}
	for flag, values := range map[string]func(args []string) []string{
		"from": func(args []string) []string {
			first, _ := of(args)
			return slices.Concat(beginnings, first)
		},
		"to": func(args []string) []string {
			_, last := of(args)
			return last
		},
	} {
		// It fails for a flag that is not there only.
		_ = c.RegisterFlagCompletionFunc(flag, func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return values(args), cobra.ShellCompDirectiveNoFileComp
		})
	}
}
