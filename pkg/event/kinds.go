package event

import (
	"fmt"
	"strconv"
	"time"
)

// This file is the one table of kinds, and the only place in the project where
// a subject is spelled.

// The streams.
var (
	Metrics = &Stream{
		Name: "TELEMETRY_METRICS", Doc: "Samples as the sources gave them.",
		Subjects: []string{"telemetry.metrics.>"}, MaxAge: 6 * time.Hour, MaxBytes: 20 * gib, MaxMsg: 512 * kib, Dedupe: 5 * time.Minute,
	}
	// Pushed holds what was pushed only until the collector has folded it into
	// steps, and a while longer for one that was away.
	Pushed = &Stream{
		Name: "TELEMETRY_PUSHED", Doc: "Raw samples that were pushed to the collector; it folds them into TELEMETRY_METRICS.",
		Subjects: []string{"telemetry.pushed.>"}, MaxAge: time.Hour, MaxBytes: 2 * gib, MaxMsg: 512 * kib, Dedupe: 5 * time.Minute,
	}
	Logs = &Stream{
		Name: "TELEMETRY_LOGS", Doc: "Redacted log lines.",
		Subjects: []string{"telemetry.logs.>"}, MaxAge: 2 * time.Hour, MaxBytes: 20 * gib, MaxMsg: 512 * kib, Dedupe: 5 * time.Minute,
	}
	// KubeEvents remembers ids for longer than the API server keeps events (1 h),
	// so that a relist gives no duplicates.
	KubeEvents = &Stream{
		Name: "TELEMETRY_EVENTS", Doc: "Kubernetes events, changes, topology and alerts.",
		Subjects: []string{"telemetry.events.>", "telemetry.changes.>", "telemetry.topology.>", "telemetry.alerts.>"},
		MaxAge:   72 * time.Hour, MaxBytes: 2 * gib, Dedupe: 75 * time.Minute, Compress: true,
	}
	Anomalies = &Stream{
		Name: "ANOMALIES", Doc: "What detectors found, and what the correlator must know beside it, in one order.",
		Subjects: []string{"anomalies.>", "context.>", "watermarks.>"}, MaxAge: 30 * day, MaxBytes: 10 * gib, Dedupe: time.Hour, Compress: true, Direct: true,
	}
	Incidents = &Stream{
		Name: "INCIDENTS", Doc: "Every revision of every incident.",
		Subjects: []string{"incidents.>"}, MaxAge: 400 * day, MaxBytes: 10 * gib, Dedupe: time.Hour, Compress: true, Direct: true,
	}
	Decisions = &Stream{
		Name: "DECISIONS", Doc: "What was sent, held or silenced, and by which rule.",
		Subjects: []string{"decisions.>"}, MaxAge: 400 * day, MaxBytes: 2 * gib, Dedupe: time.Hour, Compress: true, Direct: true,
	}
	Reports = &Stream{
		Name: "REPORTS", Doc: "Reports and their delivery.",
		Subjects: []string{"reports.>"}, MaxAge: 400 * day, MaxBytes: 10 * gib, Dedupe: time.Hour, Compress: true, Direct: true,
	}
	Evidences = &Stream{
		Name: "EVIDENCE", Doc: "Answers to look-ups; a replay reads them instead of asking again.",
		Subjects: []string{"evidence.>"}, MaxAge: 90 * day, MaxBytes: 10 * gib, Dedupe: time.Hour, Compress: true, Direct: true,
	}
	Audits = &Stream{
		Name: "AUDIT", Doc: "Every call to a source.",
		Subjects: []string{"audit.>"}, MaxAge: 90 * day, MaxBytes: 2 * gib, Dedupe: time.Hour, Compress: true,
	}
	Notify = &Stream{
		Name: "NOTIFY", Doc: "Work queue of deliveries, one consumer a channel.",
		Subjects: []string{"notify.>"}, MaxAge: day, MaxBytes: gib, Dedupe: day, WorkQueue: true, Compress: true,
	}
	DeadLetters = &Stream{
		Name: "DLQ", Doc: "Messages that could not be processed, with the reason.",
		Subjects: []string{"dlq.>"}, MaxAge: 14 * day, MaxBytes: gib, Dedupe: time.Hour, Compress: true,
	}
	// Advisories holds the server's own notices; they are not CloudEvents.
	Advisories = &Stream{
		Name: "ADVISORIES", Doc: "Notices of the NATS server about deliveries that were given up.",
		Subjects: []string{
			"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>", "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>",
			"$JS.EVENT.ADVISORY.STREAM.QUORUM_LOST.>", "$JS.EVENT.ADVISORY.API.LIMIT_REACHED",
		},
		MaxAge: 7 * day, MaxBytes: 256 * mib, Dedupe: 2 * time.Minute, Compress: true,
	}
)

