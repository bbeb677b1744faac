package detector

import (
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// alone is a detector of logs with a vocabulary of its own.
type alone struct {
	Detector
	vocabulary *Vocabulary
}

// Alone makes a detector to be used outside the service. One of logs is given a
// vocabulary of its own, which folds each window before it and is part of its
// state; others are as they are.
func Alone(i Info, cfg any, set Settings) (Detector, error) {
	if i.Input != Logs {
		return i.New(cfg, set)
	}
	set.Vocabulary = NewVocabulary()
	d, err := i.New(cfg, set)
	if err != nil {
		return nil, err
	}
	return &alone{d, set.Vocabulary}, nil
}

// Observe is Detector's.
func (a *alone) Observe(b event.Batch) []event.Anomaly {
	a.vocabulary.Fold(b)
	return a.Detector.Observe(b)
}

// MarshalBinary writes the vocabulary, then the detector's own state.
func (a *alone) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	a.vocabulary.write(w)
	own, err := a.Detector.MarshalBinary()
	if err != nil {
		return nil, err
	}
	w.Bytes(own)
	return w.Data(), nil
}

// UnmarshalBinary reads both back.
func (a *alone) UnmarshalBinary(b []byte) error {
	r := snapshot.NewReader(b)
	a.vocabulary.read(r)
	own := r.Bytes()
	if err := r.Close(); err != nil {
		return err
	}
	return a.Detector.UnmarshalBinary(own)
}
