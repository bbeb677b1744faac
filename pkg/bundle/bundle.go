// Package bundle is an incident on disk: what the sources said around it, and
// what the pipeline made of it, in formats that other tools read.
//
//	manifest.json   what it is; the only file that must be there
//	metrics.om      samples, OpenMetrics text with timestamps
//	logs.jsonl      log lines, as logcli --output=jsonl writes them
//	events.jsonl    Kubernetes events, core/v1 JSON, one a line
//	objects.jsonl   Kubernetes objects as they were, one a line
//	edges.json      who calls whom: [{"caller": "shop/deployment/web", "callee": "shop/deployment/db"}]
//	streams/NAME.jsonl[.zst]   messages of a stream of the bus, for an exact replay
//	state/          checkpoints from before the incident; without them a replay starts cold
//	evidence/       answers to look-ups, which a replay reads instead of asking again
//
// A bundle is a folder, or the same files in a .tar.zst.
package bundle

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/klauspost/compress/zstd"
)

// ErrMalformed is wrapped by errors about a bundle whose content cannot be read:
// they name file and line, and it is for its maker to mend.
var ErrMalformed = errors.New("malformed bundle")

// malformed marks an error with [ErrMalformed] without changing its text.
func malformed(format string, args ...any) error {
	return &malformedError{fmt.Errorf(format, args...)}
}

type malformedError struct{ error }

func (e *malformedError) Unwrap() []error { return []error{e.error, ErrMalformed} }

// FormatVersion is the version of the format this package writes.
const FormatVersion = 1

// maxUnpacked bounds what an archive may unpack to.
const maxUnpacked = 2 << 30

// maxSpan is the longest time that a bundle may cover: a replay takes every
// step of it.
const maxSpan = 31 * 24 * time.Hour

// maxWindow bounds how far back a packed file may refer, and so the memory that
// reading it takes.
const maxWindow = 64 << 20

// Manifest says what a bundle is.
type Manifest struct {
	Version  int       `json:"version"` // FormatVersion
	Name     string    `json:"name"`
	Summary  string    `json:"summary,omitempty"` // one line
	Cluster  string    `json:"cluster,omitempty"`
	Incident string    `json:"incident,omitempty"` // id, when it was made for one
	Start    time.Time `json:"start"`              // of the telemetry
	End      time.Time `json:"end"`
	// State is what the folds knew at Start.
	State State `json:"state"`
	// ExactFrom is what a replay of a warm bundle begins with to equal the
	// recorded run: telemetry, or anomalies when the telemetry after the
	// checkpoints was gone already.
	ExactFrom string `json:"exact_from,omitempty"`
	// Since and Judged are the event times between which the recorded run is
	// known whole: incidents of before are in the state, and of later are not to
	// be expected. Zero: no bound.
	Since  time.Time `json:"since,omitzero"`
	Judged time.Time `json:"judged,omitzero"`
	MadeBy string    `json:"made_by"` // program and version
	// Resolution is how finely time passes in a replay from the sources: the
	// windows of logs, and the longest time between two ticks, such as 15s.
	// Empty: 5s, as live sources are read.
	Resolution string            `json:"resolution,omitempty"`
	Sources    map[string]string `json:"sources,omitempty"`
	Messages   map[string]int    `json:"messages,omitempty"` // per stream
}

// State says what the folds of the recorded run knew when the recording
// begins, and so what a replay can equal.
type State string

// The states.
const (
	// Complete: nothing. The recording begins where the run began, so that a
	// replay equals the recorded run.
	Complete State = "complete"
	// Cold: something that is not recorded. A replay equals every other replay,
	// but not the recorded run.
	Cold State = "cold"
	// Warm: what state/ holds. A replay equals the recorded run from there on.
	Warm State = "warm"
)

// Edge is one call relation.
type Edge struct {
	Caller string `json:"caller"` // namespace/kind/name
	Callee string `json:"callee"`
}

// Bundle is a bundle opened for reading.
type Bundle struct {
	Manifest Manifest
	fsys     fs.FS
	name     string
}

// Open opens a folder or a .tar.zst.
func Open(name string) (*Bundle, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	if st.IsDir() {
		return OpenFS(os.DirFS(name), name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	defer func() { _ = f.Close() }()
	return OpenArchive(f, name)
}

// OpenArchive reads a .tar.zst whole into memory. Paths that leave the
// archive, links and devices are refused.
func OpenArchive(r io.Reader, name string) (*Bundle, error) {
	dec, err := zstd.NewReader(r, zstd.WithDecoderMaxMemory(maxUnpacked), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, fmt.Errorf("open bundle %s: %w", name, err)
	}
	defer dec.Close()
	files := fstest.MapFS{}
	tr := tar.NewReader(dec)
	total := int64(0)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("open bundle %s: not a .tar.zst: %w", name, err)
		}
		p := path.Clean(strings.TrimPrefix(h.Name, "./"))
		switch {
		case h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag != tar.TypeReg || !fs.ValidPath(p) || p == ".":
			return nil, fmt.Errorf("open bundle %s: entry %q is not a plain file inside the archive", name, h.Name)
		}
		if total += h.Size; total > maxUnpacked {
			return nil, fmt.Errorf("open bundle %s: unpacks to more than %d MiB", name, maxUnpacked>>20)
		}
		b, err := io.ReadAll(io.LimitReader(tr, h.Size))
		if err != nil {
			return nil, fmt.Errorf("open bundle %s: %s: %w", name, h.Name, err)
		}
		files[p] = &fstest.MapFile{Data: b, Mode: 0o644}
	}
	return OpenFS(files, name)
}

