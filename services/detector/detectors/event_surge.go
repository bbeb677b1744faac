package detectors

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
	"github.com/oncall-copilot/oncall/services/detector"
)

// EventSurgeConfig is the `detector.event_surge:` section of the configuration file.
type EventSurgeConfig struct {
	// Window is how long an event counts. Default: 10m.
	Window time.Duration `yaml:"window"`
	// P is the tail probability below which a rate of Warning events that are
	// not in the catalogue is odd. Default: 1e-4.
	P float64 `yaml:"p"`
	// Stale is how old an event may be when it is first seen; older ones, of a
	// first listing, are learnt from only, and so are those of it whose object is
	// gone or has got past what they say. Default: 15m.
	Stale time.Duration `yaml:"stale"`
	// NodeFor is how long a condition of a node, such as NotReady, must hold
	// before it counts: a kubelet that restarts is back within seconds.
	// Default: 1m.
	NodeFor time.Duration `yaml:"node_for"`
}

// Validate checks the ranges.
func (c EventSurgeConfig) Validate() error {
	return errors.Join(
		between("window", c.Window.Minutes(), 1, 24*60, 10),
		between("p", c.P, 1e-12, 1e-2, 1e-4),
		between("stale", c.Stale.Minutes(), 1, 24*60, 15),
		between("node_for", c.NodeFor.Minutes(), 0, min(60, c.Window.Minutes()), 1),
	)
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "event_surge", Input: detector.Events, Class: event.ClassCause, Hold: time.Minute,
			Doc: "Kubernetes events that say something is wrong (OOM kills, back-off, failed scheduling, mounts, probes …), and Warnings that come oftener than usual.",
		},
		EventSurgeConfig{Window: 10 * time.Minute, P: 1e-4, Stale: 15 * time.Minute, NodeFor: time.Minute},
		func(c EventSurgeConfig, _ detector.Settings) (detector.Detector, error) {
			return &eventSurge{cfg: c, keys: map[uint64]*surge{}, counts: map[uint64]*counted{}}, nil
		}))
}

// eventSurge counts occurrences by workload and reason. A reason of the
// catalogue is odd by what it says; any other Warning by its rate, under the
// gamma-Poisson model of what the workload shows usually. Normal events are
// never odd: a healthy cluster churns.
type eventSurge struct {
	cfg    EventSurgeConfig
	keys   map[uint64]*surge
	counts map[uint64]*counted
	tested int64
	first  int64 // watermark of the first window, milliseconds
}

// counted is how often an event object was seen to have happened, since an
// update of it gives the total.
type counted struct {
	n    int
	seen int64
}

// surge is one reason on one workload.
type surge struct {
	entity  event.Entity
	reason  string
	typ     string
	recent  []sighting
	rate    stat.GammaPoisson // occurrences in a window of the configured length
	slot    int64             // the window being counted
	slotN   float64
	onset   int64
	message string
	object  event.Entity
	lastT   int64
}

type sighting struct {
	at int64
	n  int
}

// Limits of what is remembered.
const (
	maxSurges    = 20_000
	maxSightings = 500
	surgeHorizon = 6 * 24 * 3 // windows
)

// Tested is detector.Tester's.
func (d *eventSurge) Tested() int64 {
	n := d.tested
	d.tested = 0
	return n
}

// Observe is detector.Detector's.
func (d *eventSurge) Observe(b event.Batch) (found []event.Anomaly) {
	now := b.Watermark.UnixMilli()
	if d.first == 0 {
		d.first = now
	}
	for _, e := range b.Events {
		d.count(e, now)
		d.clear(e)
	}
	for _, key := range sortedKeys(d.keys) {
		s := d.keys[key]
		d.advance(s, now)
		s.recent = slices.DeleteFunc(s.recent, func(x sighting) bool { return x.at <= now-d.cfg.Window.Milliseconds() })
		n := 0
		for _, x := range s.recent {
			n += x.n
		}
		if n == 0 {
			s.onset = 0
			if s.lastT < now-forgetAfter {
				delete(d.keys, key)
			}
			continue
		}
		d.tested++
		if a, ok := d.judge(key, s, n, b.Watermark); ok {
			found = append(found, a)
		}
	}
	d.forget(now)
	return found
}

