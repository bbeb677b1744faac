package detector_test

import (
	"testing"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

// BenchmarkLogFold is the way of a line through the fold of logs and all detectors
// that read it, in windows of a minute.
func BenchmarkLogFold(b *testing.B) {
	windows := detectortest.Stream(detector.Logs, 2000)
	lines := 0
	var msgs []bus.Message
	for _, m := range messages(detector.Logs, windows) {
		if l, ok := m.Data.(event.LogBatch); ok {
			// A busy minute: the same lines forty times.
			s := &l.Streams[0]
			one := s.Lines
			for range 39 {
				s.Lines = append(s.Lines, one...)
			}
			lines += len(s.Lines)
		}
		msgs = append(msgs, m)
	}
	b.ReportAllocs()
	for b.Loop() {
		apply(b, newFold(b, detector.Logs, detector.DefaultConfig()), msgs)
	}
	b.ReportMetric(float64(lines)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
