// Package access says what each identity may do on the bus, and writes it as
// part of a NATS server's configuration. What a service publishes comes from
// the table of kinds; what JetStream needs beside it (consumers, buckets,
// acknowledgements) follows from how the service reads.
package access

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// Identity is one user of the bus.
type Identity struct {
	Name string
	Doc  string // one line: who that is, and what it may do
	// Publish and Subscribe are the subjects it may use, sorted, none of them
	// covered by another. Everything else is refused.
	Publish, Subscribe []string
	// Answers says that it may answer the requests it is sent, on whatever
	// subject they name, once each.
	Answers bool
}

// Variable is the name under which the server's configuration has the public
// key of the identity.
func (i Identity) Variable() string {
	return "NKEY_" + strings.ToUpper(strings.ReplaceAll(i.Name, "-", "_"))
}

// Identities are the users of the bus: the five services, and who works on the
// bus beside them.
func Identities() []Identity {
	var out []Identity
	for _, r := range roles() {
		out = append(out, r.identity())
	}
	return out
}

// role is what an identity does, from which its rights follow.
type role struct {
	name, doc string
	// connection is the name its connections have, and so their inbox; "" for
	// the role's own.
	connection string
	publishes  []event.Registered
	folds      map[string]*event.Stream // group to stream: ordered reading with checkpoints
	consumes   []durable
	reads      []*event.Stream // ordered reading that leaves no trace
	leads      []string        // leases
	buckets    []bucket
	lists      []string // of the buckets, those whose keys are listed
	requests   []string
	serves     []string
	// moves are the streams of which single messages may be fetched, for what
	// deliveries were given up of.
	moves   []*event.Stream
	states  []string // stores of folds' states that are read
	streams bool     // makes and changes streams; never deletes
	watches bool     // asks how every stream stands
	further []string
}

// durable is a durable consumer; name * for one whose name is configured.
type durable struct {
	stream *event.Stream
	name   string
}

// bucket is a key-value bucket, with the keys that may be written.
type bucket struct {
	name  string
	write []string
}

// cli is how connections of the command line call themselves, whoever types.
const cli = "oncall"

