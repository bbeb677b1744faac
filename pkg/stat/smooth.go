package stat

import "github.com/oncall-copilot/oncall/pkg/snapshot"

// Smooth is double exponential smoothing, a level and a trend (Holt's method; NIST/SEMATECH
// e-Handbook of Statistical Methods, 6.4.3.3), folded as Prometheus'
// double_exponential_smoothing and, before version 3, holt_winters reckon it: what that
// says of a range of samples is Level after all of them. The zero value is ready to use.
type Smooth struct {
	N     float64 // values folded
	Level float64
	Trend float64 // a value
}

// Add folds one value. Smaller factors of level and trend, both between 0 and 1, smooth
// more.
func (s *Smooth) Add(x, level, trend float64) {
	s.N++
	switch s.N {
	case 1:
		s.Level = x
		return
	case 2:
		s.Trend = x - s.Level
	}
	old := s.Level
	s.Level = float64(level*x) + float64((1-level)*(old+s.Trend))
	s.Trend = float64(trend*(s.Level-old)) + float64((1-trend)*s.Trend)
}

// Forecast is what the next value should be; false before the second.
func (s *Smooth) Forecast() (float64, bool) { return s.Level + s.Trend, s.N >= 2 }

// Write writes the state.
func (s *Smooth) Write(w *snapshot.Writer) { w.Float(s.N); w.Float(s.Level); w.Float(s.Trend) }

// Read reads the state.
func (s *Smooth) Read(r *snapshot.Reader) { s.N, s.Level, s.Trend = r.Float(), r.Float(), r.Float() }
