package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/baseline"
	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/tabular"
)

func newDetect(o *options) *cobra.Command {
	c := &cobra.Command{Use: "detect", Short: "Run detectors on a file, without a cluster."}
	var explain bool
	var plot, with string
	m := &cobra.Command{
		Use: "metrics FILE|-", Short: "Say of every sample of a file how odd it is: one line of JSON each.",
		Long: `Say of every sample of a file how odd it is: one line of JSON each, from what
came before it alone.

FILE is CSV (a column time or timestamp, and a column value or several series) or
OpenMetrics with timestamps, either of them also compressed with gzip; - is standard
input. Counters of OpenMetrics, and what histograms and summaries count, are read as
their rate per second, over their resets; the first sample of one has none.

  timestamp         as RFC 3339, in UTC
  series            which one, where there is more than one
  value             the sample; null when it is missing or no number
  score             in [0, 1): the surprise of something that begins here. It is zero
                    for 120 samples after it has spoken: what goes on is no news
  tail_probability  of a sample at least as odd, were the series as it was
  expected_low      three robust standard deviations around what is usual at this
  expected_high     hour; null before there is a usual
  anomaly           whether the series is in an anomaly, from its onset to its end

The first 60 samples are learnt from only. A sample that is missing, no number,
or out of the order of time is passed over: its tail probability is 1.

With --detector another of those that oncall detectors lists judges the samples,
with its defaults, as the services run it: the columns are signals of one
workload by their names, such as request_rate and error_ratio for burn_rate. Its
tail probability is 1, and nothing is expected, where nothing is odd. Of several
columns --plot draws the first.
docs/detectors.md explains the detectors and what they were measured on.`,
		Example: `  oncall detect metrics requests.csv | jq -c 'select(.anomaly)'
  oncall detect metrics --explain --plot out.svg requests.csv
  oncall detect metrics --detector level_shift requests.csv`,
		Args: exactArgs(1, "one FILE, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d := detection{out: bufio.NewWriter(cmd.OutOrStdout()), explain: explain, live: args[0] == "-"}
			if plot != "" {
				if err := plottable(plot); err != nil {
					return err
				}
				d.drawn = &drawing{title: args[0]}
			}
			if with != "" {
				var err error
				if d.with, err = o.choose(with); err != nil {
					return err
				}
			}
			// Lines before what cannot be read are whole.
			if err := errors.Join(d.file(args[0], cmd.InOrStdin()), d.out.Flush()); err != nil {
				return err
			}
			for _, note := range d.notes {
				fmt.Fprintf(cmd.ErrOrStderr(), "oncall: %s: %s\n", args[0], note)
			}
			if d.drawn != nil {
				return d.drawn.save(plot)
			}
			return nil
		},
	}
	m.Flags().BoolVar(&explain, "explain", false, "add why to each line: how it was looked at, and since when it is an anomaly")
	m.Flags().StringVar(&plot, "plot", "", "also draw the value, what was expected and the anomalies to `file`.svg or .png")
	m.Flags().StringVar(&with, "detector", "", "the `name` of a detector of metrics that judges instead of the baseline")
	c.AddCommand(m)
	return c
}

// verdict is a line of output. It is a contract: fields are added, never
// changed.
type verdict struct {
	Timestamp   string     `json:"timestamp"`
	Series      string     `json:"series,omitempty"`
	Value       *float64   `json:"value"`
	Score       float64    `json:"score"`
	Prob        float64    `json:"tail_probability"`
	Low         *float64   `json:"expected_low"`
	High        *float64   `json:"expected_high"`
	Anomaly     bool       `json:"anomaly"`
	Onset       *time.Time `json:"onset,omitempty"`
	Explanation string     `json:"explanation,omitempty"`
}

// detection runs the detector over the series of a file.
type detection struct {
	out     *bufio.Writer
	explain bool
	live    bool     // somebody waits at the other end of each line
	drawn   *drawing // nil: no plot
	with    *chosen  // nil: the baseline
	notes   []string // what whoever reads the lines should know of the file
}

