// Package triage puts together what is known about one workload, one pod or one
// alert: how it is and why, what happened to it, what changed, what it logs and
// measures, whom it belongs to, and what to look at next.
//
// [Find] says which thing a name or an alert means. [Run] reads everything that
// is within reach, at once, bounded and redacted, and says of the rest why it
// was not read. Every statement cites evidence by its id in the same result.
package triage

import (
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/loghistory"
)

// Result is what was found out about one thing.
type Result struct {
	Cluster string        `json:"cluster"`       // the kubeconfig's context
	Entity  event.Entity  `json:"entity"`        // the workload, or a pod that belongs to none
	Pod     string        `json:"pod,omitempty"` // the pod that was asked about, when it belongs to a workload
	Alert   *Alert        `json:"alert,omitempty"`
	Time    time.Time     `json:"time"`  // of the reading
	Since   time.Time     `json:"since"` // events, logs and metrics were read from here on
	Urgency event.Urgency `json:"urgency,omitempty"`
	Status  string        `json:"status"` // one line: 0/6 ready 9m: OOMKilled
	Began   time.Time     `json:"began,omitzero"`
	Verdict Verdict       `json:"verdict"`
	// Doubts are what speaks against its being well though no check calls it so.
	Doubts []Statement `json:"doubts,omitempty"`
	Owner  event.Owner `json:"owner"`

	Ready    int `json:"ready"`    // pods
	Wanted   int `json:"wanted"`   // pods
	Restarts int `json:"restarts"` // of all containers of its pods, in their life
	// Pods are those in trouble first; a large workload's are cut.
	Pods       []Pod             `json:"pods"`
	Nodes      []Node            `json:"nodes"`                     // that the pods are on
	Around     []Neighbour       `json:"around"`                    // Services, claims, autoscalers and nodes of it that are in trouble
	Neighbours []Neighbour       `json:"neighbours"`                // what else is in trouble in the namespace and on the nodes
	More       int               `json:"more_neighbours,omitempty"` // that are left out
	Changes    []Change          `json:"changes"`                   // newest first
	Probes     []Probe           `json:"probes"`                    // that failed, newest last
	Events     []EventGroup      `json:"events"`                    // newest last
	Logs       Logs              `json:"logs"`
	Metrics    []Metric          `json:"metrics"`
	Similar    []Similar         `json:"similar"` // past incidents, newest first
	Runbooks   []event.Runbook   `json:"runbooks"`
	Findings   []event.Finding   `json:"findings"`
	Checks     []event.Check     `json:"next_checks"` // they only read
	Rollback   []event.Check     `json:"rollback"`    // changes something; for a human to decide
	Evidence   []event.Evidence  `json:"evidence"`
	NotRead    []check.Unchecked `json:"not_read"` // what could not be read or was not asked, and why
}

// Verdict is what explains the trouble best.
type Verdict struct {
	// Confidence is high, medium or low; empty when nothing is wrong, or when no
	// cause stands out.
	Confidence event.Confidence `json:"confidence,omitempty"`
	Text       string           `json:"text"`
	Detail     string           `json:"detail,omitempty"`
	Rule       string           `json:"rule,omitempty"` // that says so
	Evidence   []string         `json:"evidence"`
	Besides    []Statement      `json:"besides,omitempty"` // what else may explain it, or speaks for it
}

// Statement is a sentence with its evidence.
type Statement struct {
	Text       string           `json:"text"`
	Confidence event.Confidence `json:"confidence,omitempty"`
	Evidence   []string         `json:"evidence"`
}

// Alert is the alert that was asked about.
type Alert struct {
	Matchers string            `json:"matchers"`
	Labels   map[string]string `json:"labels"`
	Summary  string            `json:"summary,omitempty"`
	Since    time.Time         `json:"since,omitzero"`
	// Firing says that an Alertmanager has it now; when none was asked, only the
	// labels of the matchers are known.
	Firing bool `json:"firing"`
	Others int  `json:"others,omitempty"` // more alerts that match
}

// Pod is one pod and how it is.
type Pod struct {
	Name       string      `json:"name"`
	Node       string      `json:"node,omitempty"`
	State      string      `json:"state"` // ready, or what is wrong
	Since      time.Time   `json:"since,omitzero"`
	Ready      bool        `json:"ready"`
	Containers []Container `json:"containers,omitempty"` // that restarted, ended or wait
	Evidence   []string    `json:"evidence"`
}

// Container is how one container is and how it last ended.
type Container struct {
	Name     string       `json:"name"`
	Init     bool         `json:"init,omitempty"`
	Restarts int          `json:"restarts"`
	Waiting  string       `json:"waiting,omitempty"` // for what
	Message  string       `json:"message,omitempty"` // why it waits, redacted
	Last     *Termination `json:"last_termination,omitempty"`
}