func roles() []role {
	var everything []*event.Stream
	for _, s := range event.Streams() {
		if s != event.Advisories {
			everything = append(everything, s)
		}
	}
	return []role{
		{
			name: "collector", doc: "Writes telemetry and answers look-ups; reads nothing of the bus but its own cursors and what was pushed to it.",
			publishes: kinds(event.MetricsRead.Type, event.LogsRead.Type, event.KubeEventSeen.Type, event.ChangeSeen.Type, event.TopologySeen.Type,
				event.AlertSeen.Type, event.MetricsPushed.Type, event.MetricsTick.Type, event.LogsTick.Type, event.EventsTick.Type, event.EvidenceFound.Type, event.Audited.Type),
			reads:   []*event.Stream{event.Pushed},
			leads:   []string{"collector"},
			buckets: []bucket{{bus.BucketCollector, []string{">"}}, {bus.BucketConfig, []string{"redaction.key"}}},
			serves:  []string{event.QuerySubject},
		},
		{
			name: "detector", doc: "Reads telemetry, writes anomalies.",
			publishes: kinds(event.AnomalyDetected.Type, event.AnomalyEnded.Type, event.ContextChange.Type, event.ContextTopology.Type, event.WatermarkPassed.Type, event.DeadLettered.Type),
			folds:     map[string]*event.Stream{"metrics": event.Metrics, "logs": event.Logs, "events": event.KubeEvents},
		},
		{
			name: "correlator", doc: "Reads anomalies, writes incidents.",
			publishes: kinds(event.IncidentOpened.Type, event.IncidentUpdated.Type, event.IncidentResolved.Type, event.DeadLettered.Type),
			folds:     map[string]*event.Stream{"correlator": event.Anomalies},
			consumes:  []durable{{event.Incidents, "incident-state"}},
			buckets:   []bucket{{bus.BucketIncident, []string{">"}}, {"ckpt", []string{"pins"}}},
			states:    []string{"kept"}, // it lets go of those whose time is over
		},
		{
			name: "reasoner", doc: "Reads incidents, asks the collector, writes reports.",
			publishes: kinds(event.ReportDrafted.Type, event.DeadLettered.Type),
			further:   []string{event.EvidenceOf("", "model")}, // of evidence, a model's answers and nothing else
			consumes:  []durable{{event.Incidents, "reasoner"}, {event.Reports, "reasoner-model"}},
			reads:     []*event.Stream{event.Evidences},
			buckets:   []bucket{{bus.BucketIncident, nil}},
			requests:  []string{event.QuerySubject},
		},
		{
			name: "notifier", doc: "Reads reports, tells people, writes what it decided and delivered; sees how full every stream is, and nothing of what is in it.",
			publishes: kinds(event.NotificationQueued.Type, event.ReportDelivered.Type, event.ReportFailed.Type, event.Decided.Type, event.DeadLettered.Type),
			consumes:  []durable{{event.Reports, "notifier"}, {event.Notify, "*"}, {event.Advisories, "dead-letters"}},
			reads:     []*event.Stream{event.Decisions},
			buckets:   []bucket{{bus.BucketNotifier, []string{">"}}},
			lists:     []string{bus.BucketNotifier},
			moves:     []*event.Stream{event.Incidents, event.Reports, event.Notify},
			watches:   true,
		},
		{
			name: "streams", doc: "Makes and changes streams and buckets, before the collector starts; can neither read nor delete one.",
			streams: true,
		},
		{
			name: "plugin", connection: cli, doc: "A detector of a third party (oncall detector run): reads telemetry, writes anomalies.",
			publishes: kinds(event.AnomalyDetected.Type, event.AnomalyEnded.Type, event.WatermarkPassed.Type, event.DeadLettered.Type),
			reads:     []*event.Stream{event.Metrics, event.Logs, event.KubeEvents},
			buckets:   []bucket{{"ckpt", []string{"foreign.>"}}},
		},
		{
			name: "reader", connection: cli, doc: "People and programs that look on: every stream, nothing written but the record of what they asked the sources themselves.",
			publishes: kinds(event.Audited.Type),
			reads:     everything,
			buckets:   []bucket{{bus.BucketIncident, nil}, {"ckpt", nil}},
			states:    []string{"snapshots", "kept"},
		},
		{
			name: "operator", connection: cli, doc: "People who repair: dead letters are redriven or removed, a leaked secret is purged.",
			reads:   everything,
			buckets: []bucket{{bus.BucketIncident, nil}, {"ckpt", nil}},
			states:  []string{"snapshots", "kept"},
			further: slices.Concat(subjects(everything), []string{"$JS.API.STREAM.MSG.DELETE.*", "$JS.API.STREAM.PURGE.*", "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES", "$JS.API.INFO"}),
		},
	}
}

// kinds looks kinds up by type. It panics on a type that is not in the table.
func kinds(types ...string) []event.Registered {
	var out []event.Registered
	for _, t := range types {
		k, ok := event.Lookup(t)
		if !ok {
			panic("access: no kind " + t)
		}
		out = append(out, k)
	}
	return out
}

func subjects(streams []*event.Stream) []string {
	var out []string
	for _, s := range streams {
		out = append(out, s.Subjects...)
	}
	return out
}