// Telemetry, from the collector.
var (
	MetricsRead = define(Kind[MetricBatch]{
		Type: "dev.oncall.telemetry.metrics.v1", Stream: Metrics, Schema: "telemetry-metrics/v1.proto",
		Doc:     "Samples of one partition and namespace at one aligned step, as a Remote-Write 2.0 request in a snappy block.",
		Address: "telemetry.metrics.{partition}.{namespace}",
		Params:  func(b MetricBatch) []string { return []string{PartitionToken(b.Partition), b.Namespace} },
		ID: func(b MetricBatch) string {
			return batchID{b.Source, b.Query, b.Partition, b.Step.UnixMilli(), b.Chunk}.format("m")
		},
		Time: func(b MetricBatch) time.Time { return b.Step },
		Wire: metricWire("m"),
	})
	// MetricsPushed is raw, in no partition; a batch without series says that
	// everything up to its step has come or is late.
	MetricsPushed = define(Kind[MetricBatch]{
		Type: "dev.oncall.telemetry.pushed.v1", Stream: Pushed, Schema: "telemetry-metrics/v1.proto",
		Doc:     "Allowed, redacted samples as they were pushed, as a Remote-Write 2.0 request in a snappy block; without series, the end of a step.",
		Address: "telemetry.pushed.{source}",
		Params:  func(b MetricBatch) []string { return []string{b.Source} },
		ID: func(b MetricBatch) string {
			return batchID{b.Source, b.Query, b.Partition, b.Step.UnixMilli(), b.Chunk}.format("p")
		},
		Time: func(b MetricBatch) time.Time { return b.Step },
		Wire: metricWire("p"),
	})
	LogsRead = define(Kind[LogBatch]{
		Type: "dev.oncall.telemetry.logs.v1", Stream: Logs, Schema: "telemetry-logs/v1.proto",
		Doc:     "Redacted log lines of one closed window, as a Loki push request in a snappy block.",
		Address: "telemetry.logs.{partition}.{namespace}",
		Params:  func(b LogBatch) []string { return []string{PartitionToken(b.Partition), b.Namespace} },
		ID: func(b LogBatch) string {
			return batchID{b.Source, b.Query, b.Partition, b.Start.UnixNano(), b.Chunk}.format("l")
		},
		Time: func(b LogBatch) time.Time { return b.End },
		Wire: logWire,
	})
	KubeEventSeen = define(Kind[KubeEvent]{
		Type: "dev.oncall.telemetry.event.v1", Stream: KubeEvents, Schema: "telemetry-event/v1.json",
		Doc:     "A Kubernetes event in core/v1 JSON, whichever API it came by.",
		Address: "telemetry.events.{partition}.{namespace}.{kind}.{reason}",
		Params: func(e KubeEvent) []string {
			return []string{entityPartition(e.Root()), e.InvolvedObject.Namespace, e.InvolvedObject.Kind, e.Reason}
		},
		ID:    func(e KubeEvent) string { return "e:" + e.Metadata.UID + ":" + e.Metadata.ResourceVersion },
		Time:  KubeEvent.Time,
		About: func(e KubeEvent) string { return e.Entity().String() },
	})
	ChangeSeen = define(Kind[Change]{
		Type: "dev.oncall.telemetry.change.v1", Stream: KubeEvents, Schema: "telemetry-change/v1.json",
		Doc:     "A rollout, scale, config, node or autoscaler change.",
		Address: "telemetry.changes.{partition}.{namespace}.{kind}",
		Params: func(c Change) []string {
			return []string{entityPartition(c.Entity), c.Entity.Namespace, string(c.Kind)}
		},
		ID:    func(c Change) string { return changeID("c", c) },
		Time:  func(c Change) time.Time { return c.Time },
		About: func(c Change) string { return c.Entity.String() },
	})
	TopologySeen = define(Kind[Topology]{
		Type: "dev.oncall.telemetry.topology.v1", Stream: KubeEvents, Schema: "telemetry-topology/v1.json",
		Doc:     "Owners, placement and services of one workload, or a node, at a version.",
		Address: "telemetry.topology.{partition}.{namespace}",
		Params:  func(t Topology) []string { return []string{entityPartition(t.Entity), t.Entity.Namespace} },
		ID:      func(t Topology) string { return topologyID("t", t) },
		Time:    func(t Topology) time.Time { return t.Time },
		About:   func(t Topology) string { return t.Entity.String() },
	})
	AlertSeen = define(Kind[Alert]{
		Type: "dev.oncall.telemetry.alert.v1", Stream: KubeEvents, Schema: "telemetry-alert/v1.json",
		Doc:     "An alert of Alertmanager, firing or resolved.",
		Address: "telemetry.alerts.{partition}.{namespace}",
		Params:  func(a Alert) []string { return []string{entityPartition(a.Entity()), a.Entity().Namespace} },
		ID: func(a Alert) string {
			id := fmt.Sprintf("al:%s:%s:%s:%d:%t", a.Source, a.Fingerprint, a.Status, a.Time().UnixMilli(), a.Silenced)
			if a.Toggled > 1 {
				id += ":" + strconv.Itoa(a.Toggled) // silenced again: not a repeat of the first time
			}
			return id
		},
		Time:  Alert.Time,
		About: func(a Alert) string { return a.Entity().String() },
	})
	MetricsTick = define(tick("metrics", Metrics))
	LogsTick    = define(tick("logs", Logs))
	EventsTick  = define(tick("events", KubeEvents))
)

