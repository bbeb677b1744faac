package reasoner

import "github.com/oncall-copilot/oncall/pkg/evidence"

// With is a Reasoner with the same rules and runbooks, which take a while to
// compile and to index.
func (r *Reasoner) With(cfg Config, ask evidence.Retriever) *Reasoner {
	w := &Reasoner{cfg: cfg, ask: ask}
	w.force.Store(r.force.Load())
	return w
}
