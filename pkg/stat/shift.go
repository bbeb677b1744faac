package stat

import "github.com/oncall-copilot/oncall/pkg/snapshot"

// Shift tells whether the share of things of one kind has moved from one window to
// the next, where shares also drift, and windows that follow each other are alike.
// A share that is odd must be so beside all that was learnt, beside the last few
// windows alone, and beside the largest share of any window before: as wide as
// windows differed, and further than any went.
type Shift struct {
	Usual Share
	K, T  float64 // of the last windows
	Most  float64 // the largest share of a window, forgotten slowly
	hours [24]uint8
	hour  int64 // of the window before, since the epoch
	peak  uint8 // the largest share of this hour
}

// Window is how many of a window's things were of the kind, and the hour since the
// epoch that it is of.
type Window struct {
	K, N float64
	Hour int64
}

// ShiftSpan is how many windows are remembered, by the long memory and the short.
type ShiftSpan struct{ Usual, Recent float64 }

// Add folds a window.
func (s *Shift) Add(w Window, span ShiftSpan) {
	if w.N <= 0 {
		return
	}
	s.Usual.Add(w.K, w.N, span.Usual)
	keep := 1 - 1/span.Recent
	s.K, s.T = float64(s.K*keep)+w.K, float64(s.T*keep)+w.N
	mean, share := s.Usual.Mean(), w.K/w.N
	s.Most = max(share, mean+float64((s.Most-mean)*(1-1/span.Usual)))
	s.Seen(w)
}

// Seen notes that a share was there in an hour, so that it is usual at that hour of
// other days, and nothing else.
func (s *Shift) Seen(w Window) {
	if w.N <= 0 {
		return
	}
	if w.Hour != s.hour {
		at := &s.hours[hourOf(s.hour)]
		*at = max(s.peak, *at/4*3)
		s.hour, s.peak = w.Hour, 0
	}
	s.peak = max(s.peak, uint8(min(255, 255*w.K/w.N)))
}

func hourOf(hour int64) int64 { return (hour%24 + 24) % 24 }

// Mean is the expected share, 0 to 1: that of the last windows.
func (s *Shift) Mean() float64 { return (s.K + 0.5) / (s.T + 1) }

// Tail is the probability of at least so many in the next window.
func (s *Shift) Tail(w Window) float64 {
	share := w.K / max(w.N, 1)
	// Half as far again as any went, and more than was seen at this hour of days
	// before.
	mean := s.Usual.Mean()
	if share-mean < 1.5*(s.Most-mean) || share <= 1.2*float64(s.hours[hourOf(w.Hour)])/255 {
		return 1
	}
	p := s.Usual.Tail(w.K, w.N)
	if s.T <= 0 || s.Usual.T <= 0 {
		return p
	}
	// The last windows, with the dispersion of all.
	part, is := s.T/s.Usual.T, s.Mean()
	recent := Share{N: s.Usual.N, K: s.K, T: s.T, Pairs: s.Usual.Pairs * part, Dev2: s.Usual.Dev2 * part * is * (1 - is) / (mean * (1 - mean))}
	return max(p, recent.Tail(w.K, w.N))
}

// Pause says that what the last windows had is long ago.
func (s *Shift) Pause() { s.K, s.T = 0, 0 }

// Move says that the kind is another now, of which a share was seen so far: what
// was learnt of how windows differ stays.
func (s *Shift) Move(share float64) {
	share = max(0.001, min(0.999, share))
	was := s.Usual.Mean()
	s.Usual.Dev2 *= share * (1 - share) / (was * (1 - was))
	s.Usual.K, s.K = share*s.Usual.T, share*s.T
	s.Most, s.hours, s.peak = share, [24]uint8{}, 0
}

// Write writes the state.
func (s *Shift) Write(w *snapshot.Writer) {
	s.Usual.Write(w)
	w.Float(s.K)
	w.Float(s.T)
	w.Float(s.Most)
	w.Bytes(s.hours[:])
	w.Int(s.hour)
	w.Uint(uint64(s.peak))
}

// Read reads the state.
func (s *Shift) Read(r *snapshot.Reader) {
	s.Usual.Read(r)
	s.K, s.T, s.Most = r.Float(), r.Float(), r.Float()
	copy(s.hours[:], r.Bytes())
	s.hour, s.peak = r.Int(), uint8(r.Uint())
}
