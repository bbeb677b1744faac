package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// RunGroup takes this member's share of the group's partitions and folds them
// until ctx is done, then checkpoints and leaves.
//
// One ordered consumer reads the subjects of all partitions held here, from
// the oldest of their checkpoints on; a partition drops what it has folded
// already. Progress is the checkpoint and nothing else: outputs are published,
// then the checkpoint is written with compare-and-set. A crash repeats the
// work since the checkpoint, with the same ids; a member that was away too
// long finds its revision overtaken, drops its state and writes nothing.
func (b *Bus) RunGroup(ctx context.Context, g Group) error {
	g.CheckpointEvery = cmp.Or(g.CheckpointEvery, b.cfg.CheckpointEvery, 30*time.Second)
	g.CheckpointMessages = cmp.Or(g.CheckpointMessages, 20_000)
	members, err := b.KV(ctx, bucketMembers)
	if err != nil {
		return fmt.Errorf("group %s: %w", g.Name, err)
	}
	ck, err := b.KV(ctx, bucketCheckpoints)
	if err != nil {
		return fmt.Errorf("group %s: %w", g.Name, err)
	}
	r := &groupRunner{
		bus: b, g: g, checkpoints: &checkpoints{kv: ck, js: b.js, prefix: event.Token(g.Name) + "." + event.Token(g.ConfigHash)},
		routes: map[string][]int{},
	}
	place := &membership{kv: members, roster: b.roster, log: b.set.Log, group: event.Token(g.Name), me: nuid.Next(), ttl: b.cfg.MemberTTL}
	assigned := make(chan []int)
	watchCtx, stopWatch := context.WithCancel(ctx)
	defer stopWatch()
	var wg sync.WaitGroup
	wg.Go(func() {
		place.watch(watchCtx, g.Partitions, func(ps []int) {
			select {
			case assigned <- ps:
			case <-watchCtx.Done():
			}
		})
	})
	defer func() {
		stopWatch()
		wg.Wait()
		leaveCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		place.leave(leaveCtx)
	}()
	var mine []int
	for {
		if mine == nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case mine = <-assigned:
			}
		}
		next, err := r.run(ctx, mine, assigned)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if !errors.Is(err, errRestart) {
				b.set.Log.Warn("group interrupted, going on from its checkpoints", "group", g.Name, "err", err)
			}
			if !sleep(ctx, 200*time.Millisecond) {
				return ctx.Err()
			}
		}
		if next != nil {
			mine = next
		}
	}
}

// groupRunner folds partitions of one group on one member.
type groupRunner struct {
	bus         *Bus
	g           Group
	checkpoints *checkpoints
	routes      map[string][]int // subject to partitions; bounded
	last        uint64           // of the stream, when the run began
}

// errRestart ends a run whose partitions have to be loaded again.
var errRestart = errors.New("restart from checkpoints")

// partition is one fold and its progress.
type partition struct {
	n       int
	fold    Fold
	floor   uint64 // of the checkpoint the run began with
	seq     uint64 // last message folded
	saved   uint64 // of the last checkpoint
	rev     uint64 // of the checkpoint
	skip    []uint64
	savedAt time.Time
	time    time.Time // of the last event, for the lag metric
	slot    time.Time // interval of the last tick, for what is kept
	work    chan item
	hops    []string // of the traced messages since something was found, for links
	state   []byte   // at the last checkpoint, for a fold that panicked
	// spoilt says that the fold's state is not what its messages up to seq make:
	// it must not be saved.
	spoilt bool
}

type item struct {
	m   Message
	hop string
	hdr nats.Header
	err error // of decoding
}

