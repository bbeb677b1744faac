package foreign

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/tabular"
)

// RunCSV feeds the child a table instead of the bus, and gives emit what it
// finds: the way to try a detector on a recorded series. Each row is a window,
// and the rows are in order.
func RunCSV(ctx context.Context, log *slog.Logger, cfg Config, csv io.Reader, emit func(event.Anomaly) error) error {
	cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return err
	}
	in, err := tabular.NewReader(csv)
	if err != nil {
		return err
	}
	c, err := start(ctx, cfg, log)
	if err != nil {
		return fmt.Errorf("run detector %s: %w", cfg.Name, err)
	}
	defer c.stop()
	var last time.Time
	for {
		row, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line := row.Line
		w, err := rowWindow(in.Columns, row, cfg.Select)
		if err != nil {
			return fmt.Errorf("%w: line %d: %w", tabular.ErrFormat, line, err)
		}
		if !w.Watermark.After(last) {
			return fmt.Errorf("%w: line %d: time %s is not after the row before; sort the rows by time", tabular.ErrFormat, line, w.Watermark.Format(time.RFC3339))
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
func rowWindow(names []string, row tabular.Row, sel map[string]string) (window, error) {
	w := window{Watermark: row.Time}
	for i, v := range row.Values {
		if math.IsNaN(v) {
			continue
		}
		if math.IsInf(v, 0) {
			return window{}, fmt.Errorf("%s: %v is not a number; leave the cell empty when there is none", names[i], v)
		}
		labels := map[string]string{event.LabelName: names[i], event.LabelWorkload: names[i], event.LabelNamespace: "csv"}
		if selects(sel, event.LabelsOf(labels)) {
			w.Series = append(w.Series, series{Labels: labels, Points: [][2]float64{{seconds(row.Time), v}}})
		}
	}
	return w, nil
}
