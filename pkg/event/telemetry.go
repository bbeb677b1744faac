package event

import (
	"time"
)

// Point is one value of a series. A stale marker is the NaN that Prometheus
// uses for it; see client_golang's value package.
type Point struct {
	T int64   // milliseconds since the Unix epoch
	V float64 // value
}

// Time is the point's time in UTC.
func (p Point) Time() time.Time { return time.UnixMilli(p.T).UTC() }

// Series is one series with the points that a batch holds of it, in time
// order.
type Series struct {
	ID     uint64 // Labels.Hash(), computed once at decoding
	Labels Labels
	Points []Point
}

// MetricBatch is what one source saw of one partition and one namespace at
// one aligned step. It travels as a Prometheus Remote-Write 2.0 request,
// snappy block compressed, and holds at most [MaxBatchSamples] points.
type MetricBatch struct {
	Source    string    // configured name of the source
	Query     string    // short hash of the query; for pushed data, of the redacted body
	Partition int       // 0 … Partitions-1
	Namespace string    // the one namespace of every series in it; "" for cluster-wide series
	Step      time.Time // the aligned step that was read
	Chunk     int       // counts up when one step needs several batches
	Bootstrap bool      // history before the first step: learnt from, and only its end is judged
	Series    []Series
}

// MaxBatchSamples bounds the points of one [MetricBatch], and the lines of one
// [LogBatch].
const MaxBatchSamples = 500

// LogLine is one line of a stream, already redacted.
type LogLine struct {
	Time time.Time
	Text string
}

// LogStream is one stream with the lines that a batch holds of it, in time
// order.
type LogStream struct {
	ID     uint64 // Labels.Hash(), computed once at decoding
	Labels Labels
	Lines  []LogLine
}

// LogBatch is one closed window of one partition and namespace. It travels as
// Loki's logproto PushRequest, snappy block compressed.
type LogBatch struct {
	Source    string
	Query     string
	Partition int
	Namespace string
	Start     time.Time // the window is [Start, End)
	End       time.Time
	Chunk     int
	// SampledRate is how many lines of the source each line stands for: 1
	// means all were kept. It is the CloudEvents sampledrate extension.
	SampledRate int
	Bootstrap   bool // history before the first window: learnt from, and not judged
	// Chosen says of a batch of history that its lines were chosen by what they
	// say, so that their number means nothing.
	Chosen  bool
	Streams []LogStream
}

// Tick says that a telemetry stream holds everything up to Watermark that it
// will ever hold. Folds close windows on ticks and on nothing else, because a
// replay has the ticks and not the clock. One tick is for all partitions: each
// of their folds reads it.
type Tick struct {
	// Partition is the only one that the tick is for, in recordings of when each
	// had its own; nil since.
	Partition *int      `json:"partition,omitempty"`
	Watermark time.Time `json:"watermark"`
	// Skipped is how many steps or windows before Watermark were given up,
	// because of the query budget or the source's retention. Absence of data in
	// them means nothing.
	Skipped int `json:"skipped,omitempty"`
	// Blind names the sources that could not be read up to Watermark, with
	// since when. Absence of their data means nothing either.
	Blind []Blindness `json:"blind,omitempty"`
	// Signals are the telemetry streams that get ticks, by the word in their
	// subjects: metrics, logs, events. A reader that joins them waits for these
	// and for no other.
	Signals []string `json:"signals,omitempty"`
}

