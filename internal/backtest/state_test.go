package backtest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// FuzzState reads states of any bytes, from the first field on: each is an error
// or a state, and never the end of the program.
func FuzzState(f *testing.F) {
	o := options(f, serve(f, shop()))
	fresh := func() *run {
		folds, err := newFolds(&o)
		if err != nil {
			f.Fatal(err)
		}
		return &run{o: &o, h: newHarvest(), hash: identity(&o), folds: folds}
	}
	if err := fresh().save(); err != nil {
		f.Fatal(err)
	}
	packed, err := os.ReadFile(filepath.Join(o.Dir, StateFile))
	if err != nil {
		f.Fatal(err)
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		f.Fatal(err)
	}
	whole, err := z.DecodeAll(packed, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte{})
	pack, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(o.Dir, StateFile), pack.EncodeAll(data, nil), 0o600); err != nil {
			t.Fatal(err)
		}
		found, err := fresh().load()
		if other := (*OtherError)(nil); err != nil && !errors.As(err, &other) {
			t.Errorf("got %v, want an error that names the directory", err)
		}
		if found == (err != nil) {
			t.Errorf("found %v, and %v", found, err)
		}
	})
}
