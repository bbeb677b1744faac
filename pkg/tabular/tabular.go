// Package tabular reads time series from CSV: a line of column names, then a row
// for each time.
package tabular

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrFormat is wrapped by the errors of a table that cannot be read as one.
var ErrFormat = errors.New("csv")

// Reader reads one table, its cells apart by commas, semicolons or tabs. The
// column called time or timestamp, or else the first, is the time, in any of the
// ways of [Time]. Where a column is called value it is the one series; else every
// other column is a series by its name. A table whose first line is a row already
// has no names: its columns are value, or column 2, column 3 and so on.
type Reader struct {
	// Columns are the names of the series.
	Columns []string
	// Ignored are the names of columns beside value, which are not read.
	Ignored []string

	in     *csv.Reader
	first  []string // a row that stands where names would; nil: none, or read
	names  []string
	at     int   // the column of the time
	guess  bool  // no name says that it is
	series []int // the columns of Columns
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
	b := bufio.NewReader(r)
	t := &Reader{in: csv.NewReader(b), at: -1}
	t.in.ReuseRecord, t.in.Comma = true, separator(b)
	t.in.TrimLeadingSpace = t.in.Comma != '\t' // a blank that would be trimmed: cells may be empty
	head, err := t.in.Read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty; write a line of names, then rows")
		}
		return nil, fmt.Errorf("%w: line 1: %w", ErrFormat, err)
	}
	head[0] = strings.TrimPrefix(head[0], "\ufeff")
	if isRow(head) {
		t.first = slices.Clone(head)
		head = nameless(len(head))
	}
	for _, name := range head {
		t.names = append(t.names, strings.TrimSpace(name))
	}
	t.choose()
	if len(t.Columns) == 0 {
		return nil, fmt.Errorf("%w: line 1: columns %q: want time and at least one series; write time,requests", ErrFormat, strings.Join(t.names, ","))
	}
	for i, name := range t.Columns {
		if slices.Contains(t.Columns[:i], name) {
			return nil, fmt.Errorf("%w: line 1: column %q comes twice; give each series a name of its own", ErrFormat, name)
		}
	}
	return t, nil
}

// separator is what parts the cells of the first line.
func separator(b *bufio.Reader) rune {
	text, _ := b.Peek(4096)
	line, _, _ := bytes.Cut(text, []byte("\n"))
	for _, c := range ",;\t" {
		if bytes.ContainsRune(line, c) {
			return c
		}
	}
	return ','
}

// isRow tells whether cells are a time and numbers, and no names.
func isRow(cells []string) bool {
	if _, err := Time(cells[0]); err != nil || len(cells) < 2 {
		return false
	}
	_, err := strconv.ParseFloat(strings.TrimSpace(cells[1]), 64)
	return err == nil
}

// nameless are the names of n columns that have none.
func nameless(n int) []string {
	if n == 2 {
		return []string{"time", "value"}
	}
	names := []string{"time"}
	for i := 2; i <= n; i++ {
		names = append(names, fmt.Sprintf("column %d", i))
	}
	return names
}

// choose finds the columns of the time and of the series by their names.
func (t *Reader) choose() {
	is := func(names ...string) int {
		return slices.IndexFunc(t.names, func(n string) bool { return slices.Contains(names, strings.ToLower(n)) })
	}
	t.at = is("time", "timestamp")
	t.guess = t.at < 0
	t.at = max(0, t.at)
	value := is("value")
	for i, name := range t.names {
		switch {
		case i == t.at:
		case value >= 0 && value != t.at && i != value:
			t.Ignored = append(t.Ignored, name)
		default:
			t.Columns, t.series = append(t.Columns, name), append(t.series, i)
		}
	}
}

// computers is when series begin at the earliest. Smaller numbers in a column that
// nobody calls a time are none.
var computers = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// Next reads a row; io.EOF after the last.
func (t *Reader) Next() (Row, error) {
	cells, line := t.first, 1
	if t.first = nil; cells == nil {
		var err error
		if cells, err = t.in.Read(); errors.Is(err, io.EOF) {
			return Row{}, io.EOF
		} else if err != nil {
			return Row{}, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		line, _ = t.in.FieldPos(0)
	}
	row := Row{Line: line, Values: make([]float64, 0, len(t.series))}
	var err error
	if row.Time, err = Time(cells[t.at]); err != nil {
		return Row{}, fmt.Errorf("%w: line %d: %w", ErrFormat, line, err)
	}
	if t.guess && row.Time.Before(computers) {
		return Row{}, fmt.Errorf("%w: line 1: columns %q: none is called time or timestamp, and the first holds no times; write time,requests", ErrFormat, strings.Join(t.names, ","))
	}
	for _, i := range t.series {
		v := math.NaN()
		if cell := strings.TrimSpace(cells[i]); cell != "" {
			if v, err = strconv.ParseFloat(cell, 64); err != nil {
				return Row{}, fmt.Errorf("%w: line %d: %s: %q is not a number; leave the cell empty when there is none", ErrFormat, line, t.names[i], cell)
			}
		}
		row.Values = append(row.Values, v)
	}
	return row, nil
}

// layouts are the ways in which tables have times. A fraction of a second may
// follow any of seconds; what has no zone is UTC.
var layouts = []string{
	time.RFC3339, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00",
	"2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly, "2006/01/02 15:04:05", "2006/01/02 15:04",
}

// Time reads a time in one of the ways that tables have it: RFC 3339, the same
// with a blank for the T, without zone, seconds or time of day, or seconds,
// milliseconds, microseconds or nanoseconds since the epoch, which are told apart
// by their size.
func Time(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	for _, layout := range layouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0) || v > 1e20 {
		return time.Time{}, fmt.Errorf("time: %q is not a time; write 2026-03-01T10:00:00Z", s)
	}
	for v > 1e11 {
		v /= 1000
	}
	return time.UnixMilli(int64(math.Round(v * 1000))).UTC(), nil
}
