package bus

import (
	"context"
	"errors"
)

// load makes a partition's fold from its checkpoint. A checkpoint that cannot
// be used is replaced: the fold starts afresh from the stream's beginning.
func (r *groupRunner) load(ctx context.Context, n int) (*partition, error) {
	p := &partition{n: n, savedAt: r.bus.set.Now(), work: make(chan item, 64)} // as much as a fold may be behind the reader
	ck, rev, err := r.checkpoints.load(ctx, n)
	if err != nil && !errors.Is(err, errCorrupt) {
		return nil, err
	}
	p.rev = rev
	if err == nil && ck.State == nil {
		if p.fold, ck, err = r.adopt(ctx, n); err != nil {
			return nil, err
		}
	} else if p.fold, err = r.fresh(n, ck, err); err != nil {
		return nil, err
	}
	if p.fold == nil {
		if p.fold, err = r.g.New(n); err != nil {
			return nil, err
		}
		ck = checkpoint{}
	}
	r.bus.restored.LoadOrStore(partitionKey{r.g.Name, n}, ck.State != nil)
	if ck.Seq > r.last {
		r.bus.set.Log.Error("stream ends before the checkpoint: it was made anew; folding it from its start", "group", r.g.Name, "partition", n, "checkpoint", ck.Seq, "last", r.last)
		ck.Seq, ck.Skip = 0, nil
	}
	p.floor, p.seq, p.saved, p.skip, p.state = ck.Seq, ck.Seq, ck.Seq, ck.Skip, ck.State
	return p, nil
}

// fresh restores a fold; nil when the checkpoint is no good.
func (r *groupRunner) fresh(n int, ck checkpoint, bad error) (Fold, error) {
	f, err := r.g.New(n)
	if err != nil {
		return nil, err
	}
	if bad == nil && ck.State != nil {
		bad = protect(func() error { return f.UnmarshalBinary(ck.State) })
	}
	if bad != nil {
		r.bus.set.Log.Error("checkpoint unusable, folding again from the start of the stream", "group", r.g.Name, "partition", n, "err", bad)
		r.bus.metrics.checkpoints.WithLabelValues(r.g.Name, "corrupt").Inc()
		return nil, nil
	}
	return f, nil
}

// adopt makes a partition's fold from the newest checkpoint that another
// configuration left; nil when there is none that it can use.
func (r *groupRunner) adopt(ctx context.Context, n int) (Fold, checkpoint, error) {
	f, err := r.g.New(n)
	if err != nil {
		return nil, checkpoint{}, err
	}
	heir, ok := f.(Adopter)
	if !ok {
		return f, checkpoint{}, nil
	}
	ck, err := r.checkpoints.newest(ctx, r.g.Name, n)
	if err == nil && ck.State != nil {
		err = protect(func() error { return heir.Adopt(ck.State) })
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, checkpoint{}, err
	case err != nil:
		// What another version wrote is no fault of this one.
		r.bus.set.Log.Info("no checkpoint of another configuration can be gone on from", "group", r.g.Name, "partition", n, "err", err)
		return nil, checkpoint{}, nil
	case ck.State != nil:
		r.bus.metrics.checkpoints.WithLabelValues(r.g.Name, "adopted").Inc()
	}
	return f, ck, nil
}
