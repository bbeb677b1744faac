package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// audits keep the record of every call that a command makes to a source or the
// cluster: in the file of --audit, and for the AUDIT stream of a bus. Its
// methods are safe for concurrent use.
type audits struct {
	command, user, context string

	mu   sync.Mutex
	file io.WriteCloser // nil without --audit
	name string         // of the file
	mask *redact.Redactor
	// services are what local ports are forwarded to, which says more than their
	// addresses.
	services map[string]string
	kept     []event.Audit // what no bus has yet
	dropped  int           // of kept, for there were too many
	err      error         // of the file, the first
}

// keptAudits bounds what is kept for a bus: a command that asks more has one, or
// goes on for long without.
const keptAudits = 4096

// openAudits begins the record of a command. A file that cannot be written is
// said before the first call.
func openAudits(file, command, context string) (*audits, error) {
	a := &audits{command: command, context: context, name: file, mask: redact.New(redact.Options{}), services: map[string]string{}}
	if u, err := user.Current(); err == nil {
		a.user = u.Username
	} else {
		a.user = os.Getenv("USER")
	}
	if file == "" {
		return a, nil
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, hint(&service.UsageError{Err: fmt.Errorf("--audit %s: cannot be written: %w", file, err)}, service.ExitUsage, "name a file in a folder of yours: --audit oncall-audit.jsonl")
	}
	a.file = f
	return a, nil
}

// record keeps a call that the command itself made.
func (a *audits) record(e event.Audit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e = a.complete(e)
	a.write(e)
	if len(a.kept) == keptAudits {
		a.dropped++
		return
	}
	a.kept = append(a.kept, e)
}

// forwarded says what a local address leads to.
func (a *audits) forwarded(fw *kube.Forwarding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.services[fw.Local] = "svc/" + fw.Namespace + "/" + fw.Service + ":" + fw.Port
}

// maskBy masks with the user's rules too, from when they are known.
func (a *audits) maskBy(m *redact.Redactor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mask = m
}

// beside keeps a call of a service in this process, which has put it on the bus
// already.
func (a *audits) beside(e event.Audit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file != nil {
		a.write(a.complete(e))
	}
}

// complete says who asked, and masks what a question or an error may quote.
func (a *audits) complete(e event.Audit) event.Audit {
	e.Command, e.User, e.Context = a.command, a.user, a.context
	if service, ok := a.services[e.Target]; ok {
		e.Target = service
	}
	e.Query, e.Error = a.mask.Line(e.Query), a.mask.Line(e.Error)
	return e
}

// write appends a line to the file. Each is written at once: what was asked is
// on record even of a process that is killed.
func (a *audits) write(e event.Audit) {
	if a.file == nil {
		return
	}
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false) // it is read with grep
	err := enc.Encode(e)
	if err == nil {
		_, err = a.file.Write(line.Bytes())
	}
	a.err = cmp.Or(a.err, err)
}

// publish puts what is kept on a bus.
func (a *audits) publish(ctx context.Context, to func(context.Context, ...event.Outgoing) error) error {
	a.mu.Lock()
	kept := a.kept
	a.kept = nil
	a.mu.Unlock()
	out := make([]event.Outgoing, 0, len(kept))
	for _, e := range kept {
		out = append(out, event.Audited.Out(e))
	}
	if len(out) == 0 {
		return nil
	}
	err := to(ctx, out...)
	if err != nil {
		a.mu.Lock()
		a.kept = append(kept, a.kept...)
		a.mu.Unlock()
	}
	return err
}

// close ends the record. The error is that of the first line that was not
// written.
func (a *audits) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return nil
	}
	err := cmp.Or(a.err, a.file.Close())
	a.file = nil
	if err != nil {
		return fmt.Errorf("--audit %s: not every call is on record: %w", a.name, err)
	}
	return nil
}

// followEvery is how often a command that goes on puts its own calls on the bus:
// it makes a few at its start, and when a port forward is opened again.
const followEvery = 10 * time.Second

// follow publishes what is kept, now and again, until ctx is done.
func (a *audits) follow(ctx context.Context, to func(context.Context, ...event.Outgoing) error) {
	for {
		_ = a.publish(ctx, to) // what is not stored stays kept
		if !upstream.Wait(ctx, followEvery) {
			return
		}
	}
}

// endAudits publishes the record of a command to the bus that it was told of, if
// there is one, and closes the file.
func (o *options) endAudits(ctx context.Context) error {
	if o.audits == nil {
		return nil
	}
	o.audits.mu.Lock()
	kept := len(o.audits.kept)
	o.audits.mu.Unlock()
	if kept > 0 && (o.nats != "" || o.config != "") {
		if err := o.publishAudits(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "oncall: the record of what was asked is not on the bus: %s\n", firstLine(err))
		}
	}
	return o.audits.close()
}

// auditTime bounds how long a command takes to hand its record to a bus.
const auditTime = 3 * time.Second

func (o *options) publishAudits(ctx context.Context) error {
	cfg, err := o.load()
	if err != nil || cfg.Bus.URL == "" {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTime)
	defer cancel()
	cfg.Obs.Listen, cfg.Bus.ManageStreams = "", false
	h, err := o.connect(ctx, cfg)
	if err != nil {
		return err
	}
	return errors.Join(o.audits.publish(ctx, h.Bus.Publish), h.Close())
}

// Every client of a command is made by one of the functions below: then its
// calls are on record, and a busy source is asked again.

// kubeSettings are those of every client of the cluster.
func (o *options) kubeSettings() kube.Settings {
	return kube.Settings{Service: "cli", Audit: o.recorder()}
}

// clusterClient makes a client of the cluster that can only read.
func (o *options) clusterClient(cfg kube.Config) (*kube.Client, error) {
	c, err := kube.New(cfg, o.kubeSettings())
	if err == nil {
		o.clocks.Add(c.Name(), c.Clock())
	}
	return c, err
}

// sourceRetries is how often a busy source is asked again: somebody waits.
const sourceRetries = 2

// sourceClient makes a client of a source: prometheus, loki or alertmanager.
func (o *options) sourceClient(kind string, cfg upstream.Config) (*upstream.Client, error) {
	c, err := upstream.New(cfg, upstream.Settings{Service: "cli", Source: kind, Audit: o.recorder(), Retries: sourceRetries})
	if err == nil {
		o.clocks.Add(c.Name(), c.Clock())
	}
	return c, err
}

// recorder takes the record of a call; that of a completion is kept nowhere.
func (o *options) recorder() func(event.Audit) {
	if o.audits == nil {
		return func(event.Audit) {}
	}
	return o.audits.record
}
