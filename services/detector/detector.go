// Package detector turns telemetry into anomalies.
//
// A detector looks at one window of one partition after the other and says
// what is odd in it. Everything around that is done once, here: partitions,
// order, repeats, late data, when an anomaly begins, worsens and ends, what is
// published, and what is remembered over a restart.
package detector

import (
	"encoding"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// A Detector is a fold over the windows of one partition. It reads no clock,
// does no I/O and starts no goroutine, so that a replay gives the same
// anomalies; equal windows in equal order give equal results and equal state,
// byte for byte.
//
// A window is everything between two ticks, sorted: for detectors of metrics
// one MetricBatch with every selected series by its id, without repeats, late
// samples and numbers that are not finite; for detectors of logs the streams
// in the order of their ids; for detectors of events everything in the order
// in which it was seen.
type Detector interface {
	// Observe folds one window and returns an observation for each series,
	// template or reason that is odd in it. An observation with Ended set says
	// that it is normal again; a series that is not mentioned is taken to be
	// normal, and its anomaly ends when it has been so for Info.Hold.
	//
	// Series, Entity, Signal, Severity, Observed, TailProb and Summary must be
	// set. Onset is the detector's estimate of the beginning; the window's end
	// when zero. Detector, ConfigHash, Key and WindowEnd are filled in, Class
	// too when it is empty.
	Observe(event.Batch) []event.Anomaly

	encoding.BinaryMarshaler   // the state, for checkpoints
	encoding.BinaryUnmarshaler // and back; any bytes are safe
}

// A Selector is a detector that looks at some series or streams only. It is
// asked once for each, so the answer must depend on the labels alone.
type Selector interface {
	Selects(event.Labels) bool
}

// A Tester counts the hypotheses it tested. Tested returns how many since it
// was asked before; a detector that is no Tester is taken to test each of its
// series once in each window.
type Tester interface {
	Tested() int64
}

// A Rationer is a detector that looks at some series less closely than at others, or
// not at all, because there is room for so many only. Rationed returns how often it did so since
// it was asked before.
type Rationer interface {
	Rationed() int64
}

// Input is the telemetry stream a detector reads, and the name of its group.
type Input string

// The inputs.
const (
	Metrics Input = "metrics"
	Logs    Input = "logs"
	Events  Input = "events" // Kubernetes events, changes, topology and alerts
)

// Settings are what code passes to a detector when it is made.
type Settings struct {
	Policies *policy.Store // may be nil: no policies
	// Vocabulary is what the workloads of the partition say in their logs, folded
	// up to the window that is observed: for detectors of logs that look at
	// statements and not at lines. It is shared, and no part of a detector's state.
	// Nil for other inputs, and where a detector is made only to see that it can
	// be; see [Alone].
	Vocabulary *Vocabulary
}

// Info describes a registered detector.
type Info struct {
	Name  string            // lower_snake, unique: the section below `detector:`
	Doc   string            // one sentence, for `oncall detectors`
	Input Input             // what it reads
	Class event.SignalClass // of its anomalies, where the series does not say
	// Hold is how long a series must be normal before its anomaly has ended.
	// Time in which the source could not be read does not count.
	Hold time.Duration
	// Always marks a detector that tests named signals for what they mean. It
	// is shown a series that it selects even when the series' query asks for
	// other detectors only.
	Always bool
	// Reads are signals that it reads with its defaults, for people who would give it
	// some; empty: it reads any.
	Reads []string
	// Policies are the prefixes of the policy files that it reads; their content
	// is part of its config hash.
	Policies []string
	// Version is of the state: raise it when what was written before can be read no
	// more, or means something else. It is part of the config hash.
	Version uint64
	// Portable marks a detector whose state is of the telemetry alone, so that it
	// goes on from it under another configuration: what was counted, and nothing that
	// was judged. The state of any other is forgotten when its configuration or
	// policies change.
	Portable bool
	// Default is the configuration of a user who writes nothing.
	Default func() any
	// Check decodes and validates its section of the configuration; nil gives
	// the default.
	Check func(file string, section *yaml.Node) (any, error)
	// New makes a detector, empty, from what Check returned.
	New func(cfg any, set Settings) (Detector, error)
}

// Meta is the part of an [Info] that has no code.
type Meta struct {
	Name     string
	Doc      string
	Input    Input
	Class    event.SignalClass
	Hold     time.Duration // zero: 3 minutes
	Always   bool
	Reads    []string
	Policies []string
	Version  uint64
	Portable bool
}

// Define builds an Info. def is the configuration of a user who writes
// nothing; C may be a policy.Validator.
func Define[C any](m Meta, def C, build func(C, Settings) (Detector, error)) Info {
	if m.Hold == 0 {
		m.Hold = 3 * time.Minute
	}
	return Info{
		Name: m.Name, Doc: m.Doc, Input: m.Input, Class: m.Class, Hold: m.Hold, Always: m.Always, Reads: m.Reads, Policies: m.Policies, Version: m.Version, Portable: m.Portable,
		Default: func() any { return def },
		Check: func(file string, section *yaml.Node) (any, error) {
			cfg := def
			if section == nil {
				return cfg, nil
			}
			if err := policy.DecodeNode(file, section, &cfg); err != nil {
				return nil, err
			}
			return cfg, nil
		},
		New: func(cfg any, set Settings) (Detector, error) { return build(cfg.(C), set) },
	}
}

// Builtin holds the detectors compiled into this binary.
var Builtin service.Registry[Info]

// PartName is the name of the detector.
func (i Info) PartName() string { return i.Name }

// Complete says what the registration lacks.
func (i Info) Complete() error {
	switch {
	case i.Name == "" || i.Name != strings.ToLower(i.Name) || strings.ContainsAny(i.Name, " -./:"):
		return fmt.Errorf("detector: name %q is not lower_snake", i.Name)
	case i.Doc == "" || i.Default == nil || i.Check == nil || i.New == nil || i.Hold <= 0 || i.Class == "":
		return fmt.Errorf("detector: incomplete registration of %s", i.Name)
	case i.Input != Metrics && i.Input != Logs && i.Input != Events:
		return fmt.Errorf("detector: %s: input %q is not one of metrics, logs, events", i.Name, i.Input)
	case reserved[i.Name]:
		return fmt.Errorf("detector: %s is the name of a setting of the service", i.Name)
	}
	return nil
}

// stateVersions are of what the folds of an input keep beside their detectors, and of
// how the two are put together. They are part of the config hashes, and begin the
// states: a change of what state means starts all detectors of the input afresh instead of
// misreading the old. When one detector's state changes, raise its [Meta] Version.
var stateVersions = map[Input]string{Metrics: "8", Logs: "7." + logpattern.Version, Events: "4"}

// hash names a detector's version, configuration and policies: 8 hex digits.
func (i Info) hash(cfg any, policies *policy.Store) (string, error) {
	b, err := yaml.Marshal(cfg)
	if err != nil {
		return "", fmt.Errorf("detector %s: write configuration: %w", i.Name, err)
	}
	h := fnv.New32a()
	fmt.Fprintf(h, "%s\x00%d\x00%s\x00%s\x00", stateVersions[i.Input], i.Version, i.Name, b)
	if policies != nil {
		for _, prefix := range i.Policies {
			for _, name := range policyFiles(policies, prefix) {
				body, _ := policies.File(name)
				fmt.Fprintf(h, "%s\x00%d\x00%s", name, len(body), body)
			}
		}
	}
	return fmt.Sprintf("%08x", h.Sum32()), nil
}

// policyFiles are the files a prefix names: one file, or those of a directory.
func policyFiles(p *policy.Store, prefix string) []string {
	if _, ok := p.File(prefix); ok {
		return []string{prefix}
	}
	return p.Glob(strings.TrimSuffix(prefix, "/"), ".yaml")
}
