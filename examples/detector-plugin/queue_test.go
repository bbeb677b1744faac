package main

import (
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

func TestConformance(t *testing.T) {
	info, ok := detector.Builtin.Lookup("acme_queue")
	if !ok {
		t.Fatal("acme_queue is not registered")
	}
	detectortest.Run(t, info, detectortest.Options{})
}

func TestAQueueThatOnlyGrowsIsOdd(t *testing.T) {
	info, _ := detector.Builtin.Lookup("acme_queue")
	d, err := info.New(QueueConfig{Rises: 3}, detector.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	l := event.LabelsOf(map[string]string{event.LabelName: "acme_queue_depth", event.LabelNamespace: "acme", event.LabelWorkload: "broker"})
	var odd []int
	for i, v := range []float64{5, 6, 7, 8, 9, 2, 3} {
		at := detectortest.Start.Add(time.Duration(i) * time.Minute)
		s := event.Series{ID: l.Hash(), Labels: l, Points: []event.Point{{T: at.UnixMilli(), V: v}}}
		if len(d.Observe(event.Batch{Watermark: at, Metrics: []event.MetricBatch{{Series: []event.Series{s}}}})) > 0 {
			odd = append(odd, i)
		}
	}
	if len(odd) != 2 || odd[0] != 3 || odd[1] != 4 {
		t.Errorf("odd in windows %v, want 3 and 4", odd)
	}
}
