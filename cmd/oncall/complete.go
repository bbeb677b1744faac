package main

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/triage"
)

// completeTime bounds what a shell waits for names; what is not known by then is
// not completed, and nothing is said about it.
const completeTime = 2 * time.Second

// maxCompleted bounds the names that are offered.
const maxCompleted = 500

// completes gives the flags of a command that name something in the cluster
// their values.
func completes(c *cobra.Command) {
	for name, values := range map[string]func(context.Context, completion) []string{
		"context":   func(_ context.Context, q completion) []string { return kube.Contexts(q.config) },
		"namespace": func(ctx context.Context, q completion) []string { return q.namespaces(ctx) },
		"pod":       func(ctx context.Context, q completion) []string { return q.things(ctx, true) },
		"workload":  func(ctx context.Context, q completion) []string { return q.things(ctx, false) },
	} {
		if c.Flags().Lookup(name) == nil {
			continue
		}
		// It fails for a flag that is not there only.
		_ = c.RegisterFlagCompletionFunc(name, func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			ctx := cmd.Context()
			if ctx == nil {
				ctx = context.Background()
			}
			ctx, cancel := context.WithTimeout(ctx, completeTime)
			defer cancel()
			var out []string
			for _, v := range values(ctx, completionOf(cmd, typed)) {
				if strings.HasPrefix(v, typed) && len(out) < maxCompleted {
					out = append(out, v)
				}
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		})
	}
}

// completion is a question of a shell.
type completion struct {
	config    kube.Config
	namespace string // of the flag --namespace
	typed     string
}

// completionOf reads the flags that were typed before.
func completionOf(cmd *cobra.Command, typed string) completion {
	q := completion{config: kube.DefaultConfig(), typed: typed}
	q.config.Timeout = completeTime
	value := func(name string) string {
		if f := cmd.Flags().Lookup(name); f != nil {
			return f.Value.String()
		}
		return ""
	}
	q.config.Kubeconfig, q.config.Context, q.namespace = value("kubeconfig"), value("context"), value("namespace")
	return q
}

// client is one that can only read; nil when there is no cluster.
func (q completion) client() *kube.Client {
	c, err := kube.New(q.config, kube.Settings{Service: "cli"})
	if err != nil {
		return nil
	}
	return c
}

func (q completion) namespaces(ctx context.Context) []string {
	c := q.client()
	if c == nil {
		return nil
	}
	var out []string
	_ = kube.List(ctx, c, "/api/v1/namespaces", url.Values{}, func(l *metav1.PartialObjectMetadataList) {
		for _, n := range l.Items {
			out = append(out, n.Name)
		}
	})
	return out
}

// things are pods or workloads, as oncall triage takes them: with their
// namespace unless that was typed.
func (q completion) things(ctx context.Context, pods bool) []string {
	c := q.client()
	if c == nil {
		return nil
	}
	namespace := q.namespace
	if ns, _, ok := strings.Cut(q.typed, "/"); ok && namespace == "" {
		namespace = ns
	}
	all, err := triage.Things(ctx, c, namespace)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range all {
		if (e.Kind == "Pod") != pods || e.Kind == "ReplicaSet" || e.Kind == "Job" {
			continue
		}
		out = append(out, q.name(e))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (q completion) name(e event.Entity) string {
	if q.namespace != "" {
		return e.Name
	}
	return e.Namespace + "/" + e.Name
}
