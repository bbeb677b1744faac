package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
)

// Store holds the policy files in force: the defaults that are embedded in the
// binary, with a user's directory laid over them, file by file. A file of the
// user's replaces the default of the same name.
type Store struct {
	layers  []fs.FS
	first   map[string][sha256.Size]byte // of each file when the store was made or adopted
	current atomic.Pointer[snapshot]
}

type snapshot struct {
	files map[string][]byte
	hash  string
}

// NewStore reads the layers in order; a later layer's file wins.
func NewStore(layers ...fs.FS) (*Store, error) {
	s := &Store{layers: layers}
	snap, err := read(layers)
	if err != nil {
		return nil, err
	}
	s.first = sums(snap)
	s.current.Store(snap)
	return s, nil
}

func sums(snap *snapshot) map[string][sha256.Size]byte {
	out := make(map[string][sha256.Size]byte, len(snap.files))
	for name, b := range snap.files {
		out[name] = sha256.Sum256(b)
	}
	return out
}

// Reload reads the layers again and says whether a file differs. What cannot be
// read leaves the files as they were. Whoever uses a file checks it, and keeps
// to the one before when the new one is wrong.
func (s *Store) Reload() (changed bool, err error) {
	snap, err := read(s.layers)
	if err != nil {
		return false, err
	}
	old := s.current.Swap(snap)
	return old.hash != snap.hash, nil
}

// Adopt makes the files as they are what Changed compares with, when they still have
// this hash.
func (s *Store) Adopt(hash string) {
	if snap := s.current.Load(); snap.hash == hash {
		s.first = sums(snap)
	}
}

// Changed are the files that are other than when the store was made or adopted, or no
// longer there, sorted. Like Adopt and Reload it is for one goroutine.
func (s *Store) Changed() (names []string) {
	now := sums(s.current.Load())
	for name, sum := range now {
		if was, ok := s.first[name]; !ok || was != sum {
			names = append(names, name)
		}
	}
	for name := range s.first {
		if _, ok := now[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Hash names the content of every file: 12 hex digits. It is in every incident
// and decision, so that "by which policy?" has an answer.
func (s *Store) Hash() string { return s.current.Load().hash }

// File returns one file, or false.
func (s *Store) File(name string) ([]byte, bool) {
	b, ok := s.current.Load().files[name]
	return b, ok
}

// Glob returns the names of the files in a directory with an ending, sorted.
func (s *Store) Glob(dir, ending string) []string {
	var out []string
	for name := range s.current.Load().files {
		if strings.HasPrefix(name, dir+"/") && strings.HasSuffix(name, ending) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func read(layers []fs.FS) (*snapshot, error) {
	snap := &snapshot{files: map[string][]byte{}}
	for _, layer := range layers {
		err := fs.WalkDir(layer, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				// A mounted ConfigMap keeps its files twice, once below ..data.
				if strings.HasPrefix(d.Name(), "..") {
					return fs.SkipDir
				}
				return nil
			}
			if !strings.HasSuffix(name, ".yaml") && !strings.HasSuffix(name, ".md") {
				return nil
			}
			b, err := fs.ReadFile(layer, name)
			if err != nil {
				return err
			}
			snap.files[name] = b
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read policies: %w", err)
		}
	}
	h := sha256.New()
	for _, name := range sortedKeys(snap.files) {
		fmt.Fprintf(h, "%s\x00%d\x00", name, len(snap.files[name]))
		h.Write(snap.files[name])
	}
	snap.hash = hex.EncodeToString(h.Sum(nil))[:12]
	return snap, nil
}

func sortedKeys(m map[string][]byte) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