// identity works out the rights of a role.
func (r role) identity() Identity {
	g := &grant{}
	for _, k := range r.publishes {
		g.pub(r.subjects(k)...)
	}
	for group, s := range r.folds {
		g.stream(s.Name)
		g.ordered(s.Name)
		members := "group." + event.Token(group)
		g.bucket("members", members+".*")
		g.list("members")
		g.bucket("ckpt", event.Token(group)+".>")
		g.objects("snapshots")
		g.writeObjects("kept")
		g.stream(event.Anomalies.Name) // a kept checkpoint says how far its outputs were
	}
	for _, l := range r.leads {
		g.bucket("members", "lease."+l)
	}
	for _, d := range r.consumes {
		g.durable(d)
	}
	for _, s := range r.reads {
		g.stream(s.Name)
		g.ordered(s.Name)
	}
	for _, b := range r.buckets {
		g.bucket(b.name, b.write...)
	}
	for _, name := range r.lists {
		g.list(name)
	}
	for _, name := range r.states {
		g.readObjects(name)
	}
	for _, s := range r.moves {
		g.stream(s.Name)
		g.pub("$JS.API.STREAM.MSG.GET."+s.Name, "$JS.API.DIRECT.GET."+s.Name)
	}
	if r.streams {
		// INFO is asked for what the server can do before a bucket is made.
		g.pub("$JS.API.STREAM.CREATE.*", "$JS.API.STREAM.UPDATE.*", "$JS.API.STREAM.INFO.*", "$JS.API.INFO")
	} else {
		// What waits for the streams to be made looks at the last one.
		g.stream(bus.LastMade)
	}
	if r.watches {
		g.pub("$JS.API.STREAM.INFO.*")
	}
	g.pub(r.requests...)
	g.pub(r.further...)
	g.sub(bus.Inbox(cmp.Or(r.connection, r.name)) + ".>")
	g.sub(r.serves...)
	return Identity{Name: r.name, Doc: r.doc, Publish: covering(g.publish), Subscribe: covering(g.subscribe), Answers: len(r.serves) > 0}
}

// subjects are those on which a role publishes a kind: the kind's own address,
// with what the role is known for in place of the parameters.
func (r role) subjects(k event.Registered) []string {
	switch k.Type {
	case event.DeadLettered.Type:
		var out []string
		for _, s := range r.input() {
			out = append(out, fill(k.Address, map[string]string{"stream": s.Name}))
		}
		return out
	case event.WatermarkPassed.Type:
		if len(r.folds) == 0 {
			return []string{fill(k.Address, nil)}
		}
		var out []string
		for group := range r.folds {
			out = append(out, fill(k.Address, map[string]string{"group": event.Token(group)}))
		}
		return out
	case event.Audited.Type:
		name := r.name
		if r.connection == cli {
			name = "cli" // what a command calls itself in its records
		}
		return []string{fill(k.Address, map[string]string{"service": name})}
	}
	return []string{k.Filter()}
}

// input are the streams a role may have to put messages of aside.
func (r role) input() []*event.Stream {
	var out []*event.Stream
	for _, s := range r.folds {
		out = append(out, s)
	}
	for _, d := range r.consumes {
		out = append(out, d.stream)
	}
	return append(append(out, r.reads...), r.moves...)
}

// fill puts values in place of an address's parameters, and * in place of the
// others.
func fill(address string, values map[string]string) string {
	out := strings.Split(address, ".")
	for i, tok := range out {
		if !strings.HasPrefix(tok, "{") {
			continue
		}
		out[i] = "*"
		if v := values[strings.Trim(tok, "{}")]; v != "" {
			out[i] = v
		}
	}
	return strings.Join(out, ".")
}

// grant collects subjects. Its methods are the operations of the client
// library, with the API subjects that each of them uses.
type grant struct {
	publish, subscribe []string
}

func (g *grant) pub(subjects ...string) { g.publish = append(g.publish, subjects...) }
func (g *grant) sub(subjects ...string) { g.subscribe = append(g.subscribe, subjects...) }

// stream opens a stream.
func (g *grant) stream(name string) { g.pub("$JS.API.STREAM.INFO." + name) }

// ordered reads a stream by consumers whose names the client makes up and which
// go with it.
func (g *grant) ordered(stream string) {
	g.pub("$JS.API.CONSUMER.CREATE."+stream+".>", "$JS.API.CONSUMER.MSG.NEXT."+stream+".*",
		"$JS.API.CONSUMER.INFO."+stream+".*", "$JS.API.CONSUMER.DELETE."+stream+".*")
}

