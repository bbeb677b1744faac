package detector

import (
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

func (v *Vocabulary) write(w *snapshot.Writer) {
	v.miner.Write(w)
	w.Int(v.swept)
	w.Uint(v.learnt)
	w.Bool(v.unfollowed)
	if v.unfollowed {
		w.Uint(uint64(len(v.moved)))
		for _, m := range v.moved {
			w.Fixed(m.From)
			w.Fixed(m.To)
			w.Bool(m.Joined)
		}
	}
	w.Uint(uint64(len(v.speakers)))
	for _, id := range sortedKeys(v.speakers) {
		s := v.speakers[id]
		w.Fixed(id)
		w.String(s.Entity.Cluster)
		w.String(s.Entity.Namespace)
		w.String(s.Entity.Kind)
		w.String(s.Entity.Name)
		w.String(s.Source)
		w.Int(s.First)
		w.Int(s.Last)
		w.Int(s.Resumed)
		w.Int(s.Minutes)
		w.Int(s.Slot)
		w.Float(s.Lines)
		w.Int(s.Rolled)
		w.Int(s.live)
		w.String(s.revision)
		w.Uint(uint64(len(s.pods)))
		for _, p := range s.pods {
			w.Fixed(p.id)
			w.String(p.revision)
			w.Int(p.last)
		}
	}
	w.Uint(uint64(len(v.statements)))
	for _, key := range sortedKeys(v.statements) {
		s := v.statements[key]
		w.Fixed(key)
		w.Fixed(s.Speaker)
		w.Fixed(s.Template)
		w.Uint(uint64(s.Level))
		w.Int(s.First)
		w.Int(s.Last)
		w.Float(s.Count)
		w.String(s.Sample)
		w.Int(s.sampled)
	}
}

// read reads the state in place: detectors hold the pointer.
func (v *Vocabulary) read(r *snapshot.Reader) {
	v.reset()
	v.miner.Read(r)
	v.swept = r.Int()
	v.learnt = r.Uint()
	if v.unfollowed = r.Bool(); v.unfollowed {
		for range r.Len() {
			v.moved = append(v.moved, Moved{r.Fixed(), r.Fixed(), r.Bool()})
		}
	}
	for range r.Len() {
		id := r.Fixed()
		s := &Speaker{
			ID: id, Entity: event.Entity{Cluster: r.String(), Namespace: r.String(), Kind: r.String(), Name: r.String()}, Source: r.String(),
			First: r.Int(), Last: r.Int(), Resumed: r.Int(), Minutes: r.Int(), Slot: r.Int(), Lines: r.Float(),
			Rolled: r.Int(), live: r.Int(), revision: r.String(),
		}
		for range r.Len() {
			s.pods = append(s.pods, pod{r.Fixed(), r.String(), r.Int()})
		}
		if r.Err() != nil {
			return
		}
		v.speakers[id] = s
	}
	for range r.Len() {
		key := r.Fixed()
		s := &Statement{
			Speaker: r.Fixed(), Template: r.Fixed(), Level: logpattern.Level(r.Uint()), First: r.Int(), Last: r.Int(), Count: r.Float(),
			Sample: r.String(), sampled: r.Int(),
		}
		if r.Err() != nil {
			return
		}
		v.statements[key] = s
	}
}