// Anomalies, from the detectors.
var (
	AnomalyDetected = define(anomaly("detected", "A departure from normal began, changed its severity, or goes on."))
	AnomalyEnded    = define(anomaly("ended", "A departure from normal is over."))
	ContextChange   = define(Kind[Change]{
		Type: "dev.oncall.context.change.v1", Stream: Anomalies, Schema: "telemetry-change/v1.json",
		Doc:     "A change, passed on so that the correlator has one input order.",
		Address: "context.change.{namespace}",
		Params:  func(c Change) []string { return []string{c.Entity.Namespace} },
		ID:      func(c Change) string { return changeID("cc", c) },
		Time:    func(c Change) time.Time { return c.Time },
		About:   func(c Change) string { return c.Entity.String() },
	})
	ContextTopology = define(Kind[Topology]{
		Type: "dev.oncall.context.topology.v1", Stream: Anomalies, Schema: "telemetry-topology/v1.json",
		Doc:     "Topology, passed on so that the correlator has one input order.",
		Address: "context.topology.{namespace}",
		Params:  func(t Topology) []string { return []string{t.Entity.Namespace} },
		ID:      func(t Topology) string { return topologyID("ct", t) },
		Time:    func(t Topology) time.Time { return t.Time },
		About:   func(t Topology) string { return t.Entity.String() },
	})
	WatermarkPassed = define(Kind[Watermark]{
		Type: "dev.oncall.watermark.v1", Stream: Anomalies, Schema: "watermark/v1.json",
		Doc:     "A detector group has published every anomaly of a partition up to this time.",
		Address: "watermarks.{group}.{partition}",
		Params:  func(w Watermark) []string { return []string{w.Group, PartitionToken(w.Partition)} },
		ID: func(w Watermark) string {
			return fmt.Sprintf("w:%s:%s:%d", w.Group, PartitionToken(w.Partition), w.Time.UnixMilli())
		},
		Time:    func(w Watermark) time.Time { return w.Time },
		Barrier: true,
	})
)

// Incidents, from the correlator.
var (
	IncidentOpened   = define(incident("opened", "An incident began."))
	IncidentUpdated  = define(incident("updated", "An incident has new anomalies, suspects or another priority."))
	IncidentResolved = define(incident("resolved", "Everything in an incident has ended and stayed so."))
)

// EvidenceFound is evidence, from the collector's look-ups.
var EvidenceFound = define(Kind[Evidence]{
	Type: "dev.oncall.evidence.v1", Stream: Evidences, Schema: "evidence/v1.json",
	Doc:     "The answer to one look-up.",
	Address: "evidence.{incident}.{source}",
	Params:  func(e Evidence) []string { return []string{e.Incident, e.Source} },
	ID:      func(e Evidence) string { return "ev:" + e.Incident + ":" + e.QueryHash + ":" + short(e.Digest) },
	Time:    func(e Evidence) time.Time { return e.End },
	About:   func(e Evidence) string { return aboutOrEmpty(e.Entity) },
})

