//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// planted are secrets, by where a pod's owner lets them slip out.
var planted = map[string]string{
	"an assignment in a log line":             "Vq7tKplantedA1xZ",
	"a bearer header in a log line":           "Vq7tKplantedB2xZ0w9u8y7t6r5",
	"a URL in a log line":                     "Vq7tKplantedC3xZ",
	"JSON in a log line":                      "Vq7tKplantedD4xZ",
	"a key of AWS in a log line":              "AKIAVQ7TKPLANTED2XZ7",
	"an address in a log line":                "vq7tk.planted.e5@example.org",
	"the message of an event":                 "Vq7tKplantedF6xZ",
	"an environment variable":                 "Vq7tKplantedG7xZ",
	"an argument of a container":              "Vq7tKplantedH8xZ",
	"an annotation of a pod":                  "Vq7tKplantedI9xZ",
	"an annotation of an alert":               "Vq7tKplantedJ1xZ",
	"the address in an alert's label":         "Vq7tKplantedK2xZ",
	"the value of a config map":               "Vq7tKplantedL3xZ",
	"what was applied last, as kubectl notes": "Vq7tKplantedM4xZ",
}

// unmasked is put on the bus as nothing of ours would, so that it is known that
// what is there would be found.
const unmasked = "Vq7tKcontrolN5xZ"

// plant lets all of it slip out of a workload that then crashes.
func plant(t *testing.T, w *world, ns string) {
	t.Helper()
	p := func(where string) string {
		v, ok := planted[where]
		if !ok {
			t.Fatalf("nothing is planted in %s", where)
		}
		return v
	}
	w.shops[ns].Log("web", slices.Repeat([]string{
		`level=error msg="cannot reach the ledger" password=` + p("an assignment in a log line"),
		`level=error msg="cannot reach the ledger" header="Authorization: Bearer ` + p("a bearer header in a log line") + `"`,
		`level=error msg="cannot reach the ledger" dsn=postgres://app:` + p("a URL in a log line") + `@ledger:5432/shop`,
		`{"level":"error","msg":"cannot reach the ledger","client_secret":"` + p("JSON in a log line") + `"}`,
		`level=error msg="cannot reach the ledger with ` + p("a key of AWS in a log line") + `"`,
		`level=error msg="cannot tell ` + p("an address in a log line") + ` about the ledger"`,
	}, 20)...)
	ctx := t.Context()
	check(t, w.cluster.Create(ctx, "/api/v1/namespaces/"+ns+"/configmaps", object{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": "ledger", "namespace": ns},
		"data": object{"password": p("the value of a config map")},
	}))
	manifest := testbed.Deployment{Namespace: ns, Name: "web", Version: "v2", Fault: "crashloop"}.YAML()
	for at, more := range map[string]string{
		"        resources:":        fmt.Sprintf("        args: [%q]\n        env: [{name: DB_PASSWORD, value: %q}]\n", "--api-key="+p("an argument of a container"), p("an environment variable")),
		"  labels: {app: web, team": fmt.Sprintf("  annotations: {kubectl.kubernetes.io/last-applied-configuration: %q}\n", `{"spec":{"env":[{"name":"DB_PASSWORD","value":"`+p("what was applied last, as kubectl notes")+`"}]}}`),
	} {
		if strings.Count(manifest, at) != 1 {
			t.Fatalf("the manifest has no place for %s:\n%s", more, manifest)
		}
		manifest = strings.Replace(manifest, at, more+at, 1)
	}
	manifest = strings.Replace(manifest, "    metadata: {labels:", fmt.Sprintf("    metadata: {annotations: {example.org/token: %q}, labels:", p("an annotation of a pod")), 1)
	check(t, w.cluster.Apply(ctx, manifest))
	now := time.Now().UTC().Format(time.RFC3339)
	check(t, w.cluster.Create(ctx, "/api/v1/namespaces/"+ns+"/events", object{
		"apiVersion": "v1", "kind": "Event", "metadata": object{"name": "web.planted", "namespace": ns},
		"involvedObject": object{"apiVersion": "apps/v1", "kind": "Deployment", "namespace": ns, "name": "web"},
		"reason":         "HookFailed", "type": "Warning", "count": 3, "firstTimestamp": now, "lastTimestamp": now,
		"message": "hook answered 401 to https://deploy:" + p("the message of an event") + "@hooks.example/web",
		"source":  object{"component": "deploy-hook"},
	}))
	body := must(json.Marshal([]object{{
		"labels":      object{"alertname": "LedgerAway", "namespace": ns, "deployment": "web", "severity": "page", "dsn": "mysql://app:" + p("the address in an alert's label") + "@ledger/shop"},
		"annotations": object{"summary": "the ledger is away", "description": "curl -H 'X-Api-Key: " + p("an annotation of an alert") + "' https://ledger.example"},
	}}))(t)
	res := must(w.alerts.Client.Post(w.alerts.URL+"/api/v2/alerts", "application/json", bytes.NewReader(body)))(t)
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("Alertmanager answers %s to an alert", res.Status)
	}
}

