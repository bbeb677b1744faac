package alertmanager

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
)

// FuzzCursor: whatever stands where the cursor was kept, the next polls go on from
// it, and end what it says to fire.
func FuzzCursor(f *testing.F) {
	for _, s := range []string{
		`{"alerts":{"a":{"alert":{"status":"firing","fingerprint":"a","labels":{"alertname":"X"},"startsAt":"2026-11-26T00:00:00Z"},"said":"2026-11-26T00:00:00Z"}}}`,
		`{"alerts":{"a":null,"b":{}}}`, `{"alerts":null}`, `{}`, `[]`, `{"alerts":{"a":{"missing":"2026-11-26T00:00:00Z"}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		state, err := decodeFiring(s2.Encode(nil, b))
		if state == nil {
			t.Fatalf("%q is read as nothing, %v", b, err)
		}
		n := len(state.Alerts)
		at := time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)
		told := 0
		for i := range 3 {
			tell, _, _ := state.step(at.Add(time.Duration(i)*time.Hour), nil, time.Minute)
			told += len(tell)
			for _, a := range tell {
				if a.Firing() {
					t.Errorf("the end of %q is told as firing", a.Fingerprint)
				}
			}
		}
		if told != n || len(state.Alerts) != 0 {
			t.Errorf("%d of %d alerts have ended, %d are left", told, n, len(state.Alerts))
		}
		if _, err := state.encode(); err != nil {
			t.Error(err)
		}
		_, _ = decodeFiring(b) // as it stands
		var s status
		_ = json.Unmarshal(b, &s)
	})
}