// Reports and what became of them, from the reasoner and the notifier.
var (
	ReportDrafted = define(Kind[Report]{
		Type: "dev.oncall.report.drafted.v1", Stream: Reports, Schema: "report/v1.json",
		Doc:     "A report on one revision of an incident.",
		Address: "reports.{incident}.drafted",
		Params:  func(r Report) []string { return []string{r.Incident} },
		ID:      func(r Report) string { return fmt.Sprintf("r:%s:%d", r.Incident, r.Revision) },
		Time:    func(r Report) time.Time { return r.Time },
		About:   func(r Report) string { return aboutOrEmpty(r.Entity) },
	})
	ReportDelivered = define(delivery("delivered", "A channel has a report revision."))
	ReportFailed    = define(delivery("failed", "A channel could not be given a report revision, and it was given up."))
	Decided         = define(Kind[Decision]{
		Type: "dev.oncall.decision.v1", Stream: Decisions, Schema: "decision/v1.json",
		Doc:     "What became of one report revision on one route, and by which rule.",
		Address: "decisions.{outcome}.{severity}.{team}.{incident}",
		Params: func(d Decision) []string {
			return []string{string(d.Outcome), string(d.Priority), d.Team, d.Incident}
		},
		ID: func(d Decision) string {
			return fmt.Sprintf("d:%s:%d:%s:%s:%s", d.Incident, d.Revision, d.Route, d.Channel, d.Outcome)
		},
		Time:  func(d Decision) time.Time { return d.Time },
		About: func(d Decision) string { return aboutOrEmpty(d.Entity) },
	})
	NotificationQueued = define(Kind[Notification]{
		Type: "dev.oncall.notification.v1", Stream: Notify, Schema: "notification/v1.json",
		Doc:     "A channel is asked to deliver one report revision.",
		Address: "notify.{channel}.{incident}",
		Params:  func(n Notification) []string { return []string{n.Channel, n.Incident} },
		ID:      func(n Notification) string { return NotificationID(n.Incident, n.Revision, n.Channel) },
		Time:    func(n Notification) time.Time { return n.Report.Time },
	})
)

// Operation of the pipeline itself.
var (
	Audited = define(Kind[Audit]{
		Type: "dev.oncall.audit.v1", Stream: Audits, Schema: "audit/v1.json",
		Doc:     "One call to a source: who, what, how much, how long.",
		Address: "audit.{service}",
		Params:  func(a Audit) []string { return []string{a.Service} },
		ID: func(a Audit) string {
			return fmt.Sprintf("au:%s:%d:%016x", a.Service, a.Time.UnixNano(), HashStrings(a.Source, a.Instance, a.Operation, a.Query, a.Incident))
		},
		Time: func(a Audit) time.Time { return a.Time },
	})
	DeadLettered = define(Kind[DeadLetter]{
		Type: "dev.oncall.deadletter.v1", Stream: DeadLetters, Schema: "deadletter/v1.json",
		Doc:     "A message that could not be processed, with the reason.",
		Address: "dlq.{stream}.{consumer}",
		Params:  func(d DeadLetter) []string { return []string{d.Stream, d.Consumer} },
		ID: func(d DeadLetter) string {
			return "dlq:" + d.Stream + ":" + d.Consumer + ":" + strconv.FormatUint(d.Sequence, 10)
		},
		Time: func(d DeadLetter) time.Time { return d.Time },
	})
)

// Subjects of core NATS requests, which no stream stores.
const (
	// QuerySubject is where the collector answers bounded read-only look-ups.
	QuerySubject = "control.collector.query"
)

func tick(signal string, s *Stream) Kind[Tick] {
	return Kind[Tick]{
		Type: "dev.oncall.telemetry." + signal + ".tick.v1", Stream: s, Schema: "tick/v1.json",
		Doc:     "Everything up to the watermark, of every partition, is in the stream.",
		Address: "telemetry." + signal + ".tick",
		ID:      func(t Tick) string { return fmt.Sprintf("tick:%s:%d", signal, t.Watermark.UnixMilli()) },
		Time:    func(t Tick) time.Time { return t.Watermark },
		Barrier: true,
	}
}

