package tabular

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func all(s string) (string, error) {
	t, err := NewReader(strings.NewReader(s))
	if err != nil {
		return "", err
	}
	out := strings.Join(t.Columns, " ")
	for {
		row, err := t.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out += fmt.Sprintf("; %d %s %v", row.Line, row.Time.Format("15:04:05.000"), row.Values)
	}
}

func TestTablesAsPeopleHaveThem(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"as databases export them", "timestamp,value\n2026-03-01 10:00:00,1.5\n", "value; 2 10:00:00.000 [1.5]"},
		{"a mark at the beginning, spaces, fractions", "\ufeffTime, cpu , mem\n2026-03-01T10:00:00.25Z, 1,\n", "cpu mem; 2 10:00:00.250 [1 NaN]"},
		{"the time in the second column, in seconds", "a,time\n7,1772359200\n", "a; 2 10:00:00.000 [7]"},
		{"in milliseconds", "time,a\n1772359200500,7\n", "a; 2 10:00:00.500 [7]"},
		{"apart by semicolons", "a;time\n7;1772359200\n", "a; 2 10:00:00.000 [7]"},
		{"apart by tabs, a cell empty", "time\ta\tb\n1772359200\t\t7\n", "a b; 2 10:00:00.000 [NaN 7]"},
		{"a time of another name comes first", "ds,y\n2026-03-01,7\n", "y; 2 00:00:00.000 [7]"},
		{"no line of names", "1772359200,7\n1772359260,8\n", "value; 1 10:00:00.000 [7]; 2 10:01:00.000 [8]"},
		{"no line of names, and two series", "2026-03-01 10:00,7,\n2026-03-01 10:01,8,9\n", "column 2 column 3; 1 10:00:00.000 [7 NaN]; 2 10:01:00.000 [8 9]"},
		{"a value and what others said of it", "host,timestamp,value,label\nweb-1,1772359200,7,odd\n", "value; 2 10:00:00.000 [7]"},
		{"numbers of rows for times", "timestamp,value\n0,7\n1,8\n", "value; 2 00:00:00.000 [7]; 3 00:00:01.000 [8]"},
		{"a mark before a quoted name", "\ufeff\"timestamp\",\"value\"\n\"1772359200\",\"7\"\n", "value; 2 10:00:00.000 [7]"},
		{"comments before the names and between rows", "# exported; by hand\ntimestamp,value\n1772359200,7\n# a gap\n1772359260,8\n", "value; 3 10:00:00.000 [7]; 5 10:01:00.000 [8]"},
		{"a time of a usual name in the second column", "requests,ts\n7,1772359200\n", "requests; 2 10:00:00.000 [7]"},
		{"time is the time, where a date stands beside it", "date,time,a\n7,1772359200,8\n", "date a; 2 10:00:00.000 [7 8]"},
		{"words for nothing", "time,a,b,c,d\n1772359200,null,NA,None,-\n1772359260,N/A,\\N,#N/A,nil\n", "a b c d; 2 10:00:00.000 [NaN NaN NaN NaN]; 3 10:01:00.000 [NaN NaN NaN NaN]"},
		{"more than a float holds", "time,a,b\n1772359200,1e400,-1e400\n", "a b; 2 10:00:00.000 [+Inf -Inf]"},
		{"what is no number but a float", "time,a\n1772359200,NaN\n1772359260,+Inf\n", "a; 2 10:00:00.000 [NaN]; 3 10:01:00.000 [+Inf]"},
	} {
		got, err := all(c.in)
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

func TestABadTableSaysWhereAndWhatToWrite(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "csv: line 1: it is empty; write a line of names, then rows"},
		{"value\n1\n", `csv: line 1: columns "value": want time and at least one series; write time,requests`},
		{"time\n1\n", `csv: line 1: columns "time": want time and at least one series; write time,requests`},
		{"time,a,b,a\n1,2,3,4\n", `csv: line 1: column "a" comes twice; give each series a name of its own`},
		{"a,b\n1,2\n", `csv: line 1: columns "a,b": none is called time or timestamp, and the first holds no times; write time,requests`},
		{"time,a\nyesterday,1\n", `csv: line 2: time: "yesterday" is not a time; write 2026-03-01T10:00:00Z`},
		{"time,a\n1772359200,1\n1772359260,one\n", `csv: line 3: a: "one" is not a number; leave the cell empty when there is none`},
		{"time,a\n1772359200,1,2\n", "csv: record on line 2: wrong number of fields"},
	} {
		_, err := all(c.in)
		if err == nil || err.Error() != c.want || !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v; want %s", c.in, err, c.want)
		}
	}
}

func FuzzATableIsReadOrRefused(f *testing.F) {
	f.Add("timestamp,value\n2026-03-01 10:00:00,1.5\n")
	f.Add("time,a,b\n1772359200,1,\n1772359260,NaN,1e999\n")
	f.Add("a;timestamp;value\n1;2;3\n")
	f.Add("1772359200\t1\t2\n")
	f.Add("\"time\n,a")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := NewReader(strings.NewReader(s))
		if err != nil {
			return
		}
		for {
			row, err := r.Next()
			if err != nil {
				return
			}
			if len(row.Values) != len(r.Columns) || row.Time.Location() != time.UTC {
				t.Fatalf("%+v of columns %q", row, r.Columns)
			}
		}
	})
}

func TestATimeIsReadInTheWaysTablesHaveIt(t *testing.T) {
	want := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	for _, s := range []string{
		"2026-03-01T10:00:00Z", "2026-03-01 10:00:00", "2026-03-01T11:00:00+01:00", "2026-03-01 10:00:00+00:00",
		"2026-03-01 10:00", "2026-03-01T10:00", "2026/03/01 10:00:00", "2026-03-01 10:00:00.000", "2026-03-01 12:00:00.0+02:00",
		"2026-03-01T10:00Z", "2026-03-01T11:00+01:00", "2026-03-01T11:00:00+0100", "2026-03-01 11:00:00+0100", "2026-03-01 10:00:00 +0000 UTC",
		"2026-03-01 10:00:00 UTC", "20260301T100000Z",
		"1772359200", "1772359200000", "1772359200000000", "1772359200000000000", " 1772359200.0 ",
	} {
		if got, err := Time(s); err != nil || !got.Equal(want) {
			t.Errorf("Time(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
}

func TestTimesSinceTheEpochAreKeptToTheirUnit(t *testing.T) {
	for s, want := range map[string]string{
		"1772359200000001": "10:00:00.000001", "1772359200000000001": "10:00:00.000000001", "1772359200.25": "10:00:00.25",
	} {
		if got, err := Time(s); err != nil || got.Format("15:04:05.999999999") != want {
			t.Errorf("Time(%s) = %v, %v, want %s", s, got, err, want)
		}
	}
}

func TestATimeThatCouldBeTwoIsRefused(t *testing.T) {
	for _, s := range []string{"03/04/2026 10:00", "2026-03-01 10:00:00 CST", "-1"} {
		if got, err := Time(s); err == nil {
			t.Errorf("Time(%q) = %v, want an error", s, got)
		}
	}
}

func FuzzTime(f *testing.F) {
	for _, s := range []string{"2026-03-01T10:00:00Z", "1772359200", "1e300", "-1", "NaN"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := Time(s); err == nil && got.Location() != time.UTC {
			t.Errorf("Time(%q) is not in UTC: %v", s, got)
		}
	})
}