// count books the occurrences of an event that were not booked before.
func (d *eventSurge) count(e event.KubeEvent, now int64) {
	at := e.Time().UnixMilli()
	id := event.HashStrings(e.Metadata.UID, e.Metadata.Namespace, e.Metadata.Name)
	c, ok := d.counts[id]
	if !ok {
		c = &counted{}
		d.counts[id] = c
	}
	n := e.Occurrences() - c.n
	c.n, c.seen = max(c.n, e.Occurrences()), now
	if n <= 0 {
		return
	}
	if !ok && n > 1 {
		// The object was there before we were: only its last occurrence is new.
		if first := e.FirstTimestamp; !first.IsZero() && first.UnixMilli() < now-d.cfg.Window.Milliseconds() {
			n = 1
		}
	}
	root := e.Root()
	if root.Kind == "" || root.Name == "" {
		root = event.Entity{Kind: "Cluster", Name: "cluster"}
	}
	key := event.HashStrings("event_surge", root.String(), e.Reason)
	s, ok := d.keys[key]
	if !ok {
		if len(d.keys) >= maxSurges {
			return
		}
		s = &surge{entity: root, reason: e.Reason, slot: now / d.cfg.Window.Milliseconds()}
		d.keys[key] = s
	}
	s.typ, s.message, s.object, s.lastT = e.Type, clip(e.Message, 300), e.Entity(), now
	if e.Past || at <= now-d.cfg.Stale.Milliseconds() || len(s.recent) >= maxSightings {
		s.slotN += float64(n)
		return
	}
	s.recent = append(s.recent, sighting{at, n})
	s.slotN += float64(n)
}

// clear forgets a condition of a node that an event says is over. One that
// came again since stays.
func (d *eventSurge) clear(e event.KubeEvent) {
	over := overWith[e.Reason]
	if over == "" {
		return
	}
	at := e.Time().UnixMilli()
	if s, ok := d.keys[event.HashStrings("event_surge", e.Root().String(), over)]; ok {
		s.recent = slices.DeleteFunc(s.recent, func(x sighting) bool { return x.at <= at })
	}
}

// advance closes the windows that have passed and learns their counts.
func (d *eventSurge) advance(s *surge, now int64) {
	slot := now / d.cfg.Window.Milliseconds()
	if slot <= s.slot {
		return
	}
	// Windows in which it was odd would teach that odd is normal: they count
	// at most as what is just not odd.
	s.rate.Add(min(s.slotN, s.rate.High(1e-2)+1), surgeHorizon)
	for range min(slot-s.slot-1, surgeHorizon) {
		s.rate.Add(0, surgeHorizon)
	}
	s.slot, s.slotN = slot, 0
}

