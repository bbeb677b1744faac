package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/baseline"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/stat"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/services/detector"
)

// chosen is a detector that a user wants to see at work instead of the baseline.
type chosen struct {
	info     detector.Info
	policies *policy.Store
	signals  map[string]prometheus.Query // shipped ones, for their unit and class
}

// choose finds a detector of metrics by its name.
func (o *options) choose(name string) (*chosen, error) {
	store, _, err := o.store()
	if err != nil {
		return nil, err
	}
	declared, err := detector.Declared(store)
	if err != nil {
		return nil, err
	}
	all := slices.DeleteFunc(append(detector.Builtin.All(), declared...), func(i detector.Info) bool { return i.Input != detector.Metrics })
	at := slices.IndexFunc(all, func(i detector.Info) bool { return i.Name == name })
	if at < 0 {
		var names []string
		for _, i := range all {
			names = append(names, i.Name)
		}
		return nil, &service.UsageError{Err: fmt.Errorf("--detector %s: is none of metrics; write one of %s", name, strings.Join(names, ", "))}
	}
	families, err := prometheus.LoadFamilies(store)
	if err != nil {
		return nil, err
	}
	c := &chosen{info: all[at], policies: store, signals: map[string]prometheus.Query{}}
	for _, f := range families {
		for _, q := range f.Queries {
			c.signals[q.Signal] = q
		}
	}
	return c, nil
}

// onlooker is the detector at work on the series of a file.
type onlooker struct {
	detector detector.Detector
	series   []event.Series
	last     time.Time
	going    []int64 // onsets, by series; 0: normal
}

// watch starts the detector on series of such labels. It refuses those of which
// it would never say anything.
func (c *chosen) watch(labels []event.Labels) (*onlooker, error) {
	d, err := detector.Alone(c.info, c.info.Default(), detector.Settings{Policies: c.policies})
	if err != nil {
		return nil, err
	}
	w := &onlooker{detector: d, going: make([]int64, len(labels))}
	reads := false
	for _, ls := range labels {
		w.series = append(w.series, event.Series{Labels: ls, ID: ls.Hash(), Points: make([]event.Point, 1)})
		s, picky := d.(detector.Selector)
		reads = reads || !picky || s.Selects(ls)
	}
	if !reads {
		return nil, hint(&service.UsageError{Err: fmt.Errorf("--detector %s: reads none of the file's series", c.info.Name)}, service.ExitUsage,
			"name the columns after signals that it reads: %s", strings.Join(c.info.Reads, ", "))
	}
	return w, nil
}

// column are the labels of a column, which is a signal of one workload.
func (c *chosen) column(name string) event.Labels {
	q := c.signals[name]
	return event.LabelsOf(map[string]string{
		event.LabelName: name, event.LabelUnit: q.Unit, event.LabelClass: string(q.Class),
		event.LabelNamespace: "file", event.LabelWorkload: "file", event.LabelKind: "Deployment",
	})
}

// observe shows the detector a row, and returns what it looks like in the form of
// the baseline, with a sentence for what is odd.
func (w *onlooker) observe(at time.Time, values []float64) ([]baseline.Verdict, []string) {
	b := event.Batch{Watermark: at, Previous: w.last, Metrics: []event.MetricBatch{{Step: at}}}
	for i, x := range values {
		if math.Abs(x) < 1e100 { // a number, and finite
			w.series[i].Points[0] = event.Point{T: at.UnixMilli(), V: x}
			b.Metrics[0].Series = append(b.Metrics[0].Series, w.series[i])
		}
	}
	var found []event.Anomaly
	late := !at.After(w.last)
	if !late {
		found, w.last = w.detector.Observe(b), at
	}
	verdicts, why := make([]baseline.Verdict, len(values)), make([]string, len(values))
	for i := range values {
		v := baseline.Verdict{TailProb: 1, Low: math.NaN(), High: math.NaN()}
		k := slices.IndexFunc(found, func(a event.Anomaly) bool {
			return a.Ended == nil && (len(values) == 1 || a.Signal == w.series[i].Labels.Get(event.LabelName))
		})
		if late { // it says nothing of whether an anomaly goes on
			v.Anomaly, v.Onset = w.going[i] != 0, w.going[i]
			verdicts[i] = v
			continue
		}
		if k < 0 {
			w.going[i], verdicts[i] = 0, v
			continue
		}
		a := found[k]
		v.Anomaly, v.TailProb, why[i] = true, a.TailProb, a.Summary
		if a.Expected != nil {
			v.Low, v.High, v.Ready = a.Expected.Low, a.Expected.High, true
		}
		if w.going[i] == 0 {
			w.going[i] = a.Onset.UnixMilli()
			surprise := stat.Surprise(a.TailProb)
			v.Score = surprise / (surprise + 3)
		}
		v.Onset = w.going[i]
		verdicts[i] = v
	}
	return verdicts, why
}
