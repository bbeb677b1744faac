package kube

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write golden files")

// planted are the secrets in testdata/pod.json and testdata/configmap.json:
// none may survive.
const planted = "S3CR3T"

func TestReduceKeepsWhatIsUsedAndNoSecret(t *testing.T) {
	for _, name := range []string{"pod", "deployment", "configmap", "secret", "externalsecret"} {
		t.Run(name, func(t *testing.T) {
			in, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(in), planted) {
				t.Fatal("no secret is planted: the test cannot fail")
			}
			var o map[string]any
			if err := json.Unmarshal(in, &o); err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(Reduce(o, func(s string) string { return strings.ReplaceAll(s, "Bearer "+planted, "Bearer ***") }), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			if strings.Contains(string(got), planted) {
				t.Errorf("a secret survived:\n%s", got)
			}
			golden := filepath.Join("testdata", name+".reduced.json")
			if *update {
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("reduced:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestConfigHash(t *testing.T) {
	a := ConfigHash(map[string]string{"a": "1", "b": "2"}, nil)
	for name, b := range map[string]string{
		"another value":          ConfigHash(map[string]string{"a": "1", "b": "3"}, nil),
		"the value of the other": ConfigHash(map[string]string{"a": "2", "b": "1"}, nil),
		"binary of the same":     ConfigHash(map[string]string{"a": "1"}, map[string][]byte{"b": []byte("2")}),
	} {
		if a == b {
			t.Errorf("%s has the same hash %s", name, a)
		}
	}
	if again := ConfigHash(map[string]string{"b": "2", "a": "1"}, nil); again != a {
		t.Errorf("hash = %s, then %s", a, again)
	}
}

func FuzzReduce(f *testing.F) {
	for _, name := range []string{"pod", "deployment", "configmap", "secret"} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var o map[string]any
		if json.Unmarshal(b, &o) != nil {
			return
		}
		if _, err := json.Marshal(Reduce(o, func(s string) string { return s })); err != nil {
			t.Error(err)
		}
	})
}