// file reads the file in the form that it has.
func (d *detection) file(name string, stdin io.Reader) error {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return &service.UsageError{Err: err}
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	text, err := unpacked(in)
	if err != nil {
		return &service.UsageError{Err: fmt.Errorf("%s: %w", name, err)}
	}
	if first, _ := text.Peek(4096); isOpenMetrics(first) {
		return d.openMetrics(name, text)
	}
	err = d.csv(text)
	if errors.Is(err, tabular.ErrFormat) {
		return &service.UsageError{Err: fmt.Errorf("%s: %w", name, err)}
	}
	return err
}

// isOpenMetrics tells by the first lines of a text whether it is no table: that has
// comments of no form, and then a line with a separator and no brace before it.
func isOpenMetrics(text []byte) bool {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	for {
		line, rest, more := bytes.Cut(text, []byte("\n"))
		switch word := bytes.Fields(line); {
		case len(line) == 0 || line[0] != '#':
			return bytes.IndexByte(line, '{') >= 0 || !bytes.ContainsAny(line, ",;\t") && bytes.IndexByte(line, ' ') > 0
		case len(word) > 1 && string(word[0]) == "#" && slices.Contains([]string{"TYPE", "HELP", "UNIT", "EOF"}, string(word[1])):
			return true
		case !more:
			return true // comments alone: OpenMetrics may be of those, and says what is missing
		}
		text = rest
	}
}

// unpacked reads what may be compressed.
func unpacked(r io.Reader) (*bufio.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	if magic, _ := b.Peek(2); !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return b, nil
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	return bufio.NewReaderSize(z, 64<<10), nil
}

func (d *detection) csv(r io.Reader) error {
	t, err := tabular.NewReader(r)
	if err != nil {
		return err
	}
	if err := d.one(len(t.Columns)); err != nil {
		return err
	}
	if len(t.Ignored) > 0 {
		d.notes = append(d.notes, fmt.Sprintf("the series is the column value; not read: %q", t.Ignored))
	}
	series := make([]baseline.Series, len(t.Columns))
	in := inTime{read: t.Next, ahead: !d.live}
	var rows, astray int
	var w *onlooker
	if d.with != nil {
		labels := make([]event.Labels, len(t.Columns))
		for i, name := range t.Columns {
			labels[i] = d.with.column(name)
		}
		if w, err = d.with.watch(labels); err != nil {
			return err
		}
	}
	for {
		row, ordered, err := in.next()
		if errors.Is(err, io.EOF) {
			if rows == 0 {
				d.notes = append(d.notes, "it has no rows after the names")
			}
			if astray > 0 {
				d.notes = append(d.notes, fmt.Sprintf("%d of %d rows are out of the order of time, and were passed over; sort the file by time", astray, rows))
			}
			return nil
		}
		if err != nil {
			return err
		}
		rows++
		judged := row.Time
		if !ordered {
			astray++
			judged = in.last // a time again, which is passed over
		}
		var verdicts []baseline.Verdict
		var why []string
		if w != nil {
			verdicts, why = w.observe(judged, row.Values)
		}
		for i, v := range row.Values {
			name := ""
			if len(series) > 1 {
				name = t.Columns[i]
			}
			if w != nil {
				err = d.line(name, row.Time, v, verdicts[i], why[i])
				d.draw(i == 0, row.Time, v, verdicts[i])
			} else {
				err = d.sample(&series[i], name, row.Time, judged, v)
			}
			if err != nil {
				return err
			}
		}
		if d.live {
			if err := d.out.Flush(); err != nil {
				return err
			}
		}
	}
}

func (d *detection) openMetrics(name string, r io.Reader) error {
	m, err := bundle.ReadMetrics(r, name)
	if err != nil {
		return &service.UsageError{Err: err}
	}
	if err := d.one(len(m.Series)); err != nil {
		return err
	}
	for _, s := range m.Series {
		metric := s.Labels.Get(event.LabelName)
		points := s.Points
		if m.TypeOf(metric) == bundle.Counter {
			points = rates(points)
		}
		label := ""
		if len(m.Series) > 1 {
			label = s.Labels.String()
		}
		if err := d.points(s.Labels, label, points); err != nil {
			return err
		}
	}
	return nil
}

