package foreign

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// ErrTable is wrapped by the errors of a table that cannot be read as one.
var ErrTable = errors.New("csv")

// RunCSV feeds the child a table instead of the bus, and gives emit what it
// finds: the way to try a detector on a recorded series. The first line names
// the columns. One is called time or timestamp, in RFC 3339, as
// 2006-01-02 15:04:05, or in seconds or milliseconds since the epoch; every
// other column is a series of numbers by its name, and an empty cell is a
// missing value. Each row is a window, and the rows are in order.
func RunCSV(ctx context.Context, log *slog.Logger, cfg Config, table io.Reader, emit func(event.Anomaly) error) error {
	cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return err
	}
	in := csv.NewReader(table)
	in.ReuseRecord, in.TrimLeadingSpace = true, true
	head, err := in.Read()
	if err != nil {
		return fmt.Errorf("%w: line 1: %w", ErrTable, err)
	}
	names := append([]string(nil), head...)
	at := -1
	for i, name := range names {
		names[i] = strings.TrimPrefix(strings.TrimSpace(name), "\ufeff")
		if n := strings.ToLower(names[i]); at < 0 && (n == "time" || n == "timestamp") {
			at = i
		}
	}
	if at < 0 || len(names) < 2 {
		return fmt.Errorf("%w: line 1: columns %q: want time and at least one series; write time,requests", ErrTable, strings.Join(names, ","))
	}
	c, err := start(ctx, cfg, log)
	if err != nil {
		return fmt.Errorf("run detector %s: %w", cfg.Name, err)
	}
	defer c.stop()
	var last time.Time
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		line, _ := in.FieldPos(0)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrTable, err)
		}
		w, err := rowWindow(names, at, row, cfg.Select)
		if err != nil {
			return fmt.Errorf("%w: line %d: %w", ErrTable, line, err)
		}
		if !w.Watermark.After(last) {
			return fmt.Errorf("%w: line %d: time %s is not after the row before; sort the rows by time", ErrTable, line, w.Watermark.Format(time.RFC3339))
		}
		last = w.Watermark
		answer, err := c.ask(w, cfg.Timeout)
		if err != nil {
			return fmt.Errorf("run detector %s: line %d: %w", cfg.Name, line, err)
		}
		found, err := parse(answer, cfg.Name, w)
		if err != nil {
			return fmt.Errorf("run detector %s: line %d: %w", cfg.Name, line, err)
		}
		for _, a := range found {
			a.WindowEnd = w.Watermark
			if a.Onset.IsZero() {
				a.Onset = w.Watermark
			}
			if err := emit(a); err != nil {
				return err
			}
		}
	}
}

// rowWindow is one row as the child reads it.
func rowWindow(names []string, at int, row []string, sel map[string]string) (window, error) {
	t, err := rowTime(row[at])
	if err != nil {
		return window{}, err
	}
	w := window{Watermark: t}
	for i, cell := range row {
		cell = strings.TrimSpace(cell)
		if i == at || cell == "" {
			continue
		}
		v, err := strconv.ParseFloat(cell, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return window{}, fmt.Errorf("%s: %q is not a number; leave the cell empty when there is none", names[i], cell)
		}
		labels := map[string]string{event.LabelName: names[i], event.LabelWorkload: names[i], event.LabelNamespace: "csv"}
		if selects(sel, event.LabelsOf(labels)) {
			w.Series = append(w.Series, series{Labels: labels, Points: [][2]float64{{seconds(t), v}}})
		}
	}
	return w, nil
}

// rowTime reads a time in one of the ways that tables have it.
func rowTime(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v > 0) || v > 1e14 {
		return time.Time{}, fmt.Errorf("time: %q is not a time; write 2026-03-01T10:00:00Z", s)
	}
	if v > 1e11 {
		v /= 1000
	}
	return time.UnixMilli(int64(math.Round(v * 1000))).UTC(), nil
}
