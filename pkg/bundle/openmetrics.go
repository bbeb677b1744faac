package bundle

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// MetricType is the OpenMetrics type of a family, as far as it matters here.
type MetricType string

// The types that are treated differently.
const (
	Counter MetricType = "counter" // only grows; a fall is a reset
	Gauge   MetricType = "gauge"
	Unknown MetricType = "unknown"

	// counts is of families whose samples are what was counted, but for the moment
	// from which on, and quantiles: histograms and summaries.
	counts MetricType = "histogram"
)

// Metrics is the content of an OpenMetrics text with timestamps.
type Metrics struct {
	Types  map[string]MetricType // by family name, without _total
	Series []event.Series        // sorted by labels; points in time order
}

// TypeOf is the type of a sample's family: that of its name, or of its name
// less _total. What a histogram or a summary counts is a counter.
func (m *Metrics) TypeOf(name string) MetricType {
	if t, ok := m.Types[name]; ok && t != counts {
		return t
	}
	for _, part := range []string{"_bucket", "_count", "_sum"} {
		if family, ok := strings.CutSuffix(name, part); ok && m.Types[family] == counts {
			return Counter
		}
	}
	if family, ok := strings.CutSuffix(name, "_total"); ok {
		if t, ok := m.Types[family]; ok && t != counts {
			return t
		}
		return Counter
	}
	return Unknown
}

// ReadMetrics reads OpenMetrics text. Every sample needs a timestamp. Samples of one
// series may stand anywhere; they are sorted, and of several at one time the
// last is kept. Exemplars are passed over.
func ReadMetrics(r io.Reader, name string) (*Metrics, error) {
	m := &Metrics{Types: map[string]MetricType{}}
	index := map[uint64]int{}
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxLine)
	openMetrics := false
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimRight(sc.Text(), "\r ")
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		switch {
		case line == "":
			continue
		case line == "# EOF":
			openMetrics = true
			continue
		case strings.HasPrefix(line, "#"):
			if f := strings.Fields(line); len(f) == 4 && f[1] == "TYPE" {
				m.Types[f[2]] = metricType(f[3])
			}
			continue
		}
		s, p, err := parseSample(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		i, ok := index[s.ID]
		if !ok {
			i = len(m.Series)
			index[s.ID] = i
			m.Series = append(m.Series, s)
		}
		m.Series[i].Points = append(m.Series[i].Points, p)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if !openMetrics && len(m.Series) > 0 {
		return nil, fmt.Errorf("%s: no # EOF at the end: the file was cut short, or is not OpenMetrics", name)
	}
	for i := range m.Series {
		m.Series[i].Points = sorted(m.Series[i].Points)
	}
	slices.SortFunc(m.Series, func(a, b event.Series) int { return strings.Compare(a.Labels.String(), b.Labels.String()) })
	return m, nil
}

func metricType(s string) MetricType {
	switch s {
	case "counter":
		return Counter
	case "gauge":
		return Gauge
	case "histogram", "summary":
		return counts
	}
	return Unknown
}

func sorted(ps []event.Point) []event.Point {
	slices.SortStableFunc(ps, func(a, b event.Point) int { return int(min(1, max(-1, a.T-b.T))) })
	out := ps[:0]
	for i, p := range ps {
		if i+1 < len(ps) && ps[i+1].T == p.T {
			continue
		}
		out = append(out, p)
	}
	return out
}

// parseSample reads name{labels} value timestamp.
func parseSample(line string) (event.Series, event.Point, error) {
	bad := func(format string, args ...any) (event.Series, event.Point, error) {
		return event.Series{}, event.Point{}, fmt.Errorf(format, args...)
	}
	var metric, rest string
	labels := event.Labels{}
	if i := strings.IndexByte(line, '{'); i >= 0 {
		metric = line[:i]
		end := closingBrace(line[i:])
		if end < 0 {
			return bad("labels of %.60q are not closed", metric)
		}
		ls, err := event.ParseLabels(line[i : i+end+1])
		if err != nil {
			return bad("%w", err)
		}
		labels, rest = ls, line[i+end+1:]
	} else {
		var ok bool
		if metric, rest, ok = strings.Cut(line, " "); !ok {
			return bad("%.60q has no value", line)
		}
	}
	if !validName(metric) {
		return bad("%.60q is not a metric name", metric)
	}
	if labels.Get(event.LabelName) != "" {
		return bad("label %s stands beside the metric name", event.LabelName)
	}
	rest, _, _ = strings.Cut(rest, " # ") // an exemplar may follow
	f := strings.Fields(rest)
	if len(f) < 2 {
		return bad("sample of %.60q has no timestamp", metric)
	}
	v, err := strconv.ParseFloat(f[0], 64)
	if err != nil {
		return bad("value %.40q of %.60q is not a number", f[0], metric)
	}
	t, err := strconv.ParseFloat(f[1], 64)
	if err != nil || math.IsNaN(t) || math.Abs(t) > 1e11 {
		return bad("timestamp %.40q of %.60q is not in seconds since the epoch", f[1], metric)
	}
	labels = append(labels, event.Label{Name: event.LabelName, Value: metric})
	slices.SortFunc(labels, func(a, b event.Label) int { return strings.Compare(a.Name, b.Name) })
	return event.Series{ID: labels.Hash(), Labels: labels}, event.Point{T: int64(math.Round(t * 1000)), V: v}, nil
}

// closingBrace is the index of the brace that closes the one at 0, outside
// quotes; -1 when there is none.
func closingBrace(s string) int {
	quoted := false
	for i := 1; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && s[i] == '}':
			return i
		}
	}
	return -1
}

func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && c != ':' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// WriteMetrics writes series as OpenMetrics text, families together, sorted.
func WriteMetrics(w io.Writer, m *Metrics) error {
	series := slices.Clone(m.Series)
	slices.SortFunc(series, func(a, b event.Series) int {
		if c := strings.Compare(a.Labels.Get(event.LabelName), b.Labels.Get(event.LabelName)); c != 0 {
			return c
		}
		return strings.Compare(a.Labels.String(), b.Labels.String())
	})
	out := bufio.NewWriter(w)
	last := ""
	for _, s := range series {
		name := s.Labels.Get(event.LabelName)
		if name != last {
			fmt.Fprintf(out, "# TYPE %s %s\n", strings.TrimSuffix(name, "_total"), m.TypeOf(name))
			last = name
		}
		rest := slices.DeleteFunc(slices.Clone(s.Labels), func(l event.Label) bool { return l.Name == event.LabelName })
		head := name + compact(rest)
		for _, p := range s.Points {
			// Flush returns the first error of all writes.
			fmt.Fprintf(out, "%s %s %s\n", head, formatValue(p.V), strconv.FormatFloat(float64(p.T)/1000, 'f', -1, 64))
		}
	}
	fmt.Fprintln(out, "# EOF")
	return out.Flush()
}

// escape writes a label value as OpenMetrics wants it: three escapes, and any
// other character as it is.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func compact(ls event.Labels) string {
	if len(ls) == 0 {
		return ""
	}
	var b strings.Builder
	for i, l := range ls {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(l.Name + `="` + escape.Replace(l.Value) + `"`)
	}
	return b.String() + "}"
}

func formatValue(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// Metrics reads metrics.om.
func (b *Bundle) Metrics() (*Metrics, error) {
	f, err := b.open("metrics.om")
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", b.name, err)
	}
	defer func() { _ = f.Close() }()
	m, err := ReadMetrics(f, b.name+"/metrics.om")
	if err != nil {
		return nil, &malformedError{err}
	}
	return m, nil
}
