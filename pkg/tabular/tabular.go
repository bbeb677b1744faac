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
// column called time or timestamp, else ts, ds, date, datetime or _time, or else the
// first, is the time, in any of the ways of [Time]. Where a column is called value it
// is the one series; else every other column is a series by its name. A table whose
// first line is a row already has no names: its columns are value, or column 2, column
// 3 and so on. Lines that begin with # are comments.
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
// where the cell is empty or says in one of the usual words that there is none.
type Row struct {
	Line   int // of the file, from 1
	Time   time.Time
	Values []float64
}

// NewReader reads the line of names.
func NewReader(r io.Reader) (*Reader, error) {
	b := bufio.NewReader(r)
	if mark, _ := b.Peek(len(byteOrderMark)); string(mark) == byteOrderMark {
		_, _ = b.Discard(len(byteOrderMark)) // of what was peeked at
	}
	t := &Reader{in: csv.NewReader(b), at: -1}
	t.in.ReuseRecord, t.in.Comma, t.in.Comment = true, separator(b), '#'
	t.in.TrimLeadingSpace = t.in.Comma != '\t' // a blank that would be trimmed: cells may be empty
	head, err := t.in.Read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty; write a line of names, then rows")
		}
		return nil, fmt.Errorf("%w: line 1: %w", ErrFormat, err)
	}
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

// byteOrderMark is what some programs of Windows begin a text with.
const byteOrderMark = "\ufeff"

// separator is what parts the cells of the first line that is no comment.
func separator(b *bufio.Reader) rune {
	text, _ := b.Peek(4096)
	line, rest, _ := bytes.Cut(text, []byte("\n"))
	for len(line) > 0 && line[0] == '#' {
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
	}
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
	if t.at = is("time", "timestamp"); t.at < 0 {
		t.at = is("ts", "ds", "date", "datetime", "_time")
	}
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
		v, err := number(strings.TrimSpace(cells[i]))
		if err != nil {
			return Row{}, fmt.Errorf("%w: line %d: %s: %q is not a number; leave the cell empty when there is none", ErrFormat, line, t.names[i], strings.TrimSpace(cells[i]))
		}
		row.Values = append(row.Values, v)
	}
	return row, nil
}

// number reads a cell: NaN when it is empty, or has one of the words for nothing that
// databases and spreadsheets write. What is too large to be held is infinite.
func number(cell string) (float64, error) {
	v, err := strconv.ParseFloat(cell, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return v, nil
	}
	switch strings.ToLower(cell) {
	case "", "null", "(null)", "none", "nil", "na", "n/a", "#n/a", "-", `\n`: // \N, of databases
		return math.NaN(), nil
	}
	return 0, err
}

// layouts are the ways in which tables have times. A fraction of a second may
// follow any of seconds; what has no zone is UTC.
var layouts = []string{
	time.RFC3339, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05Z0700",
	"2006-01-02 15:04:05 Z0700", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02T15:04Z07:00", time.DateOnly,
	"2006/01/02 15:04:05", "2006/01/02 15:04", "2006/01/02", "20060102T150405Z0700",
}

// Time reads a time in one of the ways that tables have it: RFC 3339, the same
// with a blank for the T, without colons, zone, seconds or time of day, or seconds,
// milliseconds, microseconds or nanoseconds since the epoch, which are told apart
// by their size.
func Time(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	if t, ok := sinceEpoch(s); ok {
		return t, nil
	}
	// What databases write after a time in UTC. Other names of zones are not
	// unique: CST is three of them.
	text := strings.TrimSuffix(strings.TrimSuffix(s, " UTC"), " GMT")
	for _, layout := range layouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("time: %q is not a time; write 2026-03-01T10:00:00Z", s)
}

// sinceEpoch reads a number of seconds or smaller units. Whole ones are kept to the
// nanosecond, which a float cannot hold.
func sinceEpoch(s string) (time.Time, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		unit := int64(time.Second)
		for i := n; i > 1e11 && unit > 1; i /= 1000 {
			unit /= 1000
		}
		perSecond := int64(time.Second) / unit
		return time.Unix(n/perSecond, n%perSecond*unit).UTC(), n >= 0
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0) || v > 1e20 {
		return time.Time{}, false
	}
	for v > 1e11 {
		v /= 1000
	}
	return time.UnixMilli(int64(math.Round(v * 1000))).UTC(), true
}