// Termination is how a container ended.
type Termination struct {
	Reason   string    `json:"reason,omitempty"` // OOMKilled, Error, Completed
	ExitCode int       `json:"exit_code"`
	Signal   int       `json:"signal,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	Message  string    `json:"message,omitempty"` // its termination message, redacted
}

// Node is a node that pods of the workload are on.
type Node struct {
	Name  string `json:"name"`
	State string `json:"state"` // Ready, or what is wrong
	OK    bool   `json:"ok"`
	Pods  int    `json:"pods"` // of this workload on it
	// Troubled counts pods of others on it that are in trouble.
	Troubled int      `json:"troubled,omitempty"`
	Evidence []string `json:"evidence"`
}

// Neighbour is another thing in trouble.
type Neighbour struct {
	Entity   event.Entity `json:"entity"`
	Where    string       `json:"where"` // namespace, or the node's name
	Status   string       `json:"status"`
	Evidence []string     `json:"evidence"`
}

// Change is one revision of the workload.
type Change struct {
	event.Change
	Current  bool     `json:"current,omitempty"` // the newest revision
	Evidence []string `json:"evidence"`
}

// Probe is the history of one kind of probe that failed.
type Probe struct {
	Kind     string    `json:"kind"` // Readiness, Liveness or Startup
	Message  string    `json:"message"`
	Count    int       `json:"count"`
	Pods     int       `json:"pods"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Evidence []string  `json:"evidence"`
}

// EventGroup is one kind of events that says the same.
type EventGroup struct {
	Type     string    `json:"type"`
	Reason   string    `json:"reason"`
	Message  string    `json:"message"` // of the last one, redacted
	Count    int       `json:"count"`
	Objects  int       `json:"objects"` // that it was said of
	About    string    `json:"about"`   // the last of them
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Evidence []string  `json:"evidence"`
}

// Logs are the patterns of what containers wrote.
type Logs struct {
	Lines      int       `json:"lines"`            // that were read
	Containers int       `json:"containers"`       // whose present log was read
	Previous   int       `json:"previous"`         // whose log before the last restart was read
	Loki       int       `json:"loki"`             // lines that Loki gave; it was asked for those that look like trouble
	Newest     bool      `json:"newest,omitempty"` // Loki has more than the newest lines that it was asked for
	Errors     int       `json:"errors"`           // lines that look like trouble
	Patterns   []Pattern `json:"patterns"`         // trouble first, then the most frequent
}

// Pattern is a group of lines that one statement wrote.
type Pattern struct {
	Template string    `json:"template"`
	Level    string    `json:"level,omitempty"`
	Trouble  bool      `json:"trouble"`
	Count    int       `json:"count"`
	Example  string    `json:"example"`            // the last of them, redacted
	Where    string    `json:"where"`              // pod and container of the example
	Previous bool      `json:"previous,omitempty"` // the example stands in the log before the last restart
	First    time.Time `json:"first,omitzero"`
	Last     time.Time `json:"last,omitzero"`
	// Like is the pattern of an incident of before that it is like most.
	Like *PatternLike `json:"like,omitempty"`
	// History is what Loki says that it did in the hours before.
	History  *PatternHistory `json:"history,omitempty"`
	Evidence []string        `json:"evidence"`

	lines []string // some of it
}

// PatternHistory is what a pattern did in the hours before, by a witness that did not
// see the lines that were read here: Loki.
type PatternHistory struct {
	Source    loghistory.Source `json:"source"`             // what counted: patterns, which may have missed some, or lines
	Asked     time.Time         `json:"asked"`              // the beginning of the range that was asked for
	Known     time.Time         `json:"known"`              // nothing is known of before
	First     time.Time         `json:"first,omitzero"`     // the minute of the first line in the range; none without one
	Lines     int               `json:"lines"`              // in the range
	Before    float64           `json:"before_per_minute"`  // lines a minute, up to the last ten minutes
	Now       float64           `json:"now_per_minute"`     // lines a minute, in the last ten minutes
	Sparkline string            `json:"sparkline"`          // of lines, over the range
	Text      string            `json:"text"`               // all of this in words
	Patterns  []string          `json:"patterns,omitempty"` // of Loki that are of it, redacted
	Evidence  []string          `json:"evidence"`
}

// PatternLike is a pattern that was seen in an incident of before.
type PatternLike struct {
	Ratio    float64   `json:"ratio"` // how much alike, 0 to 1
	Template string    `json:"template"`
	Incident string    `json:"incident"`
	Onset    time.Time `json:"onset"`
	Evidence string    `json:"evidence"`
}

// Metric is one measurement over the time that was read.
type Metric struct {
	Signal    string     `json:"signal"`
	Unit      string     `json:"unit"`
	First     float64    `json:"first"`
	Last      float64    `json:"last"`
	Min       float64    `json:"min"`
	Max       float64    `json:"max"`
	Points    []*float64 `json:"points"`    // evenly spaced; null where there is none
	Sparkline string     `json:"sparkline"` // from the lowest to the highest
	LastAt    time.Time  `json:"last_at"`   // of Last; earlier than the others where the series ends
	Evidence  []string   `json:"evidence"`
}

// Similar is an incident of before.
type Similar struct {
	ID       string              `json:"id"`
	Priority event.Priority      `json:"priority"`
	State    event.IncidentState `json:"state"`
	Onset    time.Time           `json:"onset"`
	Lasted   string              `json:"lasted,omitempty"`
	Title    string              `json:"title"`
	Cause    string              `json:"cause,omitempty"` // its first suspect
	Why      string              `json:"why"`             // it is like this
	Evidence []string            `json:"evidence"`
}
