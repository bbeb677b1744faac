package kubernetes

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/services/collector"
)

// Observation is one state of an object, for recordings: JSON as the API
// writes it, without what must not leave the cluster (see [kube.Reduce]).
type Observation struct {
	// Time is when the object was seen like this; for what the first lists held,
	// when reading began.
	Time   time.Time
	Object json.RawMessage
	Gone   bool // seen as it was deleted
}

// observe tells what records of a state of an object. Events are none: they
// are recorded as events.
func (w *world) observe(obj runtime.Object, gone bool) {
	if _, isEvent := obj.(*corev1.Event); isEvent || w.cfg.Observe == nil {
		return
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return // an object of the API that is not JSON
	}
	for _, r := range resources {
		if reflect.TypeOf(r.object) == reflect.TypeOf(obj) {
			fields["kind"], fields["apiVersion"] = reflect.TypeOf(obj).Elem().Name(), r.gv.String()
		}
	}
	reduced := kube.Reduce(fields, w.redact)
	if c, ok := obj.(*corev1.ConfigMap); ok {
		reduced["hash"] = c.Data[hashKey] // what is left of its data
		delete(reduced, "keys")
	}
	b, err := json.Marshal(reduced)
	if err != nil {
		return
	}
	at := w.now()
	if !w.started {
		at = w.firstAt
	}
	w.cfg.Observe(Observation{Time: at.UTC(), Object: b, Gone: gone})
}

// Recorded is a source that reads recorded objects and events as if a cluster
// had shown them: the same changes, topology and events, with the same ids.
type Recorded struct {
	cfg        Config
	env        collector.Env
	items      []item
	start, end time.Time
	calls      map[event.Entity][]event.Entity
	past       map[string]bool // ids of events that were past when they were told
	idle       time.Duration
	wait       func(context.Context, time.Time) error
}

// item is what was seen at a time.
type item struct {
	at     time.Time
	object runtime.Object
	gone   bool
}

var _ collector.Source = (*Recorded)(nil)

// Recording is what one cluster showed between two times.
type Recording struct {
	Objects    []Observation
	Events     []json.RawMessage // core/v1 JSON
	Calls      map[event.Entity][]event.Entity
	Start, End time.Time
	// Idle is how long at most nothing is closed when nothing happens.
	Idle time.Duration
}

// NewRecorded makes a source of a recording. wait is called before each moment
// is emitted and holds it back; nil reads at once. The error names the line
// that is no object of Kubernetes.
func NewRecorded(name string, rec Recording, env collector.Env, wait func(context.Context, time.Time) error) (*Recorded, error) {
	cfg := Config{Name: name}
	cfg.Fill()
	objects, events := rec.Objects, rec.Events
	r := &Recorded{cfg: cfg, env: env, start: rec.Start.UTC(), end: rec.End.UTC(), calls: rec.Calls, idle: rec.Idle, wait: wait, past: map[string]bool{}}
	for i, o := range objects {
		obj, err := decode(o.Object)
		if err != nil {
			return nil, fmt.Errorf("object %d: %w", i+1, err)
		}
		if obj != nil {
			r.items = append(r.items, item{o.Time.UTC(), obj, o.Gone})
		}
	}
	for i, raw := range events {
		e, err := decodeEvent(raw)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", i+1, err)
		}
		if e.ReportingController == ours && len(objects) > 0 {
			continue // comes of the pods again
		}
		var ours struct {
			Past bool `json:"oncallPast"`
		}
		if json.Unmarshal(raw, &ours) == nil && ours.Past {
			r.past[event.KubeEventSeen.ID(kube.EventOf(e))] = true
		}
		r.items = append(r.items, item{kube.EventOf(e).Time(), e, false})
	}
	r.listed()
	slices.SortStableFunc(r.items, func(a, b item) int { return a.at.Compare(b.at) })
	if n := len(r.items); n > 0 {
		if r.start.IsZero() || r.items[0].at.Before(r.start) && len(objects) == 0 {
			r.start = r.items[0].at
		}
		if last := r.items[n-1].at; last.After(r.end) {
			r.end = last
		}
	}
	return r, nil
}