// run folds the given partitions until the share changes, which it returns, or
// something forces a new start.
func (r *groupRunner) run(ctx context.Context, mine []int, assigned <-chan []int) ([]int, error) {
	r.own(mine)
	defer r.own(nil)
	if len(mine) == 0 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case next := <-assigned:
			return next, nil
		}
	}
	stream, err := r.bus.js.Stream(ctx, r.g.Stream.Name)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", r.g.Stream.Name, err)
	}
	r.last = stream.CachedInfo().State.LastSeq
	parts := map[int]*partition{}
	var filters []string
	start := uint64(0)
	for i, n := range mine {
		p, err := r.load(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("partition %02d: %w", n, err)
		}
		parts[n] = p
		filters = append(filters, r.g.Filters(n)...)
		if i == 0 || p.seq < start {
			start = p.seq
		}
	}
	slices.Sort(filters)
	filters = slices.Compact(filters)
	if len(mine) == r.g.Partitions {
		filters = nil // everything: the server need not compare
	}
	if first := stream.CachedInfo().State.FirstSeq; start > 0 && first > start+1 {
		r.bus.set.Log.Error("messages left the stream before they were folded", "group", r.g.Name, "stream", r.g.Stream.Name, "lost", first-start-1)
	}
	cons, err := r.bus.js.OrderedConsumer(ctx, r.g.Stream.Name, orderedConfig(ReadOptions{Filters: filters, StartSeq: start + 1}))
	if err != nil {
		return nil, err
	}
	it, err := pull(cons, pullMessages, false)
	if err != nil {
		return nil, err
	}
	defer it.Stop()
	runCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, p := range parts {
		wg.Go(func() {
			if err := r.fold(runCtx, p); err != nil && runCtx.Err() == nil {
				cancel(err)
			}
		})
	}
	wg.Go(func() { r.pump(runCtx, it, parts, cancel) })
	var next []int
	select {
	case <-runCtx.Done():
	case next = <-assigned:
		cancel(errRestart)
	}
	wg.Wait()
	r.finish(ctx, parts)
	if cause := context.Cause(runCtx); next == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return nil, cause
	}
	return next, nil
}

// own says in the metrics which partitions are folded here.
func (r *groupRunner) own(mine []int) {
	m := r.bus.metrics
	m.owned.WithLabelValues(r.g.Name).Set(float64(len(mine)))
	for p := range r.g.Partitions {
		held := 0.0
		if slices.Contains(mine, p) {
			held = 1
		}
		m.owner.WithLabelValues(r.g.Name, event.PartitionToken(p)).Set(held)
	}
	if mine == nil {
		m.standing.leave(r.g.Name)
	}
}

// pump reads messages and hands each to its partitions.
func (r *groupRunner) pump(ctx context.Context, it *puller, parts map[int]*partition, cancel context.CancelCauseFunc) {
	for {
		raw, err := it.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				cancel(fmt.Errorf("read %s: %w", r.g.Stream.Name, err))
			}
			return
		}
		meta, err := raw.Metadata()
		if err != nil {
			cancel(fmt.Errorf("read %s: %w", r.g.Stream.Name, err))
			return
		}
		if meta.NumPending%64 == 0 {
			r.bus.metrics.pending.WithLabelValues(r.g.Name).Set(float64(meta.NumPending))
		}
		var i item // parsed for the first that wants it
		for _, n := range r.partitionsOf(raw.Subject()) {
			p, ok := parts[n]
			if !ok || meta.Sequence.Stream <= p.floor {
				continue
			}
			if i.hdr == nil {
				i = item{hop: header(raw.Headers(), headerTrace), hdr: raw.Headers()}
				i.m, i.err = parse(r.g.Stream.Name, natsMsg(raw), meta.Sequence.Stream, meta.Timestamp)
			}
			select {
			case p.work <- i:
			case <-ctx.Done():
				return
			}
		}
	}
}

// partitionsOf finds the partitions that a subject belongs to: one for data, all
// of them for a tick.
func (r *groupRunner) partitionsOf(subject string) []int {
	if ns, ok := r.routes[subject]; ok {
		return ns
	}
	ns := []int{}
	for p := range r.g.Partitions {
		if slices.ContainsFunc(r.g.Filters(p), func(f string) bool { return event.MatchSubject(f, subject) }) {
			ns = append(ns, p)
		}
	}
	if len(r.routes) >= 1<<16 {
		clear(r.routes)
	}
	r.routes[subject] = ns
	return ns
}

// fold applies a partition's messages until ctx is done or it has to start
// again from its checkpoint.
func (r *groupRunner) fold(ctx context.Context, p *partition) error {
	timer := time.NewTicker(r.g.CheckpointEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			if err := r.save(ctx, p); err != nil {
				return err
			}
		case i := <-p.work:
			if i.m.Sequence <= p.seq {
				continue
			}
			if err := r.apply(ctx, p, i); err != nil {
				return err
			}
			r.bus.folded.Store(partitionKey{r.g.Name, p.n}, p.seq)
			if err := r.keep(ctx, p, i.m); err != nil {
				return err
			}
			if p.seq-p.saved >= uint64(r.g.CheckpointMessages) {
				if err := r.save(ctx, p); err != nil {
					return err
				}
			}
		}
	}
}

