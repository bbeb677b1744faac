package backtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// StateFile is the state's name in its directory: it is there once a slice is done.
const StateFile = "backtest.state"

// stateVersion changes when a state means something else.
const stateVersion = "oncall backtest 1"

// OtherError says that a directory holds the state of another backtest.
type OtherError struct{ Dir, Why string }

func (e *OtherError) Error() string { return e.Dir + ": " + e.Why }

// save writes how far the run is. The file is whole or the one before.
func (r *run) save() error {
	states, err := r.folds.states()
	if err != nil {
		return err
	}
	p, err := json.Marshal(r.plan)
	if err != nil {
		return err
	}
	h, err := json.Marshal(r.h)
	if err != nil {
		return err
	}
	w := &snapshot.Writer{}
	w.String(stateVersion)
	w.String(r.hash)
	w.Bytes(p)
	w.Bytes(h)
	w.Time(r.done)
	w.Uint(uint64(len(states)))
	for _, s := range states {
		w.Bytes(s)
	}
	ids := make([]uint64, 0, len(r.folds.place))
	for id := range r.folds.place {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	w.Uint(uint64(len(ids)))
	for _, id := range ids {
		w.Fixed(id)
		w.Uint(uint64(r.folds.place[id]))
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.o.Dir, 0o700); err != nil {
		return err
	}
	name := filepath.Join(r.o.Dir, StateFile)
	if err := os.WriteFile(name+".new", z.EncodeAll(w.Data(), nil), 0o600); err != nil {
		return fmt.Errorf("keep how far the backtest is: %w", err)
	}
	return os.Rename(name+".new", name)
}

// load reads a state, if the directory has one. It is false without one.
func (r *run) load() (bool, error) {
	packed, err := os.ReadFile(filepath.Join(r.o.Dir, StateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		return false, err
	}
	defer z.Close()
	data, err := z.DecodeAll(packed, nil)
	if err != nil {
		return false, &OtherError{r.o.Dir, StateFile + " is damaged: " + err.Error()}
	}
	in := snapshot.NewReader(data)
	if in.String() != stateVersion {
		return false, &OtherError{r.o.Dir, StateFile + " was written by another version"}
	}
	if in.String() != r.hash {
		return false, &OtherError{r.o.Dir, StateFile + " is of a backtest with other sources, policies or flags"}
	}
	p, h := in.Bytes(), in.Bytes()
	r.done = in.Time()
	states := make([][]byte, 0, len(r.folds.parts)*len(inputs)+1)
	for range in.Len() {
		states = append(states, in.Bytes())
	}
	for range in.Len() {
		id := in.Fixed()
		r.folds.place[id] = int(in.Uint())
	}
	if err := in.Close(); err != nil {
		return false, &OtherError{r.o.Dir, StateFile + " is damaged: " + err.Error()}
	}
	r.h = newHarvest()
	if err := errors.Join(json.Unmarshal(p, &r.plan), json.Unmarshal(h, r.h), r.folds.restore(states)); err != nil {
		return false, &OtherError{r.o.Dir, StateFile + " is damaged: " + err.Error()}
	}
	return true, nil
}

// forget removes the state, and its directory if that held nothing else.
func (r *run) forget() {
	for _, name := range []string{StateFile, keyFile} {
		_ = os.Remove(filepath.Join(r.o.Dir, name))
	}
	_ = os.Remove(r.o.Dir)
}