// points judges a series of OpenMetrics.
func (d *detection) points(ls event.Labels, name string, points []event.Point) error {
	var b baseline.Series
	var w *onlooker
	if d.with != nil {
		var err error
		if w, err = d.with.watch([]event.Labels{ls}); err != nil {
			return err
		}
	}
	for _, p := range points {
		at := time.UnixMilli(p.T).UTC()
		var err error
		if w != nil {
			verdicts, why := w.observe(at, []float64{p.V})
			err = d.line(name, at, p.V, verdicts[0], why[0])
			d.draw(true, at, p.V, verdicts[0])
		} else {
			err = d.sample(&b, name, at, at, p.V)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// one refuses to draw several series into one picture.
func (d *detection) one(series int) error {
	if d.drawn != nil && series != 1 && d.with == nil {
		return hint(&service.UsageError{Err: fmt.Errorf("--plot draws one series, and the file has %d", series)}, service.ExitUsage, "cut the one you want out of the file")
	}
	return nil
}

// rates are the increases of a counter per second, since the last number before each
// point: none for the first. A fall is a reset: what it counted since is all that is
// known of the increase.
func rates(points []event.Point) []event.Point {
	out := make([]event.Point, len(points))
	last := event.Point{V: math.NaN()}
	for i, p := range points {
		out[i] = event.Point{T: p.T, V: math.NaN()}
		if math.IsNaN(p.V) || math.IsInf(p.V, 0) {
			continue
		}
		up := p.V - last.V
		if up < 0 {
			up = p.V
		}
		if dt := float64(p.T-last.T) / 1000; dt > 0 {
			out[i].V = up / dt
		}
		last = p
	}
	return out
}

// sample judges a sample as of a time, which is its own unless it is to be passed over.
func (d *detection) sample(s *baseline.Series, name string, at, judged time.Time, x float64) error {
	v := s.Observe(judged.UnixMilli(), x)
	why := ""
	if d.explain {
		why = explanation(s, v)
	}
	d.draw(true, at, x, v)
	return d.line(name, at, x, v, why)
}

// draw adds a sample to the picture, where there is one and it is in it.
func (d *detection) draw(in bool, at time.Time, x float64, v baseline.Verdict) {
	if d.drawn != nil && in {
		d.drawn.add(at, x, v)
	}
}

// line writes what a sample looks like.
func (d *detection) line(name string, at time.Time, x float64, v baseline.Verdict, why string) error {
	line := verdict{
		Timestamp: at.Format(time.RFC3339Nano), Series: name, Value: jsonNumber(x), Score: v.Score, Prob: v.TailProb, Anomaly: v.Anomaly,
	}
	if v.Ready {
		line.Low, line.High = jsonNumber(v.Low), jsonNumber(v.High)
	}
	if d.explain {
		line.Explanation = why
		if v.Anomaly {
			onset := time.UnixMilli(v.Onset).UTC()
			line.Onset = &onset
		}
	}
	b, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("write %s: %w", line.Timestamp, err)
	}
	_, err = d.out.Write(append(b, '\n'))
	return err
}

// jsonNumber is a value as JSON can write it: none for what is no number, nor for the
// bound of an interval that is open, which detectors write as the largest float.
func jsonNumber(x float64) *float64 {
	if math.IsNaN(x) || math.Abs(x) >= math.MaxFloat64 {
		return nil
	}
	return &x
}

// telling is the tail probability down to which nothing is worth an explanation: every
// sample is further away in one way than in the others.
const telling = 0.01

// explanation says in a sentence why a sample looks as it does.
func explanation(s *baseline.Series, v baseline.Verdict) string {
	switch {
	case math.IsNaN(v.Low):
		return "passed over: missing, no number, or out of the order of time"
	case !v.Ready:
		return fmt.Sprintf("learning: sample %d", s.Seen())
	case v.View == "":
		return "as usual"
	case v.TailProb > telling && !v.Anomaly:
		return fmt.Sprintf("as usual: tail probability %.2g over %d samples; %.1f robust standard deviations from the usual level, %.1f from what is usual at this hour",
			v.TailProb, s.Seen()-1, v.Distance, v.HourDistance)
	}
	return fmt.Sprintf("%s: tail probability %.1e over %d samples; %.1f robust standard deviations from the usual level, %.1f from what is usual at this hour",
		v.View, v.TailProb, s.Seen()-1, v.Distance, v.HourDistance)
}
