package kubernetes

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

// saved is what a process leaves to the next: numbers and hashes, by which a
// change while nobody watched is still seen, once. It holds no content.
type saved struct {
	Schema int `json:"schema"`
	// Closed and EventVersion bound the events that need not be told again: those
	// at or before both. A cluster restored from a backup counts its versions
	// from an earlier number, but its new events have later times.
	Closed       time.Time            `json:"closed"`
	EventVersion uint64               `json:"event_version"`
	Revisions    map[string]int64     `json:"revisions,omitempty"` // by entity: last rollout told
	Replicas     map[string]int       `json:"replicas,omitempty"`  // by entity
	Configs      map[string]string    `json:"configs,omitempty"`   // hashes of ConfigMaps, by namespace/name
	Autoscalers  map[string]string    `json:"autoscalers,omitempty"`
	Nodes        map[string]savedNode `json:"nodes,omitempty"`
	Topology     map[string]sent      `json:"topology,omitempty"` // by entity
}

type savedNode struct {
	UID        string            `json:"uid"`
	Cordoned   bool              `json:"cordoned,omitempty"`
	CordonedAt time.Time         `json:"cordoned_at,omitzero"`
	Taints     []string          `json:"taints,omitempty"`
	Conditions map[string]string `json:"conditions"`
}

const (
	cursorSchema = 1
	maxCursor    = 64 << 20 // bytes of a decompressed cursor
)

// encode writes the cursor: JSON, compressed.
func (s saved) encode() ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := json.NewEncoder(z).Encode(s); err != nil {
		return nil, fmt.Errorf("cursor: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("cursor: %w", err)
	}
	return b.Bytes(), nil
}

// decodeCursor reads what encode wrote. No bytes are the first start.
func decodeCursor(b []byte) (saved, error) {
	if len(b) == 0 {
		return saved{}, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return saved{}, fmt.Errorf("cursor: %w", err)
	}
	var s saved
	if err := json.NewDecoder(io.LimitReader(z, maxCursor)).Decode(&s); err != nil {
		return saved{}, fmt.Errorf("cursor: %w", err)
	}
	if s.Schema != cursorSchema {
		return saved{}, fmt.Errorf("cursor: schema %d is not %d", s.Schema, cursorSchema)
	}
	return s, nil
}

// save is the state of the world for the next process.
func (w *world) save(closed time.Time) saved {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := saved{
		Schema: cursorSchema, Closed: closed.UTC(), EventVersion: w.high, Revisions: map[string]int64{}, Replicas: map[string]int{},
		Configs: map[string]string{}, Autoscalers: map[string]string{}, Nodes: map[string]savedNode{}, Topology: maps.Clone(w.topology),
	}
	for ref, n := range w.told {
		s.Revisions[ref.Entity().String()] = n
	}
	for ref, wl := range w.workloads {
		if wl.scalable {
			s.Replicas[ref.Entity().String()] = wl.desired
		}
	}
	for key, c := range w.configs {
		s.Configs[key] = c.hash
	}
	for key, a := range w.autoscalers {
		s.Autoscalers[key] = a.String()
	}
	for name, n := range w.nodes {
		s.Nodes[name] = n.fingerprint()
	}
	return s
}

// start compares what was listed with what the process before knew, tells what
// differs, and from then on tells what is new. At the first start only recent
// rollouts are told.
func (w *world) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.started {
		return
	}
	w.started = true
	for _, key := range slices.Sorted(maps.Keys(w.pods)) {
		w.place(key, w.pods[key])
	}
	for ref := range w.workloads {
		w.dirty[ref] = true
	}
	for entity := range w.saved.Topology { // what is gone meanwhile
		if e, ok := event.ParseEntity(entity); ok {
			w.dirty[kube.Ref{Namespace: e.Namespace, Kind: e.Kind, Name: e.Name}] = true
		}
	}
	first := w.saved.Schema == 0
	if first {
		w.markPast()
	}
	w.listed = nil
	for _, owner := range slices.SortedFunc(maps.Keys(w.revisions), func(a, b kube.Ref) int { return a.Entity().Compare(b.Entity()) }) {
		all := w.revisions[owner]
		last, known := w.saved.Revisions[owner.Entity().String()]
		if known && last <= all[len(all)-1].number {
			w.told[owner] = last
		} else {
			// Never seen, or created anew: only what is recent.
			w.dateRollout(owner, all[len(all)-1])
			for i, r := range all {
				if w.rolledOut(all, i).Before(w.horizon()) {
					w.told[owner] = r.number
				}
			}
		}
		w.tellRollouts(owner)
		w.prune(owner)
	}
	if !first {
		w.tellMeanwhile()
	}
	w.saved = saved{EventVersion: w.saved.EventVersion, Closed: w.saved.Closed, Schema: w.saved.Schema}
}

// tellMeanwhile tells what changed while no process watched.
func (w *world) tellMeanwhile() {
	for ref, wl := range w.workloads {
		if from, ok := w.saved.Replicas[ref.Entity().String()]; ok && wl.scalable && from != wl.desired {
			w.scaled(ref, from, wl.desired, wl.generation, edit{})
		}
	}
	for key, c := range w.configs {
		if from, ok := w.saved.Configs[key]; ok && from != c.hash {
			ns, name := split(key)
			w.configured(ns, name, from, c)
		}
	}
	for key, a := range w.autoscalers {
		if from, ok := w.saved.Autoscalers[key]; ok && from != a.String() {
			ns, name := split(key)
			w.rebounded(ns, name, from, a, edit{})
		}
	}
	for name, n := range w.nodes {
		was, ok := w.saved.Nodes[name]
		if !ok || was.UID != n.uid {
			w.tellNode(name, nil, n)
			continue
		}
		old := &node{uid: was.UID, cordoned: was.Cordoned, cordonedAt: was.CordonedAt, taints: was.Taints, conditions: map[string]condition{}}
		for t, status := range was.Conditions {
			old.conditions[t] = condition{status: status}
		}
		w.tellNode(name, old, n)
	}
	if len(w.nodes) > 0 { // nodes could be read
		for name, was := range w.saved.Nodes {
			if _, ok := w.nodes[name]; !ok {
				w.left(name, was.UID)
			}
		}
	}
}

func split(key string) (namespace, name string) {
	for i := range key {
		if key[i] == '/' {
			return key[:i], key[i+1:]
		}
	}
	return "", key
}