// Blindness is a source that cannot be read.
type Blindness struct {
	Source string    `json:"source"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

// KubeEvent is an event of the Kubernetes API in the JSON shape of core/v1,
// reduced to what is used. Events of events.k8s.io arrive in this shape too.
type KubeEvent struct {
	Metadata            KubeMeta     `json:"metadata"`
	InvolvedObject      KubeRef      `json:"involvedObject"`
	Reason              string       `json:"reason"`
	Message             string       `json:"message,omitempty"`
	Type                string       `json:"type,omitempty"` // Normal or Warning
	Source              KubeSource   `json:"source,omitzero"`
	FirstTimestamp      time.Time    `json:"firstTimestamp,omitzero"`
	LastTimestamp       time.Time    `json:"lastTimestamp,omitzero"`
	EventTime           time.Time    `json:"eventTime,omitzero"`
	Count               int          `json:"count,omitempty"`
	Series              *EventSeries `json:"series,omitempty"`
	Action              string       `json:"action,omitempty"`
	ReportingController string       `json:"reportingComponent,omitempty"`
	ReportingInstance   string       `json:"reportingInstance,omitempty"`
	// Workload is the root of the involved object's owner chain, as the
	// collector knew it when it published the event. It is ours, not Kubernetes'.
	Workload Entity `json:"oncallWorkload,omitzero"`
	// Past marks an event of a first listing that is not so any more: its object is
	// gone, or has got past what it says. It is learnt from only. It is ours, too.
	Past bool `json:"oncallPast,omitempty"`
}

// KubeMeta is the metadata of a [KubeEvent].
type KubeMeta struct {
	Name              string    `json:"name,omitempty"`
	Namespace         string    `json:"namespace,omitempty"`
	UID               string    `json:"uid"`
	ResourceVersion   string    `json:"resourceVersion,omitempty"`
	CreationTimestamp time.Time `json:"creationTimestamp,omitzero"`
}

// KubeRef names the object an event is about.
type KubeRef struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
	UID        string `json:"uid,omitempty"`
	FieldPath  string `json:"fieldPath,omitempty"`
}

// KubeSource names the component and node that reported an event.
type KubeSource struct {
	Component string `json:"component,omitempty"`
	Host      string `json:"host,omitempty"`
}

// EventSeries counts repeats, in the events.k8s.io way.
type EventSeries struct { //nolint:revive // the name that Kubernetes has for it
	Count            int       `json:"count"`
	LastObservedTime time.Time `json:"lastObservedTime"`
}

// Time is when the event was last observed: the series' time, else the last
// timestamp, else the event time, else the creation.
func (e KubeEvent) Time() time.Time {
	if e.Series != nil && !e.Series.LastObservedTime.IsZero() {
		return e.Series.LastObservedTime.UTC()
	}
	for _, t := range []time.Time{e.LastTimestamp, e.EventTime, e.FirstTimestamp, e.Metadata.CreationTimestamp} {
		if !t.IsZero() {
			return t.UTC()
		}
	}
	return time.Time{}
}

// Occurrences is how often the event has happened so far; at least 1, since
// the scheduler writes a count of zero.
func (e KubeEvent) Occurrences() int {
	n := max(e.Count, 1)
	if e.Series != nil {
		n = max(n, e.Series.Count)
	}
	return n
}

// Entity is the object the event is about.
func (e KubeEvent) Entity() Entity {
	return Entity{Namespace: e.InvolvedObject.Namespace, Kind: e.InvolvedObject.Kind, Name: e.InvolvedObject.Name}
}

// Root is the workload behind the event, or its object when that has none.
func (e KubeEvent) Root() Entity {
	if !e.Workload.IsZero() {
		return e.Workload
	}
	return e.Entity()
}

// ChangeKind is what was changed.
type ChangeKind string

// The kinds of changes.
const (
	Rollout    ChangeKind = "rollout"    // the pod template changed: image, env, resources, config hash
	Scale      ChangeKind = "scale"      // the wanted replicas changed
	ConfigEdit ChangeKind = "config"     // a ConfigMap the workload reads changed; only its hash is known
	NodeState  ChangeKind = "node"       // a node condition, cordon or taint changed, or a node came or went
	Drain      ChangeKind = "drain"      // a node is being emptied
	Autoscale  ChangeKind = "autoscaler" // an autoscaler's bounds or decision changed
)

// Change is something somebody or a controller did: the first thing an
// on-call engineer asks for.
type Change struct {
	Kind    ChangeKind `json:"kind"`
	Entity  Entity     `json:"entity"`
	Time    time.Time  `json:"time"`
	Summary string     `json:"summary"` // one line, redacted: "image v411 -> v412, memory limit 512Mi -> 256Mi"
	// Revision names the state after the change: the workload's revision
	// annotation, or generation, or resource version. With Kind and Entity it
	// identifies the change.
	Revision string        `json:"revision"`
	Fields   []FieldChange `json:"fields,omitempty"`
	Actor    string        `json:"actor,omitempty"` // field manager or component, when known
	// First is set where nothing was before: the first rollout of a workload.
	// There is no revision to compare it with, and none to return to.
	First bool `json:"first,omitempty"`
}

// FieldChange is one field that differs.
type FieldChange struct {
	Path string `json:"path"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// Topology is what the collector knows about how the things of one workload
// hang together, at a version. A later version of the same workload replaces
// the earlier one.
type Topology struct {
	Entity    Entity            `json:"entity"`            // the root workload, or a node
	Version   string            `json:"version"`           // hash of everything below; same content, same version
	Time      time.Time         `json:"time"`              // when it was so
	Deleted   bool              `json:"deleted,omitempty"` // the entity is gone
	Pods      []Placement       `json:"pods,omitempty"`
	Services  []string          `json:"services,omitempty"` // Services whose selector matches the pods
	Calls     []Entity          `json:"calls,omitempty"`    // workloads it calls, where known
	Labels    map[string]string `json:"labels,omitempty"`   // ownership labels and annotations only, redacted
	Desired   int               `json:"desired,omitempty"`  // wanted replicas
	Ready     int               `json:"ready,omitempty"`    // ready replicas
	Hosts     []string          `json:"hosts,omitempty"`    // reserved for nodes: zone, instance type
	ConfigIDs []string          `json:"config_ids,omitempty"`
}

// Placement is one pod and where it runs.
type Placement struct {
	Pod  string `json:"pod"`
	Node string `json:"node,omitempty"`
	// Via is the owner between pod and workload, a ReplicaSet or a Job.
	Via string `json:"via,omitempty"`
}

// Alert is an alert of Alertmanager, in its own JSON shape.
type Alert struct {
	Status       string            `json:"status"` // firing or resolved
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt,omitzero"`
	UpdatedAt    time.Time         `json:"updatedAt,omitzero"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
	Fingerprint  string            `json:"fingerprint"`
	Source       string            `json:"oncallSource,omitempty"`   // configured name of the Alertmanager
	Silenced     bool              `json:"oncallSilenced,omitempty"` // silenced, inhibited or muted there
	// Toggled is how often it was silenced, or let go again, since it began.
	Toggled int `json:"oncallToggled,omitempty"`
	// Object is what the labels speak of, as the collector's entities.yaml reads
	// them; zero for an alert that names nothing of Kubernetes.
	Object Entity `json:"oncallEntity,omitzero"`
}

// Firing says whether the alert has not been resolved.
func (a Alert) Firing() bool { return a.Status != "resolved" }

// Entity is what the alert's labels speak of.
func (a Alert) Entity() Entity {
	if !a.Object.IsZero() {
		return a.Object
	}
	return LabelsOf(a.Labels).Entity()
}

// Time is when the alert entered its present state.
func (a Alert) Time() time.Time {
	if !a.Firing() && !a.EndsAt.IsZero() {
		return a.EndsAt.UTC()
	}
	return a.StartsAt.UTC()
}

// Batch is what one partition of one telemetry stream saw between two ticks:
// the only thing a detector ever sees. Everything in it is in stream order.
type Batch struct {
	Partition int
	Watermark time.Time // of the tick that closed the batch
	Previous  time.Time // watermark of the batch before; zero in the first
	Skipped   int       // steps or windows before Watermark that were given up: absence in them means nothing
	Blind     []Blindness
	Metrics   []MetricBatch
	Logs      []LogBatch
	Events    []KubeEvent
	Changes   []Change
	Topology  []Topology
	Alerts    []Alert
}
