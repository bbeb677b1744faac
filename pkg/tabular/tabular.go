// Package tabular reads time series from CSV: a line of column names, then a row
// for each time.
package tabular

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// ErrFormat is wrapped by the errors of a table that cannot be read as one.
var ErrFormat = errors.New("csv")

// Reader reads one table. One column is called time or timestamp, in RFC 3339,
// as 2006-01-02 15:04:05, or in seconds or milliseconds since the epoch; every
// other column is a series by its name.
type Reader struct {
	// Columns are the names of the series.
	Columns []string

	in    *csv.Reader
	names []string
	at    int // the column of the time
}

// Row is what was at one time. Values has one number for each column, NaN
// where the cell is empty.
type Row struct {
	Line   int // of the file, from 1
	Time   time.Time
	Values []float64
}

// NewReader reads the line of names.
func NewReader(r io.Reader) (*Reader, error) {
	t := &Reader{in: csv.NewReader(r), at: -1}
	t.in.ReuseRecord, t.in.TrimLeadingSpace = true, true
	head, err := t.in.Read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty; write a line of names, then rows")
		}
		return nil, fmt.Errorf("%w: line 1: %w", ErrFormat, err)
	}
	for i, name := range head {
		name = strings.TrimPrefix(strings.TrimSpace(name), "\ufeff")
		t.names = append(t.names, name)
		if n := strings.ToLower(name); t.at < 0 && (n == "time" || n == "timestamp") {
			t.at = i
			continue
		}
		t.Columns = append(t.Columns, name)
	}
	if t.at < 0 || len(t.Columns) == 0 {
		return nil, fmt.Errorf("%w: line 1: columns %q: want time and at least one series; write time,requests", ErrFormat, strings.Join(t.names, ","))
	}
	return t, nil
}

// Next reads a row; io.EOF after the last.
func (t *Reader) Next() (Row, error) {
	cells, err := t.in.Read()
	if errors.Is(err, io.EOF) {
		return Row{}, io.EOF
	}
	if err != nil {
		return Row{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	line, _ := t.in.FieldPos(0)
	row := Row{Line: line, Values: make([]float64, 0, len(t.Columns))}
	if row.Time, err = Time(cells[t.at]); err != nil {
		return Row{}, fmt.Errorf("%w: line %d: %w", ErrFormat, line, err)
	}
	for i, cell := range cells {
		if i == t.at {
			continue
		}
		v := math.NaN()
		if cell = strings.TrimSpace(cell); cell != "" {
			if v, err = strconv.ParseFloat(cell, 64); err != nil {
				return Row{}, fmt.Errorf("%w: line %d: %s: %q is not a number; leave the cell empty when there is none", ErrFormat, line, t.names[i], cell)
			}
		}
		row.Values = append(row.Values, v)
	}
	return row, nil
}

// Time reads a time in one of the ways that tables have it.
func Time(s string) (time.Time, error) {
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
