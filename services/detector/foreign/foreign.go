package foreign

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/detector"
)

// Config says what to run and on what.
type Config struct {
	// Name of the detector, lower_snake; no built-in one's.
	Name string `yaml:"name"`
	// Exec is the command and its arguments; it is not given to a shell.
	Exec []string `yaml:"exec"`
	// Input is metrics, logs or events. Default: metrics.
	Input detector.Input `yaml:"input"`
	// Select are labels that a series or stream must have, by value; a value
	// that ends in * matches a prefix. Empty: all.
	Select map[string]string `yaml:"select"`
	// WarmUp is how much of the past the child is shown when it starts. Default: 1h.
	WarmUp time.Duration `yaml:"warm_up"`
	// Timeout bounds one answer. Default: 10s.
	Timeout time.Duration `yaml:"timeout"`
	// Hold is how long a series must be normal before its anomaly has ended.
	// Default: 3m.
	Hold time.Duration `yaml:"hold"`
}

// Defaults fills in what is not set.
func (c *Config) Defaults() {
	c.Input = cmp.Or(c.Input, detector.Metrics)
	c.WarmUp = cmp.Or(c.WarmUp, time.Hour)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.Hold = cmp.Or(c.Hold, 3*time.Minute)
}

// Validate checks every field; call Defaults before.
func (c *Config) Validate() error {
	var errs []error
	bad := func(path string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path, Value: value, Problem: problem, Fix: fix})
	}
	if c.Name == "" || event.Token(c.Name) != c.Name || c.Name != strings.ToLower(c.Name) {
		bad("name", c.Name, "is not lower_snake", "write --name my_detector")
	}
	if _, ok := detector.Builtin.Lookup(c.Name); ok {
		bad("name", c.Name, "is the name of a built-in detector", "choose another")
	}
	if len(c.Exec) == 0 || c.Exec[0] == "" {
		bad("exec", nil, "is missing", "write --exec ./my.py")
	}
	if c.Input != detector.Metrics && c.Input != detector.Logs && c.Input != detector.Events {
		bad("input", c.Input, "is not metrics, logs or events", "write metrics")
	}
	if c.WarmUp < 0 || c.WarmUp > 6*time.Hour {
		bad("warm_up", c.WarmUp, "is not between 0 and 6h", "write 1h")
	}
	if c.Timeout < 100*time.Millisecond || c.Timeout > 5*time.Minute {
		bad("timeout", c.Timeout, "is not between 100ms and 5m", "write 10s")
	}
	if c.Hold < time.Second {
		bad("hold", c.Hold, "is not at least 1s", "write 3m")
	}
	return errors.Join(errs...)
}

// hash names the configuration in every anomaly.
func (c *Config) hash() string {
	parts := append([]string{c.Name, string(c.Input)}, c.Exec...)
	for _, k := range sortedKeys(c.Select) {
		parts = append(parts, k, c.Select[k])
	}
	return event.SeriesHash(event.HashStrings(parts...))[:8]
}

// bucket is where the bus keeps the progress of folds; a foreign detector's is
// kept beside them.
const bucket = "ckpt"

// errChild is wrapped by the errors after which the child is started again.
var errChild = errors.New("child")

// Run feeds the child and publishes what it finds until ctx is done. A child
// that dies, answers too late or answers nonsense is started again, after a
// pause that doubles up to a minute; what it has missed meanwhile is shown to
// it then. The error is for a configuration that is wrong and for a command
// that cannot be started.
func Run(ctx context.Context, b *bus.Bus, log *slog.Logger, cfg Config) error {
	cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return err
	}
	if _, err := exec.LookPath(cfg.Exec[0]); err != nil {
		return fmt.Errorf("run detector %s: %w", cfg.Name, err)
	}
	kv, err := b.KV(ctx, bucket)
	if err != nil {
		return fmt.Errorf("run detector %s: %w", cfg.Name, err)
	}
	r := &runner{bus: b, kv: kv, log: log.With("detector", cfg.Name), cfg: cfg, key: "foreign." + event.Token(cfg.Name) + "." + cfg.hash()}
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		started := b.Now()
		err := r.once(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // stopped, which is no error
		}
		if !errors.Is(err, errChild) || errors.Is(err, bus.ErrConflict) {
			return fmt.Errorf("run detector %s: %w", cfg.Name, err)
		}
		if b.Now().Sub(started) > 5*time.Minute {
			wait = time.Second
		}
		r.log.Warn("child stopped, starting it again", "err", err, "wait", wait.String())
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// runner is one foreign detector.
type runner struct {
	bus *bus.Bus
	kv  bus.KV
	log *slog.Logger
	cfg Config
	key string

	seq    uint64                 // last tick whose windows the child had, and whose results are published
	rev    uint64                 // of the checkpoint
	lives  map[int]*detector.Life // by partition
	frames map[int]*frame
	saved  time.Time
	fresh  time.Time // when it was first started; what was stored before is the past
}