// durable reads a stream by a named consumer and acknowledges. The two forms of
// acknowledgement are the server's old and new one, of which 2.15 uses the old
// one unless told otherwise.
func (g *grant) durable(d durable) {
	of := d.stream.Name + "." + d.name
	g.pub("$JS.API.CONSUMER.CREATE."+of, "$JS.API.CONSUMER.CREATE."+of+".>", "$JS.API.CONSUMER.MSG.NEXT."+of, "$JS.API.CONSUMER.INFO."+of,
		"$JS.ACK."+of+".>", "$JS.ACK.*.*."+of+".>")
}

// bucket reads a key-value bucket and writes some of its keys.
func (g *grant) bucket(name string, write ...string) {
	g.stream("KV_" + name)
	g.pub("$JS.API.DIRECT.GET.KV_" + name + ".>")
	for _, key := range write {
		g.pub("$KV." + name + "." + key)
	}
}

// list lists a bucket's keys, for which the client makes a consumer.
func (g *grant) list(bucket string) {
	g.pub("$JS.API.CONSUMER.CREATE.KV_"+bucket+".>", "$JS.API.CONSUMER.DELETE.KV_"+bucket+".*", "$JS.FC.KV_"+bucket+".>")
}

// objects reads and writes a store of folds' states: those that are too large
// for their checkpoints, and those that are kept for replays.
func (g *grant) objects(store string) {
	g.readObjects(store)
	g.writeObjects(store)
}

// writeObjects adds to an object store and replaces in it.
func (g *grant) writeObjects(store string) {
	s := "OBJ_" + store
	g.stream(s)
	g.pub("$O."+store+".>", "$JS.API.STREAM.PURGE."+s, "$JS.API.DIRECT.GET."+s+".>")
}

// readObjects reads and lists an object store.
func (g *grant) readObjects(store string) {
	s := "OBJ_" + store
	g.stream(s)
	g.pub("$JS.API.DIRECT.GET."+s+".>", "$JS.API.CONSUMER.CREATE."+s+".>", "$JS.API.CONSUMER.DELETE."+s+".*", "$JS.FC."+s+".>")
}

// covering sorts subjects and leaves out those that another one covers.
func covering(subjects []string) []string {
	slices.Sort(subjects)
	subjects = slices.Compact(subjects)
	return slices.DeleteFunc(slices.Clone(subjects), func(s string) bool {
		return slices.ContainsFunc(subjects, func(o string) bool {
			open := strings.HasSuffix(s, ">") && !strings.HasSuffix(o, ">") // which * does not reach
			return o != s && !open && event.MatchSubject(o, s)
		})
	})
}

// KeysFile is the file of public keys, from where the written configuration is.
const KeysFile = "../nats-keys/keys.conf"

// Config writes the accounts of a NATS server: every identity by its public
// key, which the configuration has under [Identity.Variable], and nobody
// without one.
func Config() string {
	var b strings.Builder
	b.WriteString("include \"" + KeysFile + "\"\nsystem_account: SYS\naccounts {\n  SYS {}\n  ONCALL {\n    jetstream: enabled\n    users: [\n")
	for _, i := range Identities() {
		fmt.Fprintf(&b, "      # %s: %s\n      {\n        nkey: $%s\n        permissions: {\n", i.Name, i.Doc, i.Variable())
		write(&b, "publish", i.Publish)
		write(&b, "subscribe", i.Subscribe)
		if i.Answers {
			b.WriteString("          allow_responses: { max: 1, expires: \"1m\" }\n")
		}
		b.WriteString("        }\n      }\n")
	}
	b.WriteString("    ]\n  }\n}\n")
	return b.String()
}

func write(b *strings.Builder, what string, subjects []string) {
	if len(subjects) == 0 {
		fmt.Fprintf(b, "          %s: { deny: \">\" }\n", what)
		return
	}
	fmt.Fprintf(b, "          %s: { allow: [\n", what)
	for _, s := range subjects {
		fmt.Fprintf(b, "            %q\n", s)
	}
	b.WriteString("          ] }\n")
}
