package correlator

import (
	"errors"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/owner"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// rules are the policies by which incidents are judged, as of one moment.
type rules struct {
	policy Policy
	owners owner.Policy
	hash   string
}

// book holds the rules in force. When files change it takes over the new ones
// if they are right; if they are wrong it says so, once, and keeps to the old.
type book struct {
	store *policy.Store
	log   *slog.Logger
	valid prometheus.Gauge

	mu    sync.Mutex
	tried string // hash of the files looked at last
	last  rules
}

// newBook opens the book. The first rules must be right.
func newBook(store *policy.Store, log *slog.Logger, metrics prometheus.Registerer) (*book, error) {
	b := &book{store: store, log: log, valid: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "oncall_correlator_policies_valid",
		Help: "1 while the policy files are the rules in force; 0 while they are wrong and older ones are kept.",
	})}
	if metrics != nil {
		if err := metrics.Register(b.valid); err != nil {
			same, ok := errors.AsType[prometheus.AlreadyRegisteredError](err)
			if !ok {
				return nil, err
			}
			b.valid = same.ExistingCollector.(prometheus.Gauge)
		}
	}
	r, err := readRules(store)
	if err != nil {
		return nil, err
	}
	b.last, b.tried = r, r.hash
	b.valid.Set(1)
	return b, nil
}

func readRules(store *policy.Store) (rules, error) {
	r := rules{hash: store.Hash()}
	var errs [2]error
	r.policy, errs[0] = LoadPolicy(store)
	r.owners, errs[1] = owner.Load(store)
	return r, errors.Join(errs[:]...)
}

// inForce are the rules to judge by now.
func (b *book) inForce() rules {
	b.mu.Lock()
	defer b.mu.Unlock()
	hash := b.store.Hash()
	if hash == b.tried {
		return b.last
	}
	b.tried = hash
	r, err := readRules(b.store)
	if err != nil {
		b.valid.Set(0)
		b.log.Warn("policies are wrong, those before stay in force", "kept", b.last.hash, "policies", hash, "err", err)
		return b.last
	}
	b.valid.Set(1)
	b.last = r
	b.log.Info("policies taken over", "policies", hash)
	return r
}