// apply folds one message and publishes what comes of it.
func (r *groupRunner) apply(ctx context.Context, p *partition, i item) error {
	if slices.Contains(p.skip, i.m.Sequence) {
		p.seq = i.m.Sequence
		return nil
	}
	name := fmt.Sprintf("%s-%02d", r.g.Name, p.n)
	if i.err != nil {
		if err := r.bus.deadLetter(ctx, name, i.m, i.hdr, 1, i.err); err != nil {
			return err
		}
		p.seq = i.m.Sequence
		return nil
	}
	if i.hop != "" && len(p.hops) < maxLinks {
		p.hops = append(p.hops, i.hop)
	}
	var out []event.Outgoing
	err := protect(func() (err error) {
		out, err = p.fold.Apply(i.m)
		return err
	})
	if err != nil {
		if dead := r.bus.deadLetter(ctx, name, i.m, i.hdr, 1, err); dead != nil {
			p.spoilt = true
			return dead
		}
		if panicked, ok := errors.AsType[*panicError](err); ok {
			p.spoilt = true
			r.bus.set.Log.Error("fold panicked, folding again from its checkpoint without the message",
				"group", r.g.Name, "partition", p.n, "sequence", i.m.Sequence, "stack", string(panicked.stack))
			return r.skip(ctx, p, i.m.Sequence)
		}
		p.seq = i.m.Sequence
		return nil
	}
	if len(out) > 0 {
		spanCtx, span := ctx, noSpan
		switch {
		case r.telemetry() && found(out):
			spanCtx, span = r.bus.startCreate(ctx, r.g, p.n, out, p.hops)
			p.hops = nil
		case i.hop != "" && !r.telemetry():
			spanCtx, span = r.bus.startProcess(ctx, i.m, i.hop, r.g.Name)
		}
		err := r.bus.Publish(spanCtx, out...)
		endSpan(span, err)
		if err != nil {
			p.spoilt = true // ahead of seq by this message
			return err
		}
	}
	p.seq, p.time = i.m.Sequence, i.m.Time
	r.stand(p)
	return nil
}

// telemetry says whether the group reads what sources gave.
func (r *groupRunner) telemetry() bool {
	return r.g.Stream == event.Metrics || r.g.Stream == event.Logs || r.g.Stream == event.KubeEvents
}

// found says whether there is an anomaly in it.
func found(out []event.Outgoing) bool { return slices.ContainsFunc(out, isAnomaly) }

func isAnomaly(o event.Outgoing) bool {
	_, ok := o.Data().(event.Anomaly)
	return ok
}

// stand notes how far a partition has come, for the metrics.
func (r *groupRunner) stand(p *partition) {
	r.bus.metrics.standing.set(r.g.Name, p.n, standingOf{p.time, p.savedAt})
}

// skip notes in the checkpoint in force that a message is to be left out, and
// asks for a new start, because the fold's state is not to be trusted.
func (r *groupRunner) skip(ctx context.Context, p *partition, seq uint64) error {
	ck := checkpoint{Seq: p.saved, Time: r.bus.set.Now(), State: p.state, Skip: append(slices.Clone(p.skip), seq)}
	if _, err := r.checkpoints.save(ctx, p.n, ck, p.rev); err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	return errRestart
}

// save writes the checkpoint. On a conflict the state is dropped and the
// partition loaded again, if it is still ours by then.
func (r *groupRunner) save(ctx context.Context, p *partition) error {
	now := r.bus.set.Now()
	if p.seq == p.saved {
		p.savedAt = now
		r.stand(p)
		return nil
	}
	var state []byte
	if err := protect(func() (err error) { state, err = p.fold.MarshalBinary(); return err }); err != nil {
		return fmt.Errorf("marshal state of partition %02d: %w", p.n, err)
	}
	skip := slices.DeleteFunc(slices.Clone(p.skip), func(s uint64) bool { return s <= p.seq })
	rev, err := r.checkpoints.save(ctx, p.n, checkpoint{Seq: p.seq, Time: now, State: state, Skip: skip}, p.rev)
	if err != nil {
		outcome := "failed"
		if errors.Is(err, ErrConflict) {
			outcome = "conflict"
			r.bus.set.Log.Warn("another member owns the partition, state dropped", "group", r.g.Name, "partition", p.n)
			err = errRestart
		}
		r.bus.metrics.checkpoints.WithLabelValues(r.g.Name, outcome).Inc()
		return err
	}
	p.saved, p.rev, p.skip, p.state, p.savedAt = p.seq, rev, skip, state, now
	r.stand(p)
	r.bus.metrics.checkpoints.WithLabelValues(r.g.Name, "ok").Inc()
	return nil
}

// finish checkpoints what was folded, when the run ends cleanly.
func (r *groupRunner) finish(ctx context.Context, parts map[int]*partition) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for _, p := range parts {
		if p.spoilt {
			continue
		}
		if err := r.save(ctx, p); err != nil && !errors.Is(err, errRestart) {
			r.bus.set.Log.Warn("last checkpoint not written, some work will be repeated", "group", r.g.Name, "partition", p.n, "err", err)
		}
	}
}