// inspector is a user of the bus that may read all of it, as no identity of ours.
const inspector = "inspector"

// inspected adds the inspector to who may do what.
func (w *world) inspected(t *testing.T, accounts string) string {
	t.Helper()
	kp := must(nkeys.CreateUser())(t)
	check(t, os.WriteFile(w.seed(inspector), must(kp.Seed())(t), 0o600))
	const users = "    users: [\n"
	if strings.Count(accounts, users) != 1 {
		t.Fatalf("the accounts have no place for a user:\n%s", accounts)
	}
	return strings.Replace(accounts, users, users+fmt.Sprintf("      { nkey: %s }\n", must(kp.PublicKey())(t)), 1)
}

// search is what was looked through for secrets, and what was found.
type search struct {
	found map[string]map[string]int // secret to where
	read  map[string]int            // where to how much
}

// look searches everything that data may hold: as it is, unpacked, and the texts
// and bytes in it where it is JSON.
func (s *search) look(where string, data []byte) {
	s.read[where]++
	s.within(where, data, 0)
}

func (s *search) within(where string, data []byte, depth int) {
	for name, secret := range planted {
		if bytes.Contains(data, []byte(secret)) {
			s.note(name, where)
		}
	}
	if bytes.Contains(data, []byte(unmasked)) {
		s.note(unmasked, where)
	}
	if depth == 6 || len(data) == 0 {
		return
	}
	// What is not packed may look as if it were, and grow to anything.
	if n, err := s2.DecodedLen(data); err == nil && n > 0 && n <= 16<<20 {
		if raw, err := s2.Decode(nil, data); err == nil {
			s.within(where, raw, depth+1)
		}
	}
	var v any
	if c := bytes.TrimSpace(data)[:min(1, len(bytes.TrimSpace(data)))]; len(c) == 0 || c[0] != '{' && c[0] != '[' || json.Unmarshal(data, &v) != nil {
		return
	}
	s.values(where, v, depth)
}

func (s *search) values(where string, v any, depth int) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			s.within(where, []byte(k), depth+1)
			s.values(where, e, depth)
		}
	case []any:
		for _, e := range v {
			s.values(where, e, depth)
		}
	case string:
		s.within(where, []byte(v), depth+1)
		if raw, err := base64.StdEncoding.DecodeString(v); err == nil {
			s.within(where, raw, depth+1)
		}
	}
}

func (s *search) note(name, where string) {
	if s.found[name] == nil {
		s.found[name] = map[string]int{}
	}
	s.found[name][where]++
}

// leaks searches every message of every stream, every value of every bucket, every
// object, what was sent to people, and the logs of the five services for what was
// planted. What is put there unmasked must be found.
func (w *world) leaks(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	conn := must(nats.Connect(w.nats.URL, must(nats.NkeyOptionFromSeed(w.seed(inspector)))(t)))(t)
	defer conn.Close()
	js := must(jetstream.New(conn))(t)
	w.control(ctx, t, js)

	s := &search{found: map[string]map[string]int{}, read: map[string]int{}}
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		check(t, s.stream(ctx, js, name))
	}
	check(t, names.Err())
	stores := js.ObjectStoreNames(ctx)
	for name := range stores.Name() {
		store := must(js.ObjectStore(ctx, name))(t)
		objects, err := store.List(ctx)
		if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
			t.Fatal(err)
		}
		for _, o := range objects {
			// What was cleaned up since the list was made is gone.
			if data, err := store.GetBytes(ctx, o.Name); err == nil {
				s.look("objects of "+name, data)
			} else if !errors.Is(err, jetstream.ErrObjectNotFound) {
				t.Error(err)
			}
		}
	}
	check(t, stores.Error())
	for _, d := range w.receiver.all() {
		s.look("notifications", must(json.Marshal(d.Notification))(t))
	}
	for _, a := range w.alertmanagerAlerts(t) {
		if a.Labels["alertname"] == "OncallIncident" {
			s.look("alerts that we raised", must(json.Marshal(a))(t))
		}
	}
	for name, p := range w.services {
		s.look("log of "+name, must(os.ReadFile(p.Log))(t))
	}

	for _, where := range slices.Sorted(maps.Keys(s.read)) {
		t.Logf("searched %s: %d", where, s.read[where])
	}
	for _, name := range slices.Sorted(maps.Keys(planted)) {
		if where := s.found[name]; len(where) > 0 {
			t.Errorf("what was planted in %s is found in %v", name, where)
		}
	}
	for _, where := range []string{event.Logs.Name, event.DeadLetters.Name, "KV_" + bus.BucketConfig, "objects of snapshots"} {
		if s.found[unmasked][where] == 0 {
			t.Errorf("what was put into %s unmasked is not found there: the search is blind; it is found in %v", where, s.found[unmasked])
		}
	}
	for _, st := range event.Streams() {
		if s.read[st.Name] == 0 && !st.WorkQueue && st != event.Advisories && st != event.Pushed {
			t.Logf("nothing was on %s", st.Name)
		}
	}
	for _, where := range []string{event.Logs.Name, event.Anomalies.Name, event.Reports.Name, event.Audits.Name, "notifications"} {
		if s.read[where] == 0 {
			t.Errorf("nothing is there to search in %s", where)
		}
	}
}