// frame is the window of one partition that is being filled.
type frame struct {
	window
	last time.Time // watermark of the window before
}

// once runs one child until it stops.
func (r *runner) once(ctx context.Context) error {
	if err := r.load(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	child, err := start(ctx, r.cfg, r.log)
	if err != nil {
		return err
	}
	defer child.stop()
	r.frames = map[int]*frame{}
	err = r.bus.Read(ctx, r.stream(), bus.ReadOptions{Follow: true, StartTime: r.bus.Now().Add(-r.cfg.WarmUp)}, func(m bus.Message) error {
		return r.message(ctx, child, m)
	})
	if err == nil {
		err = errors.New("stream ended")
	}
	saveCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	return errors.Join(err, r.save(saveCtx))
}

func (r *runner) stream() *event.Stream {
	switch r.cfg.Input {
	case detector.Logs:
		return event.Logs
	case detector.Events:
		return event.KubeEvents
	}
	return event.Metrics
}

// message puts telemetry into its partition's window, and gives the windows to
// the child at the tick.
func (r *runner) message(ctx context.Context, c *child, m bus.Message) error {
	switch v := m.Data.(type) {
	case event.MetricBatch:
		f := r.frame(v.Partition)
		for _, s := range v.Series {
			f.add(s, r.cfg.Select)
		}
	case event.LogBatch:
		f := r.frame(v.Partition)
		if v.Bootstrap || !v.End.After(f.last) {
			return nil // a child learns from windows that lie side by side
		}
		for _, s := range v.Streams {
			if !selects(r.cfg.Select, s.Labels) {
				continue
			}
			labels := s.Labels.Map()
			for _, l := range s.Lines {
				f.Lines = append(f.Lines, line{labels, seconds(l.Time), l.Text})
			}
		}
	case event.KubeEvent:
		f := r.frame(event.PartitionOf(v.Root()))
		f.Events = append(f.Events, v)
	case event.Change:
		f := r.frame(event.PartitionOf(v.Entity))
		f.Changes = append(f.Changes, v)
	case event.Alert:
		f := r.frame(event.PartitionOf(v.Entity()))
		f.Alerts = append(f.Alerts, v)
	case event.Tick:
		for p := range event.Partitions {
			if err := r.close(ctx, c, m, p, v); err != nil {
				return err
			}
		}
		r.seq = max(r.seq, m.Sequence)
		if now := r.bus.Now(); now.Sub(r.saved) > 30*time.Second {
			r.saved = now
			return r.save(ctx)
		}
	}
	return nil
}

func (r *runner) frame(p int) *frame {
	f, ok := r.frames[p]
	if !ok {
		f = &frame{window: window{Partition: p}}
		r.frames[p] = f
	}
	return f
}

func (f *frame) add(s event.Series, sel map[string]string) {
	if !selects(sel, s.Labels) {
		return
	}
	out := series{Labels: s.Labels.Map()}
	for _, p := range s.Points {
		// JSON has no words for what is not a number.
		if p.Time().After(f.last) && !math.IsNaN(p.V) && !math.IsInf(p.V, 0) {
			out.Points = append(out.Points, [2]float64{float64(p.T) / 1000, p.V})
		}
	}
	if len(out.Points) > 0 {
		f.Series = append(f.Series, out)
	}
}

// close gives a partition's window to the child, and publishes what it found.
func (r *runner) close(ctx context.Context, c *child, m bus.Message, partition int, t event.Tick) error {
	f := r.frame(partition)
	if !t.Watermark.After(f.last) {
		return nil
	}
	f.Watermark, f.Blind, f.Learn = t.Watermark.UTC(), len(t.Blind) > 0 || t.Skipped > 0, m.Sequence <= r.seq || m.Received.Before(r.fresh)
	frame := event.Batch{Partition: partition, Watermark: f.Watermark, Previous: f.last, Skipped: t.Skipped, Blind: t.Blind}
	var found []event.Anomaly
	if f.Learn || len(f.Series)+len(f.Lines)+len(f.Events)+len(f.Changes)+len(f.Alerts) > 0 {
		answer, err := c.ask(f.window, r.cfg.Timeout)
		if err != nil {
			return err
		}
		found, err = parse(answer, r.cfg.Name, f.window)
		if err != nil {
			return fmt.Errorf("%w: %w", errChild, err)
		}
	}
	learn := f.Learn
	f.window, f.last = window{Partition: partition}, frame.Watermark
	if learn {
		return nil
	}
	life, ok := r.lives[partition]
	if !ok {
		life = r.newLife()
		r.lives[partition] = life
	}
	out := life.Step(frame, found, func(reason string) { r.log.Warn("anomaly left out", "reason", reason) })
	for i, o := range out {
		a := o.Data().(event.Anomaly)
		a.Foreign = true
		out[i] = event.AnomalyDetected.Out(a)
		if a.Ended != nil {
			out[i] = event.AnomalyEnded.Out(a)
		}
	}
	return r.bus.Publish(ctx, out...)
}

func (r *runner) newLife() *detector.Life {
	return detector.NewLife(detector.Info{Name: r.cfg.Name, Class: event.ClassAmbient, Hold: r.cfg.Hold}, r.cfg.hash())
}

// checkpoint is what is kept over a restart.
type checkpoint struct {
	Seq   uint64         `json:"seq"`
	Lives map[int][]byte `json:"lives,omitempty"`
}

func (r *runner) load(ctx context.Context) error {
	r.seq, r.rev, r.lives = 0, 0, map[int]*detector.Life{}
	b, rev, err := r.kv.Get(ctx, r.key)
	if errors.Is(err, bus.ErrNotFound) {
		if r.fresh.IsZero() {
			r.fresh = r.bus.Now()
		}
		return nil
	}
	if err != nil {
		return err
	}
	r.rev = rev
	var c checkpoint
	if err := json.Unmarshal(b, &c); err != nil {
		r.log.Warn("checkpoint unreadable, starting afresh", "err", err)
		return nil
	}
	r.seq = c.Seq
	for p, state := range c.Lives {
		l := r.newLife()
		if err := l.UnmarshalBinary(state); err != nil {
			r.log.Warn("checkpoint unreadable, starting afresh", "err", err)
			r.seq, r.lives = 0, map[int]*detector.Life{}
			return nil
		}
		r.lives[p] = l
	}
	return nil
}

// save writes the checkpoint, if nobody else has: two runners of one detector
// must not both go on.
func (r *runner) save(ctx context.Context) error {
	c := checkpoint{Seq: r.seq, Lives: map[int][]byte{}}
	for p, l := range r.lives {
		b, err := l.MarshalBinary()
		if err != nil {
			return err
		}
		if !bytes.Equal(b, []byte{0}) {
			c.Lives[p] = b
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	r.rev, err = r.kv.Update(ctx, r.key, b, r.rev)
	if errors.Is(err, bus.ErrConflict) {
		return fmt.Errorf("another process runs this detector: %w", err)
	}
	return err
}

// selects says whether the labels have what is asked for.
func selects(want map[string]string, ls event.Labels) bool {
	for name, value := range want {
		have := ls.Get(name)
		if prefix, ok := strings.CutSuffix(value, "*"); ok && strings.HasPrefix(have, prefix) && have != "" {
			continue
		}
		if have != value {
			return false
		}
	}
	return true
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
