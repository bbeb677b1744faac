package evidence

import (
	"encoding/json"
	"testing"
)

// FuzzParseQuery: a query that is taken off the bus travels on as itself.
func FuzzParseQuery(f *testing.F) {
	for _, s := range []string{
		`{"source":"prometheus","expr":"up","start":"2026-11-26T00:00:00Z","end":"2026-11-26T00:05:00Z","step":30000000000}`,
		`{"source":"loki","expr":"{namespace=\"shop\"}","start":"2026-11-26T00:00:00Z","end":"2026-11-26T00:05:00Z","limit":100}`,
		`{"source":"kubernetes","expr":"get Pod shop/web","start":"2026-11-26T00:00:00Z","end":"2026-11-26T00:00:00Z"}`,
		`{"source":"?"}`, `{}`, `null`, `[`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := ParseQuery(b)
		if err != nil {
			return
		}
		sent, err := json.Marshal(q)
		if err != nil {
			return // a time that JSON cannot write
		}
		if again, err := ParseQuery(sent); err != nil || again.Hash() != q.Hash() {
			t.Errorf("%s is taken, and as %s it is %v with hash %s, not %s", b, sent, err, again.Hash(), q.Hash())
		}
	})
}
