package detector

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// refresh is how often an anomaly that goes on is published again.
const refresh = 5 * time.Minute

// maxOpen bounds the anomalies that are open in one partition at a time; what
// is over it is counted and left out, mildest first.
const maxOpen = 5000

// tracker gives observations a life: it decides when an anomaly begins, is
// worth another event, and is over, the same way for every detector.
type tracker struct {
	open map[trackKey]*track
}

type trackKey struct{ detector, series string }

type track struct {
	anomaly event.Anomaly // as last published, or observed since
	sent    time.Time     // window end of the last event
	said    event.Severity
	lastOdd time.Time
	quiet   time.Duration // how long it has been normal, blind time left out
	hold    time.Duration
}

func newTracker() *tracker { return &tracker{open: map[trackKey]*track{}} }

// observed is what one detector said of one window.
type observed struct {
	info      Info
	hash      string
	anomalies []event.Anomaly
}

// step folds what the detectors said of the window that b is, and returns
// the events to publish, in a fixed order.
func (t *tracker) step(b event.Batch, all []observed, drop func(reason string)) []event.Outgoing {
	var out []event.Outgoing
	seen := map[trackKey]bool{}
	for _, o := range all {
		slices.SortStableFunc(o.anomalies, func(x, y event.Anomaly) int {
			return cmp.Or(cmp.Compare(x.Series, y.Series), cmp.Compare(y.Severity.Number(), x.Severity.Number()), cmp.Compare(x.TailProb, y.TailProb))
		})
		for _, a := range o.anomalies {
			key := trackKey{o.info.Name, a.Series}
			if seen[key] {
				continue // the worst observation of a series comes first
			}
			if err := complete(&a, b, o); err != nil {
				drop("invalid")
				continue
			}
			seen[key] = true
			out = append(out, t.observe(key, a, o.info.Hold, drop)...)
		}
	}
	return append(out, t.settle(b, seen)...)
}

// complete fills in what a detector leaves to the service, and refuses what
// could not be published.
func complete(a *event.Anomaly, b event.Batch, o observed) error {
	a.Detector, a.ConfigHash, a.WindowEnd = o.info.Name, o.hash, b.Watermark
	if a.Class == "" {
		a.Class = o.info.Class
	}
	if a.Onset.IsZero() || a.Onset.After(b.Watermark) {
		a.Onset = b.Watermark
	}
	a.Onset = a.Onset.UTC().Truncate(time.Millisecond)
	if a.TailProb > 1 {
		a.TailProb = 1
	}
	return Valid(*a)
}

// Valid says what an anomaly lacks to be published.
func Valid(a event.Anomaly) error {
	switch {
	case len(a.Series) != 16:
		return fmt.Errorf("anomaly of %s: series %q is not 16 hex digits", a.Detector, a.Series)
	case a.Entity.Kind == "" || a.Entity.Name == "":
		return fmt.Errorf("anomaly of %s: no entity", a.Detector)
	case a.Severity.Number() == 0:
		return fmt.Errorf("anomaly of %s: severity %q is not info, warning or critical", a.Detector, a.Severity)
	case !(a.TailProb > 0 && a.TailProb <= 1):
		return fmt.Errorf("anomaly of %s: tail_prob %v is not in (0, 1]", a.Detector, a.TailProb)
	case a.Signal == "" || a.Summary == "":
		return fmt.Errorf("anomaly of %s: no signal or no summary", a.Detector)
	case math.IsNaN(a.Observed) || math.IsInf(a.Observed, 0):
		return fmt.Errorf("anomaly of %s: observed is not a finite number", a.Detector)
	case a.Expected != nil && (badNumber(a.Expected.Low) || badNumber(a.Expected.High)):
		return fmt.Errorf("anomaly of %s: expected is not finite", a.Detector)
	}
	return nil
}

func badNumber(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }

func (t *tracker) observe(key trackKey, a event.Anomaly, hold time.Duration, drop func(string)) []event.Outgoing {
	old, known := t.open[key]
	if a.Ended != nil {
		if !known {
			return nil
		}
		end := a.Ended.UTC()
		return t.end(key, old, a.WindowEnd, end)
	}
	if !known {
		if len(t.open) >= maxOpen {
			drop("too_many_open")
			return nil
		}
		a.Key = event.AnomalyKey(a.Detector, a.Series, a.Onset)
		t.open[key] = &track{anomaly: a, sent: a.WindowEnd, said: a.Severity, lastOdd: a.WindowEnd, hold: hold}
		return []event.Outgoing{event.AnomalyDetected.Out(a)}
	}
	// The identity and the beginning stay those of the first observation.
	a.Key, a.Onset = old.anomaly.Key, old.anomaly.Onset
	old.anomaly, old.lastOdd, old.quiet, old.hold = a, a.WindowEnd, 0, hold
	// What worsens is said at once, what gets milder with the next repeat: a
	// severity that goes to and fro would otherwise be an event each time.
	if a.Severity.Number() > old.said.Number() || a.WindowEnd.Sub(old.sent) >= refresh {
		old.sent, old.said = a.WindowEnd, a.Severity
		return []event.Outgoing{event.AnomalyDetected.Out(a)}
	}
	return nil
}