// TickOf is the kind of a telemetry stream's ticks. It panics for a stream that
// has none.
func TickOf(s *Stream) Kind[Tick] {
	switch s {
	case Metrics:
		return MetricsTick
	case Logs:
		return LogsTick
	case KubeEvents:
		return EventsTick
	}
	panic("event: stream " + s.Name + " has no ticks")
}

func anomaly(what, doc string) Kind[Anomaly] {
	return Kind[Anomaly]{
		Type: "dev.oncall.anomaly." + what + ".v1", Stream: Anomalies, Schema: "anomaly/v1.json", Doc: doc,
		Address: "anomalies.{severity}.{namespace}.{detector}",
		Params:  func(a Anomaly) []string { return []string{string(a.Severity), a.Entity.Namespace, a.Detector} },
		ID: func(a Anomaly) string {
			id := fmt.Sprintf("a:%s:%s:%s:%d", a.Detector, a.ConfigHash, a.Series, a.WindowEnd.UnixMilli())
			if a.Ended != nil {
				id += ":end"
			}
			return id
		},
		Time:  func(a Anomaly) time.Time { return a.WindowEnd },
		About: func(a Anomaly) string { return aboutOrEmpty(a.Entity) },
		Level: func(a Anomaly) Severity { return a.Severity },
	}
}

func incident(what, doc string) Kind[Incident] {
	return Kind[Incident]{
		Type: "dev.oncall.incident." + what + ".v1", Stream: Incidents, Schema: "incident/v1.json", Doc: doc,
		Address: "incidents.{incident}." + what,
		Params:  func(i Incident) []string { return []string{i.ID} },
		ID:      func(i Incident) string { return fmt.Sprintf("i:%s:%d", i.ID, i.Revision) },
		Time:    func(i Incident) time.Time { return i.Updated },
		About:   func(i Incident) string { return aboutOrEmpty(i.Entity) },
		Level: func(i Incident) Severity {
			switch i.Priority {
			case P1:
				return Critical
			case P2, P3:
				return Warning
			}
			return Info
		},
	}
}

func delivery(what, doc string) Kind[Delivery] {
	return Kind[Delivery]{
		Type: "dev.oncall.report." + what + ".v1", Stream: Reports, Schema: "delivery/v1.json", Doc: doc,
		Address: "reports.{incident}." + what,
		Params:  func(d Delivery) []string { return []string{d.Incident} },
		ID: func(d Delivery) string {
			return fmt.Sprintf("rd:%s:%d:%s:%s", d.Incident, d.Revision, d.Channel, what)
		},
		Time: func(d Delivery) time.Time { return d.Time },
	}
}

func entityPartition(e Entity) string { return PartitionToken(PartitionOf(e)) }

// PartitionOf is the partition of an entity: of its workload when it is a pod,
// else of its own name.
func PartitionOf(e Entity) int {
	if e.Kind == "Pod" {
		return Partition(e.Namespace, WorkloadOfPod(e.Name))
	}
	return Partition(e.Namespace, e.Name)
}

func changeID(prefix string, c Change) string {
	return fmt.Sprintf("%s:%s:%s:%s", prefix, c.Kind, Token(c.Entity.String()), c.Revision)
}

func topologyID(prefix string, t Topology) string {
	return fmt.Sprintf("%s:%s:%s:%d", prefix, Token(t.Entity.String()), t.Version, t.Time.UnixMilli())
}

func aboutOrEmpty(e Entity) string {
	if e.IsZero() {
		return ""
	}
	return e.String()
}

func short(digest string) string { return digest[:min(16, len(digest))] }

// NotifyFilter is the subject filter of one channel's share of the work queue.
func NotifyFilter(channel string) string { return "notify." + Token(channel) + ".*" }

// ReportsOf and DecisionsOf are the subject filters of everything about one
// incident.
func ReportsOf(incident string) string { return "reports." + Token(incident) + ".drafted" }

// DecisionsOf is the filter of the decisions about one incident.
func DecisionsOf(incident string) string { return "decisions.*.*.*." + Token(incident) }

// PushedTo is the subject filter of what was pushed to one receiver.
func PushedTo(source string) string { return "telemetry.pushed." + Token(source) }

// EvidenceOf is the filter of the evidence of one source about one incident;
// about all of them when incident is empty.
func EvidenceOf(incident, source string) string {
	which := "*"
	if incident != "" {
		which = Token(incident)
	}
	return "evidence." + which + "." + Token(source)
}
