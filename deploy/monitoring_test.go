package deploy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// declared are the metrics that the code registers, by name, with their labels
// where they stand in the same statement.
func declared(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	name := regexp.MustCompile(`(?:Name: |counters\(|gauges\(|NewDesc\()"(oncall_[a-z_]+)"`)
	for _, root := range []string{"../pkg", "../services"} {
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range name.FindAllSubmatch(b, -1) {
				out[string(m[1])] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(out) < 10 {
		t.Fatalf("found only %d metrics in the code", len(out))
	}
	return out
}

// anchors are the headings of a page, as links name them.
func anchors(t *testing.T, page string) []string {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if h, ok := strings.CutPrefix(line, "#"); ok {
			h = strings.ToLower(strings.TrimSpace(strings.TrimLeft(h, "#")))
			out = append(out, strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(h, ""), " ", "-"))
		}
	}
	return out
}

func TestAlertsAboutOurselvesUseMetricsThatExistAndRunbooksThatExist(t *testing.T) {
	metrics, pages := declared(t), anchors(t, "../docs/operations.md")
	used := regexp.MustCompile(`oncall_[a-z_]+`)
	n := 0
	for _, o := range load(t, "prod") {
		if o.kind() != "PrometheusRule" {
			continue
		}
		for _, g := range o.list("spec", "groups") {
			for _, r := range g.list("rules") {
				n++
				expr := fmt.Sprint(r.at("expr"))
				names := used.FindAllString(expr, -1)
				if len(names) == 0 {
					t.Errorf("%v: %s watches nothing of ours", r.at("alert"), expr)
				}
				for _, m := range names {
					if !metrics[m] {
						t.Errorf("%v: %s is not registered in the code", r.at("alert"), m)
					}
				}
				book, _ := r.at("annotations", "runbook_url").(string)
				page, anchor, _ := strings.Cut(book, "#")
				if page != "docs/operations.md" || !slices.Contains(pages, anchor) {
					t.Errorf("%v: runbook %q is not a heading of docs/operations.md", r.at("alert"), book)
				}
				if r.at("labels", "severity") == nil || r.at("annotations", "summary") == nil {
					t.Errorf("%v: has no severity or no summary", r.at("alert"))
				}
			}
		}
	}
	if n == 0 {
		t.Error("no alert is shipped")
	}
}

func TestShippedConfigurationsAreTakenByEveryService(t *testing.T) {
	for _, overlay := range overlays {
		t.Run(overlay, func(t *testing.T) {
			content := string(configuration(t, overlay))
			seed := filepath.Join(t.TempDir(), "seed")
			if err := os.WriteFile(seed, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			content = strings.NewReplacer("/etc/nats-key/seed", seed, "/etc/nats-ca/ca.crt", seed).Replace(content)
			c, err := service.Parse("config.yaml", []byte(content), service.Names, pipeline.Services...)
			if err != nil {
				t.Fatal(err)
			}
			if c.Obs.Listen != ":8080" {
				t.Errorf("health is served on %q, and probed on :8080", c.Obs.Listen)
			}
			if single := overlay == "single"; (c.Bus.URL == "") != single || c.Bus.ManageStreams != single {
				t.Errorf("bus %q, manages streams: %v", c.Bus.URL, c.Bus.ManageStreams)
			}
			if overlay == "prod" && (c.Bus.NKey != seed || c.Bus.TLS.CA != seed || c.Bus.Replicas != 3) {
				t.Errorf("prod connects with key %q, verifies by %q, and keeps %d replicas", c.Bus.NKey, c.Bus.TLS.CA, c.Bus.Replicas)
			}
			for _, s := range pipeline.Services { // as five processes read it
				if _, err := service.Parse("config.yaml", []byte(content), service.Names, s); err != nil {
					t.Errorf("%s: %v", s.Name, err)
				}
			}
		})
	}
}
