package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// looks are what a watch sees, one after the other; then it is interrupted.
func looks(t *testing.T, w *watcher, every time.Duration, list ...any) (out, notes string, err error) {
	t.Helper()
	var b, n bytes.Buffer
	w.o.out, w.notes, w.seen = &b, &n, map[string]watchedLine{}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w.now = func() time.Time { return time.Date(2026, 3, 1, 2, 51, 0, 0, time.UTC).Add(time.Since(began)) }
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		err = w.run(ctx, every, func(context.Context) (*watched, error) {
			if n == len(list) {
				cancel()
				return nil, ctx.Err()
			}
			n++
			if failed, ok := list[n-1].(error); ok {
				return nil, failed
			}
			x := list[n-1].(*watched)
			x.page = func() error { _, err := io.WriteString(&b, "page\n"); return err }
			return x, nil
		})
	})
	return b.String(), n.String(), err
}

func found(value string, lines ...watchedLine) *watched { return &watched{value: value, lines: lines} }

func TestAPipeGetsWhatHasChangedAndATerminalThePage(t *testing.T) {
	crash := func(age string) watchedLine { return watchedLine{"crash", "crash", "BROKEN  crash " + age} }
	list := []any{
		found("a", crash("9m")),
		found("b", crash("10m")),
		errors.New("unreachable"), errors.New("unreachable"),
		found("c", crash("11m"), watchedLine{"full", "full", "SOON  \x1b[31mfull"}),
		found("d", watchedLine{"full", "fuller", "SOON  fuller"}),
	}
	for name, tc := range map[string]struct {
		format, out, notes string
		redraw             bool
	}{
		"a pipe": {format: "table", out: "02:51:00  BROKEN  crash 9m\n02:55:00  SOON  [31mfull\n02:56:00  SOON  fuller\n02:56:00  over: BROKEN  crash 11m\n", notes: "oncall: 02:53:00  unreachable\noncall: 02:55:00  answers again\n"},
		"JSON":   {format: "json", out: "\"a\"\n\"c\"\n\"d\"\n"},
		"a terminal": {format: "table", redraw: true, out: strings.Join([]string{"", "02:51:00", "02:52:00", "02:55:00", "02:56:00"},
			", every 1m; stop with Ctrl-C\n\x1b[H\x1b[Jpage\n\n")[len(", every 1m; stop with Ctrl-C\n"):] + ", every 1m; stop with Ctrl-C\n"},
	} {
		t.Run(name, func(t *testing.T) {
			out, notes, err := looks(t, &watcher{o: &options{output: tc.format}, redraw: tc.redraw}, time.Minute, list...)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("err = %v, want that it was interrupted", err)
			}
			if out != tc.out {
				t.Errorf("got\n%q\nwant\n%q", out, tc.out)
			}
			if tc.notes != "" && notes != tc.notes {
				t.Errorf("notes\n%q\nwant\n%q", notes, tc.notes)
			}
		})
	}
}

func TestAWatchEndsWithTheFirstErrorAndWithItsGate(t *testing.T) {
	unreachable, gate := errors.New("unreachable"), errors.New("something is broken")
	if _, _, err := looks(t, &watcher{o: &options{output: "table"}}, time.Minute, unreachable); !errors.Is(err, unreachable) {
		t.Errorf("a first look that fails: %v", err)
	}
	broken := found("x", watchedLine{"a", "a", "a"})
	broken.end = gate
	out, _, err := looks(t, &watcher{o: &options{output: "table"}}, time.Minute, found("y"), broken, found("z"))
	if !errors.Is(err, gate) || out != "02:52:00  a\n" {
		t.Errorf("a look that is the last: %v, %q", err, out)
	}
}