// listed takes what the first lists held, which has the time of the first
// object, for there from the start: metrics and logs may be older, when they
// come from history.
func (r *Recorded) listed() {
	var first time.Time
	for _, i := range r.items {
		if _, isEvent := i.object.(*corev1.Event); !isEvent && (first.IsZero() || i.at.Before(first)) {
			first = i.at
		}
	}
	for n, i := range r.items {
		if _, isEvent := i.object.(*corev1.Event); !isEvent && i.at.Equal(first) && !r.start.IsZero() && first.After(r.start) {
			r.items[n].at = r.start
		}
	}
}

// decode reads an object of a kind that is watched; nil for any other.
func decode(raw json.RawMessage) (runtime.Object, error) {
	var head struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
		Hash       string `json:"hash"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, err
	}
	for _, res := range resources {
		typ := reflect.TypeOf(res.object).Elem()
		if typ.Name() != head.Kind || res.gv.String() != head.APIVersion || res.plural == "events" {
			continue
		}
		obj := reflect.New(typ).Interface()
		if err := json.Unmarshal(raw, obj); err != nil {
			return nil, fmt.Errorf("%s: %w", head.Kind, err)
		}
		if c, ok := obj.(*corev1.ConfigMap); ok {
			c.Data, c.BinaryData = map[string]string{hashKey: cmp.Or(head.Hash, kube.ConfigHash(c.Data, c.BinaryData))}, nil
		} else {
			trim(obj.(runtime.Object))
		}
		return obj.(runtime.Object), nil
	}
	return nil, nil
}

// decodeEvent reads an event. Kubernetes reads times of the new API with six
// digits of a second and no others; what wrote the file may have been less
// particular.
func decodeEvent(raw json.RawMessage) (*corev1.Event, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	var late struct {
		EventTime time.Time `json:"eventTime"`
		Series    struct {
			LastObservedTime time.Time `json:"lastObservedTime"`
		} `json:"series"`
	}
	if err := json.Unmarshal(raw, &late); err != nil {
		return nil, err
	}
	delete(fields, "eventTime")
	var series map[string]json.RawMessage
	if err := json.Unmarshal(fields["series"], &series); fields["series"] != nil && err == nil {
		delete(series, "lastObservedTime")
		fields["series"], _ = json.Marshal(series) // it came out of JSON
	}
	b, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	e := &corev1.Event{}
	if err := json.Unmarshal(b, e); err != nil {
		return nil, err
	}
	e.EventTime = metav1.NewMicroTime(late.EventTime)
	if e.Series != nil {
		e.Series.LastObservedTime = metav1.NewMicroTime(late.Series.LastObservedTime)
	}
	return e, nil
}

// Name is the name of the recorded source.
func (r *Recorded) Name() string { return r.cfg.Name }

// End is how far the recording goes.
func (r *Recorded) End() time.Time { return r.end }

// moment is how much of a recording is emitted at once.
const moment = time.Second

// Run emits everything and returns at the end of the recording.
func (r *Recorded) Run(ctx context.Context, _ []byte, emit collector.Emit) error {
	clock := r.start
	w := newWorld(r.cfg, r.env.Redact.Line, func() time.Time { return clock }, saved{})
	w.calls, w.past = r.calls, r.past
	rest := r.items
	// What was there at first is learned, as from the first lists.
	for len(rest) > 0 && !rest[0].at.After(r.start) {
		w.apply(rest[0].object, true)
		rest = rest[1:]
	}
	w.start()
	closed := r.start.Add(-r.cfg.Lateness)
	for at := r.start; ; at = at.Add(moment) {
		if at.After(r.end) {
			at = r.end
		}
		if r.wait != nil {
			if err := r.wait(ctx, at); err != nil {
				return err
			}
		}
		for len(rest) > 0 && !rest[0].at.After(at) {
			clock = rest[0].at
			if rest[0].gone {
				w.remove(rest[0].object)
			} else {
				w.apply(rest[0].object, false)
			}
			rest = rest[1:]
		}
		clock = at
		for last := at.Equal(r.end); ; {
			e := collector.Emission{Stream: event.KubeEvents, Events: w.news(at)}
			more := w.waiting()
			if next := at.Add(-r.cfg.Lateness); !more && (len(e.Events) > 0 || last || next.Sub(closed) >= r.idle) {
				if last {
					next = at
				}
				closed, e.Closed = next, next
			}
			if len(e.Events) > 0 || !e.Closed.IsZero() {
				if err := emit(ctx, e); err != nil {
					return err
				}
			}
			if !more {
				break
			}
		}
		if at.Equal(r.end) {
			return nil
		}
	}
}