// settle ends the anomalies that have been quiet for long enough.
func (t *tracker) settle(b event.Batch, seen map[trackKey]bool) []event.Outgoing {
	var out []event.Outgoing
	for _, key := range t.keys() {
		tr := t.open[key]
		if seen[key] || b.Previous.IsZero() || b.Skipped > 0 || blindFor(b.Blind, tr.anomaly) {
			continue
		}
		tr.quiet += b.Watermark.Sub(b.Previous)
		if tr.quiet >= tr.hold {
			// It was last seen odd at lastOdd, so it was normal from the window after.
			out = append(out, t.end(key, tr, b.Watermark, tr.lastOdd)...)
		}
	}
	return out
}

// blindFor says whether one of the sources that cannot be read may be the one
// the anomaly was seen in.
func blindFor(blind []event.Blindness, a event.Anomaly) bool {
	source := a.Labels[event.LabelSource]
	return slices.ContainsFunc(blind, func(b event.Blindness) bool { return source == "" || b.Source == "" || b.Source == source })
}

func (t *tracker) end(key trackKey, tr *track, window, at time.Time) []event.Outgoing {
	a := tr.anomaly
	if at.Before(a.Onset) {
		at = a.Onset
	}
	a.WindowEnd, a.Ended = window, &at
	delete(t.open, key)
	return []event.Outgoing{event.AnomalyEnded.Out(a)}
}

func (t *tracker) keys() []trackKey {
	return slices.SortedFunc(maps.Keys(t.open), func(a, b trackKey) int {
		return cmp.Or(cmp.Compare(a.detector, b.detector), cmp.Compare(a.series, b.series))
	})
}

func (t *tracker) write(w *snapshot.Writer) error {
	w.Uint(uint64(len(t.open)))
	for _, key := range t.keys() {
		tr := t.open[key]
		b, err := json.Marshal(tr.anomaly)
		if err != nil {
			return fmt.Errorf("write anomaly %s: %w", tr.anomaly.Key, err)
		}
		w.Bytes(b)
		w.Time(tr.sent)
		w.String(string(tr.said))
		w.Time(tr.lastOdd)
		w.Int(int64(tr.quiet))
		w.Int(int64(tr.hold))
	}
	return nil
}

func (t *tracker) read(r *snapshot.Reader) {
	t.open = map[trackKey]*track{}
	for range r.Len() {
		tr := &track{}
		if err := json.Unmarshal(r.Bytes(), &tr.anomaly); err != nil {
			r.Fail("anomaly: " + err.Error())
			return
		}
		tr.sent, tr.said, tr.lastOdd = r.Time(), event.Severity(r.String()), r.Time()
		tr.quiet, tr.hold = time.Duration(r.Int()), time.Duration(r.Int())
		t.open[trackKey{tr.anomaly.Detector, tr.anomaly.Series}] = tr
	}
}

// Life gives the observations of one detector in one partition a life, in the
// way the service does it: for detectors that run elsewhere. Its state can be
// written and read.
type Life struct {
	t    *tracker
	info Info
	hash string
}

// NewLife makes a Life for a detector's name, hold and class, and the hash of
// its configuration.
func NewLife(info Info, hash string) *Life { return &Life{newTracker(), info, hash} }

// Step folds what was found in the window that b frames and returns the
// events to publish. Why an observation was left out is given to drop.
func (l *Life) Step(b event.Batch, found []event.Anomaly, drop func(reason string)) []event.Outgoing {
	return l.t.step(b, []observed{{info: l.info, hash: l.hash, anomalies: found}}, drop)
}

// MarshalBinary writes the open anomalies.
func (l *Life) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	if err := l.t.write(w); err != nil {
		return nil, err
	}
	return w.Data(), nil
}

// UnmarshalBinary reads them back.
func (l *Life) UnmarshalBinary(b []byte) error {
	r := snapshot.NewReader(b)
	l.t.read(r)
	return r.Close()
}
