package foreign

import (
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// TestTheSameScriptRunsOnATable runs the example, unchanged, on a CSV file.
func TestTheSameScriptRunsOnATable(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	var b strings.Builder
	b.WriteString("time,requests,errors\n")
	for i := range 40 {
		v := 100 + i%7
		if i == 35 {
			v = 900
		}
		fmt.Fprintf(&b, "2026-03-01T10:%02d:00Z,%d,\n", i, v)
	}
	cfg := Config{Name: "highest", Exec: []string{python, filepath.Join("..", "..", "..", "examples", "detector-python", "highest.py")}, Timeout: time.Minute}
	var found []event.Anomaly
	err = RunCSV(t.Context(), slog.New(slog.DiscardHandler), cfg, strings.NewReader(b.String()), func(a event.Anomaly) error {
		found = append(found, a)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].Observed != 900 || found[0].Signal != "requests" || !found[0].Onset.Equal(time.Date(2026, 3, 1, 10, 35, 0, 0, time.UTC)) {
		t.Errorf("got %+v, want the 900 of requests at 10:35", found)
	}
}

func TestABadTableIsRefusedWithItsLine(t *testing.T) {
	for name, c := range map[string]struct{ table, want string }{
		"no time column":           {"a,b\n1,2\n", `line 1: columns "a,b"`},
		"only a time column":       {"time\n1\n", "at least one series"},
		"nothing":                  {"", "line 1"},
		"a time that is none":      {"time,a\nyesterday,2\n", `line 2: time: "yesterday" is not a time`},
		"a value that is none":     {"time,a\n1700000000,high\n", `line 2: a: "high" is not a number`},
		"infinity":                 {"time,a\n1700000000,Inf\n", `line 2: a: +Inf is not a number`},
		"a row with too few cells": {"time,a\n1700000000\n", "wrong number of fields"},
		"rows out of order":        {"time,a\n1700000000,\n1699999999,\n", "line 3: time"},
	} {
		t.Run(name, func(t *testing.T) {
			// The child answers every window with nothing.
			cfg := Config{Name: "nothing", Exec: []string{"sed", "-u", "s/.*/[]/"}}
			err := RunCSV(t.Context(), slog.New(slog.DiscardHandler), cfg, strings.NewReader(c.table), func(event.Anomaly) error { return nil })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
