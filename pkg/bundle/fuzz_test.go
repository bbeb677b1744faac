package bundle

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"testing"
	"testing/fstest"

	"github.com/klauspost/compress/zstd"
)

// archive packs files as a .tar.zst, whatever their names are.
func archive(t testing.TB, typ byte, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for i := 0; i+1 < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Typeflag: typ, Size: int64(len(files[i+1])), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const smallManifest = `{"version": 1, "name": "x", "start": "2026-11-25T02:00:00Z", "end": "2026-11-25T03:00:00Z", "state": "cold"}`

func TestAnArchiveIsRefusedWhen(t *testing.T) {
	for name, b := range map[string][]byte{
		"a path leaves it":          archive(t, tar.TypeReg, "manifest.json", smallManifest, "../../etc/passwd", "x"),
		"a path is absolute":        archive(t, tar.TypeReg, "manifest.json", smallManifest, "/etc/passwd", "x"),
		"an entry is a link":        archive(t, tar.TypeSymlink, "manifest.json", ""),
		"it has no manifest":        archive(t, tar.TypeReg, "metrics.om", "# EOF\n"),
		"its version is another":    archive(t, tar.TypeReg, "manifest.json", `{"version": 99}`),
		"its manifest is no JSON":   archive(t, tar.TypeReg, "manifest.json", "version: 1"),
		"it is cut short":           archive(t, tar.TypeReg, "manifest.json", smallManifest)[:40],
		"it is not compressed":      []byte("manifest.json"),
		"there is nothing in it":    {},
		"a name stands for its end": archive(t, tar.TypeReg, "manifest.json", smallManifest, "a/..", "x"),
	} {
		if _, err := OpenArchive(bytes.NewReader(b), "x.tar.zst"); err == nil {
			t.Errorf("%s: it is read all the same", name)
		}
	}
}

// read reads every part of a bundle, as a replay would.
func read(b *Bundle) {
	_, _ = b.Metrics()
	_, _ = b.Edges()
	_ = b.Manifest.Validate()
	for _, err := range b.Logs() {
		if err != nil {
			break
		}
	}
	for o, err := range b.Objects() {
		if err != nil {
			break
		}
		o.Seen()
	}
	for _, err := range b.Events() {
		if err != nil {
			break
		}
	}
	for _, err := range b.Evidence() {
		if err != nil {
			break
		}
	}
	for _, s := range b.Streams() {
		for _, err := range b.Records(s) {
			if err != nil {
				break
			}
		}
	}
}

func FuzzArchive(f *testing.F) {
	f.Add(archive(f, tar.TypeReg, "manifest.json", smallManifest, "metrics.om", "a 1 1\n# EOF\n", "logs.jsonl", `{"labels":{},"line":"x","timestamp":"2026-11-25T02:00:00Z"}`))
	f.Add(archive(f, tar.TypeReg, "manifest.json", smallManifest, "streams/ANOMALIES.jsonl", `{"seq":1,"subject":"a","data":"x"}`))
	f.Fuzz(func(_ *testing.T, in []byte) {
		if b, err := OpenArchive(bytes.NewReader(in), "fuzz.tar.zst"); err == nil {
			read(b)
		}
	})
}

// FuzzParts reads every part from the same bytes: none may panic.
func FuzzParts(f *testing.F) {
	for _, s := range []string{
		smallManifest, `{"labels":{"pod":"a"},"line":"x","timestamp":"2026-11-25T02:00:00Z"}`,
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","annotations":{"oncall.dev/seen":"2026-11-25T02:00:00Z"}}}`,
		`{"seq":1,"ts":"2026-11-25T02:00:00Z","subject":"a","hdr":{"ce-id":["x"]},"data_b64":"/wA="}`,
		`[{"caller":"shop/deployment/web","callee":"shop/deployment/db"}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		files := fstest.MapFS{"manifest.json": {Data: []byte(smallManifest)}}
		for _, name := range []string{"metrics.om", "logs.jsonl", "events.jsonl", "objects.jsonl", "edges.json", "streams/ANOMALIES.jsonl", "evidence/answers.jsonl"} {
			files[name] = &fstest.MapFile{Data: in}
		}
		b, err := OpenFS(files, "fuzz")
		if err != nil {
			t.Fatal(err)
		}
		read(b)
		files["manifest.json"] = &fstest.MapFile{Data: in}
		if b, err := OpenFS(files, "fuzz"); err == nil {
			read(b)
		}
		var r Record
		if json.Unmarshal(in, &r) != nil {
			return
		}
		out, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var again Record
		if err := json.Unmarshal(out, &again); err != nil || !bytes.Equal(again.Payload, r.Payload) || again.Subject != r.Subject {
			t.Errorf("a record changes when it is written: %s, %v", out, err)
		}
	})
}
