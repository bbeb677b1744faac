package stat

import (
	"math"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// Season is Holt-Winters with an additive season over the hours of a day:
// level, trend and 24 factors, smoothed at each hour with the mean of the
// hour, and read between the hours by interpolation. One hour is the grain so
// that it costs the same for a series a second and a series an hour.
type Season struct {
	Level, Trend float64
	Factor       [24]float64
	Hours        int   // hours folded
	hour         int64 // since the epoch, that is being summed up
	sum          float64
	n            float64
	err          Mean // mean absolute error of an hour's forecast with the season
	flatErr      Mean // and of one without
	flat         float64
	firstDay     [24]float64
}

// Smoothing constants: a level that follows in about half a day, a trend in a
// week, a season in a week of days. With such slow constants the season stays
// when one day is odd.
const (
	seasonAlpha = 0.1
	seasonBeta  = 0.005
	seasonGamma = 0.25
)

// Add folds one value at t (milliseconds).
func (s *Season) Add(t int64, x float64) {
	hour := t / 3_600_000
	if s.n > 0 && hour != s.hour {
		s.fold(s.hour, s.sum/s.n)
		// Hours without data are skipped: the trend does not run away in a gap.
		s.sum, s.n = 0, 0
	}
	s.hour = hour
	s.sum += x
	s.n++
}

func (s *Season) fold(hour int64, mean float64) {
	slot := int(hour % 24)
	if slot < 0 {
		slot += 24
	}
	if s.Hours < 24 {
		// The first day gives the start values.
		s.firstDay[slot] = mean
		s.Hours++
		s.Level += (mean - s.Level) / float64(s.Hours)
		s.flat = mean
		if s.Hours == 24 {
			for i := range s.Factor {
				s.Factor[i] = s.firstDay[i] - s.Level
			}
		}
		return
	}
	s.Hours++
	forecast := s.Level + s.Trend + s.Factor[slot]
	s.err.Add(math.Abs(mean-forecast), 7*24)
	s.flatErr.Add(math.Abs(mean-s.flat), 7*24)
	old := s.Level
	s.Level = float64(seasonAlpha*(mean-s.Factor[slot])) + float64((1-seasonAlpha)*(s.Level+s.Trend))
	s.Trend = float64(seasonBeta*(s.Level-old)) + float64((1-seasonBeta)*s.Trend)
	s.Factor[slot] = float64(seasonGamma*(mean-s.Level)) + float64((1-seasonGamma)*s.Factor[slot])
	s.flat = mean
}

// Earned says whether the season forecasts the hours clearly better than the
// hour before does, over at least two days: only then is it worth a detector.
func (s *Season) Earned() bool {
	return s.Hours >= 48 && s.err.N >= 24 && s.err.M < 0.8*s.flatErr.M
}

// Forecast is the expected value at t (milliseconds), interpolated between the
// middles of the hours; false before the first day is full.
func (s *Season) Forecast(t int64) (float64, bool) {
	if s.Hours < 24 {
		return 0, false
	}
	pos := float64(t)/3_600_000 - 0.5
	lo := math.Floor(pos)
	f := pos - lo
	a := int(math.Mod(lo, 24))
	if a < 0 {
		a += 24
	}
	b := (a + 1) % 24
	return s.Level + s.Trend + float64((1-f)*s.Factor[a]) + float64(f*s.Factor[b]), true
}

// Write writes the state.
func (s *Season) Write(w *snapshot.Writer) {
	w.Float(s.Level)
	w.Float(s.Trend)
	for _, v := range s.Factor {
		w.Float(v)
	}
	w.Int(int64(s.Hours))
	w.Int(s.hour)
	w.Float(s.sum)
	w.Float(s.n)
	s.err.Write(w)
	s.flatErr.Write(w)
	w.Float(s.flat)
	w.Bool(s.Hours < 24)
	if s.Hours < 24 {
		for _, v := range s.firstDay {
			w.Float(v)
		}
	}
}

// Read reads the state.
func (s *Season) Read(r *snapshot.Reader) {
	*s = Season{Level: r.Float(), Trend: r.Float()}
	for i := range s.Factor {
		s.Factor[i] = r.Float()
	}
	s.Hours, s.hour, s.sum, s.n = int(r.Int()), r.Int(), r.Float(), r.Float()
	s.err.Read(r)
	s.flatErr.Read(r)
	s.flat = r.Float()
	if r.Bool() {
		for i := range s.firstDay {
			s.firstDay[i] = r.Float()
		}
	}
}