// stream searches all messages that a stream holds now, with their headers.
func (s *search) stream(ctx context.Context, js jetstream.JetStream, name string) error {
	st, err := js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	info, err := st.Info(ctx)
	if err != nil || info.State.Msgs == 0 {
		return err
	}
	last := info.State.LastSeq
	if info.Config.Retention == jetstream.WorkQueuePolicy {
		// A second consumer is refused: each message is asked for.
		for seq := info.State.FirstSeq; seq <= last; seq++ {
			m, err := st.GetMsg(ctx, seq)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				return fmt.Errorf("%s %d: %w", name, seq, err)
			}
			s.message(name, m.Subject, m.Header, m.Data)
		}
		return nil
	}
	c, err := st.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	it, err := c.Messages()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer it.Stop()
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s.message(name, m.Subject(), m.Headers(), m.Data())
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if meta.Sequence.Stream >= last || meta.NumPending == 0 {
			return nil
		}
	}
}

func (s *search) message(where, subject string, h nats.Header, data []byte) {
	s.read[where]++
	s.within(where, []byte(subject), 0)
	for k, vs := range h {
		for _, v := range vs {
			s.within(where, []byte(k+": "+v), 0)
		}
	}
	s.within(where, data, 0)
}

// control puts an unmasked secret where those that were planted must not be.
func (w *world) control(ctx context.Context, t *testing.T, js jetstream.JetStream) {
	t.Helper()
	b := w.connect(t, inspector, inspector)
	defer func() { _ = b.Close() }()
	ls := event.LabelsOf(map[string]string{event.LabelNamespace: "control", event.LabelPod: "control-0", event.LabelSource: "control"})
	end := time.Now().Add(-time.Hour).UTC().Truncate(time.Minute)
	line := event.LogLine{Time: end.Add(-time.Second), Text: "level=info password=" + unmasked}
	check(t, b.Publish(ctx, event.LogsRead.Out(event.LogBatch{
		Source: "control", Query: "control", Partition: event.Partition("control", "control"), Namespace: "control", Start: end.Add(-time.Minute), End: end,
		SampledRate: 1, Bootstrap: true, Streams: []event.LogStream{{ID: ls.Hash(), Labels: ls, Lines: []event.LogLine{line}}},
	})))
	must(js.PublishMsg(ctx, &nats.Msg{Subject: "dlq.control.control", Data: must(json.Marshal(event.DeadLetter{
		Subject: "telemetry.logs.00.control", Payload: s2.EncodeSnappy(nil, []byte(unmasked)),
	}))(t)}))(t)
	kv := must(js.KeyValue(ctx, bus.BucketConfig))(t)
	must(kv.Put(ctx, "control", must(json.Marshal(object{"state": []byte(unmasked)}))(t)))(t)
	store := must(js.ObjectStore(ctx, "snapshots"))(t)
	must(store.PutBytes(ctx, "control", []byte(strings.Repeat("x", 128<<10-4)+unmasked)))(t) // over the edge of a chunk
	t.Cleanup(func() { _ = os.Remove(filepath.Join(w.bed.Dir, "nats-keys", inspector+".nk")) })
}