func (d *eventSurge) judge(key uint64, s *surge, n int, at time.Time) (event.Anomaly, bool) {
	first := slices.MinFunc(s.recent, func(a, b sighting) int { return cmp.Compare(a.at, b.at) }).at
	if s.onset == 0 {
		s.onset = first
	}
	a := event.Anomaly{
		Series: event.SeriesHash(key), Entity: s.entity, Signal: s.reason, Observed: float64(n), Unit: "{event}",
		Onset:  time.UnixMilli(s.onset).UTC(),
		Labels: map[string]string{"reason": s.reason, "object": s.object.String()},
		Evidence: []event.EvidenceRef{{
			Source: "kubernetes", Query: eventsQuery(s.entity), Start: at.Add(-d.cfg.Window), End: at,
			Excerpt: []string{clip(s.message, 300)},
		}},
	}
	p := s.rate.Tail(float64(n))
	a.Expected = &event.Interval{Low: 0, High: s.rate.High(1e-3)}
	r, known := lookup(event.KubeEvent{Reason: s.reason, Message: s.message, Type: s.typ})
	switch {
	case known:
		if held[s.reason] && (s.entity.Kind != "Node" || at.UnixMilli()-first < d.cfg.NodeFor.Milliseconds()) {
			return a, false // of a pod it says what its node says
		}
		// Where it has come for days at this rate, it is no news.
		if n < r.least || s.rate.N > 100 && p > 0.05 {
			return a, false
		}
		a.Class, a.Severity, a.TailProb, a.Check = r.class, r.severity, min(p, 1e-4), r.first.check(s.object)
		a.Summary = fmt.Sprintf("%s x%d: %s", s.reason, n, r.meaning)
		a.Explanation = fmt.Sprintf("a reason of the catalogue, at least %d within %s; last on %s", r.least, short(d.cfg.Window), s.object)
	case s.typ == "Warning":
		// An unknown reason needs a past to be compared with: two hours of ours.
		if at.UnixMilli()-d.first < 2*time.Hour.Milliseconds() || n < 3 || p > d.cfg.P {
			return a, false
		}
		a.Class, a.Severity, a.TailProb, a.Check = event.ClassAmbient, severityOf(p), p, seeObject.check(s.object)
		a.Summary = fmt.Sprintf("%s x%d in %s, usually at most %g", s.reason, n, short(d.cfg.Window), a.Expected.High)
		a.Explanation = fmt.Sprintf("gamma-Poisson over %.0f windows; tail probability %.1e, alarm below %.1e", s.rate.N, p, d.cfg.P)
	default:
		return a, false
	}
	return a, true
}

func (d *eventSurge) forget(now int64) {
	for id, c := range d.counts {
		if c.seen < now-2*3_600_000 {
			delete(d.counts, id)
		}
	}
}

func eventsQuery(e event.Entity) string {
	ns := e.Namespace
	if ns == "" {
		ns = "default"
	}
	return "events " + ns + " " + e.Kind + "/" + e.Name
}

// clip cuts a text to at most n bytes, at a rune.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}

// MarshalBinary writes the state.
func (d *eventSurge) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	w.Int(d.first)
	w.Uint(uint64(len(d.counts)))
	for _, id := range sortedKeys(d.counts) {
		w.Fixed(id)
		w.Int(int64(d.counts[id].n))
		w.Int(d.counts[id].seen)
	}
	w.Uint(uint64(len(d.keys)))
	for _, key := range sortedKeys(d.keys) {
		s := d.keys[key]
		w.Fixed(key)
		writeEntity(w, s.entity)
		writeEntity(w, s.object)
		w.String(s.reason)
		w.String(s.typ)
		w.String(s.message)
		w.Int(s.slot)
		w.Float(s.slotN)
		w.Int(s.onset)
		w.Int(s.lastT)
		s.rate.Write(w)
		w.Uint(uint64(len(s.recent)))
		for _, x := range s.recent {
			w.Int(x.at)
			w.Int(int64(x.n))
		}
	}
	return w.Data(), nil
}

// UnmarshalBinary reads it back.
func (d *eventSurge) UnmarshalBinary(b []byte) error {
	r := snapshot.NewReader(b)
	d.first = r.Int()
	d.counts, d.keys = map[uint64]*counted{}, map[uint64]*surge{}
	for range r.Len() {
		id := r.Fixed()
		d.counts[id] = &counted{n: int(r.Int()), seen: r.Int()}
	}
	for range r.Len() {
		key := r.Fixed()
		s := &surge{
			entity: readEntity(r), object: readEntity(r), reason: r.String(), typ: r.String(), message: r.String(),
			slot: r.Int(), slotN: r.Float(), onset: r.Int(), lastT: r.Int(),
		}
		s.rate.Read(r)
		for range r.Len() {
			s.recent = append(s.recent, sighting{at: r.Int(), n: int(r.Int())})
		}
		if r.Err() != nil {
			return r.Err()
		}
		d.keys[key] = s
	}
	return r.Close()
}

func writeEntity(w *snapshot.Writer, e event.Entity) {
	w.String(e.Cluster)
	w.String(e.Namespace)
	w.String(e.Kind)
	w.String(e.Name)
}

func readEntity(r *snapshot.Reader) event.Entity {
	return event.Entity{Cluster: r.String(), Namespace: r.String(), Kind: r.String(), Name: r.String()}
}