// OpenFS opens a bundle in a file system.
func OpenFS(fsys fs.FS, name string) (*Bundle, error) {
	b, err := fs.ReadFile(fsys, "manifest.json")
	if err != nil {
		return nil, fmt.Errorf("open bundle %s: %w", name, err)
	}
	bundle := &Bundle{fsys: fsys, name: name}
	if err := json.Unmarshal(b, &bundle.Manifest); err != nil {
		return nil, malformed("open bundle %s: manifest.json:%d: %w", name, lineOf(b, err), err)
	}
	if err := bundle.Manifest.Validate(); err != nil {
		return nil, malformed("open bundle %s: manifest.json: %w", name, err)
	}
	return bundle, nil
}

// lineOf is the line of a JSON text at which an error stands; the last one when
// the error does not say.
func lineOf(text []byte, err error) int {
	at := int64(len(text))
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = e.Offset
	} else if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		at = e.Offset
	}
	return 1 + bytes.Count(bytes.TrimRight(text[:min(at, int64(len(text)))], "\n"), []byte("\n"))
}

// Grain is the Resolution; 0 for one that is no duration.
func (m *Manifest) Grain() time.Duration {
	if m.Resolution == "" {
		return 5 * time.Second
	}
	d, _ := time.ParseDuration(m.Resolution)
	return d
}

// Validate checks the fields that a reader relies on.
func (m *Manifest) Validate() error {
	switch {
	case m.Version != FormatVersion:
		return fmt.Errorf("version: %d is not %d; read it with the oncall that wrote it", m.Version, FormatVersion)
	case m.End.Before(m.Start):
		return fmt.Errorf("end: %s is before start, %s", m.End.Format(time.RFC3339), m.Start.Format(time.RFC3339))
	case m.End.Sub(m.Start) > maxSpan:
		return fmt.Errorf("end: %s is more than %d days after start", m.End.Format(time.RFC3339), maxSpan/(24*time.Hour))
	case m.Resolution != "" && (m.Grain() < time.Second || m.Grain() > 5*time.Minute):
		return fmt.Errorf("resolution: %q is not between 1s and 5m; write 15s", m.Resolution)
	case !slices.Contains([]State{Complete, Cold, Warm, ""}, m.State):
		return fmt.Errorf("state: %q is not %s, %s or %s", m.State, Complete, Cold, Warm)
	}
	return nil
}

// Has says whether the bundle holds a file, packed or not.
func (b *Bundle) Has(name string) bool {
	_, err := fs.Stat(b.fsys, name)
	if err != nil {
		_, err = fs.Stat(b.fsys, name+".zst")
	}
	return err == nil
}

// Streams lists the recorded streams, sorted.
func (b *Bundle) Streams() []string {
	var out []string
	entries, err := fs.ReadDir(b.fsys, "streams")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		name, _, ok := strings.Cut(e.Name(), ".jsonl")
		if ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// open opens a file, or the same with .zst behind it, unpacked.
func (b *Bundle) open(name string) (io.ReadCloser, error) {
	f, err := b.fsys.Open(name)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	z, zerr := b.fsys.Open(name + ".zst")
	if zerr != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(z, zstd.WithDecoderMaxMemory(maxUnpacked), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		_ = z.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{dec, closers{dec.IOReadCloser(), z}}, nil
}

type closers []io.Closer

func (cs closers) Close() error {
	var errs []error
	for _, c := range cs {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// pack writes one file's content compressed.
func pack(w io.Writer, content []byte) error {
	enc, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	_, err = enc.Write(content)
	return errors.Join(err, enc.Close())
}

// Pack writes a bundle's folder as .tar.zst. The same files give the same
// bytes: entries are sorted and carry no owner and no time.
func Pack(w io.Writer, dir string) error {
	enc, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	tw := tar.NewWriter(enc)
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if err := tw.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel), Mode: 0o644, Size: int64(len(b)), Format: tar.FormatPAX}); err != nil {
			return err
		}
		_, err = io.Copy(tw, bytes.NewReader(b))
		return err
	})
	if err := errors.Join(err, tw.Close(), enc.Close()); err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	return nil
}

// WriteFile writes a file of a bundle's folder with f.
func WriteFile(dir, name string, f func(io.Writer) error) error {
	p := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	w, err := os.Create(p)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := errors.Join(f(w), w.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// WriteManifest writes manifest.json into a folder.
func WriteManifest(dir string, m Manifest) error {
	m.Version = FormatVersion
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}
