package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/access"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/service"
)

func newBus(o *options) *cobra.Command {
	c := &cobra.Command{Use: "bus", Short: "Prepare NATS servers of your own: streams, keys, permissions."}
	c.AddCommand(newBusInit(o), newBusKeys(o), newBusPermissions(o))
	return c
}

func newBusInit(o *options) *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use: "init", Short: "Make the streams and buckets, or bring them up to date.",
		Long: `Make the streams and buckets, or bring them up to date. Nothing is deleted.

It is for servers whose services may not do so themselves (bus.manage_streams:
false), and waits for servers that are not there yet.`,
		Example: "  oncall bus init --config /etc/oncall/config.yaml",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.loadService()
			if err != nil {
				return err
			}
			if cfg.Bus.URL == "" {
				return hint(&service.UsageError{Err: fmt.Errorf("bus.url: is missing; the embedded bus makes its own streams")}, service.ExitUsage, "oncall bus init --nats nats://nats:4222")
			}
			cfg.Bus.ManageStreams = true
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), wait, fmt.Errorf("not done in %v", wait))
			defer cancel()
			b, err := bus.Connect(ctx, cfg.Bus, bus.Settings{Name: "streams", Log: obs.NewLogger(cmd.ErrOrStderr(), cfg.Obs)})
			if err != nil {
				return hint(err, service.ExitUnreachable, "is the server up, and does bus.nkey name the seed of the identity streams?")
			}
			fmt.Fprintf(o.out, "streams and buckets are made on %s, %d replicas\n", cfg.Bus.URL, cfg.Bus.Replicas)
			return b.Close()
		},
	}
	c.Flags().DurationVar(&wait, "wait", 5*time.Minute, "how long to wait for the servers")
	return c
}

func newBusPermissions(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "permissions", Short: "Print the accounts, users and permissions for a NATS server's configuration.",
		Args: exactArgs(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(o.out, access.Config())
			return err
		},
	}
}

func newBusKeys(o *options) *cobra.Command {
	var (
		namespace   string
		certificate bool
	)
	c := &cobra.Command{
		Use: "keys", Short: "Make fresh keys for every identity and a certificate, and print them as Kubernetes Secrets.",
		Long: `Make fresh keys for every identity and a certificate, and print them as
Kubernetes Secrets.

The servers get the public halves (nats-keys) and a certificate (nats-tls), each
service its own seed (nats-NAME). Nothing is written to disk: pipe it into kubectl.`,
		Example: "  oncall bus keys | kubectl apply -f -",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			if err := writeKeys(o.out, namespace); err != nil || !certificate {
				return err
			}
			return writeCertificate(o.out, namespace)
		},
	}
	c.Flags().BoolVar(&certificate, "certificate", true, "make nats-tls too; false where cert-manager does")
	c.Flags().StringVarP(&namespace, "namespace", "n", "oncall", "`namespace` of the Secrets")
	return c
}

// servers is how many servers the keys are for: as many as the overlay prod has.
const servers = 3

// secretHead is what a Secret begins with: its name, namespace and type.
const secretHead = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  namespace: %s\n  labels:\n    app.kubernetes.io/part-of: oncall\ntype: %s\nstringData:\n"

// writeCertificate prints the Secret with the certificate of the servers, as
// cert-manager would make it.
func writeCertificate(w io.Writer, namespace string) error {
	made, err := access.NewCertificate(access.ServerNames(namespace, servers), time.Now())
	if err != nil {
		return err
	}
	fmt.Fprintf(w, secretHead, "nats-tls", namespace, "kubernetes.io/tls")
	for _, f := range []struct {
		name    string
		content []byte
	}{{"ca.crt", made.CA}, {"tls.crt", made.Cert}, {"tls.key", made.Key}} {
		fmt.Fprintf(w, "  %s: |\n    %s\n", f.name, strings.ReplaceAll(strings.TrimSpace(string(f.content)), "\n", "\n    "))
	}
	_, err = io.WriteString(w, "---\n")
	return err
}

// writeKeys prints a Secret for each identity and one for the servers.
func writeKeys(w io.Writer, namespace string) error {
	secret := func(name, data string) {
		fmt.Fprintf(w, secretHead+"%s---\n", name, namespace, "Opaque", data)
	}
	var public string
	for _, i := range access.Identities() {
		pair, err := nkeys.CreateUser()
		if err != nil {
			return fmt.Errorf("make key of %s: %w", i.Name, err)
		}
		seed, err := pair.Seed()
		if err != nil {
			return fmt.Errorf("make key of %s: %w", i.Name, err)
		}
		key, err := pair.PublicKey()
		if err != nil {
			return fmt.Errorf("make key of %s: %w", i.Name, err)
		}
		public += fmt.Sprintf("    %s: %q\n", i.Variable(), key)
		secret("nats-"+i.Name, fmt.Sprintf("  seed: %q\n", seed))
	}
	password := rand.Text()
	routes := fmt.Sprintf("    ROUTE_PASSWORD: %q\n    ROUTES: [\n", password)
	for n := range servers {
		routes += fmt.Sprintf("      \"nats://route:%s@nats-%d.nats:6222\"\n", password, n)
	}
	secret("nats-keys", "  keys.conf: |\n"+public+"  routes.conf: |\n"+routes+"    ]\n")
	return nil
}
