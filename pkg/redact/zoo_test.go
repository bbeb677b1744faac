package redact

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lines reads a file of testdata, without its comments.
func lines(t testing.TB, name string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for l := range strings.Lines(string(b)) {
		if l = strings.TrimSuffix(l, "\n"); l != "" && (l[0] != '#' || strings.HasPrefix(l, "## ")) {
			out = append(out, l)
		}
	}
	return out
}

func TestTheSecretsOfTheZooAreMasked(t *testing.T) {
	r := masker()
	zoo := lines(t, "secrets.tsv")
	missed := 0
	for _, l := range zoo {
		secret, line, ok := strings.Cut(l, "\t")
		if !ok || !strings.Contains(line, secret) {
			t.Fatalf("%q is not a secret, a tab and a line that holds it", l)
		}
		if got := r.Line(line); strings.Contains(got, secret) {
			missed++
			t.Errorf("%q stays in %q", secret, got)
		}
	}
	t.Logf("zoo: %d of %d masked, %.1f %%", len(zoo)-missed, len(zoo), 100*float64(len(zoo)-missed)/float64(len(zoo)))
	if len(zoo) < 200 {
		t.Errorf("%d lines are not the 200 that the zoo is to have", len(zoo))
	}
}

func TestCleanLinesStayAsTheyAre(t *testing.T) {
	r := masker()
	clean := lines(t, "clean.txt")
	wrong := 0
	for _, l := range clean {
		if got := r.Line(l); got != l {
			if wrong++; wrong < 20 {
				t.Errorf("%q became %q", l, got)
			}
		}
	}
	t.Logf("clean lines: %d of %d masked", wrong, len(clean))
	if len(clean) < 2000 {
		t.Errorf("%d lines are not the 2,000 that are wanted", len(clean))
	}
}

// TestRealLogsAreHardlyMasked reads the samples of LogHub where they lie beside
// the repository. What is masked there is no secret, except for what the
// programs themselves gave to a key that says so, and personal data.
func TestRealLogsAreHardlyMasked(t *testing.T) {
	files, _ := filepath.Glob("../../../shared/data/loghub/*/*_2k.log")
	if len(files) == 0 {
		t.Skip("no samples of LogHub beside the repository")
	}
	r := masker()
	n, wrong := 0, 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(b)) {
			l = strings.TrimRight(l, "\r\n")
			n++
			if got := r.Line(l); got != l {
				wrong++
				t.Logf("%s: %q became %q", filepath.Base(f), l, got)
			}
		}
	}
	t.Logf("LogHub: %d of %d lines masked", wrong, n)
	if wrong*10_000 > n {
		t.Errorf("%d of %d lines are masked, more than one in 10,000", wrong, n)
	}
}

// BenchmarkCleanLines is the speed on lines without secrets, beside looking at
// each byte of the same lines once. core-MB/s are by the processor's time, which
// does not mind what else the machine does.
func BenchmarkCleanLines(b *testing.B) {
	clean := lines(b, "clean.txt")
	var ordinary []string // those that do not even speak of secrets or of people
	for _, l := range clean {
		if f := builtinIndex.scan(l); !f.any() {
			ordinary = append(ordinary, l)
		}
	}
	sets := map[string][]string{"ordinary": ordinary, "all": clean}
	files, _ := filepath.Glob("../../../shared/data/loghub/*/*_2k.log")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			b.Fatal(err)
		}
		sets["LogHub"] = append(sets["LogHub"], strings.Split(string(text), "\n")...)
	}
	r := masker()
	for name, set := range sets {
		b.Run(name, func(b *testing.B) {
			size := 0
			for _, l := range set {
				size += len(l)
			}
			run := func(look func(string) int) float64 {
				start, n := used(), 0
				for range b.N {
					for _, l := range set {
						n += look(l)
					}
				}
				if n == 1 {
					b.Log(n)
				}
				return float64(size) * float64(b.N) / 1e6 / (used() - start).Seconds()
			}
			plain := run(func(l string) (n int) {
				for i := range len(l) {
					if l[i] == '"' {
						n++
					}
				}
				return n
			})
			b.ResetTimer()
			b.ReportAllocs()
			ours := run(func(l string) int { return len(r.Line(l)) })
			b.ReportMetric(ours, "core-MB/s")
			b.ReportMetric(ours/plain, "of-a-plain-scan")
		})
	}
}

// used is the processor's time that this process took.
func used() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
