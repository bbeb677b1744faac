package loki

import (
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// FuzzAnswer: whatever a Loki answers, what becomes of it is inside its window and
// can be read again from the bus.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		`{"data":{"resultType":"streams","result":[{"stream":{"namespace":"shop","pod":"web-7d4b9c6f5-x2x8q"},"values":[["1772000001000000000","GET / 200"]]}]}}`,
		`{"data":{"resultType":"streams","result":[{"stream":{},"values":[["1772000001000000000","a",{"trace":"b"}],["x","y"],[],[1,2],[null]]}]}}`,
		`{"data":{"resultType":"streams","result":[{"stream":null,"values":null}]}}`,
		`{"data":{"resultType":"matrix","result":[]}}`, `{"data":`, `[]`,
	} {
		f.Add([]byte(s))
	}
	cfg := Config{}
	cfg.Name = "loki"
	cfg.Fill()
	s := newSource(cfg, env(), nil)
	start := time.Unix(1_772_000_000, 0).UTC()
	end := start.Add(cfg.Window)
	f.Fuzz(func(t *testing.T, body []byte) {
		streams, _, err := parse(body)
		if err != nil {
			return
		}
		for _, b := range s.batches(streams, start, end, newSampler(nil, time.Time{}), newTraces(nil)) {
			for _, st := range b.Streams {
				for _, l := range st.Lines {
					if l.Time.Before(start) || !l.Time.Before(end) {
						t.Errorf("a line of %v is in the window from %v to %v", l.Time, start, end)
					}
				}
			}
			if o := event.LogsRead.Out(b); o.ID == "" {
				t.Error("a batch has no id")
			}
		}
	})
}
