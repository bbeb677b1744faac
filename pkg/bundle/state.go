package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Checkpoint is the state of one fold when the recording begins, in a file of
// state/ named by its group and partition.
type Checkpoint struct {
	Group     string `json:"group"`
	Config    string `json:"config"` // hash of the fold's version and configuration
	Partition int    `json:"partition"`
	Stream    string `json:"stream"`  // that the group folds
	Sequence  uint64 `json:"seq"`     // of the last message of it that is in the state
	Outputs   uint64 `json:"outputs"` // position in ANOMALIES up to which all that it had found by then is
	Digest    string `json:"digest"`  // SHA-256 of the state
}

// indexFile lists the checkpoints, one a line.
const indexFile = "state/checkpoints.jsonl"

// maxState bounds one state.
const maxState = 256 << 20

func (c Checkpoint) file() string {
	return "state/" + c.Group + "." + strconv.Itoa(c.Partition) + ".bin"
}

// Checkpoints lists the checkpoints that the bundle holds; none without state/.
func (b *Bundle) Checkpoints() ([]Checkpoint, error) {
	if !b.Has(indexFile) {
		return nil, nil
	}
	var out []Checkpoint
	for c, err := range jsonLines[Checkpoint](b, indexFile) {
		if err != nil {
			return nil, err
		}
		if c.Group == "" || strings.ContainsAny(c.Group, `/\.`) || c.Partition < 0 {
			return nil, malformed("bundle %s: %s:%d: group %q, partition %d: is no checkpoint's name", b.name, indexFile, len(out)+1, c.Group, c.Partition)
		}
		out = append(out, c)
	}
	return out, nil
}

// StateOf reads the state of a checkpoint, and refuses one that is not what was
// recorded.
func (b *Bundle) StateOf(c Checkpoint) ([]byte, error) {
	f, err := b.open(c.file())
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", b.name, err)
	}
	defer func() { _ = f.Close() }()
	state, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %s: %w", b.name, c.file(), err)
	}
	if len(state) > maxState {
		return nil, fmt.Errorf("bundle %s: %s: is larger than %d MiB", b.name, c.file(), maxState>>20)
	}
	if h := sha256.Sum256(state); hex.EncodeToString(h[:]) != c.Digest {
		return nil, fmt.Errorf("bundle %s: %s: is not the state that was recorded: its digest differs", b.name, c.file())
	}
	return state, nil
}

// WriteState writes state/ into a bundle's folder. The states are fetched one
// by one.
func WriteState(dir string, checkpoints []Checkpoint, state func(int) ([]byte, error)) error {
	w, err := Create(dir, indexFile)
	if err != nil {
		return err
	}
	for i, c := range checkpoints {
		b, err := state(i)
		if err == nil {
			err = WriteFile(dir, c.file()+".zst", func(f io.Writer) error { return pack(f, b) })
		}
		if err == nil {
			err = w.Write(c)
		}
		if err != nil {
			_ = w.Close() // the first error is the one to tell
			return err
		}
	}
	return w.Close()
}
