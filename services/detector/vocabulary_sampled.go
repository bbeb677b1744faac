package detector

import "github.com/oncall-copilot/oncall/pkg/event"

// Rates says of which speakers lines of a window were left out, and how many lines
// one of theirs stands for at most.
func (v *Vocabulary) Rates(b event.Batch) map[uint64]float64 {
	var out map[uint64]float64
	for _, batch := range b.Logs {
		if batch.SampledRate <= 1 {
			continue
		}
		for _, s := range batch.Streams {
			o, sp := v.origin(s)
			if sp == nil {
				continue
			}
			if out == nil {
				out = map[uint64]float64{}
			}
			out[o.speaker] = max(out[o.speaker], float64(batch.SampledRate))
		}
	}
	return out
}
